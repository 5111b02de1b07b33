"""dev/workflow.py: workflow files changed, and made into prompts as the editor does."""

import pytest
from detailers.dev.workflow import Workflow


def slot(name, link=None, widget=True):
    return {"name": name, "link": link, **({"widget": {"name": name}} if widget else {})}


@pytest.fixture
def workflow():
    """A loader whose model a sampler takes; a number node sets the sampler's steps."""
    return Workflow(
        {
            "nodes": [
                {"id": 7, "type": "Loader", "inputs": [slot("file")], "widgets_values": ["a.bin"]},
                {"id": 8, "type": "Number", "inputs": [slot("value")], "widgets_values": [12]},
                {
                    "id": 9,
                    "type": "Sampler",
                    "title": "Draw",
                    "inputs": [
                        slot("model", link=1, widget=False),
                        slot("hook", widget=False),
                        slot("seed"),
                        slot("steps", link=2),
                        slot("text"),
                    ],
                    "widgets_values": [5, "randomize", 20, "warm"],
                },
                {"id": 10, "type": "MarkdownNote", "inputs": [], "widgets_values": ["Read me"]},
            ],
            "links": [[1, 7, 2, 9, 0, "MODEL"], [2, 8, 0, 9, 3, "INT"]],
        }
    )


def test_prompt_takes_values_by_name_and_links_over_values(workflow):
    assert workflow.prompt() == {
        "7": {"class_type": "Loader", "inputs": {"file": "a.bin"}},
        "8": {"class_type": "Number", "inputs": {"value": 12}},
        "9": {
            "class_type": "Sampler",
            "inputs": {"model": ["7", 2], "seed": 5, "steps": ["8", 0], "text": "warm"},
        },
    }


def test_widgets_are_read_and_set_by_title_or_type(workflow):
    workflow["Draw", "text"] = "cool"
    workflow["Loader", "file"] = "b.bin"
    assert workflow["Draw", "seed"] == 5
    assert workflow["Draw", "text"] == "cool"
    assert workflow.content["nodes"][2]["widgets_values"] == [5, "randomize", 20, "cool"]
    assert workflow.prompt()["7"]["inputs"] == {"file": "b.bin"}


def test_a_replaced_node_keeps_its_links(workflow):
    workflow.replace("Loader", "Maker", "Stand-in", size=3, mode="small")
    prompt = workflow.prompt()
    assert prompt["7"] == {"class_type": "Maker", "inputs": {"size": 3, "mode": "small"}}
    assert prompt["9"]["inputs"]["model"] == ["7", 2]
    assert workflow.id("Stand-in") == "7"


def test_values_that_do_not_fit_the_widgets_are_refused(workflow):
    workflow.content["nodes"][0]["widgets_values"].append("more")
    with pytest.raises(ValueError, match="longer"):
        workflow.prompt()


def test_a_file_is_written_as_it_is_read(workflow, tmp_path):
    workflow.write(tmp_path / "workflow.json")
    assert Workflow.read(tmp_path / "workflow.json").content == workflow.content


def inside(id, inputs, outputs, nodes, links):
    """A subgraph, from its links as [id, origin, slot, target, slot]."""
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
    return {
        "id": id, "nodes": nodes, "links": [dict(zip(names, link, strict=True)) for link in links],
        "inputs": [{"name": name} for name in inputs],
        "outputs": [{"name": name, "linkIds": [link]} for name, link in outputs.items()],
    }  # fmt: skip


def test_a_prompt_reaches_into_subgraphs_and_out_of_them():
    deep = inside(
        "deep", ["text", "model"], {"image": 3},
        [{"id": 1, "type": "Encode", "inputs": [slot("text", link=1)], "widgets_values": ["in"]},
         {"id": 2, "type": "Draw", "inputs": [slot("by", link=2, widget=False),
                                              slot("model", link=4, widget=False)]}],
        [[1, -10, 0, 1, 0], [2, 1, 0, 2, 0], [3, 2, 1, -20, 0], [4, -10, 1, 2, 1]],
    )  # fmt: skip
    outer = inside(
        "outer", ["model"], {"image": 2},
        [{"id": 7, "type": "deep", "inputs": [slot("text"), slot("model", link=1, widget=False)],
          "widgets_values": []}],
        [[1, -10, 0, 7, 1], [2, 7, 0, -20, 0]],
    )  # fmt: skip
    workflow = Workflow(
        {
            "nodes": [
                {"id": 3, "type": "Loader", "inputs": []},
                {"id": 4, "type": "outer", "inputs": [slot("model", link=8, widget=False)]},
                {"id": 5, "type": "Save", "inputs": [slot("image", link=9, widget=False)]},
            ],
            "links": [[8, 3, 2, 4, 0, "MODEL"], [9, 4, 0, 5, 0, "IMAGE"]],
            "definitions": {"subgraphs": [deep, outer]},
        }
    )
    workflow["Encode", "text"] = "set"
    assert workflow.id("Draw") == "4:7:2"
    assert workflow.prompt() == {
        "3": {"class_type": "Loader", "inputs": {}},
        "4:7:1": {"class_type": "Encode", "inputs": {"text": "set"}},
        "4:7:2": {"class_type": "Draw", "inputs": {"by": ["4:7:1", 0], "model": ["3", 2]}},
        "5": {"class_type": "Save", "inputs": {"image": ["4:7:2", 1]}},
    }
