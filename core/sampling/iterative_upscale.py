"""Enlarging a latent in several steps, by way of its pixels, and sampling it after each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from ...utils.notes import note
from ..backend import Backend
from ..bounds import check_pixels
from ..checked_calls import Source, sampled
from ..geometry import Size, padding
from ..hook_protocol import Hook
from ..pixels.image import pad_edge
from ..pixels.mask import for_latent
from ..pixels.precision import in_float32
from ..pixels.resample import SMALLER, resize
from ..prompts.control import AttachControlNet, ControlNet
from ..settings import VaeTile
from ..streams import is_nested, picture, with_picture
from .faults import check_samples, decoded, encoded
from .latent import with_samples
from .sampler_objects import KSampler, sample_in_mask, sampled_by

SCALE_METHODS = ("nearest-exact", "bilinear", "lanczos", "area")
STEP_MODES = ("simple", "geometric")
FULL_SCHEDULES = (
    "none", "interleave1", "interleave2", "interleave3", "last1", "last2", "interleave1+last1",
    "interleave2+last1", "interleave3+last1",
)  # fmt: skip
MOST_ENLARGINGS = 16  # times that an upscale model is used one after another
_HINT_BLUR = 8  # how much coarser than the picture the hint of a tile ControlNet is


# Sizes -------------------------------------------------------------------------------------


def factors(total: float, steps: int, mode: str) -> Iterator[float]:
    """The size after each step over that before the first: evenly ("simple"), or each step by the
    same factor ("geometric"); `total` in the end."""
    for step in range(1, steps):
        yield total ** (step / steps) if mode == "geometric" else 1 + (total - 1) * step / steps
    yield total


def on_grid(width: float, height: float, multiple: int) -> Size:
    """The largest size of whole latent pixels that is not above this one."""
    return Size(*(max(1, int(side) // multiple) * multiple for side in (width, height)))


@in_float32
def scale(pixels: torch.Tensor, size: Size, method: str) -> torch.Tensor:
    """Resize pixels [N,H,W,C] with one of SCALE_METHODS; the result is within 0..1.

    Raises:
        ValueError: there is no such method.
    """
    if method not in SCALE_METHODS:
        raise ValueError(
            f"'scale_method' is {method!r}, which does not exist. Choose one of: "
            f"{', '.join(SCALE_METHODS)}."
        )
    if method == "lanczos":
        return resize(pixels, size)
    scaled = F.interpolate(pixels.movedim(-1, 1), size=(size.height, size.width), mode=method)
    return scaled.movedim(1, -1)


@in_float32
def tile_hint(pixels: torch.Tensor) -> torch.Tensor:
    """What a tile ControlNet goes by: the picture [N,H,W,3] without its fine detail."""
    planes = pixels.movedim(-1, 1)
    size = planes.shape[-2:]
    coarse = F.interpolate(planes, size=[max(1, side // _HINT_BLUR) for side in size], mode="area")
    return F.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1).movedim(1, -1)


# Between latent and pixels -------------------------------------------------------------------


@dataclass(frozen=True)
class Scaling:
    """How a latent is enlarged by way of its pixels."""

    vae: Any
    method: str  # one of SCALE_METHODS
    tiled: bool = False  # whether the VAE works in tiles
    tile: VaeTile = field(default_factory=VaeTile)
    model: Callable[[torch.Tensor], torch.Tensor] | None = None  # enlarges pixels beforehand

    def decode(
        self, latent: dict, backend: Backend, original: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The pixels of a LATENT; see `faults.decoded`."""
        samples = picture(latent["samples"])

        def decode(vae: Any) -> torch.Tensor:
            return backend.decode(vae, samples, tiled=self.tiled, tile=self.tile)

        return decoded(samples, self.vae, decode, backend, original)

    def encode(self, pixels: torch.Tensor, video: bool, backend: Backend) -> dict:
        """The LATENT of pixels; see `faults.encoded`."""

        def encode(vae: Any) -> torch.Tensor:
            return backend.encode(vae, pixels, tiled=self.tiled, video=video, tile=self.tile)

        return {"samples": encoded(pixels, self.vae, encode, backend)}

    def enlarge(self, pixels: torch.Tensor, size: Size) -> torch.Tensor:
        """Bring pixels [N,H,W,3] to a size, by way of the model as often as it takes."""
        check_pixels(size, "The enlarged picture", remedy=SMALLER)
        width = pixels.shape[2]
        for _ in range(MOST_ENLARGINGS if self.model is not None else 0):
            if width >= size.width:
                break
            pixels = self.model(pixels)
            if pixels.shape[2] <= width:
                break  # it does not enlarge
            width = pixels.shape[2]
        return scale(pixels, size, self.method)


def is_clip(latent: dict) -> bool:
    """Whether a LATENT holds frames of a video."""
    samples = picture(latent["samples"])
    return samples.ndim == 5 and samples.shape[2] > 1


def size_in_pixels(latent: dict, vae: Any, backend: Backend) -> Size:
    ratio = backend.ratio(vae)
    height, width = picture(latent["samples"]).shape[-2:]
    return Size(width * ratio, height * ratio)


def enlarged(
    latent: dict,
    size: tuple[float, float],
    scaling: Scaling,
    backend: Backend,
    hook: Hook | None = None,
    show: Callable[[torch.Tensor], None] | None = None,
    original: torch.Tensor | None = None,
) -> tuple[dict, torch.Tensor]:
    """A LATENT brought to another size; streams besides the picture stay as they are.

    Args:
        size: width and height in pixels, of which as many are taken as are whole latent pixels.
        hook: steps in before and after the pixels, and before and after they are enlarged.
        show: gets the pixels before they are enlarged.
        original: as in `faults.fault_of`.

    Returns:
        The new LATENT and its pixels, without what the hook makes of them.
    """
    hook = Hook() if hook is None else hook
    target = on_grid(*size, backend.ratio(scaling.vae))
    check_pixels(target, "The enlarged picture", remedy=SMALLER)
    pixels = hook.post_decode(scaling.decode(hook.pre_decode(latent), backend, original))
    if show is not None:
        show(pixels)
    pixels = scaling.enlarge(pixels, target)
    changed = hook.post_upscale(pixels, torch.ones(1, *pixels.shape[1:3]))
    result = scaling.encode(changed, is_clip(latent), backend)
    result["samples"] = with_picture(latent["samples"], result["samples"])
    return hook.post_encode(result), pixels


# UPSCALER ----------------------------------------------------------------------------------


class Upscaler(ABC):
    """An UPSCALER: enlarges a latent and samples it.

    Packs that bring upscalers of their own, or use these, call `upscale` and `upscale_shape`, and
    read `vae`, `is_tiled` and `tile_size`.
    """

    def __init__(
        self,
        scaling: Scaling,
        backend: Callable[[], Backend],
        show: Callable[[str, torch.Tensor], None],
    ) -> None:
        """
        Args:
            backend: makes a Backend for each run.
            show: (prefix of file names, pixels [N,H,W,3]), shows pixels before they are enlarged.
        """
        self.scaling, self.backend, self.show = scaling, backend, show
        self.vae, self.is_tiled = scaling.vae, scaling.tiled
        self.tile_size = scaling.tile.side
        self._begun: torch.Tensor | None = None  # [N,1,1,3], the brightest of the first iteration

    def upscale(
        self,
        step_info: tuple[int, int],
        samples: dict,
        upscale_factor: float,
        save_temp_prefix: str | None = None,
    ) -> dict:
        """The LATENT, `upscale_factor` times as wide and high; see `upscale_shape`."""
        width, height = size_in_pixels(samples, self.vae, self.backend())
        return self.upscale_shape(
            step_info, samples, width * upscale_factor, height * upscale_factor, save_temp_prefix
        )

    def upscale_shape(
        self,
        step_info: tuple[int, int],
        samples: dict,
        w: float,
        h: float,
        save_temp_prefix: str | None = None,
    ) -> dict:
        """The LATENT with a width and height in pixels.

        Args:
            step_info: the iteration, from 0, and how many there are.
            save_temp_prefix: shows the pixels before, in files of names that begin so.
        """
        backend = self.backend()
        for hook in self.hooks:
            hook.set_steps(*step_info)
        show = None if save_temp_prefix is None else partial(self.show, save_temp_prefix)
        begun = self._begun if step_info[0] else None
        latent, pixels = enlarged(
            samples, (w, h), self.scaling, backend, self.hooks[0], show, begun
        )  # fmt: skip
        if not step_info[0]:
            self._begun = pixels.amax(dim=(1, 2), keepdim=True)
        if samples.get("noise_mask") is not None:
            latent = {**latent, "noise_mask": samples["noise_mask"]}
        return self.refine(latent, pixels, step_info)

    @property
    @abstractmethod
    def hooks(self) -> list[Hook]:
        """The PK_HOOKs; the first is that of enlarging."""

    @abstractmethod
    def refine(self, latent: dict, pixels: torch.Tensor, step_info: tuple[int, int]) -> dict:
        """Sample an enlarged LATENT with pixels [N,H,W,3]."""


class SamplingUpscaler(Upscaler):
    """Samples each enlarged latent with one sampler."""

    def __init__(
        self,
        sampler: KSampler,
        *common: Any,
        hook: Any = None,
        control: ControlNet | None = None,
        attach: AttachControlNet | None = None,
    ) -> None:
        """
        Args:
            common: as for Upscaler.
            hook: a PK_HOOK.
            control: a tile ControlNet, that goes by the enlarged picture.
            attach: puts it into the conditionings.
        """
        super().__init__(*common)
        self.sampler, self.hook = sampler, hook
        self.control, self.attach = control, attach

    @property
    def hooks(self) -> list[Hook]:
        return [Hook(self.hook)]

    def refine(self, latent: dict, pixels: torch.Tensor, step_info: tuple[int, int]) -> dict:
        sampler = self.sampler
        if self.control is not None:
            recipe = sampler.recipe
            sampler = sampler.with_conditioning(
                *self.attach(self.control, recipe.positive, recipe.negative, tile_hint(pixels))
            )
        return sampler.sample(latent, self.hook, step_info)


class MaskUpscaler(Upscaler):
    """Samples what a mask leaves out with one sampler, what it covers with another."""

    def __init__(
        self,
        base: Any,
        inner: Any,
        mask: torch.Tensor,
        *common: Any,
        schedule: str = "none",
        full: Any = None,
        pk_hooks: tuple[Any, Any, Any] = (None, None, None),
        apart: bool = False,
    ) -> None:
        """
        Args:
            base, inner: KSAMPLERs.
            mask: [B,H,W] 0..1, of any size.
            common: as for Upscaler.
            schedule: one of FULL_SCHEDULES: in which iterations the whole latent is sampled,
                with the base and then with `full` or, without that, the base again.
            pk_hooks: PK_HOOKs of the base, the inner and the full sampler.
            apart: as of `sample_in_mask`.
        """
        super().__init__(*common)
        self.base, self.inner, self.mask = base, inner, mask
        self.schedule, self.full, self.pk_hooks = schedule, full, pk_hooks
        self.apart = apart

    @property
    def hooks(self) -> list[Hook]:
        return [Hook(hook) for hook in self.pk_hooks]

    def refine(self, latent: dict, pixels: torch.Tensor, step_info: tuple[int, int]) -> dict:
        base_hook, inner_hook, full_hook = self.pk_hooks
        if is_full(self.schedule, *step_info):
            latent = sampled_by(self.base, latent, base_hook)
            return sampled_by(self.full or self.base, latent, full_hook)
        mask = for_latent(self.mask, latent["samples"])
        return sample_in_mask(
            latent,
            _Hooked(self.base, base_hook),
            _Hooked(self.inner, inner_hook),
            mask.reshape(-1, *mask.shape[-2:]),
            apart=self.apart,
        )


@dataclass(frozen=True)
class _Hooked:
    """A KSAMPLER with the hook that it is called with."""

    sampler: Any
    hook: Any

    def sample(self, latent: dict) -> dict:
        return self.sampler.sample(latent, self.hook)


def is_full(schedule: str, step: int, steps: int) -> bool:
    """Whether one of FULL_SCHEDULES names an iteration, counted from 0.

    "interleave2" is every third: two without lie between. "last2" are the last two.
    """
    for part in schedule.split("+"):
        count = int(part[-1]) if part[-1].isdigit() else 0
        if part.startswith("interleave") and (step + 1) % (count + 1) == 0:
            return True
        if part.startswith("last") and step >= steps - count:
            return True
    return False


# The nodes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Iterations:
    """How often and how far a picture is enlarged; the fields are those of the nodes."""

    factor: float  # new sides over old ones, at least 1
    steps: int
    mode: str = STEP_MODES[0]
    prefix: str = ""  # of the files that show the way; empty shows nothing


def upscale_latent(latent: dict, iterations: Iterations, upscaler: Any, backend: Backend) -> dict:
    """Enlarge a LATENT step by step with an UPSCALER, of this pack or another."""
    source = Source.of("The UPSCALER", upscaler, "upscale_shape", "Connect another one.")
    upscale = source.method(upscaler, "upscale_shape")
    width, height = size_in_pixels(latent, vae_of(upscaler), backend)
    sizes = factors(iterations.factor, iterations.steps, iterations.mode)
    for step, factor in enumerate(sizes):
        backend.check_interrupt()
        before = latent
        latent = source.call(
            upscale, (step, iterations.steps), latent, width * factor, height * factor,
            iterations.prefix or None,
        )  # fmt: skip
        latent = sampled(source, latent, before)
    name = f"The latent after the last of {iterations.steps} iterations"
    check_samples(latent["samples"], name, before["samples"])
    return latent


def vae_of(upscaler: Any) -> Any:
    """The VAE of an UPSCALER.

    Raises:
        ValueError: it has none.
    """
    if getattr(upscaler, "vae", None) is None:
        raise ValueError(
            f"'upscaler' is a {type(upscaler).__name__} without a VAE. Connect the UPSCALER output"
            " of an upscaler provider."
        )
    return upscaler.vae


def upscale_pixels(
    pixels: torch.Tensor, iterations: Iterations, upscaler: Any, vae: Any, backend: Backend
) -> torch.Tensor:
    """Enlarge pixels [N,H,W,3] step by step with an UPSCALER, of this pack or another.

    Pixels beyond the last whole latent pixel are not lost: the border is repeated until they are
    in one, and what that adds is cut off in the end.
    """
    tile = VaeTile(getattr(upscaler, "tile_size", VaeTile.side))
    scaling = Scaling(vae, "lanczos", bool(getattr(upscaler, "is_tiled", False)), tile)
    size = Size(pixels.shape[2], pixels.shape[1])
    padded = pad_edge(pixels, padding(size, backend.ratio(vae)))
    latent = scaling.encode(padded, False, backend)
    latent = upscale_latent(latent, iterations, upscaler, backend)
    result = scaling.decode(latent, backend, padded)
    width = round(result.shape[2] * size.width / padded.shape[2])
    height = round(result.shape[1] * size.height / padded.shape[1])
    return result[:, :height, :width]


def reencoded(latent: dict, source: Scaling, target: Scaling, backend: Backend) -> dict:
    """The picture of a LATENT of one VAE as a LATENT of another."""
    if is_nested(latent["samples"]):
        note(
            "streams",
            "Only the picture's stream of the latent goes on to the other VAE: its sound, or "
            "whatever the others hold, is left out.",
        )
    pixels = source.decode(latent, backend)
    ratio = backend.ratio(target.vae)
    pixels = pad_edge(pixels, padding(Size(pixels.shape[2], pixels.shape[1]), ratio))
    result = target.encode(pixels, is_clip(latent), backend)
    return with_samples({}, result["samples"])
