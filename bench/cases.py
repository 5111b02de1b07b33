"""The graphs that are timed: the pack's detailers and, for each, only the necessary work."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

SHAPE = 96  # pixels, the diameter of each ellipse
GUIDE = 256


@dataclass(frozen=True)
class Case:
    """One image or clip with separate ellipses on a grid."""

    name: str
    side: int  # of the square image
    grid: tuple[int, int]  # ellipses across and down
    steps: int = 1
    frames: int = 1
    faces: bool = False  # boxes of many sizes, as in the picture of a group
    grid_size: int = 0  # the node's size_grid

    @property
    def video(self) -> bool:
        return self.frames > 1


CASES = (
    Case("image 1024, 4 segments, 1 step", 1024, (2, 2)),
    Case("image 1024, 4 segments, 20 steps", 1024, (2, 2), steps=20),
    Case("image 2048, 16 segments, 1 step", 2048, (4, 4)),
    Case("image 2048, 16 segments, 20 steps", 2048, (4, 4), steps=20),
    Case("image 4096, 48 segments, 1 step", 4096, (8, 6)),
    Case("image 4096, 48 segments, 20 steps", 4096, (8, 6), steps=20),
    Case("video 512, 16 frames, 4 segments", 512, (2, 2), frames=16),
    Case("video 512, 64 frames, 4 segments", 512, (2, 2), frames=64),
    Case("video 1024, 64 frames, 4 segments", 1024, (2, 2), frames=64),
    Case("group 2560, 24 faces, 10 steps", 2560, (6, 4), 10, faces=True),
    Case("group, size_grid 32", 2560, (6, 4), 10, faces=True, grid_size=32),
    Case("group, size_grid 64", 2560, (6, 4), 10, faces=True, grid_size=64),
    Case("group, size_grid 128", 2560, (6, 4), 10, faces=True, grid_size=128),
    Case("frames 16, video 512, 4 segments", 512, (2, 2), steps=2, frames=16),
    Case("frames 64, video 512, 4 segments", 512, (2, 2), steps=2, frames=64),
    Case("frames 256, video 512, 4 segments", 512, (2, 2), steps=2, frames=256),
)


def shapes(case: Case) -> list[list]:
    """The ellipses as [x1, y1, x2, y2, kind].

    Faces have sides around 60 to 200 pixels and 0.8 to 1.25 times as wide as high.
    """
    across, down = case.grid
    centres = [
        (int((i + 0.5) * case.side / across), int((j + 0.5) * case.side / down))
        for j in range(down)
        for i in range(across)
    ]
    draw = random.Random(0)  # noqa: S311 - the same every time, no secret
    found = []
    for x, y in centres:
        side = draw.uniform(60, 200) if case.faces else SHAPE
        ratio = draw.uniform(0.8, 1.25) ** 0.5 if case.faces else 1
        width, height = int(side * ratio / 2), int(side / ratio / 2)
        found.append([x - width, y - height, x + width, y + height, "e"])
    return found


def graph(case: Case, kind: str, seed: int) -> dict:
    """An API prompt whose node "work" does the case.

    Args:
        kind: "floor", or the pack "alone" (one by one) or in "waves".
    """
    side = case.side
    prompt = {
        "models": _node("DetailersTestModel", family="flat8", prior_std=0.6),
        "image": _node(
            "DetailersTestImage", width=side, height=side, batch=case.frames, seed=0, channels=3
        ),
        "mask": _node(
            "DetailersTestMask", width=side, height=side, shapes=json.dumps(shapes(case)),
            per_item=False,
        ),
        "segs": _node(
            "MaskToSEGS", mask=["mask", 0], combined=False, crop_factor=2.0, bbox_fill=False,
            drop_size=10, contour_fill=True,
        ),
        "positive": _node("CLIPTextEncode", clip=["models", 1], text="red"),
        "negative": _node("CLIPTextEncode", clip=["models", 1], text=""),
        "work": _floor(case, seed) if kind == "floor" else _pack(case, seed, kind),
        "sink": _node("DetailersTestSink", value=["work", 0]),
    }  # fmt: skip
    if case.video and kind != "floor":
        prompt["pipe"] = _node(
            "ToBasicPipe", model=["models", 0], clip=["models", 1], vae=["models", 2],
            positive=["positive", 0], negative=["negative", 0],
        )  # fmt: skip
    return prompt


def inputs_alone(case: Case) -> dict:
    """An API prompt that makes only the inputs for the work of a case."""
    prompt = graph(case, "floor", 0)
    del prompt["work"]
    names = ("image", "segs", "positive", "negative")
    sinks = {f"sink {name}": _node("DetailersTestSink", value=[name, 0]) for name in names}
    del prompt["sink"]
    return prompt | sinks


def _node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def _sampling(case: Case, seed: int) -> dict:
    return {
        "seed": seed, "steps": case.steps, "cfg": 4.0, "sampler_name": "euler",
        "scheduler": "normal", "denoise": 0.5, "feather": 5,
    }  # fmt: skip


def _floor(case: Case, seed: int) -> dict:
    return _node(
        "DetailersTestBare", image=["image", 0], segs=["segs", 0], model=["models", 0],
        vae=["models", 2], positive=["positive", 0], negative=["negative", 0], side=2 * GUIDE,
        **_sampling(case, seed),
    )  # fmt: skip


def _pack(case: Case, seed: int, kind: str) -> dict:
    sizing = {"guide_size": GUIDE, "guide_size_for": True, "max_size": 768}
    if case.video:
        return _node(
            "DetailerForEachPipeForAnimateDiff", image_frames=["image", 0], segs=["segs", 0],
            basic_pipe=["pipe", 0], refiner_ratio=0.2, noise_mask_feather=0, **sizing,
            **_sampling(case, seed),
        )  # fmt: skip
    return _node(
        "DetailerForEach", image=["image", 0], segs=["segs", 0], model=["models", 0],
        clip=["models", 1], vae=["models", 2], positive=["positive", 0],
        negative=["negative", 0], noise_mask=True, force_inpaint=True, wildcard="", cycle=1,
        inpaint_model=False, noise_mask_feather=0, detail_batch=int(kind == "alone"),
        size_grid=case.grid_size, **sizing, **_sampling(case, seed),
    )  # fmt: skip
