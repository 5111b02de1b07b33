"""dev/locales.py on hand-made answers to /object_info, and the content of the current tables."""

import json

import pytest
from detailers.dev import locales

SEED = ["INT", {"default": 0, "tooltip": "Decides the noise."}]
NODES = {
    "Paste": {
        "python_module": "custom_nodes.comfyui-detailers",
        "display_name": "Paste it",
        "description": "Pastes {all|some} of it.",
        "input_order": {"required": ["image", "seed"], "optional": ["mask.of"]},
        "input": {
            "required": {"image": ["IMAGE", {"tooltip": "The image."}], "seed": SEED},
            "optional": {"mask.of": ["MASK", {"tooltip": "Draws __colour__ or {a|b}."}]},
        },
        "output": ["IMAGE", "MASK", "PASTE"],
        "output_name": ["image", "MASK", "PASTE"],
        "output_tooltips": ["The image.", "The mask.", ""],
    },
    "Stock": {"python_module": "nodes", "output": ["MASK"]},
}
ENGLISH = {
    "labels": {
        "image": "Image",
        "Paste.image": "Image to paste on",
        "seed": "Seed",
        "control_after_generate": "Control after generate",
        "mask.of": "Mask",
    },
    "outputs": {"image": "Image", "MASK": "Mask", "PASTE": "Paste | @"},
}
CHINESE = {
    "labels": {
        "Image to paste on": "底图",
        "Seed": "种子",
        "Control after generate": "生成后控制",
        "Mask": "遮罩",
        "Image": "图像",
        "Paste | @": "粘贴 | @",
    },
    "texts": {
        "Paste it": "粘贴",
        "Pastes {all|some} of it.": "粘贴{all|some}。",
        "The image.": "图像。",
        "Decides the noise.": "决定噪声。",
        "Draws __colour__ or {a|b}.": "抽取 __colour__ 或花括号中的一项。",
        "The mask.": "遮罩。",
    },
}


@pytest.fixture
def tables(tmp_path):
    """Tables in a folder; call it with changed ones."""

    def save(english=ENGLISH, chinese=CHINESE):
        for language, table in (("en", english), ("zh", chinese)):
            (tmp_path / f"{language}.json").write_text(json.dumps(table), encoding="utf-8")
        return tmp_path

    return save


def test_english_has_labels_alone(tables):
    assert locales.node_defs(NODES, "en", tables()) == {
        "Paste": {
            "inputs": {
                "image": {"name": "Image to paste on"},
                "seed": {"name": "Seed"},
                "control_after_generate": {"name": "Control after generate"},
                "mask_of": {"name": "Mask"},
            },
            "outputs": {
                "0": {"name": "Image"},
                "1": {"name": "Mask"},
                "2": {"name": "Paste {'|'} {'@'}"},
            },
        }
    }


def test_a_translation_has_everything(tables):
    """Names are messages, in which signs are quoted."""
    assert locales.node_defs(NODES, "zh", tables()) == {
        "Paste": {
            "display_name": "粘贴",
            "description": "粘贴{'{'}all{'|'}some{'}'}。",
            "inputs": {
                "image": {"name": "底图", "tooltip": "图像。"},
                "seed": {"name": "种子", "tooltip": "决定噪声。"},
                "control_after_generate": {"name": "生成后控制"},
                "mask_of": {"name": "遮罩", "tooltip": "抽取 __colour__ 或花括号中的一项。"},
            },
            "outputs": {
                "0": {"name": "图像", "tooltip": "图像。"},
                "1": {"name": "遮罩", "tooltip": "遮罩。"},
                "2": {"name": "粘贴 {'|'} {'@'}"},
            },
        }
    }


def test_types_of_this_pack_alone_have_words(tables):
    """The editor has its own ones for types of the host, such as MASK."""
    folder = tables()
    assert locales.main_words(NODES, "en", folder) == {"dataTypes": {"PASTE": "Paste {'|'} {'@'}"}}
    assert locales.main_words(NODES, "zh", folder) == {"dataTypes": {"PASTE": "粘贴 {'|'} {'@'}"}}


def test_a_translation_of_one_node_s_input_goes_first(tables):
    labels = {**CHINESE["labels"], "Paste.seed": "噪声种子"}
    defs = locales.node_defs(NODES, "zh", tables(chinese={**CHINESE, "labels": labels}))
    assert defs["Paste"]["inputs"]["seed"]["name"] == "噪声种子"


def test_what_is_missing_is_listed_and_stays_english(tables):
    begun = {"labels": {"Seed": "种子"}, "texts": {"The image.": "图像。"}}
    folder = tables(chinese=begun)
    assert locales.missing(NODES, "zh", folder) == {
        "labels": ["Image to paste on", "Control after generate", "Mask", "Image", "Paste | @"],
        "texts": [
            "Paste it",
            "Pastes {all|some} of it.",
            "Decides the noise.",
            "Draws __colour__ or {a|b}.",
            "The mask.",
        ],
        "web": [],
    }
    assert locales.node_defs(NODES, "zh", folder) == {
        "Paste": {
            "inputs": {
                "image": {"name": "Image to paste on", "tooltip": "图像。"},
                "seed": {"name": "种子"},
                "control_after_generate": {"name": "Control after generate"},
                "mask_of": {"name": "Mask"},
            },
            "outputs": {
                "0": {"name": "Image", "tooltip": "图像。"},
                "1": {"name": "Mask"},
                "2": {"name": "Paste {'|'} {'@'}"},
            },
        }
    }


def test_an_input_without_a_label_is_told(tables):
    labels = {"Paste.image": "Image", "seed": "Seed", "control_after_generate": "Control"}
    with pytest.raises(KeyError, match=r"no label for Paste\.mask\.of"):
        locales.node_defs(NODES, "en", tables({**ENGLISH, "labels": labels}))


def test_written_files_have_no_faults(tables, tmp_path):
    folder = tables()
    locales.write(NODES, ["en", "zh"], folder, tmp_path / "locales")
    for language in ("en", "zh"):
        assert locales.faults(NODES, language, folder, tmp_path / "locales") == []


@pytest.mark.parametrize(
    ("kind", "entries", "fault"),
    [
        ("labels", {"Sead": "种子"}, "labels: there is no 'Sead' any more"),
        ("texts", {"The": "图"}, "texts: there is no 'The' any more"),
        ("texts", {"The mask.": ""}, "texts: 'The mask.' has no translation"),
        (
            "texts",
            {"Draws __colour__ or {a|b}.": "抽取 __颜色__。"},
            "the translation of 'Draws __colour__ or {a|b}.' lacks __colour__",
        ),
        (
            "texts",
            {"Draws __colour__ or {a|b}.": "抽取 __colour__ 或 {a|b}。"},
            "the translation of 'Draws __colour__ or {a|b}.' has to do without { | }",
        ),
    ],
)
def test_faults_of_a_translation_are_told(tables, tmp_path, kind, entries, fault):
    folder = tables(chinese={**CHINESE, kind: {**CHINESE[kind], **entries}})
    locales.write(NODES, ["zh"], folder, tmp_path / "locales")
    assert locales.faults(NODES, "zh", folder, tmp_path / "locales") == [f"zh: {fault}"]


# What the pack's own parts of the editor say

WEB = {"zh": {"seed {seed}": "种子 {seed}"}, "en": ["seed {seed}"]}


def test_what_is_said_is_translated_as_it_is(tables, tmp_path):
    """It is no message of the editor, so nothing in it is quoted."""
    folder = tables({**ENGLISH, "web": WEB["en"]}, {**CHINESE, "web": WEB["zh"]})
    assert locales.main_words(NODES, "zh", folder)["detailers"] == {"seed {seed}": "种子 {seed}"}
    assert "detailers" not in locales.main_words(NODES, "en", folder)
    locales.write(NODES, ["zh"], folder, tmp_path)
    assert locales.faults(NODES, "zh", folder, tmp_path) == []


@pytest.mark.parametrize(
    ("chinese", "fault"),
    [
        ({}, "web: 'seed {seed}' has no translation"),
        ({"seed {seed}": "种子"}, "the translation of 'seed {seed}' has other values in braces"),
        ({**WEB["zh"], "sead": "种子"}, "web: nothing says 'sead' any more"),
    ],
)
def test_faults_of_what_is_said_are_told(tables, tmp_path, chinese, fault):
    folder = tables({**ENGLISH, "web": WEB["en"]}, {**CHINESE, "web": chinese})
    locales.write(NODES, ["zh"], folder, tmp_path)
    assert locales.faults(NODES, "zh", folder, tmp_path) == [f"zh: {fault}"]


def test_the_table_lists_what_the_files_say(tmp_path):
    (tmp_path / "a.js").write_text('said("b {x}", {x}); unsaid("c"); said(\n  "a \\"q\\"");')
    assert locales.said_in(tmp_path) == ['a "q"', "b {x}"]
    assert locales.said_in() == sorted(locales.English.read().web)


@pytest.mark.parametrize(
    ("original", "translation", "lost"),
    [
        ("Draws __name__ or {a|b}.", "抽取 __name__ 或 {a|b}。", []),
        ("Draws __name__ or {a|b}.", "抽取 __名称__ 或 {a|c}。", ["__name__"]),
        (
            "[SEP] or <lora:x:1> or \\n.",
            "[分隔] 或 <lora> 或换行。",
            ["[SEP]", "<lora:x:1>", "\\n", "1"],
        ),
        ("Wins over 'scheduler'.", "优先于“scheduler”。", []),
        ("Wins over 'scheduler'.", "优先于“调度器”。", ["scheduler"]),
        ("The segments' masks, if the node's 'mode' is on.", "“mode”开启时的遮罩。", []),
        ("See guide_size and 2nd_mode.", "参见guide_size。", ["2nd_mode", "2"]),
        ("From 0.5 to 10 pixels.", "从0.5到10像素。", []),
        ("From 0.5 to 10 pixels.", "从5到100像素。", ["0.5", "10"]),
    ],
)
def test_lost_pieces_of_the_syntax_are_found(original, translation, lost):
    assert locales.lost_syntax(original, translation) == lost


@pytest.mark.parametrize("language", locales.LANGUAGES)
def test_translations_repeat_the_syntax(language):
    words = locales.Translation.read(language)
    pairs = [*words.labels.items(), *words.texts.items()]
    lost = {original: locales.lost_syntax(original, translation) for original, translation in pairs}
    assert {original: signs for original, signs in lost.items() if signs} == {}


def test_labels_of_nothing_and_files_of_yesterday_are_told(tables, tmp_path):
    folder = tables({**ENGLISH, "outputs": {**ENGLISH["outputs"], "LATENT": "Latent"}})
    assert locales.faults(NODES, "en", folder, tmp_path / "locales") == [
        "en: outputs: nothing has the name 'LATENT'",
        "en: nodeDefs.json is out of date",
        "en: main.json is out of date",
    ]
