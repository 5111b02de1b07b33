"""Free memory that ComfyUI holds, and recognise its out-of-memory errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import comfy.model_management

from .. import memory

log = logging.getLogger(__name__)

_in_use: ContextVar[bool] = ContextVar("detailers_models_in_use", default=False)


def is_out_of_memory(error: BaseException) -> bool:
    """As `memory.is_out_of_memory`; also the errors that ComfyUI itself recognises."""
    if memory.is_out_of_memory(error):
        return True
    host = comfy.model_management
    own = getattr(host, "is_oom", None)
    if own is not None:
        return bool(own(error))
    kind = getattr(host, "OOM_EXCEPTION", Exception)
    return kind is not Exception and isinstance(error, kind)


@contextmanager
def models_in_use() -> Iterator[None]:
    """While the context is open, `free` unloads no models, because a sampler is using them."""
    token = _in_use.set(True)
    try:
        yield
    finally:
        _in_use.reset(token)


def free(unload: bool = False) -> None:
    """Empty ComfyUI's caches. With `unload`, unload its models too, unless they are in use."""
    host = comfy.model_management
    steps = [
        getattr(host, "discard_cuda_async_error", None),  # otherwise the next call would raise it
        host.unload_all_models if unload and not _in_use.get() else None,
        host.soft_empty_cache,
    ]
    for step in steps:
        try:
            if step is not None:
                step()
        except Exception:  # the work that is tried again will raise the error
            log.debug("%s failed", getattr(step, "__name__", step), exc_info=True)


memory.add_host(free)
