"""Wildcard nodes in prompts: their texts are drawn before the host validates a prompt.

So the drawn text is part of the prompt, and of the workflow that is saved with the picture, no
matter which client sent the prompt.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...wildcards.grammar import WildcardError

WILDCARD_NODES = frozenset({"ImpactWildcardProcessor", "ImpactWildcardEncode"})
POPULATE, FIXED, REPRODUCE = "populate", "fixed", "reproduce"
MODES = (POPULATE, FIXED, REPRODUCE)

# The ids of the nodes inside a subgraph that are its inputs and outputs.
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = "-10", "-20"


_KEPT_SEED = "detailers_seed"  # in a node's `_meta`: the seed that was taken out of its inputs


@dataclass(frozen=True)
class Origin:
    """Where a prompt comes from.

    Attributes:
        prompt_id: the host's id of the run.
        workflow_id: the editor's id of the workflow; None for prompts without a workflow.
        client_id: the client that gets messages about the run; None for no client.
    """

    prompt_id: str
    workflow_id: str | None
    client_id: str | None

    @property
    def identity(self) -> dict[str, str | None]:
        """The fields in every message to the editor by which it finds the right workflow."""
        return {"prompt_id": self.prompt_id, "workflow_id": self.workflow_id}

    @property
    def is_editor(self) -> bool:
        """Whether an editor has sent the prompt: it sends the workflow, and receives messages."""
        return self.workflow_id is not None and self.client_id is not None


def origin_of(request: dict[str, Any]) -> Origin:
    """The origin of a request to queue a prompt. A request without an id gets one, in place."""
    if request.get("prompt_id") is None:
        request["prompt_id"] = str(uuid.uuid4())
    workflow = workflow_of(request.get("extra_data"))
    return Origin(str(request["prompt_id"]), workflow_id(workflow), client_of(request) or None)


def workflow_of(extra_data: Any) -> dict[str, Any] | None:
    """The editor's workflow in the extra data of a prompt."""
    return part(extra_data, "extra_pnginfo", "workflow") or None


def workflow_id(workflow: dict[str, Any] | None) -> str | None:
    """A workflow's id; "" if its editor gives none, None without a workflow."""
    return None if workflow is None else str(workflow.get("id") or "")


@dataclass(frozen=True)
class Populated:
    """The text that was drawn for a node of a prompt."""

    node_id: str
    text: str


def populate(prompt: dict[str, Any], expand: Callable[[str, int], str]) -> list[Populated]:
    """Draw the texts of all wildcard nodes in `populate` mode, in place.

    Such a node gets the text as `populated_text`, and the mode `reproduce`. A node whose text or
    seed comes over a link is skipped: it draws its text when it runs. A node whose text cannot be
    expanded is skipped too, and its error is raised when it runs.

    Args:
        prompt: an API-format prompt: id -> {"class_type", "inputs"}.
        expand: (text, seed) -> text.
    """
    drawn = []
    for node_id, node in _wildcard_nodes(prompt):
        inputs = node["inputs"]
        text, seed = inputs.get("wildcard_text"), inputs.get("seed")
        if inputs.get("mode") != POPULATE or not isinstance(text, str) or not isinstance(seed, int):
            continue
        try:
            inputs["populated_text"] = expand(text, seed)
        except WildcardError:
            continue
        inputs["mode"] = REPRODUCE
        drawn.append(Populated(node_id, inputs["populated_text"]))
    return drawn


def settle_seeds(prompt: dict[str, Any], is_settled: Callable[[str], bool]) -> None:
    """Set seeds that have no effect to 0 in the wildcard nodes of a prompt, in place.

    The host runs a node, and all nodes after it, again when one of its inputs changes. If the text
    is fixed and has nothing to draw, the host gets the seed 0. The real seed is kept in the node's
    `_meta`, for those who open the prompt later (see `restore_seeds`).

    Args:
        prompt: as `populate` changed it.
        is_settled: whether a text has nothing to draw.
    """
    for _, node in _wildcard_nodes(prompt):
        inputs = node["inputs"]
        text, seed = inputs.get("populated_text"), inputs.get("seed")
        is_fixed = inputs.get("mode") in (FIXED, REPRODUCE)
        if is_fixed and seed not in (0, None) and isinstance(text, str) and is_settled(text):
            inputs["seed"] = 0
            node["_meta"] = {**(node.get("_meta") or {}), _KEPT_SEED: seed}


def restore_seeds(prompt: dict[str, Any]) -> list[str]:
    """Put the seeds back that `settle_seeds` took out, in place; return the ids of these nodes."""
    changed = []
    for node_id, node in prompt.items():
        meta = node.get("_meta") if isinstance(node, dict) else None
        if isinstance(meta, dict) and isinstance(node.get("inputs"), dict) and _KEPT_SEED in meta:
            node["inputs"]["seed"] = meta.pop(_KEPT_SEED)
            changed.append(node_id)
    return changed


def _wildcard_nodes(prompt: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for node_id, node in prompt.items():
        is_one = isinstance(node, dict) and plain_id(node.get("class_type")) in WILDCARD_NODES
        if is_one and isinstance(node.get("inputs"), dict):
            yield node_id, node


def plain_id(class_type: Any) -> str:
    """A node id without the suffix that it gets if another pack has the same ids."""
    return str(class_type).removesuffix(" //Detailers")


def part(content: Any, *names: str) -> dict[str, Any]:
    """The object at a path of names in JSON content; an empty one if there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def client_of(request: Any) -> str | None:
    """The client that sent a prompt: the `client_id` of a request; None for all clients."""
    client = request.get("client_id") if isinstance(request, dict) else None
    return client if isinstance(client, str) else None


def fault_of(request: Any) -> str:
    """Why JSON content is no request for a prompt, if the host would fail on it; otherwise ""."""
    if not isinstance(request, dict):
        return "The body is no JSON object."
    for name in ("prompt", "extra_data"):
        if name in request and not isinstance(request[name], dict):
            return f"{name!r} is no JSON object."
    if isinstance(request.get("client_id"), list | dict):
        return "'client_id' is no text."
    for node_id, node in request.get("prompt", {}).items():
        if not isinstance(node, dict):
            return f"Node {node_id} is no JSON object."
        if not isinstance(node.get("inputs", {}), dict):
            return f"The 'inputs' of node {node_id} are no JSON object."
        if not isinstance(node.get("class_type", ""), str):
            return f"The 'class_type' of node {node_id} is no text."
    return ""


def fault_of_modes(content: Any) -> str:
    """Why JSON content is no prompt with modes of nodes, as `flow.set_modes` takes it; or ""."""
    if fault := fault_of(content):
        return fault
    for name in ("prompt", "modes"):
        if not isinstance(content.get(name), dict):
            return f"{name!r} is no JSON object."
    for node_id, node in content["prompt"].items():
        if "class_type" not in node:
            return f"Node {node_id} has no 'class_type'."
    for node_id, mode in content["modes"].items():
        if not isinstance(mode, int):
            return f"The mode of node {node_id} is no whole number."
    return ""


def record(workflow: dict[str, Any] | None, drawn: list[Populated]) -> None:
    """Put drawn texts into the workflow that is saved with pictures, in place.

    Args:
        workflow: in the editor's format. Nodes in subgraphs have a path such as "5:3" as their id.
    """
    if not isinstance(workflow, dict):
        return
    for populated in drawn:
        path = populated.node_id.split(":")
        for place, (name, value) in enumerate(
            {"populated_text": populated.text, "mode": REPRODUCE}.items(), start=1
        ):  # both nodes have wildcard_text, populated_text and mode as their first widgets
            set_value(workflow, path, name, place, value)


def workflow_nodes(workflow: dict[str, Any], path: list[str]) -> Iterator[dict[str, Any]]:
    """The node at a path of ids through nested subgraphs, if there is one."""
    subgraphs = part(workflow, "definitions").get("subgraphs")
    graphs = {
        graph["id"]: graph
        for graph in (subgraphs if isinstance(subgraphs, list) else ())
        if isinstance(graph, dict) and isinstance(graph.get("id"), str)
    }
    graph: Any = workflow
    for depth, own in enumerate(path):
        nodes = graph.get("nodes") if isinstance(graph, dict) else None
        nodes = nodes if isinstance(nodes, list) else ()
        node = next((n for n in nodes if isinstance(n, dict) and str(n.get("id")) == own), None)
        if node is None:
            return
        if depth == len(path) - 1:
            yield node
        graph = graphs.get(str(node.get("type")))


def set_value(workflow: dict[str, Any], path: list[str], name: str, place: int, value: Any) -> None:
    """Set the value of a widget in a saved workflow where it counts, in place.

    If a subgraph node shows the widget, its value is stored in that node, at any depth. Older
    editors read it from the node inside, so it is set there too.

    Args:
        path: the ids of the subgraph nodes, and of the node.
        name, place: the widget's name, and the index of its value among the node's values.
    """
    for node in workflow_nodes(workflow, path):
        _put(node, name, place, value)
        _set_outside(workflow, path, _input_named(node, name), value)


def _set_outside(
    workflow: dict[str, Any], path: list[str], slot: dict[str, Any] | None, value: Any
) -> None:
    """Set the value of the subgraph node's widget that an input inside is linked to, if any."""
    if slot is None or slot.get("link") is None or len(path) < 2:
        return
    outer_path = path[:-1]
    inside = graph_at(workflow, outer_path)
    number = next(
        (origin_slot for link, origin, origin_slot, *_ in links_of(inside)
         if link == slot["link"] and origin == SUBGRAPH_INPUT),
        None,
    )  # fmt: skip
    shown = _objects(inside.get("inputs"))
    if not isinstance(number, int) or not 0 <= number < len(shown):
        return
    name = shown[number].get("name")
    for holder in workflow_nodes(workflow, outer_path):
        outer = next((s for s in _objects(holder.get("inputs")) if s.get("name") == name), None)
        if outer is not None and outer.get("link") is not None:
            _set_outside(workflow, outer_path, outer, value)
        else:
            place = sum(_shows_widget(inside, other) for other in range(number))
            _put(holder, name, place, value)


def _shows_widget(graph: dict[str, Any], number: int) -> bool:
    """Whether an input of a subgraph belongs to a widget inside."""
    targets = {
        (target, target_slot)
        for _, origin, origin_slot, target, target_slot in links_of(graph)
        if origin == SUBGRAPH_INPUT and origin_slot == number
    }
    return any(
        slot.get("widget")
        for node in _objects(graph.get("nodes"))
        for place, slot in enumerate(_objects(node.get("inputs")))
        if (str(node.get("id")), place) in targets
    )


def _input_named(node: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The input of a node that belongs to one of its widgets."""
    for slot in _objects(node.get("inputs")):
        if part(slot, "widget").get("name") == name:
            return slot
    return None


def _put(node: dict[str, Any], name: str, place: int, value: Any) -> None:
    values, named = node.get("widgets_values"), node.get("widgets_values_named")
    if isinstance(values, list) and place < len(values):
        values[place] = value
    elif isinstance(values, dict):
        values[name] = value
    if isinstance(named, dict) and name in named:
        named[name] = value


def graph_at(workflow: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """The graph inside the subgraph node at a path of ids; the workflow for an empty path."""
    if not path:
        return workflow
    for node in workflow_nodes(workflow, path):
        for graph in _objects(part(workflow, "definitions").get("subgraphs")):
            if graph.get("id") == node.get("type"):
                return graph
    return {}


def links_of(graph: dict[str, Any]) -> Iterator[tuple[Any, str, Any, str, Any]]:
    """(id, source, its output, target, its input) of every link of a graph or subgraph."""
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    links = graph.get("links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict):
            number, origin, origin_slot, target, target_slot = (link.get(key) for key in keys)
        elif isinstance(link, list) and len(link) >= 5:
            number, origin, origin_slot, target, target_slot = link[:5]
        else:
            continue
        yield number, str(origin), origin_slot, str(target), target_slot


def _objects(content: Any) -> list[dict[str, Any]]:
    """The entries of a list in JSON content; an entry that is no object becomes an empty one."""
    entries = content if isinstance(content, list) else ()
    return [entry if isinstance(entry, dict) else {} for entry in entries]
