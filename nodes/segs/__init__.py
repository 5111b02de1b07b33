"""Nodes that change, filter and show segments."""

from . import classify, edit, filter, pictures, tiles

FAMILIES = (
    pictures,
    edit,
    filter,
    tiles,
    classify,
)
