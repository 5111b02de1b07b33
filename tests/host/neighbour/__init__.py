"""A pack that works with ComfyUI-Impact-Pack's nodes and modules as many packs do.

It calls classes out of the host's list and functions of modules, derives nodes, and draws its texts
as prompts arrive. It also changes how the process reads files, see `readers`. Loaded as `early` it
comes before what it needs, as `late` after.
"""

import inspect
from pathlib import Path

import nodes
import server

from . import readers

WHEN = Path(__file__).parent.name
_ANY = {"image": ("IMAGE",), "segs": ("SEGS",), "basic_pipe": ("BASIC_PIPE",)}


class Detail:
    """Details an image in one of the ways in which packs do it."""

    CATEGORY = "neighbour"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "work"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {**_ANY, "way": ("STRING", {})}}

    def work(self, image, segs, basic_pipe, way):
        return (getattr(self, way)(image, segs, *basic_pipe),)

    def object(self, image, segs, *models):
        return nodes.NODE_CLASS_MAPPINGS["DetailerForEach"]().doit(*settings(image, segs, models))[
            0
        ]

    def on_class(self, image, segs, *models):
        return nodes.NODE_CLASS_MAPPINGS["DetailerForEach"].doit(*settings(image, segs, models))[0]

    def named(self, image, segs, *models):
        """By the method that the class names, with notes to tell, and taken apart."""
        kind = nodes.NODE_CLASS_MAPPINGS["DetailerForEach"]
        given = dict(
            zip(inspect.signature(older).parameters, settings(image, segs, models), strict=False)
        )
        given["wildcard"] = "red <lora:none-of-that-name>"
        (result,) = getattr(kind(), kind.FUNCTION)(**given)
        return result

    def function(self, image, segs, *models):
        from impact.impact_pack import DetailerForEach

        image, crops, *_ = DetailerForEach.do_detail(*settings(image, segs, models))
        assert len(crops) == len(segs[1])
        return image

    def by_hand(self, image, segs, model, clip, vae, positive, negative):
        """Segment for segment, with the functions of the modules."""
        import impact.core as core
        from impact import utils

        image = image.clone()
        for seg in core.segs_scale_match(segs, image.shape)[1]:
            crop = utils.to_tensor(utils.crop_ndarray4(image.numpy(), seg.crop_region))
            new, _ = core.enhance_detail(
                crop, model, clip, vae, 64, True, 128, seg.bbox, 5, 4, 1.0, "euler", "simple",
                positive, negative, 0.5, seg.cropped_mask, True,
            )  # fmt: skip
            mask = utils.tensor_gaussian_blur_mask(seg.cropped_mask, 3)
            utils.tensor_paste(image, new, tuple(seg.crop_region[:2]), mask)
        return utils.tensor_convert_rgb(image)


def settings(image, segs, models):
    """What the older node takes, in its order."""
    model, clip, vae, positive, negative = models
    return (
        image, segs, model, clip, vae, 64, True, 128, 5, 4, 1.0, "euler", "simple", positive,
        negative, 0.5, 3, True, True, "",
    )  # fmt: skip


def older(
    image, segs, model, clip, vae, guide_size, guide_size_for, max_size, seed, steps, cfg,
    sampler_name, scheduler, positive, negative, denoise, feather, noise_mask, force_inpaint,
    wildcard, cycle=1, detailer_hook=None, inpaint_model=False, noise_mask_feather=0,
    scheduler_func_opt=None, tiled_encode=False, tiled_decode=False,
):  # fmt: skip
    """The signature of the older node."""


class Sample:
    """Samples by the regional sampler's function, and with noise of its own."""

    CATEGORY = "neighbour"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "work"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"basic_pipe": ("BASIC_PIPE",), "latent": ("LATENT",)}}

    def work(self, basic_pipe, latent):
        import comfy.sample

        model, _, _, positive, negative = basic_pipe
        noise = comfy.sample.prepare_noise(latent["samples"], 5)
        seen = []
        result = nodes.NODE_CLASS_MAPPINGS["RegionalSampler"].separated_sample(
            model=model, add_noise=True, seed=5, steps=8, cfg=1.0, sampler_name="euler",
            scheduler="simple", positive=positive, negative=negative, latent_image=latent,
            start_at_step=4, end_at_step=None, return_with_leftover_noise=False, noise=noise,
            callback=lambda step, x0, x, total: seen.append(x), scheduler_func=None,
        )  # fmt: skip
        assert len(seen) == 4
        return (result,)


class Text:
    """Gives a text that is drawn as the prompt arrives."""

    CATEGORY = "neighbour"
    RETURN_TYPES = ("STRING", "CONDITIONING")
    FUNCTION = "work"

    @classmethod
    def INPUT_TYPES(cls):
        texts = {name: ("STRING", {}) for name in ("wildcard_text", "populated_text")}
        return {"required": {**texts, "seed": ("INT", {}), "clip": ("CLIP",)}}

    def work(self, wildcard_text, populated_text, seed, clip):
        class Encoder:
            def encode(self, clip, text):
                return nodes.CLIPTextEncode().encode(clip, text)

        process = nodes.NODE_CLASS_MAPPINGS["ImpactWildcardEncode"].process_with_loras
        _, _, conditioning = process(
            wildcard_opt=populated_text, model=None, clip=clip, clip_encoder=Encoder()
        )
        return populated_text, conditioning


def on_prompt(request):
    processor = nodes.NODE_CLASS_MAPPINGS.get("ImpactWildcardProcessor")
    for node in request["prompt"].values():
        if node["class_type"] == f"NeighbourText {WHEN}" and hasattr(processor, "process"):
            inputs = node["inputs"]
            text = processor.process(text=inputs["wildcard_text"], seed=inputs["seed"])
            inputs["populated_text"] = text
    return request


server.PromptServer.instance.add_on_prompt_handler(on_prompt)
NODE_CLASS_MAPPINGS = {
    f"Neighbour{kind.__name__} {WHEN}": kind for kind in (Detail, Sample, Text, readers.Read)
}  # fmt: skip

if "DetailerForEach" in nodes.NODE_CLASS_MAPPINGS:

    class Derived(nodes.NODE_CLASS_MAPPINGS["DetailerForEach"]):
        """Knows the older inputs alone."""

        CATEGORY = "neighbour"

        def doit(
            self, image, segs, model, clip, vae, guide_size, guide_size_for, max_size, seed, steps,
            cfg, sampler_name, scheduler, positive, negative, denoise, feather, noise_mask,
            force_inpaint, wildcard, cycle=1, detailer_hook=None, inpaint_model=False,
            noise_mask_feather=0, scheduler_func_opt=None, tiled_encode=False, tiled_decode=False,
        ):  # fmt: skip
            (result,) = super().doit(
                image, segs, model, clip, vae, guide_size, guide_size_for, max_size, seed, steps,
                cfg, sampler_name, scheduler, positive, negative, denoise, feather, noise_mask,
                force_inpaint, wildcard, cycle, detailer_hook, inpaint_model, noise_mask_feather,
            )  # fmt: skip
            return (1 - result,)

    class Borrowed:
        """Has nothing of the older node but its inputs."""

        CATEGORY = "neighbour"
        RETURN_TYPES = ("IMAGE",)
        FUNCTION = "work"

        @classmethod
        def INPUT_TYPES(cls):
            inputs = nodes.NODE_CLASS_MAPPINGS["DetailerForEach"].INPUT_TYPES()
            inputs["optional"]["enabled"] = ("BOOLEAN", {"default": True})
            return inputs

        def work(self, enabled=True, **inputs):
            unknown = inputs.keys() - inspect.signature(older).parameters.keys()
            assert not unknown, unknown
            return (inputs["image"],)

    NODE_CLASS_MAPPINGS |= {
        f"NeighbourDerived {WHEN}": Derived,
        f"NeighbourBorrowed {WHEN}": Borrowed,
    }
