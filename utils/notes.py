"""What a node has to say to the person who runs it.

Any part of the pack may call `note` while a node runs. Each text is logged once for a run, and kept
for the node to show.
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
    """One thing to tell.

    Attributes:
        kind: a short word for programs that read the history, such as "skipped" or "batch".
        text: whole sentences for the user: what, why and, where there is one, the remedy.
    """

    kind: str
    text: str


# The notes of the present run, and the same as a set with those known before.
_Collected = tuple[list[Note], set[Note]]
_collected: ContextVar[_Collected | None] = ContextVar("detailers_notes", default=None)
# All that is said in what runs at present, each once, whether it was told before or not.
_heard: ContextVar[dict[Note, None] | None] = ContextVar("detailers_heard", default=None)


def note(kind: str, text: str) -> None:
    """Tell the user something that is no error; the same text is told once in a run of a node.

    Half signs, which texts that arrive as JSON may hold and no log and no client can take, are
    written as what they are, such as \\ud800.
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
    """The notes of what runs inside, in the order in which they come.

    Args:
        known: what has been told already and is not told again; what comes is added.
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
