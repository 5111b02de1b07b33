"""How large things may get: bounds that are checked before memory is allocated.

The ranges of widgets stay below them. Hooks, links and files of other packs may ask for any size.
"""

from __future__ import annotations

from ..utils.check import MOST_PIXELS
from .geometry import Size

MOST_SAMPLED = 2**26  # pixels of a crop's working size: 8192 x 8192
MOST_CELLS = 2**20  # latent pixels that a hook may return: 8192 x 8192 pixels at a ratio of 8
MOST_VALUES = 2**31  # values of all masks or pictures of a batch together: 8 GiB in float32
MOST_STEPS = 10000  # steps of a sampler, the most that widgets offer


def check_pixels(size: Size, what: str, most: int = MOST_PIXELS, remedy: str = "") -> None:
    """Raise unless a picture of this size may be made.

    Args:
        what: the subject of the error, such as "The working size of segment 3".
        most: the largest number of pixels.
        remedy: a sentence that says what to do about it.

    Raises:
        ValueError: it has more than `most` pixels.
    """
    width, height = size
    if width * height > most:
        raise ValueError(
            f"{what} would be {_short(width)}x{_short(height)} pixels, that is"
            f" {_short(width * height)}; the most is {most} ({_side(most)}x{_side(most)})."
            f" {remedy}".rstrip()
        )


def check_values(count: int, size: Size, what: str, remedy: str = "") -> None:
    """Raise unless a batch of `count` masks or planes of this size may be made.

    Raises:
        ValueError: one has more than MOST_PIXELS, or all together have more than MOST_VALUES.
    """
    check_pixels(size, what, remedy=remedy)
    if count * size[0] * size[1] > MOST_VALUES:
        raise ValueError(
            f"{what} would be {_short(count)} times {size[0]}x{size[1]} values; the most is"
            f" {MOST_VALUES} in all. {remedy}".rstrip()
        )


def check_total(values: int, what: str, remedy: str = "") -> None:
    """Raise unless so many values may be made together.

    Raises:
        ValueError: these are more than MOST_VALUES.
    """
    if values > MOST_VALUES:
        raise ValueError(
            f"{what} would have {_short(values)} values; the most is {MOST_VALUES} in all."
            f" {remedy}".rstrip()
        )


def _side(pixels: int) -> int:
    return round(pixels**0.5)


def _short(number: int) -> str:
    """A whole number in a few digits, however large it is."""
    number = int(number)
    return str(number) if number < 10**15 else f"about 10^{int(number.bit_length() * 0.30103)}"
