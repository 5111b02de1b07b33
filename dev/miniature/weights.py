"""The miniature's weights on disk: float16, beside this file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

from .codec import Codec

HERE = Path(__file__).resolve().parent
CODEC = HERE / "codec.safetensors"
UNET = HERE / "unet.safetensors"
TEXT = HERE / "text.safetensors"


def save_weights(file: Path, weights: Mapping[str, torch.Tensor]) -> None:
    halves = {name: value.half().contiguous().cpu() for name, value in weights.items()}
    safetensors.torch.save_file(halves, file)


def load_weights(file: Path) -> dict[str, torch.Tensor]:
    """Weights as float32."""
    if not file.is_file():
        raise FileNotFoundError(
            f"The miniature's weights {file} are missing. Check the project out completely, or "
            "train them anew with python -m dev.miniature.train."
        )
    return {name: value.float() for name, value in safetensors.torch.load_file(file).items()}


def load_codec() -> Codec:
    codec = Codec()
    codec.load_state_dict(load_weights(CODEC))
    return codec.eval().requires_grad_(False)
