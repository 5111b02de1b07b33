"""Samplers and schedulers of ComfyUI, with separate noise for each row."""

from __future__ import annotations

from collections.abc import Callable
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
from .batching import axis_of_seeds, drawn_noise, takes_noise_sampler, with_mask_noise_by_row
from .call_node import call_node
from .partial_runs import packed


def samplers() -> list[str]:
    """The names of all samplers of ComfyUI, including those that other packs have added."""
    return _listed("SAMPLERS", "SAMPLER_NAMES")


def schedulers() -> list[str]:
    """The names of all schedulers of ComfyUI, including those that other packs have added."""
    return _listed("SCHEDULERS", "SCHEDULER_NAMES")


def _with_rows_at(noise: Callable, axis: int) -> Callable:
    """A noise sampler whose rows become the entries of another axis."""
    return lambda sigma, following: noise(sigma, following).movedim(0, axis)


def _listed(of_node: str, of_module: str) -> list[str]:
    of_samplers = getattr(comfy.samplers.KSampler, of_node)
    return list(dict.fromkeys([*of_samplers, *getattr(comfy.samplers, of_module, ())]))


def schedule_of(sampling: Any, sampler_name: str, scheduler: str, steps: int) -> torch.Tensor:
    """The noise levels [steps+1] of a schedule, in falling order.

    Args:
        sampling: the `model_sampling` of a model.

    Raises:
        ValueError: the scheduler does not exist.
        RuntimeError: ComfyUI's node for this scheduler does not accept its inputs.
    """
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
            f"'scheduler' is {name!r}, but the node {scheduler.node} of this ComfyUI does not "
            f"support it ({type(error).__name__}: {error}). Update ComfyUI, or choose another "
            "scheduler."
        ) from error


def draw_as_the_host_does(run: SamplerRun) -> None:
    """Bring torch's global generator to the state in which ComfyUI's KSampler leaves it.

    KSampler seeds this generator and draws the start noise from it, before the sampler runs.
    """
    for noise in streams(run.noise):
        if run.batch_index is None:
            torch.randn(noise.shape)
            continue
        for _ in range(max(run.batch_index) + 1):
            torch.randn(1, *noise.shape[1:])


def given_sampler(sampler: Any) -> Any:
    """The SAMPLER object, after a check that it can be called, or None if there is none."""
    if sampler is not None:
        checked_calls.Source.of("The SAMPLER", sampler).method(sampler, "sample")
    return sampler


def sampler_of(run: SamplerRun, latent: torch.Tensor) -> Any:
    """ComfyUI's sampler of the run's name, with the noise that each row would get alone.

    Brownian noise spans the whole schedule. So a partial run draws the same noise as the same
    steps of a full run.

    Args:
        latent: [B,C,h,w] or [B,C,T,h,w], the latent that will be sampled.

    Raises:
        ValueError: the sampler does not exist.
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
        axis = axis_of_seeds(run.seeds, x)
        tree = BrownianTreeNoiseSampler(
            x.movedim(axis, 0), positive.min(), positive.max(), seed=list(run.seeds) or run.seed,
            cpu=not run.sampler_name.endswith("_gpu"),
        )  # fmt: skip
        noise = tree if axis == 0 else _with_rows_at(tree, axis)
    elif draws_once_a_step(run.sampler_name):
        noise = drawn_noise(run.seeds or (run.seed,), x, skipped=run.number)
    else:
        seeds = [seed_for(seed, run.number) for seed in run.seeds or (run.seed,)]
        noise = drawn_noise(seeds, x)
    sampler.extra_options = {**sampler.extra_options, "noise_sampler": noise}
    return sampler
