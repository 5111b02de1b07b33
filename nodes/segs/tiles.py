"""Cutting images into tiles."""

from __future__ import annotations

from ...core.geometry import Size
from ...core.segs.tile_segs import IRREGULAR_MODES, TileLayout, covered, tile_batch
from ..widgets import grown, inputs
from .pictures import CATEGORY, given_segs


class ImpactMakeTileSEGS:
    DESCRIPTION = (
        "Cuts an image into tiles that overlap, each a segment: with a detailer, redraws a large "
        "image part by part. Connected segments limit the tiles to what they cover, or leave that "
        "out."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each tile, row by row from the top left.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        bbox_size = {
            "default": 512, "min": 64, "max": 4096, "step": 8,
            "tooltip": "Side of a tile in pixels; at most the image's shorter side.",
        }  # fmt: skip
        min_overlap = {
            "default": 5, "min": 0, "max": 512, "step": 1,
            "tooltip": "Pixels that neighbours share at least; at most half a tile.",
        }  # fmt: skip
        dilation = {
            "default": 20, "min": -255, "max": 255, "step": 1,
            "tooltip": grown("the masks of both kinds of filter segments"),
        }  # fmt: skip
        irregularity = {
            "default": 0, "min": 0, "max": 1.0, "step": 0.01,
            "tooltip": "How far the tiles' edges wander within their overlap, which hides the "
            "grid: 0 keeps them straight, 1 uses all of the overlap. Makes tiles larger.",
        }  # fmt: skip
        mode = {
            "tooltip": "Reuse: the same edges for every tile. All random: other edges for each. "
            "Fast has smooth edges, quality finer ones."
        }
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "The image, or images of one size, to cut."}),
                "bbox_size": ("INT", bbox_size),
                **inputs("crop_factor", crop_factor={"max": 10, "step": 0.01}),
                "min_overlap": ("INT", min_overlap),
                "filter_segs_dilation": ("INT", dilation),
                "mask_irregularity": ("FLOAT", irregularity),
                "irregular_mask_mode": (list(IRREGULAR_MODES), mode),
            },
            "optional": {
                "filter_in_segs_opt": (
                    "SEGS", {"tooltip": "Tiles are made only of what these segments cover."},
                ),
                "filter_out_segs_opt": (
                    "SEGS", {"tooltip": "What these segments cover is left out of the tiles."},
                ),
            },
        }  # fmt: skip

    def run(
        self, images, bbox_size, crop_factor, min_overlap, filter_segs_dilation,
        mask_irregularity=0.0, irregular_mask_mode=IRREGULAR_MODES[0], filter_in_segs_opt=None,
        filter_out_segs_opt=None,
    ):  # fmt: skip
        size = Size(images.shape[2], images.shape[1])
        layout = TileLayout(
            bbox_size, crop_factor, min_overlap, mask_irregularity, irregular_mask_mode
        )

        def filter_mask(segs, name):
            if segs is None:
                return None
            return covered(given_segs(segs, name), size, filter_segs_dilation, name)

        only = filter_mask(filter_in_segs_opt, "filter_in_segs_opt")
        exclude = filter_mask(filter_out_segs_opt, "filter_out_segs_opt")
        return (tile_batch(size, len(images), layout, only, exclude),)


NODES = {"ImpactMakeTileSEGS": (ImpactMakeTileSEGS, "Make Tile SEGS")}
