"""A network and the device that it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

# Mean and standard deviation of the pixels of ImageNet, in red, green and blue. Most networks were
# trained on pixels that are normalised with them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels [N,3,h,w] 0..1, normalised for networks that were trained on ImageNet."""
    mean, deviation = pixels.new_tensor(IMAGENET_MEAN), pixels.new_tensor(IMAGENET_DEVIATION)
    return (pixels - mean[:, None, None]) / deviation[:, None, None]


class Network(Protocol):
    """A network that is moved to its device while it is used."""

    module: torch.nn.Module

    def on_device(self) -> AbstractContextManager[torch.device]:
        """A context in which the module is on the device that the context returns."""
        ...

    def check_interrupt(self) -> None:
        """Called between steps of long work; raises the host's interrupt if the user stopped it."""
        ...


class CpuNetwork:
    """A network that stays in main memory."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    @contextmanager
    def on_device(self) -> Iterator[torch.device]:
        """See `Network.on_device`."""
        yield torch.device("cpu")

    def check_interrupt(self) -> None:
        """See `Network.check_interrupt`; nothing can stop this network."""
