"""The least possible work of a detailer for given segments, with the host's own functions.

The bench compares the pack with these. They take each segment as it is: no skipping, no checks, no
hooks, no padding.
"""

import comfy.samplers
import nodes
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur


class DetailersTestBare:
    DESCRIPTION = (
        "The least work that details the segments of an image, or of all frames of a video, which"
        " make one latent batch."
    )
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        samplers = comfy.samplers.KSampler.SAMPLERS
        schedulers = comfy.samplers.KSampler.SCHEDULERS
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "Picture, or the frames of a video."}),
                "segs": ("SEGS", {"tooltip": "Where to work."}),
                "model": ("MODEL", {"tooltip": "Samples the crops."}),
                "vae": ("VAE", {"tooltip": "Encodes and decodes them."}),
                "positive": ("CONDITIONING", {"tooltip": "What to sample."}),
                "negative": ("CONDITIONING", {"tooltip": "What not."}),
                "side": (
                    "INT",
                    {
                        "default": 512,
                        "min": 8,
                        "max": 8192,
                        "tooltip": "Crop's shorter side sampled.",
                    },
                ),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 2**64 - 1,
                        "tooltip": "Segment i has seed + i.",
                    },
                ),
                "steps": (
                    "INT",
                    {"default": 20, "min": 1, "max": 10000, "tooltip": "Sampler steps."},
                ),
                "cfg": (
                    "FLOAT",
                    {"default": 4.0, "min": 0.0, "max": 100.0, "tooltip": "Guidance."},
                ),
                "sampler_name": (samplers, {"default": "euler", "tooltip": "Sampler."}),
                "scheduler": (schedulers, {"default": "normal", "tooltip": "Noise schedule."}),
                "denoise": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0001,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Denoise.",
                    },
                ),
                "feather": (
                    "INT",
                    {"default": 5, "min": 0, "max": 100, "tooltip": "Blur of the paste mask."},
                ),
            }
        }

    def run(self, image, segs, feather, **settings):
        return (_detail(image, segs, feather, settings),)


def _detail(image: torch.Tensor, segs, feather: int, settings: dict) -> torch.Tensor:
    """A copy of the images [B,H,W,3] with every segment sampled anew in all of them."""
    out = image.clone()
    for i, seg in enumerate(segs[1]):
        x1, y1, x2, y2 = seg.crop_region
        region = out[:, y1:y2, x1:x2]
        mask = torch.as_tensor(seg.cropped_mask).reshape(-1, y2 - y1, x2 - x1)
        sampled = _sample(region, mask, i, **settings)
        if feather:
            mask = gaussian_blur(mask, 2 * feather + 1, 10.0)
        region += mask[..., None] * (sampled - region)
    return out


def _sample(
    crop, mask, index, *, model, vae, side, seed, steps, cfg, sampler_name, scheduler, **rest
):
    height, width = crop.shape[1:3]
    scale = side / min(height, width)
    size = (int(height * scale) // 8 * 8, int(width * scale) // 8 * 8)
    latent = {"samples": vae.encode(_resize(crop, size)), "noise_mask": mask}
    (latent,) = nodes.common_ksampler(
        model, seed + index, steps, cfg, sampler_name, scheduler, latent=latent, **rest
    )
    pixels = vae.decode(latent["samples"])
    pixels = pixels.reshape(-1, *pixels.shape[-3:])  # a video latent gives [1,F,H,W,3]
    return _resize(pixels, (height, width))


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images [B,H,W,C] at another size (height, width)."""
    image = interpolate(image.movedim(-1, 1), size=size, mode="bicubic", antialias=True)
    return image.clamp(0, 1).movedim(1, -1)
