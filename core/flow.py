"""Which part of a graph runs: what is decided on a prompt before the host validates it, and
where a node's links lead in the workflow that the editor sends along.

Nodes inside subgraphs have ids such as "5:3": node 3 inside the subgraph node 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .prompts import workflow_nodes

ACTIVE, MUTED, BYPASSED = 0, 2, 4  # modes of a node, as the editor counts them

SWITCHES = frozenset({"ImpactSwitch", "LatentSwitch", "SEGSSwitch"})
REMOTES = frozenset({"ImpactRemoteInt", "ImpactRemoteBoolean"})
TARGETS = "targets"  # the input of a control bridge that tells where its output leads

Prompt = dict[str, Any]
Kind = Callable[[Any], str]  # of a node of a prompt: its plain id where it is ours, else ""
IsRequired = Callable[[str, str], bool]  # (class_type, input) -> whether it must be there

_SUBGRAPH_OUTPUT = -20  # the node number that stands for a subgraph's outputs inside it


# Before the run ---------------------------------------------------------------------------


@dataclass(frozen=True)
class SetWidget:
    """A value that a node of a prompt was given."""

    node_id: str
    widget: str
    value: Any


def set_remotely(prompt: Prompt, kind: Kind) -> tuple[list[SetWidget], list[str]]:
    """Give other nodes the values of "Remote Int" and "Remote Boolean" nodes, in place.

    An input that is linked keeps its link.

    Returns:
        What was set, and a line for each value that found no place.
    """
    done, failed = [], []
    for node_id, node in prompt.items():
        if kind(node) not in REMOTES:
            continue
        inputs = node["inputs"]
        name, value = inputs.get("widget_name"), inputs.get("value")
        target = nearest(node_id, inputs.get("node_id"), prompt)
        current = prompt[target].get("inputs", {}) if target else {}
        if name not in current or is_link(current[name]) or is_link(value):
            failed.append(
                f"node {node_id} sets {name!r} of node {inputs.get('node_id')}, which has no such "
                "value: check 'node_id' and 'widget_name'"
            )
            continue
        current[name] = value
        done.append(SetWidget(target, name, value))
    return done, failed


def nearest(sender: str, node_id: Any, known: Any) -> str | None:
    """The full id of a node that `sender` names by its number: in the sender's own subgraph, else
    in the ones around it; None if there is none among `known`."""
    level = sender.split(":")[:-1]
    while True:
        candidate = ":".join([*level, str(node_id)])
        if candidate in known:
            return candidate
        if not level:
            return None
        level.pop()


def choose_on_prompt(prompt: Prompt, kind: Kind, is_required: IsRequired) -> None:
    """Take out what switches do not choose, in place, where the choice is no link.

    So the host does not even look at the other branches, which may be incomplete.
    """
    for node_id, node in list(prompt.items()):
        name = kind(node)
        inputs = node["inputs"] if name else {}
        select, chosen_now = inputs.get("select"), inputs.get("sel_mode") is True
        if name in SWITCHES and chosen_now and isinstance(select, int):
            for other in [other for other in inputs if other.startswith("input")]:
                if other != f"input{select}":
                    del inputs[other]
        elif name == "ImpactInversedSwitch" and chosen_now and isinstance(select, int):
            for other, input_name, output in list(consumers(prompt, node_id)):
                if output != select - 1:
                    _cut(prompt, other, input_name, is_required)
        elif name == "ImpactConditionalBranchSelMode" and isinstance(inputs.get("cond"), bool):
            inputs.pop("ff_value" if inputs["cond"] else "tt_value", None)


def _cut(prompt: Prompt, node_id: str, name: str, is_required: IsRequired) -> None:
    """Take a link away, and with it the nodes that cannot do without."""
    node = prompt.get(node_id)
    if node is None or name not in node["inputs"]:
        return
    del node["inputs"][name]
    if is_required(node["class_type"], name):
        del prompt[node_id]
        for other, input_name, _ in list(consumers(prompt, node_id)):
            _cut(prompt, other, input_name, is_required)


def consumers(prompt: Prompt, node_id: str) -> Iterator[tuple[str, str, int]]:
    """(node, input, output slot) of every link from a node."""
    for other, node in prompt.items():
        for name, value in (node.get("inputs") or {}).items() if isinstance(node, dict) else ():
            if is_link(value) and value[0] == node_id:
                yield other, name, value[1]


def output_count(prompt: Any, node_id: str) -> int:
    """How many outputs a node that has any number of them gives.

    More than are linked, so that a result from the host's cache will do when links are added.

    Args:
        prompt: the host's view of the running prompt, with `all_node_ids()` and `get_node(id)`.
    """
    nodes = {other: prompt.get_node(other) for other in prompt.all_node_ids()}
    return max([64, *(slot + 1 for _, _, slot in consumers(nodes, node_id))])


def is_link(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


def tell_targets(prompt: Prompt, workflow: Any, kind: Kind) -> None:
    """Tell each control bridge which nodes its output leads to, and their modes, in place.

    As an input of the node, the modes decide too whether the host may use a cached result.
    """
    for node_id, node in prompt.items():
        if kind(node) == "ImpactControlBridge":
            found = targets(workflow, node_id) if isinstance(workflow, dict) else {}
            node["inputs"][TARGETS] = found


# In the workflow ----------------------------------------------------------------------------


def targets(workflow: dict[str, Any], node_id: str, output: int = 0) -> dict[str, int]:
    """The nodes that an output leads to, by way of reroutes, and their modes.

    Out of a subgraph the links are followed; a subgraph node is a target as a whole.
    """
    found: dict[str, int] = {}
    waiting, seen = [(node_id, output)], set()
    while waiting:
        source, slot = waiting.pop()
        if (source, slot) in seen:
            continue
        seen.add((source, slot))
        *level, number = source.split(":")
        graph = _graph_at(workflow, level)
        for target, target_slot in _links_from(graph, number, slot):
            if target == str(_SUBGRAPH_OUTPUT):
                waiting.append((":".join(level), target_slot))
                continue
            path = ":".join([*level, target])
            for node in workflow_nodes(workflow, path.split(":")):
                if node.get("type") == "Reroute":
                    waiting.append((path, 0))
                else:
                    found[path] = node.get("mode", ACTIVE)
    return found


def _graph_at(workflow: dict[str, Any], level: list[str]) -> dict[str, Any]:
    """The inside of the subgraph node at a path of ids; the workflow itself for an empty one."""
    if not level:
        return workflow
    subgraphs = (workflow.get("definitions") or {}).get("subgraphs") or []
    for node in workflow_nodes(workflow, level):
        for graph in subgraphs:
            if isinstance(graph, dict) and graph.get("id") == node.get("type"):
                return graph
    return {}


def _links_from(graph: dict[str, Any], number: str, slot: int) -> Iterator[tuple[str, int]]:
    for link in graph.get("links") or []:
        if isinstance(link, dict):
            keys = ("origin_id", "origin_slot", "target_id", "target_slot")
            origin, origin_slot, target, target_slot = (link.get(key) for key in keys)
        elif isinstance(link, list) and len(link) >= 5:
            _, origin, origin_slot, target, target_slot = link[:5]
        else:
            continue
        if (str(origin), origin_slot) == (number, slot):
            yield str(target), target_slot


def input_label(workflow: Any, node_id: str, name: str) -> str:
    """What the user calls an input of a node; its name where he calls it nothing else."""
    if isinstance(workflow, dict):
        for node in workflow_nodes(workflow, node_id.split(":")):
            for slot in node.get("inputs") or []:
                if slot.get("name") == name:
                    return slot.get("label") or name
    return name
