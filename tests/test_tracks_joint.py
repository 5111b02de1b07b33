"""core/tracks/links.py and joint.py: motion over many frames apart, and one path from all of it."""

import numpy as np
import pytest
from detailers.core.clips import HeldFrames, frames_of
from detailers.core.geometry import Rect
from detailers.core.tracks.joint import joint_path, relations_of_places, relations_of_sizes
from detailers.core.tracks.links import Link, Links, measure
from detailers.core.tracks.maps import Maps, agreeing, maps_of
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


def leaning(noise, seed=4):
    """A thing that leans and narrows: the place of its middle, its maps, and links that are off.

    The links are exact at a point of the thing that is 20 pixels below its middle, where its
    texture is, and their maps are off by `noise`, so that they are wrong at its middle.
    """
    lean, narrow = 0.3 * np.sin(TIME / 7), 0.85 + 0.1 * np.cos(TIME / 5)
    factor = np.exp(1j * lean) * (1 + narrow) / 2
    stretch = np.exp(1j * lean) * (narrow - 1) / 2
    maps = Maps(factor, stretch)
    place = 100 + 2.0 * TIME + 60j + 3j * np.sin(TIME / 6)
    texture = place + factor * 20j + stretch * np.conj(20j)
    random = np.random.default_rng(seed)
    links = []
    for lag in LAGS:
        for first in range(COUNT - lag):
            second = first + lag
            own, wide = (value.item() for value in maps.between(first, second))
            own += complex(*random.normal(0, noise, 2))
            wide += complex(*random.normal(0, noise, 2))
            shift = texture[second] - own * texture[first] - wide * np.conj(texture[first])
            shift += complex(*random.normal(0, 0.03, 2))
            links.append(Link(first, second, Motion(own, wide, shift, 0.05, noise)))
    return place, maps, links


def test_maps_that_agree_are_found_from_links_that_do_not():
    _, true, links = leaning(0.005)
    found = maps_of(links, true.growth)
    assert found.growth == pytest.approx(true.growth, rel=1e-6)
    first, second = (np.array([getattr(link, end) for link in links])
                     for end in ("first", "second"))  # fmt: skip
    own = np.array([link.motion.factor for link in links])
    exact, made = true.between(first, second)[0], found.between(first, second)[0]
    assert np.abs(made - exact).mean() < 0.6 * np.abs(own - exact).mean()
    factor, stretch = found.between(first, first)
    assert np.abs(factor - 1).max() < 1e-9 and np.abs(stretch).max() < 1e-9


def test_what_was_not_measured_says_nothing_of_the_maps():
    links = [Link(place, place + 1, Motion()) for place in range(3)]
    links[0] = Link(0, 1, Motion(1.1 + 0j, 0j, 0j, 0.05, 0.002))
    maps = maps_of(links, np.array([10.0, 11, 12, 13]))
    assert maps.growth == pytest.approx([10, 11, 12, 13])
    assert np.abs(maps.stretch).max() < 1e-9


def test_a_path_keeps_to_the_middle_and_not_to_where_the_texture_is():
    """The bias of links whose maps contradict one another is many times what is left."""
    place, true, links = leaning(0.01)
    known, flat = np.ones(COUNT, bool), np.ones(COUNT)
    off = np.random.default_rng(8).normal(0, 3.0, (COUNT, 2)) @ (1, 1j)
    boxes = place + off - off.mean()
    told = relations_of_places(links, np.diff(place))
    measured = np.ones(len(links), bool)
    wrong = joint_path(told, boxes, known, flat)
    told = agreeing(told, measured, maps_of(links, true.growth), boxes)
    right = joint_path(told, boxes, known, flat)
    assert np.std(right - place) < 0.5 * np.std(wrong - place)
    assert np.std(right - place) < 0.5


def test_frames_far_apart_are_linked_and_only_the_last_ones_are_held():
    path = along(40 + 3.1 * TIME, 90 + 4 * np.sin(TIME / 5), 40 + 0.0 * TIME)
    random = np.random.default_rng(1)
    boxes = [Rect(*(place[:2] + random.uniform(-1.5, 1.5, 2)), 40, 40) for place in path]
    frames = drawn([path], FRAME)
    thing = Links(0, boxes)
    for start in range(0, COUNT, 8):
        measure([thing], frames_of(HeldFrames(frames), start, start + 8), start)
        assert len(thing._patches) <= LAGS[-1] + 8
    assert not thing._patches  # its last frame was seen
    true = path[:, :2] @ (1, 1j)
    for lag in LAGS:
        own = [link for link in thing.found if link.second - link.first == lag]
        assert len(own) >= 0.9 * (COUNT - lag)
        off = [abs(link.motion.at(true[link.first]) - true[link.second]) for link in own]
        assert np.median(off) < 0.15
