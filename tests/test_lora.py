"""Block weights of LoRAs."""

import pytest
from detailers.core.lora import BlockWeights

UNET = "diffusion_model.{}.1.transformer_blocks.0.attn1.to_q.weight"
TEXT = "clip_l.transformer.text_model.encoder.layers.3.mlp.fc1.weight"


def numbers(count):
    return ",".join(str(i) for i in range(count))


def factors(weights, *blocks):
    return [weights.factor(UNET.format(block)) for block in blocks]


def test_seventeen_are_the_blocks_with_attention_of_sd15():
    weights = BlockWeights.parse(numbers(17), None, None)
    inputs = [f"input_blocks.{i}" for i in (1, 2, 4, 5, 7, 8)]
    outputs = [f"output_blocks.{i}" for i in range(3, 12)]
    assert factors(weights, *inputs) == [1, 2, 3, 4, 5, 6]
    assert factors(weights, "middle_block") == [7]
    assert factors(weights, *outputs) == [8, 9, 10, 11, 12, 13, 14, 15, 16]


def test_twenty_six_are_all_blocks_of_sd15():
    weights = BlockWeights.parse(numbers(26), None, None)
    assert factors(weights, *(f"input_blocks.{i}" for i in range(12))) == list(range(1, 13))
    assert factors(weights, "middle_block") == [13]
    assert factors(weights, *(f"output_blocks.{i}" for i in range(12))) == list(range(14, 26))


def test_twelve_are_the_blocks_with_attention_of_sdxl():
    weights = BlockWeights.parse(numbers(12), None, None)
    assert factors(weights, *(f"input_blocks.{i}" for i in (4, 5, 7, 8))) == [1, 2, 3, 4]
    assert factors(weights, "middle_block") == [5]
    assert factors(weights, *(f"output_blocks.{i}" for i in range(6))) == [6, 7, 8, 9, 10, 11]


def test_twenty_are_all_blocks_of_sdxl():
    weights = BlockWeights.parse(numbers(20), None, None)
    assert factors(weights, *(f"input_blocks.{i}" for i in range(9))) == list(range(1, 10))
    assert factors(weights, "middle_block") == [10]
    assert factors(weights, *(f"output_blocks.{i}" for i in range(9))) == list(range(11, 20))


def test_a_block_that_the_list_does_not_name_gets_nothing():
    weights = BlockWeights.parse(numbers(17), None, None)
    assert factors(weights, "input_blocks.0", "output_blocks.0") == [0, 0]


def test_the_first_number_is_for_the_text_encoder_and_the_rest_of_the_model():
    weights = BlockWeights.parse("0.25," + ",".join(["1"] * 16), None, None)
    assert weights.factor(TEXT) == 0.25
    assert weights.factor("diffusion_model.time_embed.0.weight") == 0.25


def test_letters_stand_for_their_numbers_and_blanks_do_not_matter():
    weights = BlockWeights.parse("1, A ,b," + ",".join(["0"] * 14), 0.5, -2.0)
    assert factors(weights, "input_blocks.1", "input_blocks.2", "input_blocks.4") == [0.5, -2, 0]


@pytest.mark.parametrize(
    "text",
    ["1,2,3", "", numbers(18), "SD-MIDD", "x," + numbers(16), "A," + numbers(16)],
    ids=["three", "none", "eighteen", "preset", "word", "letter without a number"],
)
def test_a_list_that_is_not_understood_is_left_out_with_a_warning(text, caplog):
    assert BlockWeights.parse(text, None, None) is None
    assert len(caplog.messages) == 1
    assert f"LBW={text}" in caplog.messages[0]
    assert caplog.records[0].levelname == "WARNING"
