"""Who is who: likeness, and the best way to name everything at once."""

import itertools

import numpy as np
import pytest
import torch
from detailers.core.segs.who import assign, similarities
from hypothesis import given, settings
from hypothesis import strategies as st

A, B, C = 0, 1, 2


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


# Likeness


def test_likeness_is_the_cosine():
    seen = torch.tensor([[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    known = torch.tensor([[10.0, 0.0], [0.0, 0.1]])
    found = similarities(seen, [0, 1, 2], known, [A, B])
    root = 0.5**0.5
    torch.testing.assert_close(found, matrix([1, 0], [root, root], [-1, 0]))


def test_the_most_alike_of_a_persons_pictures_counts():
    known = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    found = similarities(torch.tensor([[0.0, 2.0]]), [0], known, [A, B, A])
    torch.testing.assert_close(found, matrix([0.8, 1.0]))


def test_the_mean_of_several_sights_counts():
    """As of one thing in several frames of a video."""
    seen = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    known = torch.tensor([[1.0, 0.0]])
    found = similarities(seen, [1, 0, 1], known, [A])
    torch.testing.assert_close(found, matrix([0.0], [0.8]))


def test_a_vector_without_a_length_is_like_nobody():
    zero = torch.zeros(1, 3)
    assert similarities(zero, [0], torch.ones(1, 3), [A]).tolist() == [[0.0]]
    assert similarities(torch.ones(1, 3), [0], zero, [A]).tolist() == [[0.0]]


def test_nothing_seen_is_no_row():
    assert similarities(torch.zeros(0, 1), [], torch.ones(2, 3), [A, B]).shape == (0, 2)


# Naming


def test_both_get_the_best_for_both():
    """The first is most like A, but B would be lost to the second."""
    assert assign(matrix([0.9, 0.8], [0.85, 0.1]), 0.5) == [B, A]


def test_a_weak_likeness_takes_nobody_away():
    """By the sum of all likeness alone A would go to the second, and the first would be nobody."""
    assert assign(matrix([0.9, 0.45], [0.6, 0.1]), 0.5) == [A, None]


def test_the_threshold_itself_is_enough():
    assert assign(matrix([0.5, 0.2]), 0.5) == [A]
    assert assign(matrix([0.4999, 0.2]), 0.5) == [None]
    assert assign(matrix([-0.3, -0.6]), -1.0) == [A]


def test_more_segments_than_persons():
    assert assign(matrix([0.6], [0.9], [0.7]), 0.5) == [None, A, None]


def test_more_persons_than_segments():
    assert assign(matrix([0.2, 0.6, 0.9]), 0.5) == [C]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_name(shape):
    assert assign(torch.zeros(shape), 0.5) == [None] * shape[0]


def test_ties_come_out_the_same_each_time():
    tie = torch.full((4, 3), 0.7)
    found = assign(tie, 0.5)
    assert sorted(map(str, found)) == ["0", "1", "2", "None"]
    assert all(assign(tie.clone(), 0.5) == found for _ in range(5))


LIKENESS = st.integers(-1000, 1000).map(lambda value: value / 1000)


@st.composite
def matrices(draw, most=4):
    """Likeness of up to so many things and persons, no value twice."""
    things, persons = draw(st.integers(1, most)), draw(st.integers(1, most))
    values = draw(
        st.lists(LIKENESS, min_size=things * persons, max_size=things * persons, unique=True)
    )
    return np.array(values).reshape(things, persons)


def total(likeness, found, threshold):
    return sum(
        likeness[thing, person] - threshold
        for thing, person in enumerate(found)
        if person is not None
    )


@settings(max_examples=150, deadline=None)
@given(matrices(), LIKENESS)
def test_no_other_way_is_better(likeness, threshold):
    things, persons = likeness.shape
    found = assign(torch.from_numpy(likeness), threshold)
    given_away = [person for person in found if person is not None]
    assert len(set(given_away)) == len(given_away)
    assert all(likeness[t, p] >= threshold for t, p in enumerate(found) if p is not None)
    every = itertools.product([None, *range(persons)], repeat=things)
    best = max(
        total(likeness, way, threshold)
        for way in every
        if len({p for p in way if p is not None}) == sum(p is not None for p in way)
    )
    assert total(likeness, found, threshold) == pytest.approx(best, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(matrices(), LIKENESS, st.randoms(use_true_random=False))
def test_the_order_of_segments_and_persons_changes_nothing(likeness, threshold, random):
    things, persons = (list(range(count)) for count in likeness.shape)
    random.shuffle(things)
    random.shuffle(persons)
    found = assign(torch.from_numpy(likeness), threshold)
    other = assign(torch.from_numpy(likeness[things][:, persons]), threshold)
    back = [None] * len(found)
    for place, person in zip(things, other, strict=True):
        back[place] = None if person is None else persons[person]
    if back != found:  # two ways may be equally good all the same, by the sums of their values
        assert total(likeness, back, threshold) == pytest.approx(
            total(likeness, found, threshold), abs=1e-9
        )
