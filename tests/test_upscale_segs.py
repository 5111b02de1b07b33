"""Enlarging an image and redrawing its segments."""

import pytest
import torch
from detailers.core.detail.upscale_segs import OWN_SIZE, Enlarging, enlarge, upscale_segs
from detailers.core.geometry import Size
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeVAE,
    brighten,
    fake_models,
    make_detail,
    make_seg,
    noise_image,
    outside,
    ramp_image,
)


def detail(**options):
    sizing = {
        "guide_size": OWN_SIZE.guide_size,
        "max_size": OWN_SIZE.max_size,
        "force_inpaint": OWN_SIZE.force_inpaint,
    }
    return make_detail(fake_models(FakeVAE(ratio=4)), **sizing, **options)


@pytest.mark.parametrize(
    ("factor", "multiple", "old", "new"),
    [
        (2, 8, (64, 48), (128, 96)),
        (1.5, 8, (1000, 100), (1504, 152)),
        (0.01, 8, (100, 500), (8, 8)),
        (1, 64, (100, 95), (128, 64)),
    ],
)
def test_sides_are_rounded_to_the_multiple(factor, multiple, old, new):
    assert Enlarging(factor, "nearest", multiple=multiple).size(Size(*old)) == new


def test_an_image_is_enlarged_with_its_alpha():
    image = noise_image(2, 8, 16, channels=4)
    result = enlarge(image, Enlarging(2, "nearest"))
    expected = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(result, expected)


def test_a_model_enlarges_the_colours_first():
    seen = []

    def model(pixels):
        seen.append(pixels.shape)
        return 1 - pixels.repeat_interleave(4, 1).repeat_interleave(4, 2)

    image = noise_image(1, 8, 16, channels=4)
    result = enlarge(image, Enlarging(2, "nearest", model=model))
    large = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert seen == [(1, 8, 16, 3)]
    torch.testing.assert_close(result[..., :3], 1 - large[..., :3])
    torch.testing.assert_close(result[..., 3:], large[..., 3:])
    grey = enlarge(image[..., :1], Enlarging(2, "nearest", model=model))
    assert grey.shape == (1, 16, 32, 3)


def test_segments_are_redrawn_at_their_size_in_the_enlarged_image():
    backend = FakeBackend(brighten(0.25))
    image = ramp_image(2, 16, 32) * 0.5
    segs = ((16, 32), [make_seg((4, 4, 12, 12)), make_seg((16, 0, 30, 16))])
    enlarging = Enlarging(2, "bilinear")
    result = upscale_segs(image, segs, enlarging, detail(), backend)
    plain = enlarge(image, enlarging)
    expected = plain.clone()
    for x1, y1, x2, y2 in ((8, 8, 24, 24), (32, 0, 60, 32)):
        expected[:, y1:y2, x1:x2] += 0.25
    torch.testing.assert_close(result, expected)
    kept = outside(result, (8, 8, 24, 24), (32, 0, 60, 32))
    assert torch.equal(result[:, kept], plain[:, kept])
    assert [tuple(pixels.shape[1:3]) for pixels in backend.encoded] == [(16, 16), (32, 28)] * 2
    assert backend.seeds == [5, 6, 5, 6]


def test_without_segments_the_image_is_only_enlarged():
    backend = FakeBackend()
    image = noise_image(1, 8, 8)
    result = upscale_segs(image, ((0, 0), []), Enlarging(2, "lanczos"), detail(), backend)
    torch.testing.assert_close(result, enlarge(image, Enlarging(2, "lanczos")))
    assert backend.runs == []
