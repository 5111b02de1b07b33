"""The notes of a run; see `utils/notes.py`."""

from ..utils.notes import Note, collected_notes, note

__all__ = ["Note", "collected_notes", "note"]
