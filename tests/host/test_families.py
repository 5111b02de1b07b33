"""Kinds of models: latents of any ratio, with a time axis or without, inpaint, a checkpoint."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import Graph, box

FAMILIES = ["flat8", "inpaint8", "image8", "image16", "image1", "video8"]
RED = np.array(PIXELS["red"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_segment_of_any_size_is_redrawn_and_nothing_else(results, family):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    image = graph.image(109, 83)
    # 37x27 becomes 87x64 at guide_size 64: padded for every ratio but 1
    entry = box(31, 23, 68, 50)
    segs = graph.segs(109, 83, entry)
    ways = {
        "masked": {},
        "whole": {"noise_mask": False},
        "soft": {"noise_mask_feather": 20},
        "tiled": {"tiled_encode": True, "tiled_decode": True},
        "own_size": {"guide_size": 64, "guide_size_for": False, "max_size": 64},
    }
    links = {
        name: graph.detail("DetailerForEach", image, segs, model, scheduler="simple", **settings)[0]
        for name, settings in ways.items()
    }
    out = results(graph, image=image, **links)
    expected = out["image"]["t0"].copy()
    expected[:, 23:50, 31:68] = RED
    for name in ways:
        found = out[name]["t0"]
        np.testing.assert_allclose(found, expected, atol=1e-3, err_msg=name)
        found[:, 23:50, 31:68] = RED
        outside = out["image"]["t0"].copy()
        outside[:, 23:50, 31:68] = RED
        np.testing.assert_array_equal(found, outside, err_msg=name)


@pytest.mark.parametrize("family", ["image8", "image16", "image1", "video8"])
def test_nothing_shifts_where_nothing_is_redrawn(results, family):
    """What the mask leaves out comes back as it was, at a size that is padded for the VAE."""
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    image = graph.image(75, 69)
    segs = graph.segs(75, 69, box(0, 0, 16, 16, crop=[0, 0, 75, 69], mask="r"))
    settings = {"guide_size_for": False, "scheduler": "simple"}
    refined = graph.detail("DetailerForEachDebug", image, segs, model, **settings)[2]
    out = results(graph, image=image, refined=refined)
    refined, image = out["refined"]["t0"], out["image"]["t0"]
    assert np.abs(refined - image)[:, :16, :16].max() > 0.1
    np.testing.assert_allclose(refined[:, 32:], image[:, 32:], atol=1e-5)
    np.testing.assert_allclose(refined[:, :, 32:], image[:, :, 32:], atol=1e-5)


def test_an_inpaint_model_is_shown_the_rest_of_the_crop(results):
    graph = Graph()
    model = graph.model("inpaint8", prior_std=0.0)
    image = graph.image(96, 64)
    segs = graph.segs(96, 64, box(32, 16, 64, 48, crop=[0, 0, 96, 64], mask="r"))
    settings = {"inpaint_model": True, "guide_size_for": False}
    links = {
        name: graph.detail("DetailerForEachDebug", image, segs, model, **settings, **changed)[2]
        for name, changed in {
            "hard": {"noise_mask_feather": 0},
            "soft": {"noise_mask_feather": 10, "scheduler": "simple"},
        }.items()
    }
    # What the VAE alone makes of the picture is what lies outside of the mask.
    coded = graph.decode(model, graph.encode(model, image))
    negative = graph.value("NegativePlaceholder")
    placeholder = graph.detail(
        "DetailerForEachDebug", image, segs, model, "red", negative, **settings
    )[2]
    out = results(graph, coded=coded, placeholder=placeholder, **links)
    expected = out["coded"]["t0"]
    for name in ("hard", "soft", "placeholder"):
        found = out[name]["t0"]
        np.testing.assert_allclose(found[:, :, :16], expected[:, :, :16], atol=1e-4, err_msg=name)
        inside = found[:, 28:36, 44:52]
        np.testing.assert_allclose(inside, np.broadcast_to(RED, inside.shape), atol=1e-3)


def test_an_inpaint_model_without_a_noise_mask_redraws_the_crop(results):
    graph = Graph()
    model = graph.model("inpaint8", prior_std=0.0)
    image = graph.image(64, 64)
    segs = graph.segs(64, 64, box(16, 16, 48, 48, crop=[0, 0, 64, 64], mask="r"))
    settings = {"inpaint_model": True, "noise_mask": False}
    refined = graph.detail("DetailerForEachDebug", image, segs, model, **settings)[2]
    picture = results(graph, refined=refined)["refined"]["t0"]
    np.testing.assert_allclose(picture, np.broadcast_to(RED, picture.shape), atol=1e-4)


@pytest.mark.parametrize("kind", ["sd15", "sd3"])
def test_a_checkpoint_from_the_stock_loader_redraws_its_segments(results, checkpoint, kind):
    graph = Graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint(kind))
    image = graph.image(160, 128)
    segs = graph.segs(160, 128, box(10, 10, 70, 70, mask="e"), box(85, 40, 150, 110, mask="r"))
    settings = {"steps": 2, "cfg": 4.0, "denoise": 0.6, "scheduler": "normal", "feather": 3}
    texts = ["portrait of a woman", "blurry"]
    links = {
        "hard": graph.detail("DetailerForEach", image, segs, model, *texts, **settings)[0],
        "soft": graph.detail(
            "DetailerForEachPipe", image, segs, model, *texts, **settings,
            noise_mask_feather=8, wildcard="[ASC] a face [SEP] a hand", cycle=2,
        )[0],
    }  # fmt: skip
    mask = graph.add("SegsToCombinedMask", segs=segs)[0]
    out = results(graph, image=image, mask=mask, **links)
    image, inside = out["image"]["t0"], out["mask"]["t0"][0] == 1
    touched = np.zeros((128, 160), bool)
    for x1, y1, x2, y2 in ((10, 10, 70, 70), (85, 40, 150, 110)):
        touched[y1:y2, x1:x2] = True  # a crop is not larger than its mask's box
    for name in links:
        found = out[name]["t0"]
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[:, ~touched], image[:, ~touched])
        assert np.abs(found - image)[:, inside].mean() > 0.02
    assert np.abs(out["hard"]["t0"] - out["soft"]["t0"]).max() > 0.01
