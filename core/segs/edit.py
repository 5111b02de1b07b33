"""Combine SEGS, and change the SEGs in them: masks, boxes, pictures, labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ...utils.notes import note
from ..geometry import Box, Size
from ..pixels import mask as masks
from ..pixels.image import crop, to_rgb
from .image_batch import NOTE, by_batch_image, counted, images_of, in_batch
from .seg import (
    SEG,
    SEGS,
    combined_mask,
    confidence,
    edited,
    image_size,
    listed_labels,
    normalise,
    of_image,
    seg_mask,
)

MERGED = "merged"  # label of a SEG that was made from several

Pixelwise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """What both masks [...] cover: their minimum."""
    return torch.minimum(a, b)


def without(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """What the first mask [...] covers and the second does not: their difference."""
    return (a - b).clamp_min(0)


# Combining SEGS


def concat(several: Sequence[SEGS]) -> SEGS:
    """All SEGs in one SEGS, scaled to the image size of the first SEGS that have one."""
    known = [segs for segs in several if 0 not in segs[0]]
    if not known:
        return several[0][0], [seg for _, items in several for seg in items]
    header = known[0][0]
    size = image_size(known[0])
    items: list[SEG] = []
    for segs in several:
        fits = tuple(segs[0]) == tuple(header) or not segs[1]
        items += segs[1] if fits else normalise(segs, size, "segs")[1]
    return header, items


def merge(segs: SEGS) -> SEGS:
    """One SEG that covers what all SEGs cover, or one for each image if they belong to images.

    Its box and region contain those of all SEGs. Its confidence is the lowest, and its label is
    MERGED. It has neither a picture nor a ControlNet. SEGS without a SEG are returned as they are.
    """
    if not segs[1]:
        return segs
    header, items = normalise(segs, image_size(segs), "segs")
    present = [seg for seg in items if not Box.of(seg.crop_region).empty]
    groups = in_batch(present) if present else []
    return header, [
        of_image(_merged(header, [present[i] for i in places]), image)
        for image, places in groups
        if places
    ]


def _merged(header: tuple[int, int], items: Sequence[SEG]) -> SEG:
    region, bbox = Box.of(items[0].crop_region), Box.of(items[0].bbox)
    for seg in items[1:]:
        region = region.union(Box.of(seg.crop_region))
        bbox = bbox.union(Box.of(seg.bbox))
    alike = [of_image(seg, None) for seg in items]
    covered = combined_mask((header, alike))[:, region.y1 : region.y2, region.x1 : region.x2]
    least = min(confidence(seg) for seg in items)
    return SEG(None, _compact(covered), least, region.as_tuple(), bbox.as_tuple(), MERGED)


# Labels and pictures


def assign_labels(segs: SEGS, labels: str) -> SEGS:
    """The SEGs with new labels, in order; for each image of a batch the labels start again.

    Args:
        labels: separated by commas or line breaks; SEGs beyond the last label keep theirs.
    """
    names = listed_labels(labels)
    header, items = segs
    named = list(items)
    for places in by_batch_image(items):
        if len(names) != len(places):
            is_few = len(names) < len(places)
            rest = "the others keep theirs" if is_few else "the last ones are not used"
            note(
                "labels",
                f"'labels' names {counted(len(names), 'label')} for"
                f" {counted(len(places), 'segment')}: {rest}. Give one for each.",
            )
        for place, name in zip(places, names, strict=False):
            named[place] = edited(items[place], label=name)
    return header, named


def set_pictures(segs: SEGS, image: torch.Tensor, *, override: bool) -> SEGS:
    """The SEGs, scaled to an image's size, with crops of the image as their pictures.

    Args:
        image: [B,H,W,C] 0..1; each SEG gets a picture of every image that it belongs to.
        override: also replace pictures that SEGs have already.
    """
    rgb, _ = to_rgb(image)
    header, items = normalise(segs, Size(rgb.shape[2], rgb.shape[1]), "segs")

    def pictured(seg: SEG, rows: list[int]) -> SEG:
        region = Box.of(seg.crop_region)
        if region.empty or (seg.cropped_image is not None and not override):
            return seg
        part = crop(rgb[rows[0] : rows[-1] + 1], region)
        return seg._replace(cropped_image=to_numpy(part.clone()))

    held = images_of(items, len(rgb))
    return header, [pictured(seg, rows) for seg, rows in zip(items, held, strict=True)]


def without_pictures(segs: SEGS) -> SEGS:
    """The SEGs without pictures of their own."""
    return segs[0], [edited(seg, cropped_image=None) for seg in segs[1]]


# Masks


def _with_mask(seg: SEG, mask: torch.Tensor) -> SEG:
    return seg._replace(cropped_mask=_compact(mask))


def _compact(mask: torch.Tensor) -> np.ndarray:
    """A mask [F,h,w] in the form that SEGs have: [h,w] unless there are several frames."""
    return to_numpy(mask if len(mask) > 1 else mask[0])


def change_masks(segs: SEGS, change: Callable[[torch.Tensor], torch.Tensor]) -> SEGS:
    """The SEGs with each mask [F,h,w] changed by a function, such as dilation or blur."""
    header, items = normalise(segs, image_size(segs), "segs")
    return header, [
        seg if Box.of(seg.crop_region).empty else _with_mask(seg, change(seg_mask(seg)))
        for seg in items
    ]


def combine_with_mask(segs: SEGS, mask: torch.Tensor, combine: Pixelwise) -> SEGS:
    """The SEGs with each mask combined with the part of another mask in its crop region.

    Args:
        mask: [B,H,W] 0..1, resized to the image size of the SEGS. A SEG of one image of a batch of
            B is combined with the mask of that image. If a SEG has a mask of B frames, the masks
            are combined frame by frame. If it has a single mask, it gets a mask for each frame.
            Otherwise the masks are united first.
    """
    header, items, mask = _fitted(segs, mask)
    return header, [_combined(seg, mask, combine) for seg in items]


def combine_with_masks(segs: SEGS, each: torch.Tensor, combine: Pixelwise) -> SEGS:
    """The SEGs, with the mask of SEG i combined with mask i.

    Args:
        each: [B,H,W] 0..1, resized to the image size of the SEGS. SEGs beyond the last mask are
            left out.
    """
    header, items, each = _fitted(segs, each)
    if len(each) != len(items):
        is_few = len(each) < len(items)
        rest = "segments without a mask are left out" if is_few else "the last masks are not used"
        note(
            NOTE,
            f"There are {counted(len(each), 'mask')} for {counted(len(items), 'segment')}: {rest}."
            " Give one mask for each segment.",
        )
    return header, [
        _combined(seg, mask[None], combine) for seg, mask in zip(items, each, strict=False)
    ]


def combine_with_segs(segs: SEGS, others: SEGS, combine: Pixelwise) -> SEGS:
    """The SEGs with each mask combined with what `others` cover; empty SEGs are dropped.

    Args:
        others: SEGS, scaled to the image size of `segs`.
    """
    size = image_size(segs)
    header, items = normalise(segs, size, "base_segs")
    if not items or 0 in size:
        return header, []
    mask = combined_mask(normalise(others, size, "mask_segs"))
    combined = (_combined(seg, mask, combine) for seg in items)
    return header, [seg for seg in combined if seg.cropped_mask.any()]


def _fitted(segs: SEGS, mask: torch.Tensor) -> tuple[tuple, list[SEG], torch.Tensor]:
    """Checked SEGs and the mask, at the SEGS' image size, or at the mask's if they have none."""
    size = Size(mask.shape[2], mask.shape[1]) if 0 in segs[0] else image_size(segs)
    header, items = normalise(segs, size, "segs")
    return header, items, masks.fitted_mask(mask.float().cpu(), size, "mask")


def _combined(seg: SEG, mask: torch.Tensor, combine: Pixelwise) -> SEG:
    region = Box.of(seg.crop_region)
    own = seg_mask(seg)
    part = mask[:, region.y1 : region.y2, region.x1 : region.x2]
    image, count = seg.batch_image, len(part)
    of_one = image is not None and image.index is not None
    if of_one and image.count == count:
        part = part[image.index : image.index + 1]
    elif count > 1 and count != len(own) and (of_one or len(own) > 1):
        frames = image.count if of_one else len(own)
        of = "image" if of_one else "frame"
        note(
            NOTE,
            f"There are {count} masks, but the segments are of {counted(frames, of)}: what any of"
            f" the masks covers counts for each {of}. Give one mask, or one for each {of}.",
        )
        part = masks.union(part)
    return _with_mask(seg, combine(own, part))


# One SEG


def clean_seg(seg: Any) -> SEG:
    """A single SEG of any pack as one of our class, with a float32 mask of its region's size."""
    alone = ((0, 0), [seg])
    return normalise(alone, image_size(alone), "seg_elt")[1][0]


def change_mask(seg: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> SEG:
    """A SEG with its mask [F,h,w] changed by a function."""
    return change_masks(((0, 0), [seg]), change)[1][0]


def scale_bbox(seg: Any, factor: float) -> SEG:
    """A SEG whose box is scaled about its centre, within the crop region.

    Its mask is 0 outside the new box.
    """
    seg = clean_seg(seg)
    region, bbox = Box.of(seg.crop_region), Box.of(seg.bbox)
    dx, dy = (int((side * factor - side) / 2) for side in bbox.size)
    scaled = Box(bbox.x1 - dx, bbox.y1 - dy, bbox.x2 + dx, bbox.y2 + dy).intersection(region)
    kept = scaled.shifted(-region.x1, -region.y1)
    inside = (..., slice(kept.y1, kept.y2), slice(kept.x1, kept.x2))
    mask = np.zeros_like(seg.cropped_mask)
    mask[inside] = seg.cropped_mask[inside]
    return seg._replace(bbox=scaled.as_tuple(), cropped_mask=mask)


def edit_seg(
    seg: Any, image: torch.Tensor | None = None, mask: torch.Tensor | None = None, **fields: Any
) -> SEG:
    """A SEG with other contents.

    Args:
        image: its picture [B,h,w,C] 0..1.
        mask: its mask [1,h,w] 0..1, or [F,h,w] for a clip. A mask that is larger than the crop
            region and contains it counts as a mask of the whole image, and is cut to the region.
        fields: other fields by name; None keeps the value of the SEG.
    """
    changed = {name: value for name, value in fields.items() if value is not None}
    if image is not None:
        changed["cropped_image"] = to_numpy(image.clone())
    if mask is not None:
        region = Box.of(changed.get("crop_region", seg.crop_region))
        changed["cropped_mask"] = _compact(_part_for(region, mask).clone())
    return edited(seg, **changed)


def _part_for(region: Box, mask: torch.Tensor) -> torch.Tensor:
    """The part of a mask [B,H,W] of the whole image in a region; any other mask as it is."""
    height, width = mask.shape[1:]
    inside = region.x1 >= 0 and region.y1 >= 0 and region.x2 <= width and region.y2 <= height
    if not inside or (width, height) == (region.width, region.height):
        return mask
    return mask[:, region.y1 : region.y2, region.x1 : region.x2]
