"""Nodes that change, filter and show segments."""

from . import classify, edit, filter, people, pictures, tiles

FAMILIES = (
    pictures,
    edit,
    filter,
    tiles,
    classify,
    people,
)
