"""What callables of users and of other packs give back.

Hooks, detectors, scheduler functions, samplers, upscalers and VAEs come over links, and may return
or raise anything. Each is called by way of a `Source`, which names it where it raises; what it
returns goes through the one check of its kind here. So either the core gets what it wants, or an
error says who gave what, and what is wanted instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..utils.arrays import to_tensor
from ..utils.check import all_finite, described, is_array, quoted
from .bounds import MOST_CELLS, MOST_STEPS
from .geometry import Size
from .memory import is_out_of_memory
from .pixels.image import to_rgb
from .pixels.mask import fitted_mask, union
from .streams import Latent, is_nested, picture, streams

# Modules of ComfyUI: what they raise (an interrupt, say) is for the host to see as it is.
_HOST = frozenset({"comfy", "comfy_api", "comfy_execution", "execution"})


def passes(error: BaseException) -> bool:
    """Whether an error goes on as it is: an interrupt, a lack of memory, one that tells enough."""
    if not isinstance(error, Exception) or is_out_of_memory(error):
        return True
    is_host = type(error).__module__.partition(".")[0] in _HOST
    return is_host or getattr(error, "is_told", False)


def told(error: Exception) -> Exception:
    """The error, marked as one that says who is at fault: it passes other callables unchanged."""
    error.is_told = True
    return error


@dataclass(frozen=True)
class Source:
    """A callable of others, as errors name it."""

    name: str  # the subject of a sentence, such as "The hook Sharpen (post_decode)"
    remedy: str = "Mend it, or disconnect it."

    @classmethod
    def of(cls, kind: str, owner: Any, method: str = "", remedy: str = remedy) -> Source:
        """
        Args:
            kind: what it is, such as "The hook".
            owner: the object that has the method, or a function.
        """
        own = getattr(owner, "__name__", None)
        own = own if isinstance(own, str) else type(owner).__name__
        return cls(f"{kind} {own}" + (f" ({method})" if method else ""), remedy)

    def call(self, function: Callable, *args: Any, **options: Any) -> Any:
        """What the callable returns.

        Raises:
            ValueError, RuntimeError: it raised.
        """
        try:
            return function(*args, **options)
        except Exception as error:
            if passes(error):
                raise
            raise self.failed(error) from error

    def failed(self, error: Exception) -> Exception:
        """The error for one that the callable raised."""
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        said = f"{type(error).__name__}: {error!s:.500}".rstrip(": .")
        return told(kind(f"{self.name} failed with {said}. {self.remedy}"))

    def wrong(self, given: str, wanted: str) -> Exception:
        """The error for a return value that is not what is wanted."""
        return told(
            ValueError(f"{self.name} gave {given}, but should give {wanted}. {self.remedy}")
        )

    def method(self, owner: Any, name: str) -> Callable:
        """A method of an object, which has to be there.

        Raises:
            ValueError: it is not.
        """
        method = getattr(owner, name, None)
        if not callable(method):
            raise told(ValueError(f"{self.name} has no {name}(). {self.remedy}"))
        return method


def vae(vae: Any, method: str) -> Source:
    """A VAE, or what stands for one."""
    return Source.of("'vae':", vae, method, "Connect the VAE that belongs to the model.")


def parts(source: Source, value: Any, count: int, wanted: str) -> list[Any]:
    """So many values, the last of them a list or None."""
    fits = isinstance(value, (tuple, list)) and len(value) == count
    if not (fits and (value[-1] is None or isinstance(value[-1], (tuple, list)))):
        raise source.wrong(described(value), wanted)
    return list(value)


# Numbers -----------------------------------------------------------------------------------


def number(source: Source, value: Any, wanted: str = "a finite number") -> float | int:
    """A finite number; texts and arrays of one number are read as such."""
    found = _finite(value)
    if found is None:
        raise source.wrong(quoted(value), wanted)
    return found


def _finite(value: Any) -> float | int | None:
    """A value as a finite number; None if it is none."""
    try:
        given = value.item() if is_array(value) else value
        given = given if isinstance(given, int) else float(given)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return given if isinstance(given, int) or math.isfinite(given) else None


def whole(source: Source, value: Any, wanted: str = "a whole number") -> int:
    """As `number`; fractions are cut off."""
    return int(number(source, value, wanted))


def numbers(source: Source, values: Any, count: int, wanted: str) -> list[float | int]:
    """So many finite numbers, from any sequence of them."""
    try:
        given = None if isinstance(values, (str, bytes, dict, set)) else list(values)
    except TypeError:
        given = None
    found = [_finite(value) for value in given or ()]
    if len(found) != count or None in found:
        raise source.wrong(quoted(values), wanted)
    return found


def truth(source: Source, value: Any) -> bool:
    """Whether a value counts as true."""
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError) as error:  # arrays of several
        raise source.wrong(described(value), "true or false") from error


# Pictures and masks ------------------------------------------------------------------------


def pixels(
    source: Source, value: Any, like: torch.Tensor, size: Size | None = None
) -> torch.Tensor:
    """Pixels [N,h,w,3] for others [N,H,W,3], on their device and of their dtype.

    Grey is expanded and an alpha left out. Values that are not finite are refused unless those
    that it was given are not finite either: then something before it has failed.

    Args:
        size: the width and height that they have to have; None takes any.
    """
    if value is like:
        return like
    place = "" if size is None else f" of {size[0]}x{size[1]} pixels"
    wanted = f"{len(like)} picture{'s' if len(like) > 1 else ''} [N,h,w,3] of floats 0..1{place}"
    fits = (
        isinstance(value, torch.Tensor) and is_array(value) and value.is_floating_point()
        and value.ndim == 4 and len(value) == len(like) and value.shape[-1] in (1, 3, 4)
        and value.numel() > 0 and size in (None, (value.shape[2], value.shape[1]))
    )  # fmt: skip
    if not fits:
        raise source.wrong(_tensor(value), wanted)
    value = to_rgb(value)[0] if value.shape[-1] != like.shape[-1] else value
    _check_finite(source, value, like, wanted)
    return value.to(like)


def made_pixels(source: Source, value: Any, rows: int) -> torch.Tensor:
    """Pixels [N,h,w,3] of so many rows at least that something decodes samples to."""
    wanted = f"pixels [N,h,w,3] of floats, {rows} or more"
    fits = isinstance(value, torch.Tensor) and is_array(value) and value.is_floating_point()
    if not (fits and value.ndim in (4, 5) and value.numel() and value.shape[-1] in (1, 3, 4)):
        raise source.wrong(_tensor(value), wanted)
    value = to_rgb(value.reshape(-1, *value.shape[-3:]))[0]
    if len(value) < rows:
        raise source.wrong(_tensor(value), wanted)
    return value


def shown_picture(source: Source, value: Any, like: torch.Tensor) -> torch.Tensor:
    """A picture [N,h,w,3] of any size on the device and of the dtype of another; arrays pass."""
    wanted = "a picture [h,w,C] or [N,h,w,C] of finite numbers with 1, 3 or 4 channels"
    if not (is_array(value) and value.ndim in (3, 4) and 0 not in value.shape):
        raise source.wrong(_tensor(value), wanted)
    made = to_tensor(value, like=like)
    made = made if made.ndim == 4 else made[None]
    if made.shape[-1] not in (1, 3, 4) or not all_finite(made):
        raise source.wrong(_tensor(value), wanted)
    return to_rgb(made)[0]


def mask(source: Source, value: Any, size: Size) -> torch.Tensor:
    """One mask [1,H,W] 0..1 for an image of this size; None is an empty one.

    Several are united, and one of another size is resized, which is told.
    """
    if value is None:
        return torch.zeros(1, size[1], size[0])
    wanted = f"a mask [H,W] of finite numbers 0..1 of {size[0]}x{size[1]} pixels"
    if not (is_array(value) and value.ndim in (2, 3, 4) and 0 not in value.shape):
        raise source.wrong(_tensor(value), wanted)
    if value.ndim == 4 and 1 not in (value.shape[1], value.shape[3]):
        raise source.wrong(_tensor(value), wanted)
    own = to_tensor(value)
    if own.ndim == 4:
        own = own[:, 0] if own.shape[1] == 1 else own[..., 0]
    own = own[None] if own.ndim == 2 else own
    if not all_finite(own):
        raise source.wrong("values that are not finite", wanted)
    return union(fitted_mask(own.clamp(0, 1), size, source.name))


# Latents and noise -------------------------------------------------------------------------


def latent(source: Source, value: Any, before: dict) -> dict:
    """A LATENT with samples of as many axes as those of the one before.

    Values that are not finite are refused only where those before are finite.
    """
    if value is before:
        return before
    given = value.get("samples") if isinstance(value, dict) else None
    own, wanted = samples_of(given), samples_of(before["samples"])
    if own is None or wanted is None or own.ndim != wanted.ndim:
        shape = "of other samples" if wanted is None else f"{list(wanted.shape)}"
        raise source.wrong(
            _tensor(value if given is None else given),
            f"a latent, a dict with 'samples' like those before ({shape})",
        )
    cells = own.shape[-1] * own.shape[-2]
    if cells > max(MOST_CELLS, wanted.shape[-1] * wanted.shape[-2]):
        raise source.wrong(_tensor(own), f"a latent of {MOST_CELLS} latent pixels at most")
    _check_finite(source, own, wanted, "a latent")
    noise_mask = value.get("noise_mask")
    if noise_mask is not None and noise_mask is not before.get("noise_mask"):
        _check_noise_mask(source, noise_mask)
    return value


def sampled(source: Source, value: Any, before: dict) -> dict:
    """What a sampler or an upscaler gives for a LATENT: another one, of any size."""
    given = value.get("samples") if isinstance(value, dict) else None
    own = samples_of(given)
    if own is None:
        shown = _tensor(value if given is None else given)
        raise source.wrong(shown, "a latent, a dict with 'samples' [N,C,h,w] or [N,C,T,h,w]")
    _check_finite(source, own, picture(before["samples"]), "a latent")
    return value


def like(source: Source, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Samples that are put together with others, and so have to be of their shape."""
    if own.shape != other.shape:
        raise source.wrong(_tensor(own), f"samples of the shape {list(other.shape)}")
    return own


def made_samples(source: Source, value: Any) -> Latent:
    """The samples that something encodes pixels to."""
    if samples_of(value) is None:
        raise source.wrong(_tensor(value), "samples [N,C,h,w] or [N,C,T,h,w] of floats")
    return value


def samples_of(value: Any) -> torch.Tensor | None:
    """The picture's stream of samples; None if they are no samples at all."""
    if is_nested(value):
        try:
            parts = streams(value)
        except Exception:  # whatever it is that says so of itself
            return None
        value = parts[0] if parts else None
    fits = isinstance(value, torch.Tensor) and is_array(value) and value.is_floating_point()
    return value if fits and value.ndim in (3, 4, 5) and value.numel() else None


def _check_noise_mask(source: Source, value: Any) -> None:
    wanted = "a noise mask [N,H,W] of finite numbers"
    own = streams(value)[0] if is_nested(value) else value
    if not (isinstance(own, torch.Tensor) and is_array(own) and 2 <= own.ndim <= 5 and own.numel()):
        raise source.wrong(f"{_tensor(own)} as noise_mask", wanted)
    if not all_finite(own.float()):
        raise source.wrong("a noise_mask with values that are not finite", wanted)


def noise(source: Source, value: Any, like: torch.Tensor) -> torch.Tensor:
    """Noise of the latent's shape."""
    wanted = f"noise of the shape {list(like.shape)}"
    if not (isinstance(value, torch.Tensor) and is_array(value) and value.shape == like.shape):
        raise source.wrong(_tensor(value), wanted)
    _check_finite(source, value, like, wanted)
    return value


def _check_finite(source: Source, value: torch.Tensor, before: torch.Tensor, wanted: str) -> None:
    if not all_finite(value) and all_finite(before):
        raise source.wrong("values that are not finite (NaN or infinite)", f"{wanted}, all finite")


# Sampling ----------------------------------------------------------------------------------


def sigmas(source: Source, value: Any, steps: int) -> torch.Tensor:
    """Noise levels [n], float32 on the CPU: finite, at least 0, and none above the one before."""
    wanted = f"{steps + 1} noise levels [steps+1] that fall, finite and none below 0"
    if isinstance(value, (list, tuple)):
        value = np.asarray(numbers(source, value, len(value), wanted), dtype=np.float64)
    if not (is_array(value) and value.ndim == 1 and len(value)):
        raise source.wrong(_tensor(value), wanted)
    levels = to_tensor(value).detach().cpu()
    if not all_finite(levels) or levels.min() < 0 or (levels.diff() > 0).any():
        shown = ", ".join(f"{level:g}" for level in levels[:8].tolist())
        raise source.wrong(f"the levels {shown}{', ...' if len(levels) > 8 else ''}", wanted)
    return levels


def step_count(source: Source, value: Any) -> int:
    """Steps of a schedule, 0 to MOST_STEPS."""
    wanted = f"a number of steps from 0 to {MOST_STEPS}"
    steps = whole(source, value, wanted)
    if not 0 <= steps <= MOST_STEPS:
        raise source.wrong(quoted(value), wanted)
    return steps


def _tensor(value: Any) -> str:
    """What a value is, with the dtype of one that has one."""
    dtype = getattr(value, "dtype", None)
    return described(value) + ("" if dtype is None else f" of {dtype}")
