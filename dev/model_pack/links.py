"""Values that other packs pass over links: a schedule, segments with a ControlNet, or any value."""

import json

import comfy.samplers
import nodes
import torch


class DetailersTestScheduler:
    DESCRIPTION = "A SCHEDULER_FUNC that gives the host's schedule of this name."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("SCHEDULER_FUNC",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        schedulers = comfy.samplers.KSampler.SCHEDULERS
        return {"required": {"scheduler": (schedulers, {"tooltip": "Noise schedule."})}}

    def run(self, scheduler):
        def sigmas(model, sampler_name, steps):
            sampling = model.get_model_object("model_sampling")
            return comfy.samplers.calculate_sigmas(sampling, scheduler, steps)

        return (sigmas,)


class ControlWrapper:
    """The `control_net_wrapper` of a SEG: its ControlNet sees the enlarged crop."""

    def __init__(self, control: object, strength: float):
        self.control = control
        self.strength = strength

    def apply(self, positive, negative, image, mask=None):
        positive, negative = nodes.ControlNetApplyAdvanced().apply_controlnet(
            positive, negative, self.control, image, self.strength, 0.0, 1.0
        )
        return positive, negative, [image]


class DetailersTestSegsControl:
    DESCRIPTION = "Gives every SEG a ControlNet that is shown the enlarged crop."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("SEGS",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        strength = {"default": 1.0, "min": 0.0, "max": 10.0, "tooltip": "Of the ControlNet."}
        return {
            "required": {
                "segs": ("SEGS", {"tooltip": "Segments that get one."}),
                "control_net": ("CONTROL_NET", {"tooltip": "The ControlNet."}),
                "strength": ("FLOAT", strength),
            }
        }

    def run(self, segs, control_net, strength):
        shape, items = segs
        wrapper = ControlWrapper(control_net, strength)
        return ((shape, [seg._replace(control_net_wrapper=wrapper) for seg in items]),)


class Inverter:
    """A preprocessor for segments; it gives back another size than it was given."""

    def apply(self, image, mask=None):
        return 1 - image[:, ::2, ::2]


class DetailersTestPreprocessor:
    DESCRIPTION = "Makes a control picture of a crop by inverting it, at half the size."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("SEGS_PREPROCESSOR",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (Inverter(),)


class DetailersTestValue:
    DESCRIPTION = "Any value, for links of every type: what it says, or a tensor."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("*",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        value = {
            "default": "null",
            "tooltip": 'JSON, NaN allowed; {"shape": [...], "fill": number} makes a tensor.',
        }
        return {"required": {"value": ("STRING", value)}}

    def run(self, value):
        value = json.loads(value)
        if isinstance(value, dict) and value.keys() == {"shape", "fill"}:
            value = torch.full(value["shape"], float(value["fill"]))
        return (value,)


class DetailersTestCaller:
    DESCRIPTION = (
        "Makes a prompt and a region by calling nodes of this pack as nodes of other packs do."
    )
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "*", "REGIONAL_PROMPTS")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "basic_pipe": ("BASIC_PIPE", {"tooltip": "What the nodes get."}),
                "mask": ("MASK", {"tooltip": "The region."}),
                "text": ("STRING", {"default": "", "tooltip": "The prompt."}),
                "seed": ("INT", {"default": 0, "tooltip": "Draws the prompt's choices."}),
            }
        }

    def run(self, basic_pipe, mask, text, seed):
        model, clip, *_ = basic_pipe
        registered = nodes.NODE_CLASS_MAPPINGS
        wildcards = registered["ImpactWildcardEncode"]
        plain = wildcards().doit(model=model, clip=clip, populated_text=text, seed=seed)
        processed = []
        other = wildcards.process_with_loras(
            wildcard_opt=text, model=model, clip=clip, seed=seed, clip_encoder=RedIsBlue(),
            processed=processed,
        )  # fmt: skip
        provider = registered["KSamplerAdvancedProvider"]()
        sampler = provider.doit(1.0, "euler", "normal", basic_pipe, sigma_factor=1.0)[0]
        region = registered["RegionalPrompt"]().doit(mask, sampler)[0]
        texts = [plain[3], *processed]
        return (plain[2], other[2], texts, region)


class RedIsBlue:
    """A text encoder of another pack, with words of its own."""

    def encode(self, clip, text):
        return (clip.encode_from_tokens_scheduled(clip.tokenize(text.replace("red", "blue"))),)
