"""Detailers: redraw the small things of an image or a video with your own diffusion model."""

from .compat import neighbours
from .core.graph import node_ids
from .core.host import detectors, encoded_pictures, flow, folders, prompts, server
from .nodes import DISPLAY_NAMES, NODE_CLASSES

NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = node_ids.register(
    NODE_CLASSES,
    DISPLAY_NAMES,
    *server.registered_nodes(),
    lambda: folders.older_pack(set(NODE_CLASSES.values())),
    server.after_all_packs,
)
prompts.watch_prompts(NODE_CLASS_MAPPINGS)
flow.watch_flow(NODE_CLASS_MAPPINGS)
detectors.register_folders()
encoded_pictures.watch_encoders()
neighbours.stand_in(NODE_CLASSES.values())
WEB_DIRECTORY = "web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
