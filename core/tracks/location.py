"""Where the middle of inexact values is, for errors of any shape.

The mean is the best estimate only where errors are normally distributed. If they have long tails,
the values in the middle tell more; if they are bounded, such as those of boxes that are rounded to
a grid, the outermost ones do: the error of their middle falls as 1/n and not as the root of it. So
the shape of the errors is estimated along: they are taken as distributed by exp(-|x|^p), the
generalized normal distribution (M. Subbotin, 1923). The power p follows from their kurtosis, and
the location is then that of the largest likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

POWERS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0)  # 1: Laplace, 2: normal
ROUNDS = 60
STEP = 0.3  # spreads that a round goes at most
NEAR = 0.05  # spreads below which a distance counts as this one


def power_of(samples: Sequence[np.ndarray]) -> float:
    """The power p of errors, from their kurtosis, of all samples [n] together; 1..12.

    Each sample has a mean and a spread of its own.
    """
    ratios = [own - own.mean() for own in samples]
    ratios = [own / own.std() for own in ratios if own.size > 1 and own.std() > 0]
    if not ratios:
        return 2.0
    found = float((np.concatenate(ratios) ** 4).mean())
    # np.interp wants rising values, and a larger power has a lower kurtosis
    return float(np.interp(-found, [-_kurtosis(power) for power in POWERS], POWERS))


def _kurtosis(power: float) -> float:
    gamma = (math.lgamma(times / power) for times in (5, 1, 3))
    fifth, first, third = gamma
    return math.exp(fifth + first - 2 * third)


def location(values: np.ndarray, power: float, weight: np.ndarray | None = None) -> float:
    """The place with the least sum of weight * |value - place|^power.

    Args:
        values: [n], at least one.
        power: at least 1.
        weight: [n]; None is 1 for all.
    """
    weight = np.ones(len(values)) if weight is None else weight
    start = float(np.median(values))
    spread = float(np.abs(values - start).mean())
    if spread <= 0:
        return start
    ratios, place = (values - start) / spread, 0.0
    for _ in range(ROUNDS):
        away = ratios - place
        distance = np.maximum(np.abs(away), NEAR)
        pull = weight * distance ** (power - 2)
        # above 2 a step of reweighted least squares goes too far: Newton's is shorter
        step = float((pull * away).sum() / pull.sum()) / max(power - 1, 1.0)
        place += min(max(step, -STEP), STEP)
        if abs(step) < 1e-9:
            break
    return start + spread * place
