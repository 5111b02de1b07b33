"""Weights of options, as in `2::brown`."""

from __future__ import annotations

import re
from collections.abc import Iterable

WEIGHT = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]*)?|\.[0-9]+)\s*::")


def split_weight(option: str) -> tuple[float, str]:
    """The weight of an option, 1 by default, and its text."""
    weight = WEIGHT.match(option)
    return (float(weight[1]), option[weight.end() :]) if weight else (1.0, option)


def is_weighted(options: Iterable[str]) -> bool:
    """Whether some option may have a weight."""
    return any("::" in option for option in options)
