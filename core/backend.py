"""What the core asks of the engine that encodes, samples and decodes.

`core/host/backend.py` answers with ComfyUI. Tests answer with a few lines of torch; so could a
worker of a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .pixels.crop_view import Cut
from .prompts.segment_text import TextBackend
from .settings import VAE_TILE, Conditioning, Tiles, VaeTile
from .streams import Latent

# What the host notes of an empty LATENT, so that it can be fitted to any model.
OF_EMPTY_LATENTS = ("downscale_ratio_spacial", "downscale_ratio_temporal")

# What an entry of a conditioning is to a batch: one row for each, or the same for all.
ROWS, SAME = "rows", "same"

# (step just done, steps in all, denoised latent so far or None where there is none to show)
OnStep = Callable[[int, int, torch.Tensor | None], None]


@dataclass(frozen=True)
class Subject:
    """What a run samples, for the errors that tell."""

    name: str = "the latent"
    source: str = "the LATENT input"  # what the latent comes from
    model: str = "the model"


@dataclass(frozen=True)
class Layer:
    """What a part of the latent is denoised with, laid over what lies below.

    What the model makes of a latent is put together before the sampler sees it, so that one sampler
    run makes all of the picture.
    """

    model: Any
    positive: Conditioning
    negative: Conditioning | str
    cfg: float
    weight: torch.Tensor  # [1,1,(T),h,w] 0..1, the latent's resolution; 0 leaves what lies below
    begins: float = math.inf  # the noise level from which on it takes part


@dataclass(frozen=True)
class SamplerRun:
    """One call of a sampler.

    A run that goes on from another has what the whole run began with as its `latent` and `noise`:
    what a noise mask keeps is that latent, under that noise.
    """

    model: Any
    positive: Conditioning
    negative: Conditioning | str
    cfg: float
    sampler_name: str
    sigmas: torch.Tensor  # [steps+1], what is run
    schedule: torch.Tensor  # the whole schedule that `sigmas` is a part of
    seed: int
    noise: torch.Tensor  # of the latent's shape; zeros add none
    latent: torch.Tensor  # [N,C,h,w] or [N,C,T,h,w]
    noise_mask: torch.Tensor | None = None  # [N or 1,H,W], 1 is sampled anew; of any resolution
    is_hard: bool = False  # the noise mask held 0 and 1 alone before anything resized it
    sampler: Any = None  # a sampler object that wins over `sampler_name`
    tiles: Tiles | None = None  # how the model sees the latent; None sees all of it
    seeds: tuple[int, ...] = ()  # one for each row of a batch of separate runs; else `seed` is all
    # Of a run that is done in parts:
    start: torch.Tensor | None = None  # what the part before left, with its noise, to go on from
    whole: torch.Tensor | None = None  # levels of the whole run, for masks that open as they fall
    number: int = 0  # steps before this part: noise that samplers have drawn on the way
    batch_index: tuple[int, ...] | None = None  # which rows of a larger batch the latent's are
    subject: Subject = Subject()
    layers: tuple[Layer, ...] = ()  # later ones on top
    # Of another pack that watches: called with the step, the denoised latent, the latent on its
    # way, and the steps in all.
    watch: Callable[[int, Any, Any, int], Any] | None = None


@dataclass(frozen=True)
class MemoryUse:
    """The most memory that was in use while something ran, in bytes."""

    device: str  # whose memory, such as "cuda:0"; "cpu" is the process's
    used: int  # by tensors; of the CPU all that the process holds
    reserved: int  # by the allocator, for tensors


class Backend(TextBackend, Protocol):
    """Shapes: pixels [N,h,w,3] float 0..1, latents as in SamplerRun.

    Attributes:
        model_calls: how often the network that is sampled has been called.
    """

    model_calls: int

    def ratio(self, vae: Any) -> int:
        """Pixels per latent pixel along a side."""

    def grid(self, model: Any, vae: Any) -> int:
        """What a side in pixels has to be a multiple of for the VAE and the model."""

    def native_area(self, model: Any) -> int:
        """Pixels of the pictures that the model was made for."""

    def is_video_vae(self, vae: Any) -> bool:
        """Whether the VAE turns a batch of frames into one latent with a time axis."""

    def clip_length(self, vae: Any, frames: int) -> int:
        """The least number of frames, at least `frames`, that comes back from the VAE whole."""

    def frames_of_steps(self, vae: Any, steps: int, frames: int) -> list[slice]:
        """Which of the frames of a clip each of its latent steps may stand for."""

    def mixes_rows(self, vae: Any) -> bool:
        """Whether the VAE may look from one row of a batch to another."""

    def pixels_at_once(self, vae: Any) -> int:
        """Up to how many pixels the VAE is faster for several pictures together than for each."""

    def in_float32(self, vae: Any) -> Any:
        """The VAE in float32, which overflows nowhere; None if it is that already."""

    def encode(
        self,
        vae: Any,
        pixels: torch.Tensor,
        *,
        tiled: bool,
        video: bool,
        tile: VaeTile = VAE_TILE,
    ) -> torch.Tensor:
        """Latents of pixels. `video`: the rows are the frames of one clip, else single images."""

    def decode(
        self,
        vae: Any,
        latent: torch.Tensor,
        *,
        tiled: bool,
        tile: VaeTile = VAE_TILE,
    ) -> torch.Tensor:
        """Pixels of latents; a time axis becomes rows."""

    def inpaint_conditioning(
        self,
        positive: Conditioning,
        negative: Conditioning | str,
        pixels: torch.Tensor,
        vae: Any,
        mask: torch.Tensor,
    ) -> tuple[Conditioning, Conditioning | str, dict]:
        """Conditioning of an inpainting model on the masked pixels, and their latent."""

    def cut_patches(self, model: Any, cut: Cut) -> Any:
        """The model whose patches that hold a picture of the whole image show what the cut does;
        the same object where there are none."""

    def takes_references_of_one_size(self, model: Any) -> bool:
        """Whether references have to be of the size of the latent that is sampled."""

    def differential_diffusion(self, model: Any) -> Any:
        """The model with a noise mask that fades, unless it has a mask function already."""

    def fitted_latent(self, model: Any, latent: dict) -> torch.Tensor:
        """The samples of a LATENT as the model wants them: an empty one fits any model."""

    def completed(self, model: Any, samples: Latent) -> Latent:
        """The samples with the streams, empty ones, that the model cannot do without."""

    def sigmas(
        self, model: Any, sampler_name: str, scheduler: str, steps: int, func: Callable | None
    ) -> torch.Tensor:
        """The schedule of a full run: [steps+1], falling, on the CPU."""

    def sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor: ...

    def share_a_latent(self, models: Sequence[Any]) -> bool:
        """Whether a noisy latent of one of the models means the same to all of them."""

    def why_alone(self, run: SamplerRun) -> str | None:
        """Why a run must not share a batch with others; None for one that may.

        A run may only if everything in it is known to treat every row by itself.
        """

    def entry_kind(self, name: str) -> str | None:
        """How an entry of a conditioning goes into a batch: ROWS, SAME, or None for unknown."""

    def repeats_texts(self, model: Any) -> bool:
        """Whether repeating all tokens of a text leaves the model's result as it is."""

    def rows_that_fit(self, run: SamplerRun, rows: int) -> int:
        """How many of `rows` runs like this one memory holds at once, 1 to rows."""

    def control_signature(self, control: Any) -> Hashable | None:
        """What ControlNets have in common that may serve the rows of one batch; None: alone."""

    def join_controls(self, controls: Sequence[Any], latent: torch.Tensor) -> Any:
        """One ControlNet whose hint has a row for each of these, which share a signature."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says, in any form, that memory ran out; see `core/memory.py`."""

    def free_memory(self, unload: bool = False) -> None:
        """Give back what caches hold, after memory ran out.

        Args:
            unload: also the memory of all models that are loaded and not in use just now.
        """

    def watched_memory(self) -> Callable[[], MemoryUse]:
        """Watch memory from now on; what is given back tells the most that was in use."""

    def about(self) -> Mapping[str, str]:
        """The engine, its version, the device and the like, by name; for people to read."""

    def progress(self, total: int) -> Callable[[int, Any, torch.Tensor | None], None]:
        """A bar of `total` steps; call it with steps done, model and denoised latent."""

    def check_interrupt(self) -> None:
        """Raise if the user asked to stop."""
