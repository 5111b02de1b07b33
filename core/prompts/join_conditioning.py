"""Texts in a conditioning: replace them, append them, and set options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..settings import Conditioning

# Options that a text encoder returns together with a text.
_TEXT = frozenset({
    "pooled_output", "attention_mask", "attention_mask_img_shape", "attention_mask_mt5xl",
    "conditioning_mt5xl", "conditioning_llama3", "conditioning_byt5small", "conditioning_lyrics",
    "t5xxl_ids", "t5xxl_weights", "text_input_ids", "cross_attn_controlnet", "minimax_token_tags",
    "unprocessed_ltxav_embeds", "clip_start_percent", "clip_end_percent",
})  # fmt: skip
# Options that say where in the picture an entry applies, and with which weight.
_PLACE = frozenset({
    "area", "mask", "mask_strength", "strength", "set_area_to_bounds", "gligen", "default",
})  # fmt: skip


def replace_text(old: Conditioning, new: Conditioning) -> Conditioning:
    """The conditioning `new`, with the options of `old` that belong to no text and no place.

    The pooled vector, token masks and the like are only those of the new text. If entries of the
    old conditioning apply to parts of the steps, the new one gets an entry for each part.
    """
    if not old:
        return new
    return [[embedding, {**kept, **options}] for kept in _kept(old) for embedding, options in new]


def _kept(old: Conditioning) -> list[dict[str, Any]]:
    """The options of the old entries that a new text keeps.

    They are those of the first entry; if that applies only to some steps, those of the first entry
    of each span of steps.
    """
    spans: dict[tuple, dict[str, Any]] = {}
    for _, options in old:
        span = (options.get("start_percent") or 0.0, options.get("end_percent", 1.0))
        spans.setdefault(span, options)
    first = next(iter(spans))
    chosen = [spans[first]] if first[0] <= 0 and first[1] >= 1 else list(spans.values())
    return [
        {key: value for key, value in options.items() if key not in _TEXT | _PLACE}
        for options in chosen
    ]


def concat_text(first: Conditioning, second: Conditioning) -> Conditioning:
    """Append the tokens of `second` to those of every entry of `first`.

    Raises:
        ValueError: their embeddings have different widths.
    """
    return _joined_texts(first, second, before=False)


def prepend_text(conditioning: Conditioning, lead: Conditioning) -> Conditioning:
    """Put the tokens of `lead` before those of every entry of a conditioning.

    Raises:
        ValueError: their embeddings have different widths.
    """
    return _joined_texts(conditioning, lead, before=True)


def _joined_texts(first: Conditioning, second: Conditioning, before: bool) -> Conditioning:
    """The entries of `first`, with the tokens of `second` before or after their own."""
    if not second:
        return first
    added = second[0][0]
    result = []
    for embedding, options in first:
        if embedding is None or added is None or embedding.shape[-1] != added.shape[-1]:
            raise ValueError(
                "[CONCAT], or a rule of a segment plan, cannot join the segment's text to the "
                "positive conditioning: their embeddings have different widths. Encode both with "
                "the same CLIP, or leave [CONCAT] out so that the segment's text replaces the "
                "positive."
            )
        rows = max(embedding.shape[0], added.shape[0])
        parts = [_repeated(embedding, rows), _repeated(added.to(embedding.device), rows)]
        joined = torch.cat(parts[::-1] if before else parts, dim=1)
        result.append([joined, _without_mask_of_tokens(options)])
    return result


def _repeated(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    return tensor if tensor.shape[0] == rows else tensor.expand(rows, *tensor.shape[1:])


def _without_mask_of_tokens(options: dict[str, Any]) -> dict[str, Any]:
    """Options without the attention mask, which fits the old number of tokens only."""
    return {key: value for key, value in options.items() if key != "attention_mask"}


def with_values(conditioning: Conditioning, **values: Any) -> Conditioning:
    """A copy in which every entry has these options."""
    return [[embedding, {**options, **values}] for embedding, options in conditioning]


def encode_chunks(chunks: tuple[str, ...], encode: Callable[[str], Conditioning]) -> Conditioning:
    """Encode the parts of a text that BREAK separates, and join their tokens.

    Raises:
        ValueError: as of `concat_text`.
    """
    first, *rest = (encode(chunk) for chunk in chunks)
    for conditioning in rest:
        first = concat_text(first, conditioning)
    return first
