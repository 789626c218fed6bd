"""One check for each kind of argument: what Python and NumPy call a number, and nothing else."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from snnlib._arguments import flag, real, whole


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)[()]])
def test_whole_numbers_of_all_kinds(value: Any) -> None:
    assert whole("n", value) == 3
    assert type(whole("n", value)) is int


@pytest.mark.parametrize(
    "value", [0, -1, True, np.True_, 2.0, "2", None, np.float64(2), torch.tensor(2), 10**400]
)
def test_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^n=.* must be a whole number from 1 to 9$") as caught:
        whole("n", value, most=9)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.float64(0.5)])
def test_real_numbers_of_all_kinds(value: Any) -> None:
    assert real("v0", value, 0, 1) == 0.5
    assert type(real("v0", value)) is float
    assert real("v0", 1, 0, 1) == 1.0


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "0.5", True, None, 1j])
def test_no_fraction(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^v0=.* must be a number of at least 0 and at most 1$"):
        real("v0", value, 0, 1)


def test_limits_that_are_left_out() -> None:
    with pytest.raises(ValueError, match=r"must be a number above 0 and at most 1$"):
        real("confidence", 0, 0, 1, above=True)
    with pytest.raises(ValueError, match=r"must be a number above 0$"):
        real("x", 0.0, 0, above=True)
    with pytest.raises(ValueError, match=r"must be a number$"):
        real("x", math.nan)


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_switches(value: Any) -> None:
    assert flag("per_channel", value) is bool(value)


@pytest.mark.parametrize("value", ["no", 1, 0, None, [], torch.tensor(True)])
def test_no_switch(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^per_channel=.* must be True or False$"):
        flag("per_channel", value)
