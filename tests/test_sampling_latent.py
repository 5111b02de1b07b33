"""Sampling a LATENT with a sampler setup: windows, noise, seeds, hooks; and samplers as objects."""

import pytest
import torch
from detailers.core.noise import mix_noise, start_noise
from detailers.core.sampling.latent import (
    Denoising,
    SamplerSetup,
    SchedulePart,
    make_run,
    sample_latent,
    sample_part,
)
from detailers.core.sampling.sampler_objects import AdvancedKSampler, KSampler, sample_in_mask
from detailers.core.sampling.sigmas import Window
from detailers.tests.fake_backend import FakeBackend, FakeModel, brighten, fill, text_of

LATENT = {"samples": torch.zeros(1, 4, 6, 5), "downscale_ratio_spacial": 8}


def sampler_setup(**changed):
    values = {"cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"} | changed
    return SamplerSetup(FakeModel(), text_of("positive"), text_of("negative"), **values)


def denoising(**changed):
    return Denoising(**{"seed": 5, "steps": 4} | changed)


def test_a_part_is_cut_out_of_the_schedule():
    backend = FakeBackend()
    noise = torch.ones(1, 4, 6, 5)
    run = make_run(
        sampler_setup(), LATENT, SchedulePart(Window(6, 1, 4), 5, noise, leftover=True), backend
    )
    assert run.sigmas.tolist() == [5, 4, 3, 2]
    assert run.schedule.tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert run.noise is noise
    run = make_run(
        sampler_setup(sigma_factor=0.5), LATENT, SchedulePart(Window(6, 1, 4), 5), backend
    )
    assert run.sigmas.tolist() == [2.5, 2, 1.5, 0]
    assert not run.noise.any()
    assert make_run(sampler_setup(), LATENT, SchedulePart(Window(6, 6, 6), 5), backend) is None
    assert (
        make_run(sampler_setup(sigma_factor=0.0), LATENT, SchedulePart(Window(6, 0, 6), 5), backend)
        is None
    )


def test_parts_draw_noise_of_their_own():
    """By name samplers know how to go on; of an object only the seed can be changed."""
    part = SchedulePart(Window(6, 3, 4), 5, number=3)
    run = make_run(sampler_setup(sampler_name="euler_ancestral"), LATENT, part, FakeBackend())
    assert (run.seed, run.number) == (5, 3)
    assert make_run(sampler_setup(sampler=object()), LATENT, part, FakeBackend()).seed == 8


def test_a_latent_is_sampled_with_its_seeds_noise_and_a_bar():
    backend = FakeBackend(brighten(0.5))
    result = sample_latent(sampler_setup(), denoising(denoise=0.5), LATENT, backend, place=(1, 3))
    assert torch.equal(result["samples"], torch.full((1, 4, 6, 5), 0.5))
    assert "downscale_ratio_spacial" not in result
    (run,) = backend.runs
    assert run.sigmas.tolist() == [4, 3, 2, 1, 0]
    assert torch.equal(run.noise, start_noise(LATENT["samples"], 5))
    assert backend.bars[0].total == 12
    assert backend.bars[0].done == [5, 6, 7, 8]


def test_rows_of_a_batch_keep_the_noise_that_they_had_in_it():
    taken = start_noise(torch.zeros(2, 4, 6, 5), 5, rows=[2, 0])
    assert torch.equal(taken[1:], start_noise(torch.zeros(1, 4, 6, 5), 5))
    assert torch.equal(taken[:1], start_noise(torch.zeros(1, 4, 6, 5), 5, rows=[2]))
    assert not torch.equal(taken[0], taken[1])


def test_nothing_is_run_without_steps_to_run():
    backend = FakeBackend(fill(1.0))
    assert not sample_latent(sampler_setup(), denoising(denoise=0.0), LATENT, backend)[
        "samples"
    ].any()
    assert not sample_part(sampler_setup(), LATENT, SchedulePart(Window(4, 4, 4), 0), backend)[
        "samples"
    ].any()
    assert not backend.runs


class Hook:
    def pre_ksample(self, *values):
        model, seed, steps, cfg, *rest, latent, denoise = values
        latent = {**latent, "samples": latent["samples"] + 1}
        return model, seed + 1, steps + 2, cfg * 3, *rest, latent, denoise / 2


def test_a_hook_changes_what_is_sampled():
    backend = FakeBackend()
    sampler = KSampler(sampler_setup(), denoising(), lambda: backend)
    result = sampler.sample(LATENT, Hook())
    (run,) = backend.runs
    assert (run.seed, run.cfg, len(run.sigmas), len(run.schedule)) == (6, 6.0, 7, 13)
    assert result["samples"].min() == 1


def test_noise_between_two_keeps_its_variance():
    one, other = torch.randn(2, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    for method in ("linear", "slerp"):
        assert torch.allclose(mix_noise(one, other, 0.0, method), one, atol=1e-6)
        assert torch.allclose(mix_noise(one, other, 1.0, method), other, atol=1e-6)
        assert mix_noise(one, other, 0.3, method).std() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(mix_noise(one, one, 0.3, "slerp"), one, atol=1e-3, rtol=1e-3)


# Samplers as objects


def advanced(**changed):
    backend = FakeBackend(brighten(1.0))
    return AdvancedKSampler(sampler_setup(**changed), lambda: backend), backend


def test_other_packs_may_call_it_as_they_always_did():
    sampler, backend = advanced()
    latent = sampler.sample_advanced("enable", 7, 4, LATENT, 0, 2, "enable")
    latent = sampler.sample_advanced(False, 7, 4, latent, 2, 10000, False)
    first, last = backend.runs
    assert first.sigmas.tolist() == [4, 3, 2]
    assert last.sigmas.tolist() == [2, 1, 0]
    assert torch.equal(first.noise, start_noise(LATENT["samples"], 7))
    assert not last.noise.any()
    assert latent["samples"].unique().tolist() == [2.0]
    other = sampler.clone_with_conditionings(text_of("other"), [])
    assert other.setup.positive[0][1]["text"] == "other"


@pytest.mark.parametrize(
    ("name", "steps", "chosen", "runs"),
    [
        ("uni_pc", 1, "AUTO", ("dpmpp_2m", [4, 3])),
        ("uni_pc_bh2", 1, "heun", ("heun", [4, 3])),
        ("uni_pc", 2, "AUTO", ("uni_pc", [4, 3, 2])),
        ("dpmpp_2m_sde", 1, "AUTO", ("dpmpp_2m_sde", [4, 3])),
        ("dpmpp_2m_cfg_pp", 2, "AUTO", ("dpmpp_2m_cfg_pp", [4, 3, 2])),
    ],
)
@pytest.mark.parametrize("mode", ["ratio additional", "ratio between"])
def test_another_sampler_takes_single_steps_that_one_cannot_take(name, steps, chosen, runs, mode):
    """No noise is lost in single steps, so none is given back."""
    sampler, backend = advanced(sampler_name=name)
    sampler.sample_advanced(
        True, 7, 4, LATENT, 0, steps, True, recovery_mode=mode, recovery_sampler=chosen,
        recovery_sigma_ratio=0.25,
    )  # fmt: skip
    assert [(run.sampler_name, run.sigmas.tolist()) for run in backend.runs] == [runs]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("uni_pc", "DISABLE"),
        ("dpmpp_2m_cfg_pp", "DISABLE"),
        ("res_multistep_cfg_pp", "ratio between"),
    ],
)
def test_samplers_that_cannot_take_single_steps_are_named(name, mode):
    sampler, backend = advanced(sampler_name=name)
    with pytest.raises(ValueError, match=f"'{name}'.*uni_pc_bh2"):
        sampler.sample_advanced(True, 7, 4, LATENT, 0, 1, True, recovery_mode=mode)
    assert not backend.runs


def test_two_samplers_share_a_latent_by_a_mask():
    mask = torch.zeros(1, 6, 5)
    mask[:, :2], mask[:, 2] = 1, 0.5
    base, inner = (
        KSampler(sampler_setup(), denoising(), lambda value=value: FakeBackend(fill(value)))
        for value in (2.0, 4.0)
    )
    result = sample_in_mask(LATENT, base, inner, mask)
    assert result["samples"][0, 0, :, 0].tolist() == [4, 4, 3, 2, 2, 2]
    assert "noise_mask" not in result


def test_two_samplers_may_both_begin_with_the_latent_as_it_was():
    mask = torch.zeros(1, 6, 5)
    mask[:, :2], mask[:, 2] = 1, 0.5
    base, inner = (
        KSampler(sampler_setup(), denoising(), lambda value=value: FakeBackend(brighten(value)))
        for value in (2.0, 4.0)
    )
    apart = sample_in_mask(LATENT, base, inner, mask, apart=True)
    assert apart["samples"][0, 0, :, 0].tolist() == [4, 4, 3, 2, 2, 2]
    after = sample_in_mask(LATENT, base, inner, mask)
    assert after["samples"][0, 0, :, 0].tolist() == [4, 4, 4, 2, 2, 2]
    assert "noise_mask" not in apart
