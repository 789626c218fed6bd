"""The book to take along: the PDF, the ePub and the slides, made without a network.

    python -m book.press pdf        # _build/press/from-trained-network-to-spiking-network.pdf
    python -m book.press epub
    python -m book.press slides

`pages` builds the pages for paper once; `epub` packs them, `pdf` binds them into one page that
Chromium prints, `slides` makes one file of slides a part from its notes in `book/slides/`.
"""
