"""A Backend in a few lines of torch, so that whole runs work on a few pixels without a host.

Its VAE loses nothing. Its sampler does what the test says, and by default nothing, so every change
in a result comes from the pack. It records all calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detailers.core.backend import IMAGES, MOTION, ROWS, SAME, VIDEO, MemoryUse, SamplerRun
from detailers.core.geometry import Box, Sizing
from detailers.core.memory import is_out_of_memory
from detailers.core.sampling.clip_frames import frames_of_steps
from detailers.core.segs.seg import SEG
from detailers.core.settings import (
    VAE_TILE,
    Detail,
    Masking,
    Models,
    Pasting,
    Sampling,
    Tiling,
)
from detailers.wildcards.library import Library

Draw = Callable[[SamplerRun], torch.Tensor]


class Interrupted(Exception):
    """The user asked to stop."""


@dataclass(frozen=True)
class FakeModel:
    name: str = "base"
    patch: int = 1  # latent pixels
    loras: tuple[str, ...] = ()
    differential: bool = False
    space: str = ""  # which models' noisy latents are of one kind
    motion: bool = False  # it takes the rows of a batch for the frames of a clip
    frames: int = 16  # of the clips that it was trained for
    windows: bool = False  # the engine divides long clips for it


@dataclass(frozen=True)
class FakeClip:
    loras: tuple[str, ...] = ()


@dataclass(frozen=True)
class FakeVAE:
    ratio: int = 4
    every: int | None = None  # frames of a latent frame after the first; None: no time axis
    half: bool = False  # it decodes to NaN, and would not in float32


@dataclass
class Bar:
    total: int
    done: list[int] = field(default_factory=list)


# What a sampler may do -----------------------------------------------------------------------


def state(run: SamplerRun) -> torch.Tensor:
    """The latent that the sampler begins with, without the noise that is added."""
    return run.latent if run.start is None else run.start


def identity(run: SamplerRun) -> torch.Tensor:
    return state(run)


def brighten(amount: float) -> Draw:
    """A sampler that adds a number to every value inside the noise mask."""
    return lambda run: masked(run, state(run) + amount)


def fill(value: float) -> Draw:
    return lambda run: masked(run, torch.full_like(run.latent, value))


def grain(run: SamplerRun) -> torch.Tensor:
    """A sampler that shows the noise, and so the seed."""
    return masked(run, run.latent * 0.5 + 0.25 + run.noise.to(run.latent) * 0.02)


def masked(run: SamplerRun, new: torch.Tensor) -> torch.Tensor:
    """`new` where the noise mask is 1, the latent where it is 0, as the host's sampler does."""
    if run.noise_mask is None:
        return new
    size = run.latent.shape[2:] if run.latent.ndim == 5 else run.latent.shape[-2:]
    if run.latent.ndim == 5 and run.noise_mask.ndim == 5:
        mask = run.noise_mask
    elif run.latent.ndim == 5:
        mask = F.interpolate(run.noise_mask[None, None], size=size, mode="trilinear")
    else:
        mask = F.interpolate(run.noise_mask[:, None], size=size, mode="bilinear")
    return torch.lerp(run.latent, new, mask.to(new))


# How entries of a conditioning go into a batch.
ENTRIES = {
    "pooled_output": ROWS, "attention_mask": ROWS, "concat_latent_image": ROWS,
    "reference_latents": ROWS, "guidance": SAME,
    "strength": SAME, "area": SAME, "mask_strength": SAME, "set_area_to_bounds": SAME,
    "start_percent": SAME, "end_percent": SAME, "hooks": SAME, "text": SAME,
}  # fmt: skip


class FakeBackend:
    """Implements the whole protocol of core/backend.py."""

    def __init__(
        self, draw: Draw = identity, library: Library | None = None, stop_after: int | None = None,
        rows: int = 99, pixels: int = 2**30,
    ) -> None:  # fmt: skip
        self.pixels = pixels  # that are encoded or decoded together
        self.rows = rows  # that memory holds; sampling more runs out of it
        self.freed = self.unloaded = 0
        self.draw = draw
        self.library = library or Library([])
        self.stop_after = stop_after  # sampler steps until the user asks to stop
        self.runs: list[SamplerRun] = []
        self.encoded: list[torch.Tensor] = []  # pixels
        self.decoded: list[tuple[int, ...]] = []  # shapes of latents
        self.tiled: list[tuple[str, bool]] = []
        self.texts: list[tuple[FakeClip, str]] = []
        self.loras: list[tuple[str, ...]] = []
        self.shown: list[tuple[Any, Any]] = []  # embeddings, and where they come from
        self.schedules: list[tuple[str, str, str, int]] = []
        self.inpainted: list[tuple[torch.Tensor, torch.Tensor]] = []  # pixels and mask
        self.bars: list[Bar] = []
        self.looks_on = None  # a viewer
        self.checks = 0
        self.model_calls = 0
        self._steps = 0

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    # VAE

    def in_float32(self, vae):
        return replace(vae, half=False) if vae.half else None

    def ratio(self, vae):
        return vae.ratio

    def grid(self, model, vae):
        return vae.ratio * model.patch

    def native_area(self, model):
        return 32 * 32

    def is_video_vae(self, vae):
        return vae.every is not None

    def clip_length(self, vae, frames):
        return frames if vae.every is None else -(-(frames - 1) // vae.every) * vae.every + 1

    def latent_steps(self, vae, frames):
        return -(-(frames - 1) // vae.every) + 1

    def frames_of_steps(self, vae, steps, frames):
        return frames_of_steps(steps, frames, lambda count: (count - 1) * vae.every + 1)

    def clip_kind(self, models):
        if self.is_video_vae(models.vae):
            return VIDEO
        return MOTION if models.model.motion else IMAGES

    def native_frames(self, models):
        return 1 if self.clip_kind(models) == IMAGES else models.model.frames

    def has_context_windows(self, model):
        return model.windows

    def mixes_rows(self, vae):
        return False

    def pixels_at_once(self, vae):
        return self.pixels

    def encode(self, vae, pixels, *, tiled, video, tile=VAE_TILE):
        """Space (and time) go to channels: [N,3rr,h/r,w/r] or [1,3rrt,T,h/r,w/r]."""
        self.encoded.append(pixels)
        self.tiled.append(("encode", tiled))
        latent = F.pixel_unshuffle(pixels.movedim(-1, 1), vae.ratio)
        if vae.every is None:
            return latent
        clips = [latent] if video else latent.split(1)
        return torch.cat([self._encode_clip(clip, vae.every) for clip in clips])

    @staticmethod
    def _encode_clip(frames, every):
        head = frames[:1].expand(every - 1, -1, -1, -1)  # the first frame stands alone
        groups = torch.cat([head, frames]).unflatten(0, (-1, every))
        return groups.flatten(1, 2).movedim(0, 1)[None]

    def decode(self, vae, latent, *, tiled, tile=VAE_TILE):
        self.decoded.append(tuple(latent.shape))
        self.tiled.append(("decode", tiled))
        if vae.half:
            latent = latent * float("nan")
        if latent.ndim == 5:
            clips = latent.movedim(2, 1).unflatten(2, (vae.every, -1)).flatten(1, 2)
            latent = clips[:, vae.every - 1 :].flatten(0, 1)
        return F.pixel_shuffle(latent, vae.ratio).movedim(1, -1)

    def inpaint_conditioning(self, positive, negative, pixels, vae, mask):
        self.inpainted.append((pixels, mask))
        latent = {"samples": self.encode(vae, pixels, tiled=False, video=False), "extra": "kept"}
        return [*positive, "inpaint"], negative, latent

    # Text

    def apply_loras(self, model, clip, loras):
        names = tuple(lora.name for lora in loras)
        self.loras.append(names)
        return replace(model, loras=names), FakeClip(names)

    def encode_text(self, clip, text):
        """A token for each word; the pooled vector is the text's length."""
        self.texts.append((clip, text))
        tokens = torch.tensor([[[float(len(word))] * 2 for word in text.split()]])
        return [[tokens, {"pooled_output": torch.tensor([[float(len(text))]]), "text": text}]]

    def pictured(self, result):
        return next((origin for own, origin in self.shown if own is result), None)

    def wildcard_library(self):
        return self.library

    # Sampling

    def cut_patches(self, model, cut):
        return model

    def takes_references_of_one_size(self, model):
        return False

    def differential_diffusion(self, model):
        return replace(model, differential=True)

    def fitted_latent(self, model, latent):
        return latent["samples"]

    def completed(self, model, samples):
        return samples

    def sigmas(self, model, sampler_name, scheduler, steps, func):
        """`steps`, `steps` - 1, ... 0: a sigma is the number of steps to go."""
        self.schedules.append((model.name, sampler_name, scheduler, steps))
        if func is not None:
            return func(model, sampler_name, steps)
        return torch.arange(steps, -1, -1.0)

    def noise_share(self, model, sigma):
        """As of a model to which noise is added."""
        return sigma**2 / (1 + sigma**2)

    def share_a_latent(self, models):
        return len({getattr(model, "space", "") for model in models}) == 1

    def why_alone(self, run):
        return "it looks at the whole batch" if run.sampler_name == "whole batch" else None

    def entry_kind(self, name):
        return ENTRIES.get(name)

    def repeats_texts(self, model):
        return True

    def rows_that_fit(self, run, rows):
        return rows

    def control_signature(self, control):
        return None

    def is_out_of_memory(self, error):
        return is_out_of_memory(error)

    def free_memory(self, unload=False):
        self.freed += 1
        self.unloaded += unload

    def sample(self, run, on_step):
        if len(run.latent) > self.rows:
            raise MemoryError
        self.runs.append(run)
        steps = len(run.sigmas) - 1
        for step in range(steps):
            if self._steps == self.stop_after:
                raise Interrupted
            self._steps += 1
            self.model_calls += 1
            on_step(step, steps, run.latent)
        result = self.draw(replace(run, layers=()))
        for layer in run.layers:
            own = replace(
                run, model=layer.model, positive=layer.positive, negative=layer.negative,
                cfg=layer.cfg, layers=(),
            )  # fmt: skip
            result = torch.lerp(result, self.draw(own), layer.weight.to(result))
        return result

    def watched_memory(self):
        return lambda: MemoryUse("cpu", 1000, 2000)

    def about(self):
        return {"name": "a few lines of torch", "version": "1"}

    # The person at the screen

    def progress(self, total):
        bar = Bar(total)
        self.bars.append(bar)
        return lambda done, model, latent: bar.done.append(done)

    def viewer(self):
        return self.looks_on

    def check_interrupt(self):
        self.checks += 1
        if self._steps == self.stop_after:
            raise Interrupted


class FakeControl:
    """A ControlNet with the attributes of the host's; a copy has no chain."""

    def __init__(self, hint=None, extra=(), previous=None):
        self.cond_hint_original = hint
        self.extra_concat_orig = list(extra)
        self.previous_controlnet = previous

    def copy(self):
        own = FakeControl(self.cond_hint_original, self.extra_concat_orig)
        own.__dict__ = {**self.__dict__, "previous_controlnet": None}
        return own

    def set_previous_controlnet(self, previous):
        self.previous_controlnet = previous
        return self


# What several tests start from ---------------------------------------------------------------


def text_of(text: str, words: int = 1) -> list:
    """A conditioning with this number of tokens."""
    return [[torch.ones(1, words, 2), {"pooled_output": torch.ones(1, 1), "text": text}]]


def fake_models(
    vae: FakeVAE | None = None, model: FakeModel | None = None, positive: Any = None,
    negative: Any = None,
) -> Models:  # fmt: skip
    return Models(
        model or FakeModel(),
        FakeClip(),
        vae or FakeVAE(),
        text_of("positive") if positive is None else positive,
        text_of("negative") if negative is None else negative,
    )


def make_detail(models: Models | None = None, **options: Any) -> Detail:
    """Settings for a few pixels.

    Args:
        options: fields of Detail, or of its Sizing, Sampling, Masking, Pasting and Tiling.
    """
    defaults = {
        "guide_size": 16, "max_size": 64, "force_inpaint": True, "seed": 5, "steps": 4, "cfg": 2.0,
        "sampler_name": "euler", "scheduler": "normal", "feather": 0,
    }  # fmt: skip
    options = {**defaults, "batch": 1, **options}

    def part(kind: type) -> Any:
        names = [item.name for item in fields(kind) if item.name in options]
        return kind(**{name: options.pop(name) for name in names})

    parts = {
        "sizing": part(Sizing),
        "sampling": part(Sampling),
        "masking": part(Masking),
        "pasting": part(Pasting),
        "tiling": part(Tiling),
    }
    return Detail(models or fake_models(), **parts, **options)


def make_seg(region, bbox=None, mask=None, label="A", image=None, control=None) -> SEG:
    """A segment; if no mask is given, it covers the whole crop region."""
    box = Box(*region)
    mask = np.ones((box.height, box.width), np.float32) if mask is None else mask
    return SEG(image, mask, 1.0, tuple(region), tuple(bbox or region), label, control)


def noise_image(batch: int, height: int, width: int, channels: int = 3, seed: int = 0):
    """[B,H,W,C] with a different value at every place."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, height, width, channels, generator=generator)


def ramp_image(batch: int, height: int, width: int):
    """[B,H,W,3] rising from 0 to 1 along each row in red and down each column in green."""
    x = torch.linspace(0, 1, width).expand(height, width)
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([x, y, x * y], dim=-1).expand(batch, -1, -1, -1).contiguous()


def outside(image: torch.Tensor, *boxes) -> torch.Tensor:
    """The pixels of an image outside all boxes, as [H,W] bool."""
    keep = torch.ones(image.shape[1:3], dtype=torch.bool)
    for x1, y1, x2, y2 in boxes:
        keep[y1:y2, x1:x2] = False
    return keep
