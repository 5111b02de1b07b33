"""Half precision: float16 and bfloat16 are computed in float32 and converted back.

The host gives such tensors, on the CPU too, where many operations do not support half precision. On
other devices half precision is not exact enough for edges and colours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

HALF = (torch.float16, torch.bfloat16)

Result = TypeVar("Result")


def in_float32(function: Callable[..., Result]) -> Callable[..., Result]:
    """Make a function of tensors take half precision too.

    Arguments in half precision are converted to float32. Results in float32 are converted to the
    dtype of the first argument in half precision.
    """

    @wraps(function)
    def wide(*args: Any, **options: Any) -> Any:
        given = (*args, *options.values())
        half = next((value.dtype for value in given if _is_half(value)), None)
        if half is None:
            return function(*args, **options)
        result = function(
            *map(widened, args), **{name: widened(value) for name, value in options.items()}
        )
        return _narrowed(result, half)

    return wide


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in HALF


def widened(value: Any) -> Any:
    """A tensor in half precision converted to float32; any other value as it is."""
    return value.float() if _is_half(value) else value


def _narrowed(result: Any, dtype: torch.dtype) -> Any:
    if isinstance(result, torch.Tensor):
        return result.to(dtype) if result.dtype == torch.float32 else result
    if type(result) in (list, tuple):
        return type(result)(_narrowed(value, dtype) for value in result)
    return result


def in_double(values: torch.Tensor) -> torch.Tensor:
    """A few numbers [...] in float64, which only a CPU is sure to have; Apple's GPUs do not."""
    return values.cpu().double()


def precise(dtype: torch.dtype) -> torch.dtype:
    """The dtype to compute in: float32 for half precision."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32
