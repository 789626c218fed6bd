"""``sparsity``: below the density of the ANN, on one scale of events, bits, operations and energy.

All networks send augmented spikes (negative 0, no cap) for one step; thresholds are those of the
99.9th percentile at so many levels. Four ways to send less, on all validation images:

- ``free``, without training: fewer levels; biases that make up for rounding; dead zones a channel;
- ``training``: fine-tuning from the book's network with rounding, distillation from that network
  and a penalty: count, Hoyer, or L1 as a control. The controls have no penalty, no rounding, or no
  teacher. Images are augmented as in the network's recipe. Each training goes on from another one
  with less pressure (`book.experiments.sparse_methods`);
- the same with Lagrange multipliers, for a share of the SynOps that the book's network makes, or of
  the events that each of its layers sends.

``chosen`` is measured on all test images: the point with the fewest events, and the one with the
fewest bits, that lose no more than a tenth of a point against the dense ANN on validation
images (the most accurate one where none does), free and trained; every seed is a training of its
own. Networks that are chosen are kept, and measured as written; `book.tools.sparse_networks` puts
what is shipped among the checkpoints. ``exits`` answers early with the sparsest of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from book.experiments.frame import FOLDER, SEED, Cell, Context, Experiment
from book.experiments.material import material, plan_for
from book.experiments.measure import INTERVAL
from book.experiments.setting import Setting, Subject
from book.experiments.sparse_exits import Exit, exits
from book.experiments.sparse_methods import Method, epochs, epochs_in_all, methods
from book.experiments.sparse_points import Point, SparseAnn, goals, point, sparse_ann
from snnlib.conversion.balance import Percentile
from snnlib.learning.dead_zones import dead_zones
from snnlib.learning.loop import Epoch, Plan, fit
from snnlib.learning.sparsity import Objective, Sparse
from snnlib.neurons import Augmented
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import checkpoints
from snnlib.zoo.augment import cutout, shift_flip, warp
from snnlib.zoo.recipes import RECIPES
from snnlib.zoo.recipes import Recipe as Augmentation
from snnlib.zoo.training import bfloat16_pays, mixed

Kind = TypeVar("Kind", bound=Point)
Cost = Literal["events_per_neuron", "bits_per_neuron"]
COSTS: tuple[Cost, ...] = get_args(Cost)
LOSS = 0.001  # accuracy that a choice may cost on validation images: as much as the goals allow
RATE, DECAY, BATCH = 0.03, 5e-4, 128
RAMP = 0.4  # share of the steps in which the pressure rises
# η · steps. With 3,000 images of mnist-cnn 400 sent a quarter to a third less than the target, and
# 100 came within a twentieth; on digits-cnn 100, 400 and 1,600 all did.
CLIMB = 100.0
WATCHED = 1000  # validation images after each epoch: for the history, nothing is chosen by it
FREE_LEVELS, LOST = (2, 4, 8, 16), (0.0, 0.01, 0.03, 0.1)
ZONED = 400  # training images for zones and biases: the network passes over them layer by layer
SEEDS = {"mnist-cnn": 3}  # of what is chosen
KEPT = FOLDER / "sparsity.networks.partial"  # `book.tools.sparse_networks` takes from there


class FreePoint(Point):
    """Without training."""

    lost: float | None  # ε of the dead zones; None: neither zones nor biases


class TrainedPoint(Point):
    """After fine-tuning."""

    method: str
    seed: int
    epochs: int  # from the book's network on, all stages
    fitted_images: int
    seconds_per_epoch: float
    multipliers: list[float]
    ann: SparseAnn


def cells(network: str) -> list[Cell]:
    """A cell a number of levels, a cell a training, and a cell a seed of what is chosen."""
    found = [
        Cell(f"{network}/free/{levels}", partial(free, network, levels), "free")
        for levels in FREE_LEVELS
    ]
    found += [
        Cell(f"{network}/{name}/{SEED}", partial(training, network, name, SEED), "training")
        for name in methods(network)
    ]
    found.append(Cell(f"{network}/chosen/free", partial(judge_free, network)))
    found += [
        Cell(f"{network}/chosen/{seed}", partial(judge, network, seed))
        for seed in range(SEED, SEED + SEEDS.get(network, 1))
    ]
    found.append(Cell(f"{network}/exits", partial(answered, network), "exits"))
    return found


# without training


def quiet(network: str, levels: int, lost: float | None, context: Context) -> Sparse:
    """The book's network that rounds, with dead zones and biases unless ``lost`` is None."""
    subject = context.subject(network)
    model = Sparse(subject.ann, converted(subject, levels), None).eval()
    return model if lost is None else dead_zones(model, subject.calibration[:ZONED], lost)


def converted(subject: Subject, levels: int) -> SpikingNetwork:
    """The book's network at so many levels."""
    return subject.convert(Setting(Augmented(levels, negative=0.0), Percentile(99.9)))


def free(network: str, levels: int, context: Context) -> list[FreePoint]:
    """Rounding alone, biases, and zones that lose more and more, on validation images."""
    rows: list[FreePoint] = []
    for lost in (None, *LOST):
        model = quiet(network, levels, lost, context)
        found = point(
            model, _free_label(levels, lost), "validation", "free", context.subject(network)
        )
        rows.append({**found, "lost": lost})
    return rows


def _free_label(levels: int, lost: float | None) -> str:
    kind = "rounded" if lost is None else f"dead zones {lost:g}" if lost else "biases"
    return f"{kind}, {levels} levels"


# with training


def trained(
    network: str, method: Method, seed: int, context: Context
) -> tuple[Sparse, list[Epoch]]:
    """A network at the end of a stage; trainings that were done or begun are taken up again."""
    subject, images = context.subject(network), material(network, context)
    plan = plan_for(context, Plan(epochs=epochs(network, method), batch=BATCH))
    plan = replace(plan, reduced=bfloat16_pays(context.device))
    of: Literal["events", "synops"] = "events"
    if method.target is not None and not method.each:
        of = "synops"
    net = converted(subject, method.levels)
    model = Sparse(subject.ann, net, method.penalty, of, method.rounding)
    target = _target(model, method, subject)
    if method.start is not None:
        before, _ = trained(network, method.start, seed, context)
        model.body.load_state_dict(before.dense().state_dict(), strict=False)  # not its thresholds
        if method.start.target is not None:
            model.multipliers.copy_(before.multipliers)
    steps = plan.epochs * (len(images.fit) // plan.batch)
    own = seed + 100 * (method.stage - 1)  # the order and the noise of a stage are its own
    teacher = answers(subject, own)
    objective = Objective(
        teacher if method.distillation else None, method.strength, target, climb=CLIMB / steps,
        ramp=int(RAMP * steps) + 1, distillation=method.distillation, prepare=teacher.prepare,
        since=0.0 if method.start is None else method.start.strength,
    )  # fmt: skip
    with torch.random.fork_rng():  # leaves the caller's random state as it was
        history = fit(
            model, optimizer(model), images.fit, images.validation[:WATCHED], plan, seed=own,
            loss=objective, state=context.state(f"{network}-{method.name}-{seed}"),
            label=method.name, progress=context.progress,
        )  # fmt: skip
    return model, history


@torch.no_grad()
def _target(model: Sparse, method: Method, subject: Subject) -> float | list[float] | None:
    """What may be active, from what is active in the book's network."""
    if method.target is None:
        return None
    active = model.eval().watched(subject.calibration[:200])[2]
    if method.each:
        return (method.target * active).tolist()
    return float(method.target * (model.shares * active).sum())


class Teacher(nn.Module):
    """The book's network, asked once a step: trainings of one seed and stage see the same images.

    Args:
        subject: the network.
        seed: of the images.
    """

    def __init__(self, subject: Subject, seed: int) -> None:
        super().__init__()
        self.ann, self.step, self.held = subject.ann, -1, dict[int, Tensor]()
        self._augment = augmentation(RECIPES[subject.name], seed)

    def prepare(self, x: Tensor, step: int) -> Tensor:
        """The images of a step."""
        self.step = step
        return self._augment(x, step)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) for the images that were prepared last."""
        if self.step not in self.held:
            self.held[self.step] = cast(Tensor, self.ann(x)).float()
        return self.held[self.step]


@lru_cache(maxsize=8)  # stages of a path; an answer takes 5 kB a step
def answers(subject: Subject, seed: int) -> Teacher:
    """The teacher of a stage, for all trainings of a run."""
    return Teacher(subject, seed).eval()


def optimizer(model: nn.Module) -> torch.optim.SGD:
    """SGD that decays weights alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD(
        [{"params": matrices, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}],
        lr=RATE, momentum=0.9, nesterov=True,
    )  # fmt: skip


def augmentation(recipe: Augmentation, seed: int) -> Callable[[Tensor, int], Tensor]:
    """Images as the recipe augments them; of a step, whatever came before, dropout included."""

    def prepare(x: Tensor, step: int) -> Tensor:
        own = mixed(seed, step)
        torch.manual_seed(own)  # of dropout
        generator = torch.Generator().manual_seed(own)
        flip = torch.rand(len(x), generator=generator) < 0.5 if recipe.flip else None
        if recipe.degrees:
            x = warp(x, recipe.degrees, recipe.scale, recipe.shift, generator)
        elif recipe.shift or recipe.flip:
            x = shift_flip(x, recipe.shift, flip, generator).contiguous()
        return cutout(x, recipe.cutout, generator) if recipe.cutout else x

    return prepare


def training(network: str, name: str, seed: int, context: Context) -> list[TrainedPoint]:
    """One method, on validation images."""
    model, history = trained(network, methods(network)[name], seed, context)
    return [_trained_row(model, network, name, seed, history, "validation", context)]


def _trained_row(
    model: Sparse, network: str, name: str, seed: int, history: list[Epoch], images: str,
    context: Context,
) -> TrainedPoint:  # fmt: skip
    subject, method = context.subject(network), methods(network)[name]
    split = subject.test if images == "test" else subject.validation
    quick = context.limit is not None  # an epoch a stage
    return {
        **point(model, name, images, "trained", subject),
        "method": name,
        "seed": seed,
        "epochs": method.stage if quick else epochs_in_all(network, method),
        "fitted_images": len(material(network, context).fit),
        "seconds_per_epoch": sum(e["seconds"] for e in history) / len(history),
        "multipliers": model.multipliers.tolist(),
        "ann": sparse_ann(model, split, subject),
    }


# what is chosen


def cheapest(rows: list[Kind]) -> dict[Cost, Kind]:
    """By cost, the cheapest of those that lose little; the most accurate where none does."""
    close = [p for p in rows if p["accuracy"] >= p["dense_accuracy"] - LOSS - 1e-9]
    close = close or [max(rows, key=lambda p: p["accuracy"])]
    return {cost: min(close, key=lambda p: p[cost]) for cost in COSTS}


def judge_free(network: str, context: Context) -> list[FreePoint]:
    """What is chosen of the ways without training, on test images."""
    rows: list[FreePoint] = [
        row for n in FREE_LEVELS for row in context.rows[f"{network}/free/{n}"]
    ]
    chosen = {(row["levels"], row["lost"]) for row in cheapest(rows).values()}
    made: list[FreePoint] = []
    for levels, lost in sorted(chosen, key=str):
        model = quiet(network, levels, lost, context)
        found = point(model, _free_label(levels, lost), "test", "free", context.subject(network))
        made.append({**found, "lost": lost})
    return made


def judge(network: str, seed: int, context: Context) -> list[TrainedPoint]:
    """What is chosen of the trainings, with another seed, on test images."""
    rows: list[TrainedPoint] = [
        row for m in methods(network) for row in context.rows[f"{network}/{m}/{SEED}"]
    ]
    made = []
    for name in sorted({row["method"] for row in cheapest(rows).values()}):
        model, history = trained(network, methods(network)[name], seed, context)
        state = checkpoints.narrow(model.dense().state_dict())
        model.body.load_state_dict(state, strict=False)  # what is rounded by has no part in it
        found = _trained_row(model, network, name, seed, history, "test", context)
        if context.limit is None:
            keep(model, network, state, found)
        made.append(found)
    return made


def keep(model: Sparse, network: str, state: dict[str, Tensor], found: TrainedPoint) -> None:
    """Write a network with its thresholds; `snnlib.models.load` reads it by the file's path."""
    thetas = {
        name: float(layer.theta) for name, layer in zip(model.names, model.layers, strict=True)
    }
    about = {
        key: found[key]
        for key in ("method", "levels", "seed", "epochs", "dense_accuracy", "accuracy", "n")
    }
    record = {"architecture": network, "thresholds": thetas, **about}
    checkpoints.write(KEPT / file_name(found), state, record)


def file_name(row: TrainedPoint) -> str:
    """Of a network that is kept."""
    name = f"{row['model']}-{row['method']}-{row['seed']}"
    return name.replace(", ", "-").replace(" ", "-") + ".safetensors"


def answered(network: str, context: Context) -> list[Exit]:
    """Early answers: the book's network, rounded, and the one with the fewest events."""
    subject = context.subject(network)
    rows: list[TrainedPoint] = [
        row for m in methods(network) for row in context.rows[f"{network}/{m}/{SEED}"]
    ]
    name = cheapest(rows)["events_per_neuron"]["method"]
    sparse, _ = trained(network, methods(network)[name], SEED, context)
    plain = quiet(network, sparse.neuron.levels, None, context)
    return exits(plain, "rounded", subject) + exits(sparse, name, subject)


EXPERIMENT = Experiment(
    name="sparsity",
    summary="networks that send less than their ANN: without training, with penalties, to targets",
    networks=("mnist-cnn", "fashion-cnn", "cifar10-vgg", "cifar10-resnet"),
    cells=cells,
    conclude=lambda sections: {"interval": INTERVAL, "goals": goals(sections["runs"])},
)
