"""Video Detailer: tracks redrawn in windows that follow them."""

import av
import numpy as np
import pytest
from detailers.core.geometry import Size
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import SAMPLING, Graph, read_json
from detailers.tests.video_files import clip as write_clip

RED = np.array(PIXELS["red"])
FRAMES, WIDTH, HEIGHT = 7, 96, 64
STEP = 5  # pixels that a thing moves from frame to frame
# No smoothing of paths, so that the masks are where they are drawn.
STILL = {
    "threshold": 0.5, "dilation": 0, "crop_factor": 2.0, "drop_size": 1, "labels": "all",
    "max_gap": 4, "min_frames": 1, "order": "first seen", "limit": 0, "position_smoothing": 1,
    "size_smoothing": 1, "min_size": 0, "max_size": 0,
}  # fmt: skip
SETTINGS = {
    **SAMPLING, "denoise": 1.0, "guide_size": 64, "guide_size_for": True, "max_size": 256,
    "feather": 0, "noise_mask": True, "force_inpaint": True, "wildcard": "", "cycle": 1,
    "smoothing": 1.0, "gaps": "detail", "fade": 2,
}  # fmt: skip


def moving_masks(graph, seen=range(2, 6)):
    """A mask for each frame: a square that moves to the right, in these frames."""
    shapes = [
        [16 + STEP * i, 20, 40 + STEP * i, 44, "r"] if i in seen else [0, 0, 0, 0, "r"]
        for i in range(FRAMES)
    ]
    return graph.mask(WIDTH, HEIGHT, *shapes, per_item=True)


def detailed(graph, clip, tracks, model, **changed):
    inputs = {**SETTINGS, **changed}
    return graph.add(
        "VideoDetailer", frames=clip, tracks=tracks, basic_pipe=graph.pipe(model), **inputs
    )


@pytest.mark.parametrize("family", ["flat8", "video8"])
def test_a_moving_thing_is_redrawn_where_it_is(results, family):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    clip = graph.image(WIDTH, HEIGHT, batch=FRAMES)
    masks = moving_masks(graph)
    tracks = graph.add("TrackSegments", masks=masks, **STILL)[0]
    node = detailed(graph, clip, tracks, model)
    nothing = detailed(
        graph,
        clip,
        graph.add(
            "TrackSegments",
            masks=graph.mask(WIDTH, HEIGHT, *[[0, 0, 0, 0, "r"]] * FRAMES, per_item=True),
            **STILL,
        )[0],
        model,
    )
    out = results(
        graph, clip=clip, masks=masks, done=node[0], report=node[1], nothing=nothing[0]
    )  # fmt: skip
    clip, found, masks = out["clip"]["t0"], out["done"]["t0"], out["masks"]["t0"] > 0
    np.testing.assert_array_equal(found[~masks], clip[~masks])
    np.testing.assert_array_equal(out["nothing"]["t0"], clip)
    for frame in range(2, 6):
        x = 16 + STEP * frame
        middle = found[frame, 24:40, x + 4 : x + 20]
        np.testing.assert_allclose(middle, np.broadcast_to(RED, middle.shape), atol=0.02)
    report = read_json(out["report"])
    (segment,) = report["segments"]
    assert segment["frames"] == {
        "first": 2, "last": 5, "detailed": 4, "gaps": 0, "failed": [],
    }  # fmt: skip
    assert report["counts"]["sampled"] == 1


# Files

RATE = 12


def grey(number, size):
    return np.full((size.height, size.width, 3), 60 + 8 * number, np.uint8)


def played(path):
    """Of a video file: its frames [F,H,W,3] 0..1, their times in seconds, and its sound [C,S]."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        assert file.streams.video[0].average_rate == RATE
    with av.open(str(path)) as file:
        heard = [frame.to_ndarray() for frame in file.decode(audio=0)]
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]) / 255
    return pictures, [frame.time for frame in frames], np.concatenate(heard, 1)


def test_a_loaded_file_is_followed_detailed_and_saved(run, server):
    size = Size(WIDTH, HEIGHT)
    source = write_clip(
        server.input / "with_sound.mp4", count=FRAMES, size=size, rate=RATE, draw=grey,
        sound=[("aac", FRAMES / RATE)],
    )  # fmt: skip
    graph = Graph()
    video = graph.add("LoadVideo", file=source.name)[0]
    tracks = graph.add("TrackSegments", video=video, masks=moving_masks(graph), **STILL)[0]
    pipe = graph.pipe(graph.model("flat8", prior_std=0.0))
    node = graph.add("VideoDetailerLong", video=video, tracks=tracks, basic_pipe=pipe, **SETTINGS)
    saved = graph.add(
        "SaveVideo", video=node[0], filename_prefix="followed", format="auto", codec="auto"
    )
    done = run(graph)
    (entry,) = done.outputs[saved.key]["images"]
    (shown,) = done.outputs[node.key]["images"]
    before, times, sound = played(source)
    for path in (
        server.output / entry["subfolder"] / entry["filename"],
        server.base / "temp" / shown["filename"],
    ):
        after, its_times, its_sound = played(path)
        assert after.shape == (FRAMES, HEIGHT, WIDTH, 3)
        np.testing.assert_allclose(its_times, times, atol=1e-3)
        np.testing.assert_array_equal(its_sound, sound)
        for frame in range(FRAMES):
            np.testing.assert_allclose(after[frame, 52:], before[frame, 52:], atol=0.03)
            x = 16 + STEP * frame
            middle = after[frame, 28:36, x + 8 : x + 16].mean((0, 1))
            expected = RED if 2 <= frame < 6 else before[frame, 32, x + 12]
            np.testing.assert_allclose(middle, expected, atol=0.08, err_msg=f"{path} {frame}")
