"""Nodes at the end of a graph: save a value as arrays, or only compute it."""

import json
from pathlib import Path

import folder_paths
import numpy as np
import torch

from .counters import stats


class _TakesAnything:
    CATEGORY = "detailers/test"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "run"

    # Declared with this argument, it replaces the host's own check of linked types.
    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # runs every time: the counters go on even where the input is cached


class DetailersTestSave(_TakesAnything):
    """Saves output/<name>.npz, i being the place in a list, 0 otherwise.

    t{i}: a tensor. segs{i}_shape and segs{i}_{j}_crop, _bbox, _mask, _label, _confidence, _image
    (where there is one), _of (the image of a batch and their number, where it says one), _variant
    (segment, number, seed, where it is one): SEGS.
    latent{i}_samples, latent{i}_noise_mask: a LATENT. cond{i}_{j} and cond{i}_{j}_{key} for each
    tensor beside it: a CONDITIONING. s{i}: anything else, as JSON where it can be said so. stats:
    the counters, as JSON.
    """

    DESCRIPTION = "Saves any value, or a list of them, as arrays for a test to read."
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "value": ("*", {"tooltip": "What to save."}),
                "name": ("STRING", {"default": "out", "tooltip": "File name without ending."}),
            },
            "optional": {
                "after": ("*", {"tooltip": "Not used; saves once this is computed."}),
            },
        }

    def run(self, value, name, after=None):
        arrays = {"stats": np.array(json.dumps(stats()))}
        for i, item in enumerate(value):
            arrays |= _arrays(item, i)
        path = Path(folder_paths.get_output_directory()) / f"{name[0]}.npz"
        np.savez(path, **arrays)
        return {"ui": {"text": [str(path)]}}


def _arrays(value, i: int) -> dict[str, np.ndarray]:
    if isinstance(value, torch.Tensor):
        return {f"t{i}": _array(value)}
    if isinstance(value, dict) and "samples" in value:
        names = [name for name in ("samples", "noise_mask") if name in value]
        return {f"latent{i}_{name}": _array(value[name]) for name in names}
    if _is_segs(value):
        shape, segs = value
        arrays = {f"segs{i}_shape": np.array(shape)}
        for j, seg in enumerate(segs):
            arrays |= {f"segs{i}_{j}_{name}": array for name, array in _seg_arrays(seg).items()}
        return arrays
    if _is_conditioning(value):
        arrays = {}
        for j, (tokens, extras) in enumerate(value):
            arrays[f"cond{i}_{j}"] = _array(tokens)
            for key, extra in extras.items():
                if isinstance(extra, torch.Tensor):
                    arrays[f"cond{i}_{j}_{key}"] = _array(extra)
        return arrays
    return {f"s{i}": np.array(json.dumps(value, default=str))}


def _is_segs(value) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], list)


def _is_conditioning(value) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(entry, list) and len(entry) == 2 for entry in value)
        and all(isinstance(tokens, torch.Tensor) for tokens, _ in value)
    )


def _seg_arrays(seg) -> dict[str, np.ndarray]:
    arrays = {
        "crop": np.array(seg.crop_region),
        "bbox": np.array(seg.bbox),
        "mask": _array(seg.cropped_mask),
        "label": np.array(str(seg.label)),
        "confidence": np.asarray(seg.confidence, dtype=float).max(),
    }
    image = getattr(seg, "batch_image", None)
    if image is not None:
        arrays["of"] = np.array([-1 if image.index is None else image.index, image.count])
    variant = getattr(seg, "variant", None)
    if variant is not None:
        arrays["variant"] = np.array([variant.segment, variant.number, variant.seed])
    if seg.cropped_image is not None:
        arrays["image"] = _array(seg.cropped_image)
    return arrays


def _array(values) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


class DetailersTestSink(_TakesAnything):
    DESCRIPTION = "Has a value computed, keeps nothing of it, and shows the counters as JSON."

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*", {"tooltip": "What to compute."})}}

    def run(self, value):
        return {"ui": {"text": [json.dumps(stats())]}}


class DetailersTestWrite(_TakesAnything):
    DESCRIPTION = "Writes to a tensor in place, as careless nodes do, and passes it on."
    RETURN_TYPES = ("*",)
    OUTPUT_TOOLTIPS = ("The same tensor; all of its values are 0.5.",)
    OUTPUT_NODE = False

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*", {"tooltip": "A tensor."})}}

    def run(self, value):
        value += 0.0  # raises where several values lie in one place
        return (value.fill_(0.5),)
