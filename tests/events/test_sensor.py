"""The simulated sensor: counts follow from the change of the logarithm, and nothing else."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from snnlib.events import sensor
from snnlib.events.sensor import look
from snnlib.zoo import data


def dot(value=255, size=9):
    image = torch.zeros(1, 1, size, size, dtype=torch.uint8)
    image[0, 0, 4, 4] = value
    return image


def seen(image, **settings):
    return look(image, torch.zeros(len(image), dtype=torch.int64), ("a",), **settings)


def test_a_dot_that_moves_one_pixel_leaves_one_and_enters_another():
    """ln(1.1 / 0.1) = 2.398: one crossing of θ = 1.5 each, at the time that the line says."""
    found = seen(dot(), path=((0, 0), (1, 0)))
    assert sorted(zip(found.x, found.y, found.p, strict=True)) == [(4, 4, -1), (5, 4, 1)]
    steps = np.log(0.1 + np.arange(6) / 5)  # brightness of the pixel that the dot enters
    k = int(np.argmax(steps >= steps[0] + 1.5)) - 1
    share = (steps[0] + 1.5 - steps[k]) / (steps[k + 1] - steps[k])
    on = float(found.t[found.p == 1][0])
    assert on == pytest.approx(20 * (k + share), abs=1e-3)


@pytest.mark.parametrize("theta", [0.3, 0.7, 1.5])
def test_levels_follow_brightness_within_a_threshold(theta):
    """ON less OFF of each pixel is the change of its logarithm, cut to whole thresholds."""
    digits, _ = data.load("digits")
    images = digits.images[:4]
    found = seen(images, threshold=theta, path=((0, 0), (1.5, 0.5)))
    net = np.zeros((4, 28, 28))
    recording = np.repeat(np.arange(4), found.counts)
    np.add.at(net, (recording, found.y, found.x), found.p)
    x = images[:, 0].double().numpy() / 255
    change = np.log(0.1 + sensor.shifted(x, np.array([1.5, 0.5]))) - np.log(0.1 + x)
    assert np.abs(change - theta * net).max() < theta
    per_pixel = np.zeros((4, 28, 28))
    np.add.at(per_pixel, (recording, found.y, found.x), 1)
    assert per_pixel.max() <= 4 + 4 * math.log(11) / theta


def test_what_does_not_move_is_not_seen():
    assert len(seen(dot(), path=((0, 0), (0, 0))).x) == 0
    assert len(seen(torch.full((2, 1, 9, 9), 0, dtype=torch.uint8)).x) == 0
    assert len(look(torch.zeros(0, 1, 9, 9, dtype=torch.uint8), torch.zeros(0).long(), ("a",))) == 0


def test_recordings_lie_in_order_and_do_not_depend_on_the_others(monkeypatch):
    digits, _ = data.load("digits")
    whole = seen(digits.images[:7])
    monkeypatch.setattr(sensor, "_AT_ONCE", 3)
    parts = seen(digits.images[:7])
    for name in ("x", "y", "t", "p", "starts"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    for i in range(7):
        one = whole.take([i])
        assert (np.diff(one.t) >= 0).all()
        assert np.array_equal(one.t, seen(digits.images[i : i + 1]).t)
    assert set(np.unique(whole.p)) == {-1, 1}
    assert float(whole.t.max()) <= 3 * sensor.SACCADE_MS


def test_a_margin_lets_an_image_move_without_leaving():
    """The same events as in the middle of a larger image, three columns and rows further."""
    digits, _ = data.load("digits")
    image = digits.images[:1]
    found = seen(image, margin=3, path=sensor.WIDE)
    larger = torch.zeros(1, 1, 34, 34, dtype=torch.uint8)
    larger[:, :, 3:31, 3:31] = image
    wanted = seen(larger, path=sensor.WIDE)
    assert found.size == (34, 34)
    for name in ("x", "y", "t", "p"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    with pytest.raises(ValueError, match="margin"):
        seen(image, margin=-1)


def test_pixels_leave_the_picture():
    x = np.zeros((1, 4, 4))
    x[0, 0, 3] = 1
    assert sensor.shifted(x, np.array([1.0, 0.0])).sum() == 0
    assert sensor.shifted(x, np.array([-1.0, 2.0]))[0, 2, 2] == 1
    assert sensor.shifted(x, np.array([9.0, 0.0])).sum() == 0
    half = sensor.shifted(x, np.array([-0.5, 0.5]))[0]
    assert np.array_equal(half[:2, 2:], np.full((2, 2), 0.25))


def test_other_images_are_refused():
    with pytest.raises(ValueError, match=r"uint8 \(N, 1, H, W\)"):
        seen(dot().float())
    with pytest.raises(ValueError, match="threshold"):
        seen(dot(), threshold=0)


def test_only_the_network_needs_the_graph_library():
    """Neither ``import snnlib`` nor the rest of the room brings it."""
    code = (
        "import sys, snnlib, snnlib.events.sensor, snnlib.events.graph, snnlib.zoo.event_files;"
        "sys.exit('torch_geometric' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_library_it_is_said_what_to_install():
    code = (
        "import sys; sys.modules['torch_geometric'] = None\n"
        "try:\n    import snnlib.events.aegnn\n"
        'except ImportError as error:\n    sys.exit("snnlib[events]" not in str(error))\n'
        "sys.exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_byte_cannot_tell_is_refused():
    images = torch.zeros(1, 1, 250, 250, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at most 256 a side"):
        look(images, torch.zeros(1, dtype=torch.int64), ("dark",), margin=4)
