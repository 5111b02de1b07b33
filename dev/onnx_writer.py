"""Writes .onnx files without the package onnx.

The numbers are those of the fields in onnx.proto, the format of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

IR_VERSION, OPSET = 8, 11


def varint(value: int) -> bytes:
    result = b""
    while value > 127:
        result, value = result + bytes([value & 127 | 128]), value >> 7
    return result + bytes([value])


def message(*fields: tuple[int, int | str | bytes]) -> bytes:
    """A message of numbered fields: whole numbers, texts, or messages."""
    result = b""
    for number, value in fields:
        if isinstance(value, int):
            result += varint(number << 3) + varint(value)
            continue
        value = value.encode() if isinstance(value, str) else value
        result += varint(number << 3 | 2) + varint(len(value)) + value
    return result


def tensor(name: str, array: np.ndarray) -> bytes:
    """Weights, of int64 or float32."""
    kind = 7 if array.dtype == np.int64 else 1
    sides = [(1, side) for side in array.shape]
    return message(*sides, (2, kind), (8, name), (9, array.tobytes()))


def value(name: str, shape: Sequence[int | str], kind: int = 1) -> bytes:
    """An input or output; a side with a name may vary."""
    sides = [(1, message((1, side) if isinstance(side, int) else (2, side))) for side in shape]
    return message((1, name), (2, message((1, message((1, kind), (2, message(*sides)))))))


def whole(name: str, number: int) -> bytes:
    """An attribute that is a whole number."""
    return message((1, name), (3, number), (20, 2))


def wholes(name: str, numbers: Iterable[int]) -> bytes:
    """An attribute that is a list of whole numbers."""
    return message((1, name), *((8, number) for number in numbers), (20, 7))


def node(kind: str, inputs: Iterable[str], output: str, *attributes: bytes) -> bytes:
    links = [*((1, name) for name in inputs), (2, output)]
    return message(*links, (4, kind), *((5, attribute) for attribute in attributes))


def model(
    nodes: Iterable[bytes], weights: Iterable[bytes], inputs: Iterable[bytes],
    outputs: Iterable[bytes], notes: Iterable[tuple[str, str]] = (),
) -> bytes:  # fmt: skip
    """A file's bytes.

    Args:
        nodes: of `node`, each after those whose outputs it takes.
        weights: of `tensor`.
        inputs, outputs: of `value`.
        notes: keys and texts of the file's metadata.
    """
    parts = [(1, own) for own in nodes] + [(5, own) for own in weights]
    parts += [(2, "graph"), *((11, own) for own in inputs), *((12, own) for own in outputs)]
    told = [(14, message((1, key), (2, text))) for key, text in notes]
    return message((1, IR_VERSION), (7, message(*parts)), (8, message((2, OPSET))), *told)
