"""The picture sizes for which models were trained."""

from __future__ import annotations

from typing import Any

import comfy.model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

SQUARE = 1024 * 1024  # most image models since SDXL
# Width and height by ComfyUI's model class; a subclass without an entry has that of its base class.
# The sizes are from the papers or model cards. If a model was made for several sizes, the default
# size of ComfyUI's node for its empty latents is used, or else the smallest recommended size.
_SIZES = {
    # Images
    "Stable_Zero123": (256, 256),
    "SD_X4Upscaler": (512, 512),
    "SD21UNCLIP": (768, 768),  # fine-tuned from SD 2.1 at that size, with either prediction
    "Lotus": (768, 576),  # trained on the scenes of Hypersim at half their size, 768x576
    "HunyuanImage21": (2048, 2048),  # "2K"; its VAE makes a cell of 32 pixels
    "QwenImage": (1328, 1328),
    "MageFlow": (1024, 1024),  # any from 512 to 2048 a side
    "Lens": (1440, 1440),  # the host's shift for it belongs to this size
    "HiDreamO1": (2048, 2048),  # about four megapixels, and out of its range well below
    "Kandinsky5Image": (1024, 1024),
    # Videos
    "SVD_img2vid": (1024, 576),
    "SV3D_u": (576, 576),
    "SV3D_p": (576, 576),
    "GenmoMochi": (848, 480),
    "LTXV": (768, 512),
    "LTXAV": (768, 512),
    "HunyuanVideo": (960, 544),  # 540p, the smaller of two
    "HunyuanVideo15": (848, 480),  # 480p, the smaller of two
    "HunyuanVideo15_SR_Distilled": (1280, 720),  # brings 480p to 720p
    "CosmosVideo": (1280, 704),
    "CosmosPredict2": (1280, 704),
    "WAN21": (832, 480),  # 480p, the smaller of two
    "WAN22": (1280, 704),  # the 5B model with the denser VAE, which knows 720p alone
    "WAN21_SCAIL": (896, 512),
    "Kandinsky5": (768, 512),  # the lite model
    "SeedVR2": (1280, 720),
    "MiniMaxH3": (1344, 768),
}
_NARROW = {768: 512 * 512, 1024: 512 * 512}  # UNets by the width of text embeddings: SD 1, 2
_VELOCITY = 768 * 768  # SD 2.x models that predict velocity


def native_area(model: Any) -> int:
    """Number of pixels of the pictures with which a MODEL was trained.

    ComfyUI does not know this. So it is looked up by the class and configuration of known models.
    For any other model it is one megapixel.
    """
    network = model.model
    for kind in type(network).__mro__:
        if kind.__module__ != comfy.model_base.__name__:
            continue
        if kind.__name__ in _SIZES:
            width, height = _SIZES[kind.__name__]
            return width * height
        if kind.__name__ in _CONFIGURED:
            return _CONFIGURED[kind.__name__](network.model_config.unet_config)
    if not isinstance(getattr(network, "diffusion_model", None), UNetModel):
        return SQUARE
    width = network.model_config.unet_config.get("context_dim")
    velocity = network.model_type == comfy.model_base.ModelType.V_PREDICTION
    return _VELOCITY if width == 1024 and velocity else _NARROW.get(width, SQUARE)


def _of_pixart(config: dict) -> int:
    """PixArt: 512, 1024 or 2048 pixels a side. The positions count cells of 8 pixels."""
    side = config.get("input_size")
    return (8 * side) ** 2 if side else SQUARE


def _of_cogvideo(config: dict) -> int:
    """CogVideoX: 720x480, or 1360x768 from version 1.5 on; its sizes count cells of 8 pixels."""
    return 64 * (config.get("sample_width") or 90) * (config.get("sample_height") or 60)


def _of_pid(config: dict) -> int:
    """PiD: the size to which its positions refer, 1024 or (from version 1.5 on) 2048 pixels."""
    return config.get("rope_ref_w", 1024) * config.get("rope_ref_h", 1024)


_CONFIGURED = {"PixArt": _of_pixart, "CogVideoX": _of_cogvideo, "PiD": _of_pid}


def takes_references_of_one_size(model: Any) -> bool:
    """Whether a MODEL appends references to the sampled latent, as frames or at its side, so that
    both need to have one size."""
    network = model.model
    for name in ("WAN21_SCAIL", "HiDream"):
        kind = getattr(comfy.model_base, name, None)
        if kind is not None and isinstance(network, kind):
            return True
    return getattr(getattr(network, "diffusion_model", None), "ref_conv", None) is not None
