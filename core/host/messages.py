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

BLOCKED = ExecutionBlocker(None)  # as an output: what follows does not run, and nothing is wrong


_MISSED = {  # what does not happen where no editor hears of an event
    "mode": "no node is muted, bypassed or made active for the next run",
    "queue": "it is not queued again",
    "stop": "no queueing is ended",
    "send": "no receiver gets what is sent",
}


def tell_editor(event: str, **data: Any) -> bool:
    """Send a message to the editor that queued the running prompt.

    It carries the numbers of the run and of the workflow, so that the editor acts on that one.
    What a run without an editor misses by that is told.

    Returns:
        Whether there is an editor to hear it.
    """
    origin = _running()
    if origin is None or origin.client_id is None:
        if event in _MISSED:
            note(
                "editor",
                f"No editor has queued this prompt, so {_MISSED[event]}. Queue it in the editor, or"
                " let the program that queues it do that.",
            )
        return False
    tell_client(origin, event, **data)
    return True


def running_node() -> tuple[str, str] | None:
    """Numbers of the prompt and of the node that are running; None where nothing runs."""
    context = get_executing_context()
    return None if context is None else (context.prompt_id, context.node_id)


def is_running(node: type) -> bool:
    """Whether it is a node of this class that the host runs by now, and nothing within it.

    A node of an expanded graph is in no prompt; the host runs it all the same.
    """
    running = running_node()
    if running is None:
        return False
    prompt_id, node_id = running
    entry = _queued(prompt_id)
    if entry is None or node_id not in entry[2]:
        return True
    return registered_nodes()[0].get(entry[2][node_id]["class_type"]) is node


def running_workflow() -> str | None:
    """The number of the workflow whose prompt runs; None where no editor has sent one."""
    origin = _running()
    return None if origin is None else origin.workflow_id


def _running() -> Origin | None:
    """Where the prompt of the running node comes from; None where nothing runs."""
    context = get_executing_context()
    prompt_id = context.prompt_id if context else getattr(prompt_server(), "last_prompt_id", None)
    entry = _queued(prompt_id)
    if entry is None:
        return None
    extra_data = entry[3]
    number = workflow_id(workflow_of(extra_data))
    return Origin(prompt_id, number, extra_data.get("client_id") or None)


def _queued(prompt_id: str | None) -> Sequence[Any] | None:
    """What the host holds of a prompt that it runs: its number, id, nodes, extra data, and more."""
    server = prompt_server()
    if server is None:
        return None
    running = list(server.prompt_queue.currently_running.values())
    return next((entry for entry in running if entry[1] == prompt_id), None)


def tell_client(origin: Origin, event: str, **data: Any) -> None:
    """Send a message to the editor that has queued a prompt; to nobody else."""
    server = prompt_server()
    if server is not None and origin.client_id is not None:
        server.send_sync(f"detailers-{event}", {**origin.identity, **data}, origin.client_id)


def wait(seconds: float) -> None:
    """Sleep, unless the run is interrupted."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        comfy.model_management.throw_exception_if_processing_interrupted()
        time.sleep(min(left, 0.1))
