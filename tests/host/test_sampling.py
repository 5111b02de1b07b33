"""Sampling in the real host: the same noise, schedules and results as those of its KSampler."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import BLUE, GREEN, PIXELS, RED, euler, karras, noise, stats
from detailers.tests.host.graphs import SAMPLING, Graph, box

FULL = box(0, 0, 64, 64)  # the crop is the image and keeps its size: scale 1
EXTRA_SCHEDULERS = {
    "AYS SDXL": ("AlignYourStepsScheduler", {"model_type": "SDXL", "denoise": 1.0}),
    "AYS SD1": ("AlignYourStepsScheduler", {"model_type": "SD1", "denoise": 1.0}),
    "AYS SVD": ("AlignYourStepsScheduler", {"model_type": "SVD", "denoise": 1.0}),
    "GITS[coeff=1.2]": ("GITSScheduler", {"coeff": 1.2, "denoise": 1.0}),
    "LTXV[default]": (
        "LTXVScheduler",
        {"max_shift": 2.05, "base_shift": 0.95, "stretch": True, "terminal": 0.1},
    ),
    "OSS FLUX": ("OptimalStepsScheduler", {"model_type": "FLUX", "denoise": 1.0}),
    "OSS Wan": ("OptimalStepsScheduler", {"model_type": "Wan", "denoise": 1.0}),
    "OSS Chroma": ("OptimalStepsScheduler", {"model_type": "Chroma", "denoise": 1.0}),
}


def whole(graph, model, image, positive="red", negative="", node="DetailerForEach", **settings):
    """The image sampled by a detailer whose one segment is all of it."""
    settings = {"noise_mask": False, **settings}
    return graph.detail(
        node, image, graph.segs(64, 64, FULL), model, positive, negative, **settings
    )[0]


def stock(graph, model, image, *texts, **settings):
    """The same by the host's own nodes."""
    return graph.decode(model, graph.sample(model, graph.encode(model, image), *texts, **settings))


def by_hand(image, colour, sigmas, seed=5):
    """A picture [1,64,64,3] that the image1 model with prior_std 0.6 samples by Euler's method."""
    latent = image.transpose(0, 3, 1, 2) * 2 - 1
    start = latent + sigmas[0] * noise(1, 3, 64, 64, seed=seed)
    mean = np.reshape(colour, (1, 3, 1, 1))
    return (euler(start, mean, 0.36, sigmas).transpose(0, 2, 3, 1) + 1) / 2


# Against the host's KSampler


@pytest.mark.parametrize(
    "scheduler",
    ["karras", *(pytest.param(name, marks=pytest.mark.once) for name in ("normal", "simple"))],
)
@pytest.mark.parametrize("denoise", [1.0, 0.4])
def test_every_sampler_gives_what_the_ksampler_gives(results, server, scheduler, denoise):
    samplers = server.object_info("DetailerForEach")["input"]["required"]["sampler_name"][0]
    assert len(samplers) >= 30
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(64, 64)
    # Brownian noise spans the whole schedule here, only the part that is run in the KSampler.
    comparable = [name for name in samplers if denoise == 1 or not is_brownian(name)]
    links = {}
    for name in comparable:
        texts, settings = ("red", "blue"), {"cfg": 2.0, "sampler_name": name}
        settings |= {"scheduler": scheduler, "denoise": denoise}
        links[f"{name}_ours"] = whole(graph, model, image, *texts, **settings)
        links[f"{name}_stock"] = stock(graph, model, image, *texts, **settings)
    out = results(graph, **links)
    for name in comparable:
        expected = np.clip(out[f"{name}_stock"]["t0"], 0, 1)
        np.testing.assert_allclose(out[f"{name}_ours"]["t0"], expected, atol=1e-5, err_msg=name)


def is_brownian(sampler):
    return "sde" in sampler


@pytest.mark.parametrize("sampler", ["dpmpp_sde", "euler"])
def test_a_partial_run_is_the_tail_of_a_full_one(results, sampler):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(64, 64)
    settings = {"node": "DetailerForEachPipe", "sampler_name": sampler, "denoise": 0.5}
    split = {"refiner_basic_pipe_opt": graph.pipe(model, "red"), "refiner_ratio": 0.5}
    out = results(
        graph,
        at_once=whole(graph, model, image, **settings),
        in_parts=whole(graph, model, image, **settings, **split),
    )
    np.testing.assert_allclose(out["in_parts"]["t0"], out["at_once"]["t0"], atol=1e-5)


def test_extra_schedulers_are_those_of_the_hosts_nodes(results):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(64, 64)
    euler_sampler = graph.add("KSamplerSelect", sampler_name="euler")[0]
    links = {}
    for i, (name, (node, inputs)) in enumerate(EXTRA_SCHEDULERS.items()):
        steps = 10
        links[f"ours{i}"] = whole(graph, model, image, steps=steps, scheduler=name)
        custom = graph.add(
            "SamplerCustom",
            model=model[0],
            add_noise=True,
            noise_seed=SAMPLING["seed"],
            cfg=1.0,
            positive=graph.text(model, "red"),
            negative=graph.text(model, ""),
            sampler=euler_sampler,
            sigmas=graph.add(node, steps=steps, **inputs)[0],
            latent_image=graph.encode(model, image),
        )
        links[f"stock{i}"] = graph.decode(model, custom[0])
    out = results(graph, **links)
    for i, name in enumerate(EXTRA_SCHEDULERS):
        expected = np.clip(out[f"stock{i}"]["t0"], 0, 1)
        np.testing.assert_allclose(out[f"ours{i}"]["t0"], expected, atol=1e-5, err_msg=name)
    # The tables are different ones: no two pictures are equal.
    assert len({out[f"ours{i}"]["t0"].tobytes() for i in range(8)}) >= 6


def test_extra_schedulers_with_part_of_the_denoise(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(64, 64)
    links = {
        f"picture{i}": whole(graph, model, image, steps=5, scheduler=name, denoise=0.5)
        for i, name in enumerate(EXTRA_SCHEDULERS)
    }
    for saved in results(graph, **links).values():
        picture = saved["t0"]
        np.testing.assert_allclose(
            picture, np.broadcast_to(PIXELS["red"], picture.shape), atol=1e-4
        )


def test_a_schedule_from_another_node_wins_over_the_name(results):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(64, 64)
    given = graph.add("DetailersTestScheduler", scheduler="exponential")[0]
    out = results(
        graph,
        given=whole(graph, model, image, scheduler="normal", scheduler_func_opt=given, denoise=0.5),
        named=whole(graph, model, image, scheduler="exponential", denoise=0.5),
        other=whole(graph, model, image, scheduler="normal", denoise=0.5),
    )
    np.testing.assert_array_equal(out["given"]["t0"], out["named"]["t0"])
    assert np.abs(out["given"]["t0"] - out["other"]["t0"]).max() > 0.01


def test_without_a_negative_cfg_is_the_guidance(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(64, 64)
    placeholder = graph.value("NegativePlaceholder")
    guided = graph.add("FluxGuidance", conditioning=graph.text(model, "red"), guidance=1.25)[0]
    out = results(
        graph,
        with_negative=whole(graph, model, image, "red", "blue", cfg=1.25),
        without=whole(graph, model, image, "red", placeholder, cfg=1.25),
        stock=stock(graph, model, image, guided, "", cfg=1.0),
    )
    # From blue 1.25 of the way to red; 1.25 times red, whose values are 0.6 and -0.6 before.
    colours = {"with_negative": (0.95, 0.2, 0.05), "without": (0.875, 0.125, 0.125)}
    colours["stock"] = colours["without"]
    for name, colour in colours.items():
        picture = out[name]["t0"]
        np.testing.assert_allclose(picture, np.broadcast_to(colour, picture.shape), atol=1e-4)


# By hand: seeds, steps, cycles, denoise


def test_segments_have_the_nodes_seed_and_the_next_ones(results):
    graph = Graph()
    model = graph.model("image1")
    image = graph.image(128, 64)
    segs = graph.segs(128, 64, box(64, 0, 128, 64), box(0, 0, 64, 64))
    detailed = {
        name: graph.detail("DetailerForEach", image, segs, model, wildcard=text, denoise=0.5)[0]
        for name, text in (("listed", ""), ("sorted", "[ASC]red"))
    }
    out = results(graph, image=image, **detailed)
    image = out["image"]["t0"]
    halves = [image[:, :, :64], image[:, :, 64:]]
    for name, seeds in (("listed", (6, 5)), ("sorted", (5, 6))):
        expected = [
            by_hand(half, RED, karras(4, 0.5), seed)
            for half, seed in zip(halves, seeds, strict=True)
        ]
        expected = np.clip(np.concatenate(expected, 2), 0, 1)
        np.testing.assert_allclose(out[name]["t0"], expected, atol=2e-3)


def test_cycles_sample_the_last_result_again_with_the_next_seed(results):
    graph = Graph()
    model = graph.model("image1")
    image = graph.image(64, 64)
    settings = {"denoise": 0.3, "cycle": 3}
    out = results(graph, image=image, detailed=whole(graph, model, image, **settings))
    expected = out["image"]["t0"]
    for cycle in range(3):
        expected = by_hand(expected, RED, karras(4, 0.3), seed=5 + cycle)
    np.testing.assert_allclose(out["detailed"]["t0"], np.clip(expected, 0, 1), atol=2e-3)


def test_the_versions_of_a_segs_detailer_have_the_seeds_of_shared_workflows(results):
    graph = Graph()
    model = graph.model("image1")
    image = graph.image(64, 64)
    segs = graph.segs(64, 64, FULL)
    settings = {"denoise": 0.5, "batch_size": 2}
    detailed = graph.detail("SEGSDetailer", image, segs, model, **settings)
    out = results(graph, image=image, segs=detailed[0])
    for index in range(2):
        expected = by_hand(out["image"]["t0"], RED, karras(4, 0.5), seed=6 + index)
        found = out["segs"][f"segs0_{index}_image"]
        np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=2e-3)


def test_denoise_from_nearly_nothing_to_all(results):
    graph = Graph()
    model = graph.model("image1")
    image = graph.image(64, 64)
    strengths = [0.0001, 0.01, 0.1, 0.3, 0.5, 0.75, 1.0]
    links = {
        f"picture{i}": whole(graph, model, image, denoise=strength)
        for i, strength in enumerate(strengths)
    }
    out = results(graph, image=image, **links)
    image = out["image"]["t0"]
    for i, strength in enumerate(strengths):
        expected = np.clip(by_hand(image, RED, karras(4, strength)), 0, 1)
        np.testing.assert_allclose(out[f"picture{i}"]["t0"], expected, atol=2e-3)
    assert np.abs(out["picture0"]["t0"] - image).max() < 0.1


def test_a_refiner_runs_the_last_steps(results):
    graph = Graph()
    model, other = graph.model("image1"), graph.model("image1", prior_std=0.1)
    image = graph.image(64, 64)
    refiner = graph.pipe(other, "green")
    ratios = [0.0, 0.3, 0.5, 1.0]
    segs = graph.segs(64, 64, box(16, 16, 48, 48, crop=[0, 0, 64, 64], mask="r"))
    settings = {"refiner_basic_pipe_opt": refiner, "guide_size_for": False}
    links = {}
    for i, ratio in enumerate(ratios):
        detailed = graph.detail(
            "DetailerForEachDebugPipe", image, segs, model, "blue", refiner_ratio=ratio, **settings
        )
        links |= {f"picture{i}": detailed[0], f"crop{i}": detailed[4]}
    out = results(graph, image=image, **links)
    image = out["image"]["t0"]
    inside = (slice(None), slice(16, 48), slice(16, 48))
    sigmas = karras(4)
    start = image.transpose(0, 3, 1, 2) * 2 - 1 + sigmas[0] * noise(1, 3, 64, 64)
    for i, base_steps in enumerate([4, 2, 2, 0]):
        x = euler(start, np.reshape(BLUE, (1, 3, 1, 1)), 0.36, sigmas[: base_steps + 1])
        x = euler(x, np.reshape(GREEN, (1, 3, 1, 1)), 0.01, sigmas[base_steps:])
        expected = image.copy()
        expected[inside] = np.clip((x.transpose(0, 2, 3, 1) + 1) / 2, 0, 1)[inside]
        np.testing.assert_allclose(out[f"crop{i}"]["t0"], expected, atol=2e-3)
        found = out[f"picture{i}"]["t0"]
        np.testing.assert_allclose(found, expected, atol=2e-3)
        found[inside] = image[inside]
        np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize(
    ("family", "scheduler"), [("image8", "karras"), ("flat8", "normal"), ("image16", "simple")]
)
def test_a_model_that_refines_itself_changes_nothing(results, family, scheduler):
    """Whatever the mask: what it keeps is noised to the level of each step, and opens in time.

    Under a hard mask a model that adds noise to an unscaled latent keeps it without noise, as the
    recordings have it; where the mask fits the latent's cells that makes no difference.
    """
    graph = Graph()
    model = graph.model(family)
    image = graph.image(96, 96)
    entry = box(24, 24, 72, 72, crop=[0, 0, 96, 96], mask="r")
    links = {}
    for value in (1.0, 0.5):
        segs = graph.segs(96, 96, entry | {"frames": [value]})
        for feather, name in [(0, "euler"), (20, "euler"), (20, "euler_ancestral"), (20, "ddim")]:
            for kind in ("one", "two"):
                more = {"refiner_basic_pipe_opt": graph.pipe(model), "refiner_ratio": 0.4}
                links[f"{value}{feather}{name}_{kind}"] = graph.detail(
                    "DetailerForEachDebugPipe", image, segs, model, steps=8, denoise=0.6,
                    guide_size_for=False, scheduler=scheduler, sampler_name=name,
                    noise_mask_feather=feather, **more if kind == "two" else {},
                )[4]  # fmt: skip
    out = results(graph, image=image, **links)
    for name in (name for name in links if name.endswith("one")):
        one, two = out[name]["t0"], out[name.replace("one", "two")]["t0"]
        assert np.abs(one - out["image"]["t0"])[:, 40:56, 40:56].max() > 0.005
        np.testing.assert_allclose(two, one, atol=2e-3, err_msg=name)


# Again and again


def test_seeds_reproduce_every_bit(results):
    """A new model makes the host forget what it knows, so that everything is run again."""

    def once(fresh, seed=5):
        graph = Graph()
        model = graph.model("flat8", oom_rows=1000 + fresh)
        image = graph.image(96, 64)
        segs = graph.segs(96, 64, box(8, 8, 40, 40, mask="e"), box(48, 8, 80, 40, mask="e"))
        settings = {"seed": seed, "sampler_name": "dpmpp_2m_sde", "cfg": 3.0, "feather": 5}
        settings |= {"denoise": 0.6, "noise_mask_feather": 10, "wildcard": "{red|blue|green}"}
        return results(
            graph, picture=graph.detail("DetailerForEach", image, segs, model, **settings)[0]
        )["picture"]

    first, second, third = once(0), once(1), once(2, seed=6)
    assert stats(second)["model_calls"] > stats(first)["model_calls"]
    np.testing.assert_array_equal(second["t0"], first["t0"])
    assert np.abs(third["t0"] - first["t0"]).max() > 0.01


BATCHES = {
    "DetailerForEach": {"feather": 5, "noise_mask_feather": 4},
    "DetailerForEachPipe": {"feather": 3, "cycle": 2},
    "MaskDetailerPipe": {"feather": 5},
    "SEGSDetailer": {"guide_size_for": False},
}


@pytest.mark.parametrize("family", ["flat8", "video8"])
def test_a_batch_equals_its_single_images(results, family):
    graph = Graph()
    model = graph.model(family)
    entries = [box(8, 8, 40, 40, mask="e"), box(48, 16, 84, 50, mask="e")]
    images = {"batch": graph.image(96, 64, batch=3, seed=20)}
    images |= {f"single{i}": graph.image(96, 64, seed=20 + i) for i in range(3)}
    mask = graph.mask(96, 64, *([*entry["bbox"], "e"] for entry in entries))
    segs = graph.segs(96, 64, *entries)
    settings = {"denoise": 0.5, "scheduler": "simple", "steps": 2}
    links = {
        f"{node}_{name}": graph.detail(
            node, image, mask if node.startswith("Mask") else segs, model, **settings, **changed
        )[0]
        for node, changed in BATCHES.items()
        for name, image in images.items()
    }
    out = results(graph, **links)
    for node in BATCHES:
        arrays = ["t0"] if node != "SEGSDetailer" else ["segs0_0_image", "segs0_1_image"]
        for array in arrays:
            singles = [out[f"{node}_single{i}"][array] for i in range(3)]
            np.testing.assert_array_equal(
                out[f"{node}_batch"][array], np.concatenate(singles), err_msg=node
            )
            assert np.abs(singles[0] - singles[1]).max() > 0.01


def test_tiles_give_the_same_picture(results):
    def detailed(fresh, **tiled):
        graph = Graph()
        model = graph.model("image8", oom_rows=1000 + fresh)  # nothing comes from the cache
        image, segs = graph.image(96, 80), graph.segs(96, 80, box(0, 0, 96, 80))
        settings = {"guide_size": 640, "max_size": 1024, "steps": 1, "denoise": 0.2, **tiled}
        node = graph.detail("DetailerForEach", image, segs, model, **settings)
        return results(graph, picture=node[0])["picture"]

    def calls(after, before):
        names = ("encode_calls", "decode_calls")
        return [stats(after)[name] - stats(before)[name] for name in names]

    whole = detailed(0)
    off = detailed(1, tiled_encode=False, tiled_decode=False)
    encode = detailed(2, tiled_encode=True, tiled_decode=False)
    decode = detailed(3, tiled_encode=False, tiled_decode=True)
    assert calls(off, whole) == [1, 1]
    tiles, one = calls(encode, off)
    assert (tiles > 1, one) == (True, 1)
    one, tiles = calls(decode, encode)
    assert (tiles > 1, one) == (True, 1)
    np.testing.assert_array_equal(off["t0"], whole["t0"])
    np.testing.assert_allclose(encode["t0"], whole["t0"], atol=1e-4)
    np.testing.assert_allclose(decode["t0"], whole["t0"], atol=1e-4)
