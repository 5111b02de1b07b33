"""Samplers and schedulers of ComfyUI, with the noise of each row."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch
from comfy.k_diffusion.sampling import BrownianTreeNoiseSampler

from .. import checked_calls
from ..backend import SamplerRun
from ..noise import seed_for
from ..sampling.sigmas import (
    DISCARD_PENULTIMATE,
    EXTRA_SCHEDULERS,
    NodeScheduler,
    draws_once_a_step,
    is_brownian,
    unknown_scheduler,
)
from ..streams import streams
from .batching import drawn_noise, takes_noise_sampler, with_mask_noise_by_row
from .call_node import call_node
from .partial_runs import packed


def samplers() -> list[str]:
    """The samplers that the host has by now: packs add theirs, or put lists of their own in."""
    return _listed("SAMPLERS", "SAMPLER_NAMES")


def schedulers() -> list[str]:
    """The host's schedulers, likewise."""
    return _listed("SCHEDULERS", "SCHEDULER_NAMES")


def _listed(of_node: str, of_module: str) -> list[str]:
    of_samplers = getattr(comfy.samplers.KSampler, of_node)
    return list(dict.fromkeys([*of_samplers, *getattr(comfy.samplers, of_module, ())]))


def schedule_of(sampling: Any, sampler_name: str, scheduler: str, steps: int) -> torch.Tensor:
    discard = sampler_name in DISCARD_PENULTIMATE
    steps += discard
    extra = EXTRA_SCHEDULERS.get(scheduler)
    if extra is not None:
        sigmas = _node_sigmas(scheduler, extra, steps)
    elif scheduler in schedulers():
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    else:
        raise checked_calls.told(unknown_scheduler(scheduler, schedulers()))
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if discard else sigmas


def _node_sigmas(name: str, scheduler: NodeScheduler, steps: int) -> torch.Tensor:
    try:
        return call_node(scheduler.node, steps=steps, **scheduler.inputs)[0]
    except (KeyError, TypeError) as error:
        raise RuntimeError(
            f"'scheduler' is {name!r}, but ComfyUI's {scheduler.node} of this version does not "
            f"take it ({type(error).__name__}: {error}). Update ComfyUI, or choose another one."
        ) from error


def draw_as_the_host_does(run: SamplerRun) -> None:
    """Bring torch's global generator to where the host's KSampler leaves it for what samples.

    It seeds that generator and draws the noise to start from out of it.
    """
    for noise in streams(run.noise):
        if run.batch_index is None:
            torch.randn(noise.shape)
            continue
        for _ in range(max(run.batch_index) + 1):
            torch.randn(1, *noise.shape[1:])


def given_sampler(sampler: Any) -> Any:
    """A SAMPLER object that may be called as one; None for none."""
    if sampler is not None:
        checked_calls.Source.of("The SAMPLER", sampler).method(sampler, "sample")
    return sampler


def sampler_of(run: SamplerRun, latent: torch.Tensor) -> Any:
    """The host's sampler of that name with the noise that each row would draw alone.

    Brownian noise spans the whole schedule, or a partial run would draw other noise than the tail
    of a full one.
    """
    if run.sampler_name not in samplers():
        raise ValueError(
            f"'sampler_name' is {run.sampler_name!r}, which this ComfyUI does not have. "
            f"Choose one of: {', '.join(samplers())}."
        )
    sampler = comfy.samplers.sampler_object(run.sampler_name)
    if run.seeds and sampler.inpaint_options.get("random"):
        sampler = with_mask_noise_by_row(sampler, run.seeds)
    if not takes_noise_sampler(sampler):
        return sampler
    brownian = is_brownian(run.sampler_name)
    if not run.seeds and not brownian and not run.number:
        return sampler
    x = torch.zeros_like(packed(latent), device=run.model.load_device, dtype=torch.float32)
    if brownian:
        positive = run.schedule[run.schedule > 0]
        noise = BrownianTreeNoiseSampler(
            x, positive.min(), positive.max(), seed=list(run.seeds) or run.seed,
            cpu=not run.sampler_name.endswith("_gpu"),
        )  # fmt: skip
    elif draws_once_a_step(run.sampler_name):
        noise = drawn_noise(run.seeds or (run.seed,), x, skipped=run.number)
    else:
        seeds = [seed_for(seed, run.number) for seed in run.seeds or (run.seed,)]
        noise = drawn_noise(seeds, x)
    sampler.extra_options = {**sampler.extra_options, "noise_sampler": noise}
    return sampler
