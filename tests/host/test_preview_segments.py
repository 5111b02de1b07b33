"""What PreviewSegments tells, against what a detailer with the same settings does."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import Graph, box, read_json
from PIL import Image

WIDTH, HEIGHT = 256, 192
SEGMENTS = [
    box(8, 8, 40, 40, label="left", mask="e", crop=[0, 0, 56, 56]),
    box(60, 12, 100, 60, label="hand", mask="e", crop=[52, 4, 108, 68]),
    box(120, 20, 220, 120, label="large"),
    box(30, 30, 62, 62, label="over", mask="e", crop=[20, 20, 76, 76]),
    box(20, 140, 60, 180, label="blank", mask="empty"),
    box(180, 140, 212, 172, label="right", mask="e", crop=[172, 132, 228, 188]),
]
SIZES = {"guide_size": 64, "guide_size_for": True, "max_size": 120, "seed": 40}
TEXTS = "red [SEP:99] {blue|green|white|cyan} [SEP] a {magenta|yellow} thing [SEP]"
SAME = (  # in the table and in a detailer's report
    "label", "confidence", "bbox", "crop_region", "reason", "working_size", "seed", "text",
    "concat", "loras", "text_before", "negative", "wave",
)  # fmt: skip
NO_OPTIONS = {"size_policy": "guide_size", "native_size": 0, "upright": "off", "angle": 0.0}


class Looking(Graph):
    """An image and its segments; `preview` looks at them and `drawn` redraws them."""

    def __init__(self, *segments, batch=1):
        super().__init__()
        self.model_links = self.model("flat8", prior_std=0.0)
        self.picture = self.image(WIDTH, HEIGHT, batch=batch)
        self.found = self.segs(WIDTH, HEIGHT, *(segments or SEGMENTS))

    def preview(self, off="", linked=True, **widgets):
        links = dict(zip(("model", "vae"), (self.model_links[0], self.model_links[2]), strict=True))
        settings = {**SIZES, "force_inpaint": False, "wildcard": TEXTS, **widgets}
        return self.add(
            "PreviewSegments", image=self.picture, segs=self.found, off=off, **settings,
            **(links if linked else {}),
        )  # fmt: skip

    def drawn(self, segs, **widgets):
        """A detailer with the same settings: [0] the picture, [1] its report."""
        settings = {**SIZES, "force_inpaint": False, "wildcard": TEXTS, **widgets}
        return self.detail("DetailerForEach", self.picture, segs, self.model_links, **settings)


def of_both(entry):
    """What the table tells of a segment and a report does too; of what stays, nothing else."""
    status = "planned" if entry["status"] == "done" else entry["status"]
    names = SAME if status == "planned" else SAME[:5]
    return {name: entry[name] for name in names} | {"status": status}


def colour_of(text):
    """What the model paints for a text."""
    return PIXELS[next(word for word in reversed(text.split()) if word in PIXELS)]


@pytest.mark.parametrize("off", ["", "0, 4-9"])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_told_is_what_a_detailer_does(results, off, batch):
    graph = Looking(batch=batch)
    look = graph.preview(off)
    drawn = graph.drawn(look[2])
    out = results(graph, table=look[1], segs=look[2], picture=drawn[0], report=drawn[1])
    told = read_json(out["table"])
    assert told["image"] == {"width": WIDTH, "height": HEIGHT, "count": batch}
    rows = [row for row in told["segments"] if row["status"] != "off"]
    assert [of_both(row) for row in rows] == [
        of_both(entry) for entry in read_json(out["report"])["segments"]
    ]
    done = [row for row in rows if row["status"] == "planned"]
    assert len(done) == (2 if off else 4) * batch
    for row in done:
        if row["number"] in (0, 3):
            continue  # they overlap
        x1, y1, x2, y2 = row["bbox"]
        middle = out["picture"]["t0"][row["image"], (y1 + y2) // 2, (x1 + x2) // 2]
        np.testing.assert_allclose(middle, colour_of(row["text"] or "red"), atol=0.02)
    labels = [str(out["segs"][f"segs0_{i}_label"]) for i in range(3 if off else 6)]
    own = [segment["label"] for segment in SEGMENTS]
    assert labels == (own[1:4] if off else own)


def test_the_table_has_sizes_seeds_texts_levels_and_reasons(results):
    graph = Looking()
    look = graph.preview("5")
    out = results(graph, table=look[1], shown=look[0])
    rows = {row["number"]: row for row in read_json(out["table"])["segments"]}
    names = ("working_size", "seed", "level", "wave")
    assert [rows[0][name] for name in names] == [[112, 112], 40, 0, 0]
    assert [rows[1][name] for name in names] == [[89, 102], 99, 1, 1]
    assert [rows[3][name] for name in names] == [[112, 112], 43, 2, 2]
    assert rows[0]["text"] == "red" and rows[1]["text"] in ("blue", "green", "white", "cyan")
    assert rows[3]["concat"] is False and rows[3]["text"] is None
    assert rows[2]["reason"] == (
        "its box of 100x100 is already at least guide_size 64 (force_inpaint is off)"
    )
    assert (rows[4]["status"], rows[4]["reason"]) == ("skipped", "its mask is empty")
    assert (rows[5]["status"], rows[5]["seed"]) == ("off", None)
    shown = out["shown"]["t0"]
    assert shown.shape == (1, HEIGHT, WIDTH, 3)
    assert shown[0, 119, 120] == pytest.approx([0.72] * 3, abs=1e-3)  # a skipped box is grey


def test_the_node_shows_pictures_and_table(run, server):
    graph = Looking(batch=2)
    look = graph.preview("1", linked=False, seed=2**64 - 1)
    (shown,) = run(graph).outputs[look.key]["detailers_segments"]
    assert [picture["type"] for picture in shown["pictures"]] == ["temp", "temp"]
    assert (shown["count"], shown["off"]) == (6, "1")
    first = shown["segments"][0]
    assert (first["number"], first["seed"], first["image"]) == (0, str(2**64 - 1), 0)
    (outline,) = first["outlines"]
    assert (min(outline[::2]), max(outline[::2])) == (8, 39)
    assert [row["image"] for row in shown["segments"]] == [0] * 5 + [1] * 5 + [0, 1]


def test_pictures_of_large_images_are_small(run, server):
    graph = Graph()
    image, segs = graph.plain(2600, 130, 0xFF0000), graph.segs(2600, 130, box(2000, 8, 2080, 88))
    look = graph.add(
        "PreviewSegments", image=image, segs=segs, off="", **SIZES, force_inpaint=True, wildcard=""
    )
    (shown,) = run(graph).outputs[look.key]["detailers_segments"]
    assert shown["image"] == {"width": 2600, "height": 130, "count": 1}
    file = server.base / "temp" / shown["pictures"][0]["filename"]
    with Image.open(file) as picture:
        assert picture.size == (1024, 51)
        assert picture.getpixel((500, 20)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"off": "first"}, "'off' has 'first', which does not begin with an index"),
        ({"size_policy": "model"}, "'model' is missing, but 'crop_options' asks for the size"),
    ],
)
def test_errors_name_the_input(server, changed, error):
    graph = Looking()
    if "size_policy" in changed:
        options = graph.add("DetailersCropOptions", **NO_OPTIONS | changed)
        changed = {"crop_options": options[0]}
    graph.preview(linked=False, **changed)
    done = server.run(graph)
    assert not done.ok and error in str(done.error)


def test_a_turned_crop_and_a_hook_are_told_too(results):
    """The region of a crop that is turned goes by the feather, and a hook may change sizes."""
    graph = Looking(*SEGMENTS[:2])
    turning = NO_OPTIONS | {"upright": "angle", "angle": 20.0}
    options = {"crop_options": graph.add("DetailersCropOptions", **turning)[0], "feather": 9}
    hooks = [graph.hook(touch_scaled_size=[72, 88])[0] for _ in range(2)]
    look = graph.preview(detailer_hook=hooks[0], **options)
    drawn = graph.drawn(graph.found, detailer_hook=hooks[1], **options)
    out = results(graph, table=look[1], report=drawn[1])
    rows = read_json(out["table"])["segments"]
    assert [row["angle"] for row in rows] == [20.0, 20.0]
    assert [row["working_size"] for row in rows] == [[72, 88]] * 2
    assert [of_both(row) for row in rows] == [
        of_both(entry) for entry in read_json(out["report"])["segments"]
    ]


PLAN = """
- {label: hand, text: "{blue|green} hand", negative: grey, guide_size: 80, crop_padding: 6}
- {label: over, text_before: cyan, seed: 7}
- {label: right, skip: not this one}
- {select: largest 1, text: white, max_size: 110, guide_size: 128}
"""


def test_a_segment_plan_is_told_too(results):
    graph = Looking()
    plan = {"segment_plan": graph.add("SegmentPlan", plan=PLAN)[0]}
    look = graph.preview(off="0", **plan)
    drawn = graph.drawn(look[2], **plan)
    out = results(graph, table=look[1], report=drawn[1])
    rows = {row["number"]: row for row in read_json(out["table"])["segments"]}
    assert [of_both(row) for row in rows.values() if row["status"] != "off"] == [
        of_both(entry) for entry in read_json(out["report"])["segments"]
    ]
    assert rows[1]["settings"] == {"guide_size": 80.0, "crop_padding": 6}
    assert rows[1]["crop_region"] == [46, 0, 114, 74]
    assert (rows[3]["rules"], rows[3]["seed"]) == ([2], 7)
    assert rows[3]["text"] in ("cyan, a magenta thing", "cyan, a yellow thing")
    assert (rows[5]["status"], rows[5]["reason"]) == ("skipped", "not this one")
    assert (rows[2]["status"], rows[2]["working_size"]) == ("planned", [110, 110])
