"""How ComfyUI calls a node.

The host calls the method that a class names as FUNCTION. For every node of the pack that is
`run_in_host`, which calls the node's own method and adds what the run has to tell to what the host
shows under the node and keeps in its history. Code that calls a node directly, as nodes of other
packs do, calls `doit`, with the inputs by position or by name, or the own method. It gets the plain
result, also where it calls the method that FUNCTION names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from ...utils.notes import Note, collected_notes
from ..timing import measured
from .calls import HOSTS_METHOD, OLDER_METHODS, Entry, named, older_result

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


def open_to_host(
    node: type,
    run: Callable[[], Hashable | None] = lambda: None,
    is_run: Callable[[type], bool] = lambda node: True,
) -> None:
    """Give a node class the methods by which the host and other packs run it, in place.

    Args:
        run: gives what a node's run is told from others by, while it goes on; None for unknown.
            The host calls a node once for each item of a list, and all of that is one run.
        is_run: whether the host runs a node of that class by now. Other packs may call the method
            that FUNCTION names, too, and they expect the plain result.
    """
    if HOSTS_METHOD in node.__dict__:
        return
    own = node.FUNCTION if node.FUNCTION != HOSTS_METHOD else node.own_method

    def run_in_host(self: Any, *args: Any, **inputs: Any) -> Any:
        if not is_run(type(self)):
            return self.doit(*args, **inputs)
        # Subclasses in other packs replace the method of the older name.
        is_ours = isinstance(inspect.getattr_static(self, "doit"), Entry)
        method = getattr(self, own if is_ours and not args else "doit")
        with measured(), collected_notes(_known.of(run())) as notes:
            result = method(*args, **inputs)
        return with_notes(result, notes)

    def doit(self: Any, *args: Any, **inputs: Any) -> Any:
        if not hasattr(node, "INPUT_TYPES"):  # it says nothing of what it takes
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
