"""Read weight files without running anything that they contain."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...utils.files import open_file
from ..files.objects import StandIn
from ..files.tensor_files import FAULTS, SAFETENSORS, Content, kind_of, read_safetensors, read_torch
from .isolated_import import import_ultralytics

EXPORT = (
    "If you trust where it comes from, convert it once in an environment of its own with "
    "`yolo export model=<file> format=onnx`, and put the .onnx beside it."
)

# The names that a YOLO file may contain. Nothing of them is run: everything becomes a StandIn. Only
# stand-ins for layers of the network then become such layers.
_FAMILIES = ("torch.nn.modules.", "ultralytics.")
_LAYERS = ("torch.nn.modules.", "ultralytics.nn.")  # modules with the classes of layers
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

LARGEST_INPUT = 4096  # pixels of the longer side of a network's input
LARGEST_STRIDE = 1024
MOST_CLASSES = 100_000
LONGEST_LABEL = 200  # characters
_LARGEST_STEP = 64  # padding, stride and dilation of a layer, in pixels
_LARGEST_SCALE = 16  # factor of a layer that enlarges
_MOST_RUNS = 100_000  # runs of all layers together, for one image


class WeightsError(ValueError):
    """A weight file is refused or broken; the message says which, why, and what to do."""


# Plain tensors


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors [...] of a .safetensors file, or of a PyTorch file that holds nothing else.

    Args:
        path: the file, with any name. If it has an entry "model" or "state_dict", the tensors of
            that entry are taken.

    Raises:
        WeightsError: the file holds other things, or cannot be read.
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            if kind_of(file) == SAFETENSORS:
                return read_safetensors(file)
    except FAULTS as error:
        raise _broken(path, error) from error
    _refuse_unknown(path)
    return _tensors_of(path, _read(path).value)


def expect_plain(path: str | Path) -> None:
    """Check that a file holds only tensors, plain values and NumPy's numbers, for any later reader.

    Other readers choose the format by the file's name, and this one by its content, so both must
    agree.

    Raises:
        WeightsError: it holds other things, or cannot be read.
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            is_safetensors = kind_of(file) == SAFETENSORS
    except OSError as error:
        raise _broken(path, error) from error
    if path.suffix.lower() in (".safetensors", ".sft"):
        if not is_safetensors:
            raise _broken(path, ValueError("it is not in the format that its name says"))
        return
    _refuse_unknown(path, but={name for name in _DATA if name.startswith("numpy.")})


def _refuse_unknown(path: Path, but: Set[str] = frozenset()) -> None:
    unknown = tuple(name for name in _read(path, tensors=False).unknown if name not in but)
    if unknown:
        raise WeightsError(
            f"'{path.name}' is refused: besides weights it holds {_listed(unknown)}, which would "
            "run code while it loads. If you trust where it comes from, load it once in an "
            "environment of its own and save its state_dict as .safetensors."
        )


def _tensors_of(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """The tensors in the content of a file."""
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f"'{path.name}' holds no weights but a {type(content).__name__}. Choose another file."
        )
    return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _broken(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).splitlines() or [""])[0][:200]
    return WeightsError(
        f"'{path.name}' cannot be read ({type(error).__name__}: {reason}). It may be damaged: "
        "download it again."
    )


def _read(path: Path, *, tensors: bool = True) -> Content:
    try:
        with open_file(path) as file:
            return read_torch(file, tensors=tensors)
    except FAULTS as error:
        raise WeightsError(
            f"'{path.name}' is no PyTorch file of the current format, is damaged, or hides content "
            f"({str(error)[:300]}). Download it again, or choose another file."
        ) from error


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - 10
    return ", ".join(name[:100] for name in names[:10]) + (f" and {more} more" if more > 0 else "")


# YOLO


@dataclass(frozen=True)
class YoloFile:
    """A network from a file of the ultralytics package."""

    network: torch.nn.Module  # float32, in evaluation mode, on the CPU
    names: dict[int, str]  # label of each class
    image_size: int  # pixels of the longer side that it was trained at
    stride: int  # both sides of its input are multiples of this


def read_yolo(path: str | Path) -> YoloFile:
    """Read a YOLO network saved by the ultralytics package.

    Every class that the file names is replaced by a stand-in, so none is called; see
    `core/files/objects.py`. Then the stand-ins for layers become layers of the installed package.

    Raises:
        WeightsError: the file names other things than layers and plain data, holds no such network,
            or cannot be read.
        RuntimeError: the package is missing or too old.
    """
    path = Path(path)
    names = _read(path, tensors=False).unknown
    refused = tuple(name for name in names if not (name.startswith(_FAMILIES) or name in _DATA))
    if refused:
        raise WeightsError(
            f"'{path.name}' is refused: loading it would run {_listed(refused)}, which is no part "
            f"of a YOLO network. {EXPORT}"
        )
    content = _read(path).value
    parts = (content.get(key) for key in ("ema", "model")) if isinstance(content, dict) else ()
    network = next((part for part in parts if isinstance(part, StandIn)), None)
    if network is None:
        raise WeightsError(f"'{path.name}' holds no network of the ultralytics package. {EXPORT}")
    trained = content.get("train_args")
    size = trained.get("imgsz") if isinstance(trained, dict) else None
    try:
        return _finished(path, _revived(network, path), size)
    except (AttributeError, TypeError, LookupError, RecursionError) as error:
        raise _broken(path, error) from error


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _revived(root: StandIn, path: Path) -> torch.nn.Module:
    """The network from a tree of stand-ins: the same objects, with the classes of the layers."""
    found = [root]
    for layer in found:  # the list grows; a layer may appear several times
        if isinstance(layer, StandIn):
            layer.__class__ = _layer_class(_full_name(type(layer)), path)
            found += [part for part in _parts(layer) if isinstance(part, StandIn)]
    _expect_finite(root, path)
    for layer in found:
        for name, value in list(layer.__dict__.items()):
            if isinstance(value, StandIn):
                method = _method(value, path)
                if method is None:
                    del layer.__dict__[name]  # only used in training
                else:
                    layer.__dict__[name] = method
        layer.__setstate__(layer.__dict__)  # sets attributes that newer releases of PyTorch need
        _expect_usual(layer, path)
    return root


def _parts(layer: Any) -> list[Any]:
    parts = layer.__dict__.get("_modules")
    return list(parts.values()) if isinstance(parts, dict) else []


def _expect_finite(root: Any, path: Path) -> None:
    """Refuse a network with a layer that contains itself, or with too many runs of its layers.

    A layer may be part of several others, so a small file can describe a network without end.
    """
    runs: dict[int, int] = {}
    entered: set[int] = set()
    stack = [(root, False)]
    while stack:
        layer, is_done = stack.pop()
        parts = [part for part in _parts(layer) if hasattr(part, "__dict__")]
        if is_done:
            runs[id(layer)] = min(1 + sum(runs[id(part)] for part in parts), 10**18)
            continue
        if id(layer) in runs:
            continue
        if id(layer) in entered:
            raise WeightsError(
                f"'{path.name}' is refused: one of its layers contains itself. {EXPORT}"
            )
        entered.add(id(layer))
        stack.append((layer, True))
        stack += [(part, False) for part in parts if id(part) not in runs]
    if runs[id(root)] > _MOST_RUNS:
        raise WeightsError(
            f"'{path.name}' is refused: its layers are nested so often that it would run "
            f"{runs[id(root)]:.1e} of them. {EXPORT}"
        )


def _expect_usual(layer: torch.nn.Module, path: Path) -> None:
    """Refuse a layer that would make a huge picture from a small one."""
    bounds = {
        "padding": _LARGEST_STEP,
        "output_padding": _LARGEST_STEP,
        "dilation": _LARGEST_STEP,
        "scale_factor": _LARGEST_SCALE,
        "upscale_factor": _LARGEST_SCALE,
        "size": LARGEST_INPUT,
        "output_size": LARGEST_INPUT,
    }
    if isinstance(layer, torch.nn.modules.conv._ConvTransposeNd):
        bounds["stride"] = _LARGEST_SCALE
    for name, most in bounds.items():
        value = layer.__dict__.get(name)
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int | float) and not abs(number) <= most:
                raise WeightsError(
                    f"'{path.name}' is refused: a layer of it has {name} = {str(number)[:20]}, "
                    f"beyond the {most} that is usual. {EXPORT}"
                )


def _layer_class(name: str, path: Path) -> type[torch.nn.Module]:
    name = _RENAMED.get(name, name)
    module, _, own = name.rpartition(".")
    if name.startswith(_LAYERS):
        if name.startswith("ultralytics."):
            _need_package(path)  # this loads the modules of all its layers
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
    """The method of a layer that a saved reference to `forward...` means; None otherwise."""
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
    count = getattr(head, "nc", None)
    if not (isinstance(count, int) and 0 < count <= MOST_CLASSES):
        raise WeightsError(
            f"'{path.name}' holds a {type(network).__name__}, which does not find boxes. Choose a "
            "model for detection or segmentation."
        )
    for layer in network.modules():
        if isinstance(layer, torch.nn.Upsample) and not hasattr(layer, "recompute_scale_factor"):
            layer.recompute_scale_factor = None  # saved by a PyTorch that did not have it
    names = class_names(getattr(network, "names", None))
    network = network.float().train(False).requires_grad_(False)
    return YoloFile(
        network,
        names,
        expect_at_most(LARGEST_INPUT, _positive(size, 640), "an input of {} pixels", path),
        expect_at_most(
            LARGEST_STRIDE,
            _positive(getattr(network, "stride", 32), 32),
            "an input whose sides are multiples of {} pixels",
            path,
        ),
    )


def expect_at_most(most: int, value: int, claim: str, path: Path) -> int:
    """A value from a file, which may not be above the largest usual value.

    Args:
        most: the largest usual value.
        claim: what the file asks for, with {} for the value.

    Raises:
        WeightsError: the value is above `most`.
    """
    if value > most:
        raise WeightsError(
            f"'{path.name}' is refused: it asks for {claim.format(value)}, beyond the {most} "
            f"that is usual. {EXPORT}"
        )
    return value


def class_names(names: Any) -> dict[int, str]:
    """The labels by class number, from a list or mapping in a file.

    Entries that are no labels are left out, and very long labels are cut.
    """
    result: dict[int, str] = {}
    for number, name in _pairs(names):
        if len(result) >= MOST_CLASSES:
            break
        if isinstance(name, str | int | float) and re.fullmatch(r"\d{1,9}", str(number)[:20]):
            result[int(number)] = str(name)[:LONGEST_LABEL]
    return result


def _pairs(names: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(names, dict):
        yield from ((key, name) for key, name in names.items() if isinstance(key, str | int))
    elif isinstance(names, list | tuple):
        yield from enumerate(names)


def _positive(value: Any, default: int) -> int:
    """The largest of some numbers as a whole number; the default if it is not above 0."""
    try:
        number = int(torch.as_tensor(value, dtype=torch.float64).max())
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return default
    return number if number > 0 else default
