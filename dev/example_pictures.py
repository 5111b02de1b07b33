"""Pictures of the example workflows, which ComfyUI shows among its templates.

    python -m dev.example_pictures --comfyui DIR --python PY

runs the workflows with blueprints on a street of the miniature world, with the miniature as their
model. It writes `example_workflows/<name>.jpg`: before on the left, after on the right, and a part
of each enlarged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .blueprints import WORKFLOWS
from .brand import frame
from .example_runs import KINDS, Street, prompt_for, result_of
from .server import ROOT, Server, project_packs

SIZE = (600, 600)
LENS = 190  # pixels of an enlarged part's side
SEEDS = {"5_": 2, "6_": 11, "7_": 2, "8_": 2, "9_": 5, "10": 36}  # of the streets
SIDE = 512
SIDES = {"10": 1024}  # where it is another: persons are told apart from some 60 pixels on
SETTINGS = {
    "6_": {"denoise": 0.25, "guide_size": 256},
    "7_": {"guide_size": 256, "max_size": 512, "denoise": 0.25},
    "8_": {"guide_size": 256, "max_size": 512},
    "9_": {
        "bbox_size": 256,
        "guide_size": 256,
        "max_size": 512,
        "scale_by": 1.5,
        "denoise": 0.2,
        "steps": 6,
    },
}


def after_of(file: Path, street: Street, server: Server, **settings: object) -> Image.Image:
    """The picture, or the first frame of the video, that a workflow makes."""
    prompt = prompt_for(file, street, server.input, **settings)
    run = server.run(prompt)
    if not run.ok:
        raise RuntimeError(f"{file.name}: {run.error}")
    saved = result_of(prompt, run.outputs)
    path = server.output / saved["subfolder"] / saved["filename"]
    if path.suffix == ".png":
        return Image.open(path).convert("RGB")
    import av

    with av.open(path) as video:
        return next(video.decode(video=0)).to_image()


def beside(before: Image.Image, after: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Before and after in halves of one picture; below, the part in `box` of each, enlarged."""
    before, after = (one.resize(SIZE, Image.Resampling.LANCZOS) for one in (before, after))
    share = np.zeros(SIZE[::-1], np.uint8)
    share[:, SIZE[0] // 2 :] = 255
    picture = Image.composite(after, before, Image.fromarray(share))
    draw = ImageDraw.Draw(picture)
    draw.line((SIZE[0] // 2, 0, SIZE[0] // 2, SIZE[1]), (255, 255, 255), 3)
    for one, left in ((before, 12), (after, SIZE[0] - LENS - 12)):
        top = SIZE[1] - LENS - 12
        part = one.crop(box).resize((LENS, LENS), Image.Resampling.LANCZOS)
        draw.rectangle((left - 3, top - 3, left + LENS + 2, top + LENS + 2), (255, 255, 255))
        picture.paste(part, (left, top))
    frame(picture, box, width=3, corner=14)
    return picture


def square_around(box: tuple[int, int, int, int], side: int) -> tuple[int, int, int, int]:
    """A square around a box of a picture `side` pixels wide, in pixels of SIZE."""
    left, top, right, bottom = (value * SIZE[0] / side for value in box)
    half = max(right - left, bottom - top) * 0.62
    x, y = (left + right) / 2, (top + bottom) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


def largest_in_reach(boxes: list, side: int) -> tuple[int, int, int, int]:
    """The largest box whose square lies in the picture, preferably above the enlarged parts."""
    fitting = [box for box in boxes if min(square_around(box, side)) >= 0
               and max(square_around(box, side)) <= SIZE[0]]  # fmt: skip
    above = [b for b in fitting if square_around(b, side)[3] < SIZE[1] - LENS - 16]
    return max(above or fitting or boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.example_pictures", description=__doc__)
    parser.add_argument("--comfyui", metavar="DIR", required=True, help="a ComfyUI's folder")
    parser.add_argument("--python", metavar="PY", required=True, help="its Python")
    parser.add_argument("names", nargs="*", help="only those of these names")
    options = parser.parse_args()
    folder = ROOT / "example_workflows"
    with Server(options.comfyui, options.python, project_packs(miniature=True)) as server:
        for name in options.names or WORKFLOWS:
            start = name[:2]
            side = SIDES.get(start, SIDE)
            street = Street(SEEDS[start], side)
            after = after_of(folder / f"{name}.json", street, server, **SETTINGS.get(start, {}))
            kind = "hand" if KINDS.get(start) == "hand" else "head"
            box = largest_in_reach(street.boxes(kind), side)
            picture = beside(street.picture(), after, square_around(box, side))
            picture.save(folder / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
