"""The noise levels of a run, and the noise at the start."""

import pytest
import torch
from detailers.core.noise import seed_for, start_noise
from detailers.core.sampling.sigmas import (
    DISCARD_PENULTIMATE,
    EXTRA_SCHEDULERS,
    Window,
    denoise_window,
    split_for_refiner,
    unknown_scheduler,
    window_sigmas,
)
from hypothesis import given
from hypothesis import strategies as st


def falling(steps):
    """[steps+1]: each sigma is the number of steps to go."""
    return torch.arange(steps, -1, -1.0)


# Denoise


@pytest.mark.parametrize(
    ("steps", "denoise", "window"),
    [
        (20, 1.0, Window(20, 0, 20)),
        (20, 0.5, Window(40, 20, 40)),
        (20, 0.35, Window(57, 37, 57)),  # 57.14 steps in all
        (7, 0.3, Window(23, 16, 23)),
        (3, 0.0001, Window(30000, 29997, 30000)),
        (1, 0.99, Window(1, 0, 1)),
    ],
)
def test_denoise_runs_the_last_steps_of_a_longer_schedule(steps, denoise, window):
    assert denoise_window(steps, denoise) == window
    assert window.steps == steps


@given(st.integers(1, 200), st.floats(0.0001, 1.0))
def test_denoise_always_runs_as_many_steps_as_asked_for(steps, denoise):
    window = denoise_window(steps, denoise)
    assert window.steps == steps
    assert window.end == window.total >= steps
    assert window.total <= steps / denoise


@pytest.mark.parametrize("denoise", [0.0, -0.5])
def test_no_denoise_runs_nothing(denoise):
    window = denoise_window(4, denoise)
    assert window.steps == 0
    assert len(window_sigmas(falling(window.total), window)) < 2


# Refiner


@pytest.mark.parametrize(
    ("window", "ratio", "base", "refiner"),
    [
        (Window(20, 0, 20), 0.2, (0, 16), (16, 20)),
        (Window(5, 0, 5), 0.5, (0, 2), (2, 5)),  # floor(2.5) steps for the base
        (Window(40, 20, 40), 0.25, (20, 35), (35, 40)),
        (Window(6, 0, 6), 0.0, (0, 6), (6, 6)),
        (Window(6, 0, 6), 1.0, (0, 0), (0, 6)),
    ],
)
def test_the_refiner_runs_the_last_share_of_the_steps(window, ratio, base, refiner):
    first, last = split_for_refiner(window, ratio)
    assert first == Window(window.total, *base)
    assert last == Window(window.total, *refiner)


# Sigmas of a window


@pytest.mark.parametrize(
    ("window", "sigmas"),
    [
        (Window(6, 0, 6), [6, 5, 4, 3, 2, 1, 0]),
        (Window(6, 4, 6), [2, 1, 0]),
        (Window(6, 0, 4), [6, 5, 4, 3, 2]),  # leftover noise for the refiner
        (Window(6, 6, 6), [0]),
    ],
)
def test_a_window_of_a_schedule_of_the_length_asked_for(window, sigmas):
    assert window_sigmas(falling(6), window).tolist() == sigmas


@pytest.mark.parametrize(
    ("window", "sigmas"),
    [
        (Window(5, 0, 5), [3, 2, 1, 0]),
        (Window(5, 3, 5), [2, 1, 0]),
        (Window(5, 0, 4), [3, 2, 1]),
        (Window(5, 4, 5), [1, 0]),
        (Window(9, 8, 9), [1, 0]),
    ],
)
def test_of_a_shorter_schedule_the_last_steps_are_run(window, sigmas):
    assert window_sigmas(falling(3), window).tolist() == sigmas


@pytest.mark.parametrize(
    ("window", "sigmas"),
    [
        (Window(4, 0, 4), [6, 5, 4, 3, 0]),
        (Window(4, 2, 4), [4, 3, 0]),
        (Window(4, 0, 2), [6, 5, 4]),
        (Window(1, 0, 1), [6, 0]),
    ],
)
def test_a_longer_schedule_is_cut_and_ends_without_noise(window, sigmas):
    assert window_sigmas(falling(6), window).tolist() == sigmas


def test_cutting_a_schedule_leaves_it_as_it_was():
    schedule = falling(6)
    window_sigmas(schedule, Window(4, 0, 4))
    assert schedule.tolist() == [6, 5, 4, 3, 2, 1, 0]


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.1, 1.0), st.floats(0.0, 1.0))
def test_base_and_refiner_meet_at_one_noise_level(steps, given_steps, denoise, ratio):
    window = denoise_window(steps, denoise)
    schedule = falling(given_steps)
    first, last = split_for_refiner(window, ratio)
    base, refiner = window_sigmas(schedule, first), window_sigmas(schedule, last)
    whole = window_sigmas(schedule, window)
    assert whole[-1] == 0
    assert len(base) + len(refiner) - 1 == len(whole)
    if last.steps:
        assert torch.equal(torch.cat([base, refiner[1:]]), whole)


# Seeds and noise


def test_seeds_wrap_at_64_bits():
    assert seed_for(5, 3) == 8
    assert seed_for(2**64 - 1, 2) == 1


def test_start_noise_is_the_hosts_own():
    noise = start_noise(torch.zeros(1, 1, 2, 2), 0)
    expected = torch.tensor([1.5410, -0.2934, -2.1788, 0.5684])
    assert torch.allclose(noise.flatten(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 4, 5, 7), (1, 4, 2, 5, 7)])
def test_start_noise_is_float32_of_the_latents_shape_whatever_its_type(shape):
    noise = start_noise(torch.zeros(shape, dtype=torch.float16), 3)
    assert (noise.shape, noise.dtype) == (shape, torch.float32)
    for seed in (3, 4):
        expected = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(start_noise(torch.zeros(shape), seed), expected)
        assert torch.equal(noise, expected) == (seed == 3)


def test_start_noise_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    start_noise(torch.zeros(1, 4, 8, 8), 2**64 - 1)
    assert torch.equal(torch.get_rng_state(), before)


# Names


def test_the_extra_schedulers_have_the_names_that_shared_workflows_carry():
    assert {name: extra.node for name, extra in EXTRA_SCHEDULERS.items()} == {
        "AYS SDXL": "AlignYourStepsScheduler",
        "AYS SD1": "AlignYourStepsScheduler",
        "AYS SVD": "AlignYourStepsScheduler",
        "GITS[coeff=1.2]": "GITSScheduler",
        "LTXV[default]": "LTXVScheduler",
        "OSS FLUX": "OptimalStepsScheduler",
        "OSS Wan": "OptimalStepsScheduler",
        "OSS Chroma": "OptimalStepsScheduler",
    }
    assert EXTRA_SCHEDULERS["GITS[coeff=1.2]"].inputs["coeff"] == 1.2
    assert EXTRA_SCHEDULERS["AYS SVD"].inputs["model_type"] == "SVD"


def test_the_samplers_that_drop_the_penultimate_sigma():
    assert {"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"} == DISCARD_PENULTIMATE


def test_an_unknown_scheduler_is_named_with_the_choices():
    error = unknown_scheduler("bogus", ["normal", "karras"])
    assert str(error) == (
        "'scheduler' is 'bogus', which this ComfyUI does not have. Choose one of: normal, karras, "
        "AYS SDXL, AYS SD1, AYS SVD, GITS[coeff=1.2], LTXV[default], OSS FLUX, OSS Wan, OSS Chroma."
    )
