"""core/graph/legacy.py: prompts of older versions, with the real table."""

import copy
import json
from pathlib import Path

import pytest
from detailers.core.graph.legacy import Interfaces, read_table, replacements, upgrade

SHARED = Path(__file__).parent / "interfaces" / "shared.json"
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


INTERFACES = Interfaces(lambda *place: INPUTS.get(place))


def upgraded(prompt, ours=OURS, known=(), interfaces=INTERFACES):
    changed = upgrade(prompt, ours, known, interfaces)
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


# Names that inputs had, and inputs that were taken from others


def test_the_first_advanced_provider_had_a_seed():
    """It was never used."""
    old = node("KSamplerAdvancedProvider", seed=77, cfg=6.5, sampler_name="euler")
    prompt, changed = upgraded({"1": old}, {"KSamplerAdvancedProvider": {}})
    assert prompt["1"]["inputs"] == {"cfg": 6.5, "sampler_name": "euler", "sigma_factor": 1.0}
    assert changed == ["1"]


@pytest.mark.parametrize("strength", [1.5, ["7", 0]])
def test_noise_had_one_strength_in_every_cycle(strength):
    old = node("NoiseInjectionDetailerHookProvider", source="CPU", seed=7, strength=strength)
    prompt, _ = upgraded({"1": old}, {"NoiseInjectionDetailerHookProvider": {}})
    assert prompt["1"]["inputs"] == {
        "source": "CPU", "seed": 7, "schedule_for_cycle": "from_start",
        "start_strength": strength, "end_strength": strength,
    }  # fmt: skip


TYPES = {
    "Loader": ("MODEL", "CLIP", "VAE"),
    "LoraLoader": ("MODEL", "CLIP"),
    "Patch": ("MODEL",),
    "Detector": ("BBOX_MODEL", "SEGM_MODEL"),
}
MODEL_INPUTS = {("LoraLoader", "base"), ("Patch", "model"), ("FaceDetailer", "model")}
FACE_INPUTS = {"bbox_detector": "BBOX_DETECTOR", "image": "IMAGE"}


def kind_of(class_type, name):
    if (class_type, name) in MODEL_INPUTS:
        return "MODEL"
    return FACE_INPUTS.get(name) if class_type == "FaceDetailer" else None


KNOWN = Interfaces(kind_of, lambda class_type: TYPES.get(class_type, ()))


@pytest.mark.parametrize(
    ("model", "clip"),
    [
        (["load", 0], ["load", 1]),
        (["patch", 0], ["lora", 1]),  # with the LoRA, as the model is
        (["round", 0], None),  # links that lead back
        (["nowhere", 0], None),
        (["alone", 0], None),
        ("text", None),
        (None, None),
    ],
)
def test_a_face_detailer_without_clip_takes_that_of_its_model(model, clip):
    chain = {
        "load": node("Loader"),
        "lora": node("LoraLoader", base=["load", 0], clip=["load", 1]),
        "patch": node("Patch", model=["lora", 0]),
        "round": node("Patch", model=["back", 0]),
        "back": node("Patch", model=["round", 0]),
        "alone": node("Patch"),
    }
    prompt = chain | {
        "1": node("FaceDetailer", model=model),
        "2": node("FaceDetailer", model=model),
    }
    upgraded(prompt, interfaces=KNOWN)
    assert prompt["1"]["inputs"]["clip"] == prompt["2"]["inputs"]["clip"] == clip
    if clip:
        assert prompt["1"]["inputs"]["clip"] is not prompt["2"]["inputs"]["clip"]


def test_a_clip_that_is_forgotten_today_is_the_hosts_business():
    old, _ = upgraded({"1": node("FaceDetailer")})
    inputs = {name: value for name, value in old["1"]["inputs"].items() if name != "clip"}
    prompt, changed = upgraded({"load": node("Loader"), "1": node("FaceDetailer", **inputs)})
    assert (prompt["1"]["inputs"], changed) == (inputs, [])


@pytest.mark.parametrize("name", ["bbox_model", "detector_of_the_first_version"])
def test_the_detector_of_a_face_detailer_had_another_name(name):
    inputs = {"image": ["load", 0], name: ["found", 0]}
    prompt = {
        "found": node("Detector"),
        "load": node("Loader"),
        "1": node("FaceDetailer", **inputs),
    }
    upgraded(prompt, interfaces=KNOWN)
    assert prompt["1"]["inputs"]["bbox_detector"] == ["found", 0]
    assert name not in prompt["1"]["inputs"]


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("enable", True), ("Disabled", False), ("true", True), ("inside", True),
        ("Outside", False), ("else", "else"), (0, 0), (["2", 0], ["2", 0]),
    ],
)  # fmt: skip
def test_text_for_any_boolean(said, means):
    kinds = {("Node", "is_on"): "BOOLEAN", ("Node", "text"): "STRING"}
    labelled = Interfaces(lambda *at: kinds.get(at), labels=lambda *at: ["inside", "outside"])
    prompt = {"1": node("Node", is_on=said, text=said), "2": node("Node", is_on=True)}
    changed = upgraded(prompt, {"Node": {}}, interfaces=labelled)[1]
    assert prompt["1"]["inputs"] == {"is_on": means, "text": said}
    assert changed == (["1"] if means != said else [])


# Whatever a prompt holds

ODD_VALUES = [
    None, True, 5, 1e300, "text", [], ["1"], ["1", 0], ["nowhere", 0], ["1", -1], ["1", True],
    ["1", 10**30], ["1", "0"], [["1"], 0], [{}, 0], [None, None], {"a": [1]}, [[[]]],
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_VALUES)
def test_odd_values_raise_nothing(odd):
    table = read_table()
    names = {"model", "clip", "bbox_model", "unknown", "seed", "strength", "latent1", "segs"}
    prompt = {
        str(number): node(class_type, **dict.fromkeys({*rule["widgets"], *names}, odd))
        for number, (class_type, rule) in enumerate(
            [*table["nodes"].items(), *((old, {"widgets": ()}) for old in table["ids"])]
        )
    }
    ours = OURS | {class_type: {"out": "X"} for class_type in table["nodes"]}
    ours = {name: OURS.get(name, outputs) for name, outputs in ours.items()}
    del ours["FromDetailerPipe"], ours["PreviewDetailerHookProvider"]
    upgraded(prompt | {"odd": odd, "": {"class_type": odd, "inputs": odd}}, ours, interfaces=KNOWN)


class Counted(dict):
    """Counts how often it is gone through."""

    times = 0

    def items(self):
        Counted.times += 1
        return super().items()


def test_time_grows_with_the_size_alone():
    def work(count):
        Counted.times = 0
        prompt = {}
        for number in range(count):
            face = {"model": [f"m{number}", 0], "image": [f"f{number - 1}", 0]}
            prompt[f"f{number}"] = {"class_type": "FaceDetailer", "inputs": Counted(face)}
            patch = {"model": [f"m{number + 1}", 0]}
            prompt[f"m{number}"] = {"class_type": "Patch", "inputs": Counted(patch)}
            show = {"mask": [f"f{number}", 1]}
            prompt[f"s{number}"] = {"class_type": "MaskPreview", "inputs": Counted(show)}
        assert len(upgraded(prompt, interfaces=KNOWN)[1]) == count
        return Counted.times

    few, many = work(100), work(800)
    assert many <= 8 * few + 50


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
        for layout in rule.get("layouts", ()):
            old = set(layout) - set(names) - {"control_after_generate"}
            assert old <= set(rule["was"]), node_id
            assert old <= {*rule.get("became", ()), *rule.get("unused", ())}, node_id
            assert rule["shortest"] <= len(layout), node_id
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
    shared = json.loads(SHARED.read_text())
    for node_id, rule in read_table()["nodes"].items():
        assert rule["widgets"] == list(widgets_of(shared[node_id])), node_id


def widgets_of(interface):
    inputs = {**interface.get("required", {}), **interface.get("optional", {})}
    for name, (kind, *_) in inputs.items():
        if not isinstance(kind, str) or kind in WIDGETS:
            yield name
            if name == "seed":
                yield "control_after_generate"
