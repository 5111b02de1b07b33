"""Numbered inputs, of which a node has any number: stem1, stem2, ...

The editor only knows the first one, and adds others when they are connected. ComfyUI checks every
input of a prompt, and so it has to know all numbered inputs that the prompt uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LIMIT = 10_000
_ENDS_IN_A_NUMBER = re.compile(r"\D+([1-9]\d{0,5})")
_used: set[int] = set()


def expect_numbered(names: Iterable[str]) -> None:
    """Declare those of these names that are numbered inputs, so that ComfyUI checks them."""
    if len(_used) > _LIMIT:
        _used.clear()
    for name in names:
        match = _ENDS_IN_A_NUMBER.fullmatch(name)
        if match:
            _used.add(int(match[1]))


def used_numbers() -> list[int]:
    """The numbers of the numbered inputs that recent prompts have used."""
    return sorted(_used)
