"""Masks and pictures inside objects of the host and of other packs, cut to a segment.

Such an object is never changed: it is copied, with all objects on the path to the mask. An object
without masks stays the same object.
"""

from __future__ import annotations

import copy
import functools
import logging
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..pixels.crop_view import Cut, cut_plane

log = logging.getLogger(__name__)

_DEEPEST = 6  # depth of nested objects that are searched
_MOST = 4096  # entries of a container that is searched
# Attributes of a ControlNet that are cut elsewhere, belong to another ControlNet, or are caches.
_NOT_OF_ITS_OWN = frozenset({
    "cond_hint", "cond_hint_original", "extra_concat", "extra_concat_orig", "previous_controlnet",
    "multigpu_clones", "base",
})  # fmt: skip
# Words in a name that mean a mask of tokens, and not of places.
_OF_TOKENS = ("attention", "attn", "token", "causal", "text", "padding")
# Attributes of large parts of the host: models, their patchers, VAEs, text encoders, ControlNets.
_LARGE = ("state_dict", "model_options", "load_device", "first_stage_model", "cond_stage_model",
          "get_control")  # fmt: skip
_OPAQUE = (
    str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, torch.dtype,
    torch.device, torch.nn.Module, torch.Generator,
)  # fmt: skip

# (name of the attribute or key, its tensor) -> the tensor for the segment, or the same one
Change = Callable[[str, torch.Tensor], torch.Tensor]


def cut_masks_of(control: Any, cut: Cut) -> dict[str, Any]:
    """New values for the attributes of a ControlNet that are or contain masks of the image."""
    changed = Changed(lambda name, tensor: cut_mask(name, tensor, cut))
    changes = {}
    for name, value in getattr(control, "__dict__", {}).items():
        if name not in _NOT_OF_ITS_OWN:
            new = changed(value, name)
            if new is not value:
                changes[name] = new
    return changes


def cut_mask(name: str, tensor: torch.Tensor, cut: Cut) -> torch.Tensor:
    """A mask cut to the segment; a tensor whose name or shape is not a mask's is returned as it is.

    Args:
        tensor: a mask [H,W], [N,H,W], [N,1,H,W] or [N,H,W,1], which is stretched over the image.
    """
    lower = name.lower()
    if "mask" not in lower or any(word in lower for word in _OF_TOKENS):
        return tensor
    if not 2 <= tensor.ndim <= 5:
        return tensor
    last = tensor.ndim == 4 and tensor.shape[-1] == 1
    planes = tensor.movedim(-1, 1) if last else tensor
    if min(planes.shape[-2:]) < 2:
        return tensor
    part = cut_plane(planes, cut, cut.canvas)
    return part.movedim(1, -1) if last else part


class Changed:
    """Makes copies of objects with changed tensors in them; each object is copied once."""

    def __init__(self, change: Change, before: Callable[[Any], Any] | None = None) -> None:
        """
        Args:
            before: may return a changed copy of an object, or None to leave it to this class.
        """
        self._change = change
        self._before = before or (lambda value: None)
        self._done: dict[
            int, tuple[Any, Any]
        ] = {}  # the original is kept, so that its id stays its own

    def __call__(self, value: Any, name: str = "", depth: int = 0) -> Any:
        if isinstance(value, _OPAQUE) or depth > _DEEPEST:
            return value
        known = self._done.get(id(value))
        if known is not None:
            return known[1]
        self._done[id(value)] = value, value  # for objects that contain each other
        new = self._changed(value, name, depth + 1)
        self._done[id(value)] = value, new
        return new

    def _changed(self, value: Any, name: str, depth: int) -> Any:
        if isinstance(value, torch.Tensor):
            return self._change(name, value)
        own = self._before(value)
        if own is not None:
            return own
        if isinstance(value, dict):
            items = self._items(value, name, depth)
            return value if items is None else _like(value, items)
        if isinstance(value, list | tuple):
            return self._sequence(value, name, depth)
        if isinstance(value, functools.partial):
            args, keywords = self(value.args, name, depth), self(value.keywords, name, depth)
            if args is value.args and keywords is value.keywords:
                return value
            return functools.partial(value.func, *args, **keywords)
        if isinstance(value, types.MethodType):
            owner = self(value.__self__, name, depth)
            return value if owner is value.__self__ else types.MethodType(value.__func__, owner)
        return self._object(value, depth)

    def _items(self, value: Mapping, name: str, depth: int) -> dict | None:
        """The items of a mapping with changes; None if nothing changed."""
        if len(value) > _MOST:
            return None
        new = {
            key: self(item, key if isinstance(key, str) else name, depth)
            for key, item in value.items()
        }
        return None if all(new[key] is value[key] for key in value) else new

    def _sequence(self, value: list | tuple, name: str, depth: int) -> Any:
        if len(value) > _MOST:
            return value
        new = [self(item, name, depth) for item in value]
        if all(a is b for a, b in zip(new, value, strict=True)):
            return value
        return type(value)(*new) if hasattr(value, "_fields") else type(value)(new)

    def _object(self, value: Any, depth: int) -> Any:
        held = getattr(value, "__dict__", None)
        if not isinstance(held, dict) or isinstance(value, types.FunctionType):
            return value
        if any(name in held or hasattr(type(value), name) for name in _LARGE):
            return value
        items = self._items(held, "", depth)
        if items is None:
            return value
        try:
            new = copy.copy(value)
        except Exception:  # whatever a class of another pack raises
            log.debug("a %s cannot be copied", type(value).__name__, exc_info=True)
            return value
        new.__dict__.update(items)
        return new


def _like(value: dict, items: dict) -> dict:
    new = copy.copy(value)  # keeps the subclass
    new.update(items)
    return new
