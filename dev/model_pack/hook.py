"""A DETAILER_HOOK that records every call, and makes the changes that a test asks for."""

import json
from types import SimpleNamespace

import torch


class DetailersTestHook:
    DESCRIPTION = "A detailer hook that records its calls, and changes values on request."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("DETAILER_HOOK", "*")
    RETURN_NAMES = ("detailer_hook", "log")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "changes": (
                    "STRING",
                    {
                        "default": "{}",
                        "tooltip": "JSON {method: change}. A number is added to the image or latent"
                        " (get_custom_noise: replaces the noise; post_detection: how many segments"
                        " to keep; post_crop_region: pixels to grow by). touch_scaled_size takes"
                        " [w, h], pre_ksample {argument: value}.",
                    },
                ),
                "omit": (
                    "STRING",
                    {"default": "[]", "tooltip": "JSON list of methods that the hook lacks."},
                ),
                "name": ("STRING", {"default": "", "tooltip": "Put before each entry of the log."}),
            },
            "optional": {
                "shares_batches": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "On, segments may be sampled together, and calls for them mix.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # a log for each run

    def run(self, changes, omit, name, shares_batches=False):
        recorder = Recorder(json.loads(changes), name)
        methods = {method: getattr(recorder, method) for method in METHODS}
        for method in json.loads(omit):
            del methods[method]
        return (SimpleNamespace(**methods, shares_batches=shares_batches), recorder.log)


METHODS = (
    "post_detection",
    "post_crop_region",
    "touch_scaled_size",
    "post_upscale",
    "post_encode",
    "set_steps",
    "cycle_latent",
    "pre_ksample",
    "get_custom_noise",
    "pre_decode",
    "post_decode",
    "post_paste",
)

_KSAMPLE_ARGUMENTS = (
    "model",
    "seed",
    "steps",
    "cfg",
    "sampler_name",
    "scheduler",
    "positive",
    "negative",
    "latent",
    "denoise",
)


class Recorder:
    """The methods of a hook. `log` gets one list [method, what it was given] for each call."""

    def __init__(self, changes: dict, name: str):
        self.changes = changes
        self.prefix = f"{name}." if name else ""
        self.log = []

    def _record(self, method: str, *given) -> object:
        """Write the call down; the change that is asked of the method, or None."""
        self.log.append([self.prefix + method, *given])
        return self.changes.get(method)

    def post_detection(self, segs):
        keep = self._record("post_detection", len(segs[1]))
        return segs if keep is None else (segs[0], segs[1][:keep])

    def post_crop_region(self, w, h, bbox, crop_region):
        given = [w, h, [int(v) for v in bbox], [int(v) for v in crop_region]]
        by = self._record("post_crop_region", *given) or 0
        x1, y1, x2, y2 = crop_region
        return max(x1 - by, 0), max(y1 - by, 0), min(x2 + by, w), min(y2 + by, h)

    def touch_scaled_size(self, w, h):
        size = self._record("touch_scaled_size", w, h)
        return (w, h) if size is None else tuple(size)

    def post_upscale(self, pixels):
        return self._add("post_upscale", pixels)

    def post_encode(self, latent):
        return self._add_to_latent("post_encode", latent)

    def set_steps(self, cycle):
        self._record("set_steps", *cycle)

    def cycle_latent(self, latent):
        return self._add_to_latent("cycle_latent", latent)

    def pre_ksample(self, *arguments):
        call = dict(zip(_KSAMPLE_ARGUMENTS, arguments, strict=True))
        plain = {key: value for key, value in call.items() if isinstance(value, int | float | str)}
        call |= self._record("pre_ksample", plain) or {}
        return tuple(call.values())

    def get_custom_noise(self, seed, noise, is_touched):
        value = self._record("get_custom_noise", seed, list(noise.shape), bool(is_touched))
        if value is None:
            return noise, is_touched
        return torch.full_like(noise, value), True

    def pre_decode(self, latent):
        return self._add_to_latent("pre_decode", latent)

    def post_decode(self, pixels):
        return self._add("post_decode", pixels)

    def post_paste(self, image):
        return self._add("post_paste", image)

    def _add(self, method: str, tensor: torch.Tensor) -> torch.Tensor:
        amount = self._record(method, list(tensor.shape))
        return tensor if amount is None else tensor + amount

    def _add_to_latent(self, method: str, latent: dict) -> dict:
        amount = self._record(method, list(latent["samples"].shape))
        return latent if amount is None else latent | {"samples": latent["samples"] + amount}
