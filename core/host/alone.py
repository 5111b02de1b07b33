"""Find the reason why a sampler run must not be a row of a larger one, if there is a reason.

A run is sampled alone if any part of it is not known to treat every row by itself. The known parts
are listed in `core/host/row_by_row.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import comfy.controlnet
import comfy.hooks
import comfy.k_diffusion.sampling
import comfy.model_base
import comfy.model_patcher
import comfy.samplers
import torch

from ..backend import SamplerRun
from .row_by_row import CONTROLS, FUNCTIONS, MODELS, MODELS_ALONE, SAMPLERS

_HOST = Path(comfy.samplers.__file__).resolve().parent.parent
_FOLDERS = ("comfy", "comfy_extras", "comfy_api")  # the folders of ComfyUI with its own code
_TORCH = str(Path(torch.__file__).parent)
_NO_GRAD = torch.no_grad()(lambda: None).__code__  # of torch's decorator, around any function

# Functions that every sampler run calls. Packs may replace them for all models.
_ALWAYS_CALLED = (
    (comfy.samplers, "sampling_function"),
    (comfy.samplers, "calc_cond_batch"),
    (comfy.samplers, "_calc_cond_batch"),
    (comfy.samplers, "cfg_function"),
    (comfy.samplers.CFGGuider, "sample"),
    (comfy.samplers.CFGGuider, "outer_sample"),
    (comfy.samplers.CFGGuider, "inner_sample"),
    (comfy.samplers.CFGGuider, "outer_predict_noise"),
    (comfy.samplers.CFGGuider, "predict_noise"),
    (comfy.samplers.KSAMPLER, "sample"),
    (comfy.samplers.KSamplerX0Inpaint, "__call__"),
    (comfy.model_base.BaseModel, "apply_model"),
    (comfy.model_base.BaseModel, "_apply_model"),
    (comfy.k_diffusion.sampling, "default_noise_sampler"),
    (comfy.k_diffusion.sampling, "sample_dpm_fast"),
    (comfy.k_diffusion.sampling.BrownianTreeNoiseSampler, "__call__"),
)

_PATCHERS = tuple(
    getattr(comfy.model_patcher, name)
    for name in ("ModelPatcher", "ModelPatcherDynamic")
    if hasattr(comfy.model_patcher, name)
)

# Options of a model that hold functions, and options that hold tables of functions.
_FUNCTION_OPTIONS = (
    "model_function_wrapper", "denoise_mask_function", "sampler_cfg_function",
    "sampler_pre_cfg_function", "sampler_post_cfg_function", "sampler_calc_cond_batch_function",
)  # fmt: skip
_FUNCTION_TABLES = ("patches", "patches_replace", "wrappers", "callbacks")


class Alone(Exception):
    """The run has to be sampled alone; the text of the exception says why."""


def check(run: SamplerRun, methods_replaced: Callable[[torch.nn.Module], str]) -> None:
    """Check that all parts of a run are known to treat rows one by one.

    Args:
        methods_replaced: gives the first method of a network or its parts that was replaced, or "".

    Raises:
        Alone: a part is not known to do so.
    """
    _check_sampler(run)
    check_rows(run.model, methods_replaced)
    sides = [side for side in (run.positive, run.negative) if not isinstance(side, str)]
    unfit = MODELS.get(type(run.model.model).__name__, {})
    for side in sides:
        for _, options in side:
            for name in unfit:
                if options.get(name) is not None:
                    raise Alone(f"{type(run.model.model).__name__} with {name!r}: {unfit[name]}")
            _check_hooks(options.get("hooks"))


def check_rows(model: Any, methods_replaced: Callable[[torch.nn.Module], str]) -> None:
    """Check that a MODEL is known to treat rows one by one, whatever it is sampled with.

    Args:
        methods_replaced: see `check`.

    Raises:
        Alone: it is not known to do so.
    """
    _check_always_called()
    _check_model(model, methods_replaced)


def _check_sampler(run: SamplerRun) -> None:
    if run.tiles is not None:
        raise Alone("its latent is sampled in tiles")
    if run.sampler is not None:
        raise Alone("it has a sampler object of its own")
    name = run.sampler_name
    if name not in SAMPLERS:
        raise Alone(f"the sampler {name!r} is not known to treat rows one by one")
    function = comfy.samplers.sampler_object(name).sampler_function
    if not host_file(function):
        raise Alone(f"the sampler {name!r} is not the host's own: {_described(function)}")


def _check_always_called() -> None:
    for owner, name in _ALWAYS_CALLED:
        function = getattr(owner, name, None)
        if function is not None and not host_file(function):
            raise Alone(f"{owner.__name__}.{name} was replaced: {_described(function)}")


def _check_model(model: Any, methods_replaced: Callable[[torch.nn.Module], str]) -> None:
    if type(model) not in _PATCHERS:
        raise Alone(f"its patcher is a {_described(type(model))}")
    _check_network(model.model, methods_replaced)
    for name, value in model.object_patches.items():
        if not (is_plain(value) or host_class(type(value))):
            raise Alone(f"its part {name!r} was replaced by a {_described(type(value))}")
    for what in ("injections", "additional_models"):
        if any(getattr(model, what, {}).values()):
            raise Alone(f"its patcher has {what.replace('_', ' ')}")
    for what in ("wrappers", "callbacks"):
        _check_functions(what, getattr(model, what))
    _check_options(model.model_options)


def _check_network(network: Any, methods_replaced: Callable[[torch.nn.Module], str]) -> None:
    kind = type(network)
    if not declares(network):
        name = kind.__name__
        if getattr(comfy.model_base, name, None) is not kind or not host_class(kind):
            raise Alone(f"the model class {_described(kind)} is not the host's own")
        if name not in MODELS:
            reason = MODELS_ALONE.get(name, "it is not known to treat rows one by one")
            raise Alone(f"the model class {name}: {reason}")
        part = type(network.diffusion_model)
        if not host_class(part):
            raise Alone(f"its network is a {_described(part)}")
    replaced = methods_replaced(network)
    if replaced:
        raise Alone(f"{replaced} of its network was replaced or hooked")


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name in _FUNCTION_OPTIONS:
            _check_functions(name, value)
        elif name == "transformer_options":
            for key, inner in value.items():
                if key in _FUNCTION_TABLES:
                    _check_functions(key, inner)
                elif not is_plain(inner):
                    raise Alone(f"its transformer options have {key!r}")
        elif not is_plain(value):
            raise Alone(f"its options have {name!r}")


def _check_functions(where: str, value: Any) -> None:
    for function in _leaves(value):
        if not (declares(function) or is_known(function)):
            raise Alone(f"{where.replace('_', ' ')}: {_described(function)}")


def _check_hooks(group: Any) -> None:
    """Hooks of a conditioning may only change weights, which all rows share."""
    for hook in getattr(group, "hooks", []):
        if type(hook) is not comfy.hooks.WeightHook:
            raise Alone(f"its conditioning has a hook of the kind {_described(type(hook))}")


def check_control(control: Any) -> None:
    """Check that a ControlNet takes several rows. The ControlNets before it are not checked.

    Raises:
        Alone: it is not known to do so.
    """
    kind = type(control)
    known = kind.__name__ in CONTROLS and getattr(comfy.controlnet, kind.__name__, None) is kind
    if not (known and host_class(kind)):
        raise Alone(f"the ControlNet class {_described(kind)} is not known")
    if getattr(control, "extra_hooks", None) or getattr(control, "multigpu_clones", None):
        raise Alone("its ControlNet has hooks, or runs on several devices")
    network = getattr(control, "control_model", None) or getattr(control, "t2i_model", None)
    if network is None or not host_class(type(network)):
        raise Alone(f"the network of its ControlNet is a {_described(type(network))}")


# Where code comes from -------------------------------------------------------------------------


def is_known(function: Any) -> bool:
    """Whether a function is in the table of ComfyUI's functions that treat rows one by one."""
    code = _code(function)
    return code is not None and code.co_name in FUNCTIONS.get(_relative(code.co_filename), ())


def declares(thing: Any) -> bool:
    """Whether an object says with `shares_batches` that it treats rows one by one."""
    return getattr(thing, "shares_batches", False) is True


def host_file(function: Any) -> str:
    """The file of ComfyUI in which a function is defined, relative to ComfyUI's folder, or ""."""
    code = _code(function)
    return "" if code is None else _relative(code.co_filename)


def host_class(kind: type) -> bool:
    """Whether a class and all its base classes come from ComfyUI, torch or Python."""
    return all(_is_trusted(base.__module__) for base in kind.__mro__)


def is_plain(value: Any) -> bool:
    """Whether a value consists only of plain data, such as numbers and texts."""
    if isinstance(value, Mapping):
        return all(is_plain(inner) for inner in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return all(is_plain(inner) for inner in value)
    return isinstance(value, int | float | str | torch.dtype | torch.device | type(None))


def replaced_method(network: torch.nn.Module) -> str:
    """The first method of a network or of its parts that was replaced or hooked, or ""."""
    for path, part in network.named_modules():
        kind = type(part)
        hooked = part._forward_hooks or part._forward_pre_hooks
        if hooked or (host_class(kind) and not _is_theirs(kind.forward)):
            return f"{path}.forward".lstrip(".")
        for name in vars(part):
            if callable(getattr(kind, name, None)):
                return f"{path}.{name}".lstrip(".")
    return ""


def _code(function: Any) -> CodeType | None:
    """The code that runs first when a function is called, without torch's decorator."""
    while isinstance(function, partial):
        function = function.func
    if not hasattr(function, "__code__") and not hasattr(function, "__func__"):
        function = type(function).__call__ if callable(function) else None
    function = getattr(function, "__func__", function)
    while getattr(function, "__code__", None) is _NO_GRAD:
        function = function.__wrapped__
    return getattr(function, "__code__", None)


def _is_theirs(method: Any) -> bool:
    """Whether a method is defined in ComfyUI or torch."""
    code = _code(method)
    if code is None:
        return False
    return bool(_relative(code.co_filename)) or code.co_filename.startswith(_TORCH)


@lru_cache(maxsize=1024)
def _relative(path: str) -> str:
    try:
        relative = Path(path).resolve().relative_to(_HOST)
    except (ValueError, OSError):
        return ""
    return relative.as_posix() if relative.parts[0] in _FOLDERS else ""


def _is_trusted(module: str) -> bool:
    """Whether a module belongs to ComfyUI, torch or Python."""
    package = module.partition(".")[0]
    if package == "torch" or package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return bool(file and _relative(file))


def _leaves(value: Any) -> Iterator[Any]:
    """The functions in nested lists and tables."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield value


def _described(thing: Any) -> str:
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
