"""Cuts: where the frames of a clip begin to show something else.

Two frames are compared by the histogram of their colours (as in A. Nagasaka & Y. Tanaka, "Automatic
video indexing and full-video search for object appearances", 1992), and by the correlation of their
thumbnails, shifted onto one another as far as a moving camera shifts them. A flash is no cut: after
it the frames look as they did before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..pixels.colour import LUMINANCE
from ..pixels.image import to_rgb
from ..pixels.precision import in_float32
from .appearance import histograms

SIDE = 32  # pixels of the sides of a thumbnail
SHIFT = 8  # by which thumbnails are shifted onto one another at most
FLASH = 3  # frames that a flash lasts at most
AROUND = 5  # neighbouring changes with which a change is compared, on each side
OUTSTANDING = 2.0  # a cut is a change so many times as large as those around it
NONE = 1.0  # the threshold from which on no cut is found
_SAMPLED = 256  # pixels of a side that are looked at
_FLAT = 0.01  # a spread of a thumbnail below it shows no structure, in 0..1
_SLIGHT = 0.02  # a change of colours below it is no cut, whatever the structure does
_ALIKE = 0.6  # of the threshold: a change below it is none


@dataclass(frozen=True, eq=False)
class FrameLooks:
    """What is kept of a frame to compare it with others."""

    colours: np.ndarray  # [D], of `appearance.histograms`
    thumbnail: np.ndarray  # [SIDE,SIDE] luma 0..1


@in_float32
def frame_looks(frames: torch.Tensor) -> list[FrameLooks]:
    """What is kept of each frame of [n,H,W,C] 0..1."""
    rgb, _ = to_rgb(frames)
    step = [max(1, side // _SAMPLED) for side in rgb.shape[1:3]]
    planes = rgb[:, :: step[0], :: step[1]].movedim(-1, 1).float()
    small = F.interpolate(planes, (2 * SIDE, 2 * SIDE), mode="bilinear", antialias=True)
    small = small.clamp(0, 1)
    weight = small.new_full(small.shape[2:], 1 / (4 * SIDE * SIDE))
    colours = histograms(small, weight).cpu().numpy()
    luma = torch.einsum("nchw,c->nhw", small, small.new_tensor(LUMINANCE))
    thumbnails = F.avg_pool2d(luma[:, None], 2)[:, 0].cpu().numpy()
    return [FrameLooks(*pair) for pair in zip(colours, thumbnails, strict=True)]


def change(one: FrameLooks, other: FrameLooks) -> float:
    """How much two frames differ, 0..1.

    It is the distance of their colours, and more where their structure differs too.
    """
    colours = min(1.0, float(np.linalg.norm(one.colours - other.colours)))
    if colours < _SLIGHT:
        return colours
    structure = _structure(one.thumbnail, other.thumbnail)
    return max(colours, float(np.sqrt(colours * structure)))


class Cuts:
    """Finds the cuts of a clip while it is read once, and keeps only what the last frames show.

    Args:
        threshold: the least change at a cut, 0..1; from NONE on no cut is found.
    """

    def __init__(self, threshold: float) -> None:
        self.wanted = threshold < NONE
        self._least = max(threshold, _SLIGHT)
        self._last: deque[FrameLooks] = deque(maxlen=2 * FLASH + 2)
        self._changes: list[float] = []  # from each frame to the next
        self._lasting: list[int] = []  # the large changes that are no flash

    def add(self, looks: Sequence[FrameLooks]) -> None:
        """Take the next frames."""
        for own in looks:
            if self._last:
                self._changes.append(change(self._last[-1], own))
            self._last.append(own)
            self._judge(len(self._changes) - 1 - FLASH)

    def first_frames(self) -> tuple[int, ...]:
        """The first frame after each cut, once all frames were taken."""
        for step in range(max(0, len(self._changes) - FLASH), len(self._changes)):
            self._judge(step)
        changes = np.array(self._changes)
        return tuple(step + 1 for step in self._lasting if _stands_out(changes, step))

    def _judge(self, step: int) -> None:
        """Keep a change if it is large and no flash; what follows it is known by now."""
        if step < 0 or not self.wanted or self._changes[step] < self._least:
            return
        held = list(self._last)
        place = step - (len(self._changes) + 1 - len(held))
        if not _is_flash(held, place, _ALIKE * self._least):
            self._lasting.append(step)


def find_cuts(looks: Sequence[FrameLooks], threshold: float) -> tuple[int, ...]:
    """The first frame after each cut.

    Args:
        looks: of all frames, in order.
        threshold: as for `Cuts`.
    """
    cuts = Cuts(threshold)
    cuts.add(looks)
    return cuts.first_frames()


def _stands_out(changes: np.ndarray, step: int) -> bool:
    """Whether a change is much larger than most of those around it."""
    around = np.delete(
        changes[max(0, step - AROUND) : step + AROUND + 1], min(step, AROUND)
    )  # fmt: skip
    return not len(around) or changes[step] >= OUTSTANDING * np.median(around)


def _is_flash(looks: Sequence[FrameLooks], step: int, least: float) -> bool:
    """Whether frames soon after a change look as those before it did, or the other way round."""
    later = looks[step + 2 : step + 2 + FLASH]
    earlier = looks[max(0, step - FLASH) : step]
    return any(change(looks[step], other) < least for other in later) or any(
        change(looks[step + 1], other) < least for other in earlier
    )


def _structure(one: np.ndarray, other: np.ndarray) -> float:
    """1 - the largest correlation of two thumbnails that are shifted onto one another, 0..1.

    Thumbnails without structure give 1 if one has none, and 0 if neither has any.
    """
    flat = [float(each.std()) < _FLAT for each in (one, other)]
    if any(flat):
        return 0.0 if all(flat) else 1.0
    best = 0.0
    for dy in range(-SHIFT, SHIFT + 1, 2):
        for dx in range(-SHIFT, SHIFT + 1, 2):
            best = max(best, _correlation(_part(one, dx, dy), _part(other, -dx, -dy)))
    return 1 - best


def _part(picture: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """What of a picture lies over another one that is shifted by dx and dy."""
    rows = slice(max(0, dy), SIDE + min(0, dy))
    columns = slice(max(0, dx), SIDE + min(0, dx))
    return picture[rows, columns]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / scale if scale > 1e-6 else 0.0
