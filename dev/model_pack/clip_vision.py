"""A CLIP_VISION of the host's own class, small enough to be made anew for each test."""

import json
import tempfile
from pathlib import Path

import comfy.clip_vision
import torch

CONFIG = {
    "hidden_act": "quick_gelu", "hidden_size": 32, "image_size": 32, "intermediate_size": 64,
    "layer_norm_eps": 1e-5, "num_attention_heads": 2, "num_channels": 3, "num_hidden_layers": 3,
    "patch_size": 8,
}  # fmt: skip


class DetailersTestClipVision:
    """With random weights, always the same, so that equal pictures alone give equal vectors."""

    CATEGORY = "detailers/test"
    RETURN_TYPES = ("CLIP_VISION",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"kind": (["clip_vision_model", "siglip_vision_model"],)},
            "optional": {"projection": ("INT", {"default": 16})},
        }

    def run(self, kind="clip_vision_model", projection=16):
        config = {**CONFIG, "model_type": kind}
        if kind == "clip_vision_model":
            config["projection_dim"] = projection
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "config.json")
            file.write_text(json.dumps(config))
            model = comfy.clip_vision.ClipVisionModel(str(file))
        generator = torch.Generator().manual_seed(0)
        weights = {
            name: torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5
            if value.ndim > 1
            else torch.full(value.shape, float(name.endswith("weight")))
            for name, value in model.get_sd().items()
        }
        model.load_sd(weights)
        return (model,)
