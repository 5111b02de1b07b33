"""Segment texts ([SEP], [LAB]) as segment plans, and plans as segment texts, where they can be.

A plan says more than a segment text, but for what is left to chance: [RND] and [SEP:R]. A plan that
is made of a text gives the same pictures in place of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...wildcards.deal import Part, begins_with_marker, has_separator, read_segment_text
from ...wildcards.grammar import strip_comments
from ..geometry import Box, Size
from .plan import BY_SKIP, BY_STOP
from .segment_plan import NOTHING, Overrides, Rule, SegmentPlan, joined
from .selectors import (
    ALL,
    INDEX,
    All,
    And,
    Else,
    Label,
    Name,
    Not,
    Or,
    Ordinal,
    Scene,
    Selector,
    SelectorError,
    Span,
    View,
    read_selector,
)

_ORDERS = {
    "": "", "ASC": "left to right", "DSC": "right to left", "ASC-SIZE": "smallest first",
    "DSC-SIZE": "largest first",
}  # fmt: skip
_MODES = {order: mode for mode, order in _ORDERS.items()}
_WORDED = ("text", "text_before", "text_after", "seed", "skip", "reason")  # what texts can say
_MOST_PARTS = 200
_MOST_PLACES = 5000


@dataclass(frozen=True)
class Converted:
    """The plan that a segment text is, and what of the text is not in it, one sentence each."""

    plan: SegmentPlan
    lost: tuple[str, ...] = ()


_YAML = re.compile(r"\s*(?:-\s|[\[{]|\w+\s*:(?:\s|$))")


def is_segment_text(text: str) -> bool:
    """Whether a text is a segment text rather than a plan in YAML: by its marks."""
    text = strip_comments(text)
    return begins_with_marker(text) or (has_separator(text) and not _YAML.match(text))


# To a plan -------------------------------------------------------------------------------------


def plan_of_text(text: str) -> Converted:
    """A segment text as a plan."""
    read = read_segment_text(text)
    if read.mode == "LAB":
        return _by_label(read.entries, read.concat)
    lost = []
    if read.mode == "RND":
        lost.append("[RND] shuffles the texts; the plan deals them in turn.")
    if any(part.random_seed for part in read.parts):
        lost.append("[SEP:R] draws seeds; in the plan these segments keep their own.")
    order = _ORDERS.get(read.mode, "")
    rules = tuple(_rules_in_turn(read.parts, order or INDEX, read.concat))
    return Converted(SegmentPlan(rules, order), tuple(lost))


def _rules_in_turn(parts: Sequence[Part], order: str, concat: bool) -> Iterator[Rule]:
    """A rule for each part that says something."""
    end = next((at for at, part in enumerate(parts) if part.verdict == "STOP"), None)
    first = 0 if order == INDEX else 1
    for at, part in enumerate(parts[:end]):
        overrides = _said(part, concat)
        if overrides == NOTHING:
            continue
        place = at + first
        span = Span(place, None, len(parts)) if end is None else Span(place, place)
        only = end is None and len(parts) == 1
        yield Rule(ALL if only else Ordinal(order, (span,)), overrides)
    if end is not None:
        stopped = Overrides(skip=True, reason=BY_STOP)
        yield Rule(Ordinal(order, (Span(end + first, None),)), stopped)


def _said(part: Part, concat: bool) -> Overrides:
    text = part.text.strip()
    if part.verdict:
        return Overrides(skip=True, reason=BY_SKIP)
    if not text:
        return Overrides(seed=part.seed)
    return Overrides(**{"text_after" if concat else "text": text}, seed=part.seed)


def _by_label(entries: dict[str, Part], concat: bool) -> Converted:
    """The plan of a [LAB] text."""
    entries, lost = dict(entries), []
    for label, part in list(entries.items()):
        if part.verdict == "STOP":
            lost.append(f"[STOP] of [{label}] ends the run at its segment; the plan skips that.")
    folded = [label.casefold() for label in entries]
    if len(set(folded)) < len(folded):
        lost.append(
            "Of labels that differ in upper and lower case only, the plan gives the later one's "
            "text where just one of them is a segment's."
        )
    every = entries.pop("ALL", None)
    rules = [] if every is None else [Rule(ALL, _said(every, concat))]
    for label, part in entries.items():
        own = _said(part, concat)
        if every is not None and every.verdict and not part.verdict:
            own = own.then(Overrides(skip=False))
        elif every is not None and not part.verdict:
            own = Overrides(text_after=part.text.strip())
        rules.append(Rule(Label((_name(label),)), own))
    return Converted(SegmentPlan(tuple(rules)), tuple(lost))


def _name(label: str) -> Name:
    """A label, in quotes only where it needs them."""
    plain = Name(label)
    try:
        is_plain = read_selector(f"label {label}") == Label((plain,))
    except SelectorError:
        is_plain = False
    return plain if is_plain and not plain.is_pattern else Name(label, quoted=True)


# To a segment text -------------------------------------------------------------------------------


class NoWords(ValueError):
    """A plan says something that segment texts have no words for; the message says what."""


class _Words(NamedTuple):
    """What a segment text can say of a segment."""

    text: str | None = None
    concat: bool = False
    seed: int | None = None
    skip: bool = False


def text_of_plan(plan: SegmentPlan) -> str:
    """A plan as a segment text that says the same.

    Raises:
        NoWords: there is none.
    """
    for number, rule in enumerate(plan.rules, 1):
        for name, value in vars(rule.overrides).items():
            if name not in _WORDED and value != getattr(NOTHING, name):
                raise NoWords(f"rule {number} sets '{name}', for which segment texts have no words")
    terms = [term for rule in plan.rules for term in _terms(rule.selector)]
    kinds = {type(term) for term in terms} - {All, Else}
    if kinds == {Label}:
        if plan.order:
            raise NoWords("it goes by labels and has an order of work")
        labels, scene = _one_of_each(terms)
        words = _words(plan, scene)
        text = _labelled(labels, words)
    elif kinds <= {Ordinal}:
        if plan.order not in _MODES:
            raise NoWords(f"its order is '{plan.order}'")
        scene = _row(plan, terms)
        words = _words(plan, scene)
        text = _in_turn(plan.order, words)
    else:
        raise NoWords("its rules select by more than places, or more than labels")
    again = plan_of_text(text)
    if again.lost or again.plan.order != plan.order or _words(again.plan, scene) != words:
        raise NoWords("its texts or labels hold signs that segment texts take for marks")
    return text


def _terms(selector: Selector) -> Iterator[Selector]:
    """The conditions that a selector is put together from."""
    if isinstance(selector, (And, Or)):
        for part in selector.parts:
            yield from _terms(part)
    elif isinstance(selector, Not):
        yield from _terms(selector.part)
    else:
        yield selector


def _words(plan: SegmentPlan, scene: Scene) -> list[_Words]:
    """What the plan says of each segment."""
    words = []
    for chosen in plan.choose(scene):
        own = chosen.overrides
        text = None if own.text is None else strip_comments(own.text).strip() or None
        if own.skip:
            words.append(_Words(skip=True))
        elif text is not None:
            whole = joined(joined(own.text_before, text), own.text_after)
            words.append(_Words(whole.strip(), False, own.seed))
        elif own.text_before.strip():
            raise NoWords("it adds a text before the positive prompt")
        elif own.text_after.strip():
            words.append(_Words(strip_comments(own.text_after).strip(), True, own.seed))
        else:
            words.append(_Words(seed=own.seed))
    return words


def _concat(words: Sequence[_Words]) -> bool:
    """Whether the texts are added to the positive."""
    kinds = {own.concat for own in words if own.text is not None}
    if len(kinds) > 1:
        raise NoWords("it adds some texts to the positive prompt and replaces that by others")
    return kinds == {True}


def _in_turn(order: str, words: Sequence[_Words]) -> str:
    """A text with a part for each place, of the words for a row of segments."""
    period, end = _period(words), _end_of_parts(words)
    if period is None and end == len(words):
        raise NoWords("its places do not come again in turn, as the parts of [SEP] do")
    parts = [*words[:end], None] if period is None else words[:period]
    marks = ["[CONCAT]"] if _concat(words) else []
    marks += [f"[{_MODES[order]}]"] if order else []
    if parts and parts[0] is not None and parts[0].seed is not None:
        raise NoWords("it sets the seed of the first segment, which [SEP] cannot name")
    text = " ".join(marks) + (" " if marks else "")
    for at, part in enumerate(parts):
        if at:
            seed = None if part is None else part.seed
            text += "\n[SEP]\n" if seed is None else f"\n[SEP:{seed}]\n"
        text += "[STOP]" if part is None else "[SKIP]" if part.skip else part.text or ""
    return text


def _end_of_parts(words: Sequence[_Words]) -> int:
    """From where on all are skipped; their number if the last one is not."""
    end = len(words)
    while end and words[end - 1].skip:
        end -= 1
    return end


def _period(words: Sequence[_Words]) -> int | None:
    """After how many places the same comes again; None if it does not."""
    for period in range(1, min(_MOST_PARTS, len(words)) + 1):
        if all(own == words[at % period] for at, own in enumerate(words)):
            return period
    return None


def _row(plan: SegmentPlan, terms: Sequence[Selector]) -> Scene:
    """Segments in a row, as many as tell what the plan's places are, in its order."""
    last, cycle = 0, 1
    for term in terms:
        if not isinstance(term, Ordinal):
            continue
        if term.order != (plan.order or INDEX) or term.among is not None:
            raise NoWords(f"it selects '{term}', which is not counted in its order of work")
        for span in term.spans:
            if span.first < 0 or (span.last or 0) < 0:
                raise NoWords(f"it counts from the end in '{term}'")
            last = max(last, span.first, span.last or 0)
            cycle = math.lcm(cycle, span.step)
    count = last + 2 * cycle + _MOST_PARTS + 2
    if count > _MOST_PLACES:
        raise NoWords("its places are too many")
    sizes = range(count, 0, -1) if plan.order == "largest first" else range(1, count + 1)
    places = range(count, 0, -1) if plan.order == "right to left" else range(count)
    views = (View(Box(x, 0, x + side, 1)) for x, side in zip(places, sizes, strict=True))
    return Scene(tuple(views), Size(2 * count, 1))


def _labelled(labels: Sequence[str], words: Sequence[_Words]) -> str:
    """A text with an entry for each label, of the words for these and, last, any other label."""
    if any(own.seed is not None for own in words):
        raise NoWords("it sets seeds by label")
    every, entries = words[-1], dict(zip(labels, words, strict=False))
    lines = ["[CONCAT] [LAB]" if _concat(words) else "[LAB]"]
    if every.skip or every.text:
        lines.append(f"[ALL] {_entry(every)}")
    for label, own in entries.items():
        if own == every:
            continue
        if every.text and own.text and not own.skip:
            lead = joined(every.text, "-").removesuffix("-")
            if not own.text.startswith(lead):
                raise NoWords("a label's text does not begin with the one for all, as with [ALL]")
            own = own._replace(text=own.text.removeprefix(lead))
        elif not (own.skip or own.text):
            raise NoWords("a label has no text where all others have one")
        lines.append(f"[{label}] {_entry(own)}")
    return "\n".join(lines)


def _entry(words: _Words) -> str:
    return "[SKIP]" if words.skip else words.text or ""


def _one_of_each(terms: Sequence[Selector]) -> tuple[list[str], Scene]:
    """The labels that are named, and a scene with a segment of each and one of another label."""
    names = [name for term in terms if isinstance(term, Label) for name in term.names]
    if any(name.is_pattern for name in names):
        raise NoWords("it selects labels by a pattern")
    labels = list(dict.fromkeys(name.text for name in names))
    other = "x" * (1 + max((len(label) for label in labels), default=0))
    views = (View(Box(0, 0, 1, 1), label) for label in (*labels, other))
    return labels, Scene(tuple(views), Size(1, 1))
