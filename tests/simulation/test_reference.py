"""The simulator against an independent reference: the same counts, layer by layer and step by step.

All in float64. The reference (tests/reference.py) shares no code with snnlib.
"""

import itertools

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Rule
from torch import nn

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
    net = convert(ann, images(40, seed=2), neuron, balance=Percentile(99.0))
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
    net = convert(reference.make(), images(40, seed=2), Ternary(negative=0.0), balance=Max())
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


@pytest.mark.filterwarnings("ignore:layer . never fires")
@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from(["before", "after", "both"]),
    st.booleans(),
)
def test_batch_norm_folds_exactly(seed, kernel, stride, padding, where, affine):
    """Before and after a padded convolution, borders included, and in a linear layer."""
    torch.manual_seed(seed)
    norms = [nn.BatchNorm2d(2, affine=affine), nn.BatchNorm2d(3, affine=affine)]
    last = nn.BatchNorm1d(5, affine=affine)
    for norm in (*norms, last):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3)
        if affine:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    conv = nn.Conv2d(2, 3, kernel, stride, padding, bias=seed % 2 == 0)
    layers = [conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(5), last, nn.ReLU(), nn.Linear(5, 3)]
    if where in ("before", "both"):
        layers.insert(0, norms[0])
    if where in ("after", "both"):
        layers.insert(layers.index(conv) + 1, norms[1])
    ann = nn.Sequential(*layers).double().eval()
    x = torch.rand(6, 2, 7, 7, dtype=torch.float64)
    with torch.no_grad():
        ann(x)  # gives the lazy layer its size
        net = convert(ann, x, Augmented(levels=2, negative=0.0))
        scale = float(ann(x).abs().max())
        assert float((net.ann(x) - ann(x)).abs().max()) <= 1e-12 * scale
        error = net(x, 4096, only_last=True).logits[0] - ann(x)
    assert float(error.abs().max()) <= 0.01 * (1 + scale)
