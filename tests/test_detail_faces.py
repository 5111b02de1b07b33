"""Detection and detailing in one step, for each image of a batch separately."""

import numpy as np
import pytest
import torch
from detailers.core.detail.faces import Finder, detail_faces
from detailers.core.detail.images import detail_each, detail_image
from detailers.core.detectors.detect import DetectionOptions
from detailers.core.segs.seg import SEG
from detailers.tests.fake_backend import FakeBackend, fill, grain, make_detail, make_seg, outside

SETTINGS = DetectionOptions(bbox_threshold=0.5, bbox_dilation=0, crop_factor=1.0, drop_size=1)


class BrightDetector:
    """Finds the box around what is brighter than the threshold, in the first image it is given."""

    def __init__(self):
        self.told = []

    def setAux(self, text):
        self.told.append(text)

    def detect(self, image, threshold, dilation, crop_factor, drop_size=1, detailer_hook=None):
        height, width = image.shape[1:3]
        rows, columns = torch.nonzero(image[0].amax(-1) > threshold, as_tuple=True)
        if not len(rows):
            return (height, width), []
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        mask = np.ones((box[3] - box[1], box[2] - box[0]), np.float32)
        return (height, width), [SEG(None, mask, 0.9, box, box, "bright")]


def spots(*boxes, height=40, width=60):
    """Images of 0.25 with one box of 0.6 each; None for an image without."""
    images = torch.full((len(boxes), height, width, 3), 0.25)
    for image, box in zip(images, boxes, strict=True):
        if box:
            x1, y1, x2, y2 = box
            image[y1:y2, x1:x2] = 0.6
    return images


def run(image, detector=None, draw=None, **options):
    finder = Finder(detector or BrightDetector(), SETTINGS)
    backend = FakeBackend(draw or fill(0.75))
    return *detail_faces(image, finder, make_detail(**options), backend), backend


FIRST, SECOND = (4, 4, 24, 20), (30, 10, 54, 34)


def test_each_image_is_searched_and_detailed_by_itself():
    image = spots(FIRST, None, SECOND)
    result, mask, _ = run(image)
    for row, box in ((0, FIRST), (2, SECOND)):
        keep = outside(image, box)
        assert torch.equal(result.image[row, keep], image[row, keep])
        assert torch.allclose(result.image[row, ~keep], torch.tensor(0.75), atol=1e-5)
        assert torch.equal(mask[row] == 0, keep)
    assert torch.equal(result.image[1], image[1])
    assert mask.shape == (3, 40, 60)
    assert sorted(mask.unique().tolist()) == [0.0, 1.0]
    assert not mask[1].any()
    for pixels, alpha, (height, width) in zip(
        result.refined, result.refined_alpha, [(16, 20), (24, 24)], strict=True
    ):
        assert pixels.shape == (1, height, width, 3)
        assert torch.allclose(pixels, torch.tensor(0.75), atol=1e-5)
        assert torch.equal(alpha, torch.cat([pixels, torch.ones(1, height, width, 1)], dim=-1))
    assert [seg.crop_region for seg in result.segs[1]] == [FIRST, SECOND]


def test_a_batch_equals_its_singles():
    image = spots(FIRST, SECOND)
    together, _, backend = run(image, draw=grain)
    singles = [run(single, draw=grain)[0].image for single in image.split(1)]
    assert torch.equal(together.image, torch.cat(singles))
    assert backend.seeds == [5, 5]


def test_the_detector_is_told_to_look_for_faces_and_to_forget_it():
    detector = BrightDetector()
    run(spots(FIRST, SECOND), detector)
    assert detector.told == ["face", None, "face", None]


def test_it_forgets_even_after_an_error():
    class Broken(BrightDetector):
        def detect(self, *args, **options):
            raise RuntimeError("no weights")

    detector = Broken()
    with pytest.raises(RuntimeError, match="no weights"):
        run(spots(FIRST), detector)
    assert detector.told == ["face", None]


def test_a_detector_need_not_take_texts():
    class Bare:
        detect = BrightDetector.detect

    result, mask, _ = run(spots(FIRST), Bare())
    assert torch.equal(mask[0] == 0, outside(mask[..., None], FIRST))
    assert torch.allclose(result.image[:, mask[0] == 1], torch.tensor(0.75), atol=1e-5)


def test_nothing_found_leaves_the_images_as_they_are():
    image = spots(None, None)
    result, mask, backend = run(image)
    assert result.image is image
    assert torch.equal(mask, torch.zeros(2, 40, 60))
    assert result.refined == [] == backend.runs


def test_a_segm_detector_cuts_the_masks_down():
    class Left(BrightDetector):
        """Finds the left half of the image."""

        def detect(self, image, *args, **options):
            height, width = image.shape[1:3]
            box = (0, 0, 14, height)
            mask = np.ones((height, 14), np.float32)
            return (height, width), [SEG(None, mask, 0.9, box, box, "left")]

    image = spots(FIRST)
    finder = Finder(BrightDetector(), SETTINGS, segm_detector=Left())
    result, mask = detail_faces(image, finder, make_detail(), FakeBackend(fill(0.75)))
    keep = outside(image, (4, 4, 14, 20))
    assert torch.equal(result.image[0, keep], image[0, keep])
    assert torch.equal(mask[0] == 0, keep)


def test_one_progress_bar_counts_all_images():
    _, _, backend = run(spots(FIRST, None, SECOND), steps=4, cycle=2)
    (bar,) = backend.bars
    assert (bar.total, bar.done[-1]) == (16, 16)


# The core's part: segments of its own for each image


def test_detail_each_gives_every_image_its_own_segments():
    image = torch.full((2, 30, 60, 3), 0.25)
    left, right = (4, 5, 24, 15), (34, 5, 54, 15)
    segs = [((30, 60), [make_seg(left)]), ((30, 60), [make_seg(left), make_seg(right)])]
    result = detail_each(image, segs, make_detail(), FakeBackend(fill(0.75)))
    singles = [detail_image(image[:1], own, make_detail(), FakeBackend(fill(0.75))) for own in segs]
    assert torch.equal(result.image, torch.cat([single.image for single in singles]))
    assert [seg.crop_region for seg in result.segs[1]] == [left, left, right]
    for seg in result.segs[1]:
        assert seg.cropped_image.shape == (1, 10, 20, 3)
        np.testing.assert_allclose(seg.cropped_image, 0.75, atol=1e-5)


def test_detail_each_with_the_same_segments_is_detail_image():
    image = torch.rand(2, 30, 60, 4, generator=torch.Generator().manual_seed(1))
    segs = ((30, 60), [make_seg((4, 5, 24, 15)), make_seg((14, 5, 34, 15))])
    each = detail_each(image, [segs, segs], make_detail(), FakeBackend(grain))
    both = detail_image(image, segs, make_detail(), FakeBackend(grain))
    assert torch.equal(each.image, both.image)
