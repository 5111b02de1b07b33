"""The odd values: values that programs and other packs may put into an input."""

from __future__ import annotations

import decimal
import fractions
import math
import types
import warnings
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .samples import Samples

NAN, INF = math.nan, math.inf
OtherSeg = namedtuple(
    "OtherSeg", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper"
)


def odd_values(good: Samples) -> dict[str, Any]:
    """The values by a name for each."""
    values = {}
    for family in (_numbers, _texts, _containers, _tensors, _latents, _segs, _pipes, _objects):
        for name, value in family(good):
            values[f"{family.__name__[1:]}: {name}"] = value
    return values


def _numbers(good: Samples) -> Iterator[tuple[str, Any]]:
    plain = (
        0, -1, 1, 2, 3, 7, 255, 0.5, -0.5, 1.5, 7.0, 1e-300, 2**31, 2**32, 2**63, 2**64, -(2**31),
        -(2**63), -(2**64), 1e300, -1e300, NAN, INF, -INF, True, False, None, 1j,
        fractions.Fraction(1, 3), decimal.Decimal("NaN"), decimal.Decimal("1.5"),
    )  # fmt: skip
    for value in plain:
        yield repr(value), value
    yield "10**400", 10**400
    yield "-10**5000", -(10**5000)
    arrays = {
        "float32 2.5": np.float32(2.5), "int64 -3": np.int64(-3), "float64 nan": np.float64(NAN),
        "array 3": np.array(3), "array [1, 2]": np.array([1, 2]), "bool": np.bool_(True),
        "array of objects": np.array([None, "x"], object), "complex": np.complex64(1j),
    }  # fmt: skip
    yield from ((f"numpy {name}", value) for name, value in arrays.items())


def _texts(good: Samples) -> Iterator[tuple[str, Any]]:
    plain = (
        "", " ", "5", "5.0", "-1", "nan", "inf", "1e400", "0x10", "1_0", "true", "False", "bbox",
        "NegativePlaceholder", "None", "\0", "a\0b", "../../etc/passwd", "C:\\x", "\ud800",
        "\N{GRINNING FACE}", "%date%%s%n", "__*__", "<lora:x:nan>", "[LAB]", "[1, 2]", "{}",
    )  # fmt: skip
    for value in plain:
        yield repr(value), value
    long = {"a": 20000, "9": 5000, "{": 1000, "[SEP]": 200, "\n": 300, "../": 500, "__a__|": 300}
    yield from ((f"{part!r} * {count}", part * count) for part, count in long.items())
    yield "bytes", b"bytes"
    yield "bytearray", bytearray(b"x")
    yield "path", Path("x")


def _containers(good: Samples) -> Iterator[tuple[str, Any]]:
    plain = (
        [], (), {}, [None], [1, 2], (1,), [[1, 2], [3]], [1.0, NAN, 2, 3], ["a"], [[]], [{}],
        {"a": 1}, {"samples": None}, {"samples": "x"}, {"samples": [1]}, {"frames": 5},
        {"frames": [], "connection_sets": {}, "image_size": None},
        {"frames": [[{}]], "connection_sets": {}, "image_size": (64, 64)},
        [{"x": 1}], [{"x": NAN, "y": 0, "width": 3, "height": 3}], [[None]],
        [{"x": -(10**9), "y": 0, "width": 10**9, "height": 3}], {"x": 1},
        [{"x": 1, "y": 1, "width": 9, "height": 9, "label": 5, "score": "x"}],
        tuple("abcde"), (None,) * 5, (None,) * 14, ("x",) * 14, range(5), (0, 0, 0, 0),
        (10**9,) * 4, (-1, -1, 5, 5), ("a", 1, 2, 3), (0, 0, NAN, 1), (64, 64), (-1, 64),
        (10**400, 1), (0, 0, INF, INF), (5, 5, 1, 1), (0, 0, 10**400, 1),
    )  # fmt: skip
    for value in plain:
        yield str(value)[:60] if "10**" not in str(type(value)) else "huge", value
    yield "set", {1}
    yield "frozenset", frozenset()
    ring: list = []
    ring.append(ring)
    yield "a list in itself", ring


def _tensors(good: Samples) -> Iterator[tuple[str, Any]]:
    image, mask = good.image, good.mask
    shapes = [
        (), (0,), (3,), (4, 4), (1, 4, 4), (1, 4, 4, 3), (1, 4, 4, 2), (1, 2, 4, 4, 3),
        (1, 4, 8, 8), (0, 64, 64, 3), (1, 0, 64, 3), (1, 64, 0, 3), (0, 64, 64), (1, 1, 64, 64),
        (1, 64, 64, 1), (1, 1, 1, 3), (1, 1, 1), (1, 1, 500, 3), (500, 1), (2, 64, 64, 3),
        (2, 64, 64), (1, 64, 64, 4), (1, 65, 63, 3), (1, 63, 65), (1, 3, 64, 64), (1,) * 12,
    ]  # fmt: skip
    for shape in shapes:
        yield f"of the shape {shape}", torch.full(shape, 0.5)
    for name, tensor in (("image", image), ("mask", mask)):
        for value in (NAN, INF, -INF, -5.0, 300.0, 1e30):
            yield f"{name} of {value}", torch.full_like(tensor, value)
        hole = tensor.clone()
        hole.flatten()[5] = NAN
        yield f"{name} with one NaN", hole
        kinds = (
            torch.uint8, torch.int8, torch.int64, torch.bool, torch.float16, torch.bfloat16,
            torch.float64, torch.complex64,
        )  # fmt: skip
        for kind in kinds:
            yield f"{name} as {kind}", tensor.to(kind)
        for kind in ("float8_e4m3fn", "float8_e5m2", "uint16"):
            if hasattr(torch, kind):
                yield f"{name} as {kind}", tensor.to(getattr(torch, kind))
        yield f"{name} of bytes", (tensor * 255).byte()
        yield f"sparse {name}", tensor.to_sparse()
        yield f"meta {name}", tensor.to("meta")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield f"quantised {name}", torch.quantize_per_tensor(tensor, 0.1, 0, torch.quint8)
            yield f"nested {name}", torch.nested.nested_tensor([tensor[0], tensor[0, :9]])
        with torch.inference_mode(False):
            yield f"{name} with gradients", tensor.clone().requires_grad_()
        yield f"{name} as an array", tensor.numpy()
        yield f"{name} expanded", tensor[:, :1].expand_as(tensor)
        yield f"{name} mirrored", tensor.transpose(1, 2)
        yield f"{name} in a list", [tensor]
        yield f"{name} of negative bits", torch.complex(tensor, tensor).conj().imag
        yield f"{name} as a parameter", torch.nn.Parameter(tensor.clone(), requires_grad=False)
    yield "sparse csr", torch.ones(4, 4).to_sparse_csr()
    yield "scalar nan", torch.tensor(NAN)


def _latents(good: Samples) -> Iterator[tuple[str, Any]]:
    latent = good.latent
    samples = latent["samples"]
    for name, value in _tensors(good):
        if name.startswith(("of the shape", "nested", "sparse image", "meta image")):
            yield f"samples {name}", {"samples": value}
    kinds = (torch.int64, torch.float16, torch.complex64, torch.bool)
    yield from ((f"samples as {kind}", {"samples": samples.to(kind)}) for kind in kinds)
    yield "samples of nan", {"samples": torch.full_like(samples, NAN)}
    yield "of a clip", {"samples": samples[:, :, None].repeat(1, 1, 3, 1, 1)}
    yield "of other channels", {"samples": torch.zeros(1, 7, 8, 8)}
    yield "of other channels, not empty", {"samples": torch.ones(1, 7, 8, 8)}
    for value in ("x", 5, [], torch.zeros(0), torch.zeros(3), torch.full((1, 64, 64), NAN),
                  torch.ones(1, 64, 64).to("meta"), torch.ones(2, 3, 64, 64),
                  torch.ones(1, 64, 64, dtype=torch.bool)):  # fmt: skip
        yield f"noise_mask {_name(value)}", {**latent, "noise_mask": value}
    for value in ("x", [0], [5], [10**9], None):
        yield f"batch_index {value!r}", {**latent, "batch_index": value}


def _segs(good: Samples) -> Iterator[tuple[str, Any]]:
    shape, items = good.segs
    seg = items[0]
    mask = seg.cropped_mask
    for size, entries in (
        (shape, []), ((0, 0), []), (shape, None), (shape, [None]), (("a", "b"), []),
        ((NAN, NAN), []), ((10**9, 10**9), []), ((-1, -1), []), ((10**9, 1), items), (None, items),
        ((1.5, 2.5), items), (np.array(shape), items), (torch.tensor(shape), items),
        ((10**400, 1), items), (shape, tuple(items)), ((32, 32), items), ((0, 0), items),
        (shape, items * 3), (shape, {0: seg}), (shape, iter(items)), ((1, 1), items),
    ):  # fmt: skip
        yield f"{_name(size)}, {_name(entries)}", (size, entries)
    changed = {
        "cropped_mask": (
            mask.tolist(), "x", None, np.zeros((1, 1, 4, 4)), np.zeros((0, 0)),
            np.array([[None]], object), mask.astype(complex), np.full_like(mask, NAN), mask[:5],
            mask > 0, mask.astype(np.uint8), torch.from_numpy(mask), mask[None].repeat(3, 0),
            torch.from_numpy(mask).to_sparse(), torch.from_numpy(mask).to("meta"),
            torch.from_numpy(mask).half(), mask * 9, -mask, mask.astype(np.float16), np.zeros(5),
            np.array([["a"]]), mask * 0,
        ),
        "crop_region": (
            (0, 0, NAN, 5), (40, 40, 8, 8), (-(10**9), -(10**9), 10**9, 10**9), (0, 0, 10**9, 5),
            (200, 200, 240, 240), (8, 8, 8, 8), "abcd", None, (8.4, 8.4, 40.2, 40.2), (1, 2, 3),
            np.array((8, 8, 40, 40)), torch.tensor((8, 8, 40, 40)), ("8", "8", "40", "40"),
            (0, 0, 10**400, 5), (0, 0, 1e300, 1e300), 5, (7, 7, 41, 41),
        ),
        "bbox": (
            None, (40, 40, 8, 8), (0, 0, INF, 5), (-(10**9), 0, 10**9, 5), "abcd", (8, 8, 8, 8),
            np.array((8.5, 8.5, 40.5, 40.5)), (200, 200, 240, 240), (0, 0, 1e300, 1e300),
        ),
        "confidence": (
            None, NAN, "0.5", "x", [0.5], np.array([0.5]), -1, 10**400, torch.tensor(0.5), [],
            object(), True, torch.tensor([0.1, 0.9]), {},
        ),
        "label": (None, 5, "", "a" * 20000, "\0", ["A"], b"A", "\ud800", {}, 1.5),
        "cropped_image": (
            "x", 5, np.zeros((1, 32, 32, 3), np.uint8), np.full((1, 32, 32, 3), NAN),
            np.zeros((1, 1, 1, 32, 32)), np.zeros((1, 4, 4, 3)), np.zeros((0, 4, 4, 3)),
            torch.zeros(1, 32, 32, 3), torch.zeros(1, 32, 32, 2), torch.zeros(32, 32, 3),
            torch.zeros(1, 32, 32, 3).to("meta"), torch.zeros(1, 32, 32, 1), [1],
            torch.zeros(1, 32, 32, 3).half(), torch.zeros(1, 32, 32, 3).to_sparse(),
            np.zeros((2, 32, 32, 4)), np.array(5),
        ),
        "control_net_wrapper": ("x", 5, object(), [], Refusing()),
    }  # fmt: skip
    for field, values in changed.items():
        for value in values:
            name = f"{field} {_name(value)}"
            yield name, (shape, [seg._replace(**{field: value}), *items[1:]])
            yield f"SEG alone, {name}", seg._replace(**{field: value})
    yield "of another class", (shape, [OtherSeg(*seg)])
    yield "of dicts", (shape, [seg._asdict()])
    yield "of plain tuples", (shape, [tuple(seg)])
    yield "SEGs alone", items


def _pipes(good: Samples) -> Iterator[tuple[str, Any]]:
    basic, conditioning = good.basic_pipe, good.conditioning
    for place, value in (
        (0, "model"), (0, None), (0, 5), (0, good.clip), (1, None), (1, []), (1, good.model),
        (2, None), (2, good.clip), (2, "vae"), (3, None), (3, "NegativePlaceholder"), (3, []),
        (3, "x"), (4, None), (4, "NegativePlaceholder"), (4, []), (4, {}), (0, object()),
    ):  # fmt: skip
        yield f"part {place} is {_name(value)}", (*basic[:place], value, *basic[place + 1 :])
    yield "of four", basic[:4]
    yield "as a list", list(basic)
    yield "as an iterator", iter(basic)
    tensor, options = conditioning[0]
    for name, entry in {
        "None": None, "no tensor": [None, {}], "a text": ["x", {}], "no dict": [tensor, None],
        "one part": [tensor], "tensor alone": tensor, "one axis": [tensor.flatten(), {}],
        "nan": [tensor * NAN, options], "sparse": [tensor.to_sparse(), options],
        "meta": [tensor.to("meta"), options], "empty": [tensor[:, :0], options],
        "half": [tensor.half(), options], "integers": [tensor.long(), options],
        "a tuple": (tensor, options), "three parts": [tensor, options, 5],
        "two rows": [tensor.repeat(2, 1, 1), options], "four axes": [tensor[None], options],
        "other width": [torch.zeros(1, 7, 5), options],
    }.items():  # fmt: skip
        yield f"conditioning: {name}", [entry]
    for name, value in {
        "mask": ("x", 5, torch.zeros(3), torch.zeros(1, 1, 1, 8, 8), torch.ones(8, 8),
                 torch.full((1, 8, 8), NAN), torch.ones(1, 8, 8).to("meta"), None, [1]),
        "area": ("x", (1, 2), ("a",) * 4, (8, 8, 0, 0), (-1, -1, -1, -1), (10**9,) * 4, 5,
                 ("percentage", 0.5, 0.5, 0, 0), (0, 0, 0, 0), ("percentage", 9, 9, 9, 9),
                 (1.5, 2.5, 0.5, 0.5), (4, 4, 100, 100)),
        "strength": ("x", NAN, -1, 1e300, None), "start_percent": ("x", 2, -1, NAN),
        "end_percent": ("x", 2, -1, INF), "mask_strength": ("x", NAN), "set_area_to_bounds": ("x",),
        "pooled_output": ("x", torch.zeros(3), 5), "control": ("x", 5, object(), []),
        "gligen": (5, "x", ("position", None, [])), "hooks": ("x", 5),
        "concat_latent_image": ("x", torch.zeros(3)), "concat_mask": ("x", torch.zeros(0)),
        "reference_latents": ("x", [torch.zeros(3)], [None], 5), "guidance": ("x", NAN),
        "attention_mask": ("x", torch.zeros(3)), "unknown": (object(),),
    }.items():  # fmt: skip
        for item in value:
            label = f"conditioning: {name} {_name(item)}"
            yield label, [[tensor, {**options, name: item}]]


class Anything:
    """An object that has every method, and returns the same from each."""

    def __init__(self, answer: Any) -> None:
        object.__setattr__(self, "answer", answer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: self.answer


class Refusing:
    """An object without any method, which cannot even be converted to a text."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def _objects(good: Samples) -> Iterator[tuple[str, Any]]:
    yield "object", object()
    yield "without text", Refusing()
    yield "int", int
    yield "a class of hooks", Anything
    yield "math", math
    yield "a function", lambda *args, **options: None
    yield "an error", ValueError("an error")
    yield "ellipsis", ...
    yield "attributes that are no methods", types.SimpleNamespace(detect=5, sample="x", apply=None)
    yield "an iterator", iter([])
    yield "a generator", (number for number in ())
    yield from ((f"the good {name}", value) for name, value in good.objects().items())


def _name(value: Any) -> str:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"{type(value).__name__} {tuple(value.shape)} {value.dtype}"
    try:
        return repr(value)[:50]
    except Exception:
        return type(value).__name__
