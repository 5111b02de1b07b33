"""Block weights of a LoRA: the share of its strength for each block of a network."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...utils.notes import note

# The order of blocks in weight lists, as sd-webui-lora-block-weight introduced it. The first number
# is for the text encoder and for everything outside the blocks.
_LAYOUTS: Mapping[int, tuple[str, ...]] = {
    17: (
        "in1", "in2", "in4", "in5", "in7", "in8", "mid", "out3", "out4", "out5", "out6", "out7",
        "out8", "out9", "out10", "out11",
    ),
    26: (*(f"in{i}" for i in range(12)), "mid", *(f"out{i}" for i in range(12))),
    12: ("in4", "in5", "in7", "in8", "mid", *(f"out{i}" for i in range(6))),
    20: (*(f"in{i}" for i in range(9)), "mid", *(f"out{i}" for i in range(9))),
    # With separate parts of the middle block, as in LyCORIS.
    27: (
        *(f"in{i}" for i in range(1, 12)), "mid0", "mid1", "mid2",
        *(f"out{i}" for i in range(12)),
    ),
    21: (
        *(f"in{i}" for i in range(1, 9)), "mid0", "mid1", "mid2", *(f"out{i}" for i in range(9)),
    ),
}  # fmt: skip
# For presets only: the double blocks of FLUX; the last number is for all further blocks.
_OF_PRESETS: Mapping[int, tuple[str, ...]] = {18: tuple(f"double{i}" for i in range(17))}
_LENGTHS = "12, 17, 20, 21, 26 or 27"
_KINDS = {
    "input_blocks": "in", "output_blocks": "out", "double_blocks": "double",
    "single_blocks": "single",
}  # fmt: skip
_BLOCK = re.compile(r"(input_blocks|output_blocks|double_blocks|single_blocks)\.(\d+)\.")
_MIDDLE = re.compile(r"middle_block\.(?:(\d+)\.)?")


def _row(first: str, *runs: tuple[int, str]) -> str:
    return ",".join([first, *(value for count, value in runs for _ in range(count))])


# The presets that packs for block weights have in common, with the same names.
PRESETS: Mapping[str, str] = {
    "SD-NONE": _row("0", (16, "0")),
    "SD-ALL": _row("1", (16, "1")),
    "SD-INS": _row("1", (3, "1"), (13, "0")),
    "SD-IND": _row("1", (3, "0"), (3, "1"), (10, "0")),
    "SD-INALL": _row("1", (6, "1"), (10, "0")),
    "SD-MIDD": _row("1", (3, "0"), (8, "1"), (5, "0")),
    "SD-MIDD0.2": _row("1", (5, "0"), (1, "0.2"), (2, "0.4"), (1, "0.2"), (7, "0")),
    "SD-MIDD0.8": _row("1", (4, "0"), (1, "0.5"), (2, "0.8"), (1, "0.4"), (8, "0")),
    "SD-MOUT": _row("1", (5, "0"), (8, "1"), (1, "0.5"), (2, "0")),
    "SD-OUTD": _row("1", (7, "0"), (4, "1"), (5, "0")),
    "SD-OUTS": _row("1", (11, "0"), (5, "1")),
    "SD-OUTALL": _row("1", (7, "0"), (9, "1")),
    "SD-ROUT": _row("1", (7, "1"), (9, "R")),
    "SD-AOUT": _row("A", (11, "1"), (5, "A")),
    "SD-AB": _row("A", (11, "B"), (5, "A")),
    "SD-ALL0.5": _row("0.5", (16, "0.5")),
    "SD-LYC-NONE": _row("0", (26, "0")),
    "SD-LYC-ALL": _row("1", (26, "1")),
    "SD-LYC-INALL": _row("1", (11, "1"), (15, "0")),
    "SD-LYC-MIDALL": _row("1", (11, "0"), (3, "1"), (12, "0")),
    "SD-LYC-OUTALL": _row("1", (14, "0"), (12, "1")),
    "SDXL-NONE": _row("0", (11, "0")),
    "SDXL-ALL": _row("1", (11, "1")),
    "SDXL-INALL": _row("1", (4, "1"), (7, "0")),
    "SDXL-MIDALL": _row("1", (4, "0"), (1, "1"), (6, "0")),
    "SDXL-OUTALL": _row("1", (5, "0"), (6, "1")),
    "SDXL-LYC-NONE": _row("0", (20, "0")),
    "SDXL-LYC-ALL": _row("1", (20, "1")),
    "SDXL-LYC-INALL": _row("1", (8, "1"), (12, "0")),
    "SDXL-LYC-MIDALL": _row("1", (8, "0"), (3, "1"), (9, "0")),
    "SDXL-LYC-OUTALL": _row("1", (11, "0"), (9, "1")),
    "FLUX-DBL-FRONT": _row("1", (5, "1"), (12, "0")),
    "FLUX-DBL-MID": _row("0", (5, "0"), (6, "1"), (6, "0")),
    "FLUX-DBL-TAIL": _row("0", (11, "0"), (6, "1")),
}


def read_presets(text: str) -> dict[str, str]:
    """The presets in a file of such a pack: lines `NAME:1,0,...`; the names in upper case."""
    pairs = (line.strip().partition(":") for line in text.splitlines())
    return {
        name.strip().upper(): weights.strip()
        for name, _, weights in pairs
        if weights.strip() and name.strip() and not name.startswith(("@", "#"))
    }


@dataclass(frozen=True)
class BlockWeights:
    """Factors for the parts of a LoRA.

    Attributes:
        base: the factor for everything outside the blocks.
        blocks: the factor of each block, such as in4, mid, mid1, out0 and double3.
        rest: the factor for blocks of FLUX that are not named; None for other networks.
    """

    base: float
    blocks: Mapping[str, float]
    rest: float | None = None

    @classmethod
    def parse(
        cls,
        text: str,
        a: float | None,
        b: float | None,
        presets: Callable[[], Mapping[str, str]] = dict,
    ) -> BlockWeights | None:
        """Read a list such as `1,0,0,1,...`, or the name of a preset.

        The letters A and B mean the numbers given for them; in a preset they are 1 if no number is
        given. R and U are random numbers from 0 to 3 and from -1.5 to 1.5, the same ones each time.

        Args:
            a, b: the numbers for A and B, or None.
            presets: returns the user's own presets by name in upper case; they replace `PRESETS` of
                the same name.

        Returns:
            The weights; None, with a note, if the list is not understood. Then the LoRA is loaded
            with the same strength for all blocks.
        """
        name = text.strip().upper()
        preset = None if "," in text else presets().get(name) or PRESETS.get(name)
        letters = {"A": a, "B": b}
        if preset is not None:
            letters = {letter: 1.0 if given is None else given for letter, given in letters.items()}
        try:
            values = _values(text if preset is None else preset, letters)
            layouts = _LAYOUTS if preset is None else {**_LAYOUTS, **_OF_PRESETS}
            layout = layouts[len(values)]
        except (ValueError, KeyError):
            note("lora", _not_understood(text, preset, presets))
            return None
        rest = values[-1] if layout[0].startswith("double") else None
        return cls(values[0], dict(zip(layout, values[1:], strict=True)), rest)

    def factor(self, key: str) -> float:
        """The factor for a weight of the model with this name."""
        if match := _BLOCK.search(key):
            kind, number = _KINDS[match[1]], match[2]
            if kind in ("double", "single"):
                absent = self.base if self.rest is None else self.rest
            else:
                absent = 0.0 if self.rest is None else self.base
            return self.blocks.get(f"{kind}{number}", absent)
        if match := _MIDDLE.search(key):
            own = self.blocks.get(f"mid{match[1]}") if match[1] else None
            absent = 0.0 if self.rest is None else self.base
            return self.blocks.get("mid", absent) if own is None else own
        return self.base


def _values(text: str, letters: Mapping[str, float | None]) -> list[float]:
    chance = random.Random(text).random  # noqa: S311 - can be repeated, no secret
    by_chance = {"R": (0.0, 3.0), "U": (-1.5, 1.5)}

    def value(word: str) -> float:
        word = word.strip().upper()
        if word in by_chance:
            low, high = by_chance[word]
            return round(low + chance() * (high - low), 2)
        given = letters.get(word)
        return float(word) if given is None else given

    return [value(word) for word in text.split(",")]


def _not_understood(
    text: str, preset: str | None, presets: Callable[[], Mapping[str, str]]
) -> str:  # fmt: skip
    evenly = "so the LoRA is loaded with the same strength for all blocks."
    numbers = f"a list of {_LENGTHS} numbers (with A and B, if given)"
    if preset is not None:
        return f"LBW={text} is a preset that holds {preset!r}, which is not {numbers}, {evenly}"
    if "," in text:
        return f"LBW={text} is not {numbers}, {evenly}"
    known = ", ".join(sorted({*presets(), *PRESETS}))
    return f"LBW={text} is not {numbers} and no preset, {evenly} The presets are: {known}."
