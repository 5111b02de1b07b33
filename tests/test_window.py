"""Windows at sub-pixel places: one resampling in, one out."""

import math

import pytest
import torch
from detailers.core.geometry import Box, Rect, Size
from detailers.core.pixels.window import Window, covered, reach, region_of
from detailers.tests.fake_backend import noise_image

FRAME = Size(120, 90)


def texture(width=FRAME.width, height=FRAME.height):
    """[1,H,W,3]: stripes of many directions and widths, down to three pixels."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5,
        torch.arange(width, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    waves = [
        torch.sin(2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / length)
        for angle, length in ((0.3, 40), (1.1, 17), (2.0, 9), (2.9, 5), (0.8, 3))
    ]
    weights = (0.2, 0.1, 0.08, 0.05, 0.03)
    plane = 0.5 + sum(weight * wave for weight, wave in zip(weights, waves, strict=True))
    return torch.stack([plane, 1 - plane, plane * 0.5], dim=-1)[None].float()


def cut(image, rect, size):
    """The window, its region of the image, and the picture in it."""
    frame = Size(image.shape[2], image.shape[1])
    box = region_of(rect, frame, reach(rect, size))
    region = image[:, box.y1 : box.y2, box.x1 : box.x2]
    window = Window.of(rect, box)
    return window, region, window.extract(region, size)


def psnr(one, other):
    return -10 * math.log10(float((one - other).square().mean()))


@pytest.mark.parametrize("x, y", [(60.0, 45.0), (60.5, 44.5), (60.31, 45.77)])
@pytest.mark.parametrize(
    "sides, size",
    [((40, 40), Size(160, 160)), ((33.3, 44.4), Size(96, 128)), ((50.5, 50.5), Size(64, 64))],
)
def test_a_window_that_comes_back_unchanged_loses_almost_nothing(x, y, sides, size):
    window, region, picture = cut(texture(), Rect(x, y, *sides), size)
    back = window.returned(picture, region)
    inside = window.inside(region)[..., None].expand_as(region)
    assert psnr(back[inside], region[inside]) >= 45


def test_what_is_put_back_unchanged_is_the_image_to_the_bit():
    image = noise_image(1, 90, 120)
    window, region, picture = cut(image, Rect(60.3, 44.8, 50.5, 40.4), Size(32, 24))  # shrunk
    assert torch.equal(window.put_back(picture, region), region)


def test_pixels_outside_of_a_window_stay():
    window, region, picture = cut(texture(), Rect(60.3, 44.8, 20.5, 20.5), Size(64, 64))
    back = window.put_back(torch.zeros_like(picture) + 0.5, region)
    outside = ~window.inside(region)[0]
    assert torch.equal(back[:, outside], region[:, outside])
    assert (back[:, ~outside] != region[:, ~outside]).any(dim=-1).all()


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.9])
def test_a_window_shows_the_place_where_it_is(shift):
    x = (torch.arange(120) + 0.5).expand(1, 90, 120)[..., None] / 120
    _, _, picture = cut(x, Rect(50 + shift, 45, 30, 30), Size(60, 60))
    places = picture[0, 30, :, 0] * 120
    wanted = 50 + shift - 15 + (torch.arange(60) + 0.5) * 0.5
    assert torch.allclose(places, wanted, atol=0.02)


def test_a_change_comes_back_at_its_place():
    window, region, picture = cut(texture(), Rect(60.3, 44.8, 40, 40), Size(160, 160))
    changed = picture.clone()
    changed[:, 76:84, 76:84] = 1.0  # around the centre, two pixels of the image
    off = (window.put_back(changed, region) - region).abs().sum(dim=-1)[0]
    box = region_of(
        Rect(60.3, 44.8, 40, 40), FRAME, reach(Rect(60.3, 44.8, 40, 40), Size(160, 160))
    )
    y, x = torch.meshgrid(
        torch.arange(off.shape[0]) + 0.5 + box.y1, torch.arange(off.shape[1]) + 0.5 + box.x1,
        indexing="ij",
    )  # fmt: skip
    assert float((off * x).sum() / off.sum()) == pytest.approx(60.3, abs=0.3)
    assert float((off * y).sum() / off.sum()) == pytest.approx(44.8, abs=0.3)


def test_beyond_the_image_its_border_is_repeated():
    image = torch.zeros(1, 90, 120, 3)
    image[:, :, :10] = 0.7
    _, _, picture = cut(image, Rect(0.0, 45.0, 20.0, 20.0), Size(40, 40))  # half of it outside
    assert torch.allclose(picture[:, :, :30], torch.tensor(0.7), atol=1e-3)
    assert picture.shape == (1, 40, 40, 3)


def test_a_window_larger_than_the_image_is_cut_and_put_back():
    image = texture(40, 30)
    window, region, picture = cut(image, Rect(20.2, 15.1, 100, 80), Size(100, 80))
    assert region.shape == image.shape
    assert torch.equal(window.put_back(picture, region), region)
    bright = window.put_back((picture * 0.5 + 0.1).clamp(0, 1), region)
    assert psnr(bright, region * 0.5 + 0.1) > 45


def test_values_that_are_not_finite_stay_so():
    window, region, picture = cut(texture(), Rect(60.3, 44.8, 40, 40), Size(64, 64))
    assert not torch.isfinite(window.put_back(picture * float("nan"), region)).all()


def test_a_black_result_stays_black():
    """Else nobody would notice that the model has failed."""
    window, region, picture = cut(noise_image(1, 90, 120), Rect(60.3, 44.8, 40, 40), Size(24, 24))
    back = window.put_back(torch.zeros_like(picture), region)
    assert float(back[window.inside(region)].max()) == 0.0


def test_half_precision_stays_half_precision():
    window, region, picture = cut(texture().half(), Rect(60.3, 44.8, 40, 40), Size(64, 64))
    assert picture.dtype == torch.float16
    assert window.put_back(picture, region).dtype == torch.float16


def test_means_are_not_beyond_the_values_around_them():
    image = (noise_image(1, 90, 120) > 0.5).float()
    window, region, _ = cut(image, Rect(60.3, 44.8, 64, 48), Size(64, 48))
    cells = window.averaged(region, Size(8, 6))
    assert cells.shape == (1, 6, 8, 3)
    assert 0.2 < float(cells.min()) <= float(cells.max()) < 0.8
    fine = window.averaged(region, Size(128, 96))
    assert (float(fine.min()), float(fine.max())) == pytest.approx((0.0, 1.0), abs=1e-5)


def test_the_middle_part_of_a_window():
    window, region, picture = cut(texture(), Rect(60.3, 44.8, 40, 40), Size(160, 160))
    part = window.middle_part(0.5, 0.25).cut(region, Size(80, 40))
    assert torch.allclose(part, picture[:, 60:100, 40:120], atol=1e-4)


def test_which_pixels_a_window_touches_and_covers():
    rect = Rect(10.5, 10.0, 5.0, 4.5)  # x from 8 to 13, y from 7.75 to 12.25
    assert region_of(rect, FRAME, 0) == Box(8, 7, 13, 13)
    assert region_of(rect, FRAME, 10) == Box(0, 0, 23, 23)
    assert covered(rect, FRAME) == Box(8, 8, 13, 12)
    assert covered(Rect(-20, 10, 5, 5), FRAME).empty
