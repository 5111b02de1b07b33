"""Detailer pipes in the host: made, edited, and taken apart. Their parts are texts."""

import json

import pytest
from detailers.tests.host.graphs import Graph

BASIC = ["model", "clip", "vae", "positive", "negative"]
REFINER = ["refiner_model", "refiner_clip", "refiner_positive", "refiner_negative"]
LISTS = {
    "Select to add LoRA": "Select the LoRA to add to the text",
    "Select to add Wildcard": "Select the Wildcard to add to the text",
}
PIPE = [*BASIC, "a {red} face", "bbox_detector", "segm_detector_opt", "sam_model_opt", "hook"]
NO_REFINER = [None] * 4


@pytest.fixture
def graph():
    graph = Graph()
    graph.parts = lambda *names: {name: graph.value(name) for name in names}
    graph.extras = {
        "bbox_detector": graph.value("bbox_detector"),
        "wildcard": "a {red} face",
        "sam_model_opt": graph.value("sam_model_opt"),
        "segm_detector_opt": graph.value("segm_detector_opt"),
        "detailer_hook": graph.value("hook"),
        **LISTS,
    }
    return graph


@pytest.fixture
def values(results):
    """What links carry: values(graph, name=link, ...) -> {name: value}."""

    def values(graph, **links):
        saved = results(graph, **links)
        return {name: json.loads(str(saved[name]["s0"])) for name in links}

    return values


def test_pipes_are_made_of_their_parts(graph, values):
    base = graph.add("ToBasicPipe", **graph.parts(*BASIC))[0]
    refiner = graph.add(
        "ToBasicPipe",
        **dict(zip(BASIC, graph.parts("rm", "rc", "rv", "rp", "rn").values(), strict=True)),
    )[0]
    out = values(
        graph,
        made=graph.add("ToDetailerPipe", **graph.parts(*BASIC), **graph.extras)[0],
        sdxl=graph.add("ToDetailerPipeSDXL", **graph.parts(*BASIC, *REFINER), **graph.extras)[0],
        basic=graph.add("BasicPipeToDetailerPipe", basic_pipe=base, **graph.extras)[0],
        both=graph.add(
            "BasicPipeToDetailerPipeSDXL",
            base_basic_pipe=base,
            refiner_basic_pipe=refiner,
            **graph.extras,
        )[0],
        least=graph.add(
            "ToDetailerPipe",
            **graph.parts(*BASIC, "bbox_detector"),
            **LISTS,
            wildcard="",
        )[0],
        any=graph.add("AnyPipeToBasic", any_pipe=graph.value([*BASIC, "more", "parts"]))[0],
    )
    assert out["made"] == [*PIPE, *NO_REFINER]
    assert out["basic"] == [*PIPE, *NO_REFINER]
    assert out["sdxl"] == [*PIPE, *REFINER]
    assert out["both"] == [*PIPE, "rm", "rc", "rp", "rn"]
    assert out["least"] == [*BASIC, "", "bbox_detector", None, None, None, *NO_REFINER]
    assert out["any"] == BASIC


def test_pipes_are_taken_apart(graph, values):
    pipe = graph.value([*PIPE, *REFINER])
    parts = [*BASIC, "bbox_detector", "sam_model_opt", "segm_detector_opt", "hook"]
    expected = {
        "FromDetailerPipe": parts,
        "FromDetailerPipe_v2": [[*PIPE, *REFINER], *parts],
        "FromDetailerPipeSDXL": [[*PIPE, *REFINER], *parts, *REFINER],
        "FromDetailerPipe_SDXL": [[*PIPE, *REFINER], *parts, *REFINER],
        "DetailerPipeToBasicPipe": [
            BASIC,
            ["refiner_model", "refiner_clip", "vae", "refiner_positive", "refiner_negative"],
        ],
    }
    links = {}
    for node_id, outputs in expected.items():
        node = graph.add(node_id, detailer_pipe=pipe)
        links |= {f"{node_id}-{index}": node[index] for index in range(len(outputs))}
    out = values(graph, **links)
    for node_id, outputs in expected.items():
        assert [out[f"{node_id}-{index}"] for index in range(len(outputs))] == outputs


def test_edits_replace_what_is_given_and_keep_the_rest(graph, values):
    pipe = graph.value([*PIPE, *REFINER])
    new = {"vae": graph.value("new vae"), "sam_model": graph.value("new sam")}
    refiner = {"refiner_clip": graph.value("new refiner")}
    fields = {"detailer_pipe": pipe, "wildcard": "", **LISTS}
    out = values(
        graph,
        same=graph.add("EditDetailerPipe", **fields)[0],
        some=graph.add("EditDetailerPipe", **fields | {"wildcard": "blue"} | new)[0],
        sdxl=graph.add("EditDetailerPipeSDXL", **fields, **new, **refiner)[0],
    )
    assert out["same"] == [*PIPE, *REFINER]
    edited = [*BASIC[:2], "new vae", *BASIC[3:]]
    rest = ["bbox_detector", "segm_detector_opt", "new sam", "hook"]
    assert out["some"] == [*edited, "blue", *rest, *REFINER]
    assert out["sdxl"] == [
        *edited, "a {red} face", *rest, "refiner_model", "new refiner", *REFINER[2:],
    ]  # fmt: skip


def test_lists_of_files_may_have_changed_since_the_file_was_saved(graph, values):
    chosen = {"Select to add LoRA": "gone.safetensors", "Select to add Wildcard": "__gone__"}
    fields = {"detailer_pipe": graph.value([*PIPE, *REFINER]), "wildcard": ""}
    out = values(graph, pipe=graph.add("EditDetailerPipe", **fields, **chosen)[0])
    assert out["pipe"] == [*PIPE, *REFINER]


def test_the_lists_name_the_hosts_loras_and_wildcards(server):
    for folder, file in (("loras", "styles/warm.safetensors"), ("wildcards", "hair/short.txt")):
        path = server.base / "models" / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("bob\n")
    for node_id in ("ToDetailerPipe", "BasicPipeToDetailerPipeSDXL", "EditDetailerPipe"):
        required = server.object_info(node_id)["input"]["required"]
        assert "styles/warm.safetensors" in required["Select to add LoRA"][0]
        assert "__hair/short__" in required["Select to add Wildcard"][0]


@pytest.mark.parametrize(
    ("node_id", "field", "pipe", "told"),
    [
        ("FromDetailerPipe", "detailer_pipe", ["model", "clip"], "'detailer_pipe' .* of 2 parts"),
        ("AnyPipeToBasic", "any_pipe", "a text", "'any_pipe' .* a str"),
    ],
)
def test_what_is_no_pipe_is_refused(graph, server, node_id, field, pipe, told):
    graph.add("DetailersTestSink", value=graph.add(node_id, **{field: graph.value(pipe)})[0])
    done = server.run(graph)
    assert not done.ok
    with pytest.raises(ValueError, match=told):
        raise ValueError(done.error.message)
