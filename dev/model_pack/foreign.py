"""Objects as other packs put them into models, ControlNets and samplers, for tests of batches."""

import copy
import hashlib
import json
import pickle
import random
import sys
from collections import OrderedDict
from types import MethodType

import comfy.controlnet
import comfy.hooks
import comfy.patcher_extension
import numpy as np
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper

from .counters import count


class Counter:
    """A wrapper around each call of the network that counts it, and says that it may be shared."""

    shares_batches = True

    def __call__(self, executor, x, *args, **options):
        count(model_calls=1, model_rows=x.shape[0])
        return executor(x, *args, **options)


class FirstBlockCache:
    """A `model_function_wrapper` that sometimes returns its last result again.

    It decides this by a mean over the whole batch.
    """

    def __init__(self):
        self.result = None

    def __call__(self, apply_model, call):
        x = call["input"]
        fits = self.result is not None and self.result.shape == x.shape
        if not (fits and x.mean() > 0):
            self.result = apply_model(x, call["timestep"], **call["c"])
        return self.result


def reference_for_each_row(q, k, v, extra_options):
    """An attention patch by which row i sees reference i."""
    rows = torch.arange(1, len(v) + 1).to(v).view(-1, 1, 1)
    return q, k, v * (1 + rows / 4)


def random_attention(out, extra_options):
    """An attention patch that draws from torch's global generator."""
    return out + 0.3 * torch.randn_like(out)


def other_random_attention(out, extra_options):
    """An attention patch that draws from the generators of Python and NumPy."""
    return out * (1 + random.random() * float(np.random.rand()))  # noqa: S311 - no secret


def plain_wrapper(executor, *args, **options):
    return executor(*args, **options)


def mean_over_rows(args):
    """Guidance that pulls all rows towards their mean."""
    denoised = args["denoised"]
    return torch.lerp(denoised, denoised.mean(0, keepdim=True), 0.5)


class OtherSampling:
    """Stands in for a noise schedule, and is one of another pack."""

    def __init__(self, target):
        self.__dict__.update(target=target)

    def __getattr__(self, name):
        return getattr(self.target, name)


class ChoosingControlNet(comfy.controlnet.ControlNet):
    """A ControlNet whose strength grows from row to row."""

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        control = super().get_control(x_noisy, t, cond, batched_number, transformer_options)
        for outputs in control.values():
            for output in outputs:
                rows = len(output) // batched_number
                growing = torch.linspace(0.2, 1, rows).repeat(batched_number)
                output *= growing.to(output).view(-1, 1, 1, 1)
        return control

    def copy(self):
        control = ChoosingControlNet(None, load_device=self.load_device)
        control.__dict__.update(self.__dict__)
        return control


def _transformer_option(model):
    model.model_options["transformer_options"]["state"] = object()


def _copied_network(model):
    """A network of the model's own, so that the loaded one stays as it is."""
    model.model = copy.copy(model.model)
    network = copy.copy(model.model.diffusion_model)
    model.model._modules = {**model.model._modules, "diffusion_model": network}
    return network


def _method(model):
    network = _copied_network(model)
    network.forward = MethodType(type(network).forward, network)


def _hooked_part(model):
    _copied_network(model)._forward_hooks = OrderedDict({0: lambda *call: None})


def _network_class(model):
    network = _copied_network(model)
    network.__class__ = type("OtherNetwork", (type(network),), {})


def _class_method(model):
    """As where a pack replaces a method of the host's class."""
    network = _copied_network(model)
    kind = type(network)
    same = {"__module__": kind.__module__, "forward": lambda self, *args: None}
    network.__class__ = type(kind.__name__, (kind,), same)


def _model_class(model):
    _copied_network(model)
    model.model.__class__ = type("OtherModel", (type(model.model),), {})


def _patcher_class(model):
    model.__class__ = type("OtherPatcher", (type(model),), {})


def _injection(model):
    nothing = comfy.patcher_extension.PatcherInjection(lambda patcher: None, lambda patcher: None)
    model.set_injections("other", [nothing])


_WRAPPERS = comfy.patcher_extension.WrappersMP
_CALLBACKS = comfy.patcher_extension.CallbacksMP
PATCHES = {
    "counted": lambda model: model.add_wrapper(_WRAPPERS.APPLY_MODEL, Counter()),
    "compiled": lambda model: set_torch_compile_wrapper(model, backend="eager"),
    "first block cache": lambda model: model.set_model_unet_function_wrapper(FirstBlockCache()),
    "reference for each row": lambda model: model.set_model_attn2_patch(reference_for_each_row),
    "random attention": lambda model: model.set_model_attn1_output_patch(random_attention),
    "other random attention": lambda model: model.set_model_attn1_output_patch(
        other_random_attention
    ),
    "replaced attention": lambda model: model.set_model_attn1_replace(
        random_attention, "middle", 0, 0
    ),
    "guidance": lambda model: model.set_model_sampler_post_cfg_function(mean_over_rows),
    "old guidance": lambda model: model.set_model_sampler_cfg_function(lambda a, b, scale: a),
    "outer wrapper": lambda model: model.add_wrapper(_WRAPPERS.OUTER_SAMPLE, plain_wrapper),
    "inner wrapper": lambda model: model.add_wrapper(_WRAPPERS.DIFFUSION_MODEL, plain_wrapper),
    "callback": lambda model: model.add_callback(_CALLBACKS.ON_PRE_RUN, lambda patcher: None),
    "schedule": lambda model: model.add_object_patch(
        "model_sampling", OtherSampling(model.get_model_object("model_sampling"))
    ),
    "context": lambda model: model.model_options.update(context_handler=object()),
    "state": _transformer_option,
    "method": _method,
    "hooked part": _hooked_part,
    "injection": _injection,
    "additional model": lambda model: model.set_additional_models("other", [model.clone()]),
    "network class": _network_class,
    "class method": _class_method,
    "model class": _model_class,
    "patcher class": _patcher_class,
}


class DetailersTestForeign:
    DESCRIPTION = "Patches a model as some pack would."
    NOT_IDEMPOTENT = True  # a patch may keep a state, which nodes must not share
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "What is patched."}),
                "patch": (list(PATCHES), {"tooltip": "With what."}),
            }
        }

    def run(self, model, patch):
        model = model.clone()
        PATCHES[patch](model)
        return (model,)


class DetailersTestForeignControl:
    DESCRIPTION = "A ControlNet as one of another pack's class, that chooses by row."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("CONTROL_NET",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"control_net": ("CONTROL_NET", {"tooltip": "A ControlNet."})}}

    def run(self, control_net):
        control = ChoosingControlNet(None, load_device=control_net.load_device)
        control.__dict__.update(control_net.__dict__)
        return (control,)


class DetailersTestRandomState:
    DESCRIPTION = "Where the process's random generators are, as texts."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": {"after": ("*", {"tooltip": "Computed before."})}}

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")

    def run(self, after=None):
        states = [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()]
        return (json.dumps([hashlib.sha256(pickle.dumps(state)).hexdigest() for state in states]),)


def _host_module():
    """The pack under test, in this server under whatever name."""
    return next(
        module
        for name, module in sys.modules.items()
        if name.endswith(".core.host.backend") and hasattr(module, "ComfyBackend")
    )


HOOKS = {
    "none": lambda: None,
    "weights": comfy.hooks.WeightHook,
    "options": lambda: comfy.hooks.TransformerOptionsHook(transformers_dict={}),
}


class DetailersTestWhyAlone:
    DESCRIPTION = "Why a run of the sampler would not share a batch; empty if it would."
    CATEGORY = "detailers/test"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "Of the run."}),
                "positive": ("CONDITIONING", {"tooltip": "Of the run."}),
                "latent": ("LATENT", {"tooltip": "Of the run."}),
                "sampler_name": ("STRING", {"default": "euler", "tooltip": "Of the run."}),
                "hook": (list(HOOKS), {"default": "none", "tooltip": "In the conditioning."}),
            }
        }

    def run(self, model, positive, latent, sampler_name, hook):
        host = _host_module()
        hooks = HOOKS[hook]()
        if hooks is not None:
            group = comfy.hooks.HookGroup()
            group.add(hooks)
            positive = [[tokens, {**options, "hooks": group}] for tokens, options in positive]
        sigmas, samples = torch.tensor([1.0, 0.0]), latent["samples"]
        run = host.SamplerRun(
            model, positive, positive, 1.0, sampler_name, sigmas, sigmas, 0,
            torch.zeros_like(samples), samples,
        )  # fmt: skip
        return (host.ComfyBackend().why_alone(run) or "",)
