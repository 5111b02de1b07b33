"""Prepare prompts before ComfyUI runs them: upgrade old ones, and expand their wildcard texts.

Both may have to read files: wildcard lists, and files that a pack reads to list the inputs of its
nodes. The server's event loop, in which prompts arrive, must not wait for files. So a thread
prepares the prompt before ComfyUI gets it, and keeps the results. When ComfyUI then calls this
pack's prompt handler, the results are there at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import nodes as host_nodes

from ...utils.notes import note
from ...wildcards.budget import Budget
from ...wildcards.grammar import WildcardError, expand, strip_comments
from ..graph import legacy
from ..prompts.wildcard_nodes import (
    Populated,
    fault_of,
    origin_of,
    part,
    populate,
    record,
    restore_seeds,
    settle_seeds,
    workflow_of,
)
from .folders import wildcard_library
from .server import at_startup, declared_inputs, prompt_server, web_framework

log = logging.getLogger(__name__)

# Errors of reading a body: an unknown or wrong encoding, no JSON, or too deeply nested JSON.
NO_JSON = (LookupError, ValueError, RecursionError)
_PROMPTS = ("/prompt", "/api/prompt")
_NODE_LISTS = ("/object_info", "/api/object_info")

# The time for all texts of a prompt before it is queued. The nodes expand the remaining texts.
DRAWING_SECONDS = 20.0

# There is one thread, so that prompts stay in the order in which they arrived.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detailers-prompts")


class LookUps:
    """Results that are needed to prepare a prompt. Each one is looked up only once.

    After `complete` is set, nothing is looked up that might have to wait for files.
    """

    def __init__(self) -> None:
        self.complete = False
        self.budget = Budget(seconds=DRAWING_SECONDS)
        self._inputs: dict[str, dict[str, Any]] = {}
        self._texts: dict[tuple[str, int], str] = {}

    def input_type(self, class_type: str, name: str) -> str | None:
        """The link type of an input of a node. None: it is unknown."""
        kind = self._input(class_type, name)[0]
        return kind if isinstance(kind, str) else None

    def labels(self, class_type: str, name: str) -> list[str]:
        """The labels of a boolean input for true and for false. Empty: it has no own labels."""
        options = (*self._input(class_type, name), {})[1]
        labels = [part(options).get(key) for key in ("label_on", "label_off")]
        return [label for label in labels if isinstance(label, str)] if all(labels) else []

    def _input(self, class_type: str, name: str) -> Sequence[Any]:
        if class_type not in self._inputs:
            self._inputs[class_type] = {} if self.complete else _inputs_of(class_type)
        entry = self._inputs[class_type].get(name)
        return entry if isinstance(entry, list | tuple) and entry else (None,)

    def text(self, text: str, seed: int) -> str:
        """The expanded text.

        Raises:
            WildcardError: the text cannot be expanded, or was not expanded in time.
        """
        key = (text, seed)
        if key not in self._texts:
            if self.complete:
                raise WildcardError("The text was not drawn before the prompt came to the host.")
            self._texts[key] = expand(text, seed, wildcard_library(), self.budget)
        return self._texts[key]

    def has_nothing_to_draw(self, text: str) -> bool:
        """Whether a text is the same for every seed."""
        try:
            return self.text(text, 0) == strip_comments(text)
        except WildcardError:  # the node says so when it runs
            return False


_of_request: ContextVar[LookUps | None] = ContextVar("detailers_look_ups", default=None)


def watch_prompts(ours: Mapping[str, type]) -> None:
    """Prepare every prompt as soon as it arrives.

    Prompts of older versions are upgraded, and the texts of wildcard nodes are expanded. The editor
    gets each expanded text, so that it can show it. The route /detailers/upgrade only upgrades a
    prompt; the editor uses it when a prompt is opened as a workflow.

    Args:
        ours: this pack's nodes, by the ids under which they were registered.
    """
    server = prompt_server()
    if server is None:
        return
    web = web_framework()
    legacy.read_table()  # so that the first prompt does not wait for it

    def on_prompt(request: Any) -> Any:
        drawn = prepare(part(request, "prompt"), ours, _of_request.get() or LookUps())
        record(workflow_of(request.get("extra_data")), drawn)
        origin = origin_of(request)
        for entry in drawn if origin.client_id else ():
            message = {**origin.identity, "node": entry.node_id, "text": entry.text}
            server.send_sync("detailers-populated", message, origin.client_id)
        return request

    async def on_upgrade(request: Any) -> Any:
        def work(body: str) -> str:
            prompt, changed = json.loads(body), []
            if isinstance(prompt, dict):
                changed = _upgrade(prompt, ours, LookUps())
                restore_seeds(prompt)
            return json.dumps({"prompt": prompt, "changed": changed})

        try:
            answer = await in_thread(work, await request.text())
        except NO_JSON as error:
            return web.json_response({"error": f"The body is no JSON: {error}"}, status=400)
        except Exception as error:  # the body is damaged, or holds something unexpected
            log.exception("a prompt could not be upgraded")
            fault = f"The prompt cannot be upgraded: {error!r}"
            return web.json_response({"error": fault}, status=400)
        return web.Response(text=answer, content_type="application/json")

    server.add_on_prompt_handler(on_prompt)
    server.routes.post("/detailers/upgrade")(on_upgrade)
    _prepare_in_advance(server, ours)
    at_startup(server, lambda: _register_replacements(ours))


def prepare(prompt: dict[str, Any], ours: Mapping[str, type], look_ups: LookUps) -> list[Populated]:
    """Upgrade a prompt and expand the texts of this pack's nodes, in place."""
    _upgrade(prompt, ours, look_ups)
    own = {
        node_id: node
        for node_id, node in prompt.items()
        if isinstance(node, dict) and is_registered(ours, node.get("class_type"))
    }
    drawn = populate(own, look_ups.text)
    settle_seeds(own, look_ups.has_nothing_to_draw)
    if look_ups.budget.ended and not look_ups.complete:
        note(
            "wildcards",
            "Some wildcard texts of a prompt were not expanded before it was queued: "
            f"{look_ups.budget.ended} The nodes expand these texts when they run.",
        )
    return drawn


def is_registered(ours: Mapping[str, type], class_type: Any) -> bool:
    """Whether an id belongs to this pack, and no other pack has overwritten it."""
    node = ours.get(class_type) if isinstance(class_type, str) else None
    return node is not None and host_nodes.NODE_CLASS_MAPPINGS.get(class_type) is node


async def in_thread(work: Any, *arguments: Any) -> Any:
    """Do work that waits for files in a thread, so that the server can serve other clients."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work, *arguments)


def _prepare_in_advance(server: Any, ours: Mapping[str, type]) -> None:
    """Add a middleware that looks up in advance what a request for prompts or nodes needs."""
    web = web_framework()

    @web.middleware
    async def in_advance(request: Any, handler: Any) -> Any:
        if request.method == "POST" and request.path in _PROMPTS:
            try:
                look_ups, fault = await in_thread(_looked_up, await request.text(), ours)
            except NO_JSON as error:
                fault = f"The body is no JSON: {error}"
            if fault:
                return web.json_response({"error": _error(fault), "node_errors": {}}, status=400)
            token = _of_request.set(look_ups)
            try:
                return await handler(request)
            finally:
                _of_request.reset(token)
        if request.path.startswith(_NODE_LISTS):
            await in_thread(_remember_names)
        return await handler(request)

    try:
        server.app.middlewares.append(in_advance)
    except (
        AttributeError,
        RuntimeError,
    ) as error:  # the server runs already, or is of another kind
        log.warning("prompts cannot be prepared in advance: %s", error)


def _looked_up(body: str, ours: Mapping[str, type]) -> tuple[LookUps, str]:
    """The look-ups for the prompt in a request's body, and a text that says what is wrong."""
    look_ups, request = LookUps(), json.loads(body)
    fault = fault_of(request)
    if not fault:
        try:
            prepare(request.get("prompt") or {}, ours, look_ups)
            _remember_names()
        except Exception:  # any error: ComfyUI checks the prompt itself
            log.exception("a prompt could not be prepared; its nodes do this when they run")
    look_ups.complete = True
    return look_ups, fault


def _error(fault: str) -> dict[str, Any]:
    """An error in the form in which ComfyUI reports errors of prompts."""
    return {"type": "invalid_prompt", "message": fault, "details": fault, "extra_info": {}}


# What nodes take -----------------------------------------------------------------------------

_names: list[str] | None = None  # names of the wildcard lists when they were last read


def wildcard_names() -> list[str]:
    """Names of the wildcard lists, for widgets.

    In the server's event loop these are the names that were read last. They are read before each
    request for nodes and before each prompt.
    """
    return _remember_names() if _names is None or not _on_servers_loop() else _names


def _remember_names() -> list[str]:
    global _names
    _names = wildcard_library().names()
    return _names


def _on_servers_loop() -> bool:
    server = prompt_server()
    try:
        return server is not None and asyncio.get_running_loop() is server.loop
    except RuntimeError:  # no loop runs in this thread
        return False


def _upgrade(prompt: dict[str, Any], ours: Mapping[str, type], look_ups: LookUps) -> list[str]:
    outputs = {
        node_id: dict(
            zip(getattr(node, "RETURN_NAMES", node.RETURN_TYPES), node.RETURN_TYPES, strict=True)
        )
        for node_id, node in ours.items()
        if is_registered(ours, node_id)
    }
    interfaces = legacy.Interfaces(look_ups.input_type, _output_types, look_ups.labels)
    return legacy.upgrade(prompt, outputs, host_nodes.NODE_CLASS_MAPPINGS, interfaces)


def _output_types(class_type: str) -> Sequence[str]:
    try:
        return tuple(host_nodes.NODE_CLASS_MAPPINGS[class_type].RETURN_TYPES)
    except Exception:  # not registered, or whatever another pack's class raises
        return ()


def _inputs_of(class_type: str) -> dict[str, Any]:
    try:
        return declared_inputs(host_nodes.NODE_CLASS_MAPPINGS[class_type])
    except Exception:  # not registered, or whatever another pack's class raises
        return {}


async def _register_replacements(ours: Mapping[str, type]) -> None:
    """Tell ComfyUI which nodes replace old nodes, if this version has an API for that."""
    import comfy_api.latest as host_api

    api = host_api.ComfyAPI()
    if not hasattr(api, "node_replacement"):
        return
    inputs = {
        node_id: list(declared_inputs(node))
        for node_id, node in ours.items()
        if is_registered(ours, node_id)
    }
    for replacement in legacy.replacements(inputs):
        await api.node_replacement.register(host_api.io.NodeReplace(**replacement))
