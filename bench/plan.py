"""The time to find out which of many segments may be sampled together.

python -m bench.plan
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACK = "detailers_core"
TILE, STEP, SIDE = 128, 96, 63  # pixels, pixels, and tiles along a side


def core(name: str) -> Any:
    """A module of the pack's core, without ComfyUI."""
    if PACK not in sys.modules:
        package = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(PACK, loader=None, is_package=True)
        )
        package.__path__ = [str(ROOT)]
        sys.modules[PACK] = package
    return importlib.import_module(f"{PACK}.core.{name}")


def measure_levels(repeats: int = 5) -> str:
    """A line with the best time to group the tiles of a large image into levels."""
    box, levels = core("geometry").Box, core("detail.plan").levels
    starts = [STEP * number for number in range(SIDE)]
    regions = [box(x, y, x + TILE, y + TILE) for y in starts for x in starts]
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        found = levels(regions)
        best = min(best, time.perf_counter() - start)
    return f"{len(regions)} tiles that overlap, into {len(found)} levels: {1000 * best:.0f} ms"


if __name__ == "__main__":
    print(measure_levels())
