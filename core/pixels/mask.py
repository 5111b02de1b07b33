"""Masks [B,H,W] float 0..1: feather, dilate, resize, combine, and find the shapes in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from ...utils.check import check_shape
from ...utils.notes import note
from ..bounds import check_pixels
from ..geometry import Box, Size
from ..streams import picture
from .precision import in_float32, precise
from .resample import Block, along_height, along_width, blocks

SIGMA = 10.0  # pixels, ComfyUI-Impact-Pack's value: pasted edges look as shared workflows expect
LEAST_SIGMA = 1e-3  # pixels; a narrower gaussian changes nothing
SIGMAS_OF_REACH = 2.5  # a fade ends where its gaussian has fallen to 4 % of its peak
MOST_ROUNDING = 0.02  # the most by which rounding to a grid changes the ratio of two sides
LOWEST = 1 / 255  # a value below one step of 8 bits belongs to no shape


def feather(mask: torch.Tensor, radius: int, sigma: float = SIGMA) -> torch.Tensor:
    """Soften the edges of a mask with a gaussian; the mask is mirrored at its border.

    Args:
        mask: [B,H,W] float 0..1.
        radius: reach of the fade in pixels; the kernel has 2 * radius + 1 pixels. 0 returns the
            mask as it is. If the kernel is longer than the shorter side of the mask, the largest
            odd kernel below half of that side is used, and none if that is under 3.
        sigma: width of the gaussian in pixels; below LEAST_SIGMA the mask is returned as it is.

    Returns:
        [B,H,W] 0..1 with the same device and dtype; exactly 0 further than `radius` from the mask.
    """
    check_shape(mask, "BHW", "mask")
    radius = _fitting_radius(min(mask.shape[1:]), radius)
    if radius < 1 or abs(sigma) < LEAST_SIGMA:
        return mask
    return blur(mask.to(precise(mask.dtype)), radius, sigma).clamp_(0, 1).to(mask.dtype)


@in_float32
def blur(planes: torch.Tensor, radius: int, sigma: float) -> torch.Tensor:
    """Planes [N,H,W] blurred with a gaussian, in float32 or float64, mirrored at their border.

    Args:
        planes: [N,H,W] of any range.
        radius: pixels that the kernel reaches to either side; at most the axis's length - 1.
        sigma: width of the gaussian in pixels; 0 leaves the planes as they are.

    Raises:
        ValueError: `sigma` is not a number.
    """
    if math.isnan(sigma):
        raise ValueError("'sigma' is NaN: give the width of the gaussian in pixels, such as 10.")
    height, width = planes.shape[1:]
    planes = along_width(planes, _gaussian(width, min(radius, width - 1), sigma))
    return along_height(planes, _gaussian(height, min(radius, height - 1), sigma))


def blur_image(image: torch.Tensor, radius: int, sigma: float) -> torch.Tensor:
    """An image [N,H,W,C] of any range, blurred as `blur` does with planes."""
    planes = image.movedim(-1, 1)
    soft = blur(planes.reshape(-1, *planes.shape[-2:]), radius, sigma)
    return soft.view(planes.shape).movedim(1, -1)


def softened(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """An image [N,h,w,C] of any range after a gaussian blur of `sigma` pixels, at least half."""
    sigma = max(sigma, 0.5)
    return blur_image(image, max(1, round(SIGMAS_OF_REACH * sigma)), sigma)


@in_float32
def fade(mask: torch.Tensor, reach: int) -> torch.Tensor:
    """Soften edges over exactly `reach` pixels to either side, even of a small mask.

    Outside its border the mask counts as continued with its border values.

    Args:
        mask: [B,H,W] float 0..1.
        reach: in pixels, limited to twice the longer side; 0 returns the mask as it is.

    Returns:
        [B,H,W] 0..1 with the same device and dtype.
    """
    check_shape(mask, "BHW", "mask")
    reach = min(reach, 2 * max(mask.shape[1:]))
    if reach < 1:
        return mask
    wide = torch.nn.functional.pad(mask[:, None], [reach] * 4, mode="replicate")[:, 0]
    soft = feather(wide, reach, reach / SIGMAS_OF_REACH)
    return soft[:, reach:-reach, reach:-reach]


def grow(mask: torch.Tensor, amount: int) -> torch.Tensor:
    """Grow a mask [B,H,W] by `amount` pixels on every side, or shrink it if that is negative."""
    return dilate(mask, 2 * amount + (1 if amount > 0 else -1)) if amount else mask


def _fitting_radius(side: int, radius: int) -> int:
    if side >= 2 * radius + 1:
        return radius
    return (side - 3) // 4  # the largest r with 2 r + 1 < side / 2


@lru_cache(maxsize=128)
def _gaussian(length: int, radius: int, sigma: float) -> tuple[Block, ...]:
    """Gaussian weights along an axis of `length` pixels, mirrored about its end pixels."""
    width = max(abs(sigma), LEAST_SIGMA)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
    kernel /= kernel.sum()

    def weights(first: int, last: int) -> tuple[int, np.ndarray]:
        reach = np.arange(first, last)[:, None] + np.arange(-radius, radius + 1)
        source = (length - 1) - np.abs(length - 1 - np.abs(reach))
        start, end = source.min(), source.max() + 1
        matrix = np.zeros((last - first, end - start))
        np.add.at(matrix, (np.arange(last - first)[:, None], source - start), kernel)
        return int(start), matrix

    return blocks(length, weights)


def dilate(mask: torch.Tensor, amount: int) -> torch.Tensor:
    """Grow a mask, or shrink it if the amount is negative.

    Every pixel takes the highest (lowest) value in a square window of abs(amount) pixels around
    it. If the amount is even, the window reaches one pixel further up and to the left. This is the
    result of OpenCV's dilate and erode with a kernel of ones. Pixels outside the mask do not count.

    Args:
        mask: [B,H,W] float 0..1.
        amount: width of the window in pixels; 0, 1 and -1 return the mask as it is. A window larger
            than the mask takes no more time than one of its size.

    Returns:
        [B,H,W] 0..1 with the same device and dtype.
    """
    check_shape(mask, "BHW", "mask")
    if abs(amount) < 2:
        return mask
    if amount < 0:
        return -dilate(-mask, -amount)
    for axis in (1, 2):
        mask = _windowed_max(mask, amount, axis)
    return mask


def _windowed_max(mask: torch.Tensor, window: int, axis: int) -> torch.Tensor:
    """The highest of `window` pixels along an axis, window // 2 of them before the pixel."""
    other_axis = [0, 0] if axis == 1 else []
    length = mask.shape[axis]  # a window needs to reach no further than the other end
    ends = [min(window // 2, length), min(window - 1 - window // 2, length)]
    window = sum(ends) + 1
    mask = torch.nn.functional.pad(mask, other_axis + ends, value=-torch.inf)
    covered = 1  # each value is the highest of this many from its place on; doubled each step
    while covered < window:
        step = min(covered, window - covered)
        rest = mask.shape[axis] - step
        mask = torch.maximum(mask.narrow(axis, 0, rest), mask.narrow(axis, step, rest))
        covered += step
    return mask


@in_float32
def resize_mask(mask: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize a mask [B,H,W] 0..1 linearly; where it shrinks, pixels are averaged."""
    check_shape(mask, "BHW", "mask")
    height, width = mask.shape[1:]
    if (width, height) == tuple(size):
        return mask
    check_pixels(size, "A resized mask", remedy="Ask for a smaller size.")
    result = torch.nn.functional.interpolate(
        mask[:, None],
        size=(size[1], size[0]),
        mode="bilinear",
        align_corners=False,
        antialias=size[0] < width or size[1] < height,
    )
    return result[:, 0].clamp_(0, 1)


def is_hard(mask: torch.Tensor | None) -> bool:
    """Whether a mask [...] holds only 0 and 1; None counts as such."""
    if mask is None:
        return True
    mask = picture(mask)
    return bool(((mask == 0) | (mask == 1)).all())


def fitted_mask(mask: torch.Tensor, size: Size, name: str) -> torch.Tensor:
    """A mask [B,H,W] as `resize_mask` gives it; the user is told if it is stretched.

    Args:
        name: the input that the mask comes from.
    """
    given = Size(mask.shape[2], mask.shape[1])
    if is_stretched(given, size):
        note(
            "mask",
            f"The mask of '{name}' has {given[0]}x{given[1]} pixels and is stretched to "
            f"{size[0]}x{size[1]}. Give a mask of the same shape, so that it stays where it is.",
        )
    return resize_mask(mask, size)


def is_stretched(old: Size, new: Size) -> bool:
    """Whether the proportions of two sizes differ by more than rounding explains."""
    return abs(old[0] * new[1] / max(1, old[1] * new[0]) - 1) > MOST_ROUNDING


def for_latent(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """A noise mask in the resolution of a latent: [N or 1,1,h,w] or [N or 1,1,T,h,w].

    The rows of a mask without a time axis are spread over the time axis of the latent.

    Args:
        mask: [H,W], [N,H,W], or with the latent's axes, as the host's video nodes make it. Of
            several streams the mask of the picture is taken.
        latent: [N,C,h,w] or [N,C,T,h,w].
    """
    latent = picture(latent)
    mask = picture(mask).to(latent.device, torch.float32)
    if latent.ndim == 5:
        flat = mask[:, :1] if mask.ndim == 5 else mask.reshape(1, 1, -1, *mask.shape[-2:])
        size, mode = latent.shape[2:], "trilinear"
    else:
        flat = mask[:, :1] if mask.ndim == 4 else mask.reshape(-1, 1, *mask.shape[-2:])
        size, mode = latent.shape[-2:], "bilinear"
    return torch.nn.functional.interpolate(flat, size=size, mode=mode).to(latent.dtype)


def union(masks: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """One mask [1,H,W] that covers what any of the masks [B,H,W] covers: their maximum."""
    if not isinstance(masks, torch.Tensor):
        masks = torch.cat(list(masks))
    check_shape(masks, "BHW", "masks")
    return masks.amax(dim=0, keepdim=True)


@in_float32
def shares_of(weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The visible share of the background, and of each layer on top of it; they add up to 1.

    Args:
        weights: the opacity [...] 0..1 of each layer, all of one shape; later layers lie on top.

    Returns:
        The share [...] of the background, and that of each layer. Without layers: a single 1.
    """
    shares: list[torch.Tensor] = []
    seen = torch.ones(())
    for weight in reversed(weights):
        shares.append(weight * seen)
        seen = (1 - weight) * seen
    return [seen, *reversed(shares)]


def bbox(mask: torch.Tensor) -> Box | None:
    """The smallest box around all pixels of a mask [H,W] that are not 0; None if all are 0."""
    check_shape(mask, "HW", "mask")
    rows = torch.nonzero(mask.any(dim=1))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = torch.nonzero(mask[top:bottom].any(dim=0))
    return Box(int(columns[0]), top, int(columns[-1]) + 1, bottom)


def contours(mask: np.ndarray, threshold: float = LOWEST) -> list[np.ndarray]:
    """The outer outlines of the shapes in a mask.

    Args:
        mask: [H,W] float.
        threshold: the lowest value that belongs to a shape. Pixels that touch at a corner belong
            to one shape. A shape inside a hole of another one is part of it.

    Returns:
        One array [points,1,2] of x and y for each shape. The shape whose top is lowest in the image
        comes first; of two with the same top, the right one. OpenCV 4 and 5 give this order, but do
        not promise it.
    """
    import cv2

    binary = (mask >= threshold).astype(np.uint8)
    found, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return sorted(found, key=_top_left, reverse=True)


def _top_left(contour: np.ndarray) -> tuple[int, int]:
    """Row and column of the contour's first pixel in reading order."""
    x, y = contour[np.lexsort((contour[:, 0, 0], contour[:, 0, 1]))[0], 0]
    return int(y), int(x)


def contour_box(contour: np.ndarray) -> Box:
    """The smallest box around an outline [points,1,2] of `contours`."""
    (x1, y1), (x2, y2) = contour[:, 0].min(axis=0), contour[:, 0].max(axis=0)
    return Box(int(x1), int(y1), int(x2) + 1, int(y2) + 1)


def fill_contour(contour: np.ndarray, region: Box) -> np.ndarray:
    """The inside of an outline as [h,w] float32 0 or 1, with the outline itself and all holes.

    Args:
        contour: [points,1,2], one of `contours`.
        region: the part of the image that is drawn.
    """
    import cv2

    canvas = np.zeros((region.height, region.width), np.uint8)
    if canvas.size:
        cv2.drawContours(canvas, [contour], 0, 1, cv2.FILLED, offset=(-region.x1, -region.y1))
    return canvas.astype(np.float32)


def solid(mask: np.ndarray, threshold: float = LOWEST) -> np.ndarray:
    """The mask [H,W] with every shape and its holes filled with 1, and 0 elsewhere."""
    result = np.zeros(mask.shape, np.float32)
    for contour in contours(mask, threshold):
        box = contour_box(contour)
        part = result[box.y1 : box.y2, box.x1 : box.x2]
        np.maximum(part, fill_contour(contour, box), out=part)
    return result


@in_float32
def intersection(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What both masks [B,H,W] cover: the lower value of each pixel; see `matched` for sizes."""
    return torch.minimum(*matched(first, second))


@in_float32
def difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The first mask [B,H,W] minus the second, at least 0; see `matched` for sizes."""
    first, second = matched(first, second)
    return (first - second).clamp_(0, 1)


@in_float32
def total(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The sum of both masks [B,H,W], at most 1; see `matched` for sizes."""
    first, second = matched(first, second)
    return (first + second).clamp_(0, 1)


def matched(
    first: torch.Tensor, second: torch.Tensor, names: tuple[str, str] = ("mask1", "mask2")
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks [B,H,W] that can be combined pixel by pixel.

    The second mask is resized to the size of the first, and gets its device and dtype. A single
    mask is combined with each mask of a batch.

    Raises:
        ValueError: the masks are two batches of different lengths.
    """
    if len(first) != len(second) and 1 not in (len(first), len(second)):
        raise ValueError(
            f"'{names[0]}' holds {len(first)} masks and '{names[1]}' {len(second)}, so that it is "
            "not clear which go together. Give both as many, or one of them a single mask."
        )
    size = Size(first.shape[2], first.shape[1])
    return first, fitted_mask(second.to(first), size, names[1])


def binary(mask: torch.Tensor, threshold: float) -> torch.Tensor:
    """1 where the mask [B,H,W] is above the threshold (0..1), 0 elsewhere."""
    return (mask > threshold).to(mask.dtype)


def rectangle(size: Size, box: Box, blur_radius: int = 0) -> torch.Tensor:
    """A mask [1,H,W] of a box; a part of the box outside the mask is cut off.

    Args:
        size: width and height of the mask.
        blur_radius: reach of a gaussian over the edges, in pixels. Its sigma follows from the
            reach by OpenCV's rule for kernels of 2 * radius + 1 pixels.
    """
    check_pixels(size, "The mask", remedy="Give a smaller 'image_width' and 'image_height'.")
    box = box.clipped(size)
    mask = torch.zeros(1, size[1], size[0])
    mask[:, box.y1 : box.y2, box.x1 : box.x2] = 1
    return feather(mask, blur_radius, 0.3 * (blur_radius - 1) + 0.8) if blur_radius else mask
