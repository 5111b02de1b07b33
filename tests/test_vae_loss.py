"""Pasting the change that a model made instead of the picture that the VAE made of it."""

import math

import pytest
import torch
import torch.nn.functional as F
from detailers.core.detail.images import detail_image
from detailers.core.pixels.mask import blur_image
from detailers.core.pixels.vae_loss import compensated
from detailers.core.settings import AUTO, OFF, RESIDUAL
from detailers.tests.fake_backend import (
    FakeBackend,
    brighten,
    identity,
    make_detail,
    make_seg,
    noise_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CELL = 4.0


def through_a_vae(picture, tint=0.0, soft=True):
    """A picture that has lost its fine detail and has another tint."""
    planes = picture.movedim(-1, 1)
    if soft:
        planes = F.avg_pool2d(planes, 3, 1, 1, count_include_pad=False)
    return planes.movedim(1, -1) + tint * torch.tensor([1.0, 0.0, -1.0])


def detailed_picture(seed=0, size=64):
    coarse = noise_image(1, 8, 8, seed=seed).movedim(-1, 1)
    coarse = F.interpolate(coarse, size=(size, size), mode="bicubic").movedim(1, -1)
    return (0.3 + 0.3 * coarse + 0.1 * (noise_image(1, size, size, seed=seed + 50) - 0.5)).clamp(
        0, 1
    )


def error(one, other):
    return float((one - other).square().mean()) ** 0.5


@pytest.mark.parametrize("way", [RESIDUAL, AUTO])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), tint=st.floats(-0.1, 0.1))
def test_what_was_not_changed_is_the_original_to_the_bit(way, seed, tint):
    original = detailed_picture(seed)
    decoded = through_a_vae(original, tint)
    assert torch.equal(compensated(decoded.clone(), original, decoded, way, CELL), original)


@pytest.mark.parametrize("way", [RESIDUAL, AUTO])
def test_a_small_change_keeps_the_detail_that_the_vae_loses(way):
    original = detailed_picture()
    truth = (original + 0.05 * torch.linspace(-1, 1, 64)[None, None, :, None]).clamp(0, 1)
    decoded, result = through_a_vae(original, 0.04), through_a_vae(truth, 0.04)
    assert error(result, truth) > 0.03
    assert error(compensated(result, original, decoded, way, CELL), truth) < 0.006


def test_auto_takes_a_tint_off_but_brings_no_detail_of_another_picture():
    original, truth = detailed_picture(1), detailed_picture(2)
    decoded, result = through_a_vae(original, 0.05), through_a_vae(truth, 0.05)
    plain = error(through_a_vae(truth), truth)  # what is lost without the tint
    assert error(compensated(result, original, decoded, AUTO, CELL), truth) < 1.08 * plain
    assert error(compensated(result, original, decoded, RESIDUAL, CELL), truth) > 1.25 * plain
    assert error(result, truth) > 1.5 * plain


def things(seed, size=96):
    """Discs of many sizes and colours: [1,size,size,3], 0.1..0.9."""
    random = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    drawn = torch.full((1, size, size, 3), 0.5)
    for _ in range(60):
        across, down, radius, *colour = torch.rand(6, generator=random).tolist()
        inside = (x - size * across) ** 2 + (y - size * down) ** 2 < (3 + 9 * radius) ** 2
        drawn[0][inside] = 0.1 + 0.8 * torch.tensor(colour)
    return drawn


def duller(picture):
    return 0.5 + 0.85 * (picture - 0.5) + torch.tensor([0.04, 0.0, -0.04])


def blurrier(picture):
    return blur_image(picture, 4, 1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("loss", "left"),
    [(duller, 0.1), (blurrier, 0.9), (lambda picture: duller(blurrier(picture)), 0.65)],
    ids=["duller", "blurrier", "both"],
)
def test_auto_gives_another_picture_back_what_the_vae_takes_off_any(loss, left, seed):
    """Errors against what was drawn: below the better single way's by the factor `left`."""
    original, truth = things(seed), things(seed + 10)
    decoded, result = loss(original), loss(truth)
    plain, residual, auto = (
        error(result if way == OFF else compensated(result, original, decoded, way, CELL), truth)
        for way in (OFF, RESIDUAL, AUTO)
    )
    assert auto < left * min(plain, residual)


def test_what_loses_nothing_leaves_another_picture_as_it_is():
    original, result = things(1), things(2)
    kept = compensated(result, original, original.clone(), AUTO, CELL)
    assert torch.allclose(kept, result, atol=1e-6)


def test_detail_that_the_vae_makes_up_is_not_amplified():
    random = torch.Generator().manual_seed(0)

    def noisy(picture):
        return (picture + 0.05 * torch.randn(picture.shape, generator=random)).clamp(0, 1)

    original, truth = things(1), things(2)
    decoded, result = noisy(original), noisy(truth)
    assert error(compensated(result, original, decoded, AUTO, CELL), truth) == pytest.approx(
        error(result, truth), rel=0.02
    )


def test_a_flat_crop_says_nothing_about_contrast_and_detail():
    """Its shift of colours is all that can be known."""
    original, truth = torch.full((1, 96, 96, 3), 0.3), things(2)
    found = compensated(duller(truth), original, duller(original), AUTO, CELL)
    shift = torch.tensor([-0.07, -0.03, 0.01])  # what takes duller(0.3) back to 0.3
    assert torch.allclose(found, duller(truth) + shift, atol=1e-5)


def test_each_picture_is_treated_by_itself():
    originals = torch.cat((things(1), things(3)))
    results = torch.cat((things(2), things(4)))
    decoded = torch.cat((duller(originals[:1]), blurrier(originals[1:])))
    both = compensated(results, originals, decoded, AUTO, CELL)
    for index in range(2):
        own = slice(index, index + 1)
        alone = compensated(results[own], originals[own], decoded[own], AUTO, CELL)
        assert torch.allclose(both[own], alone, atol=1e-6)


def decibels(one, other):
    return -20 * math.log10(error(one, other))


@pytest.mark.parametrize("tint", [0.0, 0.05])
@pytest.mark.parametrize("strength", [0.25, 0.5, 0.7])
def test_auto_misses_next_to_nothing_where_the_same_thing_was_redrawn(strength, tint):
    """A sharp original, and a result that strays from it everywhere by a share of its detail."""
    original = detailed_picture(1, 96)
    strayed = original + strength * (detailed_picture(2, 96) - detailed_picture(3, 96))
    decoded, result = through_a_vae(original, tint), through_a_vae(strayed, tint)
    residual, auto = (
        decibels(compensated(result, original, decoded, way, CELL), original)
        for way in (RESIDUAL, AUTO)
    )
    assert residual > decibels(result, original) + 0.3
    assert auto >= residual - 0.03


@pytest.mark.parametrize("loss", [duller, blurrier], ids=["duller", "blurrier"])
@pytest.mark.parametrize("strength", [0.0, 0.3, 0.6])
def test_a_poor_thing_redrawn_sharp_is_the_same_thing(loss, strength):
    """The original has lost its detail, and the result strays from the truth by some of its own."""
    truth = things(1)
    original = blur_image(truth, 9, 3.0)
    drawn = truth + strength * (things(2) - things(3))
    decoded, result = loss(original), loss(drawn)
    off, residual, auto = (
        decibels(result if way == OFF else compensated(result, original, decoded, way, CELL), truth)
        for way in (OFF, RESIDUAL, AUTO)
    )
    assert residual > off + 0.02
    assert auto >= residual - 0.05


def test_detail_where_there_was_none_is_another_thing():
    """A wall on which something was drawn: it has the sharpness and contrast of a new thing."""
    truth = things(2)
    original = torch.full_like(truth, 0.5)
    original[:, :, 48:] = things(1)[:, :, 48:]
    decoded, result = duller(original), duller(truth)
    off, residual, auto = (
        error(result if way == OFF else compensated(result, original, decoded, way, CELL), truth)
        for way in (OFF, RESIDUAL, AUTO)
    )
    assert auto < 0.5 * min(off, residual)


def test_auto_is_nearer_than_either_where_one_part_is_another_thing():
    original, other = detailed_picture(1, 96), detailed_picture(2, 96)
    part = torch.zeros(1, 96, 96, 1)
    part[:, :, :48] = 1
    truth = torch.lerp(original, other, part)
    decoded, result = through_a_vae(original), through_a_vae(truth)
    auto = decibels(compensated(result, original, decoded, AUTO, CELL), truth)
    residual = decibels(compensated(result, original, decoded, RESIDUAL, CELL), truth)
    assert auto > max(residual, decibels(result, truth)) + 0.5


def test_values_stay_within_their_range():
    original = noise_image(1, 32, 32)
    result = compensated(original * 2 - 0.5, original, original * 0.5, RESIDUAL, CELL)
    assert float(result.min()) == 0.0
    assert float(result.max()) == 1.0


def test_half_precision_stays():
    original = noise_image(1, 32, 32).half()
    result = compensated(original * 0.9, original, original * 0.95, AUTO, CELL)
    assert result.dtype == torch.float16


# In a detailer


class Tinting(FakeBackend):
    """Its VAE loses contrast."""

    def decode(self, vae, latent, *, tiled, tile=None):
        return super().decode(vae, latent, tiled=tiled) * 0.9 + 0.02


def detailed(draw, count=1, **options):
    image = 0.2 + 0.5 * noise_image(count, 40, 60)
    segs = ((40, 60), [make_seg((8, 8, 40, 32), (16, 12, 32, 28))])
    backend = Tinting(draw)
    detail = make_detail(guide_size=16, guide_size_for_bbox=True, batch=0, **options)
    return image, detail_image(image, segs, detail, backend).image, backend


@pytest.mark.parametrize("way", [RESIDUAL, AUTO])
@pytest.mark.parametrize("count", [1, 3])
def test_a_detailer_that_changes_nothing_gives_the_image_back(way, count):
    image, result, backend = detailed(identity, count, vae_loss=way)
    assert torch.equal(result, image)
    assert [shape[0] for shape in backend.decoded] == [2 * count]  # both in one call


def test_only_the_change_is_pasted():
    image, result, _ = detailed(brighten(0.1), vae_loss=RESIDUAL)
    inside = (slice(None), slice(8, 32), slice(8, 40))
    assert torch.allclose(result[inside], image[inside] + 0.09, atol=1e-5)


def test_without_it_the_crop_is_decoded_once():
    image, result, backend = detailed(identity, vae_loss=OFF)
    assert [shape[0] for shape in backend.decoded] == [1]
    assert not torch.equal(result, image)


def test_what_a_hook_changed_before_the_encoder_is_no_error_of_the_vae(caplog):
    class Darker:
        def post_upscale(self, pixels, mask=None):
            return pixels * 0.5

    plain = detailed(identity, hook=Darker(), vae_loss=OFF)[1]
    assert not caplog.text
    assert torch.equal(detailed(identity, hook=Darker(), vae_loss=AUTO)[1], plain)
    assert "'vae_loss' of Paste Options is not used: a hook changes" in caplog.text


def test_a_vae_that_adds_errors_of_its_own_takes_no_contrast_off_another_picture():
    """A line fitted to a noisy crop would be flat, and pull the result to the crop's mean."""
    original = 0.5 + 0.02 * torch.randn(1, 96, 96, 3, generator=torch.Generator().manual_seed(0))
    errors = torch.randn(1, 12, 12, 3, generator=torch.Generator().manual_seed(1))
    decoded = original + 0.1 * errors.repeat_interleave(8, 1).repeat_interleave(8, 2)
    result = torch.full_like(original, 0.8)
    restored = compensated(result, original, decoded, AUTO, CELL)
    mean_of_errors = 0.1 * errors.mean(dim=(1, 2))
    assert torch.allclose(restored.mean(dim=(1, 2)), 0.8 - mean_of_errors, atol=0.01)
