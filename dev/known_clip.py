"""Clips of the miniature world in memory, with their truth, and measures inside the heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .metrics import flicker
from .miniature.clips import Box, Clip, Detection, detections, draw_clip

LEAST_SEEN = 0.5  # share of a head that is seen, in frames whose head is measured


def _inside(box: Box | None, size: tuple[int, int]) -> bool:
    """Whether the middle of a box is in a frame."""
    if box is None:
        return False
    left, top, right, bottom = box
    return 0 < left + right < 2 * size[0] and 0 < top + bottom < 2 * size[1]


@dataclass(frozen=True)
class KnownClip:
    """A clip, and what a detector finds in it.

    Attributes:
        truth, poor: [F,H,W,3] float32, 0..1.
        found: detections for each frame.
    """

    clip: Clip
    truth: np.ndarray
    poor: np.ndarray
    found: list[list[Detection]]

    def __len__(self) -> int:
        return len(self.clip)

    def middle(self, count: int) -> KnownClip:
        """So many frames in a row, or all if there are fewer, as near to the middle as possible.

        Somebody is there in at least half of them, if there is such a part.
        """
        clip, last = self.clip, max(0, len(self) - count)
        there = [
            any(_inside(clip.head(person, frame), clip.size) for person in clip.persons)
            for frame in range(len(self))
        ]
        by_distance = sorted(range(last + 1), key=lambda first: abs(first - last // 2))
        shown = (first for first in by_distance if 2 * sum(there[first:][:count]) >= count)
        first = next(shown, last // 2)
        kept = slice(first, first + count)
        cuts = tuple(cut - first for cut in self.clip.cuts if first < cut < first + count)
        clip = replace(self.clip, stills=self.clip.stills[kept], cuts=cuts)
        return KnownClip(clip, self.truth[kept], self.poor[kept], self.found[kept])

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


def known_clip(name: str, length: int) -> KnownClip:
    """The clip of a name, so many frames long."""
    clip = draw_clip(name, length)
    truth = np.stack([clip.truth(frame) for frame in range(length)])
    poor = np.stack([clip.poor(frame, truth=own) for frame, own in enumerate(truth)])
    return KnownClip(clip, truth, poor, detections(clip))


def psnr_inside(test: KnownClip, frames: np.ndarray, persons: Sequence[int]) -> float:
    """PSNR in dB over the heads of these persons in all frames, together; NaN if none is seen."""
    total, count = 0.0, 0
    for person in persons:
        for frame in np.flatnonzero(test.seen[person] >= LEAST_SEEN):
            inside = test.masks[person, frame]
            error = np.square(frames[frame][inside] - test.truth[frame][inside])
            total, count = total + float(error.sum(dtype=np.float64)), count + error.size
    return float(10 * np.log10(count / max(total, 1e-10))) if count else float("nan")


def flicker_inside(test: KnownClip, frames: np.ndarray) -> float:
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
