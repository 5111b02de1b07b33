"""The detailer hook protocol: the points of a run at which an object of the user may step in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch

from ..utils.check import check_segs, described
from . import checked_calls
from .checked_calls import Source
from .geometry import Box, Size
from .noise import seed_for


class DetailerHook:
    """A DETAILER_HOOK that changes nothing; hooks override the points at which they step in.

    It has every method of the protocol, so that detailers of other packs may call any of them.
    Shapes: pixels [N,h,w,3] at the working size, image [B,H,W,3], latents as LATENT dicts.
    """

    # Whether segments may be sampled side by side, so that the calls for one segment come between
    # the calls for others. Two kinds of hooks set this to False: those that keep something from
    # one call for a later one (other than from `set_steps` until sampling), and those whose
    # `post_paste` changes pixels that other segments are cropped from. A hook without this
    # attribute gets one segment at a time.
    shares_batches = True

    def post_detection(self, segs: Any) -> Any:
        """Change the SEGS that a detector has found; the result takes their place."""
        return segs

    def post_crop_region(self, w: int, h: int, bbox: Any, crop_region: Any) -> Any:
        """Change a crop region. `w` and `h` are the image's size; boxes are (x1, y1, x2, y2)."""
        return crop_region

    def touch_scaled_size(self, w: int, h: int) -> tuple[int, int]:
        """Change the working size; more than `bounds.MOST_SAMPLED` pixels are an error."""
        return w, h

    def post_upscale(self, pixels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Change the enlarged crop [N,h,w,3].

        Args:
            mask: [N or 1,h,w] 0..1, the mask of the segment at the size of the pixels, or None.
        """
        return pixels

    def get_skip_sampling(self) -> bool:
        """Whether a segment ends after `post_upscale`, so that nothing is encoded or sampled."""
        return False

    def post_encode(self, latent: dict) -> dict:
        """Change the latent of the crop, with its noise mask, before the first cycle."""
        return latent

    def set_steps(self, cycle: tuple[int, int]) -> None:
        """Take note of the cycle that begins: (its number from 0, how many there are)."""

    def cycle_latent(self, latent: dict) -> dict:
        """Change the latent that a cycle begins with; in the first that of `post_encode`."""
        return latent

    def pre_ksample(self, *values: Any) -> tuple:
        """Change `(model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent,
        denoise)` before a cycle is sampled."""
        return values

    def get_custom_noise(
        self, seed: int, noise: torch.Tensor, is_touched: bool
    ) -> tuple[torch.Tensor, bool]:
        """Change the noise [N,C,h,w] or [N,C,T,h,w] that sampling starts from.

        Args:
            is_touched: whether another hook has changed the noise.

        Returns:
            The noise, and whether it was changed; only then it is used.
        """
        return noise, is_touched

    def get_custom_sampler(self) -> Any:
        """A SAMPLER that is used instead of the node's sampler name, or None."""
        return None

    def pre_decode(self, latent: dict) -> dict:
        """Change the latent after the last cycle."""
        return latent

    def post_decode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Change the new crop [N,h,w,3] before it is pasted. Only the part inside the mask shows.

        It is not called where `get_skip_sampling` is true.
        """
        return pixels

    def should_retry_patch(self, patch: torch.Tensor) -> bool:
        """Whether a refined crop [1,h,w,3] is bad, and should be made again with another seed."""
        return False

    def post_paste(self, image: torch.Tensor) -> torch.Tensor:
        """Change the whole image [B,H,W,3] after a segment was pasted; of a clip, all frames.

        The region and the mask are not known here. To change the segment alone, use
        `post_decode`.
        """
        return image


def _steps_in(method: Any, name: str) -> bool:
    """Whether a hook's attribute is a method that overrides the one that changes nothing."""
    nothing = getattr(DetailerHook, name, None)
    return callable(method) and getattr(method, "__func__", method) is not nothing


def takes_mask(post_upscale: Callable) -> bool:
    """Whether a hook's `post_upscale` also takes the mask; hooks of older packs do not."""
    try:
        parameters = inspect.signature(post_upscale).parameters.values()
    except (TypeError, ValueError):  # it does not say what it takes
        return False
    named = [item for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD]
    return len(named) > 1


# The checks of return values other than None: (source, value, arguments) -> value. A hook has to
# return the kind of value that it was given. Detailers of other packs may call a hook of this pack
# with values of other kinds, which are not checked.


def _segs(source: Source, value: Any, args: tuple) -> Any:
    if _is_segs(args[0]):
        try:
            check_segs(value, source.name)
        except ValueError as error:
            raise checked_calls.told(error) from None
    return value


def _is_segs(value: Any) -> bool:
    try:
        check_segs(value, "")
    except ValueError:
        return False
    return True


def _region(source: Source, value: Any, args: tuple) -> tuple[int, ...]:
    corners = checked_calls.numbers(source, value, 4, "a region (x1, y1, x2, y2) in pixels")
    return Box.of(corners).as_tuple()


def _size(source: Source, value: Any, args: tuple) -> tuple[int, int]:
    width, height = checked_calls.numbers(source, value, 2, "a width and a height in pixels")
    return max(1, int(width)), max(1, int(height))


def _pixels(source: Source, value: Any, args: tuple) -> torch.Tensor:
    is_ours = isinstance(args[0], torch.Tensor) and args[0].ndim == 4
    return checked_calls.pixels(source, value, args[0]) if is_ours else value


def _image(source: Source, value: Any, args: tuple) -> torch.Tensor:
    image = args[0]
    if not (isinstance(image, torch.Tensor) and image.ndim == 4):
        return value
    return checked_calls.pixels(source, value, image, Size(image.shape[2], image.shape[1]))


def _latent(source: Source, value: Any, args: tuple) -> dict:
    return checked_calls.latent(source, value, args[0]) if isinstance(args[0], dict) else value


def _noise(source: Source, value: Any, args: tuple) -> tuple[Any, bool]:
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise source.wrong(described(value), "the noise and whether it is touched")
    noise, is_touched = value[0], checked_calls.truth(source, value[1])
    if is_touched and noise is not None and isinstance(args[1], torch.Tensor):
        noise = checked_calls.noise(source, noise, args[1])
    return noise, is_touched


def _truth(source: Source, value: Any, args: tuple) -> bool:
    return checked_calls.truth(source, value)


SETTINGS = (
    "model", "seed", "steps", "cfg", "sampler_name", "scheduler", "positive", "negative", "latent",
    "denoise",
)  # fmt: skip


def _settings(source: Source, value: Any, args: tuple) -> tuple:
    if not (isinstance(value, (tuple, list)) and len(value) == len(SETTINGS)):
        raise source.wrong(described(value), f"the {len(SETTINGS)} values {', '.join(SETTINGS)}")
    before = args[SETTINGS.index("latent")]
    if not isinstance(before, dict):
        return tuple(value)
    own = dict(zip(SETTINGS, value, strict=True))
    own["seed"] = seed_for(checked_calls.whole(source, own["seed"], "a whole number as 'seed'"), 0)
    own["steps"] = checked_calls.step_count(source, own["steps"])
    for name in ("cfg", "denoise"):
        own[name] = checked_calls.number(source, own[name], f"a finite number as '{name}'")
    for name in ("sampler_name", "scheduler"):
        if not isinstance(own[name], str):
            raise source.wrong(described(own[name]), f"a name as '{name}'")
    for name in ("positive", "negative"):
        if not isinstance(own[name], (list, tuple, str)):
            raise source.wrong(described(own[name]), f"a conditioning as '{name}'")
    if own["model"] is None:
        raise source.wrong("None as 'model'", "a model")
    own["latent"] = checked_calls.latent(source, own["latent"], before)
    return tuple(own.values())


_CHECKS: dict[str, Callable[[Source, Any, tuple], Any]] = {
    "post_detection": _segs,
    "post_crop_region": _region,
    "touch_scaled_size": _size,
    "post_upscale": _pixels,
    "get_skip_sampling": _truth,
    "post_encode": _latent,
    "cycle_latent": _latent,
    "pre_ksample": _settings,
    "get_custom_noise": _noise,
    "pre_decode": _latent,
    "post_decode": _pixels,
    "should_retry_patch": _truth,
    "post_paste": _image,
}


def touched_noise(answer: tuple[torch.Tensor | None, bool] | None) -> torch.Tensor | None:
    """The noise in the answer of a hook's `get_custom_noise`; None where it changes nothing.

    Args:
        answer: (noise of the latent's shape [N,C,...], whether it was changed), or None.
    """
    noise, is_touched = (None, False) if answer is None else answer
    return noise if is_touched else None


class AskedOnce:
    """A DETAILER_HOOK for work that may be repeated: no call that succeeded is made twice.

    `begin` starts each attempt. If an earlier attempt made the n-th call of a method, the n-th call
    of this attempt gets the same answer, and the hook is not called.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        self._answers: dict[str, list[Any]] = {}
        self._calls: dict[str, int] = {}

    def begin(self) -> None:
        """Start an attempt."""
        self._calls.clear()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.target, name)
        if not _steps_in(method, name):
            return method

        @wraps(method)
        def once(*args: Any, **options: Any) -> Any:
            answers, place = self._answers.setdefault(name, []), self._calls.get(name, 0)
            if place == len(answers):
                answers.append(method(*args, **options))
            self._calls[name] = place + 1
            return answers[place]

        return once


class Hook:
    """Calls a DETAILER_HOOK, of this pack or another, at each point of the protocol.

    The methods have the names and meanings of those of `DetailerHook`. Where the object lacks a
    method, or where the method returns None, nothing changes. Any other return value is checked.
    Without an object nothing changes at all.

    Raises:
        ValueError, RuntimeError: a method raised an error, or returned a value of the wrong kind.
    """

    def __init__(self, target: Any = None) -> None:
        self.target = target

    @property
    def shares_batches(self) -> bool:
        """Whether segments may be sampled side by side; see `DetailerHook.shares_batches`."""
        return self.target is None or bool(getattr(self.target, "shares_batches", False))

    def has(self, *names: str) -> bool:
        """Whether the object has a method for any of these points."""
        return any(self.method(name) is not None for name in names)

    def method(self, name: str) -> Callable | None:
        """The object's method, with its results checked.

        None if the object lacks the method, or has only the one that changes nothing.
        """
        method = getattr(self.target, name, None)
        return self._checked(method, name) if _steps_in(method, name) else None

    def _checked(self, method: Callable, name: str) -> Callable:
        """The method, with errors that name the hook and with a checked return value."""
        named = self.target.target if isinstance(self.target, AskedOnce) else self.target
        source = Source.of("The hook", named, name)
        check = _CHECKS.get(name)

        @wraps(method)
        def checked(*args: Any) -> Any:
            value = source.call(method, *args)
            return value if value is None or check is None else check(source, value, args)

        return checked

    def _pass(self, name: str, value: Any) -> Any:
        """A value as the object's method changes it, if the object has that method."""
        method = self.method(name)
        if method is None:
            return value
        result = method(value)
        return value if result is None else result

    def post_detection(self, segs: Any) -> Any:
        """The SEGS that a detector has found, as the hook changes them."""
        return self._pass("post_detection", segs)

    def post_crop_region(self, image: Size, bbox: Box, region: Box) -> Box:
        """The crop region as the hook changes it, clipped to the image."""
        method = self.method("post_crop_region")
        if method is None:
            return region
        moved = method(image.width, image.height, bbox.as_tuple(), region.as_tuple())
        return region if moved is None else Box.of(moved).clipped(image)

    def adjust_region(
        self, width: int, height: int, bbox: Sequence[int], region: Sequence[int]
    ) -> tuple[int, int, int, int]:
        """`post_crop_region` in the form in which `segs.seg.from_mask` calls it."""
        return self.post_crop_region(Size(width, height), Box.of(bbox), Box.of(region)).as_tuple()

    def touch_scaled_size(self, size: Size) -> Size:
        """The working size as the hook changes it."""
        method = self.method("touch_scaled_size")
        if method is None:
            return size
        touched = method(size.width, size.height)
        if touched is None:
            return size
        return Size(*touched)

    def post_upscale(self, pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The enlarged crop [N,h,w,3] as the hook changes it; `mask` is [N or 1,h,w] 0..1."""
        method = self.method("post_upscale")
        if method is None:
            return pixels
        result = method(pixels, mask) if takes_mask(method) else method(pixels)
        return pixels if result is None else result

    def skip_sampling(self) -> bool:
        """Whether the segment ends after `post_upscale`."""
        method = self.method("get_skip_sampling")
        return method is not None and bool(method())

    def post_encode(self, latent: dict) -> dict:
        """The LATENT before the first cycle, as the hook changes it."""
        return self._pass("post_encode", latent)

    def set_steps(self, index: int, cycles: int) -> None:
        """Tell the hook that cycle `index`, from 0, of `cycles` begins."""
        method = self.method("set_steps")
        if method is not None:
            method((index, cycles))

    def cycle_latent(self, latent: dict) -> dict:
        """The LATENT that a cycle begins with, as the hook changes it."""
        return self._pass("cycle_latent", latent)

    def pre_ksample(self, *values: Any) -> tuple:
        """`(model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent,
        denoise)` as the hook changes them."""
        method = self.method("pre_ksample")
        changed = None if method is None else method(*values)
        return values if changed is None else tuple(changed)

    def custom_noise(self, seed: int, noise: torch.Tensor) -> torch.Tensor:
        """The noise [N,C,h,w] or [N,C,T,h,w] that sampling starts from.

        Args:
            noise: what it is without the hook.
        """
        method = self.method("get_custom_noise")
        if method is None:
            return noise
        changed = touched_noise(method(seed, noise, False))
        return noise if changed is None else changed

    def custom_sampler(self) -> Any:
        """A sampler object that is used instead of the node's sampler name, or None."""
        method = self.method("get_custom_sampler")
        return None if method is None else method()

    def pre_decode(self, latent: dict) -> dict:
        """The LATENT after the last cycle, as the hook changes it."""
        return self._pass("pre_decode", latent)

    def post_decode(self, pixels: torch.Tensor) -> torch.Tensor:
        """The new crop [N,h,w,3] as the hook changes it."""
        return self._pass("post_decode", pixels)

    def should_retry(self, pixels: torch.Tensor) -> bool:
        """Whether the hook rejects any of the refined crops [N,h,w,3]."""
        method = self.method("should_retry_patch")
        return method is not None and any(bool(method(row)) for row in pixels.split(1))

    def post_paste(self, image: torch.Tensor) -> torch.Tensor:
        """The image [B,H,W,3] after a paste, as the hook changes it."""
        return self._pass("post_paste", image)
