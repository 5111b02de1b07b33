"""Make pictures of latents without their VAE."""

from __future__ import annotations

from typing import Any

import comfy.latent_formats
import comfy.model_management
import latent_preview
import torch

from ...utils.notes import note
from ..detectors.safe_weights import expect_plain
from ..streams import picture
from .backend import ComfyBackend
from .folders import find_file

_FORMATS = {
    "FLUX.1": "Flux",
    "SDXL": "SDXL",
    "SD15": "SD15",
    "SD3": "SD3",
    "SD-X4": "SD_X4",
    "Playground-2.5": "SDXL_Playground_2_5",
    "SC-Prior": "SC_Prior",
    "SC-B": "SC_B",
    "LTXV": "LTXV",
}
_TINY = {"TAEF1": "Flux", "TAESDXL": "SDXL", "TAESD15": "SD15", "TAESD3": "SD3"}
PREVIEW_METHODS = [*(f"Latent2RGB-{name}" for name in _FORMATS), *_TINY]


def decoded(latent: dict[str, Any], method: str, vae: Any) -> torch.Tensor:
    """A picture of a LATENT, at the size of the decoded image.

    Args:
        method: one of `PREVIEW_METHODS`. It is used if there is no VAE, for the first row only.
        vae: a VAE that decodes all rows. None: the method is used.

    Returns:
        [B,H,W,3], 0..1.

    Raises:
        ValueError: the method is made for latents with another number of channels.
    """
    samples = picture(latent["samples"])
    if vae is not None:
        return ComfyBackend().decode(vae, samples, tiled=False)[..., :3].clamp(0, 1)
    name = _TINY.get(method) or _FORMATS[method.removeprefix("Latent2RGB-")]
    form = getattr(comfy.latent_formats, name)()
    if samples.shape[1] != form.latent_channels:
        raise ValueError(
            f"'preview_method' is {method!r}, which is made for latents with "
            f"{form.latent_channels} channels, but this latent has {samples.shape[1]}. Choose the "
            "method for the model that made the latent, or connect its VAE to 'vae_opt'."
        )
    values = form.process_in(samples[:1].float())
    tiny = _tiny_decoder(form) if method in _TINY else None
    if tiny is not None:
        device = comfy.model_management.get_torch_device()
        row = (values[:, :, 0] if values.ndim == 5 else values).to(device)
        shown = tiny.to(device).decode(row).movedim(1, -1) / 2 + 0.5
        return shown.to(samples.device)
    shown = _rgb(form, values)
    ratio = int(getattr(form, "spacial_downscale_ratio", 8))
    return shown.repeat_interleave(ratio, 1).repeat_interleave(ratio, 2)


def _rgb(form: Any, values: torch.Tensor) -> torch.Tensor:
    import numpy as np

    previewer = latent_preview.Latent2RGBPreviewer(
        form.latent_rgb_factors,
        form.latent_rgb_factors_bias,
        getattr(form, "latent_rgb_factors_reshape", None),
    )
    return torch.from_numpy(np.array(previewer.decode_latent_to_preview(values)))[None] / 255


def _tiny_decoder(form: Any) -> Any:
    path = find_file("vae_approx", form.taesd_decoder_name)
    if path is None:
        note(
            "preview",
            f"The file {form.taesd_decoder_name} is not in models/vae_approx, so the preview is"
            " less exact. Put the file there for a better one.",
        )
        return None
    expect_plain(path)
    return latent_preview.TAESD(None, path, latent_channels=form.latent_channels)
