"""The host of this process, prepared for odd values."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import folder_paths
import nodes as host_nodes

from ...core.graph.validation import checks_of
from ...core.host.detectors import register_folders
from .samples import Samples


@contextmanager
def samples() -> Iterator[Samples]:
    """Good values for the pack's nodes, in a quiet host that writes to a folder of its own."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # a download is right, but is none of this
    shown, comfy.utils.PROGRESS_BAR_ENABLED = comfy.utils.PROGRESS_BAR_ENABLED, False
    folders = {name: getattr(folder_paths, f"get_{name}_directory")() for name in _FOLDERS}
    quiet = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _FOLDERS:
            Path(scratch, name).mkdir()
            getattr(folder_paths, f"set_{name}_directory")(f"{scratch}/{name}")
        try:
            register_folders()
            asyncio.run(host_nodes.init_builtin_extra_nodes())
            from ...nodes import NODE_CLASSES

            yield Samples(NODE_CLASSES)
        finally:
            for name, folder in folders.items():
                getattr(folder_paths, f"set_{name}_directory")(folder)
            comfy.utils.PROGRESS_BAR_ENABLED = shown
            logging.disable(quiet)


_FOLDERS = ("output", "temp", "input")


def costs(good: Samples, repeats: int = 300) -> str:
    """The time that the checks of inputs take for nodes with good inputs, in microseconds."""
    found = []
    for node_id, node in good.nodes.items():
        inputs = good.inputs(node_id)
        best = float("inf")
        try:
            for _ in range(repeats):
                start = time.perf_counter()
                checks_of(node).admit(inputs)
                best = min(best, time.perf_counter() - start)
        except ValueError:  # files that are not here
            continue
        found.append((best * 1e6, node_id))
    found.sort()
    middle, (most, slowest) = found[len(found) // 2][0], found[-1]
    return (
        f"the checks cost {middle:.1f} us in the middle of {len(found)} nodes and {most:.1f} us at "
        f"most ({slowest}); aim: below 50 us"
    )
