"""Inputs that are a choice of a list: links into them, and what comes over these."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any


class Choices(list):
    """The entries of a choice, as the type of an input or output.

    The host takes a link where the two types are not unequal. To it, this one is like every other
    choice, whatever that one's entries are, as it is to the editor. What then comes over the link
    is checked when the node runs, see `open_choices`.
    """

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return list.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not (isinstance(other, list) or other == "COMBO")


class LiveType:
    """Types of outputs that are asked for when they are needed, as an attribute of a class."""

    def __init__(self, types_of: Any) -> None:
        self._types_of = types_of

    def __get__(self, instance: object, owner: type) -> tuple:
        return self._types_of()


def open_choices(node: type) -> None:
    """Have a node take links from any other choice, and check what comes over them.

    A node that has a `VALIDATE_INPUTS` for a choice takes other values than the listed ones too.
    """
    if "INPUT_TYPES" in vars(node):
        _open_input_types(node)
    name = getattr(node, "FUNCTION", None)
    if name in vars(node):
        setattr(node, name, _with_checked_choices(node, vars(node)[name]))


def _open_input_types(node: type) -> None:
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


def _with_checked_choices(node: type, function: Any) -> Any:
    @functools.wraps(function)
    def run(self: Any, *args: Any, **inputs: Any) -> Any:
        check_choices(type(self), inputs)
        return function(self, *args, **inputs)

    return run


def check_choices(node: type, inputs: Mapping[str, Any]) -> None:
    """Refuse values that are none of an input's choices.

    Raises:
        ValueError: it names the input and its choices.
    """
    groups = node.INPUT_TYPES()
    free = _checked_by_the_node(node)
    for group in ("required", "optional"):
        for name, entry in groups.get(group, {}).items():
            if name not in inputs or not isinstance(entry[0], list) or free(name):
                continue
            given = inputs[name]
            values = given if getattr(node, "INPUT_IS_LIST", False) else [given]
            for value in values if isinstance(values, Iterable) else [values]:
                if value is not None and value not in entry[0]:
                    raise ValueError(
                        f"'{name}' is {value!r}, which this ComfyUI does not have. Choose one of: "
                        f"{', '.join(map(str, entry[0])) or 'there are none'}."
                    )


def _checked_by_the_node(node: type) -> Any:
    check = getattr(node, "VALIDATE_INPUTS", None)
    if check is None:
        return lambda name: False
    spec = inspect.getfullargspec(check)
    return lambda name: spec.varkw is not None or name in spec.args
