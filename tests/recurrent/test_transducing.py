"""Training resumes to the bit; errors are the fewest changes; delays are counted from the end."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnlib.recurrent import transducing
from snnlib.recurrent.strings import Strings, emitted, heard
from snnlib.recurrent.transducer import Emission
from snnlib.recurrent.transducing import Plan, delays, fit, judge, match, transcribe

digits = st.lists(st.integers(0, 2), max_size=6)


def strings(n=8, frames=60):
    """Two digits a string, noise otherwise."""
    generator = torch.Generator().manual_seed(0)
    said = torch.randint(10, (n, 2), generator=generator)
    ends = torch.tensor([[1800, 3400]]).expand(n, -1)
    digits, begins, ends = (
        torch.nn.functional.pad(part, (0, 3)) for part in (said, ends - 800, ends)
    )
    many = torch.ones(n, dtype=torch.int64)
    x = torch.randn(n, frames, 40, generator=generator)
    sounds = tuple(torch.zeros(0, dtype=torch.int16) for _ in range(n))
    return Strings(sounds, x, frames * many, digits, 2 * many, begins, ends, 0 * many)


@given(digits, digits)
def test_changes_are_the_fewest(said, out):
    """Against the recursion that tries everything; what is matched is equal, and in order."""

    @cache
    def fewest(i, j):
        if not i or not j:
            return i + j
        replaced = fewest(i - 1, j - 1) + (said[i - 1] != out[j - 1])
        return min(replaced, fewest(i - 1, j) + 1, fewest(i, j - 1) + 1)

    changes, pairs = match(said, out)
    assert changes == fewest(len(said), len(out))
    assert all(said[i] == out[j] for i, j in pairs)
    assert pairs == sorted(set(pairs))
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(pairs))
    assert changes >= max(len(said), len(out)) - len(pairs)


def test_delays_run_from_the_end_of_a_digit():
    """On the aligned path they are the rest of the group, below its length; late ones are later."""
    data = strings(3)
    at = emitted(data, 3)[:, :2]
    on_time = [Emission(data.said(i), tuple(at[i].tolist())) for i in range(3)]
    rest = (heard(at, 3) - data.ends[:, :2]).flatten() / 8.0
    torch.testing.assert_close(delays(data, on_time, 3), rest.double())
    assert 0 <= float(rest.min()) <= float(rest.max()) < 30
    late = [Emission(e.symbols, tuple(g + 2 for g in e.groups)) for e in on_time]
    torch.testing.assert_close(delays(data, late, 3), rest.double() + 60)
    found = judge(data, late, 3)
    assert (found["digit_error"], found["string_error"], found["recognized"]) == (0, 0, 6)
    assert found["delay_ms"] == pytest.approx(float(rest.mean()) + 60)


def test_judging_counts_what_is_wrong():
    data = strings(2)
    a, b = data.said(0), data.said(1)
    wrong = [Emission((a[0],), (5,)), Emission((*b, b[1]), (5, 9, 10))]
    found = judge(data, wrong, 3)
    assert (found["digit_error"], found["string_error"]) == (2 / 4, 1)
    silent = judge(data, [Emission((), ())] * 2, 3)
    assert silent["digit_error"] == 1
    assert silent["delay_ms"] is None


@pytest.mark.parametrize("objective", ["encoder", "transducer"])
def test_an_interrupted_training_is_taken_up(tmp_path, monkeypatch, objective):
    """The same weights as without, noise and dropout included; another plan is refused."""
    data, plan = strings(), Plan(objective, epochs=3, batch=4)
    whole = transducing.network(data, seed=0, hidden=8)
    fit(whole, data, plan)
    epoch = transducing._epoch

    def stop(*arguments):
        if arguments[5] == 2:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(transducing, "_epoch", stop)
    part = transducing.network(data, seed=0, hidden=8)
    with pytest.raises(KeyboardInterrupt):
        fit(part, data, plan, state=tmp_path / "state")
    monkeypatch.setattr(transducing, "_epoch", epoch)
    again = transducing.network(data, seed=1, hidden=8)
    history = fit(again, data, plan, state=tmp_path / "state")
    assert len(history) == 3
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="other settings"):
        fit(again, data, Plan(objective, epochs=4, batch=4), state=tmp_path / "state")


def test_transcribing_does_not_depend_on_the_batch(monkeypatch):
    data = strings()
    net = transducing.network(data, seed=0, hidden=8).double()
    with torch.no_grad():
        net.out.weight.mul_(8)
    data = Strings(**{**vars(data), "values": data.values.double()})
    whole = [transcribe(net, data), transcribe(net, data, width=2)]
    monkeypatch.setattr(transducing, "_ANSWERED", 3)
    assert whole == [transcribe(net, data), transcribe(net, data, width=2)]
    assert any(emission.symbols for emission in whole[0])


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="objective='ctc'"):
        Plan("ctc")
    with pytest.raises(ValueError, match="epochs"):
        Plan(epochs=0)
    with pytest.raises(ValueError, match="no string"):
        fit(transducing.network(strings(), 0, 8), strings(0), Plan())
