"""Every image and video model of the host that can be built small: how, and on which texts.

A key is the name of a class in the host's `comfy.supported_models.models`, which makes the model
as a checkpoint of that family would. What is not built is in `NOT_BUILT` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tiny:
    """A small instance of a model family.

    Attributes:
        unet: the network's settings, as the host reads them from a checkpoint.
        newer: settings that older hosts do not know.
        smaller: parts of the network whose sizes the settings do not reach, by module and class.
        width: of a text's tokens.
        lengths: tokens of a usual text and of a longer one.
        latent: of a latent without its batch: [C,h,w] or [C,T,h,w].
        options: shapes of what a conditioning holds besides the text's tokens, filled with random
            numbers; -1 stands for the number of tokens.
        constants: other options of a conditioning.
        references: shapes of the reference latents, which each text has of its own.
        mask: the text encoder gives an attention mask.
        empty: the host can only sample it from an empty latent.
        ways: names of the ways it is sampled; others the host itself does not manage.
        weights: names and shapes of weights that the host reads beside the network's.
    """

    unet: Mapping[str, Any]
    newer: Mapping[str, Any] = field(default_factory=dict)
    smaller: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    width: int = 32
    lengths: tuple[int, int] = (6, 9)
    latent: Shape = (16, 8, 6)
    options: Mapping[str, Shape] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[Shape, ...] = ()
    mask: bool = False
    empty: bool = False
    ways: tuple[str, ...] = ("plain", "masked")
    weights: Mapping[str, Shape] = field(default_factory=dict)


_UNET = {
    "use_checkpoint": False, "image_size": 32, "use_spatial_transformer": True, "legacy": False,
    "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
    "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1, "context_dim": 32, "use_linear_in_transformer": True,
    "adm_in_channels": None, "use_temporal_attention": False, "use_temporal_resblock": False,
    "num_heads": -1, "num_head_channels": 16,
}  # fmt: skip
_VIDEO_UNET = {
    **_UNET, "in_channels": 8, "num_classes": "sequential", "use_temporal_resblock": True,
    "use_temporal_attention": True, "extra_ff_mix_layer": True, "use_spatial_context": True,
    "merge_strategy": "learned_with_images", "merge_factor": 0.0, "video_kernel_size": [3, 1, 1],
    "disable_temporal_crossattention": False,
}  # fmt: skip
_DOUBLE = {  # the networks that Flux began
    "in_channels": 16, "out_channels": 16, "context_in_dim": 32, "hidden_size": 64,
    "mlp_ratio": 2.0, "num_heads": 2, "depth": 1, "depth_single_blocks": 1,
    "axes_dim": [8, 12, 12], "theta": 10000, "patch_size": 2, "qkv_bias": True,
}  # fmt: skip
_FLUX = {
    **_DOUBLE, "image_model": "flux", "vec_in_dim": 16, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
_CHROMA = {
    **_DOUBLE, "image_model": "chroma", "vec_in_dim": None, "txt_ids_dims": [], "in_channels": 64,
    "out_channels": 64, "in_dim": 64, "out_dim": 64, "hidden_dim": 32, "n_layers": 1,
}  # fmt: skip
_HUNYUAN = {
    **_DOUBLE, "image_model": "hunyuan_video", "vec_in_dim": 16, "theta": 256,
    "patch_size": [1, 2, 2], "guidance_embed": True, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
_HUNYUAN_15 = {
    **_HUNYUAN, "in_channels": 65, "out_channels": 32, "vec_in_dim": None, "byt5": True,
    "guidance_embed": False, "use_cond_type_embedding": True, "vision_in_dim": 16,
    "patch_size": [1, 1, 1],
}  # fmt: skip
_COSMOS = {
    "image_model": "cosmos", "max_img_h": 32, "max_img_w": 32, "max_frames": 16,
    "in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1,
    "model_channels": 64, "num_blocks": 1, "num_heads": 2, "block_config": "FA-CA-MLP",
    "concat_padding_mask": True, "pos_emb_cls": "rope3d", "pos_emb_learnable": False,
    "pos_emb_interpolation": "crop", "block_x_format": "THWBD", "affline_emb_norm": True,
    "use_adaln_lora": True, "adaln_lora_dim": 16, "crossattn_emb_channels": 32,
    "extra_per_block_abs_pos_emb": True, "extra_per_block_abs_pos_emb_type": "learnable",
}  # fmt: skip
_COSMOS_2 = {
    "image_model": "cosmos_predict2", "max_img_h": 32, "max_img_w": 32, "max_frames": 16,
    "in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1,
    "model_channels": 64, "num_blocks": 1, "num_heads": 2, "concat_padding_mask": True,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "pos_emb_interpolation": "crop",
    "use_adaln_lora": True, "adaln_lora_dim": 16, "crossattn_emb_channels": 32,
    "extra_per_block_abs_pos_emb": False, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_enable_fps_modulation": False,
}  # fmt: skip
_LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 64, "cap_feat_dim": 32,
    "n_layers": 2, "n_refiner_layers": 1, "qk_norm": True, "n_heads": 2, "n_kv_heads": 1,
    "axes_dims": [8, 12, 12], "axes_lens": [64, 64, 64], "rope_theta": 10000.0,
    "ffn_dim_multiplier": 1.0, "multiple_of": 32,
}  # fmt: skip
_Z_IMAGE = {
    **_LUMINA, "dim": 256, "n_heads": 8, "n_kv_heads": 8, "rope_theta": 256.0,
    "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 4,
}  # fmt: skip
_WAN = {
    "image_model": "wan2.1", "model_type": "t2v", "patch_size": (1, 2, 2), "text_len": 16,
    "in_dim": 16, "dim": 64, "ffn_dim": 64, "freq_dim": 32, "text_dim": 32, "out_dim": 16,
    "num_heads": 2, "num_layers": 2, "window_size": (-1, -1), "qk_norm": True,
    "cross_attn_norm": True, "eps": 1e-6,
}  # fmt: skip
_PIXEL_DIT = {
    "num_groups": 2, "hidden_size": 64, "pixel_hidden_size": 8, "pixel_attn_hidden_size": 32,
    "pixel_num_groups": 2, "patch_depth": 2, "pixel_depth": 1, "patch_size": 8,
    "txt_embed_dim": 32, "txt_max_length": 16,
}  # fmt: skip
_OMNIGEN = {
    "patch_size": 2, "in_channels": 16, "hidden_size": 64, "num_layers": 1,
    "num_refiner_layers": 1, "num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 32,
    "axes_dim_rope": (8, 12, 12), "axes_lens": (64, 64, 64), "timestep_scale": 1000.0,
}  # fmt: skip
_KANDINSKY = {
    "image_model": "kandinsky5", "in_text_dim": 32, "in_text_dim2": 16, "time_dim": 32,
    "model_dim": 64, "ff_dim": 64, "visual_embed_dim": 132, "num_text_blocks": 1,
    "num_visual_blocks": 1, "axes_dims": (16, 24, 24), "rope_scale_factor": (1.0, 2.0, 2.0),
}  # fmt: skip
_COGVIDEO = {
    "image_model": "cogvideox", "num_attention_heads": 1, "attention_head_dim": 64,
    "time_embed_dim": 32, "text_embed_dim": 32, "num_layers": 1, "sample_width": 8,
    "sample_height": 8, "sample_frames": 9, "max_text_seq_length": 9,
    "use_rotary_positional_embeddings": True,
}  # fmt: skip

_POOLED = {"pooled_output": (16,)}
_SDXL = {**_UNET, "num_classes": "sequential", "adm_in_channels": 2816}
_CLIP = {"lengths": (7, 14), "latent": (4, 8, 6)}
_VIDEO = {"latent": (16, 2, 8, 6)}
_FRAMES = {"latent": (4, 4, 4), "ways": ("plain",)}


def _wan(model_type: str = "t2v", latent: Shape = (16, 2, 8, 6), **unet: Any) -> Tiny:
    return Tiny({**_WAN, "model_type": model_type, **unet}, latent=latent)


def _unet(width: int, **unet: Any) -> Tiny:
    """One of SD 1.x or 2.x, which are told by the width of their texts."""
    return Tiny({**_UNET, "context_dim": width, **unet}, **_CLIP, width=width)


TINY: dict[str, Tiny] = {
    "LotusD": Tiny({**_UNET, "num_classes": "sequential", "adm_in_channels": 4}, **_CLIP),
    "Stable_Zero123": Tiny(
        {**_UNET, "in_channels": 8, "context_dim": 768},
        width=772,
        lengths=(1, 2),
        latent=(4, 8, 6),
        weights={"cc_projection.weight": (768, 772), "cc_projection.bias": (768,)},
        options={"concat_latent_image": (4, 8, 6)},
    ),
    "SD15_instructpix2pix": Tiny(
        {**_UNET, "in_channels": 8, "context_dim": 768},
        **_CLIP,
        width=768,
        options={"concat_latent_image": (4, 8, 6)},
    ),
    "SD15": _unet(768),
    "SD20": _unet(1024),
    "SD21UnclipL": _unet(1024, num_classes="sequential", adm_in_channels=1536),
    "SD21UnclipH": _unet(1024, num_classes="sequential", adm_in_channels=2048),
    "SDXL_instructpix2pix": Tiny(
        {**_SDXL, "in_channels": 8},
        **_CLIP,
        options={"pooled_output": (1280,), "concat_latent_image": (4, 8, 6)},
    ),
    "SDXLRefiner": Tiny(
        {**_UNET, "num_classes": "sequential", "adm_in_channels": 2560},
        **_CLIP,
        options={"pooled_output": (1280,)},
    ),
    "SDXL": Tiny(_SDXL, **_CLIP, options={"pooled_output": (1280,)}),
    "SD_X4Upscaler": Tiny(
        {
            **_UNET,
            "in_channels": 7,
            "num_res_blocks": [1] * 4,
            "channel_mult": [1] * 4,
            "transformer_depth": [0, 1, 1, 1],
            "transformer_depth_output": [1] * 6 + [0] * 2,
        },
        latent=(4, 16, 16),
        options={"concat_image": (3, 16, 16)},
    ),
    "Stable_Cascade_C": Tiny(
        {
            "stable_cascade_stage": "c",
            "c_cond": 32,
            "c_hidden": [32, 32],
            "nhead": [2, 2],
            "blocks": [[1, 1], [1, 1]],
            "block_repeat": [[1, 1], [1, 1]],
            "c_clip_text": 32,
            "c_clip_text_pooled": 16,
        },
        options=_POOLED,
    ),
    "Stable_Cascade_B": Tiny(
        {
            "stable_cascade_stage": "b",
            "c_cond": 32,
            "c_hidden": [32] * 4,
            "nhead": [-1, -1, 2, 2],
            "blocks": [[1] * 4, [1] * 4],
            "block_repeat": [[1] * 4, [1] * 4],
            "c_clip": 16,
        },
        latent=(4, 32, 24),
        options={**_POOLED, "stable_cascade_prior": (16, 3, 2)},
    ),
    "SV3D_u": Tiny({**_VIDEO_UNET, "adm_in_channels": 256}, **_FRAMES),
    "SV3D_p": Tiny({**_VIDEO_UNET, "adm_in_channels": 1280}, **_FRAMES),
    "SVD_img2vid": Tiny({**_VIDEO_UNET, "adm_in_channels": 768}, **_FRAMES),
    "SD3": Tiny(
        {
            "in_channels": 16,
            "out_channels": 16,
            "patch_size": 2,
            "depth": 1,
            "input_size": None,
            "adm_in_channels": 16,
            "num_patches": 256,
            "pos_embed_max_size": 16,
            "pos_embed_scaling_factor": None,
            "qk_norm": "rms",
            "x_block_self_attn_layers": [],
            "context_embedder_config": {
                "target": "torch.nn.Linear",
                "params": {"in_features": 32, "out_features": 64},
            },
        },
        options=_POOLED,
    ),
    "AuraFlow": Tiny(
        {
            "cond_seq_dim": 32,
            "max_seq": 256,
            "n_double_layers": 1,
            "n_layers": 2,
            "dim": 64,
            "n_heads": 2,
            "global_conddim": 64,
        },
        latent=(4, 8, 6),
    ),
    "PixArtAlpha": Tiny(
        {
            "image_model": "pixart_alpha",
            "num_heads": 2,
            "patch_size": 2,
            "hidden_size": 96,
            "in_channels": 4,
            "depth": 1,
            "model_max_length": 16,
            "input_size": 8,
            "pe_interpolation": 1,
            "micro_condition": True,
            "caption_channels": 32,
        },
        latent=(4, 40, 32),
        constants={"width": 64, "height": 48},
    ),
    "PixArtSigma": Tiny(
        {
            "image_model": "pixart_sigma",
            "num_heads": 2,
            "patch_size": 2,
            "hidden_size": 96,
            "in_channels": 4,
            "depth": 1,
            "model_max_length": 16,
            "input_size": 8,
            "pe_interpolation": 1,
            "micro_condition": False,
            "caption_channels": 32,
        },
        latent=(4, 40, 32),
    ),
    "HunyuanDiT": Tiny(
        {
            "image_model": "hydit",
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "text_states_dim": 32,
            "text_states_dim_t5": 16,
            "text_len": 6,
            "text_len_t5": 8,
        },
        lengths=(6, 6),
        latent=(4, 8, 6),
        mask=True,
        options={"conditioning_mt5xl": (8, 16), "attention_mask_mt5xl": (8,)},
    ),
    "HunyuanDiT1": Tiny(
        {
            "image_model": "hydit1",
            "depth": 2,
            "hidden_size": 64,
            "num_heads": 2,
            "text_states_dim": 32,
            "text_states_dim_t5": 16,
            "text_len": 6,
            "text_len_t5": 8,
            "size_cond": True,
            "use_style_cond": True,
        },
        lengths=(6, 6),
        latent=(4, 8, 6),
        mask=True,
        options={"conditioning_mt5xl": (8, 16), "attention_mask_mt5xl": (8,)},
    ),
    "FluxInpaint": Tiny(
        {**_FLUX, "in_channels": 96},
        options={**_POOLED, "concat_latent_image": (16, 8, 6), "concat_mask": (1, 8, 6)},
    ),
    "Flux": Tiny(_FLUX, options=_POOLED),
    "FluxSchnell": Tiny({**_FLUX, "guidance_embed": False}, options=_POOLED),
    "LongCatImage": Tiny(
        {**_FLUX, "guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2]}
    ),
    "Flux2": Tiny(
        {
            **_DOUBLE,
            "image_model": "flux2",
            "axes_dim": [8, 8, 8, 8],
            "in_channels": 128,
            "out_channels": 128,
            "patch_size": 1,
            "theta": 2000,
            "global_modulation": True,
            "mlp_silu_act": True,
            "qkv_bias": False,
            "ops_bias": False,
            "vec_in_dim": None,
            "default_ref_method": "index",
            "ref_index_scale": 10.0,
            "txt_ids_dims": [3],
            "guidance_embed": True,
        },
        latent=(128, 4, 3),
    ),
    "Chroma": Tiny(_CHROMA),
    "ChromaRadiance": Tiny(
        {
            **_CHROMA,
            "image_model": "chroma_radiance",
            "in_channels": 3,
            "out_channels": 3,
            "patch_size": 8,
            "nerf_hidden_size": 16,
            "nerf_mlp_ratio": 2,
            "nerf_depth": 1,
            "nerf_max_freqs": 4,
            "nerf_tile_size": 512,
            "nerf_final_head_type": "conv",
            "nerf_embedder_dtype": None,
            "use_x0": False,
        },
        newer={"use_sequential_txt_ids": False},
        latent=(3, 32, 24),
    ),
    "GenmoMochi": Tiny(
        {
            "image_model": "mochi_preview",
            "depth": 2,
            "patch_size": 2,
            "num_heads": 2,
            "hidden_size_x": 64,
            "hidden_size_y": 32,
            "mlp_ratio_x": 192.0,
            "mlp_ratio_y": 4.0,
            "learn_sigma": False,
            "in_channels": 12,
            "qk_norm": True,
            "qkv_bias": False,
            "out_bias": True,
            "attn_drop": 0.0,
            "patch_embed_bias": True,
            "posenc_preserve_area": True,
            "timestep_mlp_bias": True,
            "attend_to_padding": False,
            "timestep_scale": 1000.0,
            "use_t5": True,
            "t5_feat_dim": 32,
            "t5_token_length": 6,
        },
        latent=(12, 2, 8, 6),
        mask=True,
    ),
    "LTXV": Tiny(
        {
            "image_model": "ltxv",
            "num_layers": 1,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "cross_attention_dim": 64,
            "caption_channels": 32,
        },
        latent=(128, 2, 4, 3),
        mask=True,
    ),
    "LTXAV": Tiny(
        {
            "image_model": "ltxav",
            "num_layers": 1,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "cross_attention_dim": 64,
            "caption_channels": 32,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 16,
            "audio_cross_attention_dim": 32,
            "connector_attention_head_dim": 16,
            "connector_num_attention_heads": 2,
            "connector_num_layers": 1,
        },
        latent=(128, 2, 4, 3),
        width=64,
        mask=True,
    ),
    "HunyuanVideo": Tiny(_HUNYUAN, **_VIDEO, options=_POOLED),
    "HunyuanVideo with padded texts": Tiny(
        _HUNYUAN, **_VIDEO, options=_POOLED, mask=True, ways=("plain", "padded")
    ),
    "HunyuanVideoI2V": Tiny(
        {**_HUNYUAN, "in_channels": 33},
        **_VIDEO,
        options={**_POOLED, "concat_latent_image": (16, 2, 8, 6)},
    ),
    "HunyuanVideoSkyreelsI2V": Tiny(
        {**_HUNYUAN, "in_channels": 32},
        **_VIDEO,
        options={**_POOLED, "concat_latent_image": (16, 2, 8, 6)},
    ),
    "HunyuanImage21": Tiny(
        {
            **_HUNYUAN,
            "in_channels": 64,
            "out_channels": 64,
            "patch_size": [1, 1],
            "axes_dim": [16, 16],
            "vec_in_dim": None,
            "byt5": True,
            "guidance_embed": False,
        },
        latent=(64, 4, 3),
        options={"conditioning_byt5small": (5, 1472)},
    ),
    "HunyuanImage21Refiner": Tiny(
        {
            **_HUNYUAN,
            "in_channels": 128,
            "out_channels": 64,
            "patch_size": [1, 1, 1],
            "vec_in_dim": None,
            "guidance_embed": False,
            "meanflow": True,
        },
        latent=(64, 1, 4, 3),
        options={"concat_latent_image": (32, 1, 4, 3)},
        empty=True,
    ),
    "HunyuanVideo15": Tiny(
        _HUNYUAN_15,
        latent=(32, 2, 4, 3),
        options={
            "conditioning_byt5small": (5, 1472),
            "concat_latent_image": (32, 2, 4, 3),
            "concat_mask": (1, 2, 4, 3),
        },
    ),
    "HunyuanVideo15_SR_Distilled": Tiny(
        {**_HUNYUAN_15, "in_channels": 98},
        latent=(32, 2, 4, 3),
        options={"conditioning_byt5small": (5, 1472), "concat_latent_image": (66, 2, 4, 3)},
    ),
    "CosmosT2V": Tiny(_COSMOS, **_VIDEO, mask=True),
    "CosmosI2V": Tiny({**_COSMOS, "in_channels": 17}, **_VIDEO, mask=True),
    "CosmosT2IPredict2": Tiny(_COSMOS_2, **_VIDEO),
    "CosmosI2VPredict2": Tiny({**_COSMOS_2, "in_channels": 17}, **_VIDEO),
    "Anima": Tiny(
        {**_COSMOS_2, "image_model": "anima"},
        latent=(16, 1, 8, 6),
        smaller={
            "comfy.ldm.anima.model.LLMAdapter": {
                "source_dim": 32,
                "target_dim": 32,
                "model_dim": 32,
                "num_layers": 1,
                "num_heads": 2,
            }
        },
        options={"t5xxl_ids": (5,), "t5xxl_weights": (5,)},
    ),
    "Lumina2": Tiny(_LUMINA, mask=True),
    "ZImage": Tiny(_Z_IMAGE, mask=True),
    "ZImagePixelSpace": Tiny(
        {
            **_Z_IMAGE,
            "image_model": "zimage_pixel",
            "patch_size": 8,
            "in_channels": 3,
            "decoder_in_channels": 192,
            "decoder_hidden_size": 32,
            "decoder_num_res_blocks": 1,
            "decoder_max_freqs": 4,
        },
        latent=(3, 32, 24),
        mask=True,
    ),
    "PixelDiTT2I": Tiny(
        {"image_model": "pixeldit_t2i", **_PIXEL_DIT}, latent=(3, 32, 24), mask=True
    ),
    "PiD": Tiny(
        {
            "image_model": "pid",
            **_PIXEL_DIT,
            "lq_hidden_dim": 16,
            "lq_num_res_blocks": 1,
            "patch_size": 16,
        },
        latent=(3, 64, 64),
        mask=True,
        options={"lq_latent": (16, 2, 2), "degrade_sigma": ()},
    ),
    "WAN21_T2V": _wan(),
    "WAN21_CausalAR_T2V": _wan(),
    "WAN22_T2V": _wan(latent=(48, 2, 8, 6), in_dim=48, out_dim=48),
    "WAN21_I2V": Tiny(
        {**_WAN, "model_type": "i2v", "in_dim": 36},
        **_VIDEO,
        options={"concat_latent_image": (16, 2, 8, 6), "concat_mask": (1, 2, 8, 6)},
    ),
    "WAN21_FunControl2V": Tiny(
        {**_WAN, "model_type": "i2v", "in_dim": 48},
        **_VIDEO,
        options={"concat_latent_image": (32, 2, 8, 6)},
    ),
    "WAN21_Vace": _wan("vace", vace_layers=1, vace_in_dim=96),
    "WAN21_Camera": _wan("camera", in_dim=32),
    "WAN22_Camera": _wan("camera_2.2", in_dim=36),
    "WAN22_S2V": _wan("s2v", audio_dim=32, num_audio_token=2, audio_inject_layers=[0]),
    "WAN21_HuMo": _wan("humo", in_dim=36),
    "WAN22_Animate": _wan("animate", in_dim=36, num_layers=5),
    "WAN21_FlowRVS": _wan("flow_rvs"),
    "WAN21_SCAIL": _wan("scail", in_dim=20),
    "WAN21_SCAIL2": _wan("scail2", in_dim=20),
    "WAN22_WanDancer": _wan(
        "wandancer", in_dim=36, audio_inject_layers=[0], music_dim=32, music_latent_dim=32
    ),
    "HiDream": Tiny(
        {
            "image_model": "hidream",
            "attention_head_dim": 32,
            "axes_dims_rope": [16, 8, 8],
            "caption_channels": [32, 32],
            "max_resolution": [32, 32],
            "in_channels": 16,
            "llama_layers": [0, 1],
            "num_attention_heads": 2,
            "num_layers": 1,
            "num_single_layers": 1,
            "out_channels": 16,
            "patch_size": 2,
            "text_emb_dim": 16,
        },
        options={**_POOLED, "conditioning_llama3": (2, -1, 32)},
    ),
    "HiDreamO1": Tiny(
        {
            "image_model": "hidream_o1",
            "text_config_overrides": {
                "vocab_size": 151936,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "head_dim": 128,
            },
            "vision_config_overrides": {
                "hidden_size": 32,
                "intermediate_size": 32,
                "depth": 1,
                "num_heads": 2,
            },
        },
        latent=(3, 64, 64),
        options={"text_input_ids": (-1,)},
    ),
    "SeedVR2": Tiny(
        {
            "image_model": "seedvr2",
            "norm_eps": 1e-5,
            "num_layers": 2,
            "mlp_type": "swiglu",
            "vid_dim": 64,
            "txt_in_dim": 32,
            "heads": 2,
            "head_dim": 32,
            "mm_layers": 1,
            "rope_dim": 32,
            "vid_out_norm": True,
        },
        **_VIDEO,
        options={"condition": (17, 2, 8, 6)},
    ),
    "Omnigen2": Tiny(
        {"image_model": "omnigen2", **_OMNIGEN, "text_feat_dim": 32},
        mask=True,
        ways=("plain", "guided"),
    ),
    "Boogu": Tiny(
        {
            "image_model": "boogu",
            **_OMNIGEN,
            "instruction_feat_dim": 32,
            "num_double_stream_layers": 1,
        },
        mask=True,
        ways=("plain", "guided"),
    ),
    "MageFlow": Tiny(
        {
            "image_model": "mage_flow",
            "num_layers": 1,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (8, 12, 12),
        },
        latent=(128, 4, 3),
    ),
    "QwenImage": Tiny(
        {
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 1,
            "attention_head_dim": 32,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "axes_dims_rope": (8, 12, 12),
        },
        latent=(16, 1, 8, 6),
        mask=True,
    ),
    "JoyImage": Tiny(
        {
            "image_model": "joyimage",
            "in_channels": 16,
            "hidden_size": 128,
            "patch_size": [1, 2, 2],
            "num_layers": 1,
            "num_attention_heads": 1,
            "text_dim": 32,
        },
        latent=(16, 1, 8, 6),
    ),
    "Ideogram4": Tiny(
        {
            "image_model": "ideogram4",
            "in_channels": 128,
            "num_layers": 1,
            "num_attention_heads": 2,
            "attention_head_dim": 32,
            "intermediate_size": 64,
            "adaln_dim": 32,
            "llm_features_dim": 32,
            "mrope_section": [4, 6, 6],
        },
        latent=(128, 4, 3),
        mask=True,
    ),
    "Krea2": Tiny(
        {
            "image_model": "krea2",
            "features": 64,
            "channels": 16,
            "patch": 2,
            "layers": 1,
            "heads": 2,
            "kvheads": 1,
            "tdim": 32,
            "txtdim": 32,
            "txtlayers": 2,
            "txtheads": 2,
            "txtkvheads": 2,
        },
        latent=(16, 1, 8, 6),
        width=64,
    ),
    "Lens": Tiny(
        {
            "image_model": "lens",
            "in_channels": 128,
            "out_channels": 32,
            "num_layers": 1,
            "num_attention_heads": 1,
            "enc_hidden_dim": 32,
            "multi_layer_encoder_feature": True,
            "selected_layer_index": (0, 1),
        },
        latent=(128, 4, 3),
        width=64,
        mask=True,
    ),
    "Kandinsky5": Tiny(
        _KANDINSKY, **_VIDEO, options={**_POOLED, "concat_mask": (1, 2, 8, 6)}, mask=True
    ),
    "Kandinsky5Image": Tiny(
        {**_KANDINSKY, "visual_embed_dim": 64, "rope_scale_factor": (1.0, 1.0, 1.0)},
        options=_POOLED,
        mask=True,
    ),
    "ErnieImage": Tiny(
        {
            "image_model": "ernie",
            "hidden_size": 128,
            "num_attention_heads": 1,
            "num_layers": 1,
            "ffn_hidden_size": 64,
            "text_in_dim": 32,
        },
        latent=(128, 4, 3),
    ),
    "CogVideoX_T2V": Tiny(_COGVIDEO, **_VIDEO),
    "CogVideoX_I2V": Tiny(
        {**_COGVIDEO, "in_channels": 32}, **_VIDEO, options={"concat_latent_image": (16, 2, 8, 6)}
    ),
    "CogVideoX_Inpaint": Tiny(
        {**_COGVIDEO, "in_channels": 48}, **_VIDEO, options={"concat_latent_image": (32, 2, 8, 6)}
    ),
}

# Of edit models, with pictures to go by, each text its own; of other sizes than the latent where
# the model takes that.
_PICTURES = ((16, 4, 6), (16, 8, 2))
_CLIPS = ((16, 1, 4, 6), (16, 1, 8, 2))
_PACKED = ((128, 2, 3), (128, 4, 1))
_ONE_CLIP = ((16, 1, 8, 6),)
for _name, _shapes in {
    "Flux": _PICTURES, "LongCatImage": _PICTURES, "Flux2": _PACKED, "ZImage": _PICTURES,
    "Omnigen2": _PICTURES, "QwenImage": _CLIPS, "MageFlow": _PACKED, "Krea2": _CLIPS,
    "JoyImage": _ONE_CLIP, "WAN22_S2V": _ONE_CLIP, "WAN21_HuMo": _ONE_CLIP,
    "WAN21_SCAIL": _ONE_CLIP, "WAN21_SCAIL2": _ONE_CLIP,
}.items():  # fmt: skip
    TINY[f"{_name} with references"] = replace(TINY[_name], references=_shapes)
TINY["QwenImage with references at time zero"] = replace(
    TINY["QwenImage with references"],
    constants={"reference_latents_method": "index_timestep_zero"},
)
TINY["HiDreamO1 with references"] = replace(
    TINY["HiDreamO1"], references=((64, 64, 3),), ways=("plain",)
)
TINY["WAN21_T2V with references"] = replace(
    TINY["WAN21_T2V"], unet={**_WAN, "in_dim_ref_conv": 16}, references=_ONE_CLIP
)

# Classes that differ from another in the number of blocks alone, and are that one when small.
ALIKE: dict[str, str] = {
    "SSD1B": "SDXL", "KOALA_700M": "SDXL", "KOALA_1B": "SDXL", "Segmind_Vega": "SDXL",
}  # fmt: skip

_AUDIO = "makes sound: no picture to find segments in"
_SHAPES = "makes three-dimensional shapes: no picture to find segments in"
_FINDS = "finds things in a picture and is never sampled"
NOT_BUILT: dict[str, str] = {
    "StableAudio": _AUDIO,
    "StableAudio3": _AUDIO,
    "ACEStep": _AUDIO,
    "ACEStep15": _AUDIO,
    "Hunyuan3Dv2mini": _SHAPES,
    "Hunyuan3Dv2": _SHAPES,
    "Hunyuan3Dv2_1": _SHAPES,
    "TripoSplat": _SHAPES,
    "RT_DETR_v4": _FINDS,
    "SAM3": _FINDS,
    "SAM31": _FINDS,
    "DepthAnything3": "estimates depth and is never sampled",
    "MiniMaxH3": "takes one clip at a time, and its sound as a second stream",
}
