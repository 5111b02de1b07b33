"""Texts, as packs draw and deal them that know ComfyUI-Impact-Pack's `wildcards`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from ..nodes.prompts.wildcards import ImpactWildcardEncode, ImpactWildcardProcessor
from ..utils.seeds import MAX_SEED
from ..wildcards.deal import in_parts, labelled_text

__all__ = [
    "WildcardChooser", "WildcardChooserDict", "get_wildcard_list", "process",
    "process_wildcard_for_segs", "process_with_loras",
]  # fmt: skip

process = ImpactWildcardProcessor.process
process_with_loras = ImpactWildcardEncode.process_with_loras
get_wildcard_list = ImpactWildcardEncode.get_wildcard_list


class WildcardChooser:
    """Gives the texts of a segment text one after another."""

    def __init__(self, items: list[tuple[int | None, str]], randomize_when_exhaust: bool) -> None:
        """
        Args:
            items: seed, or None for the segment's own, and text.
            randomize_when_exhaust: whether each round has an order of its own.
        """
        self.items, self.randomize_when_exhaust = list(items), randomize_when_exhaust
        self._turns = self._in_turn()

    def get(self, seg: Any) -> tuple[int | None, str]:
        return next(self._turns)

    def _in_turn(self) -> Iterator[tuple[int | None, str]]:
        chance = random.Random(0).random  # noqa: S311 - the same in each run
        while self.items:
            mixed = self.randomize_when_exhaust
            yield from sorted(self.items, key=lambda _: chance()) if mixed else list(self.items)
        while True:
            yield None, ""


class WildcardChooserDict:
    """Gives segments their texts by label."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get(self, seg: Any) -> str:
        return labelled_text(self.text, str(seg.label).strip())


def process_wildcard_for_segs(
    wildcard: str,
) -> tuple[str | None, WildcardChooser | WildcardChooserDict]:
    """The order in which a segment text is dealt, and what deals it.

    Returns:
        One of ASC, DSC, ASC-SIZE, DSC-SIZE, RND, LAB, or None; and an object whose `get(seg)` gives
        (seed or None, text), with LAB the text alone.
    """
    mode, text, parts = in_parts(wildcard)
    if mode == "LAB":
        return mode, WildcardChooserDict(text)
    chance = random.Random(0)  # noqa: S311 - the same in each run
    items = [
        (int(chance.random() * MAX_SEED) if part.random_seed else part.seed, part.text.strip())
        for part in parts
    ]
    return mode or None, WildcardChooser(items, mode == "RND")
