"""Nodes that enlarge."""

from . import by_segments, iterative

FAMILIES = (
    by_segments,
    iterative,
)
