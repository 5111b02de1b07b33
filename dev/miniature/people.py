"""Who is who in the miniature world, and the network that tells its people apart.

Two characters are the same person when they share the attributes of PERSON, whatever their faces
express and whatever they wear. The network brings a picture of a head to a vector; vectors of one
person lie close together, of a clean picture as of a poor one. `write_embedder` saves it as an
.onnx file that says what it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..onnx_writer import model, node, tensor, value, wholes
from .look import PHRASES, Look

HERE = Path(__file__).resolve().parent
EMBEDDER = HERE / "people.onnx"
SIZE = 48  # pixels along each side of what the network sees
LENGTH = 64  # of a vector
PERSON = ("skin", "hair", "hair_colour", "eyes", "glasses")
PEOPLE = prod(len(PHRASES[attribute]) for attribute in PERSON)


def values_of(look: Look) -> list[int]:
    """The number of the look's value, for each attribute of PERSON."""
    return [list(PHRASES[name]).index(getattr(look, name)) for name in PERSON]


def person_of(values: list[int]) -> int:
    """The number of a person, 0 to PEOPLE - 1, from `values_of`."""
    number = 0
    for name, own in zip(PERSON, values, strict=True):
        number = number * len(PHRASES[name]) + own
    return number


def same_person(one: Look, other: Look) -> bool:
    return values_of(one) == values_of(other)


class PersonNet(nn.Module):
    """Pixels [N,3,SIZE,SIZE], 0..1, to vectors [N,LENGTH], which count by their direction alone."""

    def __init__(self):
        super().__init__()
        widths = ((3, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 80, 2), (80, 64, 1))
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, s, 1, bias=False) for a, b, s in widths)
        self.norms = nn.ModuleList(_Norm(b) for _, b, _ in widths)
        self.leave = nn.Linear(widths[-1][1] * (SIZE // 16) ** 2, LENGTH)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = 2 * pixels - 1
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x)).relu()
        return self.leave(nn.functional.avg_pool2d(x, 2).flatten(1))

    def plain_layers(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, int]]:
        """Kernel, bias and stride of each convolution with its norm in it."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernel = layer.weight * factor[:, None, None, None]
            yield kernel, norm.bias - norm.running_mean * factor, layer.stride[0]


class _Norm(nn.BatchNorm2d):
    """With a count of batches that an average of weights can hold; nothing goes by it."""

    def __init__(self, width: int):
        super().__init__(width)
        self.num_batches_tracked = torch.zeros(())


@torch.no_grad()
def write_embedder(network: PersonNet, file: Path = EMBEDDER) -> None:
    """Save the network as an .onnx file that takes pixels [N,3,SIZE,SIZE] and says which."""
    nodes, weights, last = [], [], "pixels"
    for number, (kernel, bias, stride) in enumerate(network.plain_layers()):
        if number == 0:  # pixels are brought to -1..1; the factor goes into the kernel
            kernel = 2 * kernel
            weights += [_weight("middle", torch.full((1, 3, 1, 1), 0.5))]
            nodes.append(node("Sub", [last, "middle"], "centred"))
            last = "centred"
        names = [f"kernel{number}", f"bias{number}"]
        weights += [_weight(name, own) for name, own in zip(names, (kernel, bias), strict=True)]
        shape = [
            wholes("kernel_shape", (3, 3)), wholes("pads", (1, 1, 1, 1)),
            wholes("strides", (stride, stride)),
        ]  # fmt: skip
        nodes.append(node("Conv", [last, *names], f"conv{number}", *shape))
        last = f"relu{number}"
        nodes.append(node("Relu", [f"conv{number}"], last))
    pool = wholes("kernel_shape", (2, 2)), wholes("strides", (2, 2))
    nodes.append(node("AveragePool", [last], "pooled", *pool))
    nodes.append(node("Flatten", ["pooled"], "flat"))
    weights += [_weight("leave", network.leave.weight.T), _weight("offset", network.leave.bias)]
    nodes.append(node("MatMul", ["flat", "leave"], "turned"))
    nodes.append(node("Add", ["turned", "offset"], "vector"))
    notes = {
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.NominalPixelRange": "Normalized_0_1",
    }
    file.write_bytes(
        model(
            nodes, weights, [value("pixels", ("N", 3, SIZE, SIZE))],
            [value("vector", ("N", LENGTH))], notes.items(),
        )
    )  # fmt: skip


def _weight(name: str, values: torch.Tensor) -> bytes:
    return tensor(name, np.ascontiguousarray(values.float().numpy()))
