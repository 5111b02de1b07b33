"""How a MODEL of ComfyUI takes the frames of a clip, and how many of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import comfy.model_base
import comfy.model_management
import torch

from ..backend import IMAGES, MOTION, VIDEO, SamplerRun
from ..settings import Models
from . import alone

log = logging.getLogger(__name__)

# Classes of comfy.model_base that take the rows of a batch for the frames of a clip.
_ROWS_ARE_FRAMES = ("SVD_img2vid", "SV3D_u", "SV3D_p")
# Classes of models for pictures whose VAE is one for videos: what would be the time axis of their
# latents holds one step, or several pictures that show different things.
_PICTURES = (
    "QwenImage", "Anima", "Krea2", "JoyImage", "Kandinsky5Image", "HunyuanImage21",
    "HunyuanImage21Refiner",
)  # fmt: skip
# Frames of the clips that a model was trained for, by ComfyUI's class, as `native_size.py` has
# their sizes. A subclass without an entry has that of its base class.
_FRAMES = {
    "SVD_img2vid": 25,
    "SV3D_u": 21,
    "SV3D_p": 21,
    "GenmoMochi": 163,
    "LTXV": 97,
    "LTXAV": 121,
    "HunyuanVideo": 129,
    "HunyuanVideo15": 121,
    "CosmosVideo": 121,
    "CosmosPredict2": 93,
    "WAN21": 81,
    "WAN22": 121,
    "CogVideoX": 49,
    "Kandinsky5": 121,
}
_OTHER_VIDEO = 81  # of a video model that is not in the table
_OTHER_MOTION = 16  # the motion modules of AnimateDiff were trained on 16 frames

_PROBED = 3  # rows
_SIDE = 16  # latent pixels; a multiple of what networks divide a latent into
_LEAST = 1e-4  # of the largest value: a smaller change is no influence of other rows


class HostClips:
    """The part of the ComfyUI backend that tells how models take clips."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[int, bool], tuple[Any, str]] = {}

    def clip_kind(self, models: Models) -> str:
        """See `Backend.clip_kind`."""
        timed = self.is_video_vae(models.vae)
        key = id(models.model), timed
        if key not in self._kinds:  # the model is kept, so that no other gets its id
            self._kinds[key] = models.model, self._kind(models, timed)
        return self._kinds[key][1]

    def _kind(self, models: Models, timed: bool) -> str:
        network = models.model.model
        if timed:
            return IMAGES if _is_for_pictures(network) else VIDEO
        handler = _handler(models.model)
        if getattr(handler, "dim", None) == 0 or _is_one_of(network, _ROWS_ARE_FRAMES):
            return MOTION
        try:
            alone.check_rows(models.model, self._method_replaced)
        except alone.Alone as reason:
            log.debug("whether a model mixes the rows of a batch is tried out: %s", reason)
            return MOTION if self._mixes_frames(models) else IMAGES
        return IMAGES

    def _mixes_frames(self, models: Models) -> bool:
        """Whether other rows of a batch change what the model makes of the first one.

        It is tried out: a small batch is sampled for one step, once and once more with other rows
        beside the first. So nothing has to be known about motion modules of other packs.
        """
        calls = self.model_calls
        try:
            first, second = (self.sample(run, lambda *_: None) for run in _tries(models, self))
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:  # whatever the parts of other packs raise at such a size
            log.debug("it is not known whether a model mixes the rows of a batch: %s", error)
            return False
        finally:
            self.model_calls = calls
        difference = (first[0] - second[0]).abs().max()
        return bool(difference > _LEAST * first[0].abs().max())

    def native_frames(self, models: Models) -> int:
        """See `Backend.native_frames`."""
        kind = self.clip_kind(models)
        if kind == IMAGES:
            return 1
        for base in type(models.model.model).__mro__:
            if base.__module__ == comfy.model_base.__name__ and base.__name__ in _FRAMES:
                return _FRAMES[base.__name__]
        return _OTHER_MOTION if kind == MOTION else _OTHER_VIDEO

    def has_context_windows(self, model: Any) -> bool:
        """See `Backend.has_context_windows`."""
        return _handler(model) is not None or _divides_by_itself(model)


def _divides_by_itself(model: Any) -> bool:
    """Whether a pack for motion models has given a MODEL context windows of its own.

    Such packs keep their settings with the patcher, AnimateDiff Evolved as `context_options`.
    """
    held = [*getattr(model, "attachments", {}).values()]
    held.append(getattr(model, "motion_injection_params", None))
    options = (getattr(each, "context_options", None) for each in held)
    return any(getattr(each, "context_length", None) for each in options)


def _handler(model: Any) -> Any:
    """The handler of ComfyUI's context windows, which its nodes for them put into a MODEL."""
    return getattr(model, "model_options", {}).get("context_handler")


def _is_one_of(network: Any, names: tuple[str, ...]) -> bool:
    kinds = (getattr(comfy.model_base, name, None) for name in names)
    return isinstance(network, tuple(kind for kind in kinds if kind is not None))


def _is_for_pictures(network: Any) -> bool:
    if _is_one_of(network, ("CosmosPredict2",)):  # one class for both, told apart by this
        return not getattr(network, "image_to_video", False)
    return _is_one_of(network, _PICTURES)


def _tries(models: Models, backend: Any) -> tuple[SamplerRun, SamplerRun]:
    """Two runs of a single step whose first rows are equal and whose others are not."""
    channels = models.model.get_model_object("latent_format").latent_channels
    sigmas = backend.sigmas(models.model, "euler", "simple", 2, None)[-2:]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * _PROBED, channels, _SIDE, _SIDE, generator=generator)
    first = SamplerRun(
        model=models.model,
        positive=models.positive,
        negative=models.negative,
        cfg=1.0,
        sampler_name="euler",
        sigmas=sigmas,
        schedule=sigmas,
        seed=0,
        noise=torch.zeros(_PROBED, channels, _SIDE, _SIDE),
        latent=rows[:_PROBED],
    )
    other = torch.cat([rows[:1], rows[_PROBED + 1 :]])
    return first, replace(first, latent=other)
