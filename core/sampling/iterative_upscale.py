"""Enlarge a latent in several steps: decode it, resize the pixels, encode and sample them."""

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
MOST_ENLARGINGS = 16  # the most times that an upscale model is used one after another
_HINT_BLUR = 8  # the hint of a tile ControlNet is reduced by this factor, and enlarged again


# Sizes -------------------------------------------------------------------------------------


def factors(total: float, steps: int, mode: str) -> Iterator[float]:
    """The scale after each step, relative to the size before the first step.

    Args:
        total: the scale after the last step.
        mode: "simple": each step adds the same length. "geometric": each step multiplies by the
            same factor.
    """
    for step in range(1, steps):
        yield total ** (step / steps) if mode == "geometric" else 1 + (total - 1) * step / steps
    yield total


def on_grid(width: float, height: float, multiple: int) -> Size:
    """The largest size, not above this one, whose sides are multiples of `multiple` pixels."""
    return Size(*(max(1, int(side) // multiple) * multiple for side in (width, height)))


@in_float32
def scale(pixels: torch.Tensor, size: Size, method: str) -> torch.Tensor:
    """Resize pixels [N,H,W,C] 0..1 with one of SCALE_METHODS.

    Returns:
        [N,size.height,size.width,C] 0..1.

    Raises:
        ValueError: the method does not exist.
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
    """The hint for a tile ControlNet: the picture [N,H,W,3] 0..1 without its fine detail."""
    planes = pixels.movedim(-1, 1)
    size = planes.shape[-2:]
    coarse = F.interpolate(planes, size=[max(1, side // _HINT_BLUR) for side in size], mode="area")
    return F.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1).movedim(1, -1)


# Between latent and pixels -------------------------------------------------------------------


@dataclass(frozen=True)
class Scaling:
    """How a latent is decoded, resized as pixels, and encoded again."""

    vae: Any
    method: str  # one of SCALE_METHODS
    tiled: bool = False  # whether the VAE works in tiles
    tile: VaeTile = field(default_factory=VaeTile)
    model: Callable[[torch.Tensor], torch.Tensor] | None = None  # upscale model, for [N,H,W,3]

    def decode(
        self, latent: dict, backend: Backend, original: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The pixels [N,H,W,3] of a LATENT; see `faults.decoded`.

        Raises:
            ValueError: they are not finite.
        """
        samples = picture(latent["samples"])

        def decode(vae: Any) -> torch.Tensor:
            return backend.decode(vae, samples, tiled=self.tiled, tile=self.tile)

        return decoded(samples, self.vae, decode, backend, original)

    def encode(self, pixels: torch.Tensor, video: bool, backend: Backend) -> dict:
        """The LATENT of pixels [N,H,W,3]; see `faults.encoded`.

        Raises:
            ValueError: it is not finite.
        """

        def encode(vae: Any) -> torch.Tensor:
            return backend.encode(vae, pixels, tiled=self.tiled, video=video, tile=self.tile)

        return {"samples": encoded(pixels, self.vae, encode, backend)}

    def enlarge(self, pixels: torch.Tensor, size: Size) -> torch.Tensor:
        """Resize pixels [N,H,W,3]. The upscale model, if there is one, is used until they are wide
        enough.

        Raises:
            ValueError: the size is too large.
        """
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
    """The size of the picture of a LATENT."""
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
    """Resize a LATENT. Streams besides the picture stay as they are.

    Args:
        size: width and height in pixels. They are rounded down to whole latent pixels.
        hook: is called before and after decoding, after resizing, and after encoding.
        show: takes the pixels [N,H,W,3] before they are resized.
        original: [N,H,W,3] or of any size; see `faults.fault_of`.

    Returns:
        The new LATENT, and its pixels [N,H',W',3] before the hook changed them.

    Raises:
        ValueError: the size is too large, or pixels or latent are not finite.
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

    Other packs make objects with the methods `upscale` and `upscale_shape` and the attributes
    `vae`, `is_tiled` and `tile_size`, or use those of these objects. So the names must not change.
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
            show: takes a prefix of file names and pixels [N,H,W,3], and shows the pixels. It is
                called before they are enlarged.
        """
        self.scaling, self.backend, self.show = scaling, backend, show
        self.vae, self.is_tiled = scaling.vae, scaling.tiled
        self.tile_size = scaling.tile.side
        self._begun: torch.Tensor | None = None  # [N,1,1,3], maximum of the first pixels

    def upscale(
        self,
        step_info: tuple[int, int],
        samples: dict,
        upscale_factor: float,
        save_temp_prefix: str | None = None,
    ) -> dict:
        """Enlarge a LATENT by a factor, and sample it; see `upscale_shape`."""
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
        """Enlarge a LATENT to a width and height in pixels, and sample it.

        Args:
            step_info: the index of the iteration, from 0, and the number of iterations.
            save_temp_prefix: prefix of the files in which the pixels are shown before they are
                enlarged. None: they are not shown.
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
        """The PK_HOOKs of this upscaler. The first one is called when a latent is enlarged."""

    @abstractmethod
    def refine(self, latent: dict, pixels: torch.Tensor, step_info: tuple[int, int]) -> dict:
        """Sample a LATENT that has been enlarged; `pixels` [N,H,W,3] are its picture."""


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
            common: the arguments of Upscaler.
            hook: a PK_HOOK.
            control: a tile ControlNet, which gets the enlarged picture as hint.
            attach: adds the ControlNet to the conditionings.
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
            setup = sampler.setup
            sampler = sampler.with_conditioning(
                *self.attach(self.control, setup.positive, setup.negative, tile_hint(pixels))
            )
        return sampler.sample(latent, self.hook, step_info)


class MaskUpscaler(Upscaler):
    """Samples the part outside of a mask with one sampler, the part inside with another."""

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
            base, inner: the KSAMPLERs for the parts outside and inside.
            mask: [B,H,W] 0..1, of any size.
            common: the arguments of Upscaler.
            schedule: one of FULL_SCHEDULES. It names the iterations in which the whole latent is
                sampled: first with `base`, and then with `full`, or again with `base` if there
                is no `full`.
            full: a KSAMPLER, or None.
            pk_hooks: the PK_HOOKs of the samplers `base`, `inner` and `full`.
            apart: see `sample_in_mask`.
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
    """A KSAMPLER that is always called with a hook."""

    sampler: Any
    hook: Any

    def sample(self, latent: dict) -> dict:
        return self.sampler.sample(latent, self.hook)


def is_full(schedule: str, step: int, steps: int) -> bool:
    """Whether a schedule names this iteration, counted from 0.

    "interleave2" names every third iteration, "last2" the last two iterations.

    Args:
        schedule: one of FULL_SCHEDULES.
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
    """In how many steps and by what factor a picture is enlarged; the inputs of the nodes."""

    factor: float  # new sides over old ones, at least 1
    steps: int
    mode: str = STEP_MODES[0]
    prefix: str = ""  # prefix of the files that show each iteration. Empty: nothing is shown


def upscale_latent(latent: dict, iterations: Iterations, upscaler: Any, backend: Backend) -> dict:
    """Enlarge a LATENT step by step with an UPSCALER of this pack or another.

    Raises:
        ValueError: the UPSCALER is none, has no VAE, or gives no LATENT with finite samples.
        RuntimeError: the UPSCALER raised an error.
    """
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
        ValueError: the UPSCALER has no VAE.
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
    """Enlarge pixels [N,H,W,3] step by step with an UPSCALER of this pack or another.

    If a side is no multiple of the latent pixel, the border is repeated before, and the added part
    is cut off after. So no pixels are lost.

    Returns:
        [N,H',W',3].
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
    """Decode a LATENT with one VAE and encode it with another."""
    if is_nested(latent["samples"]):
        note(
            "streams",
            "The latent has several streams. Only its picture is encoded with the other VAE; its "
            "sound and other streams are left out.",
        )
    pixels = source.decode(latent, backend)
    ratio = backend.ratio(target.vae)
    pixels = pad_edge(pixels, padding(Size(pixels.shape[2], pixels.shape[1]), ratio))
    result = target.encode(pixels, is_clip(latent), backend)
    return with_samples({}, result["samples"])
