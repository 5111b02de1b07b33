"""The input and the metadata of an .onnx file, read and checked before any engine gets the file.

The engines trust what a file claims, so its sizes, nesting and references to other files are
checked first, and OpenCV gives neither metadata nor inputs. onnxruntime has both (`get_modelmeta`,
`get_inputs`), but only in a session, which is too late for the checks. The format is that of
Protocol Buffers; the numbers are those of the fields in onnx.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...utils.files import is_file, read_file
from ...utils.paths import path_fault
from .safe_weights import LARGEST_INPUT, WeightsError, expect_at_most

MOST_BYTES = 2**31 - 1  # size of a file; the format allows no more
MOST_FIELDS = 2_000_000  # fields that are read; a network of thousands of layers has some 100,000
LONGEST_NOTE = 200_000  # bytes of a text in the metadata
_DEEPEST = 100  # nested graphs

# Where tensors can be: for each kind of message, the fields that hold messages, and their kind.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_SMALLEST = 4  # elements per byte of the smallest type, which has two bits


@dataclass
class About:
    """The network's input and metadata, as the file has them."""

    shape: tuple[int, ...]  # of the input; 0 for a side of any length
    metadata: dict[str, str] = field(default_factory=dict)
    outside: tuple[str, ...] = ()  # names of other files with weights
    first: tuple[str, ...] = ()  # kinds of the nodes that take the input itself


def read_onnx(path: Path) -> tuple[bytes, About]:
    """The bytes of an .onnx file, and its input and metadata.

    Raises:
        WeightsError: it is no such file, takes something else than one image, or claims more than
            it holds.
    """
    try:
        data = read_file(path, MOST_BYTES)
        message = _Message(memoryview(data))
        metadata, inputs, first = _read_model(message)
        outside = tuple(dict.fromkeys(_outside(message)))
    except (ValueError, IndexError, TypeError, OSError) as error:
        raise unreadable(path, error) from error
    shapes = list(inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or 3 not in (shapes[0][1], shapes[0][3]):
        told = ", ".join(f"{name:.60} {list(shape)}" for name, shape in list(inputs.items())[:20])
        raise WeightsError(
            f"'{path.name}' takes {told or 'nothing'}, where one image is given, as "
            "[1,3,h,w] or [1,h,w,3]. Choose another model."
        )
    expect_at_most(LARGEST_INPUT, max(shapes[0]), "an input of {} pixels", path)
    return data, About(shapes[0], metadata, outside, first)


def read_about(path: Path) -> About:
    """The input and metadata of an .onnx file; see `read_onnx`."""
    return read_onnx(path)[1]


def expect_inside(path: Path, about: About) -> None:
    """Check that all other files with weights are in the folder of the .onnx file.

    Raises:
        WeightsError: one is not in that folder or below it, or is no regular file.
    """
    folder = path.parent.resolve()
    for name in about.outside:
        reason = path_fault(name)
        if reason is None:
            try:
                beside = (folder / name).resolve()
                if not beside.is_relative_to(folder):
                    reason = "is not in the model's folder"
                elif not is_file(beside):
                    reason = "is not there, or is no regular file"
            except (OSError, ValueError, RuntimeError) as error:
                reason = f"cannot be followed ({error})"
        if reason is not None:
            raise WeightsError(
                f"'{path.name}' is refused: it takes weights from {name[:100]!r}, which {reason}. "
                "Put the model's files into one folder, or save it with its weights inside."
            )


def unreadable(path: Path, error: Exception, remedy: str = "") -> WeightsError:
    """The error for a file that an engine or `read_onnx` cannot read.

    Args:
        remedy: the beginning of a sentence that "pip install onnxruntime" ends.
    """
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    remedy += "pip install onnxruntime. " if remedy else ""
    return WeightsError(
        f"'{path.name}' cannot be run ({type(error).__name__}: {reason}). {remedy}If it is "
        "damaged, download or export it again."
    )


class _Message:
    """A message of the file; all messages of a file share one count of fields."""

    def __init__(self, data: Any, left: list[int] | None = None) -> None:
        self.data = data
        self._left = [MOST_FIELDS] if left is None else left

    def fields(self) -> Iterator[tuple[int, Any]]:
        """The numbered fields: whole numbers, or messages for longer values."""
        for number, value in _fields(self.data):
            self._left[0] -= 1
            if self._left[0] < 0:
                raise ValueError(f"it has more than {MOST_FIELDS} fields")
            yield number, value if isinstance(value, int) else _Message(value, self._left)

    def named(self) -> Mapping[int, Any]:
        """The fields by number; of several with one number the last."""
        return dict(self.fields())

    def text(self) -> str:
        """The message as a text."""
        return bytes(self.data[:LONGEST_NOTE]).decode("utf-8", "replace")


def _text(value: Any) -> str:
    return value.text() if isinstance(value, _Message) else ""


def _named(value: Any) -> Mapping[int, Any]:
    return value.named() if isinstance(value, _Message) else {}


_PASS_ON = {"Cast", "Identity"}  # nodes that change no number


def _read_model(
    model: _Message,
) -> tuple[dict[str, str], dict[str, tuple[int, ...]], tuple[str, ...]]:
    """The notes, the inputs' shapes by name, and the kinds of the nodes that inputs go to."""
    metadata: dict[str, str] = {}
    inputs: dict[str, tuple[int, ...]] = {}
    nodes: list[tuple[str, list[str], list[str]]] = []  # kind, names of inputs and of outputs
    weights = set()
    for number, value in model.fields():
        if number == 14:  # metadata_props: key, value
            note = _named(value)
            metadata[_text(note.get(1))] = _text(note.get(2))
        elif number == 7 and isinstance(value, _Message):  # graph
            for part, entry in value.fields():
                if part == 1:
                    nodes.append(_read_node(entry))
                elif part == 11:  # input: name, type
                    about = _named(entry)
                    inputs[_text(about.get(1))] = _read_shape(about.get(2))
                elif part == 5:  # initializer; older files list each of them as an input too
                    weights.add(_text(_named(entry).get(8)))
    images = {name: shape for name, shape in inputs.items() if name not in weights}
    return metadata, images, _first(nodes, set(images))


def _read_node(node: Any) -> tuple[str, list[str], list[str]]:
    kind, taken, given = "", [], []
    for number, value in node.fields() if isinstance(node, _Message) else ():
        if number == 1:
            taken.append(_text(value))
        elif number == 2:
            given.append(_text(value))
        elif number == 4:
            kind = _text(value)
    return kind, taken, given


def _first(nodes: list[tuple[str, list[str], list[str]]], names: set[str]) -> tuple[str, ...]:
    """The kinds of the nodes that take one of these names, directly or through others."""
    kinds = []
    for kind, taken, given in nodes:  # the format has a node after those that it takes from
        if names.isdisjoint(taken):
            continue
        if kind in _PASS_ON:
            names.update(given)
        else:
            kinds.append(kind)
    return tuple(kinds)


def _read_shape(kind: Any) -> tuple[int, ...]:
    shape = _named(_named(kind).get(1)).get(2)
    if not isinstance(shape, _Message):
        return ()
    sides = [_named(side).get(1, 0) for number, side in shape.fields() if number == 1]
    return tuple(side if isinstance(side, int) and side < 2**63 else 0 for side in sides)


def _outside(model: _Message) -> Iterator[str]:
    """The names of other files with tensors, from all parts of the model.

    Raises:
        ValueError: a tensor claims more elements than it can have, or the nesting is too deep.
    """
    stack = [("model", model, 0)]
    while stack:
        kind, message, depth = stack.pop()
        if depth > _DEEPEST:
            raise ValueError("its graphs are nested too deeply")
        if kind == "tensor":
            yield from _outside_of_tensor(message)
            continue
        parts = _PARTS[kind]
        stack += [
            (parts[number], value, depth + 1)
            for number, value in message.fields()
            if number in parts and isinstance(value, _Message)
        ]


def _outside_of_tensor(tensor: _Message) -> Iterator[str]:
    sides: list[int] = []
    places: list[str] = []
    is_outside = False
    for number, value in tensor.fields():
        if number == 1:  # dims: separate values, or all in one field
            sides += [value] if isinstance(value, int) else _numbers(value.data)
        elif number == 14:  # data_location
            is_outside = is_outside or value != 0
        elif number == 13:  # external_data: key, value
            is_outside = True
            entry = _named(value)
            if _text(entry.get(1)) == "location":
                places.append(_text(entry.get(2)))
    if is_outside:
        yield from places or [""]
    elif math.prod(sides[:100]) > _SMALLEST * len(tensor.data):
        raise ValueError(
            f"a tensor in it claims the shape {sides[:8]}, which is more than its data"
        )


def _numbers(data: Any) -> list[int]:
    result, at = [], 0
    while at < len(data) and len(result) < 100:
        value, at = _varint(data, at)
        result.append(value)
    return result


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """The numbered fields of a message: whole numbers, or bytes for longer values."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it ends too early")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("it is no ONNX file")
        yield key >> 3, value


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX file")
