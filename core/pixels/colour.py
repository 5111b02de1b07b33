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
class FrameColours:
    """The colours of a frame's result and of its original on a ring, in OKLab.

    Both show the same place, so they are compared cell by cell. Cells that differ far more or far
    less than most cells of the frame (a strand of hair in one of them, a highlight) are left out.
    """

    cells: int  # number of cells on the ring
    weight: torch.Tensor  # sum of the weights of the cells that are not left out
    ours: torch.Tensor  # [3] mean
    theirs: torch.Tensor  # [3] mean
    usual: torch.Tensor  # [3] median distance of the cells' shifts from their median
    contrast_weight: torch.Tensor
    contrast: torch.Tensor  # [2,3] variance of ours and of theirs

    @classmethod
    def of(
        cls, pixels: torch.Tensor, original: torch.Tensor, ring: torch.Tensor
    ) -> FrameColours | None:
        """Compare the colours of one frame.

        Args:
            pixels, original: [1,h,w,3] sRGB 0..1.
            ring: [1,h,w] bool.

        Returns:
            The colours; None where the ring covers nothing.
        """
        weight = ring[..., None].to(pixels)
        ours, theirs, share = _compared_cells(to_oklab(pixels), to_oklab(original), weight)
        counted = share >= 0.5
        cells = int(counted.sum())
        if cells == 0:
            return None
        off = theirs - ours
        off = (off - off[counted[..., 0]].median(dim=0).values).abs()
        usual = off[counted[..., 0]].median(dim=0).values
        near = off <= MOST_OFF * usual.clamp(min=SAME)
        kept = (counted & near.all(dim=-1, keepdim=True)).to(share)
        # Contrast is measured in large cells, because a blurred picture only lacks texture.
        coarse_ours, coarse_theirs, coarse = _compared_cells(ours, theirs, kept)
        contrast = [_variance(values, coarse) for values in (coarse_ours, coarse_theirs)]
        return cls(
            cells, kept.sum(), _mean(ours, kept), _mean(theirs, kept), usual, coarse.sum(),
            torch.stack(contrast),
        )  # fmt: skip


@dataclass(frozen=True)
class ColourChange:
    """lab -> (lab - centre) * ratio + target, each [3] in OKLab."""

    centre: torch.Tensor
    ratio: torch.Tensor
    target: torch.Tensor

    @classmethod
    def between(
        cls, pixels: torch.Tensor, original: torch.Tensor, ring: torch.Tensor
    ) -> ColourChange | None:
        """The change for pixels and original [N,h,w,3] sRGB 0..1 on a ring [N or 1,h,w] bool."""
        return cls.of(frames_of(pixels.float(), original.float(), ring))

    @classmethod
    def of(cls, frames: Sequence[FrameColours]) -> ColourChange | None:
        """The change that matches the colours of all these frames to those of their originals.

        It matches mean and contrast of all frames. A tint shifts all cells of a frame alike. Where
        the cells disagree, the drawing differs rather than the tint, and the shift is reduced.

        Returns:
            The change; None where the ring is too small for an estimate.
        """
        if sum(frame.cells for frame in frames) * COARSE**2 < FEWEST:
            return None
        weights = torch.stack([frame.weight for frame in frames])
        centre = _weighted([frame.ours for frame in frames], weights)
        target = _weighted([frame.theirs for frame in frames], weights)
        usual = _weighted([frame.usual for frame in frames], weights)
        coarse = torch.stack([frame.contrast_weight for frame in frames])
        contrast = _weighted([frame.contrast for frame in frames], coarse).sqrt()
        shift = target - centre
        doubt = DOUBT * (MAD_TO_SPREAD * usual).square().sum()
        sure = shift.square().sum() / (shift.square().sum() + doubt).clamp(min=1e-12)
        return cls(centre, _ratio(*contrast), centre + shift * sure)

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
    pixels: torch.Tensor, original: torch.Tensor, ring: torch.Tensor
) -> list[FrameColours]:
    """The colours of each frame; frames where the ring covers nothing are left out.

    Args:
        pixels, original: [N,h,w,3] sRGB 0..1.
        ring: [N or 1,h,w] bool.
    """
    rows = zip(
        pixels.split(1), original.split(1), ring.expand(len(pixels), -1, -1).split(1), strict=True
    )
    found = (FrameColours.of(*row) for row in rows)
    return [frame for frame in found if frame is not None]


def rim(mask: torch.Tensor, width: int) -> torch.Tensor:
    """The rim of a mask [N,h,w] 0..1, as bool: its outermost `width` pixels without the first SOFT.

    Where the mask reaches the border of the crop, it has no rim.
    """
    covered = (mask >= 0.5).float()
    return (grow(covered, -SOFT) >= 0.5) & (grow(covered, -width) < 0.5)
