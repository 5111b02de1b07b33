"""From a segment's text to a conditioning: expanded, its LoRAs loaded, encoded, each once a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ...wildcards.grammar import Lora, Prompt, expand, parse_prompt, tell_untaken
from ...wildcards.library import Library
from ..settings import Conditioning, Models
from .join_conditioning import concat_text, encode_chunks, replace_text

Expanded = Callable[[str, tuple[Lora, ...]], None]


class TextBackend(Protocol):
    """What text needs of the host."""

    def apply_loras(self, model: Any, clip: Any, loras: tuple[Lora, ...]) -> tuple[Any, Any]: ...

    def encode_text(self, clip: Any, text: str) -> Conditioning: ...

    def wildcard_library(self) -> Library: ...


class SegmentTexts:
    """The models and the positive conditioning for each segment text of one run."""

    def __init__(self, backend: TextBackend, models: Models) -> None:
        self.backend = backend
        self.models = models
        self._patched: dict[tuple[Lora, ...], tuple[Any, Any]] = {}
        self._encoded: dict[tuple, Conditioning] = {}

    def apply(
        self, text: str | None, seed: int, concat: bool, expanded: Expanded | None = None
    ) -> Models:
        """The node's models with a segment's text in place of (or added to) the positive.

        Args:
            text: segment text as dealt, not yet expanded; None or blank changes nothing.
            seed: decides the text's random choices.
            concat: add the text's tokens to the positive instead of replacing it.
            expanded: is told of the text as its choices came out, and of its LoRAs.
        """
        if text is None or not text.strip():
            return self.models
        resolved = expand(text, seed, self.backend.wildcard_library())
        tell_untaken(resolved, markers=True)
        prompt = parse_prompt(resolved)
        if expanded is not None:
            expanded(resolved, prompt.loras)
        if prompt.loras and not any(prompt.chunks):  # LoRAs alone keep the positive
            model, clip = self._with_loras(prompt.loras)
            return self.models._replace(model=model, clip=clip)
        encoded = self.encode(prompt)
        put = concat_text if concat else replace_text
        return encoded._replace(positive=put(self.models.positive, encoded.positive))

    def encode(self, prompt: Prompt) -> Models:
        """The models with a prompt's LoRAs, and the prompt alone as the positive."""
        model, clip = self._with_loras(prompt.loras)
        key = (prompt.chunks, prompt.loras)
        if key not in self._encoded:
            self._encoded[key] = encode_chunks(
                prompt.chunks, lambda chunk: self.backend.encode_text(clip, chunk)
            )
        return self.models._replace(model=model, clip=clip, positive=self._encoded[key])

    def _with_loras(self, loras: tuple[Lora, ...]) -> tuple[Any, Any]:
        model, clip = self.models.model, self.models.clip
        if not loras:
            return model, clip
        if loras not in self._patched:
            self._patched[loras] = self.backend.apply_loras(model, clip, loras)
        return self._patched[loras]
