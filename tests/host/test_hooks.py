"""Detailer hooks and the ControlNet of a segment, as the core calls them in the real host."""

import json

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import SAMPLING, Graph, box

RED = np.array(PIXELS["red"])
VIDEO = "DetailerForEachPipeForAnimateDiff"


@pytest.fixture
def detailed(results, server):
    """Run a detailer with a recording hook: (pictures by name, the log)."""

    def detailed(node="DetailerForEach", entries=None, frames=1, omit=(), hook=None, **settings):
        graph = Graph()
        model = graph.model("flat8", prior_std=settings.pop("prior_std", 0.0))
        image = graph.image(96, 64, batch=frames)
        entries = entries or [box(8, 8, 40, 40), box(48, 16, 80, 48)]
        segs = graph.segs(96, 64, *entries)
        recorder = graph.hook(omit=omit, **hook or {})
        picture = graph.detail(node, image, segs, model, detailer_hook=recorder[0], **settings)[0]
        graph.add("DetailersTestSave", value=recorder[1], after=picture, name="log")
        out = results(graph, image=image, picture=picture)
        log = json.loads(str(server.result("log")["s0"]))
        return out["image"]["t0"], out["picture"]["t0"], log

    return detailed


ONE_CYCLE = ["set_steps", "cycle_latent", "pre_ksample", "get_custom_noise"]
BEFORE, AFTER = ["post_upscale", "post_encode"], ["pre_decode", "post_decode", "post_paste"]


def test_methods_are_called_in_the_order_of_the_protocol(detailed):
    image, picture, log = detailed(cycle=2)
    one_segment = [*BEFORE, *ONE_CYCLE, *ONE_CYCLE, *AFTER]
    called = [entry[0] for entry in log]
    assert called == ["touch_scaled_size"] * 2 + one_segment * 2
    calls = {name: [entry[1:] for entry in log if entry[0] == name] for name in called}
    assert calls["touch_scaled_size"] == [[64, 64]] * 2
    assert calls["post_upscale"] == calls["post_decode"] == [[[1, 64, 64, 3]]] * 2
    assert calls["post_encode"] == calls["pre_decode"] == [[[1, 4, 8, 8]]] * 2
    assert calls["set_steps"] == [[0, 2], [1, 2]] * 2
    assert calls["post_paste"] == [[[1, 64, 96, 3]]] * 2
    assert [given for (given,) in calls["pre_ksample"]] == [
        {**SAMPLING, "seed": seed} for seed in (5, 6, 6, 7)
    ]
    assert [given[0] for given in calls["get_custom_noise"]] == [5, 6, 6, 7]
    expected = image.copy()
    expected[:, 8:40, 8:40] = expected[:, 16:48, 48:80] = RED
    np.testing.assert_allclose(picture, expected, atol=1e-5)


def test_a_video_calls_them_once_for_all_frames(detailed):
    *_, log = detailed(VIDEO, frames=3)
    one_segment = [*BEFORE, *ONE_CYCLE, *AFTER]
    assert [entry[0] for entry in log] == ["touch_scaled_size"] * 2 + one_segment * 2
    assert [entry[1] for entry in log if entry[0] == "post_paste"] == [[3, 64, 96, 3]] * 2


@pytest.mark.parametrize(("node", "frames"), [("DetailerForEach", 1), (VIDEO, 3)])
def test_what_post_paste_gives_is_kept(detailed, node, frames):
    image, picture, _ = detailed(node, frames=frames, hook={"post_paste": 0.125})
    expected = image + 0.25  # after each segment, for the whole image
    expected[:, 8:40, 8:40] = RED + 0.25
    expected[:, 16:48, 48:80] = RED + 0.125
    np.testing.assert_allclose(picture, expected, atol=1e-5)


def test_every_change_takes_effect(detailed):
    one = [box(8, 8, 40, 40)]

    def changed(**options):
        _, picture, log = detailed(entries=one, **options)
        return picture[0, 8:40, 8:40], log

    picture, _ = changed(hook={"post_decode": 0.1})
    np.testing.assert_allclose(picture, np.broadcast_to(RED + 0.1, picture.shape), atol=1e-5)
    # Latents of this model are 1 / 0.18215 of twice the pixels.
    picture, _ = changed(hook={"pre_decode": 0.2 / 0.18215})
    np.testing.assert_allclose(picture, np.broadcast_to(RED + 0.1, picture.shape), atol=1e-5)
    _, log = changed(hook={"touch_scaled_size": [96, 128]})
    assert ["post_upscale", [1, 128, 96, 3]] in log
    full = {"prior_std": 10.0}  # keeps what it is given
    plain, _ = changed(**full, denoise=0.0001, steps=1)
    for name, amount in (("post_upscale", 0.1), ("post_encode", 0.2), ("cycle_latent", 0.2)):
        amount = amount / 0.18215 if name != "post_upscale" else amount
        picture, _ = changed(**full, denoise=0.0001, steps=1, hook={name: amount})
        difference = (picture - plain)[plain.max(-1) < 0.85]  # where nothing is cut off
        np.testing.assert_allclose(difference, 0.1, atol=2e-3, err_msg=name)


def test_sampling_is_changed_before_it_starts(detailed):
    common = {"prior_std": 0.6, "denoise": 0.6}
    changes = {"seed": 77, "steps": 3, "cfg": 2.0, "denoise": 0.4, "scheduler": "simple"}
    changes["sampler_name"] = "dpmpp_2m"
    by_hook = detailed(hook={"pre_ksample": changes}, entries=[box(8, 8, 40, 40)], **common)
    by_widgets = detailed(entries=[box(8, 8, 40, 40)], **{**common, **changes})
    np.testing.assert_array_equal(by_hook[1], by_widgets[1])
    assert np.abs(by_hook[1] - detailed(entries=[box(8, 8, 40, 40)], **common)[1]).max() > 0.01


def test_the_noise_may_be_another(detailed):
    # Without noise, at full denoise: sigma * 0 is added, so every seed gives the same.
    entries = [box(8, 8, 40, 40)]
    options = {"prior_std": 0.6, "entries": entries, "hook": {"get_custom_noise": 0.0}}
    first, second = (detailed(**options, seed=seed)[1] for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    options["hook"] = {}
    assert np.abs(detailed(**options, seed=1)[1] - first).max() > 0.01


def test_methods_that_a_hook_lacks_mean_no_change(detailed):
    entries = [box(8, 8, 40, 40)]
    _, expected, log = detailed(entries=entries, prior_std=0.6)
    every = sorted({entry[0] for entry in log})
    assert len(every) == 10
    for omit in (every, every[::2], every[1::2]):
        _, picture, log = detailed(entries=entries, prior_std=0.6, omit=omit)
        np.testing.assert_array_equal(picture, expected)
        assert sorted({entry[0] for entry in log}) == sorted(set(every) - set(omit))


def test_detection_calls_its_two_methods(results, server):
    graph = Graph()
    hook = graph.hook(post_crop_region=5, post_detection=1)
    boxes = [[20, 20, 40, 40, "face", 0.9], [60, 20, 80, 40, "face", 0.8]]
    segs = graph.add(
        "BboxDetectorSEGS",
        bbox_detector=graph.add("DetailersTestDetector", boxes=json.dumps(boxes))[0],
        image=graph.image(96, 64),
        threshold=0.5,
        dilation=0,
        crop_factor=2.0,
        drop_size=5,
        labels="all",
        detailer_hook=hook[0],
    )[0]
    graph.add("DetailersTestSave", value=hook[1], after=segs, name="log")
    out = results(graph, segs=segs)["segs"]
    assert json.loads(str(server.result("log")["s0"])) == [
        ["post_crop_region", 96, 64, [20, 20, 40, 40], [10, 10, 50, 50]],
        ["post_crop_region", 96, 64, [60, 20, 80, 40], [50, 10, 90, 50]],
        ["post_detection", 2],
    ]
    assert out["segs0_0_crop"].tolist() == [5, 5, 55, 55]
    assert "segs0_1_crop" not in out


def test_the_controlnet_of_a_segment_is_applied_to_its_crop(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.plain(96, 64, 0x8080C0)  # 0, 0, 0.5 in the model's colours
    control = graph.add("DetailersTestControl", family="flat8")[0]
    plain = graph.segs(96, 64, box(8, 8, 40, 40))
    segs = graph.add("DetailersTestSegsControl", segs=plain, control_net=control, strength=0.6)[0]
    each = graph.detail("DetailerForEachDebugPipe", image, segs, model)
    kept = graph.detail("SEGSDetailer", image, segs, model)
    out = results(
        graph,
        image=image,
        each=each[0],
        seen=each[6],
        kept=kept[0],
        seen_kept=kept[1],
        # DetailerForEach leaves the wrapper on, SEGSDetailer takes it off.
        seen_again=graph.detail("SEGSDetailer", image, each[1], model)[1],
        seen_kept_again=graph.detail("SEGSDetailer", image, kept[0], model)[1],
    )
    hint = np.array([0x80, 0x80, 0xC0]) / 255
    colour = RED + 0.6 * (hint - 0.5)
    expected = out["image"]["t0"].copy()
    expected[:, 8:40, 8:40] = colour
    np.testing.assert_allclose(out["each"]["t0"], expected, atol=1e-4)
    redrawn = np.broadcast_to(colour, (1, 32, 32, 3))
    np.testing.assert_allclose(out["kept"]["segs0_0_image"], redrawn, atol=1e-4)
    seen = np.broadcast_to(hint, (1, 64, 64, 3))  # the enlarged crop
    for name in ("seen", "seen_kept"):
        np.testing.assert_allclose(out[name]["t0"], seen, atol=1e-5)
    seen = np.broadcast_to(colour, (1, 64, 64, 3))  # the segment's own picture
    np.testing.assert_allclose(out["seen_again"]["t0"], seen, atol=1e-4)
    assert not out["seen_kept_again"]["t0"].any()
