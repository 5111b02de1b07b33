"""The perceptual colour space OKLab, and matching the colours of one picture to another.

OKLab: B. Ottosson, "A perceptual color space for image processing" (2020). Equal distances look
about equal in it, and its axes (lightness, green to red, blue to yellow) are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .mask import grow
from .precision import in_float32

# From linear sRGB to the cones' responses, and from their cube roots to lightness, a and b.
_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_AXES = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
_FROM_CONES, _FROM_AXES = (np.linalg.inv(rows).tolist() for rows in (_CONES, _AXES))
# How much of the light of a colour is red, green and blue: ITU-R BT.709.
LUMINANCE = (0.2126, 0.7152, 0.0722)
FEWEST = 64  # the least pixels of a ring from which colours can be estimated
COARSE = 4  # side in pixels of the cells that are averaged, so that texture does not count
MAD_TO_SPREAD = 1.4826  # the standard deviation of a normal distribution over its MAD
DOUBT = 0.5  # how much disagreement of the cells reduces a shift
# The same for what the ring's shift is more than that of its surroundings. These have the tint of a
# VAE or of a whole repainted crop, but not the drawing, so the rest is more often the drawing's.
DOUBT_OF_THE_REST = 5.0
SOFT = 4  # pixels at an edge that a blurred picture mixes
FLAT = 0.01  # the spread in OKLab below which an area counts as one colour
SAME = 0.002  # OKLab distance below which colours count as equal
MOST_OFF = 3.0  # a cell further from the median than this many usual distances is left out
USUAL = 1.4  # a ratio of contrasts up to this is normal for a redrawn picture, and is kept
WIDEST = 1.25  # the largest factor by which a spread is stretched or shrunk


@in_float32
def to_oklab(rgb: torch.Tensor) -> torch.Tensor:
    """sRGB [...,3] 0..1 as OKLab: lightness 0..1, a and b about -0.4..0.4."""
    low, high = rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4
    cones = torch.where(rgb <= 0.04045, low, high) @ _matrix(_CONES, rgb).T
    return cones.sign() * cones.abs() ** (1 / 3) @ _matrix(_AXES, rgb).T


@in_float32
def from_oklab(lab: torch.Tensor) -> torch.Tensor:
    """OKLab [...,3] as sRGB; a colour outside sRGB has values below 0 or above 1."""
    cones = (lab @ _matrix(_FROM_AXES, lab).T) ** 3
    rgb = cones @ _matrix(_FROM_CONES, lab).T
    low, high = rgb * 12.92, 1.055 * rgb.clamp(min=0) ** (1 / 2.4) - 0.055
    return torch.where(rgb <= 0.0031308, low, high)


def _matrix(rows: Sequence[Sequence[float]], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class Shift:
    """How the colours of an area have to be shifted to those of the original, in OKLab.

    Attributes:
        cells: number of cells.
        weight: sum of the weights of the cells that are not left out.
        mean: [3] of these cells.
        usual: [3] median distance of the cells' shifts from their median.
    """

    cells: int
    weight: torch.Tensor
    mean: torch.Tensor
    usual: torch.Tensor

    @classmethod
    def of_all(cls, shifts: Sequence[Shift]) -> Shift | None:
        """One shift for all frames; None if the area is too small for an estimate."""
        cells = sum(shift.cells for shift in shifts)
        if cells * COARSE**2 < FEWEST:
            return None
        weights = torch.stack([shift.weight for shift in shifts])
        means = (
            _weighted([getattr(shift, name) for shift in shifts], weights)
            for name in ("mean", "usual")
        )
        return cls(cells, weights.sum(), *means)

    def believed(self, told: torch.Tensor, doubt: float) -> torch.Tensor:
        """What is left of the shift [3] after one that is known, as far as the cells agree."""
        rest = self.mean - told
        distance = rest.square().sum()
        doubt = doubt * (MAD_TO_SPREAD * self.usual).square().sum()
        return rest * (distance / (distance + doubt).clamp(min=1e-12))


@dataclass(frozen=True)
class FrameColours:
    """The colours of a frame's result and of its original on a ring, in OKLab.

    Both show the same place, so they are compared cell by cell. Cells that differ far more or far
    less than most cells of the frame (a strand of hair in one of them, a highlight) are left out.
    """

    shift: Shift
    ours: torch.Tensor  # [3] mean
    contrast_weight: torch.Tensor
    contrast: torch.Tensor  # [2,3] variance of ours and of theirs
    around: Shift | None  # that of the ring's surroundings

    @classmethod
    def of(
        cls,
        pixels: torch.Tensor,
        original: torch.Tensor,
        ring: torch.Tensor,
        around: torch.Tensor | None = None,
    ) -> FrameColours | None:
        """Compare the colours of one frame.

        Args:
            pixels, original: [1,h,w,3] sRGB 0..1.
            ring: [1,h,w] bool.
            around: [1,h,w] bool, surroundings of the ring in which both show the same.

        Returns:
            The colours; None where the ring covers nothing.
        """
        lab = to_oklab(pixels), to_oklab(original)
        cells = _compared_cells(*lab, ring[..., None].to(pixels))
        found = _kept_cells(*cells)
        if found is None:
            return None
        shift, kept = found
        ours, theirs, _ = cells
        outer = None
        if around is not None:
            outer = _kept_cells(*_compared_cells(*lab, around[..., None].to(pixels)))
        # Contrast is measured in large cells, because a blurred picture only lacks texture.
        coarse_ours, coarse_theirs, coarse = _compared_cells(ours, theirs, kept)
        contrast = [_variance(values, coarse) for values in (coarse_ours, coarse_theirs)]
        return cls(
            shift, _mean(ours, kept), coarse.sum(), torch.stack(contrast), outer and outer[0]
        )


@dataclass(frozen=True)
class ColourChange:
    """lab -> (lab - centre) * ratio + target, each [3] in OKLab."""

    centre: torch.Tensor
    ratio: torch.Tensor
    target: torch.Tensor

    @classmethod
    def between(
        cls,
        pixels: torch.Tensor,
        original: torch.Tensor,
        ring: torch.Tensor,
        around: torch.Tensor | None = None,
    ) -> ColourChange | None:
        """The change for pixels and original [N,h,w,3] sRGB 0..1; see `frames_of`."""
        return cls.of(frames_of(pixels.float(), original.float(), ring, around))

    @classmethod
    def of(cls, frames: Sequence[FrameColours]) -> ColourChange | None:
        """The change that matches the colours of all these frames to those of their originals.

        It matches mean and contrast of all frames. A tint shifts all cells of a frame alike. Where
        the cells disagree, the drawing differs rather than the tint, and the shift is reduced. The
        surroundings show a tint without another drawing, so their shift goes first, and the ring
        adds what is left.

        Returns:
            The change; None where the ring is too small for an estimate.
        """
        ring = Shift.of_all([frame.shift for frame in frames])
        if ring is None:
            return None
        around = Shift.of_all([frame.around for frame in frames if frame.around is not None])
        centre = _weighted(
            [frame.ours for frame in frames], torch.stack([frame.shift.weight for frame in frames])
        )
        coarse = torch.stack([frame.contrast_weight for frame in frames])
        contrast = _weighted([frame.contrast for frame in frames], coarse).sqrt()
        told, doubt = torch.zeros_like(centre), DOUBT
        if around is not None:
            told, doubt = around.believed(told, DOUBT), DOUBT_OF_THE_REST
        shift = told + ring.believed(told, doubt)
        return cls(centre, _ratio(*contrast), centre + shift)

    @in_float32
    def apply(self, pixels: torch.Tensor, strength: float) -> torch.Tensor:
        """The pixels [N,h,w,3] sRGB 0..1 with this share (0..1) of the change."""
        lab = to_oklab(pixels)
        changed = (lab - self.centre) * self.ratio + self.target
        return from_oklab(torch.lerp(lab, changed, strength)).clamp_(0, 1)


def _compared_cells(
    ours: torch.Tensor, theirs: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means [N,h',w',3] of both in cells of COARSE x COARSE pixels, and the share of each cell.

    Args:
        weight: [N,h,w,1], 1 where a pixel counts and 0 elsewhere.
    """
    share = _cells(weight)
    means = (_cells(values * weight) / share.clamp(min=1e-6) for values in (ours, theirs))
    return (*means, share)


def _kept_cells(
    ours: torch.Tensor, theirs: torch.Tensor, share: torch.Tensor
) -> tuple[Shift, torch.Tensor] | None:
    """The shift of the cells that `_compared_cells` gave, and which of them count: [N,h',w',1].

    Cells that differ far more or far less than most are left out.

    Returns:
        None if there is no cell.
    """
    counted = share >= 0.5
    cells = int(counted.sum())
    if cells == 0:
        return None
    off = theirs - ours
    distance = (off - off[counted[..., 0]].median(dim=0).values).abs()
    usual = distance[counted[..., 0]].median(dim=0).values
    near = distance <= MOST_OFF * usual.clamp(min=SAME)
    kept = (counted & near.all(dim=-1, keepdim=True)).to(share)
    return Shift(cells, kept.sum(), _mean(theirs, kept) - _mean(ours, kept), usual), kept


def _cells(image: torch.Tensor) -> torch.Tensor:
    """Means [N,h',w',C] of cells; those at the border may be smaller."""
    planes = F.avg_pool2d(image.movedim(-1, 1), COARSE, ceil_mode=True, count_include_pad=False)
    return planes.movedim(1, -1)


def _mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean [3] of values [N,h,w,3], weighted by [N,h,w,1]."""
    return (values * weight).sum(dim=(0, 1, 2)) / weight.sum().clamp(min=1e-6)


def _variance(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Variance [3] of values [N,h,w,3], weighted by [N,h,w,1]."""
    return _mean((values - _mean(values, weight)) ** 2, weight)


def _weighted(values: Sequence[torch.Tensor], weights: torch.Tensor) -> torch.Tensor:
    """Mean of one value for each frame, weighted by [frames]."""
    shares = weights / weights.sum().clamp(min=1e-6)
    return torch.tensordot(shares, torch.stack(list(values)), dims=1)


def _ratio(spread: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The factor [3] that stretches one spread of colours towards another; 1 where one is flat."""
    ratio = wanted / spread.clamp(min=1e-6)
    ratio = ratio / ratio.clamp(1 / USUAL, USUAL)
    ratio = ratio.clamp(1 / WIDEST, WIDEST)
    return torch.where((spread < FLAT) | (wanted < FLAT), torch.ones_like(ratio), ratio)


def frames_of(
    pixels: torch.Tensor,
    original: torch.Tensor,
    ring: torch.Tensor,
    around: torch.Tensor | None = None,
) -> list[FrameColours]:
    """The colours of each frame; frames where the ring covers nothing are left out.

    Args:
        pixels, original: [N,h,w,3] sRGB 0..1.
        ring: [N or 1,h,w] bool.
        around: [N or 1,h,w] bool, the surroundings of the ring; None if nothing is known of them.
    """
    areas = (ring,) if around is None else (ring, around)
    rows = zip(
        pixels.split(1),
        original.split(1),
        *(area.expand(len(pixels), -1, -1).split(1) for area in areas),
        strict=True,
    )
    found = (FrameColours.of(*row) for row in rows)
    return [frame for frame in found if frame is not None]


def rim(mask: torch.Tensor, width: int) -> torch.Tensor:
    """The rim of a mask [N,h,w] 0..1, as bool: its outermost `width` pixels without the first SOFT.

    Where the mask reaches the border of the crop, it has no rim.
    """
    covered = (mask >= 0.5).float()
    return (grow(covered, -SOFT) >= 0.5) & (grow(covered, -width) < 0.5)


def surroundings(mask: torch.Tensor, width: int) -> torch.Tensor:
    """What lies within `width` pixels of a mask [N,h,w] 0..1, without the first SOFT, as bool."""
    covered = (mask > 0).float()
    return (grow(covered, width) >= 0.5) & (grow(covered, SOFT) < 0.5)
