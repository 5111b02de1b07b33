"""How much of a device's memory the rows of a run may use, after ComfyUI has loaded its models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.sampler_helpers
import torch

from ..backend import SamplerRun

_SHARED = ("cpu", "mps")  # devices whose memory is the one to which ComfyUI unloads models


def for_rows(run: SamplerRun, least: float) -> float:
    """The memory that the rows of a run may use, in bytes; negative if weights alone fill it.

    Before ComfyUI samples, it unloads other models, loads the weights that the run's own models
    lack, and leaves the memory that `--reserve-vram` names. All of it is counted here.

    Args:
        least: the memory that one row needs, in bytes. If not even this fits beside all weights,
            ComfyUI keeps weights in main memory and moves them over in each step. Then rows come
            before weights, since rows that are sampled together share these moves.
    """
    host = comfy.model_management
    device = run.model.load_device
    models, needed = _models_of(run)
    whole = [model for model in models if model.load_device == device and not model.is_dynamic()]
    loaded = sum(model.loaded_size() for model in whole)
    missing = sum(_missing(model) for model in whole)
    # A patcher counts the weights that ComfyUI pages out on demand as free.
    free = run.model.get_free_memory(device) + _unloadable(device, models) - needed
    reserved = 0 if device.type == "cpu" else host.extra_reserved_memory()
    room = free - reserved
    if not whole or not _may_leave_weights(device):
        return room - missing
    if host.vram_state == host.VRAMState.NO_VRAM:
        return room
    if room - missing > least:
        return room - missing
    both = free + loaded  # for weights and rows
    least_weights = min(
        both * host.MIN_WEIGHT_MEMORY_RATIO, both - host.minimum_inference_memory(),
        loaded + missing,
    )  # fmt: skip
    return room + loaded - max(0, least_weights)


def _models_of(run: SamplerRun) -> tuple[list[Any], float]:
    """The patchers that ComfyUI loads for a run, and the memory for other parts of them, in bytes.

    These are the model, its ControlNets and what else its conditionings and patches bring.
    """
    conditionings = {
        str(number): [
            {name: value for name, value in options.items() if value is not None}
            for _, options in side
        ]
        for number, side in enumerate((run.positive, run.negative))
        if not isinstance(side, str)
    }
    more, needed = comfy.sampler_helpers.get_additional_models(
        conditionings, run.model.model_dtype()
    )
    models = [run.model, *more, *run.model.get_nested_additional_models()]
    models += [part for model in models for part in model.model_patches_models()]
    return list({id(model.model): model for model in models}.values()), needed


def _missing(model: Any) -> float:
    """The weights that have yet to be loaded, in bytes."""
    # With --highvram they never leave the device. On the CPU they are often mapped from their file,
    # and the system counts what is mapped as free.
    at_home = model.offload_device == model.load_device != torch.device("cpu")
    return 0 if at_home else max(0, model.model_size() - model.loaded_size())


def _unloadable(device: torch.device, models: Sequence[Any]) -> float:
    """The memory that ComfyUI gains by unloading all but these models, in bytes.

    It is less than what the models hold: with `--highvram` and `--gpu-only` some stay on the device
    when they are unloaded, and what is paged on demand is free already.
    """
    host = comfy.model_management
    if device.type in _SHARED or host.is_directml_enabled():  # DirectML does not tell what is free
        return 0
    own = {id(model.model) for model in models}
    others = [loaded.model for loaded in host.current_loaded_models if loaded.device == device]
    return sum(
        other.loaded_size()
        for other in others
        if other is not None
        and id(other.model) not in own
        and not other.is_dynamic()
        and other.offload_device != device
    )


def _may_leave_weights(device: torch.device) -> bool:
    """Whether ComfyUI leaves weights in main memory if not all of them fit on the device."""
    host = comfy.model_management
    states = host.VRAMState
    leaving = (states.NORMAL_VRAM, states.LOW_VRAM, states.NO_VRAM)
    return device.type != "cpu" and host.lowvram_available and host.vram_state in leaving
