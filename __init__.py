"""Detailers: redraw the small things of an image or a video with your own diffusion model."""

from .compat import neighbours
from .core import host, host_bridge, host_detectors, host_prompts, registry
from .nodes import DISPLAY_NAMES, NODE_CLASSES

NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = registry.register(
    NODE_CLASSES,
    DISPLAY_NAMES,
    *host.registered_nodes(),
    lambda: host.older_pack(set(NODE_CLASSES.values())),
    host.after_all_packs,
)
host_prompts.watch_prompts(NODE_CLASS_MAPPINGS)
host_bridge.watch_flow(NODE_CLASS_MAPPINGS)
host_detectors.register_folders()
neighbours.stand_in(NODE_CLASSES.values())
WEB_DIRECTORY = "web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
