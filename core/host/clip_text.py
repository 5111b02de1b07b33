"""Texts in the space of CLIP's pictures."""

from __future__ import annotations

from typing import Any

import torch

from ...utils.check import described
from ..checked_calls import Source

_REMEDY = (
    "Connect the text encoder that belongs to 'clip_vision', with its text projection: the CLIP-L"
    " file for ViT-L, or the CLIP of an SDXL checkpoint for ViT-bigG. The CLIP of an SD"
    " 1.5 checkpoint has no projection."
)


class ClipTexts:
    """Vectors of texts by a CLIP whose text projection leads to the space of pictures."""

    def __init__(self, clip: Any) -> None:
        self._source = Source.of("'clip':", clip, "encode_from_tokens", _REMEDY)
        self._tokenize = self._source.method(clip, "tokenize")
        self._encode = self._source.method(clip, "encode_from_tokens")
        self._known: dict[str, torch.Tensor] = {}

    def vector(self, text: str, length: int) -> torch.Tensor:
        """[D] of a text; each text is encoded once.

        Args:
            length: D, that of the vectors of pictures.

        Raises:
            ValueError: the encoder gives no such vector.
        """
        if text not in self._known:
            self._known[text] = self._encoded(text, length)
        return self._known[text]

    def _encoded(self, text: str, length: int) -> torch.Tensor:
        tokens = self._source.call(self._tokenize, text)
        answer = self._source.call(self._encode, tokens, return_pooled=True)
        pooled = answer[1] if isinstance(answer, tuple | list) and len(answer) > 1 else None
        wanted = f"a vector of {length} numbers for a text, as 'clip_vision' gives for a picture"
        if not isinstance(pooled, torch.Tensor) or pooled.shape[-1] != length:
            raise self._source.wrong(described(pooled), wanted)
        vector = pooled.detach().float().cpu().reshape(-1, length)[0]
        if not bool(vector.isfinite().all()) or not bool(vector.any()):
            raise self._source.wrong("a vector that says nothing", wanted)
        return vector
