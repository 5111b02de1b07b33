"""The nodes that the user sees: one class for each node, by family.

Each module lists its nodes in `NODES`: id -> (class, display name).
"""

from __future__ import annotations

from ..core.graph.node_calls import open_to_host
from ..core.graph.validation import guard
from ..core.host.messages import is_running, running_node
from . import detail, detect, graph, hooks, masks, prompts, sampling, segs, upscale, video
from .advanced import fold_rare_settings

_ROOMS = (
    detail,
    video,
    detect,
    segs,
    prompts,
    graph,
    hooks,
    upscale,
    sampling,
)
_FAMILIES = (*(family for room in _ROOMS for family in room.FAMILIES), masks)

NODE_CLASSES = {
    node_id: node for family in _FAMILIES for node_id, (node, _) in family.NODES.items()
}
DISPLAY_NAMES = {
    node_id: title for family in _FAMILIES for node_id, (_, title) in family.NODES.items()
}

for _node_id, _node in NODE_CLASSES.items():
    guard(_node, _node_id)
for _node in NODE_CLASSES.values():
    open_to_host(_node, running_node, is_running)
    fold_rare_settings(_node)
