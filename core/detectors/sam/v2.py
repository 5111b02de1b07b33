"""SAM 2 and SAM 2.1, from the files of their authors or of Hugging Face.

The networks are those of the package transformers. Sizes are read from the weights; settings that
weights do not show are known for the published models. Source: Ravi et al., "SAM 2: Segment
Anything in Images and Videos" (2024).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..network import Network, normalised
from .model import Embedded, Questions, answers
from .v1 import with_positions

SIDE = 1024  # pixels of the network's input
_REMEMBERED = 20  # frames; earlier frames have no effect

# Regular expressions that convert the authors' names to those of transformers, in this order.
_RENAMED = [
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix",
     ".shared_embedding.positional_embedding"),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm(\d?|_final_attn)\.", r".layer_norm\1."),
    (r"(\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(\.mlp)\.layers\.1\.", r"\1.proj_out."),
    (r"(hypernetworks_mlps\.\d+|_head|object_pointer_proj)\.layers\.0\.", r"\1.proj_in."),
    (r"(hypernetworks_mlps\.\d+|_head|object_pointer_proj)\.layers\.2\.", r"\1.proj_out."),
    (r"(hypernetworks_mlps\.\d+|_head|object_pointer_proj)\.layers\.1\.", r"\1.layers.0."),
]  # fmt: skip
_DOWN = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.")
_POINTS = re.compile(r"^sam_prompt_encoder\.point_embeddings\.(\d+)\.weight$")
_OF_VIDEO = re.compile(
    r"(memory_attention|memory_encoder|memory_temporal|mask_downsample|no_memory_pos|no_object_"
    r"|occlusion_|object_pointer_proj|temporal_)"
)

# By width of the first stage: attention heads there, width of the windows in each stage.
_PUBLISHED = {112: (2, [8, 4, 14, 7]), 144: (2, [8, 4, 16, 8])}
_OTHER = (1, [8, 4, 14, 7])
# By width and blocks in each stage: blocks whose attention sees the whole image.
_GLOBAL = {
    (96, 1, 2, 7, 2): [5, 7, 9],
    (96, 1, 2, 11, 2): [7, 10, 13],
    (112, 2, 3, 16, 3): [12, 16, 20],
    (144, 2, 6, 36, 4): [23, 33, 43],
}


def is_sam2(weights: dict[str, torch.Tensor]) -> bool:
    """Whether weights [...] are those of this kind of SAM, with the names of either source."""
    return any(
        f"{trunk}.pos_embed_window" in weights
        for trunk in ("image_encoder.trunk", "vision_encoder.backbone")
    )


def build(weights: dict[str, torch.Tensor], *, video: bool, side: int = SIDE) -> torch.nn.Module:
    """The network with these weights [...], on the CPU.

    Args:
        video: build the network that follows things through frames, instead of that for images.
        side: side of its input in pixels.

    Raises:
        ImportError: the installed transformers does not know SAM 2.
        KeyError, RuntimeError: the weights are not complete.
    """
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    if "image_encoder.trunk.pos_embed_window" in weights:
        weights = _translated(weights)
    weights = with_positions(weights)
    config = _image_config(weights, side)
    if video:
        network = Sam2VideoModel(Sam2VideoConfig(**config, **_video_config(weights, side)))
    else:
        weights = {name: value for name, value in weights.items() if not _OF_VIDEO.match(name)}
        network = Sam2Model(Sam2Config(**config))
    network.load_state_dict(weights)
    return network.float().train(False).requires_grad_(False)


def _translated(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' weights with the names of transformers."""
    result = {}
    points = {}
    last = max((int(found[1]) for name in weights if (found := _DOWN.match(name))), default=0)
    for name, value in weights.items():
        found = _POINTS.match(name)
        if found:  # one embedding for each kind of point; transformers has them in one matrix
            points[int(found[1])] = value
            continue
        result[_renamed(name, last)] = value
    result["prompt_encoder.point_embed.weight"] = torch.cat([points[i] for i in sorted(points)])
    return result


def _renamed(name: str, last: int) -> str:
    """One name; `last` is the number of the last layer of the mask downsampler."""
    found = _DOWN.match(name)
    if found:  # convolution, norm and activation in turn, and a last convolution
        number = int(found[1])
        part = ("conv", "layer_norm")[number % 3] if number < last else ""
        new = f"layers.{number // 3}.{part}" if part else "final_conv"
        return _DOWN.sub(f"memory_encoder.mask_downsampler.{new}.", name)
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _image_config(weights: dict[str, torch.Tensor], side: int) -> dict[str, Any]:
    """The configuration of the network for images, from the shapes of the weights."""
    backbone = "vision_encoder.backbone."
    widths = []  # of the output of each block
    while f"{backbone}blocks.{len(widths)}.layer_norm2.weight" in weights:
        widths.append(len(weights[f"{backbone}blocks.{len(widths)}.layer_norm2.weight"]))
    stages = sorted(set(widths))
    blocks = [widths.count(width) for width in stages]
    heads, windows = _PUBLISHED.get(stages[0], _OTHER)
    hidden = weights["vision_encoder.neck.convs.0.weight"].shape[0]
    decoder = "mask_decoder."
    vision = {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": stages[0],
            "num_attention_heads": heads,
            "image_size": [side, side],
            "window_positional_embedding_background_size": list(
                weights[f"{backbone}pos_embed"].shape[2:]
            ),
            "blocks_per_stage": blocks,
            "embed_dim_per_stage": stages,
            "num_attention_heads_per_stage": [heads * 2**i for i in range(len(stages))],
            "window_size_per_stage": windows,
            "global_attention_blocks": _GLOBAL.get((stages[0], *blocks), []),
        },
        "backbone_channel_list": stages[::-1],
        "backbone_feature_sizes": [[side // step, side // step] for step in (4, 8, 16)],
        "fpn_hidden_size": hidden,
    }
    return {
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": hidden, "image_size": side},
        "mask_decoder_config": {
            "hidden_size": hidden,
            "mlp_dim": len(weights[f"{decoder}transformer.layers.0.mlp.proj_in.bias"]),
            "iou_head_hidden_dim": len(weights[f"{decoder}iou_prediction_head.proj_in.bias"]),
        },
    }


def _video_config(weights: dict[str, torch.Tensor], side: int) -> dict[str, Any]:
    """The configuration of the network's memory, from the shapes of the weights."""
    layers = sum(name.endswith(".cross_attn_image.q_proj.bias") for name in weights)
    fusers = sum(name.endswith(".depthwise_conv.bias") for name in weights)
    fused = len(weights["memory_encoder.memory_fuser.layers.0.depthwise_conv.bias"])
    inner = len(weights["memory_encoder.memory_fuser.layers.0.pointwise_conv1.bias"])
    return {
        "image_size": side,
        "num_maskmem": len(weights["memory_temporal_positional_encoding"]),
        "enable_occlusion_spatial_embedding": "occlusion_spatial_embedding_parameter" in weights,
        "enable_temporal_pos_encoding_for_object_pointers": (
            "temporal_positional_encoding_projection_layer.weight" in weights
        ),
        "memory_attention_hidden_size": len(weights["memory_attention.layer_norm.weight"]),
        "memory_attention_num_layers": layers,
        "memory_attention_feed_forward_hidden_size": len(
            weights["memory_attention.layers.0.linear1.bias"]
        ),
        "memory_attention_rope_feat_sizes": [side // 16, side // 16],
        "memory_encoder_hidden_size": len(weights["memory_encoder.feature_projection.bias"]),
        "memory_encoder_output_channels": len(weights["memory_encoder.projection.bias"]),
        "mask_downsampler_embed_dim": len(
            weights["memory_encoder.mask_downsampler.final_conv.bias"]
        ),
        "memory_fuser_num_layers": fusers,
        "memory_fuser_embed_dim": fused,
        "memory_fuser_intermediate_dim": inner,
    }


def _pixels(image: torch.Tensor, side: int) -> torch.Tensor:
    """An image [H,W,3] as the network takes it: [1,3,side,side], stretched to a square."""
    pixels = image.movedim(-1, 0)[None].float()
    pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    return normalised(pixels)


def embed(network: torch.nn.Module, image: torch.Tensor) -> Embedded:
    """The embedding of an image [H,W,3] 0..1 on the device."""
    side = network.config.prompt_encoder_config.image_size
    height, width = image.shape[:2]
    features = network.get_image_embeddings(_pixels(image, side))
    return Embedded(features, (side / width, side / height))


def ask(
    network: torch.nn.Module, seen: Embedded, questions: Questions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks [N,3,h,w] and scores [N,3] for prompts in pixels of the input; see `answers`."""
    return answers(network, list(seen.features), questions)


class _Frames:
    """Frames [F,H,W,3] as the network takes them; each is converted when it is needed."""

    def __init__(self, frames: torch.Tensor, side: int) -> None:
        self.frames = frames
        self.side = side

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> torch.Tensor:
        return _pixels(self.frames[index], self.side)[0]


class Follower:
    """Follows things through a video; see `follow` of `model.Sam`.

    Args:
        load: returns the network for video; called when it is first needed.
    """

    def __init__(self, load: Callable[[], Network]) -> None:
        self._load = load
        self._network: Network | None = None

    def __call__(
        self, frames: torch.Tensor, boxes: Sequence[Sequence[int]], lowest: float
    ) -> list[torch.Tensor]:
        count, height, width = frames.shape[:3]
        result = [torch.zeros(count, height, width) for _ in boxes]
        if not boxes:
            return result
        if self._network is None:
            self._network = self._load()
        network = self._network
        with torch.inference_mode(), network.on_device() as device:
            session = _session(network.module, frames, boxes, device)
            for index in range(count):
                network.check_interrupt()
                masks = network.module(inference_session=session, frame_idx=index).pred_masks
                masks = torch.nn.functional.interpolate(
                    masks.float(), (height, width), mode="bilinear"
                )
                for whole, mask in zip(result, masks[:, 0], strict=True):
                    whole[index] = (mask >= lowest).float().cpu()
                _forget(session, index)
        return [mask.clone() for mask in result]  # tensors outside inference mode


def _session(
    network: torch.nn.Module,
    frames: torch.Tensor,
    boxes: Sequence[Sequence[int]],
    device: torch.device,
) -> Any:
    """A session with a thing for each box of the first frame, given by the box and its centre."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    side = network.config.prompt_encoder_config.image_size
    height, width = frames.shape[1:3]
    session = Sam2VideoInferenceSession(
        video_height=height, video_width=width, inference_device=device,
        inference_state_device="cpu", video_storage_device="cpu", dtype=torch.float32,
    )  # fmt: skip
    session.processed_frames = _Frames(frames, side)
    scale = torch.tensor([side / width, side / height])
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        index = session.obj_id_to_idx(number)
        points = torch.tensor([[x1, y1], [x2, y2], [(x1 + x2) / 2, (y1 + y2) / 2]]) * scale
        labels = torch.tensor([2, 3, 1], dtype=torch.int32)  # two corners of a box, a point in it
        session.add_point_inputs(
            index, 0, {"point_coords": points[None, None], "point_labels": labels[None, None]}
        )
    session.obj_with_new_inputs = list(range(len(boxes)))
    return session


def _forget(session: Any, index: int) -> None:
    """Drop what no later frame needs; otherwise a session grows by 5 MB per frame and thing."""
    for outputs in session.output_dict_per_obj.values():
        later = outputs["non_cond_frame_outputs"]
        later.pop(index - _REMEMBERED, None)
        for kept in (*later.values(), *outputs["cond_frame_outputs"].values()):
            kept.pop("high_res_masks", None)
