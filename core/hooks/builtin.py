"""The DETAILER_HOOKs of this pack.

Each one follows the hook protocol, so that detailers of other packs can use it too. Work that needs
ComfyUI is passed in as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...utils.arrays import to_numpy
from ..geometry import Box, Size
from ..hook_protocol import DetailerHook, Hook, takes_mask, touched_noise
from ..noise import mix_noise, seed_for, start_noise
from ..pixels.image import is_black, usable
from ..pixels.mask import feather, for_latent, resize_mask, union
from ..segs.filter import split_by_order, split_by_range
from ..segs.seg import SEGS, filter_by_labels
from ..streams import each, picture, with_picture

# Combining ---------------------------------------------------------------------------------


class CombinedHook(DetailerHook):
    """Several hooks as one: each gets the result of the one before it.

    A hook that returns None changes nothing, as it does when it is the only hook.
    """

    def __init__(self, *hooks: Any) -> None:
        parts = [Hook(hook) for hook in hooks]
        self.shares_batches = all(part.shares_batches for part in parts)
        for name, together in _TOGETHER.items():
            methods = [part.method(name) for part in parts if part.has(name)]
            if methods:  # without any of these methods, the point works as without a hook
                setattr(self, name, partial(together, methods))


def _chain(methods: Sequence[Callable], value: Any) -> Any:
    for method in methods:
        result = method(value)
        value = value if result is None else result
    return value


def _chain_pixels(
    methods: Sequence[Callable], pixels: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    for method in methods:
        result = method(pixels, mask) if takes_mask(method) else method(pixels)
        pixels = pixels if result is None else result
    return pixels


def _chain_region(methods: Sequence[Callable], w: int, h: int, bbox: Any, region: Any) -> Any:
    return _chain([partial(method, w, h, bbox) for method in methods], region)


def _chain_values(methods: Sequence[Callable], *values: Any) -> tuple:
    for method in methods:
        changed = method(*values)
        values = values if changed is None else tuple(changed)
    return values


def _chain_noise(
    methods: Sequence[Callable], seed: int, noise: torch.Tensor, is_touched: bool
) -> tuple[torch.Tensor, bool]:
    for method in methods:
        changed = touched_noise(method(seed, noise, is_touched))
        if changed is not None:
            noise, is_touched = changed, True
    return noise, is_touched


def _each(methods: Sequence[Callable], value: Any) -> None:
    for method in methods:
        method(value)


def _first(methods: Sequence[Callable]) -> Any:
    return next((found for method in methods if (found := method()) is not None), None)


def _any(methods: Sequence[Callable], *values: Any) -> bool:
    return any(bool(method(*values)) for method in methods)


_TOGETHER: dict[str, Callable] = {
    "post_detection": _chain,
    "post_crop_region": _chain_region,
    "touch_scaled_size": _chain_values,
    "post_upscale": _chain_pixels,
    "get_skip_sampling": _any,
    "post_encode": _chain,
    "set_steps": _each,
    "cycle_latent": _chain,
    "pre_ksample": _chain_values,
    "get_custom_noise": _chain_noise,
    "get_custom_sampler": _first,
    "pre_decode": _chain,
    "post_decode": _chain,
    "should_retry_patch": _any,
    "post_paste": _chain,
}


# Through the cycles ------------------------------------------------------------------------


class CycleHook(DetailerHook):
    """A hook that depends on the cycle: `cycle` is its index, `cycles` the number of cycles."""

    cycle, cycles = 0, 1

    def set_steps(self, cycle: tuple[int, int]) -> None:
        self.cycle, self.cycles = cycle


class DenoiseScheduleHook(CycleHook):
    """Changes the denoise evenly from the node's own in the first cycle to `target` in the last."""

    def __init__(self, target: float) -> None:
        self.target = target

    def pre_ksample(self, *values: Any) -> tuple:
        *others, denoise = values
        if self.cycles > 1:
            denoise += (self.target - denoise) * self.cycle / (self.cycles - 1)
        return (*others, denoise)


@dataclass(frozen=True)
class CycleRange:
    """A number that goes from `start` towards `end` over the cycles."""

    start: float
    end: float
    from_first: bool  # False: nothing happens in the first cycle, and `start` holds in the second

    def place(self, cycle: int) -> int | None:
        """The index of a cycle in the range. None: nothing happens in this cycle."""
        place = cycle if self.from_first else cycle - 1
        return place if place >= 0 else None

    def at(self, cycle: int, cycles: int) -> float:
        """The number for a cycle. It reaches `end` only in the cycle after the last."""
        total = cycles if self.from_first else cycles - 1
        return self.start + (self.end - self.start) * (self.place(cycle) or 0) / max(1, total)


class NoiseInjectionHook(CycleHook):
    """Adds noise to the latent at the start of cycles, within the noise mask.

    The formulas for seed and strength are those of ComfyUI-Impact-Pack, so that shared workflows
    give the same results.
    """

    def __init__(self, strength: CycleRange, seed: int, device: torch.device | str = "cpu") -> None:
        """`device`: where the noise is drawn. The same seed gives other noise on another device."""
        self.strength, self.seed, self.device = strength, seed, device

    def cycle_latent(self, latent: dict) -> dict:
        place = self.strength.place(self.cycle)
        if place is None:
            return latent
        samples = picture(latent["samples"])
        noise = start_noise(samples, seed_for(self.seed, 2 * place), self.device).to(samples)
        noise = noise * self.strength.at(self.cycle, self.cycles)
        if latent.get("noise_mask") is not None:
            noise = noise * for_latent(latent["noise_mask"], samples)
        return {**latent, "samples": with_picture(latent["samples"], samples + noise)}


class UnsamplerHook(CycleHook):
    """Samples the latent backwards, into noise, at the start of cycles."""

    def __init__(
        self,
        end_at_step: CycleRange,
        unsample: Callable[[dict, int], torch.Tensor],
        normalise: bool = False,
    ) -> None:
        """
        Args:
            end_at_step: the step of the schedule from which a sampler could continue the result.
            unsample: takes a LATENT and the step; gives samples [B,C,h,w] or [B,C,T,h,w].
            normalise: bring the result to mean 0 and standard deviation 1.
        """
        self.end_at_step, self.unsample, self.normalise = end_at_step, unsample, normalise

    def cycle_latent(self, latent: dict) -> dict:
        if self.end_at_step.place(self.cycle) is None:
            return latent
        samples = self.unsample(latent, int(self.end_at_step.at(self.cycle, self.cycles)))
        if self.normalise:
            values = picture(samples) - picture(samples).mean()
            deviation = values.std()
            values = values / deviation if deviation > 0 else values
            samples = with_picture(samples, values)
        return {**latent, "samples": samples}


# Noise and sampler -------------------------------------------------------------------------


class VariationNoiseHook(DetailerHook):
    """Mixes the start noise with the noise of another seed. Its variance stays 1."""

    def __init__(self, seed: int, strength: float) -> None:
        """`strength`: 0 is the noise of the node's seed, 1 the noise of the other seed."""
        self.seed, self.strength = seed, strength

    def get_custom_noise(
        self, seed: int, noise: torch.Tensor, is_touched: bool
    ) -> tuple[torch.Tensor, bool]:
        if self.strength == 0:
            return noise, is_touched
        other = start_noise(noise, self.seed).to(noise)
        return mix_noise(noise, other, self.strength), True


class CustomSamplerHook(DetailerHook):
    """Samples with a SAMPLER object instead of the sampler's name."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def get_custom_sampler(self) -> Any:
        return self.sampler


# Size --------------------------------------------------------------------------------------


class FixedSizeHook(DetailerHook):
    """Samples every segment at one size with two rows, as Core ML models need it.

    Crop regions get the proportions of this size, so that nothing is distorted.
    """

    def __init__(self, size: Size) -> None:
        self.size = size

    def post_crop_region(self, w: int, h: int, bbox: Any, crop_region: Any) -> Any:
        region = reshaped(Box.of(crop_region), Box.of(bbox), Size(w, h), self.size)
        return region.as_tuple()

    def touch_scaled_size(self, w: int, h: int) -> tuple[int, int]:
        return tuple(self.size)

    def post_encode(self, latent: dict) -> dict:
        return {**latent, "samples": each(lambda rows: torch.cat([rows] * 2), latent["samples"])}

    def pre_decode(self, latent: dict) -> dict:
        half = len(picture(latent["samples"])) // 2
        return {**latent, "samples": each(lambda rows: rows[:half], latent["samples"])}


def reshaped(region: Box, bbox: Box, image: Size, proportions: Size) -> Box:
    """A crop region with other proportions.

    The region shrinks along one axis. If it would then cut off the bounding box, it grows along
    the other axis instead, as far as the image goes. The margins on both sides of the box keep
    their ratio to each other.
    """
    if region.empty:
        return region
    ratio = proportions.width / proportions.height
    width, height = region.size
    if width / height < ratio:
        height = width / ratio
    else:
        width = height * ratio
    growth = max(1.0, bbox.width / width, bbox.height / height)
    width, height = round(width * growth), round(height * growth)
    x1, x2 = _placed((region.x1, region.x2), (bbox.x1, bbox.x2), width, image.width)
    y1, y2 = _placed((region.y1, region.y2), (bbox.y1, bbox.y2), height, image.height)
    return Box(x1, y1, x2, y2)


def _placed(
    region: tuple[int, int], box: tuple[int, int], length: int, limit: int
) -> tuple[int, int]:
    """A span of this length around the box. Its two margins have the ratio that the region had."""
    length = min(max(1, length), limit)
    before, after = max(0, box[0] - region[0]), max(0, region[1] - box[1])
    free = length - (box[1] - box[0])
    share = before / (before + after) if before + after else 0.5
    start = min(max(0, round(box[0] - free * share)), limit - length)
    return start, start + length


# Which segments ----------------------------------------------------------------------------


class SegsHook(DetailerHook):
    """Changes the segments that a detector has found."""

    def __init__(self, change: Callable[[SEGS], SEGS]) -> None:
        self.change = change

    def post_detection(self, segs: SEGS) -> SEGS:
        return self.change(segs)


def ordered_filter_hook(target: str, *, descending: bool, start: int, count: int) -> SegsHook:
    """A hook that sorts the segments by `target`, and keeps `count` of them from `start` on."""
    return SegsHook(
        lambda segs: split_by_order(
            segs, target, descending=descending, start=start, count=count
        )[0]
    )  # fmt: skip


def range_filter_hook(target: str, lowest: float, highest: float, *, inside: bool) -> SegsHook:
    """A hook that keeps the segments whose `target` is within (or outside of) a range."""
    return SegsHook(lambda segs: split_by_range(segs, target, lowest, highest, inside=inside)[0])


def label_filter_hook(labels: str) -> SegsHook:
    """A hook that keeps the segments with these labels, which are separated by commas."""
    return SegsHook(lambda segs: filter_by_labels(segs, labels))


# Pictures ----------------------------------------------------------------------------------


class PreviewHook(DetailerHook):
    """Shows the image after each segment."""

    def __init__(self, show: Callable[[torch.Tensor], None]) -> None:
        """`show` takes the first image [1,H,W,3] of those into which a segment was pasted."""
        self.show = show

    def post_paste(self, image: torch.Tensor) -> torch.Tensor:
        self.show(image[:1])
        return image


class RetryBlackHook(DetailerHook):
    """Asks for another try if the result of a segment is plain black or not finite."""

    def __init__(self, mean: float, variance: float) -> None:
        """`mean`, `variance`: the grey values (0..1) of a black segment have at most these."""
        self.mean, self.variance = mean, variance

    def should_retry_patch(self, patch: torch.Tensor) -> bool:
        patch = patch if patch.ndim == 4 else patch[None]
        return not usable(patch) or is_black(patch, self.mean, self.variance)


class RemoverHook(DetailerHook):
    """Fills the masked part of a segment from the pixels around it."""

    def __init__(
        self,
        threshold: int,
        blur: int,
        skip_sampling: bool,
        fill: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """
        Args:
            threshold: 0..255; a higher value removes more around the mask.
            blur: standard deviation of the Gaussian blur that widens the mask, in pixels.
            skip_sampling: do not sample the filled crop.
            fill: takes pixels [N,h,w,3] and a mask [N,h,w]; gives the filled pixels. None: the
                function `inpaint` is used.
        """
        self.threshold, self.blur, self.skip_sampling = threshold, blur, skip_sampling
        self.fill = fill

    def post_upscale(self, pixels: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if mask is None:
            return pixels
        mask = mask if mask.ndim == 3 else mask.reshape(-1, *mask.shape[-2:])
        mask = resize_mask(mask.to(pixels), Size(pixels.shape[2], pixels.shape[1]))
        if len(mask) != len(pixels):
            mask = union(mask).expand(len(pixels), -1, -1)
        if self.fill is not None:
            return self.fill(pixels, mask)
        soft = feather(mask, 3 * self.blur, sigma=max(self.blur, 1)) if self.blur else mask
        return inpaint(pixels, soft >= (255 - self.threshold) / 255)

    def get_skip_sampling(self) -> bool:
        return self.skip_sampling


# OpenCV adds a gradient of length 1 to each new pixel, in every range of values. At this scale it
# is almost nothing.
_INPAINT_SCALE = 65535.0


def inpaint(pixels: torch.Tensor, mask: torch.Tensor, reach: float = 3.0) -> torch.Tensor:
    """Fill masked pixels from the pixels around them, by fast marching (Telea, 2004).

    Args:
        pixels: [N,h,w,C] 0..1.
        mask: [N,h,w] bool; True is filled. If a mask covers the whole picture, nothing is changed.
        reach: radius, in pixels, of the neighbourhood from which a new pixel is computed.

    Returns:
        [N,h,w,C] 0..1.
    """
    import cv2

    result = to_numpy(pixels).copy()
    for row, hole in zip(result, mask.cpu().numpy(), strict=True):
        if not hole.any() or hole.all():
            continue
        hole = hole.astype("uint8")
        for channel in range(row.shape[-1]):  # OpenCV fills floats one channel at a time
            plane = row[..., channel] * _INPAINT_SCALE
            filled = cv2.inpaint(plane, hole, reach, cv2.INPAINT_TELEA)
            row[..., channel] = (filled / _INPAINT_SCALE).clip(0, 1)
    return torch.where(mask[..., None], torch.from_numpy(result).to(pixels), pixels)
