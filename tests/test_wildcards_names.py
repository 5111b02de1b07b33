"""wildcards/names.py: every name that is offered can be read by the language."""

import pytest
from detailers.wildcards.grammar import expand
from detailers.wildcards.names import list_name, pattern_name
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Hair\\My List", "hair/my-list"),
        ("hair (long)", "hair-(long)"),
        ("a__b", "a_b"),
        ("__a__", "a"),
        ("{a|b}", "-a-b-"),
        ("a*b", "a-b"),
        ("$$", "-"),
        ("two\nlines", "two-lines"),
        ("cafe\u0301", "caf\u00e9"),
        ("__", "-"),
    ],
)
def test_names(file, name):
    assert list_name(file) == name


class One:
    """A library with a single list."""

    def __init__(self, name):
        self.name, self.size = name, 1

    def look(self, _budget=None):
        return self

    def options(self, name):
        return ["found"] if pattern_name(name) == self.name else []


@settings(max_examples=1000, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_any_files_name_is_found_again(file):
    name = list_name(file)
    assert list_name(name) == pattern_name(name) == name
    assert expand(f"a __{name}__", 0, One(name)) == "a found"
    assert expand(f"{{__{name}__}}", 0, One(name)) == "found"
    assert expand(f"2#__{name}__", 0, One(name)) == "found, found"
    assert expand(f"{{2$$, $$__{name}__|b}}", 0, One(name)) in ("found, b", "b, found")
