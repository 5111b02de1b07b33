"""The pipeline of one crop: it is enlarged, encoded, sampled, decoded and shrunk."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from detailers.core.detail import canvas, crop_pipeline
from detailers.core.detail.crop import Crop
from detailers.core.detail.plan import Job
from detailers.core.detail.run import Run
from detailers.core.geometry import Box, Size
from detailers.core.pixels.mask import feather
from detailers.core.pixels.resample import resize
from detailers.core.settings import Refiner
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeControl,
    FakeModel,
    FakeVAE,
    brighten,
    fake_models,
    fill,
    identity,
    make_detail,
    make_seg,
    noise_image,
    ramp_image,
    text_of,
)

IMAGE = Size(60, 30)


def enhance(
    pixels, size=None, mask=None, video=False, draw=identity, backend=None, models=None,
    text=None, control=None, origin=(0, 0), **options,
):  # fmt: skip
    """Enhance pixels [N,h,w,3] as one crop; what came back and the backend that was used."""
    backend = backend or FakeBackend(draw)
    height, width = pixels.shape[1:3]
    region = Box(0, 0, width, height).shifted(*origin)
    seg = make_seg(region.as_tuple(), control=control)
    size = Size(*size) if size else Size(2 * width, 2 * height)
    run = Run(make_detail(models, **options), backend)
    job = Job(0, seg, region, region, size, 5, run.detail, text)
    run.start([job])
    mask = torch.ones(1, height, width) if mask is None else mask
    return crop_pipeline.enhance(run, [Crop(job, IMAGE, pixels, mask, video=video)])[0], backend


def flat(count=1, height=10, width=20, value=0.25):
    return torch.full((count, height, width, 3), value)


def half(height=10, width=20):
    """A mask whose left half is 1."""
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    return mask


def everywhere(amount):
    """A sampler that ignores the mask."""
    return lambda run: run.latent + amount


# Size and padding

GRIDS = [
    (FakeVAE(16), FakeModel(), 16),
    (FakeVAE(8), FakeModel(patch=4), 32),
    (FakeVAE(16), FakeModel(patch=4), 64),
    (FakeVAE(1), FakeModel(), 1),
    (FakeVAE(1), FakeModel(patch=2), 2),
]


@pytest.mark.parametrize(("vae", "model", "grid"), GRIDS)
@pytest.mark.parametrize("size", [(38, 26), (45, 31), (64, 64), (13, 9)])
def test_a_crop_is_padded_to_the_grid_by_its_edge(vae, model, grid, size):
    _, backend = enhance(noise_image(1, 13, 19), size, models=fake_models(vae, model))
    (pixels,) = backend.encoded
    width, height = size
    assert pixels.shape[1:3] == (-(-height // grid) * grid, -(-width // grid) * grid)
    assert (pixels[:, height:] == pixels[:, height - 1 : height]).all()
    assert (pixels[:, :, width:] == pixels[:, :, width - 1 : width]).all()


@pytest.mark.parametrize(("vae", "model", "grid"), GRIDS)
@pytest.mark.parametrize("size", [(38, 26), (45, 31), (64, 64)])
def test_nothing_shifts_by_padding(vae, model, grid, size):
    models = fake_models(vae, model)
    dot = torch.full((1, 13, 19, 3), 0.3)
    dot[0, 4, 12] = 0.6
    result, _ = enhance(dot, size, models=models)
    weight = (result.pixels[0, ..., 0] - 0.3).double()
    rows, columns = torch.arange(13), torch.arange(19)
    assert (weight.sum(1) @ rows.double() / weight.sum()).item() == pytest.approx(4, abs=0.02)
    assert (weight.sum(0) @ columns.double() / weight.sum()).item() == pytest.approx(12, abs=0.02)
    assert weight.argmax() == 4 * 19 + 12


@pytest.mark.parametrize(("vae", "model", "grid"), GRIDS)
def test_a_crop_at_its_own_size_comes_back_bit_identical(vae, model, grid):
    pixels = noise_image(2, 13, 19)[:1]
    result, _ = enhance(pixels, (19, 13), models=fake_models(vae, model))
    assert torch.equal(result.pixels, pixels)


def test_identity_sampling_gives_the_crop_back():
    ramp = ramp_image(1, 13, 19)
    result, _ = enhance(ramp, (45, 31))
    assert torch.allclose(result.pixels, ramp, atol=0.02)
    assert torch.allclose(result.pixels[:, 3:-3, 3:-3], ramp[:, 3:-3, 3:-3], atol=1e-3)


def test_a_crop_larger_than_its_working_size_is_brought_back():
    result, backend = enhance(flat(1, 40, 80), (20, 10))
    assert backend.encoded[0].shape == (1, 12, 20, 3)
    assert result.pixels.shape == (1, 40, 80, 3)
    assert torch.allclose(result.pixels, torch.tensor(0.25), atol=1e-5)


def test_a_vae_that_decodes_to_another_size_is_fitted():
    class Shrinking(FakeBackend):
        def decode(self, vae, latent, *, tiled):
            return super().decode(vae, latent, tiled=tiled)[:, ::2, ::2]

    result, _ = enhance(flat(), (38, 18), backend=Shrinking())
    assert result.pixels.shape == (1, 10, 20, 3)
    assert torch.allclose(result.pixels, torch.tensor(0.25), atol=1e-5)


def test_the_given_pixels_are_not_changed():
    pixels = noise_image(1, 10, 20)
    before = pixels.clone()
    enhance(pixels, (20, 10), draw=fill(0.75))
    assert torch.equal(pixels, before)


# Noise mask


def test_without_padding_the_sampler_gets_the_mask_as_it_is():
    _, backend = enhance(flat(), mask=half())
    assert torch.equal(backend.runs[0].noise_mask, half())
    assert not backend.runs[0].model.differential


def test_with_padding_the_mask_is_laid_on_the_canvas():
    _, backend = enhance(flat(), (42, 20), mask=1 - half())  # 42 is padded to 44
    mask = backend.runs[0].noise_mask
    assert mask.shape == (1, 20, 44)
    assert (mask[..., :19] == 0).all()
    assert (mask[..., 23:] == 1).all()


def test_a_soft_noise_mask_turns_on_differential_diffusion():
    _, backend = enhance(flat(1, 30, 60), mask=half(30, 60), noise_mask_feather=4)
    (run,) = backend.runs
    assert torch.equal(run.noise_mask, feather(half(30, 60), 4))
    assert len(run.noise_mask.unique()) > 5
    assert run.model.differential


def test_without_a_noise_mask_its_feather_means_nothing():
    _, backend = enhance(flat(), mask=half(), noise_mask=False, noise_mask_feather=4)
    assert backend.runs[0].noise_mask is None
    assert not backend.runs[0].model.differential


# Conditioning


def test_conditioning_is_cut_to_the_region():
    mask = torch.zeros(1, 30, 30)  # half of the image's width, all of its height
    mask[:, 8:12, 10:15] = 1
    models = fake_models(positive=[[torch.ones(1, 1, 2), {"mask": mask}]])
    _, backend = enhance(flat(), models=models, origin=(20, 6))
    part = backend.runs[0].positive[0][1]["mask"]
    assert part.shape == (1, 10, 10)
    assert part[0].nonzero().amin(0).tolist() == [2, 0]
    assert part[0].nonzero().amax(0).tolist() == [5, 4]


def test_areas_are_cut_for_the_padded_latent():
    models = fake_models(positive=[[torch.ones(1, 1, 2), {"area": (8, 15, 0, 0)}]])
    _, backend = enhance(flat(), (42, 21), models=models, origin=(20, 6))
    assert backend.runs[0].latent.shape[-2:] == (6, 11)
    assert backend.runs[0].positive[0][1]["area"] == (6, 11, 0, 0)


def test_positive_and_negative_share_the_same_cut_controlnet():
    control = FakeControl(noise_image(1, 15, 30).movedim(-1, 1))
    positive, negative = text_of("yes"), text_of("no")
    positive[0][1]["control"] = negative[0][1]["control"] = control
    _, backend = enhance(flat(), models=fake_models(positive=positive, negative=negative))
    (run,) = backend.runs
    assert run.positive[0][1]["control"] is run.negative[0][1]["control"]
    assert run.positive[0][1]["control"].cond_hint_original.shape == (1, 3, 5, 10)
    assert positive[0][1]["control"] is control


def test_a_text_takes_the_control_of_the_positive_along_cut_once():
    control = FakeControl(noise_image(1, 30, 60).movedim(-1, 1))
    positive, negative = text_of("yes"), text_of("no")
    positive[0][1]["control"] = negative[0][1]["control"] = control
    models = fake_models(positive=positive, negative=negative)
    _, backend = enhance(flat(), models=models, text="red")
    (run,) = backend.runs
    assert run.positive[0][1]["text"] == "red"
    assert run.positive[0][1]["control"] is run.negative[0][1]["control"]


@pytest.mark.parametrize("inpaint_model", [True, False])
def test_the_negative_placeholder_passes_through(inpaint_model):
    models = fake_models(negative="NegativePlaceholder")
    _, backend = enhance(flat(), models=models, inpaint_model=inpaint_model, noise_mask_feather=3)
    assert backend.runs[0].negative == "NegativePlaceholder"


def test_a_wrapper_may_add_to_conditioning_and_model():
    seen = []

    def apply(positive, negative, pixels, mask):
        seen.append((pixels, mask))
        return [*positive, "hint"], negative, [torch.zeros(1, 2, 2, 3)]

    def doit_ipadapter(model):
        return FakeModel("adapted"), [torch.ones(1, 2, 2, 3)]

    wrapper = SimpleNamespace(apply=apply, doit_ipadapter=doit_ipadapter)
    result, backend = enhance(flat(), (42, 20), control=wrapper, noise_mask=False)
    assert seen[0][0].shape == (1, 20, 44, 3)
    assert seen[0][1] is None
    assert backend.runs[0].positive[-1] == "hint"
    assert backend.runs[0].model.name == "adapted"
    assert [image.mean() for image in result.control_images] == [0, 1]


# Encoding


def test_an_inpaint_model_is_conditioned_on_pixels_and_mask():
    _, backend = enhance(flat(), mask=half(), inpaint_model=True)
    ((pixels, mask),) = backend.inpainted
    assert pixels.shape == (1, 20, 40, 3)
    assert torch.equal(mask, half())
    (run,) = backend.runs
    assert run.positive[-1] == "inpaint"
    assert torch.equal(run.noise_mask, half())


def test_an_inpaint_model_without_a_noise_mask_is_encoded_plainly():
    _, backend = enhance(flat(), mask=half(), inpaint_model=True, noise_mask=False)
    assert backend.inpainted == []
    assert backend.runs[0].positive[-1][1]["text"] == "positive"


@pytest.mark.parametrize(("encode", "decode"), [(False, False), (True, False), (False, True)])
def test_tiles_are_used_where_asked_for(encode, decode):
    _, backend = enhance(flat(), encode=encode, decode=decode)
    assert backend.tiled == [("encode", encode), ("decode", decode)]


# Sampling


def test_denoise_runs_the_tail_of_the_whole_schedule():
    _, backend = enhance(flat(), steps=4, denoise=0.5)
    (run,) = backend.runs
    assert backend.schedules == [("base", "euler", "normal", 8)]
    assert run.sigmas.tolist() == [4, 3, 2, 1, 0]
    assert run.schedule.tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert (run.seed, run.cfg, run.sampler_name) == (5, 2.0, "euler")
    assert run.noise.shape == run.latent.shape
    assert run.noise.std() == pytest.approx(1, abs=0.1)


def test_a_scheduler_function_wins_over_the_name():
    asked = []

    def func(model, sampler_name, steps):
        asked.append((model.name, sampler_name, steps))
        return torch.tensor([9.0, 4, 3, 1, 0])

    _, backend = enhance(flat(), steps=4, scheduler_func=func)
    assert asked == [("base", "euler", 4)]
    assert backend.runs[0].sigmas.tolist() == [9, 4, 3, 1, 0]


# Refiner


def refiner(ratio, **parts):
    parts = {"positive": text_of("refined"), "negative": text_of("crude"), **parts}
    return Refiner(fake_models(model=FakeModel("refiner"), **parts), ratio)


def test_base_and_refiner_split_the_steps():
    _, backend = enhance(flat(), steps=5, denoise=0.5, refiner=refiner(0.5))
    base, last = backend.runs
    assert (base.model.name, last.model.name) == ("base", "refiner")
    assert base.sigmas.tolist() == [5, 4, 3]  # floor(2.5) steps, leftover noise kept
    assert last.sigmas.tolist() == [3, 2, 1, 0]
    assert base.schedule.tolist() == last.schedule.tolist() == list(range(10, -1, -1))
    assert (base.positive[0][1]["text"], base.negative[0][1]["text"]) == ("positive", "negative")
    assert (last.positive[0][1]["text"], last.negative[0][1]["text"]) == ("refined", "crude")
    assert (base.seed, last.seed) == (5, 5)
    assert base.noise.abs().max() > 1
    assert (base.start, base.number, last.number) == (None, 0, 2)
    assert base.whole.tolist() == last.whole.tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("value", [1.0, 0.5])
def test_the_refiner_goes_on_from_what_the_base_left_over_the_latent_before(value):
    """What a mask keeps, wholly or in part, is the first latent under the first noise."""
    mask = half() * value
    _, backend = enhance(flat(), mask=mask, draw=everywhere(0.1), refiner=refiner(0.5))
    base, last = backend.runs
    assert torch.allclose(base.latent, torch.tensor(0.25))
    assert torch.equal(last.latent, base.latent)
    assert torch.equal(last.noise, base.noise)
    assert torch.allclose(last.start, torch.tensor(0.35))  # as it is: no part is taken back
    assert torch.equal(last.noise_mask, mask)


@pytest.mark.parametrize(("ratio", "name"), [(0.0, "base"), (1.0, "refiner")])
def test_one_of_the_two_may_run_all_steps(ratio, name):
    _, backend = enhance(flat(), refiner=refiner(ratio))
    (run,) = backend.runs
    assert run.model.name == name
    assert run.sigmas.tolist() == [4, 3, 2, 1, 0]
    assert run.noise.abs().max() > 1


def test_the_refiners_conditioning_is_cut_and_its_mask_is_soft_too():
    positive = [[torch.ones(1, 1, 2), {"mask": torch.ones(1, 30, 60)}]]
    _, backend = enhance(flat(), refiner=refiner(0.5, positive=positive), noise_mask_feather=2)
    assert backend.runs[1].positive[0][1]["mask"].shape == (1, 10, 20)
    assert backend.runs[1].model.differential


def test_a_refiner_works_on_clips_with_a_time_axis():
    masks = half().repeat(5, 1, 1)
    _, backend = enhance(
        flat(5), mask=masks, video=True, draw=everywhere(0.1), refiner=refiner(0.5),
        models=fake_models(FakeVAE(4, every=4)),
    )  # fmt: skip
    base, last = backend.runs
    assert last.start.shape == last.latent.shape == (1, 192, 2, 5, 10)
    assert torch.allclose(last.start, base.latent + 0.1)
    assert torch.equal(last.noise_mask, base.noise_mask)


# Progress


@pytest.mark.parametrize(
    "options",
    [
        {"cycle": 3},
        {"cycle": 2, "refiner": refiner(0.5)},
        {"steps": 5, "refiner": refiner(0.3), "denoise": 0.37},
        {"refiner": refiner(1.0)},
    ],
)
def test_progress_rises_steadily_and_ends_at_its_total(options):
    _, backend = enhance(flat(), **options)
    (bar,) = backend.bars
    assert bar.total == options.get("steps", 4) * options.get("cycle", 1)
    assert bar.done == sorted(bar.done)
    assert sorted(set(bar.done)) == list(range(1, bar.total + 1))


@pytest.mark.parametrize("steps", [1, 3, 8, 11])
@pytest.mark.parametrize("ratio", [None, 0.5])
def test_progress_rises_steadily_when_a_hook_changes_the_steps(steps, ratio):
    hook = SimpleNamespace(pre_ksample=lambda *values: (*values[:2], steps, *values[3:]))
    second = None if ratio is None else refiner(ratio)
    _, backend = enhance(flat(), steps=4, cycle=2, hook=hook, refiner=second)
    assert sum(len(run.sigmas) - 1 for run in backend.runs) == 2 * steps
    (bar,) = backend.bars
    assert bar.total == 8
    assert bar.done == sorted(bar.done)
    assert bar.done[-1] == 8


def test_progress_does_not_fall_back_when_a_crop_is_made_again():
    verdicts = iter([True, False])
    hook = SimpleNamespace(should_retry_patch=lambda patch: next(verdicts))
    _, backend = enhance(flat(), hook=hook)
    assert backend.seeds == [5, 6]
    (bar,) = backend.bars
    assert bar.done == sorted(bar.done)
    assert bar.done[-1] == bar.total == 4


# Clips


def test_the_frames_of_a_clip_are_one_latent_batch():
    clip = noise_image(3, 10, 20)
    result, backend = enhance(clip, (20, 12), video=True)
    (run,) = backend.runs
    assert run.latent.shape == (3, 48, 3, 5)
    enlarged = resize(clip, Size(20, 12))
    assert torch.equal(run.latent, F.pixel_unshuffle(enlarged.movedim(-1, 1), 4))
    assert torch.equal(result.pixels, resize(enlarged, Size(20, 10)))


def test_a_clips_mask_goes_by_way_of_the_working_size():
    masks = torch.cat([half(), 1 - half(), half() * 0])
    _, backend = enhance(noise_image(3, 10, 20), mask=masks, video=True)
    mask = backend.runs[0].noise_mask
    assert mask.shape == (3, 20, 40)
    assert mask[:, 5, [0, 39]].tolist() == [[1, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize(("frames", "length"), [(1, 1), (2, 5), (5, 5), (6, 9), (9, 9)])
def test_a_clip_is_lengthened_to_what_the_vae_takes_whole_and_cut_again(frames, length):
    clip = noise_image(frames, 12, 20)
    result, backend = enhance(clip, (20, 12), video=True, models=fake_models(FakeVAE(4, every=4)))
    (pixels,) = backend.encoded
    assert len(pixels) == length
    assert torch.equal(pixels[frames:], clip[-1:].expand(length - frames, -1, -1, -1))
    assert backend.runs[0].latent.shape == (1, 48 * 4, 1 + (length - 1) // 4, 3, 5)
    assert torch.equal(result.pixels, clip)


@pytest.mark.parametrize(
    ("frames", "masked_frame", "latent_frame"),
    [(5, 0, 0), (5, 1, 1), (5, 4, 1), (6, 0, 0), (6, 4, 1), (6, 5, 2), (9, 4, 1), (9, 5, 2),
     (2, 1, 1), (1, 0, 0)],
)  # fmt: skip
def test_a_latent_frames_mask_unites_those_of_its_frames(frames, masked_frame, latent_frame):
    masks = torch.zeros(frames, 12, 20)
    masks[masked_frame, :, :10] = 1
    _, backend = enhance(
        flat(frames, 12, 20), (20, 12), mask=masks, video=True,
        models=fake_models(FakeVAE(4, every=4)),
    )  # fmt: skip
    (run,) = backend.runs
    assert len(run.noise_mask) == run.latent.shape[2]
    assert [int(mask.any()) for mask in run.noise_mask] == [
        int(i == latent_frame) for i in range(run.latent.shape[2])
    ]


def test_one_mask_holds_for_every_frame_of_a_clip():
    result, backend = enhance(
        flat(5, 12, 20), (20, 12), mask=half(12, 20), video=True, draw=brighten(0.5),
        models=fake_models(FakeVAE(4, every=4)),
    )  # fmt: skip
    assert backend.runs[0].noise_mask.shape == (1, 12, 20)
    assert torch.allclose(result.pixels[:, :, :8], torch.tensor(0.75))
    assert torch.allclose(result.pixels[:, :, 12:], torch.tensor(0.25))


def test_a_still_image_with_a_video_vae():
    pixels = noise_image(1, 12, 20)
    result, backend = enhance(
        pixels, (20, 12), mask=half(12, 20), models=fake_models(FakeVAE(4, every=4))
    )
    (run,) = backend.runs
    assert run.latent.shape == (1, 192, 1, 3, 5)
    assert run.noise.shape == run.latent.shape
    assert torch.equal(run.noise_mask, half(12, 20))
    assert torch.equal(result.pixels, pixels)


# Memory


def test_a_long_clip_is_encoded_and_decoded_a_slice_at_a_time(monkeypatch):
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 3 * 20 * 12)
    clip = noise_image(8, 12, 20)
    result, backend = enhance(clip, (20, 12), video=True)
    assert [len(pixels) for pixels in backend.encoded] == [3, 3, 2]
    assert [shape[0] for shape in backend.decoded] == [3, 3, 2]
    assert [len(run.latent) for run in backend.runs] == [8]
    assert torch.equal(torch.cat(backend.encoded), clip)
    assert torch.equal(result.pixels, clip)


def test_a_frame_larger_than_a_slice_is_a_slice_of_its_own(monkeypatch):
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 1)
    _, backend = enhance(noise_image(3, 12, 20), (20, 12), video=True)
    assert [len(pixels) for pixels in backend.encoded] == [1, 1, 1]


@pytest.mark.parametrize("method", ["post_upscale", "post_decode"])
def test_a_hook_sees_the_whole_clip(monkeypatch, method):
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 3 * 20 * 12)
    seen = []

    def step_in(pixels):
        seen.append(len(pixels))
        return pixels

    enhance(noise_image(8, 12, 20), (20, 12), video=True, hook=SimpleNamespace(**{method: step_in}))
    assert seen == [8]


def test_sampling_starts_only_if_the_user_has_not_asked_to_stop():
    _, backend = enhance(flat())
    assert backend.checks == 1
