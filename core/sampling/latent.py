"""Sample a LATENT, or a part of its schedule, as the sampler nodes of ComfyUI do."""

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
    """Model, conditioning and settings of a sampler. They hold for every part of a schedule."""

    model: Any
    positive: Conditioning
    negative: Conditioning | str  # NEGATIVE_PLACEHOLDER: there is no negative
    cfg: float
    sampler_name: str
    scheduler: str
    scheduler_func: Callable | None = None  # is used instead of the scheduler's name
    sampler: Any = None  # a SAMPLER object, which is used instead of the sampler's name
    sigma_factor: float = 1.0  # all noise levels are multiplied by this
    tiles: Tiles | None = None  # how the latent is cut for the model. None: it is not cut


@dataclass(frozen=True)
class Denoising:
    """Seed, steps and denoise strength of a KSampler."""

    seed: int  # 0..MAX_SEED
    steps: int
    denoise: float = 1.0  # 0 keeps the latent, 1 replaces it


@dataclass(frozen=True)
class SchedulePart:
    """The part of a schedule that is run."""

    window: Window
    seed: int
    noise: torch.Tensor | None = None  # of the latent's shape, added to it. None: no noise
    leftover: bool = False  # True: the noise that later steps would remove stays in the latent
    number: int = 0  # steps before this part with the same seed, which have drawn noise already


def make_run(
    setup: SamplerSetup, latent: dict, part: SchedulePart, backend: Backend
) -> SamplerRun | None:
    """The sampler run for a part of a schedule. None: the part has no steps."""
    sampler_name = setup.sampler_name if setup.sampler is None else ""
    schedule = backend.sigmas(
        setup.model, sampler_name, setup.scheduler, part.window.total, setup.scheduler_func
    )
    schedule = schedule * setup.sigma_factor
    sigmas = window_sigmas(schedule, part.window)
    if len(sigmas) < 2 or sigmas[0] <= 0:
        return None
    if not part.leftover:
        sigmas = torch.cat([sigmas[:-1], torch.zeros_like(sigmas[-1:])])
    samples = backend.fitted_latent(setup.model, latent)
    rows = latent.get("batch_index")
    noise = part.noise
    if noise is None:
        noise = without_noise(samples)
    # Every part has to draw new noise in its steps. Samplers that are given by name skip the noise
    # of earlier parts by themselves; a SAMPLER object gets another seed for each part.
    seed = part.seed if setup.sampler is None else seed_for(part.seed, part.number)
    return SamplerRun(
        model=setup.model,
        positive=setup.positive,
        negative=setup.negative,
        cfg=setup.cfg,
        sampler_name=setup.sampler_name,
        sigmas=sigmas,
        schedule=schedule,
        seed=seed,
        noise=noise,
        latent=samples,
        noise_mask=latent.get("noise_mask"),
        sampler=setup.sampler,
        tiles=setup.tiles,
        batch_index=None if rows is None else tuple(map(int, rows)),
        number=part.number,
    )


def noise_for(setup: SamplerSetup, latent: dict, seed: int, backend: Backend) -> torch.Tensor:
    """The noise from which the samplers of ComfyUI start, in the shape of the LATENT's samples
    ([B,C,h,w] or [B,C,T,h,w]), for a seed."""
    samples = backend.fitted_latent(setup.model, latent)
    return start_noise(samples, seed, rows=latent.get("batch_index"))


def with_samples(latent: dict, samples: torch.Tensor) -> dict:
    """The LATENT with other samples, [B,C,h,w] or [B,C,T,h,w]."""
    kept = {key: value for key, value in latent.items() if key not in OF_EMPTY_LATENTS}
    return {**kept, "samples": samples}


def without_mask(latent: dict) -> dict:
    """The LATENT without its noise mask."""
    return {key: value for key, value in latent.items() if key != "noise_mask"}


def sample_part(
    setup: SamplerSetup,
    latent: dict,
    part: SchedulePart,
    backend: Backend,
    place: tuple[int, int] = (0, 1),
    watch: Callable[[int, Any, Any, int], Any] | None = None,
) -> dict:
    """Sample a LATENT, with a progress bar.

    Args:
        place: the index of this run and the number of runs, for a bar that shows all of them.
        watch: see `SamplerRun`.

    Returns:
        The LATENT with the sampled latent.

    Raises:
        ValueError: the result is not finite.
        memory.OutOfMemory: the run does not fit into memory.
    """
    run = make_run(setup, latent, part, backend)
    if run is None:
        return with_samples(latent, backend.fitted_latent(setup.model, latent))
    if watch is not None:
        run = replace(run, watch=watch)
    index, runs = place
    steps = len(run.sigmas) - 1
    bar = backend.progress(runs * steps)

    def on_step(step: int, total: int, denoised: torch.Tensor | None) -> None:
        bar(index * steps + (step + 1) * steps // max(1, total), setup.model, denoised)

    samples = sampled(run, on_step, backend)
    check_samples(samples, "The sampled latent", run.latent)
    return with_samples(latent, samples)


def sampled(run: SamplerRun, on_step: OnStep, backend: Backend) -> torch.Tensor:
    """Sample a run that cannot be divided: its latent [B,C,h,w] or [B,C,T,h,w].

    Raises:
        memory.OutOfMemory: the run does not fit into memory.
    """
    height, width = picture(run.latent).shape[-2:]
    return memory.persist(
        lambda: backend.sample(run, on_step),
        f"{run.subject.name} of {len(picture(run.latent))} x {width} x {height} cells",
        "sampled",
        memory.Trying(backend.free_memory, backend.is_out_of_memory),
    )


def sample_latent(
    setup: SamplerSetup,
    denoising: Denoising,
    latent: dict,
    backend: Backend,
    hook: Any = None,
    place: tuple[int, int] = (0, 1),
) -> dict:
    """Sample a LATENT as KSampler does.

    Args:
        hook: a PK_HOOK or DETAILER_HOOK. Only its point `pre_ksample` is used.
        place: see `sample_part`.
    """
    model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise = Hook(
        hook
    ).pre_ksample(
        setup.model, denoising.seed, denoising.steps, setup.cfg, setup.sampler_name,
        setup.scheduler, setup.positive, setup.negative, latent, denoising.denoise,
    )  # fmt: skip
    setup = replace(
        setup,
        model=model,
        positive=positive,
        negative=negative,
        cfg=cfg,
        sampler_name=sampler_name,
        scheduler=scheduler,
    )
    part = SchedulePart(
        denoise_window(steps, denoise), seed, noise_for(setup, latent, seed, backend)
    )
    return sample_part(setup, latent, part, backend, place)
