"""Draw the picture that is shown where someone shares a page: `book/_static/social.svg` and `.png`.

python book/_ext/social.py        (needs Chromium for the PNG)
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

STATIC = Path(__file__).resolve().parents[1] / "_static"
WIDTH, HEIGHT = 1200, 630


def stairs(steps: int, left: float, right: float, top: float, bottom: float) -> tuple[str, str]:
    """The staircase of a spiking neuron after some steps, and ticks where it sends a spike more."""
    path, ticks = f"M{left - 90} {bottom}", ""
    for count in range(1, steps + 1):
        x = left + (right - left) * (count - 0.5) / steps
        path += f"H{x:.0f}V{bottom + (top - bottom) * count / steps:.0f}"
        ticks += f"M{x:.0f} {bottom + 46}v-26"
    return path + f"H{right}", ticks


def picture() -> str:
    path, ticks = stairs(8, 690, 1130, 120, 500)
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    font = 'font-family="DejaVu Sans, Verdana, sans-serif"'
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {HEIGHT}">
<title>From trained network to spiking network</title>
<rect {size} fill="#0b1f30"/>
<g fill="none">
<path d="M600 500H690L1130 120" stroke="#9db8cc" stroke-width="4" stroke-dasharray="14 12"/>
<path d="{path}" stroke="#6cbcf5" stroke-width="7" stroke-linejoin="round"/>
<path d="{ticks}" stroke="#ff9458" stroke-width="7" stroke-linecap="round"/></g>
<g fill="#ffffff" {font} font-weight="700" font-size="62">
<text x="70" y="200">From trained</text><text x="70" y="276">network</text>
<text x="70" y="352">to spiking</text><text x="70" y="428">network</text></g>
<text x="70" y="520" fill="#c6d6e4" {font} font-size="27">An executable book with snnlib</text>
</svg>
"""


def main() -> None:
    source = STATIC / "social.svg"
    source.write_text(picture(), encoding="utf-8")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("social.py: no Chromium; the SVG is written, the PNG is not")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"<style>body{{margin:0}}svg{{display:block}}</style>{picture()}")
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             f"--user-data-dir={folder}", f"--window-size={WIDTH},{HEIGHT}",
             f"--screenshot={folder}/social.png", page.as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
        from PIL import Image

        small = Image.open(f"{folder}/social.png").convert("RGB").quantize(128)
        small.save(STATIC / "social.png", optimize=True)


if __name__ == "__main__":
    main()
