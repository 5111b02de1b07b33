"""Deal segment texts to segments: read the markers of a text, before it is expanded.

Markers ignore case. At the start of the text, after blanks and comment lines, in any order:

    [CONCAT]                  the text is added to the node's positive instead of replacing it
    [ASC]  [DSC]              sort by position of the bounding boxes, x before y, up or down
    [ASC-SIZE]  [DSC-SIZE]    sort by area of the bounding boxes
    [RND]                     shuffle the parts again each time all have been dealt
    [LAB]                     choose by label, see below

Without [LAB] the rest of the text has parts. They are dealt in order; after the last comes the
first again:

    [SEP]                     ends a part
    [SEP:123]  [SEP:R]        ends a part; the next part has this seed, or a random one each time
    [SKIP]                    at the start of a part: its segment stays as it is
    [STOP]                    at the start of a part: so do its segment and all later ones

A segment with a blank part keeps the node's positive. With [LAB] the rest of the text has entries:

    [LAB] [ALL] detailed [face] smile [left hand] [SKIP]

An entry starts with a label in brackets. It goes to all segments with exactly that label; if there
are none, to those whose label differs only in upper and lower case. The entry of [ALL] goes to
every segment: alone, or before the entry of its label, joined by ", ". If one of the two is [SKIP]
or [STOP], only the entry of the label counts. A segment without any entry keeps the node's
positive. A text in brackets is a label if a segment has it, or if it consists only of letters and
digits of any script, spaces, `_`, `-` and `.`; so prompt syntax such as [red:blue:0.5] stays text.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..utils.labels import alike, listed
from ..utils.notes import note
from ..utils.seeds import MAX_SEED
from .grammar import strip_comments

_MARKER = re.compile(r"\s*\[(CONCAT|ASC-SIZE|DSC-SIZE|ASC|DSC|RND|LAB)\]", re.IGNORECASE)
_SEPARATOR = re.compile(r"\[SEP(?::([^\[\]]*))?\]", re.IGNORECASE)
_VERDICT = re.compile(r"\s*\[(SKIP|STOP)\]", re.IGNORECASE)
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_RESERVED = {"CONCAT", "ASC", "DSC", "ASC-SIZE", "DSC-SIZE", "RND", "LAB", "SEP", "SKIP", "STOP"}


@dataclass(frozen=True)
class Segment:
    """The data of a segment that dealing needs."""

    bbox: tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels
    label: str


@dataclass(frozen=True)
class Dealt:
    """The text of one segment."""

    index: int  # index of the segment in the input list
    text: str | None  # not yet expanded, without markers; None keeps the node's positive
    seed: int  # 0 to 2**64 - 1
    concat: bool = False  # add the text to the node's positive instead of replacing it
    skip: bool = False  # leave the segment as it is


@dataclass(frozen=True)
class Part:
    """A text to deal, with its [SKIP] or [STOP] still in it, and its seed."""

    text: str
    seed: int | None = None
    random_seed: bool = False

    @property
    def verdict(self) -> str:
        """SKIP or STOP, if it begins so; else empty."""
        found = _VERDICT.match(self.text)
        return found[1].upper() if found else ""


def deal(text: str, segments: Sequence[Segment], seed: int) -> list[Dealt]:
    """Deal a segment text to segments.

    Args:
        text: the node's segment text in the language above; a blank text deals only seeds.
        segments: in the order in which they were detected.
        seed: the node's seed. Segment i in the working order gets seed + i, unless its part has a
            seed. `[RND]` and `[SEP:R]` draw from a generator with this seed.

    Returns:
        One entry for each segment in the working order, with skipped ones, up to [STOP].
    """
    mode, concat, text = _read_markers(strip_comments(text))
    order = list(range(len(segments)))
    if mode.startswith(("ASC", "DSC")):
        key = _area if mode.endswith("-SIZE") else _position
        order.sort(key=lambda index: key(segments[index]), reverse=mode.startswith("DSC"))
    generator = random.Random(seed)  # noqa: S311 - repeatable random numbers, no secret
    if mode == "LAB":
        entries = _entries(text, {segment.label.strip() for segment in segments})
        parts = (_of_label(segments[index].label.strip(), entries) for index in order)
    else:
        parts = _in_turn(_split(text), generator if mode == "RND" else None)
    dealt: list[Dealt] = []
    for place, (index, part) in enumerate(zip(order, parts, strict=False)):
        verdict = part.verdict
        if verdict == "STOP":
            break
        content = None if verdict else part.text.strip() or None
        dealt.append(
            Dealt(index, content, _seed(part, seed + place, generator), concat, skip=bool(verdict))
        )
    return dealt


@dataclass(frozen=True)
class SegmentText:
    """The content of a segment text, before it is dealt to segments."""

    mode: str  # one of the markers, "" for none
    concat: bool
    parts: tuple[Part, ...]  # of [SEP]; empty in the mode LAB
    entries: Mapping[str, Part]  # of [LAB], by label


def read_segment_text(text: str) -> SegmentText:
    """Read a segment text without segments. Only plain names in brackets count as labels."""
    mode, concat, text = _read_markers(strip_comments(text))
    if mode != "LAB":
        return SegmentText(mode, concat, tuple(_split(text)), {})
    entries = {label: Part(own) for label, own in _written(text, set()).items()}
    return SegmentText(mode, concat, (), entries)


def begins_with_marker(text: str) -> bool:
    """Whether a text, after blanks, begins with one of the markers above."""
    markers = (_MARKER, _SEPARATOR, _VERDICT)
    return any(marker.match(text.lstrip()) for marker in markers)


def has_separator(text: str) -> bool:
    """Whether a text has several parts."""
    return _SEPARATOR.search(text) is not None


def in_parts(text: str) -> tuple[str, str, list[Part]]:
    """A segment text in its parts, for callers that deal them themselves.

    Returns:
        The mode, "" for none; the text after the markers; and its parts, which have `text`, `seed`
        (or None) and `random_seed`.
    """
    mode, _, text = _read_markers(strip_comments(text))
    return mode, text, [] if mode == "LAB" else _split(text)


def labelled_text(text: str, label: str) -> str:
    """The text for a segment with this label, from the text after [LAB].

    The other segments are not known here, so every [name] in the text counts as a label.
    """
    labels = {label, *(found[1].strip() for found in _BRACKET.finditer(text))}
    return _of_label(label, _entries(text, labels)).text


def _position(segment: Segment) -> tuple[int, int]:
    return segment.bbox[0], segment.bbox[1]


def _area(segment: Segment) -> int:
    x1, y1, x2, y2 = segment.bbox
    return (x2 - x1) * (y2 - y1)


def _seed(part: Part, otherwise: int, generator: random.Random) -> int:
    if part.random_seed:
        return int(generator.random() * 2**53)  # so that the editor's numbers are exact
    return part.seed if part.seed is not None else otherwise & MAX_SEED


def _read_markers(text: str) -> tuple[str, bool, str]:
    """The mode, whether the text is added to the positive, and the text after the markers."""
    mode, concat, end = "", False, 0
    while marker := _MARKER.match(text, end):
        name = marker[1].upper()
        if name == "CONCAT":
            concat = True
        elif not mode:
            mode = name
        elif name != mode:
            note(
                "text",
                f"The segment text starts with [{mode}] and [{name}]; only [{mode}] counts. "
                "Remove the other.",
            )
        end = marker.end()
    return mode, concat, text[end:]


def _split(text: str) -> list[Part]:
    first, *rest = _SEPARATOR.split(text)
    return [Part(first), *map(_part, rest[::2], rest[1::2])]


def _part(named: str | None, text: str) -> Part:
    """A part after `[SEP]` (`named` is None) or `[SEP:named]`."""
    named = (named or "").strip()
    if named.upper() == "R":
        return Part(text, random_seed=True)
    if re.fullmatch("[0-9]{1,20}", named) and int(named) <= MAX_SEED:
        return Part(text, int(named))
    if named:
        note(
            "text",
            f"[SEP:{named:.60}] names no seed, so the part after it keeps its own. A seed is R or "
            f"a whole number from 0 to {MAX_SEED}.",
        )
    return Part(text)


def _in_turn(parts: list[Part], shuffler: random.Random | None) -> Iterator[Part]:
    """The parts again and again, each time in a new order if there is a shuffler."""
    while True:
        # Sorting by random() instead of shuffle(): only its numbers are the same in every Python.
        yield from sorted(parts, key=lambda _: shuffler.random()) if shuffler else parts


def _entries(text: str, labels: set[str]) -> dict[str, str]:
    """The texts of a [LAB] text by label, for segments with these labels."""
    return _fitted(_written(text, labels), labels)


def _written(text: str, labels: set[str]) -> dict[str, str]:
    """The texts of a [LAB] text by label as written, without blank ones."""
    heads = [head for head in _BRACKET.finditer(text) if _is_label(head[1].strip(), labels)]
    starts = [head.start() for head in heads]
    if stray := text[: starts[0] if heads else None].strip():
        note("text", f"[LAB]: '{stray:.60}' stands before any [label], so it goes to no segment.")
    entries: dict[str, str] = {}
    for head, end in zip(heads, [*starts[1:], len(text)], strict=False):
        label = head[1].strip()
        label = "ALL" if label.upper() == "ALL" else label
        if label in entries:
            note("text", f"[LAB]: there are several texts for [{label:.60}]; the last one counts.")
        if entry := text[head.end() : end].strip():
            entries[label] = entry
    return entries


def _fitted(entries: dict[str, str], labels: set[str]) -> dict[str, str]:
    """The entries by the labels of segments; the user is told of entries that fit no label.

    Args:
        entries: the texts by label, as written.
        labels: the labels of the segments.
    """
    fitted = {label: text for label, text in entries.items() if label in labels or label == "ALL"}
    for label, text in entries.items():
        if label in fitted:
            continue
        similar = sorted(alike(label, labels - fitted.keys()))
        fitted.update(dict.fromkeys(similar, text))
        if similar:
            meant = ", ".join(f"[{own:.60}]" for own in similar)
            note("labels", f"[LAB]: no segment has the label [{label:.60}]; {meant} gets its text.")
        elif labels:
            note(
                "labels",
                f"[LAB]: no segment has the label [{label:.60}], so its text goes to none. There "
                f"are: {listed(labels, '[{:.60}]')}.",
            )
    return fitted


def _is_label(name: str, labels: set[str]) -> bool:
    if name.upper() in _RESERVED:
        return False
    plain = all(sign.isalnum() or sign in " _-." or _is_mark(sign) for sign in name)
    return name in labels or (plain and any(map(str.isalnum, name)))


def _is_mark(sign: str) -> bool:
    """Whether it belongs to the letter before it, such as the vowel signs of many scripts."""
    return unicodedata.category(sign).startswith("M")


def _of_label(label: str, entries: dict[str, str]) -> Part:
    own, every = entries.get(label, ""), entries.get("ALL", "")
    if not own:
        return Part(every)
    if not every or _VERDICT.match(own) or _VERDICT.match(every):
        return Part(own)
    return Part(every + (" " if every.endswith(",") else ", ") + own)
