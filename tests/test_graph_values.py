"""core/graph/values.py: comparisons, conversions, sizes."""

from decimal import Decimal

import numpy as np
import pytest
import torch
from detailers.core.graph.values import (
    COMPARISONS,
    OPERATORS,
    compare,
    converted,
    equal,
    image_size,
    latent_size,
    least_or_most,
    read_as,
    type_name,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 2, [False, True, False, True, False, True, True, False]),
        (2, 2.0, [True, False, False, False, True, True, True, False]),
        ("b", "a", [False, True, True, False, True, False, True, False]),
    ],
)
def test_comparisons(a, b, expected):
    assert [compare(how, a, b) for how in COMPARISONS] == expected


def test_values_without_an_order_are_told():
    with pytest.raises(ValueError, match=r"'cmp' is 'a > b'.* 'a' is a str and 'b' is a int"):
        compare("a > b", "x", 1)
    with pytest.raises(ValueError, match=r"'mode' is 'max'.*two numbers"):
        least_or_most(True, None, 1)


def test_anything_can_be_equal():
    assert equal(torch.ones(2, 3), torch.ones(2, 3)) is True
    assert equal(torch.ones(2, 3), torch.ones(3, 2)) is False
    assert equal(torch.ones(1), 1) is False
    assert equal(None, None) is True
    assert compare("a <> b", torch.ones(2), torch.zeros(2)) is True


def test_operators():
    pairs = [(False, False), (False, True), (True, False), (True, True)]
    truths = {name: [how(a, b) for a, b in pairs] for name, how in OPERATORS.items()}
    assert truths == {
        "and": [False, False, False, True],
        "or": [False, True, True, True],
        "xor": [False, True, True, False],
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, ("True", 1.0, 1, True)),
        (0, ("0", 0.0, 0, False)),
        (-2.75, ("-2.75", -2.75, -2, True)),
        ("1.5e1", ("1.5e1", 15.0, 15, True)),
        ("false", ("false", 0.0, 0, False)),
        ("cat", ("cat", 1.0, 1, True)),
        ("nan", ("nan", 1.0, 1, True)),
        (None, ("None", 1.0, 1, True)),
        (2**63 - 1, (str(2**63 - 1), float(2**63), 2**63 - 1, True)),
        (10**400, (str(10**400), 1.0, 10**400, True)),
    ],
)
def test_conversions(value, expected):
    assert converted(value) == expected
    assert [type(part) for part in converted(value)] == [str, float, int, bool]


@given(st.one_of(st.integers(), st.floats(), st.text(), st.booleans(), st.none()))
def test_every_value_converts(value):
    text, number, whole, truth = converted(value)
    assert text == str(value)
    assert truth == (number != 0)
    assert isinstance(whole, int)


def test_values_are_read_as_their_type():
    assert read_as("INT", "12") == 12
    assert read_as("INT", "12.9") == 12
    assert read_as("INT", str(2**63 - 1)) == 2**63 - 1
    assert read_as("FLOAT", "1e-3") == 0.001
    assert read_as("STRING", " 1 ") == " 1 "
    assert [read_as("BOOLEAN", text) for text in ("True", "1", "False", "0", "")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"'value' is 'x', which cannot be read as INT"):
        read_as("INT", "x")


def test_what_was_sent_is_what_is_read():
    for value in (True, False, 3, -0.25, "a b"):
        sent = read_as(type_name(value), str(value))
        assert sent == value
        assert type(sent) is type(value)
    assert type_name(torch.ones(1)) is None


def test_sizes():
    assert image_size(torch.zeros(2, 5, 7, 4)) == (2, 5, 7, 4)
    assert latent_size({"samples": torch.zeros(2, 4, 5, 7)}) == (2, 40, 56, 4)
    video = {"samples": torch.zeros(1, 16, 3, 5, 7), "downscale_ratio_spacial": 16}
    assert latent_size(video) == (1, 80, 112, 16)


def test_arrays_are_compared_value_by_value():
    assert equal(np.array([1, 2]), np.array([1, 2]))
    assert not equal(np.array([1, 2]), np.array([1, 3]))
    assert not equal(np.array([1, 2]), np.array([1]))
    assert not equal(np.array([1, 2]), [1, 2])
    for ask in (lambda a, b: compare("a > b", a, b), lambda a, b: least_or_most(True, a, b)):
        for a, b in ((np.array([1, 2]), 3), (Decimal("NaN"), Decimal(1))):
            with pytest.raises(ValueError, match="which cannot be compared"):
                ask(a, b)


def test_what_cannot_be_shown_is_named():
    class Odd:
        def __str__(self):
            raise RuntimeError

    assert converted(Odd())[0] == "a Odd that cannot be shown"
