"""The pictures of segments: show them, and paste them."""

from __future__ import annotations

import torch

from ...utils.arrays import to_tensor
from ...utils.check import check_image
from ...utils.notes import note
from ..geometry import Box, Size
from ..pixels.blend import Blending
from ..pixels.image import crop, merge_alpha, to_rgb
from ..pixels.mask import union
from ..pixels.resample import resize
from .image_batch import counted, images_of
from .seg import SEG, SEGS, normalise, own_picture, seg_mask

NO_PICTURE = "no picture"  # kind of the note on segments without a picture to paste


def segment_pictures(
    segs: SEGS, fallback: torch.Tensor | None = None, min_alpha: float | None = None
) -> list[torch.Tensor | None]:
    """The picture of each segment.

    Args:
        fallback: [B,H,W,C] 0..1; a segment without its own picture is cropped from the images
            that it belongs to.
        min_alpha: the mask becomes the alpha of the picture, with at least this value (0..1); None
            gives no alpha.

    Returns:
        A copy [B,h,w,3 or 4] 0..1 for each segment; None if there is no picture.
    """
    _, items = segs
    if fallback is not None:
        image, _ = to_rgb(fallback)
        _, items = normalise(segs, Size(image.shape[2], image.shape[1]), "segs")
        cut = [seg for seg in items if seg.cropped_image is None]
        held = iter(images_of(cut, len(image)))
    pictures: list[torch.Tensor | None] = []
    for seg in items:
        rows = next(held) if fallback is not None and seg.cropped_image is None else []
        shown = own_picture(seg)
        if shown is not None:
            shown, _ = to_rgb(shown)
        elif rows and not Box.of(seg.crop_region).empty:
            shown = crop(image[rows[0] : rows[-1] + 1], Box.of(seg.crop_region))
        else:
            pictures.append(None)
            continue
        shown = shown.clone() if min_alpha is None else _with_mask(shown, seg, min_alpha)
        pictures.append(shown)
    return pictures


def control_pictures(segs: SEGS) -> list[torch.Tensor]:
    """The control pictures [N,h,w,3 or 4] of all segments' ControlNets that have one."""
    pictures = []
    for seg in segs[1]:
        chain = []
        wrapper = getattr(seg, "control_net_wrapper", None)
        passed: set[int] = set()
        while wrapper is not None and id(wrapper) not in passed:  # a chain may be a circle
            passed.add(id(wrapper))
            picture = getattr(wrapper, "control_image", None)
            if picture is not None:
                check_image(to_tensor(picture), "control_image of a segment's ControlNet")
                chain.append(to_tensor(picture))
            # the one applied before it; ComfyUI-Impact-Pack's wrappers use the second name
            wrapper = getattr(wrapper, "previous", None) or getattr(
                wrapper, "prev_control_net", None
            )
        pictures += reversed(chain)
    return pictures


def _with_mask(picture: torch.Tensor, seg: SEG, min_alpha: float) -> torch.Tensor:
    """The picture with the segment's mask as alpha; with a mask for each frame, frame by frame."""
    mask = seg_mask(seg, like=picture)
    if not mask.numel():  # of a region without a pixel
        mask = mask.new_zeros(1, *picture.shape[1:3])
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
    """Paste the segments' pictures into the images that they belong to.

    The picture of a segment of one image of a batch is pasted into that image. Of any other
    segment, picture i is pasted into image i; if there are fewer pictures than images, the last one
    is repeated.

    Args:
        image: [B,H,W,C] 0..1.
        blending: how each picture is blended in.
        opacity: 0..1.
        reference: [B,H,W,C] 0..1; its crops are pasted instead of the segments' own pictures.

    Returns:
        [B,H,W,C] 0..1, a new tensor.
    """
    rgb, alpha = to_rgb(image)
    size, count = Size(rgb.shape[2], rgb.shape[1]), len(rgb)
    _, items = normalise(segs, size, "segs")
    if reference is not None:
        reference = resize(to_rgb(reference)[0].to(rgb), size)
    else:
        items = _with_pictures(items)
    result = rgb.clone()
    for seg, rows in zip(items, images_of(items, count), strict=True):
        box = Box.of(seg.crop_region)
        if box.empty:
            continue
        if reference is not None:
            pictures = crop(reference, box)
        else:
            pictures = to_rgb(own_picture(seg, like=rgb))[0]
        mask = seg_mask(seg, like=rgb)
        if len(mask) not in (1, count):
            mask = union(mask)
        weight = blending.weight(mask, box, size)
        for row in rows:
            own = resize(pictures[min(row, len(pictures) - 1)][None], box.size)
            soft = weight[min(row, len(weight) - 1)][None]
            blending.paste(result[row : row + 1], own, soft, box, opacity=opacity)
    return merge_alpha(result, alpha)


def _with_pictures(items: list[SEG]) -> list[SEG]:
    """The segments that have a picture to paste; the user is told if some have none."""
    shown = [seg for seg in items if seg.cropped_image is not None]
    missing = sum(
        seg.cropped_image is None and not Box.of(seg.crop_region).empty for seg in items
    )  # fmt: skip
    if missing:
        note(
            NO_PICTURE,
            f"{missing} of {counted(len(items), 'segment')} have no picture of their own, so"
            " nothing is pasted for them. Connect an image to 'ref_image_opt', or take the SEGS of"
            " a detailer: segments of a mask, and those that a detailer left out, have none.",
        )
    return shown
