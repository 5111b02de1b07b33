"""The pixels that change, and those that do not: masks, feather, borders, overlaps, channels."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, blurred
from detailers.tests.host.graphs import Graph, box

RED = np.array(PIXELS["red"])


def placed(masks, height, width):
    """Masks by their top left corner (x, y), united in a plane of the image's size."""
    plane = np.zeros((height, width))
    for (x, y), mask in masks:
        part = plane[y : y + mask.shape[0], x : x + mask.shape[1]]
        np.maximum(part, mask, out=part)
    return plane


@pytest.mark.parametrize("feather", [0, 5, 50])
def test_the_feathered_mask_is_what_is_pasted(results, feather):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(288, 128)
    first = box(40, 30, 90, 100, mask="e", crop=[10, 4, 120, 120])
    second = box(200, 40, 240, 80, mask="r", crop=[170, 10, 280, 126])
    segs = graph.segs(288, 128, first, second)
    settings = {"noise_mask": False, "feather": feather, "guide_size_for": False}
    detailed = graph.detail("DetailerForEachPipe", image, segs, model, **settings)
    out = results(graph, image=image, detailed=detailed[0], segs=detailed[1])
    image, found = out["image"]["t0"], out["detailed"]["t0"]
    masks = [
        ((10, 4), blurred(out["segs"]["segs0_0_mask"], feather)),
        ((170, 10), blurred(out["segs"]["segs0_1_mask"], feather)),
    ]
    weight = placed(masks, 128, 288)[..., None]
    np.testing.assert_allclose(found, image + weight * (RED - image), atol=1e-5)
    outside = weight[..., 0] == 0
    assert outside.mean() > 0.25
    np.testing.assert_array_equal(found[:, outside], image[:, outside])


def test_with_a_noise_mask_the_rest_of_the_crop_stays(results):
    graph = Graph()
    model = graph.model("image1", prior_std=0.0)
    image = graph.image(96, 96)
    segs = graph.segs(96, 96, box(24, 24, 72, 72, mask="e", crop=[8, 8, 88, 88]))
    # A schedule whose last noise level is the model's lowest would let go of everything there.
    common = {"guide_size_for": False, "scheduler": "simple"}
    refined = {
        name: graph.detail("DetailerForEachDebug", image, segs, model, **common, **settings)[2]
        for name, settings in {
            "off": {"noise_mask": False},
            "on": {"noise_mask": True},
            "soft": {"noise_mask": True, "noise_mask_feather": 12},
        }.items()
    }
    mask = graph.add("SegsToCombinedMask", segs=segs)[0]
    out = results(graph, image=image, mask=mask, **refined)
    crop, mask = out["image"]["t0"][:, 8:88, 8:88], out["mask"]["t0"][0, 8:88, 8:88]
    inside = mask == 1
    everywhere = np.broadcast_to(RED, crop.shape)
    np.testing.assert_allclose(out["off"]["t0"], everywhere, atol=1e-5)
    np.testing.assert_allclose(out["on"]["t0"][:, inside], everywhere[:, inside], atol=1e-5)
    np.testing.assert_allclose(out["on"]["t0"][:, ~inside], crop[:, ~inside], atol=1e-5)
    # Differential diffusion lets go of a pixel the earlier, the lower the blurred mask there is.
    soft, reach = out["soft"]["t0"], blurred(mask, 12)
    np.testing.assert_allclose(soft[:, reach == 0], crop[:, reach == 0], atol=1e-5)
    np.testing.assert_allclose(soft[:, reach == 1], everywhere[:, reach == 1], atol=1e-5)
    assert np.abs(soft[:, ~inside] - crop[:, ~inside]).max() > 0.1


@pytest.mark.parametrize("family", ["image1", "flat8"])
def test_a_soft_noise_mask_is_the_hosts_differential_diffusion(results, family):
    graph = Graph()
    model = graph.model(family)
    image = graph.image(64, 64)
    masked = graph.mask(64, 64, [0, 0, 64, 64, "r", 0.5])  # blurring leaves it as it is
    segs = graph.add(
        "MaskToSEGS",
        mask=masked,
        combined=False,
        crop_factor=1.0,
        bbox_fill=False,
        drop_size=1,
        contour_fill=False,
    )[0]
    settings = {"steps": 6, "denoise": 0.8}
    ours = graph.detail(
        "DetailerForEachDebug", image, segs, model, noise_mask_feather=10, **settings
    )[2]
    soft_model = graph.add("DifferentialDiffusion", model=model[0])
    latent = graph.add("SetLatentNoiseMask", samples=graph.encode(model, image), mask=masked)[0]
    texts = graph.text(model, "red"), graph.text(model, "")
    stock = graph.decode(model, graph.sample(soft_model, latent, *texts, **settings))
    out = results(graph, ours=ours, stock=stock)
    np.testing.assert_allclose(out["ours"]["t0"], np.clip(out["stock"]["t0"], 0, 1), atol=1e-5)


def test_a_later_segment_sees_what_an_earlier_one_left(results):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(96, 64)
    entries = [box(8, 8, 56, 56, mask="e"), box(32, 8, 80, 56, mask="e")]

    def detail(image, *entries, **settings):
        segs = graph.segs(96, 64, *entries)
        settings = {"denoise": 0.4, "feather": 4, **settings}
        return graph.detail("DetailerForEach", image, segs, model, **settings)[0]

    out = results(
        graph,
        both=detail(image, *entries),
        in_turn=detail(detail(image, entries[0]), entries[1], seed=6),
        reversed=detail(image, *entries[::-1]),
        second=detail(image, entries[1], seed=6),
    )
    np.testing.assert_array_equal(out["both"]["t0"], out["in_turn"]["t0"])
    assert np.abs(out["both"]["t0"] - out["reversed"]["t0"]).max() > 0.01
    alone = np.abs(out["both"]["t0"] - out["second"]["t0"])[:, 16:48, 40:56]
    assert alone.max() > 0.01  # inside both masks


def test_masks_at_every_border(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(120, 96)
    shapes = {
        "corners": [[0, 0, 20, 20], [100, 0, 120, 20], [0, 76, 20, 96], [100, 76, 120, 96]],
        "sides": [[0, 30, 12, 66], [108, 30, 120, 66], [40, 0, 80, 12], [40, 84, 80, 96]],
        "all": [[0, 0, 120, 96]],
    }
    links = {}
    for name, boxes in shapes.items():
        mask = graph.mask(120, 96, *([*shape, "r"] for shape in boxes))
        links[name] = graph.detail(
            "MaskDetailerPipe", image, mask, model, mask_mode=False, feather=3, crop_factor=3.0
        )[0]
        links[f"{name}_mask"] = mask
    out = results(graph, image=image, **links)
    image = out["image"]["t0"]
    for name in shapes:
        weight = blurred(out[f"{name}_mask"]["t0"][0], 3)[..., None]
        found = out[name]["t0"]
        np.testing.assert_allclose(found, image + weight * (RED - image), atol=2e-4, err_msg=name)
        untouched = weight[..., 0] == 0
        np.testing.assert_array_equal(found[:, untouched], image[:, untouched])


def test_odd_masks_and_regions(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(61, 47)  # no multiple of anything
    entries = {
        "empty": box(10, 10, 30, 30, mask="empty"),
        "pixel": box(20, 20, 21, 21, mask="full"),
        "pixel_in_crop": box(10, 10, 40, 40, mask="pixel"),
        "larger_than_image": box(-20, -30, 90, 80),
        "over_the_corner": box(50, 40, 80, 70),
        "outside": box(70, 10, 90, 30),
        "thin": box(5, 0, 6, 47),
        "no_area": box(10, 10, 10, 30),
    }
    links = {
        name: graph.detail(
            "DetailerForEach", image, graph.segs(61, 47, entry), model, noise_mask=False
        )[0]
        for name, entry in entries.items()
    }
    links["none"] = graph.detail("DetailerForEach", image, graph.segs(61, 47), model)[0]
    out = results(graph, image=image, **links)
    image = out["image"]["t0"]
    for name in ("empty", "outside", "no_area", "none"):
        np.testing.assert_array_equal(out[name]["t0"], image, err_msg=name)
    for name in ("pixel", "larger_than_image", "over_the_corner", "thin"):
        x1, y1, x2, y2 = (max(0, value) for value in entries[name]["bbox"])
        expected = image.copy()
        expected[:, y1:y2, x1:x2] = RED
        np.testing.assert_allclose(out[name]["t0"], expected, atol=1e-5, err_msg=name)
        expected[:, y1:y2, x1:x2] = out[name]["t0"][:, y1:y2, x1:x2]
        np.testing.assert_array_equal(out[name]["t0"], expected, err_msg=name)
    changed = np.argwhere((out["pixel_in_crop"]["t0"] != image).any(-1)[0])
    assert changed.tolist() == [[25, 25]]


def test_an_empty_mask_leaves_every_detailer_with_its_image(results):
    graph = Graph()
    model = graph.model("video8", prior_std=0.0)
    frames = graph.image(64, 48, batch=2)
    mask = graph.mask(64, 48)
    settings = {"combined": True, "crop_factor": 2.0, "bbox_fill": False, "drop_size": 1}
    segs = graph.add("MaskToSEGS", mask=mask, contour_fill=False, **settings)[0]
    images = {
        node: graph.detail(node, frames, mask if node.startswith("Mask") else segs, model)[0]
        for node in (
            "DetailerForEach",
            "DetailerForEachDebug",
            "DetailerForEachPipe",
            "DetailerForEachDebugPipe",
            "MaskDetailerPipe",
            "DetailerForEachPipeForAnimateDiff",
        )
    }
    kept = {
        node: graph.detail(node, frames, segs, model)[0]
        for node in ("SEGSDetailer", "SEGSDetailerForAnimateDiff")
    }
    out = results(graph, frames=frames, **images, **kept)
    for node in images:
        np.testing.assert_array_equal(out[node]["t0"], out["frames"]["t0"], err_msg=node)
    for node in kept:
        assert list(out[node]) == ["stats", "segs0_shape"]


def test_segments_of_another_image_size_are_scaled_by_each_ratio(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(128, 64)
    segs = graph.segs(64, 64, box(8, 16, 24, 32))  # of a square image; this one is 2:1
    out = results(
        graph, image=image, detailed=graph.detail("DetailerForEach", image, segs, model)[0]
    )
    expected = out["image"]["t0"].copy()
    expected[:, 16:32, 16:48] = RED
    np.testing.assert_allclose(out["detailed"]["t0"], expected, atol=1e-5)


def test_max_size_holds_where_a_crop_is_larger(results, server):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(256, 128)
    hook = graph.hook()
    segs = graph.segs(256, 128, box(0, 0, 256, 128))
    detailed = graph.detail(
        "DetailerForEach", image, segs, model, max_size=96, detailer_hook=hook[0]
    )[0]
    graph.add("DetailersTestSave", value=hook[1], after=detailed, name="log")
    picture = results(graph, detailed=detailed)["detailed"]["t0"]
    np.testing.assert_allclose(picture, np.broadcast_to(RED, (1, 128, 256, 3)), atol=1e-5)
    log = str(server.result("log")["s0"])
    assert '["post_upscale", [1, 48, 96, 3]]' in log


def test_more_than_256_levels_survive(results):
    graph = Graph()
    model = graph.model("image1", prior_std=10.0)  # leaves the picture almost as it is
    image = graph.image(96, 64)
    segs = graph.segs(96, 64, box(0, 0, 96, 64))
    settings = {"denoise": 0.0001, "steps": 1, "guide_size": 128}
    detailed = graph.detail("DetailerForEach", image, segs, model, **settings)[0]
    out = results(graph, image=image, detailed=detailed)
    for name in ("image", "detailed"):
        assert len(np.unique(out[name]["t0"][0, ..., 0])) > 2000
    assert np.abs(out["detailed"]["t0"] - out["image"]["t0"]).mean() < 0.03


@pytest.mark.parametrize(("channels", "expected_channels"), [(1, 3), (3, 3), (4, 4)])
def test_grey_and_transparent_images(results, channels, expected_channels):
    graph = Graph()
    model = graph.model("video8", prior_std=0.0)
    images = graph.image(80, 64, batch=2, channels=channels)
    entries = [box(8, 8, 40, 40), box(48, 8, 72, 32)]
    segs, mask = graph.segs(80, 64, *entries), graph.mask(80, 64, [8, 8, 40, 40, "r"])
    plain = graph.plain(80, 64, 0x336699, batch=2)
    own = graph.segs(80, 64, *entries, image=plain)
    paste = {"image": images, "segs": own, "feather": 0, "alpha": 255}
    alpha = {"segs": segs, "fallback_image_opt": images, "alpha_mode": True, "min_alpha": 0.5}
    out = results(
        graph,
        images=images,
        each=graph.detail("DetailerForEach", images, segs, model)[0],
        masked=graph.detail("MaskDetailerPipe", images, mask, model, crop_factor=1.0)[0],
        video=graph.detail("DetailerForEachPipeForAnimateDiff", images, segs, model)[0],
        kept=graph.detail("SEGSDetailer", images, segs, model)[0],
        frames=graph.detail("SEGSDetailerForAnimateDiff", images, segs, model)[0],
        paste=graph.add("SEGSPaste", **paste)[0],
        preview=graph.add("SEGSPreview", **alpha)[0],
    )
    images = out["images"]["t0"]
    expanded = np.repeat(images, 3, -1) if channels == 1 else images.copy()
    for name, segments, colour in (
        ("each", entries, RED),
        ("masked", entries[:1], RED),
        ("video", entries, RED),
        ("paste", entries, (0.2, 0.4, 0.6)),
    ):
        expected = expanded.copy()
        for entry in segments:
            x1, y1, x2, y2 = entry["bbox"]
            expected[:, y1:y2, x1:x2, :3] = colour
        found = out[name]["t0"]
        assert found.shape == (2, 64, 80, expected_channels), name
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=name)
        np.testing.assert_array_equal(found[..., 3:], images[..., 3:])
    for name in ("kept", "frames"):
        assert out[name]["segs0_0_image"].shape == (2, 32, 32, 3)
    assert out["preview"]["t0"].shape == (2, 32, 32, 4)
