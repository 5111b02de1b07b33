"""Messages from a running node to the editor that queued it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import comfy.model_management
from comfy_execution.graph import ExecutionBlocker
from comfy_execution.utils import get_executing_context

from ...utils.notes import note
from ..prompts.wildcard_nodes import Origin, workflow_id, workflow_of
from .server import prompt_server, registered_nodes

BLOCKED = ExecutionBlocker(None)  # an output with this value: the nodes after it do not run


_MISSED = {  # by event: what does not happen if no editor gets the message
    "mode": "no node is muted, bypassed or made active for the next run",
    "queue": "it is not queued again",
    "stop": "no queueing is ended",
    "send": "no receiver gets what is sent",
}


def tell_editor(event: str, **data: Any) -> bool:
    """Send a message to the editor that queued the running prompt.

    The message holds the ids of the run and of the workflow, so that the editor changes the right
    workflow. If there is no editor, the user is told what does not happen.

    Returns:
        Whether there is an editor that gets the message.
    """
    origin = _running()
    if origin is None or origin.client_id is None:
        if event in _MISSED:
            note(
                "editor",
                f"This prompt was not queued by an editor, so {_MISSED[event]}. Queue it in the"
                " editor, or let the program that queues it do this.",
            )
        return False
    tell_client(origin, event, **data)
    return True


def running_node() -> tuple[str, str] | None:
    """The ids of the prompt and of the node that are running. None: nothing runs."""
    context = get_executing_context()
    return None if context is None else (context.prompt_id, context.node_id)


def is_running(node: type) -> bool:
    """Whether ComfyUI itself is running a node of this class now.

    It is False if another node calls the class as a function. It is True for nodes of an expanded
    graph, which are in no prompt.
    """
    running = running_node()
    if running is None:
        return False
    prompt_id, node_id = running
    entry = _queued(prompt_id)
    if entry is None or node_id not in entry[2]:
        return True
    return registered_nodes()[0].get(entry[2][node_id]["class_type"]) is node


def is_linked(node: type, output: str) -> bool:
    """Whether anything takes an output of the node of a class that the host runs, or asks about.

    Also True where nobody can know: where nothing runs, and within a graph that a node expands to.
    A node that runs within another one gives that one no outputs but those of older nodes.
    """
    if output not in getattr(node, "RETURN_NAMES", ()):
        return False
    running = running_node()
    entry = None if running is None else _queued(running[0])
    if entry is None or running[1] not in entry[2]:
        return True
    prompt, node_id = entry[2], running[1]
    if registered_nodes()[0].get(prompt[node_id]["class_type"]) is not node:
        return False
    link = [node_id, node.RETURN_NAMES.index(output)]
    values = (value for other in prompt.values() for value in other.get("inputs", {}).values())
    return any(
        isinstance(value, list) and len(value) == 2 and [str(value[0]), value[1]] == link
        for value in values
    )


def wants(mark: str) -> bool:
    """Whether the editor has put a mark on the nodes of the prompt that runs."""
    running = running_node()
    entry = None if running is None else _queued(running[0])
    if entry is None or not entry[3].get("client_id"):
        return False
    return any((node.get("_meta") or {}).get(mark) is True for node in entry[2].values())


def running_workflow() -> str | None:
    """The id of the workflow whose prompt is running. None: no editor has sent it."""
    origin = _running()
    return None if origin is None else origin.workflow_id


def _running() -> Origin | None:
    """The origin of the prompt of the running node. None: nothing runs."""
    context = get_executing_context()
    prompt_id = context.prompt_id if context else getattr(prompt_server(), "last_prompt_id", None)
    entry = _queued(prompt_id)
    if entry is None:
        return None
    extra_data = entry[3]
    number = workflow_id(workflow_of(extra_data))
    return Origin(prompt_id, number, extra_data.get("client_id") or None)


def _queued(prompt_id: str | None) -> Sequence[Any] | None:
    """ComfyUI's entry of a running prompt: its number, id, nodes, extra data, and more."""
    server = prompt_server()
    if server is None:
        return None
    running = list(server.prompt_queue.currently_running.values())
    return next((entry for entry in running if entry[1] == prompt_id), None)


def tell_client(origin: Origin, event: str, **data: Any) -> None:
    """Send a message to the editor that has queued a prompt, and to no other editor."""
    server = prompt_server()
    if server is not None and origin.client_id is not None:
        server.send_sync(f"detailers-{event}", {**origin.identity, **data}, origin.client_id)


def wait(seconds: float) -> None:
    """Sleep, unless the run is interrupted."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        comfy.model_management.throw_exception_if_processing_interrupted()
        time.sleep(min(left, 0.1))
