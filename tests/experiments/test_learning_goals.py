"""Goals of the experiments of learning: chosen on validation images, means over seeds."""

import pytest

from book import experiments
from book.experiments import dsr, exact_timing, single_spike, st_rsbp, surrogate_depth, tandem
from book.experiments import throughput as speeds
from book.experiments.learning import differ, mean_of


def found(experiment, **sections):
    return [one["found"] for one in experiment.conclude({"runs": [], **sections})["goals"]]


def test_means_are_over_the_rows_asked_for():
    rows = [{"a": 1, "x": 2.0}, {"a": 1, "x": 4.0}, {"a": 2, "x": 9.0}]
    assert mean_of(rows, "x", a=1) == 3.0
    assert mean_of(rows, "x", a=3) is None
    assert differ(0.9403, 0.9353) == 0.005  # half a point is not more than half a point
    assert differ(0.9, None) is None


@pytest.mark.parametrize(
    "name", ["single-spike", "dsr", "tandem", "throughput", "st-rsbp", "exact-timing"]
)
def test_nothing_measured_reaches_no_goal(name):
    goals = experiments.get(name).conclude({"runs": []})["goals"]
    assert goals
    assert not any(one["reached"] for one in goals)


def test_the_mask_is_judged_start_by_start():
    rows = [
        {"start": start, "method": method, "test_accuracy": right, "spikes_per_neuron": sent}
        for start, method, right, sent in (
            ("scratch", "free", 0.88, 0.8), ("scratch", "free", 0.90, 0.8),
            ("scratch", "single", 0.87, 0.4), ("scratch", "single", 0.87, 0.6),
            ("relu-99", "free", 0.89, 0.2), ("relu-99", "single", 0.885, 0.15),
        )
    ]  # fmt: skip
    costs = found(single_spike, runs=rows)
    assert costs == pytest.approx([0.02, 0.625, 0.005, 0.75])
    reached = [one["reached"] for one in single_spike.conclude({"runs": rows})["goals"]]
    assert reached == [False, True, True, False]


def test_the_test_images_do_not_choose():
    """The training with the better validation counts, not the one with the better test."""

    def row(validation, test, **more):
        return {"validation_accuracy": validation, "test_accuracy": test, **more}

    trained = [
        row(0.92, 0.91, shortcut=True), row(0.91, 0.93, shortcut=True),
        row(0.9, 0.9, shortcut=False),
    ]  # fmt: skip
    assert found(surrogate_depth, trained=trained) == [0.91, 0.9]
    readings = [
        {
            "method": method, "steps": 8, "ann_accuracy": 0.94,
            "full": {"validation_accuracy": validation, "test_accuracy": test},
        }
        for method, validation, test in (
            ("conversion", 0.95, 0.94), ("at-once", 0.93, 0.935), ("layers", 0.92, 0.939)
        )
    ]  # fmt: skip
    assert found(tandem, runs=readings) == [0.005, None]


def test_several_spikes_are_compared_with_one():
    timed = [{"method": m, "test_accuracy": x} for m, x in (("single", 0.979), ("several", 0.981))]
    assert found(exact_timing, runs=timed) == [0.979, -0.002]


def test_counts_and_rates_stand_beside_time():
    counted = [
        {"method": method, "test_accuracy": right, "kept_megabytes": kept}
        for method, right, kept in (("st-rsbp", 0.85, 4.0), ("bptt", 0.855, 20.0))
    ]
    assert found(st_rsbp, runs=counted) == [0.85, 0.005, 5.0]
    runs = [
        {
            "method": method, "steps": 10, "full": full, "test_accuracy": right,
            "validation_accuracy": right, "kept_megabytes": kept,
        }
        for method, full, right, kept in (
            ("dsr", False, 0.88, 10.0), ("bptt", False, 0.87, 70.0), ("dsr", True, 0.92, 40.0)
        )
    ]  # fmt: skip
    speed = [
        {"device": device, "method": method, "steps": 10, "seconds_per_batch": seconds}
        for device, method, seconds in (
            ("cpu", "dsr", 0.1), ("cpu", "bptt", 0.3), ("cuda", "dsr", 0.01), ("cuda", "bptt", 0.02)
        )
    ]  # fmt: skip
    assert found(dsr, runs=runs, speed=speed) == pytest.approx([0.92, -0.01, 1.0, 3.0, 2.0])


def test_forms_are_compared_at_a_thousand_images():
    populations = [
        {"method": method, "test_accuracy": right, "images_per_second": 1.0}
        for method, right in (("time", 0.87), ("width", 0.868))
    ]
    forms = [
        {
            "device": "cuda", "precision": precision, "n": n, "method": method,
            "images_per_second": speed,
        }
        for precision, n, method, speed in (
            ("float32", 1000, "time", 1e5), ("float32", 1000, "width", 4e5),
            ("float32", 1, "width", 1e9), ("bfloat16", 1000, "width", 1e9),
        )
    ]  # fmt: skip
    assert found(speeds, populations=populations, forms=forms) == pytest.approx([0.002, 4.0])
