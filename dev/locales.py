"""The nodes' words in the editor: `python -m dev.locales --comfyui DIR --python PY` writes them.

ComfyUI serves locales/<language>/nodeDefs.json of every pack at /i18n, and its editor shows them
in place of what the nodes say of themselves. These files are made here from what a running server
tells of the nodes and from tables that are kept by hand:

- locales/en.json beside this module: {"labels": {input: label}, "outputs": {output: label}},
  readable labels in English. A key "NodeId.input" goes before the input's name alone. "web" lists
  what the pack's own parts of the editor say: `said("...")` in web/*.js.
- locales/zh.json, ja.json, ko.json: {"labels": {English label: translation}, "texts": {English
  tooltip, description or display name: translation}, "web": {what is said: translation}}. Here too
  "NodeId.input" goes first.

The English file holds labels only, since the nodes' own texts are English.

An output that has its type as name is shown with the editor's word for that type. The words for
the types that only this pack has go into locales/<language>/main.json, and so does what web/*.js
says, under "detailers".
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .docs import PACK, pack_nodes
from .server import ROOT, Server

TABLES = ROOT / "dev" / "locales"
LOCALES = ROOT / "locales"
WEB = ROOT / "web"
ENGLISH = "en"
LANGUAGES = ("zh", "ja", "ko")

SEEDS = ("seed", "noise_seed")  # the editor adds a widget to them, and asks for its label
SEED_CONTROL = "control_after_generate"
ANY_TYPE = "*"
OTHER_PACKS = "custom_nodes."  # how the modules of packs begin

# What a translation has to repeat as it is: wildcards, tags, marks such as [SEP], the sign for a
# line break, what stands in quotes (the quotes may be others) and names with underscores.
_SYNTAX = re.compile(
    r"__[^\s_][^\s]*?__|<[^<>\s]+>|\[[A-Z]+\]|\\n"
    r"|(?<!\w)'([^']+)'(?!\w)|(?<![A-Za-z0-9_])[a-z0-9]+(?:_[a-z0-9]+)+"
)
_SAID = re.compile(r'\bsaid\(\s*("(?:[^"\\]|\\.)*")')
_VALUES = re.compile(r"\{\w+\}")  # that what is said gets
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIGNS = re.compile(r"[{}@|]")  # that mean something in the editor's messages


@dataclass(frozen=True)
class Slot:
    """An input or output of a node.

    Attributes:
        key: what the editor looks it up by: an input's name, an output's number.
    """

    node_id: str
    name: str
    key: str
    is_output: bool
    tooltip: str

    @property
    def full_name(self) -> str:
        return f"{self.node_id}.{self.name}"


@dataclass(frozen=True)
class English:
    """The readable labels, by name."""

    labels: Mapping[str, str]
    outputs: Mapping[str, str]
    web: Sequence[str] = ()  # what web/*.js says

    @classmethod
    def read(cls, tables: Path = TABLES) -> English:
        return cls(**_read(tables / f"{ENGLISH}.json"))

    def label(self, slot: Slot) -> str:
        """The label of a slot; KeyError if the table has none."""
        table = self.outputs if slot.is_output else self.labels
        found = table.get(slot.full_name, table.get(slot.name))
        if found is None:
            raise KeyError(f"dev/locales/en.json has no label for {slot.full_name}")
        return found


@dataclass(frozen=True)
class Translation:
    """What a language has for the English labels and texts."""

    labels: Mapping[str, str]
    texts: Mapping[str, str]
    web: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, language: str, tables: Path = TABLES) -> Translation:
        return cls(**_read(tables / f"{language}.json"))

    def label(self, slot: Slot, english: str) -> str | None:
        return self.labels.get(slot.full_name, self.labels.get(english))


def slots_of(node_id: str, node: Mapping[str, Any]) -> list[Slot]:
    """All that has a label: inputs, the control that the editor adds to a seed, outputs."""
    slots = []
    for group in ("required", "optional"):
        for name in node["input_order"].get(group, []):
            kind, options = (*node["input"][group][name], {})[:2]
            slots.append(Slot(node_id, name, _key(name), False, options.get("tooltip", "")))
            if kind == "INT" and (name in SEEDS or options.get(SEED_CONTROL)):
                slots.append(Slot(node_id, SEED_CONTROL, SEED_CONTROL, False, ""))
    names = node["output_name"]
    tooltips = node.get("output_tooltips") or [""] * len(names)
    for index, (name, tooltip) in enumerate(zip(names, tooltips, strict=True)):
        slots.append(Slot(node_id, name, str(index), True, tooltip))
    return slots


def all_slots(info: Mapping[str, Any]) -> list[Slot]:
    return [slot for node_id, node in pack_nodes(info).items() for slot in slots_of(node_id, node)]


def all_texts(info: Mapping[str, Any]) -> list[str]:
    """Every display name, description and tooltip of the nodes, once each, in their order."""
    texts: dict[str, None] = {}
    for node_id, node in pack_nodes(info).items():
        own = [node["display_name"], node["description"]]
        texts.update(dict.fromkeys(own + [slot.tooltip for slot in slots_of(node_id, node)]))
    return [text for text in texts if text]


def node_defs(info: Mapping[str, Any], language: str, tables: Path = TABLES) -> dict[str, dict]:
    """The content of a language's nodeDefs.json.

    Names and descriptions are messages of the editor, in which some signs are quoted. Tooltips are
    messages in some editors and plain text in others, so they do without these signs. What has no
    translation yet has its English label, and its text is left out, which shows it in English.
    """
    english = English.read(tables)
    words = None if language == ENGLISH else Translation.read(language, tables)

    def entry(slot: Slot) -> dict[str, str]:
        label = english.label(slot)
        if words is None:
            return {"name": _message(label)}
        name = words.label(slot, label) or label
        tooltip = words.texts.get(slot.tooltip, "")
        plain = "" if _SIGNS.search(tooltip) else tooltip
        return _filled({"name": _message(name), "tooltip": plain})

    defs = {}
    for node_id, node in pack_nodes(info).items():
        slots = slots_of(node_id, node)
        texts = words.texts if words else {}
        own = {
            "display_name": _message(texts.get(node["display_name"])),
            "description": _message(texts.get(node["description"])),
            "inputs": _filled({slot.key: entry(slot) for slot in slots if not slot.is_output}),
            "outputs": _filled({slot.key: entry(slot) for slot in slots if slot.is_output}),
        }
        defs[_key(node_id)] = _filled(own)
    return _filled(defs)


def own_types(info: Mapping[str, Any]) -> list[str]:
    """The types of this pack that outputs are named after, in their order."""
    ours = pack_nodes(info)
    stock = [node for node in info.values() if not node["python_module"].startswith(OTHER_PACKS)]
    kinds = [kind for node in stock for kind in node.get("output", ())]
    of_host = {kind for kind in kinds if isinstance(kind, str)} | {ANY_TYPE}  # lists are combos
    named = {
        kind: None
        for node in ours.values()
        for kind, name in zip(node.get("output", ()), node["output_name"], strict=False)
        if kind == name
    }
    return [kind for kind in named if kind not in of_host]


def main_words(info: Mapping[str, Any], language: str, tables: Path = TABLES) -> dict[str, dict]:
    """The content of a language's main.json: a word for each type of this pack, and what its own
    parts of the editor say.

    The latter is read by web/detailers_words.js and is no message of the editor.
    """
    english = English.read(tables)
    labels = {kind: english.outputs.get(kind) for kind in own_types(info)}
    said: Mapping[str, str] = {}
    if language != ENGLISH:
        words = Translation.read(language, tables)
        labels = {kind: words.labels.get(label, label) for kind, label in labels.items()}
        said = {text: words.web.get(text, "") for text in english.web}
    kinds = {_key(kind): _message(label) for kind, label in labels.items()}
    return _filled({"dataTypes": _filled(kinds), "detailers": _filled(said)})


def said_in(web: Path = WEB) -> list[str]:
    """What the pack's own parts of the editor say, in English, as their files have it."""
    files = (path.read_text(encoding="utf-8") for path in sorted(web.glob("*.js")))
    return sorted({json.loads(found[1]) for text in files for found in _SAID.finditer(text)})


def missing(info: Mapping[str, Any], language: str, tables: Path = TABLES) -> dict[str, list[str]]:
    """{"labels", "texts", "web"}: the English ones that a language has no translation of."""
    english, words = English.read(tables), Translation.read(language, tables)
    labels = {slot: english.label(slot) for slot in all_slots(info)}
    without = [label for slot, label in labels.items() if not words.label(slot, label)]
    return {
        "labels": list(dict.fromkeys(without)),
        "texts": [text for text in all_texts(info) if not words.texts.get(text)],
        "web": [text for text in english.web if not words.web.get(text)],
    }


def faults(
    info: Mapping[str, Any], language: str, tables: Path = TABLES, locales: Path = LOCALES
) -> list[str]:
    """What is wrong with a language, one line for each; none if all is there and up to date."""
    if language == ENGLISH:
        found = _english_faults(info, English.read(tables))
    else:
        found = _translation_faults(info, English.read(tables), Translation.read(language, tables))
        for kind, strings in missing(info, language, tables).items():
            found += [f"{kind}: {text!r} has no translation" for text in strings]
    for path, content in files(info, language, tables, locales).items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            found.append(f"{path.name} is out of date")
    return [f"{language}: {line}" for line in found]


def write(
    info: Mapping[str, Any],
    languages: Iterable[str] = (ENGLISH, *LANGUAGES),
    tables: Path = TABLES,
    locales: Path = LOCALES,
) -> None:
    """Renew the files that the editor gets."""
    for language in languages:
        for path, content in files(info, language, tables, locales).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")


def files(
    info: Mapping[str, Any], language: str, tables: Path = TABLES, locales: Path = LOCALES
) -> dict[Path, str]:
    """The files of a language, with their content."""
    folder = locales / language
    return {
        folder / "nodeDefs.json": _json(node_defs(info, language, tables)),
        folder / "main.json": _json(main_words(info, language, tables)),
    }


def lost_syntax(original: str, translation: str) -> list[str]:
    """The syntax, names and numbers of a text that its translation does not repeat."""
    signs = [found[1] or found[0] for found in _SYNTAX.finditer(original)]
    lost = [sign for sign in signs if sign not in translation]
    numbers = set(_NUMBER.findall(translation))
    return lost + [number for number in _NUMBER.findall(original) if number not in numbers]


def _english_faults(info: Mapping[str, Any], english: English) -> list[str]:
    found = []
    for is_output, kind, table in (
        (False, "labels", english.labels),
        (True, "outputs", english.outputs),
    ):
        slots = [slot for slot in all_slots(info) if slot.is_output == is_output]
        known = {name for slot in slots for name in (slot.name, slot.full_name)}
        found += [f"{kind}: nothing has the name {name!r}" for name in table if name not in known]
    return found


def _translation_faults(info: Mapping[str, Any], english: English, words: Translation) -> list[str]:
    """Entries that nothing uses any more, are empty, or have lost a piece of the syntax."""
    slots, texts = all_slots(info), set(all_texts(info))
    tooltips = {slot.tooltip for slot in slots}
    labels = {name for slot in slots for name in (english.label(slot), slot.full_name)}
    known = (
        ("labels: there is no {!r} any more", words.labels, labels),
        ("texts: there is no {!r} any more", words.texts, texts),
        ("web: nothing says {!r} any more", words.web, english.web),
    )
    found = [
        fault.format(entry) for fault, own, used in known for entry in own if entry not in used
    ]
    for text, translation in words.web.items():
        if sorted(_VALUES.findall(text)) != sorted(_VALUES.findall(translation)):
            found.append(f"the translation of {text!r} has other values in braces")
    for original, translation in [*words.labels.items(), *words.texts.items()]:
        if lost := lost_syntax(original, translation):
            found.append(f"the translation of {original!r} lacks {', '.join(lost)}")
        signs = _SIGNS.findall(translation)
        if signs and original in tooltips:
            found.append(f"the translation of {original!r} has to do without {' '.join(signs)}")
    return sorted(found)


def _read(path: Path) -> dict[str, dict[str, str]]:
    return json.loads(path.read_text(encoding="utf-8"))


def _filled(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: content for key, content in entries.items() if content}


def _message(text: str | None) -> str:
    """A text as a message of the editor, in which these signs have a meaning of their own."""
    return _SIGNS.sub(lambda sign: f"{{'{sign[0]}'}}", text or "")


def _key(name: str) -> str:
    """A name as the editor looks it up."""
    return name.replace(".", "_")


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev.locales",
        description="Bring the nodes' labels and translations in the editor up to date.",
    )
    parser.add_argument("--comfyui", metavar="DIR", help="a ComfyUI's folder")
    parser.add_argument("--python", metavar="PY", default=sys.executable, help="its Python")
    parser.add_argument("--info", metavar="FILE", help="an answer to /object_info, instead")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="only tell what is wrong")
    action.add_argument(
        "--missing",
        metavar="LANGUAGE",
        choices=LANGUAGES,
        help="only print what has no translation, as JSON",
    )
    options = parser.parse_args()
    if not options.comfyui and not options.info:
        parser.error("--comfyui DIR or --info FILE is needed")
    info = _object_info(options)
    if options.missing:
        print(_json(missing(info, options.missing)), end="")
        return 0
    if not options.check:
        write(info)
    found = [line for language in (ENGLISH, *LANGUAGES) for line in faults(info, language)]
    print("\n".join(found) or "all languages are complete and up to date")
    return 1 if found else 0


def _object_info(options: argparse.Namespace) -> dict[str, Any]:
    if options.info:
        return json.loads(Path(options.info).read_text(encoding="utf-8"))
    with Server(options.comfyui, options.python, {PACK: ROOT}) as server:
        return server.object_info()


if __name__ == "__main__":
    sys.exit(main())
