"""Switches: which part of a graph runs.

Some of this is decided in the prompt before ComfyUI validates it. Links of nodes are followed in
the workflow that the editor sends with the prompt. Nodes inside subgraphs have ids such as "5:3":
node 3 inside the subgraph node 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..prompts.wildcard_nodes import SUBGRAPH_OUTPUT, graph_at, links_of, workflow_nodes

ACTIVE, MUTED, BYPASSED = 0, 2, 4  # modes of a node, as the editor counts them
MODES = {"Mute": MUTED, "Bypass": BYPASSED}  # by the names that a control bridge uses

SWITCHES = frozenset({"ImpactSwitch", "LatentSwitch", "SEGSSwitch"})
REMOTES = frozenset({"ImpactRemoteInt", "ImpactRemoteBoolean"})
TARGETS = "targets"  # the input of a control bridge that lists the nodes after its output

Prompt = dict[str, Any]
Kind = Callable[[Any], str]  # node of a prompt -> its plain id if it is ours, else ""
IsRequired = Callable[[str, str], bool]  # (class_type, input) -> whether the input is required


# Before the run ---------------------------------------------------------------------------


@dataclass(frozen=True)
class SetWidget:
    """A value that was set in a node of a prompt."""

    node_id: str
    widget: str
    value: Any


def set_remotely(prompt: Prompt, kind: Kind) -> list[SetWidget]:
    """Set the values of "Remote Int" and "Remote Boolean" nodes in other nodes, in place.

    An input with a link keeps the link.

    Returns:
        The values that were set.
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
    """The id of the node whose value a "Remote" node sets. None: there is no value to set."""
    inputs = prompt[node_id]["inputs"]
    name = inputs.get("widget_name")
    target = nearest(node_id, inputs.get("node_id"), prompt)
    current = prompt[target].get("inputs", {}) if target else {}
    is_missing = "value" not in inputs or name not in current
    return None if is_missing or is_link(current[name]) or is_link(inputs["value"]) else target


def nearest(sender: str, node_id: Any, known: Any) -> str | None:
    """The full id of a node that `sender` names by its number, or None if it is not in `known`.

    It is looked for in the subgraph of the sender first, and then in the graphs around it.
    """
    level = sender.split(":")[:-1]
    while True:
        candidate = ":".join([*level, str(node_id)])
        if candidate in known:
            return candidate
        if not level:
            return None
        level.pop()


def choose_on_prompt(prompt: Prompt, kind: Kind, is_required: IsRequired) -> None:
    """Remove the branches that switches do not choose, in place, unless the choice is a link.

    So ComfyUI does not validate the other branches, which may be incomplete.
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
    """Remove a link, and with it the nodes that need it."""
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
    """The number of outputs of a node that has any number of outputs.

    It is larger than the number of links, so that a cached result can be used when links are added.

    Args:
        prompt: ComfyUI's view of the running prompt, with `all_node_ids()` and `get_node(id)`.
    """
    nodes = {other: prompt.get_node(other) for other in prompt.all_node_ids()}
    return max([64, *(slot + 1 for _, _, slot in consumers(nodes, node_id))])


def is_link(value: Any) -> bool:
    """Whether a value of a prompt is a link: [id of a node, index of its output]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )


@dataclass(frozen=True)
class Slots:
    """The inputs of a kind of node, {name: type} in order, and the types of its outputs.

    A choice has the type "COMBO", whatever its entries are.
    """

    inputs: dict[str, str]
    outputs: tuple[str, ...]


SlotsOf = Callable[[str], "Slots | None"]  # class_type -> its slots; None if it is unknown


def set_modes(
    prompt: Prompt, modes: dict[str, int], slots_of: SlotsOf, is_required: IsRequired
) -> None:
    """Mute and bypass nodes of a prompt, in place, as the editor does before it sends a prompt.

    Muted nodes are removed, together with the nodes that need them. Nodes after a bypassed node get
    the link of one of its inputs of the same type.

    Args:
        modes: modes by node id. Other nodes are `ACTIVE`.
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
    """The link that replaces a link from a bypassed node. None: there is none."""
    seen = set()
    while link[0] in bypassed:
        slots = slots_of(prompt[link[0]].get("class_type"))
        if slots is None or tuple(link) in seen:
            return None
        seen.add(tuple(link))
        link = (prompt[link[0]].get("inputs") or {}).get(_passed_input(slots, link[1], kind))
        if not is_link(link):
            return None
    return link


def _passed_input(slots: Slots, output: int, kind: str) -> str | None:
    """The input of a bypassed node whose link replaces one of its outputs."""
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
    """Whether two types have one in common. Each may be several types, separated by commas."""
    ones, others = set(one.lower().split(",")), set(other.lower().split(","))
    return bool(ones & others) or "*" in ones | others


def obey_bridges(prompt: Prompt, kind: Kind, slots_of: SlotsOf, is_required: IsRequired) -> None:
    """Set the modes that control bridges ask for, in a prompt that no editor has sent, in place.

    This is only possible if the bridge's `mode` is no link. Each bridge gets the list of the nodes
    that now have its mode.
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
    """Give each control bridge the nodes after its output, and their modes, in place.

    The modes are an input of the node, so that a cached result is not used if they have changed.
    """
    for node_id, node in prompt.items():
        if kind(node) == "ImpactControlBridge":
            found = targets(workflow, node_id) if isinstance(workflow, dict) else {}
            node["inputs"][TARGETS] = found


# In the workflow ----------------------------------------------------------------------------


def targets(workflow: dict[str, Any], node_id: str, output: int = 0) -> dict[str, int]:
    """The nodes that are linked to an output, directly or through reroutes, and their modes.

    Links that leave a subgraph are followed. A subgraph node counts as one node.
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
    """The label that the user has given an input of a node, or else its name."""
    if isinstance(workflow, dict):
        for node in workflow_nodes(workflow, node_id.split(":")):
            for slot in node.get("inputs") or []:
                if slot.get("name") == name:
                    return slot.get("label") or name
    return name
