"""Prompts of older versions: brought to today's form before the host validates them.

`web/legacy.json` says how nodes were saved since 2023; the editor's `detailers_upgrade.js` reads
the same file. In it:

- `ids`: old node id -> the `id` of today, inputs that were `renamed`, and inputs that are `unused`.
- `words`: input -> what stood for a value, as text -> that value; `booleans`: the same for every
  boolean, beside its own labels.
- `open`: choices whose entries are not the same everywhere, as they are files or come from packs.
- `kinds`: types of links that have another name today.
- `nodes`: id of today ->
  - `like`: what is not said here is as of that node.
  - `widgets`: the names that a list of widget values follows; `shortest`, its first length;
    `without`, by a list's length, the names that were inserted later; `layouts`, whole lists that
    had other names, of which `was` says the type. The seed's companion of the editor counts as a
    widget.
  - `added`: inputs that did not always exist -> the value that means what was done without them.
  - `renamed`, `unused`: as of `ids`; `numbered`: the beginning of names of inputs that end with a
    number -> what they begin with today; `became`: an input -> those of today that all have its
    value; `by_type`: inputs that had other names and are known by what is linked to them.
  - `clip_until`: a node without CLIP and without this input, which came later, is of a version that
    took none. It gets the CLIP that belongs to its model.
  - `words`: as above, for this node.
  - `outputs`: older orders of the outputs, the latest first; `outputs_until`, the input that came
    with today's order.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_NO_RULE: Mapping[str, Any] = {"widgets": (), "added": {}}
_LONGEST_LABEL = 64  # characters of a text that may stand for a boolean
TABLE = Path(__file__).resolve().parents[2] / "web" / "legacy.json"

# Links from a node: the node that each goes to, the name of its input, and the link itself.
Links = Mapping[str, Sequence[tuple[dict[str, Any], str, list]]]


@dataclass(frozen=True)
class Interfaces:
    """What is known of the nodes of all packs.

    Attributes:
        input_type: (class_type, input) -> its link type; None if that is not known.
        output_types: class_type -> the link types of its outputs; empty if not known.
        labels: (class_type, input) -> what a boolean shows for true and for false; empty if none.
    """

    input_type: Callable[[str, str], str | None]
    output_types: Callable[[str], Sequence[str]] = lambda class_type: ()
    labels: Callable[[str, str], Sequence[str]] = lambda class_type, name: ()


@lru_cache(maxsize=1)
def read_table() -> dict[str, Any]:
    """The table in `web/legacy.json`, every node with its rules in full."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    nodes = table["nodes"]
    table["nodes"] = {
        node_id: {**nodes[rule["like"]], **rule} if "like" in rule else rule
        for node_id, rule in nodes.items()
    }
    return table


def upgrade(
    prompt: dict[str, Any],
    ours: Mapping[str, Mapping[str, str]],
    known: Container[str],
    interfaces: Interfaces,
) -> list[str]:
    """Bring the nodes of older versions in a prompt to today's form, in place.

    The time that it takes grows with the prompt's size, and no faster. What is no node, and links
    to nowhere, are left to the host.

    Args:
        prompt: API-format: id -> {"class_type", "inputs"}.
        ours: the outputs, name -> link type in their order, of this pack's nodes by their ids.
        known: the ids that any pack has registered; a node with one of these is never renamed.
        interfaces: of the nodes of all packs.

    Returns:
        The ids of the nodes that were changed.
    """
    table = read_table()
    nodes = {
        key: node
        for key, node in prompt.items()
        if isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
    }
    changed = {key for key, node in nodes.items() if _rename(node, table["ids"], ours, known)}
    links, texts = _links(nodes), _Texts(table, interfaces)
    clips = _Clips(nodes, interfaces)
    for key, node in nodes.items():
        outputs = ours.get(node["class_type"])
        if outputs is None:
            continue
        rule = table["nodes"].get(node["class_type"], _NO_RULE)
        moved = "outputs" in rule and _move_links(node, links[key], rule, outputs, interfaces)
        before = dict(node["inputs"])
        _rename_inputs(node["inputs"], rule)
        _find_by_type(nodes, node, rule, table["kinds"], interfaces)
        if _is_before_clip(node["inputs"], rule):
            node["inputs"]["clip"] = clips.behind(node)
        texts.read(node, rule)
        for name, value in rule["added"].items():
            node["inputs"].setdefault(name, value)
        if moved or node["inputs"] != before:
            changed.add(key)
    return [key for key in nodes if key in changed]


def replacements(inputs: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What the host's own node replacement takes for every id that is no more.

    Args:
        inputs: names of all inputs of each node of this pack, by its id.
    """
    table = read_table()
    found = []
    for old_id, successor in table["ids"].items():
        new_id = successor["id"]
        if new_id not in inputs:
            continue
        rule = table["nodes"].get(new_id, {})
        added = rule.get("added", {})
        old_names = {new: old for old, new in successor.get("renamed", {}).items()}
        found.append(
            {
                "new_node_id": new_id,
                "old_node_id": old_id,
                "old_widget_ids": [name for name in rule.get("widgets", ()) if name not in added],
                "input_mapping": [
                    {"new_id": name, "set_value": added[name]}
                    if name in added
                    else {"new_id": name, "old_id": old_names.get(name, name)}
                    for name in inputs[new_id]
                ],
                "output_mapping": [{"new_idx": 0, "old_idx": 0}],
            }
        )
    return found


def _rename(
    node: dict[str, Any],
    ids: Mapping[str, Any],
    ours: Container[str],
    known: Container[str],
) -> bool:
    class_type = node["class_type"]
    successor = ids.get(class_type)
    if successor is None or successor["id"] not in ours or class_type in known:
        return False
    node["class_type"] = successor["id"]
    _rename_inputs(node["inputs"], successor)
    return True


def _rename_inputs(inputs: dict[str, Any], rule: Mapping[str, Any]) -> None:
    for old, new in rule.get("renamed", {}).items():
        if old in inputs:
            inputs.setdefault(new, inputs.pop(old))
    for old, names in rule.get("became", {}).items():
        if old in inputs:
            value = inputs.pop(old)
            for name in names:
                inputs.setdefault(name, list(value) if isinstance(value, list) else value)
    for name in rule.get("unused", ()):
        inputs.pop(name, None)
    for old, new in rule.get("numbered", {}).items():
        for name in list(inputs):
            if found := re.fullmatch(rf"{old}(\d+)(_opt)?", name):
                inputs.setdefault(f"{new}{found[1]}", inputs.pop(name))


def _is_before_clip(inputs: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    until = rule.get("clip_until")
    return until is not None and until not in inputs and "clip" not in inputs


def _find_by_type(
    nodes: Mapping[str, dict[str, Any]],
    node: Mapping[str, Any],
    rule: Mapping[str, Any],
    kinds: Mapping[str, str],
    interfaces: Interfaces,
) -> None:
    """Rename inputs whose name is not known, where what is linked to them tells what they are."""
    inputs = node["inputs"]
    for wanted, kind in rule.get("by_type", {}).items():
        if wanted in inputs:
            continue
        for name, value in inputs.items():
            source = nodes.get(_source(value) or "")
            if source is None or interfaces.input_type(node["class_type"], name) is not None:
                continue
            given = _item(interfaces.output_types(source["class_type"]), value[1])
            if kinds.get(given, given) == kind:
                inputs[wanted] = inputs.pop(name)
                break


class _Texts:
    """Reads text, and other values, that stood for what is another value today."""

    def __init__(self, table: Mapping[str, Any], interfaces: Interfaces) -> None:
        self._words = table["words"]
        self._booleans = table["booleans"]
        self._interfaces = interfaces

    def read(self, node: dict[str, Any], rule: Mapping[str, Any]) -> None:
        words = {**self._words, **rule.get("words", {})}
        for name, value in node["inputs"].items():
            spoken = value if isinstance(value, str) else _scalar(value)
            if spoken is None:
                continue
            if name in rule["widgets"] and spoken in words.get(name, ()):
                node["inputs"][name] = words[name][spoken]
            elif isinstance(value, str) and len(value) <= _LONGEST_LABEL:
                node["inputs"][name] = self._boolean(node["class_type"], name, value)

    def _boolean(self, class_type: str, name: str, text: str) -> str | bool:
        if self._interfaces.input_type(class_type, name) != "BOOLEAN":
            return text
        labels = [label.lower() for label in self._interfaces.labels(class_type, name)]
        if text.lower() in labels:
            return labels.index(text.lower()) == 0
        return self._booleans.get(text.lower(), text)


class _Clips:
    """The CLIPs that belong to models, by the links that these come over."""

    def __init__(self, nodes: Mapping[str, dict[str, Any]], interfaces: Interfaces) -> None:
        self._nodes = nodes
        self._interfaces = interfaces
        self._found: dict[str, list | None] = {}  # by the id of a node that a model comes from

    def behind(self, node: dict[str, Any]) -> list | None:
        """A link from the nearest node before a node's model that has a CLIP; None if none has."""
        passed: list[str] = []
        found: list | None = None
        key = _source(node["inputs"].get("model"))
        while (at := self._nodes.get(key or "")) is not None:
            if key in self._found:
                found = self._found[key]
                break
            passed.append(key)
            self._found[key] = None  # where links lead back to it
            types = list(self._interfaces.output_types(at["class_type"]))
            if "CLIP" in types:
                found = [key, types.index("CLIP")]
                break
            key = self._model_of(at)
        self._found.update(dict.fromkeys(passed, found))
        return None if found is None else list(found)

    def _model_of(self, node: dict[str, Any]) -> str | None:
        """The id of the node from which a node has its model."""
        for name, value in node["inputs"].items():
            kind = self._interfaces.input_type(node["class_type"], name)
            is_model = kind == "MODEL" or (kind is None and name == "model")
            if is_model and (source := _source(value)) is not None:
                return source
        return None


def _move_links(
    node: Mapping[str, Any],
    found: Sequence[tuple[dict[str, Any], str, list]],
    rule: Mapping[str, Any],
    outputs: Mapping[str, str],
    interfaces: Interfaces,
) -> bool:
    """Point links at the outputs that they were made from, in whichever order these were.

    A prompt does not say which order that was. It is today's unless a link then carries another
    type than its target takes, or an input is missing that came with today's order. Links of
    outputs that are no more go.
    """
    links = [
        (interfaces.input_type(target["class_type"], name), link) for target, name, link in found
    ]

    def fits(order: Sequence[str]) -> bool:
        return all(
            link[1] < len(order) and _compatible(outputs[order[link[1]]], wanted)
            for wanted, link in links
        )

    today = list(outputs)
    until = rule.get("outputs_until")
    is_old = until is not None and until not in node["inputs"]
    if not links or (fits(today) and not is_old):
        return False
    order = next(filter(fits, rule["outputs"]), today)
    moved = False
    for target, name, link in found:
        if link[1] >= len(order):
            target["inputs"].pop(name, None)
            moved = True
            continue
        slot = today.index(order[link[1]])
        moved |= slot != link[1]
        link[1] = slot
    return moved


def _links(nodes: Mapping[str, dict[str, Any]]) -> Links:
    """All links of a prompt, by the node that each comes from."""
    found = defaultdict(list)
    for node in nodes.values():
        for name, value in node["inputs"].items():
            if (source := _source(value)) in nodes:
                found[source].append((node, name, value))
    return found


def _source(value: Any) -> str | None:
    """The id of the node that a link comes from; None for what is no link."""
    is_link = isinstance(value, list) and len(value) == 2 and type(value[1]) is int
    return value[0] if is_link and isinstance(value[0], str) and value[1] >= 0 else None


def _scalar(value: Any) -> str | None:
    """A number or boolean as JSON has it; None for all else."""
    return json.dumps(value) if isinstance(value, int | float) else None


def _item(items: Sequence[Any], place: int) -> Any:
    return items[place] if place < len(items) else None


def _compatible(given: str, wanted: str | None) -> bool:
    """Whether a link of one type may go to an input of another; one that is unknown may."""
    if wanted is None or "*" in (given, wanted):
        return True
    return not set(given.split(",")).isdisjoint(wanted.split(","))
