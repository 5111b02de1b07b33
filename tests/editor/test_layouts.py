"""web/detailers_upgrade.js: lists of widget values as every version saved them.

The versions are listed here independently of the pack's table. Lists that fit no version are
reported.
"""

import json
from pathlib import Path

import pytest
from detailers.tests.editor.test_upgrade import (
    FIRST_MEANS,
    SERIALIZED,
    TOASTS,
    node,
    upgraded,
    workflow,
)

pytestmark = pytest.mark.once
SHARED = json.loads((Path(__file__).parent.parent / "interfaces" / "shared.json").read_text())

# When each version's widgets came, by the lists' lengths from then on; "name@before" was put in
# front of another one, all others were added at the end.
_DETAILER = """
    9  guide_size seed control_after_generate steps cfg sampler_name scheduler denoise feather
    10 noise_mask
    11 guide_size_for@seed
    12 force_inpaint
    13 max_size@seed
"""
_FACE = """
    21 guide_size guide_size_for seed control_after_generate steps cfg sampler_name scheduler
       denoise feather noise_mask force_inpaint bbox_threshold bbox_dilation bbox_crop_factor
       sam_detection_hint sam_dilation sam_threshold sam_bbox_expansion sam_mask_hint_threshold
       sam_mask_hint_use_negative
    22 drop_size
"""
_TEXT = "1 wildcard\n 2 Select to add LoRA\n 3 Select to add Wildcard"
_PIPE = """
    12 guide_size guide_size_for seed control_after_generate steps cfg sampler_name scheduler
       denoise feather noise_mask force_inpaint
    13 max_size@seed
    14 wildcard
    15 refiner_ratio
    16 cycle
    17 inpaint_model
    18 noise_mask_feather
    20 tiled_encode tiled_decode
"""
_PIXEL = """
    8 scale_method seed control_after_generate steps cfg sampler_name scheduler denoise
    9 use_tiled_vae
    10 tile_size
"""
_LATER_DETAILER = (
    "\n 15 cycle\n 16 inpaint_model\n 17 noise_mask_feather\n 19 tiled_encode tiled_decode"
)
_LATER_FACE = (
    "\n 25 cycle\n 26 inpaint_model\n 27 noise_mask_feather\n 29 tiled_encode tiled_decode"
)
HISTORY = {
    "DetailerForEach": _DETAILER + "14 wildcard" + _LATER_DETAILER,
    "DetailerForEachDebug": _DETAILER + "14 wildcard" + _LATER_DETAILER,
    "DetailerForEachPipe": _PIPE,
    "DetailerForEachDebugPipe": _PIPE,
    "FaceDetailer": _FACE + "24 max_size@seed wildcard" + _LATER_FACE,
    "FaceDetailerPipe": _FACE + "23 max_size@seed\n 24 refiner_ratio" + _LATER_FACE,
    "SEGSDetailer": """
        11 guide_size guide_size_for seed control_after_generate steps cfg sampler_name scheduler
           denoise noise_mask force_inpaint
        12 max_size@seed
        13 refiner_ratio
        14 batch_size
        15 cycle
        16 inpaint_model
        17 noise_mask_feather
    """,
    "MaskDetailerPipe": """
        16 guide_size guide_size_for max_size mask_mode seed control_after_generate steps cfg
           sampler_name scheduler denoise feather crop_factor drop_size refiner_ratio batch_size
        17 cycle
        18 inpaint_model
        19 noise_mask_feather
        21 bbox_fill contour_fill
    """,
    "SEGSDetailerForAnimateDiff": """
        11 guide_size guide_size_for max_size seed control_after_generate steps cfg sampler_name
           scheduler denoise refiner_ratio
        12 noise_mask_feather
    """,
    "SEGSPaste": "1 feather\n 2 alpha",
    "BboxDetectorSEGS": "3 threshold dilation crop_factor\n 4 drop_size\n 5 labels",
    "SegmDetectorSEGS": "3 threshold dilation crop_factor\n 4 drop_size\n 5 labels",
    "MaskToSEGS": "2 combined crop_factor\n 3 bbox_fill\n 4 drop_size\n 5 contour_fill",
    "SAMLoader": "1 model_name\n 2 device_mode",
    "SAMDetectorCombined": """
        2 dilation threshold
        3 detection_hint@dilation
        4 bbox_expansion
        6 mask_hint_threshold mask_hint_use_negative
    """,
    "ToDetailerPipe": _TEXT,
    "EditDetailerPipe": _TEXT,
    "BasicPipeToDetailerPipe": _TEXT,
    "ImpactMakeTileSEGS": """
        3 bbox_size crop_factor min_overlap
        4 filter_segs_dilation
        6 mask_irregularity irregular_mask_mode
    """,
    "RegionalSampler": """
        5 seed control_after_generate steps denoise overlap_factor
        9 seed_2nd@steps seed_2nd_mode@steps base_only_steps@denoise restore_latent
        12 additional_mode additional_sampler additional_sigma_ratio
    """,
    "PixelKSampleUpscalerProvider": _PIXEL,
    "PixelKSampleUpscalerProviderPipe": _PIXEL + "11 tile_cnet_strength",
    "TwoSamplersForMaskUpscalerProvider": """
        3 scale_method full_sample_schedule use_tiled_vae
        4 tile_size
    """,
    "LatentPixelScale": "2 scale_method scale_factor\n 3 use_tiled_vae",
    "IterativeLatentUpscale": "2 upscale_factor steps\n 3 temp_prefix\n 4 step_mode",
    "PreviewBridge": "1 image\n 3 block restore_mask",
    "ImageReceiver": "2 image link_id\n 4 save_to_workflow image_data\n 5 trigger_always",
    "ImpactControlBridge": "1 mode\n 2 behavior",
    "LatentSwitch": "1 select\n 2 sel_mode",
    "KSamplerAdvancedProvider": "3 cfg sampler_name scheduler\n 4 sigma_factor",
    "SEGSUpscaler": """
        14 rescale_factor resampling_method supersample rounding_modulus seed
           control_after_generate steps cfg sampler_name scheduler denoise feather inpaint_model
           noise_mask_feather
    """,
}  # fmt: skip
# What was done before a widget came, where today's default would do something else.
BEFORE = {
    "guide_size_for": True, "max_size": 16384, "noise_mask": False, "force_inpaint": False,
    "inpaint_model": False, "noise_mask_feather": 0, "drop_size": 1, "wildcard": "", "cycle": 1,
    "refiner_ratio": 0.2, "batch_size": 1, "alpha": 255, "labels": "all", "bbox_fill": False,
    "contour_fill": True, "tiled_encode": False, "tiled_decode": False, "restore_latent": False,
    "base_only_steps": 0, "additional_mode": "DISABLE", "use_tiled_vae": False, "tile_size": 512,
    "device_mode": "AUTO", "filter_segs_dilation": 0, "mask_irregularity": 0, "block": False,
    "detection_hint": "center-1", "bbox_expansion": 0, ("MaskToSEGS", "contour_fill"): False,
    "behavior": "Mute", "step_mode": "simple", "sel_mode": False, "restore_mask": "never",
}  # fmt: skip
# Text that stood for a boolean.
SPOKEN = {
    "guide_size_for": {True: "bbox", False: "crop_region"},
    "noise_mask": {True: "enabled", False: "disabled"},
    "force_inpaint": {True: "enabled", False: "disabled"},
    "use_tiled_vae": {True: "enabled", False: "disabled"},
    "combined": {True: "True", False: "False"},
    "mode": {"populate": True, "fixed": False},
    "behavior": {"Mute": True, "Bypass": False},
}


def versions():
    """(node id, names) of the widgets in every version's list."""
    for node_id, history in HISTORY.items():
        names, length = [], 0
        for word in history.replace("Select to add ", "Select_to_add_").split():
            if word.isdigit():
                if names:
                    assert len(names) == length, (node_id, names)
                    yield node_id, tuple(names)
                length = int(word)
                continue
            name, _, place = word.replace("_to_add_", " to add ").partition("@")
            names.insert(names.index(place) if place else len(names), name)
        assert len(names) == length, (node_id, names)
        yield node_id, tuple(names)


VERSIONS = sorted(set(versions()))


def input_of(node_id, name):
    interface = SHARED[node_id]
    return (interface["required"] | interface.get("optional", {}))[name]


def some_value(node_id, name):
    """One that is not the default."""
    if name == "control_after_generate":
        return "increment"
    kind, options = (*input_of(node_id, name), {})[:2]
    if kind in ("INT", "FLOAT"):
        default, most = options["default"], options.get("max")
        step = options.get("step", 1 if kind == "INT" else 0.1)
        is_most = isinstance(most, int | float) and default >= most
        return default + (-step if is_most else step)
    if kind == "BOOLEAN":
        return not options["default"]
    if isinstance(kind, list):
        return kind[-1]
    return {"samplers": "heun", "schedulers": "karras"}.get(
        kind.get("of") if isinstance(kind, dict) else None, f"some {name}.pth"
    )


def saved_list(node_id, names, spoken):
    values = [some_value(node_id, name) for name in names]
    if not spoken:
        return values
    return [SPOKEN.get(name, {}).get(v, v) for name, v in zip(names, values, strict=True)]


@pytest.mark.parametrize("spoken", [False, True])
def test_lists_of_every_version(editor, spoken):
    nodes = [
        node(number, node_id, saved_list(node_id, names, spoken))
        for number, (node_id, names) in enumerate(VERSIONS)
    ]
    content = workflow(*nodes)
    result = upgraded(editor, content)
    wrong = []
    for (node_id, names), found in zip(VERSIONS, result["upgraded"]["nodes"], strict=True):
        shown = dict(zip(widgets_of(node_id), found["widgets_values"], strict=False))
        for name in widgets_of(node_id):
            if name in names:
                expected = some_value(node_id, name)
            else:
                expected = BEFORE.get((node_id, name), BEFORE.get(name))
            if expected is not None and name in shown and shown[name] != expected:
                wrong.append(f"{node_id} of {len(names)}: {name} is {shown[name]}, not {expected}")
    assert not wrong, "\n".join(wrong)


def widgets_of(node_id):
    for name, (kind, *_) in (
        SHARED[node_id]["required"] | SHARED[node_id].get("optional", {})
    ).items():
        if not isinstance(kind, str) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN"):
            yield name
            if name == "seed":
                yield "control_after_generate"


# Layouts with names that are no more, and lists that follow none

NOISE = ("schedule_for_cycle", "source", "seed", "control_after_generate", "start_strength",
         "end_strength")  # fmt: skip
SAMPLER = ("cfg", "sampler_name", "scheduler", "sigma_factor")
KEPT = [192, True, 768, 7, "randomize", 21, 6.5, "heun", "karras", 0.4, 6, False, True, "text", 2]
DETAILER = tuple(FIRST_MEANS)
UPSCALER = [2.5, "bicubic", "false", 16, 7, "fixed", 21, 6.5, "heun", "karras", 0.4, 6]


def shown(names, values):
    return dict(zip(names, values, strict=False))


FIRST_LAYOUTS = [
    ("KSamplerAdvancedProvider", SAMPLER, [987654321, "fixed", 6.5, "heun", "karras"],
     [6.5, "heun", "karras", 1.0]),
    ("KSamplerAdvancedProvider", SAMPLER, [50, "randomize", 6.5, "heun", "karras"],
     [6.5, "heun", "karras", 1.0]),
    ("KSamplerAdvancedProvider", SAMPLER, [50, False, 6.5, "of another pack", "karras"],
     [6.5, "of another pack", "karras", 1.0]),
    ("KSamplerAdvancedProvider", SAMPLER, [987654321, 6.5, "heun", "karras"],
     [6.5, "heun", "karras", 1.0]),
    ("NoiseInjectionDetailerHookProvider", NOISE, ["GPU", 7, "randomize", 1.5],
     ["from_start", "GPU", 7, "randomize", 1.5, 1.5]),
    ("NoiseInjectionDetailerHookProvider", NOISE, ["GPU", 7, 1.5],
     ["from_start", "GPU", 7, "fixed", 1.5, 1.5]),
    ("ImpactKSamplerAdvancedBasicPipe",
     ("add_noise", "noise_seed", "control_after_generate", "steps", "cfg", "sampler_name",
      "scheduler", "start_at_step", "end_at_step", "return_with_leftover_noise"),
     ["enable", 5, "increment-wrap", 21, 7, "heun", "karras", 2, 20, "disable"],
     [True, 5, "increment-wrap", 21, 7, "heun", "karras", 2, 20, False]),
    ("ImpactSEGSOrderedFilter", ("target", "order", "take_start", "take_count"),
     ["area(=w*h)", "Ascending", 1, 2], ["area(=w*h)", False, 1, 2]),
    ("ImpactSEGSRangeFilter", ("target", "mode", "min_value", "max_value"),
     ["area(=w*h)", "outside", 1, 2], ["area(=w*h)", False, 1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("node_id", "names", "saved", "means"), FIRST_LAYOUTS)
def test_a_layout_of_other_names(editor, node_id, names, saved, means):
    content = workflow(node(1, node_id, saved))
    editor.load(content)
    widgets = editor.node(1).widgets
    assert {name: widgets[name] for name in names} == shown(names, means)
    assert upgraded(editor, content)["misfits"] == []
    again = upgraded(editor, editor.page.evaluate(SERIALIZED))
    assert again["same"] and again["misfits"] == []


# node id, names, saved list, what it means by name, names of the values that are told
UNKNOWN = [
    # A seed out of its range: the others are where they were.
    ("DetailerForEach", DETAILER, [*KEPT[:3], -1, *KEPT[4:]], {"seed": 0}, ["seed"]),
    ("DetailerForEach", DETAILER, [*KEPT[:3], 1e30, *KEPT[4:7], "not here", *KEPT[8:]],
     {"seed": 0, "sampler_name": "not here"}, ["seed"]),
    ("DetailerForEach", DETAILER, [*KEPT[:9], 4, *KEPT[10:]], {"denoise": 0.5}, ["denoise"]),
    ("SAMDetectorCombined", ("detection_hint", "dilation", "threshold"), ["none", 0.9, 0.9],
     {"detection_hint": "none", "dilation": 0, "threshold": 0.9}, ["dilation"]),
    ("SAMDetectorCombined", ("detection_hint", "dilation", "threshold"), ["no hint", 3, 0.9],
     {"detection_hint": "center-1", "dilation": 3, "threshold": 0.9}, ["detection_hint"]),
    # A value in between that nobody knows, as a version of a week had one.
    ("SEGSUpscaler", ("feather", "inpaint_model", "noise_mask_feather"), [*UPSCALER, 1, True, 9],
     {"inpaint_model": False, "noise_mask_feather": 20, "feather": 6},
     ["inpaint_model", "noise_mask_feather"]),
    ("KSamplerAdvancedProvider", SAMPLER, ["heun", 987654321], {"cfg": 8.0, "sigma_factor": 1.0},
     ["cfg", "sampler_name"]),
    ("NoiseInjectionDetailerHookProvider", NOISE, [True, None, "x"],
     {"schedule_for_cycle": "skip_start", "source": "CPU", "seed": 0},
     ["schedule_for_cycle", "source", "seed"]),
    ("ImpactInt", ("value",), ["text"], {"value": 0}, ["value"]),
    ("ToBinaryMask", ("threshold",), [999], {"threshold": 20}, ["threshold"]),
    ("DetailerForEach", DETAILER, ["heun", "x", "y"], {"guide_size": 512, "guide_size_for": True},
     ["guide_size", "guide_size_for", "max_size"]),
]  # fmt: skip


@pytest.mark.parametrize(("node_id", "names", "saved", "means", "told"), UNKNOWN)
def test_what_fits_no_layout_keeps_the_default_and_is_told(
    editor, node_id, names, saved, means, told
):
    content = workflow(node(31, node_id, saved))
    (line,) = upgraded(editor, content)["misfits"]
    title = editor.server.object_info(node_id)["display_name"]
    said = line.removeprefix(f"{title} (node 31): ")
    assert said != line
    assert [part.split(": ")[0] for part in said.split(", ")] == told
    editor.load(content)
    widgets = editor.node(31).widgets
    expected = means if node_id != "DetailerForEach" or len(saved) < 9 else (
        shown(DETAILER, KEPT) | means
    )  # fmt: skip
    assert {name: widgets[name] for name in expected} == expected


def test_the_notice_names_the_node(editor):
    toasts = editor.page.locator(TOASTS)
    broken = node(31, "ImpactInt", ["<b>text</b>"]) | {"title": "<i>My number</i>"}
    editor.load(workflow(broken))
    said = toasts.filter(has_text="<i>My number</i> (node 31): value:").first
    said.wait_for()
    assert "<b>text</b>" in said.inner_text()


def test_a_linked_widget_may_hold_anything(editor):
    """The link counts; what is in the list of a widget that became an input is not told."""
    inputs = [("seed", "INT", 1)]
    saved = node(2, "DetailerForEach", [*KEPT[:3], None, *KEPT[4:]], inputs)
    saved["inputs"][0]["widget"] = {"name": "seed"}
    source = node(1, "ImpactInt", [77], outputs=[("INT", "INT", [1])])
    content = workflow(source, saved, links=[[1, 1, 0, 2, 0, "INT"]])
    assert upgraded(editor, content)["misfits"] == []
    editor.load(content)
    assert editor.node(2).widgets["denoise"] == 0.4
    ends = {slot.name: slot.ends for slot in editor.node(2).inputs}
    assert ends["seed"] == [("1", 0)]


def test_values_by_name(editor):
    """Some tools save them like that, and the host then shows the defaults."""
    saved = dict(zip(DETAILER, KEPT, strict=False)) | {"guide_size_for": "crop_region", "no": 1}
    noise = {"source": "GPU", "strength": 1.5, "seed": "text"}
    numbered = {str(number): value for number, value in enumerate(["heun", 1])}
    nodes = [
        node(1, "DetailerForEach", saved),
        node(2, "NoiseInjectionDetailerHookProvider", noise),
        node(3, "KSamplerAdvancedProvider", numbered | {"0": 6.5, "1": "heun", "2": "karras"}),
        node(4, "ImpactInt", {}),
    ]
    found = upgraded(editor, workflow(*nodes))
    assert [line.split(" (")[1] for line in found["misfits"]] == ['node 2): seed: "text"']
    editor.load(workflow(*nodes))
    first = shown(DETAILER, KEPT) | {"guide_size_for": False, "noise_mask_feather": 0}
    widgets = editor.node(1).widgets
    assert {name: widgets[name] for name in first} == first
    assert editor.node(2).widgets == shown(NOISE, ["from_start", "GPU", 0, "fixed", 1.5, 1.5])
    assert editor.node(3).widgets == shown(SAMPLER, [6.5, "heun", "karras", 1.0])
    assert editor.node(4).widgets == {"value": 0}


def test_names_beside_a_list_tell_its_order(editor):
    """Newer editors save them; here those of an order that no list of the pack's has."""
    names = ["denoise", "scheduler", "sampler_name", "cfg", "steps", "control_after_generate",
             "seed"]  # fmt: skip
    values = [0.4, "karras", "heun", 6.5, 21, "randomize", 7]
    saved = node(1, "KSamplerProvider", values)
    saved["widgets_values_named"] = dict(zip(names, values, strict=True))
    content = workflow(saved)
    assert upgraded(editor, content)["misfits"] == []
    editor.load(content)
    assert editor.node(1).widgets == dict(zip(names, values, strict=True))


@pytest.mark.parametrize("node_id", ["KSamplerAdvancedProvider"])
def test_inside_of_subgraphs_and_group_nodes(editor, node_id):
    old = [987654321, "fixed", 6.5, "heun", "karras"]
    inner = node(1, node_id, old)
    group = {"nodes": [inner | {"index": 0}, node(2, "ImpactInt", [5]) | {"index": 1}],
             "links": [], "external": []}  # fmt: skip
    subgraph = {
        "id": "7a0d31f0-6b8e-4a53-9d64-0f5b7b1f1a12", "version": 1, "revision": 0, "config": {},
        "state": {"lastGroupId": 0, "lastNodeId": 2, "lastLinkId": 1, "lastRerouteId": 0},
        "name": "Old", "inputs": [], "outputs": [], "widgets": [], "groups": [], "links": [],
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 60]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 60]}, "nodes": [inner],
    }  # fmt: skip
    content = workflow(
        node(5, subgraph["id"]), node(6, "workflow/Old", [*old, 6]), groupNodes={"Old": group}
    ) | {"definitions": {"subgraphs": [subgraph]}}
    found = upgraded(editor, content)["upgraded"]
    now = [6.5, "heun", "karras", 1.0]
    assert found["definitions"]["subgraphs"][0]["nodes"][0]["widgets_values"] == now
    assert found["extra"]["groupNodes"]["Old"]["nodes"][0]["widgets_values"] == now
    assert found["nodes"][1]["widgets_values"] == [*now, 6]
    broken = [-5, 5.5, *old]
    content["nodes"][1]["widgets_values"] = [*broken[:5], 6]
    (line,) = upgraded(editor, content)["misfits"]
    assert "KSamplerAdvancedProvider" in line and "(node 6)" in line
