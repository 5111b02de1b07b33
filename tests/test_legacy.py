"""core/legacy.py: prompts of older versions, with the real table."""

import copy
import json
from pathlib import Path

import pytest
from detailers.core.legacy import read_table, replacements, upgrade

INTERFACES = Path(__file__).parent / "interfaces" / "shared.json"
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN")
OURS = {
    "BboxDetectorSEGS": {"SEGS": "SEGS"},
    "DetailerForEach": {"IMAGE": "IMAGE"},
    "DetailerForEachDebugPipe": {
        "image": "IMAGE",
        "segs": "SEGS",
        "basic_pipe": "BASIC_PIPE",
        "cropped": "IMAGE",
        "cropped_refined": "IMAGE",
        "cropped_refined_alpha": "IMAGE",
        "cnet_images": "IMAGE",
    },
    "EditDetailerPipe": {"detailer_pipe": "DETAILER_PIPE"},
    "FaceDetailer": {
        "image": "IMAGE",
        "cropped_refined": "IMAGE",
        "cropped_enhanced_alpha": "IMAGE",
        "mask": "MASK",
        "detailer_pipe": "DETAILER_PIPE",
        "cnet_images": "IMAGE",
    },
    "ImpactWildcardEncode": {"model": "MODEL"},
    "SAMDetectorCombined": {"MASK": "MASK"},
    "SegsToCombinedMask": {"MASK": "MASK"},
}
INPUTS = {
    ("PreviewImage", "images"): "IMAGE",
    ("MaskPreview", "mask"): "MASK",
    ("SEGSPreview", "segs"): "SEGS",
    ("FaceDetailerPipe", "detailer_pipe"): "DETAILER_PIPE",
    ("Show", "anything"): "*",
}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def upgraded(prompt, ours=OURS, known=()):
    changed = upgrade(prompt, ours, known, lambda *place: INPUTS.get(place))
    return prompt, changed


# A node as the very first version saved it
FIRST = {
    "guide_size": 256.0, "seed": 7, "steps": 20, "cfg": 8.0, "sampler_name": "euler",
    "scheduler": "karras", "denoise": 0.6, "feather": 5, "image": ["1", 0], "segs": ["2", 0],
    "model": ["3", 0], "vae": ["3", 2], "positive": ["4", 0], "negative": ["5", 0],
}  # fmt: skip


def test_inputs_that_did_not_exist_mean_what_was_done_without_them():
    prompt, changed = upgraded({"9": node("DetailerForEach", **FIRST)})
    assert changed == ["9"]
    assert prompt["9"]["inputs"] == FIRST | {
        "clip": None,
        "guide_size_for": True,
        "max_size": 16384,
        "noise_mask": False,
        "force_inpaint": False,
        "wildcard": "",
        "cycle": 1,
        "inpaint_model": False,
        "noise_mask_feather": 0,
        "tiled_encode": False,
        "tiled_decode": False,
    }


def test_text_becomes_boolean():
    said = {"guide_size_for": "crop_region", "noise_mask": "enabled", "force_inpaint": "disabled"}
    prompt, _ = upgraded({"9": node("DetailerForEach", **FIRST, **said)})
    inputs = prompt["9"]["inputs"]
    assert inputs["guide_size_for"] is False
    assert inputs["noise_mask"] is True
    assert inputs["force_inpaint"] is False


@pytest.mark.parametrize(("mode", "now"), [(True, "populate"), (False, "fixed")])
def test_wildcard_modes(mode, now):
    prompt, _ = upgraded({"1": node("ImpactWildcardEncode", mode=mode)})
    assert prompt["1"]["inputs"]["mode"] == now


def test_words_of_one_node_alone():
    """`mode` is a boolean in a Control Bridge, and `behavior` once was."""
    ours = {"ImpactControlBridge": {"value": "*"}}
    for said, means in ((True, "Mute"), (False, "Bypass"), ("Stop", "Stop")):
        prompt, _ = upgraded({"1": node("ImpactControlBridge", mode=True, behavior=said)}, ours)
        assert prompt["1"]["inputs"] == {"mode": True, "behavior": means}


def test_switches_by_type_had_inputs_of_other_names():
    old = node("LatentSwitch", select=2, latent1=["1", 0], latent2_opt=["2", 0])
    prompt, _ = upgraded({"3": old}, {"LatentSwitch": {"selected_value": "*"}})
    assert prompt["3"]["inputs"] == {
        "select": 2, "sel_mode": False, "input1": ["1", 0], "input2": ["2", 0],
    }  # fmt: skip


def test_a_hint_of_another_name():
    prompt, _ = upgraded({"1": node("SAMDetectorCombined", mask_hint_use_negative="True")})
    assert prompt["1"]["inputs"]["mask_hint_use_negative"] == "Small"


def test_what_is_set_or_linked_stays():
    told = {"noise_mask": ["8", 0], "noise_mask_feather": 20, "max_size": 640, "clip": ["3", 1]}
    prompt, _ = upgraded({"9": node("DetailerForEach", **FIRST, **told)})
    assert told.items() <= prompt["9"]["inputs"].items()


def test_a_prompt_of_today_is_left_as_it_is():
    prompt, _ = upgraded({"9": node("DetailerForEach", **FIRST)})
    before = copy.deepcopy(prompt)
    assert upgraded(prompt) == (before, [])


def test_ids_and_inputs_are_renamed():
    old = node("BboxDetectorForEach", bbox_model=["45", 0], image=["40", 0], threshold=0.5)
    prompt, changed = upgraded({"7": old | {"_meta": {"title": "x"}}})
    assert changed == ["7"]
    assert prompt["7"]["_meta"] == {"title": "x"}
    assert prompt["7"]["class_type"] == "BboxDetectorSEGS"
    assert prompt["7"]["inputs"] == {
        "bbox_detector": ["45", 0],
        "image": ["40", 0],
        "threshold": 0.5,
        "drop_size": 1,
        "labels": "all",
    }


def test_an_input_that_is_no_more_goes():
    prompt, _ = upgraded({"7": node("SegsMaskCombine", segs=["1", 0], image=["2", 0])})
    assert prompt["7"] == node("SegsToCombinedMask", segs=["1", 0])


def test_an_input_is_renamed_within_a_node():
    prompt, _ = upgraded({"7": node("EditDetailerPipe", segm_detector_opt=["1", 1])})
    inputs = prompt["7"]["inputs"]
    assert inputs["segm_detector"] == ["1", 1]
    assert "segm_detector_opt" not in inputs


def test_nodes_of_other_packs_are_not_touched():
    prompt = {
        "1": node("KSampler", noise_mask="enabled"),
        "2": node("BboxDetectorForEach", bbox_model=["45", 0]),
        "3": node("DetailerForEach", **FIRST),
        "4": {"class_type": "DetailerForEach"},
        "5": "not a node",
        "6": {"class_type": ["DetailerForEach"], "inputs": {}},
    }
    before = copy.deepcopy(prompt)
    theirs = {"DetailerForEach //Detailers": {"IMAGE": "IMAGE"}}
    assert upgraded(prompt, ours=theirs) == (before, [])
    assert upgraded(prompt, ours={}) == (before, [])
    # Somebody else has brought the old id back.
    only_detector = {"2": prompt["2"]}
    assert upgraded(only_detector, known={"BboxDetectorForEach"})[1] == []


# Outputs that have moved


def test_links_follow_the_output_whose_type_they_have():
    face = node("FaceDetailer")
    prompt, changed = upgraded(
        {
            "1": face,
            "2": node("PreviewImage", images=["1", 1]),
            "3": node("MaskPreview", mask=["1", 2]),
            "4": node("FaceDetailerPipe", detailer_pipe=["1", 3]),
            "5": node("Show", anything=["1", 0]),
        }
    )
    assert prompt["2"]["inputs"]["images"] == ["1", 1]
    assert prompt["3"]["inputs"]["mask"] == ["1", 3]
    assert prompt["4"]["inputs"]["detailer_pipe"] == ["1", 4]
    assert prompt["5"]["inputs"]["anything"] == ["1", 0]
    assert changed == ["1"]


def test_links_of_the_oldest_face_detailer():
    prompt, _ = upgraded({"1": node("FaceDetailer"), "3": node("MaskPreview", mask=["1", 1])})
    assert prompt["3"]["inputs"]["mask"] == ["1", 3]


def test_an_input_that_came_with_todays_order_tells_the_order():
    for inputs, slot in (({}, 4), ({"refiner_ratio": 0.2}, 2)):
        prompt, _ = upgraded(
            {
                "1": node("DetailerForEachDebugPipe", **inputs),
                "2": node("Show", anything=["1", 2]),
            }
        )
        assert prompt["2"]["inputs"]["anything"] == ["1", slot]


def test_links_that_fit_todays_outputs_stay():
    prompt, _ = upgraded(
        {
            "1": node("DetailerForEachDebugPipe", refiner_ratio=0.2),
            "2": node("SEGSPreview", segs=["1", 1]),
            "3": node("PreviewImage", images=["1", 3]),
        }
    )
    assert prompt["2"]["inputs"]["segs"] == ["1", 1]
    assert prompt["3"]["inputs"]["images"] == ["1", 3]


def test_links_of_outputs_that_are_no_more_go():
    prompt, _ = upgraded({"1": node("FaceDetailer"), "3": node("MaskPreview", mask=["1", 9])})
    assert prompt["3"]["inputs"] == {}


# The table


def test_the_table_is_consistent():
    table = read_table()
    widgets = {name for rule in table["nodes"].values() for name in rule["widgets"]}
    assert set(table["words"]) <= widgets
    for node_id, rule in table["nodes"].items():
        names = rule["widgets"]
        assert len(set(names)) == len(names), node_id
        assert set(rule["added"]) - {"clip"} <= set(names), node_id
        assert 0 <= rule["shortest"] < len(names) or not rule["added"], node_id
        for length, missing in rule.get("without", {}).items():
            # What is missing in the middle of a list needs a value.
            assert set(missing) <= set(rule["added"]), node_id
            assert rule["shortest"] <= int(length) <= len(names) - len(missing), node_id
    for successor in table["ids"].values():
        assert not set(successor) - {"id", "renamed", "unused"}


def test_the_hosts_replacements():
    found = replacements({"BboxDetectorSEGS": ["bbox_detector", "image", "threshold", "labels"]})
    assert found == [
        {
            "new_node_id": "BboxDetectorSEGS",
            "old_node_id": "BboxDetectorForEach",
            "old_widget_ids": ["threshold", "dilation", "crop_factor"],
            "input_mapping": [
                {"new_id": "bbox_detector", "old_id": "bbox_model"},
                {"new_id": "image", "old_id": "image"},
                {"new_id": "threshold", "old_id": "threshold"},
                {"new_id": "labels", "set_value": "all"},
            ],
            "output_mapping": [{"new_idx": 0, "old_idx": 0}],
        }
    ]


def test_the_table_holds_todays_widgets():
    shared = json.loads(INTERFACES.read_text())
    for node_id, rule in read_table()["nodes"].items():
        assert rule["widgets"] == list(widgets_of(shared[node_id])), node_id


def widgets_of(interface):
    inputs = {**interface.get("required", {}), **interface.get("optional", {})}
    for name, (kind, *_) in inputs.items():
        if not isinstance(kind, str) or kind in WIDGETS:
            yield name
            if name == "seed":
                yield "control_after_generate"
