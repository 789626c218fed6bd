"""The result of ``snnlib evaluate`` as text."""

from __future__ import annotations

import textwrap
from dataclasses import fields
from typing import Any

from snnlib.neurons import NEURONS
from snnlib.simulation.costs import literature_energy
from snnlib.zoo.evaluate import LABELS, Report

ACCOUNTS = (
    "Energy is arithmetic alone, relative to the ANN's; energy: an event with |c| > 1 is a "
    "multiplication and the first layer counts; literature: every event is an addition and the "
    "first layer does not count."
)


def table(result: Report) -> str:
    """A `report` as text: the setting, then one line a time step."""
    kind: Any = NEURONS.get(result["neuron"])  # none where each layer has its own
    parameters = {f.name for f in fields(kind)} if kind else set()
    own = parameters & {"levels", "negative", "v0", "cap", "reset"}
    named = [f"{key} {value}" for key, value in result.items() if key in own and value is not None]
    setting = ", ".join(named)
    quantile = "" if result["percentile"] is None else f" {result['percentile']:g}"
    known = f"{count:,} " if (count := result["calibration_images"]) else ""
    scope = "channel" if result["per_channel"] else "layer"
    lines = [
        f"{result['model']} on {result['n']:,} {result['images_from']}",
        f"{LABELS.get(result['neuron'], result['neuron'])}: {setting}; {result['input']} input",
        f"thresholds: {result['balance']}{quantile} per {scope}, on {known}"
        f"{result['calibration_from']}",
        f"ANN: {100 * result['ann_accuracy']:.2f} %, {result['ann_macs']:,} MACs, "
        f"{result['ann_energy_nj']:,.0f} nJ an image",
        f"SNN: {result['neurons']:,} neurons; analog first layer {result['macs_first_layer']:,} "
        "MACs, computed once",
        "",
        f"{'step':>5}{'accuracy':>11}{'- ANN':>9}{'same as ANN':>13}",
    ]
    if (start := result.get("answer_from", 1)) > 1:
        lines.insert(-2, f"answer: mean over steps {start} … t, so none before step {start}")
    first = result["steps"] - len(result["accuracy"]) + 1
    costs = _costs(result)
    lines[-1] += costs[0]
    for i, accuracy in enumerate(result["accuracy"]):
        agreement = result["agreement"][i]
        if accuracy is None or agreement is None:
            line = f"{first + i:>5}{'–':>11}{'–':>9}{'–':>13}"
        else:
            loss = 100 * (accuracy - result["ann_accuracy"])
            line = f"{first + i:>5}{100 * accuracy:>9.2f} %{loss:>+9.2f}{100 * agreement:>11.2f} %"
        lines.append(line + (costs[1 + i] if costs[0] else ""))
    if costs[0]:
        lines += ["", *textwrap.wrap(ACCOUNTS, 90)]
    speed = f"{result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s"
    return "\n".join([*lines, "", f"{speed} on {result['hardware']}, {result['dtype']}"])


def _costs(result: Report) -> list[str]:
    """The right part of the table, its head first; an empty head: the run counted nothing."""
    events, spikes = result["events_per_image"], result["spikes_per_image"]
    synops, energy = result["synops_per_image"], result["energy_nj_per_image"]
    if events is None or spikes is None or synops is None or energy is None:
        return [""]
    ann = result["ann_energy_nj"]
    lines = [f"{'events':>12}{'spikes':>12}{'SynOps':>14}{'energy':>9}{'literature':>12}"]
    for event, spike, synop, ours in zip(events, spikes, synops, energy, strict=True):
        shares = f"{ours / ann:>9.2f}{literature_energy(synop) / ann:>12.2f}"
        lines.append(f"{event:>12,.0f}{spike:>12,.0f}{synop:>14,.0f}{shares}")
    return lines
