"""The detailers: they crop, enlarge and sample each segment, and paste it back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...core.detail.images import Detailed, detail_image, detail_segs, detail_versions
from ...core.geometry import Sizing
from ...core.graph.calls import called_as
from ...core.hook_protocol import Hook
from ...core.host.backend import ComfyBackend
from ...core.host.messages import is_linked
from ...core.segs.from_masks import segs_for_images
from ...core.settings import (
    NO_CROPS,
    CropOptions,
    Detail,
    KeptCrops,
    Masking,
    Models,
    Pasting,
    Refiner,
    Retry,
    Sampling,
    Tiling,
)
from ...utils.check import check_image, check_mask, check_segs
from ..widgets import inputs
from .options import given
from .pipes import pipe_models, read_pipe

CATEGORY = "Detailers/Detailer"
SAMPLING = ("seed", "steps", "cfg", "sampler_name", "scheduler")
SIZE = ("guide_size", "guide_size_for", "max_size")
WAVES = ("detail_batch", "size_grid")
OPTIONS = ("paste_options", "crop_options", "segment_plan", "variants")
REPORT = "A report of the run as JSON: sizes, seeds, texts, times and messages of every segment."
VARIANTS = "variants"  # the name of an output
VARIANTS_TOOLTIP = "All variants of each segment as segments, for Choose Variants."


def make_sampling(**widgets: Any) -> Sampling:
    """The settings for sampling from a node's widgets, by their names."""
    return Sampling(
        seed=widgets["seed"],
        steps=widgets["steps"],
        cfg=widgets["cfg"],
        sampler_name=widgets["sampler_name"],
        scheduler=widgets["scheduler"],
        denoise=widgets["denoise"],
        cycle=widgets.get("cycle", 1),
        scheduler_func=widgets.get("scheduler_func_opt"),
    )


def make_detail(models: Models, refiner: Models | None = None, **widgets: Any) -> Detail:
    """All settings of a detailer from a node's widgets, by their names.

    A setting without a widget gets the default of the core.
    """
    get = widgets.get
    cropping = given(get("crop_options"), CropOptions, "crop_options")
    return Detail(
        models=models,
        sizing=Sizing(
            guide_size=widgets["guide_size"],
            guide_size_for_bbox=widgets["guide_size_for"],
            max_size=widgets["max_size"],
            force_inpaint=get("force_inpaint", True),
            grid=get("size_grid", 0),
            policy=cropping.policy,
            area=cropping.area,
        ),
        sampling=make_sampling(**widgets),
        masking=Masking(
            noise_mask=get("noise_mask", True),
            noise_mask_feather=get("noise_mask_feather", 0),
            feather=get("feather", 0),
            inpaint_model=get("inpaint_model", False),
        ),
        pasting=given(get("paste_options"), Pasting, "paste_options"),
        upright=cropping.upright,
        references=cropping.references,
        tiling=Tiling(encode=get("tiled_encode", False), decode=get("tiled_decode", False)),
        refiner=None if refiner is None else Refiner(refiner, widgets["refiner_ratio"]),
        text=get("wildcard") or "",
        hook=get("detailer_hook"),
        retry=get("retry", Retry()),
        batch=get("detail_batch", 0),
        variants=get("variants", 1),
        kept=get("kept", KeptCrops()),
        segment_plan=get("segment_plan"),
    )


def keeping(node: Any, kept: KeptCrops) -> KeptCrops:
    """The crops to keep: `kept`, and the variants if their output is connected."""
    return replace(kept, variants=is_linked(type(node), VARIANTS))


def told_links(cls: type, **_inputs: Any) -> bool:
    """IS_CHANGED of nodes with variants, which are only drawn if their output is connected.

    The value changes when the output gets connected, so that no cached result without variants is
    used.
    """
    return is_linked(cls, VARIANTS)


def optional_refiner(pipe: Any, name: str = "refiner_basic_pipe_opt") -> Models | None:
    """The models of the refiner. None: there is no pipe, or it holds nothing but a VAE.

    Raises:
        ValueError: the pipe is no BASIC_PIPE, or lacks one of the parts that sampling needs.
    """
    if pipe is None:
        return None
    models = read_pipe(pipe, name)
    if all(part is None for part in models._replace(vae=None)):  # a detailer pipe without refiner
        return None
    return pipe_models(pipe, name)


def largest_first(images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Pictures, each [N,h,w,C], sorted by their shapes; the largest comes first."""
    return sorted(images, key=lambda image: tuple(image.shape), reverse=True)


def image_list(images: list[torch.Tensor]) -> list[torch.Tensor]:
    """Pictures, each [N,h,w,C], for an output list; the largest comes first.

    If there are none, the list holds one black picture [1,64,64,3].
    """
    if not images:
        return [torch.zeros(1, 64, 64, 3)]
    return largest_first(images)


# The parameters of the function with which other packs detail.
_OLDER_PARAMETERS = (
    "image, segs, model, clip, vae, guide_size, guide_size_for_bbox, max_size, seed, steps,"
    "cfg, sampler_name, scheduler, positive, negative, denoise, feather, noise_mask,"
    "force_inpaint, wildcard_opt=None, detailer_hook=None, refiner_ratio=None,"
    "refiner_model=None, refiner_clip=None, refiner_positive=None, refiner_negative=None,"
    "cycle=1, inpaint_model=False, noise_mask_feather=0, scheduler_func_opt=None,"
    "tiled_encode=False, tiled_decode=False"
)


class DetailerForEach:
    DESCRIPTION = (
        "Redraws every segment of an image: crops it, enlarges the crop, samples it with the "
        "model and pastes it back with a soft edge. Takes batches of images."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "STRING", "SEGS")
    RETURN_NAMES = ("IMAGE", "report", VARIANTS)
    OUTPUT_TOOLTIPS = ("The image with every segment redrawn.", REPORT, VARIANTS_TOOLTIP)
    FUNCTION = "run"
    IS_CHANGED = classmethod(told_links)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": inputs(
                "image", "segs", "model", "clip", "vae", *SIZE, *SAMPLING, "positive",
                "negative", "denoise", "feather", "noise_mask", "force_inpaint", "wildcard",
                "cycle",
            ),
            "optional": inputs(
                "detailer_hook", "inpaint_model", "noise_mask_feather", "scheduler_func_opt",
                "tiled_encode", "tiled_decode", *WAVES, *OPTIONS,
            ),
        }  # fmt: skip

    def run(self, image, segs, model, clip, vae, positive, negative, **widgets):
        models = pipe_models((model, clip, vae, positive, negative))
        result = detailed(image, segs, models, kept=keeping(self, NO_CROPS), **widgets)
        return (result.image, result.report, result.variant_segs)

    # Other packs call it by this name.

    @staticmethod
    @called_as(_OLDER_PARAMETERS)
    def do_detail(**given):
        """Detail the segments of an image.

        Returns:
            (image, crops before, crops after, these with their mask as alpha, what ControlNets saw,
            SEGS with the new crops); the lists hold the largest first and may be empty.
        """
        return done_detail(**given)


def done_detail(image, segs, guide_size_for_bbox, wildcard_opt, **given) -> tuple:
    """Does the work of `do_detail`."""
    models, refiner = older_models(given)
    result = detailed(
        image, segs, models, refiner, guide_size_for=guide_size_for_bbox, wildcard=wildcard_opt,
        **given,
    )  # fmt: skip
    return (result.image, *map(largest_first, result.pictures), result.segs)


def older_models(given: dict[str, Any]) -> tuple[Models, Models | None]:
    """Models and refiner from the inputs of `do_detail`, which are removed there, in place."""
    vae = given.pop("vae")
    model, clip, positive, negative = (
        given.pop(part) for part in ("model", "clip", "positive", "negative")
    )
    models = pipe_models((model, clip, vae, positive, negative))
    model, clip, positive, negative = (
        given.pop(f"refiner_{part}") for part in ("model", "clip", "positive", "negative")
    )
    if model is None or not given["refiner_ratio"]:
        return models, None
    return models, Models(model, clip, vae, positive, negative)


def detailed(image: Any, segs: Any, models: Models, refiner: Any = None, **widgets) -> Detailed:
    """Check the inputs of a detailer node, and detail the image [B,H,W,C] 0..1."""
    check_image(image, "image")
    check_segs(segs, "segs")
    return detail_image(image, segs, make_detail(models, refiner, **widgets), ComfyBackend())


class DetailerForEachAutoRetry(DetailerForEach):
    DESCRIPTION = (
        DetailerForEach.DESCRIPTION + " A segment whose result is black or not finite is "
        "sampled again with the next seed. If that does not help, "
        "it keeps its original pixels."
    )

    @classmethod
    def INPUT_TYPES(cls):
        groups = super().INPUT_TYPES()
        retries = {
            "default": 1, "min": 1, "max": 10, "step": 1,
            "tooltip": "How many times a segment is sampled again at most.",
        }  # fmt: skip
        return groups | {"required": groups["required"] | {"max_retries": ("INT", retries)}}

    def run(self, image, segs, model, clip, vae, positive, negative, max_retries, **widgets):
        models = pipe_models((model, clip, vae, positive, negative))
        retry = Retry(times=max_retries, when_broken=True)
        kept = keeping(self, NO_CROPS)
        result = detailed(image, segs, models, retry=retry, kept=kept, **widgets)
        return (result.image, result.report, result.variant_segs)

    @staticmethod
    @called_as(f"{_OLDER_PARAMETERS}, max_retries=1")
    def do_detail(max_retries, **given):
        """As `do_detail` of DetailerForEach."""
        retry = Retry(times=max_retries, when_broken=True)
        return done_detail(retry=retry, **given)


class DetailerForEachDebug(DetailerForEach):
    DESCRIPTION = DetailerForEach.DESCRIPTION + " Also gives the crops before and after."
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE", "IMAGE", "IMAGE", "STRING", "SEGS")
    RETURN_NAMES = (
        "image", "cropped", "cropped_refined", "cropped_refined_alpha", "cnet_images", "report",
        VARIANTS,
    )  # fmt: skip
    OUTPUT_IS_LIST = (False, True, True, True, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The image with every segment redrawn.",
        "Each crop before it is redrawn.",
        "Each crop after it is redrawn.",
        "Each crop after it is redrawn, with the soft mask as its alpha channel.",
        "The pictures that the ControlNets of the segments got.",
        REPORT,
        VARIANTS_TOOLTIP,
    )

    def run(self, image, segs, model, clip, vae, positive, negative, **widgets):
        models = pipe_models((model, clip, vae, positive, negative))
        kept = keeping(self, KeptCrops(segs=False))
        result = detailed(image, segs, models, kept=kept, **widgets)
        return (result.image, *map(image_list, result.pictures), result.report, result.variant_segs)


class DetailerForEachPipe:
    DESCRIPTION = DetailerForEach.DESCRIPTION + " Takes the models over one link, and a refiner."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "SEGS", "BASIC_PIPE", "IMAGE", "STRING", "SEGS")
    RETURN_NAMES = ("image", "segs", "basic_pipe", "cnet_images", "report", VARIANTS)
    OUTPUT_IS_LIST = (False, False, False, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The image with every segment redrawn.",
        "The segments with their redrawn crops.",
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
                "image", "segs", *SIZE, *SAMPLING, "denoise", "feather", "noise_mask",
                "force_inpaint", "basic_pipe", "wildcard", "refiner_ratio", "cycle",
            ),
            "optional": inputs(
                "detailer_hook", "refiner_basic_pipe_opt", "inpaint_model", "noise_mask_feather",
                "scheduler_func_opt", "tiled_encode", "tiled_decode", *WAVES, *OPTIONS,
            ),
        }  # fmt: skip

    def run(self, image, segs, basic_pipe, refiner_basic_pipe_opt=None, **widgets):
        result = detailed(
            image, segs, pipe_models(basic_pipe), optional_refiner(refiner_basic_pipe_opt),
            kept=keeping(self, replace(NO_CROPS, segs=True, control_images=True)), **widgets,
        )  # fmt: skip
        return (
            result.image, result.segs, basic_pipe, image_list(result.control_images),
            result.report, result.variant_segs,
        )  # fmt: skip


class DetailerForEachDebugPipe(DetailerForEachPipe):
    DESCRIPTION = DetailerForEachPipe.DESCRIPTION + " Also gives the crops before and after."
    RETURN_TYPES = (
        "IMAGE", "SEGS", "BASIC_PIPE", "IMAGE", "IMAGE", "IMAGE", "IMAGE", "STRING", "SEGS",
    )  # fmt: skip
    RETURN_NAMES = (
        "image", "segs", "basic_pipe", "cropped", "cropped_refined", "cropped_refined_alpha",
        "cnet_images", "report", VARIANTS,
    )  # fmt: skip
    OUTPUT_IS_LIST = (False, False, False, True, True, True, True, False, False)
    OUTPUT_TOOLTIPS = (
        *DetailerForEachPipe.OUTPUT_TOOLTIPS[:3],
        *DetailerForEachDebug.OUTPUT_TOOLTIPS[1:],
    )

    def run(self, image, segs, basic_pipe, refiner_basic_pipe_opt=None, **widgets):
        result = detailed(
            image, segs, pipe_models(basic_pipe), optional_refiner(refiner_basic_pipe_opt),
            kept=keeping(self, KeptCrops()), **widgets,
        )  # fmt: skip
        return (
            result.image, result.segs, basic_pipe, *map(image_list, result.pictures),
            result.report, result.variant_segs,
        )  # fmt: skip


class SEGSDetailer:
    DESCRIPTION = (
        "Redraws every segment like the detailers, but keeps the result in the SEGS instead of "
        "pasting it. Use SEGSPaste to put it into an image."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "IMAGE", "STRING", "SEGS")
    RETURN_NAMES = ("segs", "cnet_images", "report", VARIANTS)
    OUTPUT_IS_LIST = (False, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The segments with their redrawn crops; with batch_size, those of every version.",
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
                "image", "segs", *SIZE, *SAMPLING, "denoise", "noise_mask", "force_inpaint",
                "basic_pipe", "refiner_ratio", "batch_size", "cycle",
                max_size={"default": 768},
                seed="Every segment of the first version uses this seed + 1, every segment of "
                "the next version this seed + 2, and so on.",
            ),
            "optional": inputs(
                "refiner_basic_pipe_opt", "inpaint_model", "noise_mask_feather",
                "scheduler_func_opt", *WAVES, *OPTIONS,
            ),
        }  # fmt: skip

    def run(self, image, segs, basic_pipe, batch_size=1, refiner_basic_pipe_opt=None, **widgets):
        refiner = optional_refiner(refiner_basic_pipe_opt)
        kept = keeping(self, KeptCrops())
        detail = make_detail(pipe_models(basic_pipe), refiner, kept=kept, **widgets)
        result = detail_segs(image, segs, detail, ComfyBackend(), batch_size)
        return (result.segs, image_list(result.control_images), result.report, result.variant_segs)

    # Other packs call it by this name.

    @staticmethod
    @called_as(
        "image, segs, guide_size, guide_size_for, max_size, seed, steps, cfg, sampler_name,"
        "scheduler, denoise, noise_mask, force_inpaint, basic_pipe, refiner_ratio=0.0,"
        "batch_size=1, cycle=1, refiner_basic_pipe_opt=None, inpaint_model=False,"
        "noise_mask_feather=0, scheduler_func_opt=None"
    )
    def do_detail(refiner_ratio, **given):
        """Detail segments. Gives SEGS with the new crops, and the pictures that ControlNets saw."""
        return SEGSDetailer().run(refiner_ratio=refiner_ratio or 0.0, **given)[:2]


class MaskDetailerPipe:
    DESCRIPTION = (
        "Redraws the masked part of an image: every separate shape of the mask becomes a "
        "segment, which is cropped, enlarged, sampled and pasted back with a soft edge. If "
        "there are as many masks as images, each image uses its own mask. Otherwise every "
        "image uses all masks."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE", "BASIC_PIPE", "BASIC_PIPE", "STRING", "SEGS")
    RETURN_NAMES = (
        "image", "cropped_refined", "cropped_enhanced_alpha", "basic_pipe",
        "refiner_basic_pipe_opt", "report", VARIANTS,
    )  # fmt: skip
    OUTPUT_IS_LIST = (False, True, True, False, False, False, False)
    OUTPUT_TOOLTIPS = (
        "The redrawn image, one for each version.",
        "Each crop after it is redrawn.",
        "Each crop after it is redrawn, with the soft mask as its alpha channel.",
        "The same pipe that is connected to the input.",
        "The same refiner pipe that is connected to the input.",
        REPORT,
        VARIANTS_TOOLTIP,
    )
    FUNCTION = "run"
    IS_CHANGED = classmethod(told_links)

    @classmethod
    def INPUT_TYPES(cls):
        modes = {
            "default": True, "label_on": "masked only", "label_off": "whole",
            "tooltip": "Masked only: only the masked part is redrawn. Whole: the whole crop is "
            "redrawn, and the mask only limits the part that is pasted.",
        }  # fmt: skip
        required = inputs(
            "image", "mask", "basic_pipe", *SIZE, *SAMPLING, "denoise", "feather",
            "crop_factor", "drop_size", "refiner_ratio", "batch_size", "cycle",
            guide_size={"default": 384},
            guide_size_for={"label_on": "mask bbox", "label_off": "crop region"},
            crop_factor={"max": 10},
        )  # fmt: skip
        names = list(required)
        names.insert(names.index("seed"), "mask_mode")
        required["mask_mode"] = ("BOOLEAN", modes)
        return {
            "required": {name: required[name] for name in names},
            "optional": inputs(
                "refiner_basic_pipe_opt", "detailer_hook", "inpaint_model", "noise_mask_feather",
                "bbox_fill", "contour_fill", "scheduler_func_opt", *WAVES, *OPTIONS,
                contour_fill={"default": True},
            ),
        }  # fmt: skip

    def run(
        self, image, mask, basic_pipe, mask_mode, crop_factor, drop_size, seed, batch_size=1,
        refiner_basic_pipe_opt=None, detailer_hook=None, bbox_fill=False, contour_fill=True,
        **widgets,
    ):  # fmt: skip
        segs = segs_for_images(
            check_mask(mask, "mask"), len(image), Hook(detailer_hook), crop_factor=crop_factor,
            drop_size=drop_size, bbox_fill=bbox_fill, contour_fill=contour_fill,
        )  # fmt: skip
        models, refiner = pipe_models(basic_pipe), optional_refiner(refiner_basic_pipe_opt)
        widgets |= {"noise_mask": mask_mode, "detailer_hook": detailer_hook}
        kept = keeping(self, replace(NO_CROPS, refined=True, refined_alpha=True))
        detail = make_detail(models, refiner, seed=seed, kept=kept, **widgets)
        result = detail_versions(image, segs, detail, ComfyBackend(), batch_size)
        return (
            result.image, image_list(result.refined), image_list(result.refined_alpha),
            basic_pipe, refiner_basic_pipe_opt, result.report, result.variant_segs,
        )  # fmt: skip


NODES = {
    "DetailerForEach": (DetailerForEach, "Detailer (SEGS)"),
    "DetailerForEachAutoRetry": (DetailerForEachAutoRetry, "Detailer (SEGS) with auto retry"),
    "DetailerForEachPipe": (DetailerForEachPipe, "Detailer (SEGS/pipe)"),
    "DetailerForEachDebug": (DetailerForEachDebug, "DetailerDebug (SEGS)"),
    "DetailerForEachDebugPipe": (DetailerForEachDebugPipe, "DetailerDebug (SEGS/pipe)"),
    "SEGSDetailer": (SEGSDetailer, "SEGSDetailer"),
    "MaskDetailerPipe": (MaskDetailerPipe, "MaskDetailer (pipe)"),
}
