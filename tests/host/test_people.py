"""Segments named by person in a real server: by ONNX networks, and by ComfyUI's CLIP_VISION."""

import json
import re
import shutil

import numpy as np
import pytest
from detailers.dev.miniature.cast import NAMES, draw_cast, draw_gathering, reference_picture
from detailers.dev.miniature.people import EMBEDDER
from detailers.dev.miniature.world import SIDE, base_picture, enlarge
from detailers.tests.host.graphs import Graph, box
from PIL import Image

PERSONS = 4


@pytest.fixture(scope="module")
def embedder(server):
    """The name of the miniature's network among the server's files, in a folder."""
    folder = server.base / "models" / "person_embedders" / "world"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EMBEDDER, folder)
    return "world/people.onnx"


def save(server, name, picture):
    pixels = np.round(np.asarray(picture) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(server.base / "input" / name)
    return name


@pytest.fixture(scope="module")
def group(server):
    """Three images of one size with people of a cast: their files, boxes and names."""
    cast = draw_cast(11, PERSONS)
    for number, look in enumerate(cast):
        save(server, f"person{number}.png", reference_picture(look, 128))
    found = []
    for seed in range(3):
        gathering = draw_gathering(700 + seed, cast)
        scene = gathering.scene
        poor = enlarge(base_picture(scene.picture(), seed), (SIDE, SIDE))
        file = save(server, f"group{seed}.png", poor)
        boxes = [list(scene.box(index)) for index in range(len(scene.characters))]
        names = ["unknown" if who is None else NAMES[who] for who in gathering.who]
        found.append((file, boxes, names))
    return found


def load(graph, *files):
    images = [graph.add("LoadImage", image=file)[0] for file in files]
    batch = images[0]
    for image in images[1:]:
        batch = graph.add("ImageBatch", image1=batch, image2=image)[0]
    return batch


def references(graph):
    return load(graph, *(f"person{number}.png" for number in range(PERSONS)))


def name(graph, segs, image, network, **changed):
    inputs = {
        "segs": segs, "image": image, "references": references(graph),
        "names": "\n".join(NAMES[:PERSONS]), "threshold": 0.5, **network, **changed,
    }  # fmt: skip
    return graph.add("LabelSEGSByPerson", **inputs)


def onnx(graph, file, **options):
    return {"embedder": graph.add("PersonEmbedderLoader", model_name=file, **options)[0]}


def labels(saved):
    count = sum(key.endswith("_label") for key in saved)
    return [str(saved[f"segs0_{j}_label"]) for j in range(count)]


def test_people_are_named_in_a_poor_picture(embedder, group, results, run, server):
    """Known and unknown ones alike; the node shows each with its name, and says so in a table."""
    graph = Graph()
    file, boxes, names = group[0]
    assert "unknown" in names
    assert len(set(names)) > 2
    segs = graph.segs(SIDE, SIDE, *(box(*own, label="head") for own in boxes))
    node = name(graph, segs, load(graph, file), onnx(graph, embedder))
    for output, kind in enumerate(("people", "sheet", "table")):
        graph.add("DetailersTestSave", value=node[output], name=kind)
    done = run(graph)
    found = server.result("people")
    assert labels(found) == names
    assert [found[f"segs0_{j}_bbox"].tolist() for j in range(len(boxes))] == boxes
    lines = str(server.result("table")["s0"]).strip('"').replace("\\t", "\t").split("\\n")
    assert lines[0].split("\t") == ["number", "image", "label", "similarity", *NAMES[:PERSONS]]
    assert [line.split("\t")[2] for line in lines[1:]] == names
    shown = done.outputs[node.key]
    assert len(shown["images"]) == len(boxes)
    assert shown["text"][0].splitlines() == lines
    assert server.result("sheet")["t0"].shape[0] == 1
    assert min(server.result("sheet")["t0"].shape[1:3]) > 150


def test_each_image_of_a_batch_is_named_by_itself(embedder, group, results):
    graph = Graph()
    image = load(graph, *(file for file, _, _ in group))
    heads = json.dumps([[*own, "head", 1.0] for own in group[0][1]])
    detector = graph.add("DetailersTestDetector", boxes=heads)[0]
    settings = {"threshold": 0.5, "dilation": 0, "crop_factor": 1.5, "drop_size": 1}
    segs = graph.add("BboxDetectorSEGS", bbox_detector=detector, image=image, **settings)[0]
    found = results(graph, out=name(graph, segs, image, onnx(graph, embedder))[0])["out"]
    count = len(group[0][1])
    assert labels(found)[:count] == group[0][2]
    for row in range(3):
        own = labels(found)[row * count : (row + 1) * count]
        assert len(own) == count
        known = [label for label in own if label != "unknown"]
        assert len(set(known)) == len(known)


@pytest.mark.parametrize("kind", ["clip_vision_model", "siglip_vision_model"])
def test_clip_vision_names_what_it_has_seen(kind, group, results, server):
    """Its weights are random: a picture is like itself, and less like others."""
    graph = Graph()
    files = [f"person{number}.png" for number in range(PERSONS)]
    order = (2, 0, 3, 1)
    row = load(graph, files[order[0]])
    for number in order[1:]:
        row = graph.add(
            "ImageStitch", image1=row, image2=load(graph, files[number]), direction="right",
            match_image_size=True, spacing_width=0, spacing_color="white",
        )[0]  # fmt: skip
    boxes = [box(128 * i, 0, 128 * (i + 1), 128) for i in range(4)]
    vision = {"clip_vision": graph.add("DetailersTestClipVision", kind=kind)[0]}
    segs = graph.segs(512, 128, *boxes)
    node = name(graph, segs, row, vision, threshold=0.99, margin=0.0)
    assert labels(results(graph, out=node[0])["out"]) == [NAMES[number] for number in order]


def test_no_segments_give_an_empty_sheet(embedder, group, results):
    graph = Graph()
    node = name(graph, graph.segs(64, 64), graph.image(64, 64), onnx(graph, embedder))
    found = results(graph, segs=node[0], sheet=node[1])
    assert labels(found["segs"]) == []
    assert found["sheet"]["t0"].shape == (1, 64, 64, 3)


def test_the_detector_cuts_the_references(embedder, group, results):
    """The references are the group itself, in which a detector finds the largest head alone."""
    graph = Graph()
    file, boxes, _ = group[0]
    sizes = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    largest = sizes.index(max(sizes))
    heads = json.dumps([[*own, "head", 1.0] for own in boxes])
    detector = graph.add("DetailersTestDetector", boxes=heads)[0]
    segs = graph.segs(SIDE, SIDE, *(box(*own) for own in boxes))
    node = name(
        graph, segs, load(graph, file), onnx(graph, embedder), references=load(graph, file),
        names="The large one", bbox_detector=detector, margin=0.0, threshold=0.95,
    )  # fmt: skip
    found = labels(results(graph, out=node[0])["out"])
    assert [place for place, label in enumerate(found) if label == "The large one"] == [largest]


# What is refused


@pytest.fixture
def refused(server):
    def refused(graph, node, *words):
        graph.add("DetailersTestSink", value=node[0])
        done = server.run(graph)
        assert not done.ok, words
        assert done.error.node_id == node.key, done.error
        pattern = ".*".join(re.escape(word) for word in words)
        assert re.search(pattern, done.error.message, re.DOTALL), done.error.message

    return refused


def test_bad_input_is_told(embedder, group, refused):
    graph = Graph()
    segs, image = graph.segs(64, 64, box(8, 8, 40, 40)), graph.image(64, 64)
    network = onnx(graph, embedder)
    vision = {"clip_vision": graph.add("DetailersTestClipVision", kind="clip_vision_model")[0]}
    empty = graph.value({"shape": [0, 8, 8, 3], "fill": 0})
    cases = [
        ({"names": "Ada\nBen"}, ["'names' has 2 lines", "4 pictures", "Write one name"]),
        ({"names": ""}, ["'names' has 0 lines", "4 pictures"]),
        ({"names": "Ada\n\nBen\nCleo"}, ["'names': line 2 is empty"]),
        ({"unknown_label": "Ada"}, ["'unknown_label' is 'Ada'", "'names'"]),
        ({"references": empty}, ["'references'", "empty"]),
        ({"references": graph.value(None)}, ["'references'", "None"]),
        ({"segs": graph.value(None)}, ["'segs'", "None"]),
        ({"segs": graph.value("a")}, ["'segs'", "SEGS"]),
        ({"image": graph.value({"shape": [8, 8], "fill": 0})}, ["'image'", "[B,H,W,C]"]),
        ({"embedder": graph.value(3)}, ["'embedder'", "Person Embedder Loader"]),
        ({"embedder": graph.value(None)}, ["'clip_vision'", "Neither is connected"]),
        ({"clip_vision": graph.value(3)}, ["'clip_vision'", "a CLIP vision model"]),
        (vision, ["'clip_vision'", "Both are connected"]),
    ]
    for changed, words in cases:
        one = Graph(graph)
        node = name(one, segs, image, network)
        one[node.key]["inputs"] |= changed
        refused(one, node, *words)
    one = Graph(graph)
    refused(one, name(one, segs, image, {}), "'clip_vision'", "Neither is connected")


def test_files_that_are_no_embedders_are_told(embedder, group, server, refused):
    folder = server.base / "models" / "person_embedders"
    (folder / "broken.onnx").write_bytes(b"\x08\x08 nothing of a network")
    graph = Graph()
    graph.value(0)
    refused(graph, graph.add("PersonEmbedderLoader", model_name="broken.onnx"), "'broken.onnx'")


def test_all_folders_of_networks_are_looked_in(embedder, server):
    for place in ("insightface", "onnx"):
        folder = server.base / "models" / place
        folder.mkdir(exist_ok=True)
        shutil.copy(EMBEDDER, folder / f"of_{place}.onnx")
    listed = server.object_info("PersonEmbedderLoader")["input"]["required"]["model_name"][0]
    assert {"world/people.onnx", "of_insightface.onnx", "of_onnx.onnx"} <= set(listed)
