"""Segments and the work on one of them, as packs call it that know ComfyUI-Impact-Pack's `core`."""

from __future__ import annotations

from typing import Any

import torch

from ..core.detail.images import detail_image
from ..core.detail.video import detail_frames
from ..core.detectors.sam.model import sam_mask
from ..core.detectors.sam.questions import SamHints
from ..core.geometry import Size
from ..core.graph.calls import called_as
from ..core.hook_protocol import Hook
from ..core.host.backend import MAX_RESOLUTION, ComfyBackend
from ..core.host.samplers import schedulers
from ..core.sampling.regional import RegionalPrompt
from ..core.sampling.sigmas import EXTRA_SCHEDULERS
from ..core.segs.edit import both, combine_with_mask, combine_with_masks, without
from ..core.segs.seg import SEG, SEGS, combined_mask, from_mask, mask_list, scale_to
from ..core.settings import Detail, KeptCrops
from ..nodes.detail.images import make_detail, older_models
from .utils import make_3d_mask, to_tensor

__all__ = [
    "MAX_RESOLUTION", "REGIONAL_PROMPT", "SEG", "apply_mask_to_each_seg",
    "crop_condition_mask", "enhance_detail", "enhance_detail_for_animatediff", "get_schedulers",
    "make_sam_mask", "mask_to_segs",
    "segs_bitwise_and_mask", "segs_bitwise_subtract_mask", "segs_scale_match",
    "segs_to_combined_mask", "segs_to_masklist",
]  # fmt: skip

__all__ += ["SCHEDULERS"]  # noqa: F822 - see `__getattr__`
REGIONAL_PROMPT = RegionalPrompt


def get_schedulers() -> list[str]:
    """The schedulers that detailers take."""
    return [*schedulers(), *EXTRA_SCHEDULERS]


def __getattr__(name: str) -> Any:
    if name == "SCHEDULERS":  # as they are by now
        return get_schedulers()
    raise AttributeError(name)


# SEGS -----------------------------------------------------------------------------------------


def segs_to_combined_mask(segs: SEGS) -> torch.Tensor:
    """Everything that SEGS cover, [1,H,W]; of video or a batch, a mask for each image."""
    return combined_mask(segs)


def segs_to_masklist(segs: SEGS) -> list[torch.Tensor]:
    """For every SEG its mask at the image's size, [H,W]; of video [F,H,W]."""
    return [mask[0] if len(mask) == 1 else mask for mask in mask_list(segs)]


def segs_bitwise_and_mask(segs: SEGS, mask: Any) -> SEGS:
    """SEGS with what a mask covers of theirs."""
    return combine_with_mask(segs, make_3d_mask(mask).float(), both)


def segs_bitwise_subtract_mask(segs: SEGS, mask: Any) -> SEGS:
    """SEGS without what a mask covers."""
    return combine_with_mask(segs, make_3d_mask(mask).float(), without)


def apply_mask_to_each_seg(segs: SEGS, masks: Any) -> SEGS:
    """SEG i with what mask i covers of its own."""
    return combine_with_masks(segs, make_3d_mask(masks).float(), both)


def segs_scale_match(segs: SEGS, target_shape: Any) -> SEGS:
    """SEGS for an image of that shape [B,H,W,C]; those that fit, or say no size, as they are."""
    height, width = map(int, target_shape[1:3])
    if tuple(segs[0]) == (height, width) or 0 in segs[0]:
        return segs
    return scale_to(segs, Size(width, height))


@called_as(
    "mask, combined, crop_factor, bbox_fill, drop_size=1, label='A', crop_min_size=None,"
    "detailer_hook=None, is_contour=True"
)
def mask_to_segs(mask, detailer_hook, is_contour, **given) -> SEGS:
    """SEGS of the shapes in a mask."""
    hook, mask = Hook(detailer_hook), make_3d_mask(mask).float()
    region = hook.method("post_crop_region")
    segs = from_mask(mask, contour_fill=is_contour, adjust_region=region, **given)
    return hook.post_detection(segs)


def crop_condition_mask(mask: Any, image: Any, crop_region: Any) -> Any:
    """The part of a conditioning's mask [B,h,w] that belongs to a region of an image [B,H,W,C]."""
    down, across = mask.shape[1] / image.shape[1], mask.shape[2] / image.shape[2]
    x1, y1, x2, y2 = crop_region
    return mask[
        :, round(y1 * down) : round(y2 * down), round(x1 * across) : round(x2 * across)
    ]  # fmt: skip


@called_as(
    "sam, segs, image, detection_hint, dilation, threshold, bbox_expansion, mask_hint_threshold,"
    "mask_hint_use_negative"
)
def make_sam_mask(sam, segs, image, mask_hint_use_negative, **given) -> torch.Tensor:
    """Everything that a SAM marks for the segments of an image, [1,H,W]."""
    hints = SamHints(mask_hint_use_negative=str(mask_hint_use_negative or "False"), **given)
    return sam_mask(sam, segs, image, hints)[None]


# One segment ----------------------------------------------------------------------------------


class _WithoutPasting:
    """A hook at all points but that of pasting, which is the caller's business here."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        if name in ("_hook", "post_paste"):
            raise AttributeError(name)
        return getattr(self._hook, name)


@called_as(
    "image, model, clip, vae, guide_size, guide_size_for_bbox, max_size, bbox, seed, steps, cfg,"
    "sampler_name, scheduler, positive, negative, denoise, noise_mask, force_inpaint,"
    "wildcard_opt=None, wildcard_opt_concat_mode=None, detailer_hook=None, refiner_ratio=None,"
    "refiner_model=None, refiner_clip=None, refiner_positive=None, refiner_negative=None,"
    "control_net_wrapper=None, cycle=1, inpaint_model=False, noise_mask_feather=0,"
    "scheduler_func=None, vae_tiled_encode=False, vae_tiled_decode=False"
)
def enhance_detail(
    image, guide_size_for_bbox, bbox, noise_mask, wildcard_opt, wildcard_opt_concat_mode,
    detailer_hook, control_net_wrapper, scheduler_func, vae_tiled_encode, vae_tiled_decode,
    **given,
) -> tuple[torch.Tensor | None, list[torch.Tensor] | None]:  # fmt: skip
    """Sample a crop [1,h,w,C] anew at the size that detailers take for it.

    Args:
        bbox: x1, y1, x2, y2 of the thing in the image, for its size.
        noise_mask: [h,w] of what is sampled anew; None for all of it.
        wildcard_opt_concat_mode: "concat" adds the text to the positive prompt.

    Returns:
        The new crop [1,h,w,3], None where it is large enough already; and what its ControlNet saw.
    """
    detail = _detail(
        guide_size_for_bbox, wildcard_opt, wildcard_opt_concat_mode, detailer_hook, scheduler_func,
        noise_mask=noise_mask is not None, tiled_encode=vae_tiled_encode,
        tiled_decode=vae_tiled_decode,
        kept=KeptCrops(segs=False, cropped=False, refined_alpha=False), **given,
    )  # fmt: skip
    segs = _segs_of_crop(image, bbox, noise_mask, control_net_wrapper)
    result = detail_image(to_tensor(image), segs, detail, ComfyBackend())
    pictures = result.refined
    return (pictures[0] if pictures else None), result.control_images or None


@called_as(
    "image_frames, model, clip, vae, guide_size, guide_size_for_bbox, max_size, bbox, seed, steps,"
    "cfg, sampler_name, scheduler, positive, negative, denoise, noise_mask, wildcard_opt=None,"
    "wildcard_opt_concat_mode=None, detailer_hook=None, refiner_ratio=None, refiner_model=None,"
    "refiner_clip=None, refiner_positive=None, refiner_negative=None, control_net_wrapper=None,"
    "noise_mask_feather=0, scheduler_func=None"
)
def enhance_detail_for_animatediff(
    image_frames, guide_size_for_bbox, bbox, noise_mask, wildcard_opt, wildcard_opt_concat_mode,
    detailer_hook, control_net_wrapper, scheduler_func, **given,
) -> tuple[torch.Tensor | None, list[torch.Tensor] | None]:  # fmt: skip
    """Sample the crops [F,h,w,C] of a video's frames anew, all together; as `enhance_detail`."""
    detail = _detail(
        guide_size_for_bbox, wildcard_opt, wildcard_opt_concat_mode, detailer_hook, scheduler_func,
        noise_mask=noise_mask is not None, **given,
    )  # fmt: skip
    frames = to_tensor(image_frames)
    segs = _segs_of_crop(frames, bbox, noise_mask, control_net_wrapper)
    result = detail_frames(frames, segs, detail, ComfyBackend(), pasted=False)
    picture = result.segs[1][0].cropped_image
    return (None if picture is None else to_tensor(picture)), result.control_images or None


def _detail(guide_size_for_bbox, text, concat_mode, hook, scheduler_func, **given) -> Detail:
    """The settings of a detailer, of what such functions are called with."""
    models, refiner = older_models(given)
    if text and concat_mode == "concat":
        text = f"[CONCAT] {text}"
    return make_detail(
        models, refiner, guide_size_for=guide_size_for_bbox, wildcard=text,
        detailer_hook=None if hook is None else _WithoutPasting(hook),
        scheduler_func_opt=scheduler_func, **given,
    )  # fmt: skip


def _segs_of_crop(image: torch.Tensor, bbox: Any, mask: Any, control: Any) -> SEGS:
    """SEGS of one segment that is all of a crop."""
    height, width = image.shape[1:3]
    x1, y1, x2, y2 = map(int, bbox)
    across, down = min(width, x2 - x1), min(height, y2 - y1)
    left, top = (width - across) // 2, (height - down) // 2
    shape = torch.ones(1, height, width) if mask is None else make_3d_mask(mask).float()
    shape = shape[0] if len(shape) == 1 else shape
    seg = SEG(
        None, shape.cpu().numpy(), 1.0, (0, 0, width, height),
        (left, top, left + across, top + down), "", control,
    )  # fmt: skip
    return (height, width), [seg]
