"""One path of a thing through all its frames, from the motion between many pairs of them.

Each link tells where the thing's middle goes from one frame to another one, by an affine map; each
box tells where it is, inexactly. The path is the weighted least-squares solution of all of them at
once: a graph of poses (F. Lu & E. Milios, "Globally consistent range scan alignment for environment
mapping", 1997). Links reach over a bounded number of frames, so the equations are banded. Links and
boxes that do not fit the rest count less and less (A. Cauchy's weight, in rounds).

Places are complex numbers x + iy. Stretches are small: they are applied to the path of the round
before, so that the equations stay linear in complex numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from .links import Link
from .smoothing import spread_of

ROUNDS = 10  # of weighting down what does not fit
CAUCHY = 2.385  # A. Cauchy's constant: 95% efficiency on normally distributed errors
LOOSE = 10.0  # how much worse than usual a step is known that was not measured
HUBER = 1.5  # spreads from which on P. Huber's weight falls
_LEAST = 1e-9


@dataclass(frozen=True)
class Relations:
    """What links say of some values.

    `value[second] = factor * value[first] + stretch * conj(value[first]) + shift`.

    Attributes:
        first, second: [m] int.
        factor, stretch, shift: [m], real or complex.
        error: [m], spread of the error.
    """

    first: np.ndarray
    second: np.ndarray
    factor: np.ndarray
    stretch: np.ndarray
    shift: np.ndarray
    error: np.ndarray


def relations_of_places(links: Sequence[Link], steps: np.ndarray) -> Relations:
    """What links say of the places.

    Args:
        steps: [n-1] complex, the motion that is taken from each frame to the next where none was
            measured.
    """
    usual = _usual([link.motion.error for link in links])
    return _relations(
        links,
        [
            (link.motion.factor, link.motion.stretch, link.motion.shift, link.motion.error)
            if link.motion.measured else (1.0, 0.0, steps[link.first], LOOSE * usual)
            for link in links
        ],
    )  # fmt: skip


def relations_of_sizes(links: Sequence[Link], steps: np.ndarray, axis: int) -> Relations:
    """What links say of the logarithms of the sizes along an axis: 0 is x.

    Args:
        steps: [n-1], as in `relations_of_places`.
    """
    usual = _usual([link.motion.growth_error for link in links])
    return _relations(
        links,
        [
            (1.0, 0.0, link.motion.growths[axis], link.motion.growth_error)
            if link.motion.measured else (1.0, 0.0, steps[link.first], LOOSE * usual)
            for link in links
        ],
    )  # fmt: skip


def _usual(errors: Sequence[float]) -> float:
    known = [error for error in errors if np.isfinite(error)]
    return float(np.median(known)) if known else 1.0


def _relations(links: Sequence[Link], told: Sequence[tuple]) -> Relations:
    first, second = (np.array([getattr(link, end) for link in links], int)
                     for end in ("first", "second"))  # fmt: skip
    factor, stretch, shift, error = (np.array(own) for own in zip(*told, strict=True))
    return Relations(first, second, factor, stretch, shift, error.real)


def joint_path(
    relations: Relations, values: np.ndarray, known: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The values [n] that fit all relations and the inexact values that are known.

    Args:
        values: [n], real or complex.
        known: [n] bool.
        scale: [n], the spread of the errors of the known values, up to a common factor, which is
            estimated.
    """
    places = np.arange(len(values))
    path = np.interp(places, places[known], values[known])
    link_weight = 1 / relations.error**2
    own = spread_of(np.abs(np.diff(values[known])) / scale[known][1:]) / 2**0.5
    value_weight = known / (scale * max(own, _LEAST)) ** 2
    for _ in range(ROUNDS):
        shift = relations.shift + relations.stretch * np.conj(path[relations.first])
        path = solved(relations, shift, values, link_weight, value_weight)
        off = np.abs(
            path[relations.second] - relations.factor * path[relations.first] - shift
        ) / relations.error  # fmt: skip
        wide = max(spread_of(off), 1.0)
        link_weight = 1 / ((1 + (off / (CAUCHY * wide)) ** 2) * (relations.error * wide) ** 2)
        away = np.abs(values - path) / scale
        own = max(spread_of(away[known]), _LEAST)
        value_weight = known / np.maximum(away / (HUBER * own), 1) / (own * scale) ** 2
    return path


def solved(
    relations: Relations,
    shift: np.ndarray,
    values: np.ndarray,
    link_weight: np.ndarray,
    value_weight: np.ndarray,
) -> np.ndarray:
    """The minimum for given weights: a banded, positive definite system of linear equations.

    Args:
        relations: m of them; their `shift` is not used.
        shift: [m].
        values: [n], what is known.
        link_weight, value_weight: [m] and [n].

    Returns:
        [n].
    """
    first, second, factor = relations.first, relations.second, relations.factor
    count, reach = len(values), int((second - first).max(initial=0))
    kind = np.result_type(factor, values, float)
    bands = np.zeros((reach + 1, count), kind)  # the lower form: [k, j] is the entry (j + k, j)
    right = (value_weight * np.where(value_weight > 0, values, 0)).astype(kind)
    bands[0] = value_weight + _LEAST * link_weight.mean()
    np.add.at(bands[0], second, link_weight)
    np.add.at(bands[0], first, link_weight * np.abs(factor) ** 2)
    np.add.at(bands, (second - first, first), -link_weight * factor)
    np.add.at(right, second, link_weight * shift)
    np.add.at(right, first, -link_weight * np.conj(factor) * shift)
    return solveh_banded(bands, right, lower=True)
