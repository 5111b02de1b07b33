"""SAM of 2023 (ViT-B, -L, -H), from the files of its authors or of Hugging Face.

The network is that of the package transformers, which every ComfyUI has. Sizes are read from the
weights, so a SAM of any size can be loaded. Source: Kirillov et al., "Segment Anything" (2023).
"""

from __future__ import annotations

import re
from typing import Any

import torch

from ...geometry import Size
from ..network import normalised
from .model import Embedded, Questions, answers

# Regular expressions that convert the authors' names to those of transformers, in this order.
_RENAMED = [
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.blocks\.", ".layers."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix",
     ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(hypernetworks_mlps\.\d+|prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(hypernetworks_mlps\.\d+|prediction_head)\.layers\.2\.", r"\1.proj_out."),
    (r"(hypernetworks_mlps\.\d+|prediction_head)\.layers\.1\.", r"\1.layers.0."),
]  # fmt: skip
POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
_SAME_POSITIONS = "shared_image_embedding.positional_embedding"


def is_sam(weights: dict[str, torch.Tensor]) -> bool:
    """Whether weights [...] are those of this kind of SAM, with the names of either source."""
    return any(
        f"{encoder}.pos_embed" in weights and weights[f"{encoder}.pos_embed"].ndim == 4
        for encoder in ("image_encoder", "vision_encoder")
    ) and any(name.startswith("mask_decoder.output_hypernetworks_mlps.0.") for name in weights)


def build(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The network with these weights [...], on the CPU.

    Raises:
        KeyError, RuntimeError: the weights are not complete.
    """
    from transformers import SamConfig, SamModel

    if "image_encoder.pos_embed" in weights:
        weights = {_renamed(name): value for name, value in weights.items()}
    weights = with_positions(weights)
    network = SamModel(SamConfig(**_config(weights)))
    network.load_state_dict(weights)
    return network.float().train(False).requires_grad_(False)


def with_positions(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights [...] with both names of the positional embedding; files have one or both.

    Raises:
        KeyError: the weights have neither.
    """
    shared = weights.get(_SAME_POSITIONS, weights.get(POSITIONS))
    if shared is None:
        raise KeyError(POSITIONS)
    return {POSITIONS: shared, _SAME_POSITIONS: shared, **weights}


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _config(weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The network's configuration from the shapes of the weights; the rest is as in the paper."""
    width, _, patch, _ = weights["vision_encoder.patch_embed.projection.weight"].shape
    grid = weights["vision_encoder.pos_embed"].shape[1]
    depth = sum(name.endswith(".attn.rel_pos_h") for name in weights)
    reach = [
        weights[f"vision_encoder.layers.{index}.attn.rel_pos_h"].shape for index in range(depth)
    ]
    windows = [
        (length + 1) // 2 for length, _ in reach
    ]  # a window of w pixels has 2 w - 1 relative positions
    inner, embedding = weights["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape
    image = {"image_size": grid * patch, "patch_size": patch}
    vision = {
        **image,
        "hidden_size": width,
        "output_channels": embedding,
        "num_hidden_layers": depth,
        "num_attention_heads": width // reach[0][1],
        "mlp_dim": weights["vision_encoder.layers.0.mlp.lin1.weight"].shape[0],
        "window_size": min(windows),
        "global_attn_indexes": [i for i, window in enumerate(windows) if window != min(windows)],
        "num_pos_feats": weights[POSITIONS].shape[1],
    }
    decoder = {
        "hidden_size": embedding,
        "mlp_dim": inner,
        "iou_head_hidden_dim": weights["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
        "layer_norm_eps": 1e-5,  # the authors' value; transformers' own is 1e-6
    }
    return {
        "vision_config": vision,
        "prompt_encoder_config": {**image, "hidden_size": embedding},
        "mask_decoder_config": decoder,
    }


def embed(network: torch.nn.Module, image: torch.Tensor) -> Embedded:
    """The embedding of an image [H,W,3] 0..1 on the device; the image is scaled and padded."""
    side = network.config.vision_config.image_size
    height, width = image.shape[:2]
    scale = side / max(height, width)
    inner = Size(int(width * scale + 0.5), int(height * scale + 0.5))
    pixels = torch.nn.functional.interpolate(
        image.movedim(-1, 0)[None], (inner.height, inner.width), mode="bilinear", antialias=True
    )
    pixels = torch.nn.functional.pad(
        normalised(pixels), (0, side - inner.width, 0, side - inner.height)
    )
    return Embedded(
        network.get_image_embeddings(pixels),
        (inner.width / width, inner.height / height),
        (inner.width / side, inner.height / side),
    )


def ask(
    network: torch.nn.Module, seen: Embedded, questions: Questions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks [N,3,h,w] and scores [N,3] for prompts in pixels of the input; see `answers`."""
    return answers(network, seen.features, questions)
