"""Between SEGS and what ComfyUI's own detection nodes give.

BOUNDING_BOX is a list for each image of mappings with x, y, width and height in pixels and, from
some nodes, label and score; or one such list for all images, or a single mapping.
FACE_LANDMARKS is a mapping: "frames" has a list of faces for each image, each with "landmarks_xy"
[points,2] in pixels and "score"; "image_size" is (height, width); "connection_sets" has the lines
of each part of a face, as pairs of numbers of points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...utils.check import check_mask
from ..geometry import Box, Size, crop_region
from ..mask import bbox, contours, dilate
from ..segs import SEG, SEGS, from_mask, from_mask_frames
from .boxes import BoxDetector, Find
from .yolo import outer_box

LABEL = "A"  # of what comes without one


@dataclass(frozen=True)
class Making:
    """How segments are made of boxes and shapes; lengths in pixels."""

    crop_factor: float = 3.0
    drop_size: int = 10
    dilation: int = 0
    bbox_fill: bool = False
    crop_min_size: int | None = None


# Boxes


class GivenBoxes(BoxDetector):
    """Gives finds that are known already."""

    def __init__(self, finds: Sequence[Find]) -> None:
        self.finds = finds

    def find(self, image: torch.Tensor, threshold: float) -> Sequence[Find]:
        return [found for found in self.finds if found.confidence >= threshold]


def box_frames(boxes: Any, count: int) -> list[list[Find]]:
    """The finds in each of `count` images, from a BOUNDING_BOX in any of its forms.

    Raises:
        ValueError: it is none.
    """
    if isinstance(boxes, dict):
        boxes = [[boxes]]
    boxes = list(boxes or [])
    if boxes and isinstance(boxes[0], dict):
        boxes = [boxes]
    if len(boxes) == 1:
        boxes = boxes * count
    boxes = (boxes + [[]] * count)[:count]
    return [[_find(box) for box in frame or []] for frame in boxes]


def _find(box: Any) -> Find:
    try:
        x, y, width, height = (float(box[name]) for name in ("x", "y", "width", "height"))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"'bboxes' should hold boxes with x, y, width and height, but one is {box!r}. Connect "
            "a BOUNDING_BOX output."
        ) from error
    label = box.get("label") or LABEL
    return Find(outer_box((x, y, x + width, y + height)), float(box.get("score", 1.0)), str(label))


def boxes_to_segs(
    image: torch.Tensor, boxes: Any, threshold: float, making: Making, hook: Any = None
) -> SEGS:
    """A segment for every box of the first image [B,H,W,C] with at least this score."""
    detector = GivenBoxes(box_frames(boxes, len(image))[0])
    return detector.detect(
        image, threshold, making.dilation, making.crop_factor, making.drop_size, hook
    )


def box_video_to_segs(frames: torch.Tensor, boxes: Any, threshold: float, making: Making) -> SEGS:
    """Segments of a video from the boxes in its frames [F,H,W,C].

    Boxes of one label that touch, in one frame or several, become one segment, with the mask of
    each frame's boxes.
    """
    finds = box_frames(boxes, len(frames))
    size = Size(frames.shape[2], frames.shape[1])
    masks: dict[str, torch.Tensor] = {}
    for index, frame in enumerate(finds):
        for found in frame:
            if found.confidence < threshold:
                continue
            box = found.bbox.clipped(size)
            mask = masks.setdefault(found.label, torch.zeros(frames.shape[:3]))
            mask[index, box.y1 : box.y2, box.x1 : box.x2] = 1
    items = []
    for label, mask in masks.items():
        items += _shapes(mask, making, label, from_mask_frames)
    return (size.height, size.width), items


def segs_to_boxes(segs: SEGS, of_crop: bool) -> list[list[dict[str, Any]]]:
    """SEGS as BOUNDING_BOX of one image.

    Args:
        of_crop: the boxes are the crop regions.
    """
    result = []
    for seg in segs[1]:
        box = Box.of(seg.crop_region if of_crop else seg.bbox)
        score = float(np.max(seg.confidence))  # some packs keep it in an array
        result.append(
            {
                "x": box.x1, "y": box.y1, "width": box.width, "height": box.height,
                "label": str(seg.label), "score": score,
            }
        )  # fmt: skip
    return [result]


# Masks


def masks_to_segs(masks: torch.Tensor, making: Making, label: str, boxes: Any = None) -> SEGS:
    """A segment for every mask, whether of one piece or several.

    Args:
        masks: [N,H,W]; N may be 0.
        label: of the segments.
        boxes: BOUNDING_BOX with one box for each mask, whose labels and scores they get.
    """
    if masks.ndim == 3 and not len(masks):
        return (int(masks.shape[1]), int(masks.shape[2])), []
    masks = check_mask(masks, "masks").float().cpu()
    height, width = masks.shape[1:]
    frames = [boxes] if isinstance(boxes, dict) else list(boxes or [])
    flat = [box for frame in frames for box in (frame if isinstance(frame, list) else [frame])]
    finds = [_find(box) for box in flat] if len(flat) == len(masks) else [None] * len(masks)
    items = []
    for mask, found in zip(masks, finds, strict=True):
        seg = _whole(dilate(mask[None], making.dilation)[0], making, label)
        if seg is not None and found is not None:
            own = found.label if found.label != LABEL else label
            seg = seg._replace(confidence=found.confidence, label=own)
        items += [] if seg is None else [seg]
    return (height, width), items


def _whole(mask: torch.Tensor, making: Making, label: str) -> SEG | None:
    """A segment of all of a mask [H,W]; None if that is too small."""
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


# Faces

FACE_PARTS = (
    "face", "mouth", "left_eyebrow", "left_eye", "left_pupil", "right_eyebrow", "right_eye",
    "right_pupil",
)  # fmt: skip

# How comfyui_controlnet_aux's MediaPipe-FaceMesh preprocessor draws each part, in 8 bits.
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
_NEAR = 2  # steps of 8 bits that a channel may be off

# What ComfyUI's connection sets call the parts; pupils have one set for both.
_CONNECTIONS = {
    "face": "face_oval",
    "mouth": "lips",
    **{part: part for part in FACE_PARTS if part.endswith(("eye", "eyebrow"))},
}


def mesh_to_segs(image: torch.Tensor, parts: Sequence[str], making: Making) -> SEGS:
    """Segments of the parts of faces in a picture of a face mesh.

    Args:
        image: [1,H,W,C] as the MediaPipe-FaceMesh preprocessor draws it.
        parts: of FACE_PARTS.

    Returns:
        For each part a segment of every line drawing that is apart, filled to its convex hull.
    """
    pixels = (image[0, ..., :3].expand(-1, -1, 3).float().cpu() * 255).round()
    height, width = pixels.shape[:2]
    items = []
    for part in [name for name in FACE_PARTS if name in parts]:
        lines = (pixels - torch.tensor(_COLOURS[part])).abs().amax(dim=-1) <= _NEAR
        for contour in contours(lines.float().numpy()):
            mask = _hull(contour[:, 0], height, width)
            items += _shapes(mask[None], making, part, from_mask)
    return (height, width), items


def landmarks_to_segs(landmarks: Any, parts: Sequence[str], making: Making) -> SEGS:
    """Segments of the parts of faces in FACE_LANDMARKS.

    With several frames a segment's mask is [F,h,w]: parts that touch, in one frame or several, are
    one segment.

    Raises:
        ValueError: they are no FACE_LANDMARKS.
    """
    frames, connections, (width, height) = _read(landmarks)
    items: list[SEG] = []
    for part in [name for name in FACE_PARTS if name in parts]:
        if len(frames) == 1:
            for face in frames[0]:
                mask = _part_mask(face, part, connections, height, width)
                found = _shapes(mask[None], making, part, from_mask)
                score = float(face.get("score", 1.0))
                items += [seg._replace(confidence=score) for seg in found]
            continue
        masks = torch.zeros(len(frames), height, width)
        for mask, faces in zip(masks, frames, strict=True):
            for face in faces:
                torch.maximum(mask, _part_mask(face, part, connections, height, width), out=mask)
        if masks.any():
            items += _shapes(masks, making, part, from_mask_frames)
    return (height, width), items


def eyes_in(landmarks: Any, image: Size, row: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The eyes of each face in one image of FACE_LANDMARKS, in pixels of an image of this size.

    Args:
        row: which image; of fewer than that, the last.

    Returns:
        For each face the middles (x, y) of two eyes, in the order in which they go from left to
        right once the face is upright.

    Raises:
        ValueError: they are no FACE_LANDMARKS.
    """
    frames, connections, size = _read(landmarks)
    scale = np.array([image.width / size.width, image.height / size.height])
    found = []
    for face in frames[min(row, len(frames) - 1)] if frames else []:
        points = np.asarray(face["landmarks_xy"], dtype=float) * scale
        first, second, mouth = (
            points[_numbers(part, face, connections)].mean(axis=0)
            for part in ("right_eye", "left_eye", "mouth")
        )
        across, down = second - first, mouth - (first + second) / 2
        mirrored = across[0] * down[1] - across[1] * down[0] < 0
        found.append((second, first) if mirrored else (first, second))
    return found


def _read(landmarks: Any) -> tuple[list, dict, Size]:
    """Frames, connections and image size of FACE_LANDMARKS."""
    try:
        height, width = (int(side) for side in landmarks["image_size"])
        return landmarks["frames"], landmarks["connection_sets"], Size(width, height)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            "'face_landmarks' should come from ComfyUI's 'Detect Face Landmarks (MediaPipe)', but "
            f"is a {type(landmarks).__name__} of another kind."
        ) from error


def _part_mask(face: dict, part: str, connections: dict, height: int, width: int) -> torch.Tensor:
    points = np.asarray(face["landmarks_xy"], dtype=float)[_numbers(part, face, connections)]
    return _hull(points, height, width)


def _numbers(part: str, face: dict, connections: dict) -> list[int]:
    """Numbers of the points around a part of a face."""
    if not part.endswith("pupil"):
        return _ends(connections[_CONNECTIONS[part]])
    points = np.asarray(face["landmarks_xy"], dtype=float)
    eye = points[_ends(connections[part.replace("pupil", "eye")])].mean(axis=0)
    return min(
        _pieces(connections["irises"]),
        key=lambda ring: float(np.abs(points[ring].mean(axis=0) - eye).sum()),
    )


def _ends(lines: Iterable[tuple[int, int]]) -> list[int]:
    return sorted({int(end) for line in lines for end in line})


def _pieces(lines: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Points that lines join, one list for each piece that is apart from the others."""
    pieces: list[set[int]] = []
    for line in lines:
        ends = {int(end) for end in line}
        touching = [piece for piece in pieces if piece & ends]
        pieces = [piece for piece in pieces if not piece & ends]
        pieces.append(ends.union(*touching))
    return [sorted(piece) for piece in pieces]


def _hull(points: np.ndarray, height: int, width: int) -> torch.Tensor:
    """The convex hull of points (x, y), filled: [height,width] 0 or 1."""
    import cv2

    canvas = np.zeros((height, width), np.uint8)
    corners = np.round(np.nan_to_num(points)).clip(-32768, 32767).astype(np.int32)
    cv2.fillPoly(canvas, [cv2.convexHull(corners)], 1)
    return torch.from_numpy(canvas).float()


def _shapes(masks: torch.Tensor, making: Making, label: str, convert: Any) -> list[SEG]:
    """Segments of the shapes in masks [F,H,W]."""
    return convert(
        dilate(masks, making.dilation), combined=False, crop_factor=making.crop_factor,
        bbox_fill=making.bbox_fill, drop_size=making.drop_size, label=label,
        crop_min_size=making.crop_min_size,
    )[1]  # fmt: skip
