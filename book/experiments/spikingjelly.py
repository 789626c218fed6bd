"""SpikingJelly's own converter, used as its documentation says.

A recipe is fed with the same calibration images as ours, in batches: its thresholds depend on the
batches, because it averages over them (rate coding, with momentum) or takes a step a batch (local
threshold balancing). The converted network gets the same image in every step, and the sum of its
outputs is the answer; it keeps potentials from call to call, so it is reset before every batch.

Source: the ANN2SNN tutorial of SpikingJelly 2.0 and the examples that it ships
(``cnn_mnist``, ``resnet18_cifar10``, ``imagenet_resnet18_ltb`` in ``ann2snn.examples``).
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from book.experiments.frame import ExperimentError
from snnlib.neurons import IF
from snnlib.simulation.network import SpikingNetwork

PACKAGE = "spikingjelly"
INSTALL = "pip install -r benchmarks/requirements-peers.txt"
IMAGES_TOGETHER = 50  # the examples simulate their test images in such batches


class RecipeRecord(TypedDict):
    """A `Recipe` as JSON holds it."""

    recipe: str
    options: dict[str, Any]
    calibration_batch: int
    calibration_passes: int


@dataclass(frozen=True)
class Recipe:
    """A recipe of SpikingJelly with its options; those not named keep their defaults.

    Attributes:
        label: what is said of it in tables.
        kind: the recipe's class.
        options: its arguments beside the calibration images.
        batch: calibration images a batch; 100 in the examples.
        passes: how often the calibration images are shown.
    """

    label: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 100
    passes: int = 1

    def record(self) -> RecipeRecord:
        """As JSON can hold it."""
        return {
            "recipe": self.kind,
            "options": dict(self.options),
            "calibration_batch": self.batch,
            "calibration_passes": self.passes,
        }


# Rate coding in its default form and in the two that the documentation recommends: the 99.9 %
# quantile (tutorial), and with it a threshold a channel and potentials that begin at θ/2 (ImageNet
# example). Local threshold balancing has no option that matters, but raises its thresholds with
# every batch: 600 batches of 100 images in the tutorial. So it gets 600 batches out of the same
# images here; the other form shows what a single pass over them gives.
RECIPES = {
    "rate/default": Recipe("rate coding, default", "RateCodingRecipe"),
    "rate/robust": Recipe("rate coding, 99.9 %", "RateCodingRecipe", {"mode": "99.9%"}),
    "rate/channel": Recipe(
        "rate coding, 99.9 %, per channel, v0 = ½",
        "RateCodingRecipe",
        {
            "mode": "99.9%", "channel_wise": True, "pre_spike_maxpool": True,
            "half_threshold": True,
        },
    ),
    "ltb/600": Recipe(
        "local threshold balancing, 600 batches", "LocalThresholdBalancingRecipe", batch=10,
        passes=6,
    ),
    "ltb/10": Recipe("local threshold balancing, 10 batches", "LocalThresholdBalancingRecipe"),
}  # fmt: skip


def _module(name: str) -> Any:
    """A module of ``spikingjelly.activation_based``."""
    try:
        return importlib.import_module(f"{PACKAGE}.activation_based.{name}")
    except ImportError as error:
        raise ExperimentError(
            f"the experiment peers needs SpikingJelly 2.0, which cannot be imported here ({error})."
            f" Install it, best in an environment of its own: {INSTALL} (in a clone; "
            "CONTRIBUTING.md says how to run it then)"
        ) from error


def convert(ann: nn.Module, recipe: Recipe, calibration: Tensor) -> nn.Module:
    """SpikingJelly's spiking network of a trained one, in eval mode; the ANN is left as it is.

    Args:
        ann: the trained network.
        recipe: which recipe, with which options.
        calibration: images, shape (N, C, H, W), on the device of the network.

    Raises:
        ExperimentError: SpikingJelly is not installed, or an older one without recipes.
    """
    ann2snn = _module("ann2snn")
    if not hasattr(ann2snn, recipe.kind):
        raise ExperimentError(
            f"the installed SpikingJelly has no {recipe.kind}: the experiment peers needs 2.0. "
            f"Install it: {INSTALL}"
        )
    batches = list(calibration.split(recipe.batch)) * recipe.passes
    how = getattr(ann2snn, recipe.kind)(batches, **recipe.options)
    converter = ann2snn.Converter(recipe=how, device=calibration.device)
    with contextlib.redirect_stderr(io.StringIO()):  # a bar of its own in the midst of ours
        net: nn.Module = converter.convert(copy.deepcopy(ann))
    return net.eval()


def simulate(net: nn.Module, x: Tensor, steps: int, batch: int = IMAGES_TOGETHER) -> Tensor:
    """Mean output of a converted network after every step, shape (T, B, classes).

    Args:
        net: as `convert` made it.
        x: images, shape (B, C, H, W).
        steps: T.
        batch: images simulated together.
    """
    functional = _module("functional")
    parts = []
    with torch.no_grad():
        for part in x.split(batch):
            functional.reset_net(net)
            parts.append(torch.stack([net(part) for _ in range(steps)]).cumsum(0))
    functional.reset_net(net)
    return torch.cat(parts, 1) / torch.arange(1, steps + 1, device=x.device)[:, None, None]


def readout_start(net: nn.Module, recipe: Recipe, calibration: Tensor, steps: int) -> int | None:
    """The step after which SpikingJelly advises to begin the sum of the outputs.

    None where it finds that too few steps are left then.
    """
    estimate = _module("ann2snn").estimate_delay_start
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            found = estimate(net, [calibration[: recipe.batch]], calibration.device, steps)
        except RuntimeWarning:
            return None
    return int(found)


def delayed(logits: Tensor, start: int) -> Tensor:
    """Mean outputs if the first ``start`` steps are left out, for the steps after them."""
    sums = logits.double() * torch.arange(1, len(logits) + 1, device=logits.device)[:, None, None]
    left_out = sums[start - 1] if start else torch.zeros_like(sums[0])
    counts = torch.arange(1, len(sums) - start + 1, device=logits.device)
    return (sums[start:] - left_out) / counts[:, None, None]


def rectified(net: nn.Module) -> nn.Module:
    """The converted network with ReLUs for its neurons: the ANN again, if it was folded rightly."""
    found = copy.deepcopy(net)
    for name, _ in _neurons(net):
        found.set_submodule(name, nn.ReLU())
    return found


def twin(net: nn.Module, ours: SpikingNetwork) -> SpikingNetwork:
    """Our integrate-and-fire network with the thresholds and initial potentials of SpikingJelly's.

    Args:
        net: as `convert` made it.
        ours: any conversion of the same ANN by snnlib.
    """
    balanced, starts = {}, set()
    for name, (path, neuron) in zip(ours.graph.spiking, _neurons(net), strict=True):
        scale = net.get_submodule(path.replace("if_node", "scaler1")).scale
        assert isinstance(scale, Tensor)
        rank = len(ours.graph.shapes[name])
        balanced[name] = scale.reshape(-1, *[1] * (rank - 1)) if scale.dim() else scale
        starts.add(float(neuron.get_reset_value("v")) / float(neuron.v_threshold))
    (v0,) = starts
    return SpikingNetwork(ours.graph, IF(v0=v0), balanced)


def _neurons(net: nn.Module) -> list[tuple[str, Any]]:
    """Path and module of every spiking layer, in the order of the graph."""
    graph: Any = net.graph
    paths = [str(node.target) for node in graph.nodes if str(node.target).endswith("if_node")]
    return [(path, net.get_submodule(path)) for path in paths]


def distance(logits: Tensor, others: Tensor) -> float:
    """Root mean square of the difference over that of the other."""
    return math.sqrt(float((logits - others).square().mean() / others.square().mean()))
