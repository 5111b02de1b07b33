"""A smooth curve through noisy values with gaps and outliers.

The curve z minimises

    sum_i w_i (y_i - z_i)^2  +  lambda * sum_i u_i (D^d z)_i^2

where D^d are differences of the order d: E. Whittaker, "On a new method of graduation" (1923), and
P. Eilers, "A perfect smoother" (2003). It is the estimate of a Kalman smoother for a process whose
d-th difference is white noise, for all values at once. Unlike a moving average it has no lag, it
keeps straight lines (d = 2) up to both ends, and a gap is just a weight of 0, over which it
interpolates. Outliers are weighted down in rounds by J. Tukey's biweight.

How stiff the curve is, is given as a length in frames: the noise falls as with the average over so
many values. For white noise and a stiff curve the variance falls to `_GAIN[d] * lambda**(-1/(2d))`,
the integral of the squared frequency response; so lambda follows from the length.

If the values bend faster than such a curve can, a shorter length is taken: the longest that
predicts values which were left out nearly as well as the best one does (cross-validation with the
rule of one standard error; T. Hastie et al., "The Elements of Statistical Learning", 7.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solveh_banded

from ..pixels.colour import MAD_TO_SPREAD

_GAIN = {1: 0.25, 2: 0.2652}  # of the variance at lambda = 1, for stiff curves; see above
TUKEY = 4.685  # J. Tukey's constant: 95% efficiency on normally distributed errors
ROUNDS = 8  # of weighting outliers down
FOLDS = 4  # parts of the values that are left out in turn
SHORTEST = 3  # frames of the shortest curve that is tried
EXACT = 1e-9  # squared errors up to it are those of rounding
STEADY = 3  # order of the differences of `steady`
CALMED = 1.5  # spreads of the noise that are taken from values at most
_SHORTEST_STEADY = 0.5  # frames
_NO_NOISE = 1e-9
TIMIDITY = 1.0  # standard errors by which a longer curve may be worse


@dataclass(frozen=True)
class Curve:
    """A smooth curve through values.

    Attributes:
        values: [n,k], at every place, also in gaps.
        length: that it was made with, in frames.
        error: [m], squared errors of the prediction of the m values that are no gaps.
    """

    values: np.ndarray
    length: float
    error: np.ndarray


def smooth(
    values: np.ndarray, known: np.ndarray, length: float, order: int = 2,
    trust: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The curve of a given length through values.

    Args:
        values: [n,k]; what they are where they are not known does not matter.
        known: [n] bool, at least one True.
        length: in frames; at most 1 gives the values, interpolated in gaps.
        order: of the differences, 1 or 2.
        trust: [n-order], how much each difference should be small, 1 being usual.

    Returns:
        [n,k].
    """
    known = np.asarray(known, bool)
    if length <= 1 or known.sum() <= 1:
        return _interpolated(values, known)
    weight = known.astype(float)
    middle = values[known].mean(0)
    values = np.where(known[:, None], values - middle, 0.0)
    stiffness = stiffness_of(length, order)
    curve = _solved(values, weight, stiffness, order, trust)
    for _ in range(ROUNDS):
        distance = np.sqrt(((values - curve) ** 2).sum(1))
        spread = spread_of(distance[known])
        if spread <= 1e-9 * np.abs(values).max():
            break
        ratio = np.clip(distance / (TUKEY * spread), 0, 1)
        fresh = known * np.maximum((1 - ratio**2) ** 2, 1e-4)
        if np.abs(fresh - weight).max() < 1e-3:
            break
        weight = fresh
        curve = _solved(values, weight, stiffness, order, trust)
    return curve + middle


def fitted(
    values: np.ndarray, known: np.ndarray, longest: float, order: int = 2,
    trust: np.ndarray | None = None, timidity: float = TIMIDITY,
) -> Curve:  # fmt: skip
    """The curve through values, as long as they allow and at most as long as asked for.

    Args:
        values: [n,k].
        known: [n] bool.
        order: 1 or 2.
        trust: [n-order], all four as in `smooth`.
        longest: the longest length, in frames.
        timidity: by how many standard errors a longer curve may predict worse than the best one.
    """
    known = np.asarray(known, bool)
    lengths = _lengths(longest)
    errors = [_prediction_errors(values, known, length, order, trust) for length in lengths]
    length, error = lengths[0], errors[0]
    if len(lengths) > 1 and len(error) >= FOLDS:
        bound = _bound(errors)
        capped = [np.minimum(own, bound) for own in errors]
        best = int(np.argmin([own.mean() for own in capped]))
        for place in range(best + 1):
            if _no_worse(capped[place], capped[best], timidity):
                length, error = lengths[place], errors[place]
                break
    return Curve(smooth(values, known, length, order, trust), length, error)


def steady(
    values: np.ndarray, noise: np.ndarray, scale: np.ndarray, longest: float
) -> np.ndarray:  # fmt: skip
    """Values without the noise of each frame, where that makes them easier to predict.

    A smooth curve whose third differences are small, so that it goes round bends. Its length is
    the one that predicts values which were left out best, of those that leave no more of them out
    than their noise: what shakes by itself goes on to shake.

    Args:
        values: [n,k], at every place.
        noise: [n], spread of the noise of each.
        scale: [n], in whose units the values move about as unsteadily everywhere.
        longest: the longest length, in frames.

    Returns:
        [n,k].
    """
    count = len(values)
    order = min(STEADY, count - 1)
    if order < 1 or count < FOLDS or longest <= 1:
        return values
    weight = (np.median(noise) / np.maximum(noise, _NO_NOISE)) ** 2
    trust = (np.median(scale) / np.maximum(scale, _NO_NOISE)) ** 2
    trust = np.convolve(trust, np.full(order + 1, 1 / (order + 1)), "valid")
    middle = values.mean(0)
    values = values - middle
    stiffness = [
        (_GAIN[2] * length) ** (2 * order)
        for length in np.minimum(longest, _SHORTEST_STEADY * 2 ** (np.arange(16) / 2))
    ]
    curves = [_solved(values, weight, stiff, order, trust) for stiff in stiffness]
    near = [
        (((values - curve) / np.maximum(noise, _NO_NOISE)[:, None]) ** 2).mean() <= CALMED**2
        for curve in curves
    ]
    curves = curves[: near.index(False) if False in near else None]
    errors = []
    for stiff in stiffness[: len(curves)]:
        error = np.zeros(count)
        for fold in range(FOLDS):
            rest = weight.copy()
            rest[fold::FOLDS] = 0
            curve = _solved(values, rest, stiff, order, trust)
            error[fold::FOLDS] = (((values - curve) ** 2).sum(1) * weight)[fold::FOLDS]
        errors.append(error)
    if not errors:
        return values + middle
    bound = _bound(errors)
    best = int(np.argmin([np.minimum(own, bound).mean() for own in errors]))
    return curves[best] + middle


def no_worse(one: Curve, other: Curve) -> bool:
    """Whether a curve predicts values about as well as another one, or better."""
    if not len(one.error) or len(one.error) != len(other.error):
        return True
    bound = _bound([one.error, other.error])
    return _no_worse(np.minimum(one.error, bound), np.minimum(other.error, bound))


def stiffness_of(length: float, order: int) -> float:
    """The factor lambda for a length in frames."""
    return (_GAIN[order] * length) ** (2 * order)


def _lengths(longest: float) -> list[float]:
    """Lengths to try, the longest first, each half of the one before."""
    lengths = [float(longest)]
    while lengths[-1] / 2 >= SHORTEST:
        lengths.append(lengths[-1] / 2)
    return lengths


def _no_worse(one: np.ndarray, other: np.ndarray, timidity: float = TIMIDITY) -> bool:
    more = one - other
    return bool(more.mean() <= timidity * more.std() / np.sqrt(len(more)) + 1e-12)


def _bound(errors: Sequence[np.ndarray]) -> float:
    """Errors beyond it are outliers, which should not decide."""
    least = min(float(np.median(own)) for own in errors)
    return 9 * MAD_TO_SPREAD**2 * least if least > EXACT else np.inf


def _prediction_errors(
    values: np.ndarray, known: np.ndarray, length: float, order: int, trust: np.ndarray | None
) -> np.ndarray:
    """[m]: the squared error at each known value of a curve that was made without it."""
    places = np.flatnonzero(known)
    if len(places) < FOLDS:
        return np.zeros(len(places))
    errors = np.zeros(len(places))
    for fold in range(FOLDS):
        out = places[fold::FOLDS]
        rest = known.copy()
        rest[out] = False
        curve = smooth(values, rest, length, order, trust)
        errors[fold::FOLDS] = ((values[out] - curve[out]) ** 2).sum(1)
    return errors


def spread_of(distance: np.ndarray) -> float:
    """The spread of distances [n] from a middle, robust: from their median; 0 of none."""
    return float(MAD_TO_SPREAD * np.median(distance)) if len(distance) else 0.0


def _interpolated(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    places = np.arange(len(values))
    return np.stack([np.interp(places, places[known], own[known]) for own in values.T], axis=1)


def _solved(
    values: np.ndarray, weight: np.ndarray, stiffness: float, order: int, trust: np.ndarray | None
) -> np.ndarray:
    """The minimum for given weights: a banded, positive definite system of linear equations."""
    count = len(values)
    order = min(order, count - 1)
    bands = np.zeros((order + 1, count))  # the lower form: bands[k, j] is the entry (j + k, j)
    bands[0] = weight + 1e-12  # against rounding: the rest is positive definite with two values
    difference = np.diff(np.eye(order + 1), n=order, axis=0)[0] if order else np.zeros(1)
    rows = count - order
    trusted = np.ones(rows) if trust is None or len(trust) != rows else np.asarray(trust)
    for i in range(order + 1):
        for j in range(i + 1):
            bands[i - j, j : j + rows] += stiffness * trusted * difference[i] * difference[j]
    return solveh_banded(bands, weight[:, None] * values, lower=True)
