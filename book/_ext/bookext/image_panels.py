"""Drawings of images: those that a spiking network finds easiest and hardest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bookext.modes import Key, Panel
from bookext.results import Result, of
from snnlib import plots
from snnlib.zoo import data, models

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.early_exit import Order

SHOWN, COLUMNS, SIZE = 8, 4, (4.2, 2.75)
WIDTH, HEIGHT = 1.35, 1.6  # of a place in the grid, in images


def extremes(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """The first images whose answer is settled, and the last, as ``early-exit`` ordered them."""
    rows: list[Order] = of(result, model, "images")
    if not rows:
        return [], []
    row = rows[-1]  # AugMapping, the last of the neurons
    _, test = data.load(models.dataset_of(model))
    return [grid(row, "easiest", test), grid(row, "hardest", test)], []


def grid(row: Order, which: Literal["easiest", "hardest"], test: data.Split) -> Panel:
    """Images in rows; below each the answer and the step from which on it stays."""
    shown = row[which][:SHOWN]

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for place, one in enumerate(shown):
            x, y = WIDTH * (place % COLUMNS), -HEIGHT * (place // COLUMNS)
            image = test.images[one["image"]].movedim(0, -1).numpy()
            ax.imshow(
                image, cmap="gray", interpolation="nearest", extent=(x, x + 1, y, y + 1),
                vmin=0, vmax=255,
            )  # fmt: skip
            right = one["answer"] == one["label"]
            said = f"{one['answer']}" if right else f"{one['answer']}, not {one['label']}"
            color = plots.INK[mode] if right else plots.NEGATIVE.color(mode)
            ax.text(
                x + 0.5, y - 0.06, f"{said}\nstep {one['settled']}", color=color, fontsize=9,
                ha="center", va="top",
            )  # fmt: skip
        ax.set_xlim(-0.1, WIDTH * COLUMNS - (WIDTH - 1) + 0.1)
        ax.set_ylim(1 - HEIGHT * -(-len(shown) // COLUMNS), 1.05)
        ax.set_axis_off()
        ax.set_title(which.capitalize())

    words = []
    for one in shown:
        end = "" if one["answer"] == one["label"] else f" answered {one['answer']}"
        words.append(f"{one['label']}{end} (step {one['settled']})")
    alt = f"The {which} images, {row['model']}, {row['label']}: {', '.join(words)}."
    return Panel(draw, alt, SIZE)
