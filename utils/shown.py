"""What a node shows beside its outputs: for ComfyUI to send to the editor and keep as history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Shown = dict[str, list[Any]]  # entries of a node's UI output, by their names
_shown: ContextVar[Shown | None] = ContextVar("detailers_shown", default=None)


def show(name: str, entry: Any) -> None:
    """Add an entry, of what JSON knows, to the UI output of the node that runs, if one does."""
    shown = _shown.get()
    if shown is not None:
        shown.setdefault(name, []).append(entry)


@contextmanager
def collected_shown() -> Iterator[Shown]:
    """What is shown by what runs inside."""
    shown: Shown = {}
    token = _shown.set(shown)
    try:
        yield shown
    finally:
        _shown.reset(token)
