"""Load a SAM of any known kind, recognised by the weights in its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..network import Network
from ..safe_weights import WeightsError, read_tensors
from . import v1, v2
from .model import Sam


def load_sam(path: str | Path, place: Callable[[torch.nn.Module], Network]) -> Sam:
    """The SAM of a file.

    Args:
        path: weights as published by the authors (.pth, .pt) or by Hugging Face (.safetensors).
        place: chooses the device of a network.

    Raises:
        WeightsError: the file is refused, is broken, or is of no known kind.
        RuntimeError: the package transformers is missing or too old.
    """
    path = Path(path)
    weights = read_tensors(path)
    with _explained(path):
        if v1.is_sam(weights):
            return Sam(place(v1.build(weights)), v1.embed, v1.ask)
        if v2.is_sam2(weights):
            network = place(v2.build(weights, video=False))
            follower = v2.Follower(lambda: place(_video_network(path)))
            return Sam(network, v2.embed, v2.ask, follower)
    raise WeightsError(
        f"'{path.name}' is no SAM of a known kind: it has {len(weights)} weights, the first "
        f"{next(iter(weights), None)!r}. Known are SAM (ViT-B, ViT-L, ViT-H), SAM 2 and SAM 2.1."
    )


def _video_network(path: Path) -> torch.nn.Module:
    weights = read_tensors(path)
    with _explained(path):
        return v2.build(weights, video=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """A context for building a network; errors say what is wrong with the file or installation."""
    try:
        yield
    except ImportError as error:
        raise RuntimeError(
            f"'{path.name}' needs a newer transformers package than ComfyUI's Python has: {error}. "
            "Update it with: pip install -U transformers"
        ) from error
    except (KeyError, IndexError, RuntimeError) as error:
        lines = str(error).splitlines()
        raise WeightsError(
            f"'{path.name}' lacks weights of its network: {' '.join(lines[:2])[:300]}. Download it "
            "again."
        ) from error
