"""YOLO networks: the input from an image, and detections from the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...utils.notes import note
from ..geometry import Box, Size
from .base import BoxDetector, Detection
from .network import Network
from .safe_weights import YoloFile

# The default settings of ultralytics, with which shared workflows were made.
SAME = 0.7  # two boxes with a higher intersection over union are one thing
MOST = 300  # detections in an image
CANDIDATES = 30000  # boxes that are compared
_FAR = 1e6  # pixels; replaces infinite coordinates
_GREY = 114 / 255  # the padding around the image, as in training


@dataclass(frozen=True)
class Layout:
    """The layout of a network's predictions; boxes are in pixels of its input."""

    kind: str  # one of KINDS
    classes: int | None  # number of classes; None where a prediction has the class itself
    masks: int = 0  # number of mask coefficients at the end of a prediction


KINDS = (
    "columns",  # [4 + classes + masks, N]: centre, size; a score for each class
    "objects",  # [N, 5 + classes + masks]: centre, size; objectness; a score for each class
    "finished",  # [N, 6 + masks]: two corners; score; class. Overlaps are removed already
)


@dataclass(frozen=True)
class NetworkOutput:
    """The output of a network for one image."""

    predictions: torch.Tensor  # [rows, columns]
    layout: Layout
    prototypes: torch.Tensor | None = None  # [n,h,w]; a mask is a weighted sum of them


@dataclass(frozen=True)
class Candidates:
    """Boxes that a network proposes."""

    boxes: torch.Tensor  # [N,4]: two corners, pixels of the network's input
    scores: torch.Tensor  # [N] 0..1
    classes: torch.Tensor  # [N] whole numbers
    masks: torch.Tensor  # [N,n] coefficients of the prototypes

    def __getitem__(self, which: torch.Tensor) -> Candidates:
        return Candidates(
            self.boxes[which], self.scores[which], self.classes[which], self.masks[which]
        )


@dataclass(frozen=True)
class Placement:
    """The place of an image in the network's input: it is scaled, then moved right and down."""

    scale: tuple[float, float]  # input pixels per image pixel, x and y
    left: int
    top: int

    def to_image(self, boxes: torch.Tensor) -> torch.Tensor:
        """Boxes [N,4] in pixels of the input, converted to image pixels."""
        origin = boxes.new_tensor([self.left, self.top] * 2)
        return (boxes - origin) / boxes.new_tensor(self.scale * 2)


class YoloDetector(BoxDetector):
    """Finds the things that a YOLO network was trained for.

    Args:
        place: makes an input [1,3,h,w] of the network from an image [H,W,3] 0..1.
        ask: returns the network's output for an input.
        names: the label of each class.
        with_masks: give detections the mask of the thing, if the network has masks.
    """

    def __init__(
        self,
        place: Callable[[torch.Tensor], tuple[torch.Tensor, Placement]],
        ask: Callable[[torch.Tensor], NetworkOutput],
        names: dict[int, str],
        with_masks: bool = False,
    ) -> None:
        self.place = place
        self.ask = ask
        self.names = names
        self.with_masks = with_masks

    def find(self, image: torch.Tensor, threshold: float) -> Sequence[Detection]:
        """See `BoxDetector.find`; takes an image [H,W,C] 0..1."""
        rgb = image[..., :3].expand(-1, -1, 3).float().cpu()
        pixels, placement = self.place(rgb)
        answer = self.ask(pixels)
        found = candidates(answer.predictions.float(), answer.layout, threshold)
        if answer.layout.kind != "finished":
            found = suppress(found)
        found = found[found.scores.argsort(descending=True, stable=True)[:MOST]]
        image_size = Size(image.shape[1], image.shape[0])
        size = Size(pixels.shape[3], pixels.shape[2])
        corners = placement.to_image(found.boxes)
        finds = []
        for index, corner in enumerate(corners):
            box = outer_box(corner.tolist()).clipped(image_size)
            if box.empty:
                continue
            mask = None
            if self.with_masks and answer.prototypes is not None:
                prototypes = answer.prototypes.float()
                logits = torch.einsum("n,nhw->hw", found.masks[index], prototypes)
                mask = box_mask(logits, box, placement, size)
                if not mask.any():
                    continue
            number = int(found.classes[index])
            label = self.names.get(number, str(number))
            finds.append(Detection(box, float(found.scores[index]), label, mask))
        return finds


def outer_box(corners: Sequence[float]) -> Box:
    """The smallest whole-pixel box around two corners."""
    x1, y1, x2, y2 = np.nan_to_num(np.asarray(corners, dtype=float), posinf=_FAR, neginf=-_FAR)
    return Box.of((np.floor(x1), np.floor(y1), np.ceil(x2), np.ceil(y2)))


# The input of the network


def letterbox(
    image: torch.Tensor, longest: int, stride: int, square: bool = False
) -> tuple[torch.Tensor, Placement]:
    """Scale an image to a length of its longer side, and pad it with grey.

    Args:
        image: [H,W,3] 0..1.
        longest: pixels of the longer side.
        stride: both sides of the input become multiples of this.
        square: pad to a square instead.

    Returns:
        The input [1,3,h,w] 0..1, and the place of the image in it.
    """
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    inner = Size(max(1, round(width * scale)), max(1, round(height * scale)))
    outer = Size(*(longest if square else -(-side // stride) * stride for side in inner))
    return _placed(image, inner, outer)


def fit(image: torch.Tensor, size: Size) -> tuple[torch.Tensor, Placement]:
    """Scale an image [H,W,3] 0..1 into an input [1,3,h,w] of a fixed size, padded with grey."""
    height, width = image.shape[:2]
    scale = min(size.width / width, size.height / height)
    inner = Size(max(1, round(width * scale)), max(1, round(height * scale)))
    return _placed(image, inner, size)


def _placed(image: torch.Tensor, inner: Size, outer: Size) -> tuple[torch.Tensor, Placement]:
    height, width = image.shape[:2]
    planes = image.movedim(-1, 0)[None].float()
    if (width, height) != tuple(inner):  # linear without averaging, as in training
        planes = torch.nn.functional.interpolate(
            planes, (inner.height, inner.width), mode="bilinear", align_corners=False
        )
    left = (outer.width - inner.width) // 2
    top = (outer.height - inner.height) // 2
    pixels = planes.new_full((1, 3, outer.height, outer.width), _GREY)
    pixels[:, :, top : top + inner.height, left : left + inner.width] = planes
    return pixels, Placement((inner.width / width, inner.height / height), left, top)


# The output of the network


def guess_layout(shape: Sequence[int], size: Size, masks: int) -> Layout:
    """The layout of predictions [rows, columns], guessed from their shape.

    It is recognised by the number of boxes: YOLOv5 has three for each cell of its three grids, and
    YOLOv8 and related networks have one.

    Args:
        size: size of the network's input.
        masks: number of mask coefficients.

    Raises:
        ValueError: the shape fits none of `KINDS`.
    """
    rows, columns = shape
    cells = sum(-(-size.width // step) * -(-size.height // step) for step in (8, 16, 32))
    if columns == cells and rows > 4 + masks:
        return Layout("columns", rows - 4 - masks, masks)
    if rows == 3 * cells and columns > 5 + masks:
        return Layout("objects", columns - 5 - masks, masks)
    if columns == 6 + masks:
        return Layout("finished", None, masks)
    if columns > rows > 4 + masks:
        return Layout("columns", rows - 4 - masks, masks)
    raise ValueError(
        f"The network's predictions have the shape {list(shape)}, which is not that of YOLOv5, "
        "YOLOv8 or a related network. Export the model with `yolo export format=onnx`."
    )


def candidates(predictions: torch.Tensor, layout: Layout, threshold: float) -> Candidates:
    """The boxes with a score above the threshold, each with its best class.

    Args:
        predictions: [rows, columns], as `layout` describes them.
        threshold: 0..1.
    """
    masks = layout.masks
    if layout.kind == "finished":
        boxes, scores = predictions[:, :4], predictions[:, 4]
        found = Candidates(boxes, scores, predictions[:, 5].long(), predictions[:, 6 : 6 + masks])
        return found[scores > threshold]
    rows = predictions.T if layout.kind == "columns" else predictions
    first = 4 if layout.kind == "columns" else 5
    last = first + layout.classes
    scores, classes = rows[:, first:last].max(dim=1)
    if layout.kind == "objects":
        scores = scores * rows[:, 4]
    kept = scores > threshold
    rows = rows[kept]
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    return Candidates(boxes, scores[kept], classes[kept], rows[:, last : last + masks])


def suppress(found: Candidates, same: float = SAME, most: int = MOST) -> Candidates:
    """Non-maximum suppression within each class; the highest scores first.

    Args:
        same: two boxes with a higher intersection over union are one thing.
        most: the number of boxes to keep.
    """
    from torchvision.ops import batched_nms

    order = found.scores.argsort(descending=True, stable=True)
    found = found[order[:CANDIDATES]]
    if not len(found.scores):
        return found
    boxes = found.boxes.double().nan_to_num(0.0, _FAR, -_FAR)
    # batched_nms separates classes by moving their boxes, so coordinates have to begin at 0.
    kept = batched_nms(boxes - boxes.min(), found.scores.double(), found.classes, same)
    if len(kept) > most:
        note("detector", f"More than {most} things are found; the least sure ones are left out.")
    return found[kept[:most]]


def box_mask(logits: torch.Tensor, box: Box, placement: Placement, size: Size) -> torch.Tensor:
    """The part of a mask inside a box.

    Args:
        logits: [h,w] over the whole input of the network; pixels above 0 belong to the thing.
        box: in image pixels.
        placement: the place of the image in the input.
        size: size of the input.

    Returns:
        [box.height, box.width] float 0 or 1.
    """
    x = (torch.arange(box.x1, box.x2) + 0.5) * placement.scale[0] + placement.left
    y = (torch.arange(box.y1, box.y2) + 0.5) * placement.scale[1] + placement.top
    x, y = x / size.width * 2 - 1, y / size.height * 2 - 1  # -1..1 from edge to edge
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    values = torch.nn.functional.grid_sample(
        logits[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return (values[0, 0] > 0).float()


# A network of the ultralytics package


def ultralytics_detector(file: YoloFile, network: Network, with_masks: bool) -> YoloDetector:
    """A detector that runs a network from a .pt file.

    Args:
        network: runs the module of the file.
        with_masks: see `YoloDetector`.
    """
    head = file.network.model[-1]
    count = getattr(head, "nm", 0)  # number of prototypes

    def place(image: torch.Tensor) -> tuple[torch.Tensor, Placement]:
        return letterbox(image, file.image_size, file.stride)

    def ask(pixels: torch.Tensor) -> NetworkOutput:
        with torch.inference_mode(), network.on_device() as device:
            predictions, *further = _tensors(network.module(pixels.to(device)))
            maps = [found for found in further if found.ndim == 4 and found.shape[1] == count]
            finest = max(maps, key=lambda found: found.shape[2], default=None)
            prototypes = None if finest is None else finest[0].cpu()
            masks = 0 if prototypes is None else count
            if getattr(head, "end2end", False):
                layout = Layout("finished", None, masks)
            else:
                layout = Layout("columns", head.nc, masks)
            return NetworkOutput(predictions[0].cpu(), layout, prototypes)

    return YoloDetector(place, ask, file.names, with_masks)


def _tensors(answer: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists, tuples and mappings, in order."""
    if isinstance(answer, torch.Tensor):
        yield answer
    elif isinstance(answer, list | tuple | dict):
        for part in answer.values() if isinstance(answer, dict) else answer:
            yield from _tensors(part)
