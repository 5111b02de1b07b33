"""Tracks in a real server: followed in frames and in a VIDEO, shown, converted, and named."""

import json

import numpy as np
import pytest
from detailers.tests.host.graphs import Graph
from detailers.tests.host.test_people import (
    NAMES,
    PERSONS,
    embedder,  # noqa: F401
    group,  # noqa: F401
    load,
    onnx,
    references,
)
from PIL import Image

SETTINGS = {
    "threshold": 0.5, "dilation": 0, "crop_factor": 2.0, "drop_size": 1, "labels": "all",
    "max_gap": 12, "min_frames": 3, "order": "left to right", "limit": 0, "position_smoothing": 25,
    "size_smoothing": 51, "min_size": 0, "max_size": 0,
}  # fmt: skip
FRAMES, WIDTH, HEIGHT = 6, 96, 64
BOXES = [[60, 20, 80, 44, "hand", 0.9], [8, 12, 32, 40, "face", 0.8]]


def detector(graph, *boxes):
    return graph.add("DetailersTestDetector", boxes=json.dumps(boxes))[0]


def track(graph, **inputs):
    return graph.add("TrackSegments", **{**SETTINGS, **inputs})[0]


def clip_segs(saved):
    """Label, region and how many pixels each frame's mask covers, of each segment of a video."""
    count = sum(key.endswith("_label") for key in saved)
    return [
        (
            str(saved[f"segs0_{j}_label"]), saved[f"segs0_{j}_crop"].tolist(),
            saved[f"segs0_{j}_mask"].sum((1, 2)).tolist(),
        )
        for j in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["frames", "video"])
def test_what_a_detector_finds_is_followed_and_shown(run, server, source):
    graph = Graph()
    frames = graph.image(WIDTH, HEIGHT, batch=FRAMES)
    given = {"frames": frames}
    if source == "video":
        given = {"video": graph.add("CreateVideo", images=frames, fps=12.0)[0]}
    tracks = track(graph, bbox_detector=detector(graph, *BOXES), **given)
    preview = graph.add("PreviewTracks", tracks=tracks, longest_side=48, every=2, **given)
    segs = graph.add("TracksToSEGS", tracks=tracks, form="video segments", gaps=True)[0]
    for name, value in {"image": preview[0], "text": preview[1], "segs": segs}.items():
        graph.add("DetailersTestSave", value=value, name=f"tracks_{name}")
    done = run(graph)
    shown = done.outputs[preview.key]
    text = [
        f"2 tracks in {FRAMES} frames of {WIDTH}x{HEIGHT}",
        f"1 face: frames 0-{FRAMES - 1} ({FRAMES}), 24-24 px",
        f"2 hand: frames 0-{FRAMES - 1} ({FRAMES}), 20-20 px",
    ]
    assert shown["text"][0].splitlines() == text
    assert json.loads(str(server.result("tracks_text")["s0"])).splitlines() == text
    assert shown["animated"] == [True]
    (entry,) = shown["images"]
    picture = Image.open(server.base / "temp" / entry["subfolder"] / entry["filename"])
    assert (picture.size, picture.n_frames) == ((48, 32), 3)
    assert server.result("tracks_image")["t0"].shape == (3, 32, 48, 3)
    assert clip_segs(server.result("tracks_segs")) == [
        ("face", [0, 0, 44, 58], [24 * 28] * FRAMES),
        ("hand", [50, 5, 90, 59], [20 * 24] * FRAMES),
    ]


def test_nothing_found_passes_with_a_note(run):
    graph = Graph()
    frames = graph.image(WIDTH, HEIGHT, batch=2)
    node = graph.add("TrackSegments", **SETTINGS, frames=frames, bbox_detector=detector(graph))
    preview = graph.add("PreviewTracks", tracks=node[0], frames=frames)
    done = run(graph)
    assert "Nothing was found in 2 frames" in done.outputs[node.key]["detailers_notes"][0]["text"]
    assert done.outputs[preview.key]["text"] == [f"0 tracks in 2 frames of {WIDTH}x{HEIGHT}"]


def bar_of(watch, node):
    """The values of a node's progress bar while it runs, and its maximum."""
    states = watch.progress_of(node.key)
    bar = [(own["value"], own["max"]) for own in states if own["state"] == "running"]
    return [value for value, _ in bar], bar[-1][1]


def test_the_bar_of_tracks_counts_frames_in_both_passes(server):
    graph = Graph()
    frames = graph.image(WIDTH, HEIGHT, batch=20, seed=61)
    node = graph.add(
        "TrackSegments", **SETTINGS, frames=frames, bbox_detector=detector(graph, *BOXES)
    )
    graph.add("PreviewTracks", tracks=node[0])
    with server.watch() as watch:
        done = server.run(graph, watch=watch)
    assert done.ok, done.error
    values, total = bar_of(watch, node)
    assert total == values[-1] == 2 * 20
    assert values == sorted(values)
    assert {1, 2 * 20} <= set(values)  # ComfyUI leaves out some of those between


@pytest.mark.once
def test_tracks_are_interrupted_while_motion_is_measured(server):
    graph = Graph()
    frames = graph.image(WIDTH, HEIGHT, batch=300, seed=62)
    crowd = [[8 * k, y, 8 * k + 8, y + 30, "face", 0.9] for k in range(12) for y in (2, 33)]
    node = graph.add(
        "TrackSegments", **SETTINGS, frames=frames, bbox_detector=detector(graph, *crowd)
    )
    graph.add("PreviewTracks", tracks=node[0])
    with server.watch() as watch:
        prompt_id = server.queue(graph, watch=watch)
        watch.wait_for_progress(node.key, 301)
        server.interrupt()
        done = server.wait(prompt_id)
    assert done.interrupted
    assert bar_of(watch, node)[0][-1] < 600


def test_segments_of_tracks_are_detailed_by_the_older_nodes(results):
    graph = Graph()
    frames = graph.image(WIDTH, HEIGHT, batch=3)
    tracks = track(graph, frames=frames, bbox_detector=detector(graph, *BOXES))
    segs = graph.add("TracksToSEGS", tracks=tracks, form="video segments", gaps=True)[0]
    back = track(graph, frames=frames, segs=segs)
    again = graph.add("TracksToSEGS", tracks=back, form="segments of each frame", gaps=True)[0]
    model = graph.model("flat8", prior_std=0.0)
    detailed = graph.detail("DetailerForEachPipeForAnimateDiff", frames, segs, model)[0]
    out = results(graph, before=frames, after=detailed, again=again)
    changed = (out["before"]["t0"] != out["after"]["t0"]).any((0, 3))
    expected = np.zeros((HEIGHT, WIDTH), bool)
    for x1, y1, x2, y2, *_ in BOXES:
        expected[y1:y2, x1:x2] = True
    assert (changed & ~expected).sum() == 0
    assert changed[expected].mean() > 0.99
    labels = [str(value) for key, value in out["again"].items() if key.endswith("_label")]
    assert sorted(labels) == ["face"] * 3 + ["hand"] * 3


def test_tracks_are_named_by_person(embedder, group, run, server):  # noqa: F811
    graph = Graph()
    file, boxes, names = group[0]
    frames = load(graph, file, file, file)
    heads = [[*own, "head", 1.0] for own in boxes]
    tracks = track(graph, frames=frames, bbox_detector=detector(graph, *heads), order="first seen")
    node = graph.add(
        "LabelTracksByPerson", tracks=tracks, frames=frames, references=references(graph),
        names="\n".join(NAMES[:PERSONS]), threshold=0.5, **onnx(graph, embedder),
    )  # fmt: skip
    segs = graph.add("TracksToSEGS", tracks=node[0], form="video segments", gaps=True)[0]
    graph.add("DetailersTestSave", value=segs, name="named_tracks")
    done = run(graph)
    saved = server.result("named_tracks")
    found = {
        str(saved[f"segs0_{j}_label"]): saved[f"segs0_{j}_bbox"].tolist() for j in range(len(boxes))
    }
    for name, own in zip(names, boxes, strict=True):
        if name != "unknown":
            assert np.allclose(found[name], own, atol=1.5)
    assert len(done.outputs[node.key]["images"]) == len(boxes)


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({}, "There is nothing to follow. Connect one of 'bbox_detector'"),
        ({"boxes": True}, "Things to follow come from detector and boxes"),
        ({"video": True}, "'frames' and 'video' are both connected"),
    ],
)
def test_what_cannot_be_followed_is_told(server, inputs, problem):
    graph = Graph()
    frames = graph.image(WIDTH, HEIGHT, batch=2)
    given = {"frames": frames}
    if inputs:
        given["bbox_detector"] = detector(graph, *BOXES)
    if "boxes" in inputs:
        segs = graph.segs(WIDTH, HEIGHT, {"bbox": [8, 8, 24, 24], "mask": "full"})
        given["boxes"] = graph.add("DetailersSEGSToBoundingBox", segs=segs, box=True)[0]
    if "video" in inputs:
        given["video"] = graph.add("CreateVideo", images=frames, fps=12.0)[0]
    graph.add("PreviewTracks", tracks=track(graph, **given))
    done = server.run(graph)
    assert not done.ok and problem in str(done.error)
