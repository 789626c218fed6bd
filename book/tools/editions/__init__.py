"""Notebooks to take along: plain Markdown, for students and for teachers.

The chapters are written in MyST, which Colab and a bare Jupyter show as source. The build of the
site turns each page, with all numbers and links resolved, back into notebooks that read well
everywhere: ``page`` cuts the resolved page into cells, ``markdown`` writes their text, ``editions``
assembles the three notebooks. ``bookext.editions`` calls them and puts the links on the site.
"""

from book.tools.editions.editions import NAMES, code_cells, plain, student, teacher
from book.tools.editions.needed import needed
from book.tools.editions.page import Page, Piece, pieces

__all__ = [
    "NAMES",
    "Page",
    "Piece",
    "code_cells",
    "needed",
    "pieces",
    "plain",
    "student",
    "teacher",
]
