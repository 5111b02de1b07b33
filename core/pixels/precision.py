"""Half precision: float16 and bfloat16 are computed in float32 and come back as they were.

The host hands such tensors over, on the CPU too, where much arithmetic knows no half precision, and
elsewhere it loses what edges and colours need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

HALF = (torch.float16, torch.bfloat16)

Result = TypeVar("Result")


def in_float32(function: Callable[..., Result]) -> Callable[..., Result]:
    """A function of tensors that takes half precision too.

    Arguments of half precision reach it as float32. If it gives tensors of float32, they come back
    in the dtype of the first such argument.
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
    """A tensor of half precision in float32; all else as it is."""
    return value.float() if _is_half(value) else value


def _narrowed(result: Any, dtype: torch.dtype) -> Any:
    if isinstance(result, torch.Tensor):
        return result.to(dtype) if result.dtype == torch.float32 else result
    if type(result) in (list, tuple):
        return type(result)(_narrowed(value, dtype) for value in result)
    return result


def precise(dtype: torch.dtype) -> torch.dtype:
    """Half precision is computed in float32."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32
