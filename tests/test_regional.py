"""Regions of a latent: masks, seeds and noise, sampled side by side or one after another."""

from types import SimpleNamespace

import pytest
import torch
from detailers.core.noise import start_noise
from detailers.core.sampling.latent import SchedulePart
from detailers.core.sampling.regional import (
    Region,
    Regional,
    RegionalPrompt,
    Seeds,
    fitted,
    region_noise,
    regions_of,
    sample_base_then_regions,
    sample_regions,
    sample_two,
)
from detailers.core.sampling.sampler_objects import AdvancedKSampler, Recovery
from detailers.core.sampling.sigmas import Window
from detailers.tests.fake_backend import FakeBackend, FakeModel, text_of
from detailers.tests.test_sampling_latent import sampler_setup

LATENT = {"samples": torch.zeros(1, 2, 6, 8)}
COLOURS = {"base": 1.0, "left": 2.0, "top": 3.0}


def paint(run):
    """Each row gets the number of its prompt."""
    rows = run.positive[0][0][:, 0, 0].view(-1, 1, 1, 1)
    return rows.expand_as(run.latent).clone()


def sampler(name, sampler_name="euler", model=None, **more):
    """A sampler whose prompt is its number, and which shares calls with others."""
    backend = FakeBackend(paint)
    positive = text_of(name)
    positive[0][0] = positive[0][0] * COLOURS[name]
    how = sampler_setup()
    return AdvancedKSampler(
        type(how)(
            model or FakeModel(), positive, how.negative, 2.0, sampler_name, "normal", **more
        ),
        lambda: backend,
    )  # fmt: skip


def half(columns):
    mask = torch.zeros(1, 6, 8)
    mask[..., :columns] = 1
    return mask


def top(rows):
    mask = torch.zeros(1, 6, 8)
    mask[:, :rows] = 1
    return mask


MODEL = FakeModel()


@pytest.fixture
def prompts():
    return [RegionalPrompt(half(4), sampler("left")), RegionalPrompt(top(2), sampler("top"))]


@pytest.mark.parametrize(("together", "base"), [(True, "euler"), (True, "heun"), (False, "euler")])
def test_later_regions_lie_on_earlier_ones_and_on_the_base(prompts, together, base):
    regions = regions_of(prompts, LATENT["samples"], 0)
    regional = Regional(sampler("base", base), regions, Recovery(), together=together)
    result = sample_regions(regional, LATENT, SchedulePart(Window(4, 1, 4), 5), FakeBackend(paint))
    expected = torch.ones(6, 8)
    expected[:, :4] = 2
    expected[:2] = 3
    assert torch.equal(result["samples"][0, 0], expected)
    assert "noise_mask" not in result


def test_one_run_makes_regions_of_one_sampler_and_schedule(prompts):
    backend = FakeBackend(paint)
    regions = regions_of(prompts, LATENT["samples"], 0)
    part = SchedulePart(Window(4, 1, 4), 5, number=1, leftover=True)
    sample_regions(Regional(sampler("base"), regions, Recovery()), LATENT, part, backend, 2)
    (run,) = backend.runs
    assert (run.sigmas.tolist(), run.seed, run.number) == ([3, 2, 1, 0], 5, 1)
    assert [layer.positive[0][1]["text"] for layer in run.layers] == ["left", "top"]
    assert [layer.begins for layer in run.layers] == [1, 1]  # after two steps of the base alone
    assert torch.equal(run.layers[1].weight, top(2)[None])
    assert backend.bars[0].done == [1, 2, 3]


OTHERS = [
    {"sampler_name": "heun"},
    {"sampler": object()},
    {"sigma_factor": 0.5},
    {"scheduler_func": lambda model, name, steps: torch.linspace(9, 0, steps + 1)},
    {"model": FakeModel(space="flow")},
]


@pytest.mark.parametrize("other", OTHERS)
def test_every_step_of_samplers_that_differ_is_one_interruptible_turn(prompts, other):
    backend = FakeBackend(paint)
    regions = regions_of(prompts, LATENT["samples"], 0)
    regional = Regional(sampler("base", **other), regions, Recovery())
    part = SchedulePart(Window(4, 1, 4), 5, torch.ones(1, 2, 6, 8))
    result = sample_regions(regional, LATENT, part, backend, 1)
    assert result["samples"][0, 0, :, 0].tolist() == [3, 3, 2, 2, 2, 2]
    assert backend.checks == 2
    assert backend.bars[0].done == [1, 2, 3]
    runs = [run for run in backend.runs if run.positive[0][1]["text"] == "top"] or backend.runs[1:]
    assert [run.sigmas.tolist() for run in runs[:2]] == [[2, 1], [1, 0]]
    assert [run.number for run in runs[:2]] == [1, 2]
    assert backend.runs[0].noise.any() and not any(run.noise.any() for run in backend.runs[1:])


def test_in_turn_every_place_goes_on_by_one_step(prompts):
    """The region on top is not also sampled as the base and as the region below."""
    seen = []

    def count(run):
        seen.append(run.latent[0, 0].clone())
        return run.latent + 1

    backend = FakeBackend(count)
    regions = regions_of(prompts, LATENT["samples"], 0)
    regional = Regional(sampler("base"), regions, Recovery(), together=False)
    result = sample_regions(regional, LATENT, SchedulePart(Window(4, 2, 4), 5), backend)
    assert torch.equal(result["samples"], torch.full((1, 2, 6, 8), 2.0))
    assert seen[1].tolist() == ((1 - torch.maximum(half(4), top(2)))[0]).tolist()
    assert all(run.noise_mask is None for run in backend.runs)


def test_no_regions_leave_all_to_the_base():
    for together in (True, False):
        regional = Regional(sampler("base"), [], Recovery(), together=together)
        result = sample_regions(
            regional, LATENT, SchedulePart(Window(2, 0, 2), 5), FakeBackend(paint)
        )
        assert result["samples"].unique().tolist() == [1.0]


def test_masks_are_made_hard_and_grow():
    soft = half(4) * 0.8
    soft[..., 6] = 0.3
    prompt = RegionalPrompt(soft, None)
    assert torch.equal(prompt.get_mask_erosion(0)[0], half(4))
    assert torch.equal(prompt.get_mask_erosion(3)[0], half(5))
    united = RegionalPrompt(torch.cat([half(2), top(1)]), None)
    assert united.mask.shape == (6, 8)
    assert united.mask.sum() == 6 * 2 + 6
    (region,) = regions_of([RegionalPrompt(half(4), None)], torch.zeros(1, 4, 2, 3, 4), 0)
    assert region.weight[0, 0, 1, 2].tolist() == [1, 1, 0, 0]


def test_noise_varies_inside_the_region_only():
    plain = start_noise(LATENT["samples"], 5)
    prompt = RegionalPrompt(half(4), None, 9, 1.0)
    noise = region_noise(LATENT, 5, [RegionalPrompt(top(2), None), prompt])
    assert torch.equal(noise[..., 4:], plain[..., 4:])
    other = start_noise(LATENT["samples"], 9)
    torch.testing.assert_close(noise[..., :4], other[..., :4])
    assert prompt.clone_with_sampler("other").variation_strength == 1.0


@pytest.mark.parametrize(
    ("seeds", "later", "goes_on"),
    [
        (Seeds(5, 9), 5, True),
        (Seeds(5, 9, "fixed"), 9, False),
        (Seeds(5, 9, "randomize"), 9, False),
        (Seeds(5, 9, "seed+seed_2nd"), 14, False),
        (Seeds(1125899906842624, 9, "seed+seed_2nd"), 9, False),
        (Seeds(5, 9, "seed-seed_2nd"), 1125899906842620, False),
    ],
)
def test_the_second_seed(seeds, later, goes_on):
    assert (seeds.later, seeds.goes_on) == (later, goes_on)


def test_the_base_goes_first_and_its_noise_goes_on_or_is_drawn_anew(prompts):
    def runs(seeds):
        backend = FakeBackend(paint)
        regional = Regional(sampler("base"), regions_of(prompts, LATENT["samples"], 0), Recovery())
        sample_base_then_regions(regional, prompts, LATENT, Window(4, 0, 4), seeds, 2, backend)
        return backend.runs

    (run,) = runs(Seeds(5))
    assert run.sigmas.tolist() == [4, 3, 2, 1, 0]
    assert [layer.begins for layer in run.layers] == [2, 2]
    first, second = runs(Seeds(5, 9, "fixed"))
    assert (first.sigmas.tolist(), first.layers) == ([4, 3, 0], ())
    assert (second.sigmas.tolist(), second.seed, len(second.layers)) == ([2, 1, 0], 9, 2)
    assert torch.equal(second.noise, start_noise(LATENT["samples"], 9))


def test_two_samplers_at_every_step():
    result = sample_two(
        sampler("base"), sampler("left"), half(4), {**LATENT, "noise_mask": top(1)},
        Window(2, 0, 2), 5, 3, FakeBackend(paint),
    )  # fmt: skip
    assert result["samples"][0, 0, 0].tolist() == [2, 2, 2, 2, 2, 1, 1, 1]
    backend = FakeBackend(paint)
    sample_two(
        sampler("base"), sampler("left"), half(4), LATENT, Window(2, 0, 2), 5, 3, backend,
        together=False,
    )  # fmt: skip
    assert [run.layers for run in backend.runs] == [()] * 4


class Foreign:
    """A KSAMPLER_ADVANCED of another pack."""

    def __init__(self):
        self.calls = []

    def sample_advanced(self, *given, **recovery):
        self.calls.append(given)
        return {"samples": given[3]["samples"] + 7}


def test_samplers_of_other_packs_take_part():
    foreign = Foreign()
    regional = Regional(foreign, [Region(sampler("left"), half(4)[:, None])], Recovery())
    latent = fitted(foreign, {**LATENT, "noise_mask": top(1)}, FakeBackend())
    assert "noise_mask" not in latent
    noise = region_noise(latent, 5)
    part = SchedulePart(Window(3, 0, 2), 5, noise)
    result = sample_regions(regional, latent, part, FakeBackend(paint))
    assert result["samples"][0, 0, 0].tolist() == [2] * 4 + [14] * 4
    assert [(call[0], *call[1:3], *call[4:]) for call in foreign.calls] == [
        (True, 5, 3, 0, 1, True),
        (False, 5, 3, 1, 2, False),
    ]


class Drawing(Foreign):
    """Draws from torch's global generator."""

    def sample_advanced(self, *given, **recovery):
        self.calls.append(torch.rand(()).item())
        return {"samples": given[3]["samples"]}


def test_what_samplers_of_other_packs_draw_depends_on_the_seed_and_the_step():
    def drawn(seed):
        foreign = Drawing()
        latent = fitted(foreign, LATENT, FakeBackend())
        part = SchedulePart(Window(3, 0, 3), seed, region_noise(latent, seed))
        sample_regions(Regional(foreign, [], Recovery()), latent, part, FakeBackend(paint))
        return foreign.calls

    state = torch.get_rng_state()
    first = drawn(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert drawn(5) == first
    assert len({*first, *drawn(50)}) == 6


# Of other packs


@pytest.mark.parametrize(
    "mask",
    [None, "mask", 5, torch.zeros(3), torch.zeros(1, 0, 8), torch.full((1, 1, 6, 8), torch.nan)],
)
def test_an_entry_that_gives_no_mask_is_named(mask):
    prompt = SimpleNamespace(get_mask_erosion=lambda factor: mask, sampler=None)
    with pytest.raises(ValueError, match=r"'regional_prompts', SimpleNamespace \(get_mask"):
        regions_of([prompt], LATENT["samples"], 0)
    with pytest.raises(ValueError, match=r"'regional_prompts', str .* has no get_mask_erosion"):
        regions_of(["left"], LATENT["samples"], 0)


@pytest.mark.parametrize("noise", [None, "noise", torch.zeros(1, 2, 3, 3)])
def test_an_entry_that_gives_no_noise_is_named(noise):
    prompt = SimpleNamespace(touch_noise=lambda given: noise)
    with pytest.raises(ValueError, match=r"'regional_prompts', SimpleNamespace \(touch"):
        region_noise(LATENT, 5, [prompt])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "answer",
    [None, {"samples": "latent"}, {"samples": torch.zeros(1, 2, 3, 3)},
     {"samples": torch.full((1, 2, 6, 8), torch.nan)}],
)  # fmt: skip
def test_a_sampler_of_another_pack_that_gives_no_latent_is_named(answer, together):
    other = SimpleNamespace(sample_advanced=lambda *given, **named: answer)
    regional = Regional(sampler("base"), [Region(other, half(4)[None])], Recovery(), together)
    with pytest.raises(ValueError, match=r"ADVANCED SimpleNamespace \(sample_advanced\) gave"):
        sample_regions(regional, LATENT, SchedulePart(Window(4, 0, 4), 5), FakeBackend(paint))


def test_a_region_that_is_not_finite_is_an_error(prompts):
    def broken(run):
        return paint(run) * torch.nan

    regional = Regional(sampler("base"), regions_of(prompts, LATENT["samples"], 0), Recovery())
    with pytest.raises(ValueError, match="The latent sampled by regions holds values that are not"):
        sample_regions(regional, LATENT, SchedulePart(Window(4, 0, 4), 5), FakeBackend(broken))
