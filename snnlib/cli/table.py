"""The result of ``snnlib evaluate`` as text."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from snnlib.neurons import NEURONS
from snnlib.zoo.evaluate import LABELS, Report


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
    costs = [
        result["events_per_image"], result["spikes_per_image"], result["synops_per_image"],
        result["energy_nj_per_image"],
    ]  # fmt: skip
    columns = [column for column in costs if column is not None]
    if columns:
        lines[-1] += f"{'events':>12}{'spikes':>12}{'SynOps':>14}{'energy (nJ)':>13}"
    for i, accuracy in enumerate(result["accuracy"]):
        agreement = result["agreement"][i]
        if accuracy is None or agreement is None:
            line = f"{first + i:>5}{'–':>11}{'–':>9}{'–':>13}"
        else:
            loss = 100 * (accuracy - result["ann_accuracy"])
            line = f"{first + i:>5}{100 * accuracy:>9.2f} %{loss:>+9.2f}{100 * agreement:>11.2f} %"
        for width, column in zip((12, 12, 14, 13), columns, strict=False):
            line += f"{column[i]:>{width},.0f}"
        lines.append(line)
    speed = f"{result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s"
    return "\n".join([*lines, "", f"{speed} on {result['hardware']}, {result['dtype']}"])
