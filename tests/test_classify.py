"""Conditions on a classifier's scores, and the segments that meet them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core.segs.classify import Condition, split_by_class
from detailers.tests.fake_backend import make_seg

SCORES = {"Female": 0.7, "male": 0.3, "Age 16-25": 0.05, "笑顔": 0.9}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("female > 0.5", True),
        ("FEMALE > 0.7", False),
        ("female >= 0.7", True),
        ("0.5 < female", True),
        ("male<=0.3", True),
        ("male = 0.3", True),
        ("#Female > #Male", True),
        ("#Female < #Male", False),
        ("#male > male", False),
        (" Age 16-25 < 0.1 ", True),
        ("笑顔 > 0.8", True),
        ("1 > 0.5", True),
        ("nobody > 0", False),
        ("female > nobody", False),
    ],
)
def test_conditions(text, holds):
    assert Condition.parse(text).holds(SCORES) is holds


def test_a_group_is_as_sure_as_its_surest_label():
    assert Condition.parse("#male >= 0.6").holds({"man": 0.2, "boy": 0.6, "male": 0.1})


@pytest.mark.parametrize("text", ["", "female", "female >", "> 0.5", "a > b > c"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match=r"'manual_expr' is .*female > 0\.5"):
        Condition.parse(text)


def test_an_unknown_group_is_named():
    with pytest.raises(ValueError, match=r"group '#Cat'.*#female"):
        Condition.parse("dog > #Cat")


class Brightness:
    """Is as sure of "bright" as the picture is bright."""

    labels = ("bright", "dark")

    def __init__(self):
        self.shapes = []

    def classify(self, pictures):
        self.shapes += [tuple(picture.shape) for picture in pictures]
        means = [float(picture.mean()) for picture in pictures]
        return [{"bright": mean, "dark": 1 - mean} for mean in means]


def grey(value, batch=1):
    return np.full((batch, 3, 4, 3), value, np.float32)


def test_segments_are_split_by_their_pictures():
    items = [make_seg((0, 0, 4, 3), image=grey(value)) for value in (0.2, 0.8, 0.4, 0.6)]
    bright = split_by_class(((9, 9), items), Brightness(), Condition.parse("bright > dark"))
    assert [[id(seg) for seg in segs[1]] for segs in bright] == [
        [id(items[1]), id(items[3])],
        [id(items[0]), id(items[2])],
    ]
    assert bright[0][0] == (9, 9)


def test_segments_without_a_picture_are_cut_from_the_image_or_left_over():
    items = [make_seg((0, 0, 4, 3), image=grey(0.9, batch=2)), make_seg((2, 2, 4, 8))]
    condition, image = Condition.parse("bright > 0.5"), torch.full((2, 9, 9, 4), 0.7)
    classifier = Brightness()
    chosen, rest = split_by_class(((9, 9), items), classifier, condition, image)
    assert (len(chosen[1]), len(rest[1])) == (2, 0)
    assert classifier.shapes == [(3, 4, 3), (6, 2, 3)]
    chosen, rest = split_by_class(((9, 9), items), classifier, condition)
    assert (len(chosen[1]), len(rest[1])) == (1, 1)
    assert rest[1][0] is items[1]


def test_nothing_is_classified_without_segments():
    empty = ((0, 0), [])
    assert split_by_class(empty, Brightness(), Condition.parse("bright > 0")) == (empty, empty)


@pytest.mark.parametrize(
    "answer", [None, 5, [], [{}, {}], ["female"], [{"female": "very"}], [{"female": float("nan")}]]
)
def test_what_a_classifier_gives_is_checked(answer):
    other = SimpleNamespace(labels=["female"], classify=lambda pictures: answer)
    picture = np.ones((1, 4, 4, 3), np.float32)
    segs = ((4, 4), [make_seg((0, 0, 4, 4))._replace(cropped_image=picture)])
    with pytest.raises(ValueError, match=r"^The classifier SimpleNamespace \(classify\) gave"):
        split_by_class(segs, other, Condition.parse("female > 0.5"))
    for labels in (None, [], "female", [5]):
        other.labels = labels
        with pytest.raises(ValueError, match="as its labels"):
            split_by_class(segs, other, Condition.parse("female > 0.5"))
