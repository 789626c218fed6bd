"""What the page computes, for tests: its module in Node, and the same from snnlib in float64."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import snnlib as snn

ROOT = Path(__file__).resolve().parents[2]
STATIC, HARNESS = ROOT / "book/_static", Path(__file__).with_name("simulate.mjs")


@dataclass(frozen=True)
class Case:
    """A network file, images, and how it runs; ``neuron`` None: the file's own."""

    network: Path
    images: Tensor  # (B, C, H, W)
    steps: int
    neuron: snn.IF | snn.Ternary | snn.Augmented | None = None
    balance: str = ""

    def spec(self) -> dict[str, Any]:
        """For the page, in JSON."""
        neuron = self.neuron and {"kind": self.neuron.kind, **vars(self.neuron)}
        images = self.images.double().flatten(1).tolist()
        return {"images": images, "steps": self.steps, "neuron": neuron, "balance": self.balance}


@dataclass(frozen=True)
class Found:
    """What a case gives."""

    counts: np.ndarray[Any, Any]  # every layer after every step, image by image, flat
    logits: Tensor  # (T, B, classes)
    ann: Tensor
    synops: Tensor  # (T,), mean over the images
    multiplications: Tensor
    events: Tensor


def expected(case: Case) -> tuple[Found, float]:
    """What snnlib computes in float64, and how near to a tie any decision came.

    The second number is the smallest distance, in thresholds, between a potential and a value at
    which the coefficient changes; a neuron whose potential is exactly zero counts as decided.
    """
    net = snn.load(case.network).double()
    if case.neuron is not None:
        net = net.replace(neuron=case.neuron)
    if case.balance:
        net = net.replace(balanced=titled(case.network, case.balance))
    x, names = case.images.double(), tuple(net.sizes)
    run = net(x, case.steps, record=names)
    parts, nearest, synops = [], np.inf, run.synops()
    for name in names:
        trace, theta = run.trace[name], net.thresholds[name]
        assert isinstance(trace.potential, Tensor)
        assert isinstance(trace.coefficient, Tensor)
        nearest = min(nearest, _nearest(net, trace.potential, trace.coefficient, theta))
        parts.append(trace.coefficient.cumsum(0).flatten(2))
    assert synops is not None
    counts = torch.cat(parts, 2).transpose(0, 1)  # (B, T, all neurons)
    events = torch.as_tensor(run.events)
    found = Found(
        counts.contiguous().numpy().astype(np.int32).ravel(), run.logits, net.ann(x),
        synops.total, synops.multiplications, events,
    )  # fmt: skip
    return found, nearest


def _nearest(net: Any, after: Tensor, c: Tensor, theta: Tensor) -> float:
    ratio = after / theta + (c if getattr(net.neuron, "reset", "subtract") == "subtract" else 0)
    negative = getattr(net.neuron, "negative", 0.0)
    decided = (ratio == 0) | ((after == 0) & (c != 0))
    edges = torch.minimum((ratio - ratio.round()).abs(), _to_whole(ratio + negative))
    return float(edges.masked_fill(decided, torch.inf).min())


def _to_whole(x: Tensor) -> Tensor:
    return (x - x.round()).abs()


def titled(network: Path, title: str) -> dict[str, Tensor]:
    """λ of a setting of the file, as the page finds it."""
    from safetensors import safe_open

    with safe_open(network, "pt") as file:
        keys = json.loads(file.metadata()["web"])["balanced"][title]
        return {name: file.get_tensor(key).double() for name, key in keys.items()}


@functools.cache
def node() -> str | None:
    """Node.js 18 or later, or None."""
    found = shutil.which("node")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    return found if int(said.lstrip("v").partition(".")[0] or 0) >= 18 else None


def need_node() -> None:
    """Skip the test where Node.js is absent."""
    if node() is None:
        pytest.skip("needs Node.js 18 or later: install the package nodejs of your system")


def says(folder: Path, script: str, *words: str, modules: Sequence[str] = ("spiking.js",)) -> str:
    """What a script in a folder says in Node, with modules of the page beside it."""
    need_node()
    for name in modules:
        shutil.copy(STATIC / name, folder)
    # Node before 22 would read a file with this name ending as something else than a module.
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    (folder / "main.js").write_text(script, encoding="utf-8")
    command = [str(node()), "main.js", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def in_node(cases: Sequence[Case], folder: Path) -> list[Found]:
    """All cases in one process of Node."""
    need_node()
    # A module is recognized by its name: Node before 22 would read spiking.js as something else.
    script = folder / "spiking.mjs"
    shutil.copy(STATIC / "spiking.js", script)
    outs = [str(folder / f"{i}.bin") for i in range(len(cases))]
    specs = [
        {**case.spec(), "network": str(case.network), "out": out}
        for case, out in zip(cases, outs, strict=True)
    ]
    (folder / "cases.json").write_text(json.dumps(specs), encoding="utf-8")
    done = subprocess.run(
        [str(node()), HARNESS, script, folder / "cases.json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [
        found_of(raw, np.fromfile(out, np.int32))
        for raw, out in zip(json.loads(done.stdout), outs, strict=True)
    ]


def found_of(raw: dict[str, Any], counts: np.ndarray[Any, Any]) -> Found:
    """From the harness's JSON; a step without an answer is not a number."""
    width = len(raw["ann"][0])
    logits = [[row or [float("nan")] * width for row in image] for image in raw["logits"]]
    means = {
        name: torch.tensor(raw[name], dtype=torch.float64).mean(0)
        for name in ("synops", "multiplications", "events")
    }
    steps_first = torch.tensor(logits, dtype=torch.float64).transpose(0, 1)
    return Found(counts, steps_first, torch.tensor(raw["ann"], dtype=torch.float64), **means)


def compare(ours: Found, theirs: Found, where: object = "") -> None:
    """Counts and costs exactly, real outputs to 1e-12 of the largest."""
    assert ours.counts.shape == theirs.counts.shape, where
    different = int((ours.counts != theirs.counts).sum())
    assert different == 0, f"{where}: {different} of {ours.counts.size} counts differ"
    for name in ("logits", "ann"):
        a, b = getattr(ours, name), getattr(theirs, name)
        scale = float(b.nan_to_num().abs().max())
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * scale, equal_nan=True, msg=str(where))
    for name in ("synops", "multiplications", "events"):
        a, b = getattr(ours, name), getattr(theirs, name)
        torch.testing.assert_close(a, b.double(), rtol=1e-12, atol=0, msg=f"{where}: {name}")
