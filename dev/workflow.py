"""Workflow files as the editor saves them: find nodes, change widgets, make a prompt of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTES = ("Note", "MarkdownNote")  # known to the editor alone
SEEDS = ("seed", "noise_seed")  # after these the editor has a widget of its own


class Workflow:
    """A workflow without subgraphs, and with no node muted or bypassed.

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
        (found,) = [n for n in self.content["nodes"] if n.get("title", n["type"]) == name]
        return found

    def id(self, name: str) -> str:
        """The node's id, as a prompt has it."""
        return str(self.node(name)["id"])

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
        sources = {link[0]: [str(link[1]), link[2]] for link in self.content["links"]}
        return {
            str(node["id"]): {
                "class_type": node["type"],
                "inputs": {
                    **{name: value for name, value in _widgets(node) if name},
                    **{
                        slot["name"]: sources[slot["link"]]
                        for slot in node["inputs"]
                        if slot["link"] is not None
                    },
                },
            }
            for node in self.content["nodes"]
            if node["type"] not in NOTES
        }


def _widgets(node: dict) -> Iterator[tuple[str, Any]]:
    """Names and values of a node's widgets; one of the editor's own has the name ""."""
    names = []
    for slot in node["inputs"]:
        if "widget" in slot:
            names += [slot["name"], ""] if slot["name"] in SEEDS else [slot["name"]]
    return zip(names, node.get("widgets_values", ()), strict=True)
