"""The masks of sightings in regions of their frames, alone and with others that meet them.

Of a thing without a mask the bounding box is redrawn as a whole. But it hardly fills the corners.
So what it hides of something behind it is the ellipse in its box. A thing behind it gets what it
shows in the corners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..geometry import Box, Rect
from ..segs.seg import moved_mask
from .track import Sighting
from .windows import covered_shares

COARSE = 32  # pixels of the longer side of a box that are enough to tell how much of it is seen
DECIMALS = 3  # of pixels; no pixel is covered for an error of rounding


@dataclass(frozen=True)
class Met:
    """Other things that a thing meets in one frame, by their positions."""

    nearer: Mapping[int, Sighting] = field(default_factory=dict)
    behind: Mapping[int, Sighting] = field(default_factory=dict)
    shown: Mapping[int, float] = field(default_factory=dict)  # opacity of those behind, 0..1


ALONE = Met()


def mask_in(sighting: Sighting, region: Box) -> np.ndarray:
    """The mask of a sighting in a region of the frame: [h,w] float32, 0..1.

    Without a mask it is the bounding box. Pixels at its sides are covered as far as the box
    reaches into them, so that its sides move as smoothly as the box.
    """
    packed = sighting.mask
    if packed is not None:
        return moved_mask(packed.unpacked().astype(np.float32), packed.box, region)
    left, top, right, bottom = (round(side, DECIMALS) for side in sighting.box.sides)
    across = covered_shares(range(region.x1, region.x2), left, right)
    down = covered_shares(range(region.y1, region.y2), top, bottom)
    return (down[:, None] * across[None]).astype(np.float32)


def cover_in(sighting: Sighting, region: Box) -> np.ndarray:
    """What a thing hides of those behind it: [h,w] float32, 0..1."""
    return mask_in(sighting, region) if sighting.mask else _ellipse(sighting.box, region)


def parted_mask_in(sighting: Sighting, met: Met, region: Box) -> np.ndarray:
    """As `mask_in` [h,w], so that no two things that meet have a pixel in common.

    What is nearer keeps what it covers. What is behind keeps the rest, as far as it is shown.
    """
    mask = mask_in(sighting, region)
    for other in met.nearer.values():
        mask = mask * (1 - cover_in(other, region))
    if sighting.mask is None and met.behind:
        corners = 1 - cover_in(sighting, region)
        for position, other in met.behind.items():
            mask = mask * (1 - met.shown.get(position, 1.0) * corners * mask_in(other, region))
    return mask


def seen_share(own: Sighting, met: Met, fill: float = 0.0) -> float:
    """The share of a thing that nearer ones leave, 0..1; 1 if it has no pixel.

    Args:
        fill: the share of the box that its mask fills where nothing is hidden. A mask that is
            smaller has lost already what is hidden.
    """
    nearer = list(met.nearer.values())
    if not any(one.mask for one in (own, *nearer)):
        scale = min(1.0, COARSE / max(own.box.width, own.box.height, 1e-6))
        own, *nearer = (_scaled(one, scale) for one in (own, *nearer))
    region = own.mask.box if own.mask else _around(own.box)
    left = cover_in(own, region)
    whole = float(left.sum())
    if own.mask is not None:
        whole = max(whole, fill * own.box.width * own.box.height)
    for other in nearer:
        left = left * (1 - cover_in(other, region))
    return float(left.sum()) / whole if whole > 0 else 1.0


def _scaled(own: Sighting, scale: float) -> Sighting:
    """A sighting without a mask, with its box in other units."""
    box = own.box
    return replace(
        own, box=Rect(box.x * scale, box.y * scale, box.width * scale, box.height * scale)
    )


def _around(rect: Rect) -> Box:
    left, top, right, bottom = rect.sides
    return Box(int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom)))


def _ellipse(box: Rect, region: Box) -> np.ndarray:
    """The ellipse in a box [h,w]; its edge is about a pixel wide."""
    x, y = (
        (np.arange(start, stop) + 0.5 - centre) / max(side / 2, 1e-6)
        for start, stop, centre, side in (
            (region.x1, region.x2, box.x, box.width), (region.y1, region.y2, box.y, box.height)
        )
    )  # fmt: skip
    radius = np.hypot(y[:, None], x[None])
    slope = np.hypot(y[:, None] / max(box.height / 2, 1e-6), x[None] / max(box.width / 2, 1e-6))
    inwards = (1 - radius) * radius / np.maximum(slope, 1e-9)  # pixels from the edge
    inside = np.where(radius < 0.5, 1.0, (inwards + 0.5).clip(0, 1))
    return inside.astype(np.float32)
