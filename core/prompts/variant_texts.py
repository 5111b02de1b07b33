"""The texts of variants of segments, as the detailer that drew them dealt and expanded them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...wildcards.deal import Segment, deal
from ...wildcards.grammar import expand, parse_prompt
from ...wildcards.library import Library
from ..geometry import Box
from ..segs.seg import SEG
from ..segs.variants import Candidates


def dealt_texts(
    groups: Sequence[Candidates], text: str, library: Library
) -> Callable[[Candidates, SEG], str]:
    """What gives the text of a variant of one of the segments; "" for none.

    A text for each segment is dealt as a detailer deals it to the segments of an image, and its
    choices are drawn by the seed of the variant. LoRAs and markers are left out.
    """
    texts: dict[int, str] = {}
    by_image: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        by_image.setdefault(group.place.image, []).append(position)
    for positions in by_image.values():
        positions.sort(key=lambda position: groups[position].place.segment)
        segments = [
            Segment(Box.of(groups[position].segs[0].bbox).as_tuple(), groups[position].label)
            for position in positions
        ]
        for entry in deal(text, segments, 0):
            if not entry.skip:
                texts[id(groups[positions[entry.index]])] = entry.text or ""

    def text_of(group: Candidates, seg: SEG) -> str:
        own = texts.get(id(group), "")
        seed = 0 if seg.variant is None else seg.variant.seed
        prompt = parse_prompt(expand(own, seed, library))
        return " ".join(chunk.strip() for chunk in prompt.chunks if chunk.strip())

    return text_of
