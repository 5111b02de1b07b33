"""A stroke alphabet for the signs of the miniature world."""

from __future__ import annotations

from itertools import pairwise

from .render import Colour, Shape, stroke

# Lines of each letter in a box 2 wide and 4 high, x to the right and y down.
_LETTERS = {
    "A": [[(0, 4), (1, 0), (2, 4)], [(0.5, 2.6), (1.5, 2.6)]],
    "B": [[(0, 4), (0, 0), (1.6, 0.4), (1.6, 1.6), (0, 2), (2, 2.5), (2, 3.5), (0, 4)]],
    "C": [[(2, 0.6), (1, 0), (0, 1), (0, 3), (1, 4), (2, 3.4)]],
    "E": [[(2, 0), (0, 0), (0, 4), (2, 4)], [(0, 2), (1.5, 2)]],
    "H": [[(0, 0), (0, 4)], [(2, 0), (2, 4)], [(0, 2), (2, 2)]],
    "I": [[(1, 0), (1, 4)]],
    "K": [[(0, 0), (0, 4)], [(2, 0), (0, 2.2), (2, 4)]],
    "L": [[(0, 0), (0, 4), (2, 4)]],
    "M": [[(0, 4), (0, 0), (1, 2.4), (2, 0), (2, 4)]],
    "N": [[(0, 4), (0, 0), (2, 4), (2, 0)]],
    "O": [[(1, 0), (0, 1), (0, 3), (1, 4), (2, 3), (2, 1), (1, 0)]],
    "P": [[(0, 4), (0, 0), (2, 0.4), (2, 1.8), (0, 2.2)]],
    "R": [[(0, 4), (0, 0), (2, 0.4), (2, 1.8), (0, 2.2), (2, 4)]],
    "S": [[(2, 0.5), (1, 0), (0, 0.8), (2, 3), (1, 4), (0, 3.5)]],
    "T": [[(0, 0), (2, 0)], [(1, 0), (1, 4)]],
}
WORDS = ("OPEN", "TEA", "BOOKS", "BAKER", "MILK", "HOTEL", "PAPER", "STORE", "CINEMA", "CLASS")


def letters(word: str, x: float, y: float, height: float, colour: Colour) -> list[Shape]:
    """A word whose first letter has its upper left corner at (x, y)."""
    unit = height / 4
    shapes = []
    for index, letter in enumerate(word):
        left = x + index * 3 * unit
        for line in _LETTERS[letter]:
            points = [(left + px * unit, y + py * unit) for px, py in line]
            # One stroke for each straight piece keeps corners whole.
            pieces = pairwise(points)
            shapes += [stroke(_lengthened(*piece, unit / 4), unit / 2, colour) for piece in pieces]
    return shapes


def word_width(word: str, height: float) -> float:
    return (3 * len(word) - 1) * height / 4


def _lengthened(start, end, by: float) -> list[tuple[float, float]]:
    (x1, y1), (x2, y2) = start, end
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    dx, dy = (x2 - x1) / length * by, (y2 - y1) / length * by
    return [(x1 - dx, y1 - dy), (x2 + dx, y2 + dy)]
