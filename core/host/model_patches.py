"""Cut pictures and masks of the whole image, which patches of a model hold, to a segment.

Some ControlNets are patches of the model (DiffSynth's ControlNets of Qwen-Image, the Fun control of
Z-Image, LLLite, Uni3C). Their control pictures are in the model's options, and so are the masks of
the attention patches of IPAdapters.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator
from typing import Any

import torch

from ...utils.notes import note
from ..geometry import Size
from ..pixels.crop_view import CENTRED, Cut, cut_plane
from ..prompts.held_masks import Changed, cut_mask

# Attributes of a control patch that are pictures [N,H,W,C] of the whole image.
_PICTURES = ("image", "inpaint_image", "render_video")
# Attributes in which it keeps an encoded picture. With these values it encodes the picture again.
_REMEMBERED = {"encoded_image_size": None, "prepared_render": None, "temp_data": None}
_PLACES = ("patches", "patches_replace")  # in the options for the transformer
_AROUND = (
    "model_function_wrapper", "sampler_cfg_function", "sampler_post_cfg_function",
    "sampler_pre_cfg_function",
)  # fmt: skip


def cut_patches(model: Any, cut: Cut) -> Any:
    """The model with patches whose pictures show what the segment shows.

    If no patch holds a picture, it is the same object. If a patch holds a picture that cannot be
    cut, the user is told.
    """
    options = model.model_options
    transformer = options.get("transformer_options", {})
    changed = Changed(
        lambda name, tensor: cut_mask(name, tensor, cut), lambda value: _cut_control(value, cut)
    )
    new = {name: changed(transformer[name], name) for name in _PLACES if name in transformer}
    around = {name: changed(options[name], name) for name in _AROUND if name in options}
    for value in (*new.values(), *around.values()):
        _tell(value, cut)
    new = {name: value for name, value in new.items() if value is not transformer[name]}
    around = {name: value for name, value in around.items() if value is not options[name]}
    if not new and not around:
        return model
    own = model.clone()
    own.model_options = {**own.model_options, **around}
    own.model_options["transformer_options"] = {
        **own.model_options.get("transformer_options", {}), **new
    }  # fmt: skip
    return own


def _cut_control(patch: Any, cut: Cut) -> Any:
    """A copy of a control patch whose pictures show the segment. None: it is no control patch."""
    if not hasattr(patch, "model_patch"):
        return None
    pictures = {
        name: value
        for name in _PICTURES
        if isinstance(value := getattr(patch, name, None), torch.Tensor) and value.ndim == 4
    }
    if not pictures:
        return None
    own = copy.copy(patch)
    for name, picture in pictures.items():
        part = cut_plane(picture.movedim(-1, 1), cut, cut.canvas, CENTRED)
        setattr(own, name, part.movedim(1, -1))
    mask = getattr(patch, "mask", None)
    if isinstance(mask, torch.Tensor):
        whole = next(iter(pictures.values()))
        own.mask = _cut_mask_of_control(mask, Size(whole.shape[2], whole.shape[1]), cut)
    for name, value in _REMEMBERED.items():
        if hasattr(own, name):
            setattr(own, name, value)
    return own


def _cut_mask_of_control(mask: torch.Tensor, picture: Size, cut: Cut) -> torch.Tensor:
    """Cut the mask [...,H,W] of a control picture. A mask of another size is stretched over it."""
    if Size(mask.shape[-1], mask.shape[-2]) == picture:
        return cut_plane(mask, cut, cut.canvas, CENTRED, "nearest")
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    fitted = torch.nn.functional.interpolate(flat, (picture.height, picture.width))
    fitted = fitted.reshape(*mask.shape[:-2], picture.height, picture.width).to(mask.dtype)
    return cut_plane(fitted, cut, cut.canvas, CENTRED, "nearest")


def _tell(value: Any, cut: Cut) -> None:
    for name in sorted({_name(found) for found in _uncut(value, cut)}):
        note(
            "patch",
            f"The model is patched with {name}, which holds a picture of the whole image that "
            "cannot be cut to a segment. Segments may be guided by the wrong part of it, or fail. "
            "Connect a model without this patch to the detailer.",
        )


def _uncut(value: Any, cut: Cut) -> Iterator[Any]:
    """Functions and patches of a model that hold a picture of the size of the image or latent."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _uncut(item, cut)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _uncut(item, cut)
    elif any(_covers_image(held, cut) for held in _tensors_of(value)):
        yield value


def _tensors_of(function: Any) -> Iterator[torch.Tensor]:
    """Tensors in the closure of a function, or in the attributes of a patch, that were not cut."""
    owner = function.__self__ if isinstance(function, types.MethodType) else function
    cells = getattr(owner, "__closure__", None) or ()
    held = []
    for cell in cells:
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not set yet
            continue
    if not isinstance(owner, types.FunctionType):
        own = getattr(owner, "__dict__", {})
        held += [value for name, value in own.items() if name in ("hint_latent", "latent_image")]
    for value in held:
        if isinstance(value, torch.Tensor):
            yield value


def _covers_image(tensor: torch.Tensor, cut: Cut) -> bool:
    """Whether a tensor has the size of the image or of its latent, within one pixel."""
    if tensor.ndim < 3:
        return False
    for height, width in {tuple(tensor.shape[-2:]), tuple(tensor.shape[-3:-1])}:
        for each in (1, cut.ratio):
            wide, high = cut.image.width / each, cut.image.height / each
            if min(wide, high) >= 4 and abs(width - wide) <= 1 and abs(height - high) <= 1:
                return True
    return False


def _name(value: Any) -> str:
    owner = value.__self__ if isinstance(value, types.MethodType) else value
    return getattr(owner, "__qualname__", type(owner).__name__)
