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
        inputs = node.get("inputs", {})
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
    graphs = {
        graph.get("id"): graph
        for graph in (workflow.get("definitions") or {}).get("subgraphs") or []
        if isinstance(graph, dict)
    }
    level: Any = workflow
    for depth, part in enumerate(path):
        nodes = level.get("nodes") or [] if isinstance(level, dict) else []
        node = next((n for n in nodes if isinstance(n, dict) and str(n.get("id")) == part), None)
        if node is None:
            return
        if depth == len(path) - 1:
            yield node
        level = graphs.get(node.get("type"))


def _set_text(node: dict[str, Any], text: str) -> None:
    """Both nodes have wildcard_text, populated_text and mode as their first widgets."""
    values = node.get("widgets_values")
    if isinstance(values, list) and len(values) >= 3:
        values[1], values[2] = text, REPRODUCE
    elif isinstance(values, dict):
        values.update(populated_text=text, mode=REPRODUCE)
