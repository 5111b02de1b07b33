"""Rotated crops, extracted and put back, and the angles by which segments lean."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import Box, Size
from detailers.core.pixels.mask import grow
from detailers.core.pixels.rotated_crop import RotatedCrop, enclosing_box, rotated_rectangle
from detailers.core.prompts.control import ControlNet, control_segs
from detailers.core.segs.tilt import rotation_of, with_rotated_crop
from detailers.core.settings import ANGLE, LANDMARKS, MASK, OFF, Upright
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeControl,
    brighten,
    fake_models,
    fill,
    identity,
    make_detail,
    make_seg,
)
from hypothesis import given, settings
from hypothesis import strategies as st

IMAGE = Size(160, 120)
HALF_PI = math.pi / 2


def smooth(height=120, width=160, batch=1):
    """[B,H,W,3] waves long enough to be resampled without loss."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(x / 9 + 1), torch.cos(y / 11), torch.sin((x + y) / 13)]
    return (torch.stack(waves, dim=-1) * 0.3 + 0.5).expand(batch, -1, -1, -1).contiguous()


def oval(angle, centre=(80, 60), radii=(14, 24), size=IMAGE):
    """An ellipse [H,W] that leans clockwise by so many degrees from standing upright."""
    y, x = np.mgrid[: size.height, : size.width] + 0.5
    a = math.radians(angle)
    x, y = x - centre[0], y - centre[1]
    u, v = x * math.cos(a) + y * math.sin(a), y * math.cos(a) - x * math.sin(a)
    return ((u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1).astype(np.float32)


def seg_of(mask, region=(40, 20, 120, 100)):
    rows, columns = np.nonzero(mask)
    bbox = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    x1, y1, x2, y2 = region
    return make_seg(region, tuple(int(v) for v in bbox), mask[y1:y2, x1:x2].copy())


# Extract and put back


@settings(deadline=None, max_examples=15)
@given(st.floats(-math.pi, math.pi), st.sampled_from([0.5, 1.0, 2.5]))
def test_there_and_back_is_the_same_picture(angle, scale):
    picture = smooth(60, 80)
    rotated = RotatedCrop(Size(80, 60), (38.0, 31.0), (30.0, 24.0), angle)
    upright = rotated.extract(picture, Size(round(30 * scale), round(24 * scale)))
    back = rotated.put_back(upright, picture)
    inside = rotated.inside(picture)[0]
    assert 0.8 < inside.sum() / (30 * 24) < 1.2
    assert torch.equal(back[:, ~inside], picture[:, ~inside])
    assert (back - picture).abs().max() < (0.05 if scale < 1 else 0.02)


@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_are_exact(quarters):
    picture = torch.rand(1, 20, 20, 3, generator=torch.Generator().manual_seed(0))
    rotated = RotatedCrop(Size(20, 20), (10.0, 10.0), (20.0, 20.0), quarters * HALF_PI)
    expected = torch.rot90(picture, quarters, (1, 2))
    assert torch.allclose(rotated.extract(picture, Size(20, 20)), expected, atol=1e-4)


def test_a_pictures_own_resolution_does_not_matter():
    rotated = RotatedCrop(Size(80, 60), (40.0, 30.0), (30.0, 24.0), 0.4)
    fine = F.interpolate(smooth(60, 80).movedim(-1, 1), scale_factor=2.0, mode="bilinear")
    one = rotated.extract(smooth(60, 80), Size(60, 48))
    other = rotated.extract(fine.movedim(1, -1), Size(60, 48))
    assert (one - other).abs().max() < 0.02


def stripes(height, width):
    """[1,H,W,3], columns of 0 and 1 by turns: averaged they are 0.5 everywhere."""
    return (torch.arange(width) % 2).float().expand(1, height, width)[..., None].repeat(1, 1, 1, 3)


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("size", [(15, 10), (17, 10), (13, 9), (30, 21), (7, 5)])
def test_shrinking_averages_instead_of_skipping(size, angle):
    rotated = RotatedCrop(Size(80, 60), (40.0, 30.0), (60.0, 40.0), angle)
    small = rotated.extract(stripes(60, 80), Size(*size))
    assert (small - 0.5).abs().max() < 0.1


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("width", [240, 205, 187])
def test_turning_back_averages_instead_of_skipping(width, angle):
    rotated = RotatedCrop(Size(80, 60), (40.0, 30.0), (60.0, 40.0), angle)
    back = rotated.put_back(stripes(160, width), torch.zeros(1, 60, 80, 3))
    whole = grow(rotated.inside(back).float(), -2)[0] > 0  # a pixel at the rim sees the last column
    assert whole.sum() > 1500
    assert (back[:, whole] - 0.5).abs().max() < 0.1


def test_points_are_placed_in_the_rectangle():
    rotated = RotatedCrop(
        Size(80, 60), (40.0, 30.0), (30.0, 20.0), HALF_PI
    )  # its top is on the right
    (middle, top) = rotated.placed([(40.0, 30.0), (50.0, 30.0)])
    assert middle == pytest.approx((0.5, 0.5))
    assert top == pytest.approx((0.5, 0.0))


def test_the_rectangle_around_points():
    points = torch.tensor([[0, 0], [9, 9]])
    centre, size, tight = rotated_rectangle(points, math.pi / 4, (2.0, 1.0), margin=3)
    assert centre == pytest.approx((5.0, 5.0))
    assert tight == pytest.approx((9 * math.sqrt(2) + 1, 1.0))
    assert size == pytest.approx((2 * tight[0], 7.0))
    assert enclosing_box((5, 5), (10, 4), 0.0) == Box(0, 3, 10, 7)
    assert enclosing_box((5, 5), (10, 4), 0.3) == Box(-1, 1, 11, 9)


# The angle


@pytest.mark.parametrize("angle", [-60, -20, 0, 35, 80])
def test_a_long_shape_tells_its_angle(angle):
    found = rotation_of(seg_of(oval(angle)), Upright(MASK), IMAGE)
    assert math.degrees(found) == pytest.approx(angle, abs=1)


def test_a_round_shape_does_not():
    assert rotation_of(seg_of(oval(30, radii=(20, 20))), Upright(MASK), IMAGE) == 0


def test_the_angle_of_the_node():
    assert rotation_of(seg_of(oval(0)), Upright(ANGLE, 30.0), IMAGE) == pytest.approx(math.pi / 6)
    assert rotation_of(seg_of(oval(30)), Upright(OFF, 30.0), IMAGE) == 0


def face_at(centre, angle, size=IMAGE):
    """FACE_LANDMARKS of three points: the eyes and the mouth."""
    a = math.radians(angle)
    right, down = np.array([math.cos(a), math.sin(a)]), np.array([-math.sin(a), math.cos(a)])
    points = [centre - 5 * right, centre + 5 * right, centre + 12 * down]
    lines = {"right_eye": [(0, 0)], "left_eye": [(1, 1)], "lips": [(2, 2)]}
    return {
        "frames": [[{"landmarks_xy": np.array(points), "score": 1.0}]],
        "image_size": (size.height, size.width),
        "connection_sets": lines,
    }


@pytest.mark.parametrize("angle", [-170, -40, 0, 25, 90])
def test_eyes_tell_the_angle(angle):
    landmarks = face_at(np.array([80, 60]), angle)
    found = rotation_of(seg_of(oval(0)), Upright(LANDMARKS, landmarks=landmarks), IMAGE)
    assert math.degrees(found) == pytest.approx(angle)


def test_landmarks_of_another_size_and_mirrored_ones():
    landmarks = face_at(np.array([40, 30]), 25, Size(80, 60))
    found = rotation_of(seg_of(oval(0)), Upright(LANDMARKS, landmarks=landmarks), IMAGE)
    assert math.degrees(found) == pytest.approx(25)
    sets = landmarks["connection_sets"]
    sets["left_eye"], sets["right_eye"] = sets["right_eye"], sets["left_eye"]
    found = rotation_of(seg_of(oval(0)), Upright(LANDMARKS, landmarks=landmarks), IMAGE)
    assert math.degrees(found) == pytest.approx(25)


def test_a_face_elsewhere_says_nothing():
    landmarks = face_at(np.array([10, 10]), 25)
    assert rotation_of(seg_of(oval(0)), Upright(LANDMARKS, landmarks=landmarks), IMAGE) == 0


def test_what_is_missing_or_unknown_is_an_error():
    with pytest.raises(ValueError, match="'face_landmarks' is missing"):
        rotation_of(seg_of(oval(0)), Upright(LANDMARKS), IMAGE)
    with pytest.raises(ValueError, match="'upright' is 'left', which does not exist"):
        rotation_of(seg_of(oval(0)), Upright("left"), IMAGE)


# The segment


def test_a_turned_segment_has_room_for_its_rectangle():
    seg, rotated, thing = with_rotated_crop(seg_of(oval(40)), Upright(MASK), IMAGE)
    region = Box.of(seg.crop_region)
    assert region.contains(Box.of(seg.bbox))
    assert seg.cropped_mask.shape == (region.height, region.width)
    whole = np.zeros((IMAGE.height, IMAGE.width), np.float32)
    whole[region.y1 : region.y2, region.x1 : region.x2] = seg.cropped_mask
    np.testing.assert_array_equal(whole, oval(40))
    assert thing == pytest.approx((28, 48), abs=2)  # as wide and high as it stands upright
    crop = torch.zeros(1, region.height, region.width, 1)
    assert rotated.inside(crop)[0][torch.from_numpy(seg.cropped_mask) > 0].all()


def test_what_is_upright_or_has_a_picture_keeps_its_region():
    assert with_rotated_crop(seg_of(oval(0)), Upright(MASK), IMAGE) is None
    assert with_rotated_crop(seg_of(oval(2)), Upright(ANGLE, 2.0), IMAGE) is None
    own = seg_of(oval(40))._replace(cropped_image=np.zeros((1, 80, 80, 3), np.float32))
    seg, rotated, _ = with_rotated_crop(own, Upright(MASK), IMAGE)
    assert seg.crop_region == own.crop_region
    assert rotated.region == Size(80, 80)


# Whole runs


def run(segs, draw, image=None, angle=40.0, models=None, **options):
    image = smooth() if image is None else image
    backend = FakeBackend(draw)
    options = {"guide_size": 60, "max_size": 200, "upright": Upright(ANGLE, angle)} | options
    result = detail_image(image, ((120, 160), segs), make_detail(models, **options), backend)
    return image, result, backend


def test_the_model_sees_the_thing_upright():
    image = torch.zeros(1, 120, 160, 3)
    image[0, ..., 0] = torch.from_numpy(oval(40))
    _, _, backend = run([seg_of(oval(40))], identity, image)
    (pixels,) = backend.encoded
    shape = pixels[0, ..., 0] > 0.5
    rows, columns = shape.any(1).sum(), shape.any(0).sum()
    assert rows / columns == pytest.approx(24 / 14, abs=0.1)
    assert torch.equal(shape, shape.flip(1)) or (shape ^ shape.flip(1)).float().mean() < 0.02


def test_what_is_not_changed_comes_back_almost_as_it_was():
    image, result, backend = run([seg_of(oval(40))], identity)
    assert len(backend.runs) == 1
    inside = torch.from_numpy(oval(40)) > 0
    assert (
        0 < (result.image - image)[:, inside].abs().max() < 0.02
    )  # it did go through the pipeline
    assert torch.equal(result.image[:, ~inside], image[:, ~inside])


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("noise_mask", [True, False])
def test_what_is_drawn_lands_where_the_mask_is(restore, noise_mask):
    image, result, _ = run(
        [seg_of(oval(40))], fill(0.9), noise_mask=noise_mask, restore_kept=restore
    )
    inside = torch.from_numpy(oval(40)) > 0
    core = torch.from_numpy(oval(40, radii=(10, 20))) > 0
    assert torch.equal(result.image[:, ~inside], image[:, ~inside])
    assert torch.allclose(result.image[:, core], torch.tensor(0.9), atol=0.03)


def test_two_that_overlap_once_turned_go_one_after_another():
    """Upright their regions would only touch."""
    segs = [
        seg_of(oval(40, centre=(50, 60)), (20, 30, 80, 90)),
        seg_of(oval(40, centre=(110, 60)), (80, 30, 140, 90)),
    ]
    _, together, _ = run(segs, brighten(0.1), batch=0)
    _, single, _ = run(segs, brighten(0.1), batch=1)
    assert torch.equal(together.image, single.image)


def test_the_segment_comes_back_with_its_crop():
    _, result, _ = run([seg_of(oval(40))], fill(0.9))
    (seg,) = result.segs[1]
    region = Box.of(seg.crop_region)
    assert seg.cropped_image.shape == (1, region.height, region.width, 3)
    inside = oval(40)[region.y1 : region.y2, region.x1 : region.x2] > 0
    core = oval(40, radii=(10, 20))[region.y1 : region.y2, region.x1 : region.x2] > 0
    np.testing.assert_allclose(seg.cropped_image[:, core], 0.9, atol=0.03)
    assert inside.sum() > core.sum() > 500


def test_without_pasting_and_for_clips():
    detail = make_detail(guide_size=60, max_size=200, upright=Upright(ANGLE, 40.0))
    segs = ((120, 160), [seg_of(oval(40))])
    apart = detail_segs(smooth(), segs, detail, FakeBackend(identity))
    (seg,) = apart.segs[1]
    x1, y1, x2, y2 = seg.crop_region
    part = smooth()[:, y1:y2, x1:x2].numpy()
    np.testing.assert_allclose(seg.cropped_image, part, atol=0.02)
    clip = smooth(batch=3)
    pasted = detail_frames(clip, segs, detail, FakeBackend(fill(0.9)), pasted=True)
    inside = torch.from_numpy(oval(40)) > 0
    assert torch.equal(pasted.image[:, ~inside], clip[:, ~inside])
    assert (pasted.image[:, 60, 80] - 0.9).abs().max() < 0.02


# Conditionings, ControlNets and masks


def options_of(**options):
    """The options of the positive conditioning that a turned crop is sampled with."""
    models = fake_models(positive=[[torch.ones(1, 1, 2), options]])
    _, _, backend = run([seg_of(oval(40))], identity, models=models)
    ((_, cut),) = backend.runs[0].positive
    return cut, backend


@pytest.mark.parametrize("scale", [1, 2])
def test_a_conditionings_mask_is_turned_along(scale):
    size = Size(IMAGE.width * scale, IMAGE.height * scale)
    where = oval(40, (80 * scale, 60 * scale), (14 * scale, 24 * scale), size)
    cut, _ = options_of(mask=torch.from_numpy(where)[None])
    shape = cut["mask"][0] > 0.5
    rows, columns = shape.any(1).sum(), shape.any(0).sum()
    assert rows / columns == pytest.approx(24 / 14, abs=0.1)
    assert shape.float().mean() == pytest.approx(0.18, abs=0.01)  # an ellipse in 2.1 times its box
    middle = (torch.nonzero(shape).float().mean(0) + 0.5) / torch.tensor(shape.shape)
    assert middle.tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_controlnets_hint_shows_what_the_model_sees():
    hint = smooth().movedim(-1, 1)
    cut, backend = options_of(control=FakeControl(hint))
    seen = backend.encoded[0].movedim(-1, 1)
    shown = F.interpolate(cut["control"].cond_hint_original, size=seen.shape[-2:], mode="bilinear")
    assert (shown - seen)[..., 4:-4, 4:-4].abs().max() < 0.03


def test_a_segments_controlnet_sees_the_picture_upright():
    hints = []

    def attach(control, positive, negative, hint):
        hints.append(hint)
        return positive, negative

    segs = control_segs(((120, 160), [seg_of(oval(40))]), ControlNet("net", 1.0), attach, smooth())
    _, _, backend = run(segs[1], identity)
    assert torch.allclose(hints[0], backend.encoded[0], atol=1e-5)


def test_an_area_becomes_the_box_around_it_upright():
    everywhere, backend = options_of(area=(30, 40, 0, 0))  # in latent pixels of the image
    height, width = backend.runs[0].latent.shape[-2:]
    assert everywhere["area"] == (height, width, 0, 0)
    left, _ = options_of(area=(30, 12, 0, 0))
    down, across, top, start = left["area"]
    assert start == 0
    assert width / 2 < across < width  # its right border leans once the crop is upright
    assert top > 0  # and so its upper corner lies outside on the right
    assert top + down == height
