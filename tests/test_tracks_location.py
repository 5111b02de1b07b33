"""core/tracks/location.py: the middle of inexact values, whatever the shape of their errors is."""

import numpy as np
import pytest
from detailers.core.tracks.location import location, power_of

TRIALS, COUNT = 400, 40


def drawn(kind):
    """[TRIALS,4,COUNT]: errors with a spread of 1, of four sides in COUNT frames."""
    random = np.random.default_rng(5)
    size = (TRIALS, 4, COUNT)
    if kind == "uniform":
        return random.uniform(-(3**0.5), 3**0.5, size)
    if kind == "normal":
        return random.normal(0, 1, size)
    return random.laplace(0, 0.5**0.5, size)


@pytest.mark.parametrize(
    ("kind", "least", "most"), [("uniform", 0.3, 0.55), ("normal", 0.95, 1.04), ("laplace", 0.7, 1)]
)
def test_it_is_never_worse_than_the_mean_and_better_where_errors_are_not_normal(kind, least, most):
    errors = drawn(kind)
    found = [[location(own, power_of(trial)) for own in trial] for trial in errors]
    ratio = np.sqrt(np.square(found).mean() / np.square(errors.mean(-1)).mean())
    assert least < ratio < most


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("uniform", 8, 12), ("normal", 1.7, 2.4), ("laplace", 1, 1.3)]
)
def test_the_power_is_that_of_the_errors(kind, low, high):
    errors = drawn(kind).reshape(4, -1) * [[1], [2], [5], [0.1]] + [[3], [0], [-9], [1]]
    assert low <= power_of(errors) <= high


def test_the_location_is_the_mean_the_median_or_the_middle_of_the_range():
    values = np.array([0.0, 1, 2, 3, 10])
    assert location(values, 2.0) == pytest.approx(3.2, abs=1e-6)
    assert location(values, 1.0) == pytest.approx(2.0, abs=0.1)
    # at a power of 12: where 10 - x and x - 0 to the 11th, with the other pulls, are equal
    assert location(values, 12.0) == pytest.approx(4.89, abs=0.15)


def test_weights_count():
    values, weight = np.array([0.0, 4.0]), np.array([3.0, 1.0])
    assert location(values, 2.0, weight) == pytest.approx(1.0)


def test_one_value_and_equal_values_are_themselves():
    assert location(np.array([2.5]), 3.0) == 2.5
    assert location(np.full(4, -1.0), 12.0) == -1.0
    assert power_of([np.array([2.5]), np.full(4, 1.0)]) == 2.0


def test_wrong_boxes_count_less_than_in_the_mean():
    random = np.random.default_rng(2)
    values = random.normal(0, 1, 40)
    values[::10] += 15
    found = location(values, power_of([values]))
    assert abs(found) < 0.5 < values.mean()
