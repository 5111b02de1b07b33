"""web/detailers_upgrade.js: lists of widget values as every version saved them.

The versions are written down here apart from the pack's own table.
"""

import json
from pathlib import Path

import pytest
from detailers.tests.editor.test_upgrade import node, upgraded, workflow

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
        step, most = options.get("step", 1), options.get("max")
        is_most = isinstance(most, int | float) and options["default"] >= most
        return options["default"] + (-step if is_most else step)
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
