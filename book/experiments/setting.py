"""What a cell works on: a network with its images (`Subject`), and a `Setting` to convert it in."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NotRequired, TypedDict, cast

import torch

from snnlib.conversion.balance import Balance, Max, MinError, Percentile
from snnlib.conversion.convert import convert
from snnlib.conversion.trace import trace
from snnlib.neurons import NEURONS, Neuron
from snnlib.simulation import costs
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import data, models
from snnlib.zoo.evaluate import calibration_images
from snnlib.zoo.train import bfloat16_pays

# MACs an image, padding not counted (`snnlib.simulation.costs`). A network with more of them is
# slow, is deep, gets fewer images where every image takes long.
SLOW_MACS, DEEP_MACS, _FULL_MACS = 30e6, 50e6, 11.1e6

BALANCES: dict[str, type[Balance]] = {cls.kind: cls for cls in (Max, Percentile, MinError)}


class NeuronRecord(TypedDict):
    """The neuron of a setting: its kind and its parameters."""

    kind: str
    v0: float
    levels: NotRequired[int]
    negative: NotRequired[float]
    cap: NotRequired[int | None]
    reset: NotRequired[str]


class BalanceRecord(TypedDict):
    """The balancing of a setting: its kind and its parameter."""

    kind: str
    q: NotRequired[float]  # the percentile
    levels: NotRequired[int]  # that the error is least for


class SettingRecord(TypedDict):
    """A `Setting` as JSON holds it."""

    neuron: NeuronRecord
    balance: BalanceRecord
    per_channel: bool
    bias_steps: int | None


@dataclass(frozen=True)
class Setting:
    """How to convert a network.

    Attributes:
        neuron: neuron model of all spiking layers.
        balance: threshold balancing.
        per_channel: one threshold a channel instead of one a layer.
        bias_steps: calibrate the biases for this number of steps; None: leave them.
    """

    neuron: Neuron
    balance: Balance = Percentile(99.9)  # noqa: RUF009 - frozen
    per_channel: bool = False
    bias_steps: int | None = None

    def record(self) -> SettingRecord:
        """As JSON can hold it; `of` makes the setting again."""
        neuron = {"kind": self.neuron.kind, **asdict(self.neuron)}  # type: ignore[call-overload]
        balance = {"kind": self.balance.kind, **asdict(self.balance)}
        return {
            "neuron": cast("NeuronRecord", neuron),
            "balance": cast("BalanceRecord", balance),
            "per_channel": self.per_channel,
            "bias_steps": self.bias_steps,
        }

    @classmethod
    def of(cls, record: SettingRecord) -> Setting:
        """The setting of a `record`."""
        neuron: dict[str, Any] = {**record["neuron"]}
        balance: dict[str, Any] = {**record["balance"]}
        return cls(
            NEURONS[neuron.pop("kind")](**neuron),
            BALANCES[balance.pop("kind")](**balance),
            record["per_channel"],
            record["bias_steps"],
        )


class Subject:
    """A trained network with its images: calibration, validation and test, kept apart.

    Args:
        name: one of `snnlib.models.NAMES`.
        device: where to compute.
        limit: use the first so many validation and test images; None: all.

    Raises:
        CheckpointError, DatasetUnavailable: weights or images are not here; the message says how
            to get them.
    """

    def __init__(self, name: str, device: torch.device, limit: int | None = None) -> None:
        self.name, self.device, self.limit = name, device, limit
        self.dataset = models.dataset_of(name)
        self.ann = models.load(name).to(device)
        self._train, test = data.load(self.dataset)
        self.test = test[:limit]
        self._balanced: dict[tuple[Balance, bool, Neuron | None, int | None], SpikingNetwork] = {}

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one ANN pass over one image."""
        return costs.macs(trace(self.ann, data.to_float(self.test.images[:2]).to(self.device)))

    @property
    def slow(self) -> bool:
        """Whether many steps are run in bfloat16, where the processor is faster so."""
        return self.macs > SLOW_MACS

    @property
    def deep(self) -> bool:
        """Whether a pass over the network is so long that experiments have to save some."""
        return self.macs > DEEP_MACS

    def affordable(self, images: int, least: int = 200) -> int:
        """So many images, or fewer (hundreds, at least ``least``) where a pass takes long."""
        share = _FULL_MACS / self.macs
        return images if share >= 1 else max(min(images, least), int(images * share) // 100 * 100)

    def first(self, images: int) -> data.Split:
        """The first so many test images, or fewer where a pass takes long."""
        return self.test[: self.affordable(min(images, len(self.test)))]

    @cached_property
    def validation(self) -> data.Split:
        """The images on which every choice is made; none of them was trained on."""
        _, held_out = data.validation_split(self._train)
        return held_out[: self.limit]

    @cached_property
    def training(self) -> data.Split:
        """The images that the network was trained on."""
        fit, _ = data.validation_split(self._train)
        return fit

    @cached_property
    def calibration(self) -> torch.Tensor:
        """Training images for the thresholds, shape (N, C, H, W), on the device."""
        return calibration_images(self._train).to(self.device)

    def convert(self, setting: Setting) -> SpikingNetwork:
        """The spiking network of a setting; thresholds are balanced once for each balancing."""
        calibrated = setting.bias_steps is not None
        # A correction of the biases is for one neuron; the thresholds serve all.
        neuron = setting.neuron if calibrated else None
        key = (setting.balance, setting.per_channel, neuron, setting.bias_steps)
        if key not in self._balanced:
            self._balanced[key] = convert(
                self.ann, self.calibration, setting.neuron, balance=setting.balance,
                per_channel=setting.per_channel, calibrate_bias=calibrated,
                calibration_steps=setting.bias_steps or 1,
            )  # fmt: skip
        return self._balanced[key].replace(neuron=setting.neuron)

    def affordably(self, net: SpikingNetwork) -> SpikingNetwork:
        """In bfloat16 where this network is slow and the neuron needs many steps."""
        return reduced(net) if self.slow and net.neuron.kind != "augmented" else net


def reduced(net: SpikingNetwork) -> SpikingNetwork:
    """The network in bfloat16 (potentials in float32) where the processor gains by it."""
    if not bfloat16_pays(net.device):
        return net
    return SpikingNetwork(net.graph, net.neuron, net.balanced, report=net.report).to(torch.bfloat16)
