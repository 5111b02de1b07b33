"""Which part of a graph runs: what is decided on a prompt before the host validates it, and
where a node's links lead in the workflow that the editor sends along.

Nodes inside subgraphs have ids such as "5:3": node 3 inside the subgraph node 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..prompts.wildcard_nodes import SUBGRAPH_OUTPUT, graph_at, links_of, workflow_nodes

ACTIVE, MUTED, BYPASSED = 0, 2, 4  # modes of a node, as the editor counts them
MODES = {"Mute": MUTED, "Bypass": BYPASSED}  # what a control bridge calls them

SWITCHES = frozenset({"ImpactSwitch", "LatentSwitch", "SEGSSwitch"})
REMOTES = frozenset({"ImpactRemoteInt", "ImpactRemoteBoolean"})
TARGETS = "targets"  # the input of a control bridge that tells where its output leads

Prompt = dict[str, Any]
Kind = Callable[[Any], str]  # of a node of a prompt: its plain id where it is ours, else ""
IsRequired = Callable[[str, str], bool]  # (class_type, input) -> whether it must be there


# Before the run ---------------------------------------------------------------------------


@dataclass(frozen=True)
class SetWidget:
    """A value that a node of a prompt was given."""

    node_id: str
    widget: str
    value: Any


def set_remotely(prompt: Prompt, kind: Kind) -> list[SetWidget]:
    """Give other nodes the values of "Remote Int" and "Remote Boolean" nodes, in place.

    An input that is linked keeps its link.

    Returns:
        What was set. `remote_place` tells what was not.
    """
    done = []
    for node_id, node in prompt.items():
        if kind(node) not in REMOTES:
            continue
        target = remote_place(prompt, node_id)
        if target is None:
            continue
        name, value = node["inputs"]["widget_name"], node["inputs"]["value"]
        prompt[target]["inputs"][name] = value
        done.append(SetWidget(target, name, value))
    return done


def remote_place(prompt: Prompt, node_id: str) -> str | None:
    """The id of the node whose value a "Remote" node sets; None where there is none to set."""
    inputs = prompt[node_id]["inputs"]
    name = inputs.get("widget_name")
    target = nearest(node_id, inputs.get("node_id"), prompt)
    current = prompt[target].get("inputs", {}) if target else {}
    is_missing = "value" not in inputs or name not in current
    return None if is_missing or is_link(current[name]) or is_link(inputs["value"]) else target


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
                    _take_link_away(prompt, other, input_name, is_required)
        elif name == "ImpactConditionalBranchSelMode" and isinstance(inputs.get("cond"), bool):
            inputs.pop("ff_value" if inputs["cond"] else "tt_value", None)


def _take_link_away(prompt: Prompt, node_id: str, name: str, is_required: IsRequired) -> None:
    """Take a link away, and with it the nodes that cannot do without."""
    node = prompt.get(node_id)
    if node is None or name not in node["inputs"]:
        return
    del node["inputs"][name]
    if is_required(node["class_type"], name):
        del prompt[node_id]
        for other, input_name, _ in list(consumers(prompt, node_id)):
            _take_link_away(prompt, other, input_name, is_required)


def consumers(prompt: Prompt, node_id: str) -> Iterator[tuple[str, str, int]]:
    """(node, input, output slot) of every link from a node."""
    for other, name, value in _links(prompt):
        if value[0] == node_id:
            yield other, name, value[1]


def _links(prompt: Prompt) -> Iterator[tuple[str, str, list]]:
    """(node, input, [source, its output]) of every link."""
    for other, node in prompt.items():
        for name, value in (node.get("inputs") or {}).items() if isinstance(node, dict) else ():
            if is_link(value):
                yield other, name, value


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


@dataclass(frozen=True)
class Slots:
    """The inputs of a kind of node, {name: type} in order, and the types of its outputs.

    A choice has the type "COMBO", whatever its entries.
    """

    inputs: dict[str, str]
    outputs: tuple[str, ...]


SlotsOf = Callable[[str], "Slots | None"]  # of a class_type; None where it is not known


def set_modes(
    prompt: Prompt, modes: dict[str, int], slots_of: SlotsOf, is_required: IsRequired
) -> None:
    """Mute and bypass nodes of a prompt as the editor does before it makes one, in place.

    Muted nodes are taken out, and with them what cannot do without. What followed a bypassed node
    gets what came in at an input of it of the same type.

    Args:
        modes: by node; those of others are `ACTIVE`.
    """
    bypassed = {id for id, mode in modes.items() if mode == BYPASSED and id in prompt}
    gone = bypassed | {id for id, mode in modes.items() if mode == MUTED and id in prompt}
    sources: dict[tuple[str, str], list | None] = {}
    for node_id, name, value in list(_links(prompt)):
        if node_id not in gone and value[0] in gone:
            slots = slots_of(prompt[node_id].get("class_type"))
            kind = slots.inputs.get(name, "*") if slots else "*"
            source = _around(prompt, value, kind, bypassed, slots_of)
            is_there = source is not None and source[0] not in gone
            sources[node_id, name] = source if is_there else None
    for node_id in gone:
        del prompt[node_id]
    for (node_id, name), source in sources.items():
        if source is None:
            _take_link_away(prompt, node_id, name, is_required)
        elif node_id in prompt:
            prompt[node_id]["inputs"][name] = source


def _around(
    prompt: Prompt, link: list, kind: str, bypassed: set[str], slots_of: SlotsOf
) -> list | None:
    """The link that takes the place of one from a bypassed node; None if there is none."""
    seen = set()
    while link[0] in bypassed:
        slots = slots_of(prompt[link[0]].get("class_type"))
        if slots is None or tuple(link) in seen:
            return None
        seen.add(tuple(link))
        link = (prompt[link[0]].get("inputs") or {}).get(_way_through(slots, link[1], kind))
        if not is_link(link):
            return None
    return link


def _way_through(slots: Slots, output: int, kind: str) -> str | None:
    """The input of a bypassed node that stands in for an output of it."""
    names, types = list(slots.inputs), list(slots.inputs.values())
    if kind == "*":
        return names[output] if output < len(names) else next(iter(names), None)
    given = slots.outputs[output] if output < len(slots.outputs) else "*"

    def fits(other: str) -> bool:
        return _overlap(other, given) and _overlap(other, kind)

    if output < len(names) and fits(types[output]):
        return names[output]
    if kind in types:
        return names[types.index(kind)]
    return next((name for name, other in zip(names, types, strict=True) if fits(other)), None)


def _overlap(one: str, other: str) -> bool:
    """Whether two types, each perhaps several with commas between, have one in common."""
    ones, others = set(one.lower().split(",")), set(other.lower().split(","))
    return bool(ones & others) or "*" in ones | others


def obey_bridges(prompt: Prompt, kind: Kind, slots_of: SlotsOf, is_required: IsRequired) -> None:
    """Do on a prompt what control bridges have the editor do, where there is none, in place.

    That is possible where `mode` is no link. Each bridge is told which nodes now are as it says.
    """
    for node_id, node in list(prompt.items()):
        if kind(node) != "ImpactControlBridge" or node_id not in prompt:
            continue
        inputs = node["inputs"]
        inputs[TARGETS] = {}
        wanted = MODES.get(inputs.get("behavior"))
        if wanted is None or is_link(inputs.get("mode")) or inputs.get("mode"):
            continue
        found = {other for other, _, slot in consumers(prompt, node_id) if slot == 0}
        inputs[TARGETS] = dict.fromkeys(sorted(found), wanted)
        set_modes(prompt, inputs[TARGETS], slots_of, is_required)


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
        for _, origin, origin_slot, target, target_slot in links_of(graph_at(workflow, level)):
            if (origin, origin_slot) != (number, slot):
                continue
            if target == SUBGRAPH_OUTPUT:
                waiting.append((":".join(level), target_slot))
                continue
            path = ":".join([*level, target])
            for node in workflow_nodes(workflow, path.split(":")):
                if node.get("type") == "Reroute":
                    waiting.append((path, 0))
                else:
                    found[path] = node.get("mode", ACTIVE)
    return found


def input_label(workflow: Any, node_id: str, name: str) -> str:
    """What the user calls an input of a node; its name where he calls it nothing else."""
    if isinstance(workflow, dict):
        for node in workflow_nodes(workflow, node_id.split(":")):
            for slot in node.get("inputs") or []:
                if slot.get("name") == name:
                    return slot.get("label") or name
    return name
