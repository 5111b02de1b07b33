"""Measures a run in ComfyUI: calls of the network, and memory. Describes host and device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import torch

from ..backend import MemoryUse

_COUNTING = "detailers_calls"  # the key of the wrapper that counts


def counting_calls(guider: Any, count: Callable[[], None]) -> None:
    """Call `count` whenever the guider calls its network. Model and result stay the same."""

    def wrapper(executor: Any, *args: Any, **options: Any) -> Any:
        count()
        return executor(*args, **options)

    guider.model_options = comfy.model_patcher.create_model_options_clone(guider.model_options)
    extension = comfy.patcher_extension
    extension.add_wrapper_with_key(
        extension.WrappersMP.APPLY_MODEL, _COUNTING, wrapper, guider.model_options,
        is_model_options=True,
    )  # fmt: skip


class MemoryWatch:
    """Finds the peak of the memory in use: of a CUDA device, or else of the process.

    PyTorch counts the peak of a CUDA device; reading it does not wait for the device. The memory
    of the process is read whenever `look` is called.
    """

    def __init__(self) -> None:
        self._cuda: torch.device | None = None
        self._most = 0

    def begin(self) -> Callable[[], MemoryUse]:
        """Start to watch; the function that is returned ends it and gives the result."""
        device = comfy.model_management.get_torch_device()
        self._cuda = device if device.type == "cuda" else None
        self._most = 0
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
        self.look()
        return self._end

    def look(self) -> None:
        """Look at the memory of the process, if no CUDA device is watched."""
        if self._cuda is None:
            self._most = max(self._most, _resident())

    def _end(self) -> MemoryUse:
        if self._cuda is None:
            self.look()
            return MemoryUse("cpu", self._most, self._most)
        cuda = torch.cuda
        return MemoryUse(
            str(self._cuda), cuda.max_memory_allocated(self._cuda),
            cuda.max_memory_reserved(self._cuda),
        )  # fmt: skip


def _resident() -> int:
    """Bytes of the process that lie in memory; 0 where nothing tells."""
    with suppress(Exception):
        import psutil  # the host's

        return int(psutil.Process().memory_info().rss)
    return 0


@lru_cache(maxsize=1)
def about_host() -> Mapping[str, str]:
    """ComfyUI's version, PyTorch's, and the device."""
    version = ""
    with suppress(Exception):
        import comfyui_version

        version = str(comfyui_version.__version__)
    device = comfy.model_management.get_torch_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {"name": "ComfyUI", "version": version, "torch": torch.__version__, "device": name}
