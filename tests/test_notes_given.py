"""Notes are given if something does not fit, and none are given if it does."""

import pytest
import torch
from detailers.core.geometry import Size
from detailers.core.pixels.mask import fitted_mask
from detailers.core.segs.classify import Condition
from detailers.core.segs.edit import assign_labels, combine_with_masks
from detailers.core.segs.filter import closest_to_mask, pick
from detailers.core.segs.seg import normalise
from detailers.tests.fake_backend import FakeVAE, fake_models, make_seg
from detailers.tests.test_crop_pipeline import enhance
from detailers.utils.notes import collected_notes

TWO = ((30, 60), [make_seg((0, 0, 60, 30)), make_seg((10, 5, 40, 25))])


def told(act):
    with collected_notes() as notes:
        act()
    return [(note.kind, note.text) for note in notes]


def dots(*places, side=64):
    mask = torch.zeros(1, side, side)
    for y, x in places:
        mask[0, y, x] = 1
    return mask


def test_a_mask_that_is_lost_in_the_latent_is_told():
    pixels = torch.full((1, 64, 64, 3), 0.5)
    lost = dots((8, 8), (8, 9), (8, 10))  # the latent looks at pixels 3 and 4 of 8

    def told_of(mask, **options):
        models = fake_models(FakeVAE(8))
        return told(lambda: enhance(pixels, (64, 64), mask, models=models, **options))

    ((kind, text),) = told_of(lost)
    assert kind == "mask"
    assert "mask of segment 0 is too small for the latent: at the latent's size of 8x8" in text
    assert "only 0% of its strongest value is left" in text
    assert told_of(dots((11, 11), (11, 12), (12, 11), (12, 12))) == []
    assert told_of(torch.zeros(1, 64, 64)) == []
    assert told_of(lost, noise_mask=False) == []


@pytest.mark.parametrize("size", [(60, 30), (120, 60), (121, 60)])
def test_sizes_of_the_same_shape_are_not_told(size):
    assert told(lambda: fitted_mask(torch.ones(1, 30, 60), Size(*size), "mask")) == []
    assert told(lambda: normalise(TWO, Size(*size), "segs")) == []


def test_a_stretched_mask_is_told():
    assert told(lambda: fitted_mask(torch.ones(1, 30, 60), Size(60, 60), "mask2")) == [
        (
            "mask",
            "The mask of 'mask2' has 60x30 pixels and is stretched to 60x60. Give a mask of the"
            " same shape, so that it stays where it is.",
        )
    ]


def test_segs_of_an_image_of_another_shape_are_told():
    ((kind, text),) = told(lambda: normalise(TWO, Size(60, 60), "segs"))
    assert kind == "size"
    assert "segs is made for an image of 60x30 pixels and is stretched to one of 60x60" in text


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ("a", "'labels' names 1 label for 2 segments: the others keep theirs. Give one for each."),
        ("a,b,c", "3 labels for 2 segments: the last ones are not used."),
        ("a,b", None),
    ],
)
def test_numbers_of_labels_are_told(labels, text):
    notes = told(lambda: assign_labels(TWO, labels))
    assert [kind for kind, _ in notes] == (["labels"] if text else [])
    assert all(text in sentence for _, sentence in notes)


@pytest.mark.parametrize(("count", "words"), [(1, "left out"), (3, "not used"), (2, None)])
def test_numbers_of_masks_are_told(count, words):
    notes = told(lambda: combine_with_masks(TWO, torch.ones(count, 30, 60), torch.minimum))
    assert [kind for kind, _ in notes] == (["batch"] if words else [])
    assert all(words in text for _, text in notes)


@pytest.mark.parametrize(("numbers", "beyond"), [("1,2", None), ("0 2 5", "0, 5"), ("3", "3")])
def test_numbers_that_no_segment_has_are_told(numbers, beyond):
    notes = told(lambda: pick(TWO, numbers))
    assert [f"names {beyond}, but there are only 2 segments" in text for _, text in notes] == (
        [True] if beyond else []
    )


def test_masks_of_a_batch_that_the_segments_know_nothing_of_are_told():
    ((kind, text),) = told(lambda: closest_to_mask(TWO, torch.ones(3, 30, 60), 0.5))
    assert kind == "batch"
    assert "There are 3 masks, but the segments know of no batch" in text
    assert told(lambda: closest_to_mask(TWO, torch.ones(1, 30, 60), 0.5)) == []


def test_a_condition_of_unknown_labels_is_told():
    labels = ["Cat", "woman"]
    for fits in ("cat > 0.5", "#female > #Female", "woman > Cat"):
        assert told(lambda: Condition.parse(fits).tell_unknown(labels)) == []  # noqa: B023
    ((kind, text),) = told(lambda: Condition.parse("dog > cat").tell_unknown(labels))
    assert kind == "labels"
    assert text == (
        "The classifier has no label 'dog', so no segment meets the condition. Its labels are:"
        " 'Cat', 'woman'."
    )
