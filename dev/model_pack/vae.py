"""The host's VAE class around an analytic codec, so that its batching and tiling are what runs."""

import logging
import math

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch

from .families import Codec, Family


class AnalyticVAE(comfy.sd.VAE):
    """A VAE of the host without weights: linear, and exact where the family is lossless."""

    def __init__(self, family: Family):
        _set_host_defaults(self)
        self.first_stage_model = Codec(family).eval()
        self.latent_channels = family.channels
        self.downscale_ratio = self.upscale_ratio = family.ratio
        if family.frames:
            self._set_video_ratios(family)
        self.memory_used_encode = self.memory_used_decode = _memory_used
        self.working_dtypes = [torch.float32]
        self.vae_dtype = torch.float32
        self.device = comfy.model_management.vae_device()
        self.output_device = comfy.model_management.intermediate_device()
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model,
            load_device=self.device,
            offload_device=comfy.model_management.vae_offload_device(),
        )
        self.model_size()

    def _set_video_ratios(self, family: Family) -> None:
        self.latent_dim = 3
        self.upscale_ratio = (family.length_of, family.ratio, family.ratio)
        self.upscale_index_formula = (family.frames, family.ratio, family.ratio)
        self.downscale_ratio = (family.steps_of, family.ratio, family.ratio)
        self.downscale_index_formula = (family.frames, family.ratio, family.ratio)


def _set_host_defaults(vae: comfy.sd.VAE) -> None:
    """Every attribute that this version of the host gives a VAE, whichever they are.

    Given no weights at all, its constructor sets them and stops, with a warning.
    """
    logger = logging.getLogger()
    logger.addFilter(_not_the_missing_weights)
    try:
        comfy.sd.VAE.__init__(vae, sd={})
    finally:
        logger.removeFilter(_not_the_missing_weights)


def _not_the_missing_weights(record: logging.LogRecord) -> bool:
    return "No VAE weights detected" not in record.getMessage()


def _memory_used(shape, dtype) -> int:
    """Bytes: a few copies of the input; the output of these codecs is about as large."""
    return 4 * math.prod(shape) * comfy.model_management.dtype_size(dtype)


class HalfCodec(Codec):
    """A codec that gives NaN in half precision, as the VAE of SDXL does."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        pixels = super().decode(latent)
        return pixels if latent.dtype == torch.float32 else pixels * torch.nan


class DetailersTestHalfVAE:
    DESCRIPTION = "The VAE in half precision, in which all that it decodes is NaN."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("VAE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae": ("VAE", {"tooltip": "An analytic VAE; it stays as it is."})}}

    def run(self, vae):
        half = AnalyticVAE(vae.first_stage_model.family)
        half.first_stage_model = HalfCodec(vae.first_stage_model.family).eval().bfloat16()
        half.vae_dtype = torch.bfloat16
        half.patcher = comfy.model_patcher.ModelPatcher(
            half.first_stage_model, half.patcher.load_device, half.patcher.offload_device
        )
        return (half,)
