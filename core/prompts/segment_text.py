"""Segment texts as conditionings: expand them, load LoRAs, and encode, each once in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ...utils.notes import note
from ...wildcards.grammar import Lora, Prompt, expand, parse_prompt, tell_untaken
from ...wildcards.library import Library
from ..settings import Conditioning, Models
from .join_conditioning import concat_text, encode_chunks, prepend_text, replace_text
from .pictured import RememberingBackend, Showing

# (text, all LoRAs, text before, negative text), each text as its choices came out or None
Expanded = Callable[[str | None, tuple[Lora, ...], str | None, str | None], None]


class TextBackend(RememberingBackend, Protocol):
    """The functions of the host that segment texts need."""

    def apply_loras(self, model: Any, clip: Any, loras: tuple[Lora, ...]) -> tuple[Any, Any]:
        """The model and the CLIP with these LoRAs."""

    def encode_text(self, clip: Any, text: str) -> Conditioning:
        """The conditioning of a text."""

    def wildcard_library(self) -> Library:
        """The wildcard lists of the user."""


@dataclass(frozen=True)
class AddedText:
    """Texts and LoRAs that a segment has besides its text."""

    before: str = ""  # text whose tokens come before the node's positive
    negative: str | None = None  # text in place of the node's negative
    loras: tuple[Lora, ...] = ()  # besides those of the texts, of which they win over namesakes


NOTHING_ADDED = AddedText()
Drawn = tuple[str | None, Prompt | None]  # a text with its choices made, and what it asks for


@dataclass(frozen=True)
class DrawnTexts:
    """The texts of a segment with their choices made; (None, None) is one that it does not have."""

    own: Drawn
    before: Drawn  # of which the tokens come before the node's positive
    negative: Drawn  # in place of the node's negative
    loras: tuple[Lora, ...]  # of all texts, and what is added


class SegmentTexts:
    """The models and the conditionings for each segment text of one run."""

    def __init__(self, backend: TextBackend, models: Models) -> None:
        self.backend = backend
        self.models = models
        self._patched: dict[tuple[Lora, ...], tuple[Any, Any]] = {}
        self._encoded: dict[tuple, Conditioning] = {}

    def apply(
        self,
        text: str | None,
        seed: int,
        concat: bool,
        added: AddedText = NOTHING_ADDED,
        expanded: Expanded | None = None,
        showing: Showing | None = None,
    ) -> Models:
        """The node's models, with a segment's texts that replace their own or are added to them.

        Args:
            text: the segment's text, not yet expanded; None or blank changes nothing.
            seed: for the random choices of the texts.
            concat: add the text's tokens to the positive instead of replacing it.
            added: more texts and LoRAs, not yet expanded either.
            expanded: called with the expanded texts and the LoRAs.
            showing: shows text encoders that look at pictures those of the segment. A text that
                replaces one with pictures is encoded together with them, as that one was.
        """
        drawn = self.drawn(text, seed, added)
        if drawn is None:
            return self.models if showing is None else showing.models(self.models)
        (_, own), (_, lead), (_, negative) = drawn.own, drawn.before, drawn.negative
        # LoRAs alone keep the positive.
        says = own is not None and (any(own.chunks) or not own.loras)
        given = self.models
        if showing is not None:
            given = showing.models(given, (concat or not says, negative is None))
        loras = drawn.loras
        if expanded is not None:
            expanded(drawn.own[0], loras, drawn.before[0], drawn.negative[0])
        model, clip = self._with_loras(loras)
        models = given._replace(model=model, clip=clip)
        positive = models.positive
        if says and concat:
            positive = concat_text(positive, self._conditioning(own.chunks, loras))
        elif says:
            new = self._instead(self.models.positive, own.chunks, loras, showing)
            positive = replace_text(positive, new)
        if lead is not None and any(lead.chunks):
            positive = prepend_text(positive, self._conditioning(lead.chunks, loras))
        models = models._replace(positive=positive)
        if negative is None:
            return models
        encoded = self._instead(self.models.negative, negative.chunks, loras, showing)
        return models._replace(negative=replace_text(models.negative, encoded))

    def drawn(
        self, text: str | None, seed: int, added: AddedText = NOTHING_ADDED
    ) -> DrawnTexts | None:
        """A segment's texts with their choices made; None if they change nothing.

        Args:
            text, seed, added: as those of `apply`.
        """
        own, before = self._drawn(text, seed), self._drawn(added.before, seed)
        negative = self._negative(added.negative, seed)
        prompts = [prompt for _, prompt in (before, own, negative) if prompt is not None]
        loras = _together((lora for prompt in prompts for lora in prompt.loras), added.loras)
        return DrawnTexts(own, before, negative, loras) if prompts or loras else None

    def encode(self, prompt: Prompt) -> Models:
        """The models with a prompt's LoRAs, and the prompt alone as the positive."""
        model, clip = self._with_loras(prompt.loras)
        positive = self._conditioning(prompt.chunks, prompt.loras)
        return self.models._replace(model=model, clip=clip, positive=positive)

    def _drawn(self, text: str | None, seed: int) -> Drawn:
        """A text with its choices made, and as a prompt; None for a blank one."""
        if text is None or not text.strip():
            return None, None
        resolved = expand(text, seed, self.backend.wildcard_library())
        tell_untaken(resolved, markers=True)
        return resolved, parse_prompt(resolved)

    def _negative(self, text: str | None, seed: int) -> Drawn:
        """The same of a negative text, which may be blank on purpose."""
        if text is None:
            return None, None
        if isinstance(self.models.negative, str):
            note(
                "text",
                "The negative text of a segment is not used: the node's negative is the placeholder"
                " for guidance without one. Connect a negative conditioning to use such texts.",
            )
            return None, None
        resolved, prompt = self._drawn(text, seed)
        return (resolved, prompt) if prompt is not None else ("", Prompt(("",), ()))

    def _instead(
        self,
        side: Conditioning,
        chunks: tuple[str, ...],
        loras: tuple[Lora, ...],
        showing: Showing | None,
    ) -> Conditioning:
        """The conditioning of a text that replaces that of the node's `side`.

        If the node's text was encoded together with pictures, so is the first chunk.
        """
        _, clip = self._with_loras(loras)
        seen = None
        if showing is not None and clip is not None:
            seen = showing.text(clip, chunks[0], side)
        if seen is None:
            return self._conditioning(chunks, loras)
        for chunk in chunks[1:]:
            seen = concat_text(seen, self._conditioning((chunk,), loras))
        return seen

    def _conditioning(self, chunks: tuple[str, ...], loras: tuple[Lora, ...]) -> Conditioning:
        key = (chunks, loras)
        if key not in self._encoded:
            _, clip = self._with_loras(loras)
            self._encoded[key] = encode_chunks(
                chunks, lambda chunk: self.backend.encode_text(clip, chunk)
            )
        return self._encoded[key]

    def _with_loras(self, loras: tuple[Lora, ...]) -> tuple[Any, Any]:
        model, clip = self.models.model, self.models.clip
        if not loras:
            return model, clip
        if loras not in self._patched:
            self._patched[loras] = self.backend.apply_loras(model, clip, loras)
        return self._patched[loras]


def _together(loras: Iterable[Lora], added: Iterable[Lora]) -> tuple[Lora, ...]:
    """The LoRAs of texts with what is added: of namesakes the last one, in the place of the first.

    One that is added without any strength takes its namesake away.
    """
    by_name = {lora.name: lora for lora in loras}
    for lora in added:
        if lora.model_strength or lora.clip_strength:
            by_name[lora.name] = lora
        else:
            by_name.pop(lora.name, None)
    return tuple(by_name.values())
