"""Nodes that control the graph and the editor."""

from . import legacy, lists, painted_masks, switches, values

FAMILIES = (
    lists,
    painted_masks,
    values,
    switches,
    legacy,
)
