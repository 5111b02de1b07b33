"""How ComfyUI calls a node.

The host calls the method that a class names as FUNCTION. For every node of the pack that is
`run_in_host`, which calls the node's own method and adds what the run has to tell to what the host
shows under the node and keeps in its history. Code that calls a node directly, as nodes of other
packs do, calls `doit` or the own method and gets the plain result.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from ..utils.notes import Note, collected_notes

NOTES = "detailers_notes"  # where notes stand in a node's UI output
MOST_NOTES = 50  # that are shown; the log has all


class _Known:
    """What the last run has told."""

    def __init__(self) -> None:
        self._run: Hashable | None = None
        self._notes: set[Note] = set()

    def of(self, run: Hashable | None) -> set[Note]:
        """What a run has told before; empty for a new one."""
        if run is None:
            return set()
        if run != self._run:
            self._run, self._notes = run, set()
        return self._notes


_known = _Known()


def open_to_host(node: type, run: Callable[[], Hashable | None] = lambda: None) -> None:
    """Give a node class the method by which the host runs it, in place.

    Args:
        run: gives what a node's run is told from others by, while it goes on; None for unknown.
            The host calls a node once for each item of a list, and all of that is one run.
    """
    if "run_in_host" in node.__dict__:
        return
    own = node.FUNCTION

    def run_in_host(self: Any, *args: Any, **inputs: Any) -> Any:
        with collected_notes(_known.of(run())) as notes:
            # By the older name, which subclasses in other packs replace.
            result = self.doit(*args, **inputs)
        return with_notes(result, notes)

    if own != "doit":

        def doit(self: Any, *args: Any, **inputs: Any) -> Any:
            return getattr(self, own)(*args, **inputs)

        if not hasattr(node, "doit"):
            node.doit = doit
    node.run_in_host = run_in_host
    node.FUNCTION = "run_in_host"


def with_notes(result: Any, notes: Sequence[Note]) -> Any:
    """A node's result with notes in its UI output.

    A result that has a UI output always gets the entry, empty if there is nothing to tell: the host
    joins the outputs of a node that runs once for each item of a list, entry by entry.
    """
    has_ui = isinstance(result, dict) and "ui" in result
    if not (notes or has_ui) or (isinstance(result, dict) and "expand" in result):
        return result
    shown = [{"kind": note.kind, "text": note.text} for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        text = f"And {len(notes) - MOST_NOTES} more; ComfyUI's log has them all."
        shown.append({"kind": "more", "text": text})
    if isinstance(result, dict):
        return {**result, "ui": {**result.get("ui", {}), NOTES: shown}}
    return {"ui": {NOTES: shown}, "result": result}
