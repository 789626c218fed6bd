"""Spiking neurons as pure step functions with explicit state.

Every neuron here integrates a current ``z`` into a membrane potential ``V`` and answers each
step with a whole-number **spike coefficient** ``c``; the message it sends on is ``c · θ``::

    V ← V + z_t            integrate (V starts at v0 · θ)
    c ← decide(V, N)       0 or 1 (IF), −1, 0 or 1 (Ternary), any integer (Augmented)
    V ← V − c · θ          reset by subtraction
    N ← N + c              net count, never below zero

so that after ``t`` steps ``θ N_t / t`` is a clipped, rounded ReLU of the mean current. Nothing is
hidden: a neuron object holds parameters only, `State` holds the rest, and a step returns a new
state and leaves the old one untouched. The fused updates of `snnlib.backend` are tested
equal to these functions.

A neuron of your own is one subclass of `Neuron` with a `decide` (or a whole `step`): it runs
everywhere, step by step, until `fused` says which compiled update computes the same.

Sources: threshold balancing with IF neurons, Diehl et al. 2015; the negative threshold
(TerMapping) and augmented spikes (AugMapping), Yu et al., TNNLS 2022. Derived in the chapters
*Spiking neurons* and *Rates, counts and ReLU*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from snnlib._arguments import real, whole


class State(NamedTuple):
    """What a layer of neurons carries from one step to the next.

    A neuron that remembers more returns a named tuple of its own, whose first two fields are these.

    Attributes:
        potential: membrane potential V after reset, in the ANN's own units, shape (B, ...).
        count: net count N = Σ c, whole numbers ≥ 0 in a floating dtype, shape (B, ...).
    """

    potential: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class Fused(NamedTuple):
    """A rule that the compiled updates know (`snnlib.backend`).

    Attributes:
        rule: ``"if"``: c = 1 if V ≥ θ; ``"if-zero"``: the same, V becomes 0 after it; ``"signed"``:
            the rule of `Augmented`.
        negative: size of the negative threshold / θ, for ``"signed"``.
        cap: largest |c| a step, infinite for no limit.
    """

    rule: Literal["if", "if-zero", "signed"]
    negative: float = 1.0
    cap: float = math.inf


class Neuron:
    """What all neurons share; subclass it for a neuron of your own.

    Example: a neuron that must reach 3 θ before it fires once.

        >>> class Reluctant(IF):
        ...     def decide(self, potential, count, theta):
        ...         return (potential >= 3 * theta).to(potential.dtype)
        >>> Reluctant().fused is None, Reluctant().largest  # what it changes is not taken for IF's
        (True, inf)
    """

    kind: ClassVar[str] = "neuron"
    levels: int = 1
    v0: float = 0.0
    _RULE: ClassVar = frozenset({"initial", "ceiling", "step", "decide", "reset_potential"})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A class that changes the rule makes none of its parent's claims about the rule."""
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        if "kind" not in own:
            cls.kind = cls.__name__.lower()
        if cls._RULE & own.keys():
            for claim in {"fused", "memoryless", "largest"} - own.keys():
                setattr(cls, claim, vars(Neuron)[claim])

    def threshold(self, balanced: Tensor) -> Tensor:
        """Firing threshold θ = λ / levels from what threshold balancing measured (λ)."""
        return balanced / self.levels

    def initial(self, current: Tensor, theta: Tensor) -> State:
        """State before the first step: V = v0 · θ, N = 0, shaped like ``current``."""
        count = torch.zeros_like(current)
        return State(count + (self.v0 * theta).to(current), count)

    def ceiling(self, bound: float, theta: Tensor, step: int) -> Tensor:
        """Largest net count after ``step`` steps of a unit clipped at ``bound`` (ReLU6: 6).

        The ANN's activation never exceeds ``bound``, so N_t ≤ floor(bound · t / θ + v0).
        """
        return torch.floor(bound * step / theta + self.v0)

    def step(
        self, state: State, current: Tensor, theta: Tensor, ceiling: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """One time step.

        Args:
            state: the state after the previous step; not modified.
            current: z_t, weighted input plus bias, shape (B, ...), in the ANN's own units.
            theta: firing threshold, broadcastable to ``current``, > 0.
            ceiling: largest net count allowed now (`ceiling`), for bounded activations.

        Returns:
            The spike coefficients c_t, shape (B, ...), and the new state.
        """
        potential = state.potential + current
        coefficient = self.decide(potential, state.count, theta)
        if ceiling is not None:
            coefficient = torch.minimum(coefficient, ceiling - state.count)
        after = self.reset_potential(potential, coefficient, theta)
        return coefficient, State(after, state.count + coefficient)

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        """Spike coefficient for a potential, before the reset; shape (B, ...)."""
        raise NotImplementedError(f"{type(self).__name__} has no decide: say when it fires")

    def reset_potential(self, potential: Tensor, coefficient: Tensor, theta: Tensor) -> Tensor:
        """Potential after the spike: reset by subtraction."""
        return potential - coefficient * theta

    @property
    def fused(self) -> Fused | None:
        """The compiled update that computes the same as `step`; None: `step` itself runs."""
        return None

    @property
    def largest(self) -> float:
        """Largest |c| in one step, infinite without a limit."""
        return math.inf

    @property
    def memoryless(self) -> bool:
        """True if N_t depends on the summed input alone: N_t = max(0, floor(S_t/θ + v0)).

        Then the network after t steps is the ANN with every ReLU replaced by a rounding quantizer
        of step θ/t: the *closed form* (chapter *Rates, counts and ReLU*).
        """
        return False


@dataclass(frozen=True)
class IF(Neuron):
    """Integrate-and-fire neuron: c = 1 if V ≥ θ, else 0.

    Args:
        v0: initial membrane potential, a fraction of θ (0…1). ½ rounds, 0 truncates.
        reset: ``"subtract"`` keeps what exceeds θ, ``"zero"`` throws it away.

    Raises:
        ValueError: a parameter is out of range.

    Source: Diehl et al., IJCNN 2015; reset by subtraction, Rueckauer et al., 2017. Chapter
    *Spiking neurons*.

    Example:
        >>> import torch
        >>> neuron, theta = IF(v0=0.0), torch.tensor(1.0)
        >>> state, sent = neuron.initial(torch.zeros(1), theta), []
        >>> for _ in range(4):
        ...     c, state = neuron.step(state, torch.tensor([0.5]), theta)
        ...     sent.append(int(c))
        >>> sent
        [0, 1, 0, 1]
    """

    kind: ClassVar[str] = "if"
    v0: float = 0.5
    reset: str = "subtract"

    def __post_init__(self) -> None:
        _fractions(self, "v0")
        if self.reset not in ("subtract", "zero"):
            raise ValueError(f'IF: reset={self.reset!r} must be "subtract" or "zero"')

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return (potential >= theta).to(potential.dtype)

    def reset_potential(self, potential: Tensor, coefficient: Tensor, theta: Tensor) -> Tensor:
        if self.reset == "zero":
            return torch.where(coefficient != 0, torch.zeros_like(potential), potential)
        return super().reset_potential(potential, coefficient, theta)

    @property
    def fused(self) -> Fused:
        return Fused("if" if self.reset == "subtract" else "if-zero", cap=1.0)

    @property
    def largest(self) -> float:
        return 1.0


@dataclass(frozen=True)
class Augmented(Neuron):
    """AugMapping neuron: one spike carries a whole-number coefficient.

    With θ = λ/levels: c = floor(V/θ) if V ≥ θ; where V ≤ −negative·θ (V < 0 for negative = 0),
    c = −(floor(−V/θ − negative) + 1), and floor(V/θ) for negative = 0; never below −N, so the net
    count stays a ReLU.

    Args:
        levels: resolution: how many thresholds fit in the balanced activation λ.
        negative: size of the negative threshold, a fraction of θ (0…1). 1 is truncation toward
            zero on both sides; 0 takes a spike back as soon as V < 0.
        v0: initial membrane potential, a fraction of θ (0…1).
        cap: largest |c| in one step, None for no limit.

    Raises:
        ValueError: a parameter is out of range.

    Source: Yu et al., TNNLS 2022 (levels, the negative threshold below θ and v0 are ours or later
    work's). Chapter *Augmented spikes*.

    Example:
        >>> import torch
        >>> neuron, theta = Augmented(levels=4), torch.tensor(1.0)
        >>> c, state = neuron.step(
        ...     neuron.initial(torch.zeros(1), theta), torch.tensor([3.2]), theta
        ... )
        >>> int(c), round(float(state.potential), 1)
        (3, 0.7)
    """

    kind: ClassVar[str] = "augmented"
    levels: int = 1
    negative: float = 1.0
    v0: float = 0.5
    cap: int | None = None

    def __post_init__(self) -> None:
        _set(self, levels=whole("Augmented: levels", self.levels, most=_FINEST))
        _fractions(self, "negative", "v0")
        if self.cap is not None:
            _set(self, cap=whole("Augmented: cap", self.cap, most=_FINEST))

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return _signed(potential / theta, count, self.negative, self.cap)

    @property
    def fused(self) -> Fused:
        return Fused("signed", self.negative, self.largest)

    @property
    def largest(self) -> float:
        return math.inf if self.cap is None else float(self.cap)

    @property
    def memoryless(self) -> bool:
        return self.negative == 0.0 and self.cap is None


@dataclass(frozen=True)
class Ternary(Neuron):
    """TerMapping neuron: +1 if V ≥ θ; −1 if V ≤ −negative·θ (V < 0 for 0) and N > 0; else 0.

    Equal to ``Augmented(levels=1, cap=1)``.

    Args:
        negative: size of the negative threshold, a fraction of θ (0…1).
        v0: initial membrane potential, a fraction of θ (0…1).

    Raises:
        ValueError: a parameter is out of range.

    Source: Yu et al., TNNLS 2022; ν, N > 0 and v0 are this book's. Chapter *Double thresholds*.

    Example:
        >>> import torch
        >>> neuron, theta = Ternary(v0=0.0), torch.tensor(1.0)
        >>> state, sent = neuron.initial(torch.zeros(1), theta), []
        >>> for z in (1.0, -1.0, -1.0):
        ...     c, state = neuron.step(state, torch.tensor([z]), theta)
        ...     sent.append(int(c))
        >>> sent  # the second spike is taken back; a third would make the count negative
        [1, -1, 0]
    """

    kind: ClassVar[str] = "ternary"
    negative: float = 1.0
    v0: float = 0.5

    def __post_init__(self) -> None:
        _fractions(self, "negative", "v0")

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return _signed(potential / theta, count, self.negative, 1)

    @property
    def fused(self) -> Fused:
        return Fused("signed", self.negative, 1.0)

    @property
    def largest(self) -> float:
        return 1.0


_FINEST = 2**24  # float32 holds whole numbers up to here; more levels are no finer


def _set(neuron: Neuron, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(neuron, name, value)


def _fractions(neuron: Neuron, *names: str) -> None:
    """Check parameters that are fractions of the threshold."""
    what = "a fraction of the threshold"
    for name in names:
        label = f"{type(neuron).__name__}: {name}"
        _set(neuron, **{name: real(label, getattr(neuron, name), 0.0, 1.0, what=what)})


def _signed(ratio: Tensor, count: Tensor, negative: float, cap: int | None) -> Tensor:
    """Signed spike coefficient for V/θ = ``ratio`` and net count ``count``."""
    down = torch.floor(ratio)
    if negative == 0.0:
        coefficient = down
    else:
        up = -(torch.floor(-ratio - negative) + 1)
        coefficient = torch.where(ratio >= 1, down, torch.where(ratio <= -negative, up, 0.0))
    if cap is not None:
        coefficient = coefficient.clamp(-cap, cap)
    return torch.maximum(coefficient, -count)


NEURONS: dict[str, type[Neuron]] = {cls.kind: cls for cls in (IF, Ternary, Augmented)}
