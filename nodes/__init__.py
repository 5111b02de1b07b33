"""What the user sees: one class for each node, by family.

Each module lists its nodes in `NODES`: id -> (class, display name).
"""

from __future__ import annotations

from ..core.door import guard
from ..core.entry import open_to_host
from ..core.host_bridge import is_running, running_node
from . import (
    animatediff,
    bridge,
    bridges,
    classify,
    conditioning,
    control,
    detailer,
    detector_models,
    detectors,
    face,
    face_detectors,
    flow,
    hooks,
    legacy,
    lists,
    logic,
    lora_schedule,
    masks,
    options,
    pipes,
    regional,
    samplers,
    segs,
    segs_edit,
    segs_filter,
    tiles,
    upscale,
    upscale_hooks,
    upscale_segs,
    wildcards,
)
from .advanced import fold_rare_settings

_FAMILIES = (
    detailer,
    animatediff,
    detectors,
    face_detectors,
    detector_models,
    bridges,
    segs,
    masks,
    options,
    pipes,
    wildcards,
    conditioning,
    face,
    lists,
    lora_schedule,
    hooks,
    control,
    segs_edit,
    segs_filter,
    tiles,
    classify,
    upscale_segs,
    upscale,
    upscale_hooks,
    samplers,
    regional,
    bridge,
    logic,
    flow,
    legacy,
)

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
