"""batch/workflow.py: where the input goes, overrides, seeds, and what is saved."""

import json

import pytest
from detailers.batch.client import History
from detailers.batch.faults import Problem
from detailers.batch.settings import Making
from detailers.batch.worker import report_of
from detailers.batch.workflow import (
    as_prompt,
    is_editor_format,
    prepare,
    read,
    resolve,
    with_own_nodes,
)
from detailers.dev.folder import default_prompt
from detailers.dev.server import ROOT
from detailers.tests.folder_runs import INFO

USUAL = Making()


def graph(**more):
    detail = {"image": ["1", 0], "steps": 20, "cfg": 7.0, "seed": 1, "on": True, "text": "a",
              "name": "a"}  # fmt: skip
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "Detail", "inputs": detail, "_meta": {"title": "The detailer"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "p"}},
        **more,
    }


def prepared(prompt=None, making=USUAL, **options):
    return prepare(prompt or graph(), INFO, making, **options)


def refused(prompt=None, making=USUAL, **options):
    with pytest.raises(Problem) as caught:
        prepared(prompt, making, **options)
    return str(caught.value)


LOADER = {"class_type": "LoadImage", "inputs": {"image": "y.png"}, "_meta": {"title": "Mask"}}


def test_the_input_goes_into_the_one_loader():
    own = prepared()
    assert (str(own.source), own.is_video, own.savers) == ("1.image", False, ("3",))
    prompt = own.prompt_for("n.png", b"\xab" * 32, b"s", {})
    assert prompt["1"]["inputs"]["image"] == "n.png"
    assert prompt["3"]["inputs"]["filename_prefix"] == "detailers/abababababababab/result"
    assert prompt["2"]["inputs"]["seed"] == 1


def test_no_loader_is_told():
    prompt = {"2": graph()["2"], "3": graph()["3"]}
    assert refused(prompt).startswith("The workflow has no LoadImage or LoadVideo")


def test_two_loaders_are_named_and_one_can_be_chosen():
    prompt = graph(**{"9": LOADER})
    assert "1 (LoadImage), 9 (Mask). Say with --input-node" in refused(prompt)
    assert str(prepared(prompt, input_node="Mask").source) == "9.image"
    assert str(prepared(prompt, input_node="1").source) == "1.image"
    assert str(prepared(prompt, input_node="2.text").source) == "2.text"
    assert "could be node" in refused(prompt, input_node="LoadImage")
    assert "no node 'x'" in refused(prompt, input_node="x")
    assert "no input is known to take a file" in refused(prompt, input_node="2")


def test_unknown_nodes_are_named():
    text = refused(graph(**{"9": {"class_type": "FromAnotherPack", "inputs": {}}}))
    assert "does not know the node FromAnotherPack" in text
    assert "--pack" in text


def test_a_workflow_has_to_save():
    assert "saves nothing" in refused({"1": graph()["1"], "2": graph()["2"]})


def test_previews_are_left_out():
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}
    assert "9" not in prepared(graph(**{"9": shown})).prompt


@pytest.mark.parametrize(
    ("text", "input", "value"),
    [
        ("2.steps=7", "steps", 7),
        ("The detailer.cfg=2.5", "cfg", 2.5),
        ("Detail.on=false", "on", False),
        ("2.text=a=b, 5", "text", "a=b, 5"),
        ("2.text=", "text", ""),
        ("2.text=5", "text", "5"),
        ("2.name=b", "name", "b"),
    ],
)
def test_overrides_are_of_the_declared_kind(text, input, value):
    found = prepared(overrides=[text]).prompt["2"]["inputs"][input]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2.steps=many", "'many' is no INT"),
        ("2.on=perhaps", "is no BOOLEAN"),
        ("2.stepz=5", "Detail has no such input. It has image, steps"),
        ("7.steps=5", "no node '7'. It has 1 (LoadImage), 2 (The detailer)"),
        ("steps=5", "write NODE.INPUT=VALUE"),
        ("2.steps", "write NODE.INPUT=VALUE"),
    ],
)
def test_overrides_that_fit_nowhere_are_refused(text, told):
    assert told in refused(overrides=[text])


def test_overrides_of_a_file():
    own = prepared()
    found = resolve(own.prompt, own.info, {"Detail.text": "b", "2.steps": 3}, "a.set.json")
    assert found == {"2": {"text": "b", "steps": 3}}
    prompt = own.prompt_for("n.png", b"k" * 32, b"s", found)
    assert (prompt["2"]["inputs"]["text"], prompt["2"]["inputs"]["steps"]) == ("b", 3)
    assert own.prompt["2"]["inputs"]["text"] == "a"
    for changes in ([], {"2.nothing": 1}, {"9.text": 1}):
        with pytest.raises(Problem, match=r"a\.set\.json"):
            resolve(own.prompt, own.info, changes, "a.set.json")


def test_seeds_by_file_depend_on_the_file_and_the_workflows_seed_alone():
    def seed(source, own):
        return own.prompt_for("n", b"k" * 32, source, {})["2"]["inputs"]["seed"]

    own = prepared(making=Making(seed="by-file"))
    other = prepared(making=Making(seed="by-file"), overrides=["2.seed=2"])
    found = [seed(b"a", own), seed(b"b", own), seed(b"a", other)]
    assert len(set(found)) == 3
    assert all(0 <= value < 2**53 for value in found)
    assert seed(b"a", own) == found[0]
    assert seed(b"a", prepared()) == 1


def test_what_decides_the_results_is_in_the_digest():
    base = prepared().digest()
    assert prepared().digest() == base
    for other in (
        prepared(overrides=["2.steps=21"]),
        prepared(making=Making(seed="by-file")),
        prepared(editor={"nodes": []}),
    ):
        assert other.digest() != base


def test_exr_needs_a_host_that_writes_floats():
    assert "no node that writes EXR" in refused(making=Making(format="exr"))
    info = {**INFO, "SaveImageAdvanced": INFO["SaveImage"]}
    own = prepare(graph(), info, Making(format="exr"))
    assert own.prompt["3"]["class_type"] == "SaveImageAdvanced"
    assert own.prompt["3"]["inputs"]["format"] == "exr"


def test_mp4_needs_a_saver_of_clips():
    assert "has no SaveVideo" in refused(making=Making(format="mp4"))
    clip = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "x"}},
        "3": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "filename_prefix": "p"}},
    }
    own = prepared(clip, Making(format="mp4"))
    assert own.is_video
    assert own.keeps_sound
    assert own.prompt["3"]["inputs"]["format"] == "mp4"


def test_forms_of_files(tmp_path):
    file = tmp_path / "w.json"
    with pytest.raises(Problem, match="cannot be read"):
        read(file)
    file.write_text("{")
    with pytest.raises(Problem, match="is no JSON"):
        read(file)
    file.write_text(json.dumps({"prompt": graph()}))
    assert as_prompt(read(file), "w.json") == graph()
    for content in ([], {}, 5, {"1": {"class_type": 5, "inputs": {}}}, {"a": "b"}):
        with pytest.raises(Problem, match=r"w\.json is no workflow"):
            as_prompt(content, "w.json")
    example = read(ROOT / "example_workflows" / "1_face_detailer.json")
    assert is_editor_format(example)
    assert not is_editor_format(graph())


def test_the_default_workflow_has_our_nodes_beside_a_pack_with_the_same_ids():
    info = {"Detail": {}, "Detail //Detailers": {}, "LoadImage": {}, "SaveImage": {}}
    found = with_own_nodes(graph(), info)
    kinds = {id: node["class_type"] for id, node in found.items()}
    assert kinds == {"1": "LoadImage", "2": "Detail //Detailers", "3": "SaveImage"}
    assert with_own_nodes(graph(), {"Detail": {}}) == graph()


def test_the_default_workflow_is_the_first_example():
    shipped = json.loads((ROOT / "batch" / "face_detailer.json").read_text())
    assert shipped == json.loads(json.dumps(default_prompt()))
    assert shipped["9"]["class_type"] == "DetailerForEachDebug"
    assert shipped["7"]["_meta"]["title"] == "Prompt for the faces"


def test_reports_of_detailers_are_read_from_the_history():
    detail = {**INFO["Detail"], "output": ["IMAGE", "STRING"], "output_name": ["image", "report"]}
    reader = {"input": {"required": {"source": ["*", {}]}}, "output_node": True}
    own = prepare(graph(), {**INFO, "Detail": detail, "PreviewAny": reader}, USUAL)
    assert own.prompt["report-of-2"] == {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}}
    shown = {
        "2": {"detailers_notes": [{"kind": "k", "text": "t"}]},
        "report-of-2": {"text": ['{"version": 1}']},
        "3": {"images": []},
    }
    assert report_of(History((), shown, 0.0)) == {
        "2": {"detailers_notes": [{"kind": "k", "text": "t"}], "report": {"version": 1}}
    }
    assert report_of(History((), {"report-of-2": {"text": ["no JSON"]}}, 0.0)) == {}
