"""Pictures and masks, as packs handle them that know ComfyUI-Impact-Pack's `utils`.

Masks are [h,w], [B,h,w] or [B,h,w,1], images [B,h,w,C]; where a name says so, Pillow's pictures of
8 bits, which is what these functions are for. Arrays are taken for tensors everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..core.files.latent_file import to_bytes
from ..core.geometry import Box, Size, crop_region
from ..core.host.backend import ComfyBackend
from ..core.pixels.image import paste
from ..core.pixels.mask import binary, difference, dilate, feather, intersection, total, union
from ..core.pixels.mask import resize_mask as resized
from ..core.pixels.resample import resize
from ..utils import arrays

__all__ = [
    "TensorBatchBuilder", "add_masks", "any_typ", "apply_differential_diffusion",
    "bitwise_and_masks", "crop_image", "crop_ndarray2", "crop_ndarray3", "crop_ndarray4",
    "crop_tensor2", "crop_tensor3", "crop_tensor4", "dilate_mask", "empty_latent",
    "empty_pil_tensor", "flatten_mask", "general_tensor_resize", "image2tensor", "is_same_device",
    "make_2d_mask", "make_3d_mask", "make_4d_mask", "make_crop_region", "normalize_region",
    "numpy2pil", "pil2numpy", "pil2tensor", "resize_mask", "subtract_masks", "tensor2pil",
    "tensor_convert_rgb", "tensor_convert_rgba", "tensor_crop", "tensor_gaussian_blur_mask",
    "tensor_get_size", "tensor_paste", "tensor_putalpha", "tensor_resize", "to_binary_mask",
    "to_latent_image", "to_numpy", "to_pil", "to_tensor", "use_gpu_opencv",
]  # fmt: skip


class _Any(str):
    """A type of links that goes with every other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


any_typ = _Any("*")

# Kinds of pictures --------------------------------------------------------------------------


def to_tensor(image: Any) -> torch.Tensor:
    """Any picture or mask as a tensor of the same axes; Pillow's as [h,w,C] 0..1."""
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(image)) / 255
    if isinstance(image, torch.Tensor):
        return image
    return torch.from_numpy(np.ascontiguousarray(image))


def to_numpy(image: Any) -> np.ndarray:
    """Any picture or mask as an array of the same axes; Pillow's in 8 bits."""
    if isinstance(image, Image.Image):
        return np.array(image)
    return image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)


def to_pil(image: Any) -> Image.Image:
    """Any picture as one of Pillow's: of a batch, the first."""
    if isinstance(image, Image.Image):
        return image
    return tensor2pil(_batch(image))


def tensor2pil(image: Any) -> Image.Image:
    """The first of a batch of images [B,h,w,C] 0..1."""
    pixels = to_bytes(_float(_batch(image))[:1])
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def numpy2pil(image: np.ndarray) -> Image.Image:
    """An image [B,h,w,C] or [h,w,C] 0..1."""
    return tensor2pil(image)


def pil2tensor(image: Image.Image) -> torch.Tensor:
    """One of Pillow's pictures as an image [1,h,w,C] 0..1."""
    pixels = to_tensor(image)
    return (pixels if pixels.ndim == 3 else pixels[..., None])[None]


def pil2numpy(image: Image.Image) -> np.ndarray:
    """One of Pillow's pictures as an image [1,h,w,C] 0..1."""
    return pil2tensor(image).numpy()


image2tensor = pil2tensor


def empty_pil_tensor(w: int = 64, h: int = 64) -> torch.Tensor:
    """A black image [1,h,w,3]."""
    return torch.zeros(1, h, w, 3)


def empty_latent() -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(1, 4, 8, 8)}


def _float(image: Any) -> torch.Tensor:
    image = to_tensor(image)
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def _batch(image: Any) -> torch.Tensor:
    image = to_tensor(image)
    return image if image.ndim == 4 else image[None]


def _image(image: Any) -> torch.Tensor:
    image = to_tensor(image)
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"An image should have the shape [B,h,w,1, 3 or 4] but has {list(image.shape)}."
        )
    return image


# Images ---------------------------------------------------------------------------------------


def tensor_get_size(image: Any) -> tuple[int, int]:
    """Width and height of an image [B,h,w,C]."""
    image = _image(image)
    return image.shape[2], image.shape[1]


def tensor_resize(image: Any, w: int, h: int) -> torch.Tensor:
    """An image resized: with Lanczos, one with a single channel bilinearly."""
    image = _image(image)
    if image.shape[-1] >= 3:
        return resize(image.float(), Size(int(w), int(h)))
    return general_tensor_resize(image, w, h)


def general_tensor_resize(image: Any, w: int, h: int) -> torch.Tensor:
    """An image resized bilinearly."""
    planes = _image(image).float().movedim(-1, 1)
    return torch.nn.functional.interpolate(planes, size=(int(h), int(w)), mode="bilinear").movedim(
        1, -1
    )


def tensor_convert_rgb(image: Any, prefer_copy: bool = True) -> torch.Tensor:
    """An image with three channels."""
    image = _image(image)
    if image.shape[-1] == 1:
        return image.repeat(1, 1, 1, 3)
    rgb = image[..., :3]
    return rgb.clone() if prefer_copy else rgb


def tensor_convert_rgba(image: Any, prefer_copy: bool = True) -> torch.Tensor:
    """An image with four channels; the alpha that it did not have is 1."""
    image = _image(image)
    if image.shape[-1] == 4:
        return image.clone() if prefer_copy else image
    rgb = tensor_convert_rgb(image, prefer_copy=False)
    return torch.cat([rgb, torch.ones_like(rgb[..., :1])], dim=-1)


def tensor_putalpha(image: torch.Tensor, mask: Any) -> None:
    """Put a mask [B,h,w,1] into the last channel of an image, in place."""
    _image(image)[..., -1] = to_tensor(mask)[..., 0].to(image)


def tensor_paste(
    image1: torch.Tensor, image2: Any, left_top: tuple[int, int], mask: Any
) -> None:  # fmt: skip
    """Paste a picture by its mask, in place; what lies outside of the image is cut off.

    Args:
        image1: [B,H,W,C].
        image2: [B or 1,h,w,C]; its alpha, where only it has one, counts like the mask.
        left_top: x and y of its corner in the image.
        mask: [B or 1,h,w,1] 0..1, brought to the picture's size.
    """
    image1, image2 = _image(image1), _image(image2)
    height, width = image2.shape[1:3]
    weight = resized(make_3d_mask(mask).float(), Size(width, height)).to(image1.device)
    if image2.shape[-1] == 4 and image1.shape[-1] != 4:
        weight = weight * image2[..., 3].to(weight)
    fitted = {1: lambda image: image[..., :1], 3: tensor_convert_rgb, 4: tensor_convert_rgba}
    x, y = map(int, left_top)
    box = Box(x, y, x + width, y + height)
    paste(image1, fitted[image1.shape[-1]](image2), weight, box)


def tensor_crop(image: Any, crop_region: Any) -> torch.Tensor:
    """The part of an image [B,h,w,C] in a region x1, y1, x2, y2."""
    return crop_ndarray4(_image(image), crop_region)


def crop_ndarray4(npimg: Any, crop_region: Any) -> Any:
    """The part of [B,h,w,C] in a region x1, y1, x2, y2; an array of an array."""
    x1, y1, x2, y2 = crop_region
    return npimg[:, y1:y2, x1:x2, :]


def crop_ndarray3(npimg: Any, crop_region: Any) -> Any:
    """The part of [B,h,w] in a region."""
    x1, y1, x2, y2 = crop_region
    return npimg[:, y1:y2, x1:x2]


def crop_ndarray2(npimg: Any, crop_region: Any) -> Any:
    """The part of [h,w] in a region."""
    x1, y1, x2, y2 = crop_region
    return npimg[y1:y2, x1:x2]


crop_tensor4, crop_tensor3, crop_tensor2 = crop_ndarray4, crop_ndarray3, crop_ndarray2
crop_image = crop_ndarray4


class TensorBatchBuilder:
    """Puts tensors together to a batch."""

    def __init__(self) -> None:
        self.tensor: torch.Tensor | None = None

    def concat(self, new_tensor: torch.Tensor) -> None:
        parts = [new_tensor] if self.tensor is None else [self.tensor, new_tensor]
        self.tensor = torch.cat(parts)


# Masks ----------------------------------------------------------------------------------------


def make_3d_mask(mask: Any) -> torch.Tensor:
    """A mask as [B,h,w]."""
    mask = to_tensor(mask)
    if mask.ndim == 4:
        mask = mask[..., 0] if mask.shape[-1] == 1 else mask.reshape(-1, *mask.shape[-2:])
    return mask if mask.ndim == 3 else mask[None]


def make_2d_mask(mask: Any) -> torch.Tensor:
    """The first mask as [h,w]."""
    return make_3d_mask(mask)[0]


def make_4d_mask(mask: Any) -> torch.Tensor:
    """A mask as [B,1,h,w]."""
    return make_3d_mask(mask)[:, None]


def tensor_gaussian_blur_mask(mask: Any, kernel_size: int, sigma: float = 10.0) -> torch.Tensor:
    """A mask with soft edges, as [B,h,w,1]; `kernel_size` is the radius of `mask.feather`."""
    return feather(make_3d_mask(mask).float(), int(kernel_size), sigma)[..., None]


def resize_mask(mask: Any, size: tuple[int, int]) -> torch.Tensor:
    """A mask resized to (height, width), as [B,h,w]."""
    return resized(make_3d_mask(mask).float(), Size(int(size[1]), int(size[0])))


def bitwise_and_masks(mask1: Any, mask2: Any) -> torch.Tensor:
    """What both masks cover, [B,h,w]."""
    return intersection(make_3d_mask(mask1).float(), make_3d_mask(mask2).float())


def subtract_masks(mask1: Any, mask2: Any) -> torch.Tensor:
    """The first mask without the second, [B,h,w]."""
    return difference(make_3d_mask(mask1).float(), make_3d_mask(mask2).float())


def add_masks(mask1: Any, mask2: Any) -> torch.Tensor:
    """Both masks together, [B,h,w]."""
    return total(make_3d_mask(mask1).float(), make_3d_mask(mask2).float())


def to_binary_mask(mask: Any, threshold: float = 0) -> torch.Tensor:
    """1 where a mask is above the threshold of 0..1, else 0; [B,h,w]."""
    return binary(make_3d_mask(mask).float(), threshold)


def flatten_mask(all_masks: Any) -> torch.Tensor:
    """What any mask of a batch covers, [1,h,w]."""
    return union(make_3d_mask(all_masks).float())


def dilate_mask(mask: Any, dilation_factor: int, iter: int = 1) -> Any:
    """A mask grown, or shrunk below 0, of the shape and kind that it had."""
    grown = make_3d_mask(mask).float()
    for _ in range(iter):
        grown = dilate(grown, int(dilation_factor))
    grown = grown.reshape(tuple(mask.shape))
    return arrays.to_numpy(grown) if isinstance(mask, np.ndarray) else grown


def normalize_region(limit: int, startp: int, size: int) -> tuple[int, int]:
    """A span of that size shifted to lie within 0..limit."""
    start = max(0, min(startp, limit - size))
    return int(start), int(min(limit, start + size))


def make_crop_region(
    w: int, h: int, bbox: Any, crop_factor: float, crop_min_size: int | None = None
) -> list[int]:
    """The region x1, y1, x2, y2 that is cropped around a box of an image."""
    return list(crop_region(Box.of(bbox), Size(w, h), crop_factor, crop_min_size).as_tuple())


# With the host --------------------------------------------------------------------------------


def to_latent_image(pixels: torch.Tensor, vae: Any, vae_tiled_encode: bool = False) -> dict:
    """A LATENT of images [B,h,w,C]."""
    rgb = tensor_convert_rgb(pixels, prefer_copy=False)
    return {"samples": ComfyBackend().encode(vae, rgb, tiled=vae_tiled_encode, video=False)}


def apply_differential_diffusion(model: Any) -> Any:
    """The model with differential diffusion."""
    return ComfyBackend().differential_diffusion(model)


def is_same_device(a: Any, b: Any) -> bool:
    """Whether two devices, or their names, are the same."""
    first, second = torch.device(a), torch.device(b)
    return first.type == second.type and (first.index or 0) == (second.index or 0)


def use_gpu_opencv() -> bool:
    """Never: masks are worked on as tensors, on the device that they are on."""
    return False
