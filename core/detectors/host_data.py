"""SEGS from the outputs of ComfyUI's own detection nodes, and back.

BOUNDING_BOX is a list with a list for each image. That has a mapping for each box, with x, y, width
and height in pixels and, from some nodes, label and score. It may also be one list of mappings for
all images, or a single mapping.
FACE_LANDMARKS is a mapping. "frames" has a list of faces for each image; a face has "landmarks_xy"
[points,2] in pixels, and "score". "image_size" is (height, width). "connection_sets" has the lines
of each part of a face, as pairs of indices of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...utils.check import check_mask, quoted
from ...utils.notes import note
from ..geometry import Box, Size, crop_region
from ..memory import persist
from ..pixels.image import image_name
from ..pixels.mask import bbox, contours, dilate
from ..segs.face_landmarks import FACE_PARTS, has_part, points_of_part, read_landmarks
from ..segs.image_batch import NOTE, counted, in_batch, in_each_image
from ..segs.seg import SEG, SEGS, BatchImage, confidence, from_mask, from_mask_frames, of_image
from .base import BoxDetector, Detection
from .yolo import outer_box

LABEL = "A"  # the label of a box without one


@dataclass(frozen=True)
class SegmentOptions:
    """How segments are made from boxes and shapes; lengths in pixels."""

    crop_factor: float = 3.0
    drop_size: int = 10
    dilation: int = 0
    bbox_fill: bool = False
    crop_min_size: int | None = None


# Boxes


class GivenBoxes(BoxDetector):
    """A detector that returns detections that are known already."""

    def __init__(self, finds: Sequence[Detection]) -> None:
        self.finds = finds

    def find(self, image: torch.Tensor, threshold: float) -> Sequence[Detection]:
        """See `BoxDetector.find`; the image [H,W,C] is not looked at."""
        return [found for found in self.finds if found.confidence >= threshold]


def box_frames(boxes: Any, count: int) -> list[list[Detection]]:
    """The detections in each of `count` images, from a BOUNDING_BOX in any of its forms.

    The user is told if it has boxes for another number of images.

    Raises:
        ValueError: `boxes` is no BOUNDING_BOX.
    """
    return [
        [Detection(outer_box(box), score, label) for box, score, label in frame]
        for frame in given_boxes(boxes, count)
    ]


_BOXES = "bboxes"  # the input that most nodes get them by
GivenBox = tuple[tuple[float, float, float, float], float, str]


def given_boxes(boxes: Any, count: int, name: str = _BOXES) -> list[list[GivenBox]]:
    """As `box_frames`, but the sides x1, y1, x2, y2 as they are given, with score and label.

    Args:
        name: of the input, for errors and notes.

    Raises:
        ValueError: `boxes` is no BOUNDING_BOX.
    """
    if isinstance(boxes, dict):
        boxes = [[boxes]]
    if not (boxes is None or isinstance(boxes, (list, tuple))):
        raise _no_boxes(boxes, name)
    boxes = list(boxes or [])
    if boxes and isinstance(boxes[0], dict):
        boxes = [boxes]
    if len(boxes) == 1:
        boxes = boxes * count
    if boxes and len(boxes) != count:
        note(
            NOTE,
            f"'{name}' has boxes for {len(boxes)} images, but is used on {counted(count, 'image')}:"
            " list i is used for image i, and the rest is ignored. Connect the images that were"
            " searched.",
        )
    boxes = (boxes + [[]] * count)[:count]
    for frame in boxes:
        if not (frame is None or isinstance(frame, (list, tuple))):
            raise _no_boxes(frame, name)
    return [[_given(box, name) for box in frame or []] for frame in boxes]


def _given(box: Any, name: str = _BOXES) -> GivenBox:
    try:
        x, y, width, height = (float(box[key]) for key in ("x", "y", "width", "height"))
        score, label = float(box.get("score", 1.0)), str(box.get("label") or LABEL)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise _no_boxes(box, name) from error
    if not np.isfinite((x, y, width, height, score)).all():
        raise _no_boxes(box, name)
    return (x, y, x + width, y + height), score, label


def _no_boxes(box: Any, name: str) -> ValueError:
    return ValueError(
        f"'{name}' should hold boxes with x, y, width and height, and perhaps a score, as finite"
        f" numbers, but one is {quoted(box)}. Connect a BOUNDING_BOX output."
    )


def boxes_to_segs(
    image: torch.Tensor, boxes: Any, threshold: float, making: SegmentOptions, hook: Any = None
) -> SEGS:
    """A segment for every box with at least this score, in each image of a batch [B,H,W,C].

    Raises:
        ValueError: `boxes` is no BOUNDING_BOX.
    """
    finds = iter(box_frames(boxes, len(image)))
    return in_each_image(
        image,
        lambda single: GivenBoxes(next(finds)).detect(
            single, threshold, making.dilation, making.crop_factor, making.drop_size, hook
        ),
    )


def box_video_to_segs(
    frames: torch.Tensor, boxes: Any, threshold: float, making: SegmentOptions
) -> SEGS:
    """Segments of a video from the boxes in its frames [F,H,W,C].

    Boxes of one label that touch, in one frame or in several, become one segment. Its mask [F,h,w]
    has the boxes of each frame.

    Raises:
        ValueError: `boxes` is no BOUNDING_BOX.
    """
    size = Size(frames.shape[2], frames.shape[1])
    labels: dict[str, list[tuple[int, Box]]] = {}
    for index, frame in enumerate(box_frames(boxes, len(frames))):
        for found in frame:
            box = found.bbox.clipped(size)
            if found.confidence >= threshold and not box.empty:
                labels.setdefault(found.label, []).append((index, box))
    items = []
    for label, own in labels.items():
        segs = [
            seg
            for near in _near(own, max(0, making.dilation) + 1)
            for seg in _box_clips(near, len(frames), size, making, label)
        ]
        items += sorted(segs, key=_first_pixel, reverse=True)  # the order of `mask.contours`
    return (size.height, size.width), items


def _near(boxes: Sequence[tuple[int, Box]], reach: int) -> list[list[tuple[int, Box]]]:
    """Groups of boxes that could touch if each is grown by `reach` pixels."""
    groups: list[tuple[Box, list[tuple[int, Box]]]] = []
    for entry in boxes:
        around, members = entry[1].grown(reach), [entry]
        while True:  # a group that has grown may reach others
            joined = [group for group in groups if around.intersects(group[0])]
            if not joined:
                break
            groups = [group for group in groups if not around.intersects(group[0])]
            for other, more in joined:
                around, members = around.union(other), more + members
        groups.append((around, members))
    return [members for _, members in groups]


def _box_clips(
    boxes: Sequence[tuple[int, Box]], frames: int, size: Size, making: SegmentOptions, label: str
) -> list[SEG]:
    """Segments of boxes that are near one another; the masks are only as large as needed."""
    around = boxes[0][1]
    for _, box in boxes[1:]:
        around = around.union(box)
    around = around.grown(abs(making.dilation)).clipped(size)
    region = crop_region(around, size, making.crop_factor, making.crop_min_size)
    margin = abs(making.dilation) + (making.crop_min_size or 0)
    window = region.grown(margin).clipped(size)
    mask = torch.zeros(frames, window.height, window.width)
    for index, box in boxes:
        inner = box.shifted(-window.x1, -window.y1)
        mask[index, inner.y1 : inner.y2, inner.x1 : inner.x2] = 1

    def in_window(_width: int, _height: int, found: Sequence[int], _region: Any) -> tuple[int, ...]:
        thing = Box.of(found).shifted(window.x1, window.y1)
        own = crop_region(thing, size, making.crop_factor, making.crop_min_size)
        return own.shifted(-window.x1, -window.y1).as_tuple()

    return [
        seg._replace(
            crop_region=Box.of(seg.crop_region).shifted(window.x1, window.y1).as_tuple(),
            bbox=Box.of(seg.bbox).shifted(window.x1, window.y1).as_tuple(),
        )
        for seg in _shapes(mask, making, label, from_mask_frames, in_window)
    ]


def _first_pixel(seg: SEG) -> tuple[int, int]:
    """Row and column of the first pixel that a segment covers, in reading order."""
    x1, y1, _, _ = seg.crop_region
    covered = seg.cropped_mask > 0
    covered = covered.any(axis=0) if covered.ndim == 3 else covered
    rows, columns = np.nonzero(covered)
    return (y1 + int(rows[0]), x1 + int(columns[0])) if len(rows) else (y1, x1)


def segs_to_boxes(segs: SEGS, of_crop: bool) -> list[list[dict[str, Any]]]:
    """SEGS as BOUNDING_BOX: a list for each image of their batch, or one list without a batch.

    Args:
        of_crop: give the crop regions instead of the bounding boxes.
    """
    items = segs[1]
    return [[_as_box(items[i], of_crop) for i in places] for _, places in in_batch(items)]


def _as_box(seg: Any, of_crop: bool) -> dict[str, Any]:
    box = Box.of(seg.crop_region if of_crop else seg.bbox)
    return {
        "x": box.x1, "y": box.y1, "width": box.width, "height": box.height,
        "label": str(seg.label), "score": confidence(seg),
    }  # fmt: skip


# Masks


def masks_to_segs(
    masks: torch.Tensor, making: SegmentOptions, label: str, boxes: Any = None
) -> SEGS:
    """A segment for every mask, even if the mask has several separate shapes.

    Args:
        masks: [N,H,W] 0..1; N may be 0.
        label: label of the segments.
        boxes: BOUNDING_BOX with one box for each mask; the segments get its labels and scores.

    Raises:
        ValueError: a box is no box.
    """
    if masks.ndim == 3 and not len(masks):
        return (int(masks.shape[1]), int(masks.shape[2])), []
    masks = check_mask(masks, "masks").float().cpu()
    height, width = masks.shape[1:]
    frames = [boxes] if isinstance(boxes, dict) else list(boxes or [])
    flat = [box for frame in frames for box in (frame if isinstance(frame, list) else [frame])]
    finds = [_given(box) for box in flat] if len(flat) == len(masks) else [None] * len(masks)
    items = []
    for mask, found in zip(masks, finds, strict=True):
        seg = _whole(dilate(mask[None], making.dilation)[0], making, label)
        if seg is not None and found is not None:
            _, score, own = found
            seg = seg._replace(confidence=score, label=own if own != LABEL else label)
        items += [] if seg is None else [seg]
    return (height, width), items


def _whole(mask: torch.Tensor, making: SegmentOptions, label: str) -> SEG | None:
    """A segment of a whole mask [H,W]; None if it is too small."""
    box = bbox(mask)
    if box is None or box.width <= making.drop_size or box.height <= making.drop_size:
        return None
    size = Size(mask.shape[1], mask.shape[0])
    region = crop_region(box, size, making.crop_factor, making.crop_min_size)
    part = mask[region.y1 : region.y2, region.x1 : region.x2].clone()
    if making.bbox_fill:
        inner = box.shifted(-region.x1, -region.y1)
        part[inner.y1 : inner.y2, inner.x1 : inner.x2] = 1
    return SEG(None, part.numpy(), 1.0, region.as_tuple(), box.as_tuple(), label)


# The colours of the parts in pictures of the MediaPipe-FaceMesh preprocessor, in 8 bits.
_COLOURS = {
    "face": (10, 200, 10),
    "mouth": (10, 180, 10),
    "left_eyebrow": (180, 220, 10),
    "left_eye": (180, 200, 10),
    "left_pupil": (250, 200, 10),
    "right_eyebrow": (10, 220, 180),
    "right_eye": (10, 200, 180),
    "right_pupil": (10, 200, 250),
}
_NEAR = 2  # the most by which a channel may differ, in steps of 8 bits


def mesh_to_segs(image: torch.Tensor, parts: Sequence[str], making: SegmentOptions) -> SEGS:
    """Segments of the parts of faces in pictures of face meshes.

    Args:
        image: [B,H,W,C] 0..1, as the MediaPipe-FaceMesh preprocessor draws it.
        parts: some of FACE_PARTS.

    Returns:
        For each part a segment of every separate line drawing, filled to its convex hull; image by
        image.
    """
    return in_each_image(
        image,
        lambda single: persist(
            lambda: _mesh_to_segs(single, parts, making), image_name(single), "searched"
        ),
    )


def _mesh_to_segs(image: torch.Tensor, parts: Sequence[str], making: SegmentOptions) -> SEGS:
    pixels = (image[0, ..., :3].expand(-1, -1, 3).float().cpu() * 255).round()
    height, width = pixels.shape[:2]
    items = []
    for part in [name for name in FACE_PARTS if name in parts]:
        lines = (pixels - torch.tensor(_COLOURS[part])).abs().amax(dim=-1) <= _NEAR
        for contour in contours(lines.float().numpy()):
            mask = _hull(contour[:, 0], height, width)
            items += _shapes(mask[None], making, part, from_mask)
    return (height, width), items


def landmarks_to_segs(
    landmarks: Any, parts: Sequence[str], making: SegmentOptions, video: bool = True
) -> SEGS:
    """Segments of the parts of faces in FACE_LANDMARKS.

    Args:
        parts: some of FACE_PARTS.
        video: the images are the frames of a video. Parts that touch, in one frame or in several,
            become one segment with a mask [F,h,w]. Otherwise each image has its own segments.

    Raises:
        ValueError: `landmarks` are no FACE_LANDMARKS.
    """
    frames, connections, size = read_landmarks(landmarks)
    wanted = [name for name in FACE_PARTS if name in parts and has_part(connections, name)]
    missing = [
        name.replace("_", " ") for name in FACE_PARTS if name in parts and name not in wanted
    ]
    if missing:
        note(
            "landmarks",
            f"'face_landmarks' have no lines around: {', '.join(missing)}. There are no segments "
            "of these parts.",
        )
    mesh = _Mesh(connections, size)
    header = (size.height, size.width)
    if len(frames) == 1 or not video:
        items = []
        for index, faces in enumerate(frames):
            image = BatchImage(index, len(frames)) if len(frames) > 1 else None
            found = [seg for part in wanted for seg in mesh.still(faces, part, making)]
            items += [of_image(seg, image) for seg in found]
        return header, items
    return header, [seg for part in wanted for seg in mesh.clip(frames, part, making)]


@dataclass(frozen=True)
class _Mesh:
    """The connections of the landmarks, and the size of the images."""

    connections: dict
    size: Size

    def still(self, faces: Sequence[dict], part: str, making: SegmentOptions) -> list[SEG]:
        """Segments of a part of the faces in one image."""
        items = []
        for face in faces:
            found = _shapes(self.mask(face, part)[None], making, part, from_mask)
            score = float(face.get("score", 1.0))
            items += [seg._replace(confidence=score) for seg in found]
        return items

    def clip(
        self, frames: Sequence[Sequence[dict]], part: str, making: SegmentOptions
    ) -> list[SEG]:
        """Segments of a part of the faces in all frames."""
        masks = torch.zeros(len(frames), self.size.height, self.size.width)
        for mask, faces in zip(masks, frames, strict=True):
            for face in faces:
                torch.maximum(mask, self.mask(face, part), out=mask)
        return _shapes(masks, making, part, from_mask_frames) if masks.any() else []

    def mask(self, face: dict, part: str) -> torch.Tensor:
        """The mask [H,W] of a part of a face."""
        points = np.asarray(face["landmarks_xy"], dtype=float)
        return _hull(
            points[points_of_part(part, face, self.connections)], self.size.height, self.size.width
        )


def _hull(points: np.ndarray, height: int, width: int) -> torch.Tensor:
    """The filled convex hull of points [points,2] (x, y): [height,width] 0 or 1."""
    import cv2

    canvas = np.zeros((height, width), np.uint8)
    corners = np.round(np.nan_to_num(points)).clip(-32768, 32767).astype(np.int32)
    cv2.fillPoly(canvas, [cv2.convexHull(corners)], 1)
    return torch.from_numpy(canvas).float()


def _shapes(
    masks: torch.Tensor, making: SegmentOptions, label: str, convert: Any, adjust_region: Any = None
) -> list[SEG]:
    """Segments of the shapes in masks [F,H,W]."""
    return convert(
        dilate(masks, making.dilation), combined=False, crop_factor=making.crop_factor,
        bbox_fill=making.bbox_fill, drop_size=making.drop_size, label=label,
        crop_min_size=making.crop_min_size, adjust_region=adjust_region,
    )[1]  # fmt: skip
