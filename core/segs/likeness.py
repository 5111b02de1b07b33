"""How alike the variants of segments are to pictures, or to texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ..geometry import Box, Size
from ..pixels.image import to_rgb
from .people import Asked, PersonEmbedder, Persons
from .seg import SEG, box_in_picture, own_picture
from .sights import around_box, some_of
from .variants import Candidates
from .who import similarities

MARGIN = 0.2  # of what is compared: around a segment's box, on each side, as a share of it

Scores = list[list[float | None]]


def likeness_to_persons(
    groups: Sequence[Candidates], embedder: PersonEmbedder, persons: Persons
) -> Scores:
    """How alike each variant is to the reference pictures, as cosines.

    Of several pictures the one counts that a variant is most alike to. A segment whose label is one
    of the names is compared with the pictures of that name alone.

    Args:
        persons: with the name "" for pictures that go with every segment.

    Returns:
        None for the variants of a segment with which no picture goes.

    Raises:
        ValueError, RuntimeError: the embedder gave no vectors, or raised.
    """
    asked = Asked(embedder)
    known, _ = asked.embed(to_rgb(persons.pictures)[0], persons.windows(asked.shape, MARGIN))
    scores: Scores = []
    for group in groups:
        own = [row for row, name in enumerate(persons.names) if name in (group.label, "")]
        if not own:
            scores.append([None] * len(group.segs))
            continue
        to = known[own]
        scores.append([_alike(_seen(asked, seg), to) for seg in group.segs])
    return scores


def likeness_to_texts(
    groups: Sequence[Candidates],
    embedder: PersonEmbedder,
    vector_for: Callable[[Candidates, SEG, int], torch.Tensor | None],
) -> Scores:
    """How alike each variant is to its text, as cosines.

    Args:
        vector_for: gives the vector [D] of the text of a variant, D being the last argument; None
            where there is no text.
    """
    asked = Asked(embedder)

    def score(group: Candidates, seg: SEG) -> float | None:
        seen = _seen(asked, seg)
        text = vector_for(group, seg, seen.shape[1])
        return None if text is None else _alike(seen, text[None])

    return [[score(group, seg) for seg in group.segs] for group in groups]


def _alike(seen: torch.Tensor, known: torch.Tensor) -> float | None:
    """Mean over the sights [S,D] of how alike each is to the nearest of [K,D]."""
    if not len(seen):
        return None
    return float(similarities(seen, [0] * len(seen), known, [0] * len(known)))


def _seen(asked: Asked, seg: SEG) -> torch.Tensor:
    """Vectors [S,D] of what a segment's picture shows in its box; of a clip some frames."""
    picture, _ = to_rgb(own_picture(seg))
    size = Size(picture.shape[2], picture.shape[1])
    box = box_in_picture(seg, size).clipped(size)
    if box.empty:
        box = Box(0, 0, *size)
    rows = some_of(range(len(picture)))
    windows = [around_box(row, box, asked.shape, MARGIN) for row in rows]
    vectors, _ = asked.embed(picture.float(), windows)
    return vectors
