"""The settings that travel from the nodes to the core."""

from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest
from detailers.core import settings
from detailers.core.geometry import Sizing
from detailers.core.settings import (
    Detail,
    Masking,
    Models,
    Pasting,
    Refiner,
    Sampling,
    Tiling,
    Upright,
)
from detailers.utils.seeds import MAX_SEED


def test_models_are_the_parts_of_a_basic_pipe_in_its_order():
    assert Models._fields == ("model", "clip", "vae", "positive", "negative")
    assert tuple(Models(1, 2, 3, 4, 5)) == (1, 2, 3, 4, 5)


def test_the_placeholder_is_the_string_that_shared_workflows_carry():
    assert settings.NEGATIVE_PLACEHOLDER == "NegativePlaceholder"
    assert MAX_SEED == 18446744073709551615


@pytest.mark.parametrize("kind", [Sampling, Refiner, Masking, Pasting, Upright, Tiling, Detail])
def test_settings_cannot_be_changed_on_the_way(kind):
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen


def test_a_frozen_setting_says_so():
    with pytest.raises(FrozenInstanceError):
        Masking().feather = 3


def test_what_a_node_does_not_say_takes_these_values():
    detail = Detail(Models(1, 2, 3, 4, 5), None, Sampling(0, 20, 8.0, "euler", "normal"))
    assert detail.masking == Masking(
        noise_mask=True, noise_mask_feather=0, feather=5, inpaint_model=False
    )
    assert detail.pasting == Pasting("feather", 0.0, False, 0, None, False)
    assert detail.upright.source == "off"
    assert detail.tiling == Tiling(encode=False, decode=False)
    assert (detail.refiner, detail.text, detail.hook) == (None, "", None)
    assert (detail.sampling.denoise, detail.sampling.cycle) == (1.0, 1)
    assert detail.sampling.scheduler_func is None


def test_no_two_settings_share_a_name():
    kinds = [Sizing, Sampling, Masking, Pasting, Upright, Tiling, Detail]
    names = [field.name for kind in kinds for field in fields(kind)]
    assert len(names) == len(set(names))
