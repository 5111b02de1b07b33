"""The pictures of segments: to look at, and to paste."""

from __future__ import annotations

import torch

from ..utils.arrays import to_tensor
from .blend import Blending
from .geometry import Box, Size
from .image import crop, merge_alpha, resize, to_rgb
from .mask import union
from .segs import SEG, SEGS, normalise


def segment_pictures(
    segs: SEGS, fallback: torch.Tensor | None = None, min_alpha: float | None = None
) -> list[torch.Tensor | None]:
    """The picture of each segment.

    Args:
        fallback: [B,H,W,C] that segments without a picture of their own are cut from.
        min_alpha: the mask becomes the picture's alpha, and nothing is less visible than this
            (0..1); None gives no alpha.

    Returns:
        [B,h,w,3 or 4] for each segment, in memory of its own; None where there is no picture.
    """
    _, items = segs
    if fallback is not None:
        image, _ = to_rgb(fallback)
        _, items = normalise(segs, Size(image.shape[2], image.shape[1]), "segs")
    pictures: list[torch.Tensor | None] = []
    for seg in items:
        if seg.cropped_image is not None:
            picture = to_tensor(seg.cropped_image)
            picture, _ = to_rgb(picture if picture.ndim == 4 else picture[None])
        elif fallback is not None and not Box.of(seg.crop_region).empty:
            picture = crop(image, Box.of(seg.crop_region))
        else:
            pictures.append(None)
            continue
        picture = picture.clone() if min_alpha is None else _with_mask(picture, seg, min_alpha)
        pictures.append(picture)
    return pictures


def control_pictures(segs: SEGS) -> list[torch.Tensor]:
    """What the ControlNets of all segments see, as far as it is set: [N,h,w,3 or 4] each."""
    pictures = []
    for seg in segs[1]:
        chain = []
        wrapper = getattr(seg, "control_net_wrapper", None)
        while wrapper is not None:
            picture = getattr(wrapper, "control_image", None)
            if picture is not None:
                chain.append(to_tensor(picture))
            # the one applied before it; ComfyUI-Impact-Pack's wrappers use the second name
            wrapper = getattr(wrapper, "previous", None) or getattr(
                wrapper, "prev_control_net", None
            )
        pictures += reversed(chain)
    return pictures


def _with_mask(picture: torch.Tensor, seg: SEG, min_alpha: float) -> torch.Tensor:
    """The picture with the segment's mask as alpha, frame by frame where there is one for each."""
    mask = to_tensor(seg.cropped_mask, like=picture)
    mask = mask[None] if mask.ndim == 2 else mask
    if len(mask) != len(picture):
        mask = union(mask).expand(len(picture), -1, -1)
    alpha = resize(mask[..., None], Size(picture.shape[2], picture.shape[1]))
    return torch.cat([picture, alpha.clamp(min_alpha, 1.0)], dim=-1)


def paste_segs(
    image: torch.Tensor,
    segs: SEGS,
    blending: Blending,
    opacity: float = 1.0,
    reference: torch.Tensor | None = None,
) -> torch.Tensor:
    """Paste the segments' pictures into images, picture i into image i.

    A segment with fewer pictures than there are images goes on with its last one.

    Args:
        image: [B,H,W,C].
        blending: how each picture is fitted in.
        opacity: 0..1.
        reference: [B,H,W,C] whose regions are pasted instead of the segments' own pictures.
    """
    rgb, alpha = to_rgb(image)
    size = Size(rgb.shape[2], rgb.shape[1])
    _, items = normalise(segs, size, "segs")
    result = rgb.clone()
    if reference is not None:
        reference = resize(to_rgb(reference)[0].to(rgb), size)
    for seg in items:
        box = Box.of(seg.crop_region)
        if box.empty:
            continue
        if reference is not None:
            pictures = crop(reference, box)
        elif seg.cropped_image is not None:
            pictures = to_rgb(to_tensor(seg.cropped_image, like=rgb))[0]
        else:
            continue
        mask = to_tensor(seg.cropped_mask, like=rgb)
        mask = mask[None] if mask.ndim == 2 else mask
        if len(mask) not in (1, len(result)):
            mask = union(mask)
        weight = blending.weight(mask, box, size)
        for row in range(len(result)):
            picture = resize(pictures[min(row, len(pictures) - 1)][None], box.size)
            own = weight[min(row, len(weight) - 1)][None]
            blending.paste(result[row : row + 1], picture, own, box, opacity=opacity)
    return merge_alpha(result, alpha)
