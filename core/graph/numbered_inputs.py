"""Inputs that a node has any number of: stem1, stem2, ...

The editor hears of the first alone, and adds the others as they are connected. The host, which
checks a prompt input by input, has to hear of all that the prompt uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LIMIT = 10_000
_ENDS_IN_A_NUMBER = re.compile(r"\D+([1-9]\d{0,5})")
_used: set[int] = set()


def expect_numbered(names: Iterable[str]) -> None:
    """Have the host check the inputs of these names, where they are numbered."""
    if len(_used) > _LIMIT:
        _used.clear()
    for name in names:
        match = _ENDS_IN_A_NUMBER.fullmatch(name)
        if match:
            _used.add(int(match[1]))


def used_numbers() -> list[int]:
    """The numbers of inputs that recent prompts use."""
    return sorted(_used)
