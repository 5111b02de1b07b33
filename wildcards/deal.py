"""Which segment gets which text: the markers of a segment text, read before it is expanded.

Markers ignore case. At the start of the text, after blanks and comment lines, in any order:

    [CONCAT]                  the text adds to the node's positive instead of replacing it
    [ASC]  [DSC]              work by position of the bounding boxes, x before y, up or down
    [ASC-SIZE]  [DSC-SIZE]    work by area of the bounding boxes
    [RND]                     shuffle the parts anew each time all have been dealt
    [LAB]                     choose by label, see below

Without [LAB] the rest is dealt in parts, in turn and over again:

    [SEP]                     ends a part
    [SEP:123]  [SEP:R]        likewise, and the next part has this seed, or a random one each time
    [SKIP]                    at the start of a part: its segment stays as it is
    [STOP]                    at the start of a part: so do its segment and all after it

A blank part leaves its segment the node's positive. With [LAB] the rest is entries:

    [LAB] [ALL] detailed [face] smile [left hand] [SKIP]

An entry starts with a label in brackets and goes to all segments of exactly that label; where there
is none, to those whose label differs only in upper and lower case. The entry of [ALL] goes to every
segment: alone, or before the label's own entry, joined by ", ". Where either is [SKIP] or [STOP],
the label's own entry alone counts. A segment without any entry keeps the node's positive. Brackets
hold a label if it is one of the segments', or made of letters and digits of any script, spaces,
`_`, `-` and `.` only; so prompt syntax such as [red:blue:0.5] stays text.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator, Sequence
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
    """What dealing needs to know of a segment."""

    bbox: tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels
    label: str


@dataclass(frozen=True)
class Dealt:
    """What one segment got."""

    index: int  # of the segment in the input list
    text: str | None  # not yet expanded, without markers; None keeps the node's positive
    seed: int  # 0 to 2**64 - 1
    concat: bool = False  # add the text to the node's positive instead of replacing it
    skip: bool = False  # leave the segment as it is


@dataclass(frozen=True)
class _Part:
    """A text to deal, its verdict still in it, and the seed that it names."""

    text: str
    seed: int | None = None
    random_seed: bool = False


def deal(text: str, segments: Sequence[Segment], seed: int) -> list[Dealt]:
    """Deal a segment text to segments.

    Args:
        text: the node's segment text in the language above; blank deals nothing but seeds.
        segments: in the order in which they were detected.
        seed: the node's seed. The segment at place i of the working order gets seed + i unless its
            part names one; `[RND]` and `[SEP:R]` draw from a generator of this seed.

    Returns:
        One entry a segment in working order, skipped ones included, up to [STOP].
    """
    mode, concat, text = _read_markers(strip_comments(text))
    order = list(range(len(segments)))
    if mode.startswith(("ASC", "DSC")):
        key = _area if mode.endswith("-SIZE") else _position
        order.sort(key=lambda index: key(segments[index]), reverse=mode.startswith("DSC"))
    generator = random.Random(seed)  # noqa: S311 - chance that can be repeated, no secret
    if mode == "LAB":
        entries = _entries(text, {segment.label.strip() for segment in segments})
        parts = (_of_label(segments[index].label.strip(), entries) for index in order)
    else:
        parts = _in_turn(_split(text), generator if mode == "RND" else None)
    dealt: list[Dealt] = []
    for place, (index, part) in enumerate(zip(order, parts, strict=False)):
        verdict = _VERDICT.match(part.text)
        if verdict and verdict[1].upper() == "STOP":
            break
        content = None if verdict else part.text.strip() or None
        dealt.append(
            Dealt(index, content, _seed(part, seed + place, generator), concat, skip=bool(verdict))
        )
    return dealt


def in_parts(text: str) -> tuple[str, str, list[_Part]]:
    """A segment text for who deals it on their own.

    Returns:
        Its mode, "" for none; what follows its markers; and that in its parts, which have `text`,
        `seed` or None, and `random_seed`.
    """
    mode, _, text = _read_markers(strip_comments(text))
    return mode, text, [] if mode == "LAB" else _split(text)


def labelled_text(text: str, label: str) -> str:
    """What follows the [LAB] of a segment text, for a segment of a label.

    Whoever asks so knows no other segments, so every [name] in the text counts as a label.
    """
    labels = {label, *(found[1].strip() for found in _BRACKET.finditer(text))}
    return _of_label(label, _entries(text, labels)).text


def _position(segment: Segment) -> tuple[int, int]:
    return segment.bbox[0], segment.bbox[1]


def _area(segment: Segment) -> int:
    x1, y1, x2, y2 = segment.bbox
    return (x2 - x1) * (y2 - y1)


def _seed(part: _Part, otherwise: int, generator: random.Random) -> int:
    if part.random_seed:
        return int(generator.random() * 2**53)  # what the editor's numbers show exactly
    return part.seed if part.seed is not None else otherwise & MAX_SEED


def _read_markers(text: str) -> tuple[str, bool, str]:
    """Mode, whether the text adds to the positive, and what follows the markers."""
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


def _split(text: str) -> list[_Part]:
    first, *rest = _SEPARATOR.split(text)
    return [_Part(first), *map(_part, rest[::2], rest[1::2])]


def _part(named: str | None, text: str) -> _Part:
    """A part after `[SEP]` (`named` is None) or `[SEP:named]`."""
    named = (named or "").strip()
    if named.upper() == "R":
        return _Part(text, random_seed=True)
    if re.fullmatch("[0-9]{1,20}", named) and int(named) <= MAX_SEED:
        return _Part(text, int(named))
    if named:
        note(
            "text",
            f"[SEP:{named:.60}] names no seed, so the part after it keeps its own. A seed is R or "
            f"a whole number from 0 to {MAX_SEED}.",
        )
    return _Part(text)


def _in_turn(parts: list[_Part], shuffler: random.Random | None) -> Iterator[_Part]:
    """The parts over and over, in a new order each time if there is a shuffler."""
    while True:
        # Sorting by random() instead of shuffle(): only its numbers are the same in every Python.
        yield from sorted(parts, key=lambda _: shuffler.random()) if shuffler else parts


def _entries(text: str, labels: set[str]) -> dict[str, str]:
    """The texts of a [LAB] text by label, blank ones left out."""
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
    return _fitted(entries, labels)


def _fitted(entries: dict[str, str], labels: set[str]) -> dict[str, str]:
    """The entries by the labels that segments have; what fits none without regard to case is told.

    Args:
        entries: texts by label as written.
        labels: of the segments.
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
    """Whether it is part of the letter before it, as many scripts' vowel signs are."""
    return unicodedata.category(sign).startswith("M")


def _of_label(label: str, entries: dict[str, str]) -> _Part:
    own, every = entries.get(label, ""), entries.get("ALL", "")
    if not own:
        return _Part(every)
    if not every or _VERDICT.match(own) or _VERDICT.match(every):
        return _Part(own)
    return _Part(every + (" " if every.endswith(",") else ", ") + own)
