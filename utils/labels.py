"""Labels of segments, as people write them."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_SHOWN = 20


def alike(name: str, labels: Iterable[str]) -> set[str]:
    """The labels that differ from a name at most in upper and lower case."""
    return {label for label in labels if label.casefold() == name.casefold()}


def listed(labels: Iterable[str], form: str = "'{:.60}'") -> str:
    """Labels for a message: sorted, and only the first few of many.

    Args:
        form: the format of each label.
    """
    shown = [form.format(label) for label in sorted(labels)]
    more = len(shown) - _MOST_SHOWN
    return ", ".join(shown[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
