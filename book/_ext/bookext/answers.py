"""``{result-answer} NAME``: the answer to a section's question in a sentence, from stored numbers.

Each network has its own. Losses are points lost against the ANN (positive is worse) with the 95 %
interval that is stored, or one computed here and said to be so.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from book.experiments.measure import paired_interval
from book.tools.tables import loss, settled
from bookext import exit_panels, late_panels, negative_panels, networks
from bookext.axes import number
from bookext.results import Result, images, of, steps
from bookext.run_panels import PARTS_AFTER, method
from bookext.stored import read
from bookext.stored_tables import setting

if TYPE_CHECKING:
    from book.experiments.ablations import AblationRun
    from book.experiments.accuracy_over_time import AccuracyRun
    from book.experiments.allocation import AllocationRun
    from book.experiments.codes import CodeRun
    from book.experiments.early_exit import Exit, ExitRun
    from book.experiments.frontier import FrontierRun, Least
    from book.experiments.integer import IntegerRun
    from book.experiments.layer_errors import LayerErrors
    from book.experiments.peers import PeerRun
    from book.experiments.robustness import RobustnessRun

LEVELS = 8  # of the network whose spikes are described
LOST = 0.1  # of the messages
PEERS = (
    "snnlib, IF, per channel",
    "SpikingJelly, rate coding, 99.9 %, per channel, v0 = ½",
    "snnlib, AugMapping, per channel",
)
PEER_STEPS = 32
AXES = {  # choices of the ablations that are of one network and one input
    "balance": "how thresholds are balanced", "scope": "one threshold a layer or a channel",
    "v0": "the initial potential", "negative": "the second threshold",
    "levels": "the number of levels", "bias calibration": "the calibration of biases",
}  # fmt: skip
ABLATION_AFTER = 2  # steps, as in the figure below it


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def lost(run: Any, step: int) -> str:
    """Points lost after a step, with the stored interval."""
    at = step - 1
    return loss(run["ann_accuracy"] - run["accuracy"][at], run["loss_interval"][at])


def accuracy(result: Result, model: str) -> str:
    """When each method has reached its ANN."""
    runs: list[AccuracyRun] = of(result, model)
    runs = [r for r in runs if r["form"] == "best" and not r["cell"].endswith("/long")]
    said = []
    for run in reversed(runs):  # AugMapping first
        name, end = method(run), len(run["accuracy"])
        step = settled(run)
        if step is None:
            said.append(f"{name} not within {end} steps, {lost(run, end)} lost at the end")
        else:
            said.append(f"{name} from step {step} on, {lost(run, step)} points lost there")
    ann = 100 * runs[0]["ann_accuracy"]
    return (
        f"Within 0.1 points of the ANN ({ann:.2f} %), and staying there: {'; '.join(said)}. "
        f"On {images(runs)}."
    )


def frontier(result: Result, model: str) -> str:
    """The setting with the fewest events, and the one with the fewest bits."""
    runs: list[Least] = of(result, model, "least")
    said: dict[str, list[str]] = {}
    for run in runs:
        costs = f"{run['events_per_neuron'][-1]:.3f} events, {run['bits_per_neuron'][-1]:.3f} bits"
        one = (
            f"{setting(run)}, after {steps(run['steps'][-1])}: {costs} a neuron, with "
            f"{lost(run, len(run['accuracy']))} points lost on {images([run])}"
        )
        said.setdefault(one, []).append(run["cost"].split("_")[0])
    return ". ".join(
        f"The fewest {' and the fewest '.join(costs)} that keep the ANN's answers on validation "
        f"images: {one}"
        for one, costs in said.items()
    ) + "."  # fmt: skip


def coefficients(result: Result, model: str) -> str:
    """How many events are of size one, and how many need no more than three bits."""
    runs: list[FrontierRun] = of(result, model)
    for run in runs:
        chosen = run["setting"]
        same = run["levels"] == LEVELS and not run["negative"] and not chosen["per_channel"]
        sizes = run.get("events_by_size")
        if same and chosen["neuron"]["kind"] == "augmented" and sizes:
            total, largest = sum(sizes), max(k for k, n in enumerate(sizes, 1) if n)
            return (
                f"With {LEVELS} levels and one threshold a layer, {percent(sizes[0] / total)} of "
                f"AugMapping's events have |c| = 1 and {percent(sum(sizes[:3]) / total)} at most "
                f"3; the largest |c| is {largest}. Counted over {steps(run['steps'][-1])} of "
                f"{run['counted']:,} validation images."
            )
    return ""


def layer_errors(result: Result, model: str) -> str:
    """How far the last layer is off, and by which part the most."""
    runs: list[LayerErrors] = of(result, model)
    said = []
    for run in reversed([run for run in runs if not run["label"].endswith("plain")]):
        at = run["steps"].index(PARTS_AFTER)
        last = run["layers"][-1]
        parts = {name: values[at] for name, values in last["parts"].items()}
        most = max(parts, key=lambda name: parts[name])
        said.append(
            f"{number(100 * last['error'][at])} % with {method(run)} (largest part: {most}, "
            f"{number(100 * parts[most])} %)"
        )
    return (
        f"After {PARTS_AFTER} steps the last layer before the answer misses its ANN's activation "
        f"by {', '.join(said)}, as root mean square over {images(runs)}."
    )


def early_exit(result: Result, model: str) -> str:
    """What the confidence that validation images chose saves, and what it loses."""
    runs: list[ExitRun] = of(result, model)
    said = []
    for run in reversed(runs):
        for row in [row for row in run["sweep"] if row["chosen"]]:
            value = loss(run["ann_accuracy"] - row["accuracy"], widest_interval(run, row))
            said.append(
                f"{method(run)} answers after {row['mean_steps']:.2f} of {run['steps']} steps on "
                f"average, {value} points lost"
            )
    return (
        f"At the confidence that validation images chose, {'; '.join(said)}. "
        f"On {images(runs)}; the intervals are the widest that the share of answers "
        "unlike the ANN's allows."
    )


def widest_interval(run: ExitRun, row: Exit) -> tuple[float, float]:
    """The paired interval if all answers that differ from the ANN's differ in being right."""
    n = run["n"]
    net = round(n * (run["ann_accuracy"] - row["accuracy"]))
    differ = max(round(n * (1 - row["agreement"])), abs(net))
    differ += (differ - net) % 2  # what the ANN alone and what the SNN alone gets right are whole
    return paired_interval((differ + net) // 2, (differ - net) // 2, n)


def robustness(result: Result, model: str) -> str:
    """Accuracy when one message in ten is lost."""
    runs: list[RobustnessRun] = of(result, model)
    said, draws = [], 0
    for run in reversed([run for run in runs if run["disturbance"] == "lost spikes"]):
        for row in [row for row in run["sizes"] if row["size"] == LOST]:
            mean, deviation = 100 * row["accuracy"], 100 * row["accuracy_std"]
            ann, spread = 100 * row["ann_accuracy"], 100 * row["ann_accuracy_std"]
            draws = row["draws"]
            said.append(
                f"{method(run)} has {mean:.1f} ± {deviation:.1f} % and its ANN "
                f"{ann:.1f} ± {spread:.1f} %"
            )
    return (
        f"When {100 * LOST:g} % of the messages are lost, {'; '.join(said)} "
        f"(mean ± standard deviation over {draws} draws of {images(runs)})."
    )


def codes(result: Result, model: str) -> str:
    """What digits and single spikes lose, and what they send."""
    runs: list[CodeRun] = of(result, model)
    names = {
        "radix, 5 bits, base 2": "five binary digits",
        "first spike, 32 slots": "one spike in 32 slots",
        "first spike, analog times": "one spike at an exact time",
    }
    said = [
        f"{names[run['label']]} {'loses' if 'spike' in names[run['label']] else 'lose'} "
        f"{loss(run['ann_accuracy'] - run['accuracy'][0], run['loss_interval'][0])} points with "
        f"{run['events_per_image'][0] / run['neurons']:.2f} events a neuron "
        f"({run['n']:,} test images)"
        for run in runs
        if run["label"] in names
    ]
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if said else ""


def ablations(result: Result, model: str) -> str:
    """Which choice moves the accuracy the most after a few steps, and which the least."""
    runs: list[AblationRun] = of(result, model)
    at = ABLATION_AFTER - 1
    spans = {}
    for axis in AXES:
        values = [run["accuracy"][at] for run in runs if run["axis"] == axis]
        spans[axis] = (min(values), max(values))
    axes = sorted(AXES, key=lambda axis: spans[axis][0] - spans[axis][1])
    said = []
    for axis, word in ((axes[0], "most"), (axes[-1], "least")):
        low, high = (within(value, runs[0]["n"]) for value in spans[axis])
        said.append(f"{AXES[axis]} matters {word}: {low} to {high}")
    return (
        f"After {ABLATION_AFTER} steps {'; '.join(said)}, accuracy on {images(runs)} with half "
        "the width of its own 95 % interval (Agresti and Coull)."
    )


def within(share: float, n: int) -> str:
    """A share of n images with half the width of its adjusted Wald interval (95 %)."""
    center = (share * n + 2) / (n + 4)
    half = 1.96 * (center * (1 - center) / (n + 4)) ** 0.5
    return f"{100 * share:.1f} ± {100 * half:.1f} %"


def allocation(result: Result, model: str) -> str:
    """What thresholds layer by layer save."""
    runs: list[AllocationRun] = of(result, model)
    uniform, layerwise = runs
    events = [run["events_per_image"][-1] / run["neurons"] for run in runs]
    return (
        f"Thresholds layer by layer save {100 * (1 - events[1] / events[0]):.1f} % of the events: "
        f"{events[1]:.3f} a neuron instead of {events[0]:.3f}. Points lost: "
        f"{lost(layerwise, len(layerwise['accuracy']))} with them, "
        f"{lost(uniform, len(uniform['accuracy']))} with one factor. On {images(runs)}."
    )


def peers(result: Result, model: str) -> str:
    """One recipe for IF in both libraries, and AugMapping."""
    runs: list[PeerRun] = of(result, model)
    ours, theirs, augmented = (next(r for r in runs if r["label"] == name) for name in PEERS)
    seconds = f"{ours['seconds']:.0f} and {theirs['seconds']:.0f}"
    return (
        f"Points lost after {PEER_STEPS} steps by the same recipe for IF (99.9 %, one threshold a "
        f"channel, v0 = ½): {lost(ours, PEER_STEPS)} with snnlib, {lost(theirs, PEER_STEPS)} with "
        f"SpikingJelly, in {seconds} seconds for {steps(ours['steps'])}. AugMapping loses "
        f"{lost(augmented, 4)} after 4. On {images(runs)}."
    )


def integer(result: Result, model: str) -> str:
    """What whole numbers lose against real ones."""
    runs: list[IntegerRun] = of(result, model)
    said = []
    for run in runs:
        value = loss(run["real_accuracy"][-1] - run["accuracy"][-1], run["loss_interval"][-1])
        said.append(f"{value} points with {run['setting']['neuron']['levels']} levels")
    return (
        f"Against the same network in real numbers, whole numbers lose {' and '.join(said)}, after "
        f"{steps(runs[0]['steps'])}. On {images(runs)}."
    )


# Name in the page → the file and what answers.
ANSWERS: dict[str, tuple[str, Callable[[Result, str], str]]] = {
    "accuracy": ("accuracy-over-time", accuracy),
    "late-answer": ("late-answer", late_panels.answer),
    "negative": ("negative", negative_panels.answer),
    "frontier": ("frontier", frontier),
    "coefficients": ("frontier", coefficients),
    "layer-errors": ("layer-errors", layer_errors),
    "early-exit": ("early-exit", early_exit),
    "seenn": ("seenn", exit_panels.answer),
    "robustness": ("robustness", robustness),
    "codes": ("codes", codes),
    "ablations": ("ablations", ablations),
    "allocation": ("allocation", allocation),
    "peers": ("peers", peers),
    "integer": ("integer", integer),
}


def sentences(name: str, folder: Path) -> dict[str, str]:
    """The answer of every network that has the numbers."""
    file, make = ANSWERS[name]
    result = read(folder, file).get(file, {})
    models = networks.ordered(row["model"] for row in result.get("runs", ()))
    return {model: text for model in models if (text := make(result, model))}


class ResultAnswer(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a new result is no change of a file that was there
        name = self.arguments[0]
        if name not in ANSWERS:
            raise self.error(f"result-answer: one of {', '.join(ANSWERS)}, not {name!r}")
        found = sentences(name, Path(self.env.srcdir) / "book" / "results")
        shown: dict[str, list[nodes.Node]] = {}
        for model, straight in found.items():
            text = straight.replace("'", "’").replace(" … ", "\u00a0…\u00a0")
            said = html.escape(text, quote=False)
            line = f'<p class="snn-answer"><strong>{model}.</strong> {said}</p>'
            shown[model] = [nodes.raw("", line, format="html")]
        return networks.blocks(self.env, shown)


def setup(app: Any) -> None:
    app.add_directive("result-answer", ResultAnswer)
