"""Photographs in installed packages, and the places of faces in them, judged by eye.

Only files of the packages are read; no package is imported.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Photograph:
    """A photograph in a package, and its faces of at least 30 pixels, as judged by eye.

    Attributes:
        faces: from the brow's upper end to the chin, and from cheek to cheek.
        eyes: of some of the faces, the one on the left of the picture first.
    """

    package: str
    file: str
    faces: tuple[Box, ...] = ()
    eyes: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = ()

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def path(self) -> Path | None:
        """Its file; None where the package or the file is missing."""
        spec = importlib.util.find_spec(self.package)
        places = (spec.submodule_search_locations if spec else None) or []
        paths = [Path(place, self.file) for place in places]
        return next((path for path in paths if path.is_file()), None)

    def read(self) -> torch.Tensor:
        """[1,H,W,3] 0..1."""
        with Image.open(self.path) as picture:
            pixels = np.array(picture.convert("RGB"))
        return torch.from_numpy(pixels)[None].float() / 255


# On the right edge of the bus's picture is a third head: 20 pixels of its side, without an eye, a
# nose or a mouth to see.
PHOTOGRAPHS = (
    Photograph(
        "ultralytics", "assets/zidane.jpg", ((908, 98, 1058, 285), (545, 250, 664, 448)),
        (((964, 168), (1024, 171)), ((627, 324), (655, 334))),
    ),
    Photograph(
        "ultralytics", "assets/bus.jpg", ((116, 422, 156, 472), (270, 426, 306, 472)),
        (((132, 437), (149, 436)),),
    ),
    Photograph(
        "skimage", "data/astronaut.png", ((178, 68, 272, 182),), (((203, 101), (248, 103)),)
    ),
    Photograph("skimage", "data/camera.png", ((192, 115, 258, 201),)),
    Photograph(
        "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ((170, 125, 358, 335),),
        (((220, 190), (309, 186)),),
    ),
    *(
        Photograph("skimage", f"data/{name}")
        for name in (
            "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png",
            "motorcycle_right.png", "coins.png", "clock_motion.png", "ihc.png",
        )
    ),
)  # fmt: skip


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(0, width) * max(0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (areas - common)


def compared(found: list[Box], faces: tuple[Box, ...]) -> tuple[list[Box], list[Box]]:
    """The faces that were not found, and the detections that are no faces.

    A face is found by a box that shares half of their area with it.
    """
    missed = [face for face in faces if not any(overlap(face, box) >= 0.5 for box in found)]
    false = [box for box in found if not any(overlap(face, box) >= 0.5 for face in faces)]
    return missed, false
