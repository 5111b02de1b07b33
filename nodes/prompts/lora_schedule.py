"""A node for LoRAs whose strength changes while sampling."""

from __future__ import annotations

from ...core.host.folders import file_names
from ...core.host.loras import scheduled_lora
from ...core.prompts.lora_schedule import EASINGS, Ramp, draw_steps

NO_LORA = "None"


class ScheduledLoRALoader:
    DESCRIPTION = (
        "Loads a LoRA whose strength changes while sampling. Encode the prompt with the output "
        "CLIP, because the conditioning carries the schedule."
    )
    CATEGORY = "Detailers/LoRA"
    RETURN_TYPES = ("MODEL", "CLIP", "IMAGE")
    RETURN_NAMES = ("model", "clip", "curve_preview")
    OUTPUT_TOOLTIPS = (
        "The same model as the input. The LoRA is applied when the conditioning asks for it.",
        "A CLIP whose conditionings carry the LoRA's schedule.",
        "A diagram of the strength from the first step to the last.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        def strength(default, when):
            options = {"default": default, "min": -5.0, "max": 5.0, "step": 0.05}
            return ("FLOAT", {**options, "tooltip": f"Strength of the LoRA {when}."})

        def percent(default, what):
            options = {"default": default, "min": 0.0, "max": 1.0, "step": 0.05}
            return ("FLOAT", {**options, "tooltip": f"Share of the run at which {what}."})

        count = {
            "default": 5, "min": 2, "max": 12, "step": 1,
            "tooltip": "The number of steps in which the strength changes.",
        }  # fmt: skip
        apply = {
            "default": True,
            "tooltip": "On: prompts encoded with this CLIP carry the LoRA to the model. Off: the "
            "LoRA only changes the CLIP.",
        }
        names = [NO_LORA, *file_names("loras")]
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The diffusion model."}),
                "clip": ("CLIP", {"tooltip": "The text encoder."}),
                "lora_name": (names, {"tooltip": "The LoRA; None changes nothing."}),
                "strength_start": strength(0.0, "before the change"),
                "strength_end": strength(1.0, "after the change"),
                "interpolation": (list(EASINGS), {"tooltip": "Shape of the change."}),
                "start_percent": percent(0.0, "the change begins"),
                "end_percent": percent(0.6, "the change ends"),
                "keyframes_count": ("INT", count),
            },
            "optional": {"apply_to_conds": ("BOOLEAN", apply)},
        }

    def run(
        self, model, clip, lora_name, strength_start, strength_end, interpolation, start_percent,
        end_percent, keyframes_count, apply_to_conds=True,
    ):  # fmt: skip
        ramp = Ramp(strength_start, strength_end, interpolation, start_percent, end_percent)
        points = ramp.keyframes(keyframes_count)
        if lora_name != NO_LORA:
            clip = scheduled_lora(clip, lora_name, points, strength_end, apply_to_conds)
        return (model, clip, draw_steps(points))


NODES = {"ScheduledLoRALoader": (ScheduledLoRALoader, "Scheduled LoRA Loader")}
