"""The host and this pack in this process, without a server."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dev.miniature.host_import import use_host

ROOT = Path(__file__).resolve().parent.parent
PACK = "detailers_bench"


def load(tree: Path, cpu: bool) -> Any:
    """Import the parts of the host that the pack needs, and this pack; the pack's module.

    PyTorch gets one thread: the layers of the miniature are small, and threads that share one spin
    while they wait for one another.
    """
    use_host(tree, cpu)
    import nodes  # noqa: F401 - the host's, which the pack expects to be imported
    import torch

    torch.set_num_threads(1)
    return load_pack()


def load_with(tree: Path, options: Sequence[str]) -> Any:
    """As `load`, but the host sets itself up as if it were started with these options.

    So it also pages weights where it would, and PyTorch has the threads that it takes. PyTorch must
    not be imported before.
    """
    sys.path.insert(0, str(tree))
    sys.argv = ["main.py", "--disable-all-custom-nodes", *options]
    importlib.import_module("main")
    return load_pack()


def unknown(tree: Path, options: Sequence[str]) -> list[str]:
    """Those of some options that this host does not have."""
    text = (tree / "comfy" / "cli_args.py").read_text(encoding="utf-8")
    return [option for option in options if f'"{option}"' not in text]


def load_pack() -> Any:
    """This pack, as the host would load it; from now on the host prints no progress."""
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    pack = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = pack
    spec.loader.exec_module(pack)
    return pack


def part(name: str) -> Any:
    """A module of the pack's core."""
    return importlib.import_module(f"{PACK}.core.{name}")


def part_of_nodes(name: str) -> Any:
    """A module of the pack's nodes, as `part` gives those of its core."""
    return importlib.import_module(f"{PACK}.nodes.{name}")


def part_of_utils(name: str) -> Any:
    """A module of the pack's utils, as `part` gives those of its core."""
    return importlib.import_module(f"{PACK}.utils.{name}")
