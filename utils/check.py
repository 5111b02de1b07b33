"""Checks of the nodes' inputs; errors say what is wrong, where, and what to do about it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch

SEG_FIELDS = ("cropped_image", "cropped_mask", "confidence", "crop_region", "bbox", "label")
MOST_PIXELS = 2**28  # of a picture or a mask: 16384 x 16384, ComfyUI's own largest sides
MOST_ROWS = 2**16  # rows of a batch that a batch_index refers to: noise is drawn for all of them
LONGEST_SIDE = 2**17  # pixels of a side of the image of SEGS
LONGEST_SHOWN = 60  # characters of a value in an error

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COMPUTABLE = frozenset(
    (*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
)

# The ids of values whose contents were checked already, while their node runs.
_known: ContextVar[frozenset[int]] = ContextVar("detailers_checked", default=frozenset())


@contextmanager
def known_to_be_good(values: list[Any]) -> Iterator[None]:
    """A context in which the numbers in these values are not checked again."""
    token = _known.set(_known.get() | {id(value) for value in values})
    try:
        yield
    finally:
        _known.reset(token)


def check_computable(tensor: torch.Tensor, name: str) -> None:
    """Check that a tensor [...] is dense, in memory, and of a usual type.

    Raises:
        ValueError: it is not.
    """
    if tensor.dtype in _COMPUTABLE and tensor.layout is torch.strided and not tensor.is_nested:
        if tensor.device.type != "meta":
            return
        what = "has a shape but no numbers (device 'meta')"
    elif tensor.layout is not torch.strided or tensor.is_nested:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        what = f"is no plain tensor but a {layout} one"
    else:
        what = f"is of type {tensor.dtype}, with which nothing can be computed here"
    raise ValueError(
        f"'{name}' {what}. Give it as a plain tensor of floats, such as `.to_dense()`, "
        "`.dequantize()` or `.float()` makes."
    )


def check_shape(tensor: torch.Tensor, axes: str, name: str) -> None:
    """Check that a tensor has one axis for each letter of `axes`, such as "BHWC" for [B,H,W,C].

    Raises:
        ValueError: it has another number of axes, or is no plain tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(
            f"'{name}' should be a tensor of the shape [{','.join(axes)}] but is"
            f" {described(tensor)}. Check what is connected to it."
        )
    check_computable(tensor, name)
    if tensor.ndim != len(axes):
        raise ValueError(
            f"'{name}' should have the shape [{','.join(axes)}] but has {list(tensor.shape)}. "
            "Check that the node connected to it gives an image or mask of the usual layout."
        )


def check_image(image: torch.Tensor, name: str) -> None:
    """Check that it is an image: [B,H,W,C] float, 1, 3 or 4 channels, no side 0, all finite.

    Raises:
        ValueError: it is not.
    """
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
        ValueError: it has another shape or type, a side of 0, or a value that is not finite.
    """
    mask = check_mask_layout(mask, name)
    check_finite(mask, name)
    low, high = mask.aminmax()
    return mask.clamp(0, 1) if low < 0 or high > 1 else mask


def check_mask_layout(mask: torch.Tensor, name: str) -> torch.Tensor:
    """The mask as [B,H,W] floats, as of `check_mask`, without checks of its values.

    Raises:
        ValueError: it has another shape or type, or a side of 0.
    """
    if not isinstance(mask, torch.Tensor):
        raise ValueError(
            f"'{name}' should be a mask but is {described(mask)}. Check what is connected to it."
        )
    check_computable(mask, name)
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
    return mask


def check_latent(latent: Any, name: str) -> list[torch.Tensor]:
    """The streams of a LATENT, {"samples": [N,C,h,w] or [N,C,T,h,w], ...}; usually one.

    Of several streams, as video with sound has them, the first needs this shape. A noise mask and a
    batch_index have to fit. The samples may have values that are not finite.

    Raises:
        ValueError: it is no LATENT.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    parts = _streams(samples)
    _check_computable_parts(parts, name)
    if not (
        parts
        and all(map(_is_floats, parts))
        and parts[0].ndim in (4, 5)
        and all(part.ndim >= 2 for part in parts)
    ):
        wrong = next((part for part in parts if not _is_floats(part)), samples)
        kind = f" of {wrong.dtype}" if isinstance(wrong, torch.Tensor) else ""
        raise ValueError(
            f"'{name}' should be a latent, that is a dict with floats as 'samples' [N,C,h,w] or"
            f" [N,C,T,h,w], but is {described(latent if samples is None else wrong)}{kind}. Connect"
            " the LATENT output of a sampler, of 'VAE Encode' or of 'Empty Latent Image'."
        )
    if latent.get("noise_mask") is not None:
        _check_noise_mask(latent["noise_mask"], name)
    check_batch_index(latent.get("batch_index"), len(parts[0]), name)
    return parts


def _check_noise_mask(mask: Any, name: str) -> None:
    parts = _streams(mask)
    _check_computable_parts(parts, f"{name}.noise_mask")
    if not (
        parts
        and all(isinstance(part, torch.Tensor) and 2 <= part.ndim <= 5 for part in parts)
        and all(part.numel() for part in parts)
    ):
        raise ValueError(
            f"'{name}': its noise_mask should be a mask [N,H,W] but is {described(mask)}. Set"
            " it by 'Set Latent Noise Mask', or take it off by 'Remove Noise Mask'."
        )
    for part in parts:
        check_finite(part, f"{name}, its noise_mask")


def _check_computable_parts(parts: list[Any], name: str) -> None:
    for part in parts:
        if isinstance(part, torch.Tensor):
            check_computable(part, name)


def check_batch_index(rows: Any, count: int, name: str) -> None:
    """Check that it is None, or has the index in a larger batch for each of `count` latents.

    Raises:
        ValueError: it is not.
    """
    if rows is None:
        return
    if not (
        is_numbers(rows, count)
        and all(0 <= float(row) <= MOST_ROWS and float(row).is_integer() for row in rows)
    ):
        raise ValueError(
            f"'{name}': its batch_index should be {count} whole numbers, one for each latent, from"
            f" 0 to {MOST_ROWS}, but is {quoted(rows)}. Leave the node out that sets it."
        )


def _streams(samples: Any) -> list[Any]:
    """The streams of samples; none if they cannot be read."""
    if isinstance(samples, torch.Tensor) or not getattr(samples, "is_nested", False):
        return [samples]
    try:
        return list(samples.unbind())
    except Exception:  # an object of another pack that only claims to be nested
        return []


def _is_floats(value: Any) -> bool:
    is_dense = isinstance(value, torch.Tensor) and is_array(value)
    return is_dense and value.is_floating_point() and value.numel() > 0


def check_finite(tensor: torch.Tensor, name: str) -> None:
    """Check that all values of a tensor [...] are finite.

    Raises:
        ValueError: some are NaN or infinite; it says how many.
    """
    if id(tensor) in _known.get() or all_finite(tensor):
        return
    count = int((~torch.isfinite(tensor)).sum())
    raise ValueError(
        f"'{name}' holds {count} values that are not finite numbers (NaN or infinite) out of"
        f" {tensor.numel()}. The node before it has failed on the way, often a VAE in half"
        " precision: run that one in float32 or bfloat16."
    )


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether all values of a tensor [...] are finite; needs one pass and no memory."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    stored = tuple(slice(1 if step == 0 else None) for step in tensor.stride())
    low, high = tensor[stored].aminmax()  # of the stored values; NaN is kept
    return math.isfinite(low) and math.isfinite(high)


def check_segs(segs: Any, name: str) -> None:
    """Check that it is SEGS: ((height, width), [SEG, ...]).

    A SEG may be of any class that has the fields, because packs define their own named tuples.

    Raises:
        ValueError: it is not.
    """
    if id(segs) in _known.get():
        return
    remedy = "Connect the SEGS output of a detector or of 'MASK to SEGS'."
    if not (isinstance(segs, (tuple, list)) and len(segs) == 2):
        raise ValueError(
            f"'{name}' should be SEGS, that is ((height, width), [SEG, ...]), but is"
            f" {described(segs)}. {remedy}"
        )
    shape, items = segs
    if not (is_numbers(shape, 2) and isinstance(items, (tuple, list))):
        raise ValueError(
            f"'{name}' should be SEGS, that is ((height, width), [SEG, ...]), but begins with"
            f" {quoted(shape)}, followed by {described(items)}. {remedy}"
        )
    height, width = (float(side) for side in shape)
    if min(height, width) < 0 or max(height, width) > LONGEST_SIDE or height * width > MOST_PIXELS:
        raise ValueError(
            f"'{name}' should be of an image with sides of at most {LONGEST_SIDE} and an area of "
            f"at most {MOST_PIXELS} pixels but is of one of the height and width {quoted(shape)}. "
            f"{remedy}"
        )
    for index, seg in enumerate(items):
        check_seg(seg, name, f"SEG {index}", remedy)


def check_seg(seg: Any, name: str, which: str, remedy: str) -> None:
    """Check that a value has the fields of a SEG, each of the right kind.

    Args:
        which: the name of the SEG in errors.
        remedy: a sentence that says what to do.

    Raises:
        ValueError: it does not.
    """
    missing = [field for field in SEG_FIELDS if not hasattr(seg, field)]
    if missing:
        raise ValueError(
            f"'{name}': {which.replace('SEG', 'entry')} is {described(seg)} and no SEG: it has no"
            f" {', '.join(missing)}. {remedy}"
        )
    for field in ("crop_region", "bbox"):
        if not is_numbers(getattr(seg, field), 4):
            raise ValueError(
                f"'{name}': the {field} of {which} should be four finite numbers (x1, y1, x2, y2)"
                f" but is {quoted(getattr(seg, field))}. {remedy}"
            )
    if not is_array(seg.cropped_mask, (2, 3)):
        raise ValueError(
            f"'{name}': the cropped_mask of {which} should be an array [h,w] or [F,h,w] of numbers"
            f" but is {described(seg.cropped_mask)}. {remedy}"
        )
    picture = seg.cropped_image
    usual = is_array(picture, (3, 4)) and picture.shape[-1] in (1, 3, 4) and min(picture.shape)
    if picture is not None and not usual:
        raise ValueError(
            f"'{name}': the cropped_image of {which} should be None or an array [B,h,w,C] of"
            f" numbers with 1, 3 or 4 channels but is {described(picture)}. {remedy}"
        )
    wrapper = getattr(seg, "control_net_wrapper", None)
    if wrapper is not None and not callable(getattr(wrapper, "apply", None)):
        raise ValueError(
            f"'{name}': the control_net_wrapper of {which} should be None or have apply() but is"
            f" {described(wrapper)}. {remedy}"
        )
    if not _is_confidence(seg.confidence):
        raise ValueError(
            f"'{name}': the confidence of {which} should be a finite number but is"
            f" {described(seg.confidence)}. {remedy}"
        )


def _check_not_empty(tensor: torch.Tensor, name: str) -> None:
    if tensor.numel() == 0:
        raise ValueError(
            f"'{name}' is empty: its shape is {list(tensor.shape)}. Check the node before it, for"
            " instance a crop or a selection that left nothing."
        )


def is_numbers(values: Any, count: int) -> bool:
    """Whether it is a sequence (list, tuple, array) of `count` finite numbers."""
    if isinstance(values, (str, bytes, dict, set, frozenset)):
        return False
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError, RuntimeError, NotImplementedError):
        return False
    return len(numbers) == count and all(math.isfinite(number) for number in numbers)


def is_array(values: Any, axes: tuple[int, ...] | None = None) -> bool:
    """Whether it is an array or a plain tensor of numbers, with one of `axes` as its axes count."""
    if isinstance(values, torch.Tensor):
        usual = values.dtype in _COMPUTABLE and values.layout is torch.strided
        usual = usual and not values.is_nested and values.device.type != "meta"
    else:
        usual = isinstance(values, np.ndarray) and values.dtype.kind in "fbiu"
    return usual and (axes is None or values.ndim in axes)


def _is_confidence(value: Any) -> bool:
    """Whether it is a finite number, several of them, or None, which counts as 0."""
    if value is None or isinstance(value, (float, int)):
        return value is None or is_numbers([value], 1)
    try:
        found = np.asarray(value.tolist() if isinstance(value, torch.Tensor) else value, float)
    except (TypeError, ValueError, OverflowError, RuntimeError, NotImplementedError):
        return False
    return not isinstance(value, (str, bytes)) and bool(np.isfinite(found).all())


def described(value: Any) -> str:
    """A short description of a value, for errors."""
    if isinstance(value, torch.Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"a {type(value).__name__} of the shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (str, int, float, complex)) and not isinstance(value, bool):
        return f"{'an' if isinstance(value, int) else 'a'} {type(value).__name__}, {quoted(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


class _Short(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        """A short form of a number, because one with very many digits cannot be written."""
        if -(10**40) < value < 10**40:
            return repr(value)
        return f"{'-' if value < 0 else ''}10**{int(value.bit_length() * math.log10(2))} or so"


def quoted(value: Any) -> str:
    """A value in a short form, for errors."""
    short = _Short()
    short.maxstring = short.maxother = LONGEST_SHOWN
    short.maxlevel = 2
    try:
        return short.repr(value)[: 3 * LONGEST_SHOWN]
    except Exception:  # an object of another pack that cannot be shown
        return f"a {type(value).__name__}"
