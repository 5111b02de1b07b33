"""Nodes that enlarge in several steps and sample after each, and nodes that resize latents."""

from __future__ import annotations

from typing import Any

from ...core.geometry import Size
from ...core.host.backend import ComfyBackend
from ...core.host.folders import save_previews
from ...core.host.hooks import attach_control_net
from ...core.host.samplers import schedulers
from ...core.pixels.image import merge_alpha, to_rgb
from ...core.pixels.resample import resize
from ...core.prompts.control import ControlNet
from ...core.sampling.iterative_upscale import (
    FULL_SCHEDULES,
    SCALE_METHODS,
    STEP_MODES,
    Iterations,
    MaskUpscaler,
    SamplingUpscaler,
    Scaling,
    enlarged,
    reencoded,
    size_in_pixels,
    upscale_latent,
    upscale_pixels,
    vae_of,
)
from ...core.settings import Models, Tiles, VaeTile
from ...utils.check import check_mask
from ..detail.pipes import pipe_models
from ..sampling.samplers import (
    apart_input,
    denoise_input,
    latent_input,
    sampler_input,
    sampler_object,
    tile_inputs,
)
from ..widgets import inputs
from .by_segments import model_upscaler

CATEGORY = "Detailers/Upscale"
_LATENT = "The latent to enlarge."
_UPSCALER = ("The upscaler, which enlarges and samples, for an iterative upscale node.",)
_SEED = {"seed": "Seed of the noise; the same in every iteration."}
_ON_OFF = {"label_on": "enabled", "label_off": "disabled"}


# Iterations ----------------------------------------------------------------------------------


class IterativeLatentUpscale:
    DESCRIPTION = (
        "Enlarges a latent in several steps, each time by decoding it, resizing the pixels and "
        "encoding them, and samples it after each step. So detail grows with the size."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT", "VAE")
    RETURN_NAMES = ("latent", "vae")
    OUTPUT_TOOLTIPS = ("The enlarged latent.", "The upscaler's VAE, to decode it with.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        before, after = _iteration_inputs()
        return {
            "required": {**latent_input("samples", _LATENT), **before, **after},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, samples, upscaler, unique_id=None, **widgets):
        result = upscale_latent(samples, _iterations(**widgets), upscaler, ComfyBackend())
        return (result, vae_of(upscaler))


class IterativeImageUpscale:
    DESCRIPTION = (
        "Enlarges an image in several steps and samples it after each step, so that detail "
        "grows with the size."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The enlarged image.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        pixels = {"tooltip": "The image to enlarge, or a batch of images."}
        before, after = _iteration_inputs()
        return {
            "required": {"pixels": ("IMAGE", pixels), **before, **inputs("vae"), **after},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, pixels, upscaler, vae, unique_id=None, **widgets):
        colours, alpha = to_rgb(pixels)
        how = _iterations(**widgets)
        result = upscale_pixels(colours, how, upscaler, vae, ComfyBackend())
        if alpha is not None:
            alpha = resize(alpha, Size(result.shape[2], result.shape[1])).to(result)
        return (merge_alpha(result, alpha),)


def _iteration_inputs() -> tuple[dict[str, tuple], dict[str, tuple]]:
    factor = {
        "default": 1.5, "min": 1, "max": 10000, "step": 0.1,
        "tooltip": "The factor by which width and height are multiplied in total.",
    }  # fmt: skip
    steps = {
        "default": 3, "min": 1, "max": 10000, "step": 1,
        "tooltip": "The number of steps in which the size is reached.",
    }  # fmt: skip
    prefix = {
        "default": "",
        "tooltip": "A picture of every step is saved in ComfyUI's temp folder, with a file name "
        "that begins with this. Empty: none is saved.",
    }
    mode = {
        "default": STEP_MODES[0],
        "tooltip": "simple: each step adds the same number of pixels. geometric: each step "
        "multiplies by the same factor.",
    }
    before = {
        "upscale_factor": ("FLOAT", factor),
        "steps": ("INT", steps),
        "temp_prefix": ("STRING", prefix),
        "upscaler": ("UPSCALER", {"tooltip": "Enlarges and samples in each step."}),
    }
    return before, {"step_mode": (list(STEP_MODES), mode)}


def _iterations(upscale_factor, steps, temp_prefix, step_mode) -> Iterations:
    return Iterations(upscale_factor, steps, step_mode, temp_prefix)


# Upscalers -----------------------------------------------------------------------------------


class PixelKSampleUpscalerProvider:
    DESCRIPTION = (
        "An upscaler that enlarges pixels, with an upscale model or by resampling, and then "
        "samples the whole picture."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("UPSCALER",)
    OUTPUT_TOOLTIPS = _UPSCALER
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **_scale_method(),
                **inputs("model", "vae", model="The model that samples."),
                **inputs("seed", "steps", "cfg", "sampler_name", "scheduler", **_SEED),
                **inputs("positive", "negative", **_TEXTS),
                **denoise_input(),
                **_tiled_vae(),
                **_vae_tile(),
            },
            "optional": {**_model_and_hook(), **inputs("scheduler_func_opt")},
        }

    def run(self, model, vae, positive, negative, **widgets):
        return (_sampling_upscaler(pipe_models((model, None, vae, positive, negative)), **widgets),)


class PixelKSampleUpscalerProviderPipe(PixelKSampleUpscalerProvider):
    DESCRIPTION = PixelKSampleUpscalerProvider.DESCRIPTION + " Takes the models over one link."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **_scale_method(),
                **inputs("seed", "steps", "cfg", "sampler_name", "scheduler", **_SEED),
                **denoise_input(),
                **_tiled_vae(),
                **inputs("basic_pipe"),
                **_vae_tile(),
            },
            "optional": {
                **_model_and_hook(),
                **inputs("scheduler_func_opt"),
                **_tile_control(),
            },
        }

    def run(self, basic_pipe, **widgets):
        return (_sampling_upscaler(pipe_models(basic_pipe), **widgets),)


class PixelTiledKSampleUpscalerProvider(PixelKSampleUpscalerProvider):
    DESCRIPTION = (
        "An upscaler that enlarges pixels, with an upscale model or by resampling, and then "
        "samples the picture in tiles, so that it may be of any size."
    )

    @classmethod
    def INPUT_TYPES(cls):
        overlap = {
            "default": 64, "min": 0, "max": 4096, "step": 32,
            "tooltip": "The tiles of the VAE overlap by this many pixels.",
        }  # fmt: skip
        return {
            "required": {
                **_scale_method(),
                **inputs("model", "vae", model="The model that samples."),
                **_tiled_sampling(),
                **inputs("positive", "negative", **_TEXTS),
                **denoise_input(),
                **tile_inputs(),
            },
            "optional": {**_model_and_hook(), **_tile_control(), "overlap": ("INT", overlap)},
        }

    def run(self, model, vae, positive, negative, **widgets):
        models = pipe_models((model, None, vae, positive, negative))
        return (_tiled_upscaler(models, **widgets),)


class PixelTiledKSampleUpscalerProviderPipe(PixelTiledKSampleUpscalerProvider):
    DESCRIPTION = PixelTiledKSampleUpscalerProvider.DESCRIPTION + " Takes the models over one link."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **_scale_method(),
                **_tiled_sampling(),
                **denoise_input(),
                **tile_inputs(),
                **inputs("basic_pipe"),
            },
            "optional": {**_model_and_hook(), **_tile_control()},
        }

    def run(self, basic_pipe, **widgets):
        return (_tiled_upscaler(pipe_models(basic_pipe), **widgets),)


class TwoSamplersForMaskUpscalerProvider:
    DESCRIPTION = (
        "An upscaler that samples the part outside of a mask with one sampler and the part "
        "inside with another."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("UPSCALER",)
    OUTPUT_TOOLTIPS = _UPSCALER
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {**_two_samplers(), **inputs("vae"), **_vae_tile()},
            "optional": _two_samplers_optional(),
        }

    def run(self, vae, **widgets):
        return (_mask_upscaler(vae, **widgets),)


class TwoSamplersForMaskUpscalerProviderPipe(TwoSamplersForMaskUpscalerProvider):
    DESCRIPTION = TwoSamplersForMaskUpscalerProvider.DESCRIPTION + " Takes the VAE from a pipe."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {**_two_samplers(), **inputs("basic_pipe"), **_vae_tile()},
            "optional": _two_samplers_optional(),
        }

    def run(self, basic_pipe, **widgets):
        return (_mask_upscaler(pipe_models(basic_pipe, needed=("vae",)).vae, **widgets),)


_TEXTS = {"positive": "What the picture should show.", "negative": "What it should not show."}


def _scale_method() -> dict[str, tuple]:
    tooltip = (
        "How the pixels are resampled. After an upscale model, its result is resampled to the "
        "wanted size."
    )
    return {"scale_method": (list(SCALE_METHODS), {"tooltip": tooltip})}


def _tiled_vae() -> dict[str, tuple]:
    tooltip = "Whether the VAE works in tiles. This needs less memory and more time."
    return {"use_tiled_vae": ("BOOLEAN", {"default": False, **_ON_OFF, "tooltip": tooltip})}


def _vae_tile() -> dict[str, tuple]:
    size = {
        "default": 512, "min": 320, "max": 4096, "step": 64,
        "tooltip": "Side of the VAE's tiles in pixels.",
    }  # fmt: skip
    return {"tile_size": ("INT", size)}


def _tiled_sampling() -> dict[str, tuple]:
    return {
        **inputs("seed", "steps", "cfg", "sampler_name", **_SEED),
        "scheduler": (schedulers(), inputs("scheduler")["scheduler"][1]),
    }


def _upscale_model() -> dict[str, tuple]:
    tooltip = "Enlarges the pixels before they are resampled to the wanted size."
    return {"upscale_model_opt": ("UPSCALE_MODEL", {"tooltip": tooltip})}


def _model_and_hook() -> dict[str, tuple]:
    hook = {"tooltip": "A hook that changes every iteration, for instance to vary cfg or denoise."}
    return {**_upscale_model(), "pk_hook_opt": ("PK_HOOK", hook)}


def _tile_control() -> dict[str, tuple]:
    control = {
        "tooltip": "A tile ControlNet. It gets the enlarged picture, so that shapes are kept."
    }
    strength = {
        "default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01,
        "tooltip": "The strength of the tile ControlNet.",
    }  # fmt: skip
    return {
        "tile_cnet_opt": ("CONTROL_NET", control),
        "tile_cnet_strength": ("FLOAT", strength),
    }


def _two_samplers() -> dict[str, tuple]:
    schedule = {
        "tooltip": "In which iterations the whole picture is sampled instead, by base_sampler "
        "and then by full_sampler_opt: after each one, two or three normal "
        "iterations, or in the last iterations."
    }
    return {
        **_scale_method(),
        "full_sample_schedule": (list(FULL_SCHEDULES), schedule),
        **_tiled_vae(),
        **sampler_input("base_sampler", "KSAMPLER", "Samples the part outside of the mask."),
        **sampler_input("mask_sampler", "KSAMPLER", "Samples the part inside of the mask."),
        **inputs(
            "mask",
            mask="The white part of the mask is sampled by mask_sampler. It may have any size.",
        ),
    }


def _two_samplers_optional() -> dict[str, tuple]:
    def hook(of: str) -> tuple:
        return ("PK_HOOK", {"tooltip": f"A hook that changes the iterations of {of}."})

    full = (
        "Samples the whole picture in the iterations of full_sample_schedule. Without it, "
        "base_sampler does this."
    )
    return {
        **sampler_input("full_sampler_opt", "KSAMPLER", full),
        **_upscale_model(),
        "pk_hook_base_opt": hook("base_sampler, and the enlarging"),
        "pk_hook_mask_opt": hook("mask_sampler"),
        "pk_hook_full_opt": hook("full_sampler_opt"),
        **apart_input(),
    }


def _scaling(vae: Any, tiled: bool, tile: VaeTile, **widgets: Any) -> Scaling:
    model = model_upscaler(widgets.get("upscale_model_opt"))
    return Scaling(vae, widgets["scale_method"], tiled, tile, model)


def _show(prefix: str, pixels: Any) -> None:
    save_previews(pixels.split(1), prefix)


def _sampling_upscaler(
    models: Models, use_tiled_vae: bool, tile_size: int, **widgets: Any
) -> SamplingUpscaler:
    scaling = _scaling(models.vae, use_tiled_vae, VaeTile(tile_size), **widgets)
    return _upscaler(models, scaling, **widgets)


def _tiled_upscaler(
    models: Models, tile_width: int, tile_height: int, tiling_strategy: str, overlap: int = 64,
    **widgets: Any,
) -> SamplingUpscaler:  # fmt: skip
    scaling = _scaling(models.vae, True, VaeTile(overlap=overlap), **widgets)
    tiles = Tiles(tile_width, tile_height, tiling_strategy)
    return _upscaler(models, scaling, tiles=tiles, **widgets)


def _upscaler(models: Models, scaling: Scaling, **widgets: Any) -> SamplingUpscaler:
    control = widgets.get("tile_cnet_opt")
    if control is not None:
        control = ControlNet(control, widgets.get("tile_cnet_strength", 1.0), vae=models.vae)
    return SamplingUpscaler(
        sampler_object(models, **widgets), scaling, ComfyBackend, _show,
        hook=widgets.get("pk_hook_opt"), control=control, attach=attach_control_net,
    )  # fmt: skip


def _mask_upscaler(vae: Any, use_tiled_vae: bool, tile_size: int, **widgets: Any) -> MaskUpscaler:
    return MaskUpscaler(
        widgets["base_sampler"], widgets["mask_sampler"], check_mask(widgets["mask"], "mask"),
        _scaling(vae, use_tiled_vae, VaeTile(tile_size), **widgets), ComfyBackend, _show,
        schedule=widgets["full_sample_schedule"], full=widgets.get("full_sampler_opt"),
        pk_hooks=tuple(widgets.get(f"pk_hook_{name}_opt") for name in ("base", "mask", "full")),
        apart=widgets.get("restore_latent", False),
    )  # fmt: skip


# Resizing and reencoding latents -------------------------------------------------------------


class LatentPixelScale:
    DESCRIPTION = (
        "Resizes a latent: decodes it, resizes the pixels with an upscale model or by resampling, "
        "and encodes them."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT", "IMAGE")
    OUTPUT_TOOLTIPS = ("The resized latent.", "Its pixels.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        factor = {
            "default": 1.5, "min": 0.1, "max": 10000, "step": 0.1,
            "tooltip": "The factor by which width and height are multiplied.",
        }  # fmt: skip
        return {
            "required": {
                **latent_input("samples", "The latent to resize."),
                **_scale_method(),
                "scale_factor": ("FLOAT", factor),
                **inputs("vae"),
                **_tiled_vae(),
            },
            "optional": _upscale_model(),
        }

    def run(self, samples, scale_factor, vae, use_tiled_vae, **widgets):
        backend = ComfyBackend()
        width, height = size_in_pixels(samples, vae, backend)
        size = (width * scale_factor, height * scale_factor)
        scaling = _scaling(vae, use_tiled_vae, VaeTile(), **widgets)
        return enlarged(samples, size, scaling, backend)


class ReencodeLatent:
    DESCRIPTION = (
        "Decodes a latent with one VAE and encodes it with another, for another kind of model."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = ("The latent, encoded with output_vae.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        overlap = {
            "default": 64, "min": 0, "max": 4096, "step": 32,
            "tooltip": "The tiles overlap by this many pixels.",
        }  # fmt: skip
        return {
            "required": {
                **_reencoding(),
                "input_vae": ("VAE", {"tooltip": "The VAE of the input latent."}),
                "output_vae": ("VAE", {"tooltip": "The VAE of the new latent."}),
                **_vae_tile(),
            },
            "optional": {"overlap": ("INT", overlap)},
        }

    def run(self, samples, tile_mode, input_vae, output_vae, tile_size, overlap=64):
        tile = VaeTile(tile_size, overlap)
        return (_reencode(samples, tile_mode, input_vae, output_vae, tile),)


class ReencodeLatentPipe(ReencodeLatent):
    DESCRIPTION = ReencodeLatent.DESCRIPTION + " Takes the VAEs from pipes."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **_reencoding(),
                "input_basic_pipe": inputs(
                    "basic_pipe", basic_pipe="The pipe with the VAE of the input latent."
                )["basic_pipe"],
                "output_basic_pipe": inputs(
                    "basic_pipe", basic_pipe="The pipe with the VAE of the new latent."
                )["basic_pipe"],
            }
        }

    def run(self, samples, tile_mode, input_basic_pipe, output_basic_pipe):
        source, target = (
            pipe_models(pipe, name, needed=("vae",)).vae
            for pipe, name in (
                (input_basic_pipe, "input_basic_pipe"),
                (output_basic_pipe, "output_basic_pipe"),
            )
        )
        return (_reencode(samples, tile_mode, source, target, VaeTile()),)


# Which of decoding and encoding is done in tiles.
_TILE_MODES = {
    "None": (False, False),
    "Both": (True, True),
    "Decode(input) only": (True, False),
    "Encode(output) only": (False, True),
}


def _reencoding() -> dict[str, tuple]:
    mode = {
        "tooltip": "Which of decoding and encoding is done in tiles. Tiles need less memory "
        "and more time."
    }
    return {
        **latent_input("samples", "The latent to encode with the other VAE."),
        "tile_mode": (list(_TILE_MODES), mode),
    }


def _reencode(samples: Any, tile_mode: str, source: Any, target: Any, tile: VaeTile) -> dict:
    decode, encode = _TILE_MODES[tile_mode]
    return reencoded(
        samples, Scaling(source, SCALE_METHODS[0], decode, tile),
        Scaling(target, SCALE_METHODS[0], encode, tile), ComfyBackend(),
    )  # fmt: skip


NODES = {
    "IterativeLatentUpscale": (
        IterativeLatentUpscale,
        "Iterative Upscale (Latent/on Pixel Space)",
    ),
    "IterativeImageUpscale": (IterativeImageUpscale, "Iterative Upscale (Image)"),
    "PixelKSampleUpscalerProvider": (PixelKSampleUpscalerProvider, "PixelKSampleUpscalerProvider"),
    "PixelKSampleUpscalerProviderPipe": (
        PixelKSampleUpscalerProviderPipe,
        "PixelKSampleUpscalerProviderPipe",
    ),
    "PixelTiledKSampleUpscalerProvider": (
        PixelTiledKSampleUpscalerProvider,
        "PixelTiledKSampleUpscalerProvider",
    ),
    "PixelTiledKSampleUpscalerProviderPipe": (
        PixelTiledKSampleUpscalerProviderPipe,
        "PixelTiledKSampleUpscalerProviderPipe",
    ),
    "TwoSamplersForMaskUpscalerProvider": (
        TwoSamplersForMaskUpscalerProvider,
        "TwoSamplersForMask Upscaler Provider",
    ),
    "TwoSamplersForMaskUpscalerProviderPipe": (
        TwoSamplersForMaskUpscalerProviderPipe,
        "TwoSamplersForMask Upscaler Provider (pipe)",
    ),
    "LatentPixelScale": (LatentPixelScale, "Latent Scale (on Pixel Space)"),
    "ReencodeLatent": (ReencodeLatent, "Reencode Latent"),
    "ReencodeLatentPipe": (ReencodeLatentPipe, "Reencode Latent (pipe)"),
}
