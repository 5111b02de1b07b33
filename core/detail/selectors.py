"""Which segments of an image a rule of a segment plan is for, written as a short text.

    all                           every segment
    label face, left hand         by label; * and ? stand for any signs, quotes for a label as it is
    index 0, 2-4, -1              by place in the SEGS, from 0; negative ones count from the end
    left to right 1               the first from the left; more as with index, but from 1
    width < 128                   by a measure, in pixels; in % it is a share of the image
    image 0                       by image of the batch, from 0
    else                          what no earlier rule has, but for those for all

    not A      A and B      A or B      (A or B) and C
    left to right 1 of label face     counts among the faces alone

The orders are those of ORDERS, the measures those of MEASURES. Places are single ones, ranges such
as 2-4 or 2..4, 2- for all from there on, and 0- step 3 for every third. Case does not matter.

Pure: selectors see boxes, labels and confidences, and no pixel.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...utils.labels import alike
from ..geometry import Box, Size

MOST_DEPTH = 50  # of brackets in one another
LONGEST_SELECTOR = 10_000  # signs


class SelectorError(ValueError):
    """A text is no selector.

    Attributes:
        offset: which sign of the text, from 0.
    """

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.offset = offset


# What is chosen from ---------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """What a selector sees of a segment."""

    bbox: Box
    label: str = ""
    confidence: float = 0.0

    @property
    def size(self) -> int:
        """The shorter side of its bounding box in pixels, which guide_size measures too."""
        return min(self.bbox.size)

    @property
    def centre(self) -> tuple[float, float]:
        """x and y of the centre of its bounding box in pixels."""
        return (self.bbox.x1 + self.bbox.x2) / 2, (self.bbox.y1 + self.bbox.y2) / 2


@dataclass(frozen=True)
class Scene:
    """The segments of one image."""

    views: tuple[View, ...]
    size: Size  # of the image
    image: int = 0  # which one of the batch
    images: int = 1  # of the batch

    @property
    def every(self) -> frozenset[int]:
        """The places of all segments."""
        return frozenset(range(len(self.views)))


class Selector(Protocol):
    """What a text in this language becomes; `str` gives such a text back."""

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """Places of the segments in the scene.

        Args:
            taken: those that earlier rules have, but for rules for all.
        """


# Orders and measures ---------------------------------------------------------------------------


def _from_centre(view: View, size: Size) -> float:
    x, y = view.centre
    return math.hypot(x - size.width / 2, y - size.height / 2)


_OrderKey = Callable[[View, Size], object]
# Of equals the first in the SEGS comes first. The first four are those of [ASC], [DSC], [ASC-SIZE]
# and [DSC-SIZE] in segment texts.
ORDERS: Mapping[str, tuple[_OrderKey, bool]] = {  # name -> (key, whether the largest comes first)
    "left to right": (lambda view, size: (view.bbox.x1, view.bbox.y1), False),
    "right to left": (lambda view, size: (view.bbox.x1, view.bbox.y1), True),
    "smallest first": (lambda view, size: view.bbox.area, False),
    "largest first": (lambda view, size: view.bbox.area, True),
    "top to bottom": (lambda view, size: (view.bbox.y1, view.bbox.x1), False),
    "bottom to top": (lambda view, size: (view.bbox.y1, view.bbox.x1), True),
    "most confident first": (lambda view, size: view.confidence, True),
    "least confident first": (lambda view, size: view.confidence, False),
    "nearest to centre": (_from_centre, False),
    "farthest from centre": (_from_centre, True),
}
_SHORT_ORDERS = {  # other words for them
    "leftmost": "left to right", "rightmost": "right to left", "topmost": "top to bottom",
    "lowest": "bottom to top", "smallest": "smallest first", "largest": "largest first",
    "most confident": "most confident first", "least confident": "least confident first",
    "near centre": "nearest to centre", "nearest to center": "nearest to centre",
    "farthest from center": "farthest from centre",
}  # fmt: skip


def in_order(scene: Scene, order: str, among: Iterable[int]) -> list[int]:
    """Places of segments, in one of ORDERS."""
    key, largest_first = ORDERS[order]
    return sorted(
        sorted(among), key=lambda place: key(scene.views[place], scene.size), reverse=largest_first
    )


@dataclass(frozen=True)
class _Measured:
    value: Callable[[View], float]
    whole: Callable[[Size], float]  # what 100 % of it are in an image of this size


MEASURES: Mapping[str, _Measured] = {
    "width": _Measured(lambda view: view.bbox.width, lambda size: size.width),
    "height": _Measured(lambda view: view.bbox.height, lambda size: size.height),
    "size": _Measured(lambda view: view.size, min),  # the shorter side
    "area": _Measured(lambda view: view.bbox.area, lambda size: size.width * size.height),
    "x": _Measured(lambda view: view.centre[0], lambda size: size.width),  # of the centre
    "y": _Measured(lambda view: view.centre[1], lambda size: size.height),
    "confidence": _Measured(lambda view: view.confidence, lambda size: 1.0),
}
_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
    "=": operator.eq,
}  # fmt: skip


# Places ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """Some places in a row, both ends included; negative ends count from the end."""

    first: int
    last: int | None  # None: to the end
    step: int = 1

    def within(self, count: int, base: int) -> range:
        """The places of `count`, as indices from 0.

        Args:
            base: what the first place is called.
        """
        first = self.first + count if self.first < 0 else self.first - base
        last = -1 if self.last is None else self.last
        last = last + count if last < 0 else last - base
        skipped = -(-max(0, -first) // self.step) * self.step
        return range(first + skipped, min(last, count - 1) + 1, self.step)

    def __str__(self) -> str:
        text = str(self.first)
        if self.last != self.first:
            text += ".." + ("" if self.last is None else str(self.last))
        return text if self.step == 1 else f"{text} step {self.step}"


def _places(spans: Sequence[Span], count: int, base: int) -> list[int]:
    return [place for span in spans for place in span.within(count, base)]


# Selectors -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class All:
    """Selects all segments."""

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        return scene.every

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True)
class Else:
    """Selects the segments that no selector before has taken."""

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        return scene.every - taken

    def __str__(self) -> str:
        return "else"


@dataclass(frozen=True)
class Name:
    """A label, or a pattern for labels."""

    text: str
    quoted: bool = False  # it is a label as it stands

    @property
    def is_pattern(self) -> bool:
        """Whether it has the signs `*` or `?`, which stand for other texts."""
        return not self.quoted and any(sign in self.text for sign in "*?")

    def fitting(self, labels: set[str]) -> set[str]:
        """The labels that are meant: exactly so, or else in upper and lower case of any kind."""
        if self.is_pattern:
            pattern = self.text.casefold().replace("[", "[[]")
            return {own for own in labels if fnmatch.fnmatchcase(own.casefold(), pattern)}
        return {self.text} & labels or alike(self.text, labels)

    def __str__(self) -> str:
        if not self.quoted:
            return self.text
        return '"' + self.text.replace("\\", r"\\").replace('"', r"\"") + '"'


@dataclass(frozen=True)
class Label:
    """Selects segments with one of these labels."""

    names: tuple[Name, ...]

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        own = [view.label.strip() for view in scene.views]
        meant = set().union(*(name.fitting(set(own)) for name in self.names))
        return frozenset(place for place, label in enumerate(own) if label in meant)

    def __str__(self) -> str:
        return f"label {', '.join(map(str, self.names))}"


INDEX = "index"  # the order of the SEGS themselves


@dataclass(frozen=True)
class Ordinal:
    """The n-th ones in an order: of ORDERS, counted from 1, or INDEX, from 0."""

    order: str
    spans: tuple[Span, ...]
    among: Selector | None = None  # None: all of the image

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        among = scene.every if self.among is None else self.among.select(scene, taken)
        is_index = self.order == INDEX
        ordered = sorted(among) if is_index else in_order(scene, self.order, among)
        places = _places(self.spans, len(ordered), base=0 if is_index else 1)
        return frozenset(ordered[place] for place in places)

    def __str__(self) -> str:
        text = f"{self.order} {', '.join(map(str, self.spans))}"
        return text if self.among is None else f"{text} of {_inner(self.among, And, Or)}"


@dataclass(frozen=True)
class OfImage:
    """Selects all segments of some images of the batch."""

    spans: tuple[Span, ...]

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        here = scene.image in _places(self.spans, scene.images, base=0)
        return scene.every if here else frozenset()

    def __str__(self) -> str:
        return f"image {', '.join(map(str, self.spans))}"


@dataclass(frozen=True)
class Measure:
    """Compares a measure of each segment with a number."""

    name: str  # of MEASURES
    compared: str  # of _COMPARED
    number: float
    share: bool = False  # the number is a percentage of the image's

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        measure, fits = MEASURES[self.name], _COMPARED[self.compared]
        wanted = self.number
        if self.share:
            wanted = wanted * measure.whole(scene.size) / 100
        return frozenset(
            place for place, view in enumerate(scene.views) if fits(measure.value(view), wanted)
        )

    def __str__(self) -> str:
        number = f"{self.number:.12f}".rstrip("0").rstrip(".")
        return f"{self.name} {self.compared} {number}{'%' if self.share else ''}"


@dataclass(frozen=True)
class Not:
    """Selects the segments that another selector does not select."""

    part: Selector

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        return scene.every - self.part.select(scene, taken)

    def __str__(self) -> str:
        return f"not {_inner(self.part, And, Or)}"


@dataclass(frozen=True)
class And:
    """Selects the segments that all parts select."""

    parts: tuple[Selector, ...]

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        return frozenset.intersection(*(part.select(scene, taken) for part in self.parts))

    def __str__(self) -> str:
        return " and ".join(_inner(part, And, Or) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """Selects the segments that any part selects."""

    parts: tuple[Selector, ...]

    def select(self, scene: Scene, taken: frozenset[int]) -> frozenset[int]:
        """See `Selector.select`."""
        return frozenset.union(*(part.select(scene, taken) for part in self.parts))

    def __str__(self) -> str:
        return " or ".join(_inner(part, Or) for part in self.parts)


ALL, ELSE = All(), Else()


def _inner(part: Selector, *bracketed: type) -> str:
    return f"({part})" if isinstance(part, bracketed) else str(part)


def with_label(selector: Selector, label: Selector) -> Selector:
    """A selector for what has a label alone: the n-th ones count among those."""
    if isinstance(selector, All):
        return label
    if isinstance(selector, Ordinal) and selector.among is None:
        return Ordinal(selector.order, selector.spans, label)
    return And((selector, label))


def is_counted_among_all(selector: Selector) -> bool:
    """Whether it asks at once for an n-th segment of all and for something else of it."""
    if not isinstance(selector, And):
        return False
    counted = [isinstance(part, Ordinal) and part.among is None for part in selector.parts]
    return any(counted) and not all(counted)


# Reading ---------------------------------------------------------------------------------------

_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"[^\W\d_]\w*")
_BARE = re.compile(r"""[^\s,()"'<>=]+""")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_SPAN = re.compile(
    r"(?P<first>-?[0-9]{1,9})(?:\s*(?P<to>\.\.|-|to\b)\s*(?P<last>-?[0-9]{1,9})?)?"
    r"(?:\s*\bstep\s+(?P<step>[0-9]{1,9}))?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(%|px\b|pixels?\b)?", re.IGNORECASE)
_COMPARISON = re.compile("<=|>=|!=|==|<|>|=")
_PHRASES = {
    tuple(name.split()): order
    for name, order in {**{own: own for own in ORDERS}, **_SHORT_ORDERS}.items()
}
_LONGEST_PHRASE = max(map(len, _PHRASES))
_JOINING = ("and", "or", "of")
_BEGINNINGS = ("all", "else", "label", INDEX, "image", "not", *ORDERS, *MEASURES)


def read_selector(text: str) -> Selector:
    """The selector that a text says.

    Raises:
        SelectorError: it says none.
    """
    if len(text) > LONGEST_SELECTOR:
        raise SelectorError(
            f"it has {len(text)} signs, and {LONGEST_SELECTOR} are the most. Make more rules of it",
            0,
        )
    return _Reader(text).whole()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0

    def whole(self) -> Selector:
        if not self._rest():
            raise self._error(f"nothing is selected. Write one of: {', '.join(_BEGINNINGS)}")
        selector = self._or()
        if self._rest():
            raise self._error(f"{self._here()} is not expected here. Join conditions with and, or")
        return selector

    def _or(self) -> Selector:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Selector:
        parts = [self._unary()]
        while self._take("and"):
            parts.append(self._unary())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _unary(self) -> Selector:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self._error(f"more than {MOST_DEPTH} brackets or nots are in one another")
        try:
            if self._take("not"):
                return Not(self._unary())
            if self._sign("("):
                inner = self._or()
                if not self._sign(")"):
                    raise self._error(f"a closing bracket is missing before {self._here()}")
                return inner
            return self._term()
        finally:
            self.depth -= 1

    def _term(self) -> Selector:
        order = self._order()
        if order is not None:
            return self._ordinal(order, base=1)
        start, word = self.at, self._word()
        if word == "all":
            return ALL
        if word == "else":
            return ELSE
        if word == "label":
            return Label(self._names())
        if word == INDEX:
            return self._ordinal(INDEX, base=0)
        if word == "image":
            return OfImage(self._spans(base=0))
        if word in MEASURES:
            return self._measure(word)
        self.at = start
        self._rest()
        raise self._error(f"{self._here()} selects nothing.{_meant(word)}")

    def _ordinal(self, order: str, base: int) -> Ordinal:
        self._rest()
        numbered = order == INDEX or _SPAN.match(self.text, self.at)
        spans = self._spans(base) if numbered else (Span(1, 1),)
        return Ordinal(order, spans, self._unary() if self._take("of") else None)

    def _spans(self, base: int) -> tuple[Span, ...]:
        spans = [self._span(base)]
        while self._sign(","):
            spans.append(self._span(base))
        return tuple(spans)

    def _span(self, base: int) -> Span:
        self._rest()
        match = _SPAN.match(self.text, self.at)
        if match is None:
            raise self._error(f"a number is wanted, such as {base}, 2-4 or -1, not {self._here()}")
        first = int(match["first"])
        last = first if not match["to"] else None if match["last"] is None else int(match["last"])
        step = int(match["step"] or 1)
        if base == 1 and 0 in (first, last):
            raise self._error("in an order the first is 1 and the last is -1, and nothing is 0")
        if step < 1:
            raise self._error("a step is 1 or more")
        self.at = match.end()
        if match["step"] and not match["to"]:
            last = None
        return Span(first, last, step)

    def _measure(self, name: str) -> Measure:
        self._rest()
        sign = _COMPARISON.match(self.text, self.at)
        if sign is None:
            raise self._error(f"after {name} one of < <= > >= = != is wanted, not {self._here()}")
        self.at = sign.end()
        self._rest()
        number = _NUMBER.match(self.text, self.at)
        if number is None:
            raise self._error(f"a number is wanted, such as 128 or 10%, not {self._here()}")
        self.at = number.end()
        return Measure(name, sign[0][0] if sign[0] == "==" else sign[0], float(number[1]),
                       number[2] == "%")  # fmt: skip

    def _names(self) -> tuple[Name, ...]:
        names = [self._name()]
        while self._sign(","):
            names.append(self._name())
        return tuple(names)

    def _name(self) -> Name:
        self._rest()
        quoted = _QUOTED.match(self.text, self.at)
        if quoted is not None:
            self.at = quoted.end()
            inside = quoted[1] if quoted[1] is not None else quoted[2]
            return Name(re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL), quoted=True)
        words: list[str] = []
        while self._rest() and (bare := _BARE.match(self.text, self.at)):
            if bare[0].casefold() in _JOINING:
                break
            words.append(bare[0])
            self.at = bare.end()
        if not words:
            raise self._error(f"a label is wanted, not {self._here()}")
        return Name(" ".join(words))

    # Pieces

    def _rest(self) -> bool:
        """Go over blanks; whether anything is left."""
        self.at = _BLANK.match(self.text, self.at).end()
        return self.at < len(self.text)

    def _word(self) -> str:
        self._rest()
        match = _WORD.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0].casefold()

    def _take(self, word: str) -> bool:
        start = self.at
        if self._word() == word:
            return True
        self.at = start
        return False

    def _sign(self, sign: str) -> bool:
        if not self._rest() or self.text[self.at] != sign:
            return False
        self.at += 1
        return True

    def _order(self) -> str | None:
        """The order that is named here; of two names that begin alike the longer one."""
        start, words, found = self.at, [], None
        for _ in range(_LONGEST_PHRASE):
            words.append(self._word())
            if tuple(words) in _PHRASES:
                found = self.at, _PHRASES[tuple(words)]
        self.at, order = found or (start, None)
        return order

    def _here(self) -> str:
        self._rest()
        match = _BARE.match(self.text, self.at)
        shown = match[0] if match else self.text[self.at : self.at + 1]
        return f"'{shown:.60}'" if shown else "the end"

    def _error(self, problem: str) -> SelectorError:
        return SelectorError(problem, self.at)


def _meant(word: str) -> str:
    near = difflib.get_close_matches(word, [*_BEGINNINGS, *_SHORT_ORDERS], 1) if word else []
    if near:
        return f" Is '{near[0]}' meant?"
    return f" Begin with one of: {', '.join(_BEGINNINGS)}; for a label write label and its name"
