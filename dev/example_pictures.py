"""Pictures of the example workflows, which ComfyUI shows among its templates.

    python -m dev.example_pictures --comfyui DIR --python PY

runs the workflows of `dev.blueprints` on a street of the miniature world, with the miniature as
their model. It writes `example_workflows/<name>.jpg`: before on the left, after on the right, and a
part of each enlarged. The picture of the group shows the scene, and each head before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .blueprints import WORKFLOWS
from .brand import frame
from .example_runs import KINDS, Street, prompt_for, result_of
from .miniature.cast import NAMES
from .server import ROOT, Server, project_packs

SIZE = (600, 600)
LENS = 190  # pixels of an enlarged part's side
SEEDS = {"5_": 2, "6_": 11, "7_": 2, "8_": 2, "9_": 5, "10": 36, "11": 9}  # of the streets
SIDE = 512
BY_NAME = "10"
SIDES = {BY_NAME: 1024}  # where it is another: persons are told apart from some 60 pixels on
SETTINGS = {
    "6_": {"denoise": 0.25, "guide_size": 256},
    "7_": {"guide_size": 256, "max_size": 512, "denoise": 0.25},
    "8_": {"guide_size": 256, "max_size": 512},
    "11": {"guide_size": 256, "max_size": 512, "cfg": 1.0},
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


def by_name(before: Image.Image, after: Image.Image, street: Street) -> Image.Image:
    """The part of the scene with everybody in it; below, each head before and after, with names."""
    boxes = street.boxes("head")
    half = street.side // 2
    middle = (min(box[1] for box in boxes) + max(box[3] for box in boxes)) // 2
    top = min(max(0, middle - half // 2), street.side - half)
    strip = (SIZE[0], SIZE[1] // 2)
    picture = Image.new("RGB", SIZE, (255, 255, 255))
    shown = before.crop((0, top, street.side, top + half))
    picture.paste(shown.resize(strip, Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(picture)
    scale, width = SIZE[0] / street.side, SIZE[0] // len(boxes)
    for number, (box, name) in enumerate(zip(boxes, NAMES, strict=False)):
        y = ((box[1] + box[3]) / 2 - top) * scale
        is_right = box[2] * scale + 80 > SIZE[0]  # then there is room on the left alone
        x = box[0] * scale - 12 if is_right else box[2] * scale + 12
        _tag(draw, (x, y), name, "rm" if is_right else "lm")
        square = tuple(value / scale for value in square_around(box, street.side))
        left = round(number * width)
        for row, one in enumerate((before, after)):
            part = one.resize((width - 2, width - 2), Image.Resampling.LANCZOS, square)
            picture.paste(part, (left + 1, strip[1] + row * width + 1))
        _tag(draw, (left + width / 2, SIZE[1] - 6), name, "md")
    return picture


def _tag(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str) -> None:
    """A name on a plate, at an anchor of Pillow's."""
    font = ImageFont.load_default(16)
    box = draw.textbbox(at, text, font=font, anchor=anchor)
    draw.rectangle((box[0] - 5, box[1] - 3, box[2] + 5, box[3] + 3), (40, 40, 44))
    draw.text(at, text, (255, 255, 255), font, anchor=anchor)


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
            if start == BY_NAME:
                picture = by_name(street.picture(), after, street)
            else:
                kind = "hand" if KINDS.get(start) == "hand" else "head"
                box = largest_in_reach(street.boxes(kind), side)
                picture = beside(street.picture(), after, square_around(box, side))
            picture.save(folder / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
