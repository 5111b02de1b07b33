"""What a node takes for settings: numbers, texts, booleans and choices of a list.

A setting that is typed in the editor is brought into its range there. One that comes over a link or
by a prompt of a program is not, so it is brought here to what its declaration says:

- Text that is a number is read as one, and a whole float is an int.
- A finite number outside of the declared range becomes the nearest bound, and the node tells so, as
  long as that is about the same. It is not where the number lies further outside than the range is
  wide (a threshold of 50, which is a percentage); where it is negative, or zero of what is counted,
  and the range begins above (no steps are not one step); and where it names something, as seeds,
  ids and indices do, whose ranges are those of an int's bits. These are refused.
- What is no number, NaN or infinite is refused.
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

Check = Callable[[Any], Any]  # value -> the one that is used instead

NOTE = "range"
WIDEST = 2**64  # of numbers without a range
OPEN = 2**31  # a range that ends at or above this has no end that means anything
LONGEST_NUMBER = 400  # signs of a text that is read as a number
LONGEST_TEXT = 2**26  # signs
LONGEST_NAME = 200  # signs of what files are named by
NAMES_SOMETHING = frozenset({"select"})  # inputs with a narrow range that are no amounts
NAMES_FILES = frozenset({"filename_prefix", "temp_prefix"})

_ON = frozenset({"true", "yes", "on", "1", "enable", "enabled"})
_OFF = frozenset({"false", "no", "off", "0", "disable", "disabled"})


@dataclass(frozen=True)
class Input:
    """An input as a node declares it."""

    name: str
    options: Mapping[str, Any]
    parts: Collection[str] | None = None  # of a pipe that the node uses; None is all

    def error(self, wanted: str, value: Any, remedy: str) -> ValueError:
        return ValueError(f"'{self.name}' should be {wanted} but is {described(value)}. {remedy}")


# Numbers


def whole_number(declared: Input) -> Check:
    """For INT."""
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
    """For FLOAT."""
    wanted = _range_text("a number", declared.options)
    remedy = "Connect a number, and check what makes it."
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
    """A value as a number of Python's; None where it is none."""
    if isinstance(value, str):
        return _number_in(value)
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        try:
            value = value.item()
        except (ValueError, RuntimeError, NotImplementedError, TypeError):
            return None  # several, or none in memory
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
    """For finite numbers outside of a range."""
    is_name = high >= OPEN or declared.name in NAMES_SOMETHING

    def check(number: float) -> float:
        nearest = low if number < low else high
        nothing = number < 0 or (whole and number == 0)
        if is_name or (low > 0 and nothing) or abs(number - nearest) > high - low:
            remedy = "Connect a number of that range, or type one into the node."
            raise declared.error(wanted, number, remedy)
        nearest = int(nearest) if whole else float(nearest)
        note(
            NOTE,
            f"'{declared.name}' is {number}, outside of its range, so {nearest} is used. Give it a "
            f"number from {low} to {high}.",
        )
        return nearest

    return check


# Booleans, texts, choices


def boolean(declared: Input) -> Check:
    """For BOOLEAN: true or false, a number, or a word for it, such as those that the node shows."""
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
    """For STRING: a text, or a number or path as one."""
    longest = LONGEST_NAME if declared.name in NAMES_FILES else LONGEST_TEXT

    def check(value: Any) -> str:
        if not isinstance(value, str):
            value = as_text(value)
        if len(value) > longest:
            raise ValueError(
                f"'{declared.name}' should have at most {longest} signs but has {len(value)}: "
                f"{quoted(value)}. Shorten it."
            )
        if not value.isascii():
            _check_unicode(value)
        if declared.name in NAMES_FILES and not value.replace("\n", " ").isprintable():
            raise ValueError(
                f"'{declared.name}' is {quoted(value)}, which has signs that no file's name can "
                "have, such as NUL. Take them out."
            )
        return value

    def as_text(value: Any) -> str:
        if isinstance(value, PurePath):
            return str(value)
        number = None if isinstance(value, (np.ndarray, torch.Tensor)) else _number(value)
        if number is None or not -WIDEST <= number <= WIDEST:
            remedy = "Connect a text, or turn the value into one before."
            raise declared.error("a text", value, remedy)
        return str(value)

    def _check_unicode(value: str) -> None:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"'{declared.name}' is {quoted(value)}, which has half a sign at place "
                f"{error.start} (a lone surrogate). Take it out."
            ) from error

    return check


def free_choice(declared: Input) -> Check:
    """For a choice that the node checks by itself, which may be of no list."""

    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, (str, int, float)):
            raise declared.error("a text of its list", value, "Choose one in the node.")
        return value

    return check


def choice(declared: Input, entries_now: Callable[[], Sequence[Any]]) -> Check:
    """For an input that is a choice of a list.

    Args:
        entries_now: the list, asked again where it lacks a value: files and packs come later.
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
