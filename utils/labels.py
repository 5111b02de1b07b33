"""Labels of segments, as people write them."""

from __future__ import annotations

from collections.abc import Iterable


def alike(name: str, labels: Iterable[str]) -> set[str]:
    """The labels that are the same as a name but for upper and lower case."""
    return {label for label in labels if label.casefold() == name.casefold()}
