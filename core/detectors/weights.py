"""Read weight files without running anything that they contain."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .imports import import_ultralytics

EXPORT = (
    "If you trust where it comes from, convert it once in an environment of its own with "
    "`yolo export model=<file> format=onnx`, and put the .onnx beside it."
)

# What a YOLO file may name. Nothing of it runs: everything becomes a StandIn, and of these only
# the network's layers turn into what they stand for.
_FAMILIES = ("torch.nn.modules.", "ultralytics.")
_LAYERS = ("torch.nn.modules.", "ultralytics.nn.")  # whose classes may become layers
_DATA = {
    "argparse.Namespace", "builtins.getattr", "collections.defaultdict", "numpy.dtype",
    "numpy.ndarray", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath", "pathlib.WindowsPath", "types.SimpleNamespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")
      for name in ("_reconstruct", "scalar")),
    *(f"pathlib._local.{kind}Path" for kind in ("Posix", "Windows")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float32", "Float64", "Int32", "Int64")),
}  # fmt: skip
_RENAMED = {  # classes of older releases of the package
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
}
_OLD = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # how a file of torch.save began once


class WeightsError(ValueError):
    """A weight file is refused or broken; the message says which, why, and how to mend it."""


# Plain tensors


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors file, or of a PyTorch file that holds nothing else.

    Args:
        path: the file. Tensors that lie under "model" or "state_dict" in it are taken from there.

    Raises:
        WeightsError: the file holds other things, or cannot be read.
    """
    path = Path(path)
    if _is_old(path):
        return _tensors_of(path, _load_old(path))
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _broken(path, error) from error
    unknown = _unknown_names(path)
    if unknown:
        raise _refused(path, ", ".join(unknown))
    return _tensors_of(path, _load(path))


def _tensors_of(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """The tensors of what a file holds."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f"'{path.name}' holds no weights but a {type(content).__name__}. Choose another file."
        )
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _is_old(path: Path) -> bool:
    """Whether a file is one of torch.save before PyTorch 1.6, which is no archive."""
    try:
        with path.open("rb") as file:
            return file.read(len(_OLD)) == _OLD
    except OSError:
        return False


def _load_old(path: Path) -> Any:
    """What an old file holds. What it names cannot be listed, so the restricted reader stops at
    the first name that it does not know."""
    try:
        with _allowing([]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make readers raise all kinds
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise _refused(path, found[1]) if found else _broken(path, error) from error


def _refused(path: Path, names: str) -> WeightsError:
    return WeightsError(
        f"'{path.name}' is refused: besides weights it holds {names}, which would run code while "
        "it loads. If you trust where it comes from, load it once in an environment of its own and "
        "save its state_dict as .safetensors."
    )


def _broken(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [""])[0][:200]
    return WeightsError(
        f"'{path.name}' cannot be read ({type(error).__name__}: {reason}). It may be damaged: "
        "download it again."
    )


def _unknown_names(path: Path) -> list[str]:
    """What a PyTorch file names besides tensors, found without loading it."""
    try:
        with _allowing([]):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception as error:  # damaged files make readers raise all kinds
        raise WeightsError(
            f"'{path.name}' is no PyTorch file of today's kind, is damaged, or hides what it holds "
            f"({type(error).__name__}: {error}). Download it again, or choose another file."
        ) from error


def _load(path: Path, allowed: Sequence[tuple[type, str]] = ()) -> Any:
    try:
        with _allowing(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make readers raise all kinds
        raise _broken(path, error) from error


@contextmanager
def _allowing(allowed: Sequence[tuple[type, str]]) -> Iterator[None]:
    """Let PyTorch's restricted reader know these names and no others, as other packs may have
    allowed some for themselves."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals(list(allowed))
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


# YOLO


@dataclass(frozen=True)
class YoloFile:
    """A network from a file of the ultralytics package."""

    network: torch.nn.Module  # float32, in evaluation mode, on the CPU
    names: dict[int, str]  # label of each class
    image_size: int  # pixels of the longer side that it was trained at
    stride: int  # both sides of its input are multiples of this


class StandIn:
    """Takes the place of a class or function that a file names; keeps its data and does nothing.

    Subclasses have the module and name of what they stand for.
    """

    def __init__(self, *arguments: Any, **_options: Any) -> None:
        self.arguments = arguments


def read_yolo(path: str | Path) -> YoloFile:
    """Read a YOLO network saved by the ultralytics package.

    PyTorch's restricted reader makes the objects, and it gets stand-ins for every class, so
    nothing that the file names is called. Then those stand-ins that are layers of the network
    become layers of the installed package.

    Raises:
        WeightsError: the file names anything but layers and plain data, holds no such network, or
            cannot be read.
        RuntimeError: the package is missing or too old.
    """
    path = Path(path)
    names = _unknown_names(path)
    refused = [name for name in names if not (name.startswith(_FAMILIES) or name in _DATA)]
    if refused:
        raise WeightsError(
            f"'{path.name}' is refused: loading it would run {', '.join(refused)}, which is no part"
            f" of a YOLO network. {EXPORT}"
        )
    content = _load(path, [(_stand_in(name), name) for name in names])
    network = content.get("ema") or content.get("model") if isinstance(content, dict) else None
    if not isinstance(network, StandIn):
        raise WeightsError(f"'{path.name}' holds no network of the ultralytics package. {EXPORT}")
    trained = content.get("train_args")
    size = trained.get("imgsz") if isinstance(trained, dict) else None
    return _finished(path, _revived(network, path), size)


def _stand_in(name: str) -> type[StandIn]:
    module, _, own = name.rpartition(".")
    return type(own, (StandIn,), {"__module__": module, "__qualname__": own})


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _revived(root: StandIn, path: Path) -> torch.nn.Module:
    """The network that a tree of stand-ins stands for; the same objects, of their true classes."""
    found = [root]
    for layer in found:  # grows on the way; a layer may appear several times
        if isinstance(layer, StandIn):
            layer.__class__ = _layer_class(_full_name(type(layer)), path)
            layers = layer.__dict__.get("_modules") or {}
            found += [part for part in layers.values() if isinstance(part, StandIn)]
    for layer in found:
        for name, value in list(layer.__dict__.items()):
            if isinstance(value, StandIn):
                method = _method(value, path)
                if method is None:
                    del layer.__dict__[name]  # of use in training only
                else:
                    layer.__dict__[name] = method
        layer.__setstate__(layer.__dict__)  # attributes that newer releases of PyTorch look for
    return root


def _layer_class(name: str, path: Path) -> type[torch.nn.Module]:
    name = _RENAMED.get(name, name)
    module, _, own = name.rpartition(".")
    if name.startswith(_LAYERS):
        if name.startswith("ultralytics."):
            _need_package(path)  # which brings the modules of all its layers
        found = getattr(sys.modules.get(module), own, None)
        if isinstance(found, type) and issubclass(found, torch.nn.Module):
            return found
    raise WeightsError(
        f"'{path.name}' has a layer {name}, which the installed ultralytics does not. Update it "
        f"with: pip install -U ultralytics. {EXPORT}"
    )


def _need_package(path: Path) -> None:
    try:
        import_ultralytics()
    except ImportError as error:
        raise RuntimeError(
            f"'{path.name}' needs the package ultralytics, which ComfyUI's Python does not have, "
            f"or not whole ({error}). Install it there with: pip install ultralytics. Files that "
            f"end in .onnx do without it. {EXPORT}"
        ) from error


def _method(value: StandIn, path: Path) -> Any:
    """What a saved reference to a layer's `forward...` method refers to; None for anything else."""
    if _full_name(type(value)) != "builtins.getattr" or len(value.arguments) != 2:
        return None
    owner, name = value.arguments
    if isinstance(owner, type) and issubclass(owner, StandIn):
        owner = _layer_class(_full_name(owner), path)
    elif not isinstance(owner, torch.nn.Module):
        return None
    return getattr(owner, name, None) if str(name).startswith("forward") else None


def _finished(path: Path, network: torch.nn.Module, size: Any) -> YoloFile:
    layers = getattr(network, "model", None)
    head = layers[-1] if isinstance(layers, torch.nn.Sequential) and len(layers) else None
    if not isinstance(getattr(head, "nc", None), int):
        raise WeightsError(
            f"'{path.name}' holds a {type(network).__name__}, which does not find boxes. Choose a "
            "model for detection or segmentation."
        )
    for layer in network.modules():
        if isinstance(layer, torch.nn.Upsample) and not hasattr(layer, "recompute_scale_factor"):
            layer.recompute_scale_factor = None  # saved by a PyTorch that did not have it
    names = class_names(getattr(network, "names", None))
    stride = torch.as_tensor(getattr(network, "stride", 32)).max()
    network = network.float().train(False).requires_grad_(False)
    return YoloFile(network, names, _positive(size, 640), _positive(stride, 32))


def class_names(names: Any) -> dict[int, str]:
    """Labels by class number, from a list or mapping in a file."""
    return {int(number): str(name) for number, name in _pairs(names)}


def _pairs(names: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(names, dict):
        yield from names.items()
    elif isinstance(names, list | tuple):
        yield from enumerate(names)


def _positive(value: Any, default: int) -> int:
    if isinstance(value, list | tuple) and value:
        value = max(value)
    try:
        return int(value) if int(value) > 0 else default
    except (TypeError, ValueError):
        return default
