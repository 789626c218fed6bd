"""Recurrent networks through NIR: the same outputs, and files of others by their equations."""

import numpy as np
import pytest
import torch

from snnlib.graph.errors import CheckpointError
from snnlib.learning.touch import SpikingReader, as_clips
from snnlib.learning.touch_nir import from_nir, to_nir

nir = pytest.importorskip("nir", reason="needs the package nir: pip install nir")
told = pytest.mark.filterwarnings("ignore:NIR's CubaLIF neuron")


def reader(recurrent=True, dtype=torch.float64):
    torch.manual_seed(0)
    net = SpikingReader(6, 3, 10, recurrent=recurrent).to(dtype)
    with torch.no_grad():
        net.weight.mul_(3)
        net.of_current.add_(torch.randn(10))
        net.of_potential.add_(torch.randn(10))
    return net.eval()


def events(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(5, 40, 6, generator=generator) < 0.3).to(dtype)


@told
@pytest.mark.parametrize("recurrent", [True, False])
def test_there_and_back_the_outputs_are_equal(tmp_path, recurrent):
    net, x = reader(recurrent), events()
    again = from_nir(to_nir(net, tmp_path / "net.nir"))
    spikes = net.simulate(x).detach()
    assert 0.02 < float(spikes.mean()) < 0.9
    assert torch.equal(again.simulate(x), spikes)
    clips = as_clips(x, torch.tensor([40, 30, 20, 10, 1])).double()
    torch.testing.assert_close(again(clips), net(clips), rtol=1e-12, atol=1e-12)
    assert again.recurrent == recurrent


@told
def test_weights_of_32_bits_come_back_as_they_were(tmp_path):
    net = reader(dtype=torch.float32)
    again = from_nir(to_nir(net, tmp_path / "net.nir")).float()
    torch.testing.assert_close(again.weight, net.weight, rtol=1e-6, atol=0)
    torch.testing.assert_close(again.own, net.own, rtol=1e-6, atol=0)


def test_the_reset_is_said(tmp_path):
    with pytest.warns(UserWarning, match="by subtraction"):
        path = to_nir(reader(), tmp_path / "net.nir")
    assert nir.read(path).metadata["reset"] in ("subtract", b"subtract")


def foreign(dt=1e-3, n=8, bias=0.0):
    """A file as another simulator might write it: time in seconds, thresholds, any factors."""
    drawn = np.random.default_rng(0)
    neurons = nir.CubaLIF(
        tau_syn=drawn.uniform(4, 9, n) * dt, tau_mem=drawn.uniform(5, 20, n) * dt,
        r=drawn.uniform(3, 6, n), v_leak=np.zeros(n), v_threshold=drawn.uniform(0.5, 2, n),
        v_reset=np.zeros(n), w_in=drawn.uniform(3, 6, n),
    )  # fmt: skip
    nodes = {
        "in": nir.Input({"input": np.array([6])}),
        "fc1": nir.Affine(drawn.normal(0, 2, (n, 6)), np.full(n, bias)),
        "lif": neurons,
        "rec": nir.Linear(drawn.normal(0, 0.5, (n, n))),
        "fc2": nir.Affine(drawn.normal(0, 1, (3, n)), drawn.normal(0, 1, 3)),
        "out": nir.Output({"output": np.array([3])}),
    }
    edges = [("in", "fc1"), ("fc1", "lif"), ("lif", "rec"), ("rec", "lif"), ("lif", "fc2"),
             ("fc2", "out")]  # fmt: skip
    return nodes, edges


def written(path, nodes, edges, **metadata):
    nir.write(path, nir.NIRGraph(nodes, edges, metadata=metadata))
    return path


def test_a_file_of_others_is_its_differential_equations(tmp_path):
    """Euler steps of NIR's equations, with its own names, units and thresholds."""
    dt, x = 1e-3, events()
    nodes, edges = foreign(dt)
    net = from_nir(written(tmp_path / "x.nir", nodes, edges), dt=dt, reset="subtract")
    cell, found = nodes["lif"], []
    current, v, spike = (np.zeros((5, 8)) for _ in range(3))
    for now in x.numpy().transpose(1, 0, 2):
        arrives = now @ nodes["fc1"].weight.T + spike @ nodes["rec"].weight.T
        current = current + dt / cell.tau_syn * (-current + cell.w_in * arrives)
        v = v + dt / cell.tau_mem * (-v + cell.r * current)
        spike = (v >= cell.v_threshold).astype(float)
        v = v - spike * cell.v_threshold
        found.append(spike)
    spikes = torch.from_numpy(np.stack(found, 1))
    assert 0.02 < float(spikes.mean()) < 0.9
    assert torch.equal(net.simulate(x), spikes)


def test_what_cannot_be_read_is_said(tmp_path):
    nodes, edges = foreign()
    path = written(tmp_path / "x.nir", nodes, edges)
    with pytest.raises(CheckpointError, match="pass dt"):
        from_nir(path)
    with pytest.raises(CheckpointError, match="reset by a rule that the file does not name"):
        from_nir(path, dt=1e-3)
    with pytest.raises(CheckpointError, match="reset by zero"):
        from_nir(path, dt=1e-3, reset="zero")
    with pytest.raises(CheckpointError, match="longer than a step of 1"):
        from_nir(path, dt=1.0, reset="subtract")
    nodes, edges = foreign(bias=0.1)
    with pytest.raises(CheckpointError, match="fc1 is Affine"):
        from_nir(written(path, nodes, edges), dt=1e-3, reset="subtract")
    nodes, edges = foreign()
    nodes["lif"] = nir.IF(np.ones(8), np.ones(8))
    with pytest.raises(CheckpointError, match="0 layers of current-based"):
        from_nir(written(path, nodes, edges), dt=1e-3, reset="subtract")
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no NIR file"):
        from_nir(path)
