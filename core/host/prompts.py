"""Prompts on their way into the host: brought to today's form, and their wildcard texts drawn.

Both may wait for files: wildcard lists, and whatever a pack reads to say what its nodes take. The
server's event loop, on which prompts arrive, must not. So a prompt is gone through in a thread
before the host gets it; what was looked up there is remembered, and answers at once when the host
asks for the prompt to be changed.
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

# What reading a body raises: an unknown or a wrong encoding, no JSON, or too deep a one.
NO_JSON = (LookupError, ValueError, RecursionError)
_PROMPTS = ("/prompt", "/api/prompt")
_NODE_LISTS = ("/object_info", "/api/object_info")

# For all texts of a prompt before it is queued; the rest wait for their nodes.
DRAWING_SECONDS = 20.0

# One thread: prompts come out of it in the order in which they arrived.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detailers-prompts")


class LookUps:
    """What is looked up to prepare a prompt; each thing once.

    Once `complete`, nothing is looked up any more that might wait for files.
    """

    def __init__(self) -> None:
        self.complete = False
        self.budget = Budget(seconds=DRAWING_SECONDS)
        self._inputs: dict[str, dict[str, Any]] = {}
        self._texts: dict[tuple[str, int], str] = {}

    def input_type(self, class_type: str, name: str) -> str | None:
        """The link type of an input of a node; None if it is not known."""
        kind = self._input(class_type, name)[0]
        return kind if isinstance(kind, str) else None

    def labels(self, class_type: str, name: str) -> list[str]:
        """What a boolean input shows for true and for false; empty if nothing of its own."""
        options = (*self._input(class_type, name), {})[1]
        labels = [part(options).get(key) for key in ("label_on", "label_off")]
        return [label for label in labels if isinstance(label, str)] if all(labels) else []

    def _input(self, class_type: str, name: str) -> Sequence[Any]:
        if class_type not in self._inputs:
            self._inputs[class_type] = {} if self.complete else _inputs_of(class_type)
        entry = self._inputs[class_type].get(name)
        return entry if isinstance(entry, list | tuple) and entry else (None,)

    def text(self, text: str, seed: int) -> str:
        """What is drawn for a text.

        Raises:
            WildcardError: it cannot be expanded, or has not been in time.
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
    """Look at every prompt as soon as it arrives.

    What older versions made is brought to today's form, and the texts of wildcard nodes are drawn.
    The editor hears of each text, so that it can show it. It may also ask for the first alone, at
    /detailers/upgrade, for a prompt that is opened as a workflow.

    Args:
        ours: this pack's nodes by the id that they were registered under.
    """
    server = prompt_server()
    if server is None:
        return
    web = web_framework()
    legacy.read_table()  # now, rather than when the first prompt comes

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
        except Exception as error:  # it is packed wrongly, or holds what nobody foresaw
            log.exception("a prompt could not be upgraded")
            fault = f"The prompt cannot be upgraded: {error!r}"
            return web.json_response({"error": fault}, status=400)
        return web.Response(text=answer, content_type="application/json")

    server.add_on_prompt_handler(on_prompt)
    server.routes.post("/detailers/upgrade")(on_upgrade)
    _prepare_in_advance(server, ours)
    at_startup(server, lambda: _register_replacements(ours))


def prepare(prompt: dict[str, Any], ours: Mapping[str, type], look_ups: LookUps) -> list[Populated]:
    """Bring a prompt to today's form and draw the texts of this pack's nodes, in place."""
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
            f"Not all texts of a prompt are drawn before it is queued: {look_ups.budget.ended} "
            "The nodes draw the rest when they run.",
        )
    return drawn


def is_registered(ours: Mapping[str, type], class_type: Any) -> bool:
    """Whether an id is one of this pack's, and no other pack has taken it over."""
    node = ours.get(class_type) if isinstance(class_type, str) else None
    return node is not None and host_nodes.NODE_CLASS_MAPPINGS.get(class_type) is node


async def in_thread(work: Any, *arguments: Any) -> Any:
    """Do something that waits for files, without the server's other clients waiting for it."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work, *arguments)


def _prepare_in_advance(server: Any, ours: Mapping[str, type]) -> None:
    """Have each request that is about prompts or nodes look up beforehand what it will need."""
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
    except (AttributeError, RuntimeError) as error:  # the server runs already, or is another one
        log.warning("prompts are prepared only once the server asks for it: %s", error)


def _looked_up(body: str, ours: Mapping[str, type]) -> tuple[LookUps, str]:
    """What the prompt in a request's body needs to know, and what is wrong with the body."""
    look_ups, request = LookUps(), json.loads(body)
    fault = fault_of(request)
    if not fault:
        try:
            prepare(request.get("prompt") or {}, ours, look_ups)
            _remember_names()
        except Exception:  # whatever a strange prompt or a file gives, the host has the last word
            log.exception("a prompt could not be prepared; its nodes do it when they run")
    look_ups.complete = True
    return look_ups, fault


def _error(fault: str) -> dict[str, Any]:
    """A fault in the form in which the host says what is wrong with a prompt."""
    return {"type": "invalid_prompt", "message": fault, "details": fault, "extra_info": {}}


# What nodes take -----------------------------------------------------------------------------

_names: list[str] | None = None  # of the wildcard lists, as last read


def wildcard_names() -> list[str]:
    """Names of the wildcard lists, for widgets.

    On the server's event loop they are those that were last read: before each request that asks
    for nodes, and before each prompt.
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
    """Tell the host which nodes took the place of those that are no more, if it wants to know."""
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
