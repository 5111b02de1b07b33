"""Upgrade prompts of older versions before ComfyUI validates them.

`web/legacy.json` describes how nodes were saved since 2023. The editor's `detailers_upgrade.js`
reads the same file. It holds:

- `ids`: old node id -> today's `id`, inputs that were `renamed`, and inputs that are `unused`.
- `words`: input -> {old text: value that it means today}. `booleans`: the same for all boolean
  inputs, in addition to their own labels.
- `open`: choices whose entries differ between installations: names of files, or entries of packs.
- `kinds`: types of links that have another name today.
- `nodes`: today's id ->
  - `like`: the id of a node whose rules hold here too, unless they are given here.
  - `widgets`: the names for a list of widget values. `shortest`: the length of the first version's
    list. `without`: length of a list -> names that were inserted later. `layouts`: lists with other
    names; `was` gives their types. The editor's widget after a seed counts as a widget.
  - `added`: inputs that were added later -> the value that gives the old behaviour.
  - `renamed`, `unused`: as in `ids`. `numbered`: the old beginning of the names of numbered inputs
    -> today's beginning. `became`: an old input -> today's inputs that all get its value.
    `by_type`: inputs that had other names; they are recognised by the types of their links.
  - `clip_until`: an input that was added after CLIP. A node without both is of a version that took
    no CLIP. It gets the CLIP that belongs to its model.
  - `words`: as above, for this node.
  - `outputs`: older orders of the outputs, the latest first. `outputs_until`: the input that was
    added together with today's order.
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
_LONGEST_LABEL = 64  # the most characters of a text that may mean a boolean
TABLE = Path(__file__).resolve().parents[2] / "web" / "legacy.json"

# Links by the node from which they come: the target node, the name of its input, and the link.
Links = Mapping[str, Sequence[tuple[dict[str, Any], str, list]]]


@dataclass(frozen=True)
class Interfaces:
    """Functions that describe the nodes of all packs.

    Attributes:
        input_type: (class_type, input) -> link type of the input; None: unknown.
        output_types: class_type -> link types of the outputs; empty: unknown.
        labels: (class_type, input) -> labels of a boolean for true and for false; empty: none.
    """

    input_type: Callable[[str, str], str | None]
    output_types: Callable[[str], Sequence[str]] = lambda class_type: ()
    labels: Callable[[str, str], Sequence[str]] = lambda class_type, name: ()


@lru_cache(maxsize=1)
def read_table() -> dict[str, Any]:
    """The table in `web/legacy.json`. Each node has all its rules, also those from `like`."""
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
    """Upgrade the nodes of older versions in a prompt, in place.

    The time grows linearly with the size of the prompt. Entries that are no nodes, and links to
    missing nodes, stay as they are; ComfyUI reports them.

    Args:
        prompt: in the API format: id -> {"class_type", "inputs"}.
        ours: the outputs of this pack's nodes by their ids: name -> link type, in their order.
        known: the ids that any pack has registered. A node with one of these is never renamed.
        interfaces: describe the nodes of all packs.

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
    """The arguments of ComfyUI's own node replacement, for every old id.

    Args:
        inputs: the names of all inputs of each node of this pack, by its id.
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
    """Rename inputs with unknown names if the types of their links show what they are."""
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
    """Replaces texts and other old values by the values that they mean today."""

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
    """Finds the CLIP that belongs to a model by following the model's links."""

    def __init__(self, nodes: Mapping[str, dict[str, Any]], interfaces: Interfaces) -> None:
        self._nodes = nodes
        self._interfaces = interfaces
        self._found: dict[str, list | None] = {}  # by the id of a node with a model output

    def behind(self, node: dict[str, Any]) -> list | None:
        """A link to the CLIP of the nearest node before a node's model. None: no node has one."""
        passed: list[str] = []
        found: list | None = None
        key = _source(node["inputs"].get("model"))
        while (at := self._nodes.get(key or "")) is not None:
            if key in self._found:
                found = self._found[key]
                break
            passed.append(key)
            self._found[key] = None  # in case links form a circle
            types = list(self._interfaces.output_types(at["class_type"]))
            if "CLIP" in types:
                found = [key, types.index("CLIP")]
                break
            key = self._model_of(at)
        self._found.update(dict.fromkeys(passed, found))
        return None if found is None else list(found)

    def _model_of(self, node: dict[str, Any]) -> str | None:
        """The id of the node from which a node gets its model."""
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
    """Change the output index of links if the node had another order of outputs.

    A prompt does not say which order it uses. It is today's order, unless a link would then have a
    type that its target does not take, or an input is missing that was added with today's order.
    Links of outputs that no longer exist are removed.
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
    """All links of a prompt, by the node from which they come."""
    found = defaultdict(list)
    for node in nodes.values():
        for name, value in node["inputs"].items():
            if (source := _source(value)) in nodes:
                found[source].append((node, name, value))
    return found


def _source(value: Any) -> str | None:
    """The id of the node from which a link comes. None: the value is no link."""
    is_link = isinstance(value, list) and len(value) == 2 and type(value[1]) is int
    return value[0] if is_link and isinstance(value[0], str) and value[1] >= 0 else None


def _scalar(value: Any) -> str | None:
    """A number or boolean in JSON. None: the value is something else."""
    return json.dumps(value) if isinstance(value, int | float) else None


def _item(items: Sequence[Any], place: int) -> Any:
    return items[place] if place < len(items) else None


def _compatible(given: str, wanted: str | None) -> bool:
    """Whether an input takes a link of a type. It does if the input's type is unknown."""
    if wanted is None or "*" in (given, wanted):
        return True
    return not set(given.split(",")).isdisjoint(wanted.split(","))
