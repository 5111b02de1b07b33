"""What the editor is shown of a run: each crop on its way, before and after, and the time left."""

import pytest
import torch
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.detail.report import Record, Worked
from detailers.core.detail.video import detail_frames
from detailers.core.detail.view import MOST_IMAGES, MOST_PAIRS, SHOWN, RunView
from detailers.core.settings import Retry
from detailers.tests.fake_backend import (
    FakeBackend,
    brighten,
    fill,
    grain,
    make_detail,
    make_seg,
    noise_image,
)
from detailers.utils.shown import collected_shown, show

THREE = [(0, 0, 16, 16), (20, 0, 36, 16), (40, 0, 56, 16)]  # separate, each of 16x16
CHAIN = [(0, 20, 16, 36), (8, 20, 24, 36), (16, 20, 32, 36)]  # each overlaps the next


class Viewer:
    """Keeps what it is shown."""

    def __init__(self):
        self.pictures, self.told = [], []

    def picture(self, pixels, side):
        assert pixels.ndim == 4
        assert len(pixels) == 1
        self.pictures.append((pixels.clone(), side))
        return {"filename": str(len(self.pictures) - 1)}

    def tell(self, **data):
        self.told.append(data)

    def at(self, entry):
        return self.pictures[int(entry["filename"])][0]


def shown_of(work, draw=grain, image=None, regions=THREE, **options):
    """What a run shows: (viewer, result, what stands in the node's UI output)."""
    backend = FakeBackend(draw)
    backend.looks_on = Viewer()
    image = noise_image(1, 40, 60) if image is None else image
    segs = [make_seg(region, label=f"{place}") for place, region in enumerate(regions)]
    with collected_shown() as shown:
        result = work(
            image, (image.shape[1:3], segs), make_detail(**{"batch": 0, **options}), backend
        )
    return backend.looks_on, result, shown.get(SHOWN, [])


def test_each_segment_is_shown_before_and_after():
    image = noise_image(1, 40, 60) * 0.5
    viewer, result, (content,) = shown_of(detail_image, brighten(0.25), image, CHAIN)
    assert [pair["segment"] for pair in content["pairs"]] == [0, 1, 2]
    assert [pair["label"] for pair in content["pairs"]] == ["0", "1", "2"]
    first, second, _ = content["pairs"]
    assert first["size"] == first["crop"] == [16, 16]
    assert torch.equal(viewer.at(first["before"]), image[:, 20:36, :16])
    assert torch.allclose(viewer.at(first["after"]), image[:, 20:36, :16] + 0.25)
    # The second one was cut from what the first one left, and both are seen as they were pasted.
    assert torch.allclose(viewer.at(second["before"])[:, :, :8], image[:, 20:36, 8:16] + 0.25)
    assert (content["more"], len(content["images"])) == (0, 1)
    (whole,) = content["images"]
    assert torch.equal(viewer.at(whole["before"]), image)
    assert torch.equal(viewer.at(whole["after"]), result.image)
    assert {side for _, side in viewer.pictures} == {160, 512}


def test_what_is_said_on_the_way():
    viewer, *_ = shown_of(detail_image, regions=THREE, batch=1)
    waves = [told for told in viewer.told if told["done"] == 0]
    assert [(told["first"], told["last"], told["of"]) for told in waves] == [
        (1, 1, 3), (2, 2, 3), (3, 3, 3),
    ]  # fmt: skip
    assert [len(told["pictures"]) for told in waves] == [1, 1, 1]
    together, *_ = shown_of(detail_image, regions=THREE)
    told = together.told[0]
    assert (told["first"], told["last"], told["of"], len(told["pictures"])) == (1, 3, 3, 3)


def test_the_time_that_is_left():
    now = [0.0]
    viewer = Viewer()
    view = RunView(viewer, lambda: now[0])
    view.starts(2)
    view.step(1, 10)  # what was before, such as loading a model, says nothing of a step
    for step in range(2, 8):
        now[0] += 1.0
        view.step(step, 10)
    assert [told["left"] for told in viewer.told] == [None, 8, 7, 6, 5, 4, 3]
    assert viewer.told[-1]["done"] == pytest.approx(0.7)
    view.step(8, 10)  # too soon after the last one
    assert len(viewer.told) == 7


def test_faults_and_retries_are_shown():
    retry = Retry(times=1, when_broken=True)
    _, _, (content,) = shown_of(detail_image, fill(float("nan")), regions=THREE[:1], retry=retry)
    (pair,) = content["pairs"]
    assert (pair["retries"], pair["after"]) == (1, None)
    assert "not finite" in pair["fault"]


def test_segments_that_are_not_pasted_show_no_whole_image():
    image = noise_image(2, 40, 60)
    viewer, result, (content,) = shown_of(detail_segs, image=image, regions=THREE[:2])
    assert [(pair["segment"], pair["image"]) for pair in content["pairs"]] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    assert content["images"] == []
    refined = torch.as_tensor(result.segs[1][1].cropped_image)
    assert torch.equal(viewer.at(content["pairs"][3]["after"]), refined[1:2])


def test_a_clip_shows_the_frame_in_its_middle():
    def work(*args):
        return detail_frames(*args, pasted=True)

    image = noise_image(5, 40, 60)
    viewer, _, (content,) = shown_of(work, brighten(0.0), image, THREE[:1])
    (pair,) = content["pairs"]
    assert torch.equal(viewer.at(pair["before"]), image[2:3, :16, :16])
    assert len(content["images"]) <= MOST_IMAGES


def test_many_segments_show_so_many_and_say_how_many_more():
    regions = [(16 * x, 16 * y, 16 * x + 16, 16 * y + 16) for y in range(10) for x in range(10)]
    image = noise_image(1, 160, 160)
    viewer, _, (content,) = shown_of(detail_image, image=image, regions=regions)
    assert (len(content["pairs"]), content["more"]) == (MOST_PAIRS, 100 - MOST_PAIRS)
    assert len(viewer.pictures) == 2 * MOST_PAIRS + 2


def test_nobody_looking_on_costs_no_picture():
    with collected_shown() as shown:
        image = noise_image(1, 40, 60)
        segs = (40, 60), [make_seg(THREE[0])]
        detail_image(image, segs, make_detail(), FakeBackend(grain))
    assert shown == {}


def test_a_segment_that_is_over_without_having_been_shown():
    view = RunView(Viewer())
    view.over(Record(), torch.zeros(1, 2, 2, 3))
    assert Worked._fields == ("job", "row", "record")


def test_shown_outside_of_a_node_is_lost():
    show("x", 1)
    with collected_shown() as shown:
        show("x", 1)
        show("x", 2)
    assert shown == {"x": [1, 2]}
