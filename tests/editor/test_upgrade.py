"""web/detailers_upgrade.js: files of older versions, each made for one case."""

from itertools import pairwise

import pytest
from detailers.dev.editor import Editor
from detailers.dev.server import ROOT, Server

FIRST = [256, 7, False, 20, 8, "euler", "karras", 0.6, 5]  # the first version's DetailerForEach
FIRST_MEANS = {
    "guide_size": 256, "guide_size_for": True, "max_size": 16384, "seed": 7,
    "control_after_generate": "fixed", "steps": 20, "cfg": 8, "sampler_name": "euler",
    "scheduler": "karras", "denoise": 0.6, "feather": 5, "noise_mask": False,
    "force_inpaint": False, "wildcard": "", "cycle": 1, "inpaint_model": False,
    "noise_mask_feather": 0, "tiled_encode": False, "tiled_decode": False,
}  # fmt: skip
TODAY = [
    512, True, 1024, 7, "fixed", 20, 8, "euler", "karras", 0.5, 5, True, True, "", 1, False, 20,
    False, False,
]  # fmt: skip

UPGRADE = """async (workflow) => {
    const pack = "/extensions/comfyui-detailers/detailers_upgrade.js";
    const {upgradeWorkflow} = await import(pack);
    const [upgraded, changes, misfits] = upgradeWorkflow(workflow);
    return {upgraded, changes, misfits, same: upgraded === workflow};
}"""
LOAD_PROMPT = "async (prompt) => { await window.app.loadApiJson(prompt, 'prompt'); }"
SERIALIZED = "() => window.app.graph.serialize()"
EVERY = """(types) => {
    const {graph} = window.app;
    graph.clear();
    for (const type of types) graph.add(LiteGraph.createNode(type));
    return JSON.parse(JSON.stringify(graph.serialize()));
}"""
TOASTS = ".p-toast-message, [data-testid='toast']"
RENDERER = """async (isNew) => {
    await window.app.extensionManager.setting.set("Comfy.VueNodes.Enabled", isNew);
}"""


def node(id, type, values=None, inputs=(), outputs=()):
    """A saved node; inputs are (name, type, link), outputs (name, type, links)."""
    saved = {
        "id": id, "type": type, "pos": [300 * id, 100], "size": [280, 200], "flags": {},
        "order": id, "mode": 0, "properties": {"Node name for S&R": type},
        "inputs": [dict(zip(("name", "type", "link"), slot, strict=True)) for slot in inputs],
        "outputs": [dict(zip(("name", "type", "links"), slot, strict=True)) for slot in outputs],
    }  # fmt: skip
    return saved if values is None else saved | {"widgets_values": values}


def workflow(*nodes, links=(), **extra):
    last = {"last_node_id": 99, "last_link_id": 99}
    more = {"groups": [], "config": {}, "extra": extra, "version": 0.4}
    return {"nodes": list(nodes), "links": list(links), **last, **more}


def upgraded(editor, content):
    return editor.page.evaluate(UPGRADE, content)


def ours(widgets):
    return {name: value for name, value in widgets.items() if name in FIRST_MEANS}


@pytest.fixture(params=["canvas", "Vue"])
def renderer(editor, request):
    """Both ways in which the editor draws nodes."""
    editor.page.evaluate(RENDERER, request.param == "Vue")
    yield
    editor.page.evaluate(RENDERER, False)


def test_the_first_version_of_a_node(editor, renderer):
    editor.load(workflow(node(1, "DetailerForEach", FIRST)))
    assert ours(editor.node(1).widgets) == FIRST_MEANS


NAMED = "Comfy.Workflow.NamedValuesRestore"
SET = "async ([name, on]) => { await window.app.extensionManager.setting.set(name, on); }"


@pytest.mark.parametrize("by_name", [False, True])
def test_an_old_list_counts_more_than_names_that_were_guessed_for_it(editor, by_name):
    """Newer editors save the values by name too, and can be set to go by the names."""
    names = [name for name in FIRST_MEANS if name != "control_after_generate"]
    old = node(1, "DetailerForEach", FIRST)
    old["widgets_values_named"] = dict(zip(names, FIRST, strict=False))
    editor.page.evaluate(SET, [NAMED, by_name])
    editor.load(workflow(old))
    means = ours(editor.node(1).widgets)
    editor.page.evaluate(SET, [NAMED, False])
    assert means == FIRST_MEANS


@pytest.mark.parametrize("by_name", [False, True])
def test_what_a_newer_editor_saves_stays(editor, by_name):
    editor.page.evaluate(SET, [NAMED, by_name])
    editor.load(workflow(node(1, "DetailerForEach", TODAY)))
    before = editor.node(1).widgets
    content = editor.page.evaluate(SERIALIZED)
    assert upgraded(editor, content)["same"]
    editor.load(content)
    after = editor.node(1).widgets
    editor.page.evaluate(SET, [NAMED, False])
    assert after == before


def test_a_title_is_no_html(editor):
    """It is told with the upgrade, and is whatever the file says."""
    evil = "<img src=x onerror='window.ran = true'>"
    content = workflow(node(1, f"workflow>{evil}", [*FIRST]), groupNodes={
        evil: {"nodes": [{"type": "DetailerForEach", "index": 0, "widgets_values": FIRST}],
               "links": [], "external": []},
    })  # fmt: skip
    content["nodes"][0]["title"] = evil
    editor.load(content)
    toast = editor.page.locator(TOASTS).filter(has_text="<img src=x").first
    toast.wait_for()
    assert editor.page.evaluate("() => window.ran") is None


def test_text_becomes_boolean(editor):
    old = ["bbox" if v is True else v for v in TODAY[:2]] + TODAY[2:11] + ["enabled", "disabled"]
    editor.load(workflow(node(1, "DetailerForEach", old)))
    widgets = editor.node(1).widgets
    assert widgets["guide_size_for"] is True
    assert widgets["noise_mask"] is True
    assert widgets["force_inpaint"] is False
    assert widgets["max_size"] == 1024


@pytest.mark.parametrize(("mode", "now"), [(True, "populate"), (False, "fixed")])
def test_wildcard_modes(editor, mode, now):
    old = ["a {b|c}", "a b", mode, "Select the LoRA to add to the text", 5, "fixed"]
    editor.load(workflow(node(1, "ImpactWildcardEncode", old)))
    widgets = editor.node(1).widgets
    assert widgets["mode"] == now
    assert (widgets["seed"], widgets["control_after_generate"]) == (5, "fixed")


@pytest.mark.parametrize(
    ("node_id", "values"),
    [
        ("DetailerForEach", TODAY),
        ("DetailerForEach", [*TODAY, 2, 64]),  # with the widgets of this pack alone
        ("RegionalSampler", [
            42, "fixed", 3, "ignore", 20, 2, 1.0, 10, True, "ratio between", "AUTO", 0.3,
        ]),
        ("ImpactKSamplerBasicPipe", [5, "fixed", 21, 7, "euler", "karras", 0.8]),
        ("ImpactKSamplerAdvancedBasicPipe", [
            True, 5, "fixed", 21, 7, "euler", "karras", 2, 20, False,
        ]),
    ],
)  # fmt: skip
def test_a_list_without_the_editors_own_widget(editor, node_id, values):
    """Tools that write files often leave out `control_after_generate`."""
    editor.load(workflow(node(1, node_id, [value for value in values if value != "fixed"])))
    assert list(editor.node(1).widgets.values())[: len(values)] == values


def test_what_is_not_installed_moves_nothing(editor):
    """A sampler that is not here makes no other layout of a list."""
    other = [*TODAY[:7], "sampler of another pack", *TODAY[8:]]
    content = workflow(node(1, "DetailerForEach", other))
    assert upgraded(editor, content)["same"]


def test_an_output_that_came_in_between(editor):
    """The first FromDetailerPipe gave no CLIP."""
    outputs = [("model", "MODEL", [1]), ("vae", "VAE", [2]), ("positive", "CONDITIONING", [3])]
    source = node(1, "FromDetailerPipe", None, [], outputs)
    pipe = node(2, "ToBasicPipe", None, [
        ("model", "MODEL", 1), ("clip", "CLIP", None), ("vae", "VAE", 2),
        ("positive", "CONDITIONING", 3),
    ])  # fmt: skip
    links = [
        [1, 1, 0, 2, 0, "MODEL"],
        [2, 1, 1, 2, 2, "VAE"],
        [3, 1, 2, 2, 3, "CONDITIONING"],
    ]
    editor.load(workflow(source, pipe, links=links))
    assert {slot.name: slot.ends for slot in editor.node(2).inputs if slot.ends} == {
        "model": [("1", 0)], "vae": [("1", 2)], "positive": [("1", 3)],
    }  # fmt: skip


@pytest.mark.parametrize("names", [("latent1", "latent2"), ("latent1", "latent2_opt")])
def test_switches_by_type(editor, names):
    """They had names of their own for their inputs."""
    latents = [
        node(id, "EmptyLatentImage", [64, 64, 1], outputs=[("LATENT", "LATENT", [id])])
        for id in (1, 2)
    ]
    inputs = [(name, "IMAGE", number) for number, name in enumerate(names, 1)]
    switch = node(3, "LatentSwitch", [2], inputs, [("LATENT", "LATENT", [])])
    links = [[1, 1, 0, 3, 0, "LATENT"], [2, 2, 0, 3, 1, "LATENT"]]
    editor.load(workflow(*latents, switch, links=links))
    inputs = {slot.name: slot.ends for slot in editor.node(3).inputs if "input" in slot.name}
    assert inputs == {"input1": [("1", 0)], "input2": [("2", 0)], "input3": []}
    assert editor.node(3).widgets == {"select": 2, "sel_mode": False}
    assert editor.prompt()["3"]["inputs"] == {
        "select": 2, "sel_mode": False, "input1": ["1", 0], "input2": ["2", 0],
    }  # fmt: skip


def test_outputs_that_have_moved(editor):
    face = node(
        1,
        "FaceDetailer",
        outputs=[
            ("IMAGE", "IMAGE", [1]),
            ("MASK", "MASK", [2]),
            ("DETAILER_PIPE", "DETAILER_PIPE", [3]),
        ],
    )
    targets = [
        node(2, "PreviewImage", inputs=[("images", "IMAGE", 1)]),
        node(3, "MaskToImage", inputs=[("mask", "MASK", 2)]),
        node(4, "FromDetailerPipe", inputs=[("detailer_pipe", "DETAILER_PIPE", 3)]),
    ]
    links = [
        [1, 1, 0, 2, 0, "IMAGE"],
        [2, 1, 1, 3, 0, "MASK"],
        [3, 1, 2, 4, 0, "DETAILER_PIPE"],
    ]
    editor.load(workflow(face, *targets, links=links))
    assert [(slot.name, slot.ends) for slot in editor.node(1).outputs] == [
        ("image", [("2", 0)]),
        ("cropped_refined", []),
        ("cropped_enhanced_alpha", []),
        ("mask", [("3", 0)]),
        ("detailer_pipe", [("4", 0)]),
        ("cnet_images", []),
        ("report", []),
        ("variants", []),
    ]
    assert editor.node(3).inputs[0].ends == [("1", 3)]


def test_ids_and_inputs_are_renamed(editor, renderer):
    """With an input that is no more, whose link goes, and a list of the first version."""
    nodes = [
        node(1, "EmptyImage", [64, 64, 1, 0], outputs=[("IMAGE", "IMAGE", [1, 3])]),
        node(2, "MMDetLoader", ["bbox/face.pth"], outputs=[("BBOX_MODEL", "BBOX_MODEL", [2])]),
        node(
            3,
            "BboxDetectorForEach",
            [0.4, 12, 4],
            inputs=[("bbox_model", "BBOX_MODEL", 2), ("image", "IMAGE", 1)],
            outputs=[("SEGS", "SEGS", [4])],
        ),
        node(
            4,
            "SegsMaskCombine",
            inputs=[("image", "IMAGE", 3), ("segs", "SEGS", 4)],
            outputs=[("MASK", "MASK", None)],
        ),
    ]
    links = [
        [1, 1, 0, 3, 1, "IMAGE"],
        [2, 2, 0, 3, 0, "BBOX_MODEL"],
        [3, 1, 0, 4, 0, "IMAGE"],
        [4, 3, 0, 4, 1, "SEGS"],
    ]
    editor.load(workflow(*nodes, links=links))
    assert editor.missing() == []
    detector, combined = editor.node(3), editor.node(4)
    assert detector.type == "BboxDetectorSEGS"
    assert detector.widgets == {
        "threshold": 0.4, "dilation": 12, "crop_factor": 4, "drop_size": 1, "labels": "all",
    }  # fmt: skip
    inputs = {slot.name: slot.ends for slot in detector.inputs}
    assert inputs["bbox_detector"] == [("2", 0)]
    assert inputs["image"] == [("1", 0)]
    assert combined.type == "SegsToCombinedMask"
    assert [(slot.name, slot.ends) for slot in combined.inputs] == [("segs", [("3", 0)])]
    assert editor.node(1).outputs[0].ends == [("3", detector_slot(detector, "image"))]
    assert editor.node(2).widgets == {"model_name": "bbox/face.pth"}


def detector_slot(detector, name):
    return [slot.name for slot in detector.inputs].index(name)


def test_nodes_in_a_subgraph(editor):
    inner = [
        node(1, "DetailerForEach", FIRST, outputs=[("IMAGE", "IMAGE", [1])]),
        node(2, "PreviewImage", inputs=[("images", "IMAGE", 1)]),
    ]
    link = {"id": 1, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}
    subgraph = {
        "id": "7a0d31f0-6b8e-4a53-9d64-0f5b7b1f1a11", "version": 1, "revision": 0, "config": {},
        "state": {"lastGroupId": 0, "lastNodeId": 2, "lastLinkId": 1, "lastRerouteId": 0},
        "name": "Old", "inputs": [], "outputs": [], "widgets": [], "groups": [],
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 60]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 60]},
        "nodes": inner, "links": [link | {"type": "IMAGE"}],
    }  # fmt: skip
    content = workflow(node(5, subgraph["id"])) | {"definitions": {"subgraphs": [subgraph]}}
    state = editor.load(content)
    detailer = next(n for n in state if n.type == "DetailerForEach")
    preview = next(n for n in state if n.type == "PreviewImage")
    assert ours(detailer.widgets) == FIRST_MEANS
    assert preview.inputs[0].ends == [(detailer.id, 0)]


def test_nodes_in_a_group_node(editor):
    """A group node has the values of all its nodes in one list. Newer editors open it."""
    old = [*FIRST[:7], 0.3, 5]
    group = {
        "nodes": [
            {"type": "SAMLoader", "widgets_values": ["sam.pth"], "index": 0},
            {"type": "DetailerForEach", "widgets_values": FIRST, "index": 1},
            {"type": "MaskToSEGS", "widgets_values": ["True", 1.5], "index": 2},
        ],
        "links": [],
        "external": [],
    }
    for inner in group["nodes"]:
        inner |= {"pos": [0, 0], "size": [200, 100], "flags": {}, "order": 0, "mode": 0}
        inner |= {"properties": {}, "inputs": [], "outputs": []}
    instance = node(1, "workflow/Old", ["sam.pth", *old, "True", 2.5])
    state = editor.load(workflow(instance, groupNodes={"Old": group}))
    shown = {name: value for n in state for name, value in n.widgets.items()}
    means = FIRST_MEANS | {"denoise": 0.3, "device_mode": "AUTO", "combined": True}
    means |= {"crop_factor": 2.5, "bbox_fill": False, "drop_size": 1, "contour_fill": False}
    assert {name: shown.get(name) for name in means} == means


def test_a_list_that_was_taken_for_another(editor):
    """Saved by a version that took `max_size` for the seed: what did not suit it was lost."""
    damaged = [256, True, 7, "randomize", 20, 8, "euler", "what", "ever", 3, "enabled", False]
    editor.load(workflow(node(1, "DetailerForEach", [*damaged, True, ""])))
    widgets = ours(editor.node(1).widgets)
    assert (
        widgets.pop("scheduler")
        in editor.server.object_info("KSampler")["input"]["required"]["scheduler"][0]
    )
    lost = {"scheduler", "denoise", "feather", "control_after_generate", "noise_mask"}
    assert {name: v for name, v in widgets.items() if name not in lost} == {
        name: v for name, v in FIRST_MEANS.items() if name not in lost
    }
    assert widgets["denoise"] == 0.5
    assert widgets["feather"] == 3
    assert widgets["noise_mask"] is True
    assert widgets["control_after_generate"] == "randomize"


# Inputs that old nodes did not have


def old_face(id, links, name="bbox_model"):
    """A FaceDetailer of the first version: links are the numbers of image, model and detector."""
    inputs = [("image", "IMAGE", links[0]), ("model", "MODEL", links[1])]
    inputs += [("vae", "VAE", None), ("positive", "CONDITIONING", None)]
    inputs += [("negative", "CONDITIONING", None), (name, "BBOX_MODEL", links[2])]
    values = [256, "bbox", 7, "fixed", 20, 8, "euler", "karras", 0.5, 5, "enabled", "disabled", 0.5,
              10, 3, "center-1", 0, 0.93, 0, 0.7, "False"]  # fmt: skip
    return node(id, "FaceDetailer", values, inputs, [("IMAGE", "IMAGE", None)])


def loaders():
    """A checkpoint, a LoRA on it, what only changes the model, and a detector."""
    return [
        node(1, "CheckpointLoaderSimple", ["a"], outputs=[
            ("MODEL", "MODEL", [1]), ("CLIP", "CLIP", [2]), ("VAE", "VAE", []),
        ]),
        node(2, "LoraLoader", ["b", 1, 1], [("model", "MODEL", 1), ("clip", "CLIP", 2)], [
            ("MODEL", "MODEL", [3]), ("CLIP", "CLIP", None),
        ]),
        node(3, "FreeU", [1, 1, 1, 1], [("model", "MODEL", 3)], [("MODEL", "MODEL", [4])]),
        node(4, "UltralyticsDetectorProvider", ["bbox/a.pt"], outputs=[
            ("BBOX_DETECTOR", "BBOX_DETECTOR", [5]), ("SEGM_DETECTOR", "SEGM_DETECTOR", None),
        ]),
    ]  # fmt: skip


FACE_LINKS = [
    [1, 1, 0, 2, 0, "MODEL"],
    [2, 1, 1, 2, 1, "CLIP"],
    [3, 2, 0, 3, 0, "MODEL"],
    [4, 3, 0, 5, 1, "MODEL"],
    [5, 4, 0, 5, 5, "BBOX_MODEL"],
]


@pytest.mark.parametrize("name", ["bbox_model", "a name of its own"])
def test_a_face_detailer_from_before_it_took_a_clip(editor, name):
    """It gets the CLIP with the LoRA, as its model has it, and its detector under today's name."""
    editor.load(workflow(*loaders(), old_face(5, [None, 4, 5], name), links=FACE_LINKS))
    ends = {slot.name: slot.ends for slot in editor.node(5).inputs if slot.ends}
    assert ends == {"model": [("3", 0)], "clip": [("2", 1)], "bbox_detector": [("4", 0)]}
    assert editor.node(2).outputs[0].ends == [("3", 0)]
    assert len(editor.node(2).outputs[1].ends) == 1
    inputs = editor.prompt()["5"]["inputs"]
    assert inputs["clip"] == ["2", 1]
    assert inputs["bbox_detector"] == ["4", 0]
    saved = editor.page.evaluate(SERIALIZED)
    assert upgraded(editor, saved)["same"]


def test_its_clip_inside_of_subgraphs_and_group_nodes(editor):
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    subgraph = {
        "id": "7a0d31f0-6b8e-4a53-9d64-0f5b7b1f1a13", "version": 1, "revision": 0, "config": {},
        "state": {"lastGroupId": 0, "lastNodeId": 5, "lastLinkId": 5, "lastRerouteId": 0},
        "name": "Old", "inputs": [], "outputs": [], "widgets": [], "groups": [],
        "inputNode": {"id": -10, "bounding": [0, 0, 100, 60]},
        "outputNode": {"id": -20, "bounding": [900, 0, 100, 60]},
        "nodes": [*loaders(), old_face(5, [None, 4, 5])],
        "links": [dict(zip(keys, link, strict=True)) for link in FACE_LINKS],
    }  # fmt: skip
    content = workflow(node(9, subgraph["id"])) | {"definitions": {"subgraphs": [subgraph]}}
    state = editor.load(content)
    face = next(n for n in state if n.type == "FaceDetailer")
    ends = {slot.name: slot.ends for slot in face.inputs if slot.ends}
    assert ends == {"model": [("9:3", 0)], "clip": [("9:2", 1)], "bbox_detector": [("9:4", 0)]}
    inner = [saved | {"index": place} for place, saved in enumerate(subgraph["nodes"])]
    group = {"nodes": inner, "external": [], "links": [
        [origin - 1, slot, target - 1, place, number, type]
        for number, origin, slot, target, place, type in FACE_LINKS
    ]}  # fmt: skip
    values = [value for saved in inner for value in saved["widgets_values"]]
    instance = node(1, "workflow/Old", values)
    state = editor.load(workflow(instance, groupNodes={"Old": group}))
    face = next((n for n in state if n.type == "FaceDetailer"), None)
    if face:  # newer editors make subgraphs of group nodes
        sources = {slot.name: slot.ends[0][0] for slot in face.inputs if slot.ends}
        assert set(sources) >= {"model", "clip", "bbox_detector"}
        types = {n.id: n.type for n in state}
        assert types[sources["clip"]] == "LoraLoader"
        assert types[sources["bbox_detector"]] == "UltralyticsDetectorProvider"
    found = upgraded(editor, workflow(instance, groupNodes={"Old": group}))["upgraded"]
    links = found["extra"]["groupNodes"]["Old"]["links"]
    assert [1, 1, 4, 2, None, "CLIP"] in links
    assert [3, 0, 4, 6, 5, "BBOX_MODEL"] in links


# The notice, and what is left alone


def test_one_notice_tells_what_was_upgraded(editor):
    toasts = editor.page.locator(TOASTS)
    editor.page.evaluate(
        "() => { const {toast} = window.app.extensionManager;"
        " toast.dismissAll ? toast.dismissAll() : toast.removeAll(); }"
    )
    toasts.first.wait_for(state="detached")
    nodes = [node(1, "DetailerForEach", FIRST), node(2, "DetailerForEach", FIRST)]
    editor.load(workflow(*nodes, node(3, "Segs & Mask")))
    assert toasts.count() == 1
    said = toasts.first.inner_text()
    assert "Detailer (SEGS) (2)" in said
    assert "Segs & Mask → Pixelwise(SEGS & MASK)" in said
    editor.load(workflow(node(1, "DetailerForEach", TODAY)))
    assert toasts.count() == 1


def tops(editor):
    return editor.page.evaluate("() => window.app.graph.nodes.map((node) => node.pos[1])")


def test_what_a_taller_node_would_cover_moves_down(editor, renderer):
    """Node 2 is below node 1, which has more widgets today, and node 3 below node 2."""
    column = [node(id, "DetailerForEach", FIRST) for id in (1, 2, 3)]
    beside = node(4, "EmptyImage", [8, 8, 1, 0])
    for saved in column:
        saved |= {"pos": [300, 250 * saved["id"]]}
    beside |= {"pos": [700, 500]}
    editor.load(workflow(*column, beside))
    first, second, third, other = tops(editor)
    height = editor.page.evaluate("() => window.app.graph.nodes[0].size[1]")
    assert height > 400
    assert first + height + 30 <= second <= first + height + 300
    assert second + height + 30 <= third <= second + height + 300
    assert other < second
    if (seen := editor.page.locator("[data-node-id]")).count():
        boxes = [seen.nth(place).bounding_box() for place in range(3)]
        for above, below in pairwise(boxes):
            assert above["y"] + above["height"] <= below["y"] + 1
    for saved in column:
        saved["widgets_values"] = TODAY
    editor.load(workflow(*column, beside))
    first, second, third, other = tops(editor)
    assert third - second == pytest.approx(second - first)
    assert second == other


def test_todays_files_are_left_as_they_are(editor):
    for values in (TODAY, TODAY[:17], [*TODAY, 4]):
        content = workflow(node(1, "DetailerForEach", values), node(2, "SEGSPaste", [5, 255]))
        assert upgraded(editor, content) == {
            "upgraded": content, "changes": [], "misfits": [], "same": True,
        }  # fmt: skip


def test_every_node_of_today_is_left_as_it_is(editor):
    info = editor.server.object_info()
    ids = [name for name, node in info.items() if node["python_module"].endswith("-detailers")]
    saved = editor.page.evaluate(EVERY, ids)
    assert len(saved["nodes"]) == len(ids) > 150
    found = upgraded(editor, saved)
    assert (found["changes"], found["misfits"]) == ([], [])


def test_what_was_upgraded_is_saved_as_a_file_of_today(editor):
    editor.load(workflow(node(1, "DetailerForEach", FIRST), node(2, "SegsMaskCombine")))
    saved = editor.page.evaluate(SERIALIZED)
    assert upgraded(editor, saved)["same"]
    editor.load(saved)
    assert ours(editor.node(1).widgets) == FIRST_MEANS


ODD = [None, True, 5, "text", [], [None], [5], ["a", 5], {}, {"0": None}, {"a": {"b": None}}]


def odd_workflows():
    """Files that no editor saves, with a node of the first version in each."""
    for odd in ODD:
        yield odd
        yield {"nodes": odd}
        for key in ("links", "groups", "definitions", "extra", "config", "version", "state"):
            yield workflow(node(1, "DetailerForEach", FIRST)) | {key: odd}
        yield workflow(node(1, "DetailerForEach", FIRST)) | {"definitions": {"subgraphs": odd}}
        yield workflow(node(1, "DetailerForEach", FIRST), groupNodes=odd)
        yield workflow(node(1, "workflow/Old", [1]), groupNodes={"Old": odd})
        yield workflow(node(1, "workflow/Old", [1]), groupNodes={"Old": {"nodes": odd}})
        first = node(1, "FaceDetailer", [*FIRST], [("model", "MODEL", 1), ("bbox_model", "X", 2)])
        for key in first:
            yield workflow(first | {key: odd}, node(2, "SegsMaskCombine") | {key: odd})
            yield workflow(first | {key: [odd, odd]}, node(2, "LatentSwitch") | {key: [odd]})
        for key in ("name", "type", "link", "widget"):
            inputs = [slot | {key: odd} for slot in first["inputs"]]
            yield workflow(first | {"inputs": inputs, "outputs": inputs})


def test_odd_files_are_upgraded_or_left_and_raise_nothing(editor):
    contents = list(odd_workflows())
    assert len(contents) > 400
    before = len(editor.console)
    for content in contents:
        found = upgraded(editor, content)
        assert found["same"] or found["changes"]
    assert [text for _, text in editor.console[before:] if "cannot upgrade" in text] == []


@pytest.mark.parametrize(
    "content",
    [
        {"nodes": [None]},
        workflow(node(1, "DetailerForEach", FIRST) | {"inputs": 5}),
        workflow(node(1, "DetailerForEach", TODAY), None, 5),
        workflow(node(1, "DetailerForEach", TODAY)) | {"definitions": {"subgraphs": [None]}},
        workflow(node(1, "DetailerForEach", None) | {"widgets_values": None}),
        workflow(node(1, "DetailerForEach", "text"), node(2, "ImpactInt", 5)),
    ],
)
def test_odd_files_open_as_the_host_opens_them(editor, content):
    """Or fail as they fail in the host; nothing that is raised comes from the pack."""
    load = """async (content) => {
        const quiet = {showMissingNodesDialog: false, showMissingModelsDialog: false,
            silentAssetErrors: true};
        try {
            await window.app.loadGraphData(content, true, true, null, quiet);
        } catch (error) { return String(error.stack); }
        return "";
    }"""
    before = len(editor.console)
    trace = editor.page.evaluate(load, content)
    raised = [text for kind, text in editor.console[before:] if kind == "pageerror"]
    # Our function is on the way of every file, but calls the host's: the first line is the place.
    places = [text.split("\n")[1] for text in [trace, *raised] if "\n" in text]
    assert not any("detailers_" in place for place in places), places
    editor.load(workflow(node(1, "DetailerForEach", FIRST)))  # the page still works
    assert ours(editor.node(1).widgets) == FIRST_MEANS


def test_a_large_file_is_no_matter(editor):
    """Of 4000 old nodes whose links move."""
    count = 2000
    outputs = [("IMAGE", "IMAGE", None), ("MASK", "MASK", [0])]
    pair = [
        node(0, "FaceDetailer", [*FIRST], outputs=outputs),
        node(1, "SegsMaskCombine", None, [("image", "MASK", 0)]),
    ]
    script = """async ([content, count]) => {
        const pack = "/extensions/comfyui-detailers/detailers_upgrade.js";
        const {upgradeWorkflow} = await import(pack);
        const [detailer, mask] = content.nodes;
        content.nodes = [];
        for (let number = 0; number < count; number++) {
            const [from, to] = [structuredClone(detailer), structuredClone(mask)];
            [from.id, from.outputs[1].links] = [2 * number, [number]];
            [to.id, to.inputs[0].link] = [2 * number + 1, number];
            content.nodes.push(from, to);
            content.links.push([number, from.id, 1, to.id, 0, "MASK"]);
        }
        const start = performance.now();
        const [, changes] = upgradeWorkflow(content);
        return [changes.length, performance.now() - start];
    }"""
    changed, milliseconds = editor.page.evaluate(script, [workflow(*pair), count])
    assert changed == 2 * count
    assert milliseconds < 5000


def test_a_prompt_that_is_opened(editor):
    first = {
        "guide_size": 256, "guide_size_for": "bbox", "seed": 7, "steps": 20, "cfg": 8,
        "sampler_name": "euler", "scheduler": "karras", "denoise": 0.6, "feather": 5,
        "noise_mask": "disabled", "segs": ["2", 0],
    }  # fmt: skip
    detector = {"bbox_model": ["3", 0], "threshold": 0.5, "dilation": 10, "crop_factor": 4}
    prompt = {
        "1": {"class_type": "DetailerForEach", "inputs": first},
        "2": {"class_type": "BboxDetectorForEach", "inputs": detector},
        "3": {"class_type": "MMDetLoader", "inputs": {"model_name": "bbox/face.pth"}},
    }
    editor.page.evaluate(LOAD_PROMPT, prompt)
    assert editor.missing() == []
    widgets = ours(editor.node(1).widgets)
    del widgets["control_after_generate"]  # of the editor alone
    assert widgets == {k: v for k, v in FIRST_MEANS.items() if k != "control_after_generate"}
    inputs = {slot.name: slot.ends for slot in editor.node(2).inputs}
    assert inputs["bbox_detector"] == [("3", 0)]


# Beside the older pack


OLDER_PACK = """
class Older:
    RETURN_TYPES = ()
    FUNCTION = "work"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

NODE_CLASS_MAPPINGS = {"MaskListToMaskBatch": Older}
"""


@pytest.fixture
def beside_older(editor, tmp_path):
    """An editor where the older pack is loaded, so that the plain ids are not ours."""
    (tmp_path / "__init__.py").write_text(OLDER_PACK)
    packs = {"comfyui-detailers": ROOT, "ComfyUI-Impact-Pack": tmp_path}
    running = editor.server
    with (
        Server(running.tree, running.python, packs) as server,
        Editor(server, browser=editor.browser) as beside,
    ):
        yield beside


@pytest.mark.once
def test_beside_the_older_pack_no_file_is_touched(beside_older):
    old = [node(1, "DetailerForEach", FIRST), node(2, "SegsMaskCombine"), node(3, "MMDetLoader")]
    content = workflow(*old)
    assert upgraded(beside_older, content)["same"]
    beside_older.load(content)
    assert beside_older.missing() == ["DetailerForEach", "MMDetLoader", "SegsMaskCombine"]
    prompt = {"1": {"class_type": "DetailerForEach", "inputs": {}}}
    answer = beside_older.server.post("/detailers/upgrade", prompt)
    assert answer == {"prompt": prompt, "changed": []}
