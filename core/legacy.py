"""Prompts of older versions: brought to today's form before the host validates them.

`web/legacy.json` says how nodes were saved since 2023; the editor's `detailers_upgrade.js` reads
the same file. In it:

- `ids`: old node id -> the `id` of today, inputs that were `renamed`, and inputs that are `unused`.
- `words`: input -> what stood for a value, as text -> that value.
- `nodes`: id of today ->
  - `like`: what is not said here is as of that node.
  - `widgets`: the names that a list of widget values follows; `shortest`, its first length;
    `without`, by a list's length, the names that were inserted later. The seed's companion of the
    editor counts as a widget.
  - `added`: inputs that did not always exist -> the value that means what was done without them.
  - `renamed`, `unused`: as of `ids`; `numbered`: the beginning of names of inputs that end with a
    number -> what they begin with today.
  - `words`: as above, for this node.
  - `outputs`: older orders of the outputs, the latest first; `outputs_until`, the input that came
    with today's order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "web" / "legacy.json"

InputType = Callable[[str, str], "str | None"]


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
    input_type: InputType,
) -> list[str]:
    """Bring the nodes of older versions in a prompt to today's form, in place.

    Args:
        prompt: API-format: id -> {"class_type", "inputs"}.
        ours: the outputs, name -> link type in their order, of this pack's nodes by their ids.
        known: the ids that any pack has registered; a node with one of these is never renamed.
        input_type: (class_type, input) -> its link type, or None.

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
    changed = [key for key, node in nodes.items() if _rename(node, table["ids"], ours, known)]
    for key, node in nodes.items():
        outputs = ours.get(node["class_type"])
        rule = table["nodes"].get(node["class_type"])
        if rule is None or outputs is None:
            continue
        moved = "outputs" in rule and _move_links(nodes, key, rule, outputs, input_type)
        before = dict(node["inputs"])
        _rename_inputs(node["inputs"], rule)
        _complete(node["inputs"], rule, table["words"])
        if (moved or node["inputs"] != before) and key not in changed:
            changed.append(key)
    return changed


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
    for name in rule.get("unused", ()):
        inputs.pop(name, None)
    for old, new in rule.get("numbered", {}).items():
        for name in list(inputs):
            if found := re.fullmatch(rf"{old}(\d+)(_opt)?", name):
                inputs.setdefault(f"{new}{found[1]}", inputs.pop(name))


def _complete(
    inputs: dict[str, Any], rule: Mapping[str, Any], words: Mapping[str, Mapping[str, Any]]
) -> None:
    words = {**words, **rule.get("words", {})}
    for name in rule["widgets"]:
        value = inputs.get(name)
        spoken = value if isinstance(value, str) else json.dumps(value)
        if spoken in words.get(name, ()):
            inputs[name] = words[name][spoken]
    for name, value in rule["added"].items():
        inputs.setdefault(name, value)


def _move_links(
    nodes: Mapping[str, dict[str, Any]],
    key: str,
    rule: Mapping[str, Any],
    outputs: Mapping[str, str],
    input_type: InputType,
) -> bool:
    """Point links at the outputs that they were made from, in whichever order these were.

    A prompt does not say which order that was. It is today's unless a link then carries another
    type than its target takes, or an input is missing that came with today's order. Links of
    outputs that are no more go.
    """
    found = list(_links(nodes, key))
    links = [(input_type(node["class_type"], name), link) for node, name, link in found]

    def fits(order: Sequence[str]) -> bool:
        return all(
            link[1] < len(order) and _compatible(outputs[order[link[1]]], wanted)
            for wanted, link in links
        )

    today = list(outputs)
    until = rule.get("outputs_until")
    is_old = until is not None and until not in nodes[key]["inputs"]
    if not links or (fits(today) and not is_old):
        return False
    order = next(filter(fits, rule["outputs"]), today)
    moved = False
    for node, name, link in found:
        if link[1] >= len(order):
            del node["inputs"][name]
            moved = True
            continue
        slot = today.index(order[link[1]])
        moved |= slot != link[1]
        link[1] = slot
    return moved


def _links(
    nodes: Mapping[str, dict[str, Any]], key: str
) -> Iterator[tuple[dict[str, Any], str, list]]:
    """The links from a node, each with the node that it goes to and its input."""
    for node in nodes.values():
        for name, value in node["inputs"].items():
            is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
            if is_link and value[0] == key:
                yield node, name, value


def _compatible(given: str, wanted: str | None) -> bool:
    """Whether a link of one type may go to an input of another; one that is unknown may."""
    if wanted is None or "*" in (given, wanted):
        return True
    return not set(given.split(",")).isdisjoint(wanted.split(","))
