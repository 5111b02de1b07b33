"""How a thing moves from one frame to the next, measured in the pixels.

The boxes of detectors are jittered by some percent of their size. The pixels tell the motion
between two frames far more exactly: to some hundredths of a pixel. So a track takes its slow course
from the boxes, and its motion from frame to frame from here.

What the boxes show in one frame is registered on the next by a similarity (shift, scale, rotation),
by least squares from coarse to fine (B. Lucas & T. Kanade, 1981; S. Baker & I. Matthews,
"Lucas-Kanade 20 years on", 2004). Pixels that do not fit count less and less (J. Tukey's
biweight), those at the edge of the box count little, and brightness and contrast are fitted along.
All steps of some frames are computed side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..geometry import Box, Rect, Size
from ..pixels.colour import LUMINANCE
from ..pixels.image import pad_edge, to_rgb
from ..pixels.precision import in_float32

SIDES = (32, 48, 64)  # pixels of the sides at which pictures are compared
TAPER = 1.2  # how far the weight reaches beyond the ellipse in the box
BLOCK = 8  # pixels of the sides of blocks that err independently
MARGIN = 0.25  # of the box on each side: what a thing may move into
BLURS = (0.05, 0.02, 0.01)  # of the side, from coarse to fine
ROUNDS = (4, 3, 4)  # of the refinement at each
SAMPLED = 7  # every so many pixels are enough to tell their spread
TUKEY = 4.685  # J. Tukey's constant: 95% efficiency on normally distributed errors
FAR = 0.2  # of the box: a motion beyond what the boxes tell that is not believed
ALIKE = 0.7  # correlation from which on two pictures show the same
SURE = 0.03  # pixels: no step is known better
_TEXTURE = 1e-4  # least variance of the pixels that are compared


@dataclass(frozen=True)
class Step:
    """From one frame to the next: what of both is compared.

    The two boxes are of one size; they may leave the frame.
    """

    first: int  # place of the first of the two frames in what is read
    before: Box
    after: Box


@dataclass(frozen=True)
class Moved:
    """What a comparison gave.

    Attributes:
        shift: of the centre, beyond that of the boxes: x and y in pixels of the frame.
        growth: logarithm of the factor by which the size changes.
        error: spread of the shift's error in pixels; infinite where nothing can be said.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    growth: float = 0.0
    error: float = math.inf


def step_between(first: int, before: Rect, after: Rect) -> Step:
    """The step between two places of a thing, in whole pixels."""
    width, height = (max(4, math.ceil(side * (1 + 2 * MARGIN))) for side in _larger(before, after))
    boxes = []
    for rect in (before, after):
        left, top = round(rect.x - width / 2), round(rect.y - height / 2)
        boxes.append(Box(left, top, left + width, top + height))
    return Step(first, *boxes)


def _larger(one: Rect, other: Rect) -> tuple[float, float]:
    return max(one.width, other.width), max(one.height, other.height)


@in_float32
def moved(frames: Sequence[torch.Tensor], steps: Sequence[Step]) -> list[Moved]:
    """What moved in each step.

    Args:
        frames: the frames that the steps count, each [1,H,W,C] 0..1.
    """
    results = [Moved()] * len(steps)
    size = Size(frames[0].shape[2], frames[0].shape[1]) if steps else Size(0, 0)
    by_side: dict[int, list[int]] = {}
    for place, step in enumerate(steps):
        if all(_mostly_inside(box, size) for box in (step.before, step.after)):
            by_side.setdefault(_side_of(step.before), []).append(place)
    for side, places in by_side.items():
        pairs = [_pictures(frames, steps[place], side) for place in places]
        before, after, inside = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        found = _registered(before, after, inside)
        for place, own in zip(places, found, strict=True):
            results[place] = _in_pixels(own, steps[place].before, side)
    return results


def _mostly_inside(box: Box, size: Size) -> bool:
    return box.clipped(size).area >= 0.5 * box.area


def _side_of(box: Box) -> int:
    """The least of SIDES that loses nothing, or the largest."""
    longest = max(box.size)
    return next((side for side in SIDES if side >= longest), SIDES[-1])


def _pictures(
    frames: Sequence[torch.Tensor], step: Step, side: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both pictures [side,side] in luma, and [side,side] where both are inside of the frame."""
    pictures, inside = [], None
    for place, box in ((step.first, step.before), (step.first + 1, step.after)):
        picture, own = _cut(frames[place], box, side)
        pictures.append(picture)
        inside = own if inside is None else inside * own
    return pictures[0], pictures[1], inside


def _cut(frame: torch.Tensor, box: Box, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = Size(frame.shape[2], frame.shape[1])
    part = box.clipped(size)
    missing = (part.x1 - box.x1, box.x2 - part.x2, part.y1 - box.y1, box.y2 - part.y2)
    rgb, _ = to_rgb(frame[:, part.y1 : part.y2, part.x1 : part.x2])
    luma = (rgb.float() * rgb.new_tensor(LUMINANCE, dtype=torch.float32)).sum(-1, keepdim=True)
    inside = luma.new_zeros(1, box.height, box.width, 1)
    rows = slice(missing[2], box.height - missing[3])
    inside[:, rows, missing[0] : box.width - missing[1]] = 1
    both = torch.cat([pad_edge(luma, missing), inside], dim=-1).movedim(-1, 1)
    small = F.interpolate(both, (side, side), mode="bilinear", antialias=True)[0]
    return small[0], (small[1] > 0.99).to(small)


@dataclass(frozen=True)
class _Found:
    """In units of the compared pictures: half their side is 1."""

    x: float
    y: float
    growth: float
    error: float  # of the shift
    likeness: float


def _registered(before: torch.Tensor, after: torch.Tensor, inside: torch.Tensor) -> list[_Found]:
    """How each picture of `after` [N,s,s] lies on that of `before`; `inside` is 0 or 1."""
    count, side, _ = before.shape
    axis = (torch.arange(side, device=before.device, dtype=before.dtype) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    core = 1 / (1 + 2 * MARGIN)  # where the box ends
    taper = (1 - ((x / core) ** 2 + (y / core) ** 2) / TAPER).clamp(min=0)
    weight = inside * taper
    pose = before.new_zeros(count, 4)  # x, y, growth and turn, in small steps
    for blur, rounds in zip(BLURS, ROUNDS, strict=True):
        pictures = [_blurred(each, blur * side) for each in (before, after)]
        slopes = torch.gradient(pictures[0], spacing=2 / side, dim=(1, 2))
        jacobian = torch.stack(
            [slopes[1], slopes[0], x * slopes[1] + y * slopes[0], x * slopes[0] - y * slopes[1]], -1
        ).flatten(1, 2)
        for _ in range(rounds):
            step, error, likeness = _improvement(pictures, jacobian, weight, pose, x, y)
            pose = (pose + step).clamp(-2 * FAR, 2 * FAR)
    shift = pose[:, :2].tolist()
    return [
        _Found(own[0], own[1], growth, wrong, alike)
        for own, growth, wrong, alike in zip(
            shift, pose[:, 2].tolist(), error.tolist(), likeness.tolist(), strict=True
        )
    ]


def _improvement(
    pictures: Sequence[torch.Tensor], jacobian: torch.Tensor, weight: torch.Tensor,
    pose: torch.Tensor, x: torch.Tensor, y: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """A Gauss-Newton step [N,4], the error of the shift [N] and the likeness [N]."""
    before, after = pictures
    grid = torch.stack(
        [
            x + pose[:, 0, None, None] + pose[:, 2, None, None] * x - pose[:, 3, None, None] * y,
            y + pose[:, 1, None, None] + pose[:, 2, None, None] * y + pose[:, 3, None, None] * x,
        ],
        dim=-1,
    )
    warped = F.grid_sample(
        after[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]
    mass = weight.sum((1, 2), keepdim=True).clamp(min=1e-6)
    one, other, likeness = _matched(before, warped, weight, mass)
    residual = (one - other).flatten(1)
    spread = 1.4826 * _median(residual[:, ::SAMPLED].abs(), weight.flatten(1)[:, ::SAMPLED] > 0.05)
    robust = (1 - (residual / (TUKEY * spread + 1e-4)) ** 2).clamp(min=0) ** 2
    own = weight.flatten(1) * robust
    weighted = jacobian.mT * own[:, None]
    normal = weighted @ jacobian
    right = (weighted @ residual[..., None])[..., 0]
    diagonal = normal.diagonal(dim1=1, dim2=2)
    normal = normal + torch.diag_embed(1e-6 * diagonal + 1e-9)
    inverse = torch.linalg.inv(normal.double()).to(normal)
    step = torch.einsum("nij,nj->ni", inverse, right)
    return step, _error(weighted * residual[:, None], inverse, before.shape[-1]), likeness


def _error(pulls: torch.Tensor, inverse: torch.Tensor, side: int) -> torch.Tensor:
    """[N]: the spread of the shift's error, the mean of both axes.

    Pixels near one another err together, so what each block of pixels pulls at the fit [N,4,p] is
    taken as independent of other blocks, and not each pixel (the sandwich estimator for clusters:
    K.-Y. Liang & S. Zeger, 1986).
    """
    blocks = F.avg_pool2d(pulls.unflatten(-1, (side, side)), BLOCK, divisor_override=1).flatten(2)
    spread = inverse @ (blocks @ blocks.mT) @ inverse
    return spread.diagonal(dim1=1, dim2=2)[:, :2].mean(1).clamp(min=0).sqrt()


def _matched(
    before: torch.Tensor, after: torch.Tensor, weight: torch.Tensor, mass: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both pictures [N,s,s] about their means, the second with the contrast of the first."""
    one = before - (before * weight).sum((1, 2), keepdim=True) / mass
    other = after - (after * weight).sum((1, 2), keepdim=True) / mass
    squares = [(each**2 * weight).sum((1, 2), keepdim=True) / mass for each in (one, other)]
    product = (one * other * weight).sum((1, 2), keepdim=True) / mass
    gain = (product / squares[1].clamp(min=1e-9)).clamp(0.5, 2.0)
    likeness = product / (squares[0] * squares[1]).sqrt().clamp(min=1e-9)
    likeness = torch.where(squares[0] > _TEXTURE, likeness, 0.0)
    return one, other * gain, likeness[:, 0, 0]


def _median(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """[N,1]: the median of the chosen values of each row [N,p]."""
    return torch.where(chosen, values, torch.nan).nanmedian(dim=1, keepdim=True).values.nan_to_num()


def _blurred(pictures: torch.Tensor, sigma: float) -> torch.Tensor:
    """Pictures [N,s,s] after a Gaussian blur of this many pixels."""
    reach = max(1, math.ceil(3 * sigma))
    place = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.softmax(-(place**2) / (2 * sigma**2), 0)
    planes = F.pad(pictures[:, None], (reach,) * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[None, None, :, None])
    return F.conv2d(planes, kernel[None, None, None])[:, 0]


def _in_pixels(found: _Found, box: Box, side: int) -> Moved:
    half = box.width / 2, box.height / 2
    shift = found.x * half[0], found.y * half[1]
    far = max(abs(found.x), abs(found.y)) * (1 + 2 * MARGIN) / 2 > FAR or abs(found.growth) > FAR
    if far or found.likeness < ALIKE or not math.isfinite(found.error):
        return Moved()
    return Moved(shift, math.log1p(found.growth), max(found.error * max(half), SURE))
