"""Whole runs over the segments of clips."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core.detail import canvas
from detailers.core.detail.video import clip_mask, detail_frames
from detailers.core.noise import start_noise
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeVAE,
    Interrupted,
    brighten,
    fake_models,
    fill,
    grain,
    identity,
    make_detail,
    make_seg,
    noise_image,
    outside,
)

PAINT = fill(0.75)
LEFT, RIGHT = (4, 5, 24, 15), (34, 5, 54, 15)  # two regions of 20x10 in frames of 60x30
TWO = ((30, 60), [make_seg(LEFT, label="left"), make_seg(RIGHT, label="right")])
WAN = fake_models(FakeVAE(4, every=4))  # five-dimensional latents, a latent frame for 4 frames


def flat(frames=3, value=0.25, channels=3):
    return torch.full((frames, 30, 60, channels), value)


def run(frames, segs=TWO, draw=PAINT, pasted=True, backend=None, models=None, **options):
    """The result of `detail_frames`, and the backend that was used."""
    backend = backend or FakeBackend(draw)
    detail = make_detail(models, **options)
    return detail_frames(frames, segs, detail, backend, pasted=pasted), backend


def moving_mask(frames, height=10, width=20):
    """[F,h,w]: frame i has the columns 4 i to 4 i + 4."""
    mask = np.zeros((frames, height, width), np.float32)
    for i in range(frames):
        mask[i, :, 4 * i : 4 * i + 4] = 1
    return mask


# Pasting


@pytest.mark.parametrize("models", [fake_models(), WAN], ids=["image VAE", "video VAE"])
def test_every_frame_is_redrawn_in_the_segments_and_nowhere_else(models):
    clip = noise_image(3, 30, 60)
    result, backend = run(clip, models=models)
    keep = outside(clip, LEFT, RIGHT)
    assert result.image.shape == clip.shape
    assert torch.equal(result.image[:, keep], clip[:, keep])
    assert torch.allclose(result.image[:, ~keep], torch.tensor(0.75), atol=1e-5)
    assert len(backend.runs) == 2  # all frames of a segment at once


@pytest.mark.parametrize("segs", [TWO, ((30, 60), [])])
def test_what_comes_back_of_grey_frames_may_be_written_to(segs):
    clip = noise_image(3, 30, 60, channels=1)
    before = clip.clone()
    result, _ = run(clip, segs)
    result.image[0, 0, 0, 0] = 2.0
    assert result.image[0, 0, 0].tolist() == [2.0, *before[0, 0, 0].tolist() * 2]
    assert torch.equal(clip, before)


def test_pasting_does_not_change_what_a_controlnet_was_shown():
    shown = SimpleNamespace(
        apply=lambda positive, negative, pixels, mask: (positive, negative, [pixels])
    )
    segs = ((30, 60), [make_seg((4, 4, 20, 20), control=shown)])  # sampled at its own size
    result, _ = run(flat(), segs, guide_size=16)
    assert torch.equal(result.control_images[0], torch.full((3, 16, 16, 3), 0.25))
    assert torch.allclose(result.image[:, 4:20, 4:20], torch.tensor(0.75), atol=1e-5)


def test_the_given_frames_are_not_changed():
    clip = noise_image(3, 30, 60)
    before = clip.clone()
    run(clip, feather=3)
    assert torch.equal(clip, before)


def test_the_next_segment_sees_the_pasted_frames():
    segs = ((30, 60), [make_seg(LEFT), make_seg((14, 5, 34, 15))])
    result, backend = run(flat(), segs, brighten(0.1), guide_size=10)
    assert torch.allclose(backend.encoded[1][:, :, :10], torch.tensor(0.35), atol=1e-5)
    assert torch.allclose(backend.encoded[1][:, :, 10:], torch.tensor(0.25), atol=1e-5)
    assert torch.allclose(result.image[:, 10, 20], torch.tensor(0.45), atol=1e-5)


def test_what_post_paste_makes_of_the_frames_is_kept():
    """Peers drop it."""
    shapes = []

    def post_paste(frames):
        shapes.append(tuple(frames.shape))
        return frames + 0.1

    hook = SimpleNamespace(post_paste=post_paste)
    result, backend = run(flat(), draw=identity, hook=hook)
    assert shapes == [(3, 30, 60, 3)] * 2
    assert torch.allclose(backend.encoded[1], torch.tensor(0.35), atol=1e-5)
    assert torch.allclose(result.image, torch.tensor(0.45), atol=1e-5)


def test_a_frames_own_mask_limits_what_is_pasted_there():
    segs = ((30, 60), [make_seg(LEFT, mask=moving_mask(3))])
    result, _ = run(flat(), segs, draw=lambda run: run.latent + 0.5)
    for i, frame in enumerate(result.image):
        keep = outside(flat(), (4 + 4 * i, 5, 8 + 4 * i, 15))
        assert (frame[keep] == 0.25).all()
        assert torch.allclose(frame[~keep], torch.tensor(0.75), atol=1e-5)


BLENDED = {"blend": "multiband", "restore_kept": True, "fade_inside": True}


def test_paste_options_hold_for_every_frame(monkeypatch):
    clip = noise_image(5, 30, 60)
    segs = ((30, 60), [make_seg(LEFT, mask=moving_mask(5))])
    whole, _ = run(clip, segs, brighten(0.2), **BLENDED, feather=2)
    keep = outside(clip, LEFT)
    assert torch.equal(whole.image[:, keep], clip[:, keep])
    assert (whole.image != clip).any(-1).flatten(1).any(1).all()
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 1)  # a frame at a time
    sliced, _ = run(clip, segs, brighten(0.2), **BLENDED, feather=2)
    assert torch.allclose(sliced.image, whole.image, atol=1e-5)


def test_the_colours_of_a_clip_are_changed_as_one(monkeypatch):
    """A tint of one frame alone must not flicker into that frame's correction alone."""
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 1)
    clip = torch.full((4, 80, 80, 3), 0.4)
    segs = ((80, 80), [make_seg((8, 8, 72, 72), mask=np.ones((64, 64), np.float32))])
    tints = torch.tensor([0.0, 0.08, 0.0, 0.08])[:, None, None, None]
    result, _ = run(
        clip, segs, lambda run: run.latent + tints, colour_match=1.0, fade_inside=True, feather=3,
        noise_mask=False, guide_size=64,
    )  # fmt: skip
    middle = result.image[:, 40, 40, 0]
    assert (middle[1] - middle[0]).item() == pytest.approx(0.08, abs=0.01)
    assert middle.mean().item() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_the_colours_of_a_clip_do_not_depend_on_the_slices_memory_allows(monkeypatch, frames):
    """Frames whose tints and contrasts differ, and a slice that is smaller than the others."""
    clip = 0.3 + 0.3 * noise_image(7, 20, 20, seed=1).repeat_interleave(4, 1).repeat_interleave(
        4, 2
    )
    segs = ((80, 80), [make_seg((8, 8, 72, 72), mask=np.ones((64, 64), np.float32))])
    tints = torch.tensor([0.0, 0.01, 0.02, 0.02, 0.2, 0.15, -0.1])[:, None, None, None]

    def result():
        return run(
            clip, segs, lambda run: (run.latent - 0.45) * (1 + tints) + 0.45 + tints,
            colour_match=1.0, fade_inside=True, noise_mask=False, guide_size=64, feather=3,
        )[0].image  # fmt: skip

    whole = result()
    monkeypatch.setattr(canvas, "SLICE_PIXELS", frames * 64 * 64)
    assert torch.allclose(result(), whole, atol=1e-6)
    shift = (whole - clip)[:, 30:50, 30:50].mean(dim=(1, 2, 3))
    assert shift.mean().abs() < 0.01  # the tints' mean is taken off
    assert (shift[4] - shift[0]).item() == pytest.approx(0.2, abs=0.02)


def test_masks_that_are_not_one_for_each_frame_are_united():
    segs = ((30, 60), [make_seg(LEFT, mask=moving_mask(2))])
    result, _ = run(flat(), segs, draw=lambda run: run.latent + 0.5)
    keep = outside(flat(), (4, 5, 12, 15))
    assert (result.image[:, keep] == 0.25).all()
    assert torch.allclose(result.image[:, ~keep], torch.tensor(0.75), atol=1e-5)


def test_the_mask_of_a_segment_for_frames():
    seg = make_seg(LEFT, mask=moving_mask(3))
    frames = torch.zeros(3, 30, 60, 3, dtype=torch.float64)
    assert clip_mask(seg, frames).shape == (3, 10, 20)
    assert clip_mask(seg, frames).dtype == torch.float64
    united = clip_mask(seg, frames[:2])
    assert united.shape == (1, 10, 20)
    assert united[0, 0].tolist() == [1.0] * 12 + [0.0] * 8
    still = seg._replace(cropped_mask=moving_mask(3)[1])
    assert clip_mask(still, frames).shape == (1, 10, 20)
    as_tensor = seg._replace(cropped_mask=torch.from_numpy(moving_mask(3)))
    assert torch.equal(clip_mask(as_tensor, frames), clip_mask(seg, frames))


@pytest.mark.parametrize("channels", [1, 4])
def test_alpha_comes_back_as_it_was_and_grey_is_expanded(channels):
    clip = noise_image(3, 30, 60, channels=channels)
    result, backend = run(clip)
    assert backend.encoded[0].shape[-1] == 3
    assert result.image.shape == (3, 30, 60, max(channels, 3))
    assert torch.equal(result.image[:, 15:], clip[:, 15:].expand(-1, -1, -1, max(channels, 3)))
    if channels == 4:
        assert torch.equal(result.image[..., 3], clip[..., 3])


# Sampling


def test_every_segment_is_sampled_with_the_nodes_seed():
    _, backend = run(flat(), cycle=2, seed=100)
    assert backend.seeds == [100, 101, 100, 101]


@pytest.mark.parametrize(
    ("models", "shape"), [(fake_models(), (3, 48, 4, 8)), (WAN, (1, 192, 2, 4, 8))]
)
def test_all_frames_of_a_segment_are_one_latent(models, shape):
    result, backend = run(flat(), models=models)
    assert [tuple(run.latent.shape) for run in backend.runs] == [shape, shape]
    assert [tuple(run.noise.shape) for run in backend.runs] == [shape, shape]
    for own in backend.runs:
        assert torch.equal(own.noise, start_noise(own.latent, 5))
        assert torch.allclose(own.latent, torch.tensor(0.25), atol=1e-5)
    for seg in result.segs[1]:
        assert seg.cropped_image.shape == (3, 10, 20, 3)
        assert np.allclose(seg.cropped_image, 0.75, atol=1e-5)


def test_segs_of_another_size_are_scaled_x_by_width_and_y_by_height():
    segs = ((60, 60), [make_seg((4, 10, 24, 30), mask=moving_mask(3, 20, 20))])
    result, _ = run(torch.zeros(3, 30, 180, 3), segs, draw=lambda run: run.latent + 0.5)
    assert result.segs[1][0].crop_region == (12, 5, 72, 15)
    # frame 1 has the columns 4 to 8 of 20, which are 12 to 24 of 60 (and soft to either side)
    solid = (result.image[1, ..., 0] > 0.49).nonzero()
    assert solid.amin(0).tolist() == [5, 12 + 13]
    assert solid.amax(0).tolist() == [14, 12 + 22]


# Without pasting


def test_without_pasting_the_frames_stay_and_the_segments_carry_the_result():
    clip = noise_image(3, 30, 60)
    segs = ((30, 60), [make_seg(LEFT), make_seg((14, 5, 34, 15))])
    result, backend = run(clip, segs, pasted=False)
    assert result.image is clip
    assert np.allclose(result.segs[1][0].cropped_image, 0.75, atol=1e-5)
    plain = run(clip, ((30, 60), [segs[1][1]]), pasted=False)[1]
    assert torch.equal(backend.encoded[1], plain.encoded[0])  # does not see the first


def test_controlnets_are_applied_to_the_whole_clip_and_leave_the_segment():
    seen = []

    def apply(positive, negative, pixels, mask):
        seen.append((tuple(pixels.shape), tuple(mask.shape)))
        return [*positive, "hint"], negative, [pixels]

    segs = ((30, 60), [make_seg(LEFT, control=SimpleNamespace(apply=apply))])
    result, backend = run(flat(), segs, pasted=False)
    assert seen == [((3, 16, 32, 3), (1, 16, 32))]
    assert backend.runs[0].positive[-1] == "hint"
    assert result.segs[1][0].control_net_wrapper is None
    assert [tuple(image.shape) for image in result.control_images] == [(3, 16, 32, 3)]


# Left out


@pytest.mark.parametrize("pasted", [True, False])
def test_a_segment_that_is_left_out_stays_as_it_came(pasted):
    empty = make_seg(RIGHT, mask=np.zeros((3, 10, 20), np.float32), label="empty")
    clip = noise_image(3, 30, 60)
    result, backend = run(clip, ((30, 60), [empty, TWO[1][0]]), pasted=pasted)
    assert [seg.label for seg in result.segs[1]] == ["empty", "left"]
    assert result.segs[1][0].cropped_image is None
    assert backend.seeds == [5]
    assert backend.bars[0].total == 4


@pytest.mark.parametrize("segs", [None, ((30, 60), []), ((0, 0), [])])
def test_with_nothing_to_do_the_frames_pass_through(segs):
    clip = noise_image(3, 30, 60)
    result, backend = run(clip, segs)
    assert torch.equal(result.image, clip)
    assert result.segs == ((30, 60), [])
    assert backend.runs == []


def test_a_clip_with_one_bad_frame_is_not_pasted(caplog):
    def draw(run):
        new = fill(0.75)(run)
        if len(calls) == 0:
            new[1, 0, 0, 0] = torch.inf
        calls.append(run)
        return new

    calls = []
    clip = noise_image(3, 30, 60)
    result, _ = run(clip, draw=draw)
    keep = outside(clip, RIGHT)
    assert torch.equal(result.image[:, keep], clip[:, keep])
    assert torch.allclose(result.image[:, ~keep], torch.tensor(0.75), atol=1e-5)
    assert [seg.cropped_image is None for seg in result.segs[1]] == [True, False]
    assert "Segment 0 keeps its original pixels" in caplog.text


# Progress, interrupts, memory


def test_one_bar_counts_segments_cycles_and_steps():
    _, backend = run(flat(5), models=WAN, cycle=2)
    (bar,) = backend.bars
    assert bar.total == bar.done[-1] == 2 * 2 * 4
    assert bar.done == sorted(bar.done)


@pytest.mark.parametrize("steps", [0, 3, 6])
def test_an_interrupt_leaves_the_given_frames_untouched(steps):
    clip = noise_image(3, 30, 60)
    before = clip.clone()
    with pytest.raises(Interrupted):
        run(clip, backend=FakeBackend(grain, stop_after=steps))
    assert torch.equal(clip, before)


@pytest.mark.parametrize("frames", [7, 14, 28])
def test_work_grows_in_proportion_to_the_frames(monkeypatch, frames):
    """Peers concatenate what they have so far with each frame: quadratic in time and memory."""
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 4 * 32 * 16)
    _, backend = run(flat(frames), ((30, 60), [make_seg(LEFT)]))
    encoded = [len(pixels) for pixels in backend.encoded]
    decoded = [shape[0] for shape in backend.decoded]
    assert max(encoded) <= 4
    assert max(decoded) <= 4
    assert sum(encoded) == sum(decoded) == frames
    assert len(encoded) == len(decoded) == -(-frames // 4)
    assert [len(run.latent) for run in backend.runs] == [frames]


def test_slices_do_not_change_the_result(monkeypatch):
    clip = noise_image(7, 30, 60)
    segs = ((30, 60), [make_seg(LEFT, mask=moving_mask(7, 10, 28)[..., :20]), TWO[1][1]])
    whole, _ = run(clip, segs, grain, feather=3)
    monkeypatch.setattr(canvas, "SLICE_PIXELS", 1)
    sliced, _ = run(clip, segs, grain, feather=3)
    assert torch.equal(sliced.image, whole.image)
