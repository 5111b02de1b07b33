"""The picture for the demo: a scene of the miniature world, or a photograph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .miniature.detailing import CROP_FACTOR, SETTINGS
from .miniature.world import SIDE, base_picture, draw_scene, enlarge
from .server import ROOT
from .workflow import Workflow

PHOTO = ROOT / "dev" / "assets" / "astronaut.jpg"
MODEL = "CheckpointLoaderSimple"
DETECTOR = "DetailersFaceDetectorProvider"
FOUND = "BboxDetectorSEGS"
PROMPT = "Prompt for the faces"


@dataclass(frozen=True)
class Subject:
    """A picture, and the settings of the workflow for it.

    Attributes:
        name: name of the picture's file, without its extension.
        title: title of the contact sheet.
        truth: the true picture, if it is known.
        boxes: the boxes of the faces, if they are known.
        texts: a description of each of these faces.
        prompt: for all faces; None keeps the prompt of the workflow.
    """

    name: str
    title: str
    picture: Image.Image
    truth: Image.Image | None = None
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    texts: tuple[str, ...] = ()
    prompt: str | None = None

    def set_up(self, workflow: Workflow, detailer: str) -> None:
        """Set the prompt; for a scene also the miniature and its best settings."""
        if self.prompt is not None:
            workflow[PROMPT, "text"] = self.prompt
        if self.truth is None:
            return
        boxes = json.dumps([[*box, "head", 1.0] for box in self.boxes])
        workflow.replace(MODEL, "DetailersMiniatureLoader", "Miniature")
        workflow.replace(DETECTOR, "DetailersTestDetector", "Boxes of the heads", boxes=boxes)
        workflow[FOUND, "crop_factor"] = CROP_FACTOR
        workflow["Negative prompt", "text"] = ""
        wildcard = "" if self.prompt else "\n[SEP]\n".join(self.texts)
        settings = {"feather": 8, "noise_mask_feather": 0, "wildcard": wildcard}
        for widget, value in (SETTINGS | settings).items():
            workflow[detailer, widget] = value


def photograph(file: Path, prompt: str | None) -> Subject:
    """A photograph from a file, turned upright.

    Raises:
        OSError: if it cannot be read.
    """
    picture = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    return Subject(file.stem, f"Face detailer: {prompt or file.name}", picture, prompt=prompt)


def scene(seed: int, prompt: str | None) -> Subject:
    """A scene of the miniature world as a base model would have given it, and its truth."""
    drawn = draw_scene(seed)
    truth = drawn.picture()
    return Subject(
        name=f"scene_{seed}",
        title=f"Face detailer: scene {seed} of the miniature world"
        + (f", {prompt}" if prompt else ", each head by its own words"),
        picture=_image(enlarge(base_picture(truth, seed), (SIDE, SIDE))),
        truth=_image(truth),
        boxes=tuple(drawn.box(index) for index in range(len(drawn.characters))),
        texts=tuple(drawn.captions()),
        prompt=prompt,
    )


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(picture * 255).astype(np.uint8))
