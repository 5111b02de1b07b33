"""Notes: messages of a node to the user that are no errors.

Any part of the pack may call `note` while a node runs. Each text is logged once in a run, and kept,
so that the node can show it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """One message.

    Attributes:
        kind: a short word for programs that read the history, such as "skipped" or "batch".
        text: whole sentences for the user: what happened, why, and what can be done.
    """

    kind: str
    text: str


# The notes of the current run, and a set of these and of earlier ones.
_Collected = tuple[list[Note], set[Note]]
_collected: ContextVar[_Collected | None] = ContextVar("detailers_notes", default=None)
# All that is said in what runs at present, each once, whether it was told before or not.
_heard: ContextVar[dict[Note, None] | None] = ContextVar("detailers_heard", default=None)


def note(kind: str, text: str) -> None:
    """Tell the user something that is no error; the same text is told once in a run of a node.

    Lone surrogates, which JSON texts may contain and logs and clients cannot take, are written as
    escapes, such as \\ud800.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    own = Note(kind, text)
    heard = _heard.get()
    if heard is not None:
        heard[own] = None
    collected = _collected.get()
    if collected is not None:
        notes, known = collected
        if own in known:
            return
        notes.append(own)
        known.add(own)
    log.warning("%s", text)


@contextmanager
def collected_notes(known: set[Note] | None = None) -> Iterator[list[Note]]:
    """A context that collects the notes of the code inside, in order.

    Args:
        known: notes that were told already and are not told again; new ones are added.
    """
    notes: list[Note] = []
    token = _collected.set((notes, set() if known is None else known))
    heard_token = _heard.set({})
    try:
        yield notes
    finally:
        _heard.reset(heard_token)
        _collected.reset(token)


@contextmanager
def heard_notes() -> Iterator[dict[Note, None]]:
    """All notes of the call of a node that goes on, those told by earlier calls too; as keys.

    They are those since its beginning, or since here where no call collects any.
    """
    heard = _heard.get()
    if heard is not None:
        yield heard
        return
    heard = {}
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)
