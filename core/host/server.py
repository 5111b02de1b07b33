"""ComfyUI's server: its nodes, and what runs when it starts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import nodes as host_nodes

log = logging.getLogger(__name__)


def registered_nodes() -> tuple[dict[str, type], dict[str, str]]:
    """Every node that the host knows by now, and its display name, by id."""
    return host_nodes.NODE_CLASS_MAPPINGS, host_nodes.NODE_DISPLAY_NAME_MAPPINGS


def declared_inputs(node: type) -> dict[str, Any]:
    """A node's inputs by name: link type or list of choices, and options; of any pack."""
    groups = node.INPUT_TYPES()
    return {
        name: entry
        for group in ("required", "optional")
        for name, entry in groups.get(group, {}).items()
    }


def after_all_packs(action: Callable[[], None]) -> None:
    """Run `action` once all packs are loaded and before the server answers."""
    server = prompt_server()
    if server is None:
        return

    async def run_action() -> None:
        action()

    at_startup(server, run_action)


def at_startup(server: Any, action: Callable[[], Awaitable[None]]) -> None:
    """Run `action` when the server starts. An error is logged, as it would end the whole host."""

    async def on_startup(_app: Any) -> None:
        try:
            await action()
        except Exception:
            log.exception("starting up went wrong; the nodes are there all the same")

    server.app.on_startup.append(on_startup)


def prompt_server() -> Any:
    """The server; None where a script imports the pack without one."""
    server = sys.modules.get("server")  # of the host's program, which imports it first
    return getattr(getattr(server, "PromptServer", None), "instance", None)


def web_framework() -> Any:
    """What ComfyUI's server makes its answers with."""
    import server

    return server.web
