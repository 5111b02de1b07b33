"""Detailers for video: a segment has one crop region in all frames, which are sampled together."""

from __future__ import annotations

from ...core.detail.video import detail_frames
from ...core.graph.calls import called_as
from ...core.host.backend import ComfyBackend
from ...core.settings import KeptCrops
from ...utils.check import check_image, check_segs
from ..widgets import inputs
from .images import (
    CATEGORY,
    OPTIONS,
    REPORT,
    SAMPLING,
    SIZE,
    VARIANTS,
    VARIANTS_TOOLTIP,
    image_list,
    keeping,
    make_detail,
    optional_refiner,
    told_links,
)
from .pipes import pipe_models

_SEED = "Seed of the clip; all frames of a segment are sampled together."


class SEGSDetailerForAnimateDiff:
    DESCRIPTION = (
        "Redraws every segment of a video. All frames of a segment are sampled together, so "
        "that a motion model or a video model sees them as one clip. The result is kept in the "
        "SEGS. Use SEGSPaste to put it into the frames."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "IMAGE", "STRING", "SEGS")
    RETURN_NAMES = ("segs", "cnet_images", "report", VARIANTS)
    OUTPUT_IS_LIST = (False, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The segments with their redrawn crops, one for each frame.",
        "The pictures that the ControlNets of the segments got.",
        REPORT,
        VARIANTS_TOOLTIP,
    )
    FUNCTION = "run"
    IS_CHANGED = classmethod(told_links)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": inputs(
                "image_frames", "segs", *SIZE, *SAMPLING, "denoise", "basic_pipe",
                "refiner_ratio",
                guide_size={"default": 256}, max_size={"default": 768}, seed=_SEED,
            ),
            "optional": inputs(
                "refiner_basic_pipe_opt", "noise_mask_feather", "scheduler_func_opt",
                *OPTIONS,
            ),
        }  # fmt: skip

    def run(self, image_frames, segs, basic_pipe, refiner_basic_pipe_opt=None, **widgets):
        result = detailed_frames(
            image_frames, segs, basic_pipe, refiner_basic_pipe_opt, pasted=False,
            kept=keeping(self, KeptCrops()), **widgets,
        )  # fmt: skip
        return (result.segs, image_list(result.control_images), result.report, result.variant_segs)

    # Other packs call it by this name.

    @staticmethod
    @called_as(
        "image_frames, segs, guide_size, guide_size_for, max_size, seed, steps, cfg, sampler_name,"
        "scheduler, denoise, basic_pipe, refiner_ratio=0.0, refiner_basic_pipe_opt=None,"
        "inpaint_model=False, noise_mask_feather=0, scheduler_func_opt=None"
    )
    def do_detail(refiner_ratio, **given):
        """Detail segments. Gives SEGS with the new crops, and the pictures that ControlNets saw."""
        return SEGSDetailerForAnimateDiff().run(refiner_ratio=refiner_ratio or 0.0, **given)[:2]


class DetailerForEachPipeForAnimateDiff:
    DESCRIPTION = (
        "Redraws every segment of a video. All frames of a segment are sampled together, so "
        "that a motion model or a video model sees them as one clip. Each frame is pasted back "
        "with a soft edge."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "SEGS", "BASIC_PIPE", "IMAGE", "STRING", "SEGS")
    RETURN_NAMES = ("image", "segs", "basic_pipe", "cnet_images", "report", VARIANTS)
    OUTPUT_IS_LIST = (False, False, False, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The frames with every segment redrawn.",
        "The segments with their redrawn crops, one for each frame.",
        "The same pipe that is connected to the input.",
        "The pictures that the ControlNets of the segments got.",
        REPORT,
        VARIANTS_TOOLTIP,
    )
    FUNCTION = "run"
    IS_CHANGED = classmethod(told_links)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": inputs(
                "image_frames", "segs", *SIZE, *SAMPLING, "denoise", "feather", "basic_pipe",
                "refiner_ratio",
                guide_size={"default": 384}, seed=_SEED,
            ),
            "optional": inputs(
                "detailer_hook", "refiner_basic_pipe_opt", "noise_mask_feather",
                "scheduler_func_opt", *OPTIONS,
            ),
        }  # fmt: skip

    def run(self, image_frames, segs, basic_pipe, refiner_basic_pipe_opt=None, **widgets):
        result = detailed_frames(
            image_frames, segs, basic_pipe, refiner_basic_pipe_opt, pasted=True,
            kept=keeping(self, KeptCrops()), **widgets,
        )  # fmt: skip
        return (
            result.image, result.segs, basic_pipe, image_list(result.control_images),
            result.report, result.variant_segs,
        )  # fmt: skip


def detailed_frames(frames, segs, basic_pipe, refiner_pipe, *, pasted: bool, **widgets):
    """Check the inputs of a video detailer, and detail the clip [F,H,W,C] 0..1."""
    check_image(frames, "image_frames")
    check_segs(segs, "segs")
    refiner = optional_refiner(refiner_pipe)
    detail = make_detail(pipe_models(basic_pipe), refiner, **widgets)
    return detail_frames(frames, segs, detail, ComfyBackend(), pasted=pasted)


NODES = {
    "SEGSDetailerForAnimateDiff": (
        SEGSDetailerForAnimateDiff,
        "SEGSDetailer For AnimateDiff (SEGS/pipe)",
    ),
    "DetailerForEachPipeForAnimateDiff": (
        DetailerForEachPipeForAnimateDiff,
        "Detailer For AnimateDiff (SEGS/pipe)",
    ),
}
