"""Prompts on their way to the host: wildcard texts are populated before the host validates them.

Done there, the text that was drawn is part of the prompt and of the workflow that is saved with
the picture, whoever sent the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..wildcards.grammar import WildcardError

WILDCARD_NODES = frozenset({"ImpactWildcardProcessor", "ImpactWildcardEncode"})
POPULATE, FIXED, REPRODUCE = "populate", "fixed", "reproduce"
MODES = (POPULATE, FIXED, REPRODUCE)


@dataclass(frozen=True)
class Populated:
    """The text that was drawn for a node of a prompt."""

    node_id: str
    text: str


def populate(prompt: dict[str, Any], expand: Callable[[str, int], str]) -> list[Populated]:
    """Draw the texts of all wildcard nodes in `populate` mode, in place.

    Such a node then carries the text as `populated_text` and is in mode `reproduce`. A node whose
    text or seed comes over a link is left to populate itself when it runs, as is one whose text
    cannot be expanded, which then says why.

    Args:
        prompt: an API-format prompt: id -> {"class_type", "inputs"}.
        expand: (text, seed) -> text.
    """
    drawn = []
    for node_id, node in prompt.items():
        if not isinstance(node, dict) or plain_id(node.get("class_type")) not in WILDCARD_NODES:
            continue
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            continue
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


def plain_id(class_type: Any) -> str:
    """A node id without the ending that it has beside another pack with the same ids."""
    return str(class_type).removesuffix(" //Detailers")


def part(content: Any, *names: str) -> dict[str, Any]:
    """An object within JSON content, by the names that lead to it; empty where there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def client_of(request: Any) -> str | None:
    """Who sent a prompt: the `client_id` of a request, None for all clients."""
    client = request.get("client_id") if isinstance(request, dict) else None
    return client if isinstance(client, str) else None


def fault_of(request: Any) -> str:
    """Why JSON content is no request for a prompt, where the host would fail over it; or ""."""
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


def record(workflow: dict[str, Any] | None, drawn: list[Populated]) -> None:
    """Put drawn texts into the workflow that is saved with pictures, in place.

    Args:
        workflow: in the editor's format; nodes in subgraphs are named by a path such as "5:3".
    """
    if not isinstance(workflow, dict):
        return
    for populated in drawn:
        for node in workflow_nodes(workflow, populated.node_id.split(":")):
            _set_text(node, populated.text)


def workflow_nodes(workflow: dict[str, Any], path: list[str]) -> Iterator[dict[str, Any]]:
    """The node at the end of a path of ids through nested subgraphs."""
    subgraphs = part(workflow, "definitions").get("subgraphs")
    graphs = {
        graph["id"]: graph
        for graph in (subgraphs if isinstance(subgraphs, list) else ())
        if isinstance(graph, dict) and isinstance(graph.get("id"), str)
    }
    level: Any = workflow
    for depth, own in enumerate(path):
        nodes = level.get("nodes") if isinstance(level, dict) else None
        nodes = nodes if isinstance(nodes, list) else ()
        node = next((n for n in nodes if isinstance(n, dict) and str(n.get("id")) == own), None)
        if node is None:
            return
        if depth == len(path) - 1:
            yield node
        level = graphs.get(str(node.get("type")))


def _set_text(node: dict[str, Any], text: str) -> None:
    """Both nodes have wildcard_text, populated_text and mode as their first widgets."""
    values = node.get("widgets_values")
    if isinstance(values, list) and len(values) >= 3:
        values[1], values[2] = text, REPRODUCE
    elif isinstance(values, dict):
        values.update(populated_text=text, mode=REPRODUCE)
