"""A node that shows which objects a long-running server still holds, for the soak bench."""

import ctypes
import gc
import json
from collections.abc import Iterator
from typing import Any

import comfy.model_base
import comfy.model_patcher
import torch

from .results import _TakesAnything

# Where a ModelPatcher keeps what was put onto a model.
_PLACES = (
    "patches", "backup", "object_patches", "object_patches_backup", "hook_patches",
    "hook_patches_backup", "hook_backup", "cached_hook_patches", "weight_wrapper_patches",
    "wrappers", "callbacks", "injections", "attachments", "additional_models",
)  # fmt: skip


class DetailersTestState(_TakesAnything):
    """Shows JSON: how many models and patchers live, and what lies on the model that is given.

    Garbage is collected first, and free memory given back to the system.
    """

    DESCRIPTION = "What the process still holds after its prompts."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL", {"tooltip": "The model that all prompts used."})}}

    def run(self, model):
        gc.collect()
        _give_back()
        alive = gc.get_objects()
        state = {
            "patchers": sum(isinstance(one, comfy.model_patcher.ModelPatcher) for one in alive),
            "models": sum(isinstance(one, comfy.model_base.BaseModel) for one in alive),
            "left": sorted(_left(model)),
        }
        return {"ui": {"text": [json.dumps(state)]}}


def _give_back() -> None:
    """Have the C library return what it keeps for itself, where it is glibc."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _left(patcher: Any) -> Iterator[str]:
    """What lies on a model that was made without any patches."""
    for name in _PLACES:
        if _holds(getattr(patcher, name, None)):
            yield name
    for name in ("forced_hooks", "current_hooks"):
        if getattr(patcher, name, None) is not None:
            yield name
    options = patcher.model_options
    yield from (f"model_options {name}" for name in options if _holds(options[name]))
    for module in patcher.model.modules():
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            if getattr(module, hooks, None):
                yield f"{hooks} of {type(module).__name__}"
    for name, value in vars(patcher.model).items():
        if callable(value) and not isinstance(value, torch.nn.Module | type):
            yield f"a function {name} on the model itself"


def _holds(value: Any) -> bool:
    """Whether there is anything in nested dicts and lists."""
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    if isinstance(value, list | tuple | set):
        return any(map(_holds, value))
    return value is not None
