"""Inputs that several nodes share. Each is declared once, with its tooltip.

Shared workflows depend on names, order, defaults and ranges: a saved workflow holds widget values
by position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..core.graph.numbered_inputs import used_numbers
from ..core.host.backend import MAX_RESOLUTION
from ..core.host.samplers import samplers, schedulers
from ..core.sampling.sigmas import EXTRA_SCHEDULERS
from ..utils.seeds import MAX_SEED

Input = tuple[Any, dict[str, Any]]

_ON_OFF = {"label_on": "enabled", "label_off": "disabled"}


def grown(what: str) -> str:
    """The tooltip of a dilation. Its value is the size of the window, which grows each side by half
    as much."""
    return f"Grow {what} by half this many pixels on each side. A negative value shrinks them."


# A type that is a function is called each time, since packs that load later add to ComfyUI's lists.
_INPUTS: dict[str, Input] = {
    "image": ("IMAGE", {"tooltip": "The image, or a batch of images that are all detailed."}),
    "image_frames": ("IMAGE", {"tooltip": "The frames of a video, in order."}),
    "mask": ("MASK", {"tooltip": "The white part of the mask is worked on."}),
    "segs": ("SEGS", {"tooltip": "The segments to work on, from a detector or a mask."}),
    "model": ("MODEL", {"tooltip": "The diffusion model that redraws each segment."}),
    "clip": ("CLIP", {"tooltip": "Encodes the segment text."}),
    "vae": ("VAE", {"tooltip": "Encodes the crops to latents, and decodes the latents."}),
    "positive": ("CONDITIONING", {"tooltip": "What the segments should show."}),
    "negative": ("CONDITIONING", {"tooltip": "What the segments should not show."}),
    "basic_pipe": (
        "BASIC_PIPE",
        {"tooltip": "Model, CLIP, VAE, positive and negative in one link (ToBasicPipe)."},
    ),
    "guide_size": (
        "FLOAT",
        {
            "default": 512, "min": 64, "max": MAX_RESOLUTION, "step": 8,
            "tooltip": "Each crop is enlarged so that the shorter side of its bounding box (or "
            "of the crop, see guide_size_for) has this many pixels.",
        },
    ),
    "guide_size_for": (
        "BOOLEAN",
        {
            "default": True, "label_on": "bbox", "label_off": "crop_region",
            "tooltip": "What guide_size measures: the bounding box of the thing, or the whole "
            "crop around it.",
        },
    ),
    "max_size": (
        "FLOAT",
        {
            "default": 1024, "min": 64, "max": MAX_RESOLUTION, "step": 8,
            "tooltip": "The longest side of a crop when it is sampled, in pixels, even if "
            "guide_size asks for more. This limits the memory that is needed.",
        },
    ),
    "seed": (
        "INT",
        {
            "default": 0, "min": 0, "max": MAX_SEED,
            "tooltip": "Seed of the first segment. Each further segment uses the next seed.",
        },
    ),
    "steps": ("INT", {"default": 20, "min": 1, "max": 10000, "tooltip": "Sampling steps."}),
    "cfg": (
        "FLOAT",
        {
            "default": 8.0, "min": 0.0, "max": 100.0,
            "tooltip": "How strongly the sampler follows the prompt.",
        },
    ),
    "sampler_name": (samplers, {"tooltip": "The sampling method."}),
    "scheduler": (
        lambda: [*schedulers(), *EXTRA_SCHEDULERS],
        {"tooltip": "How the noise falls from step to step."},
    ),
    "denoise": (
        "FLOAT",
        {
            "default": 0.5, "min": 0.0001, "max": 1.0, "step": 0.01,
            "tooltip": "How much a segment is changed: low values keep it similar, 1 starts "
            "from pure noise.",
        },
    ),
    "feather": (
        "INT",
        {
            "default": 5, "min": 0, "max": 100, "step": 1,
            "tooltip": "Softness of the mask's edge when the result is pasted, in image pixels.",
        },
    ),
    "noise_mask": (
        "BOOLEAN",
        {
            "default": True, **_ON_OFF,
            "tooltip": "On: only the masked part is redrawn. Off: the whole crop is redrawn, "
            "and the mask only limits the part that is pasted.",
        },
    ),
    "force_inpaint": (
        "BOOLEAN",
        {
            "default": True, **_ON_OFF,
            "tooltip": "On: segments that are already larger than guide_size are redrawn too, "
            "at their own size. Off: they are skipped.",
        },
    ),
    "wildcard": (
        "STRING",
        {
            "multiline": True, "dynamicPrompts": False,
            "tooltip": "Text for the segments instead of the positive prompt: wildcards, LoRAs, "
            "[SEP] between texts for different segments, [LAB] for texts by label. Empty: the "
            "positive prompt is used.",
        },
    ),
    "cycle": (
        "INT",
        {
            "default": 1, "min": 1, "max": 10, "step": 1,
            "tooltip": "How many times each segment is sampled, each time from the result before.",
        },
    ),
    "refiner_ratio": (
        "FLOAT",
        {
            "default": 0.2, "min": 0.0, "max": 1.0,
            "tooltip": "Share of the steps that the refiner runs, if one is connected.",
        },
    ),
    "batch_size": (
        "INT",
        {
            "default": 1, "min": 1, "max": 100,
            "tooltip": "How many versions to make, each with its own seed.",
        },
    ),
    "detailer_hook": (
        "DETAILER_HOOK",
        {"tooltip": "A hook changes the run at certain points, for instance to vary the denoise."},
    ),
    "refiner_basic_pipe_opt": (
        "BASIC_PIPE",
        {"tooltip": "A second model for the last part of the steps."},
    ),
    "inpaint_model": (
        "BOOLEAN",
        {
            "default": False, **_ON_OFF,
            "tooltip": "Turn this on for inpainting models: they get the masked crop as "
            "conditioning.",
        },
    ),
    "noise_mask_feather": (
        "INT",
        {
            "default": 20, "min": 0, "max": 100, "step": 1,
            "tooltip": "Softness of the noise mask's edge, in image pixels. Above 0 differential "
            "diffusion is used, which blends the redrawn part into its surroundings.",
        },
    ),
    "scheduler_func_opt": (
        "SCHEDULER_FUNC",
        {"tooltip": "A schedule from another node. It is used instead of 'scheduler'."},
    ),
    "tiled_encode": (
        "BOOLEAN",
        {
            "default": False, **_ON_OFF,
            "tooltip": "Encode in tiles. This needs less memory and more time.",
        },
    ),
    "tiled_decode": (
        "BOOLEAN",
        {
            "default": False, **_ON_OFF,
            "tooltip": "Decode in tiles. This needs less memory and more time.",
        },
    ),
    "detail_batch": (
        "INT",
        {
            "default": 0, "min": 0, "max": 64,
            "tooltip": "How many segments of equal size are sampled together: 0 as many as fit "
            "into memory, 1 one by one. The picture is the same.",
        },
    ),
    "size_grid": (
        "INT",
        {
            "default": 0, "min": 0, "max": 512, "step": 8,
            "tooltip": "Rounds up the size at which segments are sampled to multiples of this "
            "many pixels. More segments then have equal sizes and are sampled "
            "together. This changes the picture a little; 0 is off.",
        },
    ),
    "paste_options": (
        "PASTE_OPTIONS",
        {
            "tooltip": "From Paste Options: how the results are pasted into the image. Without "
            "it, they fade over the width of the feather.",
        },
    ),
    "crop_options": (
        "CROP_OPTIONS",
        {
            "tooltip": "From Crop Options: another size for drawing, and crops that are rotated "
            "upright.",
        },
    ),
    "segment_plan": (
        "SEGMENT_PLAN",
        {
            "tooltip": "From Segment Rule or Segment Plan: texts and settings for single segments. "
            "What it leaves open is as this node has it.",
        },
    ),
    "variants": (
        "INT",
        {
            "default": 1, "min": 1, "max": 16,
            "tooltip": "How many times each segment is drawn, each time from other noise. The "
            "first drawing is pasted. The output 'variants' gives all of them, for "
            "Choose Variants. If nothing is connected to that output, only the first "
            "one is drawn.",
        },
    ),
    "crop_factor": (
        "FLOAT",
        {
            "default": 3.0, "min": 1.0, "max": 100, "step": 0.1,
            "tooltip": "Size of the crop relative to the bounding box. A higher value shows the "
            "model more of the surroundings.",
        },
    ),
    "drop_size": (
        "INT",
        {
            "min": 1, "max": MAX_RESOLUTION, "step": 1, "default": 10,
            "tooltip": "Smaller detections are dropped. In pixels, for width and height.",
        },
    ),
    "bbox_fill": (
        "BOOLEAN",
        {
            "default": False, **_ON_OFF,
            "tooltip": "Fill each segment's bounding box: the mask becomes a rectangle.",
        },
    ),
    "contour_fill": (
        "BOOLEAN",
        {
            "default": False, **_ON_OFF,
            "tooltip": "Fill the holes of each shape. Off: the mask keeps its own values.",
        },
    ),
}  # fmt: skip


def inputs(*wanted: str, **changed: dict[str, Any] | str) -> dict[str, Input]:
    """Shared inputs by their names, in this order.

    Args:
        wanted: names of shared inputs.
        changed: options that differ from the shared ones (defaults, ranges, labels), by the name of
            the input. A string is another tooltip.

    Raises:
        KeyError: an input is in `changed` but not in `wanted`.
    """
    result = {}
    for name in wanted:
        kind, options = _INPUTS[name]
        change = changed.get(name, {})
        change = {"tooltip": change} if isinstance(change, str) else change
        result[name] = (kind() if callable(kind) else kind, {**options, **change})
    unknown = set(changed) - set(wanted)
    if unknown:
        raise KeyError(f"in 'changed' but not in 'wanted': {sorted(unknown)}")
    return result


def described(kind: Any, tooltip: str, **options: Any) -> Input:
    """An input that only one node has."""
    return kind, {**options, "tooltip": tooltip}


class Numbered(dict):
    """Numbered optional inputs, of which a node takes any number: stem1, stem2, ...

    The editor adds an input when the last one is connected, so it only gets the inputs that are
    there at first. ComfyUI looks up inputs by name, so every numbered name has an entry. When it
    iterates over all names, it also gets those that prompts have used.
    """

    def __init__(
        self, stem: str, kind: str, tooltip: str, listed: int = 0, **options: bool
    ) -> None:
        self.stem = stem
        self.input = (kind, {"tooltip": tooltip, **options})
        super().__init__({f"{stem}{number + 1}": self.input for number in range(listed)})

    def __iter__(self) -> Iterator[str]:
        listed = list(self.keys())
        yield from listed
        for number in used_numbers():
            if f"{self.stem}{number}" not in listed:
                yield f"{self.stem}{number}"

    def __contains__(self, name: object) -> bool:
        return (
            isinstance(name, str)
            and name.startswith(self.stem)
            and name[len(self.stem) :].isdecimal()
        )

    def __getitem__(self, name: str) -> tuple[str, dict]:
        if name not in self:
            raise KeyError(name)
        return self.input
