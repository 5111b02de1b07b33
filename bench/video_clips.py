"""Clips of the miniature world in memory, and measures of their results inside the heads' masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import grey_dilation

from dev.metrics import flicker
from dev.miniature.clips import Box, Clip, Detection, detections, draw_clip

LEAST_SEEN = 0.5  # share of a head that is seen, in frames whose head is measured


@dataclass(frozen=True)
class TestClip:
    """A clip, and what a detector finds in it.

    Attributes:
        truth, poor: [F,H,W,3] float32, 0..1.
        found: detections for each frame.
    """

    __test__ = False  # for pytest
    clip: Clip
    truth: np.ndarray
    poor: np.ndarray
    found: list[list[Detection]]

    def __len__(self) -> int:
        return len(self.clip)

    @cached_property
    def masks(self) -> np.ndarray:
        """Which pixels of each frame are of each head: [persons,F,H,W] bool."""
        clip = self.clip
        return np.stack(
            [
                np.stack([clip.mask(person, frame) >= 0.5 for frame in range(len(clip))])
                for person in clip.persons
            ]
        )

    @cached_property
    def seen(self) -> np.ndarray:
        """The share of each head that is seen: [persons,F]."""
        clip = self.clip
        return np.array([[clip.seen(p, f) for f in range(len(clip))] for p in clip.persons])


def make_clip(name: str, length: int, seed: int = 0, poor: bool = True) -> TestClip:
    """The clip of a name.

    Args:
        length: in frames.
        seed: of the detections.
        poor: False leaves the poor frames out, which then are the true ones.
    """
    clip = draw_clip(name, length)
    truth = np.stack([clip.truth(frame) for frame in range(length)])
    given = np.stack([clip.poor(frame) for frame in range(length)]) if poor else truth
    return TestClip(clip, truth, given, detections(clip, seed=seed))


def psnr_inside(test: TestClip, frames: np.ndarray, persons: Sequence[int]) -> float:
    """PSNR in dB over the heads of these persons in all frames, together."""
    total, count = 0.0, 0
    for person in persons:
        for frame in np.flatnonzero(test.seen[person] >= LEAST_SEEN):
            inside = test.masks[person, frame]
            error = np.square(frames[frame][inside] - test.truth[frame][inside])
            total, count = total + float(error.sum(dtype=np.float64)), count + error.size
    return float(10 * np.log10(count / max(total, 1e-10)))


def flicker_inside(test: TestClip, frames: np.ndarray) -> float:
    """How far heads change from frame to frame apart from their motion, in 255ths; the mean."""
    total, count = 0.0, 0
    for person in test.clip.persons:
        for frame in range(len(test) - 1):
            motion = test.clip.motion(person, frame)
            if motion is None or test.seen[person, frame : frame + 2].min() < LEAST_SEEN:
                continue
            masks = tuple(test.masks[person, one].astype(np.float32) for one in (frame, frame + 1))
            own = flicker((frames[frame], frames[frame + 1]), masks, motion)
            total, count = total + own[0], count + own[1]
    return 255 * total / max(count, 1)


def path_in_heads(clip: Clip, person: int) -> float:
    """How far a head gets in the clip, in widths of itself."""
    boxes = [clip.head(person, frame) for frame in range(len(clip))]
    known = np.array([box for box in boxes if box is not None])
    middles = (known[:, :2] + known[:, 2:]) / 2
    return float(np.linalg.norm(np.ptp(middles, 0)) / (known[:, 2] - known[:, 0]).mean())


def box_mask(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """[H,W] float32: 1 in these boxes, whose sides are rounded."""
    mask = np.zeros(size[::-1], np.float32)
    for left, top, right, bottom in boxes:
        rows, columns = _span(top, bottom, size[1]), _span(left, right, size[0])
        mask[rows, columns] = 1
    return mask


def _span(low: float, high: float, limit: int) -> slice:
    first, last = np.clip((round(low), round(high)), 0, limit)
    return slice(int(first), int(last))


def change_beyond(
    before: np.ndarray, after: np.ndarray, masks: np.ndarray, reach: int
) -> tuple[float, float, int]:
    """What changed where nothing should: in frames without a mask, and beyond the masks' reach.

    Args:
        before, after: [F,H,W,3].
        masks: [F,H,W], where something was pasted, without its soft edge.
        reach: pixels of the soft edge.

    Returns:
        The largest change of a value in frames whose mask is empty; the largest farther from the
        masks than `reach`; and the number of frames whose mask is empty.
    """
    empty, beyond, count = 0.0, 0.0, 0
    for own_before, own_after, mask in zip(before, after, masks, strict=True):
        change = np.abs(own_after - own_before).max(-1)
        if not mask.any():
            empty, count = max(empty, float(change.max())), count + 1
            continue
        wide = grey_dilation(mask, (2 * reach + 1, 2 * reach + 1)) > 0
        beyond = max(beyond, float(change[~wide].max(initial=0.0)))
    return empty, beyond, count
