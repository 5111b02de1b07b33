"""Nodes for samplers: KSampler with a pipe, samplers as objects, and two samplers for a mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...core.graph.calls import called_as
from ...core.host.backend import MAX_RESOLUTION, ComfyBackend
from ...core.host.samplers import schedulers
from ...core.sampling.latent import (
    Denoising,
    SamplerSetup,
    SchedulePart,
    noise_for,
    sample_latent,
    sample_part,
)
from ...core.sampling.latent_tiles import STRATEGIES
from ...core.sampling.regional import sample_two
from ...core.sampling.sampler_objects import AdvancedKSampler, KSampler, is_on, sample_in_mask
from ...core.sampling.sigmas import Window, denoise_window, split_for_refiner
from ...core.settings import Models, Tiles
from ...utils.check import check_latent, check_mask
from ..detail.pipes import pipe_models
from ..widgets import inputs

CATEGORY = "Detailers/Sampling"
FULL_DENOISE = {
    "default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01,
    "tooltip": "How much the latent is changed: low values keep it similar, 1 starts from pure "
    "noise.",
}  # fmt: skip
_SEED = {"seed": "Seed of the noise."}
ENABLED = {"label_on": "enabled", "label_off": "disabled"}
_ON_OFF = {"label_on": "enable", "label_off": "disable"}
SAMPLED_LATENT = "The sampled latent."
SAMPLER_OBJECT = "The sampler with all its settings."


def denoise_input() -> dict[str, tuple]:
    """The input for the denoise strength."""
    return {"denoise": ("FLOAT", dict(FULL_DENOISE))}


def latent_input(name: str, tooltip: str = "The latent to sample.") -> dict[str, tuple]:
    """The input for a LATENT."""
    return {name: ("LATENT", {"tooltip": tooltip})}


def sampler_input(name: str, kind: str, tooltip: str) -> dict[str, tuple]:
    """The input for a sampler object of a link type."""
    return {name: (kind, {"tooltip": tooltip})}


def sampling_models(basic_pipe: Any) -> Models:
    """The parts of a BASIC_PIPE, after a check that those for sampling are there."""
    return pipe_models(basic_pipe, needed=("model", "positive", "negative"))


def sampler_setup(models: Models, **widgets: Any) -> SamplerSetup:
    """The setup of a sampler from a node's widgets, by their names."""
    return SamplerSetup(
        model=models.model,
        positive=models.positive,
        negative=models.negative,
        cfg=widgets["cfg"],
        sampler_name=widgets["sampler_name"],
        scheduler=widgets["scheduler"],
        scheduler_func=widgets.get("scheduler_func_opt"),
        sampler=widgets.get("sampler_opt"),
        sigma_factor=widgets.get("sigma_factor", 1.0),
        tiles=widgets.get("tiles"),
    )


def denoising(**widgets: Any) -> Denoising:
    """Seed, steps and denoise strength from a node's widgets, by their names."""
    return Denoising(widgets["seed"], widgets["steps"], widgets["denoise"])


def sampler_object(models: Models, **widgets: Any) -> KSampler:
    """The KSAMPLER for a node's widgets, by their names."""
    return KSampler(sampler_setup(models, **widgets), denoising(**widgets), ComfyBackend)


# Functions that other packs call ---------------------------------------------------------------


@called_as(
    "model, add_noise, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image,"
    "start_at_step=None, end_at_step=None, return_with_leftover_noise=False, sigma_ratio=1.0,"
    "sampler_opt=None, noise=None, callback=None, scheduler_func=None"
)
def separated_sample(
    add_noise, seed, steps, latent_image, start_at_step, end_at_step, return_with_leftover_noise,
    noise, callback, **given,
):  # fmt: skip
    """Sample a LATENT from a first step of a schedule to a last step.

    Args:
        noise: of the shape of the latent's samples. It is added instead of the seed's noise.
        callback: is called after each step, with the number of the step, the denoised latent, the
            noisy latent, and the number of steps.
    """
    check_latent(latent_image, "latent_image")
    setup, backend = _setup_of_call(given), ComfyBackend()
    start = start_at_step or 0
    end = steps if end_at_step is None else min(end_at_step, steps)
    if not is_on(add_noise):
        noise = None
    elif noise is None:
        noise = noise_for(setup, latent_image, seed, backend)
    part = SchedulePart(Window(steps, start, end), seed, noise, is_on(return_with_leftover_noise))
    return sample_part(setup, latent_image, part, backend, watch=callback)


@called_as(
    "model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image, denoise,"
    "refiner_ratio=None, refiner_model=None, refiner_clip=None, refiner_positive=None,"
    "refiner_negative=None, sigma_factor=1.0, noise=None, scheduler_func=None, sampler_opt=None,"
    "preview_enabled=True"
)
def ksampler_wrapper(
    seed, steps, latent_image, denoise, refiner_ratio, refiner_model, refiner_clip,
    refiner_positive, refiner_negative, noise, preview_enabled, **given,
):  # fmt: skip
    """Sample a LATENT as KSampler does. A refiner runs the share `refiner_ratio` of the steps at
    the end."""
    check_latent(latent_image, "latent_image")
    setup, backend = _setup_of_call(given), ComfyBackend()
    if noise is None:
        noise = noise_for(setup, latent_image, seed, backend)
    window = denoise_window(steps, denoise)
    if refiner_model is None or not refiner_ratio:
        return sample_part(setup, latent_image, SchedulePart(window, seed, noise), backend)
    first, last = split_for_refiner(window, refiner_ratio)
    latent = sample_part(
        setup, latent_image, SchedulePart(first, seed, noise, leftover=True), backend, (0, 2)
    )
    refiner = replace(
        setup, model=refiner_model, positive=refiner_positive, negative=refiner_negative
    )  # fmt: skip
    part = SchedulePart(last, seed, number=first.steps)
    return sample_part(refiner, latent, part, backend, (1, 2))


def _setup_of_call(given: dict[str, Any]) -> SamplerSetup:
    models = Models(given["model"], None, None, given["positive"], given["negative"])
    widgets = {name: given[name] for name in ("cfg", "sampler_name", "scheduler", "sampler_opt")}
    factor = given.get("sigma_ratio", given.get("sigma_factor", 1.0))
    func = given["scheduler_func"]
    return sampler_setup(models, **widgets, scheduler_func_opt=func, sigma_factor=factor)


# KSampler with a pipe ------------------------------------------------------------------------


class ImpactKSamplerBasicPipe:
    DESCRIPTION = "KSampler that takes model, conditionings and VAE over one link."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BASIC_PIPE", "LATENT", "VAE")
    OUTPUT_TOOLTIPS = (
        "The same pipe that is connected to the input.",
        SAMPLED_LATENT,
        "The pipe's VAE.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs(
                    "basic_pipe", "seed", "steps", "cfg", "sampler_name", "scheduler", **_SEED
                ),
                **latent_input("latent_image"),
                **denoise_input(),
            },
            "optional": inputs("scheduler_func_opt"),
        }

    def run(self, basic_pipe, latent_image, **widgets):
        models = sampling_models(basic_pipe)
        setup = sampler_setup(models, **widgets)
        latent = sample_latent(setup, denoising(**widgets), latent_image, ComfyBackend())
        return (basic_pipe, latent, models.vae)


class ImpactKSamplerAdvancedBasicPipe(ImpactKSamplerBasicPipe):
    DESCRIPTION = "KSampler (Advanced) that takes model, conditionings and VAE over one link."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("basic_pipe"),
                **add_noise_input(_ON_OFF),
                "noise_seed": inputs("seed", **_SEED)["seed"],
                **inputs("steps", "cfg", "sampler_name", "scheduler"),
                **latent_input("latent_image"),
                **step_inputs(),
                **leftover_input(_ON_OFF),
            },
            "optional": inputs("scheduler_func_opt"),
        }

    def run(
        self, basic_pipe, add_noise, noise_seed, steps, latent_image, start_at_step, end_at_step,
        return_with_leftover_noise, **widgets,
    ):  # fmt: skip
        models = sampling_models(basic_pipe)
        setup, backend = sampler_setup(models, **widgets), ComfyBackend()
        noise = noise_for(setup, latent_image, noise_seed, backend) if add_noise else None
        window = Window(steps, start_at_step, min(end_at_step, steps))
        part = SchedulePart(window, noise_seed, noise, return_with_leftover_noise)
        return (basic_pipe, sample_part(setup, latent_image, part, backend), models.vae)


def add_noise_input(labels: dict[str, str]) -> dict[str, tuple]:
    """The input that says whether noise is added."""
    tooltip = "Whether noise is added first. Turn it off if the latent already has noise."
    return {"add_noise": ("BOOLEAN", {"default": True, **labels, "tooltip": tooltip})}


def leftover_input(labels: dict[str, str]) -> dict[str, tuple]:
    """The input that says whether noise is left in the latent."""
    tooltip = "Whether the noise that later steps would remove stays in the latent."
    options = {"default": False, **labels, "tooltip": tooltip}
    return {"return_with_leftover_noise": ("BOOLEAN", options)}


def step_inputs() -> dict[str, tuple]:
    """The inputs for the first and the last step."""
    step = {"min": 0, "max": 10000}
    return {
        "start_at_step": ("INT", {"default": 0, **step, "tooltip": "The first step to run."}),
        "end_at_step": (
            "INT",
            {"default": 10000, **step, "tooltip": "Sampling ends before this step."},
        ),
    }


# Samplers as objects -------------------------------------------------------------------------


class KSamplerProvider:
    DESCRIPTION = "A KSampler with all its settings, for nodes that get samplers over a link."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("KSAMPLER",)
    OUTPUT_TOOLTIPS = (SAMPLER_OBJECT,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("seed", "steps", "cfg", "sampler_name", "scheduler", **_SEED),
                **denoise_input(),
                **inputs("basic_pipe"),
            },
            "optional": inputs("scheduler_func_opt"),
        }

    def run(self, basic_pipe, **widgets):
        return (sampler_object(sampling_models(basic_pipe), **widgets),)


class TiledKSamplerProvider(KSamplerProvider):
    DESCRIPTION = (
        "A KSampler whose model sees the latent in tiles, so that pictures of any size can be "
        "sampled with little memory."
    )

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("seed", "steps", "cfg", "sampler_name", **_SEED),
                "scheduler": (schedulers(), inputs("scheduler")["scheduler"][1]),
                **denoise_input(),
                **tile_inputs(),
                **inputs("basic_pipe"),
            }
        }

    def run(self, basic_pipe, tile_width, tile_height, tiling_strategy, **widgets):
        tiles = Tiles(tile_width, tile_height, tiling_strategy)
        return (sampler_object(sampling_models(basic_pipe), tiles=tiles, **widgets),)


def tile_inputs() -> dict[str, tuple]:
    """The inputs for the size of tiles and their strategy."""
    side = {"default": 512, "min": 320, "max": MAX_RESOLUTION, "step": 64}
    width = {**side, "tooltip": "Width of a tile in pixels."}
    height = {**side, "tooltip": "Height of a tile in pixels."}
    strategy = {
        "tooltip": "random: the grid of tiles moves at every step, so that no seams are "
        "visible. padded: the tiles overlap and fade into one another; this is the "
        "smoothest and the slowest. simple: a fixed grid."
    }
    return {
        "tile_width": ("INT", width),
        "tile_height": ("INT", height),
        "tiling_strategy": (list(STRATEGIES), strategy),
    }


class KSamplerAdvancedProvider:
    DESCRIPTION = "A KSampler (Advanced) with all its settings, for nodes that sample by regions."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("KSAMPLER_ADVANCED",)
    OUTPUT_TOOLTIPS = (SAMPLER_OBJECT,)
    FUNCTION = "doit"  # other packs call it by this name to make samplers

    @classmethod
    def INPUT_TYPES(cls):
        factor = {
            "default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01,
            "tooltip": "All noise levels are multiplied by this.",
        }  # fmt: skip
        sampler = {"tooltip": "A sampler from another node. It is used instead of sampler_name."}
        return {
            "required": {
                **inputs("cfg", "sampler_name", "scheduler"),
                "sigma_factor": ("FLOAT", factor),
                **inputs("basic_pipe"),
            },
            "optional": {"sampler_opt": ("SAMPLER", sampler), **inputs("scheduler_func_opt")},
        }

    def doit(self, cfg, sampler_name, scheduler, basic_pipe, sigma_factor=1.0, **widgets):
        setup = sampler_setup(
            sampling_models(basic_pipe), cfg=cfg, sampler_name=sampler_name, scheduler=scheduler,
            sigma_factor=sigma_factor, **widgets,
        )  # fmt: skip
        return (AdvancedKSampler(setup, ComfyBackend),)


# Two samplers --------------------------------------------------------------------------------


class TwoSamplersForMask:
    DESCRIPTION = (
        "Samples the part outside of a mask with one sampler, and then the part inside with "
        "another."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = (SAMPLED_LATENT,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **latent_input("latent_image"),
                **two_samplers("KSAMPLER"),
                **inputs("mask", mask="The white part of the mask is sampled by mask_sampler."),
            },
            "optional": apart_input(),
        }

    def run(self, latent_image, base_sampler, mask_sampler, mask, restore_latent=False):
        mask = check_mask(mask, "mask")
        latent = sample_in_mask(
            latent_image, base_sampler, mask_sampler, mask, apart=restore_latent
        )  # fmt: skip
        return (latent,)


class TwoAdvancedSamplersForMask(TwoSamplersForMask):
    DESCRIPTION = (
        "Samples the part outside of a mask with one sampler and the part inside with another. "
        "Both run at every step, so that the two parts fit together."
    )

    @classmethod
    def INPUT_TYPES(cls):
        overlap = {
            "default": 10, "min": 0, "max": 10000,
            "tooltip": "How far the masked part extends into the other part, in latent pixels.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("seed", "steps", **_SEED),
                **denoise_input(),
                **latent_input("samples"),
                **two_samplers("KSAMPLER_ADVANCED"),
                **inputs("mask", mask="The white part of the mask is sampled by mask_sampler."),
                "overlap_factor": ("INT", overlap),
            },
            "optional": together_input(),
        }

    def run(
        self, seed, steps, denoise, samples, base_sampler, mask_sampler, mask, overlap_factor,
        restore_latent=True,
    ):  # fmt: skip
        return (
            sample_two(
                base_sampler, mask_sampler, check_mask(mask, "mask"), samples,
                denoise_window(steps, denoise), seed, overlap_factor, ComfyBackend(),
                together=restore_latent,
            ),
        )  # fmt: skip


def two_samplers(kind: str) -> dict[str, tuple]:
    """The inputs for the samplers outside and inside of a mask; `kind` is their link type."""
    return {
        **sampler_input("base_sampler", kind, "Samples the part outside of the mask."),
        **sampler_input("mask_sampler", kind, "Samples the part inside of the mask."),
    }


def together_input() -> dict[str, tuple]:
    """The input that says whether all regions start from the same latent in each step."""
    options = {
        "default": True, **ENABLED,
        "tooltip": "Enabled: at each step all regions start from the same latent. If the base "
        "and the regions have the same sampler and schedule, they are sampled in one "
        "run. Disabled: the regions are sampled one after another, each from the "
        "result of the one before.",
    }  # fmt: skip
    return {"restore_latent": ("BOOLEAN", options)}


def apart_input() -> dict[str, tuple]:
    """The input that says whether both samplers start from the input latent."""
    options = {
        "default": False, **ENABLED,
        "tooltip": "Enabled: both samplers start from the input latent, and the mask mixes "
        "their results. Disabled: the second sampler starts from the result of the "
        "first.",
    }  # fmt: skip
    return {"restore_latent": ("BOOLEAN", options)}


NODES = {
    "ImpactKSamplerBasicPipe": (ImpactKSamplerBasicPipe, "KSampler (pipe)"),
    "ImpactKSamplerAdvancedBasicPipe": (
        ImpactKSamplerAdvancedBasicPipe,
        "KSampler (Advanced/pipe)",
    ),
    "KSamplerProvider": (KSamplerProvider, "KSamplerProvider"),
    "KSamplerAdvancedProvider": (KSamplerAdvancedProvider, "KSamplerAdvancedProvider"),
    "TiledKSamplerProvider": (TiledKSamplerProvider, "TiledKSamplerProvider"),
    "TwoSamplersForMask": (TwoSamplersForMask, "TwoSamplersForMask"),
    "TwoAdvancedSamplersForMask": (TwoAdvancedSamplersForMask, "TwoAdvancedSamplersForMask"),
}
