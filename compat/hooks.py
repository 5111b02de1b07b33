"""Hooks, as packs derive and make them that know ComfyUI-Impact-Pack's `hooks`."""

from __future__ import annotations

from ..core.hook_protocol import DetailerHook
from ..core.hooks.builtin import CombinedHook, RetryBlackHook

__all__ = [
    "BlackPatchRetryHook", "DetailerHook", "DetailerHookCombine", "PixelKSampleHook",
    "PixelKSampleHookCombine",
]  # fmt: skip

PixelKSampleHook = DetailerHook  # of its points, those of an upscaler's steps


class DetailerHookCombine(CombinedHook):
    """Two hooks as one."""

    def __init__(self, hook1, hook2) -> None:
        super().__init__(hook1, hook2)
        self.hook1, self.hook2 = hook1, hook2


class PixelKSampleHookCombine(DetailerHookCombine):
    """Two hooks of an upscaler as one."""


class BlackPatchRetryHook(RetryBlackHook):
    """Asks for another try where a crop is black; both limits are of 255."""

    def __init__(self, mean_thresh: float, var_thresh: float) -> None:
        super().__init__(mean_thresh / 255, var_thresh / 255)
