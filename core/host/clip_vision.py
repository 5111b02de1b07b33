"""ComfyUI's CLIP_VISION as what tells persons apart."""

from __future__ import annotations

from typing import Any

import torch

from ...utils.check import described
from ..checked_calls import Source
from ..geometry import Size

_SIDE = 224  # pixels, of models that do not say it


class ClipVisionEmbedder:
    """Vectors of pictures from any model of 'Load CLIP Vision': CLIP, SigLIP, DINO.

    Attributes:
        size: width and height that the model works at.
    """

    def __init__(self, clip_vision: Any) -> None:
        side = getattr(clip_vision, "image_size", None)
        side = side if isinstance(side, int) and 0 < side <= 4096 else _SIDE
        self.size = Size(side, side)
        self._source = Source.of(
            "'clip_vision':", clip_vision, "encode_image", "Connect 'Load CLIP Vision'."
        )
        self._encode = self._source.method(clip_vision, "encode_image")

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """[N,D] for pictures [N,h,w,3], 0..1.

        Models without a vector for the whole picture give the mean of those of its parts.

        Raises:
            ValueError, RuntimeError: the model raised an error, or returned no vectors.
        """
        output = self._source.call(self._encode, pictures)
        vectors = getattr(output, "image_embeds", None)
        if vectors is None:
            vectors = getattr(output, "last_hidden_state", None)
        if not isinstance(vectors, torch.Tensor) or vectors.ndim < 2:
            raise self._source.wrong(described(vectors), "image_embeds [N,D]")
        vectors = vectors.float().flatten(1, -2) if vectors.ndim > 3 else vectors.float()
        return vectors.mean(dim=1) if vectors.ndim == 3 else vectors
