"""Between NumPy arrays, which cross links inside SEGS, and the float tensors that the core uses."""

from __future__ import annotations

import numpy as np
import torch


def to_tensor(
    array: np.ndarray | torch.Tensor,
    like: torch.Tensor | None = None,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """The array as a float tensor, sharing its memory where device and dtype allow.

    Args:
        array: any shape; a tensor is taken too.
        like: device and dtype to follow.
        device, dtype: these instead of `like`'s; without either, the array's own device and
            float32.
    """
    if not isinstance(array, torch.Tensor):
        array = np.ascontiguousarray(array)
        if not array.flags.writeable:  # PyTorch knows no read-only memory
            array = array.copy()
        array = torch.from_numpy(array)
    if like is not None:
        device, dtype = device or like.device, dtype or like.dtype
    return array.to(device=device or array.device, dtype=dtype or torch.float32)


def to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """The tensor as a float32 array in main memory, sharing it where possible."""
    if isinstance(array, torch.Tensor):
        array = array.detach().to(device="cpu", dtype=torch.float32).numpy()
    return np.asarray(array, dtype=np.float32)
