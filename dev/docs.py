"""The nodes' help pages: `python -m dev.docs --comfyui DIR --python PY` brings them up to date.

ComfyUI's editor shows web/docs/<node id>.md as the help of a node. Title and tables of a page are
made from the node's description in a running server, and are between comments; the text between
them is written by hand and kept.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .server import ROOT, Server

PACK = "comfyui-detailers"  # the folder name that the server gives it
PAGES = ROOT / "web" / "docs"

# Choices that are files of the user, by the input's name: described instead of listed.
_FILES = {
    "Select to add LoRA": "one of your LoRAs",
    "Select to add Wildcard": "one of the wildcard lists",
    "lora_name": "one of your LoRAs",
    "model_name": "one of your model files",
    "image": "one of the pictures in the input folder",
    "latent": "one of the latents in the input folder",
}
_LARGEST = {2**63 - 1: "2⁶³ − 1", 2**64 - 1: "2⁶⁴ − 1", 3.402823466e38: "3.4 × 10³⁸"}
_GENERATED = re.compile(r"<!-- generated: (?:title|inputs|outputs) -->\n.*?<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Host:
    """Choices that inputs take from the host, which a page describes instead of listing them."""

    samplers: list[str]
    schedulers: list[str]
    max_resolution: int

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Host:
        """Read from the answer to /object_info, in the host's own nodes."""
        sampler = info["KSampler"]["input"]["required"]
        width = info["EmptyLatentImage"]["input"]["required"]["width"]
        return cls(sampler["sampler_name"][0], sampler["scheduler"][0], width[1]["max"])


def pack_nodes(info: Mapping[str, Any]) -> dict[str, dict]:
    """This pack's part of the answer to /object_info."""
    module = f"custom_nodes.{PACK}"
    return {node_id: node for node_id, node in info.items() if node["python_module"] == module}


def render(node: Mapping[str, Any], host: Host, body: str) -> str:
    """A page: title and description, the text written by hand, tables of inputs and outputs."""
    parts = [
        _block("title", f"# {node['display_name']}\n\n{_prose(node['description'])}"),
        body,
        _block("inputs", "## Inputs\n\n" + _inputs(node, host)),
        _block("outputs", "## Outputs\n\n" + _outputs(node)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def body_of(page: str) -> str:
    """The part of a page that is written by hand: everything that is not generated."""
    return _GENERATED.sub("", page).strip()


def faults(info: Mapping[str, Any], pages: Path = PAGES) -> list[str]:
    """The faults of the pages, one line for each; none if they are up to date."""
    nodes, host = pack_nodes(info), Host.of(info)
    found = []
    for node_id, node in nodes.items():
        page = read_page(pages, node_id)
        if not body_of(page):
            found.append(f"{node_id}.md: has no text of its own")
        if page != render(node, host, body_of(page)):
            found.append(f"{node_id}.md: its title or its tables are out of date")
    strays = sorted({path.stem for path in pages.glob("*.md")} - set(nodes))
    return found + [f"{node_id}.md: there is no such node" for node_id in strays]


def write_pages(info: Mapping[str, Any], only: Iterable[str] = (), pages: Path = PAGES) -> None:
    """Renew the pages of the nodes named, or of all."""
    nodes, host = pack_nodes(info), Host.of(info)
    for node_id in only or nodes:
        page = render(nodes[node_id], host, body_of(read_page(pages, node_id)))
        page_path(pages, node_id).write_text(page, encoding="utf-8", newline="\n")


def page_path(pages: Path, node_id: str) -> Path:
    return pages / f"{node_id}.md"


def read_page(pages: Path, node_id: str) -> str:
    """A node's page; "" if there is none."""
    path = page_path(pages, node_id)
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _block(name: str, content: str) -> str:
    return f"<!-- generated: {name} -->\n{content}\n\n<!-- end -->"


def _inputs(node: Mapping[str, Any], host: Host) -> str:
    rows = []
    for group in ("required", "optional"):
        for name in node["input_order"].get(group, []):
            kind, options = (*node["input"][group][name], {})[:2]
            mark = " (optional)" if group == "optional" else ""
            tooltip = _prose(options.get("tooltip", ""))
            is_file = isinstance(kind, list) and name in _FILES
            values = _FILES[name] if is_file else _values(kind, options, host)
            rows.append([f"`{name}`{mark}", _kind(kind), values, tooltip])
    return _table(["Input", "Type", "Default and range", "What it does"], rows)


def _outputs(node: Mapping[str, Any]) -> str:
    tooltips = node.get("output_tooltips") or [""] * len(node["output"])
    columns = zip(
        node["output_name"], node["output"], node["output_is_list"], tooltips, strict=True
    )
    rows = [
        [f"`{name}`", _kind(kind) + ", a list" * is_list, _prose(tooltip)]
        for name, kind, is_list, tooltip in columns
    ]
    return _table(["Output", "Type", "What it is"], rows)


def _prose(text: str) -> str:
    """A text with its characters escaped for Markdown."""
    return re.sub(r"[*<`\\]|__", lambda sign: "".join(f"\\{char}" for char in sign[0]), text)


def _table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "None."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _kind(kind: str | list[str]) -> str:
    return "choice" if isinstance(kind, list) else kind


def _values(kind: str | list[str], options: Mapping[str, Any], host: Host) -> str:
    """Default and range of an input."""
    if isinstance(kind, list):
        return _choices(kind, options, host)
    if kind == "BOOLEAN":
        on, off = options.get("label_on", "true"), options.get("label_off", "false")
        chosen, other = (on, off) if options.get("default") else (off, on)
        return f"{chosen} (default) or {other}"
    if kind in ("INT", "FLOAT"):
        return _range(options, host) if "min" in options else ""
    if kind == "STRING" and not options.get("forceInput"):
        return f"`{options['default']}`" if options.get("default") else "empty"
    return ""


def _choices(choices: list[str], options: Mapping[str, Any], host: Host) -> str:
    if choices == host.samplers:
        return "one of ComfyUI's samplers"
    if choices[: len(host.schedulers)] == host.schedulers:
        further = choices[len(host.schedulers) :]
        return ", or ".join(["one of ComfyUI's schedulers", *filter(None, [", ".join(further)])])
    listed = ", ".join(f"`{choice}`" for choice in choices)
    return f"{listed}; default `{options.get('default', choices[0])}`"


def _range(options: Mapping[str, Any], host: Host) -> str:
    low, high = _number(options["min"]), _number(options["max"])
    span = f"from {low}" if options["max"] == host.max_resolution else f"{low} to {high}"
    step = options.get("step", 1)
    by = "" if step == 1 else f", in steps of {_number(step)}"
    default = f"{_number(options['default'])}; " if "default" in options else ""
    return f"{default}{span}{by}"


def _number(value: float) -> str:
    if value in _LARGEST:
        return _LARGEST[value]
    if -value in _LARGEST:
        return f"−({_LARGEST[-value]})"
    return str(int(value)) if value == int(value) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev.docs",
        description="Bring the nodes' help pages up to date with the nodes.",
    )
    parser.add_argument("--comfyui", metavar="DIR", required=True, help="a ComfyUI's folder")
    parser.add_argument("--python", metavar="PY", default=sys.executable, help="its Python")
    parser.add_argument("--check", action="store_true", help="only tell what is out of date")
    parser.add_argument("--only", metavar="ID", nargs="+", default=[], help="only these nodes")
    options = parser.parse_args()
    with Server(options.comfyui, options.python, {PACK: ROOT}) as server:
        info = server.object_info()
    nodes = pack_nodes(info)
    unknown = sorted(set(options.only) - set(nodes))
    if unknown:
        parser.error(f"--only: no node has the id {', '.join(unknown)}")
    if not options.check:
        write_pages(info, options.only)
    wanted = {f"{node_id}.md" for node_id in options.only}
    found = [line for line in faults(info) if not wanted or line.partition(":")[0] in wanted]
    print("\n".join(found) or f"{len(options.only or nodes)} pages are up to date")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
