"""The hook nodes in a run, on inputs with a known result."""

import io
import json

import numpy as np
import pytest
from detailers.dev.server import DIRECT
from detailers.tests.host.by_hand import PIXELS, RED, euler, karras, noise, rising
from detailers.tests.host.graphs import Graph, box
from PIL import Image

INSIDE = (slice(None), slice(0, 64), slice(16, 80))
BOX = box(16, 0, 80, 64)  # as large as guide_size: sampled at its own size


class Scene(Graph):
    """A picture of 96x64 with one segment of 64x64."""

    def __init__(self, family="image8", prior_std=0.0, **entry):
        super().__init__()
        self.painter = self.model(family, prior_std=prior_std)
        self.picture = self.image(96, 64)
        self.one = self.segs(96, 64, {**BOX, **entry})

    def hooked(self, hook, node="DetailerForEach", **changed):
        """The link to what a detailer makes of the picture with this hook."""
        if hook is not None:
            changed["detailer_hook"] = hook
        return self.detail(node, self.picture, self.one, self.painter, **changed)[0]

    def log(self, hook, image, name="log"):
        """Save what a recording hook has written down by the time that the image is made."""
        self.add("DetailersTestSave", value=hook[1], after=image, name=name)

    def both(self, first, second):
        return self.add("DetailerHookCombine", hook1=first, hook2=second)[0]

    def unsampled(self, hook):
        """The result of a run in which nothing but the hook works on the latent."""
        return self.hooked(self.both(hook, self.hook(pre_ksample={"denoise": 0})[0]))


def close(actual, expected, atol=1e-5):
    np.testing.assert_allclose(actual, expected, atol=atol)


def calls(server, method, name="log"):
    """What a recording hook was given at each call of a method."""
    log = json.loads(str(server.result(name)["s0"]))
    return [given for called, *given in log if called == method]


def test_combined_hooks_both_work_in_order(results, server):
    scene = Scene()
    first, second = scene.hook(post_decode=-0.1), scene.hook(post_decode=-0.05)
    image = scene.hooked(scene.both(first[0], second[0]))
    scene.log(first, image, "first")
    scene.log(second, image, "second")
    out = results(scene, image=image, picture=scene.picture)
    close(out["image"]["t0"][INSIDE] - PIXELS["red"], -0.15)
    assert np.array_equal(out["image"]["t0"][:, :, :16], out["picture"]["t0"][:, :, :16])
    assert calls(server, "post_decode", "first") == [[[1, 64, 64, 3]]]
    assert calls(server, "post_decode", "second") == [[[1, 64, 64, 3]]]


def test_denoise_falls_over_the_cycles(results, server):
    scene = Scene()
    schedule = {"schedule_for_cycle": "simple", "target_denoise": 0.4}
    hook = scene.add("DenoiseSchedulerDetailerHookProvider", **schedule)[0]
    recorder = scene.hook()
    image = scene.hooked(scene.both(hook, recorder[0]), cycle=3)
    scene.log(recorder, image)
    out = results(scene, image=image)
    denoise = [given["denoise"] for (given,) in calls(server, "pre_ksample")]
    assert denoise == pytest.approx([1.0, 0.7, 0.4])
    close(out["image"]["t0"][INSIDE], np.broadcast_to(PIXELS["red"], (1, 64, 64, 3)), atol=1e-4)


def test_noise_is_injected(results):
    scene = Scene("image1")
    fields = {"seed": 7, "start_strength": 0.2, "end_strength": 0.1}

    def injected(schedule, source="CPU"):
        provider = "NoiseInjectionDetailerHookProvider"
        return scene.add(provider, schedule_for_cycle=schedule, source=source, **fields)[0]

    skipping = scene.both(injected("skip_start"), scene.hook(pre_ksample={"denoise": 0})[0])
    out = results(
        scene,
        picture=scene.picture,
        once=scene.unsampled(injected("from_start")),
        there=scene.unsampled(injected("from_start", "GPU")),
        skipped=scene.hooked(skipping, cycle=1),
        later=scene.hooked(skipping, cycle=2),
    )
    picture = out["picture"]["t0"]
    drawn = noise(1, 3, 64, 64, seed=7).transpose(0, 2, 3, 1)
    close(out["once"]["t0"][INSIDE], (picture[INSIDE] + 0.1 * drawn).clip(0, 1))
    assert np.array_equal(out["once"]["t0"][:, :, :16], picture[:, :, :16])
    close(out["skipped"]["t0"], picture)
    close(out["later"]["t0"], out["once"]["t0"])
    assert out["there"]["t0"][INSIDE].std() > picture[INSIDE].std()


def test_unsampling_goes_up_the_schedule(results):
    scene = Scene("image1", prior_std=0.6)
    texts = scene.parts(scene.painter)
    inputs = {
        "model": scene.painter[0], "positive": texts["positive"], "negative": texts["negative"],
        "steps": 10, "start_end_at_step": 4, "end_end_at_step": 9, "cfg": 1.0,
        "sampler_name": "euler", "scheduler": "karras", "schedule_for_cycle": "from_start",
    }  # fmt: skip
    plain, normal = (
        scene.add("UnsamplerDetailerHookProvider", normalize=choice, **inputs)[0]
        for choice in ("disable", "enable")
    )
    out = results(
        scene, picture=scene.picture, plain=scene.unsampled(plain), normal=scene.unsampled(normal)
    )
    picture = out["picture"]["t0"][INSIDE] * 2 - 1
    expected = euler(picture, np.array(RED), 0.36, rising(karras(10)[4:]))
    assert np.abs(expected - picture).max() > 0.01
    close(out["plain"]["t0"][INSIDE], (expected / 2 + 0.5).clip(0, 1), atol=1e-4)
    normalised = (expected - expected.mean()) / expected.std(ddof=1)
    close(out["normal"]["t0"][INSIDE], (normalised / 2 + 0.5).clip(0, 1), atol=1e-4)


def test_variation_noise_and_custom_sampler(results):
    scene = Scene("flat8", prior_std=0.6)
    variation = scene.add("VariationNoiseDetailerHookProvider", seed=99, strength=1.0)[0]
    none = scene.add("VariationNoiseDetailerHookProvider", seed=99, strength=0.0)[0]
    sampler = scene.add("KSamplerSelect", sampler_name="dpmpp_2m")[0]
    custom = scene.add("CustomSamplerDetailerHookProvider", sampler=sampler)[0]
    out = results(
        scene,
        plain=scene.hooked(None),
        other=scene.hooked(None, seed=99),
        varied=scene.hooked(variation),
        unvaried=scene.hooked(none),
        custom=scene.hooked(custom),
        by_name=scene.hooked(None, sampler_name="dpmpp_2m"),
    )
    close(out["varied"]["t0"], out["other"]["t0"])
    assert np.array_equal(out["unvaried"]["t0"], out["plain"]["t0"])
    assert np.array_equal(out["custom"]["t0"], out["by_name"]["t0"])
    assert np.abs(out["varied"]["t0"] - out["plain"]["t0"]).max() > 0.01
    assert np.abs(out["custom"]["t0"] - out["plain"]["t0"]).max() > 0.001


def test_core_ml_samples_two_at_a_fixed_size(results, server):
    scene = Scene("flat8")
    hook = scene.add("CoreMLDetailerHookProvider", mode="512x768")[0]
    recorder = scene.hook()
    boxes = json.dumps([[40, 20, 60, 40, "face", 1.0]])
    detector = scene.add("DetailersTestDetector", boxes=boxes)[0]
    found = scene.add(
        "BboxDetectorSEGS", bbox_detector=detector, image=scene.picture, threshold=0.5, dilation=0,
        crop_factor=2.0, drop_size=1, labels="all", detailer_hook=hook,
    )[0]  # fmt: skip
    image = scene.hooked(scene.both(hook, recorder[0]), steps=1)
    scene.log(recorder, image)
    out = results(scene, image=image, found=found)
    close(out["image"]["t0"][INSIDE], np.broadcast_to(PIXELS["red"], (1, 64, 64, 3)), atol=1e-3)
    assert calls(server, "touch_scaled_size") == [[512, 768]]
    assert calls(server, "post_encode") == [[[2, 4, 96, 64]]]
    assert calls(server, "post_decode") == [[[1, 768, 512, 3]]]
    x1, y1, x2, y2 = out["found"]["segs0_0_crop"]
    assert (x2 - x1, y2 - y1) == (27, 40)


def test_detectors_give_what_the_filters_keep(results):
    scene = Scene()
    boxes = [
        [4, 4, 24, 24, "face", 0.9], [40, 8, 80, 48, "face", 0.8], [30, 30, 38, 60, "手", 0.7],
    ]  # fmt: skip
    detector = scene.add("DetailersTestDetector", boxes=json.dumps(boxes))[0]

    def found(provider, **inputs):
        hook = scene.add(f"SEGS{provider}FilterDetailerHookProvider", **inputs)[0]
        return scene.add(
            "BboxDetectorSEGS", bbox_detector=detector, image=scene.picture, threshold=0.5,
            dilation=0, crop_factor=1.0, drop_size=1, labels="all", detailer_hook=hook,
        )[0]  # fmt: skip

    ordered = {"target": "area(=w*h)", "order": True, "take_start": 1, "take_count": 5}
    ranged = {"target": "length_percent", "mode": True, "min_value": 200, "max_value": 1000}
    label = {"segs": scene.one, "preset": "all", "labels": "手, nose"}
    out = results(
        scene,
        ordered=found("Ordered", **ordered),
        ranged=found("Range", **ranged),
        outside=found("Range", **ranged | {"mode": False}),
        labelled=found("Label", **label),
        preset=found("Label", **label | {"labels": "", "preset": "face"}),
    )

    def left_edges(name):
        keys = sorted(key for key in out[name] if key.endswith("_bbox"))
        return [int(out[name][key][0]) for key in keys]

    assert left_edges("ordered") == [4, 30]
    assert left_edges("ranged") == [30]
    assert left_edges("outside") == [4, 40]
    assert left_edges("labelled") == [30]
    assert left_edges("preset") == [4, 40]


def test_the_preview_shows_the_image_while_it_is_made(server):
    scene = Scene()
    provider = scene.add("PreviewDetailerHookProvider", quality=90)
    image = scene.hooked(provider[0])
    scene.add("DetailersTestSave", value=image, name="image")
    with server.watch() as watch:
        done = server.run(scene, watch=watch)
    assert done.ok, done.error
    (shown,) = [
        event.data["output"]["images"]
        for event in watch.of("executed")
        if event.data["display_node"] == provider.key
    ]
    (entry,) = shown
    query = "&".join(f"{key}={value}" for key, value in entry.items())
    with DIRECT.open(f"{server.url}/view?{query}") as answer:
        picture = np.asarray(Image.open(io.BytesIO(answer.read()))) / 255
    expected = server.result("image")["t0"][0]
    assert picture.shape == (64, 96, 3)
    assert np.abs(picture - expected).mean() < 0.02


def test_removal_fills_a_segment_from_around_it(results):
    scene = Graph()
    painter = scene.model("flat8", prior_std=0.0)
    grey = scene.plain(96, 64, 0x404040)
    spot = scene.segs(96, 64, box(40, 24, 56, 40, crop=[16, 0, 80, 64], mask="r"))
    white = scene.add("SEGSPaste", image=grey, segs=spot, feather=0, alpha=255,
                      ref_image_opt=scene.plain(96, 64, 0xFFFFFF))[0]  # fmt: skip

    def removed(skip):
        inputs = {"mask_threshold": 250, "gaussblur_radius": 2, "skip_sampling": skip}
        hook = scene.add("LamaRemoverDetailerHookProvider", **inputs)[0]
        return scene.detail(
            "DetailerForEach", white, spot, painter, detailer_hook=hook, guide_size_for=False
        )[0]

    out = results(scene, white=white, removed=removed(True), sampled=removed(False))
    assert out["white"]["t0"][0, 32, 48].tolist() == [1, 1, 1]
    close(out["removed"]["t0"], np.full((1, 64, 96, 3), 64 / 255), atol=0.01)
    close(out["sampled"]["t0"][0, 32, 48], PIXELS["red"], atol=1e-3)


def test_a_black_segment_is_made_again(results):
    """With limits between the means of two seeds' results, the darker one counts as black."""
    scene = Scene("flat8", prior_std=0.6)
    plain = results(scene, **{f"seed{s}": scene.hooked(None, seed=s, denoise=1.0) for s in (5, 6)})
    means = {name: float(out["t0"][INSIDE].mean()) * 255 for name, out in plain.items()}
    seed = 5 if means["seed5"] < means["seed6"] else 6
    limit = int(min(means.values())) + 1
    assert limit < max(means.values()), means

    scene = Scene("flat8", prior_std=0.6)
    hook = scene.add("BlackPatchRetryHookProvider", mean_thresh=limit, var_thresh=255)[0]
    out = results(
        scene,
        next=scene.hooked(None, seed=seed + 1),
        retried=scene.hooked(hook, seed=seed),
        auto=scene.hooked(hook, "DetailerForEachAutoRetry", seed=seed, max_retries=4),
    )
    assert np.array_equal(out["retried"]["t0"], out["next"]["t0"])
    assert np.array_equal(out["auto"]["t0"], out["next"]["t0"])


@pytest.mark.parametrize("broken", ["nan", "black"])
def test_auto_retry_keeps_what_it_cannot_mend(results, broken):
    scene = Scene("flat8")
    if broken == "nan":
        hook, changed = None, {"positive": "nan"}
    else:
        hook, changed = scene.hook(post_decode=-0.9)[0], {}
    out = results(
        scene,
        picture=scene.picture,
        auto=scene.hooked(hook, "DetailerForEachAutoRetry", max_retries=2, **changed),
    )
    assert np.array_equal(out["auto"]["t0"], out["picture"]["t0"])
