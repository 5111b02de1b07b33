"""Read what Python's `repr` writes of plain values."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

_LONGEST = 200_000  # characters; the names of a detector with thousands of classes fit in


def read_literal(text: str) -> Any:
    """The value that a text such as "{0: 'face', 1: 'hand'}" stands for.

    Dictionaries, lists, tuples, texts, numbers, True, False and None are read. The text is taken
    apart and never run.

    Raises:
        ValueError: it stands for anything else, or for nothing.
    """
    try:
        if len(text) > _LONGEST:
            raise ValueError(f"{len(text)} characters")
        (statement,) = ast.parse(text.strip()).body
        return _value(statement)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"no plain value: {text[:60]!r} ({error})") from error


def _value(node: ast.AST | None) -> Any:
    read = _KINDS.get(type(node))
    if read is None:
        raise ValueError(f"{type(node).__name__} is not allowed")
    return read(node)


def _negative(node: ast.UnaryOp) -> Any:
    value = _value(node.operand)
    if not isinstance(node.op, ast.USub) or type(value) not in (int, float):
        raise ValueError("only numbers have a sign")
    return -value


_KINDS: dict[type, Callable[[Any], Any]] = {
    ast.Expr: lambda node: _value(node.value),
    ast.Constant: lambda node: node.value,
    ast.UnaryOp: _negative,
    ast.List: lambda node: [_value(part) for part in node.elts],
    ast.Tuple: lambda node: tuple(_value(part) for part in node.elts),
    ast.Dict: lambda node: {
        _value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)
    },
}
