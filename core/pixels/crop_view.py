"""The part of a picture of the whole image that a crop shows.

Such a picture (a mask, a ControlNet's hint, a latent) has its own resolution, and often other
proportions than the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ...utils.notes import note
from ..geometry import Box, Size
from .rotated_crop import RotatedCrop

# How a picture of other proportions lies over the image.
STRETCHED = "stretched"  # each axis is scaled separately
CENTRED = "centred"  # the image shows the middle of the picture, as in ComfyUI's own resizes
COVERING = "covering"  # the picture shows the middle of the image: it was made by such a resize
_EXACT = 1e-4  # pixels; an edge that is this near to a whole pixel counts as one


@dataclass(frozen=True)
class Cut:
    """The mapping from the whole image to the canvas that is sampled.

    The crop region `region` of an image of size `image` is resized to the working size `working`,
    and padded on the right and at the bottom to `canvas`. A latent pixel covers `ratio` x `ratio`
    pixels of the canvas. With `rotated`, the rotated crop in the region is resized instead.
    """

    image: Size
    region: Box
    working: Size
    canvas: Size
    ratio: int
    rotated: RotatedCrop | None = None
    row: int = 0  # index of the image in its batch
    rows: int = 1  # number of images in the batch
    frames: tuple[Cut, ...] = ()  # of a clip: the cut of each frame, as one of its batch
    steps: tuple[Step, ...] = ()  # of a latent with a time axis: what each of its steps shows
    of_steps: int = 0  # latent steps of the whole clip that the batch is

    @property
    def latent(self) -> Size:
        """Width and height of the canvas in latent pixels."""
        return Size(self.canvas.width // self.ratio, self.canvas.height // self.ratio)


@dataclass(frozen=True)
class Step:
    """A latent step of a part of a clip."""

    cut: Cut  # of its last frame
    index: int  # which latent step of the whole clip holds that frame


@dataclass(frozen=True)
class _View:
    """Where the image lies in a picture: picture = start + image * scale, along x and y."""

    start: tuple[float, float]
    scale: tuple[float, float]

    @classmethod
    def of(cls, picture: Size, image: Size, fit: str) -> _View:
        scale = tuple(own / whole for own, whole in zip(picture, image, strict=True))
        if fit == CENTRED:
            start = tuple(_cut_off(picture, image, axis) for axis in (0, 1))
            scale = tuple(
                (own - 2 * off) / whole
                for own, off, whole in zip(picture, start, image, strict=True)
            )
            return cls(start, scale)
        if fit == COVERING:
            scale = (max(scale), max(scale))
        start = tuple(
            (own - whole * each) / 2 for own, whole, each in zip(picture, image, scale, strict=True)
        )
        return cls(start, scale)

    def placed(self, x: Any, y: Any) -> tuple[Any, Any]:
        return self.start[0] + x * self.scale[0], self.start[1] + y * self.scale[1]


def _cut_off(picture: Size, image: Size, axis: int) -> int:
    """Whole pixels that the host cuts off at either end of an axis, computed as it does."""
    own, wanted = picture[0] / picture[1], image[0] / image[1]
    if axis == 0 and own > wanted:
        return round((picture[0] - picture[0] * (wanted / own)) / 2)
    if axis == 1 and own < wanted:
        return round((picture[1] - picture[1] * (own / wanted)) / 2)
    return 0


def shown_part(picture: Size, image: Size) -> Box:
    """The middle part of a picture with the proportions of the image."""
    x, y = (_cut_off(picture, image, axis) for axis in (0, 1))
    return Box(x, y, picture.width - x, picture.height - y)


def cut_plane(
    plane: torch.Tensor, cut: Cut, size: Size, fit: str = STRETCHED, mode: str = "bilinear"
) -> torch.Tensor:
    """The part of a picture of the whole image that the canvas shows.

    If all edges of the region lie between two of its pixels, its own pixels are cut out, and the
    padding of the canvas repeats the last ones. Otherwise, and for a rotated crop, the picture is
    sampled at the places that the canvas shows.

    Args:
        plane: [...,h,w], of any resolution. Of a batch [B,...,h,w] with a picture for each image,
            the picture of `cut.row` is taken, and for a clip those of its frames. Likewise of
            planes [N,C,T,h,w] those of its latent steps.
        size: width and height of the result where the picture is sampled.
        fit: how a picture of other proportions lies over the image.
        mode: how it is sampled, "bilinear" or "nearest".

    Returns:
        [...,H,W] with the same device and dtype.
    """
    if _is_over_time(plane, cut):
        each = _in_time(plane, cut)
        return torch.stack([cut_plane(own, at, size, fit, mode) for own, at in each], dim=2)
    if _has_each(plane, cut):
        return torch.cat([cut_plane(plane, own, size, fit, mode) for own in cut.frames])
    plane = of_row(plane, cut)
    own = Size(plane.shape[-1], plane.shape[-2])
    view = _View.of(own, cut.image, fit)
    if cut.rotated is None:
        x1, y1 = view.placed(cut.region.x1, cut.region.y1)
        x2, y2 = view.placed(cut.region.x2, cut.region.y2)
        box = Box(*(round(edge) for edge in (x1, y1, x2, y2)))
        off = max(abs(a - b) for a, b in zip((x1, y1, x2, y2), box.as_tuple(), strict=True))
        if off < _EXACT and box.clipped(own) == box and not box.empty:
            return _padded(plane[..., box.y1 : box.y2, box.x1 : box.x2], cut)
    return _sampled(plane, cut, view, size, mode)


def sampled_plane(
    plane: torch.Tensor, cut: Cut, size: Size, fit: str = STRETCHED, mode: str = "bilinear"
) -> torch.Tensor:
    """As `cut_plane`, but always sampled: [...,size.height,size.width]."""
    if _is_over_time(plane, cut):
        each = _in_time(plane, cut)
        return torch.stack([sampled_plane(own, at, size, fit, mode) for own, at in each], dim=2)
    if _has_each(plane, cut):
        return torch.cat([sampled_plane(plane, own, size, fit, mode) for own in cut.frames])
    plane = of_row(plane, cut)
    view = _View.of(Size(plane.shape[-1], plane.shape[-2]), cut.image, fit)
    return _sampled(plane, cut, view, size, mode)


def of_row(pictures: torch.Tensor, cut: Cut) -> torch.Tensor:
    """The picture [1,...,h,w] of the cut's image, of a batch [B,...,h,w] with one for each image.

    Anything else is returned as it is.
    """
    if cut.rows > 1 and pictures.ndim > 2 and len(pictures) == cut.rows:
        return pictures[cut.row : cut.row + 1]
    return pictures


def _has_each(pictures: torch.Tensor, cut: Cut) -> bool:
    """Whether a batch [B,...,h,w] has a picture for each image, and the cut is one of a clip."""
    return bool(cut.frames) and cut.rows > 1 and pictures.ndim > 2 and len(pictures) == cut.rows


def _is_over_time(planes: torch.Tensor, cut: Cut) -> bool:
    """Whether planes [N,C,T,h,w] have several latent steps, and the cut is one of a clip."""
    return bool(cut.steps) and planes.ndim == 5 and planes.shape[2] > 1


def _in_time(planes: torch.Tensor, cut: Cut) -> list[tuple[torch.Tensor, Cut]]:
    """The plane [N,C,h,w] of each latent step of a part of a clip, and its cut.

    Planes for as many steps as the whole clip has are those of the clip, and planes for as many as
    the part has are those of the part. Others are told: they begin with the clip, and the last one
    holds for all steps that have none.
    """
    count = planes.shape[2]
    places = [own.index for own in cut.steps]
    if count != cut.of_steps and count == len(places):
        places = list(range(count))
    elif count != cut.of_steps:
        note(
            "conditioning",
            f"A conditioning has pictures for {count} latent steps, but the clip has"
            f" {cut.of_steps}. They are taken from its beginning on, and the last one is repeated."
            " Make the conditioning for the whole clip.",
        )
    return [
        (planes[:, :, min(place, count - 1)], own.cut)
        for place, own in zip(places, cut.steps, strict=True)
    ]


def power_of_two(width: int, whole: float) -> float:
    """The power of two nearest to `width` / `whole`, the image's width in latent pixels."""
    return 2.0 ** round(math.log2(max(width, 1) / whole))


def _padded(part: torch.Tensor, cut: Cut) -> torch.Tensor:
    right = round(part.shape[-1] * (cut.canvas.width / cut.working.width - 1))
    bottom = round(part.shape[-2] * (cut.canvas.height / cut.working.height - 1))
    if right == 0 and bottom == 0:
        return part
    flat = part.reshape(-1, 1, *part.shape[-2:])
    flat = F.pad(flat, (0, right, 0, bottom), mode="replicate")
    return flat.reshape(*part.shape[:-2], *flat.shape[-2:])


def _sampled(plane: torch.Tensor, cut: Cut, view: _View, size: Size, mode: str) -> torch.Tensor:
    across = _shares(size.width, cut.canvas.width, cut.working.width, plane.device)[None, :]
    down = _shares(size.height, cut.canvas.height, cut.working.height, plane.device)[:, None]
    if cut.rotated is None:
        x, y = across * cut.region.width, down * cut.region.height
    else:
        x, y = cut.rotated.places(across, down)
    x, y = view.placed(cut.region.x1 + x, cut.region.y1 + y)
    height, width = plane.shape[-2:]
    grid = torch.stack(torch.broadcast_tensors(x / width, y / height), dim=-1) * 2 - 1
    found = F.grid_sample(
        plane.reshape(1, -1, height, width).float(), grid[None], mode=mode,
        padding_mode="border", align_corners=False,
    )  # fmt: skip
    return found.reshape(*plane.shape[:-2], size.height, size.width).to(plane.dtype)


def _shares(count: int, canvas: int, working: int, device: torch.device) -> torch.Tensor:
    """Centres of `count` pixels of the canvas as shares of the working size.

    Pixels of the padding have the share of the last pixel before the padding.
    """
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    shares = centres * (canvas / working)
    inside = shares[shares < 1]
    last = inside[-1] if len(inside) else shares.new_tensor(0.5)
    return shares.clamp(max=last).float().to(device)
