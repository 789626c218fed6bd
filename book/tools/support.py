"""Which of torchvision's classification models convert, and what stands in the way of the rest.

``snnlib support --torchvision`` writes the table to book/results/torchvision.json.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from snnlib.conversion.trace import trace
from snnlib.deploy.files import write_bytes
from snnlib.graph.check import graph_error
from snnlib.graph.errors import ConversionError
from snnlib.zoo import provenance

_LARGE = 145_000_000  # parameters: larger siblings of a family have the same operations


@dataclass(frozen=True)
class ModelSupport:
    """One row of the table.

    Attributes:
        name: torchvision's name of the model.
        converts: whether it does.
        spiking_layers: how many it has then.
        graph_error: largest difference of the logits, folded graph against model, relative.
        reason: the first thing in the way, if it does not convert.
        problems: how many operations are in the way.
    """

    name: str
    converts: bool
    spiking_layers: int = 0
    graph_error: float | None = None
    reason: str = ""
    problems: int = 0


def torchvision_table(
    names: Sequence[str] | None = None, size: int = 96, seed: int = 0, large: bool = False
) -> list[ModelSupport]:
    """Try to convert torchvision's classification models, with random weights and statistics.

    Args:
        names: models to try; all of torchvision's classification models by default.
        size: height and width of the random images; 224 or 299 where a model insists.
        seed: of weights, batch-norm statistics and images.
        large: try models of more than 145 million parameters too; they are left out otherwise.

    Raises:
        ImportError: torchvision is not installed.
    """
    from snnlib.zoo.vision import torchvision

    vision = torchvision()
    if names is None:
        names = vision.models.list_models(module=vision.models)
    rows = []
    for name in names:
        if large or vision.models.get_model_weights(name).DEFAULT.meta["num_params"] <= _LARGE:
            rows.append(_try(vision, name, size, seed))
    return rows


def _build(vision: object, name: str) -> nn.Module:
    plain = name.startswith(("googlenet", "inception", "vgg"))
    options = {"init_weights": False} if plain else {}  # their own initialization takes minutes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = vision.models.get_model(name, weights=None, **options)  # type: ignore[attr-defined]
    return model.eval()


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm random statistics, weights and biases; returns the model."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low, high in _statistics(module):
                value.data.uniform_(low, high, generator=generator)
    return model


def _statistics(module: nn.Module) -> Iterator[tuple[torch.Tensor, float, float]]:
    for name, low, high in (
        ("running_mean", -0.3, 0.3), ("running_var", 0.5, 1.5), ("weight", 0.6, 1.4),
        ("bias", -0.3, 0.3),
    ):  # fmt: skip
        value = getattr(module, name)
        if value is not None:
            yield value, low, high


def _try(vision: object, name: str, size: int, seed: int) -> ModelSupport:
    torch.manual_seed(seed)
    model = randomize(_build(vision, name), seed)
    fixed = getattr(model, "image_size", None)  # vision transformers
    side = fixed if isinstance(fixed, int) else 299 if name == "inception_v3" else size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    try:
        graph = trace(model, images)
        error = graph_error(graph, model, images)
    except ConversionError as reason:
        first = str(reason).splitlines()[0]
        for problem in reason.problems[:1]:
            first = str(problem._replace(layers=problem.layers[:1]))
        count = sum(len(problem.layers) for problem in reason.problems)
        return ModelSupport(name, False, reason=first, problems=max(1, count))
    return ModelSupport(name, True, len(graph.spiking), error)


def write_table(path: str | Path, seed: int = 0) -> list[ModelSupport]:
    """Write the table of all torchvision classification models to a results file; returns it.

    Raises:
        ImportError: torchvision is not installed.
        CheckpointError: the file cannot be written.
    """
    from book.experiments import index

    began = time.perf_counter()
    command = "snnlib support --torchvision"
    made = provenance.record(torch.device("cpu"), "torchvision", command=command)
    rows = torchvision_table(seed=seed)
    record = {
        "experiment": "torchvision",
        "what": "which of torchvision's classification models convert (random weights)",
        **made,
        "n": 2,
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 1),
        "left_out": f"models of more than {_LARGE:,} parameters",
        "models": [asdict(row) for row in rows],
    }
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
    if (Path(path).parent / index.FILE).is_file():
        index.write(Path(path).parent)
    return rows


def format_table(rows: Sequence[ModelSupport]) -> str:
    """The rows as text, one line a model."""
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        if row.converts:
            text = f"converts, {row.spiking_layers} spiking layers, error {row.graph_error:.0e}"
        else:
            text = f"no: {row.reason}" + (f" (1 of {row.problems})" if row.problems > 1 else "")
        lines.append(f"{row.name:<{width}}  {text}")
    return "\n".join(lines)
