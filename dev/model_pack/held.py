"""Pictures and masks of the whole image, as other packs put them into models and ControlNets."""

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_extras.nodes_model_patch import DiffSynthCnetPatch
from torch.nn.functional import interpolate

from .model import AnalyticControl

_STRENGTH = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01, "tooltip": "How strongly."}


class TokenControl(torch.nn.Module):
    """The network of a control patch: the tokens of its picture's latent are what it adds."""

    additional_in_dim = 0

    def __init__(self, scale: float):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def process_input_latent_image(self, latent):
        return (latent * self.scale).flatten(2).movedim(1, 2)

    def control_block(self, img, encoded, block_id):
        return encoded


class DetailersTestModelPatch:
    DESCRIPTION = "Control as the host patches it into transformers: a picture's latent is added."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "An analytic model."}),
                "vae": ("VAE", {"tooltip": "Its VAE."}),
                "image": ("IMAGE", {"tooltip": "The control picture."}),
                "strength": ("FLOAT", _STRENGTH),
            }
        }

    def run(self, model, vae, image, strength):
        control = comfy.model_patcher.ModelPatcher(
            TokenControl(model.model.family.scale),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
        patched = model.clone()
        patch = DiffSynthCnetPatch(control, vae, image, strength)
        patched.set_model_double_block_patch(patch)
        return (patched,)


class MaskedAttention:
    """An attention replacement that doubles what a mask of the whole image covers."""

    def __init__(self, **kwargs):
        self.kwargs = [kwargs]

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        height, width = extra_options["original_shape"][-2:]
        scale = (height * width / q.shape[1]) ** 0.5
        for held in self.kwargs:
            size = (round(height / scale), round(width / scale))
            mask = interpolate(held["mask"][:, None].to(out), size=size, mode="bilinear")
            out = out * (1 + mask.reshape(len(mask), -1, 1))
        return out


class DetailersTestAttentionMask:
    DESCRIPTION = "Attention with a mask in it, as adapters of other packs patch it in."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A model with a UNet."}),
                "mask": ("MASK", {"tooltip": "Of the whole image."}),
            }
        }

    def run(self, model, mask):
        patched = model.clone()
        for block in ("input", "middle", "output"):
            for number in range(12):
                patched.set_model_attn2_replace(MaskedAttention(mask=mask), block, number)
        return (patched,)


class WrappedHint:
    """What a ControlNet of another pack takes instead of a picture."""

    def __init__(self, picture):
        self.condhint = picture


class MaskedControl(AnalyticControl):
    """A ControlNet with a mask of its own, and perhaps a hint that is no picture."""

    def __init__(self, family):
        super().__init__(family)
        self.mask_cond_hint_original = None

    @property
    def hint(self):
        hint = self.cond_hint_original
        return hint.condhint if isinstance(hint, WrappedHint) else hint

    def weighed(self, cells):
        if self.mask_cond_hint_original is None:
            return cells
        mask = self.mask_cond_hint_original[:, None].to(cells)
        return cells * interpolate(mask, size=cells.shape[-2:], mode="area")

    def copy(self):
        control = super().copy()
        control.mask_cond_hint_original = self.mask_cond_hint_original
        return control


class DetailersTestMaskedControl:
    DESCRIPTION = "Guides a conditioning by a ControlNet as another pack may bring it."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "conditioning": ("CONDITIONING", {"tooltip": "What it is added to."}),
                "control_net": ("CONTROL_NET", {"tooltip": "An analytic one."}),
                "image": ("IMAGE", {"tooltip": "The hint."}),
                "strength": ("FLOAT", _STRENGTH),
                "wrapped": ("BOOLEAN", {"default": False, "tooltip": "The hint is no tensor."}),
            },
            "optional": {"mask": ("MASK", {"tooltip": "Where it guides."})},
        }

    def run(self, conditioning, control_net, image, strength, wrapped, mask=None):
        control, hint = MaskedControl(control_net.family), image.movedim(-1, 1)
        control.set_cond_hint(WrappedHint(hint) if wrapped else hint, strength, (0.0, 1.0))
        control.mask_cond_hint_original = mask
        own = {"control": control, "control_apply_to_uncond": True}
        return ([[tokens, {**options, **own}] for tokens, options in conditioning],)
