"""The one door that every value comes in by.

What a node is given is checked against what it declares, whether the host runs it or another pack
calls it. The checks of a class are made once, from its INPUT_TYPES, and put before its own methods.
A node says what they cannot know with attributes of its class:

- `TAKES_NONE`: names of required inputs that may be None.
- `HANDS_ON`: the node only puts parts together or takes them apart. What uses a part checks it.
- `USES_PARTS`: names of the parts that it uses of pipes, where it does not use all.
- `VALIDATE_INPUTS`, as for the host: choices that it names take values of no list.

See `validate_values.py` for settings, among them what is brought into its range and what is
refused, and `validate_links.py` for all other types. Inputs that the host evaluates on demand
(`lazy`) may be None; hidden ones and those of any type are left alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...utils.check import described, known_to_be_good
from . import validate_values
from .validate_links import HANDED_ON, KINDS
from .validate_values import Check, Input

_SETTINGS: dict[str, Callable[[Input], Check]] = {
    "INT": validate_values.whole_number,
    "FLOAT": validate_values.real_number,
    "BOOLEAN": validate_values.boolean,
    "STRING": validate_values.text,
}
_LOOKED_INTO = ("IMAGE", "MASK", "SEGS")  # types of which every number is looked at here
_MOST_NUMBERED = 10_000  # numbered inputs whose checks are kept
# Types of which None is a value: a loader may have no CLIP, and empty SEGS have no SEG.
_MAY_LACK = frozenset({"CLIP", "SEG_ELT", "SEG_ELT_control_net_wrapper"})
_ALL = "*"


@dataclass(frozen=True)
class _Rule:
    """What is done with the value of an input."""

    check: Check
    kind: str
    optional: bool  # None is as if nothing were connected
    none: bool  # None is a value
    setting: bool = False  # of the node, rather than a link alone


class Door:
    """The checks of a node class."""

    def __init__(self, node: type, title: str) -> None:
        self.title = title
        self._node = node
        self.is_list = bool(getattr(node, "INPUT_IS_LIST", False))
        self._free = _free_choices(node)
        self._takes_none = frozenset(getattr(node, "TAKES_NONE", ()))
        hands_on = getattr(node, "HANDS_ON", False)
        self._kinds = {**KINDS, **_SETTINGS, **(HANDED_ON if hands_on else {})}
        self._may_lack = _MAY_LACK | ({"CONDITIONING"} if hands_on else frozenset())
        groups = node.INPUT_TYPES()
        self._groups = {name: groups.get(name, {}) for name in ("required", "optional")}
        self._rules = {
            name: self._rule(name, entry, group)
            for group, entries in self._groups.items()
            for name, entry in entries.items()
        }

    def names(self) -> list[str]:
        """The inputs that are declared, numbered ones as far as they are listed."""
        return [name for group in self._groups.values() for name in group.keys()]  # noqa: SIM118

    def declaration(self, name: str) -> tuple:
        """What an input's checks are made of: the same for inputs that are declared alike."""
        group = next(group for group, entries in self._groups.items() if name in entries)
        kind, options = (*self._groups[group][name], {})[:2]
        matter = ("min", "max", "label_on", "label_off", "forceInput", "lazy")
        return (
            repr(kind), *(repr(options.get(option)) for option in matter), group, self.is_list,
            self._free(name), name in self._takes_none, "negative" in name,
            name in validate_values.NAMES_FILES | validate_values.NAMES_SOMETHING,
            getattr(self._node, "HANDS_ON", False), getattr(self._node, "USES_PARTS", None),
        )  # fmt: skip

    def admit(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """The inputs as the node is to have them, and those whose contents have been looked at.

        Raises:
            ValueError: one is not of its kind. It names node, input, value and what is wanted.
        """
        admitted, known = {}, []
        for name, value in inputs.items():
            rule = self._rules.get(name) or self._numbered(name)
            if rule is None:
                admitted[name] = value
                continue
            if value is None and rule.optional and (self.is_list or not rule.none):
                continue  # the node's own default, as where nothing is connected
            if self.is_list or value is not None or not rule.none:
                try:
                    value = self._each(name, rule, value) if self.is_list else rule.check(value)
                except ValueError as error:
                    raise ValueError(f"{self.title}: {error}") from error
                if rule.kind in _LOOKED_INTO:
                    known.extend(value if self.is_list else (value,))
            admitted[name] = value
        return admitted, known

    def _each(self, name: str, rule: _Rule, values: Any) -> list[Any]:
        if not isinstance(values, (list, tuple)):
            raise ValueError(
                f"'{name}' should be a list of values but is {described(values)}. Give this node "
                "lists, as ComfyUI does."
            )
        if rule.setting and not values:
            raise ValueError(f"'{name}' is an empty list. Connect at least one value.")
        return [value if value is None and rule.none else rule.check(value) for value in values]

    def _rule(self, name: str, entry: tuple, group: str) -> _Rule | None:
        kind, options = (*entry, {})[:2]
        optional, lazy = group == "optional", bool(options.get("lazy"))
        check = self._check(name, kind, options)
        if check is None:
            return _Rule(_as_it_is, _ALL, False, True) if self.is_list else None
        kind = "COMBO" if isinstance(kind, list) else kind
        none = lazy or name in self._takes_none or kind in self._may_lack
        setting = (kind == "COMBO" or kind in _SETTINGS) and not options.get("forceInput")
        return _Rule(check, kind, optional, none, setting)

    def _check(self, name: str, kind: Any, options: Mapping[str, Any]) -> Check | None:
        declared = Input(name, options, getattr(self._node, "USES_PARTS", None))
        if isinstance(kind, list):
            if self._free(name):
                return validate_values.free_choice(declared)
            return validate_values.choice(declared, functools.partial(self._entries, name))
        make = self._kinds.get(kind)
        return make and make(declared)

    def _entries(self, name: str) -> list[Any]:
        """The choices of an input as they are now."""
        groups = self._node.INPUT_TYPES()
        return {**groups.get("optional", {}), **groups.get("required", {})}[name][0]

    def _numbered(self, name: str) -> _Rule | None:
        """The rule of an input of which there is any number, made when it is first used."""
        for group, entries in self._groups.items():
            if name in entries:
                rule = self._rule(name, entries[name], group)
                if len(self._rules) < _MOST_NUMBERED:
                    self._rules[name] = rule
                return rule
        return None


def _as_it_is(value: Any) -> Any:
    return value


def _free_choices(node: type) -> Callable[[str], bool]:
    """Whether a node checks the choice of an input by itself."""
    check = getattr(node, "VALIDATE_INPUTS", None)
    if check is None:
        return lambda name: False
    spec = inspect.getfullargspec(check)
    return lambda name: spec.varkw is not None or name in spec.args


_titles: dict[type, str] = {}


@functools.cache
def door_of(node: type) -> Door:
    """The door of a node class, or of a class that another pack has derived from one."""
    title = next((_titles[base] for base in node.__mro__ if base in _titles), node.__name__)
    return Door(node, title)


def guard(node: type, title: str) -> None:
    """Put the door before the methods of a node class that take its inputs, in place.

    Args:
        title: what errors call the node.
    """
    _titles[node] = title
    for name in {node.FUNCTION, "doit", "check_lazy_status"}:
        method = getattr(node, name, None)
        if method is not None and not hasattr(method, "behind_door"):
            setattr(node, name, _behind_door(method))


def _behind_door(method: Callable) -> Callable:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    names = [item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD]

    @functools.wraps(method)
    def run(self: Any, *args: Any, **inputs: Any) -> Any:
        given = dict(zip(names, args, strict=False))
        if len(given) < len(args) or given.keys() & inputs.keys():
            return method(self, *args, **inputs)  # which raises what Python says of such calls
        admitted, known = door_of(type(self)).admit({**given, **inputs})
        with known_to_be_good(known):
            return method(self, **admitted)

    run.behind_door = True
    return run
