"""The report of every detailer in a real host: complete, its sums right, and the work unchanged."""

import json

import numpy as np
import pytest
from detailers.core.detail.report import pack_version
from detailers.core.timing import STAGES
from detailers.tests.host.graphs import DETAILERS, Graph, box, read_json
from detailers.tests.host.test_face import FACES
from detailers.tests.host.test_face import WIDGETS as FACE
from detailers.tests.test_report import SEGMENT

TOP = {
    "schema", "version", "pack", "host", "images", "settings", "segments", "waves", "times",
    "counts", "memory", "notes",
}  # fmt: skip
REPORT = {  # which output it is: after all that the older namesakes have
    "DetailerForEach": 1, "DetailerForEachAutoRetry": 1, "DetailerForEachDebug": 5,
    "DetailerForEachPipe": 4, "DetailerForEachDebugPipe": 7, "SEGSDetailer": 2,
    "MaskDetailerPipe": 5, "SEGSDetailerForAnimateDiff": 2,
    "DetailerForEachPipeForAnimateDiff": 4, "FaceDetailer": 6, "FaceDetailerPipe": 6,
}  # fmt: skip
TEXT = "[ASC]a {red|red} thing <lora:nowhere:0.5>[SEP:99]grey"


@pytest.fixture(scope="module")
def reports(server):
    """Each detailer's report, of one prompt with all of them; no editor has queued it."""
    graph, nodes = Graph(), {}
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(96, 64, seed=71)
    shapes = [[8, 8, 40, 40, "r"], [56, 24, 88, 56, "r"]]
    segs = graph.segs(96, 64, box(8, 8, 40, 40), box(56, 24, 88, 56))
    mask = graph.mask(96, 64, *shapes)
    for name, widgets in DETAILERS.items():
        text = {"wildcard": TEXT} if "wildcard" in widgets else {}
        source = mask if name == "MaskDetailerPipe" else segs
        nodes[name] = graph.detail(name, image, source, model, denoise=0.5, **text)
    detector = graph.add("DetailersTestDetector", boxes=json.dumps(FACES))[0]
    parts = graph.parts(model)
    found = {"image": image, "bbox_detector": detector, "wildcard": TEXT}
    nodes["FaceDetailer"] = graph.add("FaceDetailer", **parts, **FACE, **found)
    pipe = nodes["FaceDetailer"][4]
    nodes["FaceDetailerPipe"] = graph.add(
        "FaceDetailerPipe", image=image, detailer_pipe=pipe, refiner_ratio=0.2, **FACE
    )
    for name, node in nodes.items():
        graph.add("DetailersTestSave", value=node[REPORT[name]], name=f"report_{name}")
    done = server.run(graph)
    assert done.ok, done.error or done.messages
    return {name: read_json(server.result(f"report_{name}")) for name in nodes}


@pytest.mark.parametrize("name", REPORT)
def test_every_detailer_tells_all_of_its_run(reports, name):
    report = reports[name]
    assert report.keys() == TOP
    assert (report["schema"], report["version"]) == ("detailers.report", 1)
    assert report["pack"] == {"version": pack_version()}
    assert report["host"]["name"] == "ComfyUI"
    assert report["host"]["version"].count(".") == 2
    assert report["images"]["size"] == [96, 64]
    sampled = [entry for entry in report["segments"] if entry["status"] == "done"]
    assert len(sampled) == report["counts"]["sampled"] == 2
    for entry in sampled:
        assert entry.keys() == SEGMENT
        assert entry["working_size"] == ([128, 128] if name == "MaskDetailerPipe" else [64, 64])
        assert 0 == entry["sigmas"]["to"] < entry["sigmas"]["from"]
    assert sorted(place for wave in report["waves"] for place in wave["segments"]) == [0, 1]
    assert report["memory"]["used"] > 2**20


@pytest.mark.parametrize("name", REPORT)
def test_its_stages_are_the_whole_time(reports, name):
    report = reports[name]
    total, stages = report["times"]["total"], report["times"]["stages"]
    assert tuple(stages) == STAGES
    assert abs(sum(stages.values()) - total) <= max(0.02 * total, 0.001)
    assert min(stages[name] for name in ("encode", "sample", "decode", "resize")) > 0
    assert (stages["paste"] > 0) == (not name.startswith("SEGSDetailer"))
    assert (stages["detect"] > 0) == name.startswith("FaceDetailer")
    assert sum(entry.get("seconds", 0) for entry in report["segments"]) <= total


def test_texts_seeds_loras_and_notes(reports):
    report = reports["DetailerForEachPipe"]
    first, second = report["segments"]
    assert first["text"] == "a red thing <lora:nowhere:0.5>"
    assert first["loras"][0] | {"name": "nowhere", "model_strength": 0.5} == first["loras"][0]
    assert [first["seed"], second["seed"], second["text"]] == [5, 99, "grey"]
    assert [entry["kind"] for entry in report["notes"]] == ["lora"]
    assert report["settings"]["text"] == TEXT


def test_calls_of_the_network_are_counted(reports):
    """Four steps with cfg 1, which is one call each; equal texts share them."""
    report = reports["SEGSDetailer"]
    assert report["waves"][0]["calls"] == [{"segments": [0, 1], "model_calls": 4}]
    assert report["counts"]["model_calls"] == 4


def test_a_report_as_a_segment_plan_makes_the_same_picture(run, server):
    """In a node of other settings; the report comes over a link, and pasted in as text."""
    graph = Graph()
    model = graph.model("flat8", prior_std=0.6)
    image = graph.image(96, 64, seed=72)
    segs = graph.segs(96, 64, box(8, 8, 40, 40), box(56, 24, 88, 56), box(0, 0, 20, 20))
    text = "[DSC]a {red|green|blue} thing[SEP:99][CONCAT]{grey|red}[SEP][SKIP]"
    made = {"steps": 3, "denoise": 0.7, "cfg": 2.0, "sampler_name": "euler_ancestral"}
    other = {"steps": 2, "denoise": 0.3, "seed": 1234, "scheduler": "simple", "guide_size": 128}
    first = graph.detail("DetailerForEach", image, segs, model, wildcard=text, **made)
    graph.add("DetailersTestSave", value=first[0], name="planned_first")
    graph.add("DetailersTestSave", value=first[1], name="planned_report")
    plan = {"segment_plan": graph.add("SegmentPlan", plan=first[1])[0]}
    for name, links in {"linked": plan, "without": {}}.items():
        node = graph.detail("DetailerForEach", image, segs, model, **other, **links)
        graph.add("DetailersTestSave", value=node[0], name=f"planned_{name}")
    run(graph)
    report = json.loads(server.result("planned_report")["s0"].item())
    pasted = graph.add("SegmentPlan", plan=report)
    node = graph.detail("DetailerForEach", image, segs, model, **other, segment_plan=pasted[0])
    graph.add("DetailersTestSave", value=node[0], name="planned_pasted")
    run(graph)
    names = ("first", "linked", "pasted", "without")
    first, linked, pasted, without = (server.result(f"planned_{name}")["t0"] for name in names)
    assert np.array_equal(first, linked)
    assert np.array_equal(first, pasted)
    assert not np.array_equal(first, without)
