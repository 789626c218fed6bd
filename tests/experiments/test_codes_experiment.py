"""``codes``: choices come first and from validation images, codes are what they are said to be."""

import pytest
import torch

from book import experiments
from book.experiments import codes
from snnlib.codes import Radix
from snnlib.zoo import models

LIMIT = 20


@pytest.fixture(scope="module")
def context():
    """The choices of a small network, from its validation images."""
    found = experiments.Context(torch.device("cpu"), limit=LIMIT)
    for cell in codes.cells("digits-cnn"):
        if cell.section == "choices":
            found.rows[cell.name] = cell.compute(found)
    return found


def test_every_setting_has_been_chosen_before_it_is_used():
    names = [cell.name for cell in codes.cells("digits-cnn")]
    used = [2**bits - 1 for bits in codes.BITS] + [*codes.SLOTS, 2**codes.DELTA_BITS - 1]
    chosen = [f"digits-cnn/levels {levels}" for levels in used]
    first = min(i for i, name in enumerate(names) if "levels" not in name)
    assert set(chosen) == set(names[:first])
    assert codes.HEADLINE_SLOTS in codes.SLOTS


def test_a_choice_is_the_best_of_the_candidates(context):
    for levels in (1, 15, 32):
        (row,) = context.rows[f"digits-cnn/levels {levels}"]
        best = max(row["agreement"].values())
        chosen = codes.setting("digits-cnn", levels, context).balance
        worth = {
            name: row["agreement"][name] for name, balance in codes.candidates(levels).items()
            if balance == chosen
        }  # fmt: skip
        assert list(worth.values()) == [best]
        rivals = [row["error"][name] for name, value in row["agreement"].items() if value == best]
        assert row["error"][next(iter(worth))] == min(rivals)


def test_the_answers_do_not_depend_on_the_base(context):
    rows = [codes.radix("digits-cnn", 5, base, context)[0] for base in (2, 3, 4)]
    assert len({tuple(row["accuracy"]) for row in rows}) == 1
    assert [row["interval_steps"] for row in rows] == [5, 4, 3]
    assert [row["latency_steps"] for row in rows] == [15, 12, 9]
    assert all(len(row["events_by_step"]) == row["interval_steps"] for row in rows)
    subject = context.subject("digits-cnn")
    chosen = codes.setting("digits-cnn", 31, context)
    whole = Radix(subject.convert(chosen), 5).net
    right = whole(subject.test.floats(), 1).accuracy(subject.test.labels)
    assert rows[0]["accuracy"] == right.tolist()
    assert all(row["equal"] and row["sent_images"] == LIMIT for row in rows)


def test_what_takes_long_is_left_to_networks_that_are_not_deep():
    for name in codes.DEEP:
        sections = {cell.section for cell in codes.cells(name)}
        assert "greedy" not in sections
    assert all(name in models.NAMES for name in (*codes.DEEP, *codes.EXPERIMENT.networks))


def test_exact_is_exact(context):
    (row,) = codes.exact("digits-cnn", context)
    assert row["largest_difference"] < 1e-9
    assert row["clipped_per_image"] == 0
    assert row["agreement"] == [1.0]


def test_undisturbed_rows_are_the_same_network(context):
    """No overlap is the row in slots, and what disturbs is in its name and in its fields."""
    (plain,), rows = codes.in_slots("digits-cnn", 32, context), codes.greedy("digits-cnn", context)
    assert [row["overlap"] for row in rows] == list(codes.OVERLAPS)
    assert rows[0]["accuracy"] == plain["accuracy"]
    assert rows[0]["events_per_image"] == plain["events_per_image"]
    assert [row["latency_steps"] for row in rows] == [
        96 - 2 * overlap for overlap in codes.OVERLAPS
    ]
    assert plain["early_accuracy"][-1] == plain["accuracy"][-1]
    noisy = codes.noise("digits-cnn", context)
    alone = [row for row in noisy if "layer" in row]
    assert {row["layer"] for row in alone} == {"relu1", "relu2", "relu3"}
    assert all(row["events_per_image"] <= plain["events_per_image"] for row in noisy
               if row["variant"].startswith("lost") and "layer" not in row)  # fmt: skip


def test_moving_pictures_cost_less_than_new_ones(context):
    rows = [codes.delta("digits-cnn", every, context)[0] for every in codes.STANDS]
    for row in rows:
        assert len(row["accuracy"]) == row["frames"] == codes.FRAMES
        assert row["events_per_image"][-1] < row["anew_events_per_image"][-1]
    last = [row["events_per_image"][-1] for row in rows]
    assert last == sorted(last, reverse=True), "what stands still longer costs less"
