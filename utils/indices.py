"""Indices as people write them: "1, 4-6"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .check import quoted

Ranges = list[tuple[int, int]]  # first and last index of each, in rising order, apart from another

_APART = r"[\s,;，、；]+"
_ENTRY = re.compile(rf"([0-9]+)(?:\s*[-–]\s*([0-9]+))?(?:{_APART}|$)")
_DIGITS = 18  # of an index that are read; one with more is beyond any list


def read_indices(text: str, name: str) -> Ranges:
    """The ranges that a text names.

    Args:
        text: indices and ranges such as 4-6, both ends included and in either order, with commas,
            semicolons or blanks between them; blank for none.
        name: the input's name, for the error.

    Raises:
        ValueError: there is something else in it.
    """
    text = re.sub(rf"^{_APART}", "", text)
    ends: Ranges = []
    at = 0
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise ValueError(
                f"'{name}' has {quoted(text[at:])}, which does not begin with an index. Write the"
                " indices of segments, which count from 0, and ranges of them: 1, 4-6."
            )
        first, last = _index(entry[1]), _index(entry[2] or entry[1])
        ends.append((min(first, last), max(first, last)))
        at = entry.end()
    return _joined(ends)


def _index(digits: str) -> int:
    digits = digits.lstrip("0") or "0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS


def _joined(ends: Ranges) -> Ranges:
    """Ranges in rising order, those that overlap or touch as one."""
    joined: Ranges = []
    for first, last in sorted(ends):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def indices_within(ranges: Sequence[tuple[int, int]], count: int) -> list[int]:
    """The indices of ranges that a list of `count` entries has, rising."""
    return [index for first, last in ranges for index in range(first, min(last + 1, count))]


def written_indices(indices: Iterable[int]) -> str:
    """Indices as `read_indices` reads them: three and more in a row as a range."""
    entries = []
    for first, last in _joined([(index, index) for index in indices]):
        if last - first < 2:
            entries += [str(index) for index in range(first, last + 1)]
        else:
            entries.append(f"{first}-{last}")
    return ", ".join(entries)


def shown_indices(numbers: Sequence[int], most: int) -> str:
    """Numbers for a message: the first ones of many, such as "1, 2 and 7 more"."""
    more = len(numbers) - most
    return ", ".join(map(str, numbers[:most])) + (f" and {more} more" if more > 0 else "")
