"""SEGS: the segments of an image, in the form that crosses links between nodes and packs.

SEGS are `((height, width), [SEG, ...])`, with the size of the image that the segments are in.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy, to_tensor
from ...utils.check import check_finite, check_mask, check_segs
from ...utils.labels import alike, listed
from ...utils.notes import note
from ..bounds import check_pixels, check_values
from ..geometry import Box, Size, crop_region
from ..pixels import mask as masks
from ..pixels.resample import resize


@dataclass(frozen=True)
class BatchImage:
    """Which image of a batch a SEG belongs to."""

    index: int | None  # from 0; None: every image of the batch
    count: int  # images of the batch


@dataclass(frozen=True)
class Variant:
    """Which of several drawings of a segment a SEG carries as its picture."""

    segment: int  # the segment's position, as notes and reports name it
    number: int  # from 0; 0 is the one that the detailers paste
    seed: int  # that it was sampled with


_Fields = namedtuple(
    "SEG",
    [
        "cropped_image",  # array [B,h,w,C] 0..1, or None
        "cropped_mask",  # array [h,w] 0..1, of the crop region's size; for video [F,h,w]
        "confidence",  # 0..1
        "crop_region",  # x1, y1, x2, y2: what is cropped and pasted
        "bbox",  # x1, y1, x2, y2: the bounding box, inside crop_region
        "label",
        "control_net_wrapper",  # or None
    ],
    defaults=[None],
)


class SEG(_Fields):
    """One segment: a named tuple of seven fields, which packs unpack, rebuild and compare.

    In addition it may know the image of a batch that it belongs to, and which variant of its
    segment it is. `_replace` and copies keep both. A SEG that is built anew from the fields knows
    neither, and belongs to every image.
    """

    batch_image: BatchImage | None = None
    variant: Variant | None = None

    def _replace(self, **fields: Any) -> SEG:
        return _carrying(super()._replace(**fields), self.batch_image, self.variant)

    __replace__ = _replace  # what copy.replace calls


def _carrying(seg: SEG, image: BatchImage | None, variant: Variant | None) -> SEG:
    """A SEG that was just made, with what it carries beside its fields."""
    if image is not None:
        seg.batch_image = image
    if variant is not None:
        seg.variant = variant
    return seg


SEGS = tuple[tuple[int, int], list[SEG]]

LABEL_GROUPS = {  # names for the labels of a pair of face parts
    f"{part}s": {f"left_{part}", f"right_{part}"} for part in ("eye", "eyebrow", "pupil")
}


def empty(shape: Sequence[int]) -> SEGS:
    """SEGS of an image of (height, width) in which nothing was found."""
    return (int(shape[0]), int(shape[1])), []


def edited(seg: Any, **fields: Any) -> SEG:
    """A SEG of any class as one of our own class, with other values in these fields."""
    own = SEG(*(fields.get(name, getattr(seg, name, None)) for name in SEG._fields))
    return _carrying(own, getattr(seg, "batch_image", None), getattr(seg, "variant", None))


def of_image(seg: Any, image: BatchImage | None) -> SEG:
    """A SEG of any class as one of our own class that belongs to this image of a batch."""
    own = SEG(*(getattr(seg, name, None) for name in SEG._fields))
    return _carrying(own, image, getattr(seg, "variant", None))


def as_variant(seg: SEG, variant: Variant, picture: np.ndarray) -> SEG:
    """A SEG as one variant of it, with that variant's picture [B,h,w,C]."""
    return _carrying(seg._replace(cropped_image=picture), None, variant)


def confidence(seg: Any) -> float:
    """The confidence of a SEG; the highest if a pack keeps several values, 0 if it keeps none."""
    values = seg.confidence
    if isinstance(values, torch.Tensor):
        values = to_numpy(values)
    values = np.asarray(0.0 if values is None else values, dtype=float)
    return float(values.max()) if values.size else 0.0


def own_picture(seg: Any, like: torch.Tensor | None = None) -> torch.Tensor | None:
    """A SEG's own picture [B,h,w,C] 0..1; None if it has none, or one without a pixel.

    Args:
        like: [...], a tensor with the device and dtype of the result.
    """
    pixels = seg.cropped_image
    if pixels is None or 0 in pixels.shape:
        return None
    in_bytes = str(pixels.dtype).endswith("uint8")
    pixels = to_tensor(pixels, like=like)
    pixels = pixels if pixels.ndim == 4 else pixels[None]
    return pixels / 255 if in_bytes else pixels


def seg_mask(seg: Any, like: torch.Tensor | None = None) -> torch.Tensor:
    """A SEG's mask as [1,h,w] 0..1, or [F,h,w] for a clip.

    Args:
        like: [...], a tensor with the device and dtype of the result.
    """
    mask = to_tensor(seg.cropped_mask, like=like)
    return mask[None] if mask.ndim == 2 else mask


def box_in_picture(seg: Any, picture: Size) -> Box:
    """The bounding box of a SEG in a picture of its crop region that has this size."""
    region = Box.of(seg.crop_region)
    return Box.of(seg.bbox).shifted(-region.x1, -region.y1).scaled(region.size, picture)


def image_size(segs: SEGS) -> Size:
    """The image size of SEGS; if they have none, the least size that contains all regions."""
    header, items = segs
    size = _size_of(header)
    if 0 not in size:
        return size
    regions = [Box.of(seg.crop_region) for seg in items]
    return Size(
        max((0, *(region.x2 for region in regions))),
        max((0, *(region.y2 for region in regions))),
    )


def padded(seg: SEG, by: int, image: Size) -> SEG:
    """A SEG whose crop region is wider by so many pixels on every side, inside of the image.

    One with a picture of its own stays as it is, as nothing is known of what is around that.

    Args:
        seg: one of `normalise`, whose mask is an array.
        by: at least 0.
        image: the image's size.
    """
    old = Box.of(seg.crop_region)
    new = old.grown(by).clipped(image)
    if new == old:
        return seg
    if seg.cropped_image is not None:
        note(
            "padding",
            f"The crop of the box {tuple(seg.bbox)} gets no padding: the segment brings a picture "
            "of its own. Remove the picture (Remove Image from SEGS) to crop the image instead.",
        )
        return seg
    mask = moved_mask(seg.cropped_mask, old, new)
    return seg._replace(crop_region=new.as_tuple(), cropped_mask=mask)


def moved_mask(mask: np.ndarray, old: Box, new: Box) -> np.ndarray:
    """A mask [...,h,w] of one region, for another; 0 where the old one does not reach."""
    if old == new:
        return mask
    result = np.zeros((*mask.shape[:-2], new.height, new.width), np.float32)
    common = old.intersection(new)
    here, there = common.shifted(-new.x1, -new.y1), common.shifted(-old.x1, -old.y1)
    result[..., here.y1 : here.y2, here.x1 : here.x2] = mask[
        ..., there.y1 : there.y2, there.x1 : there.x2
    ]
    return result


# From a mask


def from_mask(
    mask: torch.Tensor,
    combined: bool,
    crop_factor: float,
    bbox_fill: bool,
    drop_size: int,
    label: str = "A",
    crop_min_size: int | None = None,
    contour_fill: bool = False,
    adjust_region: Callable[..., Sequence[int]] | None = None,
) -> SEGS:
    """One SEG for each shape in a mask, the lowest in the image first.

    Args:
        mask: [H,W] or [B,H,W] 0..1; the shapes of all masks of a batch are in order, and belong to
            the image with the index of their mask.
        combined: make one SEG for the whole mask instead. Its bbox ends at the last pixel of the
            mask instead of after it, as in shared workflows.
        crop_factor: sides of the crop region over sides of the shape's bounding box.
        bbox_fill: fill the bounding box with 1 in the SEG's mask.
        drop_size: shapes that are not wider and taller than this many pixels are left out (not
            with `combined`).
        label: label of every SEG.
        crop_min_size: least length of a crop region's sides in pixels.
        contour_fill: fill the shapes with 1, instead of keeping the values and holes of the mask
            (not with `combined`).
        adjust_region: may replace a crop region; called with the image's width and height, the bbox
            and the crop region.

    Returns:
        SEGS with masks [h,w], confidence 1.
    """
    mask = check_mask(mask, "mask")
    height, width = mask.shape[1:]
    segs = []
    for index, layer in enumerate(to_numpy(mask)):
        image = BatchImage(index, len(mask)) if len(mask) > 1 else None
        for bbox, region, shape in _shapes(
            layer, combined, crop_factor, drop_size, crop_min_size, adjust_region
        ):
            part = _part_inside(layer, region)
            if shape is not None:
                part = shape if contour_fill else part * shape
            segs.append(of_image(_seg(part.copy(), bbox, region, label, bbox_fill), image))
    return (height, width), segs


def from_mask_frames(
    mask: torch.Tensor,
    combined: bool,
    crop_factor: float,
    bbox_fill: bool,
    drop_size: int,
    label: str = "A",
    crop_min_size: int | None = None,
    contour_fill: bool = False,
    adjust_region: Callable[..., Sequence[int]] | None = None,
) -> SEGS:
    """One SEG for each shape in the united masks of all frames of a video.

    Args:
        mask: [F,H,W] 0..1, one for every frame; a single mask is treated as in `from_mask`.
        combined, crop_factor, bbox_fill, drop_size, label, crop_min_size, adjust_region: as in
            `from_mask`, with bounding boxes around the united shape.
        contour_fill: fill the shapes of every frame with 1.

    Returns:
        SEGS with masks [F,h,w]: for each frame the part of its mask inside the united shape.
    """
    mask = check_mask(mask, "mask")
    if len(mask) == 1:
        return from_mask(
            mask, combined, crop_factor, bbox_fill, drop_size, label, crop_min_size, contour_fill,
            adjust_region,
        )  # fmt: skip
    frames = to_numpy(mask)
    united = to_numpy(masks.union(mask))[0]
    segs = []
    for bbox, region, shape in _shapes(
        united, combined, crop_factor, drop_size, crop_min_size, adjust_region
    ):
        part = _part_inside(frames, region)
        part = part.copy() if shape is None else part * shape
        if contour_fill and not combined:
            part = np.stack([masks.solid(frame) for frame in part])
        segs.append(_seg(part, bbox, region, label, bbox_fill))
    return united.shape, segs


def _shapes(
    mask: np.ndarray,
    combined: bool,
    crop_factor: float,
    drop_size: int,
    crop_min_size: int | None,
    adjust_region: Callable[..., Sequence[int]] | None,
) -> list[tuple[Box, Box, np.ndarray | None]]:
    """Bounding box, crop region and filled shape [h,w] of each shape in a mask [H,W].

    The filled shape is None if the whole mask is taken.
    """
    image = Size(mask.shape[1], mask.shape[0])

    def region_of(bbox: Box) -> Box:
        region = crop_region(bbox, image, crop_factor, crop_min_size)
        if adjust_region is None:
            return region
        changed = adjust_region(*image, bbox.as_tuple(), region.as_tuple())
        return Box.of(changed).clipped(image)

    if combined:
        tight = masks.bbox(torch.from_numpy(mask))
        if tight is None:
            return []
        bbox = Box(
            tight.x1, tight.y1, max(tight.x1 + 1, tight.x2 - 1), max(tight.y1 + 1, tight.y2 - 1)
        )
        return [(bbox, region_of(bbox), None)]
    shapes = []
    for contour in masks.contours(mask):
        bbox = masks.contour_box(contour)
        if bbox.width > drop_size and bbox.height > drop_size:
            region = region_of(bbox)
            shapes.append((bbox, region, masks.fill_contour(contour, region)))
    return shapes


def _seg(mask: np.ndarray, bbox: Box, region: Box, label: str, bbox_fill: bool) -> SEG:
    if bbox_fill:
        _part_inside(mask, bbox.shifted(-region.x1, -region.y1).clipped(region.size))[...] = 1.0
    return SEG(None, mask, 1.0, region.as_tuple(), bbox.as_tuple(), label)


def _part_inside(array: np.ndarray, box: Box) -> np.ndarray:
    """The part of an array [...,H,W] inside the box, as a view."""
    return array[..., box.y1 : box.y2, box.x1 : box.x2]


# To an image's size and bounds


def normalise(segs: Any, image: Size, name: str) -> SEGS:
    """SEGS of any pack, checked and fitted to an image.

    They are scaled to the size of the image. Regions are clipped to it, and masks and cropped
    images are cut accordingly. Masks become float32 arrays [h,w] or [F,h,w] within 0..1, of the
    size of their regions; boxes become tuples of ints. What fits already is not copied. Every SEG
    keeps its index, because its seed and text depend on it: a SEG outside the image gets an empty
    region and a mask without pixels.

    Args:
        segs: SEGS; None counts as SEGS without a SEG.
        image: the size of the image.
        name: the input's name, for errors.

    Raises:
        ValueError: `segs` is no SEGS, or a mask has values that are not finite.
    """
    if segs is None:
        return empty((image[1], image[0]))
    check_segs(segs, name)
    shape, items = segs
    made_for = _size_of(shape)
    if items and 0 not in made_for and masks.is_stretched(made_for, image):
        note(
            "size",
            f"{name} is made for an image of {made_for.width}x{made_for.height} pixels and is"
            f" stretched to one of {image[0]}x{image[1]}. Make it from an image of the same shape,"
            " so that the segments stay where they are.",
        )
    fitted = []
    for index, seg in enumerate(items):
        own = f"{name}, mask of SEG {index}"
        fitted.append(_placed(_clean(seg, own), made_for, Size(*image), own, clip=True))
    return (image[1], image[0]), fitted


def _size_of(header: Sequence[float]) -> Size:
    """The size of the image from the header (height, width) of SEGS."""
    height, width = header
    return Size(int(float(width)), int(float(height)))


def scale_to(segs: SEGS, size: Size) -> SEGS:
    """SEGS for an image of another width and height.

    x is scaled by the ratio of the widths, and y by the ratio of the heights. Masks and cropped
    images are resized too. SEGS with a size of 0 do not know their image; they only get the new
    size.
    """
    header, items = segs
    old, new = _size_of(header), Size(*size)
    moves = old != new and 0 not in old
    return (new.height, new.width), [
        _placed(seg, old, new, f"segs, mask of SEG {index}") if moves else seg
        for index, seg in enumerate(items)
    ]


def _placed(seg: SEG, old: Size, new: Size, name: str, *, clip: bool = False) -> SEG:
    """A SEG in an image that goes from size `old` to `new`.

    Mask and picture are cut before they are resized, so that a region that leaves the image takes
    no extra memory.

    Args:
        clip: cut off the part outside the image.
    """
    region, bbox = Box.of(seg.crop_region), Box.of(seg.bbox)
    scales = old != new and 0 not in old
    if scales:
        bbox, region = bbox.scaled(old, new), region.scaled(old, new)
        if not (region.empty or bbox.empty):
            region = region.union(bbox)  # a bbox that kept its last pixel may leave the region
    if clip:
        bbox = bbox.clipped(new)
    inside = region.clipped(new) if clip else region
    check_pixels(inside.size, name, remedy="Give the segment a region within its image.")
    fields = {"crop_region": inside.as_tuple(), "bbox": bbox.as_tuple()}
    pixels = seg.cropped_image
    if inside.empty:
        pixels = None if inside != region or scales else pixels
    elif scales:
        pixels = _resized_image(_part(own_picture(seg), region, inside, axes=(-3, -2)), inside.size)
    elif inside != region and pixels is not None:
        pixels = _part(pixels, region, inside, axes=(-3, -2))
    mask = _part(seg.cropped_mask, region, inside)
    if mask.shape[-2:] != (inside.height, inside.width):
        mask = _resized_mask(mask, inside.size)
    return edited(seg, cropped_image=pixels, cropped_mask=mask, **fields)


def _part(array: Any, region: Box, inside: Box, axes: tuple[int, int] = (-2, -1)) -> Any:
    """The part of a region's mask or picture that lies in `inside`, as a view.

    Args:
        array: the mask or picture of the region, of any resolution; None stays None.
        axes: the axes of height and width.
    """
    if array is None or inside == region or region.empty:
        return array
    height, width = (array.shape[axis] for axis in axes)
    cut = inside.shifted(-region.x1, -region.y1).scaled(region.size, Size(width, height))
    window = [slice(None)] * array.ndim
    window[axes[0]], window[axes[1]] = slice(cut.y1, cut.y2), slice(cut.x1, cut.x2)
    return array[tuple(window)]


def _clean(seg: Any, name: str) -> SEG:
    """A SEG of our own class, with plain numbers and a float32 mask.

    The user is told if the mask does not have the size of its region; it is not resized here.
    """
    region = Box.of(seg.crop_region)
    in_bytes = str(seg.cropped_mask.dtype).endswith("uint8")
    mask = to_numpy(seg.cropped_mask)
    if mask.size:
        check_finite(to_tensor(mask), name)
        if in_bytes and mask.max() > 1:
            mask = mask / 255
        if mask.min() < 0 or mask.max() > 1:
            mask = mask.clip(0, 1)
    if mask.shape[-2:] != (region.height, region.width):
        note(
            "mask",
            f"{name} is resized to its region: it has {mask.shape[-1]}x{mask.shape[-2]} pixels, "
            f"the region {region.width}x{region.height}.",
        )
    pixels = seg.cropped_image
    if pixels is not None and 0 in pixels.shape:
        pixels = None
    elif pixels is not None and (pixels.ndim == 3 or str(pixels.dtype).endswith("uint8")):
        pixels = to_numpy(own_picture(seg))
    return edited(
        seg,
        cropped_image=pixels,
        cropped_mask=mask,
        confidence=confidence(seg),
        crop_region=region.as_tuple(),
        bbox=Box.of(seg.bbox).as_tuple(),
        label=seg.label if isinstance(seg.label, str) else str(seg.label),
    )


def _resized_mask(mask: np.ndarray | torch.Tensor, size: Size) -> np.ndarray:
    """A mask [h,w] or [F,h,w] at another size."""
    shape = (*mask.shape[:-2], size.height, size.width)
    if 0 in mask.shape or 0 in size:
        return np.zeros(shape, np.float32)
    tensor = to_tensor(mask)
    frames = tensor[None] if tensor.ndim == 2 else tensor
    return to_numpy(masks.resize_mask(frames, size).view(shape))


def _resized_image(image: torch.Tensor | None, size: Size) -> np.ndarray | None:
    """An image [B,h,w,C] at another size; None if it has no pixel."""
    if image is None or 0 in image.shape or 0 in size:
        return None
    return to_numpy(resize(image, size))


# To masks


def combined_mask(segs: SEGS) -> torch.Tensor:
    """One mask of everything that SEGS of any pack cover.

    Returns:
        [1,H,W] float32 0..1; [B,H,W] if SEGs belong to the images of a batch; [F,H,W] if all masks
        of videos have F frames. SEGS with a size of 0 give an empty mask of 64x64 pixels.
    """
    size = _size_of(segs[0])
    if 0 in size:
        return torch.zeros(1, 64, 64)
    (height, width), items = normalise(segs, size, "segs")
    frames = {len(seg.cropped_mask) for seg in items if seg.cropped_mask.ndim == 3}
    frames |= {
        seg.batch_image.count
        for seg in items
        if seg.batch_image is not None and seg.batch_image.index is not None
    }
    count = frames.pop() if len(frames) == 1 else 1
    check_values(count, size, "The mask of 'segs'", "Give them the size of a real image.")
    result = torch.zeros(count, height, width)
    for seg in items:
        image = seg.batch_image
        of_one = image is not None and image.index is not None and image.count == len(result)
        _lay(seg, result[image.index : image.index + 1] if of_one else result)
    return result


def mask_list(segs: SEGS) -> list[torch.Tensor]:
    """The mask of every SEG, of any pack, at the image's size: [1,H,W], or [F,H,W] for video."""
    size = _size_of(segs[0])
    (height, width), items = normalise(segs, size, "segs")
    counts = [len(seg.cropped_mask) if seg.cropped_mask.ndim == 3 else 1 for seg in items]
    check_values(
        sum(counts), size, "The masks of 'segs'",
        "Take fewer segments at a time, or 'SEGS to MASK (combined)'.",
    )  # fmt: skip
    result = []
    for seg, count in zip(items, counts, strict=True):
        result.append(torch.zeros(count, height, width))
        _lay(seg, result[-1])
    return result


def _lay(seg: SEG, canvas: torch.Tensor) -> None:
    """Unite the mask of a SEG with `canvas` [F,H,W], which contains it, in place."""
    x1, y1, x2, y2 = seg.crop_region
    mask = to_tensor(seg.cropped_mask)
    if mask.ndim == 3 and len(mask) != len(canvas):
        mask = masks.union(mask)
    target = canvas[:, y1:y2, x1:x2]
    torch.maximum(target, mask.expand_as(target), out=target)


# By label


def filter_by_labels(segs: SEGS, labels: str) -> SEGS:
    """The SEGS whose label is among those named.

    Args:
        segs: SEGS.
        labels: names separated by commas or line breaks. "all" or an empty text keeps everything;
            "eyes", "eyebrows" and "pupils" mean left and right. If no segment has a name, labels
            that differ from it only in upper and lower case are taken.
    """
    shape, items = segs
    wanted = labels_meant(labels, {str(seg.label) for seg in items})
    if wanted is None:
        return segs
    return shape, [seg for seg in items if str(seg.label) in wanted]


def labels_meant(labels: str, present: set[str]) -> set[str] | None:
    """The labels that a text means, as of `filter_by_labels`; None for all.

    Args:
        present: the labels that there are. The user is told of names that mean none of them.
    """
    names = {*listed_labels(labels)} - {""}
    if not names or "all" in names:
        return None
    wanted: set[str] = set()
    for name in sorted(names):
        wanted |= _labels_meant(name, present)
    return wanted


def listed_labels(text: str) -> list[str]:
    """The labels in a text, separated by commas or line breaks."""
    text = text.strip()
    return [label.strip() for label in re.split(r",[ \t]*\n\s*|\n\s*|,", text)] if text else []


def _labels_meant(name: str, present: set[str]) -> set[str]:
    """The labels that a name means: its group or itself, or labels that differ only in case.

    Args:
        present: the labels of the segments. The user is told if none of them is meant.
    """
    meant = {name, *LABEL_GROUPS.get(name, ())} & present
    if meant or not present:
        return meant
    similar = alike(name, present)
    if similar:
        note("labels", f"No segment has the label '{name:.60}'; {listed(similar)} is taken for it.")
    else:
        note("labels", f"No segment has the label '{name:.60}'. There are: {listed(present)}.")
    return similar
