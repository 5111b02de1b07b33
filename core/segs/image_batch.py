"""The images of a batch that SEGS belong to.

A SEG that was detected in one image of a batch, or made from one mask of a batch, knows its image
(`SEG.batch_image`). A SEG that knows none, or that was made for a batch of another length, belongs
to every image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...utils.arrays import to_numpy
from ...utils.check import check_segs
from ...utils.notes import note
from ..geometry import Box
from ..memory import naming
from ..pixels import mask as masks
from ..pixels.image import image_name
from .seg import SEG, SEGS, BatchImage, confidence, empty, of_image, seg_mask

NOTE = "batch"  # kind of the notes of this module


def counted(count: int, what: str) -> str:
    """A number with its noun, such as "1 image" or "4 images"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def belonging_to(segs: SEGS, index: int | None, count: int) -> SEGS:
    """The SEGS, marked as belonging to one image of a batch; for a single image unchanged.

    Args:
        index: index of the image, from 0; None for every image.
        count: number of images in the batch.
    """
    if count < 2:
        return segs
    header, items = segs
    return header, [of_image(seg, BatchImage(index, count)) for seg in items]


def in_each_image(
    image: torch.Tensor,
    detect: Callable[[torch.Tensor], Any],
    check: Callable[[], None] = lambda: None,
) -> SEGS:
    """Detect in each image of a batch, one image after another.

    Args:
        image: [B,H,W,C] 0..1.
        detect: returns the SEGS of an image [1,H,W,C], of any pack, or None. It is called once for
            each image; it has to handle out-of-memory errors itself.
        check: called before each image; it may raise an error to stop.

    Returns:
        SEGS that know their images; for B = 1 the result of `detect`.
    """

    def found_in(single: torch.Tensor) -> Any:
        check()
        with naming(image_name(single), "searched"):
            return detect(single)

    if len(image) == 1:
        return found_in(image)
    header, items = empty(image.shape[1:3])
    for index, single in enumerate(image.split(1)):
        found = found_in(single)
        if found is None:
            continue
        check_segs(found, "the detector's result")
        header, own = belonging_to(found, index, len(image))
        items += own
    return header, items


# SEGS together with images


def images_of(items: Sequence[SEG], count: int) -> list[list[int]]:
    """For each SEG, the indices of the images of a batch that it belongs to.

    The user is told if a SEG belongs to every image only because it knows no image, or because it
    was made for another batch; and if it has masks for another number of frames than there are
    images.

    Args:
        items: SEGs of our own class.
        count: number of images in the batch.
    """
    unknown, foreign = 0, set()
    for seg in items:
        place = seg.batch_image
        if place is None:
            unknown += count > 1 and not _has_each(seg, count)
        elif place.count != count and (place.index is not None or _has_each(seg, place.count)):
            foreign.add(place.count)
    if unknown:
        note(
            NOTE,
            f"{counted(unknown, 'segment')} without an image of the batch: each holds for all"
            f" {count} images. A detector, or 'MASK to SEGS' with a mask for each image, gives"
            " segments that know their image.",
        )
    for other in sorted(foreign):
        note(
            NOTE,
            f"The segments were made for a batch of {other} images or masks and are used on"
            f" {counted(count, 'image')}: they hold for each image. Of masks that all belong to one"
            " image, 'Mask Batch to SEGS (one each)' makes segments.",
        )
    tell_united(items, count, "image")
    return [rows_of(seg, count) for seg in items]


def rows_of(seg: SEG, count: int) -> list[int]:
    """The images of a batch that a SEG holds for, and nothing told; see `images_of`."""
    place = seg.batch_image
    if place is not None and place.index is not None and place.count == count:
        return [place.index]
    return list(range(count))


def positions_by_image(items: Sequence[SEG], count: int) -> list[list[int]]:
    """For each image of a batch, the indices of the SEGs that belong to it; see `images_of`."""
    by_image: list[list[int]] = [[] for _ in range(count)]
    for position, rows in enumerate(images_of(items, count)):
        for row in rows:
            by_image[row].append(position)
    return by_image


def in_image(seg: SEG, row: int, count: int) -> SEG:
    """A SEG as it is in one image of a batch.

    If it has a mask or a picture for each image, it gets those of this image.
    """
    changed: dict[str, Any] = {}
    if count > 1 and seg.cropped_mask.ndim == 3 and len(seg.cropped_mask) == count:
        changed["cropped_mask"] = seg.cropped_mask[row]
    own = seg.cropped_image
    if count > 1 and own is not None and own.ndim == 4 and len(own) == count:
        changed["cropped_image"] = own[row : row + 1]
    return seg._replace(**changed) if changed else seg


def _has_each(seg: SEG, count: int) -> bool:
    """Whether a SEG has a mask or a picture for each image."""
    return in_image(seg, 0, count) is not seg


def tell_united(items: Sequence[SEG], count: int, what: str) -> None:
    """Give a note if SEGs have masks for another number of frames than `count`.

    Such masks are united.

    Args:
        count: number of frames or images.
        what: "frame" or "image".
    """
    others = {len(seg.cropped_mask) for seg in items if seg.cropped_mask.ndim == 3}
    for other in sorted(others - {1, count}):
        note(
            NOTE,
            f"The segments have masks for {other} frames and are used on {counted(count, what)}:"
            f" the masks are united, and what any of them covers holds for every {what}. Give one"
            f" mask for each {what}.",
        )


# SEGS without images


def batch_length(items: Sequence[SEG]) -> int | None:
    """The number of images in the batch that SEGS were made for.

    None if no SEG belongs to a single image, or if they were made for different batches.
    """
    places = [getattr(seg, "batch_image", None) for seg in items]
    counts = {place.count for place in places if place is not None and place.index is not None}
    return counts.pop() if len(counts) == 1 else None


def apart(a: Any, b: Any) -> bool:
    """Whether two SEGS of any class belong to different images of one batch."""
    return _apart(getattr(a, "batch_image", None), getattr(b, "batch_image", None))


def _apart(a: BatchImage | None, b: BatchImage | None) -> bool:
    if a is None or b is None or a.index is None or b.index is None:
        return False
    return a.count == b.count and a.index != b.index


def by_batch_image(items: Sequence[Any]) -> list[list[int]]:
    """The indices of SEGs, grouped by image; the group of SEGs of every image comes first."""
    if batch_length(items) is None:
        return [list(range(len(items)))]
    groups: dict[int, list[int]] = {}
    for place, seg in enumerate(items):
        image = getattr(seg, "batch_image", None)
        index = -1 if image is None or image.index is None else image.index
        groups.setdefault(index, []).append(place)
    return [groups[index] for index in sorted(groups)]


def in_batch(items: Sequence[Any]) -> list[tuple[BatchImage | None, list[int]]]:
    """Each image of the batch that SEGS were made for, with the indices of its SEGs.

    If they know no images, it is one entry, with the `BatchImage` that all have in common.
    """
    count = batch_length(items)
    if count is None:
        images = {getattr(seg, "batch_image", None) for seg in items}
        return [(images.pop() if len(images) == 1 else None, list(range(len(items))))]
    places = [getattr(seg, "batch_image", None) for seg in items]
    every = [BatchImage(index, count) for index in range(count)]
    return [
        (image, [i for i, place in enumerate(places) if not _apart(place, image)])
        for image in every
    ]


# Clips


def as_clip(items: Sequence[SEG], frames: int) -> list[SEG]:
    """SEGs for a clip, from SEGs that belong to single images of a batch.

    SEGs of one label whose boxes touch, in one image or in several, become one SEG with a mask for
    each image, as 'MASK to SEGS for Video' makes them from masks. Other SEGs are kept.

    Args:
        items: the result of `seg.normalise`.
        frames: number of frames of the clip.
    """
    count = batch_length(items)
    tell_united(items, frames, "frame")
    if count is None:
        return list(items)
    note(
        NOTE,
        "The segments belong to single frames: they come from a detector, or from 'MASK to SEGS' "
        "and a batch of masks. Those of one label whose boxes touch were put together as one "
        "segment of the clip. 'MASK to SEGS for Video' makes clips of masks, and 'Simple Detector "
        "for Video (SEGS)' of what a detector finds.",
    )
    result: list[SEG] = []
    single = []
    for seg in items:
        of_one = seg.batch_image is not None and seg.batch_image.index is not None
        (single if of_one else result).append(seg)
    clips = [_joined(group, count) for group in _touching(single)]
    tell_united(clips, frames, "frame")
    return [*result, *clips]


def _touching(items: Sequence[SEG]) -> list[list[SEG]]:
    """Groups of SEGs of one label whose boxes touch, directly or through others."""
    groups: list[tuple[Box, list[SEG]]] = []  # around all boxes of a group, and its members
    for seg in items:
        around, members = Box.of(seg.bbox), [seg]
        reach = around.grown(1)  # with the pixels that touch it
        apart_from: list[tuple[Box, list[SEG]]] = []
        for box, others in groups:
            touches = (
                others[0].label == seg.label
                and reach.intersects(box)
                and any(reach.intersects(Box.of(other.bbox)) for other in reversed(others))
            )
            if touches:
                around, members = around.union(box), [*others, *members]
            else:
                apart_from.append((box, others))
        groups = [*apart_from, (around, members)]
    return [members for _, members in groups]


def _joined(group: Sequence[SEG], count: int) -> SEG:
    """One SEG of a clip, from SEGs of several frames."""
    region, bbox = Box.of(group[0].crop_region), Box.of(group[0].bbox)
    for seg in group[1:]:
        region, bbox = region.union(Box.of(seg.crop_region)), bbox.union(Box.of(seg.bbox))
    mask = torch.zeros(count, region.height, region.width)
    for seg in group:
        inner = Box.of(seg.crop_region).shifted(-region.x1, -region.y1)
        own = masks.union(seg_mask(seg))[0]
        part = mask[seg.batch_image.index, inner.y1 : inner.y2, inner.x1 : inner.x2]
        torch.maximum(part, own.cpu(), out=part)
    sure = max(confidence(seg) for seg in group)
    first = group[0]
    return SEG(
        None, to_numpy(mask), sure, region.as_tuple(), bbox.as_tuple(), first.label,
        first.control_net_wrapper,
    )  # fmt: skip
