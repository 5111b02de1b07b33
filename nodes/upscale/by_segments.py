"""Nodes that enlarge an image and redraw its segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...core import checked_calls
from ...core.bounds import check_pixels
from ...core.checked_calls import Source
from ...core.detail.upscale_segs import OWN_SIZE, Enlarging, upscale_segs
from ...core.geometry import Size
from ...core.host.backend import ComfyBackend
from ...core.host.call_node import call_node
from ...core.memory import persist
from ...core.pixels.resample import METHODS
from ...core.settings import Detail, Masking, Models, Pasting
from ..detail.images import make_sampling
from ..detail.options import given
from ..detail.pipes import pipe_models
from ..segs.pictures import given_segs
from ..widgets import inputs

_IMAGE = "The image to enlarge, or a batch of images."
_SAMPLING = ("seed", "steps", "cfg", "sampler_name", "scheduler")
_REDRAWING = ("denoise", "feather", "inpaint_model", "noise_mask_feather")


class SEGSUpscaler:
    DESCRIPTION = (
        "Enlarges an image, with an upscale model or by resampling, and then redraws its "
        "segments. With tiles from Make Tile SEGS, the whole image is redrawn."
    )
    CATEGORY = "Detailers/Upscale"
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The enlarged image with every segment redrawn.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("image", "segs", "model", "clip", "vae", image=_IMAGE),
                **_enlarging(),
                **inputs(*_SAMPLING, "positive", "negative", *_REDRAWING),
            },
            "optional": _optional(),
        }

    def run(self, image, segs, model, clip, vae, positive, negative, **widgets):
        models = pipe_models((model, clip, vae, positive, negative))
        return (upscaled(image, segs, models, **widgets),)


class SEGSUpscalerPipe(SEGSUpscaler):
    DESCRIPTION = SEGSUpscaler.DESCRIPTION + " Takes the models over one link."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("image", "segs", "basic_pipe", image=_IMAGE),
                **_enlarging(),
                **inputs(*_SAMPLING, *_REDRAWING),
            },
            "optional": _optional(),
        }

    def run(self, image, segs, basic_pipe, **widgets):
        return (upscaled(image, segs, pipe_models(basic_pipe), **widgets),)


def _enlarging() -> dict[str, tuple]:
    factor = {
        "default": 2, "min": 0.01, "max": 100.0, "step": 0.01,
        "tooltip": "The factor by which width and height are multiplied.",
    }  # fmt: skip
    method = {
        "tooltip": "How pixels are resampled. After an upscale model, its result is resampled "
        "to the wanted size."
    }
    supersample = {
        "tooltip": "Resample through a picture that is eight times finer. The result is a "
        "little softer."
    }
    modulus = {
        "default": 8, "min": 8, "max": 1024, "step": 8,
        "tooltip": "The new width and height are rounded to a multiple of this.",
    }  # fmt: skip
    return {
        "rescale_factor": ("FLOAT", factor),
        "resampling_method": (list(METHODS), method),
        "supersample": (["true", "false"], supersample),
        "rounding_modulus": ("INT", modulus),
    }


def _optional() -> dict[str, tuple]:
    model = {"tooltip": "Enlarges the image before it is resampled to the wanted size."}
    hook = {"tooltip": "A hook that changes the run of every segment at certain points."}
    return {
        "upscale_model_opt": ("UPSCALE_MODEL", model),
        "upscaler_hook_opt": ("UPSCALER_HOOK", hook),
        **inputs("scheduler_func_opt", "paste_options"),
    }


def upscaled(image: Any, segs: Any, models: Models, **widgets: Any):
    """Check the inputs of a SEGS upscaler, enlarge the image and redraw its segments."""
    model = widgets.get("upscale_model_opt")
    enlarging = Enlarging(
        factor=widgets["rescale_factor"],
        method=widgets["resampling_method"],
        supersample=widgets["supersample"] == "true",
        multiple=widgets["rounding_modulus"],
        model=model_upscaler(model),
    )
    detail = Detail(
        models=models,
        sizing=OWN_SIZE,
        sampling=make_sampling(**widgets),
        masking=Masking(
            noise_mask_feather=widgets["noise_mask_feather"],
            feather=widgets["feather"],
            inpaint_model=widgets["inpaint_model"],
        ),
        pasting=given(widgets.get("paste_options"), Pasting, "paste_options"),
        hook=widgets.get("upscaler_hook_opt"),
    )
    return upscale_segs(image, given_segs(segs), enlarging, detail, ComfyBackend())


def model_upscaler(model: Any) -> Callable | None:
    """A function that enlarges pixels [N,H,W,3] with an upscale model. None: there is no model."""
    if model is None:
        return None
    source = Source.of("'upscale_model_opt':", model, remedy="Choose another upscale model.")

    def enlarge(pixels: torch.Tensor) -> torch.Tensor:
        times = checked_calls.number(
            source, getattr(model, "scale", 1), "a finite number as 'scale'"
        )
        height, width = pixels.shape[1:3]
        size = Size(int(width * times), int(height * times))
        check_pixels(size, "The upscale model's result", remedy="Use a smaller picture.")
        inputs = {"upscale_model": model, "image": pixels}
        larger = persist(
            lambda: source.call(call_node, "ImageUpscaleWithModel", **inputs)[0],
            f"a picture of {width} x {height} pixels",
            "enlarged by the upscale model",
        )
        return checked_calls.pixels(source, larger, pixels)

    return enlarge


NODES = {
    "SEGSUpscaler": (SEGSUpscaler, "Upscaler (SEGS)"),
    "SEGSUpscalerPipe": (SEGSUpscalerPipe, "Upscaler (SEGS/pipe)"),
}
