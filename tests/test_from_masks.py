"""Segments from masks, for the images of a batch."""

import pytest
import torch
from detailers.core.hook_protocol import Hook
from detailers.core.segs.from_masks import segs_for_images


def boxes(*rectangles, height=20, width=30):
    """One mask for each rectangle."""
    masks = torch.zeros(len(rectangles), height, width)
    for mask, (x1, y1, x2, y2) in zip(masks, rectangles, strict=True):
        mask[y1:y2, x1:x2] = 1
    return masks


def regions(mask, count, hook=None):
    """The bounding boxes that each image gets, from the left."""
    found = segs_for_images(mask, count, Hook(hook), crop_factor=1.0, drop_size=1)
    return [sorted(seg.bbox for seg in segs) for _, segs in found]


A, B, C = (2, 3, 8, 9), (12, 3, 18, 15), (22, 1, 28, 7)


@pytest.mark.parametrize(
    ("masks", "count", "expected"),
    [
        ([A, B], 2, [[A], [B]]),  # one for each
        ([A], 3, [[A], [A], [A]]),
        ([A, B], 1, [[A, B]]),
        ([A, B, C], 2, [[A, B, C], [A, B, C]]),  # no way to tell: all for every image
    ],
)
def test_masks_go_with_their_images_or_with_all(masks, count, expected):
    assert regions(boxes(*masks), count) == expected


def test_empty_masks_give_no_segments():
    assert regions(torch.zeros(2, 20, 30), 2) == [[], []]


def test_a_hook_moves_crop_regions_within_the_image():
    class Wider:
        def post_crop_region(self, width, height, bbox, crop_region):
            assert (width, height) == (30, 20)
            x1, y1, x2, y2 = crop_region
            return (x1 - 4, y1 - 1, x2 + 4, y2 + 1)

    (found,) = segs_for_images(boxes(A), 1, Hook(Wider()), crop_factor=1.0, drop_size=1)
    (seg,) = found[1]
    assert (seg.crop_region, seg.bbox) == ((0, 2, 12, 10), A)
    assert seg.cropped_mask.shape == (8, 12)
    assert seg.cropped_mask.sum() == 36
