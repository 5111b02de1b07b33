"""Sampling a LATENT as the host's sampler nodes do: the part of a schedule that they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from .. import memory
from ..backend import OF_EMPTY_LATENTS, Backend, OnStep, SamplerRun
from ..hook_protocol import Hook
from ..noise import seed_for, start_noise
from ..settings import Conditioning, Tiles
from ..streams import picture, without_noise
from .faults import check_samples
from .sigmas import Window, denoise_window, window_sigmas


@dataclass(frozen=True)
class SamplerSetup:
    """What a latent is sampled with, whichever part of a schedule is run."""

    model: Any
    positive: Conditioning
    negative: Conditioning | str  # NEGATIVE_PLACEHOLDER: guidance without a negative
    cfg: float
    sampler_name: str
    scheduler: str
    scheduler_func: Callable | None = None  # wins over the name
    sampler: Any = None  # a sampler object that wins over the name
    sigma_factor: float = 1.0  # all noise levels are multiplied by this
    tiles: Tiles | None = None  # how the model sees the latent; None sees all of it


@dataclass(frozen=True)
class Denoising:
    """What KSampler asks for besides a setup."""

    seed: int  # 0..MAX_SEED
    steps: int
    denoise: float = 1.0  # 0 keeps the latent, 1 replaces it


@dataclass(frozen=True)
class SchedulePart:
    """The part of a schedule that is run."""

    window: Window
    seed: int
    noise: torch.Tensor | None = None  # added to the latent beforehand; None adds none
    leftover: bool = False  # leave the noise in that further steps would remove
    number: int = 0  # steps of the same seed before this part, whose noise samplers have drawn


def make_run(
    recipe: SamplerSetup, latent: dict, part: SchedulePart, backend: Backend
) -> SamplerRun | None:
    """The run of the sampler for a part of a schedule; None where no step is left to run."""
    sampler_name = recipe.sampler_name if recipe.sampler is None else ""
    schedule = backend.sigmas(
        recipe.model, sampler_name, recipe.scheduler, part.window.total, recipe.scheduler_func
    )
    schedule = schedule * recipe.sigma_factor
    sigmas = window_sigmas(schedule, part.window)
    if len(sigmas) < 2 or sigmas[0] <= 0:
        return None
    if not part.leftover:
        sigmas = torch.cat([sigmas[:-1], torch.zeros_like(sigmas[-1:])])
    samples = backend.fitted_latent(recipe.model, latent)
    rows = latent.get("batch_index")
    noise = part.noise
    if noise is None:
        noise = without_noise(samples)
    # On the way, too, every part draws noise of its own. By name samplers know how to go on.
    seed = part.seed if recipe.sampler is None else seed_for(part.seed, part.number)
    return SamplerRun(
        model=recipe.model,
        positive=recipe.positive,
        negative=recipe.negative,
        cfg=recipe.cfg,
        sampler_name=recipe.sampler_name,
        sigmas=sigmas,
        schedule=schedule,
        seed=seed,
        noise=noise,
        latent=samples,
        noise_mask=latent.get("noise_mask"),
        sampler=recipe.sampler,
        tiles=recipe.tiles,
        batch_index=None if rows is None else tuple(map(int, rows)),
        number=part.number,
    )


def noise_for(recipe: SamplerSetup, latent: dict, seed: int, backend: Backend) -> torch.Tensor:
    """The noise that the host's samplers start from, for a LATENT and a seed."""
    samples = backend.fitted_latent(recipe.model, latent)
    return start_noise(samples, seed, rows=latent.get("batch_index"))


def with_samples(latent: dict, samples: torch.Tensor) -> dict:
    """The LATENT with other samples."""
    kept = {key: value for key, value in latent.items() if key not in OF_EMPTY_LATENTS}
    return {**kept, "samples": samples}


def without_mask(latent: dict) -> dict:
    """The LATENT without its noise mask."""
    return {key: value for key, value in latent.items() if key != "noise_mask"}


def sample_part(
    recipe: SamplerSetup,
    latent: dict,
    part: SchedulePart,
    backend: Backend,
    place: tuple[int, int] = (0, 1),
    watch: Callable[[int, Any, Any, int], Any] | None = None,
) -> dict:
    """Sample a LATENT, with a progress bar.

    Args:
        place: which run of how many this is, for a bar that shows all of them.
        watch: as in `SamplerRun`.
    """
    run = make_run(recipe, latent, part, backend)
    if run is None:
        return with_samples(latent, backend.fitted_latent(recipe.model, latent))
    if watch is not None:
        run = replace(run, watch=watch)
    index, runs = place
    steps = len(run.sigmas) - 1
    bar = backend.progress(runs * steps)

    def on_step(step: int, total: int, denoised: torch.Tensor | None) -> None:
        bar(index * steps + (step + 1) * steps // max(1, total), recipe.model, denoised)

    samples = sampled(run, on_step, backend)
    check_samples(samples, "The sampled latent", run.latent)
    return with_samples(latent, samples)


def sampled(run: SamplerRun, on_step: OnStep, backend: Backend) -> torch.Tensor:
    """The samples of a run that nothing can divide.

    Raises:
        memory.OutOfMemory: there is no memory for it.
    """
    height, width = picture(run.latent).shape[-2:]
    return memory.persist(
        lambda: backend.sample(run, on_step),
        f"{run.subject.name} of {len(picture(run.latent))} x {width} x {height} cells",
        "sampled",
        memory.Trying(backend.free_memory, backend.is_out_of_memory),
    )


def sample_latent(
    recipe: SamplerSetup,
    denoising: Denoising,
    latent: dict,
    backend: Backend,
    hook: Any = None,
    place: tuple[int, int] = (0, 1),
) -> dict:
    """Sample a LATENT as KSampler does.

    Args:
        hook: a PK_HOOK or DETAILER_HOOK, of whose points `pre_ksample` is used.
        place: as in `sample_part`.
    """
    model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise = Hook(
        hook
    ).pre_ksample(
        recipe.model, denoising.seed, denoising.steps, recipe.cfg, recipe.sampler_name,
        recipe.scheduler, recipe.positive, recipe.negative, latent, denoising.denoise,
    )  # fmt: skip
    recipe = replace(
        recipe,
        model=model,
        positive=positive,
        negative=negative,
        cfg=cfg,
        sampler_name=sampler_name,
        scheduler=scheduler,
    )
    part = SchedulePart(
        denoise_window(steps, denoise), seed, noise_for(recipe, latent, seed, backend)
    )
    return sample_part(recipe, latent, part, backend, place)
