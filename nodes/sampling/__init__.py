"""Nodes that sample latents, and nodes that make samplers."""

from . import regional, samplers

FAMILIES = (
    samplers,
    regional,
)
