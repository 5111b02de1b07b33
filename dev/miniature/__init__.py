"""A small world drawn from vectors and a small diffusion model of it, for tests, demo and bench.

Loaded as a ComfyUI pack this folder offers the model as a node. Its networks are imported when that
node runs, so that the world can be used without ComfyUI.
"""

from .nodes import DetailersMiniatureLoader

NODE_CLASS_MAPPINGS = {"DetailersMiniatureLoader": DetailersMiniatureLoader}
NODE_DISPLAY_NAME_MAPPINGS = {"DetailersMiniatureLoader": "Miniature Loader (tests and demo)"}
