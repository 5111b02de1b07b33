"""The language of a segment text: choices, wildcard lists, LoRAs, chunks.

`expand` resolves these, with a generator of the seed:

    # a note                  a line that starts with # is removed
    {red|green|blue}          one of these
    {2::red|0.5::green|blue}  the same with weights; the default is 1
    {2$$red|green|blue}       two different ones in random order, a space between
    {2$$, $$red|green|blue}   the same with a separator: all up to the second $$
    {1-3$$...}                one to three; so does {-3$$...}; {2-$$...} two or more
    __colour__                an option of the list `colour`; `*` and folders as in `library`
    3#__colour__              three draws, which may repeat, joined by ", "
    {2$$, $$3#__colour__|red} an option that begins with 3# counts as three
    {2$$, $$__colour__}       a list as the only option: two different lines of it

Braces are resolved from the inside out, and may be part of a list's name. An option of a list may
use everything above, and may have a weight. A brace or bar after a backslash is text. No backslash
is ever removed, so `\\(` reaches the encoder as typed. Braces without a partner, and names that no
list has, stay as they are.

`parse_prompt` reads these from the resolved text:

    BREAK                          splits the prompt into chunks that are encoded one by one
    <lora:name>                    loads a LoRA
    <lora:name:0.8>                model and clip strength
    <lora:name:0.8:0.5>            model strength, clip strength
    <lora:name:1:LBW=SD-MIDD;A=0.5;B=0.2;>  with block weights
"""

from __future__ import annotations

import heapq
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from ..utils.notes import note
from .budget import Budget, WildcardError
from .library import Library, United
from .weights import WEIGHT, is_weighted, split_weight

MAX_DEPTH = 100  # nesting of lists within lists
MAX_CHARACTERS = 1_000_000  # of all options and separators that one expansion picks
LONG = 100_000  # of several weighted lists, more options than this are not all compared

_SYNTAX = re.compile(r"\\[{}|]|[{}|]")
_COUNT = re.compile(r"\s*(?:([0-9]{1,9})|([0-9]{0,9})-([0-9]{0,9}))\s*\$\$")
# A name neither starts nor ends with a space, so that `a__ b __c__` finds `c`.
_LIST = re.compile(
    r"""(?:(?<![0-9])(?P<count>[0-9]{1,9})\#)?
        __(?=\S)(?P<name>(?:(?!__)[^\n\r{}|])+)(?<=\S)__""",
    re.VERBOSE,
)
# Characters that are rare in names of lists, and frequent between two names. Only the name of an
# existing list may contain them, so that `a__(b)__c__` finds `c`.
_RARE = re.compile(r"""[<>()\[\],;:"\#$]""")
_COPIES = re.compile(rf"(?P<weight>(?:{WEIGHT.pattern})?\s*)(?P<count>[0-9]{{1,9}})\#(?=__)")
_LORA = re.compile(r"<lora:([^<>]*)>", re.IGNORECASE)
_LORA_FIELDS = re.compile(r":(?=\s*(?:LBW|A|B)\s*=)", re.IGNORECASE)
_TAG = re.compile(r"<\s*(?:lora|lyco|locon|hypernet)\b[^<>\n]*>?", re.IGNORECASE)
_MARKERS = re.compile(r"\[(?:CONCAT|(?:ASC|DSC)(?:-SIZE)?|RND|LAB|SKIP|STOP)\]", re.IGNORECASE)
_BREAK = re.compile(r"\bBREAK\b")


@dataclass(frozen=True)
class Lora:
    """A LoRA that a text asks for."""

    name: str  # as typed; a file name, with or without folder and extension
    model_strength: float = 1.0
    clip_strength: float = 1.0
    lbw: str | None = None  # block weights: a preset's name or comma-separated numbers and letters
    lbw_a: float | None = None  # the number for the letter A
    lbw_b: float | None = None


@dataclass(frozen=True)
class Prompt:
    """A text in the form for the encoder and the LoRA loader."""

    chunks: tuple[str, ...]  # at least one; a chunk may be empty only if it is the only one
    loras: tuple[Lora, ...]  # in order of appearance, each name once


def strip_comments(text: str) -> str:
    """The text without the lines that start with `#`, also after blanks."""
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))


def expand(
    text: str, seed: int, library: Library | None = None, budget: Budget | None = None
) -> str:
    """Resolve choices and wildcards; the same text, seed and lists always give the same result.

    Args:
        text: in the language above; its LoRAs and BREAKs are kept for `parse_prompt`.
        seed: the seed of the generator for all choices.
        library: the lists; without it every `__name__` stays as it is.
        budget: shared by several texts; without it the text has its own.

    Raises:
        WildcardError: lists are nested more than 100 deep, for example because one contains itself;
            more than 1,000,000 characters are picked or added; or the budget ends.
    """
    return _Expansion(seed, library, budget or Budget()).resolve(strip_comments(text), ())


def tell_untaken(text: str, markers: bool = False) -> None:
    """Give notes on syntax that is left in a resolved text and will reach the encoder.

    Args:
        markers: the text is that of a segment, in which markers such as [SKIP] have no effect.
    """
    for sentence in dict.fromkeys(_untaken(text, markers)):
        note("text", sentence)


def _untaken(text: str, markers: bool) -> Iterator[str]:
    for name in _LIST.finditer(text):
        if not _RARE.search(name["name"]):
            yield (
                f"'__{name['name']:.80}__' stays in the text: no wildcard list has that name, or "
                "it is empty. Check the spelling and the wildcard folders."
            )
    if brace := next((sign for sign in _SYNTAX.findall(text) if sign in "{}"), None):
        yield (
            f"A '{brace}' without its partner stays in the text. Choices are written {{a|b}}; "
            f"write \\{brace} for the sign itself."
        )
    for tag in _TAG.finditer(text):
        if not _LORA.fullmatch(tag[0]) or _parse_lora(tag[0][6:-1]) is None:
            yield (
                f"'{tag[0]:.80}' stays in the text. A LoRA is loaded with <lora:name:0.8>; nothing "
                "else in angle brackets is."
            )
    if markers:
        for marker in _MARKERS.findall(text):
            yield (
                f"'{marker}' stays in the text: it counts only at the start of the text, or of the "
                "part after a [SEP]."
            )


def parse_prompt(text: str) -> Prompt:
    """Split a resolved text into the chunks to encode and the LoRAs to load.

    Empty chunks are left out. A strength may have a decimal point or comma. If it is no number, it
    becomes 1, and the user is told.
    """
    loras: dict[str, Lora] = {}

    def collect(tag: re.Match[str]) -> str:
        lora = _parse_lora(tag[1])
        if lora is None:
            return tag[0]
        loras.setdefault(lora.name, lora)
        return ""

    text = _LORA.sub(collect, text)
    chunks = [chunk.strip() for chunk in _BREAK.split(text)]
    return Prompt(tuple(filter(None, chunks)) or ("",), tuple(loras.values()))


class _Expansion:
    """The expansion of one text: its generator, the lists in use, and how much was picked."""

    def __init__(self, seed: int, library: Library | None, budget: Budget) -> None:
        # Only random() gives the same numbers in every Python version, so all choices use it.
        self._random = random.Random(seed).random  # noqa: S311 - can be repeated, no secret
        self._budget = budget
        self._look = library.look(budget) if library else None
        self._lists: dict[str, Sequence[str]] = {}
        self._picked = 0

    def resolve(self, text: str, chain: tuple[str, ...]) -> str:
        """Resolve a text that was reached through the lists in `chain`."""
        if len(chain) > MAX_DEPTH:
            raise WildcardError(
                f"The wildcards {_path(chain)} lead to one another more than {MAX_DEPTH} times, as "
                "a list does that contains itself. Take the reference out of the list, or give it "
                "more lines without one."
            )
        self._budget.need_time()
        return self._resolve_lists(self._resolve_braces(text, chain), chain)

    def _resolve_braces(self, text: str, chain: tuple[str, ...]) -> str:
        # Open braces, the text itself first; each has options, an option has pieces of text.
        stack: list[list[list[str]]] = [[[]]]
        end = 0
        for mark in _SYNTAX.finditer(text):
            stack[-1][-1].append(text[end : mark.start()])
            end = mark.end()
            if mark[0] == "{":
                stack.append([[]])
            elif mark[0] == "|" and len(stack) > 1:
                stack[-1].append([])
            elif mark[0] == "}" and len(stack) > 1:
                options = ["".join(pieces) for pieces in stack.pop()]
                stack[-1][-1].append(self._choose(options, chain))
            else:
                stack[-1][-1].append(mark[0])
        stack[-1][-1].append(text[end:])
        return "{".join("|".join("".join(pieces) for pieces in options) for options in stack)

    def _choose(self, options: list[str], chain: tuple[str, ...]) -> str:
        """The text that replaces a pair of braces."""
        count = _COUNT.match(options[0])
        if count is None:
            return self._pick(options, 1)[0]
        options[0] = options[0][count.end() :]
        separator, options = _split_separator(options)
        options = [copy for option in options for copy in self._copies(option)]
        only = _LIST.fullmatch(options[0].strip()) if len(options) == 1 else None
        lines = self._options_of(only["name"]) if only else ()
        low, high = _range(count, len(lines) or len(options))
        picked = self._pick(
            lines if len(lines) else options, low + int(self._random() * (high - low + 1))
        )
        self._spend(len(separator) * len(picked))
        if only and len(lines):
            picked = [self.resolve(line, (*chain, only["name"])) for line in picked]
        return separator.join([option.strip() for option in picked])

    def _copies(self, option: str) -> list[str]:
        """The copies of an option: in a multi-select, `3#__name__` counts as three options."""
        quantifier = _COPIES.match(option)
        if quantifier is None:
            return [option]
        number = int(quantifier["count"])
        self._spend(number)
        return [quantifier["weight"] + option[quantifier.end() :]] * number

    def _resolve_lists(self, text: str, chain: tuple[str, ...]) -> str:
        pieces: list[str] = []
        end = 0
        while match := _LIST.search(text, end):
            options = self._options_of(match["name"])
            if len(options):
                pieces.append(text[end : match.start()])
                pieces.append(self._draw(match, options, (*chain, match["name"])))
                end = match.end()
            else:
                pieces.append(text[end : match.end() - 2])
                end = match.end() - 2  # these two underscores may open the next name
        pieces.append(text[end:])
        return "".join(pieces)

    def _draw(self, match: re.Match[str], options: list[str], chain: tuple[str, ...]) -> str:
        draws = int(match["count"] or 1)
        self._spend(draws)
        return ", ".join([self.resolve(self._pick(options, 1)[0], chain) for _ in range(draws)])

    def _options_of(self, name: str) -> Sequence[str]:
        if name not in self._lists:
            if self._look and "*" in name:
                self._budget.look_at(2 * self._look.size)
            self._lists[name] = self._look.options(name) if self._look else ()
        return self._lists[name]

    def _pick(self, options: Sequence[str], number: int) -> list[str]:
        """Up to `number` different options without their weights, in random order.

        Each is drawn from the rest with a probability in proportion to its weight. An option of
        weight 0 is never drawn, unless all have this weight.
        """
        united = isinstance(options, United)
        weighted = options.is_weighted if united else is_weighted(options)
        if number == 1 and not weighted:
            place = int(self._random() * len(options))
            if united:
                self._budget.look_at(options.part_of(place).count)  # its file may be read again
            picked = [options[place]]
        elif number == 1 and united and len(options) > LONG:
            share = self._random()
            self._budget.look_at(options.part_at(share).count)
            picked = [options.at_share(share)]
        else:
            # Exponential arrival times with the weights as rates give the same probabilities as
            # drawing one by one, in a single pass (Efraimidis and Spirakis, 2006).
            self._budget.look_at(len(options))
            idle = not any(split_weight(option)[0] for option in self._budget.timed(options))
            weighed = map(split_weight, self._budget.timed(options))
            race = (
                (-math.log(1.0 - self._random()) / (weight or 1.0), text)
                for weight, text in weighed
                if weight or idle
            )
            picked = [text for _, text in heapq.nsmallest(number, race, key=itemgetter(0))]
        self._spend(sum(map(len, picked)))
        return picked

    def _spend(self, characters: int) -> None:
        self._picked += characters
        if self._picked > MAX_CHARACTERS:
            raise WildcardError(
                f"The text grows by more than {MAX_CHARACTERS:,} characters while its wildcards "
                "and choices are resolved. Lower the counts in N#__name__, or shorten lists that "
                "draw from several others at once."
            )


def _split_separator(options: list[str]) -> tuple[str, list[str]]:
    """Separator and options of a multi-select without its count; the separator may have bars."""
    for index, option in enumerate(options):
        last, mark, first = option.partition("$$")
        if mark:
            return "|".join([*options[:index], last]), [first, *options[index + 1 :]]
    return " ", options


def _range(count: re.Match[str], available: int) -> tuple[int, int]:
    """The least and the most options of a count such as `2`, `1-3`, `-3` or `2-`."""
    exact, low, high = count.groups()
    ends = int(exact or low or 1), int(exact or high or available)
    return min(*ends, available), min(max(ends), available)


def _path(chain: Sequence[str]) -> str:
    return " > ".join(f"__{name}__" for name in chain[-3:])


def _parse_lora(body: str) -> Lora | None:
    """The LoRA from the inside of a tag, such as `name:0.8:LBW=SD-MIDD;`; None without a name."""
    head, *weights = _LORA_FIELDS.split(body, maxsplit=1)
    name, *strengths = (part.strip() for part in head.split(":"))
    if not name:
        return None
    if len(strengths) > 2:
        note(
            "lora",
            f"LoRA '{name:.80}': only the first two of its {len(strengths)} strengths count.",
        )
    model, clip = (*strengths, "", "")[:2]
    model_strength = _strength(model, 1.0, name)
    blocks = {"LBW": "", "A": "", "B": ""}
    for item in "".join(weights).split(";"):
        key, equals, value = item.partition("=")
        key = key.strip().upper()
        if equals and key in blocks:
            blocks[key] = value.strip()
        elif item.strip():
            note(
                "lora",
                f"LoRA '{name:.80}': '{item.strip():.60}' is none of LBW=, A= and B=; it is "
                "ignored.",
            )
    return Lora(
        name,
        model_strength,
        _strength(clip, model_strength, name),
        blocks["LBW"] or None,
        _strength(blocks["A"], None, name),
        _strength(blocks["B"], None, name),
    )


def _strength(text: str, absent: float | None, name: str) -> float | None:
    """A finite number with a point or a comma; `absent` for an empty text, 1 for any other text."""
    if not text:
        return absent
    try:
        value = float(text.replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    note("lora", f"LoRA '{name:.80}': the strength '{text:.60}' is no number, so 1 is used.")
    return 1.0
