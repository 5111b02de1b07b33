"""A node that cuts images into tiles."""

from __future__ import annotations

from ...core.geometry import Size
from ...core.segs.tile_segs import IRREGULAR_MODES, TileLayout, covered, tile_batch
from ..widgets import grown, inputs
from .pictures import CATEGORY, given_segs


class ImpactMakeTileSEGS:
    DESCRIPTION = (
        "Cuts an image into overlapping tiles. Each tile is a segment, so a detailer can "
        "redraw a large image part by part. Segments can be connected to limit the tiles to "
        "the parts that they cover, or to leave these parts out."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each tile, row by row from the top left.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        bbox_size = {
            "default": 512, "min": 64, "max": 4096, "step": 8,
            "tooltip": "Side of a tile in pixels. It is at most the shorter side of the image.",
        }  # fmt: skip
        min_overlap = {
            "default": 5, "min": 0, "max": 512, "step": 1,
            "tooltip": "Neighbouring tiles overlap by at least this many pixels. It is at most "
            "half a tile.",
        }  # fmt: skip
        dilation = {
            "default": 20, "min": -255, "max": 255, "step": 1,
            "tooltip": grown("the masks of both kinds of filter segments"),
        }  # fmt: skip
        irregularity = {
            "default": 0, "min": 0, "max": 1.0, "step": 0.01,
            "tooltip": "How irregular the edges of the tiles are within their overlap, which "
            "hides the grid. 0: straight edges. 1: the whole overlap is used. It "
            "makes the tiles larger.",
        }  # fmt: skip
        mode = {
            "tooltip": "Reuse: the same edges for every tile. All random: different edges for "
            "each tile. fast: smooth edges. quality: finer edges."
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
                    "SEGS", {"tooltip": "Tiles are made only for the parts that these segments "
                    "cover."},
                ),
                "filter_out_segs_opt": (
                    "SEGS", {"tooltip": "The parts that these segments cover are left out of "
                    "the tiles."},
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
