"""Decisions on the graph that are made when a prompt arrives, before it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from comfy_execution.validation import validate_node_input

from ..graph import switches
from ..graph.numbered_inputs import expect_numbered
from ..prompts.wildcard_nodes import Origin, fault_of_modes, origin_of, part, plain_id, workflow_of
from .messages import tell_client
from .prompts import NO_JSON, in_thread, is_registered
from .server import declared_inputs, prompt_server, registered_nodes, web_framework


def watch_flow(ours: Mapping[str, type]) -> None:
    """Set switches and modes in every prompt when it arrives, before it runs.

    The route /detailers/modes does so on request: the editor sends a prompt of a workflow that it
    does not show, and gets it back with nodes muted or bypassed.

    Args:
        ours: this pack's nodes, by the ids under which they were registered.
    """
    server = prompt_server()
    if server is None:
        return

    def kind(node: Any) -> str:
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            return ""
        class_type = node.get("class_type")
        return plain_id(class_type) if is_registered(ours, class_type) else ""

    def on_prompt(request: dict[str, Any]) -> dict[str, Any]:
        prompt = part(request, "prompt")
        _prepare(prompt, origin_of(request), workflow_of(request.get("extra_data")), kind)
        return request

    async def on_modes(request: Any) -> Any:
        def work(body: str) -> dict[str, Any]:
            content = json.loads(body)
            if fault := fault_of_modes(content):
                raise ValueError(fault)
            switches.set_modes(content["prompt"], content["modes"], _slots_of, _is_required)
            return content["prompt"]

        web = web_framework()
        try:
            prompt = await in_thread(work, await request.text())
        except NO_JSON as error:
            return web.json_response({"error": f"The modes cannot be set: {error}"}, status=400)
        return web.json_response({"prompt": prompt})

    server.add_on_prompt_handler(on_prompt)
    server.routes.post("/detailers/modes")(on_modes)


def _prepare(
    prompt: dict[str, Any], origin: Origin, workflow: dict[str, Any] | None, kind: switches.Kind
) -> None:
    for change in switches.set_remotely(prompt, kind):
        tell_client(origin, "widget", node=change.node_id, widget=change.widget, value=change.value)
    switches.choose_on_prompt(prompt, kind, _is_required)
    expect_numbered(name for node in prompt.values() if kind(node) for name in node["inputs"])
    if origin.is_editor:
        switches.tell_targets(prompt, workflow, kind)
    else:
        switches.obey_bridges(prompt, kind, _slots_of, _is_required)


def _slots_of(class_type: Any) -> switches.Slots | None:
    """The inputs and outputs of a node of any pack."""
    try:
        node = registered_nodes()[0][class_type]
        inputs = {
            name: entry[0] if isinstance(entry[0], str) else "COMBO"
            for name, entry in declared_inputs(node).items()
        }
        outputs = [kind if isinstance(kind, str) else "COMBO" for kind in node.RETURN_TYPES]
    except Exception:  # not registered, or whatever another pack's class raises
        return None
    return switches.Slots(inputs, tuple(outputs))


def _is_required(class_type: str, name: str) -> bool:
    try:
        return name in registered_nodes()[0][class_type].INPUT_TYPES().get("required", {})
    except Exception:  # not registered, or whatever another pack's class raises
        return False


def wrong_link(node: type, links: Mapping[str, str]) -> str | None:
    """The error text for a link whose type an input does not take. None: all types are right.

    ComfyUI does not check the types for nodes that ask for them in VALIDATE_INPUTS.

    Args:
        links: the type of each connected link, by the name of the input.
    """
    for name, (kind, *_) in declared_inputs(node).items():
        if name in links and not validate_node_input(links[name], kind):
            return f"'{name}' takes {kind}, but {links[name]} is connected."
    return None
