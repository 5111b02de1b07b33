"""Bad input gives a clear error from our own node, and the server continues normally."""

import re

import numpy as np
import pytest
from detailers.dev.server import PromptRefused
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import Graph, box

NAN = float("nan")


def detailer(graph, **replaced):
    """A detailer in which one input or more are replaced."""
    model = graph.model("flat8", prior_std=0.0)
    inputs = {"image": graph.image(64, 64), "segs": graph.segs(64, 64, box(8, 8, 40, 40))}
    node = graph.detail("DetailerForEach", **inputs, model=model)
    graph[node.key]["inputs"] |= replaced
    return node


def pipe_detailer(graph, node="DetailerForEachPipe", **replaced):
    model = graph.model("video8" if node.endswith("AnimateDiff") else "flat8", prior_std=0.0)
    segs = graph.segs(64, 64, box(8, 8, 40, 40))
    if node == "MaskDetailerPipe":
        segs = graph.mask(64, 64, [8, 8, 40, 40, "r"])
    node = graph.detail(node, graph.image(64, 64), segs, model)
    graph[node.key]["inputs"] |= replaced
    return node


@pytest.fixture
def refused(server):
    """refused(graph, node, *words): the node raises, and its message has the words in order."""

    def refused(graph, node, *words):
        graph.add("DetailersTestSink", value=node[0])
        done = server.run(graph)
        assert not done.ok, words
        assert done.error.node_id == node.key, done.error
        kind = done.error.exception_type.rpartition(".")[2]
        assert kind in ("ValueError", "RuntimeError", "WildcardError")
        pattern = ".*".join(re.escape(word) for word in words)
        assert re.search(pattern, done.error.message, re.DOTALL), done.error.message

    return refused


@pytest.fixture(autouse=True)
def works_afterwards(results):
    """After each of these tests a normal prompt runs on the same server."""
    yield
    graph = Graph()
    out = results(graph, image=graph.image(64, 64), picture=detailer(graph)[0])
    expected = out["image"]["t0"].copy()
    expected[:, 8:40, 8:40] = PIXELS["red"]
    np.testing.assert_allclose(out["picture"]["t0"], expected, atol=1e-5)


# Images and masks


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"shape": [64, 64, 3], "fill": 0}, ["'image'", "[B,H,W,C]", "[64, 64, 3]", "Check"]),
        ({"shape": [1, 2, 64, 64, 3], "fill": 0}, ["'image'", "[1, 2, 64, 64, 3]", "Check"]),
        ({"shape": [1, 64, 64, 2], "fill": 0}, ["'image'", "1, 3 or 4 channels", "2"]),
        ({"shape": [1, 0, 64, 3], "fill": 0}, ["'image'", "empty", "[1, 0, 64, 3]", "Check"]),
        ({"shape": [0, 64, 64, 3], "fill": 0}, ["'image'", "empty", "[0, 64, 64, 3]"]),
        ({"shape": [1, 4, 4, 3], "fill": NAN}, ["'image'", "48 values", "not finite", "48", "VAE"]),
        ("a picture", ["'image'", "tensor", "str", "Check"]),
        (None, ["'image'", "None"]),
    ],
)
def test_images_that_are_none(refused, value, words):
    graph = Graph()
    refused(graph, detailer(graph, image=graph.value(value)), *words)
    for kind in ("MaskDetailerPipe", "SEGSDetailer", "DetailerForEachDebugPipe"):
        graph = Graph()
        refused(graph, pipe_detailer(graph, kind, image=graph.value(value)), *words)
    graph = Graph()
    segs = graph.segs(64, 64, box(8, 8, 40, 40))
    paste = {"image": graph.value(value), "segs": segs, "feather": 5, "alpha": 255}
    refused(graph, graph.add("SEGSPaste", **paste), *words)


@pytest.mark.parametrize(
    "kind", ["SEGSDetailerForAnimateDiff", "DetailerForEachPipeForAnimateDiff"]
)
def test_frames_are_named_as_the_user_sees_them(refused, kind):
    graph = Graph()
    frames = graph.value({"shape": [2, 8, 8, 3], "fill": NAN})
    refused(graph, pipe_detailer(graph, kind, image_frames=frames), "'image_frames'", "not finite")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"shape": [1, 64, 64, 3], "fill": 0}, ["'mask'", "[B,H,W]", "[1, 64, 64, 3]", "Mask"]),
        ({"shape": [64], "fill": 0}, ["'mask'", "[B,H,W]", "[64]"]),
        ({"shape": [1, 64, 0], "fill": 0}, ["'mask'", "empty", "[1, 64, 0]", "Check"]),
        ({"shape": [1, 8, 8], "fill": NAN}, ["'mask'", "64 values", "not finite"]),
        ([1, 2], ["'mask'", "list", "Check"]),
    ],
)
def test_masks_that_are_none(refused, value, words):
    graph = Graph()
    refused(graph, pipe_detailer(graph, "MaskDetailerPipe", mask=graph.value(value)), *words)
    settings = {"combined": False, "crop_factor": 1.5, "bbox_fill": False, "drop_size": 1}
    for kind in ("MaskToSEGS", "MaskToSEGS_for_AnimateDiff"):
        graph = Graph()
        node = graph.add(kind, mask=graph.value(value), contour_fill=False, **settings)
        refused(graph, node, *words)


# SEGS and pipes


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("segs", ["'segs'", "((height, width), [SEG, ...])", "str", "Connect"]),
        ([1, 2, 3], ["'segs'", "list of 3", "Connect"]),
        ([[64, 64], 5], ["'segs'", "[64, 64]", "int", "Connect"]),
        ([["high", "wide"], []], ["'segs'", "['high', 'wide']", "Connect"]),
        ([[64, 64], [[1, 2]]], ["'segs'", "entry 0", "no SEG", "cropped_image", "Connect"]),
        ({"shape": [2, 8, 8], "fill": 0}, ["'segs'", "Tensor", "Connect"]),
    ],
)
def test_segs_that_are_none(refused, value, words):
    graph = Graph()
    refused(graph, detailer(graph, segs=graph.value(value)), *words)
    for kind in ("SEGSDetailer", "DetailerForEachPipeForAnimateDiff"):
        graph = Graph()
        refused(graph, pipe_detailer(graph, kind, segs=graph.value(value)), *words)
    others = {
        "SegsToCombinedMask": {},
        "ImpactSEGSToMaskList": {},
        "ImpactSEGSToMaskBatch": {},
        "SEGSToImageList": {},
        "SEGSPreview": {"alpha_mode": True, "min_alpha": 0.2},
    }
    for kind, widgets in others.items():
        graph = Graph()
        refused(graph, graph.add(kind, segs=graph.value(value), **widgets), *words)


def test_segs_with_a_mask_that_is_not_finite(refused):
    entries = [box(8, 8, 40, 40), box(40, 40, 48, 48, frames=[NAN])]
    words = ["segs", "mask of SEG 1", "64 values", "not finite"]
    graph = Graph()
    refused(graph, detailer(graph, segs=graph.segs(64, 64, *entries)), *words)
    graph = Graph()
    segs = graph.segs(64, 64, *entries)
    refused(graph, graph.add("SegsToCombinedMask", segs=segs), *words)


@pytest.mark.parametrize("missing", ["model", "vae", "positive", "negative"])
def test_a_pipe_with_a_part_missing(refused, missing):
    def broken(graph):
        parts = graph.parts(graph.model("flat8"))
        del parts[missing]
        empty = graph.value([None] * 5)
        return graph.add("EditBasicPipe", basic_pipe=empty, **parts)[0]

    words = [f"'{missing}'", "'basic_pipe'", "missing", "None", f"Connect a {missing}"]
    kinds = ["DetailerForEachPipe", "MaskDetailerPipe", "SEGSDetailerForAnimateDiff"]
    for kind in kinds:
        graph = Graph()
        refused(graph, pipe_detailer(graph, kind, basic_pipe=broken(graph)), *words)
    graph = Graph()
    node = pipe_detailer(graph, refiner_basic_pipe_opt=broken(graph))
    refused(graph, node, f"'{missing}'", "'refiner_basic_pipe_opt'", "missing")


def test_a_pipe_without_clip_is_missed_only_by_texts(refused, results):
    graph = Graph()
    parts = graph.parts(graph.model("flat8", prior_std=0.0))
    del parts["clip"]
    pipe = graph.add("EditBasicPipe", basic_pipe=graph.value([None] * 5), **parts)[0]
    plain = pipe_detailer(graph, basic_pipe=pipe)
    picture = results(graph, picture=plain[0])["picture"]["t0"][:, 8:40, 8:40]
    np.testing.assert_allclose(picture, np.broadcast_to(PIXELS["red"], picture.shape), atol=1e-5)
    node = pipe_detailer(graph, basic_pipe=pipe, wildcard="blue")
    refused(graph, node, "'clip'", "missing", "Connect a CLIP")


@pytest.mark.parametrize("value", [[1, 2], "pipe", None])
def test_pipes_that_are_none(refused, value):
    for kind in ("FromBasicPipe", "FromBasicPipe_v2", "EditBasicPipe"):
        graph = Graph()
        node = graph.add(kind, basic_pipe=graph.value(value))
        refused(graph, node, "'basic_pipe'", "five parts", "ToBasicPipe")
    graph = Graph()
    node = pipe_detailer(graph, basic_pipe=graph.value(value))
    refused(graph, node, "'basic_pipe'", "five parts", "ToBasicPipe")


# Regions


def test_regions_outside_the_image_are_clipped(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(64, 48)
    entries = [
        box(-16, -16, 16, 16),
        box(48, 30, 100, 90),
        box(20, 20, 28, 28, crop=[-40, -40, 90, 90], mask="r"),
        box(300, 300, 340, 340),
        box(-50, 10, -10, 30),
    ]
    segs = graph.segs(64, 48, *entries)
    paste = {"image": image, "segs": segs, "feather": 0, "alpha": 255}
    reference = graph.plain(64, 48, 0xCC3333)
    out = results(
        graph,
        image=image,
        detailed=graph.detail("DetailerForEach", image, segs, model, noise_mask=False)[0],
        pasted=graph.add("SEGSPaste", **paste, ref_image_opt=reference)[0],
        mask=graph.add("SegsToCombinedMask", segs=segs)[0],
    )
    mask = np.zeros((1, 48, 64))
    mask[:, :16, :16] = mask[:, 30:, 48:] = mask[:, 20:28, 20:28] = 1
    np.testing.assert_array_equal(out["mask"]["t0"], mask)
    expected = np.where(mask[..., None] == 1, PIXELS["red"], out["image"]["t0"])
    np.testing.assert_allclose(out["detailed"]["t0"], expected, atol=1e-4)
    np.testing.assert_allclose(out["pasted"]["t0"], expected, atol=1e-4)


# Widgets


def test_an_unknown_scheduler_or_sampler(server, refused):
    for widget, choice in (("scheduler", "karras"), ("sampler_name", "euler")):
        graph = Graph()
        node = detailer(graph, **{widget: "karass"})
        graph.add("DetailersTestSink", value=node[0])
        with pytest.raises(PromptRefused, match=f"DetailerForEach: .*{widget}: 'karass' not in"):
            server.run(graph)
        # A link to the widget gets past the host's check.
        graph = Graph()
        node = detailer(graph, **{widget: graph.value("karass")})
        refused(graph, node, f"'{widget}'", "'karass'", "does not have", "Choose one of", choice)


def test_a_lora_that_is_missing_or_broken_is_left_out_with_a_warning(results, server):
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    (folder / "broken one.safetensors").write_bytes(b"no weights at all")
    start = len(server.log())
    graph = Graph()
    text = "<lora:not there:0.8>blue<lora:broken one>"
    picture = results(graph, picture=detailer(graph, wildcard=text)[0])["picture"]["t0"]
    inside = picture[:, 8:40, 8:40]
    np.testing.assert_allclose(inside, np.broadcast_to(PIXELS["blue"], inside.shape), atol=1e-5)
    log = server.log()[start:]
    assert "'not there'" in log
    assert "'broken one' cannot be read" in log


def test_a_wildcard_file_that_cannot_be_read_is_left_out_with_a_warning(results, server):
    folder = server.base / "models" / "wildcards"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broken.yaml").write_text("fine: [blue]\nwrong: [red\nmore: x\n")
    (folder / "latin.txt").write_bytes(b"# first\n\xe9 green\n")
    start = len(server.log())
    graph = Graph()
    links = {
        "no_such_list": detailer(graph, wildcard="blue __wrong__")[0],
        "latin": detailer(graph, wildcard="__latin__")[0],
    }
    out = results(graph, **links)
    for name, colour in (("no_such_list", "blue"), ("latin", "green")):
        inside = out[name]["t0"][:, 8:40, 8:40]
        expected = np.broadcast_to(PIXELS[colour], inside.shape)
        np.testing.assert_allclose(inside, expected, atol=1e-5)
    log = server.log()[start:]
    assert re.search(r"broken\.yaml' is left out: line \d is no valid YAML", log)
    assert re.search(r"latin\.txt' is no valid UTF-8 in line 2", log)
    (folder / "broken.yaml").unlink()
    (folder / "latin.txt").unlink()


def test_a_text_that_leads_to_itself_is_an_error_of_the_node(refused, server):
    folder = server.base / "models" / "wildcards"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ring.txt").write_text("__ring__\n")
    graph = Graph()
    refused(graph, detailer(graph, wildcard="__ring__"), "__ring__", "Take the reference out")


# What callables give back


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"touch_scaled_size": [100000, 10000]}, ["segment 0", "100000x10000", "67108864"]),
        ({"touch_scaled_size": [NAN, 64]}, ["touch_scaled_size", "(nan, 64)", "a width and"]),
        ({"touch_scaled_size": "abc"}, ["touch_scaled_size", "('a', 'b', 'c')"]),
        ({"post_upscale": NAN}, ["post_upscale", "not finite", "1 picture [N,h,w,3]"]),
        ({"post_encode": NAN}, ["post_encode", "not finite"]),
        ({"get_custom_noise": NAN}, ["get_custom_noise", "not finite", "noise of the shape"]),
        ({"get_custom_noise": "much"}, ["get_custom_noise", "failed with TypeError"]),
        ({"pre_ksample": {"steps": 10**9}}, ["pre_ksample", "1000000000", "0 to 10000"]),
        ({"pre_ksample": {"cfg": NAN}}, ["pre_ksample", "nan", "'cfg'"]),
        ({"pre_ksample": {"positive": 5}}, ["pre_ksample", "an int", "'positive'"]),
        ({"post_paste": NAN}, ["post_paste", "not finite"]),
    ],
)
def test_what_a_hook_gives_is_checked(refused, changes, words):
    graph = Graph()
    hook = graph.hook(**changes)[0]
    refused(graph, detailer(graph, detailer_hook=hook), *words)


def test_lists_of_images_and_masks_check_each_entry(refused):
    picture, none = {"shape": [1, 8, 8, 3], "fill": 0}, {"shape": [1, 8, 8, 2], "fill": 0}
    for kind in ("ImpactMakeImageList", "ImpactMakeImageBatch"):
        graph = Graph()
        images = {"image1": graph.value(picture), "image2": graph.value(none)}
        refused(graph, graph.add(kind, **images), "'image2'", "channels")
    for kind in ("ImpactMakeMaskList", "ImpactMakeMaskBatch"):
        graph = Graph()
        masks = {"mask1": graph.value({"shape": [1, 8, 8], "fill": 0}), "mask2": graph.value("x")}
        refused(graph, graph.add(kind, **masks), "'mask2'", "mask")
