"""The parts of hooks, ControlNets and IPAdapters of segments that need ComfyUI."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import folder_paths
import nodes as host_nodes
import torch

from ..backend import SamplerRun
from ..geometry import Size
from ..pixels.image import usable
from ..pixels.mask import for_latent
from ..pixels.resample import resize
from ..prompts.control import ControlNet
from ..sampling.latent import sampled
from ..settings import Conditioning
from ..streams import picture, with_picture, without_noise
from .backend import ComfyBackend, call_node
from .partial_runs import draws_on_the_way, in_latent, stopping_at_a_level

PREVIEW_SIDE = 2048  # the longer side of a preview in a node has at most this many pixels
# Sampling backwards starts from this noise level, since a model cannot be called at level 0.
_LEAST_SIGMA = 1e-4
_SUBSTEPS = 4  # each step of the schedule is divided into this many steps backwards


def compute_device() -> torch.device:
    """The device on which ComfyUI runs its models."""
    return comfy.model_management.get_torch_device()


# Sampling backwards ------------------------------------------------------------------------


@dataclass(frozen=True)
class Unsampling:
    """How a latent is turned into noise; the fields are the inputs of the node."""

    model: Any
    positive: Conditioning
    negative: Conditioning | str
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str


def unsample(how: Unsampling, latent: dict, end_at_step: int) -> torch.Tensor:
    """Sample backwards: from no noise upwards, along the schedule in reverse.

    Args:
        end_at_step: the step of the schedule whose noise level is reached. Step 0 has the most
            noise; the last step has almost none.

    Returns:
        Samples [B,C,h,w] or [B,C,T,h,w] with noise of that level, as the model sees them. With a
        flow model they hold less of the picture the more noise they hold. The part outside of the
        noise mask stays as it is.

    Raises:
        ValueError: the sampler cannot sample backwards.
    """
    backend = ComfyBackend()
    schedule = backend.sigmas(how.model, how.sampler_name, how.scheduler, how.steps, None)
    rising = (schedule.flip(0) + _LEAST_SIGMA).clamp(max=float(schedule.max()))
    run = max(1, how.steps - min(end_at_step, how.steps - 1))
    sigmas = _finer(rising[: run + 1])
    samples, mask = latent["samples"], latent.get("noise_mask")
    request = SamplerRun(
        how.model, how.positive, how.negative, how.cfg, how.sampler_name, sigmas, rising, 0,
        without_noise(samples), samples, mask, whole=sigmas.flip(0),
    )  # fmt: skip
    if draws_on_the_way(how.sampler_name):
        raise _not_backwards(how.sampler_name)
    sampler, reached = stopping_at_a_level(how.sampler_name)
    sampled(replace(request, sampler=sampler), lambda step, total, denoised: None, backend)
    result = in_latent(reached[-1], how.model, samples)
    own = picture(result)
    if not usable(own):
        raise _not_backwards(how.sampler_name)
    if mask is None:
        return result
    mask = picture(mask)
    share = for_latent(mask.reshape(-1, *mask.shape[-2:]).to(own), own).clamp(0, 1)
    own = torch.lerp(picture(samples).to(own), own, share)  # outside of the mask no bit changes
    return with_picture(result, own)


def _finer(sigmas: torch.Tensor) -> torch.Tensor:
    """Noise levels with additional levels between each two.

    The steps of a schedule are too long for sampling backwards: each step uses the model's
    prediction at the level before, which has too little noise, and these errors add up.
    """
    shares = torch.arange(_SUBSTEPS) / _SUBSTEPS
    between = sigmas[:-1, None] + shares * sigmas.diff()[:, None]
    return torch.cat([between.flatten(), sigmas[-1:]])


def _not_backwards(sampler_name: str) -> ValueError:
    return ValueError(
        f"'sampler_name' is {sampler_name!r}, which cannot sample backwards, from little noise to "
        "much noise. Samplers that add noise in their steps cannot do this. Choose euler, heun or "
        "dpmpp_2m."
    )


# Previews in a node while another node runs --------------------------------------------------


def show_in_node(node_id: str, quality: int) -> Callable[[torch.Tensor], None]:
    """A function that shows an image [1,H,W,3] 0..1 in a node, in place of the one before."""

    def show(image: torch.Tensor) -> None:
        from server import PromptServer

        server = getattr(PromptServer, "instance", None)
        if server is None or server.client_id is None:  # nobody is looking
            return
        entry = _write_preview(image, node_id, quality)
        message = {
            "node": node_id,
            "display_node": node_id,
            "output": {"images": [entry]},
            "prompt_id": server.last_prompt_id,
        }
        server.send_sync("executed", message, server.client_id)

    return show


def _write_preview(image: torch.Tensor, node_id: str, quality: int) -> dict[str, str]:
    from PIL import Image

    height, width = image.shape[1:3]
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    image = resize(image, Size(max(1, round(width * scale)), max(1, round(height * scale))))
    pixels = image[0].mul(255).round().clamp(0, 255).to("cpu", torch.uint8).numpy()
    subfolder = "detailers_preview"
    folder = os.path.join(folder_paths.get_temp_directory(), subfolder)
    os.makedirs(folder, exist_ok=True)
    name = re.sub(r"\W", "_", str(node_id)) + ".jpg"
    path = os.path.join(folder, name)
    Image.fromarray(pixels).save(f"{path}.part", "JPEG", quality=quality)
    os.replace(f"{path}.part", path)  # so the editor never reads an unfinished file
    return {"filename": name, "subfolder": subfolder, "type": "temp"}


# Removing things ---------------------------------------------------------------------------


def lama_remover(threshold: int, blur: int) -> Callable | None:
    """A function that fills masked pixels with the LaMa model of the pack comfyui-lama-remover.

    It takes pixels [N,h,w,3] and a mask [N,h,w], and gives pixels. None: the pack is not installed.
    """
    if "LamaRemover" not in host_nodes.NODE_CLASS_MAPPINGS:
        return None

    def fill(pixels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        filled = call_node(
            "LamaRemover", images=pixels, masks=mask, mask_threshold=threshold,
            gaussblur_radius=blur, invert_mask=False,
        )[0]  # fmt: skip
        return filled.to(pixels)

    return fill


# ControlNet and IPAdapter ------------------------------------------------------------------


def attach_control_net(
    control: ControlNet,
    positive: Conditioning,
    negative: Conditioning | str,
    hint: torch.Tensor,
) -> tuple[Conditioning, Conditioning | str]:
    """Add a ControlNet with the hint [N,h,w,3] 0..1 to both conditionings.

    A text in place of the negative conditioning stays as it is.
    """
    has_negative = not isinstance(negative, str)
    vae = {} if control.vae is None else {"vae": control.vae}
    positive, guided = call_node(
        "ControlNetApplyAdvanced", positive=positive, negative=negative if has_negative else [],
        control_net=control.net, image=hint, strength=control.strength,
        start_percent=control.start, end_percent=control.end, **vae,
    )  # fmt: skip
    return positive, guided if has_negative else negative


@dataclass(frozen=True)
class IPAdapter:
    """An IPAdapter and its settings."""

    pipe: tuple  # ipadapter, model, clip_vision, insightface, lora_loader
    weight: float
    weight_faceid: float
    start: float  # share of the steps, 0..1
    end: float
    combine_embeds: str
    frame_by_frame: bool  # picture i of the reference guides only frame i
    negative: torch.Tensor | None = None  # [N,H,W,3] 0..1


def check_ip_adapter(pipe: Any) -> None:
    """Check that an IPADAPTER_PIPE can be used.

    Raises:
        RuntimeError: the pack ComfyUI_IPAdapter_plus is not installed.
        ValueError: the pipe does not have the five expected parts.
    """
    if "IPAdapterAdvanced" not in host_nodes.NODE_CLASS_MAPPINGS:
        raise RuntimeError(
            "IPAdapterApply (SEGS) uses the node IPAdapterAdvanced of the custom node pack "
            "ComfyUI_IPAdapter_plus, which is not installed. Install it, or bypass this node."
        )
    if not (isinstance(pipe, tuple | list) and len(pipe) == 5):
        size = len(pipe) if isinstance(pipe, tuple | list) else type(pipe).__name__
        raise ValueError(
            "'ipadapter_pipe' should hold ipadapter, model, clip_vision, insightface and a LoRA "
            f"loader, but has {size}. Make it with ToIPAdapterPipe or IPAdapterModelHelper of a "
            "current ComfyUI-Inspire-Pack."
        )


def attach_ip_adapter(adapter: IPAdapter, model: Any, reference: torch.Tensor) -> Any:
    """The model with an IPAdapter that gets the pictures `reference` [N,h,w,3] 0..1."""
    ipadapter, _, clip_vision, insightface, load_lora = adapter.pipe
    node = "IPAdapterBatch" if adapter.frame_by_frame else "IPAdapterAdvanced"
    return call_node(
        node, model=load_lora(model), ipadapter=ipadapter, image=reference,
        image_negative=adapter.negative, clip_vision=clip_vision, insightface=insightface,
        weight=adapter.weight, weight_type="linear", weight_faceidv2=adapter.weight_faceid,
        start_at=adapter.start, end_at=adapter.end, combine_embeds=adapter.combine_embeds,
    )[0]  # fmt: skip
