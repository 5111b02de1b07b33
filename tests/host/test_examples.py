"""Each example workflow, run in a real host with the miniature as its model."""

import json

import numpy as np
import pytest
from detailers.dev.blueprints import files
from detailers.dev.example_runs import FRAMES, Street, prompt_for, result_of
from detailers.dev.server import ROOT
from PIL import Image

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))
STREET = Street(seed=2, side=192)
QUICK = {"guide_size": 64, "max_size": 128, "steps": 1, "denoise": 0.3, "bbox_size": 64}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_runs_and_changes_what_it_is_for(run, server, file):
    prompt = prompt_for(file, STREET, server.input, **QUICK)
    done = run(prompt)
    saved = result_of(prompt, done.outputs)
    path = server.output / saved["subfolder"] / saved["filename"]
    if path.suffix != ".png":
        import av

        with av.open(path) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert len(frames) == FRAMES
        assert frames[0].shape == (STREET.side, STREET.side, 3)
        return
    after = np.asarray(Image.open(path).convert("RGB")).astype(int)
    larger = 2 if "upscale" in file.stem else 1
    assert after.shape == (STREET.side * larger, STREET.side * larger, 3)
    if larger == 1:
        change = np.abs(after - np.asarray(STREET.picture()).astype(int)).max(2)
        left, top, right, bottom = STREET.boxes("head" if "hand" not in file.stem else "hand")[0]
        assert change[top:bottom, left:right].max() > 8
        assert (change == 0).mean() > 0.2  # what is far from everything stays as it was


def own_nodes(content, info):
    """Inputs, widget values and outputs of the pack's nodes in a file, subgraphs included."""
    graphs = [content, *content.get("definitions", {}).get("subgraphs", [])]
    return [
        (
            node["type"], [(one["name"], one["type"]) for one in node["inputs"]],
            node.get("widgets_values"), [(one["name"], one["type"]) for one in node["outputs"]],
        )
        for graph in graphs
        for node in graph["nodes"]
        if info.get(node["type"], {}).get("category", "").startswith("Detailers")
    ]  # fmt: skip


def test_files_have_every_input_and_output_of_todays_nodes(server):
    """Otherwise: `python -m dev.blueprints`."""
    info = server.object_info()
    made = files(info)
    folders = ("example_workflows", "subgraphs")
    assert set(made) == {file for name in folders for file in (ROOT / name).glob("*.json")}
    for file, content in made.items():
        saved = own_nodes(json.loads(file.read_text(encoding="utf-8")), info)
        assert saved == own_nodes(content, info), file.name
        for kind, inputs, _, outputs in saved:
            declared = [name for group in info[kind]["input"].values() for name in group]
            assert {name for name, _ in inputs} >= set(declared), f"{file.name}, {kind}"
            assert len(outputs) == len(info[kind]["output"]), f"{file.name}, {kind}"
