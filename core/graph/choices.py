"""Inputs that are a choice of a list: which links they take."""

from __future__ import annotations

import functools
from typing import Any


class Choices(list):
    """The entries of a choice, as the type of an input or output.

    The host takes a link where the two types are not unequal. To it, this one is like every other
    choice, whatever that one's entries are, as it is to the editor. What then comes over the link
    is checked when the node runs, see `validation.py`.
    """

    def __ne__(self, other: object) -> bool:
        return not (isinstance(other, list) or other == "COMBO")


class LiveType:
    """Types of outputs that are asked for when they are needed, as an attribute of a class."""

    def __init__(self, types_of: Any) -> None:
        self._types_of = types_of

    def __get__(self, instance: object, owner: type) -> tuple:
        return self._types_of()


def open_choices(node: type) -> None:
    """Have a node take links from any other choice. What comes over them is checked at the door."""
    if "INPUT_TYPES" not in vars(node):  # it has them from one that takes them
        return
    declared = vars(node)["INPUT_TYPES"].__func__

    @functools.wraps(declared)
    def input_types(cls: type) -> dict[str, Any]:
        groups = declared(cls)
        for group in groups.values():
            for name, entry in list(group.items()):
                if isinstance(entry, tuple) and isinstance(entry[0], list):
                    group[name] = (Choices(entry[0]), *entry[1:])
        return groups

    node.INPUT_TYPES = classmethod(input_types)
