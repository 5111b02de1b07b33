"""How ComfyUI and other packs call a node.

ComfyUI calls the method that a class names as FUNCTION. For every node of this pack this is
`run_in_host`. It calls the node's own method, and adds the notes of the run to the UI output, which
ComfyUI shows under the node and keeps in its history.

Nodes of other packs call `doit`, with inputs by position or by name, or the node's own method. They
get the plain result without notes, even if they call the method that FUNCTION names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from ...utils.notes import Note, collected_notes
from ...utils.shown import Shown, collected_shown
from ..timing import measured
from .calls import HOSTS_METHOD, OLDER_METHODS, Entry, named, older_result

NOTES = "detailers_notes"  # the key of the notes in a node's UI output
MOST_NOTES = 50  # the most notes that are shown; the log has all of them


class _Known:
    """The notes that the last run has given."""

    def __init__(self) -> None:
        self._run: Hashable | None = None
        self._notes: set[Note] = set()

    def of(self, run: Hashable | None) -> set[Note]:
        """The notes that a run has given so far; empty for a new run."""
        if run is None:
            return set()
        if run != self._run:
            self._run, self._notes = run, set()
        return self._notes


_known = _Known()


def open_to_host(
    node: type,
    run: Callable[[], Hashable | None] = lambda: None,
    is_run: Callable[[type], bool] = lambda node: True,
) -> None:
    """Add the methods with which ComfyUI and other packs call a node to its class, in place.

    Args:
        run: gives an id of the node's run while it lasts; None if it is unknown. ComfyUI calls a
            node once for each item of a list, and all these calls are one run.
        is_run: whether ComfyUI itself is running a node of this class now. Other packs may call the
            method that FUNCTION names too, and they expect the plain result.
    """
    if HOSTS_METHOD in node.__dict__:
        return
    own = node.FUNCTION if node.FUNCTION != HOSTS_METHOD else node.own_method

    def run_in_host(self: Any, *args: Any, **inputs: Any) -> Any:
        if not is_run(type(self)):
            return self.doit(*args, **inputs)
        # Subclasses of other packs override the method with the older name.
        is_ours = isinstance(inspect.getattr_static(self, "doit"), Entry)
        method = getattr(self, own if is_ours and not args else "doit")
        with measured(), collected_notes(_known.of(run())) as notes, collected_shown() as shown:
            result = method(*args, **inputs)
        return with_notes(with_shown(result, shown), notes)

    def doit(self: Any, *args: Any, **inputs: Any) -> Any:
        if not hasattr(node, "INPUT_TYPES"):  # its inputs are unknown
            return getattr(self, own)(*args, **inputs)
        return older_result(node, getattr(self, own)(**named(node, args, inputs)))

    written = inspect.getattr_static(node, "doit", None)
    if written is None or (isinstance(written, Entry) and written.is_given):
        node.doit = Entry(doit, is_given=True)
    elif not isinstance(written, Entry):
        node.doit = Entry(written)
    if older := OLDER_METHODS.get(node.__name__):
        setattr(node, older, node.__dict__["doit"])
    node.run_in_host, node.own_method = run_in_host, own
    node.FUNCTION = HOSTS_METHOD


def with_shown(result: Any, shown: Shown) -> Any:
    """A node's result with further entries in its UI output."""
    if not shown or (isinstance(result, dict) and "expand" in result):
        return result
    if isinstance(result, dict):
        return {**result, "ui": {**result.get("ui", {}), **shown}}
    return {"ui": dict(shown), "result": result}


def with_notes(result: Any, notes: Sequence[Note]) -> Any:
    """A node's result with notes in its UI output.

    A result with a UI output always gets the entry, even if there are no notes. ComfyUI needs it,
    because it joins the outputs of a node that runs once for each item of a list, entry by entry.
    """
    has_ui = isinstance(result, dict) and "ui" in result
    if not (notes or has_ui):
        return result
    shown = [{"kind": note.kind, "text": note.text} for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        text = f"And {len(notes) - MOST_NOTES} more; ComfyUI's log has them all."
        shown.append({"kind": "more", "text": text})
    return with_shown(result, {NOTES: shown})
