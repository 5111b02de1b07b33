"""Checks of what callables of users and of other packs return.

Hooks, detectors, scheduler functions, samplers, upscalers and VAEs come over links, and may return
or raise anything. Each is called through a `Source`, which names it in errors. A function of this
module checks what it returns. So the core gets a value of the expected kind, or an error says which
callable returned what, and what it should return.
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

# Modules of ComfyUI. Their errors, such as an interrupt, have to reach the host unchanged.
_HOST = frozenset({"comfy", "comfy_api", "comfy_execution", "execution"})


def passes(error: BaseException) -> bool:
    """Whether an error is passed on unchanged: an interrupt, out of memory, or one of ours."""
    if not isinstance(error, Exception) or is_out_of_memory(error):
        return True
    is_host = type(error).__module__.partition(".")[0] in _HOST
    return is_host or getattr(error, "is_told", False)


def told(error: Exception) -> Exception:
    """The error, marked as one that names its source, so that no other source wraps it."""
    error.is_told = True
    return error


@dataclass(frozen=True)
class Source:
    """A callable that is not ours, as errors name it."""

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
        """Call the function, and return what it returns.

        Raises:
            ValueError, RuntimeError: the function raised an error; ours names the source.
        """
        try:
            return function(*args, **options)
        except Exception as error:
            if passes(error):
                raise
            raise self.failed(error) from error

    def failed(self, error: Exception) -> Exception:
        """Our error for an error that the callable raised."""
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        said = f"{type(error).__name__}: {error!s:.500}".rstrip(": .")
        return told(kind(f"{self.name} failed with {said}. {self.remedy}"))

    def wrong(self, given: str, wanted: str) -> Exception:
        """The error for a return value of the wrong kind."""
        return told(
            ValueError(f"{self.name} gave {given}, but should give {wanted}. {self.remedy}")
        )

    def method(self, owner: Any, name: str) -> Callable:
        """A method of an object.

        Raises:
            ValueError: the object has no such method.
        """
        method = getattr(owner, name, None)
        if not callable(method):
            raise told(ValueError(f"{self.name} has no {name}(). {self.remedy}"))
        return method


def vae(vae: Any, method: str) -> Source:
    """The source for a method of a VAE, or of an object that takes its place."""
    return Source.of("'vae':", vae, method, "Connect the VAE that belongs to the model.")


def parts(source: Source, value: Any, count: int, wanted: str) -> list[Any]:
    """`count` values, of which the last is a list or None.

    Raises:
        ValueError: it is something else.
    """
    fits = isinstance(value, (tuple, list)) and len(value) == count
    if not (fits and (value[-1] is None or isinstance(value[-1], (tuple, list)))):
        raise source.wrong(described(value), wanted)
    return list(value)


# Numbers -----------------------------------------------------------------------------------


def number(source: Source, value: Any, wanted: str = "a finite number") -> float | int:
    """A finite number; a text or an array that holds one number is read as that number.

    Raises:
        ValueError: it is no finite number.
    """
    found = _finite(value)
    if found is None:
        raise source.wrong(quoted(value), wanted)
    return found


def _finite(value: Any) -> float | int | None:
    """A value as a finite number; None for any other value."""
    try:
        given = value.item() if is_array(value) else value
        given = given if isinstance(given, int) else float(given)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return given if isinstance(given, int) or math.isfinite(given) else None


def whole(source: Source, value: Any, wanted: str = "a whole number") -> int:
    """As `number`, with the fraction cut off."""
    return int(number(source, value, wanted))


def numbers(source: Source, values: Any, count: int, wanted: str) -> list[float | int]:
    """`count` finite numbers, from any sequence.

    Raises:
        ValueError: it is something else.
    """
    try:
        given = None if isinstance(values, (str, bytes, dict, set)) else list(values)
    except TypeError:
        given = None
    found = [_finite(value) for value in given or ()]
    if len(found) != count or None in found:
        raise source.wrong(quoted(values), wanted)
    return found


def truth(source: Source, value: Any) -> bool:
    """Whether a value counts as true.

    Raises:
        ValueError: it is neither true nor false, such as an array of several values.
    """
    try:
        return bool(value)
    except (TypeError, ValueError, RuntimeError) as error:  # arrays of several
        raise source.wrong(described(value), "true or false") from error


# Pictures and masks ------------------------------------------------------------------------


def pixels(
    source: Source, value: Any, like: torch.Tensor, size: Size | None = None
) -> torch.Tensor:
    """Pixels [N,h,w,3] 0..1 that a callable returned for other pixels.

    Grey is expanded, and an alpha channel is left out. Values that are not finite are refused,
    unless `like` has some as well: then something earlier has failed.

    Args:
        like: [N,H,W,3], what the callable was given. The result has its device and dtype.
        size: the width and height that the pixels need to have; None takes any size.

    Raises:
        ValueError: they have another shape, or values that are not finite.
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
    """Decoded pixels [N,h,w,3] with at least `rows` rows; a time axis becomes rows.

    Raises:
        ValueError: it is something else.
    """
    wanted = f"pixels [N,h,w,3] of floats, {rows} or more"
    fits = isinstance(value, torch.Tensor) and is_array(value) and value.is_floating_point()
    if not (fits and value.ndim in (4, 5) and value.numel() and value.shape[-1] in (1, 3, 4)):
        raise source.wrong(_tensor(value), wanted)
    value = to_rgb(value.reshape(-1, *value.shape[-3:]))[0]
    if len(value) < rows:
        raise source.wrong(_tensor(value), wanted)
    return value


def shown_picture(source: Source, value: Any, like: torch.Tensor) -> torch.Tensor:
    """A picture [N,h,w,3] of any size, with the device and dtype of `like`; also from an array.

    Raises:
        ValueError: it is no picture, or has values that are not finite.
    """
    wanted = "a picture [h,w,C] or [N,h,w,C] of finite numbers with 1, 3 or 4 channels"
    if not (is_array(value) and value.ndim in (3, 4) and 0 not in value.shape):
        raise source.wrong(_tensor(value), wanted)
    made = to_tensor(value, like=like)
    made = made if made.ndim == 4 else made[None]
    if made.shape[-1] not in (1, 3, 4) or not all_finite(made):
        raise source.wrong(_tensor(value), wanted)
    return to_rgb(made)[0]


def mask(source: Source, value: Any, size: Size) -> torch.Tensor:
    """One mask [1,H,W] 0..1 for an image of this size; None gives an empty mask.

    Several masks are united. A mask of another size is resized, and the user is told.

    Raises:
        ValueError: it is no mask, or has values that are not finite.
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
    """A LATENT whose samples [N,C,h,w] or [N,C,T,h,w] have as many axes as those of `before`.

    Values that are not finite are refused only where all values of `before` are finite.

    Raises:
        ValueError: it is something else, or larger than `MOST_CELLS` latent pixels.
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
    """The LATENT of any size that a sampler or an upscaler returned for another one.

    Raises:
        ValueError: it is no LATENT, or has values that are not finite.
    """
    given = value.get("samples") if isinstance(value, dict) else None
    own = samples_of(given)
    if own is None:
        shown = _tensor(value if given is None else given)
        raise source.wrong(shown, "a latent, a dict with 'samples' [N,C,h,w] or [N,C,T,h,w]")
    _check_finite(source, own, picture(before["samples"]), "a latent")
    return value


def like(source: Source, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Samples that are combined with others, and so need the same shape [N,C,h,w] or [N,C,T,h,w].

    Raises:
        ValueError: the shapes differ.
    """
    if own.shape != other.shape:
        raise source.wrong(_tensor(own), f"samples of the shape {list(other.shape)}")
    return own


def made_samples(source: Source, value: Any) -> Latent:
    """Samples [N,C,h,w] or [N,C,T,h,w] that pixels were encoded to, or several streams.

    Raises:
        ValueError: it is something else.
    """
    if samples_of(value) is None:
        raise source.wrong(_tensor(value), "samples [N,C,h,w] or [N,C,T,h,w] of floats")
    return value


def samples_of(value: Any) -> torch.Tensor | None:
    """The picture's stream [N,C,h,w] or [N,C,T,h,w] of samples; None for any other value."""
    if is_nested(value):
        try:
            parts = streams(value)
        except Exception:  # an object of another pack that only claims to be nested
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
    """Noise of the shape of the latent `like` [N,C,h,w] or [N,C,T,h,w].

    Raises:
        ValueError: it has another shape, or values that are not finite.
    """
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
    """Noise levels [n], float32 on the CPU: finite, at least 0, and none above the one before.

    Raises:
        ValueError: they are something else.
    """
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
    """The number of steps of a schedule, 0 to MOST_STEPS.

    Raises:
        ValueError: it is no such number.
    """
    wanted = f"a number of steps from 0 to {MOST_STEPS}"
    steps = whole(source, value, wanted)
    if not 0 <= steps <= MOST_STEPS:
        raise source.wrong(quoted(value), wanted)
    return steps


def _tensor(value: Any) -> str:
    """A description of a value, with its dtype if it has one."""
    dtype = getattr(value, "dtype", None)
    return described(value) + ("" if dtype is None else f" of {dtype}")
