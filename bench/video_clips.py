"""Boxes as masks, and what changed where nothing should, for the video bench."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import grey_dilation

from dev.miniature.clips import Box, Clip


def path_in_heads(clip: Clip, person: int) -> float:
    """How far a head gets in the clip, in widths of itself; 0 if it is never there."""
    boxes = [clip.head(person, frame) for frame in range(len(clip))]
    known = np.array([box for box in boxes if box is not None]).reshape(-1, 4)
    if not len(known):
        return 0.0
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
