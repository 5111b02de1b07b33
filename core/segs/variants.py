"""Variants of segments: which there are, which one is chosen, and the choices as text.

A detailer gives each segment as many SEGs as it has variants. Here they are put together again by
segment, and one of each is chosen: by hand, or else by the best score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...utils.check import quoted
from ...utils.notes import note
from .seg import SEG, BatchImage, Variant

NOTE = "choices"  # kind of the notes given here
ORIGINAL = "original"  # the choice of what the image shows without any variant
HAND, SCORE, FIRST = "hand", "score", "first"  # by what a variant was chosen

_APART = r"[\s,;，、；]+"
_ENTRY = re.compile(
    rf"([0-9]{{1,9}})\s*(?:@\s*([0-9]{{1,9}})\s*)?[:：]\s*([0-9]{{1,9}}|{ORIGINAL})(?:{_APART}|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, order=True)
class Place:
    """A segment of an image."""

    segment: int
    image: int = -1  # of a batch, from 0; -1: of every image, or the only one

    @property
    def name(self) -> str:
        """As texts have it: "2", or "2@0" in image 0 of a batch."""
        return str(self.segment) if self.image < 0 else f"{self.segment}@{self.image}"


Choices = dict[Place, int | None]  # the number of a variant; None is the original


def read_choices(text: str, name: str = "choices") -> Choices:
    """The choices that a text makes.

    Args:
        text: entries such as "0:2" (segment 0 shows its variant 2), "1:original" and, in a batch,
            "0@3:2" (segment 0 of image 3), with commas, semicolons or blanks between them. Of two
            entries for the same segment the later one holds.
        name: the input's name, for the error.

    Raises:
        ValueError: there is something else in it.
    """
    text = re.sub(rf"^{_APART}", "", text)
    choices: Choices = {}
    at = 0
    while at < len(text):
        entry = _ENTRY.match(text, at)
        if entry is None:
            raise ValueError(
                f"'{name}', entry {len(choices) + 1}: {quoted(text[at:])} is no choice. Write the"
                " number of a segment, a colon and the number of its variant, or 'original' to"
                " leave it as it was: 0:2, 1:original. In a batch 0@3:2 is segment 0 of image 3."
            )
        segment, image, number = entry.groups()
        place = Place(int(segment), -1 if image is None else int(image))
        choices[place] = int(number) if number.isdecimal() else None
        at = entry.end()
    return choices


def written_choices(choices: Mapping[Place, int | None]) -> str:
    """Choices as `read_choices` reads them, by segment."""
    return ", ".join(
        f"{place.name}:{ORIGINAL if number is None else number}"
        for place, number in sorted(choices.items(), key=lambda entry: entry[0])
    )


@dataclass(frozen=True)
class Candidates:
    """The variants of one segment.

    Attributes:
        segs: by rising numbers, at least one.
        numbers: of each.
    """

    place: Place
    segs: tuple[SEG, ...]
    numbers: tuple[int, ...]

    @property
    def label(self) -> str:
        """The segment's label."""
        return str(self.segs[0].label)


@dataclass(frozen=True)
class Chosen:
    """What was chosen for one segment.

    Attributes:
        index: in the candidates; None is the original.
        by: HAND, SCORE or FIRST.
        scores: of each candidate, the higher the better; None where one has none.
    """

    candidates: Candidates
    index: int | None
    by: str
    scores: tuple[float | None, ...] = field(default=())

    @property
    def seg(self) -> SEG | None:
        """The variant that is pasted; None for the original."""
        return None if self.index is None else self.candidates.segs[self.index]


def candidates_of(items: Sequence[Any]) -> list[Candidates]:
    """The variants of each segment, in the order in which the segments come first.

    SEGs that do not know whose variant they are, such as those of another pack, count as variants
    of one segment where label, box and crop region are the same. Variants of several detailers can
    be joined: those of the same segment and region follow one another, with further numbers.

    Args:
        items: SEGs of any class.
    """
    groups: dict[tuple, list[SEG]] = {}
    for seg in items:
        variant: Variant | None = getattr(seg, "variant", None)
        own = (str(seg.label), tuple(seg.bbox)) if variant is None else (variant.segment,)
        groups.setdefault((_image_of(seg), tuple(seg.crop_region), own), []).append(seg)
    taken: set[Place] = set()
    found = []
    for (image, _, own), segs in groups.items():
        place = Place(own[0], image) if len(own) == 1 else None
        if place is None or place in taken:
            place = _free_place(image, taken, groups)
        taken.add(place)
        found.append(_numbered(place, segs))
    return found


def _image_of(seg: Any) -> int:
    image: BatchImage | None = getattr(seg, "batch_image", None)
    return -1 if image is None or image.index is None else image.index


def _free_place(image: int, taken: set[Place], groups: Iterable[tuple]) -> Place:
    """A number that no segment of the image has or is going to have."""
    used = {place.segment for place in taken if place.image == image}
    used |= {own[0] for other, _, own in groups if other == image and len(own) == 1}
    return Place(next(number for number in range(len(used) + 1) if number not in used), image)


def _numbered(place: Place, segs: Sequence[SEG]) -> Candidates:
    by_number: dict[int, SEG] = {}
    for seg in segs:
        variant: Variant | None = getattr(seg, "variant", None)
        number = len(by_number) if variant is None else variant.number
        by_number[number if number not in by_number else max(by_number) + 1] = seg
    numbers = tuple(sorted(by_number))
    return Candidates(place, tuple(by_number[number] for number in numbers), numbers)


Scores = Sequence[float | None]


def choose(
    groups: Sequence[Candidates], hand: Choices, scores: Sequence[Scores] | None
) -> list[Chosen]:
    """One variant of each segment: that chosen by hand, or else the one with the best score.

    Choices that name segments or variants that are not there are told.

    Args:
        scores: of each candidate of each group, the higher the better; None for a candidate that
            cannot be scored. None for all takes the first of each, as the detailers paste it. Of
            equal scores the first one counts.
    """
    missing = set(hand)
    result = []
    for position, group in enumerate(groups):
        own = tuple(scores[position]) if scores is not None else (None,) * len(group.segs)
        place = _named(group.place, hand)
        if place is not None:
            missing.discard(place)
            missing.discard(Place(place.segment))
            number = hand[place]
            if number is None or number in group.numbers:
                index = None if number is None else group.numbers.index(number)
                result.append(Chosen(group, index, HAND, own))
                continue
            note(
                NOTE,
                f"'choices' takes variant {number} of segment {place.name}, which has"
                f" {_all_of(group.numbers)}: the choice is left out.",
            )
        best = _best(own)
        by = FIRST if best is None else SCORE
        result.append(Chosen(group, best or 0, by, own))
    if missing:
        names = ", ".join(place.name for place in sorted(missing)[:20])
        there = ", ".join(group.place.name for group in groups[:20]) or "none"
        note(
            NOTE,
            f"'choices' names segments of which no variant came in: {names}. There are: {there}.",
        )
    return result


def _named(place: Place, hand: Choices) -> Place | None:
    """By which name the choices have a segment: that in its image, or else that in every image."""
    names = [place, Place(place.segment)]
    if place.image < 0:
        names.append(Place(place.segment, 0))  # the only image is the first
    return next((name for name in names if name in hand), None)


def _best(scores: Scores) -> int | None:
    """The place of the highest score; None where there is none."""
    known = [
        (score, -place)
        for place, score in enumerate(scores)
        if score is not None and math.isfinite(score)
    ]
    return -max(known)[1] if known else None


def _all_of(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"variant {numbers[0]} alone"
    if numbers == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"the variants {numbers[0]} to {numbers[-1]}"
    return "the variants " + ", ".join(map(str, numbers))
