"""Check the settings of nodes: numbers, texts, booleans and choices.

The editor brings a typed number into its range. A value that comes over a link, or in a prompt of a
program, is checked here against the declaration of its input:

- A text that holds a number is read as a number, and a whole float becomes an int.
- A finite number outside of the range is replaced by the nearest bound, and the user is told, if
  the difference is small. It is an error instead in three cases: the number is further outside than
  the range is wide (a threshold of 50 is meant as a percentage); the range begins above 0, and the
  number is negative, or is a count of 0 (0 steps are not the same as 1 step); the number is a name,
  as seeds, ids and indices are.
- A value that is no number, NaN or infinite is an error.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from ...utils.check import described, quoted
from ...utils.notes import note

Check = Callable[[Any], Any]  # takes a value, gives the value that is used instead

NOTE = "range"
WIDEST = 2**64  # bound of numbers without a range
OPEN = 2**31  # an upper bound from this on is only the limit of the type, so the number is a name
LONGEST_NUMBER = 400  # the most characters of a text that is read as a number
LONGEST_TEXT = 2**26  # the most characters of a text
LONGEST_NAME = 200  # the most characters of the name of a file
NAMES_SOMETHING = frozenset({"select"})  # inputs with a narrow range whose number is a name
NAMES_FILES = frozenset({"filename_prefix", "temp_prefix"})

_ON = frozenset({"true", "yes", "on", "1", "enable", "enabled"})
_OFF = frozenset({"false", "no", "off", "0", "disable", "disabled"})


@dataclass(frozen=True)
class Input:
    """The declaration of an input of a node."""

    name: str
    options: Mapping[str, Any]
    parts: Collection[str] | None = None  # the parts of a pipe that the node uses. None: all

    def error(self, wanted: str, value: Any, remedy: str) -> ValueError:
        """The error for a value that is not what the input takes."""
        return ValueError(f"'{self.name}' should be {wanted} but is {described(value)}. {remedy}")


# Numbers


def whole_number(declared: Input) -> Check:
    """The check for INT: the value becomes an int in the range.

    Its errors are ValueErrors, as those of all checks here.
    """
    wanted = _range_text("a whole number", declared.options)
    remedy = "Connect a whole number, or round it before."
    low, high = _bounds(declared.options, WIDEST)
    inside = _inside(declared, low, high, wanted, whole=True)

    def check(value: Any) -> int:
        if type(value) is int:
            return value if low <= value <= high else inside(value)
        number = _number(value)
        if number is None or (isinstance(number, float) and not number.is_integer()):
            raise declared.error(wanted, value, remedy)
        number = int(number)
        return number if low <= number <= high else inside(number)

    return check


def real_number(declared: Input) -> Check:
    """The check for FLOAT: the value becomes a float in the range."""
    wanted = _range_text("a number", declared.options)
    remedy = "Connect a number, and check the node that makes it."
    low, high = _bounds(declared.options, math.inf)
    inside = _inside(declared, low, high, wanted, whole=False)

    def check(value: Any) -> float:
        number = value if type(value) is float else _number(value)
        try:
            number = math.nan if number is None else float(number)
        except OverflowError:
            number = math.nan
        if low <= number <= high and number - number == 0:
            return number
        if not math.isfinite(number):
            raise declared.error(wanted, value, remedy)
        return inside(number)

    return check


def _number(value: Any) -> int | float | None:
    """A value as a Python number, or None if it is no number."""
    if isinstance(value, str):
        return _number_in(value)
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        try:
            value = value.item()
        except (ValueError, RuntimeError, NotImplementedError, TypeError):
            return None  # several values, or values that are not in memory
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (numbers.Real, numbers.Number)) and not isinstance(value, complex):
        try:
            return float(value)
        except (OverflowError, ValueError, TypeError):
            return None
    return None


def _number_in(text: str) -> int | float | None:
    text = text.strip()
    if len(text) > LONGEST_NUMBER:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _bounds(options: Mapping[str, Any], widest: float) -> tuple[float, float]:
    low, high = options.get("min"), options.get("max")
    return -widest if low is None else low, widest if high is None else high


def _range_text(what: str, options: Mapping[str, Any]) -> str:
    low, high = options.get("min"), options.get("max")
    return what if low is None or high is None else f"{what} from {low} to {high}"


def _inside(declared: Input, low: float, high: float, wanted: str, whole: bool) -> Check:
    """The check for finite numbers outside of the range."""
    is_name = high >= OPEN or declared.name in NAMES_SOMETHING

    def check(number: float) -> float:
        nearest = low if number < low else high
        nothing = number < 0 or (whole and number == 0)
        if is_name or (low > 0 and nothing) or abs(number - nearest) > high - low:
            remedy = "Connect a number in that range, or type one into the node."
            raise declared.error(wanted, number, remedy)
        nearest = int(nearest) if whole else float(nearest)
        note(
            NOTE,
            f"'{declared.name}' is {number}, which is outside of its range, so {nearest} is used. "
            f"Use a number from {low} to {high}.",
        )
        return nearest

    return check


# Booleans, texts, choices


def boolean(declared: Input) -> Check:
    """The check for BOOLEAN: a boolean, a number, or a word such as the labels of the node."""
    on = _ON | {str(declared.options.get("label_on", "on")).strip().lower()}
    off = _OFF | {str(declared.options.get("label_off", "off")).strip().lower()}
    remedy = f"Connect a boolean, or one of the texts {', '.join(sorted(on | off))}."

    def check(value: Any) -> bool:
        if value is True or value is False:
            return value
        if isinstance(value, str):
            word = value[:LONGEST_NUMBER].strip().lower()
            if word in on or word in off:
                return word in on
        number = _number(value)
        if number is None or number != number:
            raise declared.error("true or false", value, remedy)
        return bool(number)

    return check


def text(declared: Input) -> Check:
    """The check for STRING: a text; a number or a path becomes a text."""
    longest = LONGEST_NAME if declared.name in NAMES_FILES else LONGEST_TEXT

    def check(value: Any) -> str:
        if not isinstance(value, str):
            value = as_text(value)
        if len(value) > longest:
            raise ValueError(
                f"'{declared.name}' should have at most {longest} characters but has {len(value)}: "
                f"{quoted(value)}. Shorten it."
            )
        if not value.isascii():
            _check_unicode(value)
        if declared.name in NAMES_FILES and not value.replace("\n", " ").isprintable():
            raise ValueError(
                f"'{declared.name}' is {quoted(value)}, which has characters that a file name "
                "cannot have, such as NUL. Remove them."
            )
        return value

    def as_text(value: Any) -> str:
        if isinstance(value, PurePath):
            return str(value)
        number = None if isinstance(value, (np.ndarray, torch.Tensor)) else _number(value)
        if number is None or not -WIDEST <= number <= WIDEST:
            remedy = "Connect a text, or convert the value to a text before."
            raise declared.error("a text", value, remedy)
        return str(value)

    def _check_unicode(value: str) -> None:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"'{declared.name}' is {quoted(value)}, which has half a character (a lone "
                f"surrogate) at position {error.start}. Remove it."
            ) from error

    return check


def free_choice(declared: Input) -> Check:
    """The check for a choice that the node checks itself; it may be an entry of no list."""

    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, (str, int, float)):
            raise declared.error("an entry of its list", value, "Choose one in the node.")
        return value

    return check


def choice(declared: Input, entries_now: Callable[[], Sequence[Any]]) -> Check:
    """The check for a choice from a list.

    Args:
        entries_now: gives the list. It is called again for an unknown value, since files and packs
            may be added later.
    """
    known: set[Any] = set()

    def check(value: Any) -> Any:
        try:
            if value in known:
                return value
            entries = entries_now()
            known.update(entries)
            if value in known:
                return value
        except TypeError:  # a list or the like, which is never an entry
            entries = entries_now()
        shown = quoted(value) if isinstance(value, str) else described(value)
        names = ", ".join(map(str, entries[:200])) or "there are none"
        raise ValueError(
            f"'{declared.name}' is {shown}, which this ComfyUI does not have. Choose one of: "
            f"{names}{', ...' if len(entries) > 200 else ''}."
        )

    return check
