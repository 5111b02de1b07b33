"""Read plain values in the form in which Python's `repr` writes them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

_LONGEST = 200_000  # characters; enough for the names of a detector with thousands of classes


def read_literal(text: str) -> Any:
    """The value of a text such as "{0: 'face', 1: 'hand'}".

    Dictionaries, lists, tuples, texts, numbers, True, False and None are read. The text is parsed
    and never run.

    Raises:
        ValueError: it holds anything else, or nothing.
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
