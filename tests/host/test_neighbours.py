"""With packs that use ComfyUI-Impact-Pack's nodes and modules, and get ours instead.

They are loaded before and after ours. Of the older pack itself there is a folder: one that cannot
be imported, or one that is left over.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from detailers.dev.server import MODEL_PACK, ROOT, Server
from detailers.tests import sam_models
from detailers.tests.host.graphs import Graph, box
from detailers.tests.test_detectors_models import hostile
from safetensors.torch import save_file

NEIGHBOUR = Path(__file__).parent / "neighbour"
OLDER_PACK = "ComfyUI-Impact-Pack"
BROKEN = """
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "modules"))
import impact.config
import impact.needs_what_nobody_has
"""
# The older pack as it works: a few of its nodes, one of which has a text to be drawn by it.
LOADED = """
class Claim:
    CATEGORY = "older"
    RETURN_TYPES = ("SEGS",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return (((7, 7), []),)


class ImpactWildcardProcessor:
    CATEGORY = "older"
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        texts = {name: ("STRING", {}) for name in ("wildcard_text", "populated_text")}
        mode = (["populate", "fixed"],)
        return {"required": {**texts, "mode": mode, "seed": ("INT", {})}}

    def run(self, wildcard_text, populated_text, mode, seed):
        return (f"{populated_text}, {mode}, {seed}",)


NODE_CLASS_MAPPINGS = {
    "EmptySegs": type("EmptySegs", (Claim,), {}),
    "MaskToSEGS": type("MaskToSEGS", (Claim,), {}),
    "ImpactWildcardProcessor": ImpactWildcardProcessor,
}
"""
CLAIMED = {"EmptySegs", "MaskToSEGS", "ImpactWildcardProcessor"}
OURS = "detailers-under-test"
SETTINGS = {
    "guide_size": 64, "guide_size_for": True, "max_size": 128, "seed": 5, "steps": 4, "cfg": 1.0,
    "sampler_name": "euler", "scheduler": "simple", "denoise": 0.5, "feather": 3,
    "noise_mask": True, "force_inpaint": True, "wildcard": "", "cycle": 1, "noise_mask_feather": 0,
}  # fmt: skip


def broken_pack(folder):
    modules = folder / "modules" / "impact"
    modules.mkdir(parents=True)
    (folder / "__init__.py").write_text(BROKEN)
    (modules / "__init__.py").write_text("")
    (modules / "config.py").write_text("")


def loaded_pack(folder):
    folder.mkdir()
    (folder / "__init__.py").write_text(LOADED)


def left_over(folder):
    (folder / "wildcards").mkdir(parents=True)


def started(host, base, earlier, later):
    """A server with ours between the packs of two folders; a default folder comes first."""
    folders = {
        name: {"custom_nodes": str(base / name), "is_default": name == "earlier"}
        for name in ("earlier", "later")
    }
    for name, packs in (("earlier", earlier), ("later", later)):
        (base / name).mkdir()
        for pack, make in packs.items():
            if callable(make):
                make(base / name / pack)
            else:
                (base / name / pack).symlink_to(make, target_is_directory=True)
    (base / "folders.yaml").write_text(json.dumps(folders))  # JSON is YAML too
    args = ["--extra-model-paths-config", str(base / "folders.yaml")]
    packs = {OURS: ROOT, "detailers-models": MODEL_PACK}
    return Server(host.tree, host.python, packs, args=args)


@pytest.fixture(
    scope="module",
    params=["broken before", pytest.param("left over after", marks=pytest.mark.once)],
)
def neighbours(host, request, tmp_path_factory):
    """(server, when its neighbours were loaded, the older pack's folder)"""
    base = tmp_path_factory.mktemp("packs")
    if request.param == "broken before":
        when, folder = ("late",), base / "earlier" / OLDER_PACK
        packs = {OLDER_PACK: broken_pack}, {"late": NEIGHBOUR}
    else:
        when, folder = ("early", "late"), base / "later" / OLDER_PACK
        packs = {"early": NEIGHBOUR}, {"late": NEIGHBOUR, OLDER_PACK: left_over}
    with started(host, base, *packs) as server:
        yield server, when, folder


@pytest.fixture(scope="module", params=["earlier", pytest.param("later", marks=pytest.mark.once)])
def beside_older(host, request, tmp_path_factory):
    """A server with ours after or before the older pack, which works."""
    packs = {"earlier": {}, "later": {}}
    packs[request.param] = {OLDER_PACK: loaded_pack}
    with started(host, tmp_path_factory.mktemp("packs"), **packs) as server:
        yield server


@pytest.fixture
def scene():
    graph = Graph()
    graph.picture = graph.image(96, 64)
    graph.found = graph.segs(96, 64, box(8, 8, 40, 40, mask="e"))
    graph.model_ = graph.model("flat8")
    graph.models = graph.parts(graph.model_)
    graph.pipe = graph.add("ToBasicPipe", **graph.models)[0]
    return graph


def results(server, graph, **links):
    for name, link in links.items():
        graph.add("DetailersTestSave", value=link, name=name)
    done = server.run(graph)
    assert done.ok, done.error or done.messages
    return {name: server.result(name) for name in links}


def detailed(graph, node_id, **more):
    common = {"image": graph.picture, "segs": graph.found, **graph.models, **SETTINGS}
    return graph.add(node_id, **common, **more)[0]


def test_all_nodes_have_their_plain_ids_and_one_line_says_why(neighbours):
    server, _, folder = neighbours
    ours = {
        node_id
        for node_id, node in server.object_info().items()
        if node["python_module"] == f"custom_nodes.{OURS}"
    }
    assert len(ours) > 200
    assert not [node_id for node_id in ours if "//" in node_id]
    lines = [line for line in server.log().splitlines() if "none of its nodes" in line]
    assert len(lines) == 1
    assert str(folder) in lines[0]
    assert "keep the plain ids" in lines[0]


def test_every_way_of_detailing_gives_what_the_node_gives(neighbours, scene):
    server, when, _ = neighbours
    ways = ("object", "on_class", "named", "function", "by_hand")
    links = {"own": detailed(scene, "DetailerForEach"), "before": scene.picture}
    for name in when:
        for way in ways:
            inputs = {"image": scene.picture, "segs": scene.found, "basic_pipe": scene.pipe}
            links[f"{way} {name}"] = scene.add(f"NeighbourDetail {name}", way=way, **inputs)[0]
    out = results(server, scene, **links)
    own = out.pop("own")["t0"]
    assert np.abs(out.pop("before")["t0"] - own).max() > 0.01
    assert len(out) == len(ways) * len(when)
    for name, got in out.items():
        np.testing.assert_allclose(got["t0"], own, rtol=0, atol=1e-6, err_msg=name)


def test_sampling_by_the_function_of_the_regional_sampler(neighbours, scene):
    server, when, _ = neighbours
    latent = scene.encode(scene.model_, scene.picture)
    settings = {"seed": 5, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    links = {"stock": scene.sample(scene.model_, latent, denoise=0.5, **settings)}
    for name in when:
        links[name] = scene.add(f"NeighbourSample {name}", basic_pipe=scene.pipe, latent=latent)[0]
    out = results(server, scene, **links)
    for name in when:
        np.testing.assert_array_equal(
            out[name]["latent0_samples"], out["stock"]["latent0_samples"], err_msg=name
        )


def test_texts_of_other_packs_are_drawn_as_the_prompt_arrives(neighbours, scene):
    server, when, _ = neighbours
    text = {"wildcard_text": "{red|green|blue} hair", "populated_text": "of before", "seed": 4}
    links = {}
    for name in when:
        node = scene.add(f"NeighbourText {name}", clip=scene.models["clip"], **text)
        links[name] = node[0]
        links[f"{name} encoded"] = scene.add("ToBasicPipe", **scene.models | {"positive": node[1]})[
            0
        ]
    out = results(server, scene, **links)
    for name in when:
        assert json.loads(str(out[name]["s0"])) in ("red hair", "green hair", "blue hair")
    asked = server.post("/impact/wildcards", {"text": text["wildcard_text"], "seed": 4})
    assert asked["text"] == json.loads(str(out[when[0]]["s0"]))


EVIL = ("evil.pt", "evil.bin", "evil.safetensors")
RAMP = {
    "strength_start": 0.0, "strength_end": 1.0, "interpolation": "linear", "start_percent": 0.0,
    "end_percent": 0.6, "keyframes_count": 4,
}  # fmt: skip


@pytest.fixture
def hostile_files(neighbours, tmp_path):
    """What they make when they run; they lie in every folder of which a node of ours reads."""
    server, _, _ = neighbours
    models, target = server.base / "models", tmp_path / "made"
    folders = [models / name for name in ("sams", "ultralytics/bbox", "loras", "vae_approx")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    paths = [models / "loras" / name for name in EVIL]
    paths += [folders[0] / "evil.pt", folders[0] / "evil.safetensors", folders[1] / "evil.pt"]
    paths += [folders[3] / "taesd_decoder.pth", server.input / "evil.latent"]
    for path in paths:
        hostile(path, target)
    yield target
    for path in paths:
        path.unlink()


def reading_nodes(graph):
    """(file, link) of every node that reads a file whose name it is given."""
    yield "evil.pt", graph.add("UltralyticsDetectorProvider", model_name="bbox/evil.pt")[0]
    for name in ("evil.pt", "evil.safetensors"):
        yield name, graph.add("SAMLoader", model_name=name, device_mode="CPU")[0]
    model, clip = graph.model_[0], graph.models["clip"]
    for name in EVIL:
        lora = {"model": model, "clip": clip, "lora_name": name}
        yield name, graph.add("ScheduledLoRALoader", **lora, **RAMP)[1]
    received = graph.add("LatentReceiver", latent="evil.latent", link_id=0, trigger_always=False)
    yield "evil.latent", received[0]
    shown = {"latent": graph.empty_latent(64, 32), "preview_method": "TAESD15"}
    yield "taesd_decoder.pth", graph.add("PreviewBridgeLatent", image="", **shown)[1]


def test_a_hostile_file_does_nothing_beside_a_pack_that_loads_everything(
    neighbours, scene, hostile_files
):
    server, when, _ = neighbours
    for name, link in reading_nodes(scene):
        sink = {"class_type": "DetailersTestSink", "inputs": {"value": link}}
        done = server.run({**scene, "sink": sink})
        assert not done.ok, name
        assert f"'{name}'" in done.error.message
    assert not hostile_files.exists()
    path = str(server.base / "models/sams/evil.pt")
    graph = Graph()
    results(server, graph, read=graph.add(f"NeighbourRead {when[0]}", path=path)[0])
    assert hostile_files.exists()  # the pack does what it is here for


def test_hostile_loras_of_a_text_are_left_out(neighbours, scene, hostile_files):
    server, _, _ = neighbours
    start = len(server.log())
    texts = {"plain": "red", **{f"l{place}": f"red <lora:{name}>"
                                for place, name in enumerate(EVIL)}}  # fmt: skip
    out = results(server, scene, **{name: worded(scene, text) for name, text in texts.items()})
    for place, name in enumerate(EVIL):
        np.testing.assert_array_equal(out[f"l{place}"]["t0"], out["plain"]["t0"])
        assert f"The LoRA '{name}' cannot be read, so it is left out" in server.log()[start:]
    assert not hostile_files.exists()


def worded(graph, text):
    link = detailed(graph, "DetailerForEach")
    graph[link[0]]["inputs"]["wildcard"] = text
    return link


def test_good_files_load_beside_a_pack_that_loads_everything(neighbours, scene):
    server, _, _ = neighbours
    models = server.base / "models"
    for folder in ("sams", "loras"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    weights = sam_models.sam2(128).state_dict()
    torch.save({"model": weights}, models / "sams/good.pt")
    tensors = {name: value.contiguous().clone() for name, value in weights.items()}
    save_file(tensors, models / "sams/good.safetensors")
    up, down = torch.zeros(3, 3), torch.zeros(3, 3)
    up[1, 0] = down[0, 0] = 1.0
    tint = {
        "diffusion_model.tint.lora_up.weight": up,
        "diffusion_model.tint.lora_down.weight": down,
    }
    torch.save(tint, models / "loras/good.pt")
    links = {}
    for kind in ("pt", "safetensors"):
        sam = scene.add("SAMLoader", model_name=f"good.{kind}", device_mode="CPU")[0]
        hints = {
            "detection_hint": "center-1", "dilation": 0, "threshold": 0.0, "bbox_expansion": 0,
            "mask_hint_threshold": 0.7, "mask_hint_use_negative": "False",
        }  # fmt: skip
        asked = {"sam_model": sam, "segs": scene.found, "image": scene.picture}
        links[kind] = scene.add("SAMDetectorCombined", **asked, **hints)[0]
    links |= {"with": worded(scene, "red <lora:good>"), "without": worded(scene, "red")}
    out = results(server, scene, **links)
    assert 0 < out["pt"]["t0"].mean() < 1
    np.testing.assert_array_equal(out["pt"]["t0"], out["safetensors"]["t0"])
    assert np.abs(out["with"]["t0"] - out["without"]["t0"]).max() > 0.01


def test_derived_classes_have_no_inputs_that_they_do_not_know(neighbours, scene):
    server, _, _ = neighbours
    info = server.object_info()
    older = list(info["DetailerForEach"]["input_order"]["optional"])
    assert older[-6:] == [
        "detail_batch", "size_grid", "paste_options", "crop_options", "segment_plan", "variants",
    ]  # fmt: skip
    order = {
        kind: info[f"Neighbour{kind} late"]["input_order"]["optional"]
        for kind in ("Derived", "Borrowed")
    }
    assert order == {"Derived": older[:-6], "Borrowed": [*older[:-6], "enabled"]}
    out = results(
        server, scene, own=detailed(scene, "DetailerForEach"),
        derived=detailed(scene, "NeighbourDerived late"),
        borrowed=detailed(scene, "NeighbourBorrowed late"), before=scene.picture,
    )  # fmt: skip
    np.testing.assert_array_equal(out["derived"]["t0"], 1 - out["own"]["t0"])
    np.testing.assert_array_equal(out["borrowed"]["t0"], out["before"]["t0"])


def fetched(server, path):
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        return answer.headers.get_content_type(), answer.read().decode()


@pytest.mark.parametrize("folder", [OLDER_PACK, "comfyui-impact-pack"])
def test_what_scripts_ask_of_the_older_pack_is_answered(neighbours, folder):
    server, _, _ = neighbours
    kind, script = fetched(server, f"/extensions/{folder}/impact-pack.js")
    assert kind in ("text/javascript", "application/javascript")
    assert "export function get_wildcards_list()" in script
    names = json.loads(fetched(server, "/api/impact/wildcards/list")[1])["data"]
    assert names
    assert all(name.startswith("__") and name.endswith("__") for name in names)
    assert json.loads(fetched(server, "/impact/wildcards/list/loaded")[1])["data"] == names
    assert fetched(server, "/impact/wildcards/refresh")[1] == ""
    for body in ([], {"seed": 1}, {"text": "a", "seed": "x"}):
        with pytest.raises(urllib.error.HTTPError) as raised:
            server.post("/impact/wildcards", body)
        assert raised.value.code == 400


def ids_of(server, folder):
    return {
        node_id
        for node_id, node in server.object_info().items()
        if node["python_module"] == f"custom_nodes.{folder}"
    }


def test_beside_the_older_pack_all_shared_ids_are_left_to_it(beside_older):
    """Whichever is loaded first."""
    assert ids_of(beside_older, OLDER_PACK) == CLAIMED
    ours = ids_of(beside_older, OURS)
    moved = ("DetailerForEach", "SEGSPaste", *CLAIMED)
    assert {f"{node_id} //Detailers" for node_id in moved} < ours
    plain = {node_id for node_id in ours if "//" not in node_id}
    assert plain
    assert all(node_id.startswith("Detailers") for node_id in plain)
    assert "SEGSPaste" not in beside_older.object_info()
    lines = [line for line in beside_older.log().splitlines() if "//Detailers" in line]
    assert len(lines) == 1
    assert OLDER_PACK in lines[0]
    assert "ours are registered as '<id> //Detailers'" in lines[0]


def test_texts_of_the_older_packs_nodes_are_left_to_it(beside_older):
    """And ours, under the other ids, are drawn."""
    graph = Graph()
    text = {
        "wildcard_text": "{red|green}",
        "populated_text": "theirs",
        "mode": "populate",
        "seed": 3,
    }
    theirs = graph.add("ImpactWildcardProcessor", **text)[0]
    ours = graph.add(
        "ImpactWildcardProcessor //Detailers", **text, **{"Select to add Wildcard": ""}
    )[0]
    out = results(beside_older, graph, theirs=theirs, ours=ours)
    assert json.loads(str(out["theirs"]["s0"])) == "theirs, populate, 3"
    assert json.loads(str(out["ours"]["s0"])) in ("red", "green")


def test_what_is_asked_of_the_older_pack_is_left_to_it(beside_older):
    for path in ("/impact/wildcards/list", f"/extensions/{OLDER_PACK}/impact-pack.js"):
        with pytest.raises(urllib.error.HTTPError) as raised:
            fetched(beside_older, path)
        assert raised.value.code == 404
