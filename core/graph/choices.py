"""Links to inputs that are a choice from a list."""

from __future__ import annotations

import functools
from typing import Any


class Choices(list):
    """The entries of a choice, as the type of an input or output.

    ComfyUI accepts a link if `!=` of the two types is False. This type is equal to every other
    choice, whatever its entries are; the editor does the same. The value that comes over the link
    is checked when the node runs, see `validation.py`.
    """

    def __ne__(self, other: object) -> bool:
        return not (isinstance(other, list) or other == "COMBO")


class LiveType:
    """An attribute of a class for types of outputs that are computed each time they are read."""

    def __init__(self, types_of: Any) -> None:
        self._types_of = types_of

    def __get__(self, instance: object, owner: type) -> tuple:
        return self._types_of()


def open_choices(node: type) -> None:
    """Let a node take links from any other choice. The values are checked when the node runs."""
    if "INPUT_TYPES" not in vars(node):  # its base class has been changed already
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
