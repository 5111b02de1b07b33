"""The analytic models give the values that are computed here; the random checkpoint loads."""

import json
import math

import numpy as np
import pytest
import torch
from detailers.tests.host.by_hand import BLUE, RED, euler, karras, noise, simple_flow, stats
from detailers.tests.host.graphs import Graph


def channels(colour):
    """The four latent channels of the flat8 and inpaint8 families, as the model sees them."""
    return np.array([*colour, sum(colour) / 3], dtype=np.float32).reshape(1, 4, 1, 1)


FLAT8_STORED = 0.18215  # latents are stored at 1 / 0.18215 of the model's size


# Latents


@pytest.mark.parametrize(
    ("family", "latent_shape"),
    [("image8", (2, 192, 8, 6)), ("image16", (2, 768, 4, 3)), ("image1", (2, 3, 64, 48))],
)
def test_lossless_latents_give_the_pictures_back(results, family, latent_shape):
    graph = Graph()
    model = graph.model(family)
    image = graph.image(48, 64, batch=2)
    latent = graph.encode(model, image)
    out = results(graph, image=image, latent=latent, decoded=graph.decode(model, latent))
    assert out["latent"]["latent0_samples"].shape == latent_shape
    np.testing.assert_allclose(out["decoded"]["t0"], out["image"]["t0"], atol=1e-6)


@pytest.mark.parametrize("family", ["image8", "image16", "image1"])
def test_tiled_coding_gives_the_pictures_back(results, family):
    graph = Graph()
    model = graph.model(family)
    image = graph.image(160, 128)
    tile = {"tile_size": 64, "overlap": 16, "temporal_size": 64, "temporal_overlap": 8}
    latent = graph.add("VAEEncodeTiled", vae=model[2], pixels=image, **tile)[0]
    decoded = graph.add("VAEDecodeTiled", vae=model[2], samples=latent, **tile)[0]
    out = results(graph, image=image, decoded=decoded)
    np.testing.assert_allclose(out["decoded"]["t0"], out["image"]["t0"], atol=1e-5)


def test_flat8_latents_are_mean_colours(results):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(48, 64)
    out = results(graph, image=image, latent=graph.encode(model, image))
    cells = out["image"]["t0"].reshape(8, 8, 6, 8, 3).mean((1, 3)) * 2 - 1
    cells = np.concatenate([cells, cells.mean(-1, keepdims=True)], -1)
    latent = out["latent"]["latent0_samples"]
    np.testing.assert_allclose(latent[0].transpose(1, 2, 0) * FLAT8_STORED, cells, atol=1e-5)


@pytest.mark.parametrize(("frames", "steps", "kept"), [(1, 1, 1), (9, 3, 9), (11, 3, 9)])
def test_a_video_is_coded_in_causal_steps_of_four_frames(results, frames, steps, kept):
    graph = Graph()
    model = graph.model("video8")
    video = graph.image(32, 24, batch=frames)
    latent = graph.encode(model, video)
    out = results(graph, video=video, latent=latent, decoded=graph.decode(model, latent))
    assert out["latent"]["latent0_samples"].shape == (1, 768, steps, 3, 4)
    np.testing.assert_allclose(out["decoded"]["t0"], out["video"]["t0"][:kept], atol=1e-6)


def test_tiles_of_a_video_join(results):
    graph = Graph()
    model = graph.model("video8")
    video = graph.image(96, 64, batch=17)
    tile = {"tile_size": 64, "overlap": 16, "temporal_size": 8, "temporal_overlap": 4}
    latent = graph.encode(model, video)
    decoded = graph.add("VAEDecodeTiled", vae=model[2], samples=latent, **tile)[0]
    out = results(graph, video=video, decoded=decoded)
    np.testing.assert_allclose(out["decoded"]["t0"], out["video"]["t0"], atol=1e-5)


# Texts


def test_a_text_stands_for_its_colour_words(results):
    graph = Graph()
    model = graph.model("flat8")
    texts = {
        "none": "a face",
        "red": "a red face",
        "mixed": "Red, (blue:3)!",
        "weak": "(warm:0.5) light",
        "long": "red " + "face " * 75,
    }
    out = results(graph, **{name: graph.text(model, text) for name, text in texts.items()})
    first = {name: out[name]["cond0_0"][0, 0, :4] for name in texts}
    np.testing.assert_allclose(first["none"], [0, 0, 0, 0])
    np.testing.assert_allclose(first["red"], [*RED, 1], rtol=1e-6)
    np.testing.assert_allclose(first["mixed"], [-0.3, -0.6, 0.3, 1], rtol=1e-6)
    np.testing.assert_allclose(first["weak"], [0.15, 0.025, -0.125, 1], rtol=1e-6)
    assert out["red"]["cond0_0"].shape == (1, 77, 8)
    assert out["long"]["cond0_0"].shape == (1, 154, 8)
    pooled = [tuple(out[name]["cond0_0_pooled_output"][0]) for name in texts]
    assert len(set(pooled)) == len(texts)


# Sampling


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_flat8_samples_as_computed_by_hand(results, cfg):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.5)
    latent = graph.sample(model, graph.empty_latent(32, 24, 2), "red", "blue", cfg=cfg)
    samples = results(graph, latent=latent)["latent"]["latent0_samples"]
    mean = channels(BLUE) + cfg * (channels(RED) - channels(BLUE))
    sigmas = karras(4)
    start = noise(2, 4, 3, 4) * math.sqrt(1 + sigmas[0] ** 2)
    expected = euler(start, mean, 0.25, sigmas) / FLAT8_STORED
    np.testing.assert_allclose(samples, expected, atol=2e-3)


def test_image16_samples_as_computed_by_hand(results):
    graph = Graph()
    model = graph.model("image16", prior_std=0.5)
    latent = graph.sample(model, graph.empty_latent(32, 48), "red", scheduler="simple")
    samples = results(graph, latent=latent)["latent"]["latent0_samples"]
    mean = np.repeat(RED, 256).reshape(1, 768, 1, 1)
    expected = euler(noise(1, 768, 3, 2), mean, 0.25, simple_flow(4), flow=True)
    np.testing.assert_allclose(samples, expected, atol=1e-3)


def test_video8_samples_as_computed_by_hand(results):
    graph = Graph()
    model = graph.model("video8", prior_std=0.5)
    latent = graph.encode(model, graph.image(16, 8, batch=9))
    latent = graph.sample(model, latent, "red", scheduler="simple")
    out = results(graph, latent=latent, decoded=graph.decode(model, latent))
    mean = np.repeat(RED, 256).reshape(1, 768, 1, 1, 1)
    expected = euler(noise(1, 768, 3, 1, 2), mean, 0.25, simple_flow(4), flow=True)
    np.testing.assert_allclose(out["latent"]["latent0_samples"], expected, atol=1e-3)
    assert out["decoded"]["t0"].shape == (9, 8, 16, 3)


@pytest.mark.parametrize("family", ["flat8", "image8", "image16", "image1", "video8"])
def test_a_prior_without_spread_gives_the_colour_itself(results, family):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    latent = graph.sample(model, graph.empty_latent(64, 64), "red")
    picture = results(graph, picture=graph.decode(model, latent))["picture"]["t0"]
    assert picture.shape == (1, 64, 64, 3)
    np.testing.assert_allclose(picture, np.broadcast_to([0.8, 0.2, 0.2], picture.shape), atol=1e-4)


def test_image8_moves_the_mean_colour_as_computed_by_hand(results):
    graph = Graph()
    model = graph.model("image8")
    grey = graph.add("EmptyImage", width=64, height=48, batch_size=1, color=0x999999)[0]
    latent = graph.sample(model, graph.encode(model, grey), "red", denoise=0.4)
    picture = results(graph, picture=graph.decode(model, latent))["picture"]["t0"][0]

    # The mean over the picture is the lowest wave: its variance is 3.6² in luminance and 0.6² in
    # each colour difference, in the model's unit, 16 for a pixel of 1.
    sigmas = karras(4, denoise=0.4)
    cells = noise(1, 192, 6, 8).reshape(3, -1).mean(1)
    opponent = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    start = opponent @ (16 * np.full(3, 0x99 / 127.5 - 1) + sigmas[0] * cells)
    variance = np.array([3.6**2, 0.6**2, 0.6**2])
    end = opponent.T @ euler(start, opponent @ np.multiply(16, RED), variance, sigmas)
    np.testing.assert_allclose(picture.mean((0, 1)), (end / 16 + 1) / 2, atol=1e-3)


def test_image8_keeps_a_picture_clean_while_it_tints_it(results):
    graph = Graph()
    model = graph.model("image8")
    image = graph.image(192, 128)
    latent = graph.encode(model, image)
    tinted = graph.sample(model, latent, "red", denoise=0.4, steps=20)
    out = results(graph, image=image, tinted=graph.decode(model, tinted))
    before, after = out["image"]["t0"][0], out["tinted"]["t0"][0]
    shift = (after - before).mean((0, 1))
    assert shift[0] > 0.1
    assert shift[1] < -0.05
    assert np.corrcoef(before.mean(-1).ravel(), after.mean(-1).ravel())[0, 1] > 0.9
    blocks = (after - before).mean(-1).reshape(16, 8, 24, 8).mean((1, 3))
    assert blocks.std() < 0.03  # brightness stays where it was


@pytest.mark.parametrize("family", ["flat8", "image8", "image16", "video8"])
def test_rows_of_a_batch_do_not_see_each_other(results, family):
    graph = Graph()
    model = graph.model(family)
    texts = {"positive": graph.text(model, "red"), "negative": graph.text(model, "")}
    settings = {
        "add_noise": "disable",
        "noise_seed": 0,
        "steps": 3,
        "cfg": 2.0,
        "sampler_name": "euler",
        "scheduler": "karras",
        "start_at_step": 1,
        "end_at_step": 10,
        "return_with_leftover_noise": "disable",
        "model": model[0],
        **texts,
    }
    singles = [graph.encode(model, graph.image(48, 32, seed=seed)) for seed in range(3)]
    pair = graph.add("LatentBatch", samples1=singles[0], samples2=singles[1])[0]
    batch = graph.add("LatentBatch", samples1=pair, samples2=singles[2])[0]
    links = {f"single{i}": latent for i, latent in enumerate(singles)} | {"batch": batch}
    sampled = {
        name: graph.add("KSamplerAdvanced", latent_image=latent, **settings)[0]
        for name, latent in links.items()
    }
    out = {name: saved["latent0_samples"] for name, saved in results(graph, **sampled).items()}
    together = np.concatenate([out[f"single{i}"] for i in range(3)])
    np.testing.assert_allclose(out["batch"], together, atol=1e-5)


def test_the_pooled_text_sets_its_share_of_the_colour(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0, pooled_share=0.25)
    both = graph.text(model, "red")
    # The host averages tokens and pooled vectors of its first input with those of its second.
    texts = {"conditioning_to": graph.text(model, "blue"), "conditioning_from": both}
    half = graph.add("ConditioningAverage", **texts, conditioning_to_strength=0.5)[0]
    joined = graph.add("ConditioningConcat", **texts)[0]  # pooled vector of the first, blue
    empty = graph.empty_latent(16, 16)
    out = results(
        graph,
        half=graph.sample(model, empty, half),
        joined=graph.sample(model, empty, joined),
    )
    np.testing.assert_allclose(
        out["half"]["latent0_samples"][0, :3, 0, 0] * FLAT8_STORED, [0, -0.6, 0], atol=1e-5
    )
    np.testing.assert_allclose(
        out["joined"]["latent0_samples"][0, :3, 0, 0] * FLAT8_STORED,
        [0.25 * -0.6, -0.6, 0.25 * 0.6],
        atol=1e-5,
    )


def test_an_inpaint_model_keeps_what_lies_outside_the_mask(results):
    graph = Graph()
    model = graph.model("inpaint8", prior_std=0.0)
    image = graph.image(64, 32)
    shapes = json.dumps([[32, 0, 64, 32, "r"]])
    inpaint = graph.add(
        "InpaintModelConditioning",
        positive=graph.text(model, "red"),
        negative=graph.text(model, ""),
        vae=model[2],
        pixels=image,
        mask=graph.add("DetailersTestMask", width=64, height=32, shapes=shapes, per_item=False)[0],
        noise_mask=False,
    )
    sampled = graph.sample(model, inpaint[2], inpaint[0], inpaint[1])
    out = results(graph, sampled=sampled, known=graph.encode(model, image))
    sampled, known = (out[name]["latent0_samples"] for name in ("sampled", "known"))
    np.testing.assert_allclose(sampled[..., :4], known[..., :4], atol=1e-4)
    red = np.broadcast_to(channels(RED), (1, 4, 4, 4))
    np.testing.assert_allclose(sampled[..., 4:] * FLAT8_STORED, red, atol=1e-4)


@pytest.mark.parametrize(("family", "gain"), [("flat8", 1 / FLAT8_STORED), ("image8", 1.0)])
def test_a_control_hint_adds_its_colour(results, family, gain):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    hint = graph.add("EmptyImage", width=40, height=24, batch_size=1, color=0x8080C0)[0]
    control = graph.add(
        "ControlNetApplyAdvanced",
        positive=graph.text(model, "black"),
        negative=graph.text(model, ""),
        control_net=graph.add("DetailersTestControl", family=family)[0],
        image=hint,
        strength=0.5,
        start_percent=0.0,
        end_percent=1.0,
    )
    latent = graph.sample(model, graph.empty_latent(32, 32), control[0], control[1], cfg=2.0)
    samples = results(graph, latent=latent)["latent"]["latent0_samples"]
    added = 0.5 * (np.array([0x80, 0x80, 0xC0]) / 127.5 - 1)
    # Positive is black plus the hint, negative the hint alone: cfg 2 doubles the black.
    colour = (-1.2 + added) * gain
    np.testing.assert_allclose(
        samples[0, [0, samples.shape[1] // 3 - 1], 0, 0], colour[0], atol=1e-3
    )
    if family == "image8":
        np.testing.assert_allclose(samples[0, -1, 2, 2], colour[2], atol=1e-3)


def test_loras_change_the_colours(results, server):
    from safetensors.torch import save_file

    # tint += up @ down: each network then adds its input's red to its output's green.
    up, down = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    weights = {
        f"{network}.lora_{side}.weight": value.clone()
        for network in ("diffusion_model.tint", "text_encoders.tint")
        for side, value in (("up", up), ("down", down))
    }
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "greener.safetensors")
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    loaded = graph.add(
        "LoraLoader",
        model=model[0],
        clip=model[1],
        lora_name="greener.safetensors",
        strength_model=0.5,
        strength_clip=0.25,
    )
    texts = {"positive": graph.text(loaded, "red"), "negative": graph.text(loaded, "")}
    latent = graph.sample(loaded, graph.empty_latent(16, 16), **texts)
    without = graph.sample(model, graph.empty_latent(16, 16), "red")
    out = results(graph, latent=latent, without=without, text=texts["positive"])
    np.testing.assert_allclose(out["text"]["cond0_0"][0, 0, :3], [0.6, -0.45, -0.6], rtol=1e-5)
    colours = [out[name]["latent0_samples"][0, :3, 0, 0] for name in ("latent", "without")]
    np.testing.assert_allclose(colours[0] * FLAT8_STORED, [0.6, -0.15, -0.6], atol=1e-4)
    np.testing.assert_allclose(colours[1] * FLAT8_STORED, RED, atol=1e-4)


def test_the_word_nan_spoils_the_picture(results):
    graph = Graph()
    model = graph.model("flat8")
    latent = graph.sample(model, graph.empty_latent(16, 16), "nan")
    assert np.isnan(results(graph, latent=latent)["latent"]["latent0_samples"]).all()


def test_too_many_rows_run_out_of_memory(server, results):
    def graph(rows):
        graph = Graph()
        model = graph.model("flat8", oom_rows=2)
        return graph, graph.sample(model, graph.empty_latent(16, 16, rows), "red")

    few, latent = graph(2)
    results(few, latent=latent)
    many, latent = graph(3)
    many.add("DetailersTestSink", value=latent)
    done = server.run(many)
    assert not done.ok
    assert "OutOfMemory" in done.error.exception_type


def test_what_the_models_are_asked_for_is_counted(results, run):
    graph = Graph()
    model = graph.model("flat8")
    before = results(graph, image=graph.image(16, 16))["image"]
    graph = Graph()
    model = graph.model("flat8")
    latent = graph.encode(model, graph.image(16, 16, batch=3))
    latent = graph.sample(model, latent, "red", "blue", cfg=2.0, steps=4)
    after = results(graph, picture=graph.decode(model, latent))["picture"]
    counted = {name: stats(after)[name] - count for name, count in stats(before).items()}
    del counted["peak_rss_mb"]
    assert counted == {
        "model_calls": 4,
        "model_rows": 24,
        "encode_calls": 1,
        "encode_rows": 3,
        "decode_calls": 1,
        "decode_rows": 3,
        "text_encodes": 2,
    }
    graph = Graph()
    sink = graph.add("DetailersTestSink", value=graph.image(16, 16))
    (text,) = run(graph).outputs[sink.key]["text"]
    assert json.loads(text)["peak_rss_mb"] > 100


# The other nodes


def test_segs_are_saved_as_they_were_written(results):
    graph = Graph()
    image = graph.image(40, 20, batch=2)
    entries = [
        {"bbox": [4, 2, 8, 6], "crop": [2, 0, 12, 10], "label": "face", "mask": "r"},
        {"bbox": [10, 10, 20, 20], "confidence": 0.5, "mask": "full", "frames": [1, 0.5]},
    ]
    inputs = {"width": 40, "height": 20, "segs": json.dumps(entries), "image": image}
    out = results(graph, segs=graph.add("DetailersTestSegs", **inputs)[0], image=image)
    segs, image = out["segs"], out["image"]["t0"]
    assert segs["segs0_shape"].tolist() == [20, 40]
    assert segs["segs0_0_crop"].tolist() == [2, 0, 12, 10]
    assert segs["segs0_0_bbox"].tolist() == [4, 2, 8, 6]
    assert (str(segs["segs0_0_label"]), float(segs["segs0_0_confidence"])) == ("face", 1.0)
    assert (str(segs["segs0_1_label"]), float(segs["segs0_1_confidence"])) == ("A", 0.5)
    mask = np.zeros((10, 10))
    mask[2:6, 2:6] = 1
    np.testing.assert_array_equal(segs["segs0_0_mask"], mask)
    np.testing.assert_array_equal(segs["segs0_1_mask"], np.full((2, 10, 10), [[[1.0]], [[0.5]]]))
    np.testing.assert_array_equal(segs["segs0_0_image"], image[:, 0:10, 2:12])


def test_shapes_make_one_mask_or_one_each(results):
    graph = Graph()
    shapes = json.dumps([[0, 0, 4, 2, "r"], [2, 0, 6, 4, "e", 0.5]])
    inputs = {"width": 6, "height": 4, "shapes": shapes}
    out = results(
        graph,
        one=graph.add("DetailersTestMask", **inputs, per_item=False)[0],
        each=graph.add("DetailersTestMask", **inputs, per_item=True)[0],
        none=graph.add("DetailersTestMask", **inputs | {"shapes": "[]"}, per_item=True)[0],
    )
    ellipse = np.pad([[0, 0.5, 0.5, 0], [0.5] * 4, [0.5] * 4, [0, 0.5, 0.5, 0]], ((0, 0), (2, 0)))
    rectangle = np.pad(np.ones((2, 4)), ((0, 2), (0, 2)))
    np.testing.assert_array_equal(out["each"]["t0"], [rectangle, ellipse])
    np.testing.assert_array_equal(out["one"]["t0"], [np.maximum(rectangle, ellipse)])
    np.testing.assert_array_equal(out["none"]["t0"], np.zeros((1, 4, 6)))


def test_the_detector_finds_the_boxes_it_is_given(results):
    graph = Graph()
    boxes = [
        [10, 10, 40, 40, "face", 0.9],
        [60, 20, 100, 70, "hand", 0.8],
        [0, 0, 9, 9, "ear", 0.1],
    ]
    segs = graph.add(
        "BboxDetectorSEGS",
        bbox_detector=graph.add("DetailersTestDetector", boxes=json.dumps(boxes))[0],
        image=graph.image(128, 96),
        threshold=0.5,
        dilation=0,
        crop_factor=2.0,
        drop_size=5,
        labels="all",
    )[0]
    segs = results(graph, segs=segs)["segs"]
    assert segs["segs0_shape"].tolist() == [96, 128]
    assert [str(segs[f"segs0_{j}_label"]) for j in range(2)] == ["face", "hand"]
    assert segs["segs0_0_crop"].tolist() == [0, 0, 60, 60]
    assert segs["segs0_1_crop"].tolist() == [40, 0, 120, 96]
    assert segs["segs0_1_mask"].shape == (96, 80)
    assert segs["segs0_1_mask"].sum() == 40 * 50
    assert "segs0_2_label" not in segs


def test_the_hook_writes_its_calls_down_and_changes_what_it_is_told_to(results, server):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    changes = {"touch_scaled_size": [64, 48], "pre_ksample": {"steps": 1}, "post_decode": 0.1}
    hook = graph.add(
        "DetailersTestHook", changes=json.dumps(changes), omit='["post_paste"]', name="first"
    )
    entries = [{"bbox": [0, 0, 32, 24], "mask": "full"}]
    settings = {"seed": 7, "steps": 2, "cfg": 1.0, "denoise": 1.0, "feather": 0, "cycle": 1}
    detailed = graph.add(
        "DetailerForEach",
        image=graph.image(32, 24),
        segs=graph.add("DetailersTestSegs", width=32, height=24, segs=json.dumps(entries))[0],
        model=model[0],
        clip=model[1],
        vae=model[2],
        positive=graph.text(model, "red"),
        negative=graph.text(model, ""),
        guide_size=128,
        guide_size_for=True,
        max_size=256,
        sampler_name="euler",
        scheduler="normal",
        noise_mask=True,
        force_inpaint=True,
        wildcard="",
        detailer_hook=hook[0],
        **settings,
    )[0]
    graph.add("DetailersTestSave", value=hook[1], after=detailed, name="log")
    out = results(graph, detailed=detailed)
    np.testing.assert_allclose(
        out["detailed"]["t0"], np.broadcast_to([0.9, 0.3, 0.3], (1, 24, 32, 3)), atol=1e-3
    )
    log = json.loads(str(server.result("log")["s0"]))
    sampling = {"sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    assert [entry for entry in log if entry[0] != "first.get_custom_noise"] == [
        ["first.touch_scaled_size", 170, 128],
        ["first.post_upscale", [1, 48, 64, 3]],
        ["first.post_encode", [1, 4, 6, 8]],
        ["first.set_steps", 0, 1],
        ["first.cycle_latent", [1, 4, 6, 8]],
        ["first.pre_ksample", {"seed": 7, "steps": 2, "cfg": 1.0, **sampling}],
        ["first.pre_decode", [1, 4, 6, 8]],
        ["first.post_decode", [1, 48, 64, 3]],
    ]


@pytest.mark.parametrize(("family", "frames"), [("flat8", 1), ("flat8", 5), ("video8", 5)])
def test_the_floor_details_segments_and_nothing_else(results, family, frames):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    image = graph.image(96, 64, batch=frames)
    entries = [{"bbox": [16, 16, 48, 48], "crop": [8, 8, 56, 56], "mask": "r"}]
    segs = graph.add("DetailersTestSegs", width=96, height=64, segs=json.dumps(entries))[0]
    settings = {"side": 96, "seed": 0, "steps": 2, "cfg": 1.0, "denoise": 1.0, "feather": 2}
    bare = graph.add(
        "DetailersTestBare",
        image=image,
        segs=segs,
        model=model[0],
        vae=model[2],
        positive=graph.text(model, "red"),
        negative=graph.text(model, ""),
        sampler_name="euler",
        scheduler="karras",
        **settings,
    )[0]
    out = results(graph, image=image, bare=bare)
    before, after = out["image"]["t0"], out["bare"]["t0"]
    touched = np.zeros((64, 96), bool)
    touched[14:50, 14:50] = True  # the box and the reach of the feather
    np.testing.assert_array_equal(after[:, ~touched], before[:, ~touched])
    inside = after[:, 28:36, 28:36]
    np.testing.assert_allclose(inside, np.broadcast_to([0.8, 0.2, 0.2], inside.shape), atol=1e-3)


# The checkpoints


@pytest.mark.parametrize(("kind", "latent_channels"), [("sd15", 4), ("sd3", 16)])
def test_a_stock_loader_takes_a_random_checkpoint(results, checkpoint, kind, latent_channels):
    graph = Graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint(kind))
    image = graph.image(128, 64, batch=2)
    latent = graph.encode(model, image)
    prompts = {"face": "portrait of a woman", "other": "a castle by the sea"}
    samples = {
        name: graph.sample(model, latent, text, "blurry", cfg=4.0, steps=3, denoise=0.8)
        for name, text in prompts.items()
    }
    decoded = {name: graph.decode(model, sampled) for name, sampled in samples.items()}
    out = results(graph, latent=latent, **decoded)
    latent = out["latent"]["latent0_samples"]
    assert latent.shape == (2, latent_channels, 8, 16)
    assert 0.1 < latent.std() < 10
    pictures = [out[name]["t0"] for name in prompts]
    for picture in pictures:
        assert picture.shape == (2, 64, 128, 3)
        assert np.isfinite(picture).all()
        assert picture.std() > 0.02
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01
