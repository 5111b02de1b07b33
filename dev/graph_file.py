"""Workflow files with a subgraph, made from a short description of their nodes and links.

`completed` brings files up to date that are edited by hand.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .workflow import SEEDS

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
NOTE = "MarkdownNote"
COLUMN, GAP, WIDTH = 420, 70, 340  # of the canvas, in pixels
ROW, WIDGET, TEXT, EDGE = 24, 34, 120, 50  # about what the parts of a node take, in both renderers
_IDS = uuid.UUID("6d1f6f0e-1c58-4a3f-9a53-2f6a3f0f7c11")  # the ids that files have come from this


@dataclass(frozen=True)
class Node:
    """A node of a description.

    Attributes:
        type: its id, or the name of a blueprint.
        links: the sources of its inputs: "name" of a node of the description, "name.1" for its
            second output, "> image" for an input of the subgraph.
        values: values of widgets that are not the default.
        column: the column of the node, from the left; nodes of a column keep their order.
        upload: whether the editor has a widget for uploads after the others.
    """

    type: str
    column: int
    links: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    width: int = WIDTH
    height: int | None = None
    upload: bool = False


@dataclass(frozen=True)
class Blueprint:
    """A subgraph that the editor offers among its nodes.

    Attributes:
        inputs: types of its inputs by name.
        shown: label, node and widget of each widget that it shows outside.
        outputs: node (as in `Node.links`) and type of each output by name.
    """

    name: str
    description: str
    nodes: Mapping[str, Node]
    inputs: Mapping[str, str]
    shown: tuple[tuple[str, str, str], ...]
    outputs: Mapping[str, tuple[str, str]]
    width: int = 400

    @property
    def id(self) -> str:
        return str(uuid.uuid5(_IDS, self.name))


Info = Mapping[str, Mapping[str, Any]]  # what a server answers to /object_info


def blueprint_file(blueprint: Blueprint, info: Info) -> dict[str, Any]:
    """The content of a file that ComfyUI offers as a blueprint."""
    holder = _holder(blueprint, info, number=1, pos=[0, 0])
    definition = _definition(blueprint, info, first=2)
    return {
        "revision": 0, "last_node_id": definition["state"]["lastNodeId"], "last_link_id": 0,
        "nodes": [holder], "links": [], "version": 0.4, "definitions": {"subgraphs": [definition]},
        "extra": {},
    }  # fmt: skip


def workflow_file(
    nodes: Mapping[str, Node], blueprints: Iterable[Blueprint], info: Info, name: str
) -> dict[str, Any]:
    """The content of a workflow whose nodes may be of these blueprints."""
    kinds = {one.name: one for one in blueprints}
    made, links = _level(nodes, info, {}, kinds)
    definitions, last = [], len(made)
    for one in [kinds[node.type] for node in nodes.values() if node.type in kinds]:
        definitions.append(_definition(one, info, first=last + 1))
        last = definitions[-1]["state"]["lastNodeId"]
    return {
        "id": str(uuid.uuid5(_IDS, name)), "revision": 0, "last_node_id": last,
        "last_link_id": len(links), "nodes": made,
        "links": [[one["id"], one["origin_id"], one["origin_slot"], one["target_id"],
                   one["target_slot"], one["type"]] for one in links],
        "groups": [], "config": {}, "version": 0.4,
        "definitions": {"subgraphs": definitions},
        "extra": {"ds": {"scale": 0.7, "offset": [100, 100]}},
    }  # fmt: skip


def completed(content: Mapping[str, Any], info: Info) -> dict[str, Any]:
    """A workflow whose nodes have the inputs and outputs that they have got since it was saved.

    New widgets have their defaults. Nodes that the server does not know stay as they are, and so do
    those in subgraphs.
    """
    content = copy.deepcopy(dict(content))
    for node in content["nodes"]:
        if node["type"] in info:
            _complete(node, info[node["type"]])
    slots = {
        entry["link"]: slot
        for node in content["nodes"]
        for slot, entry in enumerate(node.get("inputs", []))
    }
    for link in content["links"]:
        link[4] = slots[link[0]]
    return content


def _complete(node: dict[str, Any], told: Mapping[str, Any]) -> None:
    today = _node(Node(node["type"], 0), told, node["id"], node["pos"])
    known = {entry["name"] for entry in node["inputs"]}
    new = [entry for entry in today["inputs"] if entry["name"] not in known]
    sockets = [entry for entry in new if "widget" not in entry]
    widgets = [entry for entry in new if "widget" in entry]
    place = sum("widget" not in entry for entry in node["inputs"])
    node["inputs"][place:place] = sockets
    node["inputs"] += widgets
    if widgets:
        entries, values = _entries(told), node.get("widgets_values", [])
        node["widgets_values"] = [*values, *(_default(entries[one["name"]]) for one in widgets)]
    node["outputs"] += today["outputs"][len(node["outputs"]) :]


def _definition(blueprint: Blueprint, info: Info, first: int) -> dict[str, Any]:
    """The definition of a subgraph in a file.

    Args:
        first: the number of its first node. Editors renumber a node if a node in another graph has
            the same number.
    """
    entries = [(name, kind, None) for name, kind in blueprint.inputs.items()]
    for label, node, widget in blueprint.shown:
        entries.append((_slug(label), _type(info, blueprint.nodes[node].type, widget), label))
    places = {f"> {name}": (-10, slot, kind) for slot, (name, kind, _) in enumerate(entries)}
    shown = {(node, widget): f"> {_slug(label)}" for label, node, widget in blueprint.shown}
    nodes, links = _level(blueprint.nodes, info, places, {}, shown, first)
    numbers = {key: number for number, key in enumerate(blueprint.nodes, first)}
    outputs = []
    for slot, (name, (source, kind)) in enumerate(blueprint.outputs.items()):
        key, _, output = source.partition(".")
        link = _link(len(links) + 1, numbers[key], int(output or 0), -20, slot, kind)
        links.append(link)
        nodes[numbers[key] - first]["outputs"][link["origin_slot"]]["links"].append(link["id"])
        outputs.append({"id": str(uuid.uuid5(_IDS, f"{blueprint.name}/out/{name}")), "name": name,
                        "type": kind, "linkIds": [link["id"]]})  # fmt: skip
    inputs = [
        {"id": str(uuid.uuid5(_IDS, f"{blueprint.name}/in/{name}")), "name": name, "type": kind,
         "linkIds": [one["id"] for one in links
                     if (one["origin_id"], one["origin_slot"]) == (-10, slot)],
         **({"label": label} if label else {})}
        for slot, (name, kind, label) in enumerate(entries)
    ]  # fmt: skip
    last = max(node.column for node in blueprint.nodes.values())
    return {
        "id": blueprint.id, "version": 1, "revision": 0, "config": {}, "name": blueprint.name,
        "description": blueprint.description, "category": "Detailers",
        "state": {"lastGroupId": 0, "lastNodeId": nodes[-1]["id"], "lastLinkId": len(links),
                  "lastRerouteId": 0},
        "inputNode": {"id": -10, "bounding": [-260, 60, 160, 20 * len(inputs) + 40]},
        "outputNode": {"id": -20, "bounding": [(last + 1) * COLUMN + 60, 60, 120,
                                               20 * len(outputs) + 40]},
        "inputs": inputs, "outputs": outputs, "widgets": [], "nodes": nodes, "groups": [],
        "links": links, "extra": {},
    }  # fmt: skip


def _level(nodes, info, places, kinds, shown=None, first=1):
    """The nodes and links of one graph.

    Args:
        places: node number, slot and type of the subgraph's inputs.
        kinds: blueprints by name.
        shown: of (node, widget), the input of the subgraph that sets it.
        first: the number of the first node.
    """
    shown = shown or {}
    numbers = {key: number for number, key in enumerate(nodes, first)}
    taken: dict[tuple[int, int], list[int]] = {}
    made, links, heights = [], [], {}

    def source(reference):
        if reference in places:
            return places[reference]
        key, _, output = reference.partition(".")
        kind = nodes[key].type
        types = (
            [kind for _, kind in kinds[kind].outputs.values()]
            if kind in kinds
            else info[kind]["output"]
        )
        return numbers[key], int(output or 0), types[int(output or 0)]

    for key, node in nodes.items():
        pos = [node.column * COLUMN, heights.get(node.column, 0)]
        wanted = dict(node.links)
        wanted |= {widget: place for (name, widget), place in shown.items() if name == key}
        sources = {name: source(reference) for name, reference in wanted.items()}
        if node.type == NOTE:
            one = _note(node, numbers[key], pos)
        elif node.type in kinds:
            one = _holder(kinds[node.type], info, numbers[key], pos)
        else:
            one = _node(node, info[node.type], numbers[key], pos)
        for slot, entry in enumerate(one["inputs"]):
            if entry["name"] in sources:
                origin, output, kind = sources[entry["name"]]
                entry["link"] = len(links) + 1
                links.append(_link(len(links) + 1, origin, output, one["id"], slot, kind))
                taken.setdefault((origin, output), []).append(entry["link"])
        missing = sources.keys() - {entry["name"] for entry in one["inputs"]}
        if missing:
            raise ValueError(f"{node.type} has no input {', '.join(sorted(missing))}")
        heights[node.column] = pos[1] + one["size"][1] + GAP
        made.append(one)
    for one in made:
        for slot, output in enumerate(one["outputs"]):
            output["links"] = taken.get((one["id"], slot), [])
    return made, links


def _link(number: int, origin: int, output: int, target: int, slot: int, kind: str) -> dict:
    return {"id": number, "origin_id": origin, "origin_slot": output, "target_id": target,
            "target_slot": slot, "type": kind}  # fmt: skip


def _node(node: Node, told: Mapping[str, Any], number: int, pos: list) -> dict:
    entries = _entries(told)
    widgets = {name: entry for name, entry in entries.items() if _is_widget(entry)}
    unknown = set(node.values) - set(widgets)
    if unknown:
        raise ValueError(f"{node.type} has no widget {', '.join(sorted(unknown))}")
    optional = told["input"].get("optional", {})
    inputs = [
        {"name": name, "type": entry[0], **({"shape": 7} if name in optional else {}), "link": None}
        for name, entry in entries.items() if name not in widgets
    ]  # fmt: skip
    inputs += [
        {"name": name, "type": entries[_first_of(name)][0], "shape": 7, "link": None}
        for name in node.links if name not in entries and _first_of(name) in entries
    ]  # fmt: skip
    inputs += [
        {"name": name, "type": _kind(entry), "widget": {"name": name}, "link": None}
        for name, entry in widgets.items()
    ]
    values = []
    for name, entry in widgets.items():
        values.append(node.values.get(name, _default(entry)))
        if name in SEEDS:
            values.append("fixed")  # the editor's own widget after it
    if node.upload:
        inputs.append({"name": "upload", "type": "IMAGEUPLOAD", "widget": {"name": "upload"},
                       "link": None})  # fmt: skip
        values.append("image")
    rows = max(len(inputs) - len(widgets), len(told["output"]))
    height = EDGE + ROW * rows + sum(_height(entry) for entry in widgets.values())
    return {
        "id": number, "type": node.type, "pos": pos, "size": [node.width, node.height or height],
        "flags": {}, "order": number - 1, "mode": 0, "inputs": inputs,
        "outputs": [{"name": name, "type": kind, "links": []}
                    for name, kind in zip(told["output_name"], told["output"], strict=True)],
        **({"title": node.title} if node.title else {}),
        "properties": {"Node name for S&R": node.type}, "widgets_values": values,
    }  # fmt: skip


def _first_of(name: str) -> str:
    """The first of numbered inputs, of which a node may have any number."""
    return name.rstrip("0123456789") + "1"


def _note(node: Node, number: int, pos: list) -> dict:
    text = node.values["text"]
    height = node.height or 60 + 22 * sum(1 + len(line) // 44 for line in text.splitlines())
    return {
        "id": number, "type": NOTE, "pos": pos, "size": [node.width, height], "flags": {},
        "order": number - 1, "mode": 0, "inputs": [], "outputs": [],
        "title": node.title or "Read me", "properties": {}, "widgets_values": [text],
        "color": "#432", "bgcolor": "#653",
    }  # fmt: skip


def _holder(blueprint: Blueprint, info: Info, number: int, pos: list) -> dict:
    """The node for a subgraph. Its widgets have the values of the widgets inside."""
    inputs = [{"name": name, "type": kind, "link": None} for name, kind in blueprint.inputs.items()]
    height = EDGE + ROW * max(len(inputs), len(blueprint.outputs))
    for label, node, widget in blueprint.shown:
        kind = blueprint.nodes[node].type
        inputs.append({"label": label, "name": _slug(label), "type": _type(info, kind, widget),
                       "widget": {"name": _slug(label)}, "link": None})  # fmt: skip
        height += _height(_entry(info, kind, widget))
    return {
        "id": number, "type": blueprint.id, "pos": pos, "size": [blueprint.width, height],
        "flags": {}, "order": number - 1, "mode": 0, "inputs": inputs,
        "outputs": [{"name": name, "type": kind, "links": []}
                    for name, (_, kind) in blueprint.outputs.items()],
        "title": blueprint.name, "properties": {}, "widgets_values": [],
    }  # fmt: skip


def _entries(told: Mapping[str, Any]) -> dict[str, list]:
    """The declarations of a node's inputs in a server, by name."""
    groups = told["input"]
    return {**groups.get("required", {}), **groups.get("optional", {})}


def _entry(info: Info, kind: str, name: str) -> list:
    return _entries(info[kind])[name]


def _type(info: Info, kind: str, name: str) -> str:
    return _kind(_entry(info, kind, name))


def _kind(entry: list) -> str:
    return "COMBO" if isinstance(entry[0], list) else entry[0]


def _options(entry: list) -> Mapping[str, Any]:
    return entry[1] if len(entry) > 1 else {}


def _is_widget(entry: list) -> bool:
    return _kind(entry) in WIDGETS and not _options(entry).get("forceInput")


def _default(entry: list) -> Any:
    options = _options(entry)
    choices = entry[0] if isinstance(entry[0], list) else options.get("options", [])
    if choices:
        first = choices[0]["key"] if isinstance(choices[0], dict) else choices[0]
    else:
        first = "" if _kind(entry) in ("STRING", "COMBO") else 0
    return options.get("default", first)


def _height(entry: list) -> int:
    options = _options(entry)
    return 0 if options.get("advanced") else TEXT if options.get("multiline") else WIDGET


def _slug(label: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in label.lower()).split())
