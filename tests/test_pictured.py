"""What encoders made of pictures is made again of the pictures of a crop, and only where needed."""

import pytest
import torch
from detailers.core.detail.references import References
from detailers.core.geometry import Box, Size
from detailers.core.pixels.crop_view import Cut
from detailers.core.pixels.resample import resize
from detailers.core.prompts.pictured import Pictured, Showing
from detailers.core.prompts.segment_text import AddedText, SegmentTexts
from detailers.core.settings import NEGATIVE_PLACEHOLDER
from detailers.tests.fake_backend import FakeBackend, FakeClip, FakeVAE, fake_models, noise_image
from detailers.utils.notes import collected_notes

WHOLE, CROP, PERSON = (torch.full((1, 2, 2, 3), value) for value in (0.1, 0.2, 0.3))


class Call:
    """An encoder whose embedding is the pictures' sum, for each of two spans of steps."""

    def __init__(self, *pictures):
        self.pictures = pictures
        self.asked = []

    def again(self, pictures):
        self.asked.append(tuple(pictures))
        total = sum(float(picture.mean()) for picture in pictures)
        return [(torch.full((1, 1, 2), total + index), {"pooled_output": index, "new": 1})
                for index in (0, 1)]  # fmt: skip

    def with_text(self, clip, text, pictures):
        self.asked.append((clip, text, *pictures))
        return [[torch.full((1, 1, 2), 9.0), {"text": text}]]


def fit(picture):
    return CROP if picture is WHOLE else picture


@pytest.fixture
def backend():
    return FakeBackend()


def entries(backend, call, **options):
    """A conditioning of two entries that the call gave."""
    made = []
    for index in (0, 1):
        embedding, own = torch.zeros(1, 1, 2), {"pooled_output": f"old {index}", "gone": 5}
        backend.shown.append((embedding, Pictured(call, index, own)))
        made.append([embedding, {"pooled_output": own["pooled_output"], **options}])
    return made


def test_each_entry_becomes_its_own_result_of_one_call(backend):
    call = Call(WHOLE, PERSON)
    old = entries(backend, call, strength=0.5)
    showing = Showing(backend, fit)
    new = showing.conditioning(old)
    assert call.asked == [(CROP, PERSON)]
    assert [float(embedding[0, 0, 0]) for embedding, _ in new] == pytest.approx([0.5, 1.5])
    assert [options for _, options in new] == [
        {"pooled_output": index, "new": 1, "strength": 0.5} for index in (0, 1)
    ]
    assert [options["pooled_output"] for _, options in old] == ["old 0", "old 1"]
    showing.conditioning(old)
    assert len(call.asked) == 1


def test_an_option_that_a_node_set_in_the_place_of_the_encoders_stays(backend):
    old = entries(backend, Call(WHOLE))
    old[0][1]["pooled_output"] = "of a node"
    new = Showing(backend, fit).conditioning(old)
    assert [options["pooled_output"] for _, options in new] == ["of a node", 1]


def test_nothing_changes_without_a_picture_of_the_image(backend):
    call = Call(PERSON)
    old = entries(backend, call)
    models = fake_models(positive=old)
    showing = Showing(backend, fit)
    assert showing.conditioning(old) is old and showing.models(models) is models
    assert showing.conditioning(NEGATIVE_PLACEHOLDER) == NEGATIVE_PLACEHOLDER
    assert showing.conditioning(["anything"]) == ["anything"]
    assert call.asked == []


def test_a_segments_text_is_put_in_the_place_of_the_nodes(backend):
    call, negative = Call(WHOLE), Call(PERSON)
    models = fake_models(positive=entries(backend, call), negative=entries(backend, negative))
    texts, showing = SegmentTexts(backend, models), Showing(backend, fit)
    changed = texts.apply("cat", 0, concat=False, added=AddedText(negative="dog"), showing=showing)
    assert [options["text"] for _, options in changed.positive] == ["cat"]
    assert [options["text"] for _, options in changed.negative] == ["dog"]
    assert call.asked == [(models.clip, "cat", CROP)]
    assert negative.asked == [(models.clip, "dog", PERSON)]
    assert backend.texts == []


@pytest.mark.parametrize("pictures", [(WHOLE,), ()])
def test_pictures_that_cannot_be_shown_with_a_segments_text_are_told(backend, pictures):
    class Unlike(Call):
        def with_text(self, clip, text, pictures):
            return None

    models = fake_models(positive=entries(backend, Unlike(*pictures)))
    with collected_notes() as notes:
        changed = SegmentTexts(backend, models).apply(
            "two words", 0, concat=False, showing=Showing(backend, fit)
        )
    assert [text for _, text in backend.texts] == ["two words"]
    assert len(changed.positive) == 1
    assert [own.kind for own in notes] == ["text"] * len(pictures)


def test_a_text_with_its_lora_and_chunks(backend):
    call = Call(WHOLE)
    models = fake_models(positive=entries(backend, call))
    texts = SegmentTexts(backend, models)
    changed = texts.apply(
        "cat <lora:ink> BREAK two words", 0, concat=False, showing=Showing(backend, fit)
    )
    assert call.asked == [(FakeClip(("ink",)), "cat", CROP)]
    assert [text for _, text in backend.texts] == ["two words"]
    assert changed.positive[0][0][0, :, 0].tolist() == [9, 3, 5]


def test_a_text_that_is_added_joins_what_the_crop_says(backend):
    call = Call(WHOLE)
    texts = SegmentTexts(backend, fake_models(positive=entries(backend, call)))
    changed = texts.apply("two words", 0, concat=True, showing=Showing(backend, fit))
    assert changed.positive[0][0][0, :, 0].tolist() == pytest.approx([0.2, 3, 5])


def test_only_lora_texts_keep_the_positive_that_was_made_again(backend):
    call = Call(WHOLE)
    texts = SegmentTexts(backend, fake_models(positive=entries(backend, call)))
    changed = texts.apply("<lora:ink>", 0, concat=False, showing=Showing(backend, fit))
    assert float(changed.positive[0][0][0, 0, 0]) == pytest.approx(0.2)


# Which picture a crop shows

CUT = Cut(Size(128, 64), Box(32, 16, 96, 48), Size(96, 48), Size(96, 48), 1)


def seen(image, picture, choice="auto", cut=CUT):
    def drawn(size, count):
        part = image[cut.row : cut.row + 1, 16:48, 32:96]
        return resize(part, size).expand(count, -1, -1, -1)

    return References(choice, image, FakeVAE(), FakeBackend()).seen(picture, cut, drawn)


@pytest.mark.parametrize("width", [100, 300])
def test_the_crop_has_as_many_pixels_as_the_picture_had(width):
    image = noise_image(1, 64, 128)
    shown = resize(image, Size(width, width // 2))
    found = seen(image, shown, cut=Cut(CUT.image, CUT.region, Size(90, 60), Size(90, 60), 1))
    assert found.shape[1] * found.shape[2] == pytest.approx(width * width // 2, rel=0.03)
    assert found.shape[2] / found.shape[1] == pytest.approx(1.5, rel=0.03)


def test_another_picture_stays_or_gives_its_part():
    image, other = noise_image(1, 64, 128), noise_image(1, 64, 128, seed=5)
    assert seen(image, other) is other
    assert seen(image, image, "whole") is image
    part = seen(image, other, "crop")
    expected = resize(other[:, 16:48, 32:96], Size(part.shape[2], part.shape[1]))
    assert part.shape == expected.shape
    assert float((part - expected).abs().mean()) < 0.05
    assert float((part - seen(image, image)).abs().mean()) > 0.1


def test_each_image_of_a_batch_has_its_own_picture():
    images = noise_image(2, 64, 128)
    second = Cut(*(getattr(CUT, name) for name in ("image", "region", "working", "canvas")), 1,
                 row=1, rows=2)  # fmt: skip
    found = seen(images, images, cut=second)
    size = Size(found.shape[2], found.shape[1])
    torch.testing.assert_close(found, resize(images[1:, 16:48, 32:96], size))
