"""The picture sizes that the host's models were made for."""

from __future__ import annotations

from typing import Any

import comfy.model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

SQUARE = 1024 * 1024  # most image models since SDXL
VIDEO = 832 * 480  # "480p", the smaller of the sizes that most video models know
_VIDEO_MODELS = (
    "WAN21", "HunyuanVideo", "LTXV", "LTXAV", "GenmoMochi", "CosmosVideo", "CogVideoX",
)  # fmt: skip
_SVD = 1024 * 576
_NARROW = {768: 512 * 512, 1024: 512 * 512}  # UNets by the width of their texts: SD 1.x, 2.x
_VELOCITY = 768 * 768  # SD 2.x where it predicts velocity


def native_area(model: Any) -> int:
    """Pixels of a picture that a MODEL was trained on, by its kind.

    The host does not say it, so it goes by the classes and configurations of known kinds.
    """
    network = model.model
    kinds = [getattr(comfy.model_base, name, None) for name in _VIDEO_MODELS]
    if isinstance(network, tuple(kind for kind in kinds if kind is not None)):
        return VIDEO
    if isinstance(network, comfy.model_base.SVD_img2vid):
        return _SVD
    if not isinstance(getattr(network, "diffusion_model", None), UNetModel):
        return SQUARE
    width = network.model_config.unet_config.get("context_dim")
    velocity = network.model_type == comfy.model_base.ModelType.V_PREDICTION
    return _VELOCITY if width == 1024 and velocity else _NARROW.get(width, SQUARE)


def takes_references_of_one_size(model: Any) -> bool:
    """Whether a MODEL lays its references out as frames of the very latent that is sampled."""
    network = model.model
    scail = getattr(comfy.model_base, "WAN21_SCAIL", None)
    if scail is not None and isinstance(network, scail):
        return True
    return getattr(getattr(network, "diffusion_model", None), "ref_conv", None) is not None
