"""core/tracks/links.py and joint.py: motion over many frames apart, and one path from all of it."""

import numpy as np
import pytest
from detailers.core.geometry import Rect
from detailers.core.tracks.joint import joint_path, relations_of_places, relations_of_sizes
from detailers.core.tracks.links import Link, Links, measure
from detailers.core.tracks.motion import LAGS, Motion

from .tracks_scenes import FRAME, along, drawn

COUNT = 64
TIME = np.arange(COUNT)


def path_of(links, true, noise=2.0):
    """The joint path of links and of boxes that are off, and how far it wanders from the truth."""
    random = np.random.default_rng(3)
    off = random.normal(0, noise, (COUNT, 2)) @ (1, 1j)
    known = random.random(COUNT) > 0.1
    values = np.where(known, true + off, 0)
    path = joint_path(relations_of_places(links, np.diff(true)), values, known, np.ones(COUNT))
    return path, np.std(path - true)


def links_of(true, lags, pull=lambda lag: 0.0, factor=1.0, stretch=0.0):
    """Links that tell the motion, but for a pull that adds up."""
    return [
        Link(first, first + lag, Motion(
            factor, stretch,
            true[first + lag] - factor * true[first] - stretch * np.conj(true[first]) + pull(lag),
            0.05, 0.002,
        ))
        for lag in lags for first in range(COUNT - lag)
    ]  # fmt: skip


def test_links_over_many_frames_end_the_drift_of_steps():
    true = 100 + 2.0 * TIME + 1j * (60 + 5 * np.sin(TIME / 7))

    def pull(lag):
        return 0.06 if lag == 1 else 0.0

    _, steps = path_of(links_of(true, LAGS[:1], pull), true)
    _, whole = path_of(links_of(true, LAGS, pull), true)
    assert steps > 0.4
    assert whole < 0.1


def test_a_path_is_right_for_things_that_grow_turn_and_narrow():
    true = 100 + 2.0 * TIME + 1j * (60 + 5 * np.sin(TIME / 7))
    path, wander = path_of(links_of(true, LAGS, factor=0.98 + 0.03j, stretch=0.02 - 0.01j), true)
    assert wander < 0.02
    assert abs((path - true).mean()) < 1  # where it is in all frames is known from the boxes alone


def test_links_that_are_wrong_do_not_matter():
    true = 100 + 2.0 * TIME + 60j
    links = links_of(true, LAGS)
    wrong = [
        Link(own.first, own.second, Motion(1, 0, own.motion.shift + 12 - 5j, 0.05, 0.002))
        if place % 9 == 0 else own
        for place, own in enumerate(links)
    ]  # fmt: skip
    assert path_of(wrong, true)[1] < 0.05


def test_width_and_height_grow_apart():
    motion = Motion(1.0 + 0j, 0.1 + 0j, 0j, 0.05, 0.002)  # wider by 10% and lower by 10%
    assert motion.growths == pytest.approx((np.log(1.1), np.log(0.9)))
    links = [Link(place, place + 1, motion) for place in range(3)]
    known = np.array([True, False, False, True])
    for axis, factor in enumerate((1.1, 0.9)):
        values = np.log(40 * factor ** np.arange(4.0))
        told = relations_of_sizes(links, np.zeros(3), axis)
        path = joint_path(told, np.where(known, values, 0), known, np.ones(4))
        assert path == pytest.approx(values, abs=1e-6)


def test_frames_far_apart_are_linked_and_only_the_last_ones_are_held():
    path = along(40 + 3.1 * TIME, 90 + 4 * np.sin(TIME / 5), 40 + 0.0 * TIME)
    random = np.random.default_rng(1)
    boxes = [Rect(*(place[:2] + random.uniform(-1.5, 1.5, 2)), 40, 40) for place in path]
    frames = drawn([path], FRAME)
    thing = Links(0, boxes)
    for start in range(0, COUNT, 8):
        measure([thing], frames[start : start + 8], start)
        assert len(thing._patches) <= LAGS[-1] + 8
    assert not thing._patches  # its last frame was seen
    true = path[:, :2] @ (1, 1j)
    for lag in LAGS:
        own = [link for link in thing.found if link.second - link.first == lag]
        assert len(own) >= 0.9 * (COUNT - lag)
        off = [abs(link.motion.at(true[link.first]) - true[link.second]) for link in own]
        assert np.median(off) < 0.15
