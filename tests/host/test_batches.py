"""Batches of different pictures: each image has its own segments, as it has alone."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, stats
from detailers.tests.host.graphs import Graph, box

RED = np.array(PIXELS["red"])
SIZE = (96, 64)
SHAPES = [[8, 8, 32, 32], [56, 24, 80, 48], [8, 36, 28, 56], [60, 4, 84, 20]]
MASK = {"combined": False, "crop_factor": 2.0, "bbox_fill": False, "drop_size": 1,
        "contour_fill": False}  # fmt: skip
FIND = {"threshold": 0.5, "dilation": 0, "crop_factor": 2.0, "drop_size": 1, "labels": "all"}


def covered(*boxes):
    """Masks [B,H,W] of one box each."""
    width, height = SIZE
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def grown(boxes, by):
    return [[max(x1 - by, 0), max(y1 - by, 0), x2 + by, y2 + by] for x1, y1, x2, y2 in boxes]


def places(saved):
    """Image, number of images and box of each saved segment."""
    count = sum(name.endswith("_crop") for name in saved)
    return [
        (*saved[f"segs0_{i}_of"].tolist(), tuple(saved[f"segs0_{i}_bbox"].tolist()))
        for i in range(count)
    ]


def bright_at(graph, *boxes, seed=0):
    """A batch of pictures, each with one bright thing."""
    pictures = []
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        thing = graph.plain(x2 - x1, y2 - y1, 0xFFFFFF)
        picture = graph.image(*SIZE, seed=seed + i)
        pictures.append(
            graph.add(
                "ImageCompositeMasked", destination=picture, source=thing, x=x1, y=y1,
                resize_source=False,
            )[0]
        )  # fmt: skip
    return pictures


def batch(graph, pictures):
    names = {f"image{i}": picture for i, picture in enumerate(pictures, start=1)}
    return graph.add("ImpactMakeImageBatch", **names)[0]


def found_in(graph, image, kind="BboxDetectorSEGS", **changed):
    detector = graph.add("DetailersTestBrightDetector", least=0.97)[0]
    return graph.add(kind, bbox_detector=detector, image=image, **{**FIND, **changed})[0]


@pytest.fixture
def graph():
    graph = Graph()
    graph.tuned = graph.model("flat8", prior_std=0.5)
    return graph


SETTINGS = {"denoise": 0.6, "sampler_name": "dpmpp_2m_sde", "feather": 3}


@pytest.mark.parametrize("node", ["DetailerForEach", "DetailerForEachDebugPipe"])
def test_a_photo_and_its_mirror_image(graph, results, node):
    photo = bright_at(graph, SHAPES[0])[0]
    mirrored = graph.add("ImageFlip", image=photo, flip_method="x-axis: vertically")[0]
    turned = graph.add("ImageFlip", image=photo, flip_method="y-axis: horizontally")[0]
    pictures = [photo, mirrored, turned]
    image = batch(graph, pictures)
    segs = found_in(graph, image)
    alone = {
        f"alone{i}": graph.detail(node, picture, found_in(graph, picture), graph.tuned, **SETTINGS)[
            0
        ]
        for i, picture in enumerate(pictures)
    }
    together = graph.detail(node, image, segs, graph.tuned, **SETTINGS)[0]
    out = results(graph, image=image, segs=segs, together=together, **alone)
    (width, height), (x1, y1, x2, y2) = SIZE, SHAPES[0]
    boxes = [
        SHAPES[0], [x1, height - y2, x2, height - y1], [width - x2, y1, width - x1, y2],
    ]  # fmt: skip
    assert places(out["segs"]) == [(i, 3, tuple(own)) for i, own in enumerate(boxes)]
    image, found = out["image"]["t0"], out["together"]["t0"]
    for i, mask in enumerate(covered(*boxes)):
        np.testing.assert_array_equal(found[i], out[f"alone{i}"]["t0"][0])
        changed = (found[i] != image[i]).any(axis=-1)
        assert changed[mask].all()
        assert not changed[~covered(*grown(boxes, 3))[i]].any()


def test_segments_of_a_detector_paste_their_own_image(graph, results):
    pictures = bright_at(graph, *SHAPES[:3])
    image = batch(graph, pictures)
    segs = found_in(graph, image)
    own = graph.add("DetailersTestDetector", boxes='[[8, 8, 32, 32, "a", 1.0]]')[0]
    boxes = [
        [{"x": 8, "y": 8, "width": 24, "height": 24}],
        [],
        [{"x": 40, "y": 8, "width": 9, "height": 20}],
    ]
    ours = graph.add(
        "DetailersBoundingBoxToSEGS", image=image, bboxes=graph.value(boxes), video=False, **FIND
    )[0]
    detailed = graph.detail("SEGSDetailer", image, segs, graph.tuned, seed=5)[0]
    reference = graph.plain(*SIZE, 0x336699)

    def pasted(segs, **more):
        return graph.add("SEGSPaste", image=image, segs=segs, feather=0, alpha=255, **more)[0]

    out = results(
        graph, image=image, ours=ours, back=pasted(ours), detailed=pasted(detailed),
        reference=pasted(segs, ref_image_opt=reference),
        each=graph.add("BboxDetectorSEGS", bbox_detector=own, image=image, **FIND)[0],
        boxes=graph.add("DetailersSEGSToBoundingBox", segs=ours, box=True)[0],
    )  # fmt: skip
    image = out["image"]["t0"]
    assert places(out["ours"]) == [(0, 3, (8, 8, 32, 32)), (2, 3, (40, 8, 49, 28))]
    assert places(out["each"]) == [(i, 3, (8, 8, 32, 32)) for i in range(3)]
    np.testing.assert_array_equal(out["back"]["t0"], image)
    masks = covered(*SHAPES[:3])
    for name in ("detailed", "reference"):
        changed = (out[name]["t0"] != image).any(axis=-1)
        assert changed[masks].all()
        assert not changed[~masks].any()
    assert str(out["boxes"]["s0"]).count('"x"') == 2
    assert "], [], [" in str(out["boxes"]["s0"])


def test_a_mask_for_each_image_changes_one_place_in_each(graph, results, server):
    image = graph.image(*SIZE, batch=4)
    masks = graph.mask(*SIZE, *([*shape, "r"] for shape in SHAPES), per_item=True)
    segs = graph.add("MaskToSEGS", mask=masks, **MASK)[0]
    singles = {}
    for i, shape in enumerate(SHAPES):
        mask = graph.mask(*SIZE, [*shape, "r"])
        own = graph.add("MaskToSEGS", mask=mask, **MASK)[0]
        picture = graph.image(*SIZE, seed=i)
        singles[f"single{i}"] = graph.detail("DetailerForEach", picture, own, graph.tuned,
                                             **SETTINGS)[0]  # fmt: skip
    start = len(server.log())
    out = results(
        graph, image=image, masks=masks,
        together=graph.detail("DetailerForEach", image, segs, graph.tuned, **SETTINGS)[0],
        combined=graph.add("SegsToCombinedMask", segs=segs)[0], **singles,
    )  # fmt: skip
    for i in range(4):
        np.testing.assert_array_equal(out["together"]["t0"][i], out[f"single{i}"]["t0"][0])
    np.testing.assert_array_equal(out["combined"]["t0"], out["masks"]["t0"])
    changed = (out["together"]["t0"] != out["image"]["t0"]).any(axis=-1)
    assert changed[covered(*SHAPES)].all()
    assert not changed[~covered(*grown(SHAPES, 3))].any()
    assert "holds for all" not in server.log()[start:]


def test_segments_that_say_no_image_or_another_batch_hold_for_every_image(graph, results, server):
    image = graph.image(*SIZE, batch=2)
    masks = graph.mask(*SIZE, *([*shape, "r"] for shape in SHAPES[:3]), per_item=True)
    three = graph.add("MaskToSEGS", mask=masks, **MASK)[0]
    one = graph.segs(*SIZE, box(*SHAPES[0]))
    before = len(server.log())
    unknown = results(graph, image=image, unknown=graph.detail(
        "DetailerForEach", image, one, graph.tuned)[0])  # fmt: skip
    middle = len(server.log())
    foreign = results(graph, foreign=graph.detail("DetailerForEach", image, three, graph.tuned)[0])
    log = server.log()
    assert log[before:middle].count("1 segment without an image of the batch") == 1
    assert log[middle:].count("made for a batch of 3 images or masks and are used on 2 images") == 1
    image = unknown["image"]["t0"]
    changed = (unknown["unknown"]["t0"] != image).any(axis=-1)
    np.testing.assert_array_equal(changed, np.repeat(covered(SHAPES[0]), 2, axis=0))
    changed = (foreign["foreign"]["t0"] != image).any(axis=-1)
    np.testing.assert_array_equal(changed, np.repeat(covered(*SHAPES[:3]).any(0)[None], 2, axis=0))


def test_single_frames_at_a_video_detailer_become_a_clip(graph, results, server):
    video = "DetailerForEachPipeForAnimateDiff"
    clip = graph.image(*SIZE, batch=5)
    moving = [[8 + 6 * i, 8, 32 + 6 * i, 32] for i in range(5)]
    masks = graph.mask(*SIZE, *([*shape, "r"] for shape in moving), per_item=True)
    fewer = graph.mask(*SIZE, *([*shape, "r"] for shape in moving[:3]), per_item=True)

    def made(kind, mask):
        return graph.add(kind, mask=mask, **MASK | {"crop_factor": 1.0})[0]

    before = results(graph, clip=clip)["clip"]
    start = len(server.log())
    single = results(
        graph, single=graph.detail(video, clip, made("MaskToSEGS", masks), graph.tuned)[0]
    )["single"]  # fmt: skip
    told = server.log()[start:]
    assert "'MASK to SEGS for Video' makes clips of masks" in told
    assert stats(single)["model_calls"] - stats(before)["model_calls"] == 4
    start = len(server.log())
    out = results(
        graph,
        made=graph.detail(video, clip, made("MaskToSEGS_for_AnimateDiff", masks), graph.tuned)[0],
        few=graph.detail(video, clip, made("MaskToSEGS_for_AnimateDiff", fewer), graph.tuned)[0],
    )
    told = server.log()[start:]
    assert "MASK to SEGS for Video" not in told
    assert "masks for 3 frames and are used on 5 frames" in told
    np.testing.assert_array_equal(single["t0"], out["made"]["t0"])
    changed = (single["t0"] != before["t0"]).any(axis=-1)
    np.testing.assert_array_equal(changed, covered(*moving))
    changed = (out["few"]["t0"] != before["t0"]).any(axis=-1)
    np.testing.assert_array_equal(changed, np.repeat(covered(*moving[:3]).any(0)[None], 5, axis=0))


def test_filters_and_lists_go_image_by_image(graph, results):
    image = graph.image(*SIZE, batch=2)
    both = [graph.mask(*SIZE, [8, 8, 32, 32, "r"], [56, 24, 66, 34, "r"]),
            graph.mask(*SIZE, [8, 8, 20, 20, "r"], [56, 24, 80, 48, "r"])]  # fmt: skip
    masks = graph.add("ImpactMakeMaskBatch", mask1=both[0], mask2=both[1])[0]
    segs = graph.add("MaskToSEGS", mask=masks, **MASK)[0]
    largest = graph.add(
        "ImpactSEGSOrderedFilter", segs=segs, target="area(=w*h)", order=True, take_start=0,
        take_count=1,
    )  # fmt: skip
    out = results(
        graph, image=image, segs=segs, masks=masks, largest=largest[0], others=largest[1],
        merged=graph.add("ImpactSEGSMerge", segs=segs)[0],
        named=graph.add("ImpactSEGSLabelAssign", segs=segs, labels="x,y")[0],
        kept=graph.add("ImpactSEGSNMSFilter", segs=segs, iou_threshold=0.1)[0],
        pictures=graph.add("SEGSToImageList", segs=segs, fallback_image_opt=image)[0],
        limited=graph.add("ImpactSegsAndMask", segs=segs, mask=masks)[0],
        tiles=graph.add(
            "ImpactMakeTileSEGS", images=image, bbox_size=64, crop_factor=1.0, min_overlap=0,
            filter_segs_dilation=0, filter_in_segs_opt=largest[0],
        )[0],
    )  # fmt: skip
    first = [(0, 2, (56, 24, 66, 34)), (0, 2, (8, 8, 32, 32))]
    second = [(1, 2, (56, 24, 80, 48)), (1, 2, (8, 8, 20, 20))]
    assert places(out["segs"]) == first + second
    assert places(out["largest"]) == [first[1], second[0]]
    assert places(out["others"]) == [first[0], second[1]]
    assert places(out["merged"]) == [(0, 2, (8, 8, 66, 34)), (1, 2, (8, 8, 80, 48))]
    assert places(out["kept"]) == first + second
    assert [str(out["named"][f"segs0_{i}_label"]) for i in range(4)] == ["x", "y"] * 2
    assert {place[:2] for place in places(out["tiles"])} == {(0, 2), (1, 2)}
    for i, row in enumerate((0, 0, 1, 1)):
        x1, y1, x2, y2 = out["segs"][f"segs0_{i}_crop"]
        np.testing.assert_array_equal(
            out["pictures"][f"t{i}"], out["image"]["t0"][row : row + 1, y1:y2, x1:x2]
        )
        np.testing.assert_array_equal(
            out["limited"][f"segs0_{i}_mask"], out["segs"][f"segs0_{i}_mask"]
        )


def test_upscaler_control_and_every_detailer_keep_to_the_images(graph, results):
    image = graph.image(*SIZE, batch=2)
    masks = graph.mask(*SIZE, *([*shape, "r"] for shape in SHAPES[:2]), per_item=True)
    segs = graph.add("MaskToSEGS", mask=masks, **MASK)[0]
    control = graph.add("DetailersTestControl", family="flat8")[0]
    guided = graph.add(
        "ImpactControlNetApplyAdvancedSEGS", segs=segs, control_net=control, strength=1.0,
        start_percent=0.0, end_percent=1.0, control_image=image,
    )[0]  # fmt: skip
    seen = graph.add("SEGSPreviewCNet", segs=guided)[0]
    upscaled = graph.add(
        "SEGSUpscalerPipe", image=image, segs=segs, basic_pipe=graph.pipe(graph.tuned),
        rescale_factor=2.0, resampling_method="nearest", supersample="false", rounding_modulus=8,
        seed=5, steps=2, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=0.5, feather=0,
        inpaint_model=False, noise_mask_feather=0,
    )[0]  # fmt: skip
    out = results(graph, image=image, seen=seen, upscaled=upscaled)
    for i, (x1, y1, x2, y2) in enumerate(out_crops(SHAPES[:2])):
        np.testing.assert_array_equal(out["seen"][f"t{i}"][0], out["image"]["t0"][i, y1:y2, x1:x2])
    large = out["image"]["t0"].repeat(2, axis=1).repeat(2, axis=2)
    changed = (out["upscaled"]["t0"] != large).any(axis=-1)
    masks = covered(*SHAPES[:2]).repeat(2, axis=1).repeat(2, axis=2)
    around = covered(*grown(SHAPES[:2], 2)).repeat(2, axis=1).repeat(2, axis=2)
    assert changed[masks].all()
    assert not changed[~around].any()


def out_crops(shapes):
    """Crop regions of twice the boxes' size that stay within the image."""
    regions = []
    for x1, y1, x2, y2 in shapes:
        region = []
        for low, high, limit in ((x1, x2, SIZE[0]), (y1, y2, SIZE[1])):
            length = min(2 * (high - low), limit)
            start = min(max((low + high - length) // 2, 0), limit - length)
            region.append((start, start + length))
        regions.append((region[0][0], region[1][0], region[0][1], region[1][1]))
    return regions
