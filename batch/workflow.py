"""The prompt of a run: where the input goes, overrides, seeds, and what it saves.

Everything here is in ComfyUI's API format: {node id: {"class_type": ..., "inputs": {...}}}. What a
node takes is known from the server's `object_info`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .faults import Problem
from .settings import Making

Prompt = dict[str, dict[str, Any]]

LOADERS = {"LoadImage": "image", "LoadVideo": "file"}
VIDEO_LOADERS = {"LoadVideo"}
SAVERS = ("SaveImage", "SaveVideo")
OTHER_SAVERS = ("SaveImageAdvanced", "SaveWEBM", "SaveAnimatedWEBP", "SaveAnimatedPNG")
PREVIEWS = ("PreviewImage", "MaskPreview")
REPORT = "report"  # an output of that name gives what a detailer did, as JSON
READER, READS = "PreviewAny", "report-of-"
OWN = " //Detailers"  # after the ids of this project's nodes where another pack has them, too
SEED_NAMES = ("seed", "noise_seed")
LARGEST_SEED = 2**53 - 1  # what JavaScript and all nodes can hold
PREFIX = "filename_prefix"
EXR = {"format": "exr", "format.bit_depth": "32-bit float", "format.input_color_space": "sRGB"}


@dataclass(frozen=True)
class Place:
    """An input of a node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


@dataclass(frozen=True)
class Workflow:
    """A prompt that is ready but for the input.

    Attributes:
        prompt: the prompt, overrides applied.
        source: where the input's name goes.
        is_video: the input is a clip.
        savers: the nodes whose files are the results.
        seeds: {place: (lowest, highest)} of the seeds that differ by file; {} for fixed ones.
        info: the server's description of the prompt's node classes.
        extra: goes with each prompt, as the editor's `extra_data`.
    """

    prompt: Prompt
    source: Place
    is_video: bool
    savers: tuple[str, ...]
    seeds: dict[Place, tuple[int, int]]
    info: dict[str, dict]
    extra: dict[str, Any]

    def digest(self) -> str:
        """The SHA-256 of all that the workflow adds to a unit's key."""
        places = sorted(map(str, self.seeds))
        return digest([self.prompt, str(self.source), places, self.extra])

    def prompt_for(
        self, name: str, key: bytes, source: bytes, extra: Mapping[str, Mapping[str, Any]]
    ) -> Prompt:
        """The prompt for an input that the server knows by `name`.

        What it saves goes into a folder of its own, so that ComfyUI, which looks through a folder
        for the next free number, has little to look through.
        """
        prompt = copy.deepcopy(self.prompt)
        for place, (low, high) in self.seeds.items():
            base = prompt[place.node]["inputs"][place.input]
            drawn = hashlib.sha256(source + f"{base} {place}".encode()).digest()
            seed = low + int.from_bytes(drawn[:8], "big") % (high - low + 1)
            prompt[place.node]["inputs"][place.input] = seed
        for node, inputs in extra.items():
            prompt[node]["inputs"].update(inputs)
        prompt[self.source.node]["inputs"][self.source.input] = name
        for node in self.savers:
            if PREFIX in prompt[node]["inputs"]:
                prompt[node]["inputs"][PREFIX] = f"detailers/{key.hex()[:16]}/result"
        return prompt

    @property
    def keeps_sound(self) -> bool:
        """Whether anything in it hands on a clip's sound."""
        return any(
            isinstance(node["inputs"].get("audio"), list)
            or node["inputs"].get("video") == [self.source.node, 0]
            for node in self.prompt.values()
        )


def digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Files


def read(file: Path) -> Any:
    """The content of a workflow file.

    Raises:
        Problem: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise Problem(f"--workflow: {file} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise Problem(f"--workflow: {file} is no JSON: {error}.") from error


def is_editor_format(content: Any) -> bool:
    """Whether it is what the editor saves, and not yet a prompt."""
    return isinstance(content, dict) and isinstance(content.get("nodes"), list)


def as_prompt(content: Any, name: str) -> Prompt:
    """The prompt in the content of an API-format file.

    Raises:
        Problem: there is none.
    """
    if isinstance(content, dict) and isinstance(content.get("prompt"), dict):
        content = content["prompt"]  # as it is sent to a server
    well_formed = (
        isinstance(content, dict)
        and content
        and all(
            isinstance(node, dict)
            and isinstance(node.get("class_type"), str)
            and isinstance(node.get("inputs"), dict)
            for node in content.values()
        )
    )
    if not well_formed:
        raise Problem(
            f"--workflow: {name} is no workflow. Save one in ComfyUI's editor with File > Save, or "
            "with File > Export (API)."
        )
    return content


# From a prompt to a workflow


def prepare(
    prompt: Prompt,
    info: Mapping[str, dict],
    making: Making,
    input_node: str | None = None,
    overrides: Sequence[str] = (),
    editor: dict | None = None,
) -> Workflow:
    """Check a prompt against what a server knows, and make it ready.

    Args:
        info: the server's `object_info`.
        input_node: id, title or class of the node that takes the input.
        overrides: texts NODE.INPUT=VALUE.
        editor: the same workflow in the editor's format, to be kept in the results.

    Raises:
        Problem: a node class is not known, there is not one place for the input, nothing is saved,
            or an override fits nowhere.
    """
    prompt = without_previews(copy.deepcopy(prompt))
    check_classes(prompt, info)
    for text in overrides:
        override(prompt, info, text)
    prompt |= report_readers(prompt, info)
    source = find_source(prompt, info, input_node)
    savers = find_savers(prompt, info)
    adapt_savers(prompt, savers, info, making)
    prompt[source.node]["inputs"][source.input] = ""
    used = {node["class_type"] for node in prompt.values()}
    return Workflow(
        prompt=prompt,
        source=source,
        is_video=is_video(prompt, source, info),
        savers=savers,
        seeds=dict(find_seeds(prompt, info)) if making.seed == "by-file" else {},
        info={name: info[name] for name in sorted(used)},
        extra={"extra_pnginfo": {"workflow": editor}} if editor else {},
    )


def check_classes(prompt: Prompt, info: Mapping[str, dict]) -> None:
    missing = sorted({node["class_type"] for node in prompt.values()} - info.keys())
    if missing:
        raise Problem(
            f"This ComfyUI does not know the node{'s' * (len(missing) > 1)} {', '.join(missing)} "
            "of the workflow. Install the packs that they are from, or name their folders with "
            "--pack."
        )


def with_own_nodes(prompt: Prompt, info: Mapping[str, dict]) -> Prompt:
    """The prompt with this project's nodes, where another pack has taken their plain ids."""
    named = {id: f"{node['class_type']}{OWN}" for id, node in prompt.items()}
    return {
        id: {**node, "class_type": named[id]} if named[id] in info else node
        for id, node in prompt.items()
    }


def without_previews(prompt: Prompt) -> Prompt:
    """The prompt less the previews, which nobody would see."""
    used = {
        value[0]
        for node in prompt.values()
        for value in node["inputs"].values()
        if isinstance(value, list) and len(value) == 2
    }
    return {
        id: node for id, node in prompt.items() if node["class_type"] not in PREVIEWS or id in used
    }


def report_readers(prompt: Prompt, info: Mapping[str, dict]) -> Prompt:
    """Nodes that show the detailers' reports, so that they stand in the server's history."""
    if READER not in info:
        return {}
    found = {}
    for id, node in prompt.items():
        names = info[node["class_type"]].get("output_name") or ()
        kinds = info[node["class_type"]].get("output") or ()
        for slot, (name, kind) in enumerate(zip(names, kinds, strict=False)):
            if name == REPORT and kind == "STRING":
                inputs = {"source": [id, slot]}
                found[f"{READS}{id}"] = {"class_type": READER, "inputs": inputs}
    return found


def title(node: Mapping[str, Any]) -> str:
    meta = node.get("_meta")
    return str(meta.get("title", "")) if isinstance(meta, dict) else ""


def find_node(prompt: Prompt, name: str, option: str) -> str:
    """The id of the node of this id, title or class.

    Raises:
        Problem: there is none, or more than one.
    """
    if name in prompt:
        return name
    for found in (
        [id for id, node in prompt.items() if title(node) == name],
        [id for id, node in prompt.items() if node["class_type"] == name],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise Problem(f"{option}: {name!r} could be node {_listed(prompt, found)}. Use the id.")
    raise Problem(
        f"{option}: the workflow has no node {name!r}. It has {_listed(prompt, list(prompt))}."
    )


def _listed(prompt: Prompt, ids: Sequence[str]) -> str:
    return ", ".join(f"{id} ({title(prompt[id]) or prompt[id]['class_type']})" for id in ids)


def declared(info: Mapping[str, dict], kind: str) -> dict[str, list]:
    """{input: its declaration} of a node class."""
    inputs = info.get(kind, {}).get("input", {})
    return {**(inputs.get("required") or {}), **(inputs.get("optional") or {})}


def _options(declaration: Sequence[Any]) -> dict:
    has = len(declaration) > 1 and isinstance(declaration[1], dict)
    return declaration[1] if has else {}


def find_source(prompt: Prompt, info: Mapping[str, dict], wanted: str | None) -> Place:
    """Where the input goes."""
    if wanted is not None:
        return _wanted_source(prompt, info, wanted)
    found = [id for id, node in prompt.items() if node["class_type"] in LOADERS]
    if not found:
        raise Problem(
            "The workflow has no LoadImage or LoadVideo to take the inputs. Add one, or name the "
            "node that loads with --input-node."
        )
    if len(found) > 1:
        raise Problem(
            f"The workflow loads in several nodes: {_listed(prompt, found)}. Say with --input-node "
            "which takes the inputs."
        )
    return Place(found[0], LOADERS[prompt[found[0]]["class_type"]])


def _wanted_source(prompt: Prompt, info: Mapping[str, dict], wanted: str) -> Place:
    name, dot, given = wanted.rpartition(".")
    if wanted in prompt or not dot or given not in _all_inputs(prompt, info, name):
        name, given = wanted, ""
    id = find_node(prompt, name, "--input-node")
    kind = prompt[id]["class_type"]
    uploads = [
        input
        for input, declaration in declared(info, kind).items()
        if any(key.endswith("_upload") and on for key, on in _options(declaration).items())
    ]
    input = given or LOADERS.get(kind) or (uploads[0] if len(uploads) == 1 else "")
    if not input:
        raise Problem(
            f"--input-node: node {id} is a {kind}, of which no input is known to take a file. "
            f"Write --input-node {id}.INPUT."
        )
    return Place(id, input)


def _all_inputs(prompt: Prompt, info: Mapping[str, dict], name: str) -> set[str]:
    try:
        node = prompt[find_node(prompt, name, "--input-node")]
    except Problem:
        return set()
    return {*node["inputs"], *declared(info, node["class_type"])}


def is_video(prompt: Prompt, source: Place, info: Mapping[str, dict]) -> bool:
    kind = prompt[source.node]["class_type"]
    options = _options(declared(info, kind).get(source.input, ()))
    return kind in VIDEO_LOADERS or bool(options.get("video_upload"))


def find_savers(prompt: Prompt, info: Mapping[str, dict]) -> tuple[str, ...]:
    found = [id for id, node in prompt.items() if node["class_type"] in SAVERS + OTHER_SAVERS]
    if not found:  # savers of other packs
        found = [
            id
            for id, node in prompt.items()
            if info[node["class_type"]].get("output_node")
            and PREFIX in declared(info, node["class_type"])
        ]
    if not found:
        raise Problem("The workflow saves nothing: add a SaveImage or SaveVideo.")
    return tuple(found)


def adapt_savers(
    prompt: Prompt, savers: Sequence[str], info: Mapping[str, dict], making: Making
) -> None:
    """Have the nodes that save write what only they can write from floats or frames."""
    kinds = {prompt[id]["class_type"] for id in savers}
    if making.format == "exr":
        if "SaveImage" in kinds and "SaveImageAdvanced" not in info:
            raise Problem(
                "--format exr: this ComfyUI has no node that writes EXR from floats "
                "(SaveImageAdvanced). Use a newer one, or --format png."
            )
        for id in savers:
            if prompt[id]["class_type"] == "SaveImage":
                prompt[id]["class_type"] = "SaveImageAdvanced"
                prompt[id]["inputs"].update(EXR)
    if making.format == "mp4":
        if "SaveVideo" not in kinds:
            raise Problem("--format mp4: the workflow has no SaveVideo. Add one.")
        for id in savers:
            if prompt[id]["class_type"] == "SaveVideo":
                prompt[id]["inputs"]["format"] = "mp4"


def find_seeds(prompt: Prompt, info: Mapping[str, dict]) -> Iterator[tuple[Place, tuple[int, int]]]:
    """The seeds that the prompt sets itself, and their ranges."""
    for id, node in prompt.items():
        kinds = declared(info, node["class_type"])
        for input, value in node["inputs"].items():
            if not isinstance(value, int) or isinstance(value, bool):
                continue
            options = _options(kinds.get(input, ()))
            if input in SEED_NAMES or options.get("control_after_generate"):
                low = max(int(options.get("min", 0)), 0)
                high = min(int(options.get("max", LARGEST_SEED)), LARGEST_SEED)
                if low <= high:
                    yield Place(id, input), (low, high)


# Overrides


def override(prompt: Prompt, info: Mapping[str, dict], text: str) -> None:
    """Set an input as NODE.INPUT=VALUE says, in place."""
    place, equals, value = text.partition("=")
    name, dot, input = place.rpartition(".")
    if not (equals and dot and name and input):
        raise Problem(f"--set: write NODE.INPUT=VALUE, not {text!r}.")
    id = find_node(prompt, name, "--set")
    prompt[id]["inputs"][input] = read_value(prompt[id], info, input, value, f"--set {place}")


def resolve(
    prompt: Prompt, info: Mapping[str, dict], changes: Any, name: str
) -> dict[str, dict[str, Any]]:
    """The overrides of one file: {"NODE.INPUT": value} as {node id: {input: value}}.

    Raises:
        Problem: they are no such object, or name what the workflow does not have.
    """
    if not isinstance(changes, dict):
        raise Problem(f'{name} should hold {{"NODE.INPUT": value}}.')
    found: dict[str, dict[str, Any]] = {}
    for place, value in changes.items():
        node, _, input = place.rpartition(".")
        id = find_node(prompt, node, name)
        _check_input(prompt[id], info, input, f"{name}: {place}")
        found.setdefault(id, {})[input] = value
    return found


def _check_input(node: Mapping, info: Mapping[str, dict], input: str, option: str) -> None:
    known = {**declared(info, node["class_type"]), **node["inputs"]}
    if input not in known:
        raise Problem(
            f"{option}: {node['class_type']} has no such input. It has {', '.join(known)}."
        )


def read_value(node: Mapping, info: Mapping[str, dict], input: str, text: str, option: str) -> Any:
    """The value that a text means for an input, by its declared kind."""
    _check_input(node, info, input, option)
    declaration = declared(info, node["class_type"]).get(input)
    kind = declaration[0] if declaration else type(node["inputs"][input]).__name__.upper()
    kind = (
        {"STR": "STRING", "BOOL": "BOOLEAN"}.get(kind, kind) if isinstance(kind, str) else "COMBO"
    )
    try:
        if kind == "INT":
            return int(text)
        if kind == "FLOAT":
            return float(text)
        if kind == "BOOLEAN":
            return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
    except (ValueError, KeyError):
        raise Problem(f"{option}: {text!r} is no {kind}.") from None
    if kind in ("STRING", "COMBO"):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
