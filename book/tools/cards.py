"""Model cards: the table and the text of ``book/checkpoints/README.md``, and the index of files.

``python -m book.tools.cards`` reads the records inside the checkpoints and writes both, so that no
number is typed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import cast

import torch

from snnlib.conversion.trace import trace
from snnlib.deploy.files import write_bytes
from snnlib.simulation import costs
from snnlib.zoo import checkpoints, data, models
from snnlib.zoo.recipes import Recipe
from snnlib.zoo.train import Record

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints"

HEAD = """\
# Checkpoints

Trained weights of the book's networks, as safetensors: matrices in float16 where the validation
accuracy does not suffer, everything else in float32. This page and the index
`snnlib/zoo/assets/checkpoints.json` are written by `python -m book.tools.cards` from the records
inside the files. Load a network with `snnlib.models.load(NAME)`; train it anew with the command of
its card.

The epoch was chosen on 10 % of the training images; a run looks at the test images once, after
that. Some networks had earlier runs whose test accuracy was seen: `mnist-cnn` is the second of two
architectures (the first was as accurate, but plain IF neurons were slow on it), `cifar10-vgg` the
second (a narrower one, trained for 26 epochs instead of 32, had 92.60 %), `fashion-mlp` the last of
five recipes, `cifar10-vgg-max` the third training (2 epochs without a teacher had 92.72 %). A cycle
before the last ended with a test accuracy too, which the card of the network names.
Every accuracy is in percent with its standard error for this many images. MACs are the
multiply-accumulates of one pass over one image, padding not counted, as in the book's results.
"""

TAIL = """\

## Limits

One seed a network: the spread between seeds is not measured here. The networks are made to show
conversion, not to set records: small, ReLU and average pooling throughout (`cifar10-vgg-max`
excepted), no test-time augmentation. They know the images of their data set and nothing else;
what they say about other pictures means nothing. MNIST, Fashion-MNIST and CIFAR-10 are benchmarks
with known label errors and biases: use the weights to study spiking networks, not to decide.

The goal for `cifar10-vgg` and `cifar10-resnet` was 94.5 % on test images, each in two hours on two
processor cores. It was missed. All ways learn from 45,000 images; 5,000 are kept for validation.

| tried | validation | test |
|---|---|---|
| labels alone: 32 epochs (`cifar10-vgg`), 24 (`cifar10-resnet`) | 93.72, 93.12 | 93.52, 92.66 |
| further cycles, `cifar10-vgg` and the network itself as teachers (`cifar10-resnet`) \
| 94.18 | 93.52 |
| a teacher, average pooling: 17.4 M parameters, 881 M MACs, 60 epochs on a GPU | 95.14 | 94.17 |
| two teachers, 9.9 M parameters, 451 M MACs: whitened patches, max pooling before GELU, residual \
stages, half of the 18 epochs on smaller images | 94.22, 94.52 | 93.91 (the first) |

So networks of four to nine times the work do not reach it in this frame either. Students of the
wide teachers, 160 epochs for the first and 80 for the last, were broken off half-way; the latter
stood at 92.7 % (`cifar10-vgg`) and 92.4 % on validation, before the learning rate had fallen.
Published comparisons start from 95.5 % and more (chapter 13). The networks here stay small so that
every result of the book can be computed again on two cores.

## Sparser networks

The folder `sparse` holds `mnist-cnn`, `fashion-cnn` and `cifar10-vgg` as they were tuned to send
less: chapter 21, experiment `sparsity`, put there by `python -m book.tools.sparse_networks`. A file
carries the thresholds, the method, the seed and the accuracy with the weights;
`snnlib.learning.sparsity.restored(PATH, images)` makes the spiking network.
"""


def files(folder: Path = FOLDER) -> dict[str, Path]:
    """The published checkpoints by name: the package's own and those in ``folder``."""
    places = (checkpoints.ASSETS, folder)
    found = {name: p / f"{name}.safetensors" for name in models.NAMES for p in places}
    found |= {p.stem: p for place in places for p in place.glob("*.safetensors")}
    return {name: path for name, path in found.items() if path.is_file()}


def render(folder: Path = FOLDER) -> str:
    """The text of the README for the checkpoints in ``folder``."""
    records = {name: _record(path) for name, path in files(folder).items()}
    lines = [
        HEAD,
        "| network | data set | validation | test | parameters | MACs an image | file | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, record in records.items():
        size = files(folder)[name].stat().st_size
        lines.append(
            f"| [`{name}`](#{name}) | {record['dataset']} | {_percent(record, 'validation')} "
            f"| {_percent(record, 'test')} | {_count(record['parameters'])} "
            f"| {_count(_macs(name))} | {size / 1e6:.2f} MB | {record['seconds'] / 60:.1f} |"
        )
    for name, record in records.items():
        lines += ["", *_card(name, record)]
    return "\n".join(lines) + "\n" + TAIL


def _record(path: Path) -> Record:
    _, record = checkpoints.read(path)
    return cast("Record", record)


def write(folder: Path = FOLDER) -> list[Path]:
    """Write the README into ``folder`` and the index into the package; returns both paths.

    Raises:
        CheckpointError: a checkpoint is damaged, or a file cannot be written.
    """
    index = {
        name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for name, path in files(folder).items()
    }
    readme = write_bytes(folder / "README.md", render(folder).encode())
    text = json.dumps(index, indent=2) + "\n"
    return [readme, write_bytes(checkpoints.INDEX, text.encode())]


def _card(name: str, record: Record) -> list[str]:
    recipe = Recipe(**record["recipe"])
    steps = [
        f"SGD with Nesterov momentum {recipe.momentum}, one cycle to a peak rate of "
        f"{recipe.rate}, batches of {recipe.batch}, weight decay {recipe.decay}"
    ]
    if recipe.start:
        steps.insert(0, f"starts from the weights of `{recipe.start}`")
    if recipe.teachers:
        steps.append(
            "half of the loss is the divergence from the answers of "
            + " and ".join(f"`{teacher}`" for teacher in recipe.teachers)
        )
    if recipe.smoothing:
        steps.append(f"label smoothing {recipe.smoothing}")
    if recipe.average:
        steps.append(f"weights averaged with {recipe.average} a step")
    changes = []
    if recipe.flip:
        changes.append("mirrored in turns")
    if recipe.shift:
        changes.append(f"shifted by up to {recipe.shift} pixels")
    if recipe.degrees:
        changes.append(
            f"rotated and sheared by up to {recipe.degrees}°, scaled by up to {recipe.scale:.0%}"
        )
    if recipe.cutout:
        changes.append(f"a square of {recipe.cutout}×{recipe.cutout} pixels cut out")
    if changes:
        steps.append("images " + ", ".join(changes))
    versions = ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    note = [f"- **Note**: {record['note']}"] if record.get("note") else []
    return [
        f"## {name}",
        "",
        f"- **Command**: `{record['command']}` at commit `{record['commit']}`, {record['date']}.",
        f"- **Recipe**: {recipe.epochs} epochs; {'; '.join(steps)}. "
        f"Epoch {record['best_epoch']} was the best on the validation images.",
        f"- **Machine**: {record['hardware']}, {record['precision']}, {record['seconds'] / 60:.1f} "
        f"minutes; {versions}.",
        f"- **Accuracy**: validation {_percent(record, 'validation')} of "
        f"{record['validation_images']:,} images, test {_percent(record, 'test')} of "
        f"{record['test_images']:,}; seed {record['seed']}. Weights stored in {record['storage']}.",
        *_before(record),
        *note,
    ]


def _before(record: Record) -> list[str]:
    """The cycles of training before the last, latest first."""
    lines = []
    while "first" in record:
        record = record["first"]
        lines.append(
            f"- **Cycle before**: `{record['command']}` at commit `{record['commit']}`, "
            f"{record['recipe']['epochs']} epochs, {record['seconds'] / 60:.1f} minutes, "
            f"validation {_percent(record, 'validation')}, test {_percent(record, 'test')}."
        )
    return lines


def _percent(record: Record, part: str) -> str:
    share, n = record["test_accuracy"], record["test_images"]
    if part == "validation":
        share, n = record["validation_accuracy"], record["validation_images"]
    return f"{100 * share:.2f} ± {100 * (share * (1 - share) / n) ** 0.5:.2f}"


def _macs(name: str) -> int:
    """MACs an image, padding not counted; records of snnlib 0.1 hold a number that counted it."""
    image = torch.zeros(2, *data.SHAPES[models.dataset_of(name)])
    return costs.macs(trace(models.create(name).eval(), image))


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.1f} k"


if __name__ == "__main__":
    for path in write(*map(Path, sys.argv[1:2])):
        print(path)
