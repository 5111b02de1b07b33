"""New texts for a conditioning, which keeps the rest of its entries."""

import pytest
import torch
from detailers.core.prompts.join_conditioning import (
    concat_text,
    encode_chunks,
    replace_text,
    with_values,
)


def tokens(*values):
    """[1,tokens,2] of these values."""
    return torch.tensor([[[float(value)] * 2 for value in values]])


def test_a_new_text_takes_over_all_but_the_old_text_and_its_place():
    control = object()
    old = [
        [tokens(1), {"control": control, "guidance": 3.5, "pooled_output": tokens(9),
                     "mask": torch.rand(4, 4), "area": (1, 1, 0, 0), "width": 512, "height": 768}],
        [tokens(2), {"guidance": 99.0}],
    ]  # fmt: skip
    ((embedding, options),) = replace_text(old, [[tokens(5), {"height": 64}]])
    assert embedding.tolist() == tokens(5).tolist()
    assert options == {"control": control, "guidance": 3.5, "width": 512, "height": 64}


def test_a_new_text_takes_over_whatever_it_does_not_know():
    hooks, anything = object(), object()
    kept = {"hooks": hooks, "of another pack": anything, "prompt_type": "negative",
            "reference_latents": [torch.rand(4, 4)], "frame_rate": 24}  # fmt: skip
    text = {"pooled_output": tokens(9), "attention_mask": tokens(1), "t5xxl_ids": tokens(1),
            "t5xxl_weights": tokens(1), "conditioning_llama3": tokens(1),
            "clip_start_percent": 0.2, "cross_attn_controlnet": tokens(1)}  # fmt: skip
    place = {"mask": torch.rand(4, 4), "area": (1, 1, 0, 0), "strength": 0.5, "mask_strength": 0.5,
             "set_area_to_bounds": True, "gligen": (), "default": True}  # fmt: skip
    ((_, options),) = replace_text([[tokens(1), kept | text | place]], [[tokens(5), {}]])
    assert options == kept


def test_a_new_text_takes_over_every_span_of_steps():
    first, later, once = {"hooks": 1, "end_percent": 0.5}, {"start_percent": 0.5}, {"hooks": 3}
    again = {"hooks": 2, "end_percent": 0.5}
    new = [[tokens(5), {}]]
    spans = replace_text([[tokens(1), entry] for entry in (first, again, later)], new)
    assert [options for _, options in spans] == [first, later]
    assert [embedding.tolist() for embedding, _ in spans] == [tokens(5).tolist()] * 2
    assert replace_text([[tokens(1), once], [tokens(1), first]], new)[0][1] == once


def test_a_new_texts_pooled_vector_is_its_own():
    old = [[tokens(1), {"pooled_output": tokens(9)}]]
    ((_, options),) = replace_text(old, [[tokens(5), {"pooled_output": tokens(7)}]])
    assert options["pooled_output"].tolist() == tokens(7).tolist()
    assert replace_text([], old) == old


def test_concat_adds_tokens_to_every_entry():
    first = [[tokens(1, 2), {"strength": 1}], [tokens(3), {"attention_mask": tokens(1)}]]
    joined = concat_text(first, [[tokens(8, 9), {"ignored": 1}], [tokens(0), {}]])
    assert [embedding[0, :, 0].tolist() for embedding, _ in joined] == [[1, 2, 8, 9], [3, 8, 9]]
    assert [options for _, options in joined] == [{"strength": 1}, {}]
    assert concat_text(first, []) is first


def test_concat_repeats_a_lone_row_for_a_batch():
    batch = tokens(1, 2).repeat(3, 1, 1)
    ((embedding, _),) = concat_text([[batch, {}]], [[tokens(9), {}]])
    assert embedding[..., 0].tolist() == [[1, 2, 9]] * 3


def test_concat_of_encodings_of_other_width_is_an_error():
    with pytest.raises(ValueError, match=r"\[CONCAT\].*different widths"):
        concat_text([[torch.zeros(1, 2, 3), {}]], [[torch.zeros(1, 2, 4), {}]])


def test_chunks_are_encoded_one_after_another():
    asked = []

    def encode(text):
        asked.append(text)
        return [[tokens(len(text)), {"pooled_output": tokens(len(text))}]]

    ((embedding, options),) = encode_chunks(("a", "bbb", "cc"), encode)
    assert asked == ["a", "bbb", "cc"]
    assert embedding[0, :, 0].tolist() == [1, 3, 2]
    assert options["pooled_output"].tolist() == tokens(1).tolist()  # the first chunk's


def test_values_are_set_on_copies():
    old = [[tokens(1), {"guidance": 1.0}], [tokens(2), {}]]
    new = with_values(old, guidance=4.0)
    assert [options for _, options in new] == [{"guidance": 4.0}] * 2
    assert [options for _, options in old] == [{"guidance": 1.0}, {}]
