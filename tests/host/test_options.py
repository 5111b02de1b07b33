"""Paste Options and Crop Options on every detailer, and crops with broken results."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, blurred
from detailers.tests.host.graphs import DETAILERS, Graph, box

RED = np.array(PIXELS["red"])
OFF = {  # everything as it is without the node
    "blend": "feather",
    "color_match": 0.0,
    "restore_unmasked": False,
    "mask_grow": 0,
    "feather": -1,
    "fade_at_border": False,
}
ON = {
    "blend": "multiband",
    "color_match": 0.5,
    "restore_unmasked": True,
    "mask_grow": 2,
    "feather": 4,
    "fade_at_border": True,
}
SIZE = {"size_policy": "guide_size", "native_size": 0, "upright": "off", "angle": 0.0}
PASTING = [node for node in DETAILERS if not node.startswith("SEGSDetailer")]


def paste_options(graph, **changed):
    return graph.add("DetailersPasteOptions", **ON | changed)[0]


def crop_options(graph, **changed):
    return graph.add("DetailersCropOptions", **SIZE | changed)[0]


def drawn(graph, node, model, image, **options):
    """The first output of a detailer that works on an ellipse."""
    shape = [24, 16, 72, 64, "e"]
    if node == "MaskDetailerPipe":
        where = graph.mask(96, 80, shape)
    else:
        where = graph.segs(96, 80, box(*shape[:4], mask="e", crop=[8, 4, 88, 76]))
    return graph.detail(node, image, where, model, **options)[0]


@pytest.mark.parametrize("family", ["flat8", "video8"])
def test_switched_off_they_change_nothing(results, family):
    graph = Graph()
    model = graph.model(family)
    image = graph.image(96, 80, batch=2)
    sockets = {
        "paste_options": graph.add("DetailersPasteOptions", **OFF)[0],
        "crop_options": crop_options(graph),
    }
    feather = {node: {"feather": 6} if node in PASTING else {} for node in DETAILERS}
    links = {}
    for node in DETAILERS:
        links[node] = drawn(graph, node, model, image, **feather[node])
        links[f"{node}_with"] = drawn(graph, node, model, image, **feather[node], **sockets)
    out = results(graph, **links)
    for node in DETAILERS:
        plain, given = out[node], out[f"{node}_with"]
        names = [name for name in plain if name != "stats"]
        assert names
        for name in names:
            np.testing.assert_array_equal(given[name], plain[name], err_msg=f"{node} {name}")


def test_switched_on_they_reach_every_detailer_and_keep_to_the_mask(results):
    graph = Graph()
    model = graph.model("flat8")
    image = graph.image(96, 80, batch=2)
    links = {}
    for node in PASTING:
        links[node] = drawn(graph, node, model, image, feather=6)
        options = {"paste_options": paste_options(graph)}
        links[f"{node}_on"] = drawn(graph, node, model, image, feather=6, **options)
    mask = graph.mask(96, 80, [24, 16, 72, 64, "e"])
    out = results(graph, image=image, mask=mask, **links)
    image = out["image"]["t0"]
    far = blurred(out["mask"]["t0"][0], 12) == 0
    for node in PASTING:
        plain, given = out[node]["t0"], out[f"{node}_on"]["t0"]
        assert np.abs(plain - given).max() > 0.005, node
        np.testing.assert_array_equal(given[:, far], image[:, far], err_msg=node)


def test_segs_paste_fades_inside_the_crop(results):
    graph = Graph()
    image, other = graph.plain(96, 80, 0x336699), graph.plain(96, 80, 0xCC6633)
    segs = graph.segs(96, 80, box(16, 16, 80, 64), image=other)
    common = {"image": image, "segs": segs, "feather": 6, "alpha": 255}
    out = results(
        graph,
        plain=graph.add("SEGSPaste", **common)[0],
        faded=graph.add("SEGSPaste", **common, paste_options=paste_options(graph, mask_grow=0))[0],
    )
    base = out["plain"]["t0"][0, 0, 0]
    plain, faded = (np.abs(out[name]["t0"][0, 40] - base).max(-1) for name in ("plain", "faded"))
    assert np.diff(plain).max() > 0.3  # a straight edge
    assert np.diff(faded).max() < 0.1
    assert faded[48] > 0.2


def test_colours_are_matched_to_the_image(results):
    graph = Graph()
    image, other = graph.plain(128, 128, 0x808080), graph.plain(128, 128, 0x8C8078)
    segs = graph.segs(128, 128, box(24, 24, 104, 104, mask="e", crop=[8, 8, 120, 120]), image=other)
    paste = {"image": image, "segs": segs, "feather": 6, "alpha": 255}
    matched = paste_options(graph, color_match=1.0, blend="feather")
    out = results(
        graph, image=image, pasted=graph.add("SEGSPaste", **paste, paste_options=matched)[0]
    )
    np.testing.assert_allclose(out["pasted"]["t0"], out["image"]["t0"], atol=2e-3)


def test_crops_are_brought_to_the_models_size(results, server):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(256, 128)
    hook = graph.hook()
    segs = graph.segs(256, 128, box(10, 10, 30, 30), box(40, 0, 240, 100))
    options = crop_options(graph, size_policy="model", native_size=64)
    detailed = graph.detail(
        "DetailerForEach", image, segs, model, crop_options=options, detailer_hook=hook[0]
    )[0]
    graph.add("DetailersTestSave", value=hook[1], after=detailed, name="log")
    picture = results(graph, detailed=detailed)["detailed"]["t0"]
    log = str(server.result("log")["s0"])
    assert '["post_upscale", [1, 64, 64, 3]]' in log  # enlarged
    assert '["post_upscale", [1, 48, 88, 3]]' in log  # shrunk
    np.testing.assert_allclose(
        picture[:, :100, 40:240], np.broadcast_to(RED, (1, 100, 200, 3)), atol=1e-5
    )


@pytest.mark.once
def test_a_real_models_own_area_is_known(results, server, checkpoint):
    graph = Graph()
    loaded = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
    hook = graph.hook()
    image, segs = graph.image(96, 96), graph.segs(96, 96, box(16, 16, 80, 80))
    settings = {"steps": 1, "crop_options": crop_options(graph, size_policy="model")}
    detailed = graph.detail(
        "DetailerForEach", image, segs, loaded, max_size=1024, detailer_hook=hook[0], **settings
    )[0]
    graph.add("DetailersTestSave", value=hook[1], after=detailed, name="log")
    results(graph, detailed=detailed)
    assert '["post_upscale", [1, 512, 512, 3]]' in str(server.result("log")["s0"])


@pytest.mark.parametrize("node", PASTING)
def test_a_turned_crop_lands_where_its_mask_is(results, node):
    graph = Graph()
    model = graph.model("video8", prior_std=0.0)
    image = graph.image(96, 80)
    options = {"crop_options": crop_options(graph, upright="angle", angle=30.0)}
    mask = graph.mask(96, 80, [24, 16, 72, 64, "e"])
    core = graph.mask(96, 80, [30, 22, 66, 58, "e"])
    link = drawn(graph, node, model, image, **options)
    out = results(graph, image=image, mask=mask, core=core, found=link)
    found, image = out["found"]["t0"], out["image"]["t0"]
    outside, inside = out["mask"]["t0"][0] == 0, out["core"]["t0"][0] == 1
    np.testing.assert_array_equal(found[:, outside], image[:, outside])
    assert np.abs(found[:, inside] - RED).max() < 0.02


def test_a_vae_that_fails_in_half_precision_is_mended(results):
    graph = Graph()
    model = graph.model("image8", prior_std=0.0)
    half = [model[0], model[1], graph.add("DetailersTestHalfVAE", vae=model[2])[0]]
    image = graph.image(96, 80)
    segs = graph.segs(96, 80, box(16, 16, 80, 64))
    out = results(
        graph,
        good=graph.detail("DetailerForEach", image, segs, model)[0],
        mended=graph.detail("DetailerForEach", image, segs, half)[0],
    )
    np.testing.assert_allclose(out["mended"]["t0"], out["good"]["t0"], atol=0.01)
    assert np.abs(out["mended"]["t0"][:, 16:64, 16:80] - RED).max() < 0.01


@pytest.mark.parametrize("name", ["paste_options", "crop_options"])
def test_anything_else_at_the_socket_is_told(server, name):
    graph = Graph()
    image, model = graph.image(64, 64), graph.model("flat8")
    segs = graph.segs(64, 64, box(16, 16, 48, 48))
    value = {name: graph.value("multiband")}
    detailed = graph.detail("DetailerForEach", image, segs, model, **value)[0]
    graph.add("PreviewImage", images=detailed)
    done = server.run(graph)
    assert not done.ok
    told = str(done.error or done.messages)
    assert f"'{name}' should be {name.replace('_', ' ')} but is" in told
    assert f"{name.replace('_', ' ').title()}" in told  # the node that makes them
