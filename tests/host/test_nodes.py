"""Every node once, on inputs with a known result."""

import io
import json

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, blurred
from detailers.tests.host.graphs import Graph, box
from PIL import Image

RED, BLUE = PIXELS["red"], PIXELS["blue"]
LEFT, RIGHT = box(8, 8, 40, 40, label="left"), box(56, 24, 88, 56, label="right")


def same(actual, expected, atol=1e-5):
    """Every pixel is `expected`, a colour or a picture."""
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), atol=atol)


def pasted(image, *entries, colour=RED):
    """Images [B,H,W,3] with the boxes of these entries in one colour."""
    image = image.copy()
    for entry in entries:
        x1, y1, x2, y2 = entry["bbox"]
        image[:, y1:y2, x1:x2] = colour
    return image


@pytest.fixture
def scene():
    """A graph with a model that gives exactly the colour asked for, an image and two segments."""
    graph = Graph()
    graph.painter = graph.model("image8", prior_std=0.0)
    graph.picture = graph.image(96, 64)
    graph.two = graph.segs(96, 64, LEFT, RIGHT)
    return graph


# Detailers


@pytest.mark.parametrize("kind", ["DetailerForEach", "DetailerForEachPipe"])
def test_detailer(scene, results, kind):
    detailed = scene.detail(kind, scene.picture, scene.two, scene.painter)
    out = results(scene, image=scene.picture, detailed=detailed[0])
    same(out["detailed"]["t0"], pasted(out["image"]["t0"], LEFT, RIGHT))


def test_what_comes_of_a_grey_image_may_be_written_to(scene, results):
    """And that changes nothing else: neither the image nor what others were given."""
    grey = scene.image(96, 64, channels=1)
    nothing = scene.segs(96, 64)
    links = {
        kind: scene.detail(kind, grey, nothing, scene.painter)[0]
        for kind in ("DetailerForEach", "DetailerForEachPipe", "DetailerForEachPipeForAnimateDiff")
    }
    links["MaskDetailerPipe"] = scene.detail(
        "MaskDetailerPipe", grey, scene.mask(96, 64), scene.painter
    )[0]
    links["pictures"] = scene.add("SEGSToImageList", segs=scene.two, fallback_image_opt=grey)[0]
    links["pasted"] = scene.add(
        "SEGSPaste", image=grey, segs=nothing, feather=3, alpha=255
    )[0]  # fmt: skip
    written = {name: scene.add("DetailersTestWrite", value=link)[0] for name, link in links.items()}
    out = results(scene, **written)
    for name in links:
        same(out[name]["t0"], 0.5)
    after = results(scene, grey=grey, kept=scene.image(96, 64, channels=1))
    same(after["grey"]["t0"], after["kept"]["t0"])


def test_the_pipe_detailer_gives_the_segments_with_their_crops(scene, results):
    detailed = scene.detail("DetailerForEachPipe", scene.picture, scene.two, scene.painter)
    vae = scene.add("FromBasicPipe", basic_pipe=detailed[2])[2]
    decoded = scene.add("VAEEncode", vae=vae, pixels=scene.picture)[0]
    out = results(scene, segs=detailed[1], pipe=decoded, control=detailed[3])
    segs = out["segs"]
    assert segs["segs0_shape"].tolist() == [64, 96]
    for index, entry in enumerate((LEFT, RIGHT)):
        same(segs[f"segs0_{index}_image"], RED)
        assert segs[f"segs0_{index}_image"].shape == (1, 32, 32, 3)
        assert segs[f"segs0_{index}_bbox"].tolist() == entry["bbox"]
        assert str(segs[f"segs0_{index}_label"]) == entry["label"]
    assert out["pipe"]["latent0_samples"].shape == (1, 192, 8, 12)
    assert not out["control"]["t0"].any()
    assert out["control"]["t0"].shape == (1, 64, 64, 3)


@pytest.mark.parametrize(
    ("kind", "first_list"), [("DetailerForEachDebug", 1), ("DetailerForEachDebugPipe", 3)]
)
def test_debug_detailer(scene, results, kind, first_list):
    wide, small = box(8, 8, 56, 56, mask="r", crop=[0, 0, 64, 64]), box(72, 8, 88, 24)
    segs = scene.segs(96, 64, small, wide)
    detailed = scene.detail(
        kind, scene.picture, segs, scene.painter, feather=3, guide_size_for=False
    )
    names = ("cropped", "refined", "alpha", "control")
    lists = {name: detailed[first_list + i] for i, name in enumerate(names)}
    out = results(scene, image=scene.picture, detailed=detailed[0], **lists)
    image = out["image"]["t0"]
    crop, refined, alpha = (out[name]["t0"] for name in names[:3])
    assert [out["cropped"][f"t{i}"].shape for i in range(2)] == [(1, 64, 64, 3), (1, 16, 16, 3)]
    same(crop, image[:, :64, :64])
    same(refined, pasted(crop, wide))
    same(alpha[..., :3], refined)
    soft = np.zeros((64, 64))
    soft[8:56, 8:56] = 1
    same(alpha[0, ..., 3], blurred(soft, 3))
    same(out["detailed"]["t0"][:, :64, :64], crop + alpha[..., 3:] * (refined - crop))
    assert list(out["control"]) == ["stats", "t0"]


def test_segs_detailer_keeps_the_result_in_the_segments(scene, results):
    detailed = scene.detail("SEGSDetailer", scene.picture, scene.two, scene.painter, batch_size=2)
    pictures = scene.add("SEGSToImageList", segs=detailed[0])[0]
    out = results(scene, segs=detailed[0], pictures=pictures, control=detailed[1])
    for index in range(4):
        same(out["segs"][f"segs0_{index}_image"], RED)
        same(out["pictures"][f"t{index}"], RED)
    assert "segs0_4_crop" not in out["segs"]
    assert out["segs"]["segs0_2_crop"].tolist() == LEFT["bbox"]
    assert out["control"]["t0"].shape == (1, 64, 64, 3)


def test_segs_detailer_works_on_the_segments_own_pictures(scene, results):
    blue = scene.plain(96, 64, 0x3333CC)
    segs = scene.segs(96, 64, box(16, 16, 32, 32, mask="r", crop=[8, 8, 40, 40]), image=blue)
    detailed = scene.detail(
        "SEGSDetailer", scene.picture, segs, scene.painter, guide_size_for=False
    )
    picture = results(scene, segs=detailed[0])["segs"]["segs0_0_image"]
    same(picture[:, :4], BLUE, atol=1e-3)  # not from the image
    same(picture[:, 12:20, 12:20], RED, atol=1e-3)


def test_mask_detailer(scene, results):
    mask = scene.mask(96, 64, [8, 8, 40, 40, "r"], [56, 24, 88, 56, "r"])
    detailed = scene.detail(
        "MaskDetailerPipe", scene.picture, mask, scene.painter, batch_size=2, crop_factor=1.0
    )
    links = {"detailed": detailed[0], "refined": detailed[1], "alpha": detailed[2]}
    sampled = scene.add("FromBasicPipe", basic_pipe=detailed[3])[3]
    out = results(scene, image=scene.picture, positive=sampled, **links)
    expected = pasted(out["image"]["t0"], LEFT, RIGHT)
    same(out["detailed"]["t0"], np.concatenate([expected, expected]))
    assert [out["refined"][f"t{i}"].shape for i in range(4)] == [(1, 32, 32, 3)] * 4
    assert out["alpha"]["t3"].shape == (1, 32, 32, 4)
    assert out["positive"]["cond0_0"].shape == (1, 77, 8)


def test_mask_detailer_works_on_the_whole_crop_on_request(scene, results):
    mask = scene.mask(96, 64, [16, 16, 48, 48, "e"])
    both = {
        name: scene.detail(
            "MaskDetailerPipe",
            scene.picture,
            mask,
            scene.painter,
            mask_mode=masked,
            guide_size_for=False,
        )[1]
        for name, masked in (("masked", True), ("whole", False))
    }
    out = results(scene, image=scene.picture, **both)
    crop = out["image"]["t0"][:, :64, :64]
    same(out["whole"]["t0"], RED)
    same(out["masked"]["t0"][:, :8, :8], crop[:, :8, :8])
    same(out["masked"]["t0"][:, 28:36, 28:36], RED)


def test_video_detailers(results):
    graph = Graph()
    model = graph.model("video8", prior_std=0.0)
    frames = graph.image(96, 64, batch=5)
    segs = graph.segs(96, 64, LEFT, RIGHT)
    kept = graph.detail("SEGSDetailerForAnimateDiff", frames, segs, model)
    pasted_in = graph.detail("DetailerForEachPipeForAnimateDiff", frames, segs, model)
    options = {"image": frames, "segs": kept[0], "feather": 0, "alpha": 255}
    by_hand = graph.add("SEGSPaste", **options)[0]
    out = results(
        graph,
        frames=frames,
        kept=kept[0],
        images=pasted_in[0],
        segs=pasted_in[1],
        by_hand=by_hand,
        control=pasted_in[3],
    )
    expected = pasted(out["frames"]["t0"], LEFT, RIGHT)
    same(out["images"]["t0"], expected)
    same(out["by_hand"]["t0"], expected)
    for segs in (out["kept"], out["segs"]):
        assert segs["segs0_1_image"].shape == (5, 32, 32, 3)
        same(segs["segs0_1_image"], RED)
    assert out["control"]["t0"].shape == (1, 64, 64, 3)


# SEGS and masks


def test_masks_to_segments_and_back(results):
    graph = Graph()
    mask = graph.mask(96, 64, [8, 8, 40, 40, "e"], [56, 24, 88, 56, "r", 0.5], [2, 50, 6, 54, "r"])
    settings = {"crop_factor": 1.5, "bbox_fill": False, "drop_size": 10, "contour_fill": False}
    segs = {
        "separate": graph.add("MaskToSEGS", mask=mask, combined=False, **settings)[0],
        "combined": graph.add("MaskToSEGS", mask=mask, combined=True, **settings)[0],
        "filled": graph.add(
            "MaskToSEGS", mask=mask, combined=False, **settings | {"bbox_fill": True}
        )[0],
        "solid": graph.add(
            "MaskToSEGS", mask=mask, combined=False, **settings | {"contour_fill": True}
        )[0],
    }
    masks = {
        "united": graph.add("SegsToCombinedMask", segs=segs["separate"])[0],
        "list": graph.add("ImpactSEGSToMaskList", segs=segs["separate"])[0],
        "batch": graph.add("ImpactSEGSToMaskBatch", segs=segs["separate"])[0],
        "solid_mask": graph.add("SegsToCombinedMask", segs=segs["solid"])[0],
        "filled_mask": graph.add("SegsToCombinedMask", segs=segs["filled"])[0],
    }
    out = results(graph, mask=mask, **segs, **masks)
    separate, mask = out["separate"], out["mask"]["t0"]
    assert separate["segs0_shape"].tolist() == [64, 96]
    assert separate["segs0_0_bbox"].tolist() == [56, 24, 88, 56]  # the lowest first
    assert separate["segs0_0_crop"].tolist() == [48, 16, 96, 64]
    assert separate["segs0_1_bbox"].tolist() == [8, 8, 40, 40]
    assert separate["segs0_1_crop"].tolist() == [0, 0, 48, 48]
    assert "segs0_2_crop" not in separate
    assert out["combined"]["segs0_0_crop"].tolist() == [0, 0, 96, 64]
    np.testing.assert_array_equal(out["combined"]["segs0_0_mask"], mask[0])
    mask[0, 50:54, 2:6] = 0  # what drop_size leaves out
    np.testing.assert_array_equal(out["united"]["t0"], mask)
    np.testing.assert_array_equal(out["batch"]["t0"].max(0), mask[0])
    for index in range(2):
        np.testing.assert_array_equal(out["list"][f"t{index}"], out["batch"]["t0"][[index]])
    boxes = np.zeros((1, 64, 96))
    boxes[:, 8:40, 8:40] = boxes[:, 24:56, 56:88] = 1
    np.testing.assert_array_equal(out["filled_mask"]["t0"], boxes)
    np.testing.assert_array_equal(out["solid_mask"]["t0"], np.ceil(mask))


def test_masks_of_frames_to_segments(results):
    graph = Graph()
    frames = graph.mask(64, 48, [8, 8, 24, 24, "r"], [16, 8, 32, 24, "r"], per_item=True)
    segs = graph.add(
        "MaskToSEGS_for_AnimateDiff",
        mask=frames,
        combined=False,
        crop_factor=1.0,
        bbox_fill=False,
        drop_size=1,
        contour_fill=False,
    )[0]
    united = graph.add("SegsToCombinedMask", segs=segs)[0]
    out = results(graph, frames=frames, segs=segs, united=united)
    assert out["segs"]["segs0_0_bbox"].tolist() == [8, 8, 32, 24]
    np.testing.assert_array_equal(out["segs"]["segs0_0_mask"], out["frames"]["t0"][:, 8:24, 8:32])
    np.testing.assert_array_equal(out["united"]["t0"], out["frames"]["t0"])


def test_no_segments_give_what_goes_on_working(scene, results, run):
    none = scene.add("EmptySegs")[0]
    links = {
        "segs": none,
        "detailed": scene.detail("DetailerForEach", scene.picture, none, scene.painter)[0],
        "mask": scene.add("SegsToCombinedMask", segs=none)[0],
        "masks": scene.add("ImpactSEGSToMaskBatch", segs=none)[0],
        "pictures": scene.add("SEGSToImageList", segs=none)[0],
        "paste": scene.add("SEGSPaste", image=scene.picture, segs=none, feather=5, alpha=255)[0],
    }
    out = results(scene, image=scene.picture, **links)
    assert list(out["segs"]) == ["stats", "segs0_shape"]
    for name in ("detailed", "paste"):
        np.testing.assert_array_equal(out[name]["t0"], out["image"]["t0"])
    np.testing.assert_array_equal(out["mask"]["t0"], np.zeros((1, 64, 64)))
    np.testing.assert_array_equal(out["pictures"]["t0"], np.zeros((1, 64, 64, 3)))


def test_segs_paste(scene, results):
    reference = scene.plain(96, 64, 0x336699)
    own = scene.segs(96, 64, LEFT, image=scene.plain(96, 64, 0xCC9966))
    options = {"image": scene.picture, "segs": own, "feather": 0}
    out = results(
        scene,
        image=scene.picture,
        own=scene.add("SEGSPaste", **options, alpha=255)[0],
        faint=scene.add("SEGSPaste", **options, alpha=51)[0],
        reference=scene.add("SEGSPaste", **options, alpha=255, ref_image_opt=reference)[0],
    )
    image = out["image"]["t0"]
    full = pasted(image, LEFT, colour=(0.8, 0.6, 0.4))
    same(out["own"]["t0"], full, atol=1e-6)
    same(out["faint"]["t0"], 0.8 * image + 0.2 * full, atol=1e-6)
    same(out["reference"]["t0"], pasted(image, LEFT, colour=(0.2, 0.4, 0.6)), atol=1e-6)


def test_segs_preview_and_image_list(scene, results, server):
    segs = scene.segs(96, 64, {**LEFT, "crop": [0, 0, 48, 48], "mask": "r"})
    options = {"alpha_mode": True, "min_alpha": 0.2, "fallback_image_opt": scene.picture}
    preview = scene.add("SEGSPreview", segs=segs, **options)
    scene.add("DetailersTestSave", value=preview[0], name="shown")
    pictures = scene.add("SEGSToImageList", segs=segs, fallback_image_opt=scene.picture)[0]
    scene.add("DetailersTestSave", value=pictures, name="pictures")
    scene.add("DetailersTestSave", value=scene.picture, name="picture")
    done = server.run(scene)
    assert done.ok, done.error
    crop = server.result("picture")["t0"][:, :48, :48]
    np.testing.assert_array_equal(server.result("pictures")["t0"], crop)
    shown = server.result("shown")["t0"]
    alpha = np.full((1, 48, 48), 0.2, np.float32)
    alpha[:, 8:40, 8:40] = 1
    np.testing.assert_allclose(shown, np.concatenate([crop, alpha[..., None]], -1), atol=1e-6)
    (entry,) = done.outputs[preview.key]["images"]
    image = np.asarray(Image.open(io.BytesIO(server.view(**entry))))
    same(image / 255, shown[0], atol=0.503 / 255)


# Pipes and detectors


def test_pipes_are_made_edited_and_taken_apart(results):
    graph = Graph()
    model, other = graph.model("image8", prior_std=0.0), graph.model("image16", prior_std=0.0)
    pipe = graph.pipe(model, "red", "blue")
    edited = graph.add(
        "EditBasicPipe",
        basic_pipe=pipe,
        model=other[0],
        vae=other[2],
        positive=graph.text(other, "green"),
    )[0]
    picture = graph.plain(64, 64, 0)

    def sampled(parts, scheduler):
        model, _, vae, positive, negative = parts
        latent = graph.add("VAEEncode", vae=vae, pixels=picture)[0]
        latent = graph.sample([model], latent, positive, negative, scheduler=scheduler)
        return graph.add("VAEDecode", vae=vae, samples=latent)[0]

    first = graph.add("FromBasicPipe", basic_pipe=pipe)
    second = graph.add("FromBasicPipe_v2", basic_pipe=edited)
    third = graph.add("FromBasicPipe", basic_pipe=second[0])
    out = results(
        graph,
        first=sampled([first[i] for i in range(5)], "karras"),
        second=sampled([second[i + 1] for i in range(5)], "simple"),
        third=sampled([third[i] for i in range(5)], "simple"),
        text=graph.add("CLIPTextEncode", clip=second[2], text="blue")[0],
        negative=second[5],
    )
    same(out["first"]["t0"], RED)
    same(out["second"]["t0"], PIXELS["green"])
    same(out["third"]["t0"], PIXELS["green"])
    np.testing.assert_array_equal(out["text"]["cond0_0"], out["negative"]["cond0_0"])


def test_bbox_detector_takes_any_detector_and_chooses_by_label(results):
    graph = Graph()
    boxes = [
        [10, 10, 30, 30, "face", 0.9],
        [40, 10, 60, 30, "hand", 0.9],
        [9, 9, 20, 20, "face", 0],
    ]
    detector = graph.add("DetailersTestDetector", boxes=json.dumps(boxes))[0]
    settings = {"threshold": 0.5, "dilation": 4, "crop_factor": 2.0, "drop_size": 5}
    inputs = {"bbox_detector": detector, "image": graph.image(96, 64), **settings}
    hand = graph.add("BboxDetectorSEGS", **inputs, labels="hand, foot")[0]
    every = graph.add("BboxDetectorSEGS", **inputs, labels="all")[0]
    out = results(graph, hand=hand, every=every)
    assert [str(out["hand"]["segs0_0_label"]), "segs0_1_label" in out["hand"]] == ["hand", False]
    assert out["hand"]["segs0_0_bbox"].tolist() == [36, 6, 64, 34]
    assert [str(out["every"][f"segs0_{i}_label"]) for i in range(2)] == ["face", "hand"]


def test_the_face_detector_finds_the_face(results, server, tmp_path):
    skimage = pytest.importorskip("skimage.data")
    Image.fromarray(skimage.astronaut()).save(tmp_path / "astronaut.png")
    graph = Graph()
    image = graph.add("LoadImage", image=server.upload_image(tmp_path / "astronaut.png"))[0]
    segs = graph.add(
        "BboxDetectorSEGS",
        bbox_detector=graph.add("DetailersFaceDetectorProvider", min_size=60)[0],
        image=image,
        threshold=0.5,
        dilation=0,
        crop_factor=2.0,
        drop_size=10,
        labels="face",
    )[0]
    out = results(graph, segs=segs)["segs"]
    assert "segs0_1_crop" not in out
    assert out["segs0_shape"].tolist() == [512, 512]
    x1, y1, x2, y2 = out["segs0_0_bbox"]
    assert 150 < x1 < 200
    assert 250 < x2 < 300
    assert 40 < y1 < 100
    assert 150 < y2 < 220
    assert out["segs0_0_image"].shape[:3] == (1, *out["segs0_0_mask"].shape)
