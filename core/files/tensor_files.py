"""Files of tensors: `.safetensors`, and PyTorch files of the current and the old (before 1.6) form.

The format of a file is recognised by its first bytes, and not by its name. All sizes in a file are
compared with the bytes that it has, before memory is allocated. Nothing in a file is run; see
`objects`. The readers of PyTorch, safetensors and Python are not used, so a pack that replaces them
has no effect here.

Sources: the description of the format safetensors (https://huggingface.co/docs/safetensors), and
the files that `torch.save` writes.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from .objects import MOST_BYTES, Known, Machine, ObjectsError, ordered, set_of

MOST_HEADER = 16 * 2**20  # bytes of the table of a .safetensors file; real ones are far smaller
MOST_MEMBERS = 200_000  # files in an archive
MOST_AXES = 16
_ALWAYS_FINE, _GROWTH = 2**26, 20  # an archive may unpack to so many bytes, or times its size
_AT_ONCE = 2**24  # bytes that are read at a time
_REPEATED = 2**24  # elements that all views together may have beyond those in the file

ARCHIVE, OLD, SAFETENSORS = "archive", "old", "safetensors"
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ARCHIVE_START = b"PK\x03\x04"
_OLD_START = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # torch.save before version 1.6
_OLD_VERSION = 1001

_SAFE_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "I32": "int32",
    "U32": "uint32", "I64": "int64", "U64": "uint64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}  # fmt: skip
_STORAGES = {
    "Bool": torch.bool, "Byte": torch.uint8, "Char": torch.int8, "Short": torch.int16,
    "Int": torch.int32, "Long": torch.int64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Float": torch.float32, "Double": torch.float64, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}  # fmt: skip
_TYPE_NAMES = (*_SAFE_TYPES.values(), "complex32", "complex128")


class TensorFileError(ValueError):
    """A file cannot be read; the message says why, as the end of a sentence."""


# The errors of the readers here, and of zipfile on damaged files.
FAULTS = (ValueError, OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, LookupError,
          OverflowError, struct.error)  # fmt: skip


@dataclass(frozen=True)
class Content:
    """The content of a PyTorch file.

    Attributes:
        value: mappings, lists, texts, numbers and tensors, with a `StandIn` for everything else.
        unknown: the sorted full names of everything else.
    """

    value: Any
    unknown: tuple[str, ...]


def kind_of(file: BinaryIO) -> str | None:
    """ARCHIVE, OLD or SAFETENSORS, by the first bytes of a file; None for any other format."""
    file.seek(0)
    start = file.read(16)
    if start.startswith(_ARCHIVE_START):
        return ARCHIVE
    if start.startswith(_OLD_START):
        return OLD
    return SAFETENSORS if len(start) > 8 and start[8:9] == b"{" else None


def read_safetensors(file: BinaryIO) -> dict[str, torch.Tensor]:
    """The tensors [...] of a file in the format safetensors, on the CPU.

    Raises:
        TensorFileError: the file is damaged, or claims more than it holds.
    """
    total = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > total - 8:
        raise TensorFileError("it ends too early")
    if length > MOST_HEADER:
        raise TensorFileError(f"its table has {length} bytes, more than the {MOST_HEADER} allowed")
    table = _json_object(file.read(length))
    table.pop("__metadata__", None)
    places = {name: _place(name, entry, total - 8 - length) for name, entry in table.items()}
    if sum(place.end - place.start for place in places.values()) > total - 8 - length:
        raise TensorFileError("its tensors overlap")
    tensors = {}
    for name, place in sorted(places.items(), key=lambda item: item[1].start):
        file.seek(8 + length + place.start)
        data = _read_bytes(file.readinto, place.end - place.start)
        tensors[name] = data.view(place.dtype).reshape(place.shape)
    return {name: tensors[name] for name in places}


@dataclass(frozen=True)
class _Place:
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"its table is no JSON ({str(error)[:100]})") from error
    if not isinstance(content, dict):
        raise TensorFileError("its table is no JSON object")
    return content


def _place(name: str, entry: Any, available: int) -> _Place:
    """The place, shape and dtype of a tensor, checked against the size of the file."""
    about = f"its tensor '{name:.100}'"
    if not isinstance(entry, dict):
        raise TensorFileError(f"{about} is not described")
    told = entry.get("dtype")
    dtype = getattr(torch, _SAFE_TYPES.get(told, ""), None) if isinstance(told, str) else None
    if dtype is None:
        raise TensorFileError(f"{about} is of a type that is not known here")
    shape = _sides(entry.get("shape"), f"{about} has a shape that")
    places = entry.get("data_offsets")
    if not (
        isinstance(places, list) and len(places) == 2 and all(type(at) is int for at in places)
    ):
        raise TensorFileError(f"{about} has no place in the file")
    start, end = places
    if not 0 <= start <= end <= available:
        raise TensorFileError(f"{about} lies outside the file")
    if math.prod(shape) * dtype.itemsize != end - start:
        raise TensorFileError(f"{about} claims the shape {list(shape)} but has {end - start} bytes")
    return _Place(dtype, shape, start, end)


def _sides(value: Any, about: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > MOST_AXES:
        raise TensorFileError(f"{about} is no list of up to {MOST_AXES} sides")
    if not all(type(side) is int and 0 <= side < 2**48 for side in value):
        raise TensorFileError(f"{about} is not made of whole numbers from 0 up")
    return tuple(value)


def _read_bytes(readinto: Callable[[Any], int], count: int) -> torch.Tensor:
    """`count` bytes, read into a tensor without a copy."""
    data = torch.empty(count, dtype=torch.uint8)
    view = memoryview(data.numpy())
    at = 0
    while at < count:
        read = readinto(view[at : at + _AT_ONCE])
        if not read:
            raise TensorFileError("it ends too early")
        at += read
    return data


# PyTorch


def read_torch(file: BinaryIO, *, tensors: bool = True) -> Content:
    """The content of a file of `torch.save`, on the CPU.

    Args:
        file: of the kind ARCHIVE or OLD.
        tensors: False leaves all tensors empty, to find only the names in the file.

    Raises:
        TensorFileError or another of FAULTS: the file is damaged, claims more than it holds, or
            hides its content.
    """
    kind = kind_of(file)
    if kind == ARCHIVE:
        return _read_archive(file, tensors)
    if kind == OLD:
        return _read_old(file, tensors)
    raise TensorFileError("it does not begin as such files do")


@dataclass
class _Storage:
    """Elements in a row, of which tensors are views."""

    dtype: torch.dtype
    count: int
    data: Callable[[], torch.Tensor]  # its elements, of that type

    def __post_init__(self) -> None:
        self._loaded: torch.Tensor | None = None

    def elements(self) -> torch.Tensor:
        if self._loaded is None:
            self._loaded = self.data()
        return self._loaded


class _Tensors:
    """Makes the tensors that a file describes.

    Args:
        load: False leaves them empty.
    """

    def __init__(self, load: bool) -> None:
        self.load = load
        self.repeated = 0
        self.names = {**_PLAIN, **{name: Known(getattr(self, own)) for name, own in _MADE.items()}}
        self.storages: dict[str, _Storage] = {}
        self.claimed = 0  # bytes of all storages

    def storage(self, number: Any, make: Callable[[torch.dtype, str, int], _Storage]) -> _Storage:
        """The storage that a file describes by type, key and count; each is made once."""
        dtype, key, count = _described(number)
        if key not in self.storages:
            self.storages[key] = make(dtype, key, count)
            self.claimed += count * dtype.itemsize
        own = self.storages[key]
        if own.dtype != dtype or own.count < count:
            raise TensorFileError("a tensor in it is described in two ways")
        return own

    def plain(self, storage: Any, offset: Any, shape: Any, steps: Any, *_rest: Any) -> Any:
        return self._view(storage, offset, shape, steps, None)

    def typed(self, storage: Any, offset: Any, shape: Any, steps: Any, _grad: Any = None,
              _hooks: Any = None, dtype: Any = None, *_rest: Any) -> Any:  # fmt: skip
        if not isinstance(dtype, torch.dtype):
            raise ObjectsError("a tensor in it is of no known type")
        return self._view(storage, offset, shape, steps, dtype)

    def parameter(self, data: Any, grad: Any = True, *_rest: Any) -> Any:
        if not isinstance(data, torch.Tensor):
            raise ObjectsError("a parameter in it is no tensor")
        fits = data.is_floating_point() or data.is_complex()
        return torch.nn.Parameter(data, requires_grad=grad is True) if fits else data

    def of_type(self, function: Any, _kind: Any, arguments: Any, _state: Any = None) -> Any:
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise ObjectsError("a tensor in it is made in an unknown way")
        return function.function(*arguments)

    def _view(self, storage: Any, offset: Any, shape: Any, steps: Any, dtype: Any) -> torch.Tensor:
        if not isinstance(storage, _Storage):
            raise ObjectsError("a tensor in it has no data")
        sides = _sides(shape, "a tensor in it has a shape that")
        strides = _sides(steps, "a tensor in it has a stride that")
        (offset,) = _sides([offset], "a tensor in it has an offset that")
        if len(sides) != len(strides):
            raise TensorFileError("a tensor in it has a shape and strides that differ in length")
        kind = dtype or storage.dtype
        available = storage.count * storage.dtype.itemsize // kind.itemsize
        number = math.prod(sides)
        last = offset + sum((side - 1) * step for side, step in zip(sides, strides, strict=True))
        if number and last >= available:
            raise TensorFileError(
                f"a tensor in it claims the shape {list(sides)}, which is more than its data"
            )
        self.repeated += max(0, number - available)
        if self.repeated > _REPEATED:
            raise TensorFileError("its tensors repeat a few values to a huge size")
        if not self.load:
            return torch.empty(0, dtype=kind)
        elements = storage.elements()
        elements = elements if elements.dtype == kind else elements.view(kind)
        return elements.as_strided(sides, strides, offset if number else 0)


def _device(*_arguments: Any) -> str:
    return "cpu"


def _to_bytes(text: Any = "", encoding: Any = "latin1", *_rest: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise ObjectsError("bytes in it are written in an unknown way")
    return text.encode(encoding, "replace")


def _size(sides: Any = ()) -> torch.Size:
    return torch.Size(_sides(sides, "a size in it"))


def _to_list(values: Any = ()) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise ObjectsError("a list in it is made of no list")
    return list(values)


_MADE = {
    "torch._utils._rebuild_tensor": "plain",
    "torch._utils._rebuild_tensor_v2": "plain",
    "torch._utils._rebuild_tensor_v3": "typed",
    "torch._utils._rebuild_parameter": "parameter",
    "torch._utils._rebuild_parameter_with_state": "parameter",
    "torch._tensor._rebuild_from_type_v2": "of_type",
}
_PLAIN: dict[str, Any] = {
    "collections.OrderedDict": Known(ordered),
    "builtins.set": Known(set_of),
    "builtins.list": Known(_to_list),
    "_codecs.encode": Known(_to_bytes),
    "torch.Size": Known(_size),
    "torch.device": Known(_device),
    "torch.serialization._get_layout": Known(_device),
    "torch.Tensor": torch.Tensor,
    "torch.nn.parameter.Parameter": torch.nn.Parameter,
    "torch.storage.UntypedStorage": torch.uint8,
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    **{f"torch.{name}": getattr(torch, name) for name in _TYPE_NAMES if hasattr(torch, name)},
}


def _described(number: Any) -> tuple[torch.dtype, str, int]:
    """The type, key and count of elements of a storage, from its description in a file."""
    if not (isinstance(number, tuple) and len(number) >= 5 and number[0] == "storage"):
        raise ObjectsError("it stores something elsewhere that is no tensor")
    dtype, key, count = number[1], number[2], number[4]
    if not isinstance(dtype, torch.dtype):
        raise ObjectsError("a tensor in it is of an unknown type")
    if type(count) is not int or not 0 <= count < 2**48 or type(key) not in (str, int):
        raise ObjectsError("a tensor in it has a wrong count of elements")
    return dtype, str(key), count


# Current files: an archive with one member for the program, and one for each storage


def _read_archive(file: BinaryIO, tensors: bool) -> Content:
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = expect_honest(archive)
        programs = [name for name in members if name.endswith("data.pkl") and name.count("/") < 2]
        if len(programs) != 1 or "/" not in programs[0]:
            raise TensorFileError("no archive of torch.save: it has not one part 'data.pkl'")
        top = programs[0].removesuffix("data.pkl")
        if f"{top}constants.pkl" in members:
            raise TensorFileError("it holds a program of TorchScript")
        order = members.get(f"{top}byteorder")
        if order and archive.read(order)[:10].decode("latin-1").strip() != sys.byteorder:
            raise TensorFileError("its numbers are in another order of bytes than this machine's")
        if members[programs[0]].file_size > MOST_BYTES:
            raise TensorFileError(f"it describes its tensors in more than {MOST_BYTES} bytes")
        made = _Tensors(tensors)

        def in_member(dtype: torch.dtype, key: str, count: int) -> _Storage:
            member = members.get(f"{top}data/{key}")
            if member is None or member.file_size < count * dtype.itemsize:
                raise TensorFileError("a tensor in it claims more data than there is")
            return _Storage(dtype, count, lambda: _member(archive, member, dtype))

        machine = Machine(
            archive.read(programs[0]), made.names, lambda number: made.storage(number, in_member)
        )
        value = machine.run()
    return Content(value, tuple(sorted(machine.unknown)))


def expect_honest(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by name, after checks of the archive.

    Raises:
        TensorFileError: two members have one name, the archive unpacks to far more than its size,
            or it is unusual in another way.
    """
    members = archive.infolist()
    if archive.comment:  # another reader could find another archive in it
        raise TensorFileError("it has a comment")
    if len(members) > MOST_MEMBERS:
        raise TensorFileError(f"it has {len(members)} parts")
    if any(member.compress_type not in _PACKED for member in members):
        raise TensorFileError("it is packed in an unusual way")
    total, size = sum(member.file_size for member in members), archive.fp.seek(0, 2)
    if total > max(_ALWAYS_FINE, _GROWTH * size):
        raise TensorFileError(f"it unpacks from {size} to {total} bytes")
    by_name = {member.filename: member for member in members}
    if len(by_name) < len(members):
        raise TensorFileError("it has two parts of one name")
    return by_name


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: torch.dtype) -> torch.Tensor:
    with archive.open(member) as source:
        data = _read_bytes(source.readinto, member.file_size)
    whole = len(data) // dtype.itemsize * dtype.itemsize
    return data[:whole].view(dtype)


# Files from before PyTorch 1.6: programs one after another, then the storages


def _read_old(file: BinaryIO, tensors: bool) -> Content:
    total = file.seek(0, 2)
    file.seek(0)
    data = file.read(MOST_BYTES)
    made = _Tensors(tensors)

    def to_fill(dtype: torch.dtype, _key: str, count: int) -> _Storage:
        if made.claimed + count * dtype.itemsize > total:
            raise TensorFileError("a tensor in it claims more data than there is")
        empty = torch.empty(count if tensors else 0, dtype=dtype)
        return _Storage(dtype, count, lambda: empty)

    def apart(number: Any) -> Any:
        if isinstance(number, tuple) and len(number) > 1 and number[0] == "module":
            return number[1]
        return made.storage(number, to_fill)

    machine = Machine(data, made.names, apart)
    machine.run()  # the first program of such files has no content
    version, about = machine.run(), machine.run()
    if version != _OLD_VERSION or not isinstance(about, dict):
        raise TensorFileError(f"it is of the unknown version {version!r:.40}")
    if about.get("little_endian", True) != (sys.byteorder == "little"):
        raise TensorFileError("its numbers are in another order of bytes than this machine's")
    value, keys = machine.run(), machine.run()
    if not isinstance(keys, list):
        raise TensorFileError("it has no list of its tensors")
    if tensors:
        file.seek(machine.at)
        for key in keys:
            _fill_old(file, made.storages, key)
    return Content(value, tuple(sorted(machine.unknown)))


def _fill_old(file: BinaryIO, storages: Mapping[str, _Storage], key: Any) -> None:
    """Read the elements of a storage, in place."""
    storage = storages.get(key) if isinstance(key, str) else None
    count = int.from_bytes(file.read(8), "little")
    if storage is None or count != storage.count:
        raise TensorFileError("a tensor in it has another count of elements than its data")
    data = _read_bytes(file.readinto, count * storage.dtype.itemsize)
    storage.elements().copy_(data.view(storage.dtype))
