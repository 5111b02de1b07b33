"""Segment texts as conditionings: they are expanded and encoded once in a run, with LoRAs."""

import pytest
import torch
from detailers.core.prompts.segment_text import SegmentTexts
from detailers.tests.fake_backend import FakeBackend, FakeClip, fake_models, text_of
from detailers.wildcards.grammar import WildcardError
from detailers.wildcards.library import Library


@pytest.fixture
def backend():
    return FakeBackend()


def texts_of(models):
    return [options["text"] for _, options in models.positive]


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_no_text_keeps_the_nodes_models(backend, text):
    models = fake_models()
    assert SegmentTexts(backend, models).apply(text, 0, concat=False) is models
    assert backend.texts == []


def test_a_text_replaces_the_positive_alone(backend):
    models = fake_models()
    changed = SegmentTexts(backend, models).apply("red hat", 0, concat=False)
    assert texts_of(changed) == ["red hat"]
    assert changed._replace(positive=models.positive) == models


def test_the_pooled_vector_is_the_new_texts_own(backend):
    changed = SegmentTexts(backend, fake_models()).apply("red hat", 0, concat=False)
    assert changed.positive[0][1]["pooled_output"].tolist() == [[7.0]]


def test_concat_puts_the_texts_tokens_after_those_of_the_positive(backend):
    models = fake_models(positive=text_of("positive", words=3))
    changed = SegmentTexts(backend, models).apply("red hats", 0, concat=True)
    ((tokens, options),) = changed.positive
    assert tokens.tolist() == [[[1, 1], [1, 1], [1, 1], [3, 3], [4, 4]]]
    assert options["text"] == "positive"


def test_break_joins_the_tokens_of_its_chunks(backend):
    changed = SegmentTexts(backend, fake_models()).apply("red BREAK blue sky", 0, concat=False)
    assert [text for _, text in backend.texts] == ["red", "blue sky"]
    assert changed.positive[0][0][0, :, 0].tolist() == [3, 4, 3]


def test_each_distinct_text_is_encoded_once(backend):
    texts = SegmentTexts(backend, fake_models())
    for text in ("red", "blue", "red", "blue  ", "red BREAK blue"):
        texts.apply(text, 0, concat=False)
    texts.apply("red", 9, concat=True)
    assert [text for _, text in backend.texts] == ["red", "blue", "red", "blue"]


def test_each_set_of_loras_is_loaded_once_and_patches_model_and_clip(backend):
    texts = SegmentTexts(backend, fake_models())
    first = texts.apply("red <lora:ink:0.5>", 0, concat=False)
    second = texts.apply("<lora:ink:0.5> blue", 1, concat=False)
    third = texts.apply("blue <lora:ink:0.5><lora:oil>", 2, concat=False)
    assert backend.loras == [("ink",), ("ink", "oil")]
    assert first.model is second.model
    assert first.model.loras == first.clip.loras == ("ink",)
    assert third.model.loras == ("ink", "oil")
    assert backend.texts == [
        (FakeClip(("ink",)), "red"),
        (FakeClip(("ink",)), "blue"),
        (FakeClip(("ink", "oil")), "blue"),  # another CLIP, so not the same encoding
    ]


def test_loras_do_not_leak_into_the_next_text(backend):
    texts = SegmentTexts(backend, fake_models())
    texts.apply("<lora:ink> red", 0, concat=False)
    assert texts.apply("red", 0, concat=False).model.loras == ()
    assert backend.texts[-1] == (FakeClip(), "red")


def test_loras_alone_keep_the_positive(backend):
    models = fake_models()
    changed = SegmentTexts(backend, models).apply("<lora:ink>", 0, concat=False)
    assert changed.positive is models.positive
    assert changed.model.loras == ("ink",)
    assert backend.texts == []


def test_the_seed_makes_the_choice(backend):
    texts = SegmentTexts(backend, fake_models())
    picked = [texts_of(texts.apply("{red|green|blue}", seed, concat=False)) for seed in range(20)]
    again = [texts_of(texts.apply("{red|green|blue}", seed, concat=False)) for seed in range(20)]
    assert picked == again
    assert {text for (text,) in picked} == {"red", "green", "blue"}
    assert len(backend.texts) == 3


def test_lists_come_from_the_backends_library(tmp_path):
    (tmp_path / "shade.txt").write_text("crimson\n")
    backend = FakeBackend(library=Library([tmp_path]))
    changed = SegmentTexts(backend, fake_models()).apply("a __shade__ sky", 0, concat=False)
    assert texts_of(changed) == ["a crimson sky"]


def test_a_list_that_never_ends_is_an_error(tmp_path):
    (tmp_path / "loop.txt").write_text("__loop__\n")
    texts = SegmentTexts(FakeBackend(library=Library([tmp_path])), fake_models())
    with pytest.raises(WildcardError):
        texts.apply("__loop__", 0, concat=False)


def test_the_nodes_conditioning_stays_as_it_was(backend):
    models = fake_models()
    before = models.positive[0][0].clone()
    texts = SegmentTexts(backend, models)
    texts.apply("red", 0, concat=False)
    texts.apply("red", 0, concat=True)
    assert torch.equal(models.positive[0][0], before)
    assert texts_of(models) == ["positive"]
