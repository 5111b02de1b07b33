"""LoRAs with a strength for each block, and LoRAs whose strength changes while sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.lora
import comfy.lora_convert
import folder_paths

from ...utils.paths import expect_path
from ...wildcards.grammar import Lora
from ..detectors.safe_weights import expect_plain
from ..prompts.lora_blocks import BlockWeights
from .call_node import call_node


def load_by_blocks(
    model: Any, clip: Any, weights: dict, lora: Lora, blocks: BlockWeights
) -> tuple[Any, Any]:
    """Patch model and CLIP with a strength that depends on the block of each weight."""
    keys: dict = {}
    if model is not None:
        keys = comfy.lora.model_lora_keys_unet(model.model, keys)
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(weights), keys)
    by_factor: dict[float, dict] = {}
    for key, patch in patches.items():
        name = key if isinstance(key, str) else key[0]
        by_factor.setdefault(blocks.factor(name), {})[key] = patch
    model = None if model is None else model.clone()
    clip = None if clip is None else clip.clone()
    for factor, group in by_factor.items():
        if model is not None:
            model.add_patches(group, lora.model_strength * factor)
        if clip is not None:
            clip.add_patches(group, lora.clip_strength * factor)
    return model, clip


def scheduled_lora(
    clip: Any,
    lora_name: str,
    points: Sequence[tuple[float, float]],
    clip_strength: float,
    to_conditioning: bool,
) -> Any:
    """A CLIP whose conditionings carry a LoRA with a strength that changes while sampling.

    Args:
        points: pairs of a share of the run, 0..1, and a strength, sorted by share. A strength
            holds until the next point.
        clip_strength: strength of the LoRA on the text encoder. It does not change.
        to_conditioning: False: the LoRA is applied to the text encoder only.
    """
    expect_path(lora_name, "lora_name")
    path = folder_paths.get_full_path("loras", lora_name)
    if path is not None:
        expect_plain(path)
    hooks = call_node(
        "CreateHookLora", lora_name=lora_name, strength_model=1.0, strength_clip=clip_strength
    )[0]
    keyframes = None
    for share, strength in points:
        keyframes = call_node(
            "CreateHookKeyframe", strength_mult=strength, start_percent=share,
            prev_hook_kf=keyframes,
        )[0]  # fmt: skip
    hooks = call_node("SetHookKeyframes", hooks=hooks, hook_kf=keyframes)[0]
    return call_node(
        "SetClipHooks", clip=clip, hooks=hooks, apply_to_conds=to_conditioning, schedule_clip=False
    )[0]
