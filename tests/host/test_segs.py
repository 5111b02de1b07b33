"""The nodes that take SEGS and give SEGS, on inputs with a known result."""

import json
import re

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import SAMPLING, Graph, box

RED = PIXELS["red"]
A = box(8, 8, 40, 40, label="a", confidence=0.5, crop=[0, 0, 48, 48], mask="r")
B = box(56, 24, 88, 56, label="b", confidence=0.75)
C = box(60, 24, 88, 56, label="c", confidence=0.25)


@pytest.fixture
def graph():
    graph = Graph()
    graph.three = graph.segs(96, 64, A, B, C)
    graph.none = graph.add("EmptySegs")[0]
    return graph


def labels(saved):
    """The labels in saved SEGS, as one word."""
    names = [name for name in saved if re.fullmatch(r"segs0_\d+_label", name)]
    return "".join(str(saved[name]) for name in names)


def value(saved, place=0):
    return saved[f"s{place}"].item()


def rectangle(width, height, x1, y1, x2, y2):
    mask = np.zeros((height, width), np.float32)
    mask[y1:y2, x1:x2] = 1
    return mask


def same(actual, expected, atol=1e-5):
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), atol=atol)


def test_taking_some_of_the_segments(graph, results):
    def split(kind, **widgets):
        node = graph.add(kind, segs=graph.three, **widgets)
        return node[0], node[1]

    def one(kind, **widgets):
        return graph.add(kind, **widgets)[0]

    eyes = graph.segs(96, 64, box(0, 0, 8, 8, label="left_eye"), box(0, 0, 8, 8, label="x"))
    pairs = {
        "label": split("ImpactSEGSLabelFilter", preset="all", labels="a,\nc"),
        "preset": split("ImpactSEGSLabelFilter", preset="person", labels=""),
        "inside": split(
            "ImpactSEGSRangeFilter",
            target="width", mode=True, min_value=29, max_value=32,
        ),
        "outside": split(
            "ImpactSEGSRangeFilter",
            target="confidence(0-100)", mode=False, min_value=50, max_value=75,
        ),
        "ordered": split(
            "ImpactSEGSOrderedFilter", target="confidence", order=False, take_start=1, take_count=1
        ),
        "unordered": split(
            "ImpactSEGSOrderedFilter", target="none", order=True, take_start=0, take_count=2
        ),
    }  # fmt: skip
    mask = graph.mask(96, 64, [56, 24, 88, 56, "r"])
    closest = graph.add("SEGSFilterClosestMask", segs=graph.three, mask=mask, threshold=0.5)
    every = graph.add(
        "SEGSFilterClosestMask", segs=graph.three, mask=mask, threshold=0.5, return_all_scores=True
    )
    singles = {
        "eyes": one("ImpactSEGSLabelFilter", segs=eyes, preset="eyes", labels=""),
        "nms": one("ImpactSEGSNMSFilter", segs=graph.three, iou_threshold=0.5),
        "apart": one(
            "ImpactSEGSIntersectionFilter",
            segs1=graph.three, segs2=graph.segs(96, 64, B), ioa_threshold=0.9,
        ),
        "picked": one("ImpactSEGSPicker", segs=graph.three, picks="3, 1"),
        "unpicked": one("ImpactSEGSPicker", segs=graph.none, picks="1"),
    }  # fmt: skip
    links = {f"{name}_{i}": link for name, pair in pairs.items() for i, link in enumerate(pair)}
    out = results(graph, **links, **singles, closest=closest[0], score=closest[1], scores=every[1])
    assert {name: labels(out[name]) for name in [*links, *singles]} == {
        "label_0": "ac", "label_1": "b",
        "preset_0": "", "preset_1": "abc",
        "inside_0": "b", "inside_1": "ac",
        "outside_0": "c", "outside_1": "ab",
        "ordered_0": "a", "ordered_1": "cb",
        "unordered_0": "ab", "unordered_1": "c",
        "eyes": "left_eye", "nms": "ba", "apart": "a", "picked": "ac", "unpicked": "",
    }  # fmt: skip
    assert labels(out["closest"]) == "b"
    assert json.loads(value(out["score"])) == 1
    assert json.loads(value(out["scores"])) == [0, 1, 28 / 32]


def test_the_picker_shows_a_numbered_picture_of_every_segment(graph, run, server):
    image = graph.plain(96, 64, 0x3366CC)
    picker = graph.add("ImpactSEGSPicker", segs=graph.three, picks="", fallback_image_opt=image)
    graph.add("DetailersTestSave", value=picker[0], name="picked")
    shown = run(graph).outputs[picker.key]["images"]
    assert len(shown) == 3
    assert labels(server.result("picked")) == ""


def test_putting_segments_together(graph, results):
    further = graph.segs(48, 32, box(4, 4, 8, 8, label="d"))  # of an image half as large
    joined = graph.add("ImpactSEGSConcat", segs1=graph.none, segs3=further, segs2=graph.three)[0]
    named = graph.add("ImpactSEGSLabelAssign", segs=graph.three, labels="x, y")[0]
    out = results(
        graph,
        joined=joined,
        merged=graph.add("ImpactSEGSMerge", segs=graph.three)[0],
        unmerged=graph.add("ImpactSEGSMerge", segs=graph.none)[0],
        named=named,
        count=graph.add("ImpactCount_Elts_in_SEGS", segs=joined)[0],
    )
    assert labels(out["joined"]) == "abcd"
    assert out["joined"]["segs0_3_crop"].tolist() == [8, 8, 16, 16]
    assert out["joined"]["segs0_shape"].tolist() == [64, 96]
    assert labels(out["named"]) == "xyc"
    assert value(out["count"]) == "4"
    merged = out["merged"]
    assert str(merged["segs0_0_label"]) == "merged"
    assert "segs0_1_label" not in merged
    assert merged["segs0_0_crop"].tolist() == [0, 0, 88, 56]
    assert merged["segs0_0_bbox"].tolist() == [8, 8, 88, 56]
    assert merged["segs0_0_confidence"] == 0.25
    same(merged["segs0_0_mask"][:48, :48], rectangle(48, 48, 8, 8, 40, 40))
    assert labels(out["unmerged"]) == ""


def test_changing_masks(graph, results):
    one = graph.segs(96, 64, A)
    clip = graph.segs(96, 64, A | {"frames": [0, 1]})
    left = graph.mask(96, 64, [0, 0, 20, 64, "r"])
    each = graph.mask(96, 64, [0, 0, 20, 64, "r"], [56, 24, 60, 28, "r"], per_item=True)
    full = box(56, 24, 88, 56, mask="full")
    pair = graph.segs(96, 64, A, full)
    others = graph.segs(96, 64, box(30, 0, 60, 64, mask="full"))
    image = graph.plain(96, 64, 0)
    out = results(
        graph,
        grown=graph.add("ImpactDilateMaskInSEGS", segs=one, dilation=3)[0],
        shrunk=graph.add("ImpactDilateMaskInSEGS", segs=clip, dilation=-3)[0],
        soft=graph.add("ImpactGaussianBlurMaskInSEGS", segs=one, kernel_size=2, sigma=10.0)[0],
        limited=graph.add("ImpactSegsAndMask", segs=pair, mask=left)[0],
        limited_each=graph.add("ImpactSegsAndMaskForEach", segs=pair, masks=each)[0],
        shared=graph.add("BitwiseAndMaskForEach", base_segs=pair, mask_segs=others)[0],
        rest=graph.add("SubtractMaskForEach", base_segs=pair, mask_segs=others)[0],
        old=graph.add("Segs & Mask", segs=pair, mask=left)[0],
        old_each=graph.add("Segs & Mask ForEach", segs=pair, masks=each)[0],
        old_combined=graph.add("SegsMaskCombine", segs=pair, image=image)[0],
    )
    mask = {name: saved.get("segs0_0_mask") for name, saved in out.items()}
    second = {name: saved.get("segs0_1_mask") for name, saved in out.items()}
    same(mask["grown"], rectangle(48, 48, 7, 7, 41, 41))
    same(mask["shrunk"][0], 0)
    same(mask["shrunk"][1], rectangle(48, 48, 9, 9, 39, 39))
    soft = mask["soft"]
    assert 0 < soft[6, 20] < soft[7, 20] < 0.5 < soft[8, 20] < soft[9, 20] < 1
    assert not soft[5].any()
    for prefix in ("", "old"):
        limited, limited_each = prefix or "limited", f"{prefix or 'limited'}_each"
        same(mask[limited], rectangle(48, 48, 8, 8, 20, 40))
        same(second[limited], 0)
        same(mask[limited_each], mask[limited])
        same(second[limited_each], rectangle(32, 32, 0, 0, 4, 4))
    same(mask["shared"], rectangle(48, 48, 30, 8, 40, 40))
    same(second["shared"], rectangle(32, 32, 0, 0, 4, 32))
    same(mask["rest"], rectangle(48, 48, 8, 8, 30, 40))
    same(second["rest"], rectangle(32, 32, 4, 0, 32, 32))
    both = rectangle(96, 64, 8, 8, 40, 40) + rectangle(96, 64, 56, 24, 88, 56)
    same(out["old_combined"]["t0"], both)


def test_single_segments(graph, results):
    def chain(segs, **edits):
        parts = graph.add("ImpactDecomposeSEGS", segs=segs)
        element = graph.add("ImpactDilate_Mask_SEG_ELT", seg_elt=parts[1], dilation=3)[0]
        element = graph.add("ImpactScaleBy_BBOX_SEG_ELT", seg=element, scale_by=0.5)[0]
        element = graph.add("ImpactEdit_SEG_ELT", seg_elt=element, **edits)[0]
        return parts, graph.add("ImpactAssembleSEGS", seg_header=parts[0], seg_elt=element)[0]

    image = graph.image(96, 64)
    segs = graph.add("SetDefaultImageForSEGS", segs=graph.three, image=image, override=True)[0]
    parts, assembled = chain(segs, label_opt=graph.value("new"))
    _, nothing = chain(graph.none)
    element = graph.add("ImpactFrom_SEG_ELT", seg_elt=parts[1])
    names = ("again", "picture", "mask", "region", "bbox", "control", "confidence", "label")
    edges = graph.add("ImpactFrom_SEG_ELT_bbox", bbox=element[4])
    region = graph.add("ImpactFrom_SEG_ELT_crop_region", crop_region=element[3])
    numbers = {f"edge{i}": edges[i] for i in range(4)} | {f"side{i}": region[i] for i in range(4)}
    links = {name: element[i] for i, name in enumerate(names[1:], start=1)}
    out = results(graph, image=image, assembled=assembled, nothing=nothing, **links, **numbers)
    assert out["assembled"]["segs0_shape"].tolist() == [64, 96]
    for i, entry in enumerate((A, B, C)):
        x1, y1, x2, y2 = crop = entry.get("crop", entry["bbox"])
        same(out["picture"][f"t{i}"], out["image"]["t0"][:, y1:y2, x1:x2])
        assert out["mask"][f"t{i}"].shape == (1, y2 - y1, x2 - x1)
        assert [int(value(out[f"edge{n}"], i)) for n in range(4)] == entry["bbox"]
        assert [int(value(out[f"side{n}"], i)) for n in range(4)] == list(crop)
        assert float(value(out["confidence"], i)) == entry["confidence"]
        assert value(out["label"], i).strip('"') == entry["label"]
        assert str(out["assembled"][f"segs0_{i}_label"]) == "new"
    same(out["assembled"]["segs0_0_mask"], rectangle(48, 48, 16, 16, 32, 32))
    assert out["assembled"]["segs0_0_bbox"].tolist() == [16, 16, 32, 32]
    assert labels(out["nothing"]) == ""


def test_pictures_of_segments(graph, results):
    image = graph.image(96, 64, batch=2)
    with_pictures = graph.add(
        "SetDefaultImageForSEGS", segs=graph.three, image=image, override=True
    )[0]
    kept = graph.add(
        "SetDefaultImageForSEGS", segs=with_pictures, image=graph.plain(96, 64, 0), override=False
    )[0]
    out = results(
        graph,
        image=image,
        kept=kept,
        bare=graph.add("RemoveImageFromSEGS", segs=kept)[0],
        no_control=graph.add("SEGSPreviewCNet", segs=kept)[0],
    )
    same(out["kept"]["segs0_1_image"], out["image"]["t0"][:, 24:56, 56:88])
    assert "segs0_1_image" not in out["bare"]
    assert out["no_control"]["t0"].shape == (1, 64, 64, 3)


def test_what_controlnets_see_is_shown(graph, results):
    image = graph.image(96, 64)
    control = graph.add("DetailersTestControl", family="image8")[0]
    segs = graph.add(
        "ImpactControlNetApplySEGS", segs=graph.segs(96, 64, A, B), control_net=control,
        strength=1.0, control_image=image,
    )[0]  # fmt: skip
    out = results(graph, image=image, shown=graph.add("SEGSPreviewCNet", segs=segs)[0])
    same(out["shown"]["t0"], out["image"]["t0"][:, :48, :48])
    same(out["shown"]["t1"], out["image"]["t0"][:, 24:56, 56:88])


def test_tiles(graph, results):
    image = graph.image(160, 128, batch=2)

    def tiles(**changed):
        widgets = {
            "bbox_size": 96, "crop_factor": 1.5, "min_overlap": 10, "filter_segs_dilation": 0,
            "mask_irregularity": 0.0, "irregular_mask_mode": "Reuse fast",
        }  # fmt: skip
        return graph.add("ImpactMakeTileSEGS", images=image, **(widgets | changed))[0]

    part = graph.segs(160, 128, box(0, 0, 80, 128, mask="full"))
    irregular = {"mask_irregularity": 0.7, "irregular_mask_mode": "All random quality"}

    def cover(segs):
        return graph.add("SegsToCombinedMask", segs=segs)[0]

    out = results(
        graph,
        plain=tiles(),
        cover=cover(tiles(**irregular)),
        inside=cover(tiles(filter_in_segs_opt=part)),
        outside=cover(tiles(filter_out_segs_opt=part)),
        nothing=tiles(filter_in_segs_opt=graph.none),
    )
    assert [out["plain"][f"segs0_{i}_bbox"].tolist() for i in range(4)] == [
        [0, 0, 96, 96], [64, 0, 160, 96], [0, 32, 96, 128], [64, 32, 160, 128],
    ]  # fmt: skip
    assert "segs0_4_bbox" not in out["plain"]
    assert out["plain"]["segs0_3_crop"].tolist() == [16, 0, 160, 128]
    assert out["cover"]["t0"].min() == 1
    assert out["inside"]["t0"][0].mean(0).tolist() == [1] * 80 + [0] * 80
    assert out["outside"]["t0"][0].mean(0).tolist() == [0] * 80 + [1] * 80
    assert out["nothing"]["segs0_shape"].tolist() == [128, 160]


# Upscaling


UPSCALING = {
    "rescale_factor": 2.0,
    "resampling_method": "nearest",
    "supersample": "false",
    "rounding_modulus": 8,
    **SAMPLING,
    "feather": 0,
    "inpaint_model": False,
    "noise_mask_feather": 0,
}


def twice(image):
    return image.repeat(2, axis=1).repeat(2, axis=2)


def test_upscaler(graph, results):
    model = graph.model("image8", prior_std=0.0)
    image = graph.image(48, 32)
    segs = graph.segs(48, 32, box(4, 4, 20, 20), box(24, 8, 40, 24))
    parts = graph.parts(model)
    by_parts = graph.add("SEGSUpscaler", image=image, segs=segs, **parts, **UPSCALING)[0]
    by_pipe = graph.add(
        "SEGSUpscalerPipe", image=image, segs=segs, basic_pipe=graph.pipe(model), **UPSCALING
    )[0]
    untouched = graph.add(
        "SEGSUpscaler", image=image, segs=graph.none, **parts, **(UPSCALING | {
            "rescale_factor": 1.5, "resampling_method": "lanczos", "supersample": "true",
            "rounding_modulus": 64,
        }),
    )[0]  # fmt: skip
    out = results(graph, image=image, by_parts=by_parts, by_pipe=by_pipe, untouched=untouched)
    expected = twice(out["image"]["t0"])
    expected[:, 8:40, 8:40] = RED
    expected[:, 16:48, 48:80] = RED
    same(out["by_parts"]["t0"], expected, atol=1e-4)
    same(out["by_pipe"]["t0"], out["by_parts"]["t0"])
    assert out["untouched"]["t0"].shape == (1, 64, 64, 3)


def test_an_upscale_model_enlarges_the_image_first(graph, results, brightening):
    model = graph.model("image8", prior_std=0.0)
    upscaler = graph.add("UpscaleModelLoader", model_name=brightening)[0]
    image = graph.image(48, 32, channels=4)
    segs = graph.segs(48, 32, box(4, 4, 20, 20))
    upscaled = graph.add(
        "SEGSUpscaler", image=image, segs=segs, upscale_model_opt=upscaler, **graph.parts(model),
        **UPSCALING,
    )[0]  # fmt: skip
    out = results(graph, image=image, upscaled=upscaled)
    expected = twice(out["image"]["t0"])
    expected[..., :3] = (expected[..., :3] + 0.1).clip(0, 1)
    expected[:, 8:40, 8:40, :3] = RED
    same(out["upscaled"]["t0"], expected, atol=1e-4)


def test_confidences_of_other_packs_may_be_arrays_or_tensors(graph, results):
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(96, 64)
    mask = graph.mask(96, 64, [0, 0, 90, 64, "r"])
    links = {}
    for kind, odd in {"plain": {}, "array": {}, "tensor": {"tensor": True}}.items():
        entries = [
            entry | odd | ({} if kind == "plain" else {"confidence": [entry["confidence"]]})
            for entry in (A, B, C)
        ]
        segs = graph.segs(96, 64, *entries)

        def one(node, output=0, **inputs):
            return graph.add(node, **inputs)[output]

        parts = graph.add("ImpactDecomposeSEGS", segs=segs)
        element = graph.add("ImpactFrom_SEG_ELT", seg_elt=parts[1])
        edited = one("ImpactEdit_SEG_ELT", seg_elt=parts[1], label_opt=graph.value("e"))
        made = {
            "ordered": one(
                "ImpactSEGSOrderedFilter",
                segs=segs, target="confidence", order=True, take_start=0, take_count=2,
            ),
            "hundredth": one(
                "ImpactSEGSRangeFilter",
                segs=segs, target="confidence(0-100)", mode=True, min_value=40, max_value=60,
            ),
            "alone": one("ImpactSEGSNMSFilter", segs=segs, iou_threshold=0.5),
            "merged": one("ImpactSEGSMerge", segs=segs),
            "joined": one("ImpactSEGSConcat", segs1=segs, segs2=graph.segs(48, 32, *entries)),
            "grown": one("ImpactDilateMaskInSEGS", segs=segs, dilation=3),
            "limited": one("ImpactSegsAndMask", segs=segs, mask=mask),
            "rest": one("SubtractMaskForEach", base_segs=segs, mask_segs=graph.segs(96, 64, B)),
            "named": one("ImpactSEGSLabelAssign", segs=segs, labels="x"),
            "together": one("ImpactAssembleSEGS", seg_header=parts[0], seg_elt=edited),
            "sure": element[6],
            "boxes": one("DetailersSEGSToBoundingBox", segs=segs, box=True),
            "pictured": one("SetDefaultImageForSEGS", segs=segs, image=image, override=True),
            "pictures": one("SEGSToImageList", segs=segs, fallback_image_opt=image),
            "pasted": one("SEGSPaste", image=image, segs=segs, feather=0, alpha=255,
                          ref_image_opt=graph.plain(96, 64, 0)),
            "covered": one("SegsToCombinedMask", segs=segs),
            "detailed": graph.detail("DetailerForEachPipe", image, segs, model)[1],
            "kept": graph.detail("SEGSDetailer", image, segs, model)[0],
        }  # fmt: skip
        links |= {f"{kind}_{name}": link for name, link in made.items()}
    out = results(graph, **links)
    assert labels(out["plain_ordered"]) == "bc"[:1] + "a"
    assert labels(out["plain_hundredth"]) == "a"
    assert out["plain_merged"]["segs0_0_confidence"] == 0.25
    assert [float(value(out["plain_sure"], place)) for place in range(3)] == [0.5, 0.75, 0.25]
    for name in made:
        for kind in ("array", "tensor"):
            found, plain = out[f"{kind}_{name}"], out[f"plain_{name}"]
            assert set(found) == set(plain)
            for key in set(plain) - {"stats"}:
                told = f"{kind} {name} {key}"
                np.testing.assert_array_equal(found[key], plain[key], err_msg=told)


def test_pictures_of_other_packs_may_be_bytes(graph, results):
    image = graph.image(96, 64)
    model = graph.model("flat8", prior_std=0.5)

    def made(segs):
        shown = graph.add("SEGSPreview", segs=segs, alpha_mode=False, min_alpha=0.2)
        pasted = graph.add(
            "SEGSPaste", image=graph.plain(96, 64, 0), segs=segs, feather=0, alpha=255
        )  # fmt: skip
        element = graph.add(
            "ImpactFrom_SEG_ELT", seg_elt=graph.add("ImpactDecomposeSEGS", segs=segs)[1]
        )  # fmt: skip
        kept = graph.detail("SEGSDetailer", image, segs, model, denoise=0.3)
        return {
            "listed": graph.add("SEGSToImageList", segs=segs)[0], "shown": shown[0],
            "pasted": pasted[0], "picture": element[1], "kept": kept[0],
        }  # fmt: skip

    floats = made(graph.segs(96, 64, A, image=image))
    in_bytes = made(graph.segs(96, 64, A | {"bytes": True}, image=image))
    out = results(
        graph, **floats, **{f"bytes_{name}": link for name, link in in_bytes.items()}
    )  # fmt: skip
    for name in floats:
        for key in set(out[name]) - {"stats", "segs0_0_label"}:
            same(out[f"bytes_{name}"][key], out[name][key], atol=0.6 / 255)
    assert out["listed"]["t0"].max() > 0.5
