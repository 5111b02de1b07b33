"""Measures of a picture or a clip against the truth: arrays [H,W,3] 0..1, and masks [H,W] 0..1.

The rim of a mask is a band on both sides of the line where the mask is one half. A paste that does
not fit its surroundings is visible there: as an edge that the truth does not have, or as another
colour.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, sobel
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity

RIM = 3  # pixels on each side
RING = 5  # pixels inside the mask whose colour is compared
_DIFFERENT = 0.02  # a change of a value between renderings that counts
_SURROUNDINGS = 3  # pixels around what differs that are compared too
_SIZES = (0.85, 0.92, 1.0, 1.08, 1.18)  # of what is drawn anew, against the rendering


def psnr(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over the pixels that the mask covers at least by half."""
    error = np.square(picture - truth)[mask >= 0.5].mean()
    return float(10 * np.log10(1 / max(error, 1e-10)))


def ssim(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean structural similarity (Wang et al. 2004, windows of 7 x 7) over the mask's pixels."""
    _, similarity = structural_similarity(
        picture, truth, channel_axis=-1, data_range=1.0, full=True
    )
    return float(similarity[mask >= 0.5].mean())


def rim(mask: np.ndarray, width: int = RIM) -> np.ndarray:
    """The rim's pixels: [H,W] bool."""
    return binary_dilation(mask >= 0.5, iterations=width) & ~_shrunk(mask, width)


def _shrunk(mask: np.ndarray, by: int) -> np.ndarray:
    """The mask without its edge; the border of the picture does not count as an edge."""
    return binary_erosion(mask >= 0.5, iterations=by, border_value=1)


def seam_energy(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Mean gradient across the rim that the truth does not have there, in units per pixel.

    The gradient is taken along the mask's own normal, so that edges which merely cross the rim,
    such as the lines of a background, count little.
    """
    smooth = gaussian_filter(mask.astype(np.float64), 2.0)
    normal = np.stack([sobel(smooth, axis) for axis in (0, 1)])
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-9)
    difference = picture.astype(np.float64) - truth
    across = sum(sobel(difference, axis)[..., :] / 8 * normal[axis][..., None] for axis in (0, 1))
    return float(np.abs(across)[rim(mask)].mean())


def rim_colour(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Distance of the mean colours just inside the mask's edge, in CIELAB (Delta E 1976)."""
    ring = (mask >= 0.5) & ~_shrunk(mask, RING)
    means = [rgb2lab(image)[ring].mean(0) for image in (picture, truth)]
    return float(np.linalg.norm(means[0] - means[1]))


def change_outside(before: np.ndarray, after: np.ndarray, touched: np.ndarray) -> float:
    """The largest change of a value outside the pasted parts: `touched` [H,W] bool."""
    return float(np.abs(after - before)[~touched].max(initial=0.0))


def nearest(
    picture: np.ndarray, known: Mapping[str, np.ndarray], mask: np.ndarray, reach: int = 0
) -> str:
    """The key of the known rendering that the picture is nearest to inside the mask.

    What differs between the renderings is compared, with a rim around it.

    Args:
        picture: [H,W,3], as the renderings.
        reach: how far from its place it may be, in pixels; the best place of each counts.
    """
    pictures = np.stack(list(known.values()))
    differing = (np.ptp(pictures, 0).max(-1) > _DIFFERENT).astype(np.float32)
    weights = cv2.dilate(differing, np.ones((2 * _SURROUNDINGS + 1,) * 2)) * (mask >= 0.5)
    if not weights.any():
        return next(iter(known))
    return min(known, key=lambda key: _best_match(picture, known[key], weights, reach)[0])


def brought_back(
    picture: np.ndarray, rendering: np.ndarray, mask: np.ndarray, reach: int
) -> np.ndarray:
    """The picture, moved and enlarged so that what the mask covers is where the rendering has it.

    The best of five sizes and of all places up to `reach` pixels away is taken, by the least
    square of the difference.
    """
    matches = [(*_best_match(picture, rendering, mask, reach, size), size) for size in _SIZES]
    _, (x, y), size = min(matches)
    left, top, *_ = cv2.boundingRect((mask > 0).astype(np.uint8))
    there = np.float32([[size, 0, x - size * left], [0, size, y - size * top]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, there, picture.shape[1::-1], flags=how, borderMode=cv2.BORDER_REPLICATE
    )


def _best_match(
    picture: np.ndarray, rendering: np.ndarray, weights: np.ndarray, reach: int, size: float = 1.0
) -> tuple[float, tuple[int, int]]:
    """The least mean square of the difference to what has weight, and its left top corner (x, y).

    Args:
        weights: [H,W], of the rendering's pixels.
        reach: how far from its place it may be, in pixels.
        size: of what is looked for, against the rendering.
    """
    left, top, width, height = cv2.boundingRect((weights > 0).astype(np.uint8))
    part, own = (
        np.float32(array[top : top + height, left : left + width]) for array in (rendering, weights)
    )
    if size != 1:
        sides = (max(1, round(width * size)), max(1, round(height * size)))
        part, own = (
            cv2.resize(array, sides, interpolation=cv2.INTER_AREA) for array in (part, own)
        )
    grown = reach + max(0, own.shape[0] - height, own.shape[1] - width)
    around = cv2.copyMakeBorder(np.float32(picture), *(grown,) * 4, cv2.BORDER_REPLICATE)
    around = around[top : top + height + 2 * grown, left : left + width + 2 * grown]
    three = np.repeat(own[..., None], 3, -1)
    found = cv2.matchTemplate(around, part, cv2.TM_SQDIFF, mask=three)
    least, _, (x, y), _ = cv2.minMaxLoc(found)
    return least / float(np.square(three).sum()), (x + left - grown, y + top - grown)


# Clips


def moved_back(picture: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """A frame [H,W] or [H,W,C], with what `motion` has moved back where it was in the frame before.

    Bicubic; what comes from outside the frame is not a number.

    Args:
        motion: [2,3], from places in the frame before to places in this one, in pixels.
    """
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    places = np.stack([x, y], -1) @ motion[:, :2].T + motion[:, 2]
    maps = (places - 0.5).astype(np.float32)  # OpenCV counts from the middle of the first pixel
    moved = cv2.remap(picture, maps, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    moved[(places < 0.5).any(-1) | (places > (width - 0.5, height - 0.5)).any(-1)] = np.nan
    return moved


def flicker(
    pair: tuple[np.ndarray, np.ndarray], masks: tuple[np.ndarray, np.ndarray], motion: np.ndarray
) -> tuple[float, int]:
    """How far a thing changes from one frame to the next, apart from its motion.

    Args:
        pair: two frames that follow one another.
        masks: where the thing is seen in each.
        motion: of the thing, as in `moved_back`.

    Returns:
        The sum of the absolute differences where the thing is seen in both frames, and the number
        of values in it.
    """
    before, after = pair[0], moved_back(pair[1], motion)
    seen = (masks[0] >= 0.5) & (moved_back(masks[1], motion) >= 0.5)
    seen &= np.isfinite(after).all(-1)
    changes = np.abs(before - after)[seen]
    return float(changes.sum()), changes.size


def wander(found: np.ndarray, true: np.ndarray) -> float:
    """How unsteadily a path [N,2] follows the true one: RMS distance without the mean difference.

    In the unit of the paths; both axes together.
    """
    difference = found - true
    difference = difference - difference.mean(0)
    return float(np.sqrt(np.square(difference).sum(1).mean()))
