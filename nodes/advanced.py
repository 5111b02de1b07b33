"""Settings that a node hides until its user asks for them.

ComfyUI's editor shows inputs with the option `advanced` only on demand. Their values, order,
defaults and links are the same as those of any other input.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

FEW = 5  # a node with at most this many settings shows all of them
LEAST = 3  # fewer rare settings are not worth the button that shows them

# Names of settings that most users do not change. They mean the same in every node.
RARELY_CHANGED = frozenset(
    {
        # detection, and making segments
        "bbox_fill", "contour_fill", "crop_min_size", "drop_size", "filter_segs_dilation",
        "guide_size_for", "irregular_mask_mode", "mask_irregularity", "post_dilation",
        # SAM and other ways to refine a detection
        "bbox_expansion", "mask_hint_threshold", "mask_hint_use_negative", "sam_bbox_expansion",
        "sam_detection_hint", "sam_dilation", "sam_mask_hint_threshold",
        "sam_mask_hint_use_negative", "sam_threshold", "sub_bbox_expansion",
        # sampling
        "additional_mode", "additional_sampler", "additional_sigma_ratio", "cycle", "detail_batch",
        "inpaint_model", "noise_mask_feather", "normalize", "refiner_ratio", "restore_latent",
        "return_with_leftover_noise", "seed_2nd", "seed_2nd_mode", "size_grid", "variants",
        # tracks
        "cut_threshold", "measure_motion", "window_aspect",
        # what a rule sets for single segments
        "control_strength", "crop_padding", "denoise_by_size", "reason", "refiner",
        # frames of a clip
        "chunk_frames", "chunk_overlap", "smoothing_frames",
        # scaling, encoding and decoding
        "overlap", "rounding_modulus", "supersample", "tile_size", "tiled_decode", "tiled_encode",
        "tiling_strategy", "use_tiled_vae",
        # IPAdapters and LoRAs
        "apply_to_conds", "combine_embeds", "faceid_v2", "keyframes_count", "noise",
        "unfold_batch", "weight_type", "weight_v2",
    }
)  # fmt: skip

_SETTINGS = ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO")


def fold_rare_settings(node: type) -> None:
    """Let a node class mark the settings that few users change as advanced, in place."""
    if "INPUT_TYPES" not in vars(node):
        return  # its base class has been changed already
    declared = vars(node)["INPUT_TYPES"].__func__

    @functools.wraps(declared)
    def input_types(cls: type) -> dict[str, Any]:
        groups = declared(cls)
        mark_rare_settings(groups)
        return groups

    node.INPUT_TYPES = classmethod(input_types)


def mark_rare_settings(groups: Mapping[str, dict[str, tuple]]) -> None:
    """Set `advanced` for the rare settings of an INPUT_TYPES, and only for those, in place."""
    settings = {
        name: (group, entry)
        for group in (groups.get("required", {}), groups.get("optional", {}))
        for name, entry in group.items()
        if _is_setting(entry)
    }
    rare = RARELY_CHANGED.intersection(settings)
    folds = len(settings) > FEW and len(rare) >= LEAST
    for name, (group, entry) in settings.items():
        kind, options = (*entry, {})[:2]
        if folds and name in rare:
            group[name] = kind, {**options, "advanced": True}
        elif "advanced" in options:  # a base class with more settings has set it
            group[name] = kind, {key: options[key] for key in options if key != "advanced"}


def _is_setting(entry: tuple) -> bool:
    """Whether an input is a setting of the node, which has a widget, and not only a link."""
    kind, options = (*entry, {})[:2]
    return (isinstance(kind, list) or kind in _SETTINGS) and not options.get("forceInput")
