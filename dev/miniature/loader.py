"""The miniature as MODEL, CLIP and VAE of the host, so that every stock node works with it."""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

from .networks import TEXT_CONFIG, TOKEN_ROWS, UNET_CONFIG, Words
from .weights import TEXT, UNET, load_codec, load_weights


def build_model() -> comfy.model_patcher.ModelPatcher:
    """The diffusion model, with Stable Diffusion's noise schedule and velocities."""
    config = comfy.supported_models_base.BASE({**UNET_CONFIG, "dtype": torch.float32})
    config.latent_format = comfy.latent_formats.LatentFormat()  # the codec's latents have spread 1
    config.memory_usage_factor = 0.3
    offload_device = comfy.model_management.unet_offload_device()
    kind = comfy.model_base.ModelType.V_PREDICTION
    model = comfy.model_base.BaseModel(config, model_type=kind, device=offload_device)
    model.concat_keys = ("mask",)  # the host gives the noise mask, or ones where there is none
    model.diffusion_model.load_state_dict(load_weights(UNET))
    return comfy.model_patcher.ModelPatcher(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=offload_device,
    )


class Tokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The host's CLIP tokenizer; textual inversions would have to be as wide as this encoder."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data or {},
            tokenizer=_sized_tokenizer,
        )


def _sized_tokenizer(**options):
    return comfy.sd1_clip.SDTokenizer(embedding_size=TEXT_CONFIG["hidden_size"], **options)


class _Encoder(comfy.sd1_clip.SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            textmodel_json_config=dict(TEXT_CONFIG),
            return_projected_pooled=False,
            model_options=model_options or {},
        )


class TextEncoder(comfy.sd1_clip.SD1ClipModel):
    """The host's CLIP text model in the miniature's size."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device, dtype=dtype, model_options=model_options or {}, clip_model=_Encoder
        )


def build_clip() -> comfy.sd.CLIP:
    """The text encoder, its table of words spread over the tokens of the host's vocabulary."""
    target = comfy.supported_models_base.ClipTarget(Tokenizer, TextEncoder)
    clip = comfy.sd.CLIP(target, disable_dynamic=True)
    weights = load_weights(TEXT)
    weights[TOKEN_ROWS] = Words().spread(weights[TOKEN_ROWS])
    weights["text_projection.weight"] = torch.eye(TEXT_CONFIG["hidden_size"])
    clip.load_sd(weights)
    return clip


def build_vae() -> comfy.sd.VAE:
    """The codec in the host's VAE.

    The host's constructor makes networks of the kinds that it knows; the smallest of these is made,
    and the codec takes its place. Ratio, channels and range of the values are the same.
    """
    stand_in = {
        "embed_dim": 4,
        "ddconfig": {
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
            "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [],
            "dropout": 0.0,
        },
    }  # fmt: skip
    vae = comfy.sd.VAE(
        sd=AutoencoderKL(**stand_in).state_dict(),
        config={"params": stand_in},
        dtype=torch.float32,
    )
    vae.first_stage_model = load_codec()
    vae.working_dtypes = [torch.float32]
    vae.size = None
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model,
        load_device=vae.device,
        offload_device=comfy.model_management.vae_offload_device(),
    )
    vae.model_size()
    return vae
