"""Collects what a node shows in the editor. ComfyUI sends it there and keeps it in the history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Shown = dict[str, list[Any]]  # entries of a node's UI output, by their names
_shown: ContextVar[Shown | None] = ContextVar("detailers_shown", default=None)


def show(name: str, entry: Any) -> None:
    """Add an entry to the UI output of the running node. `entry`: any value that JSON can hold."""
    shown = _shown.get()
    if shown is not None:
        shown.setdefault(name, []).append(entry)


@contextmanager
def collected_shown() -> Iterator[Shown]:
    """The entries that the code inside adds."""
    shown: Shown = {}
    token = _shown.set(shown)
    try:
        yield shown
    finally:
        _shown.reset(token)
