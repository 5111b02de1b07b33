"""Convert NumPy arrays, which SEGS contain, to the float tensors of the core, and back."""

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
    """An array [...] as a float tensor [...]; it shares memory if device and dtype allow it.

    Args:
        array: an array or a tensor of any shape.
        like: a tensor with the device and dtype of the result.
        device, dtype: used instead of those of `like`; without both, the device of the array and
            float32.
    """
    if not isinstance(array, torch.Tensor):
        array = np.ascontiguousarray(array)
        if not array.flags.writeable:  # PyTorch does not support read-only memory
            array = array.copy()
        array = torch.from_numpy(array)
    if like is not None:
        device, dtype = device or like.device, dtype or like.dtype
    return array.to(device=device or array.device, dtype=dtype or torch.float32)


def to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """A tensor [...] as a float32 array [...] in main memory; it shares memory if possible."""
    if isinstance(array, torch.Tensor):
        array = array.detach().to(device="cpu", dtype=torch.float32).numpy()
    return np.asarray(array, dtype=np.float32)
