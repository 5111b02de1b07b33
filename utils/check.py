"""Checks at the nodes' inputs: errors that say what is wrong, where, and how to mend it."""

from __future__ import annotations

import math
from typing import Any

import torch

SEG_FIELDS = ("cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label")


def check_shape(tensor: torch.Tensor, axes: str, name: str) -> None:
    """Raise unless the tensor has one dimension per letter of `axes`, such as "BHWC"."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(
            f"'{name}' should be a tensor of the shape [{','.join(axes)}] but is"
            f" {_kind(tensor)}. Check what is connected to it."
        )
    if tensor.ndim != len(axes):
        raise ValueError(
            f"'{name}' should have the shape [{','.join(axes)}] but has {list(tensor.shape)}. "
            "Check that the node connected to it gives an image or mask of the usual layout."
        )


def check_image(image: torch.Tensor, name: str) -> None:
    """Raise unless it is an image: [B,H,W,C] float, 1, 3 or 4 channels, no side 0, all finite."""
    check_shape(image, "BHWC", name)
    if not image.is_floating_point():
        raise ValueError(
            f"'{name}' should hold floats from 0 to 1 but is of type {image.dtype}. "
            "Divide 8-bit values by 255."
        )
    if image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"'{name}' should have 1, 3 or 4 channels but has {image.shape[-1]} (shape"
            f" {list(image.shape)}). Give it an image as [B,H,W,C]."
        )
    _check_not_empty(image, name)
    check_finite(image, name)


def check_mask(mask: torch.Tensor, name: str) -> torch.Tensor:
    """The mask as [B,H,W] float 0..1.

    Args:
        mask: [H,W], [B,H,W], [B,1,H,W] or [B,H,W,1]; floats or booleans.
        name: the input's name, for the error.

    Raises:
        ValueError: another shape or type, a side of 0, or a value that is not finite.
    """
    if not isinstance(mask, torch.Tensor):
        raise ValueError(
            f"'{name}' should be a mask but is {_kind(mask)}. Check what is connected to it."
        )
    shape = list(mask.shape)
    if mask.ndim == 2:
        mask = mask[None]
    elif mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    elif mask.ndim == 4 and mask.shape[3] == 1:
        mask = mask[..., 0]
    if mask.ndim != 3:
        raise ValueError(
            f"'{name}' should be a mask of the shape [B,H,W] but has {shape}. An image becomes a"
            " mask through 'Convert Image to Mask'."
        )
    if mask.dtype == torch.bool:
        mask = mask.float()
    if not mask.is_floating_point():
        raise ValueError(
            f"'{name}' should hold floats from 0 to 1 but is of type {mask.dtype}. "
            "Divide 8-bit values by 255."
        )
    _check_not_empty(mask, name)
    check_finite(mask, name)
    low, high = mask.aminmax()
    return mask.clamp(0, 1) if low < 0 or high > 1 else mask


def check_latent(latent: Any, name: str) -> None:
    """Raise unless it is a LATENT: {"samples": [N,C,h,w] or [N,C,T,h,w], ...}."""
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if isinstance(samples, torch.Tensor) and samples.ndim in (4, 5) and samples.numel():
        return
    raise ValueError(
        f"'{name}' should be a latent, that is a dict with 'samples' [N,C,h,w] or [N,C,T,h,w], but"
        f" is {_kind(latent if samples is None else samples)}. Connect the LATENT output of a"
        " sampler, of 'VAE Encode' or of 'Empty Latent Image'."
    )


def check_finite(tensor: torch.Tensor, name: str) -> None:
    """Raise if a value is NaN or infinite, saying how many are."""
    if all_finite(tensor):
        return
    count = int((~torch.isfinite(tensor)).sum())
    raise ValueError(
        f"'{name}' holds {count} values that are not finite numbers (NaN or infinite) out of"
        f" {tensor.numel()}. The node before it has failed on the way, often a VAE in half"
        " precision: run that one in float32 or bfloat16."
    )


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; one pass that needs no memory."""
    if tensor.numel() == 0:
        return True
    low, high = tensor.aminmax()  # lets NaN through
    return math.isfinite(low) and math.isfinite(high)


def check_segs(segs: Any, name: str) -> None:
    """Raise unless it is SEGS: ((height, width), [SEG, ...]).

    A SEG may be of any class that has the fields; packs define a named tuple of their own.
    """
    remedy = "Connect the SEGS output of a detector or of 'MASK to SEGS'."
    if not (isinstance(segs, (tuple, list)) and len(segs) == 2):
        raise ValueError(
            f"'{name}' should be SEGS, that is ((height, width), [SEG, ...]), but is"
            f" {_kind(segs)}. {remedy}"
        )
    shape, items = segs
    if not (_is_numbers(shape, 2) and isinstance(items, (tuple, list))):
        raise ValueError(
            f"'{name}' should be SEGS, that is ((height, width), [SEG, ...]), but begins with"
            f" {shape!r}, followed by {_kind(items)}. {remedy}"
        )
    for index, seg in enumerate(items):
        missing = [field for field in SEG_FIELDS if not hasattr(seg, field)]
        if missing:
            raise ValueError(
                f"'{name}': entry {index} is {_kind(seg)} and no SEG: it has no"
                f" {', '.join(missing)}. {remedy}"
            )
        for field in ("crop_region", "bbox"):
            if not _is_numbers(getattr(seg, field), 4):
                raise ValueError(
                    f"'{name}': the {field} of SEG {index} should be four finite numbers (x1, y1,"
                    f" x2, y2) but is {getattr(seg, field)!r}. {remedy}"
                )
        ndim = getattr(seg.cropped_mask, "ndim", None)
        if ndim not in (2, 3):
            raise ValueError(
                f"'{name}': the cropped_mask of SEG {index} should be an array [h,w] or [F,h,w]"
                f" but is {_kind(seg.cropped_mask)}. {remedy}"
            )


def _check_not_empty(tensor: torch.Tensor, name: str) -> None:
    if tensor.numel() == 0:
        raise ValueError(
            f"'{name}' is empty: its shape is {list(tensor.shape)}. Check the node before it, for"
            " instance a crop or a selection that left nothing."
        )


def _is_numbers(values: Any, count: int) -> bool:
    """Whether it is a sequence (list, tuple, array) of that many finite numbers."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return False
    return len(numbers) == count and all(math.isfinite(number) for number in numbers)


def _kind(value: Any) -> str:
    """What a value is, in a few words for an error."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of the shape {list(shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
