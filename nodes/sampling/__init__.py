"""Nodes that sample latents."""

from . import regional, samplers

FAMILIES = (
    samplers,
    regional,
)
