"""Call nodes of ComfyUI as functions."""

from __future__ import annotations

from typing import Any

import nodes as host_nodes


def call_node(node_id: str, **inputs: Any) -> tuple:
    """Run a node of ComfyUI and return its outputs.

    Raises:
        RuntimeError: this ComfyUI has no such node.
    """
    node = host_nodes.NODE_CLASS_MAPPINGS.get(node_id)
    if node is None:
        raise RuntimeError(
            f"This needs ComfyUI's node {node_id!r}, which this version or installation does not "
            "have. Update ComfyUI, or choose an option that does not need it."
        )
    if hasattr(node, "define_schema"):  # a class of the newer kind: stateless, run by the class
        output = node.execute(**inputs)
        return tuple(getattr(output, "result", output))
    return tuple(getattr(node(), node.FUNCTION)(**inputs))
