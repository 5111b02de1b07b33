"""Segment texts as conditionings: they are expanded and encoded once in a run, with LoRAs."""

import pytest
import torch
from detailers.core.prompts.segment_text import AddedText, SegmentTexts
from detailers.core.settings import NEGATIVE_PLACEHOLDER
from detailers.tests.fake_backend import FakeBackend, FakeClip, fake_models, text_of
from detailers.utils.notes import collected_notes
from detailers.wildcards.grammar import Lora, WildcardError
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


# What a segment plan adds


def added_to(backend, text=None, concat=False, models=None, **added):
    models = models or fake_models(positive=text_of("positive", words=2))
    return SegmentTexts(backend, models).apply(text, 0, concat, AddedText(**added))


def tokens_of(conditioning):
    return [token[0] for token in conditioning[0][0][0].tolist()]


def test_a_text_before_puts_its_tokens_before_those_of_the_positive(backend):
    assert tokens_of(added_to(backend, before="red hats").positive) == [3, 4, 1, 1]
    assert tokens_of(added_to(backend, "sky", concat=True, before="red").positive) == [3, 1, 1, 3]


def test_a_negative_text_replaces_the_negative_alone(backend):
    models = fake_models()
    changed = added_to(backend, models=models, negative="red hat")
    assert changed.positive is models.positive
    assert changed.negative[0][1]["text"] == "red hat"
    assert added_to(backend, models=models, negative="").negative[0][1]["text"] == ""


def test_a_placeholder_for_the_negative_stays(backend):
    models = fake_models(negative=NEGATIVE_PLACEHOLDER)
    with collected_notes() as notes:
        assert added_to(backend, models=models, negative="red").negative == NEGATIVE_PLACEHOLDER
    assert ["negative" in note.text for note in notes] == [True]
    assert backend.texts == []


def test_added_loras_patch_the_models_and_encode_the_texts(backend):
    ink = Lora("ink", 0.5, 0.5)
    changed = added_to(backend, "red <lora:oil:1>", negative="blue", loras=(ink,))
    assert backend.loras == [("oil", "ink")]
    assert changed.model.loras == ("oil", "ink")
    assert backend.texts == [(FakeClip(("oil", "ink")), text) for text in ("red", "blue")]


def test_an_added_lora_wins_over_its_namesake_and_may_take_it_away(backend):
    texts = SegmentTexts(backend, fake_models())
    seen = []
    backend.apply_loras = lambda model, clip, loras: seen.append(loras) or (model, clip)
    for strength in (0.9, 0.0):
        added = AddedText(loras=(Lora("ink", strength, strength),))
        texts.apply("red <lora:ink:0.5>", 0, False, added)
    assert seen == [(Lora("ink", 0.9, 0.9),)]


def test_texts_that_several_segments_share_are_encoded_once(backend):
    texts = SegmentTexts(backend, fake_models())
    for seed in range(4):
        texts.apply("red", seed, False, AddedText(before="a", negative="blue"))
        texts.apply("blue", seed, True, AddedText(negative="red"))
    assert sorted(text for _, text in backend.texts) == ["a", "blue", "red"]


def test_what_came_of_the_choices_is_told(backend):
    told = []
    texts = SegmentTexts(backend, fake_models())
    added = AddedText("{a|a}", "{b|b}", (Lora("ink"),))
    texts.apply("{c|c}", 0, True, added, lambda *own: told.append(own))
    texts.apply(None, 0, False, AddedText(negative="d"), lambda *own: told.append(own))
    assert told == [("c", (Lora("ink"),), "a", "b"), (None, (), None, "d")]
