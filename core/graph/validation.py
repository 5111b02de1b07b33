"""Input checks: every value that a node gets is checked against the node's declaration.

This is done whether ComfyUI runs the node or another pack calls it. The checks of a class are made
once from its INPUT_TYPES, and run before its own methods. A class can add to its declaration with
these attributes:

- `TAKES_NONE`: names of required inputs that may be None.
- `HANDS_ON`: the node only combines parts or separates them. The node that uses a part checks it.
- `USES_PARTS`: names of the parts of pipes that the node uses, if it does not use all.
- `VALIDATE_INPUTS`, as in ComfyUI: choices that it names may have values that are in no list.

`validate_values.py` checks settings, and `validate_links.py` all other types. Lazy inputs may be
None. Hidden inputs and inputs of any type are not checked.
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
_LOOKED_INTO = ("IMAGE", "MASK", "SEGS")  # types whose contents are checked completely here
_MOST_NUMBERED = 10_000  # the most numbered inputs whose checks are kept
# Types for which None is a value: a loader may have no CLIP, and empty SEGS have no SEG.
_MAY_LACK = frozenset({"CLIP", "SEG_ELT", "SEG_ELT_control_net_wrapper"})
_ALL = "*"


@dataclass(frozen=True)
class _Rule:
    """How the value of an input is checked."""

    check: Check
    kind: str
    optional: bool  # None means that nothing is connected
    none: bool  # None is a value
    setting: bool = False  # the input is a setting that has a widget


class InputChecks:
    """The checks for the inputs of a node class."""

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
        """The names of the declared inputs; of numbered inputs, those that are listed."""
        return [name for group in self._groups.values() for name in group.keys()]  # noqa: SIM118

    def declaration(self, name: str) -> tuple:
        """The key of an input's check: inputs with equal keys are checked in the same way."""
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
        """Check the inputs of a call.

        Returns:
            The inputs that the node gets, and the values whose contents were checked completely.

        Raises:
            ValueError: a value is not what its input takes. The text names node, input and value,
                and says what the input takes.
        """
        admitted, known = {}, []
        for name, value in inputs.items():
            rule = self._rules.get(name) or self._numbered(name)
            if rule is None:
                admitted[name] = value
                continue
            if value is None and rule.optional and (self.is_list or not rule.none):
                continue  # the node uses its default, as if nothing were connected
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
                f"'{name}' should be a list of values but is {described(values)}. Pass lists to "
                "this node, as ComfyUI does."
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
        """The present choices of an input."""
        groups = self._node.INPUT_TYPES()
        return {**groups.get("optional", {}), **groups.get("required", {})}[name][0]

    def _numbered(self, name: str) -> _Rule | None:
        """The rule of a numbered input. It is made when the input is first used."""
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
    """Whether a node checks the choice of an input itself."""
    check = getattr(node, "VALIDATE_INPUTS", None)
    if check is None:
        return lambda name: False
    spec = inspect.getfullargspec(check)
    return lambda name: spec.varkw is not None or name in spec.args


_titles: dict[type, str] = {}


@functools.cache
def checks_of(node: type) -> InputChecks:
    """The checks of a node class, or of a class that another pack has derived from one."""
    title = next((_titles[base] for base in node.__mro__ if base in _titles), node.__name__)
    return InputChecks(node, title)


def guard(node: type, title: str) -> None:
    """Add the checks to the methods of a node class that take its inputs, in place.

    Args:
        title: the name of the node in errors.
    """
    _titles[node] = title
    for name in {node.FUNCTION, "doit", "check_lazy_status"}:
        method = getattr(node, name, None)
        if method is not None and not hasattr(method, "checks_inputs"):
            setattr(node, name, _with_checks(method))


def _with_checks(method: Callable) -> Callable:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    names = [item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD]

    @functools.wraps(method)
    def run(self: Any, *args: Any, **inputs: Any) -> Any:
        given = dict(zip(names, args, strict=False))
        if len(given) < len(args) or given.keys() & inputs.keys():
            return method(self, *args, **inputs)  # which raises Python's error for such calls
        admitted, known = checks_of(type(self)).admit({**given, **inputs})
        with known_to_be_good(known):
            return method(self, **admitted)

    run.checks_inputs = True
    return run
