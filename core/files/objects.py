"""Our own reader for the objects in a PyTorch file, which runs nothing of the file.

Such a file holds a program for a stack machine: Python's format for objects, protocols 2 to 5.
Python's own reader calls anything that the program names. This reader calls only the functions that
it is given. Any other name becomes a `StandIn`, which only keeps data. It shares no code with the
readers of PyTorch and Python, so a pack that replaces those has no effect on it, and it changes
nothing for other threads. It refuses those parts of the format that such files do not use.

Source: PEP 307, 3154 and 574, which describe the format.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

MOST_BYTES = 16 * 2**20  # size of a program; the largest networks have some hundred thousand
_RENAMED_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # since Python 2
_KEYS = (str, int, float, bool, bytes, type(None))  # hashing them is not recursive
_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
_COPIED = 4  # values that may be copied per byte of the program; real files have under 1
_MARK = object()


class ObjectsError(ValueError):
    """A program is damaged, or does something that such files do not do."""


class StandIn:
    """Replaces a class or function that a file names; it keeps the data and does nothing.

    Subclasses have the module and name of the class that they replace.
    """

    def __init__(self, *arguments: Any, **_options: Any) -> None:
        self.arguments = arguments


def stand_in(name: str) -> type[StandIn]:
    """The class that replaces the object with this full name."""
    module, _, own = name.rpartition(".")
    return type(own, (StandIn,), {"__module__": module, "__qualname__": own})


class Known:
    """A function of ours that replaces one that a file may name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


class Machine:
    """Runs programs that follow one another in the same bytes.

    Args:
        data: the programs.
        known: the objects for the known names: a value, or a `Known`.
        persistent: returns the object that the file stores elsewhere, by its id.

    Attributes:
        unknown: the stand-ins by the full name that they replace.
        at: the place at which the next program begins.
    """

    def __init__(
        self, data: bytes, known: Mapping[str, Any], persistent: Callable[[Any], Any]
    ) -> None:
        self.at = 0
        self.unknown: dict[str, type[StandIn]] = {}
        self._data = data
        self._known = known
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def run(self) -> Any:
        """Run the next program, and return its result.

        Raises:
            ObjectsError: the program is damaged, or does something that such files do not do.
        """
        self._stack, self._memo = [], {}
        try:
            while (step := self._byte()) != _STOP:
                own = _STEPS.get(step)
                if own is None:
                    raise ObjectsError(f"it holds the unusual instruction {step:#04x}")
                own(self)
            return self._pop()
        except ObjectsError:
            raise
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise ObjectsError(f"it is damaged at byte {self.at}: {error!r:.200}") from error

    # Bytes

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if not self.at <= end <= len(self._data):
            raise ObjectsError("it ends too early")
        part = self._data[self.at : end]
        self.at = end
        return part

    def _byte(self) -> int:
        return self._take(1)[0]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = self._data.find(b"\n", self.at, self.at + 1000)
        if end < 0:
            raise ObjectsError("a name in it does not end")
        line = self._data[self.at : end]
        self.at = end + 1
        return line.decode("utf-8")

    def _copies(self, *values: Any) -> None:
        """Count copied values, because a program may ask for many copies in a few bytes."""
        self._copied += sum(len(value) for value in values if isinstance(value, _SIZED))
        if self._copied > _COPIED * len(self._data):
            raise ObjectsError("it copies the same values again and again")

    # The stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ObjectsError("it is damaged: a mark is where a value should be")
        return value

    def _since_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                values = self._stack[index + 1 :]
                del self._stack[index:]
                return values
        raise ObjectsError("it is damaged: a mark is missing")

    # Instructions

    def _protocol(self) -> None:
        if not 2 <= (number := self._byte()) <= 5:
            raise ObjectsError(f"it is of protocol {number}, not 2 to 5")

    def _tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    def _long(self) -> None:
        self._push(int.from_bytes(self._take(self._byte()), "little", signed=True))

    def _text(self, length: int) -> None:
        self._push(self._take(length).decode("utf-8", "surrogatepass"))

    def _old_text(self, length: int) -> None:
        data = self._take(length)
        try:
            self._push(data.decode("utf-8"))
        except UnicodeDecodeError:
            self._push(data.decode("latin-1"))

    def _name(self, module: Any, own: Any) -> None:
        if not (isinstance(module, str) and isinstance(own, str)):
            raise ObjectsError("it is damaged: a name in it is no text")
        name = f"{_RENAMED_MODULES.get(module, module)}.{own}"
        if name in self._known:
            self._push(self._known[name])
            return
        if name not in self.unknown:
            self.unknown[name] = stand_in(name)
        self._push(self.unknown[name])

    def _global(self) -> None:
        module = self._line()
        self._name(module, self._line())

    def _stack_global(self) -> None:
        own = self._pop()
        self._name(self._pop(), own)

    def _call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(arguments, tuple):
            raise ObjectsError("it is damaged: arguments in it are no tuple")
        if isinstance(function, Known):
            self._copies(*arguments)
            self._push(function.function(*arguments))
        elif isinstance(function, type) and issubclass(function, StandIn):
            self._push(function(*arguments))
        else:
            raise ObjectsError(f"it calls a {type(function).__name__}")

    def _new(self) -> None:
        """Make an object of a stand-in, which is filled later."""
        arguments, kind = self._pop(), self._pop()
        if not (isinstance(kind, type) and issubclass(kind, StandIn)):
            raise ObjectsError(f"it makes a new {type(kind).__name__}")
        made = kind.__new__(kind)
        if arguments:
            made.arguments = arguments
        self._push(made)

    def _new_with_names(self) -> None:
        self._pop()  # named arguments, which no stand-in uses
        self._new()

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if isinstance(target, OrderedDict) and isinstance(state, dict):
            return  # attributes of a mapping, which are not used
        if not isinstance(target, StandIn):
            raise ObjectsError(f"it changes a {type(target).__name__}")
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        if not all(part is None or isinstance(part, dict) for part in parts):
            arguments = getattr(target, "arguments", ())
            self._copies(arguments)
            target.arguments = (*arguments, state)
            return
        self._copies(*parts)
        for part in filter(None, parts):
            target.__dict__.update((name, part[name]) for name in part if isinstance(name, str))

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, StandIn):
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise ObjectsError("it is damaged: it adds entries to something that is no mapping")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, StandIn):
            return
        if not isinstance(target, list):
            raise ObjectsError("it is damaged: it adds entries to something that is no list")
        target.extend(values)

    def _add_to_set(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, set):
            raise ObjectsError("it is damaged: it adds entries to something that is no set")
        target.update(map(_key, values))

    def _keep(self, number: int) -> None:
        value = self._stack[-1]
        if value is _MARK:
            raise ObjectsError("it is damaged: a mark is where a value should be")
        self._memo[number] = value


def _key(value: Any) -> Any:
    """A key of a mapping: plain values only, because hashing of nested tuples has no limit."""
    if type(value) in _KEYS:
        return value
    if isinstance(value, tuple) and all(type(part) in _KEYS for part in value):
        return value
    raise ObjectsError(f"a mapping in it has a {type(value).__name__} for a key")


def ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    """The mapping that a file describes as a list of pairs.

    Raises:
        ObjectsError: a key is no plain value.
    """
    result: OrderedDict[Any, Any] = OrderedDict()
    for key, value in pairs:
        result[_key(key)] = value
    return result


def set_of(values: Any = ()) -> set[Any]:
    """The set that a file describes as a list.

    Raises:
        ObjectsError: a value is no plain value.
    """
    return {_key(value) for value in values}


_STOP = ord(".")
_Step = Callable[[Machine], Any]
_STEPS: dict[int, _Step] = {
    0x80: Machine._protocol,
    0x95: lambda m: m._number("<Q"),  # a frame; its length is skipped
    ord("("): lambda m: m._push(_MARK),
    ord("0"): lambda m: m._stack.pop(),
    ord("1"): lambda m: m._since_mark(),
    ord("2"): lambda m: m._push(m._stack[-1]),
    # Plain values
    ord("N"): lambda m: m._push(None),
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    ord("J"): lambda m: m._push(m._number("<i")),
    ord("K"): lambda m: m._push(m._byte()),
    ord("M"): lambda m: m._push(m._number("<H")),
    0x8A: Machine._long,
    ord("G"): lambda m: m._push(m._number(">d")),
    ord("X"): lambda m: m._text(m._number("<I")),
    0x8C: lambda m: m._text(m._byte()),
    0x8D: lambda m: m._text(m._number("<Q")),
    ord("U"): lambda m: m._old_text(m._byte()),
    ord("T"): lambda m: m._old_text(m._number("<I")),
    ord("B"): lambda m: m._push(m._take(m._number("<I"))),
    ord("C"): lambda m: m._push(m._take(m._byte())),
    0x8E: lambda m: m._push(m._take(m._number("<Q"))),
    0x96: lambda m: m._push(bytearray(m._take(m._number("<Q")))),
    # Containers
    ord(")"): lambda m: m._push(()),
    ord("t"): lambda m: m._push(tuple(m._since_mark())),
    0x85: lambda m: m._tuple(1),
    0x86: lambda m: m._tuple(2),
    0x87: lambda m: m._tuple(3),
    ord("]"): lambda m: m._push([]),
    ord("l"): lambda m: m._push(m._since_mark()),
    ord("a"): lambda m: m._append([m._pop()]),
    ord("e"): lambda m: m._append(m._since_mark()),
    ord("}"): lambda m: m._push({}),
    ord("s"): lambda m: m._set_items([m._pop(), m._pop()][::-1]),
    ord("u"): lambda m: m._set_items(m._since_mark()),
    0x8F: lambda m: m._push(set()),
    0x90: lambda m: m._add_to_set(m._since_mark()),
    0x91: lambda m: m._push(frozenset(set_of(m._since_mark()))),
    # Objects
    ord("c"): Machine._global,
    0x93: Machine._stack_global,
    ord("R"): Machine._call,
    0x81: Machine._new,
    0x92: Machine._new_with_names,
    ord("b"): Machine._build,
    ord("Q"): lambda m: m._push(m._persistent(m._pop())),
    # The memo: values that are used again
    ord("q"): lambda m: m._keep(m._byte()),
    ord("r"): lambda m: m._keep(m._number("<I")),
    0x94: lambda m: m._keep(len(m._memo)),
    ord("h"): lambda m: m._push(m._memo[m._byte()]),
    ord("j"): lambda m: m._push(m._memo[m._number("<I")]),
}
