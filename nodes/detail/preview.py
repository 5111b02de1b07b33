"""Looking at what a detailer will do, before it does it."""

from __future__ import annotations

from typing import Any

import torch

from ...core.detail.preview import OFF, Preview, outlines, preview
from ...core.geometry import Size
from ...core.host.backend import ComfyBackend
from ...core.host.folders import save_previews
from ...core.pixels.image import to_rgb
from ...core.pixels.resample import resample
from ...core.settings import Models
from ...utils.check import check_image
from ...utils.indices import written_indices
from ..segs.pictures import given_segs
from ..widgets import described, inputs
from .images import make_detail

CATEGORY = "Detailers/Detailer"
UI = "detailers_segments"  # where the editor finds picture and table in the node's UI output
MOST_PICTURES = 32  # of a batch that the node itself shows
LONGEST_SIDE = 1024  # of these, in pixels

# Nothing is sampled, so these say nothing.
_UNUSED = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}


class PreviewSegments:
    DESCRIPTION = (
        "Shows what a detailer with these settings will do, without any model: the image with its "
        "numbered segments, and for each its size, seed, text and wave, or why it is skipped. "
        "Click on a segment to switch it off or on."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "STRING", "SEGS")
    RETURN_NAMES = ("image", "table", "segs")
    OUTPUT_TOOLTIPS = (
        "The image with the boxes, crop windows and masks of its segments, numbered.",
        "The same as a table, in JSON; the help page lists its keys.",
        "The segments that are switched on, as they came: for the detailer.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        off = described(
            "STRING",
            "Indices of the segments that are switched off, counted from 0, and ranges of them: "
            "1, 4-6. Clicking on segments in this node writes them.",
            default="",
        )
        return {
            "required": {
                **inputs(
                    "image", "segs", "guide_size", "guide_size_for", "max_size", "seed",
                    "force_inpaint", "wildcard",
                    image="The image that will be detailed, or a batch of images.",
                    segs="The segments, from a detector or a mask.",
                ),
                "off": off,
            },
            "optional": inputs(
                "feather", "detail_batch", "size_grid", "model", "vae", "detailer_hook",
                "paste_options", "crop_options", "segment_plan",
                feather="The detailer's own: crops that are turned upright leave room for it.",
                model="The detailer's own, of which only the size is asked that it was made for.",
                vae="The detailer's own, of which only is asked to what sides are padded; without "
                "it, 8 pixels are taken.",
                detailer_hook="The detailer's own: some change sizes, or have segments sampled one "
                "by one.",
                paste_options="The detailer's own: crops that are turned upright leave room for "
                "it.",
            ),
        }  # fmt: skip

    def run(self, image, segs, off="", model=None, vae=None, **widgets):
        check_image(image, "image")
        segs = given_segs(segs)
        models = Models(model, None, vae, [], [])
        detail = make_detail(models, **_UNUSED, **widgets)
        made = preview(image, segs, off, detail, ComfyBackend())
        return {
            "ui": {UI: [for_editor(image, made, len(segs[1]))]},
            "result": (made.image, made.text(), made.segs),
        }


def for_editor(image: torch.Tensor, made: Preview, count: int) -> dict[str, Any]:
    """What the node shows by itself: small pictures and the table, with outlines to draw.

    Args:
        image: [B,H,W,C], before anything was drawn into it.
        count: of the segments that came.
    """
    table = made.table()
    for row, shown in zip(table["segments"], made.shown, strict=True):
        if row["image"] < MOST_PICTURES:
            row |= {"outlines": outlines(shown), "corners": shown.leaning}
        # Editors read numbers as floats, and a seed may have more digits than those.
        row["seed"] = None if row["seed"] is None else str(row["seed"])
    pictures = [_small(picture) for picture in to_rgb(image[:MOST_PICTURES])[0].split(1)]
    off = {shown.row.number for shown in made.shown if shown.row.status == OFF}
    return table | {
        "pictures": save_previews(pictures, "segments"),
        "count": count,
        "off": written_indices(off),
    }


def _small(picture: torch.Tensor) -> torch.Tensor:
    """A picture [1,H,W,3] with no side longer than LONGEST_SIDE."""
    height, width = picture.shape[1:3]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return picture
    return resample(
        picture, Size(*(max(1, round(side * scale)) for side in (width, height))), "bilinear"
    )


NODES = {"PreviewSegments": (PreviewSegments, "Preview Segments")}
