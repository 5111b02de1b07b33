"""Video: one window through all frames, sampled together, pasted frame by frame."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, stats
from detailers.tests.host.graphs import Graph, box

RED = np.array(PIXELS["red"])
DETAILER = "DetailerForEachPipeForAnimateDiff"


def painted(frames, masks, colour=RED):
    """Frames with a colour where the masks are 1."""
    return np.where(masks[..., None] > 0, colour, frames)


@pytest.mark.parametrize("frames", [1, 5, 6, 8])
@pytest.mark.parametrize("family", ["flat8", "video8", "video17"])
def test_clips_of_any_length(results, family, frames):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    clip = graph.image(80, 64, batch=frames)
    entries = [box(8, 8, 40, 40, crop=[3, 3, 45, 47], mask="r"), box(45, 10, 70, 30)]
    segs = graph.segs(80, 64, *entries)
    detailed = graph.detail(DETAILER, clip, segs, model, guide_size_for=False)
    kept = graph.detail("SEGSDetailerForAnimateDiff", clip, segs, model)
    joined = graph.add("SEGSPaste", image=clip, segs=kept[0], feather=0, alpha=255)[0]
    before = results(graph, clip=clip)["clip"]
    out = results(
        graph, clip=clip, detailed=detailed[0], segs=detailed[1], kept=kept[0], joined=joined
    )
    clip, found = out["clip"]["t0"], out["detailed"]["t0"]
    assert found.shape == (frames, 64, 80, 3)
    inside = np.zeros((64, 80), bool)
    inside[8:40, 8:40] = inside[10:30, 45:70] = True
    np.testing.assert_array_equal(found[:, ~inside], clip[:, ~inside])
    for picture in (found, out["joined"]["t0"]):
        middle = picture[:, 16:32, 16:32]
        np.testing.assert_allclose(middle, np.broadcast_to(RED, middle.shape), atol=1e-3)
        second = picture[:, 10:30, 45:70]
        np.testing.assert_allclose(second, np.broadcast_to(RED, second.shape), atol=1e-3)
    for segs in (out["segs"], out["kept"]):
        assert segs["segs0_0_image"].shape == (frames, 44, 42, 3)
        assert segs["segs0_1_image"].shape == (frames, 20, 25, 3)
    # Two nodes, two segments, four steps: a call of the model each, for all frames together.
    called = max(stats(saved)["model_calls"] for saved in out.values())
    assert called - stats(before)["model_calls"] == 2 * 2 * 4


@pytest.mark.parametrize("family", ["flat8", "video8", "video17"])
def test_masks_go_frame_by_frame_where_there_is_one_for_each(results, family):
    graph = Graph()
    model = graph.model(family, prior_std=0.0)
    clip = graph.image(64, 64, batch=3)
    moving = box(8, 8, 40, 40, frames=[1, 0, 1])
    too_many = {**moving, "frames": [1, 0, 1, 0]}
    links = {
        name: graph.detail(DETAILER, clip, graph.segs(64, 64, entry), model)[0]
        for name, entry in {
            "array": moving,
            "tensor": {**moving, "tensor": True},
            "united": too_many,
        }.items()
    }
    out = results(graph, clip=clip, **links)
    masks = np.zeros((3, 64, 64))
    masks[:, 8:40, 8:40] = 1
    clip = out["clip"]["t0"]
    np.testing.assert_allclose(out["united"]["t0"], painted(clip, masks), atol=1e-3)
    masks[1] = 0
    for name in ("array", "tensor"):
        np.testing.assert_allclose(out[name]["t0"], painted(clip, masks), atol=1e-3)
        np.testing.assert_array_equal(out[name]["t0"][1], clip[1])


def test_segments_from_a_moving_mask(results):
    graph = Graph()
    model = graph.model("video8", prior_std=0.0)
    shapes = [[8 + 4 * i, 8, 32 + 4 * i, 32, "r"] for i in range(5)]
    masks = graph.mask(80, 48, *shapes, per_item=True)
    settings = {"combined": False, "bbox_fill": False, "drop_size": 1, "contour_fill": False}
    segs = graph.add("MaskToSEGS_for_AnimateDiff", mask=masks, crop_factor=1.0, **settings)[0]
    clip = graph.image(80, 48, batch=5)
    detailed = graph.detail(DETAILER, clip, segs, model)
    out = results(graph, clip=clip, masks=masks, detailed=detailed[0])
    clip, masks, found = (out[name]["t0"] for name in ("clip", "masks", "detailed"))
    np.testing.assert_array_equal(found[masks == 0], clip[masks == 0])
    for frame in range(5):
        x = 8 + 4 * frame
        middle = found[frame, 8:32, x + 6 : x + 18]
        np.testing.assert_allclose(middle, np.broadcast_to(RED, middle.shape), atol=1e-3)


def test_a_later_segment_sees_what_an_earlier_one_left(results):
    graph = Graph()
    model = graph.model("video8")
    clip = graph.image(96, 64, batch=5)
    first, second = box(8, 8, 56, 56, mask="e"), box(32, 8, 80, 56, mask="e")
    settings = {"denoise": 0.5, "scheduler": "simple", "feather": 4}

    def detail(clip, *entries):
        return graph.detail(DETAILER, clip, graph.segs(96, 64, *entries), model, **settings)[0]

    out = results(
        graph,
        both=detail(clip, first, second),
        in_turn=detail(detail(clip, first), second),
        second=detail(clip, second),
    )
    np.testing.assert_array_equal(out["both"]["t0"], out["in_turn"]["t0"])
    difference = np.abs(out["both"]["t0"] - out["second"]["t0"])[:, 16:48, 40:56]
    assert difference.max() > 0.01


def test_options_of_the_video_detailers(results):
    graph = Graph()
    model = graph.model("video8", prior_std=0.0)
    clip = graph.image(64, 64, batch=5)
    segs = graph.segs(64, 64, box(8, 8, 56, 56))
    simple = {"scheduler": "simple"}
    links = {
        "refined": graph.detail(
            DETAILER, clip, segs, model,
            refiner_basic_pipe_opt=graph.pipe(model, "green"), refiner_ratio=0.5, **simple,
        )[0],
        "soft": graph.detail(DETAILER, clip, segs, model, noise_mask_feather=8, **simple)[0],
        "scheduled": graph.detail(
            DETAILER, clip, segs, model, scheduler="normal",
            scheduler_func_opt=graph.add("DetailersTestScheduler", scheduler="simple")[0],
        )[0],
        "large": graph.detail(DETAILER, clip, segs, model, max_size=64, **simple)[0],
    }  # fmt: skip
    out = results(graph, clip=clip, **links)
    masks = np.zeros((5, 64, 64))
    masks[:, 8:56, 8:56] = 1
    for name in links:
        colour = PIXELS["green" if name == "refined" else "red"]
        expected = painted(out["clip"]["t0"], masks, colour)
        np.testing.assert_allclose(out[name]["t0"], expected, atol=1e-3, err_msg=name)


def test_a_clip_is_reproduced_to_the_bit(results):
    def once(fresh):
        graph = Graph()
        model = graph.model("video8", oom_rows=1000 + fresh)
        clip = graph.image(64, 48, batch=6)
        segs = graph.segs(64, 48, box(8, 8, 40, 40, mask="e"))
        settings = {"denoise": 0.6, "sampler_name": "dpmpp_2m_sde", "feather": 3, "cfg": 2.0}
        return results(graph, clip=graph.detail(DETAILER, clip, segs, model, **settings)[0])["clip"]

    first, second = once(0), once(1)
    assert stats(second)["model_calls"] > stats(first)["model_calls"]
    np.testing.assert_array_equal(first["t0"], second["t0"])
