"""The number format in which training is quickest on a device.

A CPU without instructions for bfloat16 computes in it a tenth as fast as in float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def quick_type(device: torch.device) -> torch.dtype:
    """bfloat16 where the device has instructions for it, otherwise float32."""
    if device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device) -> AbstractContextManager:
    """Layers compute in the quick type; weights and losses stay as they are."""
    quick = quick_type(device)
    return torch.autocast(device.type, quick, enabled=quick != torch.float32)
