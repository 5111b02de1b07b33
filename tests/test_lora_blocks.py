"""Block weights of LoRAs."""

import pytest
from detailers.core.prompts.lora_blocks import PRESETS, BlockWeights, read_presets

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
    ["1,2,3", "", numbers(18), "SD-NOTHING", "x," + numbers(16), "A," + numbers(16)],
    ids=["three", "none", "eighteen", "preset", "word", "letter without a number"],
)
def test_a_list_that_is_not_understood_is_left_out_with_a_warning(text, caplog):
    assert BlockWeights.parse(text, None, None) is None
    assert len(caplog.messages) == 1
    assert f"LBW={text}" in caplog.messages[0]
    assert caplog.records[0].levelname == "WARNING"


PARTS = [f"middle_block.{i}" for i in range(3)]


def test_a_preset_is_used_by_its_name_in_any_case():
    for name in ("SD-MIDD", "sd-midd", " SD-Midd "):
        weights = BlockWeights.parse(name, None, None)
        assert weights.base == 1
        assert factors(weights, *(f"input_blocks.{i}" for i in (1, 2, 4, 5, 7, 8))) == [
            0, 0, 0, 1, 1, 1,
        ]  # fmt: skip
        assert factors(weights, "middle_block") == [1]
        assert factors(weights, *(f"output_blocks.{i}" for i in range(3, 12))) == [
            1, 1, 1, 1, 0, 0, 0, 0, 0,
        ]  # fmt: skip


def test_every_preset_is_a_list_of_a_known_length():
    for name in PRESETS:
        assert BlockWeights.parse(name, None, None) is not None, name
        assert len(PRESETS[name].split(",")) == {
            "SD": 17, "SD-L": 27, "SDXL": 12, "SDXL-L": 21, "FLUX": 18,
        }[name.split("-")[0] + ("-L" if "LYC" in name else "")]  # fmt: skip


def test_letters_of_presets_are_1_without_a_number():
    assert BlockWeights.parse("SD-AB", 0.5, 2.0).base == 0.5
    plain = BlockWeights.parse("SD-AB", None, 2.0)
    assert (plain.base, plain.blocks["in1"]) == (1.0, 2.0)


def test_what_is_by_chance_is_the_same_each_time():
    first, again = (BlockWeights.parse("SD-ROUT", None, None).blocks for _ in range(2))
    assert first == again
    drawn = [first[f"out{i}"] for i in range(3, 12)]
    assert len(set(drawn)) > 5
    assert all(0 <= value <= 3 for value in drawn)


def test_parts_of_the_middle_block():
    weights = BlockWeights.parse(numbers(27), None, None)
    assert factors(weights, "input_blocks.1", *PARTS, "output_blocks.0") == [1, 12, 13, 14, 15]
    weights = BlockWeights.parse(numbers(21), None, None)
    assert factors(weights, "input_blocks.8", *PARTS, "output_blocks.8") == [8, 9, 10, 11, 20]
    whole = BlockWeights.parse(numbers(26), None, None)
    assert factors(whole, *PARTS) == [13, 13, 13]


def test_double_blocks_and_what_follows_them():
    weights = BlockWeights.parse("FLUX-DBL-TAIL", None, None)
    blocks = [f"double_blocks.{i}" for i in (0, 10, 11, 16, 18)]
    assert factors(weights, *blocks, "single_blocks.3") == [0, 0, 1, 1, 1, 1]
    assert factors(BlockWeights.parse("SD-OUTD", None, None), "double_blocks.1") == [1]


def test_the_users_presets_go_first(caplog):
    own = read_presets(
        "MINE:" + ",".join(["0.5"] * 17) + "\n\n@TEST:17\nno preset\n sd-all : " + numbers(12)
    )
    assert sorted(own) == ["MINE", "SD-ALL"]
    assert BlockWeights.parse("mine", None, None, lambda: own).base == 0.5
    assert BlockWeights.parse("SD-ALL", None, None, lambda: own).blocks["mid"] == 5
    assert caplog.messages == []


@pytest.mark.parametrize("text", ["SD-NOTHING", "%default=1"])
def test_a_name_that_is_no_preset_is_told_with_those_there_are(caplog, text):
    assert BlockWeights.parse(text, None, None, lambda: {"MINE": "1"}) is None
    assert f"LBW={text} is not a list" in caplog.messages[0]
    assert "MINE, SD-AB, " in caplog.messages[0]


def test_a_preset_of_the_users_that_is_no_list_is_told(caplog):
    assert BlockWeights.parse("MINE", None, None, lambda: {"MINE": "1,x"}) is None
    assert "LBW=MINE is a preset that holds '1,x'" in caplog.messages[0]
