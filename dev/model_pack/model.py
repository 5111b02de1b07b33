"""The analytic diffusion models, as MODEL, CLIP and VAE of the host."""

import time
from dataclasses import dataclass

import comfy.conds
import comfy.controlnet
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import comfy.utils
import torch

from .counters import count
from .families import FAMILIES, Family
from .prior import Prior
from .text import build_clip, prompt_colour
from .vae import AnalyticVAE

SOUND = 0.5


@dataclass(frozen=True)
class Options:
    """How a model behaves beyond its family; the fields are widgets of DetailersTestModel."""

    prior_std: float
    pooled_share: float
    oom_rows: int
    delay: float
    reference_share: float


class AnalyticModel(comfy.model_base.BaseModel):
    """A model of the host whose denoiser is `Prior`, with everything around it as the host does."""

    shares_batches = True  # rows do not see each other

    def __init__(self, family: Family, options: Options, device: torch.device):
        kind = comfy.model_base.ModelType.FLOW if family.flow else comfy.model_base.ModelType.EPS
        super().__init__(_model_config(family), model_type=kind, device=device)
        self.family = family
        self.options = options
        self.diffusion_model = Prior(family, options.prior_std).to(device)
        if family.inpaint:
            self.concat_keys = ("mask", "masked_image")
            self.blank_inpaint_image_like = torch.zeros_like

    def encode_adm(self, **kwargs):
        return kwargs.get("pooled_output") if self.options.pooled_share else None

    def extra_conds(self, **kwargs):
        conds = super().extra_conds(**kwargs)
        if kwargs.get("guidance") is not None:
            guidance = torch.tensor([float(kwargs["guidance"])])
            conds["guidance"] = comfy.conds.CONDRegular(guidance)
        references = kwargs.get("reference_latents")
        if references is not None and self.options.reference_share:
            seen = [self.process_latent_in(reference) for reference in references]
            conds["ref_latents"] = comfy.conds.CONDList(seen)
        if self.family.sound:
            conds["latent_shapes"] = comfy.conds.CONDConstant(kwargs.get("latent_shapes"))
        return conds

    # The host's own version of this method looks the noise level up in a table of timesteps, which
    # rounds it; here the level itself is used.
    def _apply_model(
        self,
        x,
        t,
        c_concat=None,
        c_crossattn=None,
        control=None,
        transformer_options=None,
        y=None,
        guidance=None,
        ref_latents=(),
        latent_shapes=None,
        **kwargs,
    ):
        if latent_shapes is not None and len(latent_shapes) > 1:
            return self._apply_to_streams(x, t, latent_shapes, c_crossattn, transformer_options)
        count(model_calls=1, model_rows=x.shape[0])
        if 0 < self.options.oom_rows < x.shape[0]:
            raise comfy.model_management.OOM_EXCEPTION(
                f"{x.shape[0]} rows are more than oom_rows, {self.options.oom_rows}"
            )
        time.sleep(self.options.delay)
        sigma = t.view(-1, *[1] * (x.ndim - 1)).to(x)
        signal = 1 - sigma if self.family.flow else torch.ones_like(sigma)
        colour = prompt_colour(c_crossattn.to(x))
        if y is not None:
            colour = torch.lerp(colour, y[:, :3].to(x), self.options.pooled_share)
        if guidance is not None:  # as of a model that was distilled to be guided by a number
            colour = colour * guidance.to(x).view(-1, 1)
        mean = self.diffusion_model.mean(colour, like=x)
        if c_concat is not None:  # outside the mask the picture is known
            mask, image = c_concat[:, :1].to(x), c_concat[:, 1:].to(x)
            mean = image + mask * (mean - image)
        for reference in ref_latents:  # brought to the latent's size, as a picture is looked at
            seen = torch.nn.functional.interpolate(reference.to(x), size=x.shape[2:], mode="area")
            mean = torch.lerp(mean, seen, self.options.reference_share)
        for hint in (control or {}).get("output", []):
            mean = mean + hint.to(x)
        mean = mean + _of_patches(x, transformer_options or {})
        return self.diffusion_model(x, sigma, signal, mean)

    def _apply_to_streams(self, x, t, latent_shapes, c_crossattn, transformer_options):
        """The picture as without sound; sounds are expected to be SOUND, one for each channel."""
        picture, sound = comfy.utils.unpack_latents(x, latent_shapes)
        picture = self._apply_model(
            picture, t, c_crossattn=c_crossattn, transformer_options=transformer_options
        )
        level = t.view(-1, *[1] * (sound.ndim - 1)).to(sound)
        variance = self.options.prior_std**2
        share = (1 - level) * variance / ((1 - level) ** 2 * variance + level**2)
        sound = SOUND + share * (sound - (1 - level) * SOUND)
        return comfy.utils.pack_latents([picture, sound])[0]


def _of_patches(x, transformer_options):
    """What patches of transformer blocks add to a latent [N,C,h,w] that is laid out as tokens."""
    patches = transformer_options.get("patches", {}).get("double_block", [])
    tokens = torch.zeros_like(x).flatten(2).movedim(1, 2).contiguous()
    for patch in patches:
        patch({"x": x, "img": tokens, "block_index": 0})
    return tokens.movedim(2, 1).reshape(x.shape)


def _model_config(family: Family) -> comfy.supported_models_base.BASE:
    latent_format = comfy.latent_formats.LatentFormat()
    latent_format.scale_factor = family.scale
    latent_format.latent_channels = family.channels
    latent_format.latent_dimensions = 3 if family.frames else 2
    latent_format.spacial_downscale_ratio = family.ratio
    latent_format.temporal_downscale_ratio = max(family.frames, 1)
    latent_format.latent_rgb_factors = family.rgb_factors()
    config = comfy.supported_models_base.BASE(
        {
            "disable_unet_model_creation": True,
            "in_channels": family.channels * (2 if family.inpaint else 1) + family.inpaint,
            "dtype": torch.float32,
        }
    )
    config.latent_format = latent_format
    config.sampling_settings = {"shift": 3.0} if family.flow else {}
    config.memory_usage_factor = 0.1
    return config


class DetailersTestModel:
    DESCRIPTION = "A model whose results can be computed by hand and cost next to nothing."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "family": (list(FAMILIES), {"tooltip": "Kind of latent and noise schedule."}),
                "prior_std": (
                    "FLOAT",
                    {
                        "default": 0.6,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.001,
                        "tooltip": "How far pictures stray from the prompt's colour; 0 forces it.",
                    },
                ),
            },
            "optional": {
                "pooled_share": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Share of the colour that is read from the pooled text output.",
                    },
                ),
                "oom_rows": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": 4096,
                        "tooltip": "Runs out of memory on more rows than this; 0 never does.",
                    },
                ),
                "delay": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.001,
                        "tooltip": "Seconds that each call of the model takes longer.",
                    },
                ),
                "reference_share": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Share of the picture that is taken from each reference latent.",
                    },
                ),
            },
        }

    def run(self, family, prior_std, pooled_share=0.0, oom_rows=0, delay=0.0, reference_share=0.0):
        kind = FAMILIES[family]
        options = Options(prior_std, pooled_share, oom_rows, delay, reference_share)
        offload_device = comfy.model_management.unet_offload_device()
        model = comfy.model_patcher.ModelPatcher(
            AnalyticModel(kind, options, offload_device),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=offload_device,
        )
        return (model, build_clip(), AnalyticVAE(kind))


class AnalyticControl(comfy.controlnet.ControlBase):
    """A ControlNet that adds strength * colour of its hint to the prior's mean.

    The hint, 0..1, counts as a colour -1..1 and is averaged over each latent cell. For image
    families alone.
    """

    def __init__(self, family: Family):
        super().__init__()
        self.family = family

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options=None):
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(
                x_noisy, t, cond, batched_number, transformer_options
            )
        start, end = self.timestep_range
        if not start >= t[0] >= end:
            return previous
        height, width = x_noisy.shape[-2:]
        ratio = self.family.ratio
        hint = comfy.utils.common_upscale(  # as the host's own ControlNets bring theirs to size
            self.hint[:, :3], width * ratio, height * ratio, "nearest-exact", "center"
        ).to(x_noisy)
        hint = torch.nn.functional.avg_pool2d(hint * 2 - 1, ratio)
        cells = self.family.latent_colour(hint.movedim(1, -1).reshape(-1, 3)) * self.family.gain
        cells = cells.view(len(hint), height, width, -1).movedim(-1, 1)
        cells = self.weighed(cells)
        cells = comfy.utils.repeat_to_batch_size(cells, x_noisy.shape[0] // batched_number)
        cells = cells.repeat(batched_number, 1, 1, 1)
        return self.control_merge({"output": [cells]}, previous, x_noisy.dtype)

    @property
    def hint(self):
        return self.cond_hint_original

    def weighed(self, cells):
        return cells

    def copy(self):
        control = type(self)(self.family)
        self.copy_to(control)
        return control


class DetailersTestControl:
    DESCRIPTION = "A ControlNet that adds its hint's colour to what the prompt asks for."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("CONTROL_NET",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        images = [name for name, family in FAMILIES.items() if not family.frames]
        return {"required": {"family": (images, {"tooltip": "Family of the model it is for."})}}

    def run(self, family):
        return (AnalyticControl(FAMILIES[family]),)
