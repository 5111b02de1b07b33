"""Block weights of a LoRA: which share of its strength each block of a UNet gets."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..utils.notes import note

# Block order of the weight lists in use since sd-webui-lora-block-weight. The first number is for
# the text encoder and whatever lies outside the blocks.
_LAYOUTS: Mapping[int, tuple[str, ...]] = {
    17: (
        "in1", "in2", "in4", "in5", "in7", "in8", "mid", "out3", "out4", "out5", "out6", "out7",
        "out8", "out9", "out10", "out11",
    ),
    26: (*(f"in{i}" for i in range(12)), "mid", *(f"out{i}" for i in range(12))),
    12: ("in4", "in5", "in7", "in8", "mid", *(f"out{i}" for i in range(6))),
    20: (*(f"in{i}" for i in range(9)), "mid", *(f"out{i}" for i in range(9))),
}  # fmt: skip
_KINDS = {"input_blocks": "in", "output_blocks": "out"}


class BlockWeights:
    """Factors for the parts of a LoRA, from a list such as `1,0,0,1,...` (12, 17, 20 or 26)."""

    def __init__(self, base: float, blocks: Mapping[str, float]) -> None:
        self.base = base
        self.blocks = blocks

    @classmethod
    def parse(cls, text: str, a: float | None, b: float | None) -> BlockWeights | None:
        """Read a list in which the letters A and B stand for the numbers given for them.

        Returns:
            None, with a warning, if the list is not understood; the LoRA then loads evenly.
        """
        letters = {"A": a, "B": b}
        try:
            values = [
                float(word) if letters.get(word.upper()) is None else letters[word.upper()]
                for word in (part.strip() for part in text.split(","))
            ]
            layout = _LAYOUTS[len(values)]
        except (ValueError, KeyError):
            note(
                "lora",
                f"LBW={text} is not a list of 12, 17, 20 or 26 numbers (with A and B, if given), "
                "so the LoRA is loaded with the same strength for all blocks.",
            )
            return None
        return cls(values[0], dict(zip(layout, values[1:], strict=True)))

    def factor(self, key: str) -> float:
        """The factor for a weight of the model, by its name."""
        match = re.search(r"(input_blocks|output_blocks)\.(\d+)\.", key)
        if match:
            return self.blocks.get(f"{_KINDS[match[1]]}{match[2]}", 0.0)
        if "middle_block." in key:
            return self.blocks.get("mid", 0.0)
        return self.base
