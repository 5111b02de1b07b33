"""Faces and five points of each face, found by MTCNN, a cascade of three small networks.

Source: Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks" (2016). The first network looks at every place of an image at many scales,
and proposes boxes. The second rejects most of them. The third decides, and gives the points.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ..geometry import Size
from ..memory import persist
from ..pixels.image import image_name, to_rgb
from ..pixels.resample import averaged
from .base import BoxDetector, Detection
from .network import Network
from .yolo import outer_box

LABEL = "face"
SMALLEST = 20  # side in pixels of the smallest face that is looked for by default
POINTS = (  # of a face; "right" is the right of the person, on the left of the picture
    "right eye", "left eye", "tip of the nose", "right corner of the mouth",
    "left corner of the mouth",
)  # fmt: skip

CELL = 12  # side in pixels of the squares that the first network scores
STRIDE = 2  # pixels from one such square to the next
SHRINK = 0.709  # factor of the sides from one scale to the next: half the area, as in the paper
PROPOSED, REFINED = 0.6, 0.7  # the least scores of the first and the second network
SURE = 0.8  # the score of the third network that counts as a confidence of 0.5
SAME_SCALE = 0.5  # proposals of one scale that overlap by more are one face
SAME = 0.7  # boxes of all scales that overlap by more are one face
SIDES = 24, 48  # sides in pixels of the crops that the second and the third network get
CROPS = 512  # crops that a network gets at a time
BAND = 1 << 20  # pixels that the first network gets at a time


# Networks


class Stage(nn.Module):
    """A chain of layers with several heads; all have their names in the weight files."""

    def __init__(self, body: OrderedDict[str, nn.Module], heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self._body, self._heads = tuple(body), tuple(heads)
        for name, layer in (*body.items(), *heads.items()):
            self.add_module(name, layer)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs [N,C] or [N,C,h,w] of the heads for pixels [N,3,h,w] -1..1; with logits."""
        for name in self._body:
            pixels = getattr(self, name)(pixels)
        return tuple(getattr(self, name)(pixels) for name in self._heads)


class Flat(nn.Module):
    """A layer that flattens maps in the order that the weights were trained with."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps [N,C,H,W] as [N,W*H*C]."""
        return maps.permute(0, 3, 2, 1).flatten(1)


def _body(*layers: tuple[int, int, int]) -> OrderedDict[str, nn.Module]:
    """Convolutions, each with a PReLU and an optional max pooling with a stride of 2.

    Args:
        layers: channels, side of the kernel, and side of the pooling or 0, of each.
    """
    body: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for number, (wide, side, pool) in enumerate(layers, 1):
        body[f"conv{number}"] = nn.Conv2d(channels, wide, side)
        body[f"prelu{number}"] = nn.PReLU(wide)
        if pool:
            body[f"pool{number}"] = nn.MaxPool2d(pool, 2, ceil_mode=True)
        channels = wide
    return body


def _dense(body: OrderedDict[str, nn.Module], number: int, narrow: int, wide: int) -> None:
    """Add a dense layer to a body."""
    body["flat"] = Flat()
    body[f"dense{number}"] = nn.Linear(narrow, wide)
    body[f"prelu{number}"] = nn.PReLU(wide)


class FaceNetworks(nn.Module):
    """The three networks.

    Each says whether there is a face, and how its box should be moved. The third also says where
    the points are.
    """

    def __init__(self) -> None:
        super().__init__()
        heads = {"conv4_1": nn.Conv2d(32, 2, 1), "conv4_2": nn.Conv2d(32, 4, 1)}
        self.pnet = Stage(_body((10, 3, 2), (16, 3, 0), (32, 3, 0)), heads)
        body = _body((28, 3, 3), (48, 3, 3), (64, 2, 0))
        _dense(body, 4, 576, 128)
        self.rnet = Stage(body, {"dense5_1": nn.Linear(128, 2), "dense5_2": nn.Linear(128, 4)})
        body = _body((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0))
        _dense(body, 5, 1152, 256)
        heads = {
            "dense6_1": nn.Linear(256, 2), "dense6_2": nn.Linear(256, 4),
            "dense6_3": nn.Linear(256, 2 * len(POINTS)),
        }  # fmt: skip
        self.onet = Stage(body, heads)


# The cascade


@dataclass(frozen=True)
class Faces:
    """Boxes that may be faces; lengths in pixels of the image, on the CPU."""

    boxes: torch.Tensor  # [N,4]: left, top, right, bottom
    scores: torch.Tensor  # [N] 0..1
    points: torch.Tensor  # [N,5,2], x and y of each of POINTS; [N,0,2] before the third network

    def __getitem__(self, which: torch.Tensor) -> Faces:
        return Faces(self.boxes[which], self.scores[which], self.points[which])

    @staticmethod
    def joined(parts: Sequence[Faces]) -> Faces:
        """All faces of several parts, in order."""
        if not parts:
            return Faces(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 0, 2))
        return Faces(*(torch.cat(values) for values in zip(*map(_fields, parts), strict=True)))


def _parts(faces: Faces) -> Iterator[Faces]:
    """Parts of the faces, with at most CROPS each."""
    for first in range(0, len(faces.boxes), CROPS):
        yield faces[torch.arange(first, min(first + CROPS, len(faces.boxes)))]


def _fields(faces: Faces) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return faces.boxes, faces.scores, faces.points


class FaceFinder:
    """Finds faces in front and three-quarter view that lean by up to about 45 degrees.

    Args:
        network: holds `FaceNetworks`.
        smallest: side in pixels of the smallest face that is looked for; at least CELL.
    """

    def __init__(self, network: Network, smallest: float = SMALLEST) -> None:
        self.network = network
        self.smallest = max(float(smallest), CELL)

    def find(self, image: torch.Tensor, threshold: float) -> Faces:
        """The faces in an image [H,W,C] 0..1 with at least this score 0..1, the highest first."""
        return persist(lambda: self._find(image, threshold), image_name(image), "searched")

    def _find(self, image: torch.Tensor, threshold: float) -> Faces:
        with torch.inference_mode(), self.network.on_device() as device:
            rgb, _ = to_rgb(image[None])
            planes = rgb.movedim(-1, 1).to(device, torch.float32).clamp(0, 1)
            levels = halved(planes, CELL)
            networks = self.network.module
            found = self._proposals(networks.pnet, levels)
            found = surest(self._judged(networks.rnet, levels, found, SIDES[0], REFINED), SAME)
            found = self._judged(networks.onet, levels, found, SIDES[1], threshold, SURE)
            found = without_nested(found, SAME)
            sides = (found.boxes[:, 2:] - found.boxes[:, :2]).amax(dim=1)
            found = found[sides >= self.smallest]  # the networks may make boxes smaller
            return self._looked_at_upright(networks.onet, levels, found, threshold)

    def _proposals(self, network: nn.Module, levels: Sequence[torch.Tensor]) -> Faces:
        """The boxes that the first network proposes at all scales of an image."""
        height, width = levels[0].shape[2:]
        parts = []
        for scale in scales(height, width, self.smallest):
            self.network.check_interrupt()
            twice = max(0, int(-math.log2(scale)) - 1)  # the level at least twice as large
            level = levels[min(twice, len(levels) - 1)]
            size = Size(math.ceil(width * scale), math.ceil(height * scale))
            small = _to_input(averaged(level[0], size)[None])
            factor = (width / size.width, height / size.height)
            answers = ((network(band), first) for first, band in bands(small))
            found = [_proposed(answer, first, factor) for answer, first in answers]
            parts.append(surest(Faces.joined(found), SAME_SCALE))
        return surest(Faces.joined(parts), SAME)

    def _judged(
        self, network: nn.Module, levels: Sequence[torch.Tensor], found: Faces, side: int,
        least: float, even: float = 0.5,
    ) -> Faces:  # fmt: skip
        """The boxes that a network confirms as faces, moved as it says.

        Args:
            levels: the result of `halved`.
            side: side in pixels of the crops that the network takes.
            least: the least confidence.
            even: the score of the network that counts as a confidence of 0.5.
        """
        parts = []
        for part in _parts(found):
            boxes = squares(part.boxes)
            scores, moves, places = self._asked(network, crops(levels, boxes, side), even)
            kept = scores >= least
            boxes = boxes[kept]
            points = placed(boxes, places[kept])
            parts.append(Faces(moved(boxes, moves[kept]), scores[kept], points))
        return Faces.joined(parts)

    def _looked_at_upright(
        self, network: nn.Module, levels: Sequence[torch.Tensor], found: Faces, least: float
    ) -> Faces:
        """Faces with the points that the third network gives for a crop that is turned upright.

        It was trained with faces that hardly lean, and underestimates how far a face leans. Where
        it finds no face in the upright crop, the points are kept.
        """
        points = []
        for part in _parts(found):
            boxes, before = squares(part.boxes), part.points
            across = before[:, 1] - before[:, 0]
            angles = torch.atan2(across[:, 1], across[:, 0])
            pixels = crops(levels, boxes, SIDES[1], angles)
            scores, _, places = self._asked(network, pixels, SURE)
            after = placed(boxes, places, angles)
            points.append(torch.where((scores >= least)[:, None, None], after, before))
        return Faces(found.boxes, found.scores, torch.cat(points)) if points else found

    def _asked(
        self, network: nn.Module, pixels: torch.Tensor, even: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Confidences [N], moves [N,4] and places of points [N,2*P] for crops [N,3,h,w] 0..1."""
        self.network.check_interrupt()
        answer = [values.cpu() for values in network(_to_input(pixels))]
        logits, moves = answer[:2]
        places = answer[2] if len(answer) > 2 else moves[:, :0]
        scores = torch.sigmoid(logits[:, 1] - logits[:, 0] - math.log(even / (1 - even)))
        return scores, moves, places


def _to_input(planes: torch.Tensor) -> torch.Tensor:
    """Pixels 0..1 as the networks take them: (8-bit value - 127.5) / 128."""
    return planes * (255 / 128) - 127.5 / 128


def scales(height: int, width: int, smallest: float) -> list[float]:
    """The scales at which faces, from the smallest to the largest possible, fill a CELL."""
    result = []
    scale = CELL / smallest
    while min(height, width) * scale >= CELL:
        result.append(scale)
        scale *= SHRINK
    return result


def bands(planes: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Parts of an image [1,3,h,w] of about BAND pixels, from top to bottom.

    The outputs of the first network for the parts together are its output for the whole image.

    Yields:
        The row of the whole output at which the output for the part begins, and the part.
    """
    height, width = planes.shape[2:]
    rows = (height - CELL + 1) // STRIDE + 1  # of the answer
    step = max(1, BAND // (STRIDE * width))
    for first in range(0, rows, step):
        last = height if first + step >= rows else STRIDE * (first + step - 1) + CELL
        yield first, planes[:, :, STRIDE * first : last]


def _proposed(answer: tuple[torch.Tensor, ...], first: int, factor: tuple[float, float]) -> Faces:
    """The boxes that the first network proposes.

    Args:
        answer: logits [1,2,h,w] and moves [1,4,h,w].
        first: the row of the whole output at which this one begins.
        factor: image pixels per pixel of the scale, x and y.
    """
    scores = answer[0].softmax(dim=1)[0, 1]
    rows, columns = torch.nonzero(scores >= PROPOSED, as_tuple=True)
    moves = answer[1][0, :, rows, columns].T.cpu()
    scores = scores[rows, columns].cpu()
    corner = torch.stack([columns, rows + first], dim=1).cpu() * float(STRIDE)
    boxes = torch.cat([corner, corner + CELL], dim=1) * torch.tensor(factor * 2)
    return Faces(moved(boxes, moves), scores, torch.zeros(len(boxes), 0, 2))


def moved(boxes: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Boxes [N,4] with their edges moved by `moves` [N,4] times their width or height."""
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + moves * sides


def placed(
    boxes: torch.Tensor, places: torch.Tensor, angles: torch.Tensor | None = None
) -> torch.Tensor:
    """Points [N,P,2] in image pixels, from their places in squares.

    Args:
        boxes: squares [N,4] in image pixels.
        places: [N,2*P] 0..1 from edge to edge: the x of all points, then the y.
        angles: [N] radians by which the squares are rotated clockwise.
    """
    offsets = torch.stack(places.chunk(2, dim=1), dim=2) - 0.5
    return _in_squares(boxes, offsets, angles)


def _in_squares(
    boxes: torch.Tensor, offsets: torch.Tensor, angles: torch.Tensor | None
) -> torch.Tensor:
    """Points [N,P,2] at offsets [N or 1,P,2] from the centres of squares, in their sides."""
    if angles is not None:
        x, y = offsets.unbind(-1)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        offsets = torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return middle[:, None] + offsets * (boxes[:, 2] - boxes[:, 0])[:, None, None]


def squares(boxes: torch.Tensor) -> torch.Tensor:
    """The squares [N,4] around the centres of boxes [N,4], as large as their longer sides."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True).clamp(min=1) / 2
    return torch.cat([middle - half, middle + half], dim=1)


def surest(found: Faces, same: float) -> Faces:
    """Non-maximum suppression: of boxes with an intersection over union above `same`, the best.

    The boxes are sorted by score, the highest first.
    """
    from torchvision.ops import nms

    return found[nms(found.boxes, found.scores, same)]


def without_nested(found: Faces, same: float) -> Faces:
    """Of two boxes that share more than `same` of the smaller one, keep the higher score."""
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).clamp(min=0).prod(dim=1)
    left = found.scores.argsort(descending=True, stable=True)
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = torch.maximum(found.boxes[best, :2], found.boxes[left, :2])
        high = torch.minimum(found.boxes[best, 2:], found.boxes[left, 2:])
        common = (high - low).clamp(min=0).prod(dim=1)
        left = left[common <= same * torch.minimum(areas[best], areas[left])]
    return found[torch.tensor(kept, dtype=torch.long)]


# Crops


def halved(planes: torch.Tensor, least: int) -> list[torch.Tensor]:
    """An image [1,3,H,W], and the image at half the size, a quarter and so on, down to `least`."""
    levels = [planes]
    while min(levels[-1].shape[2:]) >= 2 * least:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return levels


def crops(
    levels: Sequence[torch.Tensor],
    boxes: torch.Tensor,
    side: int,
    angles: torch.Tensor | None = None,
) -> torch.Tensor:
    """Square crops of an image, all resized to one size, and black outside the image.

    Each is taken from that level of `halved` where it is one to two times as large as the result.
    Each pixel is the mean of four samples.

    Args:
        levels: the result of `halved`.
        boxes: squares [N,4] in pixels of the image; they may leave the image.
        side: side of the crops in pixels.
        angles: [N] radians by which the squares are rotated clockwise about their centres.

    Returns:
        [N,3,side,side] on the image's device.
    """
    double = 2 * side
    steps = (torch.arange(double) + 0.5) / double - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    offsets = torch.stack([x, y], dim=-1).view(1, -1, 2)
    number = torch.log2((boxes[:, 2] - boxes[:, 0]) / side).floor().clamp(0, len(levels) - 1)
    result = levels[0].new_empty(len(boxes), 3, side, side)
    for index, level in enumerate(levels):
        own = torch.nonzero(number == index)[:, 0]
        if not len(own):
            continue
        size = torch.tensor(level.shape[:1:-1]) * 2**index  # width and height in image pixels
        places = _in_squares(boxes[own], offsets, None if angles is None else angles[own])
        grid = (places / size * 2 - 1).view(1, -1, double, 2)  # -1..1 from edge to edge
        pixels = functional.grid_sample(level, grid.to(level.device), align_corners=False)
        pixels = functional.avg_pool2d(pixels, 2)[0]  # [3,n*side,side]
        result[own.to(result.device)] = pixels.view(3, len(own), side, side).movedim(0, 1)
    return result


# The detector


class MTCNNFaceDetector(BoxDetector):
    """A BBOX_DETECTOR that runs a `FaceFinder`."""

    def __init__(self, finder: FaceFinder) -> None:
        self.finder = finder

    def find(self, image: torch.Tensor, threshold: float) -> Sequence[Detection]:
        """See `BoxDetector.find`; takes an image [H,W,C] 0..1."""
        return as_finds(self.finder.find(image, threshold))


def as_finds(faces: Faces) -> list[Detection]:
    """Faces as detections with whole-pixel boxes."""
    return [
        Detection(outer_box(box), score, LABEL)
        for box, score in zip(faces.boxes.tolist(), faces.scores.tolist(), strict=True)
    ]
