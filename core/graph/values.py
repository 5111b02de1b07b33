"""Values of the logic nodes: comparisons, conversions and sizes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..streams import picture


def equal(a: Any, b: Any) -> bool:
    """Whether two values are equal. Tensors and arrays have to have equal shapes and values."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and bool((a == b.to(a.device)).all())
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return False
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and a.shape == b.shape and bool(np.all(a == b))
    return bool(a == b)


COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "a = b": equal,
    "a <> b": lambda a, b: not equal(a, b),
    "a > b": operator.gt,
    "a < b": operator.lt,
    "a >= b": operator.ge,
    "a <= b": operator.le,
    "tt": lambda a, b: True,
    "ff": lambda a, b: False,
}
OPERATORS: dict[str, Callable[[bool, bool], bool]] = {
    "and": lambda a, b: bool(a and b),
    "or": lambda a, b: bool(a or b),
    "xor": lambda a, b: bool(a) != bool(b),
}


# Errors of values that cannot be compared: different types, several values, or no number.
_NO_ORDER = (TypeError, RuntimeError, ValueError, ArithmeticError)


def compare(how: str, a: Any, b: Any) -> bool:
    """Compare two values with one of the `COMPARISONS`.

    Raises:
        ValueError: values of these types have no order.
    """
    try:
        return bool(COMPARISONS[how](a, b))
    except _NO_ORDER as error:
        raise ValueError(_no_order("cmp", how, a, b)) from error


def least_or_most(most: bool, a: Any, b: Any) -> Any:
    """The larger of two values if `most` is set, otherwise the smaller one.

    Raises:
        ValueError: values of these types have no order.
    """
    try:
        return max(a, b) if most else min(a, b)
    except _NO_ORDER as error:
        raise ValueError(_no_order("mode", "max" if most else "min", a, b)) from error


def _no_order(name: str, value: str, a: Any, b: Any) -> str:
    return (
        f"'{name}' is {value!r}, but 'a' is a {type(a).__name__} and 'b' is a "
        f"{type(b).__name__}, which cannot be compared. Connect two numbers, or two texts."
    )


def shown(value: Any, as_text: Callable[[Any], str] = str) -> str:
    """A value as text. If it cannot be shown, the text names its class."""
    try:
        return as_text(value)
    except Exception:  # whatever an object of another pack raises
        return f"a {type(value).__name__} that cannot be shown"


def converted(value: Any) -> tuple[str, float, int, bool]:
    """A value as text, as a number, as a whole number (rounded towards 0), and as a boolean.

    A value that is no number counts as 1, except the text "false", which counts as 0.
    """
    text = shown(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        number = float(text.strip().lower() != "false")
    whole = value if isinstance(value, int) else int(number)  # a float holds 53 bits
    return text, number, int(whole), bool(number)


TYPES = ("STRING", "INT", "FLOAT", "BOOLEAN")


def type_name(value: Any) -> str | None:
    """Which of the `TYPES` a value has, or None."""
    for name, kind in (("BOOLEAN", bool), ("INT", int), ("FLOAT", float), ("STRING", str)):
        if isinstance(value, kind):
            return name
    return None


def read_as(type_name: str, text: str) -> str | int | float | bool:
    """A text as a value of one of the `TYPES`.

    Raises:
        ValueError: the text is no number.
    """
    if type_name == "STRING":
        return text
    if type_name == "BOOLEAN":
        return text.strip().lower() not in ("", "0", "false")
    try:
        return float(text) if type_name == "FLOAT" else _whole(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"'value' is {text!r}, which cannot be read as {type_name}. Send a number, or choose "
            "STRING under 'typ'."
        ) from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def image_size(image: torch.Tensor) -> tuple[int, int, int, int]:
    """Batch, height, width and channels of an image [B,H,W,C]."""
    batch, height, width, channels = image.shape
    return batch, height, width, channels


def latent_size(latent: dict[str, Any]) -> tuple[int, int, int, int]:
    """Batch, height and width in image pixels, and channels of a LATENT.

    A latent that does not say its ratio is taken to have 8 pixels for one latent pixel.
    """
    samples = picture(latent["samples"])
    given = latent.get("downscale_ratio_spacial")
    ratio = int(given) if isinstance(given, (int, float)) and 1 <= given < math.inf else 8
    return samples.shape[0], samples.shape[-2] * ratio, samples.shape[-1] * ratio, samples.shape[1]
