"""ComfyUI's part in freeing memory."""

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
    """As `memory.is_out_of_memory`, with what the host itself recognises beyond that."""
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
    """While the context is open, nothing unloads models: the sampler that runs holds them."""
    token = _in_use.set(True)
    try:
        yield
    finally:
        _in_use.reset(token)


def free(unload: bool = False) -> None:
    """Give back what the host's caches hold and, if asked for and none is in use, its models."""
    host = comfy.model_management
    steps = [
        getattr(host, "discard_cuda_async_error", None),  # or the next call would report it
        host.unload_all_models if unload and not _in_use.get() else None,
        host.soft_empty_cache,
    ]
    for step in steps:
        try:
            if step is not None:
                step()
        except Exception:  # what is wrong beyond that, the work tells that is tried again
            log.debug("%s failed", getattr(step, "__name__", step), exc_info=True)


memory.add_host(free)
