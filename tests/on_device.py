"""Tensors that claim to be on a GPU, on a machine without one.

Their values are real and in main memory, so code that reads them works as usual. An operation on
tensors of two devices is refused, as a GPU would refuse it. So is one that gives float64, as an
Apple GPU would refuse it. Transfers of values to the device and back, which are slow, are recorded.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

CORE = str(Path(__file__).resolve().parent.parent / "core")
GPU = torch.device("cuda", 0)
_FEW = 16  # values: numbers that code decides by, and not pixels
_MISSING = (torch.float64, torch.complex128)  # on Apple's GPUs
_aten = torch.ops.aten
_SCALARS = (_aten._local_scalar_dense.default, _aten.equal.default, _aten.is_nonzero.default)


class OnGpu(torch.Tensor):
    """A tensor that says it is on `GPU`."""

    @staticmethod
    def __new__(cls, real: torch.Tensor):
        own = torch.Tensor._make_wrapper_subclass(
            cls, real.shape, strides=real.stride(), storage_offset=real.storage_offset(),
            dtype=real.dtype, device=GPU,
        )  # fmt: skip
        own.held = real
        return own

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("values are on the GPU outside of `gpu()`")

    def __repr__(self):
        return f"OnGpu({self.held!r})"

    def tolist(self):
        return self.cpu().tolist()


class Gpu(TorchDispatchMode):
    """Runs operations where their tensors say that they are.

    Attributes:
        to_device, to_host: where in core more than a few values crossed over, as "file:function".
    """

    # The key of PyTorch's own mode for fake tensors: no device is initialised while it is set.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self) -> None:
        super().__init__()
        torch._C._ensureCUDADeviceGuardSet()  # one that does nothing, where there is no GPU
        self.to_device: set[str] = set()
        self.to_host: set[str] = set()

    def __enter__(self):
        self._was_lifting = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(...) begins on the CPU
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(self._was_lifting)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat, spec = tree_flatten((args, kwargs))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        own = [value for value in tensors if isinstance(value, OnGpu)]
        here = [value for value in tensors if not isinstance(value, OnGpu) and value.ndim]
        target = kwargs.get("device")
        to_gpu = target is not None and torch.device(target).type == GPU.type
        to_cpu = target is not None and torch.device(target).type == "cpu"
        is_copy = func in (_aten.copy_.default, _aten._to_copy.default)
        if own and here and not is_copy:
            raise RuntimeError(
                f"{func} got tensors of two devices: {[tuple(t.shape) for t in own]} on the GPU "
                f"and {[tuple(t.shape) for t in here]} on the CPU, in {_place()}"
            )
        if is_copy and own and (to_cpu or (here and not isinstance(args[0], OnGpu))):
            self._note(self.to_host, own)
        if is_copy and here and (to_gpu or (own and isinstance(args[0], OnGpu))):
            self._note(self.to_device, here)
        on_gpu = to_gpu or (bool(own) and not to_cpu and func not in _SCALARS)
        if is_copy and isinstance(args[0], torch.Tensor) and target is None:
            on_gpu = isinstance(args[0], OnGpu)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
            flat, spec = tree_flatten((args, kwargs))
        plain = [value.held if isinstance(value, OnGpu) else value for value in flat]
        plain_args, plain_kwargs = tree_unflatten(plain, spec)
        known = {id(value.held): value for value in own}
        result = func(*plain_args, **plain_kwargs)
        outputs, out_spec = tree_flatten(result)
        if on_gpu:  # what was changed in place is the same object afterwards
            if any(isinstance(own, torch.Tensor) and own.dtype in _MISSING for own in outputs):
                raise RuntimeError(f"{func} gives float64, which not all GPUs have, in {_place()}")
            outputs = [
                known[id(value)] if id(value) in known
                else OnGpu(value) if isinstance(value, torch.Tensor)
                else value
                for value in outputs
            ]  # fmt: skip
        return tree_unflatten(outputs, out_spec)

    @staticmethod
    def _note(places: set[str], tensors: list[torch.Tensor]) -> None:
        if any(tensor.numel() > _FEW for tensor in tensors):
            places.add(_place())


def _place() -> str:
    """The innermost function of core, or of what it calls in utils, that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(CORE):
            place = path.relative_to(CORE).with_suffix("").as_posix()
            return f"{place}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


def on_gpu(tensor: torch.Tensor) -> OnGpu:
    """A tensor on the GPU; one that is there already is an error of the caller."""
    return OnGpu(tensor.detach().clone())


def off_gpu(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor on the GPU, for a test to look at."""
    if not isinstance(tensor, OnGpu):
        raise AssertionError(f"a tensor {tuple(tensor.shape)} is not on the GPU")
    return tensor.held
