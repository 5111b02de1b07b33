"""Sort segments by the scores that an image classifier gives their pictures."""

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

# Names for groups of labels that mean the same; upper and lower case do not matter.
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
        """For each picture [h,w,3] 0..1, the score of each label, 0..1."""


@dataclass(frozen=True)
class Condition:
    """A comparison of two values: the scores of labels or groups of labels, or numbers."""

    left: str
    sign: str  # one of _COMPARISONS
    right: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition such as "female > 0.5" or "#Female > #Male".

        Raises:
            ValueError: the text is no condition, or names a group that does not exist.
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
        """Whether the scores of the labels meet the condition; false where a label is missing."""
        left, right = _value(self.left, scores), _value(self.right, scores)
        if left is None or right is None:
            return False
        return _COMPARISONS[self.sign](left, right)

    def tell_unknown(self, labels: Sequence[str]) -> None:
        """Give a note for each side that names no label of the classifier."""
        for side in (self.left, self.right):
            if _value(side, dict.fromkeys(labels, 0.0)) is None:
                note(
                    "labels",
                    f"The classifier has no label {side!r:.80}, so no segment meets the condition."
                    f" Its labels are: {listed(labels)}.",
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

    Of several pictures of a SEG the first is classified. A SEG without any picture counts among the
    others.

    Args:
        fallback: [B,H,W,C] 0..1; a SEG without its own picture is cropped from it.

    Raises:
        ValueError, RuntimeError: the classifier raised an error, or returned no scores.
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
