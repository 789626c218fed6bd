"""The fonts of the printed book, all from Python packages: no machine needs to have them.

STIX for text (Matplotlib brings it), STIX Two for formulas (ziamath), DejaVu Sans Mono for code.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

STATIC = Path(__file__).resolve().parent / "static"
FILE = "STIXTwoMath.woff"
FACE = f'@font-face {{ font-family: "STIX Two Math"; src: url("{FILE}"); }}\n'
TEXT = {
    ("STIX", "normal", "normal"): "STIXGeneral.ttf",
    ("STIX", "bold", "normal"): "STIXGeneralBol.ttf",
    ("STIX", "normal", "italic"): "STIXGeneralItalic.ttf",
    ("STIX", "bold", "italic"): "STIXGeneralBolIta.ttf",
    ("DejaVu Sans", "normal", "normal"): "DejaVuSans.ttf",
    ("DejaVu Sans", "bold", "normal"): "DejaVuSans-Bold.ttf",
    ("DejaVu Sans Mono", "normal", "normal"): "DejaVuSansMono.ttf",
    ("DejaVu Sans Mono", "bold", "normal"): "DejaVuSansMono-Bold.ttf",
}


def math() -> Path:
    """STIX Two Math, whose table of mathematics tells a browser how to stack and stretch."""
    spec = find_spec("ziamath")
    if spec is None or spec.origin is None:
        raise RuntimeError("the formulas' font is missing: pip install -r requirements.txt")
    return Path(spec.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"


def faces() -> str:
    """Style rules that name the fonts by their files."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = {**{key: folder / name for key, name in TEXT.items()},
             ("STIX Two Math", "normal", "normal"): math()}  # fmt: skip
    return "\n".join(
        f'@font-face {{ font-family: "{family}"; font-weight: {weight}; font-style: {style}; '
        f'src: url("{path.as_uri()}") }}'
        for (family, weight, style), path in files.items()
    )


@functools.cache
def math_subset() -> bytes:
    """STIX Two Math with the signs that a book of mathematics uses, as WOFF: an ePub carries it."""
    import io

    from fontTools import subset
    from fontTools.ttLib import TTFont

    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    blocks = ((0x20, 0x7F), (0xA0, 0x100), (0x300, 0x34F), (0x370, 0x400), (0x2010, 0x2070),
              (0x20D0, 0x2150), (0x2190, 0x2400), (0x27C0, 0x2800), (0x1D400, 0x1D800))  # fmt: skip
    with TTFont(math()) as font:
        cut = subset.Subsetter(options)
        cut.populate(unicodes=[code for start, end in blocks for code in range(start, end)])
        cut.subset(font)
        font.flavor = "woff"
        out = io.BytesIO()
        font.save(out)
    return out.getvalue()
