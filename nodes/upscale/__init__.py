"""Nodes that enlarge images and latents."""

from . import by_segments, iterative

FAMILIES = (
    by_segments,
    iterative,
)
