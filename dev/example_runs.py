"""The example workflows on a picture of the miniature world, with the miniature as their model.

Files that the user has to download are replaced: models by the miniature, detectors by the true
boxes. Everything else runs as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .miniature.cast import NAMES, reference_picture
from .miniature.detailing import SETTINGS
from .miniature.people import EMBEDDER
from .miniature.render import ellipse
from .miniature.world import SIDE, Scene, base_picture, draw_scene, enlarge
from .workflow import Workflow

FRAMES, STEP = 5, 6.0  # of the video; scene units that everybody walks from frame to frame
HAND = (2.12, 4.75, 0.55)  # x, y and half a box's side, in faces' radii from the face's centre
DETECTORS = ("DetailersFaceDetectorProvider", "UltralyticsDetectorProvider")
KINDS = {"6_": "hand", "7_": "person"}  # what an example looks for, other than heads
Box = tuple[int, int, int, int]
Prompt = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Street:
    """A scene of the miniature world as a base model would have given it.

    Attributes:
        side: pixels of the picture, which is square.
    """

    seed: int
    side: int

    @cached_property
    def scene(self) -> Scene:
        return draw_scene(self.seed)

    def truth(self, frame: int = 0) -> np.ndarray:
        """[H,W,3], 0..1."""
        walkers = (replace(one, x=one.x + frame * STEP) for one in self.scene.characters)
        moved = replace(self.scene, characters=tuple(walkers))
        return moved.picture((self.side, self.side))

    def picture(self, frame: int = 0) -> Image.Image:
        return image(enlarge(base_picture(self.truth(frame), self.seed), (self.side, self.side)))

    def mask(self) -> Image.Image:
        """White where the heads are."""
        masks = [self.scene.mask(index, (self.side, self.side)) for index in self._indices()]
        return image(np.max(masks, 0)).convert("L")

    def boxes(self, kind: str) -> list[Box]:
        """The boxes of the things with a label (head, hand or person), within the picture."""
        found = []
        for index in self._indices():
            if kind == "head":
                found.append(self.scene.box(index, (self.side, self.side)))
            elif kind == "person":
                shapes = self.scene.characters[index].shapes()
                points = np.concatenate([shape.points for shape in shapes])
                found.append(self._box(points.min(0), points.max(0)))
            else:
                found += [self._hand(index, side) for side in (-1, 1)]
        return [box for box in found if box[2] - box[0] > 7 and box[3] - box[1] > 7]

    def _hand(self, index: int, side: int) -> Box:
        one = self.scene.characters[index]
        x, y, half = HAND
        circle = ellipse(side * x, y, half, half, (0, 0, 0))
        points = circle.moved(one.x, one.y, one.radius, one.tilt).points
        return self._box(points.min(0), points.max(0))

    def _box(self, least: np.ndarray, most: np.ndarray) -> Box:
        corners = np.concatenate(
            [np.floor(least * self.side / SIDE), np.ceil(most * self.side / SIDE)]
        )
        return tuple(int(value) for value in corners.clip(0, self.side))

    def _indices(self) -> range:
        return range(len(self.scene.characters))


def image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def prompt_for(file: Path, street: Street, folder: Path, **settings: Any) -> Prompt:
    """The prompt of an example workflow; writes the files that it loads into `folder`, the input.

    Args:
        settings: values of the detailers' inputs, instead of the best ones for the miniature.
    """
    prompt = Workflow.read(file).prompt()
    kind = next((kind for start, kind in KINDS.items() if file.name.startswith(start)), "head")
    _load(prompt, street, folder)
    _know(prompt, street, folder)
    _find(prompt, street.boxes(kind), kind)
    _model(prompt)
    settings = {**SETTINGS, "feather": 4, "noise_mask_feather": 0, **settings}
    for node in prompt.values():
        node["inputs"] |= {n: value for n, value in settings.items() if n in node["inputs"]}
        if node["inputs"].get("wildcard"):
            node["inputs"]["wildcard"] = "[ASC]" + "\n[SEP]\n".join(_from_left(street))
        elif node["class_type"] == "CLIPTextEncode":
            node["inputs"]["text"] = ""
    return prompt


def _from_left(street: Street) -> list[str]:
    pairs = sorted(zip(street.boxes("head"), street.scene.captions(), strict=True))
    return [caption for _, caption in pairs]


def _load(prompt: Prompt, street: Street, folder: Path) -> None:
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            picture = street.picture().convert("RGBA")
            picture.putalpha(Image.eval(street.mask(), lambda value: 255 - value))
            picture.save(folder / "example.png")
            node["inputs"] = {"image": "example.png"}
        elif node["class_type"] == "LoadVideo":
            name = node["inputs"]["file"]
            frames = [street.mask().convert("RGB")] * FRAMES
            if "mask" not in name:
                frames = [street.picture(frame) for frame in range(FRAMES)]
            write_video(folder / name, frames)
            node["inputs"] = {"file": name}


def _know(prompt: Prompt, street: Street, folder: Path) -> None:
    """Give what names people a picture of each character, and their texts by name."""
    looks = [character.look for character in street.scene.characters]
    for node in [*prompt.values()]:
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "LabelSEGSByPerson":
            batch = prompt[inputs["references"][0]]["inputs"]
            for number, name in enumerate(sorted(batch)):
                key = batch[name][0]
                file = f"person{number}.png"
                image(reference_picture(looks[number % len(looks)])).save(folder / file)
                prompt[key]["inputs"] = {"image": file}
            inputs["threshold"] = 0.5
            inputs.pop("bbox_detector", None)  # the pictures show the heads alone
        elif kind == "PersonEmbedderLoader":
            place = folder.parent / "models" / "person_embedders"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(EMBEDDER, place)
            inputs["model_name"] = EMBEDDER.name
        elif kind == "SegmentPlan":
            texts = zip(NAMES, street.scene.captions(), strict=False)
            inputs["plan"] = "\n".join(f"- label: {name}\n  text: {text}" for name, text in texts)


def write_video(file: Path, frames: list[Image.Image], rate: int = 8, quality: int = 1) -> None:
    """Write frames as a video file.

    Args:
        rate: frames a second.
        quality: constant rate factor of H.264; 1 keeps almost all, 23 is usual.
    """
    import av

    with av.open(file, "w") as video:
        stream = video.add_stream("libx264", rate=rate, options={"crf": str(quality)})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_image(frame)))
        video.mux(stream.encode())


def _find(prompt: Prompt, boxes: list[Box], kind: str) -> None:
    for node in prompt.values():
        if node["class_type"] in DETECTORS:
            found = json.dumps([[*box, kind, 1.0] for box in boxes])
            node |= {"class_type": "DetailersTestDetector", "inputs": {"boxes": found}}
        elif node["class_type"] == "SegmDetectorSEGS":
            source, _ = node["inputs"].pop("segm_detector")
            node["class_type"] = "BboxDetectorSEGS"
            node["inputs"]["bbox_detector"] = [source, 0]


def _model(prompt: Prompt) -> None:
    """Replace all nodes that load a part of a model by the miniature."""
    (main,) = [id for id, node in prompt.items()
               if node["class_type"] in ("CheckpointLoaderSimple", "UNETLoader")]  # fmt: skip
    prompt[main] = {"class_type": "DetailersMiniatureLoader", "inputs": {}}
    places = {"ModelSamplingSD3": 0, "CLIPLoader": 1, "VAELoader": 2}
    parts = {id: places[node["class_type"]] for id, node in prompt.items()
             if node["class_type"] in places}  # fmt: skip
    for id in parts:
        del prompt[id]
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in parts:
                node["inputs"][name] = [main, parts[value[0]]]


def result_of(prompt: Mapping[str, dict], outputs: Mapping[str, dict]) -> dict[str, str]:
    """The first file of the result of a run, as the saving node names it."""
    savers = [id for id, node in prompt.items() if node["class_type"] in ("SaveImage", "SaveVideo")]
    return outputs[savers[0]]["images"][0]
