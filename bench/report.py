"""What it costs to tell of a run: `python run.py bench report --help`.

All that tells of a run is a stage of its own in the report: pictures for the editor, messages to
it, and the report itself. Its share of the whole time is printed, without an editor and with one
that shows the segments, best of some runs each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dev import options
from dev.server import Server, project_packs
from tests.host.graphs import Graph

from .cases import SHAPE

MARK = {"_meta": {"detailers_view": True}}  # as the editor marks its prompts
SIDES = ((1024, 2), (2048, 4))  # of the picture in pixels, and of its grid of segments
STEPS = 20
MOST = 0.01


def prompt(side: int, grid: int, seed: int, shown: bool) -> tuple[Graph, Any]:
    """A picture with grid x grid segments, drawn anew by the miniature."""
    graph = Graph()
    model = graph.add("DetailersMiniatureLoader")
    centres = [int((number + 0.5) * side / grid) for number in range(grid)]
    half = SHAPE // 2
    shapes = [[x - half, y - half, x + half, y + half, "e"] for y in centres for x in centres]
    segs = graph.add(
        "MaskToSEGS", mask=graph.mask(side, side, *shapes), combined=False, crop_factor=2.0,
        bbox_fill=False, drop_size=10, contour_fill=True,
    )[0]  # fmt: skip
    node = graph.detail(
        "DetailerForEach", graph.image(side, side, seed=1), segs, model, "a person",
        seed=seed, steps=STEPS, cfg=2.0, guide_size=192, denoise=0.4, feather=8,
    )  # fmt: skip
    graph.add("DetailersTestSave", value=node[1], name="report")
    if shown:
        graph["1"] |= MARK
    return graph, node


def measured(server: Server, side: int, grid: int, shown: bool, repeats: int) -> str:
    """A line: the whole time, what of it went into telling, and its share."""
    best: tuple[float, float, float] | None = None
    length = 0
    for turn in range(repeats + 1):
        graph, _ = prompt(side, grid, turn, shown)
        with server.watch() as watch:
            run = server.run(graph, watch=watch)
        if not run.ok:
            raise RuntimeError(run.error)
        text = json.loads(server.result("report")["s0"].item())
        times, length = json.loads(text)["times"], len(text)
        told = times["stages"]["report"]
        own = told / times["total"], times["total"], told
        if turn:  # the first one warms up
            best = min(best or own, own)
    share, total, told = best
    who = "shown in the editor" if shown else "nobody looks on"
    return (
        f"| {side}², {grid * grid} segments, {who} | {total:.2f} | {1000 * told:.1f} |"
        f" {share:.2%} | {length} |"
    )


def main() -> int:
    args = options.bench_report().parse_args()
    print("| case | run, s | telling, ms | share | report, characters |\n| --- |" + " ---: |" * 4)
    with Server(Path(args.comfyui), args.python, project_packs(miniature=True)) as server:
        for side, grid in SIDES:
            for shown in (False, True):
                print(measured(server, side, grid, shown, args.repeats), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
