"""core/tracks/smoothing.py: curves through values with noise, gaps and outliers."""

import numpy as np
import pytest
from detailers.core.tracks import smoothing
from detailers.core.tracks.smoothing import fitted, no_worse, smooth, steady
from hypothesis import given, settings
from hypothesis import strategies as st

ALL = np.ones


def noise(count, columns=1, seed=0):
    return np.random.default_rng(seed).normal(size=(count, columns))


@pytest.mark.parametrize(("order", "length"), [(1, 12), (1, 60), (2, 9), (2, 25), (2, 60)])
def test_noise_falls_as_with_an_average_over_the_length(order, length):
    curve = smooth(noise(8000), ALL(8000, bool), length, order)
    assert curve.var() == pytest.approx(1 / length, rel=0.2)


@given(
    count=st.integers(3, 60), slope=st.floats(-20, 20), start=st.floats(-1000, 1000),
    length=st.floats(2, 80), gaps=st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_straight_line_stays_as_it_is_up_to_both_ends_and_in_gaps(
    count, slope, start, length, gaps
):
    line = (start + slope * np.arange(count))[:, None]
    known = np.random.default_rng(gaps).random(count) > 0.4
    known[[0, -1]] = True
    values = np.where(known[:, None], line, 1e6)  # what a gap holds does not matter
    assert np.allclose(smooth(values, known, length), line, atol=1e-3 * (1 + abs(start)))


@given(st.integers(1, 40), st.integers(0, 2**31), st.floats(1, 60), st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_a_shift_of_the_values_shifts_the_curve_and_nothing_is_random(count, seed, length, order):
    values = noise(count, 2, seed)
    known = np.random.default_rng(seed).random(count) > 0.3
    known[seed % count] = True
    one = smooth(values, known, length, order)
    assert np.array_equal(one, smooth(values, known, length, order))
    assert np.allclose(smooth(values + 37.0, known, length, order), one + 37.0, atol=1e-4)
    assert np.isfinite(one).all()


def test_the_curve_has_no_lag_backwards_and_forwards_are_the_same():
    values = np.cumsum(noise(50, 2), axis=0)
    back = smooth(values[::-1], ALL(50, bool), 9)[::-1]
    assert np.allclose(back, smooth(values, ALL(50, bool), 9), atol=1e-6)


def test_an_outlier_hardly_moves_the_curve():
    values = np.linspace(0, 30, 40)[:, None] + 0.2 * noise(40)
    wrong = values.copy()
    wrong[20] += 50
    known = ALL(40, bool)
    assert np.abs(smooth(wrong, known, 15) - smooth(values, known, 15)).max() < 0.1


def test_a_length_of_1_keeps_the_values_and_fills_gaps_with_straight_lines():
    values = np.array([[0.0], [7.0], [-1.0], [3.0]])
    known = np.array([True, False, True, True])
    assert smooth(values, known, 1).tolist() == [[0.0], [-0.5], [-1.0], [3.0]]


def test_one_value_is_a_curve():
    assert smooth(np.array([[5.0, 6.0]]), np.array([True]), 25).tolist() == [[5.0, 6.0]]


def test_a_path_that_bends_gets_a_shorter_length_than_one_that_does_not():
    places = np.arange(96.0)
    straight = 2 * places[:, None] + 0.3 * noise(96)
    bent = straight + 4 * np.sin(2 * np.pi * places / 16)[:, None]
    known = ALL(96, bool)
    assert fitted(straight, known, 25).length == 25
    curve = fitted(bent, known, 25)
    assert curve.length < 7
    assert np.abs(curve.values - bent).mean() < 0.4


def test_a_step_that_is_not_trusted_may_be_large():
    values = np.r_[np.zeros(20), np.full(20, 10.0)][:, None]
    trust = np.ones(39)
    trust[19] = 1e-4
    known = ALL(40, bool)
    assert np.abs(smooth(values, known, 40, 1, trust) - values).max() < 0.05
    assert np.abs(smooth(values, known, 40, 1) - values).max() > 2


def test_of_two_curves_the_one_is_no_worse_that_predicts_values_better():
    places = np.arange(60.0)
    values = np.sin(places / 2)[:, None] * 5 + 0.1 * noise(60)
    known = ALL(60, bool)
    short, long = fitted(values, known, 3), fitted(values, known, 4)
    bad = smoothing.Curve(long.values, 50, long.error + 20)
    assert no_worse(short, bad)
    assert not no_worse(bad, short)


def test_a_curve_without_any_error_is_better_than_one_with_small_errors():
    line = 2.0 * np.arange(12.0)[:, None]
    known = ALL(12, bool)
    exact, near = fitted(line, known, 25), fitted(line + 0.3 * noise(12), known, 25)
    assert exact.error.max() < 1e-9
    assert no_worse(exact, near)
    assert not no_worse(near, exact)


# Without the noise of each frame

TIME = np.arange(64)
BENT = np.stack([20 * np.sin(TIME / 9), 0.02 * (TIME - 30.0) ** 2], 1)


def left_of(noisy, true):
    return np.sqrt(np.square(noisy - true).sum(1).mean())


def test_noise_goes_and_bends_stay():
    noisy = BENT + 0.3 * noise(64, 2)
    calm = steady(noisy, 0.3 * ALL(64), ALL(64), 25)
    assert left_of(calm, BENT) < 0.55 * left_of(noisy, BENT)


def test_what_shakes_by_itself_is_kept():
    shaky = 5 * noise(64, 2, seed=1).cumsum(0)
    calm = steady(shaky + 0.05 * noise(64, 2), 0.05 * ALL(64), ALL(64), 25)
    assert left_of(calm, shaky) < 0.15  # its steps are 7


def test_noisy_frames_are_smoothed_more_than_others():
    spread = np.where(TIME < 24, 1.0, 0.02)
    noisy = BENT + spread[:, None] * noise(64, 2)
    calm = steady(noisy, spread, ALL(64), 25)
    assert left_of(calm[:24], BENT[:24]) < 0.7 * left_of(noisy[:24], BENT[:24])
    assert left_of(calm[24:], BENT[24:]) < 0.03


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_values_can_be_steadied(count):
    values = noise(count, 2)
    found = steady(values, ALL(count), ALL(count), 25)
    assert found.shape == values.shape and np.isfinite(found).all()


def test_a_length_of_1_steadies_nothing():
    values = noise(30, 2)
    assert np.array_equal(steady(values, ALL(30), ALL(30), 1), values)
