"""Workflow files as the editor saves them: find nodes, change widgets, make a prompt of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTES = ("Note", "MarkdownNote")  # known to the editor alone
SEEDS = ("seed", "noise_seed")  # after these the editor has a widget of its own


class Workflow:
    """A workflow with no node muted or bypassed, and each of its subgraphs used once.

    A node in a subgraph is found by its name, as all other nodes are. Its own widgets have the
    values that count, so the subgraph's node should have no widgets.

    Attributes:
        content: the file's JSON; changed in place.
    """

    def __init__(self, content: dict):
        self.content = content

    @classmethod
    def read(cls, file: Path) -> Workflow:
        return cls(json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")

    def node(self, name: str) -> dict:
        """The one node with this title or, without a title of its own, this type."""
        (found,) = [n for _, n in self._everywhere() if n.get("title", n["type"]) == name]
        return found

    def id(self, name: str) -> str:
        """The node's id, as a prompt has it."""
        node = self.node(name)
        return next(id for id, one in self._everywhere() if one is node)

    def _everywhere(self) -> Iterator[tuple[str, dict]]:
        """All nodes, those in subgraphs too, with their ids in a prompt."""
        inside = self._subgraphs()

        def visit(nodes: list[dict], prefix: str) -> Iterator[tuple[str, dict]]:
            for node in nodes:
                yield f"{prefix}{node['id']}", node
                if node["type"] in inside:
                    yield from visit(inside[node["type"]]["nodes"], f"{prefix}{node['id']}:")

        yield from visit(self.content["nodes"], "")

    def _subgraphs(self) -> dict[str, dict]:
        """The subgraphs by the type of the nodes that stand for them."""
        subgraphs = self.content.get("definitions", {}).get("subgraphs", [])
        return {subgraph["id"]: subgraph for subgraph in subgraphs}

    def __getitem__(self, place: tuple[str, str]) -> Any:
        """The value of the widget (node, widget)."""
        node = self.node(place[0])
        return dict(_widgets(node))[place[1]]

    def __setitem__(self, place: tuple[str, str], value: Any) -> None:
        node = self.node(place[0])
        names = [name for name, _ in _widgets(node)]
        node["widgets_values"][names.index(place[1])] = value

    def replace(self, name: str, kind: str, title: str, **widgets: Any) -> None:
        """Put a node of type `kind` in a node's place, its outputs linked as they were."""
        node = self.node(name)
        node |= {"type": kind, "title": title}
        node["properties"] = {"Node name for S&R": kind}
        node["inputs"] = [
            {"name": widget, "type": "*", "widget": {"name": widget}, "link": None}
            for widget in widgets
        ]
        node["widgets_values"] = list(widgets.values())

    def prompt(self) -> dict[str, dict]:
        """The API-format prompt that the editor makes of it."""
        inside, nodes = self._subgraphs(), dict(self._everywhere())
        sources = self._sources()

        def source(link: tuple[str, Any]) -> list | None:
            """The node and output that a link comes from, through subgraphs; None where open."""
            if link not in sources:
                return None
            level, (origin, slot) = link[0], sources[link]
            if origin == -10:  # comes from the subgraph's own node, in the level around
                outer = nodes[level[:-1]]
                return source((_outer(level), outer["inputs"][slot]["link"]))
            node = nodes[f"{level}{origin}"]
            if node["type"] in inside:
                inner = f"{level}{origin}:"
                output = inside[node["type"]]["outputs"][slot]
                return source((inner, output["linkIds"][0]))
            return [f"{level}{origin}", slot]

        def inputs(id: str, node: dict) -> dict[str, Any]:
            level = id.rpartition(":")[0]
            level = f"{level}:" if level else ""
            linked = {slot["name"]: source((level, slot["link"])) for slot in node["inputs"]}
            values = {name: value for name, value in _widgets(node) if name}
            return values | {name: found for name, found in linked.items() if found}

        return {
            id: {"class_type": node["type"], "inputs": inputs(id, node)}
            for id, node in nodes.items()
            if node["type"] not in NOTES and node["type"] not in inside
        }

    def _sources(self) -> dict[tuple[str, Any], tuple[int, int]]:
        """Node and output of each link, which has the place of its graph and its number."""
        found = {("", link[0]): (link[1], link[2]) for link in self.content["links"]}
        inside = self._subgraphs()
        for id, node in self._everywhere():
            for link in inside.get(node["type"], {"links": ()})["links"]:
                found[f"{id}:", link["id"]] = (link["origin_id"], link["origin_slot"])
        return found


def _outer(level: str) -> str:
    """The place around that of a subgraph: "" around "5:", "5:" around "5:3:"."""
    place = level[:-1].rpartition(":")[0]
    return f"{place}:" if place else ""


def _widgets(node: dict) -> Iterator[tuple[str, Any]]:
    """Names and values of a node's widgets; one of the editor's own has the name ""."""
    names = []
    for slot in node["inputs"]:
        if "widget" in slot:
            names += [slot["name"], ""] if slot["name"] in SEEDS else [slot["name"]]
    return zip(names, node.get("widgets_values", ()) or [], strict=True)
