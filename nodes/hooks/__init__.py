"""Nodes that make hooks."""

from . import detailer, upscaling

FAMILIES = (
    detailer,
    upscaling,
)
