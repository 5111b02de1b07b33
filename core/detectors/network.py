"""A network and the device that it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

# Of the pixels of ImageNet, in red, green and blue: most networks of pictures were trained on
# pixels from which these means are taken off, in units of these deviations.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [N,3,h,w] 0..1 as networks that were trained on ImageNet take them."""
    mean, deviation = pixels.new_tensor(IMAGENET_MEAN), pixels.new_tensor(IMAGENET_DEVIATION)
    return (pixels - mean[:, None, None]) / deviation[:, None, None]


class Network(Protocol):
    """A network that is brought to its device for as long as it is used."""

    module: torch.nn.Module

    def on_device(self) -> AbstractContextManager[torch.device]:
        """While the context is open, the module is on the device that it gives."""
        ...

    def check_interrupt(self) -> None:
        """Called between steps of long work: raises if the user has stopped it."""
        ...


class CpuNetwork:
    """A network that stays in main memory."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    @contextmanager
    def on_device(self) -> Iterator[torch.device]:
        yield torch.device("cpu")

    def check_interrupt(self) -> None:
        pass
