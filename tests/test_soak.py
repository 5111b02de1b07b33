"""The soak bench: what counts as growth, and that its prompts are repeatable."""

from dataclasses import replace

import pytest


@pytest.fixture(scope="module")
def soak(bench_module):
    return bench_module("soak")


@pytest.fixture
def first(soak):
    return soak.Figures(100, 1000.0, 5.0, 40, 0, 3, 1, (), 0.5)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"megabytes": 1019.0, "history": 90.0, "probe": 0.9}, []),  # within two hundredths
        ({"megabytes": 900.0, "files": 38}, []),
        ({"megabytes": 1021.0}, ["memory: 1000 to 1021 MB"]),
        ({"files": 41, "strays": 2}, ["files: 40 to 41", "strays: 0 to 2"]),
        ({"patchers": 4, "models": 2}, ["patchers: 3 to 4", "models: 1 to 2"]),
        ({"left": ("patches", "wrappers")}, ["left on the model: patches, wrappers"]),
    ],
)
def test_what_has_grown_is_told(soak, first, changed, told):
    assert soak.growth(first, replace(first, **changed)) == told


def test_prompts_are_repeatable_and_all_kinds_take_turns(soak):
    kinds = [soak.mixed_prompt(number, 0)[0] for number in range(2 * len(soak.MIXED))]
    assert kinds == 2 * list(soak.MIXED)
    assert soak.mixed_prompt(3, 0) == soak.mixed_prompt(3, 0)
    assert soak.mixed_prompt(3, 0) != soak.mixed_prompt(3, 1)


def test_every_detailer_takes_turns(soak):
    from detailers.tests.host.graphs import DETAILERS

    assert set(DETAILERS) <= set(soak.MIXED)
    used = {
        node["class_type"]
        for number in range(len(soak.MIXED))
        for node in soak.mixed_prompt(number, 0)[1].values()
    }
    assert {*DETAILERS, "FaceDetailer", "PreviewBridge", "MaskToSEGS"} <= used
