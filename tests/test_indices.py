"""utils/indices.py: indices as people write them."""

import pytest
from detailers.utils.indices import indices_within, read_indices, shown_indices, written_indices
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", []),
        (" ,; \n", []),
        ("3", [(3, 3)]),
        ("1, 4-6", [(1, 1), (4, 6)]),
        ("6 - 4;1", [(1, 1), (4, 6)]),
        ("4\n5 , 6, 5-9", [(4, 9)]),
        (", 007，8、9–10,", [(7, 10)]),
        ("0-999999999999999999999999", [(0, 10**18)]),
    ],
)
def test_what_people_write_is_read(text, ranges):
    assert read_indices(text, "off") == ranges


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("-1", "'-1'"),
        ("1, two", "'two'"),
        ("4-", "'4-'"),
        ("1.5", "'1.5'"),
        ("2-3-4", "'2-3-4'"),
        ("٣", "'٣'"),
    ],
)
def test_anything_else_is_an_error_that_says_where(text, rest):
    with pytest.raises(ValueError, match=f"'off' has {rest}, which does not begin with an index"):
        read_indices(text, "off")


def test_a_range_is_cut_to_what_is_there_before_it_is_counted_up():
    assert indices_within(read_indices("2, 5-99999999999999999999", "off"), 8) == [2, 5, 6, 7]
    assert indices_within([(3, 9)], 3) == []


@pytest.mark.parametrize(
    ("indices", "text"),
    [([], ""), ([5], "5"), ([2, 1], "1, 2"), ([4, 6, 5, 1, 5], "1, 4-6"), (range(3), "0-2")],
)
def test_three_in_a_row_are_written_as_a_range(indices, text):
    assert written_indices(indices) == text


@given(st.sets(st.integers(0, 60), max_size=40))
def test_what_is_written_reads_as_it_was(indices):
    text = written_indices(indices)
    assert indices_within(read_indices(text, "off"), 61) == sorted(indices)
    assert written_indices(indices_within(read_indices(text, "off"), 61)) == text


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=9), st.integers(0, 35))
def test_ranges_name_what_lies_between_their_ends(ends, count):
    text = ";".join(f" {first} - {last}" for first, last in ends)
    named = {i for a, b in ends for i in range(min(a, b), max(a, b) + 1)}
    assert indices_within(read_indices(text, "off"), count) == sorted(i for i in named if i < count)


def test_the_first_of_many_indices_are_shown():
    assert shown_indices([7, 2, 9], 3) == "7, 2, 9"
    assert shown_indices([7, 2, 9], 2) == "7, 2 and 1 more"
