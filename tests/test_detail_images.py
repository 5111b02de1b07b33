"""Whole runs over the segments of images, pasted or kept."""

import gc
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.geometry import NATIVE, Size
from detailers.core.pixels.resample import resize
from detailers.core.segs.seg import SEG, BatchImage, of_image
from detailers.core.settings import NO_CROPS, KeptCrops
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
    masked,
    noise_image,
    outside,
    ramp_image,
)
from detailers.utils.notes import collected_notes

PAINT = fill(0.75)
LEFT, RIGHT = (4, 5, 24, 15), (34, 5, 54, 15)  # two regions of 20x10 in an image of 60x30
TWO = ((30, 60), [make_seg(LEFT, label="left"), make_seg(RIGHT, label="right")])
OVERLAPPING = ((30, 60), [make_seg(LEFT), make_seg((14, 5, 34, 15))])


def flat(value=0.25, batch=1, channels=3):
    return torch.full((batch, 30, 60, channels), value)


def run(image, segs=TWO, draw=PAINT, backend=None, models=None, **options):
    """The result of `detail_image`, and the backend that was used."""
    backend = backend or FakeBackend(draw)
    return detail_image(image, segs, make_detail(models, **options), backend), backend


def run_segs(image, segs=TWO, draw=PAINT, batch_size=1, **options):
    backend = FakeBackend(draw)
    return detail_segs(image, segs, make_detail(**options), backend, batch_size), backend


def dot_mask(height, width, box):
    x1, y1, x2, y2 = box
    mask = np.zeros((height, width), np.float32)
    mask[y1:y2, x1:x2] = 1
    return mask


def broken_for(*seeds):
    """Gives NaN in one corner for these seeds."""

    def draw(run):
        new = fill(0.75)(run)
        if run.seed in seeds:
            new[..., 0, 0] = torch.nan
        return new

    return draw


# What is changed, and what is not


def test_segments_are_redrawn_and_nothing_else_is():
    image = noise_image(2, 30, 60)
    result, _ = run(image)
    keep = outside(image, LEFT, RIGHT)
    assert torch.equal(result.image[:, keep], image[:, keep])
    assert torch.allclose(result.image[:, ~keep], torch.tensor(0.75), atol=1e-5)


@pytest.mark.parametrize("noise_mask", [True, False])
@pytest.mark.parametrize("feather", [0, 2, 5])
def test_pixels_outside_the_feathered_mask_are_bit_identical(feather, noise_mask):
    image = noise_image(1, 60, 90)
    mask = dot_mask(40, 70, (20, 12, 45, 24))
    segs = ((60, 90), [make_seg((10, 10, 80, 50), mask=mask)])
    result, _ = run(image, segs, feather=feather, noise_mask=noise_mask, guide_size=80,
                    max_size=140)  # fmt: skip
    reach = (30 - feather, 22 - feather, 55 + feather, 34 + feather)
    keep = outside(image, reach)
    assert torch.equal(result.image[:, keep], image[:, keep])
    # in the middle of the mask, the new pixels
    assert torch.allclose(result.image[:, 27:29, 40:45], torch.tensor(0.75), atol=0.02)


def test_the_given_image_is_not_changed():
    image = noise_image(2, 30, 60)
    before = image.clone()
    result, _ = run(image, feather=3)
    assert torch.equal(image, before)
    assert torch.allclose(result.image[:, 10, 14], torch.tensor(0.75), atol=1e-4)


def test_without_a_noise_mask_the_whole_crop_is_sampled_but_only_the_mask_pasted():
    segs = ((30, 60), [make_seg(LEFT, mask=dot_mask(10, 20, (0, 0, 10, 10)))])
    image = flat()
    result, backend = run(image, segs, noise_mask=False)
    assert backend.runs[0].noise_mask is None
    assert torch.allclose(result.refined[0], torch.tensor(0.75), atol=1e-5)
    assert torch.allclose(result.image[:, 5:15, 4:14], torch.tensor(0.75), atol=1e-5)
    assert torch.equal(result.image[:, 5:15, 14:24], image[:, 5:15, 14:24])


def test_a_soft_mask_mixes_old_and_new():
    segs = ((30, 60), [make_seg(LEFT, mask=np.full((10, 20), 0.5, np.float32))])
    result, _ = run(flat(), segs, noise_mask=False)
    assert torch.allclose(result.image[:, 5:15, 4:24], torch.tensor(0.5), atol=1e-5)


def test_a_float_gradient_keeps_more_than_256_levels():
    """No step of the pipeline goes through 8 bits."""
    image = (torch.arange(64 * 128) / (64 * 128)).view(1, 64, 128, 1).expand(-1, -1, -1, 3)
    region = (32, 16, 96, 48)
    result, _ = run(image, ((64, 128), [make_seg(region)]), lambda run: run.latent,
                    guide_size=64, max_size=128)  # fmt: skip
    part = result.image[0, 16:48, 32:96, 0]
    assert not torch.equal(part, image[0, 16:48, 32:96, 0])  # it did go through the pipeline
    assert len(part.unique()) > 1500  # of 2048
    assert torch.allclose(part[4:-4, 4:-4], image[0, 20:44, 36:92, 0], atol=5e-4)


# Channels


def test_alpha_is_returned_as_it_was():
    image = noise_image(2, 30, 60, channels=4)
    result, backend = run(image)
    assert backend.encoded[0].shape[-1] == 3
    assert result.image.shape == (2, 30, 60, 4)
    assert torch.equal(result.image[..., 3], image[..., 3])
    assert torch.allclose(result.image[:, 5:15, 4:24, :3], torch.tensor(0.75), atol=1e-5)
    assert torch.equal(result.image[:, 15:], image[:, 15:])


@pytest.mark.parametrize("segs", [TWO, ((30, 60), []), None])
def test_what_comes_back_of_a_grey_image_may_be_written_to(segs):
    image = noise_image(2, 30, 60, channels=1)
    before = image.clone()
    result, _ = run(image, segs)
    result.image[0, 0, 0, 0] = 2.0
    assert result.image[0, 0, 0].tolist() == [2.0, *image[0, 0, 0].tolist() * 2]
    assert torch.equal(image, before)


def test_kept_pictures_share_no_memory_with_the_image():
    image = noise_image(1, 30, 60, channels=1)
    before = image.clone()
    large = make_seg((20, 0, 60, 30))
    result, _ = run_segs(image, ((30, 60), [large, make_seg(LEFT)]), force_inpaint=False)
    assert [seg.cropped_image.shape for seg in result.segs[1]] == [(1, 30, 40, 3), (1, 10, 20, 3)]
    for seg in result.segs[1]:
        seg.cropped_image[0, 0, 0, 0] = 7.0
        assert seg.cropped_image[0, 0, 0, 1] < 7.0
    assert torch.equal(image, before)


def test_grey_is_expanded():
    image = noise_image(2, 30, 60, channels=1)
    result, backend = run(image)
    assert backend.encoded[0].shape[-1] == 3
    assert result.image.shape == (2, 30, 60, 3)
    assert torch.equal(result.image[:, 15:], image[:, 15:].expand(-1, -1, -1, 3))


# Sizes


def test_segs_of_another_image_size_are_scaled_x_by_width_and_y_by_height():
    """Peers have mixed up the two ratios: x goes by 3, y by 1/2."""
    image = torch.zeros(1, 30, 180, 3)
    segs = ((60, 60), [make_seg((4, 10, 24, 30))])
    result, _ = run(image, segs)
    changed = result.image[0, ..., 0].nonzero()
    assert changed.amin(0).tolist() == [5, 12]
    assert changed.amax(0).tolist() == [14, 71]
    assert result.segs[0] == (30, 180)
    assert result.segs[1][0].crop_region == (12, 5, 72, 15)


@pytest.mark.parametrize("force_inpaint", [True, False])
def test_max_size_always_holds(force_inpaint):
    image = noise_image(1, 100, 200)
    segs = ((100, 200), [make_seg((0, 0, 200, 100), bbox=(90, 40, 100, 48))])
    result, backend = run(image, segs, guide_size=16, max_size=64, force_inpaint=force_inpaint)
    if force_inpaint:
        assert [pixels.shape for pixels in backend.encoded] == [(1, 32, 64, 3)]
        assert torch.allclose(result.image, torch.tensor(0.75), atol=1e-5)
    else:
        assert backend.encoded == []
        assert torch.equal(result.image, image)


def test_regions_over_the_border_are_clipped():
    image = noise_image(1, 30, 60)
    result, _ = run(image, ((30, 60), [make_seg((50, -4, 70, 12))]))
    keep = outside(image, (50, 0, 60, 12))
    assert torch.equal(result.image[:, keep], image[:, keep])
    assert torch.allclose(result.image[:, ~keep], torch.tensor(0.75), atol=1e-5)


def test_a_crop_larger_than_the_image_is_the_image():
    result, _ = run(noise_image(1, 30, 60), ((30, 60), [make_seg((-50, -50, 100, 100))]))
    assert torch.allclose(result.image, torch.tensor(0.75), atol=1e-5)


def test_a_single_pixel_is_redrawn():
    image = noise_image(1, 30, 60)
    result, _ = run(image, ((30, 60), [make_seg((59, 29, 60, 30))]))
    keep = outside(image, (59, 29, 60, 30))
    assert torch.equal(result.image[:, keep], image[:, keep])
    assert torch.allclose(result.image[0, 29, 59], torch.tensor(0.75))


def test_a_vae_of_ratio_one():
    result, backend = run(flat(), models=fake_models(FakeVAE(ratio=1)))
    assert backend.runs[0].latent.shape == (1, 3, 16, 32)
    assert torch.allclose(result.image[:, 5:15, 4:24], torch.tensor(0.75), atol=1e-5)


# Order, seeds and texts


def test_overlapping_segments_see_each_others_result():
    result, backend = run(flat(), OVERLAPPING, brighten(0.1), guide_size=10)
    assert torch.allclose(backend.encoded[1][:, :, :10], torch.tensor(0.35), atol=1e-5)
    assert torch.allclose(backend.encoded[1][:, :, 10:], torch.tensor(0.25), atol=1e-5)
    row = result.image[0, 10, :, 0]
    expected = [0.25] * 4 + [0.35] * 10 + [0.45] * 10 + [0.35] * 10 + [0.25] * 26
    assert row.tolist() == pytest.approx(expected, abs=1e-5)


def test_segment_i_is_sampled_with_seed_plus_i_and_cycles_with_the_next_ones():
    _, backend = run(flat(), cycle=3, seed=100)
    assert backend.seeds == [100, 101, 102, 101, 102, 103]


def test_a_cycle_samples_the_latent_of_the_one_before():
    result, backend = run(flat(), ((30, 60), [make_seg(LEFT)]), brighten(0.1), cycle=3)
    assert torch.allclose(backend.runs[2].latent, torch.tensor(0.45), atol=1e-5)
    assert torch.allclose(result.image[0, 10, 10], torch.tensor(0.55), atol=1e-5)


def test_seeds_that_texts_name():
    _, backend = run(flat(), text="red [SEP:7] blue", seed=100, cycle=2)
    assert backend.seeds == [100, 101, 7, 8]
    assert [text for _, text in backend.texts] == ["red", "blue"]
    assert [r.positive[0][1]["text"] for r in backend.runs] == ["red", "red", "blue", "blue"]
    assert {r.negative[0][1]["text"] for r in backend.runs} == {"negative"}


def test_equal_texts_are_encoded_once_for_all_segments_and_images():
    _, backend = run(flat(batch=3), text="red <lora:ink>")
    assert [text for _, text in backend.texts] == ["red"]
    assert backend.loras == [("ink",)]
    assert {r.model.loras for r in backend.runs} == {("ink",)}


def in_batch(index, count, region, **fields):
    return of_image(make_seg(region)._replace(**fields), BatchImage(index, count))


def test_images_of_a_batch_have_segments_of_their_own_as_they_would_alone():
    image = noise_image(3, 30, 60)
    down = (14, 15, 34, 25)
    own = [  # not image by image, as after putting two SEGS together
        in_batch(2, 3, LEFT, label="a"),
        in_batch(0, 3, RIGHT, label="b"),
        in_batch(2, 3, down, label="c"),
        in_batch(0, 3, LEFT, label="d"),
    ]
    every = make_seg((44, 18, 58, 28), label="e")
    options = {"feather": 2, "seed": 7, "text": "red [SEP] green [SEP:R] blue", "draw": grain}
    with collected_notes() as notes:
        together, backend = run(image, ((30, 60), [*own, every]), **options)
    assert [note.kind for note in notes] == ["batch"]
    alone = [
        run(row, ((30, 60), [seg for seg in [*own, every]
                             if seg.batch_image is None or seg.batch_image.index == index]),
            **options)
        for index, row in enumerate(image.split(1))
    ]  # fmt: skip
    assert torch.equal(together.image, torch.cat([result.image for result, _ in alone]))
    assert sorted(backend.seeds) == sorted(seed for _, single in alone for seed in single.seeds)
    for index, regions in enumerate(((RIGHT, LEFT), (), (LEFT, down))):
        keep = outside(image, *(grown(region, 2) for region in (*regions, every.bbox)))
        assert torch.equal(together.image[index, keep], image[index, keep])
        changed = (together.image[index] != image[index]).any(dim=-1)
        assert all(changed[y1:y2, x1:x2].all() for x1, y1, x2, y2 in regions)
    found = {seg.label: seg for seg in together.segs[1]}
    assert [seg.label for seg in together.segs[1]] == ["b", "d", "e", "a", "c"]
    assert found["a"].batch_image == found["c"].batch_image == BatchImage(2, 3)
    assert found["e"].batch_image == BatchImage(None, 3)
    assert found["e"].cropped_image.shape == (3, 10, 14, 3)
    assert found["a"].cropped_image.shape == (1, 10, 20, 3)
    assert np.array_equal(found["b"].cropped_image, alone[0][0].segs[1][0].cropped_image)


def grown(region, by):
    x1, y1, x2, y2 = region
    return max(x1 - by, 0), max(y1 - by, 0), x2 + by, y2 + by


def test_masks_for_each_image_go_image_by_image():
    image = noise_image(3, 30, 60)
    masks = np.stack(
        [dot_mask(10, 20, box) for box in ((0, 0, 5, 10), (0, 0, 0, 0), (9, 0, 20, 10))]
    )
    with collected_notes() as notes:
        result, _ = run(image, ((30, 60), [make_seg(LEFT, mask=masks)]))
    assert [note.kind for note in notes] == ["skipped"]  # the empty one, and nothing of batches
    changed = (result.image != image).any(dim=-1)
    assert changed[0, 5:15, 4:9].all()
    assert changed[2, 5:15, 13:24].all()
    assert int(changed.sum()) == 50 + 110
    first, second = result.segs[1]  # the second image has nothing to show
    assert (first.batch_image, second.batch_image) == (BatchImage(0, 3), BatchImage(2, 3))
    still = np.stack([masks[0], masks[2], masks[2]])
    (only,) = run(image, ((30, 60), [make_seg(LEFT, mask=still)]))[0].segs[1]
    assert only.batch_image == BatchImage(None, 3)
    assert np.array_equal(only.cropped_mask, still)
    with collected_notes() as notes:
        run(image[:2], ((30, 60), [make_seg(LEFT, mask=masks)]))
    assert any("masks for 3 frames" in note.text for note in notes)


def test_a_batch_equals_its_singles():
    image = noise_image(3, 30, 60)
    options = {
        "draw": grain, "feather": 3, "cycle": 2, "text": "[DSC] {red|blue} [SEP:R] green",
        "noise_mask_feather": 2,
    }  # fmt: skip
    together, backend = run(image, OVERLAPPING, **options)
    alone = [run(row, OVERLAPPING, **options) for row in image.split(1)]
    assert torch.equal(together.image, torch.cat([result.image for result, _ in alone]))
    assert backend.seeds == [seed for _, single in alone for seed in single.seeds]
    for i, seg in enumerate(together.segs[1]):
        crops = [result.segs[1][i].cropped_image for result, _ in alone]
        assert np.array_equal(seg.cropped_image, np.concatenate(crops))


def test_the_same_run_gives_the_same_bits():
    image = noise_image(2, 30, 60)
    first, _ = run(image, OVERLAPPING, grain, text="{red|green|blue}")
    second, _ = run(image, OVERLAPPING, grain, text="{red|green|blue}")
    other, _ = run(image, OVERLAPPING, grain, text="{red|green|blue}", seed=6)
    assert torch.equal(first.image, second.image)
    assert not torch.equal(first.image, other.image)


def test_no_global_random_state_is_touched():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(flat(), draw=grain, text="[RND] {red|blue} [SEP:R] green")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)


# Skipped segments

ZERO = make_seg((0, 20, 10, 28), mask=np.zeros((8, 10), np.float32), label="zero")
LARGE = make_seg((20, 16, 60, 30), bbox=(24, 16, 54, 30), label="large")  # 14 pixels high
MIXED = ((30, 60), [TWO[1][0], ZERO, LARGE, TWO[1][1]])
SMALL_ONLY = {"guide_size": 12, "force_inpaint": False}


def test_pasting_leaves_skipped_segments_out_but_keeps_those_skipped_by_size(caplog):
    image = noise_image(1, 30, 60)
    with caplog.at_level(logging.INFO):
        result, backend = run(image, MIXED, text="a [SEP] b [SEP] c [SEP] [SKIP]", **SMALL_ONLY)
    assert [seg.label for seg in result.segs[1]] == ["left", "large"]
    assert result.segs[1][0].cropped_image.shape == (1, 10, 20, 3)
    assert result.segs[1][1].cropped_image is None
    assert len(backend.runs) == 1
    keep = outside(image, LEFT)
    assert torch.equal(result.image[:, keep], image[:, keep])
    assert caplog.messages == [
        "segment 1 skipped: its mask is empty",
        "segment 2 skipped: its box of 30x14 is already at least guide_size 12"
        " (force_inpaint is off)",
        "segment 3 skipped: its text is [SKIP]",
    ]


def test_without_pasting_a_skipped_segment_stays_and_by_size_carries_its_crop():
    image = noise_image(2, 30, 60)
    result, backend = run_segs(image, MIXED, **SMALL_ONLY)
    left, zero, large, right = result.segs[1]
    assert [seg.label for seg in result.segs[1]] == ["left", "zero", "large", "right"]
    assert zero.cropped_image is None
    assert np.array_equal(large.cropped_image, image[:, 16:30, 20:60].numpy())
    assert left.cropped_image.shape == right.cropped_image.shape == (2, 10, 20, 3)
    assert np.allclose(left.cropped_image, 0.75, atol=1e-5)
    assert len(backend.runs) == 4
    assert result.image is image


def test_stop_leaves_the_rest_undone():
    image = noise_image(1, 30, 60)
    result, backend = run(image, text="red [SEP] [STOP]")
    assert len(backend.runs) == 1
    assert [seg.label for seg in result.segs[1]] == ["left"]
    assert torch.equal(result.image[:, :, 30:], image[:, :, 30:])


@pytest.mark.parametrize(
    "segs", [None, ((30, 60), []), ((0, 0), []), ((30, 60), [ZERO])],
    ids=["none", "empty", "no size", "empty mask"],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_with_nothing_to_do_the_image_passes_through(segs, channels):
    image = noise_image(2, 30, 60, channels=channels)
    result, backend = run(image, segs)
    assert torch.equal(result.image, image.expand(-1, -1, -1, max(3, channels)))
    assert result.segs == ((30, 60), [])
    assert backend.runs == []
    assert (result.cropped, result.refined, result.refined_alpha) == ([], [], [])


# What comes back


def test_the_lists_hold_each_crop_before_and_after():
    image = noise_image(2, 30, 60)
    mask = dot_mask(10, 20, (5, 2, 15, 8))
    segs = ((30, 60), [make_seg(LEFT, mask=mask), make_seg(RIGHT)])
    result, _ = run(image, segs, noise_mask=False, feather=0)
    assert len(result.cropped) == len(result.refined) == len(result.refined_alpha) == 4
    assert torch.equal(result.cropped[0], image[:1, 5:15, 4:24])
    assert torch.equal(result.cropped[3], image[1:, 5:15, 34:54])
    assert result.refined[0].shape == (1, 10, 20, 3)
    assert torch.allclose(result.refined[0], torch.tensor(0.75), atol=1e-5)
    assert result.refined_alpha[0].shape == (1, 10, 20, 4)
    assert torch.equal(result.refined_alpha[0][0, ..., 3], torch.from_numpy(mask))


ROW_OF_EIGHT = ((40, 320), [make_seg((x, 4, x + 32, 36)) for x in range(0, 320, 40)])
CROP = 32 * 32 * 3 * 4  # bytes of a crop


class Forgetful(FakeBackend):
    """Writes nothing down, and weighs what is left of crops as each is sampled."""

    def __init__(self):
        super().__init__(PAINT)
        self.weights = []

    def sample(self, run, on_step):
        for notes in (self.encoded, self.runs):
            notes.clear()
        gc.collect()
        self.weights.append(crops_alive())
        return super().sample(run, on_step)


def crops_alive():
    """Bytes of all tensors of the size of a crop, each memory counted once."""
    sizes = {}
    for thing in gc.get_objects():
        if type(thing) is torch.Tensor and not thing.is_nested and thing.shape[1:3] == (32, 32):
            memory = thing.untyped_storage()
            sizes[memory.data_ptr()] = memory.nbytes()
    return sum(size for size in sizes.values() if size < 8 * CROP)


@pytest.mark.parametrize(
    ("kept", "each"),
    [
        (NO_CROPS, 0),
        (replace(NO_CROPS, cropped=True), 1),
        (replace(NO_CROPS, refined=True), 1),
        (replace(NO_CROPS, segs=True), 1),
        (KeptCrops(segs=False), 1 + 1 + 4 / 3),
        (KeptCrops(), 1 + 1 + 4 / 3 + 1),
    ],
)  # fmt: skip
def test_a_run_keeps_no_more_crops_than_are_wanted(kept, each, request):
    gc.freeze()  # what was there before is not searched again and again
    request.addfinalizer(gc.unfreeze)
    backend = Forgetful()
    image = flat().new_full((1, 40, 320, 3), 0.25)
    result, _ = run(image, ROW_OF_EIGHT, backend=backend, kept=kept, guide_size=32)
    second, *_, last = backend.weights[1:]
    assert (last - second) / CROP == pytest.approx(6 * each)
    wanted = [8 * kept.cropped, 8 * kept.refined, 8 * kept.refined_alpha]
    assert [len(x) for x in (result.cropped, result.refined, result.refined_alpha)] == wanted
    pictures = [seg.cropped_image for seg in result.segs[1]]
    assert len(pictures) == 8
    for picture in pictures:
        assert picture is None if not kept.segs else np.allclose(picture, 0.75, atol=1e-5)
    assert torch.allclose(result.image[:, 4:36, :32], torch.tensor(0.75), atol=1e-5)


def test_alpha_of_a_refined_crop_is_the_feathered_mask():
    mask = dot_mask(40, 60, (20, 10, 40, 30))
    segs = ((60, 90), [make_seg((10, 10, 70, 50), mask=mask)])
    result, _ = run(noise_image(1, 60, 90), segs, feather=3)
    alpha = result.refined_alpha[0][0, ..., 3]
    assert alpha[20, 30] == 1
    assert 0 < alpha[20, 18] < 0.5 < alpha[20, 21] < 1
    assert alpha[20, 16] == 0


def test_segments_come_back_in_working_order_with_all_but_the_picture_as_before():
    control = Wrapper()
    seg = make_seg(LEFT, bbox=(8, 6, 18, 12), label="left", control=control)
    result, _ = run(flat(), ((30, 60), [seg, make_seg(RIGHT, label="right")]), text="[DSC] red")
    shape, (right, left) = result.segs
    assert shape == (30, 60)
    assert (right.label, left.label) == ("right", "left")
    assert isinstance(left, SEG)
    assert (left.crop_region, left.bbox, left.confidence) == (LEFT, (8, 6, 18, 12), 1.0)
    assert left.control_net_wrapper is control
    assert np.array_equal(left.cropped_mask, seg.cropped_mask)
    assert left.cropped_image.dtype == np.float32


class Wrapper:
    """A SEG's ControlNet, as packs make them."""

    def __init__(self):
        self.calls = []

    def apply(self, positive, negative, pixels, mask):
        self.calls.append((tuple(pixels.shape), None if mask is None else tuple(mask.shape)))
        return [*positive, "hinted"], [*negative, "hinted"], [pixels * 0 + 0.5]


def test_a_segments_controlnet_is_applied_to_the_enlarged_crop():
    wrapper = Wrapper()
    segs = ((30, 60), [make_seg(LEFT, control=wrapper), make_seg(RIGHT)])
    result, backend = run(flat(), segs)
    assert wrapper.calls == [((1, 16, 32, 3), (1, 10, 20))]
    assert [r.positive[-1] == "hinted" for r in backend.runs] == [True, False]
    assert [r.negative[-1] == "hinted" for r in backend.runs] == [True, False]
    assert [tuple(image.shape) for image in result.control_images] == [(1, 16, 32, 3)]


def test_kept_segments_lose_their_controlnet():
    segs = ((30, 60), [make_seg(LEFT, control=Wrapper())])
    result, _ = run_segs(flat(), segs)
    assert result.segs[1][0].control_net_wrapper is None
    assert len(result.control_images) == 1


# Values that are not finite


def test_a_crop_that_is_not_finite_is_never_pasted(caplog):
    image = noise_image(1, 30, 60)
    result, backend = run(image, draw=broken_for(6))
    assert len(backend.runs) == 2
    keep = outside(image, LEFT)
    assert torch.equal(result.image[:, keep], image[:, keep])
    assert torch.allclose(result.image[:, ~keep], torch.tensor(0.75), atol=1e-5)
    assert [seg.cropped_image is None for seg in result.segs[1]] == [False, True]
    assert len(result.refined) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Segment 1 keeps its original pixels" in caplog.text


HALF = fake_models(FakeVAE(4, half=True))  # decodes to NaN, but not in float32


def test_a_vae_that_fails_is_tried_once_more_in_float32(caplog):
    image = noise_image(1, 30, 60)
    result, backend = run(image, models=HALF)
    expected, _ = run(image)
    assert torch.equal(result.image, expected.image)
    assert len(backend.runs) == 2  # sampled once for each segment
    assert len(backend.decoded) == 4
    assert "Segment 0 is made again with the VAE in float32" in caplog.text


def test_where_the_latent_is_broken_too_the_whole_way_is_gone_again():
    def draw(sampler_run):
        first = len(backend.runs) == 1
        return sampler_run.latent * torch.nan if first else PAINT(sampler_run)

    backend = FakeBackend(draw)
    result, _ = run(noise_image(1, 30, 60), models=HALF, backend=backend)
    assert len(backend.runs) == 3
    assert torch.allclose(result.image[:, 5:15, 4:24], torch.tensor(0.75), atol=1e-5)


def test_what_float32_does_not_mend_is_left_out(caplog):
    image = noise_image(1, 30, 60)
    result, backend = run(image, draw=lambda run: run.latent * torch.nan, models=HALF)
    assert torch.equal(result.image, image)
    assert len(backend.runs) == 4
    assert caplog.text.count("keeps its original pixels: the model gave values that are not") == 2


def test_nothing_but_black_is_left_out_unless_the_image_was_black(caplog):
    image = noise_image(1, 30, 60)
    image[:, :, 30:] = 0.02
    result, _ = run(image, draw=fill(0.0))
    x1, y1, x2, y2 = RIGHT
    assert torch.equal(result.image[:, :, :30], image[:, :, :30])
    assert (result.image[:, y1:y2, x1:x2] == 0).all()
    assert "Segment 0 keeps its original pixels: the model gave nothing but black" in caplog.text
    assert "segment 1" not in caplog.text


def test_the_shift_of_a_vae_is_taken_back_on_request():
    class Shifting(FakeBackend):
        def decode(self, vae, latent, *, tiled, tile=None):
            return super().decode(vae, latent, tiled=tiled) * 0.96 + 0.03

    image = torch.full((1, 90, 120, 3), 0.4)
    mask = np.zeros((60, 80), np.float32)
    mask[24:36, 32:48] = 1
    segs = ((90, 120), [make_seg((20, 15, 100, 75), (52, 39, 68, 51), mask)])
    options = {"feather": 6, "guide_size": 48, "max_size": 256}
    shifted, _ = run(image, segs, backend=Shifting(identity), **options)
    restored, _ = run(image, segs, backend=Shifting(identity), restore_kept=True, **options)
    assert shifted.image[0, 45, 60].tolist() == pytest.approx([0.4 * 0.96 + 0.03] * 3, abs=2e-3)
    assert (restored.image - image).abs().max() < 1e-3


def test_the_size_of_the_model_is_a_policy():
    segs = ((30, 60), [make_seg(LEFT)])  # 20x10
    _, backend = run(noise_image(1, 30, 60), segs, policy=NATIVE)
    image = noise_image(1, 30, 60)[:, 5:15, 4:24]
    seen = resize(image, Size(44, 24))  # the fake model's 32x32, in steps of 4
    assert torch.equal(backend.encoded[0], seen)
    _, backend = run(noise_image(1, 30, 60), segs, policy=NATIVE, area=16 * 16)
    assert torch.equal(backend.encoded[0], resize(image, Size(24, 12)))


def test_a_failed_crop_of_one_image_does_not_harm_the_others():
    calls = []

    def draw(run):
        calls.append(run)
        return broken_for(5 if len(calls) == 2 else -1)(run)

    image = noise_image(3, 30, 60)
    result, _ = run(image, ((30, 60), [make_seg(LEFT)]), draw)
    assert torch.equal(result.image[1], image[1])
    for row in (0, 2):
        assert torch.allclose(result.image[row, 5:15, 4:24], torch.tensor(0.75), atol=1e-5)
    assert result.segs[1][0].cropped_image is None  # no array could hold all three


def test_without_pasting_a_failed_crop_stays_as_it_was(caplog):
    image = noise_image(1, 30, 60)
    result, _ = run_segs(image, draw=broken_for(6))
    assert np.array_equal(result.segs[1][0].cropped_image, image[:, 5:15, 4:24].numpy())
    assert len(caplog.records) == 2


# Progress and interrupts


def test_one_bar_counts_segments_cycles_and_steps_and_ends_at_its_total():
    _, backend = run(flat(batch=2), cycle=3)
    (bar,) = backend.bars
    assert bar.total == 2 * 2 * 3 * 4
    assert bar.done == sorted(bar.done)
    assert set(bar.done) == set(range(1, 49))
    assert bar.done[-1] == 48


def test_skipped_segments_are_not_on_the_bar():
    _, backend = run(flat(), MIXED, **SMALL_ONLY)
    assert backend.bars[0].total == backend.bars[0].done[-1] == 8


@pytest.mark.parametrize("steps", [0, 1, 4, 6])
def test_an_interrupt_leaves_the_given_image_untouched(steps):
    image = noise_image(1, 30, 60)
    before = image.clone()
    backend = FakeBackend(fill(0.75), stop_after=steps)
    with pytest.raises(Interrupted):
        run(image, backend=backend)
    assert torch.equal(image, before)
    assert len(backend.bars[0].done) <= steps + 1  # a finished segment reports once more


def test_after_an_interrupt_a_new_run_is_whole():
    image = noise_image(1, 30, 60)
    expected, _ = run(image, draw=grain)
    with pytest.raises(Interrupted):
        run(image, backend=FakeBackend(grain, stop_after=5))
    again, _ = run(image, draw=grain)
    assert torch.equal(again.image, expected.image)


# Kept segments


def test_version_b_uses_seed_plus_one_plus_b_for_every_segment():
    result, backend = run_segs(flat(), batch_size=3, seed=100, cycle=2)
    assert backend.seeds == [101, 102, 101, 102, 102, 103, 102, 103, 103, 104, 103, 104]
    assert [seg.label for seg in result.segs[1]] == ["left", "right"] * 3
    assert backend.bars[0].total == backend.bars[0].done[-1] == 3 * 2 * 2 * 4


def test_a_segments_own_picture_is_used_instead_of_the_image():
    own = ramp_image(1, 10, 20).numpy()
    segs = ((30, 60), [make_seg(LEFT, image=own), make_seg(RIGHT)])
    result, backend = run_segs(flat(), segs, brighten(0.0))
    assert np.allclose(result.segs[1][0].cropped_image, own, atol=0.02)
    assert np.allclose(result.segs[1][1].cropped_image, 0.25, atol=1e-5)
    assert backend.encoded[0].shape == (1, 16, 32, 3)


def test_a_segments_own_picture_keeps_its_own_size_and_count():
    own = np.full((2, 5, 40, 4), 0.25, np.float32)
    result, backend = run_segs(flat(), ((30, 60), [make_seg(LEFT, image=own)]))
    assert result.segs[1][0].cropped_image.shape == (2, 5, 40, 3)
    assert np.allclose(result.segs[1][0].cropped_image, 0.75, atol=1e-5)
    assert backend.bars[0].total == 2 * 4


def test_pasting_takes_the_crop_from_the_image_whatever_the_segment_brings():
    own = np.full((1, 10, 20, 3), 0.9, np.float32)
    _, backend = run(flat(), ((30, 60), [make_seg(LEFT, image=own)]))
    assert torch.allclose(backend.encoded[0], torch.tensor(0.25), atol=1e-5)


def test_kept_segments_do_not_see_each_other():
    _, backend = run_segs(flat(), OVERLAPPING)
    assert all(torch.allclose(pixels, torch.tensor(0.25)) for pixels in backend.encoded)


def test_a_segment_is_kept_from_the_image_that_it_belongs_to():
    image = torch.cat([flat(value) for value in (0.125, 0.25, 0.5)])
    items = [in_batch(2, 3, LEFT), in_batch(0, 3, RIGHT)]
    result, backend = run_segs(image, ((30, 60), items), draw=brighten(0.25), batch_size=2)
    assert len(backend.seeds) == 4
    assert [seg.batch_image for seg in result.segs[1]] == [BatchImage(2, 3), BatchImage(0, 3)] * 2
    for seg, value in zip(result.segs[1], (0.75, 0.375, 0.75, 0.375), strict=True):
        assert seg.cropped_image.shape == (1, 10, 20, 3)
        assert np.allclose(seg.cropped_image, value, atol=1e-4)
    (every,) = run_segs(image, ((30, 60), [make_seg(LEFT)]))[0].segs[1]
    assert every.batch_image == BatchImage(None, 3)


def test_a_batch_of_images_gives_a_picture_each_with_the_same_seed():
    image = torch.cat([flat(0.25), flat(0.5)])
    result, backend = run_segs(image, draw=lambda run: masked(run, run.latent * 0.5))
    assert backend.seeds == [6, 6, 6, 6]
    assert [round(float(row.mean()), 4) for row in result.segs[1][0].cropped_image] == [0.125, 0.25]


def test_a_clips_masks_are_united_for_a_still_image():
    masks = np.stack([dot_mask(10, 20, (0, 0, 5, 10)), dot_mask(10, 20, (15, 0, 20, 10))])
    image = flat()
    result, _ = run(image, ((30, 60), [make_seg(LEFT, mask=masks)]), noise_mask=False)
    row = result.image[0, 10, 4:24, 0]
    assert row.tolist() == pytest.approx([0.75] * 5 + [0.25] * 10 + [0.75] * 5, abs=1e-5)
