"""The protocol of the engine that encodes, samples and decodes.

`core/host/backend.py` implements it with ComfyUI, and `tests/fake_backend.py` with a few lines of
torch. A worker of a cluster could implement it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .pixels.crop_view import Cut
from .prompts.segment_text import TextBackend
from .settings import VAE_TILE, Conditioning, Models, Tiles, VaeTile
from .streams import Latent

# Entries of an empty LATENT of the host, with which it can be fitted to any model.
OF_EMPTY_LATENTS = ("downscale_ratio_spacial", "downscale_ratio_temporal")

# How an entry of a conditioning goes into a batch: one row for each, or the same for all.
ROWS, SAME = "rows", "same"

# How a model takes the frames of a clip: each by itself, as rows of a batch that it sees together,
# or as one latent with a time axis.
IMAGES, MOTION, VIDEO = "images", "motion", "video"

# (step just done, steps in all, denoised latent so far or None where there is none to show)
OnStep = Callable[[int, int, torch.Tensor | None], None]


@dataclass(frozen=True)
class Subject:
    """What a run samples, as errors name it."""

    name: str = "the latent"
    source: str = "the LATENT input"  # where the latent comes from
    model: str = "the model"


@dataclass(frozen=True)
class Layer:
    """How a part of the latent is denoised; layers lie on top of one another.

    The denoised latents of all layers are combined before the sampler gets them, so that one
    sampler run makes the whole picture.
    """

    model: Any
    positive: Conditioning
    negative: Conditioning | str
    cfg: float
    weight: torch.Tensor  # [1,1,(T),h,w] 0..1, in latent pixels; 0 keeps the layers below
    begins: float = math.inf  # the noise level at which the layer begins to take part


@dataclass(frozen=True)
class SamplerRun:
    """One call of a sampler.

    A run that continues another one has the `latent` and `noise` that the whole run began with: a
    noise mask keeps that latent, under that noise.
    """

    model: Any
    positive: Conditioning
    negative: Conditioning | str
    cfg: float
    sampler_name: str
    sigmas: torch.Tensor  # [steps+1], the noise levels that are run
    schedule: torch.Tensor  # the whole schedule that `sigmas` is a part of
    seed: int
    noise: torch.Tensor  # of the latent's shape; zeros add none
    latent: torch.Tensor  # [N,C,h,w] or [N,C,T,h,w]
    noise_mask: torch.Tensor | None = None  # [N or 1,H,W] of any resolution; 1 is sampled anew
    is_hard: bool = False  # the noise mask held only 0 and 1 before it was resized
    sampler: Any = None  # a sampler object, used instead of `sampler_name`
    tiles: Tiles | None = None  # the tiles in which the model sees the latent; None: all at once
    # One for each row, of separate runs or frames, or for each step of a clip; else `seed` is for
    # all of them.
    seeds: tuple[int, ...] = ()
    # For a run that is done in parts:
    start: torch.Tensor | None = None  # the noisy latent at the end of the part before
    whole: torch.Tensor | None = None  # noise levels of the whole run, for masks that use them
    number: int = 0  # steps before this part, for which samplers have drawn noise already
    batch_index: tuple[int, ...] | None = None  # the rows' indices in a larger batch
    subject: Subject = Subject()
    layers: tuple[Layer, ...] = ()  # later ones on top
    # A callback of another pack: called with the step, the denoised latent, the noisy latent, and
    # the number of steps.
    watch: Callable[[int, Any, Any, int], Any] | None = None


@dataclass(frozen=True)
class MemoryUse:
    """The most memory that was in use while something ran, in bytes."""

    device: str  # whose memory, such as "cuda:0"; "cpu" is the process's
    used: int  # by tensors; of the CPU all that the process holds
    reserved: int  # by the allocator, for tensors


class Viewer(Protocol):
    """Who looks on while a node runs."""

    def picture(self, pixels: torch.Tensor, side: int) -> dict[str, str]:
        """Keep a picture [1,h,w,C], 0..1, no larger than `side` pixels; how to ask for it."""

    def tell(self, **data: Any) -> None:
        """Tell how the node is getting on."""


class Backend(TextBackend, Protocol):
    """Shapes: pixels [N,h,w,3] float 0..1, latents as in SamplerRun.

    Attributes:
        model_calls: how often the network that is sampled has been called.
    """

    model_calls: int

    def ratio(self, vae: Any) -> int:
        """Pixels per latent pixel along a side."""

    def grid(self, model: Any, vae: Any) -> int:
        """The number that both sides in pixels have to be multiples of, for VAE and model."""

    def native_area(self, model: Any) -> int:
        """The number of pixels of the pictures that the model was trained for."""

    def is_video_vae(self, vae: Any) -> bool:
        """Whether the VAE turns a batch of frames into one latent with a time axis."""

    def clip_length(self, vae: Any, frames: int) -> int:
        """The least number of frames, at least `frames`, that the VAE does not shorten."""

    def latent_steps(self, vae: Any, frames: int) -> int:
        """The number of latent steps that a video VAE encodes a clip of this length to."""

    def frames_of_steps(self, vae: Any, steps: int, frames: int) -> list[slice]:
        """For each latent step of a clip, the frames that it may stand for."""

    def clip_kind(self, models: Models) -> str:
        """How the model takes the frames of a clip: IMAGES, MOTION or VIDEO."""

    def native_frames(self, models: Models) -> int:
        """The number of frames of the clips that the model was trained for; 1 for IMAGES."""

    def has_context_windows(self, model: Any) -> bool:
        """Whether the engine itself divides a long clip into windows while it samples it."""

    def mixes_rows(self, vae: Any) -> bool:
        """Whether one row of a batch may change what the VAE makes of another."""

    def pixels_at_once(self, vae: Any) -> int:
        """The number of pixels up to which the VAE is faster for several pictures in one call."""

    def in_float32(self, vae: Any) -> Any:
        """The VAE in float32, which does not overflow; None if it is in float32 already."""

    def encode(
        self,
        vae: Any,
        pixels: torch.Tensor,
        *,
        tiled: bool,
        video: bool,
        tile: VaeTile = VAE_TILE,
    ) -> torch.Tensor:
        """Latents [N,C,h,w] or [N,C,T,h,w] of pixels [N,H,W,3].

        Args:
            tiled: work in tiles of the size `tile`.
            video: the rows are the frames of one clip; otherwise they are single images.
        """

    def decode(
        self,
        vae: Any,
        latent: torch.Tensor,
        *,
        tiled: bool,
        tile: VaeTile = VAE_TILE,
    ) -> torch.Tensor:
        """Pixels [N,H,W,3] of latents [N,C,h,w] or [N,C,T,h,w]; a time axis becomes rows."""

    def inpaint_conditioning(
        self,
        positive: Conditioning,
        negative: Conditioning | str,
        pixels: torch.Tensor,
        vae: Any,
        mask: torch.Tensor,
    ) -> tuple[Conditioning, Conditioning | str, dict]:
        """The conditioning of an inpainting model, and the LATENT of the pixels.

        Args:
            pixels: [N,H,W,3] 0..1.
            mask: [N or 1,H,W] 0..1; 1 is painted anew.
        """

    def cut_patches(self, model: Any, cut: Cut) -> Any:
        """The model with its patches cut: a patch that holds a picture of the whole image gets the
        part in the crop. The same object where no patch holds one."""

    def takes_references_of_one_size(self, model: Any) -> bool:
        """Whether references need the size of the latent that is sampled."""

    def differential_diffusion(self, model: Any) -> Any:
        """The model with differential diffusion, unless it has a mask function already."""

    def fitted_latent(self, model: Any, latent: dict) -> torch.Tensor:
        """The samples [N,C,h,w] or [N,C,T,h,w] of a LATENT; an empty one is fitted to the model."""

    def completed(self, model: Any, samples: Latent) -> Latent:
        """The samples, with empty streams added where the model needs more streams."""

    def sigmas(
        self, model: Any, sampler_name: str, scheduler: str, steps: int, func: Callable | None
    ) -> torch.Tensor:
        """The schedule of a full run: [steps+1], falling, on the CPU."""

    def noise_share(self, model: Any, sigma: float) -> float | None:
        """The share of a latent's variance that is noise at a noise level, 0..1; None if unknown.

        Latents are assumed to have the variance 1, to which latent formats bring them.
        """

    def sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor:
        """The sampled latent [N,C,h,w] or [N,C,T,h,w]; `on_step` is called at each step."""

    def share_a_latent(self, models: Sequence[Any]) -> bool:
        """Whether the models share a latent space, so that one can continue the run of another."""

    def why_alone(self, run: SamplerRun) -> str | None:
        """Why a run must not share a batch with others; None if it may.

        It may only if everything in it is known to treat every row separately.
        """

    def entry_kind(self, name: str) -> str | None:
        """How an entry of a conditioning goes into a batch: ROWS, SAME, or None for unknown."""

    def repeats_texts(self, model: Any) -> bool:
        """Whether repeating all tokens of a text leaves the model's result as it is."""

    def rows_that_fit(self, run: SamplerRun, rows: int) -> int:
        """How many of `rows` runs like this one fit into memory at once, 1 to rows."""

    def control_signature(self, control: Any) -> Hashable | None:
        """A value that is equal for ControlNets that can share a batch; None: it cannot."""

    def join_controls(self, controls: Sequence[Any], latent: torch.Tensor) -> Any:
        """One ControlNet whose hint has a row for each of `controls`.

        Args:
            controls: have the same `control_signature`.
            latent: [N,C,h,w] or [N,C,T,h,w] of the batch.
        """

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says, in any form, that memory ran out; see `core/memory.py`."""

    def free_memory(self, unload: bool = False) -> None:
        """Free the memory of caches, after memory ran out.

        Args:
            unload: also free the memory of all models that are loaded and not in use.
        """

    def watched_memory(self) -> Callable[[], MemoryUse]:
        """Watch memory from now on; what is given back tells the most that was in use."""

    def about(self) -> Mapping[str, str]:
        """The engine, its version, the device and the like, by name; for people to read."""

    def progress(self, total: int) -> Callable[[int, Any, torch.Tensor | None], None]:
        """A progress bar of `total` steps.

        It is called with the steps done, the model, and the denoised latent [N,C,h,w] or
        [N,C,T,h,w], or None.
        """

    def viewer(self) -> Viewer | None:
        """Who looks on while a node runs; None for nobody."""

    def check_interrupt(self) -> None:
        """Raise the host's interrupt if the user asked to stop."""
