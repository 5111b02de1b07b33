"""Nodes for sampling by regions: parts of the picture with their own samplers and prompts."""

from __future__ import annotations

from ...core.host.backend import ComfyBackend
from ...core.sampling import regional
from ...core.sampling.latent import SchedulePart
from ...core.sampling.regional import Regional, Seeds
from ...core.sampling.sampler_objects import RECOVERY_MODES, RECOVERY_SAMPLERS, Recovery
from ...core.sampling.sigmas import Window, denoise_window
from ...utils.check import check_mask
from ..prompts.conditioning import numbered
from ..widgets import Numbered, inputs
from .samplers import (
    ENABLED,
    SAMPLED_LATENT,
    add_noise_input,
    denoise_input,
    latent_input,
    leftover_input,
    sampler_input,
    separated_sample,
    step_inputs,
    together_input,
)

CATEGORY = "Detailers/Regional"
_PROMPTS = "The regions and their samplers."


class RegionalPrompt:
    DESCRIPTION = "A region of the picture, with the sampler and the prompt for it."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("REGIONAL_PROMPTS",)
    OUTPUT_TOOLTIPS = ("One region, for a regional sampler.",)
    FUNCTION = "doit"  # other packs call it by this name to make regions

    @classmethod
    def INPUT_TYPES(cls):
        strength = {
            "default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "How much noise of the variation seed is mixed into the noise of the "
            "region.",
        }  # fmt: skip
        method = {"tooltip": "How the two noises are mixed: linear or spherical (slerp)."}
        seed = inputs("seed", seed="Seed of the noise that is mixed in.")["seed"]
        return {
            "required": {
                **inputs("mask", mask="The white part of the mask is the region."),
                **sampler_input("advanced_sampler", "KSAMPLER_ADVANCED", "Samples the region."),
            },
            "optional": {
                "variation_seed": seed,
                "variation_strength": ("FLOAT", strength),
                "variation_method": (list(regional.VARIATION_METHODS), method),
            },
        }

    def doit(
        self, mask, advanced_sampler, variation_seed=0, variation_strength=0.0,
        variation_method="linear",
    ):  # fmt: skip
        prompt = regional.RegionalPrompt(
            check_mask(mask, "mask"), advanced_sampler, variation_seed, variation_strength,
            variation_method,
        )  # fmt: skip
        return ([prompt],)


class CombineRegionalPrompts:
    DESCRIPTION = "Combines any number of regions. Later regions lie on top of earlier ones."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("REGIONAL_PROMPTS",)
    OUTPUT_TOOLTIPS = ("All of the regions.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        first = {"tooltip": "The first one. When it is connected, the next input appears."}
        return {
            "required": {"regional_prompts1": ("REGIONAL_PROMPTS", first)},
            "optional": Numbered("regional_prompts", "REGIONAL_PROMPTS", "Further regions."),
        }

    def run(self, **prompts):
        return ([prompt for part in numbered(prompts, "regional_prompts") for prompt in part],)


class RegionalSampler:
    DESCRIPTION = (
        "Samples a picture whose regions have their own samplers and prompts. All regions are "
        "sampled at every step, in one run if their settings allow it."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("LATENT",)
    OUTPUT_TOOLTIPS = (SAMPLED_LATENT,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        second = inputs(
            "seed", seed="Seed of the steps that are sampled by regions; see seed_2nd_mode."
        )["seed"]
        mode = {
            "tooltip": "ignore: one seed for all steps. In the other modes, the steps by "
            "regions start with new noise: of seed_2nd, of the sum or the difference "
            "of both seeds, or of seed_2nd, which changes after each run."
        }
        base_steps = {
            "default": 2, "min": 0, "max": 10000,
            "tooltip": "The number of steps at the beginning that the base sampler samples alone.",
        }  # fmt: skip
        return {
            "required": {
                **inputs("seed", seed="Seed of the noise."),
                "seed_2nd": second,
                "seed_2nd_mode": (list(regional.SECOND_SEED_MODES), mode),
                **inputs("steps"),
                "base_only_steps": ("INT", base_steps),
                **denoise_input(),
                **latent_input("samples"),
                **_samplers(),
                **_overlap(),
                **_recovery(),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(
        self, seed, seed_2nd, seed_2nd_mode, steps, base_only_steps, denoise, samples,
        regional_prompts, unique_id=None, **widgets,
    ):  # fmt: skip
        backend = ComfyBackend()
        how, latent = _regional(samples, regional_prompts, backend, **widgets)
        return (
            regional.sample_base_then_regions(
                how, regional_prompts, latent, denoise_window(steps, denoise),
                Seeds(seed, seed_2nd, seed_2nd_mode), base_only_steps, backend,
            ),
        )  # fmt: skip

    separated_sample = staticmethod(separated_sample)  # other packs call it by this name


class RegionalSamplerAdvanced(RegionalSampler):
    DESCRIPTION = "Samples by regions, from a first step of the schedule to a last step."

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **add_noise_input(ENABLED),
                "noise_seed": inputs("seed", seed="Seed of the noise.")["seed"],
                **inputs("steps"),
                **step_inputs(),
                **_overlap(),
                **leftover_input(ENABLED),
                **latent_input("latent_image"),
                **_samplers(),
                **_recovery(),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(
        self, add_noise, noise_seed, steps, start_at_step, end_at_step, return_with_leftover_noise,
        latent_image, regional_prompts, unique_id=None, **widgets,
    ):  # fmt: skip
        backend, noise = ComfyBackend(), None
        how, latent = _regional(latent_image, regional_prompts, backend, **widgets)
        if add_noise:
            noise = regional.region_noise(latent, noise_seed, regional_prompts)
        part = SchedulePart(
            Window(steps, start_at_step, min(end_at_step, steps)), noise_seed, noise,
            return_with_leftover_noise, number=0 if add_noise else start_at_step,
        )  # fmt: skip
        return (regional.sample_regions(how, latent, part, backend),)


def _samplers() -> dict[str, tuple]:
    tooltip = "Samples the part outside of all regions."
    return {
        **sampler_input("base_sampler", "KSAMPLER_ADVANCED", tooltip),
        "regional_prompts": ("REGIONAL_PROMPTS", {"tooltip": _PROMPTS}),
    }


def _overlap() -> dict[str, tuple]:
    overlap = {
        "default": 10, "min": 0, "max": 10000,
        "tooltip": "How far the regions extend beyond their masks, in pixels of the mask.",
    }  # fmt: skip
    return {"overlap_factor": ("INT", overlap), **together_input()}


def _recovery() -> dict[str, tuple]:
    mode = {
        "default": "ratio between",
        "tooltip": "It is used if the regions are not sampled in one run: uni_pc cannot sample "
        "single steps, so another sampler samples them. With DISABLE this is an "
        "error. Samplers of other packs get all three settings.",
    }
    sampler = {"tooltip": "The sampler for such steps. AUTO uses dpmpp_2m."}
    ratio = {
        "default": 0.3, "min": 0.0, "max": 1.0, "step": 0.01,
        "tooltip": "For samplers of other packs: the share of the noise level at which their "
        "second sampler runs.",
    }  # fmt: skip
    return {
        "additional_mode": (list(RECOVERY_MODES), mode),
        "additional_sampler": (list(RECOVERY_SAMPLERS), sampler),
        "additional_sigma_ratio": ("FLOAT", ratio),
    }


def _regional(
    latent, prompts, backend, base_sampler, overlap_factor, restore_latent, additional_mode,
    additional_sampler, additional_sigma_ratio,
) -> tuple[Regional, dict]:  # fmt: skip
    latent = regional.fitted(base_sampler, latent, backend)
    recovery = Recovery(additional_mode, additional_sampler, additional_sigma_ratio)
    regions = regional.regions_of(prompts, latent["samples"], overlap_factor)
    return Regional(base_sampler, regions, recovery, together=restore_latent), latent


NODES = {
    "RegionalPrompt": (RegionalPrompt, "RegionalPrompt"),
    "CombineRegionalPrompts": (CombineRegionalPrompts, "CombineRegionalPrompts"),
    "RegionalSampler": (RegionalSampler, "RegionalSampler"),
    "RegionalSamplerAdvanced": (RegionalSamplerAdvanced, "RegionalSamplerAdvanced"),
}
