"""Results brought back onto their crops by what lies around the mask."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detailers.core.detail.images import detail_image
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import Size
from detailers.core.pixels.registration import Similarity, best_fit, moved_back, register
from detailers.core.settings import AUTO
from detailers.tests.fake_backend import FakeBackend, fill, make_detail, make_seg, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st

SIDE = 192
CHANGED = 0.63  # of either side: 40% of the crop


def scene(height=SIDE, width=SIDE, seed=0):
    """A picture with things of many sizes and sharp edges: [1,h,w,3]."""
    picture = torch.zeros(1, 3, height, width)
    for cells in (5, 11, 23, 47):
        noise = noise_image(1, cells, cells, seed=seed + cells).movedim(-1, 1)
        picture += F.interpolate(noise, size=(height, width), mode="nearest") / 4
    return (0.1 + 0.8 * picture).movedim(1, -1)


def middle(height=SIDE, width=SIDE, share=CHANGED):
    mask = torch.zeros(1, height, width)
    top, left = (round(side * (1 - share) / 2) for side in (height, width))
    mask[:, top : height - top, left : width - left] = 1
    return mask


def displaced(picture, similarity):
    """The picture in which a point of the given one is found where the similarity says."""
    a, b = similarity.matrix
    area = a * a + b * b
    a, b = a / area, -b / area
    x, y = similarity.shift
    back = Similarity(
        math.hypot(a, b), math.degrees(math.atan2(b, a)), (-(a * x - b * y), -(b * x + a * y))
    )
    return moved_back(picture, torch.full_like(picture, 0.5), back)


def repainted(picture, similarity, tint=(1.0, 1.0, 1.0), offset=0.0, grain=0.0):
    """What an edit model gives: other things in the middle, all of it displaced and tinted."""
    mask = middle(*picture.shape[1:3])[..., None]
    drawn = torch.lerp(picture, scene(*picture.shape[1:3], seed=99), mask)
    result = displaced(drawn, similarity) * torch.tensor(tint) + offset
    return (result + grain * (noise_image(1, *picture.shape[1:3], seed=5) - 0.5)).clamp(0, 1)


def error_of(found, wanted):
    """Shift in pixels, scale as a share, angle in degrees."""
    apart = (one - other for one, other in zip(found.shift, wanted.shift, strict=True))
    return math.hypot(*apart), abs(found.scale / wanted.scale - 1), abs(found.angle - wanted.angle)


def assert_found(similarity, **faults):
    picture = scene()
    found = register(repainted(picture, similarity, **faults), picture, middle())
    assert found.refused == ""
    shift, scale, angle = error_of(found.similarity or Similarity(), similarity)
    assert (shift < 0.1, scale < 0.001, angle < 0.1) == (True, True, True), (shift, scale, angle)


def strayed(picture, seed=7, strength=0.35):
    """The picture as a model repaints it: its edges lie a little beside their places by chance."""
    side = picture.shape[1:3]
    planes = noise_image(1, 24, 24, seed=seed)[..., :2].movedim(-1, 1) - 0.5
    apart = F.interpolate(planes, size=side, mode="bicubic").movedim(1, -1) * 8 / max(side)
    y, x = (torch.linspace(-1 + 1 / own, 1 - 1 / own, own) for own in side)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None] + apart
    moved = F.grid_sample(picture.movedim(-1, 1), grid, "bilinear", "border", False)
    return torch.lerp(moved.movedim(1, -1), scene(*side, seed=seed), strength)


@pytest.mark.parametrize("seed", [7, 9])
def test_a_slip_of_a_pixel_is_found_where_the_surroundings_were_repainted(seed):
    picture = scene()
    drawn = strayed(picture, seed)
    assert register(drawn, picture, middle()).similarity is None
    for slip in (Similarity(shift=(1.0, 0.5)), Similarity(angle=0.8)):
        found = register(repainted(drawn, slip), picture, middle()).similarity
        shift, scale, angle = error_of(found, slip)
        assert (shift < 0.3, scale < 0.003, angle < 0.15) == (True, True, True), (
            shift,
            scale,
            angle,
        )


def test_the_best_fit_is_told_even_where_it_moves_nothing():
    picture, slip = scene(), Similarity(shift=(0.06, -0.04))
    result = repainted(picture, slip)
    assert register(result, picture, middle()).similarity is None
    shift, scale, angle = error_of(best_fit(result, picture, middle()), slip)
    assert (shift < 0.03, scale < 0.0005, angle < 0.02) == (True, True, True), (shift, scale, angle)
    assert best_fit(result, torch.full_like(picture, 0.5), middle()) is None


@pytest.mark.parametrize(
    "similarity",
    [
        Similarity(shift=(20.0, -20.0)),
        Similarity(shift=(0.5, 0.25)),
        Similarity(scale=0.95),
        Similarity(scale=1.05, shift=(-3.5, 8.0)),
        Similarity(angle=2.0),
        Similarity(0.96, -2.0, (12.3, 7.7)),
    ],
)
def test_a_slip_is_found(similarity):
    assert_found(similarity)


@settings(deadline=None, max_examples=8)
@given(
    st.floats(0.95, 1.05), st.floats(-2, 2), st.floats(-20, 20), st.floats(-20, 20),
    st.tuples(*[st.floats(0.85, 1.1)] * 3), st.floats(-0.05, 0.05),
)  # fmt: skip
def test_a_slip_is_found_under_a_tint_and_grain(scale, angle, x, y, tint, offset):
    assert_found(Similarity(scale, angle, (x, y)), tint=tint, offset=offset, grain=0.04)


def test_a_blur_moves_nothing_and_hides_no_slip():
    picture = scene()
    for similarity in (Similarity(), Similarity(1.02, 0.5, (4.0, -2.0))):
        result = repainted(picture, similarity)
        blurred = F.avg_pool2d(result.movedim(-1, 1), 3, 1, 1, count_include_pad=False)
        found = register(blurred.movedim(1, -1), picture, middle())
        if similarity == Similarity():
            assert found.similarity is None
            continue
        shift, scale, angle = error_of(found.similarity, similarity)
        assert (shift < 0.1, scale < 0.001, angle < 0.1) == (True, True, True)


def drawing():
    """Flat colours with a few edges, as in a drawing: most pixels show no slip."""
    picture = torch.full((1, SIDE, SIDE, 3), 0.6)
    for number, (top, left) in enumerate(((10, 14), (16, 140), (150, 20), (158, 120), (80, 4))):
        colour = torch.tensor([0.2, 0.5, 0.9]).roll(number)
        picture[:, top : top + 22, left : left + 30] = colour
    return picture


@pytest.mark.parametrize("similarity", [Similarity(), Similarity(1.02, 1.0, (6.0, -3.0))])
def test_in_a_flat_picture_edges_are_no_outliers(similarity):
    """A VAE leaves flat parts as they are and changes edges, which alone show where they lie."""
    picture = drawing()
    soft = F.avg_pool2d(picture.movedim(-1, 1), 5, 1, 2, count_include_pad=False).movedim(1, -1)
    grain = 0.1 * (noise_image(1, SIDE, SIDE, seed=3) - 0.5) * ((soft - picture).abs() > 0.01)
    result = displaced((soft + grain).clamp(0, 1), similarity)
    found = register(result, picture, middle())
    if similarity == Similarity():
        assert (found.similarity, found.refused) == (None, "")
        return
    shift, scale, angle = error_of(found.similarity, similarity)
    assert (shift < 0.1, scale < 0.001, angle < 0.1) == (True, True, True), (shift, scale, angle)


@pytest.mark.parametrize("faults", [{}, {"tint": (1.1, 0.95, 0.9)}, {"grain": 0.05}])
def test_what_has_not_moved_stays(faults):
    picture = scene()
    found = register(repainted(picture, Similarity(), **faults), picture, middle())
    assert (found.similarity, found.refused) == (None, "")


def test_another_picture_is_refused():
    found = register(scene(seed=1), scene(seed=2), middle())
    assert found.similarity is None
    assert "does not show the same picture" in found.refused


@pytest.mark.parametrize("mask", [torch.ones(1, SIDE, SIDE), middle(share=0.97)])
def test_without_surroundings_there_is_nothing_to_go_by(mask):
    found = register(scene(seed=1), scene(seed=2), mask)
    assert (found.similarity, found.refused) == (None, "")
    assert "lies around the mask" in found.unknown


def test_plain_surroundings_say_nothing():
    plain = torch.full((1, SIDE, SIDE, 3), 0.4)
    found = register(torch.lerp(plain, scene(), middle()[..., None]), plain, middle())
    assert (found.similarity, found.refused) == (None, "")
    assert "is plain" in found.unknown


def grain(seed, strength, pixels):
    """Grain as of a film, [1,SIDE,SIDE,3] around 0: its grains are some pixels large."""
    noise = noise_image(1, SIDE // pixels, SIDE // pixels, seed=seed).movedim(-1, 1) - 0.5
    noise = F.interpolate(noise, size=(SIDE, SIDE), mode="bicubic")
    return (strength * noise / noise.std()).movedim(1, -1)


@pytest.mark.parametrize(("strength", "pixels"), [(0.01, 1), (0.04, 2)])
@pytest.mark.parametrize("again", [True, False])
def test_grain_that_is_drawn_otherwise_is_no_other_picture(strength, pixels, again):
    plain = torch.full((1, SIDE, SIDE, 3), 0.4)
    picture = plain + grain(1, strength, pixels)
    around = plain + grain(2, strength, pixels) if again else plain  # other grain, or none
    found = register(torch.lerp(around, scene(), middle()[..., None]), picture, middle())
    assert (found.similarity, found.refused) == (None, "")
    assert "grain" in found.unknown
    # what shows something is another picture even then
    assert register(scene(), picture, middle()).refused


def one_thing(side, inside, grown=0):
    """A thing in the corner of a plain picture, and something else in its middle."""
    picture = torch.full((1, side, side, 3), 0.55)
    picture[:, 8 : 28 + grown, 8 : 28 + grown] = torch.tensor([0.8, 0.3, 0.2])
    mask = middle(side, side, 0.7)
    return torch.lerp(picture, inside, mask[..., None]), mask


def test_a_thing_in_one_place_shows_the_shift_alone():
    """A size that is drawn a little wrong there would be far off on the other side."""
    dark, light = torch.zeros(1), torch.ones(1)
    picture, mask = one_thing(160, dark)
    grown = one_thing(160, light, grown=2)[0]
    assert register(grown, picture, mask).refused == ""
    best = best_fit(grown, picture, mask)
    assert (best.scale, best.angle) == (1, 0)
    assert math.hypot(*best.shift) < 2
    slip = Similarity(shift=(5.0, -4.0))
    slipped = register(displaced(one_thing(160, light)[0], slip), picture, mask)
    assert slipped.refused == ""
    assert error_of(slipped.similarity, slip)[0] < 0.2


@pytest.mark.parametrize(("height", "width"), [(40, 600), (600, 40)])
def test_a_slip_in_a_long_and_narrow_crop(height, width):
    similarity = Similarity(shift=(2.0, 1.0))
    picture = scene(height, width)
    found = register(repainted(picture, similarity), picture, middle(height, width))
    shift, scale, angle = error_of(found.similarity, similarity)
    assert (shift < 0.2, scale < 0.001, angle < 0.1) == (True, True, True), (shift, scale, angle)


def test_wide_and_small_pictures():
    similarity = Similarity(1.01, 0.5, (2.0, 1.0))
    for height, width in ((96, 300), (720, 800)):
        picture = scene(height, width)
        found = register(repainted(picture, similarity), picture, middle(height, width))
        shift, scale, angle = error_of(found.similarity, similarity)
        assert (shift < 0.1, scale < 0.001, angle < 0.1) == (True, True, True)


def test_what_a_moved_result_does_not_reach_is_the_original():
    original, result = torch.zeros(1, 40, 60, 3), torch.ones(1, 40, 60, 3)
    moved = moved_back(result, original, Similarity(shift=(7.0, 0.0)))
    assert torch.allclose(moved[:, :, :53], torch.ones(1))
    assert (moved[:, :, 53:] == 0).all()


def test_what_a_moved_result_does_not_reach_may_begin_softly():
    original, result = torch.zeros(1, 40, 60, 3), torch.ones(1, 40, 60, 3)
    moved = moved_back(result, original, Similarity(shift=(7.0, 0.0)), 5)[0, :, :, 0]
    assert torch.allclose(moved[:, :43], torch.ones(1))  # at the other borders, too
    assert (moved[:, 53:] == 0).all()
    steps = -moved.diff(dim=1)
    assert (steps >= -1e-6).all()
    assert 0.05 < steps.max() < 0.25
    still = moved_back(result, original, Similarity(scale=0.9), 5)
    assert torch.allclose(still, torch.ones(1))


def test_no_corner_moves_farther_than_said():
    assert Similarity(shift=(3.0, 4.0)).farthest(Size(100, 50)) == pytest.approx(5.0)
    assert Similarity(scale=1.1).farthest(Size(80, 60)) == pytest.approx(5.0)


# In a detailer


class Slipping(FakeBackend):
    """Its VAE decodes to pictures that have slipped."""

    slip = Similarity(1.01, 0.0, (3.0, -2.0))

    def decode(self, vae, latent, *, tiled, tile=None):
        return displaced(super().decode(vae, latent, tiled=tiled), self.slip)


def detailed(image, backend, **options):
    region, bbox = (20, 20, 212, 212), (84, 84, 148, 148)
    mask = torch.zeros(192, 192)
    mask[64:128, 64:128] = 1
    segs = (tuple(image.shape[1:3]), [make_seg(region, bbox, mask.numpy())])
    detail = make_detail(guide_size=192, max_size=512, guide_size_for_bbox=False, **options)
    return detail_image(image, segs, detail, backend).image


def test_a_detailer_moves_the_result_back_before_it_is_pasted(caplog):
    image = scene(232, 232)
    slipped = detailed(image, Slipping())
    registered = detailed(image, Slipping(), register=AUTO)
    inside = (slice(None), slice(88, 144), slice(88, 144))
    assert (slipped[inside] - image[inside]).abs().mean() > 0.05
    assert (registered[inside] - image[inside]).abs().mean() < 0.02  # two resamplings
    assert "is moved back onto its crop: by -3.0, +2.0 pixels" in caplog.text
    outside = torch.ones(232, 232, dtype=torch.bool)
    outside[84:148, 84:148] = False
    assert torch.equal(registered[:, outside], image[:, outside])


def test_frames_of_a_video_are_not_moved(caplog):
    """Each by itself would be moved a little differently."""
    image = scene(232, 232)
    mask = np.zeros((192, 192), np.float32)
    mask[64:128, 64:128] = 1
    segs = ((232, 232), [make_seg((20, 20, 212, 212), (84, 84, 148, 148), mask)])
    sizes = {"guide_size": 192, "max_size": 512, "guide_size_for_bbox": False}
    frames = image.repeat(2, 1, 1, 1)

    def clip(**options):
        detail = make_detail(**sizes, **options)
        return detail_frames(frames, segs, detail, Slipping(), pasted=True).image

    assert torch.equal(clip(register=AUTO), clip())
    assert "is not used for the frames of a video" in caplog.text


def test_where_nothing_can_be_told_the_user_is_told(caplog):
    image = scene(232, 232)
    segs = ((232, 232), [make_seg((20, 20, 212, 212), (84, 84, 148, 148))])  # it fills its crop
    detail = make_detail(guide_size=192, max_size=512, guide_size_for_bbox=False, register=AUTO)
    detail_image(image, segs, detail, Slipping())
    assert "cannot tell whether a result has moved" in caplog.text
    assert "crop_factor" in caplog.text


def test_what_has_not_slipped_is_pasted_to_the_bit():
    image = scene(232, 232)
    plain = detailed(image, FakeBackend(fill(0.3)))
    assert torch.equal(detailed(image, FakeBackend(fill(0.3)), register=AUTO), plain)
    assert not torch.equal(plain, image)


def test_a_picture_of_something_else_is_not_pasted(caplog):
    class Elsewhere(FakeBackend):
        def decode(self, vae, latent, *, tiled, tile=None):
            return scene(*super().decode(vae, latent, tiled=tiled).shape[1:3], seed=7)

    image = scene(232, 232)
    assert torch.equal(detailed(image, Elsewhere(), register=AUTO), image)
    assert "keeps its original pixels: what lies around its mask does not show" in caplog.text
    assert not torch.equal(detailed(image, Elsewhere()), image)
