"""The rooms of core/__init__.py: imports go down only, and only core/host/ imports ComfyUI."""

import ast
import graphlib
from pathlib import Path

import pytest
from detailers import core
from detailers.dev.server import ROOT

# From the ground up. A file of core itself is a room of its own name.
ROOMS = (
    "geometry", "settings", "user_settings", "bounds", "streams", "clips", "noise", "memory",
    "timing", "files", "pixels", "checked_calls", "hook_protocol", "segs", "detectors", "tracks",
    "prompts", "backend", "sampling", "detail", "hooks", "graph", "host",
)  # fmt: skip
FOLDERS = ("utils", "wildcards", "core", "nodes", "compat")  # likewise, of the pack
# What only a process of ComfyUI can import.
HOST = {
    "api_server", "app", "comfy", "comfy_api", "comfy_api_nodes", "comfy_config", "comfy_execution",
    "comfy_extras", "cuda_malloc", "execution", "folder_paths", "latent_preview", "middleware",
    "new_updater", "node_helpers", "nodes", "protocol", "server",
}  # fmt: skip


def modules(*folders):
    """The pack's modules in these folders: (parts of its name, what it is parsed to)."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield parts, ast.parse(path.read_text(encoding="utf-8"))


def imported(parts, tree):
    """Modules of the pack that one imports anywhere in it, as parts of their names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*parts[: len(parts) - node.level], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            for alias in node.names:
                full = (*base, alias.name)
                yield full if is_module(full) else base


def is_module(parts):
    path = Path(ROOT, *parts)
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room(parts):
    return parts[1] if len(parts) > 1 and parts[1] != "__init__" else None


def test_every_room_is_on_the_map():
    names = {path.stem for path in (ROOT / "core").iterdir() if not path.name.startswith("__")}
    assert names == set(ROOMS)
    places = [core.__doc__.find(f"\n    {name} ") for name in ROOMS]
    assert -1 not in places, [name for name, at in zip(ROOMS, places, strict=True) if at < 0]
    assert places == sorted(places)


def test_no_room_imports_a_later_one():
    wrong = [
        f"{'/'.join(parts)} imports {'/'.join(target)}"
        for parts, tree in modules("core")
        for target in imported(parts, tree)
        if target[0] == "core"
        and room(parts)
        and room(target)
        and ROOMS.index(room(target)) > ROOMS.index(room(parts))
    ]
    assert not wrong


def test_no_folder_imports_a_later_one():
    wrong = [
        f"{'/'.join(parts)} imports {'/'.join(target)}"
        for parts, tree in modules(*FOLDERS)
        for target in imported(parts, tree)
        if FOLDERS.index(target[0]) > FOLDERS.index(parts[0])
    ]
    assert not wrong


def test_modules_import_one_another_in_no_circle():
    graph = {parts: set(imported(parts, tree)) - {parts} for parts, tree in modules(*FOLDERS)}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("folder", FOLDERS)
def test_core_host_alone_imports_comfyui(folder):
    wrong = [
        f"{'/'.join(parts)} imports {name}"
        for parts, tree in modules(folder)
        if parts[:2] != ("core", "host")
        for name in outside(tree)
        if name.partition(".")[0] in HOST
    ]
    assert not wrong


def outside(tree):
    """Names of what a module imports by an absolute name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_a_lazy_import_upwards_and_one_of_comfyui_would_be_seen():
    tree = ast.parse("def f():\n    from ..host import vae\n    import comfy.utils\n")
    assert list(imported(("core", "pixels", "mask"), tree)) == [("core", "host", "vae")]
    assert list(outside(tree)) == ["comfy.utils"]
