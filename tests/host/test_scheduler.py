"""Segments that are sampled together in the real host: the same pictures, in fewer calls."""

import json

import numpy as np
import pytest
from detailers.tests.host.graphs import SAMPLING, Graph, box

SIZE = (224, 64)
ROW = [box(x, 0, x + 64, 64, mask="e") for x in (0, 80, 160)]  # three that keep their size
TEXTS = "red [SEP] a blue sky [SEP] green"
LONG = "blue " + "sky " * 80  # two chunks of tokens instead of one
LENGTHS = f"red [SEP] {LONG}"  # for the first and third, and for the second
# One of each kind of sampler, for models that take longer: deterministic, multistep, ancestral,
# Brownian, and one that draws in a way of its own; and the texts of the segments.
KINDS = {
    "euler": LENGTHS, "dpmpp_2m": "", "euler_ancestral": "", "dpmpp_2m_sde": LENGTHS, "lcm": "",
}  # fmt: skip


class Pairs(Graph):
    """Detailers that are to give one picture, each one by one and in waves."""

    def __init__(self):
        super().__init__()
        self.links = {}

    def pair(self, name, image, segs, model, node="DetailerForEach", out=0, **settings):
        for batch in (1, 0):
            detailed = self.detail(node, image, segs, model, detail_batch=batch, **settings)
            self.links[f"{name}_{batch}"] = detailed[out]

    def compare(self, results, atol=1e-4):
        """Run all; returns what came out in waves by name."""
        out = results(self, **self.links)
        names = [name.removesuffix("_0") for name in out if name.endswith("_0")]
        for name in names:
            alone, together = out[f"{name}_1"], out[f"{name}_0"]
            assert alone.keys() == together.keys()
            for key in alone.keys() - {"stats"}:
                if alone[key].dtype.kind == "U":
                    assert together[key] == alone[key]
                    continue
                np.testing.assert_allclose(
                    together[key], alone[key], rtol=0, atol=atol, err_msg=f"{name} {key}"
                )
        return out | {name: out[f"{name}_0"] for name in names}


@pytest.fixture
def counted(run):
    """Run a graph, everything of it anew; how often what was called, by the name of the counter."""

    def counters():
        graph = Graph()
        sink = graph.add("DetailersTestSink", value=graph.value(0))
        return json.loads(run(graph).outputs[sink.key]["text"][0])

    def counted(graph, *links):
        before = counters()
        for link in links:
            graph.add("DetailersTestSink", value=link)
        run(graph)
        after = counters()
        return {name: after[name] - before[name] for name in before}

    return counted


# Every sampler


@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize(
    ("scheduler", "soft"),
    [
        ("normal", 6),
        pytest.param("karras", 0, marks=pytest.mark.once),
        pytest.param("simple", 0, marks=pytest.mark.once),
    ],
)
def test_every_sampler_gives_what_it_gives_alone(results, server, scheduler, soft, cfg):
    samplers = server.object_info("DetailerForEach")["input"]["required"]["sampler_name"][0]
    assert len(samplers) >= 30
    graph = Pairs()
    model, image, segs = graph.model("flat8"), graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    settings = {"scheduler": scheduler, "cfg": cfg, "noise_mask_feather": soft, "steps": 3}
    for name in samplers:
        graph.pair(
            name, image, segs, model, negative="grey", wildcard=LENGTHS, denoise=0.6,
            sampler_name=name, **settings,
        )  # fmt: skip
    pictures = graph.compare(results)
    assert pictures.keys() >= set(samplers)
    drawn = [pictures[name]["t0"] for name in ("euler", "euler_ancestral", "dpmpp_2m_sde")]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.01
    assert np.abs(drawn[1] - drawn[2]).max() > 0.01


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [("euler", 3), ("ddim", 3), ("euler_ancestral", 3), ("dpmpp_2m_sde", 3), ("lcm", 3)],
)
def test_samplers_that_share_a_call(counted, sampler, calls):
    graph = Graph()
    model, segs = graph.model("flat8"), graph.segs(*SIZE, *ROW)
    settings = {"sampler_name": sampler, "steps": 3, "cfg": 3.0, "wildcard": TEXTS}
    detailed = graph.detail("DetailerForEach", graph.image(*SIZE), segs, model, **settings)
    assert counted(graph, detailed[0])["model_calls"] == calls


def test_the_sampler_that_measures_its_error_over_the_batch_runs_alone(counted):
    graph = Graph()
    model, segs = graph.model("flat8"), graph.segs(*SIZE, *ROW)
    settings = {"sampler_name": "dpm_adaptive", "steps": 3}
    detailed = graph.detail("DetailerForEach", graph.image(*SIZE), segs, model, **settings)
    seen = counted(graph, detailed[0])
    assert seen["model_rows"] == seen["model_calls"]


# How many calls


def separate(count, side=64):
    """So many equal boxes, eight to a row, and the size of their image."""
    places = [((i % 8) * side, (i // 8) * side) for i in range(count)]
    size = (8 * side, -(-count // 8) * side)
    return size, [box(x, y, x + side, y + side, mask="r") for x, y in places]


@pytest.mark.parametrize(("batch", "calls"), [(0, 20), (1, 320), (8, 40)])
def test_sixteen_segments_at_twenty_steps(counted, batch, calls):
    size, boxes = separate(16)
    graph = Graph()
    settings = {"steps": 20, "cfg": 3.0, "detail_batch": batch}
    detailed = graph.detail(
        "DetailerForEach", graph.image(*size), graph.segs(*size, *boxes), graph.model("flat8"),
        **settings,
    )  # fmt: skip
    seen = counted(graph, detailed[0])
    assert (seen["model_calls"], seen["model_rows"]) == (calls, 640)  # with and without the text
    assert seen["encode_rows"] == seen["decode_rows"] == 16


def test_chains_of_overlapping_segments_make_as_many_levels_as_they_must(counted):
    graph = Graph()
    chains = [box(x, y, x + 64, y + 64) for y in (0, 64) for x in (0, 32, 64, 96)]
    settings = {"steps": 2, "wildcard": "red [SEP] green [SEP] blue"}
    detailed = graph.detail(
        "DetailerForEach", graph.image(160, 128), graph.segs(160, 128, *chains),
        graph.model("flat8"), **settings,
    )  # fmt: skip
    assert counted(graph, detailed[0])["model_calls"] == 4 * 2


def test_segments_of_a_batch_of_images(results, counted):
    graph = Pairs()
    model, image = graph.model("flat8"), graph.image(*SIZE, batch=8)
    segs = graph.segs(*SIZE, *ROW)
    settings = {"steps": 2, "wildcard": TEXTS, "denoise": 0.5}
    graph.pair("images", image, segs, model, "DetailerForEachDebug", **settings)
    graph.pair("crops", image, segs, model, "DetailerForEachDebug", 2, **settings)
    graph.compare(results)
    graph = Graph()
    image, segs = graph.image(*SIZE, batch=8), graph.segs(*SIZE, *ROW)
    model = graph.model("flat8", oom_rows=99)
    detailed = graph.detail("DetailerForEach", image, segs, model, **settings)
    seen = counted(graph, detailed[0])
    assert (seen["model_calls"], seen["model_rows"]) == (2 * 2, 24 * 2)  # 16 and 8 rows
    assert seen["text_encodes"] == 2 + 3  # positive and negative, and each text once


def test_the_versions_of_a_segs_detailer_share_calls(results, counted):
    graph = Pairs()
    model, image, segs = graph.model("flat8"), graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    settings = {"steps": 3, "batch_size": 2, "sampler_name": "euler_ancestral"}
    graph.pair("segs", image, segs, model, "SEGSDetailer", **settings)
    graph.compare(results)
    graph = Graph()
    segs, model = graph.segs(*SIZE, *ROW), graph.model("flat8", oom_rows=99)
    detailed = graph.detail("SEGSDetailer", graph.image(*SIZE), segs, model, **settings)
    assert counted(graph, detailed[0])["model_calls"] == 3


def test_memory_that_runs_out_is_tried_only_once(results, counted, server):
    size, boxes = separate(5)
    over = [box(x + 8, 0, x + 72, 64) for x in (0, 64, 128, 192, 256)]  # one level further

    def detailed(graph, rows, **changed):
        model, image = graph.model("flat8", oom_rows=rows), graph.image(*size, seed=7)
        settings = {"steps": 4, "sampler_name": "euler_ancestral", **changed}
        segs = graph.segs(*size, *boxes, *over)
        return graph.detail("DetailerForEach", image, segs, model, **settings)[0]

    graph = Graph()
    out = results(graph, **{f"rows{n}": detailed(graph, n) for n in (1, 2, 5)})
    for name, saved in out.items():
        np.testing.assert_allclose(saved["t0"], out["rows1"]["t0"], atol=1e-4, err_msg=name)
    told = "Out of memory: 5 crops cannot be sampled at once. They are now sampled 3 at a time."
    assert told in server.log()
    # The first five are tried as five and as three, then all go by two, two and one.
    graph = Graph()
    assert counted(graph, detailed(graph, 2, seed=9))["model_calls"] == 2 + 2 * 3 * 4


# Every kind of conditioning, model and latent


def conditioned(graph, model, kind):
    """A positive conditioning with something to it that has to become rows, or to stay alone."""
    red, blue = graph.text(model, "red"), graph.text(model, "blue")
    if kind == "area":
        area = {"width": 96, "height": 64, "x": 64, "y": 0, "strength": 1.0}
        red = graph.add("ConditioningSetArea", conditioning=red, **area)[0]
    if kind == "mask":
        mask = graph.mask(*SIZE, [0, 0, 120, 64, "e"])
        options = {"strength": 0.8, "set_cond_area": "default"}
        red = graph.add("ConditioningSetMask", conditioning=red, mask=mask, **options)[0]
    if kind == "range":
        red = graph.add("ConditioningSetTimestepRange", conditioning=red, start=0.0, end=0.5)[0]
    return graph.add("ConditioningCombine", conditioning_1=red, conditioning_2=blue)[0]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_conditionings(results, cfg):
    graph = Pairs()
    model = graph.model("flat8", pooled_share=0.5)
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    settings = {"cfg": cfg, "steps": 2, "sampler_name": "euler_ancestral"}
    for kind in ("area", "mask", "range"):
        positive = conditioned(graph, model, kind)
        graph.pair(kind, image, segs, model, positive=positive, **settings)
    graph.pair("texts", image, segs, model, wildcard=TEXTS, **settings)
    graph.pair("added", image, segs, model, wildcard=f"[CONCAT]{TEXTS}", **settings)
    graph.pair("same", image, segs, model, wildcard="", **settings)
    placeholder = graph.value("NegativePlaceholder")
    graph.pair("no negative", image, segs, model, negative=placeholder, wildcard=TEXTS, **settings)
    graph.compare(results)


FAMILIES = {
    "flat8": {"noise_mask_feather": 8},
    "inpaint8": {"inpaint_model": True},
    "image8": {"cycle": 2},
    "image16": {"scheduler": "simple"},
    "image1": {"noise_mask": False},
    "video8": {"scheduler": "simple"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_latents_of_every_kind(results, family):
    graph = Pairs()
    model, image, segs = graph.model(family), graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    settings = {"cfg": 2.0, "steps": 2, "denoise": 0.6, "wildcard": TEXTS, **FAMILIES[family]}
    for name in ("euler", "dpmpp_2m_sde"):
        graph.pair(name, image, segs, model, sampler_name=name, **settings)
    refined = {"refiner_basic_pipe_opt": graph.pipe(graph.model(family, prior_std=0.2), "blue")}
    refined |= {"refiner_ratio": 0.5, "steps": 4}
    graph.pair("refined", image, segs, model, "DetailerForEachPipe", **settings | refined)
    graph.compare(results)


def test_inpainting_and_video_latents_share_calls(counted):
    for family, settings in (("inpaint8", {"inpaint_model": True}), ("video8", {})):
        graph = Graph()
        model, segs = graph.model(family, oom_rows=50), graph.segs(*SIZE, *ROW)
        settings = {"steps": 2, "scheduler": "simple", "wildcard": TEXTS, **settings}
        detailed = graph.detail("DetailerForEach", graph.image(*SIZE), segs, model, **settings)
        assert counted(graph, detailed[0])["model_calls"] == 2, family


def test_hooks_that_change_values(results):
    graph = Pairs()
    model, image, segs = graph.model("flat8"), graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    noise = graph.add("VariationNoiseDetailerHookProvider", seed=3, strength=0.4)[0]
    denoise = graph.add(
        "DenoiseSchedulerDetailerHookProvider",
        schedule_for_cycle="simple",
        target_denoise=0.9,
    )[0]
    for name, hook in (("noise", noise), ("denoise", denoise), ("own", graph.hook()[0])):
        settings = {"detailer_hook": hook, "cycle": 2, "steps": 2, "denoise": 0.4}
        graph.pair(name, image, segs, model, wildcard=TEXTS, **settings)
    graph.compare(results)


class Patched:
    """The outputs of a model node, with another model."""

    def __init__(self, model, patch):
        self.model, self.patch = model, patch

    def __getitem__(self, output):
        return self.patch[0] if output == 0 else self.model[output]


def patched(graph, name):
    model = graph.model("flat8")
    options = {"multiplier": 0.7} if name == "RescaleCFG" else {}
    return Patched(model, graph.add(name, model=model[0], **options))


@pytest.mark.parametrize(("name", "calls"), [("Mahiro", 3 * 3), ("RescaleCFG", 3)])
def test_guidance_that_looks_at_the_whole_batch_runs_alone(results, counted, name, calls):
    settings = {"cfg": 3.0, "steps": 3, "wildcard": TEXTS}
    graph = Pairs()
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    graph.pair(name, image, segs, patched(graph, name), **settings)
    graph.compare(results)
    graph = Graph()
    image, segs = graph.image(*SIZE, seed=1), graph.segs(*SIZE, *ROW)
    detailed = graph.detail("DetailerForEach", image, segs, patched(graph, name), **settings)
    assert counted(graph, detailed[0])["model_calls"] == calls


def test_a_lora_of_one_segment_is_not_in_the_others(results, counted, server):
    import torch
    from safetensors.torch import save_file

    up, down = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    weights = {
        f"{network}.lora_{side}.weight": value.clone()
        for network in ("diffusion_model.tint", "text_encoders.tint")
        for side, value in (("up", up), ("down", down))
    }
    save_file(weights, folder / "waves.safetensors")
    text = "red <lora:waves:0.5> [SEP] red [SEP] blue"
    size, boxes = separate(6)
    graph = Pairs()
    model, image = graph.model("flat8"), graph.image(*size)
    graph.pair("lora", image, graph.segs(*size, *boxes), model, wildcard=text, steps=2)
    graph.compare(results)
    graph = Graph()
    segs, model = graph.segs(*size, *boxes), graph.model("flat8", oom_rows=77)
    detailed = graph.detail(
        "DetailerForEach", graph.image(*size), segs, model, wildcard=text, steps=2
    )
    seen = counted(graph, detailed[0])
    assert seen["model_calls"] == 2 * 2  # two with the LoRA together, and four without


# Networks


def test_a_network_with_cross_attention(results, checkpoint):
    graph = Pairs()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    settings = {"steps": 2, "scheduler": "normal", "denoise": 0.7}
    for name, texts in KINDS.items():
        soft = {"sampler_name": name, "noise_mask_feather": 4, "wildcard": texts}
        graph.pair(name, image, segs, model, cfg=4.0, **soft, **settings)
    graph.pair("without cfg", image, segs, model, sampler_name="lcm", **settings)
    for name, options in (
        ("PerturbedAttentionGuidance", {"scale": 3.0}), ("TomePatchModel", {"ratio": 0.5}),
    ):  # fmt: skip
        patched = Patched(model, graph.add(name, model=model[0], **options))
        graph.pair(name, image, segs, patched, cfg=1.0, **settings)
    graph.pair("plain", image, segs, model, cfg=1.0, **settings)
    pictures = graph.compare(results, atol=2e-3)
    assert pictures["euler"]["t0"].std() > 0.02
    for name in ("PerturbedAttentionGuidance", "TomePatchModel"):
        assert np.abs(pictures[name]["t0"] - pictures["plain"]["t0"]).max() > 1e-3, name
    np.testing.assert_allclose(  # it draws random numbers, and is never a row
        pictures["TomePatchModel_1"]["t0"], pictures["TomePatchModel_0"]["t0"], rtol=0, atol=1e-4
    )


def test_token_merging_gives_what_the_hosts_ksampler_gives_and_gives_it_again(results, checkpoint):
    def sampled(seed):
        graph = Graph()
        model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
        merging = Patched(model, graph.add("TomePatchModel", model=model[0], ratio=0.5))
        latent = graph.encode(model, graph.image(64, 64))
        settings = SAMPLING | {"steps": 2, "denoise": 0.8, "seed": seed}
        ours = graph.add(
            "ImpactKSamplerBasicPipe", basic_pipe=graph.pipe(merging), latent_image=latent,
            **settings,
        )  # fmt: skip
        stock = graph.sample(merging, latent, **settings)
        out = results(graph, ours=ours[1], stock=stock)
        return [out[name]["latent0_samples"] for name in ("ours", "stock")]

    first, stock = sampled(3)
    np.testing.assert_array_equal(first, stock)
    assert np.abs(sampled(4)[0] - first).max() > 1e-3
    np.testing.assert_array_equal(sampled(3)[0], first)


def test_a_network_whose_texts_and_pictures_share_one_attention(results, checkpoint):
    graph = Pairs()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd3"))
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    settings = {"cfg": 3.0, "steps": 2, "scheduler": "simple", "denoise": 0.7}
    for name, texts in (("one length", "red [SEP] a castle"), ("two lengths", LENGTHS)):
        sampler = {"sampler_name": "dpmpp_2m_sde", "wildcard": texts}
        graph.pair(name, image, segs, model, **sampler, **settings)
    graph.compare(results, atol=2e-3)


def test_one_control_net_with_a_hint_for_each_segment(results, checkpoint):
    graph = Pairs()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
    net = graph.add("ControlNetLoader", control_net_name=checkpoint("controlnet", "controlnet"))[0]
    image, hint = graph.image(*SIZE), graph.image(*SIZE, seed=5)
    plain = graph.segs(*SIZE, *ROW)
    options = {"control_net": net, "strength": 0.9, "start_percent": 0.0, "end_percent": 1.0}
    guided = graph.add(
        "ImpactControlNetApplyAdvancedSEGS", segs=plain, control_image=hint, **options
    )[0]
    texts = {"positive": graph.text(model, "red"), "negative": graph.text(model, "")}
    whole = graph.add("ControlNetApplyAdvanced", image=hint, **texts, **options)
    settings = {"cfg": 3.0, "steps": 2, "denoise": 0.8}
    graph.pair("of segments", image, guided, model, **settings)
    whole = {"positive": whole[0], "negative": whole[1]}
    graph.pair("of the image", image, plain, model, **whole, **settings)
    choosing = graph.add("DetailersTestForeignControl", control_net=net)[0]
    chosen = graph.add(
        "ImpactControlNetApplyAdvancedSEGS", segs=plain, control_image=hint,
        **options | {"control_net": choosing},
    )[0]  # fmt: skip
    graph.pair("of another pack", image, chosen, model, **settings)
    graph.links["without"] = graph.detail("DetailerForEach", image, plain, model, **settings)[0]
    out = graph.compare(results, atol=2e-3)
    for name in ("of segments", "of another pack"):
        assert np.abs(out[name]["t0"] - out["without"]["t0"]).max() > 0.02, name


def test_control_nets_that_cannot_be_rows_run_alone(results):
    graph = Pairs()
    model, net = graph.model("image8"), graph.add("DetailersTestControl", family="image8")[0]
    image, hint = graph.image(*SIZE), graph.image(*SIZE, seed=5)
    guided = graph.add(
        "ImpactControlNetApplyAdvancedSEGS", segs=graph.segs(*SIZE, *ROW), control_net=net,
        control_image=hint, strength=0.5, start_percent=0.0, end_percent=1.0,
    )[0]  # fmt: skip
    graph.pair("guided", image, guided, model, steps=2)
    graph.compare(results)


# The widgets


def test_every_still_detailer_ends_with_the_two_widgets(server):
    info = server.object_info()
    nodes = [
        name for name in info
        if "detail_batch" in info[name]["input"].get("optional", {})
        and name != "PreviewSegments" and "tracks" not in info[name]["input"]["required"]
    ]  # fmt: skip
    assert set(nodes) == {
        "DetailerForEach", "DetailerForEachAutoRetry", "DetailerForEachDebug",
        "DetailerForEachPipe", "DetailerForEachDebugPipe", "SEGSDetailer", "MaskDetailerPipe",
        "FaceDetailer", "FaceDetailerPipe",
    }  # fmt: skip
    for name in nodes:
        optional = info[name]["input"]["optional"]
        order = list(optional)
        ending = order[order.index("detail_batch") :]
        assert ending == [
            "detail_batch", "size_grid", "paste_options", "crop_options", "segment_plan",
            "variants",
        ], name  # fmt: skip
        batch, grid = ({**optional[key][1]} for key in ("detail_batch", "size_grid"))
        assert (optional["detail_batch"][0], optional["size_grid"][0]) == ("INT", "INT")
        assert (batch["default"], batch["min"], batch["max"]) == (0, 0, 64)
        assert (grid["default"], grid["min"], grid["max"], grid["step"]) == (0, 0, 512, 8)


def test_a_size_grid_brings_segments_together(results, counted):
    def detailed(graph, grid):
        boxes = [box(x, 0, x + 40, 40 + i, mask="e") for i, x in enumerate((0, 80, 160))]
        segs = graph.segs(*SIZE, *boxes)
        settings = {"guide_size": 80, "size_grid": grid, "steps": 2, "denoise": 0.3}
        model, image = graph.model("image8", oom_rows=90 + grid), graph.image(*SIZE)
        return graph.detail("DetailerForEach", image, segs, model, **settings)[0]

    graph = Graph()
    links = {"free": detailed(graph, 0), "grid": detailed(graph, 32)}
    out = {name: saved["t0"] for name, saved in results(graph, **links).items()}
    assert out["free"].shape == out["grid"].shape
    assert 0 < np.abs(out["free"] - out["grid"]).mean() < 0.02
    for grid, calls in ((0, 2 * 2), (64, 1 * 2)):  # padding to 8 brings two together as it is
        graph = Graph()
        assert counted(graph, detailed(graph, grid))["model_calls"] == calls
