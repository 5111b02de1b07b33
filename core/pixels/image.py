"""Images [B,H,W,C] float 0..1: crop, split the alpha, pad, check, and paste in place."""

from __future__ import annotations

import torch

from ...utils.check import all_finite, check_shape
from .. import memory
from ..geometry import Box, Size
from .precision import precise

NEARLY_BLACK = 1 / 255  # below this a value is 0 in 8 bits
DARK = 16 / 255  # a picture with no value above this may correctly become black


def image_name(image: torch.Tensor) -> str:
    """An image [...,H,W,C] as errors name it."""
    return f"the image of {image.shape[-2]} x {image.shape[-3]} pixels"


def crop(image: torch.Tensor, box: Box) -> torch.Tensor:
    """The part of an image [B,H,W,C] inside the box, as a view.

    Raises:
        ValueError: the box is empty or leaves the image.
    """
    size = Size(image.shape[2], image.shape[1])
    if box.empty or box.clipped(size) != box:
        raise ValueError(
            f"The region {box.as_tuple()} is empty or leaves the image of {size.width}x"
            f"{size.height}. Clip the region to the image first."
        )
    return image[:, box.y1 : box.y2, box.x1 : box.x2]


def middle(pictures: torch.Tensor) -> torch.Tensor:
    """The picture [1,h,w,C] that stands for several [N,h,w,C]: of a clip the middle frame."""
    row = len(pictures) // 2
    return pictures[row : row + 1]


def split_alpha(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The image [B,H,W,1 or 3] without alpha, and the alpha [B,H,W,1] or None, as views."""
    if image.shape[-1] != 4:
        return image, None
    return image[..., :3], image[..., 3:]


def merge_alpha(rgb: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    """The image with the alpha that `split_alpha` took off; [B,H,W,3 or 4]."""
    return rgb if alpha is None else torch.cat((rgb, alpha), dim=-1)


def to_rgb(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """An image [B,H,W,C] as three channels for the model, and its alpha for `merge_alpha`.

    Returns:
        [B,H,W,3], a view of the image with grey expanded, and the alpha [B,H,W,1] or None.
    """
    rgb, alpha = split_alpha(image)
    return (rgb.expand(-1, -1, -1, 3) if rgb.shape[-1] == 1 else rgb), alpha


def pad_edge(image: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
    """Repeat the border pixels of [B,H,W,C] outwards by left, right, top and bottom pixels."""
    if not any(padding):
        return image
    left, right, top, bottom = padding
    _, height, width, _ = image.shape
    rows = torch.arange(-top, height + bottom, device=image.device).clamp(0, height - 1)
    columns = torch.arange(-left, width + right, device=image.device).clamp(0, width - 1)
    return image[:, rows[:, None], columns]


def unpad(image: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
    """The image [B,H,W,C] without the pixels that `pad_edge` added; a view."""
    left, right, top, bottom = padding
    _, height, width, _ = image.shape
    return image[:, top : height - bottom, left : width - right]


def usable(pixels: torch.Tensor) -> bool:
    """Whether a crop [N,h,w,C] may be pasted: it holds no NaN and no infinity."""
    return all_finite(pixels)


def collapsed(pixels: torch.Tensor, original: torch.Tensor) -> bool:
    """Whether a row of `pixels` [N,h,w,C] is black where that row of `original` is not."""
    if not pixels.numel():
        return False
    black = pixels.flatten(1).amax(dim=1) < NEARLY_BLACK
    bright = original.flatten(1).amax(dim=1) >= DARK
    return bool((black & bright.to(black.device)).any())


def is_black(pixels: torch.Tensor, mean: float = 10 / 255, variance: float = 5 / 255) -> bool:
    """Whether a crop [1,h,w,C] is as black and uniform as the result of a model that failed.

    Args:
        mean, variance: the largest mean and variance of its grey values (0..1). The defaults are
            those that shared workflows use.
    """
    grey = pixels.float().mean(-1)
    return bool(grey.mean() <= mean and grey.var(correction=0) <= variance)


def paste(
    image: torch.Tensor,
    pixels: torch.Tensor,
    mask: torch.Tensor,
    box: Box,
    opacity: float = 1.0,
) -> bool:
    """Blend a crop into an image in place: (1 - m) * image + m * pixels, with m = mask * opacity.

    Where m is 0 the image stays bit-identical. Where m is 1 it gets exactly the pixels. A part of
    the crop outside the image is cut off.

    Args:
        image: [B,H,W,C], changed inside the box only.
        pixels: [B or 1,h,w,C], as large as the box.
        mask: [B or 1,h,w] 0..1, as large as the box.
        box: where the crop belongs; it may leave the image.
        opacity: 0..1; other values count as the nearer end, NaN as 0.

    Returns:
        Whether the crop was pasted. A crop with values that are not finite is not pasted.

    Raises:
        ValueError: pixels or mask are not as large as the box, or do not fit the image's batch
            and channels.
    """
    check_shape(pixels, "BHWC", "pixels")
    check_shape(mask, "BHW", "mask")
    count, height, width, channels = image.shape
    sizes = {tuple(box.size), (pixels.shape[2], pixels.shape[1]), (mask.shape[2], mask.shape[1])}
    if len(sizes) > 1:
        raise ValueError(
            f"A crop of {pixels.shape[2]}x{pixels.shape[1]} with a mask of {mask.shape[2]}x"
            f"{mask.shape[1]} cannot be pasted into a region of {box.width}x{box.height}. "
            "Resize crop and mask to the region first."
        )
    if pixels.shape[-1] != channels or {len(pixels), len(mask)} - {1, count}:
        raise ValueError(
            f"A crop of the shape {list(pixels.shape)} with {len(mask)} masks cannot be pasted into"
            f" an image of the shape {list(image.shape)}. Their channels should be equal, and crops"
            " and masks as many as images, or one for all."
        )
    if not usable(pixels):
        return False
    opacity = min(max(0.0, opacity), 1.0)
    inside = box.clipped(Size(width, height))
    if inside.empty:
        return True
    part = inside.shifted(-box.x1, -box.y1)
    weight = mask[:, part.y1 : part.y2, part.x1 : part.x2, None]
    new = pixels[:, part.y1 : part.y2, part.x1 : part.x2]
    below = image[:, inside.y1 : inside.y2, inside.x1 : inside.x2]

    def blend(rows: slice) -> None:
        own = weight[:, rows].to(image.device)
        own = own if opacity == 1 else own * opacity
        _blend(below[:, rows], new[:, rows].to(image.device), own)

    bands = memory.divided(
        inside.height, blend, lambda _: f"a crop of {box.width} x {box.height} pixels", "pasted"
    )
    for _ in bands:
        pass
    return True


def _blend(below: torch.Tensor, new: torch.Tensor, weight: torch.Tensor) -> None:
    """Blend new pixels into an image by a weight 0..1, in place; nothing changes if it fails."""
    # lerp instead of the sum: it is exact where the weight is 0 or 1
    if below.dtype == precise(below.dtype):
        below.lerp_(new.to(below), weight.to(below))
    else:
        below.copy_(torch.lerp(below.float(), new.float(), weight.float()))
