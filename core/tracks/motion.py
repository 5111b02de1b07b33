"""How a thing moves between frames, measured in the pixels.

The boxes of detectors are jittered by some percent of their size. The pixels tell the motion
between two frames far more exactly: to some hundredths of a pixel. So a track takes its slow course
from the boxes, and its motion from here.

What the boxes show in one frame is registered on another one by an affine map (a head that turns
gets narrower), by least squares from coarse to fine (B. Lucas & T. Kanade, 1981; S. Baker & I.
Matthews, "Lucas-Kanade 20 years on", 2004). Pixels that do not fit count less and less (J. Tukey's
biweight), those at the edge of the box count little, and brightness and contrast are fitted along.

Motion from frame to frame alone adds up to a drift: what lies still behind a thing pulls a little
at every step. So each frame is registered on those 1, 2, 4, ... frames before as well (`LAGS`).
Where such a registration begins is what the shorter ones give, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ..clips import Frame
from ..geometry import Box, Rect
from ..pixels.colour import LUMINANCE, MAD_TO_SPREAD
from ..pixels.image import pad_edge, to_rgb
from ..pixels.precision import in_double, in_float32

LAGS = (1, 2, 4, 8, 16, 32)  # frames between two that are registered; each twice the one before
SIDES = (32, 64)  # pixels of the sides at which pictures are compared; each twice the one before
TAPER = 1.2  # how far the weight reaches beyond the ellipse in the box
BLOCK = 8  # pixels of the sides of blocks that err independently, in pictures and in frames
FITTED = 8  # values that are fitted: six of the map, brightness and contrast
MARGIN = 0.25  # of the box on each side: what a thing may move into
COARSE = ((0.05, 4), (0.02, 3), (0.01, 4))  # blur as a share of the side, and rounds at it
FINE = ((0.015, 3),)  # the same where the motion is known already
SAMPLED = 7  # every so many pixels are enough to tell their spread
TUKEY = 4.685  # J. Tukey's constant: 95% efficiency on normally distributed errors
FAR = 0.2  # of the box: a motion beyond what is expected that is not believed
STRETCH = 0.1  # spread of the stretch that is expected, of things that turn
ALIKE = 0.7  # correlation from which on two pictures show the same
SURE = 0.03  # pixels: no motion is known better
_TEXTURE = 1e-4  # least variance of the pixels that are compared


@dataclass(frozen=True)
class Patch:
    """What a square around a thing shows in one frame.

    Attributes:
        picture: [s,s], luma.
        inside: [s,s] bool, where the square is inside of the frame.
        weight: [s,s], how much each pixel belongs to the thing.
        box: the square in pixels of the frame; it may leave the frame.
    """

    picture: torch.Tensor
    inside: torch.Tensor
    weight: torch.Tensor
    box: Box

    @property
    def middle(self) -> complex:
        """The middle of the square."""
        return complex(self.box.x1 + self.box.x2, self.box.y1 + self.box.y2) / 2

    @property
    def half(self) -> float:
        """Half the side of the square."""
        return self.box.width / 2

    @property
    def side(self) -> int:
        """Pixels of the side of the picture."""
        return self.picture.shape[-1]

    def reduced(self, side: int) -> Patch:
        """The patch with a picture of a smaller side, or as it is."""
        if side >= self.side:
            return self
        picture, inside, weight = (
            F.avg_pool2d(own[None].float(), self.side // side)[0]
            for own in (self.picture, self.inside, self.weight)
        )
        return Patch(picture, inside > 0.99, weight, self.box)


@dataclass(frozen=True, slots=True)
class Motion:
    """An affine map from places in one frame to the same places of a thing in another one.

    A place is the complex number x + iy in pixels of the frame, and goes to
    `factor * place + stretch * conj(place) + shift`: the factor grows and turns a thing, the
    stretch makes it wider and lower, or shears it.

    Attributes:
        error: spread of the error of where the thing's middle goes, in pixels; infinite where
            nothing was measured.
        growth_error: spread of the error of the growth.
        doubt: by how much both are larger than what the pixels tell.
    """

    factor: complex = 1.0
    stretch: complex = 0.0
    shift: complex = 0.0
    error: float = math.inf
    growth_error: float = math.inf
    doubt: float = 1.0

    @property
    def measured(self) -> bool:
        """Whether it was measured, and not just expected."""
        return math.isfinite(self.error)

    @property
    def growths(self) -> tuple[float, float]:
        """Logarithms of the factors by which width and height change."""
        return tuple(
            math.log(max(abs(own), 1e-6))
            for own in (self.factor + self.stretch, self.factor - self.stretch)
        )

    def doubted(self, factor: float) -> Motion:
        """The same, trusted less: its errors are larger by a factor."""
        return replace(
            self, error=self.error * factor, growth_error=self.growth_error * factor,
            doubt=self.doubt * factor,
        )  # fmt: skip

    def after(self, first: Motion) -> Motion:
        """The motion that is `first` and then this one; as expected, not as measured."""
        return Motion(
            self.factor * first.factor + self.stretch * first.stretch.conjugate(),
            self.factor * first.stretch + self.stretch * first.factor.conjugate(),
            self.at(first.shift),
        )

    def at(self, place: complex) -> complex:
        """Where a place goes."""
        return self.factor * place + self.stretch * place.conjugate() + self.shift


def expected(before: Rect, after: Rect) -> Motion:
    """The motion that two boxes tell."""
    factor = math.sqrt(after.width * after.height / max(before.width * before.height, 1e-9))
    shift = complex(after.x, after.y) - factor * complex(before.x, before.y)
    return Motion(complex(factor), 0j, shift)


def _square_side(rect: Rect) -> int:
    return max(4, math.ceil(max(rect.width, rect.height) * (1 + 2 * MARGIN)))


def patch_of(frame: Frame, rect: Rect) -> Patch | None:
    """The patch of a thing whose box is about there; None where most of it is outside."""
    length = _square_side(rect)
    side = next((side for side in SIDES if side >= length), SIDES[-1])
    left, top = round(rect.x - length / 2), round(rect.y - length / 2)
    box = Box(left, top, left + length, top + length)
    part = box.clipped(frame.size)
    if part.area < 0.5 * box.area:
        return None
    missing = (part.x1 - box.x1, box.x2 - part.x2, part.y1 - box.y1, box.y2 - part.y2)
    rgb = to_rgb(frame.part(part))[0].float()
    luma = (rgb * rgb.new_tensor(LUMINANCE)).sum(-1, keepdim=True)
    inside = luma.new_zeros(1, length, length, 1)
    rows = slice(missing[2], length - missing[3])
    inside[:, rows, missing[0] : length - missing[1]] = 1
    both = torch.cat([pad_edge(luma, missing), inside], dim=-1).movedim(-1, 1)
    small = F.interpolate(both, (side, side), mode="bilinear", antialias=True)[0]
    # a view would hold the other half of `small` too
    return Patch(small[0].clone(), small[1] > 0.99, _taper(rect, length, small[0]), box)


def _taper(rect: Rect, length: int, like: torch.Tensor) -> torch.Tensor:
    """[s,s]: 1 in the middle of the box, falling to 0 a little beyond the ellipse in it."""
    y, x = _axes(like)
    across, down = rect.width / length, rect.height / length
    return (1 - ((x / across) ** 2 + (y / down) ** 2) / TAPER).clamp(min=0)


def _axes(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """y and x [s,s] of the pixels of a patch, from -1 to 1."""
    side = like.shape[-1]
    axis = (torch.arange(side, device=like.device, dtype=torch.float32) + 0.5) / side * 2 - 1
    return torch.meshgrid(axis, axis, indexing="ij")


@dataclass(frozen=True)
class Pair:
    """Two patches that are to be compared, and the motion that is expected.

    Attributes:
        near: whether the motion is known to some tenths of a pixel already.
    """

    before: Patch
    after: Patch
    start: Motion
    near: bool = False

    def reduced(self, side: int) -> Pair:
        """The pair with pictures of this side."""
        return replace(self, before=self.before.reduced(side), after=self.after.reduced(side))


@in_float32
def motions(pairs: Sequence[Pair]) -> list[Motion]:
    """What moved in each pair; where that cannot be told, what was expected."""
    results = [pair.start for pair in pairs]
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, pair in enumerate(pairs):
        side = min(pair.before.side, pair.after.side)  # the finer one shows no more than the other
        groups.setdefault((side, pair.near), []).append(place)
    for (side, near), places in groups.items():
        own = [pairs[place].reduced(side) for place in places]
        for place, found in zip(places, _registered(own, FINE if near else COARSE), strict=True):
            results[place] = _in_pixels(found, pairs[place])
    return results


@dataclass(frozen=True)
class _Found:
    """A motion in units of patches, half of whose side is 1."""

    factor: complex
    stretch: complex
    shift: complex
    error: float
    growth_error: float
    likeness: float


def _start(pair: Pair) -> tuple[complex, complex, complex]:
    """Factor, stretch and shift of the motion that is expected, in units of the patches."""
    before, after, start = pair.before, pair.after, pair.start
    ratio = before.half / after.half
    shift = (start.at(before.middle) - after.middle) / after.half
    return start.factor * ratio, start.stretch * ratio, shift


def _in_pixels(found: _Found, pair: Pair) -> Motion:
    before, after = pair.before, pair.after
    factor, _, shift = _start(pair)
    far = max(abs(found.shift - shift) * (1 + 2 * MARGIN) / 2, abs(found.factor / factor - 1))
    if far > FAR or found.likeness < ALIKE or not math.isfinite(found.error):
        return replace(pair.start, error=math.inf, growth_error=math.inf)
    ratio = after.half / before.half
    about = Motion(found.factor * ratio, found.stretch * ratio)
    return replace(
        about,
        shift=after.middle + found.shift * after.half - about.at(before.middle),
        error=max(found.error * after.half, SURE),
        growth_error=max(found.growth_error, SURE / after.half),
    )


def _registered(pairs: Sequence[Pair], levels: Sequence[tuple[float, int]]) -> list[_Found]:
    """How the second of each pair lies on the first."""
    before, after = (
        torch.stack([getattr(pair, name).picture.float() for pair in pairs])
        for name in ("before", "after")
    )
    side = before.shape[-1]
    y, x = _axes(before)
    starts = [_start(pair) for pair in pairs]
    pose = before.new_tensor(
        [
            [shift.real, shift.imag, factor.real - 1, factor.imag, stretch.real, stretch.imag]
            for factor, stretch, shift in starts
        ]
    )  # x, y, growth, turn, stretch and shear, in small steps
    first = pose
    seen = torch.stack([pair.after.inside for pair in pairs]).to(before)
    weight = torch.stack([pair.before.weight * pair.before.inside for pair in pairs])
    weight = weight * (_warped(seen, pose, x, y) > 0.99)
    for blur, rounds in levels:
        pictures = [_blurred(each, blur * side) for each in (before, after)]
        slopes = torch.gradient(pictures[0], spacing=2 / side, dim=(1, 2))
        jacobian = torch.stack(
            [
                slopes[1],
                slopes[0],
                x * slopes[1] + y * slopes[0],
                x * slopes[0] - y * slopes[1],
                x * slopes[1] - y * slopes[0],
                y * slopes[1] + x * slopes[0],
            ],
            -1,
        ).flatten(1, 2)
        for _ in range(rounds):
            step, likeness, fit = _improvement(pictures, jacobian, weight, pose, x, y)
            pose = first + (pose + step - first).clamp(-2 * FAR, 2 * FAR)
    magnified = torch.tensor([_magnified(pair) for pair in pairs], device=weight.device)
    error = _errors(fit, side, magnified)
    return [
        _Found(
            complex(1 + growth, turn),
            complex(wide, shear),
            complex(across, down),
            wrong,
            wrong_growth,
            alike,
        )
        for (across, down, growth, turn, wide, shear), (wrong, wrong_growth), alike in zip(
            pose.tolist(), error.tolist(), likeness.tolist(), strict=True
        )
    ]


@dataclass(frozen=True)
class _Fit:
    """What a step is made from.

    Attributes:
        pulls: [N,6,p], what each pixel pulls at each value.
        weight: [N,p], how much each pixel counts.
        inverse: [N,6,6], of the matrix of the normal equations.
    """

    pulls: torch.Tensor
    weight: torch.Tensor
    inverse: torch.Tensor


def _magnified(pair: Pair) -> bool:
    """Whether a block of the pictures is less than one of the frames."""
    side = min(pair.before.side, pair.after.side)
    return min(pair.before.box.width, pair.after.box.width) < side


def _warped(
    pictures: torch.Tensor, pose: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Pictures [N,s,s] at the places to which each pose [N,6] moves x and y."""
    across, down, growth, turn, wide, shear = (own[:, None, None] for own in pose.T)
    new_x = across + (1 + growth + wide) * x - (turn - shear) * y
    new_y = down + (1 + growth - wide) * y + (turn + shear) * x
    grid = torch.stack([new_x, new_y], dim=-1)
    return F.grid_sample(
        pictures[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]


def _improvement(
    pictures: Sequence[torch.Tensor], jacobian: torch.Tensor, weight: torch.Tensor,
    pose: torch.Tensor, x: torch.Tensor, y: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, _Fit]:  # fmt: skip
    """A Gauss-Newton step [N,6], the likeness [N], and what the step was made from."""
    before, after = pictures
    warped = _warped(after, pose, x, y)
    mass = weight.sum((1, 2), keepdim=True).clamp(min=1e-6)
    one, other, likeness = _matched(before, warped, weight, mass)
    residual = (one - other).flatten(1)
    counted = weight.flatten(1)[:, ::SAMPLED] > 0.05
    spread = MAD_TO_SPREAD * _median(residual[:, ::SAMPLED].abs(), counted)
    robust = (1 - (residual / (TUKEY * spread + 1e-4)) ** 2).clamp(min=0) ** 2
    own = weight.flatten(1) * robust
    weighted = jacobian.mT * own[:, None]
    normal = weighted @ jacobian
    right = (weighted @ residual[..., None])[..., 0]
    diagonal = normal.diagonal(dim1=1, dim2=2)
    normal = normal + torch.diag_embed(1e-6 * diagonal + 1e-9)
    firm = spread[:, 0] ** 2 / STRETCH**2 + 1e-9
    normal[:, 4, 4] += firm
    normal[:, 5, 5] += firm
    right[:, 4:] -= firm[:, None] * pose[:, 4:]
    inverse = torch.linalg.inv(in_double(normal)).to(normal)
    step = torch.einsum("nij,nj->ni", inverse, right)
    scale = pose[:, 2:3] + 1  # slopes are those of the first picture, steps are of the second
    return step * scale, likeness, _Fit(weighted * residual[:, None], own, inverse)


def _errors(fit: _Fit, side: int, magnified: torch.Tensor) -> torch.Tensor:
    """[N,2]: the spread of the errors of the shift, the mean of both axes, and of the growth.

    Pixels near one another err together, so what each block of pixels pulls at the fit [N,6,p] is
    taken as independent of other blocks, and not each pixel (the sandwich estimator for clusters:
    K.-Y. Liang & S. Zeger, 1986). What is fitted takes part of the error away; so the fewer blocks
    there are, the more is added (as in the unbiased estimate of a variance).

    Args:
        magnified: [N] bool, where pixels were magnified, so that larger blocks err together.
    """
    small, large = (_variances(fit, side, block) for block in (BLOCK, 2 * BLOCK))
    return torch.where(magnified[:, None], large, small).clamp(min=0).sqrt()


def _variances(fit: _Fit, side: int, block: int) -> torch.Tensor:
    """[N,2]: the squares of `_errors`, for one size of blocks."""
    blocks, counted = (
        F.avg_pool2d(own.unflatten(-1, (side, side)), block, divisor_override=1).flatten(2)
        for own in (fit.pulls, fit.weight[:, None])
    )
    spread = (fit.inverse @ (blocks @ blocks.mT) @ fit.inverse).diagonal(dim1=1, dim2=2)
    count = (counted.sum(-1) ** 2 / (counted**2).sum(-1).clamp(min=1e-12))[:, 0]  # effective
    unbiased = count / (count - FITTED).clamp(min=1)
    return torch.stack([spread[:, :2].mean(1), spread[:, 2]], 1) * unbiased[:, None]


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
