"""The maps from a thing to each of its frames, which agree with one another.

Each link has an affine map with errors of its own, and maps that were measured over different
pairs of frames contradict one another. If a path is taken from such links, it is drawn to that
point of a thing at which they contradict least, which is where its texture is and not its middle.
So the linear parts of the maps to all frames are found first, by least squares as the path itself
(`joint`). From them follow maps between any two frames that agree, for every point of the thing.

A linear map is written as that of `Motion`: `factor * place + stretch * conj(place)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .joint import CAUCHY, LOOSE, ROUNDS, Relations, solved
from .links import Link
from .smoothing import spread_of

FIXED = 1e3  # how much more than a link the map to the frame in the middle counts, which is given


@dataclass(frozen=True)
class Maps:
    """The linear part of the map from a thing to each frame.

    Attributes:
        factor, stretch: [n] complex.
    """

    factor: np.ndarray
    stretch: np.ndarray

    @property
    def growth(self) -> np.ndarray:
        """[n]: the square root of the factor by which areas grow."""
        return np.sqrt(np.abs(np.abs(self.factor) ** 2 - np.abs(self.stretch) ** 2))

    def grown_to(self, sizes: np.ndarray) -> Maps:
        """The maps to a thing of these sizes [n], of which only the ratios matter."""
        ratio = sizes / np.maximum(self.growth, 1e-9)
        return Maps(self.factor * ratio, self.stretch * ratio)

    def between(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factor and stretch [m] of the maps from some frames [m] to others [m]."""
        factor, stretch = self.factor[first], self.stretch[first]
        area = np.abs(factor) ** 2 - np.abs(stretch) ** 2
        back, back_stretch = np.conj(factor) / area, -stretch / area
        factor, stretch = self.factor[second], self.stretch[second]
        return (
            factor * back + stretch * np.conj(back_stretch),
            factor * back_stretch + stretch * np.conj(back),
        )


def maps_of(links: Sequence[Link], sizes: np.ndarray) -> Maps:
    """The maps to all frames that fit the links best, with the sizes that are given.

    Args:
        links: with all between neighbouring frames, of which at least one was measured.
        sizes: [n], of the thing in each frame.
    """
    told = _relations(links, sizes)
    # what a step along each axis of the thing becomes in each frame: it moves as places do
    columns = [direction * sizes.astype(complex) for direction in (1, 1j)]
    given = [np.where(np.arange(len(sizes)) == len(sizes) // 2, own, 0) for own in columns]
    weight = 1 / told.error**2
    fixed = np.where(given[0] != 0, FIXED * weight.max(), 0)
    for _ in range(ROUNDS):
        shifts = [told.stretch * np.conj(own[told.first]) for own in columns]
        columns = [
            solved(told, shift, own, weight, fixed)
            for shift, own in zip(shifts, given, strict=True)
        ]
        squares = [
            np.abs(own[told.second] - told.factor * own[told.first] - shift) ** 2
            for own, shift in zip(columns, shifts, strict=True)
        ]
        off = np.sqrt(sum(squares) / 2) / told.error
        wide = max(spread_of(off), 1.0)
        weight = 1 / ((1 + (off / (CAUCHY * wide)) ** 2) * (told.error * wide) ** 2)
    across, down = columns
    return Maps((across - 1j * down) / 2, (across + 1j * down) / 2).grown_to(sizes)


def _relations(links: Sequence[Link], sizes: np.ndarray) -> Relations:
    """What links say of steps along the axes of a thing."""
    errors = [link.motion.growth_error for link in links if link.motion.measured]
    usual = float(np.median(errors)) if errors else 1.0
    rows = [
        (link.motion.factor, link.motion.stretch, link.motion.growth_error)
        if link.motion.measured
        else (sizes[link.second] / sizes[link.first], 0.0, LOOSE * usual)
        for link in links
    ]
    first, second = (np.array([getattr(link, end) for link in links], int)
                     for end in ("first", "second"))  # fmt: skip
    factor, stretch, error = (np.array(own, complex) for own in zip(*rows, strict=True))
    return Relations(
        first, second, factor, stretch, np.zeros_like(factor), error.real * sizes[second]
    )


def agreeing(
    relations: Relations, measured: np.ndarray, maps: Maps, places: np.ndarray
) -> Relations:
    """What links say of places, with maps that agree instead of their own.

    Args:
        relations: of places.
        measured: [m] bool, which of them were measured; the others stay as they are.
        places: [n] complex, where the thing is about; from there links still lead where they did.
    """
    here = places[relations.first]
    there = relations.factor * here + relations.stretch * np.conj(here) + relations.shift
    factor, stretch = maps.between(relations.first, relations.second)
    shift = there - factor * here - stretch * np.conj(here)
    return replace(
        relations,
        factor=np.where(measured, factor, relations.factor),
        stretch=np.where(measured, stretch, relations.stretch),
        shift=np.where(measured, shift, relations.shift),
    )
