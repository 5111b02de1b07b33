"""Nodes for ControlNets and IPAdapters of segments."""

from __future__ import annotations

from ...core.host.hooks import IPAdapter, attach_control_net, attach_ip_adapter, check_ip_adapter
from ...core.prompts.control import ControlNet, adapt_segs, control_segs, without_control
from ..segs.pictures import given_segs
from ..widgets import inputs

CATEGORY = "Detailers/Control"
_SHARE = {"min": 0.0, "max": 1.0, "step": 0.001}


class _GivesSegs:
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    FUNCTION = "run"


class ImpactControlNetApplyAdvancedSEGS(_GivesSegs):
    DESCRIPTION = (
        "Gives every segment a ControlNet, in addition to those that it has. The ControlNet "
        "gets the control image, cut to the segment. Without a control image, it gets the "
        "preprocessor's result for the segment's crop. Without both, it gets the crop itself."
    )
    OUTPUT_TOOLTIPS = ("The segments with the ControlNet, for a detailer.",)

    @classmethod
    def INPUT_TYPES(cls):
        strength = {
            "default": 1.0, "min": 0.0, "max": 10.0, "step": 0.01,
            "tooltip": "How strongly the ControlNet guides. 0 turns it off.",
        }  # fmt: skip
        start = {"default": 0.0, "tooltip": "Share of the steps after which it begins."}
        end = {"default": 1.0, "tooltip": "Share of the steps after which it ends."}
        return {
            "required": {
                **inputs("segs", segs="The segments that get the ControlNet."),
                "control_net": ("CONTROL_NET", {"tooltip": "The ControlNet."}),
                "strength": ("FLOAT", strength),
                "start_percent": ("FLOAT", {**_SHARE, **start}),
                "end_percent": ("FLOAT", {**_SHARE, **end}),
            },
            "optional": {**control_sources(), "vae": ("VAE", {"tooltip": _VAE})},
        }

    def run(
        self, segs, control_net, strength, start_percent=0.0, end_percent=1.0,
        segs_preprocessor=None, control_image=None, vae=None,
    ):  # fmt: skip
        control = ControlNet(control_net, strength, start_percent, end_percent, vae)
        segs = control_segs(
            given_segs(segs), control, attach_control_net, control_image, segs_preprocessor
        )
        return (segs,)


_VAE = "Needed by ControlNets that work on latents, such as those for SD 3 and Flux."


def control_sources() -> dict:
    """The two inputs that say which picture a ControlNet gets."""
    return {
        "segs_preprocessor": (
            "SEGS_PREPROCESSOR",
            {"tooltip": "Makes the control picture from each segment's enlarged crop."},
        ),
        "control_image": (
            "IMAGE",
            {
                "tooltip": "Control picture of the whole image. It is used instead of the "
                "preprocessor. A batch has one for each frame or image."
            },
        ),
    }


class ImpactControlNetApplySEGS(ImpactControlNetApplyAdvancedSEGS):
    DESCRIPTION = (
        "Gives every segment a ControlNet, from the first step to the last. "
        "'ControlNetApply (SEGS)' does the same and more."
    )
    DEPRECATED = True

    @classmethod
    def INPUT_TYPES(cls):
        required = super().INPUT_TYPES()["required"]
        names = ("segs", "control_net", "strength")
        return {
            "required": {name: required[name] for name in names},
            "optional": control_sources(),
        }


class ImpactControlNetClearSEGS(_GivesSegs):
    DESCRIPTION = "Removes all ControlNets and IPAdapters from the segments."
    OUTPUT_TOOLTIPS = ("The segments without them.",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": inputs("segs", segs="The segments from which they are removed.")}

    def run(self, segs):
        return (without_control(given_segs(segs)),)


class ImpactIPAdapterApplySEGS(_GivesSegs):
    DESCRIPTION = (
        "Gives every segment an IPAdapter that gets the part of a reference image around the "
        "segment. Needs the pack ComfyUI_IPAdapter_plus."
    )
    OUTPUT_TOOLTIPS = ("The segments with the IPAdapter, for a detailer.",)

    @classmethod
    def INPUT_TYPES(cls):
        unused = (
            "It has no effect: today's IPAdapter has no such setting. It is kept for older "
            "workflows."
        )
        weight = {"min": -1, "max": 3, "step": 0.05}
        noise = {"default": 0.4, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": unused}
        kinds = ["original", "linear", "channel penalty"]
        pipe = "IPAdapter, CLIP vision and InsightFace (ToIPAdapterPipe of Inspire Pack)."
        start = {"default": 0.0, "tooltip": "Share of the steps after which it begins."}
        end = {"default": 0.9, "tooltip": "Share of the steps after which it ends."}
        unfold = (
            "For clips: each picture of the reference guides only the frame with the same number."
        )
        faceid = "For FaceID v2 models: the second weight is used."
        reference = "The whole reference image. Each segment gets the part around it."
        context = {
            "default": 1.2, "min": 1.0, "max": 100, "step": 0.1,
            "tooltip": "How much of the reference the IPAdapter gets, relative to the segment's "
            "crop region.",
        }  # fmt: skip
        combine = ["concat", "add", "subtract", "average", "norm average"]
        return {
            "required": {
                **inputs("segs", segs="The segments that get the IPAdapter."),
                "ipadapter_pipe": ("IPADAPTER_PIPE", {"tooltip": pipe}),
                "weight": ("FLOAT", {"default": 0.7, **weight, "tooltip": "How strongly."}),
                "noise": ("FLOAT", noise),
                "weight_type": (kinds, {"default": "channel penalty", "tooltip": unused}),
                "start_at": ("FLOAT", {**_SHARE, **start}),
                "end_at": ("FLOAT", {**_SHARE, **end}),
                "unfold_batch": ("BOOLEAN", {"default": False, "tooltip": unfold}),
                "faceid_v2": ("BOOLEAN", {"default": False, "tooltip": faceid}),
                "weight_v2": ("FLOAT", {"default": 1.0, **weight, "tooltip": "See faceid_v2."}),
                "context_crop_factor": ("FLOAT", context),
                "reference_image": ("IMAGE", {"tooltip": reference}),
            },
            "optional": {
                "combine_embeds": (
                    combine,
                    {"tooltip": "How several reference images are combined."},
                ),
                "neg_image": ("IMAGE", {"tooltip": "What the segments should not look like."}),
            },
        }

    def run(
        self, segs, ipadapter_pipe, weight, noise, weight_type, start_at, end_at, unfold_batch,
        faceid_v2, weight_v2, context_crop_factor, reference_image, combine_embeds="concat",
        neg_image=None,
    ):  # fmt: skip
        check_ip_adapter(ipadapter_pipe)
        adapter = IPAdapter(
            ipadapter_pipe, weight, weight_v2 if faceid_v2 else weight, start_at, end_at,
            combine_embeds, unfold_batch, neg_image,
        )  # fmt: skip
        segs = adapt_segs(
            given_segs(segs),
            lambda model, reference: attach_ip_adapter(adapter, model, reference),
            reference_image,
            context_crop_factor,
        )
        return (segs,)


NODES = {
    "ImpactControlNetApplySEGS": (
        ImpactControlNetApplySEGS,
        "ControlNetApply (SEGS) - DEPRECATED",
    ),
    "ImpactControlNetApplyAdvancedSEGS": (
        ImpactControlNetApplyAdvancedSEGS,
        "ControlNetApply (SEGS)",
    ),
    "ImpactControlNetClearSEGS": (ImpactControlNetClearSEGS, "ImpactControlNetClearSEGS"),
    "ImpactIPAdapterApplySEGS": (ImpactIPAdapterApplySEGS, "IPAdapterApply (SEGS)"),
}
