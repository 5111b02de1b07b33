"""Video Detailer: tracks redrawn in windows that follow them."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import SAMPLING, Graph, read_json

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
