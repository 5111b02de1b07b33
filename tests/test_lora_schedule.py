"""Strengths that change over a run."""

import pytest
import torch
from detailers.core.prompts.lora_schedule import EASINGS, Ramp, draw_steps


def test_keyframes_of_a_straight_ramp():
    assert Ramp(0.0, 1.0, "linear", 0.0, 0.5).keyframes(3) == [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0)]


def test_the_first_strength_holds_until_the_ramp_begins():
    assert Ramp(0.4, 1.0, "linear", 0.5, 1.0).keyframes(2) == [(0.0, 0.4), (0.5, 0.4), (1.0, 1.0)]


@pytest.mark.parametrize("name", EASINGS)
def test_easings_run_from_0_to_1_and_never_back(name):
    values = [EASINGS[name](i / 20) for i in range(21)]
    assert (values[0], values[-1]) == (0, 1)
    assert values == sorted(values)


def test_easings_bend_as_their_names_say():
    at_quarter = {name: ease(0.25) for name, ease in EASINGS.items()}
    assert at_quarter == {"linear": 0.25, "ease_in": 0.0625, "ease_out": 0.4375,
                          "ease_in_out": 0.125}  # fmt: skip


def test_the_picture_shows_the_steps():
    picture = draw_steps([(0.0, 0.0), (0.5, 1.0)], 200, 100)
    assert picture.shape == (1, 100, 200, 3)
    assert 0 <= picture.min() <= picture.max() <= 1
    blue = (picture[0] - torch.tensor([120, 190, 255]) / 255).abs().amax(-1) < 0.02
    assert blue[70:80, 30:90].any()  # low in the first half
    assert not blue[70:80, 120:170].any()
    assert blue[20:30, 120:170].any()  # high in the second
