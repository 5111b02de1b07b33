"""The node that loads the miniature."""


class DetailersMiniatureLoader:
    DESCRIPTION = (
        "A diffusion model of a few million weights that draws the characters of one cartoon world."
        " It is for tests, the demo and the bench; for pictures of anything else load a checkpoint."
    )
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        from .loader import build_clip, build_model, build_vae  # only now, as they need the host

        return build_model(), build_clip(), build_vae()
