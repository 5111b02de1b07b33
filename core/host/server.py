"""ComfyUI's server: the registered nodes, and work that is done when it starts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import nodes as host_nodes

log = logging.getLogger(__name__)


def registered_nodes() -> tuple[dict[str, type], dict[str, str]]:
    """All registered nodes of ComfyUI, and their display names, by id."""
    return host_nodes.NODE_CLASS_MAPPINGS, host_nodes.NODE_DISPLAY_NAME_MAPPINGS


def declared_inputs(node: type) -> dict[str, Any]:
    """The inputs of a node of any pack, by name: link type or list of choices, and options."""
    groups = node.INPUT_TYPES()
    return {
        name: entry
        for group in ("required", "optional")
        for name, entry in groups.get(group, {}).items()
    }


def after_all_packs(action: Callable[[], None]) -> None:
    """Run `action` after all packs are loaded, and before the server answers any request."""
    server = prompt_server()
    if server is None:
        return

    async def run_action() -> None:
        action()

    at_startup(server, run_action)


def at_startup(server: Any, action: Callable[[], Awaitable[None]]) -> None:
    """Run `action` when the server starts. Errors are logged, since they would stop ComfyUI."""

    async def on_startup(_app: Any) -> None:
        try:
            await action()
        except Exception:
            log.exception("an action at startup failed; the nodes are available all the same")

    server.app.on_startup.append(on_startup)


def prompt_server() -> Any:
    """The server. None: a script has imported the pack without a server."""
    server = sys.modules.get("server")  # ComfyUI imports this module before it loads packs
    return getattr(getattr(server, "PromptServer", None), "instance", None)


def web_framework() -> Any:
    """The web framework of ComfyUI's server."""
    import server

    return server.web
