"""Tables of the parts of ComfyUI that are known to treat every row of a batch by itself.

Only runs whose parts are all in these tables may share a sampler call; other runs are sampled
alone. A line is added after a test has shown that rows give the same results together and one by
one.

An object of another pack can declare that it treats rows one by one: a model class, a patch, a
wrapper or a guidance function with the attribute `shares_batches = True`.
"""

from __future__ import annotations

_ADDS_UP = "ComfyUI adds up the attention masks of all rows to one number of tokens"
_NO_PICTURES = "it is no model for pictures"
_STREAMS = "its latents are a list of streams"
_ONE_MASK = "ComfyUI takes one attention mask for all rows, not one for each row"
_CLIP = "it takes the rows of a batch for the frames of a clip"

# Classes of comfy.model_base; a subclass needs its own line. For each class: the entries of a
# conditioning with which it must run alone, and the reason.
MODELS: dict[str, dict[str, str]] = {
    "BaseModel": {},  # Stable Diffusion 1 and 2, and their inpainting models
    "SD21UNCLIP": {},
    "SDXLRefiner": {},
    "SDXL": {},
    "SD15_instructpix2pix": {},
    "SDXL_instructpix2pix": {},
    "SD_X4Upscaler": {},
    "Stable_Zero123": {},
    "Lotus": {},
    "StableCascade_C": {},
    "StableCascade_B": {},
    "SD3": {},
    "AuraFlow": {},
    "HunyuanDiT": {},
    "PixArt": {},
    "Flux": {},
    "LongCatImage": {},
    "Flux2": {},
    "Chroma": {},
    "ChromaRadiance": {},
    "Lumina2": {},
    "ZImagePixelSpace": {},
    "HiDream": {},
    "PixelDiTT2I": {},
    "HiDreamO1": {"reference_latents": "ComfyUI takes the first row's for all"},
    "MageFlow": {},
    "JoyImage": {},
    "Ideogram4": {},
    "Krea2": {},
    "Lens": {},
    "ErnieImage": {},
    "QwenImage": {},
    "HunyuanImage21": {"attention_mask": _ONE_MASK},
    "HunyuanImage21Refiner": {"attention_mask": _ONE_MASK},
    "CosmosPredict2": {},
    "CosmosVideo": {},
    "Anima": {},
    "Kandinsky5": {},
    "Kandinsky5Image": {},
    "LTXV": {},
    "HunyuanVideo": {"attention_mask": _ONE_MASK},
    "HunyuanVideoI2V": {"attention_mask": _ONE_MASK},
    "HunyuanVideoSkyreelsI2V": {"attention_mask": _ONE_MASK},
    "HunyuanVideo15": {"attention_mask": _ONE_MASK},
    "HunyuanVideo15_SR_Distilled": {"attention_mask": _ONE_MASK},
    "WAN21": {},
    "WAN22": {},
    "WAN21_Vace": {},
    "WAN21_Camera": {},
    "WAN21_HuMo": {},
    "WAN22_Animate": {},
    "WAN22_S2V": {},
    "WAN21_FlowRVS": {},
    "WAN21_SCAIL": {},
    "WAN21_SCAIL2": {},
    "WAN22_WanDancer": {},
    "WAN21_CausalAR": {},
    "CogVideoX": {},
}

# Classes of comfy.model_base that always run alone, and the reason.
MODELS_ALONE: dict[str, str] = {
    "SVD_img2vid": _CLIP,
    "SV3D_u": _CLIP,
    "SV3D_p": _CLIP,
    "Omnigen2": _ADDS_UP,
    "Boogu": _ADDS_UP,
    "GenmoMochi": _ADDS_UP,
    "PiD": "it decodes a latent that belongs to the whole picture",
    "SeedVR2": "it packs the pictures of a batch into one sequence",
    "LTXAV": _STREAMS,
    "MiniMaxH3": _STREAMS,
    "TripoSplat": _STREAMS,
    "StableAudio1": _NO_PICTURES,
    "StableAudio3": _NO_PICTURES,
    "ACEStep": _NO_PICTURES,
    "ACEStep15": _NO_PICTURES,
    "Hunyuan3Dv2": _NO_PICTURES,
    "Hunyuan3Dv2_1": _NO_PICTURES,
    "RT_DETR_v4": _NO_PICTURES,
    "DepthAnything3": _NO_PICTURES,
    "SAM3": _NO_PICTURES,
}

# Classes of comfy.controlnet; a subclass needs its own line.
CONTROLS = frozenset({"ControlNet", "ControlNetSD35", "T2IAdapter"})

# Samplers by name. dpm_adaptive is missing: it sets its steps by an error over the whole batch.
SAMPLERS = frozenset({
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2",
    "exp_heun_2_x0", "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast",
    "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m",
    "dpmpp_2m_cfg_pp", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm", "ipndm_v",
    "deis", "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde",
    "seeds_2", "seeds_3", "sa_solver", "sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2",
})  # fmt: skip

# Functions that ComfyUI's nodes add to a model, by file and name: guidance, patches, wrappers.
FUNCTIONS: dict[str, frozenset[str]] = {
    "comfy_extras/nodes_model_advanced.py": frozenset({"rescale_cfg"}),
    "comfy_extras/nodes_cfg.py": frozenset({"cfg_zero_star", "cfg_norm", "cfg_norm_pre"}),
    "comfy_extras/nodes_pag.py": frozenset({"post_cfg_function"}),
    "comfy_extras/nodes_eps.py": frozenset({"epsilon_scaling_function"}),
    "comfy_extras/nodes_freelunch.py": frozenset({"output_block_patch"}),  # both FreeU
    "comfy_extras/nodes_model_downscale.py": frozenset({"input_block_patch", "output_block_patch"}),
    "comfy_extras/nodes_differential_diffusion.py": frozenset({"<lambda>", "forward"}),
    "comfy_api/torch_helpers/torch_compile.py": frozenset({"apply_torch_compile_wrapper"}),
}

# Entries of a conditioning that have a row for each picture, as a tensor or a list of tensors. They
# are stacked.
STACKED = frozenset({
    "pooled_output", "attention_mask", "concat_latent_image", "concat_mask", "concat_image",
    "conditioning_llama3", "conditioning_byt5small", "conditioning_mt5xl",
    "attention_mask_mt5xl", "stable_cascade_prior", "text_input_ids", "reference_latents",
})  # fmt: skip

# Entries that hold for all rows, and therefore have to be equal.
EQUAL = frozenset({
    "strength", "area", "mask_strength", "set_area_to_bounds", "start_percent", "end_percent",
    "clip_start_percent", "clip_end_percent", "default", "guidance", "width", "height", "crop_w",
    "crop_h", "target_width", "target_height", "aesthetic_score", "aspect_ratio", "frame_rate",
    "control_apply_to_uncond", "attention_mask_img_shape", "reference_latents_method", "hooks",
})  # fmt: skip
