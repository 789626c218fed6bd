"""The simulator against an independent reference: the same counts, layer by layer and step by step.

All in float64. The reference (tests/reference.py) shares no code with snnlib.
"""

import itertools

import pytest
import reference
import torch
from reference import Rule

from snnlib import IF, Augmented, Max, Percentile, Ternary, convert

STEPS = 8
LAYERS = ("relu1", "relu2", "relu3", "relu4")
NEURONS = [
    (IF(), Rule("if")),
    (IF(v0=0.0), Rule("if", v0=0.0)),
    (IF(reset="zero"), Rule("if", reset="zero")),
    (Ternary(), Rule("ternary")),
    (Ternary(negative=0.0), Rule("ternary", negative=0.0)),
    (Ternary(negative=0.4, v0=0.0), Rule("ternary", negative=0.4, v0=0.0)),
    (Augmented(levels=3), Rule("augmented", levels=3)),
    (Augmented(levels=2, negative=0.0), Rule("augmented", levels=2, negative=0.0)),
    (Augmented(levels=4, negative=0.5, v0=0.2), Rule("augmented", 0.2, 0.5, 4)),
    (Augmented(levels=8, negative=0.0, cap=3), Rule("augmented", 0.5, 0.0, 8, 3)),
]


def images(count: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("bounded", [False, True], ids=["relu", "bounded"])
@pytest.mark.parametrize(("neuron", "rule"), NEURONS, ids=lambda value: str(value))
def test_same_counts_layer_by_layer_and_step_by_step(neuron, rule, bounded):
    ann = reference.make(bounded)
    net = convert(ann, images(40, seed=2), neuron, Percentile(99.0))
    x = images(3)
    run = net(x, STEPS, record=LAYERS, batch=2)
    thresholds = {name: float(net.thresholds[name]) for name in LAYERS}
    busy = dict.fromkeys(LAYERS, 0.0)
    for i, image in enumerate(x.numpy()):
        sent, logits = reference.simulate(ann, image, rule, thresholds, STEPS)
        for name in LAYERS:
            ours = run.trace[name].coefficient[:, i].numpy()
            assert (ours == sent[name]).all(), f"{name}, image {i}"
            busy[name] += abs(sent[name]).sum()
        assert abs(run.logits[:, i].numpy() - logits).max() < 1e-12
    assert min(busy.values()) > 10, f"a silent layer proves nothing: {busy}"


def test_negative_spikes_reach_the_max_pooling():
    """Otherwise the comparison above would not test the cumulative maximum."""
    net = convert(reference.make(), images(40, seed=2), Ternary(negative=0.0), Max())
    late = net(images(3), STEPS, record=LAYERS).trace["relu2"].coefficient
    assert (late < 0).any()


@pytest.mark.parametrize("bounded", [False, True], ids=["relu", "bounded"])
@pytest.mark.parametrize("levels", [1, 4])
def test_closed_form_is_the_steps(levels, bounded):
    neuron = Augmented(levels, negative=0.0)
    net = convert(reference.make(bounded), images(40, seed=2), neuron)
    x = images(20, seed=3)
    run = net(x, STEPS)
    for t in range(1, STEPS + 1):
        last = net(x, t, only_last=True).logits
        assert last.shape == (1, 20, 3)
        assert float((last[0] - run.logits[t - 1]).abs().max()) < 1e-10


@pytest.mark.parametrize("seed", range(4))
def test_mean_outputs_approach_the_ann(seed):
    """With rounding neurons the error after t steps is of the order θ/t in every layer."""
    ann = reference.make(seed=seed)
    net = convert(ann, images(40, seed=2), Augmented(levels=4, negative=0.0))
    x = images(10, seed=4)
    with torch.no_grad():
        logits = ann(x)
    assert float((net.ann(x) - logits).abs().max()) < 1e-12
    errors = [
        float((net(x, t, only_last=True).logits - logits).abs().max()) for t in (1, 16, 256, 4096)
    ]
    for earlier, later in itertools.pairwise(errors):
        assert later < earlier / 4
    assert errors[-1] < 2e-3
