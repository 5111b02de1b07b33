"""Enlarging in steps: sizes, pixels, hooks, and the order of two samplers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.hook_protocol import DetailerHook, Hook
from detailers.core.hooks.builtin import CombinedHook, CycleRange
from detailers.core.hooks.upscaling import IterationNoiseHook, ScheduleHook
from detailers.core.noise import start_noise
from detailers.core.prompts.control import ControlNet
from detailers.core.sampling.iterative_upscale import (
    FULL_SCHEDULES,
    SCALE_METHODS,
    Iterations,
    MaskUpscaler,
    SamplingUpscaler,
    Scaling,
    enlarged,
    factors,
    is_full,
    on_grid,
    reencoded,
    scale,
    tile_hint,
    upscale_latent,
    upscale_pixels,
)
from detailers.core.sampling.sampler_objects import KSampler, sample_in_mask
from detailers.tests.fake_backend import FakeBackend, FakeVAE, brighten, fill, noise_image
from detailers.tests.test_sampling_latent import denoising, sampler_setup
from detailers.utils.notes import collected_notes

VAE = FakeVAE(ratio=4)


def latent_of(width, height, rows=1):
    """A LATENT of 4 pixels per latent pixel, all 0.25."""
    return {"samples": torch.full((rows, 48, height // 4, width // 4), 0.25)}


def upscaler(backend, **options):
    sampler = KSampler(sampler_setup(), denoising(), lambda: backend)
    shown = options.pop("shown", [])
    scaling = Scaling(VAE, "bilinear", **options.pop("scaling", {}))
    return SamplingUpscaler(
        sampler, scaling, lambda: backend, lambda *what: shown.append(what), **options
    )


def test_steps_are_even_or_of_one_factor():
    assert list(factors(2.5, 3, "simple")) == [1.5, 2.0, 2.5]
    assert list(factors(8.0, 3, "geometric")) == pytest.approx([2, 4, 8])
    assert list(factors(1.0, 2, "simple")) == [1, 1]


def test_sizes_are_whole_latent_pixels():
    assert on_grid(100.9, 64, 8) == Size(96, 64)
    assert on_grid(3, 2, 8) == Size(8, 8)


@pytest.mark.parametrize("method", SCALE_METHODS)
def test_scaling_keeps_what_is_even(method):
    pixels = torch.full((2, 5, 7, 3), 0.3)
    scaled = scale(pixels, Size(9, 4), method)
    assert scaled.shape == (2, 4, 9, 3)
    torch.testing.assert_close(scaled, torch.full_like(scaled, 0.3))


def test_an_unknown_method_is_told():
    with pytest.raises(ValueError, match=r"'scale_method' is 'cubic'.*nearest-exact"):
        scale(torch.zeros(1, 2, 2, 3), Size(4, 4), "cubic")


def test_a_tile_hint_has_no_fine_detail():
    noise = noise_image(1, 64, 48)
    hint = tile_hint(noise)
    assert hint.shape == noise.shape
    assert hint.std() < 0.2 * noise.std()
    assert hint.mean() == pytest.approx(float(noise.mean()), abs=0.02)


def test_a_model_enlarges_as_often_as_it_takes():
    calls = []

    def double(pixels):
        calls.append(pixels.shape[2])
        return pixels.repeat(1, 2, 2, 1)

    pixels = torch.zeros(1, 4, 6, 3)
    assert Scaling(VAE, "area", model=double).enlarge(pixels, Size(20, 16)).shape == (1, 16, 20, 3)
    assert calls == [6, 12]
    same = Scaling(VAE, "area", model=lambda pixels: pixels)
    assert same.enlarge(pixels, Size(20, 16)).shape == (1, 16, 20, 3)


class Points(DetailerHook):
    """Adds to what it is shown at every point."""

    def __init__(self):
        self.seen = []

    def _see(self, name, tensor, amount):
        self.seen.append((name, tuple(tensor.shape)))
        return tensor + amount

    def pre_decode(self, latent):
        return {"samples": self._see("pre_decode", latent["samples"], 0.1)}

    def post_decode(self, pixels):
        return self._see("post_decode", pixels, 0.1)

    def post_upscale(self, pixels, mask=None):
        return self._see("post_upscale", pixels, 0.1)

    def post_encode(self, latent):
        return {"samples": self._see("post_encode", latent["samples"], 0.1)}


def test_a_hook_steps_in_on_the_way():
    hook = Points()
    latent, pixels = enlarged(
        latent_of(16, 8), (35.0, 17.0), Scaling(VAE, "area"), FakeBackend(), Hook(hook)
    )
    assert hook.seen == [
        ("pre_decode", (1, 48, 2, 4)),
        ("post_decode", (1, 8, 16, 3)),
        ("post_upscale", (1, 16, 32, 3)),
        ("post_encode", (1, 48, 4, 8)),
    ]
    assert pixels.mean() == pytest.approx(0.45)
    assert latent["samples"].mean() == pytest.approx(0.65)


def test_an_upscaler_samples_at_every_size():
    backend, shown = FakeBackend(brighten(0.125)), []
    result = upscale_latent(
        latent_of(16, 8), Iterations(2.0, 2, prefix="way"), upscaler(backend, shown=shown), backend
    )
    assert result["samples"].shape == (1, 48, 4, 8)
    assert result["samples"].unique().tolist() == [0.5]
    assert [tuple(run.latent.shape[-2:]) for run in backend.runs] == [(3, 6), (4, 8)]
    assert [(prefix, pixels.shape[2]) for prefix, pixels in shown] == [("way", 16), ("way", 24)]
    assert [bar.done[-1] for bar in backend.bars] == [4, 8]
    assert {bar.total for bar in backend.bars} == {8}
    assert backend.checks == 2


def test_a_factor_may_be_given_instead_of_a_size_and_a_noise_mask_goes_along():
    backend = FakeBackend(fill(1.0))
    mask = torch.zeros(1, 8, 16)
    mask[..., :8] = 1
    result = upscaler(backend).upscale((0, 1), {**latent_of(16, 8), "noise_mask": mask}, 2.0)
    assert result["samples"].shape == (1, 48, 4, 8)
    assert result["samples"][0, 0, 0].tolist() == [1] * 4 + [0.25] * 4


def test_a_control_net_sees_the_enlarged_picture():
    backend, seen = FakeBackend(), []

    def attach(control, positive, negative, hint):
        seen.append((control.strength, tuple(hint.shape)))
        return [*positive, "guided"], negative

    with_control = upscaler(backend, control=ControlNet("net", 0.5), attach=attach)
    with_control.upscale((0, 1), latent_of(16, 8), 2.0)
    assert seen == [(0.5, (1, 16, 32, 3))]
    assert backend.runs[0].positive[-1] == "guided"
    assert len(with_control.sampler.setup.positive) == 1


def test_pictures_off_the_grid_are_enlarged_whole():
    backend = FakeBackend()
    pixels = noise_image(2, 9, 14)
    result = upscale_pixels(pixels, Iterations(2.0, 1), upscaler(backend), VAE, backend)
    assert result.shape == (2, 18, 28, 3)
    expected = scale(pixels, Size(28, 18), "bilinear")
    torch.testing.assert_close(result[:, :16, :26], expected[:, :16, :26])


def test_a_latent_goes_from_one_vae_to_another():
    result = reencoded(
        {**latent_of(16, 8), "noise_mask": torch.ones(1, 2, 2)}, Scaling(VAE, "area"),
        Scaling(FakeVAE(ratio=3), "area"), FakeBackend(),
    )  # fmt: skip
    assert list(result) == ["samples"]
    assert result["samples"].shape == (1, 27, 3, 6)


# Two samplers


def test_when_all_of_it_is_sampled():
    found = {
        schedule: [step for step in range(6) if is_full(schedule, step, 6)]
        for schedule in FULL_SCHEDULES
    }
    assert found == {
        "none": [],
        "interleave1": [1, 3, 5],
        "interleave2": [2, 5],
        "interleave3": [3],
        "last1": [5],
        "last2": [4, 5],
        "interleave1+last1": [1, 3, 5],
        "interleave2+last1": [2, 5],
        "interleave3+last1": [3, 5],
    }


def test_each_sampler_has_its_part_and_its_hook():
    used = []

    class Sampler:
        def __init__(self, value):
            self.value = value

        def sample(self, latent, hook=None):
            used.append((self.value, hook and hook.name, "noise_mask" in latent))
            run = KSampler(sampler_setup(), denoising(), lambda: FakeBackend(fill(self.value)))
            return run.sample(latent)

    class Named(DetailerHook):
        def __init__(self, name):
            self.name = name

    mask = torch.zeros(1, 4, 8)
    mask[..., :4] = 1
    made = MaskUpscaler(
        Sampler(1.0), Sampler(2.0), mask, Scaling(VAE, "area"), FakeBackend, lambda *what: None,
        schedule="last1", full=Sampler(3.0), pk_hooks=tuple(map(Named, ("base", "mask", "full"))),
    )  # fmt: skip
    parts = made.upscale((0, 2), latent_of(16, 8), 2.0)
    assert parts["samples"][0, 0, 0].tolist() == [2] * 4 + [1] * 4
    assert used == [(1.0, "base", True), (2.0, "mask", True)]
    used.clear()
    whole = made.upscale((1, 2), latent_of(16, 8), 2.0)
    assert whole["samples"].unique().tolist() == [3.0]
    assert used == [(1.0, "base", False), (3.0, "full", False)]


# Hooks


def scheduled(hook, cycles, **own):
    values = {"steps": 20, "cfg": 8.0, "denoise": 0.5} | own
    result = []
    for cycle in range(cycles):
        hook.set_steps((cycle, cycles))
        given = (
            "model",
            1,
            values["steps"],
            values["cfg"],
            "s",
            "s",
            [],
            [],
            {},
            values["denoise"],
        )
        result.append(hook.pre_ksample(*given))
    return result


def test_settings_go_evenly_to_the_target():
    cfg = [values[3] for values in scheduled(ScheduleHook("cfg", 20.0), 5, cfg=3.0)]
    assert cfg == [3, 7, 11, 15, 20]
    cfg = [values[3] for values in scheduled(ScheduleHook("cfg", 1.5), 3, cfg=2.5)]
    assert cfg == [2.5, 2.0, 1.5]
    steps = [values[2] for values in scheduled(ScheduleHook("steps", 10), 4)]
    assert steps == [20, 16, 13, 10]
    assert all(isinstance(value, int) for value in steps)
    denoise = [values[9] for values in scheduled(ScheduleHook("denoise", 0.2), 3)]
    assert denoise == pytest.approx([0.5, 0.35, 0.2])
    assert scheduled(ScheduleHook("denoise", 0.2), 1)[0][9] == 0.2


def test_noise_is_injected_after_encoding():
    hook = Hook(CombinedHook(IterationNoiseHook(CycleRange(0.4, 0.2, True), 7), DetailerHook()))
    latent = {"samples": torch.zeros(1, 4, 6, 5)}
    hook.set_steps(1, 2)
    drawn = start_noise(latent["samples"], 9)
    torch.testing.assert_close(hook.post_encode(latent)["samples"], 0.3 * drawn)
    assert hook.cycle_latent(latent) is latent


# What comes out wrong

NAN = float("nan")
HALF = FakeVAE(ratio=4, half=True)


def enlarge_image(draw=lambda run: run.latent, vae=VAE, image=None, steps=2, **options):
    backend = FakeBackend(draw)
    own = upscaler(backend, **options)
    own.scaling = replace(own.scaling, vae=vae)
    own.vae = vae
    image = torch.full((1, 16, 16, 3), 0.5) if image is None else image
    with collected_notes() as notes:
        result = upscale_pixels(image, Iterations(2, steps), own, vae, backend)
    return result, [note.text for note in notes]


def test_a_vae_that_fails_in_half_precision_is_run_in_float32():
    right, none = enlarge_image()
    result, notes = enlarge_image(vae=HALF)
    assert none == []
    assert torch.equal(result, right)
    assert len(notes) == 3  # one for each size that is decoded
    assert "is decoded again with the VAE in float32" in notes[0]


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
def test_a_latent_that_is_not_finite_is_an_error(value):
    with pytest.raises(ValueError, match=r"The sampled latent holds values that are not finite"):
        enlarge_image(lambda run: run.latent * 0 + value)


def test_a_picture_that_turns_black_is_told():
    _, notes = enlarge_image(lambda run: torch.zeros_like(run.latent))
    assert all("nothing but black where the image is not black" in text for text in notes)
    assert [text.split()[3] for text in notes] == ["24x24", "32x32"]
    _, notes = enlarge_image(
        lambda run: torch.zeros_like(run.latent), image=torch.zeros(1, 16, 16, 3)
    )
    assert notes == []


def test_a_latent_that_comes_in_broken_is_not_the_models_fault():
    backend = FakeBackend()
    latent = {"samples": latent_of(16, 16)["samples"] * NAN}
    with pytest.raises(ValueError, match=r"The latent \[1, 48, 4, 4\] holds values that are not"):
        upscale_latent(latent, Iterations(2, 1), upscaler(backend), backend)
    with pytest.raises(ValueError, match="and so does the latent that came in"):
        KSampler(sampler_setup(), denoising(), lambda: backend).sample(latent)


def test_a_size_beyond_the_bound_is_refused_at_once():
    backend = FakeBackend()
    with pytest.raises(ValueError, match=r"The enlarged picture would be 160000x160000 pixels"):
        upscale_latent(latent_of(16, 16), Iterations(10000, 1), upscaler(backend), backend)
    assert backend.decoded == []


def test_an_upscale_model_is_not_used_without_end():
    calls = []

    def grows(pixels):
        calls.append(1)
        return torch.nn.functional.pad(pixels, (0, 0, 0, 1))

    scaling = Scaling(VAE, "bilinear", model=grows)
    assert scaling.enlarge(torch.zeros(1, 4, 4, 3), Size(400, 400)).shape == (1, 400, 400, 3)
    assert len(calls) == 16


@pytest.mark.parametrize(
    "answer",
    [None, 5, {}, {"samples": None}, {"samples": "latent"}, {"samples": torch.zeros(2, 2)}],
)
def test_upscalers_and_samplers_of_other_packs_are_named(answer):
    backend = FakeBackend()
    other = SimpleNamespace(vae=VAE, upscale_shape=lambda *given: answer)
    with pytest.raises(ValueError, match=r"^The UPSCALER SimpleNamespace \(upscale_shape\) gave "):
        upscale_latent(latent_of(16, 16), Iterations(2, 1), other, backend)
    sampler = SimpleNamespace(sample=lambda *given: answer)
    mask = torch.ones(1, 4, 4)
    for apart in (False, True):
        with pytest.raises(ValueError, match=r"^The KSAMPLER SimpleNamespace \(sample\) gave "):
            sample_in_mask(latent_of(16, 16), sampler, sampler, mask, apart=apart)


def test_what_is_no_upscaler_is_named():
    with pytest.raises(ValueError, match=r"The UPSCALER str .* has no upscale_shape\(\)"):
        upscale_latent(latent_of(16, 16), Iterations(2, 1), "model", FakeBackend())
    without = SimpleNamespace(upscale_shape=lambda *given: None)
    with pytest.raises(ValueError, match="'upscaler' is a SimpleNamespace without a VAE"):
        upscale_latent(latent_of(16, 16), Iterations(2, 1), without, FakeBackend())


@pytest.mark.parametrize("apart", [False, True])
def test_latents_of_two_samplers_that_do_not_fit_are_told(apart):
    same = SimpleNamespace(sample=lambda latent, *hook: latent)
    other = SimpleNamespace(sample=lambda latent, *hook: {"samples": torch.zeros(1, 48, 3, 3)})
    with pytest.raises(ValueError, match=r"samples of the shape \[1, 48, 4, 4\]"):
        sample_in_mask(latent_of(16, 16), same, other, torch.ones(1, 4, 4), apart=apart)
