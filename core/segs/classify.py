"""Sorting segments by what an image classifier sees in them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ...utils.check import described, quoted
from ...utils.labels import listed
from ...utils.notes import note
from ..checked_calls import Source, number
from .filter import split
from .pictures import segment_pictures
from .seg import SEGS

# Names that stand for what classifiers call the same thing; letter case does not matter.
GROUPS = {
    "#female": {"female", "human female", "woman", "women", "girl"},
    "#male": {"male", "human male", "man", "men", "boy"},
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "=": operator.eq,
}  # fmt: skip
_EXPRESSION = re.compile(r"(?P<left>[^<>=]+)(?P<sign>>=|<=|>|<|=)(?P<right>[^<>=]+)")


class Classifier(Protocol):
    """An image classifier, as it crosses a TRANSFORMERS_CLASSIFIER link."""

    labels: Sequence[str]

    def classify(self, pictures: Sequence[torch.Tensor]) -> list[dict[str, float]]:
        """How sure it is of each label, 0..1, for each picture [h,w,3]."""


@dataclass(frozen=True)
class Condition:
    """Two values compared: labels, which stand for their score, groups of labels, or numbers."""

    left: str
    sign: str  # one of _COMPARISONS
    right: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition such as "female > 0.5" or "#Female > #Male".

        Raises:
            ValueError: it is none, or names a group that does not exist.
        """
        match = _EXPRESSION.fullmatch(text)
        left, right = (match["left"].strip(), match["right"].strip()) if match else ("", "")
        if not (left and right):
            raise ValueError(
                f"'manual_expr' is {text[:200]!r}, which is no condition. Write a label, one of "
                f"{' '.join(_COMPARISONS)}, and a label or number, such as: female > 0.5"
            )
        for side in (left, right):
            if side.startswith("#") and side.casefold() not in GROUPS:
                raise ValueError(
                    f"'manual_expr' names the group {side[:200]!r}, which does not exist. Write "
                    f"one of {', '.join(GROUPS)}, or a label without #."
                )
        return cls(left, match["sign"], right)

    def holds(self, scores: Mapping[str, float]) -> bool:
        """Whether scores by label meet it; never where a label is not among them."""
        left, right = _value(self.left, scores), _value(self.right, scores)
        if left is None or right is None:
            return False
        return _COMPARISONS[self.sign](left, right)

    def tell_unknown(self, labels: Sequence[str]) -> None:
        """Tell which side stands for none of a classifier's labels, so that nothing meets it."""
        for side in (self.left, self.right):
            if _value(side, dict.fromkeys(labels, 0.0)) is None:
                note(
                    "labels",
                    f"The classifier knows nothing of {side!r:.80}, so no segment meets the"
                    f" condition. There are: {listed(labels)}.",
                )


def _value(side: str, scores: Mapping[str, float]) -> float | None:
    try:
        return float(side)
    except ValueError:
        pass
    names = GROUPS.get(side.casefold(), {side.casefold()})
    found = [score for label, score in scores.items() if label.casefold() in names]
    return max(found, default=None)


def split_by_class(
    segs: SEGS, classifier: Classifier, condition: Condition, fallback: torch.Tensor | None = None
) -> tuple[SEGS, SEGS]:
    """The SEGs whose picture meets a condition, and the others.

    Args:
        fallback: [B,H,W,C] that SEGs without a picture of their own are cut from; those that have
            none then count among the others. Of several pictures the first is looked at.
    """
    source = Source.of("The classifier", classifier, "classify", "Connect another one.")
    labels = getattr(classifier, "labels", None)
    if isinstance(labels, str) or not (labels and all(isinstance(label, str) for label in labels)):
        raise source.wrong(f"{quoted(labels)} as its labels", "a list of texts as its labels")
    condition.tell_unknown(labels)
    pictures = segment_pictures(segs, fallback)
    places = [i for i, picture in enumerate(pictures) if picture is not None]
    if len(places) < len(pictures):
        note(
            "pictures",
            f"{len(pictures) - len(places)} segments have no picture to classify. Connect "
            "'ref_image_opt'.",
        )
    shown = [pictures[i][0] for i in places]
    scores = source.call(source.method(classifier, "classify"), shown) if places else []
    wanted = f"a dict of a score for each label, for each of {len(places)} pictures"
    if not (isinstance(scores, (list, tuple)) and len(scores) == len(places)):
        raise source.wrong(described(scores), wanted)
    own = [_scores(source, of, wanted) for of in scores]
    return split(segs, [i for i, of in zip(places, own, strict=True) if condition.holds(of)])


def _scores(source: Source, given: Any, wanted: str) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise source.wrong(described(given), wanted)
    return {str(label): number(source, score, wanted) for label, score in given.items()}
