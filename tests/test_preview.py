"""core/detail/preview.py and core/pixels/marks.py: what is told and drawn before a run."""

import json

import numpy as np
import pytest
import torch
from detailers.core.detail.images import detail_image
from detailers.core.detail.preview import Scale, outlines, preview
from detailers.core.detail.segment_plan import Curve, Overrides, Rule, SegmentPlan
from detailers.core.detail.selectors import read_selector
from detailers.core.geometry import NATIVE, Box, Size
from detailers.core.pixels import marks
from detailers.core.segs.seg import BatchImage, of_image
from detailers.core.settings import ANGLE, Models, Upright
from detailers.tests.fake_backend import FakeBackend, make_detail, make_seg
from detailers.utils.notes import collected_notes

IMAGE = torch.full((1, 120, 160, 3), 0.5)
NO_MODELS = Models(None, None, None, [], [])
SIZES = {"guide_size": 32, "max_size": 96, "batch": 0}


def ellipse(width, height):
    y, x = np.mgrid[0:height, 0:width]
    inside = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.5) ** 2 < 0.25
    return inside.astype(np.float32)


def seg(x, y, width=20, height=16, margin=4, label="face", mask=None):
    """A segment whose mask is an ellipse in its box, with so much around it."""
    covered = np.pad(ellipse(width, height), margin) if mask is None else mask
    region = (x - margin, y - margin, x + width + margin, y + height + margin)
    return make_seg(region, (x, y, x + width, y + height), covered, label)


def looked_at(items, off="", image=IMAGE, models=NO_MODELS, backend=None, **options):
    detail = make_detail(models, **SIZES | options)
    return preview(image, (tuple(image.shape[1:3]), items), off, detail, backend or FakeBackend())


def told(made, *names):
    """These columns of the table, a tuple for each row."""
    return [tuple(row[name] for name in names) for row in json.loads(made.text())["segments"]]


FOUR = [seg(10, 10), seg(60, 12, label="hand"), seg(100, 60, 40, 40), seg(12, 80)]


def test_the_table_tells_all_that_is_decided():
    made = looked_at(FOUR[:1], text="a {cat} <lora:soft:0.5>")
    assert json.loads(made.text()) == {
        "version": 1,
        "image": {"width": 160, "height": 120, "count": 1},
        "segments": [
            {
                "number": 0, "image": 0, "label": "face", "confidence": 1.0,
                "bbox": [10, 10, 30, 26], "size": [20, 16], "crop_region": [6, 6, 34, 30],
                "angle": 0.0, "status": "planned", "reason": "", "working_size": [56, 48],
                "seed": 5, "text": "a cat <lora:soft:0.5>", "concat": False,
                "loras": [{
                    "name": "soft", "model_strength": 0.5, "clip_strength": 0.5, "lbw": None,
                    "lbw_a": None, "lbw_b": None,
                }],
                "text_before": None, "negative": None, "rules": [], "settings": {},
                "level": 0, "wave": 0,
                "colour": "#ff4026",
            }
        ],
    }  # fmt: skip


def test_what_is_told_is_what_a_run_does():
    """Sizes, seeds and texts reach the backend as told, wave by wave."""
    items = [*FOUR, seg(20, 14), seg(64, 84)]
    texts = "[DSC-SIZE] red [SEP:99] blue {a|b|c} [SEP] [SKIP] [SEP] [SEP:R] green"
    made = looked_at(items, text=texts)
    backend = FakeBackend()
    header = tuple(IMAGE.shape[1:3])
    detail_image(IMAGE, (header, items), make_detail(**SIZES, text=texts), backend)
    rows = [row for row in json.loads(made.text())["segments"] if row["status"] == "planned"]
    assert len(rows) == 5
    waves = [[row for row in rows if row["wave"] == wave] for wave in range(9)]
    runs = [
        (seed, tuple(run.latent.shape[:-3:-1]))
        for run in backend.runs
        for seed in run.seeds or (run.seed,)
    ]
    grid = 4  # of the backend's VAE
    assert sorted(runs) == sorted(
        (row["seed"], tuple(-(-side // grid) for side in row["working_size"])) for row in rows
    )
    order = [row["seed"] for wave in waves for row in wave]
    assert [seed for seed, _ in runs] == order
    assert {row["text"] for row in rows} - {None} == {text for _, text in backend.texts}


def test_a_segment_that_is_switched_off_is_gone_for_the_detailer():
    made = looked_at(FOUR, off="1, 3-2")
    assert made.segs == ((120, 160), [FOUR[0]])
    assert made.segs[1][0] is FOUR[0]
    off = ("off", "it is switched off", None, None)
    assert told(made, "number", "status", "reason", "seed", "working_size") == [
        (0, "planned", "", 5, [56, 48]), (1, *off), (2, *off), (3, *off),
    ]  # fmt: skip


def test_the_others_get_what_they_get_without_it():
    """Seeds and texts go by the segments that are left, as in the detailer."""
    made = looked_at(FOUR, off="0", text="one [SEP] two")
    assert told(made, "number", "seed", "text")[:3] == [(1, 5, "one"), (2, 6, "two"), (3, 7, "one")]
    alone = looked_at(FOUR[1:], text="one [SEP] two")
    assert told(alone, "seed", "text") == [(5, "one"), (6, "two"), (7, "one")]


def test_reasons_are_told_by_the_numbers_of_the_segments_that_came():
    flat = make_seg((50, 50, 60, 60), (50, 50, 50, 60))
    blank = seg(60, 60, mask=np.zeros((24, 28), np.float32))
    with collected_notes() as notes:
        made = looked_at([FOUR[0], flat, blank, FOUR[2]], off="0", force_inpaint=False)
    assert told(made, "number", "reason") == [
        (1, "its bounding box has no area"),
        (2, "its mask is empty"),
        (3, "its box of 40x40 is already at least guide_size 32 (force_inpaint is off)"),
        (0, "it is switched off"),
    ]
    assert notes == []


def test_an_index_that_no_segment_has_is_told():
    with collected_notes() as notes:
        made = looked_at(FOUR, off="2-7")
    assert [note.text for note in notes] == [
        "'off' names segment 7, but there are 4 segments, counted from 0. Indices that no segment"
        " has switch nothing off."
    ]
    assert len(made.segs[1]) == 2


def test_each_image_of_a_batch_has_rows_of_its_own():
    image = IMAGE.repeat(3, 1, 1, 1)
    items = [of_image(FOUR[0], BatchImage(2, 3)), FOUR[1], of_image(FOUR[2], BatchImage(0, 3))]
    made = looked_at(items, off="1", image=image)
    assert made.image.shape == (3, 120, 160, 3)
    assert told(made, "image", "number", "seed", "status") == [
        (0, 2, 5, "planned"), (2, 0, 5, "planned"), (0, 1, None, "off"), (1, 1, None, "off"),
        (2, 1, None, "off"),
    ]  # fmt: skip
    changed = (made.image != image).any(dim=-1)
    assert changed[0, 60:100, 100:140].any()
    assert not changed[1, 60:100, 100:140].any()
    assert [one.batch_image for one in made.segs[1]] == [BatchImage(2, 3), BatchImage(0, 3)]


def test_levels_and_waves_are_those_of_the_plan():
    """The second overlaps the first; the third has another size; one by one there are no waves."""
    items = [seg(10, 10), seg(20, 12), seg(80, 60, 24, 40), seg(60, 20)]
    assert told(looked_at(items), "number", "level", "wave") == [
        (0, 0, 0), (1, 1, 2), (2, 0, 1), (3, 0, 0),
    ]  # fmt: skip
    assert told(looked_at(items, batch=1), "wave") == [(0,), (1,), (2,), (3,)]


def test_a_crop_that_is_turned_is_told_with_its_angle_and_corners():
    made = looked_at(FOUR[:1], upright=Upright(ANGLE, 30))
    ((angle, region),) = told(made, "angle", "crop_region")
    assert angle == 30.0
    (shown,) = made.shown
    (xs, ys) = zip(*shown.leaning, strict=True)
    assert (sum(xs) / 4, sum(ys) / 4) == pytest.approx((20, 18), abs=1)
    assert xs[1] > xs[0] and ys[1] > ys[0]  # clockwise
    assert Box.of(region).contains(Box(10, 10, 30, 26))


def test_the_models_own_size_needs_the_model():
    with pytest.raises(ValueError, match="'model' is missing"):
        looked_at(FOUR, policy=NATIVE)
    made = looked_at(FOUR[:1], policy=NATIVE, area=64 * 64, max_size=256)
    assert told(made, "working_size") == [([72, 56],)]  # in steps of 8, without a VAE


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_any_image_is_drawn_and_stays_as_it_was(channels, dtype):
    image = torch.rand(1, 120, 160, channels).to(dtype)
    before = image.clone()
    made = looked_at(FOUR, image=image)
    assert made.image.shape == (1, 120, 160, 3) and made.image.dtype == dtype
    assert torch.equal(image, before)
    assert torch.isfinite(made.image.float()).all()


def test_no_segments_leave_the_picture():
    made = looked_at([])
    assert torch.equal(made.image, IMAGE)
    assert json.loads(made.text())["segments"] == []
    assert made.segs == ((120, 160), [])


def test_half_signs_in_a_label_are_written_as_escapes():
    made = looked_at([FOUR[0]._replace(label="\ud800 目")])
    assert made.text().encode("utf-8")
    assert told(made, "label") == [("\ud800 目",)]


def test_nothing_is_asked_of_model_and_vae_but_their_sizes():
    backend = FakeBackend()
    looked_at(FOUR, models=make_detail().models, backend=backend, text="a [SEP] b")
    assert (backend.runs, backend.texts, backend.encoded) == ([], [], [])


def test_what_a_segment_plan_sets_is_told():
    curve = Curve(((10.0, 0.8), (30.0, 0.4)))
    hand = Overrides(text="hand {a}", negative="blur", seed=70, denoise=curve, guide_size=64.0)
    rules = (
        Rule(read_selector("label hand"), hand),
        Rule(read_selector("label foot"), Overrides(steps=9)),
    )
    with collected_notes() as notes:
        made = looked_at(FOUR[:3], off="0", text="x", segment_plan=SegmentPlan(rules))
    columns = ("number", "rules", "seed", "text", "negative", "working_size", "settings")
    assert told(made, *columns)[:2] == [
        (1, [1], 70, "hand a", "blur", [96, 82], {"denoise": 0.68, "guide_size": 64.0}),
        (2, [], 6, "x", None, [48, 48], {}),
    ]  # fmt: skip
    assert [note.text for note in notes] == [
        "Rule 2 of the segment plan fits no segment (label foot). There are the labels 'face',"
        " 'hand', and 2 segments.",
        "Without a rule of the segment plan, and so with the node's own settings: segment 2."
        " A rule for else is for all that no rule before it is for.",
    ]


# Drawing

BLACK = torch.zeros(1, 40, 60, 3)
RED = (1.0, 0.0, 0.0)


def blank(height=40, width=60):
    return torch.zeros(height, width, 3)


def test_a_frame_lies_inside_of_its_box():
    image = blank()
    marks.frame(image, Box(10, 8, 30, 20), marks.Pen(RED, width=2, seam=0))
    red = image[..., 0] == 1
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[8:20, 10:30] = True
    expected[10:18, 12:28] = False
    assert torch.equal(red, expected)


def test_its_seam_shows_it_on_its_own_colour():
    image = blank() + torch.tensor(RED)
    marks.frame(image, Box(10, 8, 30, 20), marks.Pen(RED, width=2, seam=1))
    assert image[8, 20, 0] == 1
    assert image[7, 20, 0] == pytest.approx(0.4)
    assert image[10, 20, 0] == pytest.approx(0.4)
    assert image[6, 20, 0] == image[11, 20, 0] == 1


def test_dashes_are_as_long_as_their_gaps():
    image = blank()
    marks.frame(image, Box(10, 8, 34, 20), marks.Pen(RED, width=1, seam=0, dash=3))
    assert image[8, 10:34, 0].tolist() == [1, 1, 1, 0, 0, 0] * 4


@pytest.mark.parametrize("box", [Box(-5, -5, 20, 20), Box(50, 30, 90, 60), Box(70, 50, 80, 60)])
def test_what_leaves_the_image_is_cut_off(box):
    image = blank()
    pen = marks.Pen(RED, width=2, seam=1, dash=4)
    marks.frame(image, box, pen)
    marks.tint(image, box, torch.ones(box.height, box.width), pen, 0.3)
    marks.outline(image, [(box.x1, box.y1), (box.x2, box.y1), (box.x2, box.y2)], pen)
    assert bool(image.any()) == Box(0, 0, 60, 40).intersects(box)


@pytest.mark.parametrize("sides", [(1, 1), (2, 1), (3, 3), (1, 9)])
def test_a_frame_of_a_few_pixels_fills_them(sides):
    image = blank()
    marks.frame(image, Box(5, 5, 5 + sides[0], 5 + sides[1]), marks.Pen(RED, width=2, seam=0))
    assert int((image[..., 0] == 1).sum()) == sides[0] * sides[1]


def test_a_mask_is_tinted_and_has_an_outline_inside_of_it():
    image = blank()
    mask = torch.zeros(12, 12)
    mask[2:10, 2:10] = 1
    marks.tint(image, Box(20, 10, 32, 22), mask, marks.Pen(RED, width=1), 0.25)
    row = image[16, 20:32, 0].tolist()
    assert row == [0, 0, 1, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 1, 0, 0]


def test_neighbouring_numbers_have_colours_that_differ():
    colours = np.array([marks.distinct_colour(index) for index in range(40)])
    for step in range(1, 6):
        assert np.abs(colours[step:] - colours[:-step]).max(axis=1).min() > 0.15
    assert len({marks.as_hex(tuple(colour)) for colour in colours}) == 40


@pytest.mark.parametrize("colour", [(1, 1, 1), (1, 1, 0), (0, 0, 0), (0.15, 0.2, 1), RED])
def test_ink_contrasts_with_its_plate(colour):
    """At least 4.5 : 1, as WCAG 2 asks of text, of the relative luminances."""

    def light(value):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in value]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(colour), light(marks.ink_on(colour))), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_tags_stay_in_the_image_and_off_one_another():
    image, box = Size(200, 100), Box(150, 2, 196, 30)
    first = marks.place_for_tag(Size(60, 12), box, image, [])
    second = marks.place_for_tag(Size(60, 12), box, image, [first])
    for place in (first, second):
        assert Box(0, 0, 200, 100).contains(place)
        assert place.size == (60, 12)
    assert not first.intersects(second)


def test_a_tag_shows_its_text():
    tag = marks.made_tag([("7", 20)])
    image = blank(60, 80)
    marks.put_tag(image, tag, Box(10, 10, 10 + tag.size.width, 10 + tag.size.height), (1, 1, 0))
    plate = image[10 : 10 + tag.size.height, 10 : 10 + tag.size.width]
    inked = plate[..., 0] < 0.3
    assert 0.05 < float(inked.float().mean()) < 0.6
    assert not inked[0].any() and not inked[:, 0].any()


def test_letters_that_the_font_lacks_are_left_out():
    assert marks.can_draw("Gesicht über 0.5")
    assert not marks.can_draw("目")


@pytest.mark.parametrize(("size", "count"), [((64, 64), 1), ((512, 512), 4), ((4096, 2160), 200)])
def test_marks_are_readable_at_any_size(size, count):
    scale = Scale.of(Size(*size), count)
    assert scale.line >= 1
    assert scale.letters >= max(10, min(size) / 34 / max(1, count**0.5 / 4) - 1)


def test_outlines_follow_the_mask():
    (shown,) = looked_at(FOUR[:1]).shown
    (points,) = outlines(shown)
    xs, ys = points[::2], points[1::2]
    assert (min(xs), max(xs), min(ys), max(ys)) == (10, 29, 10, 25)
    assert len(points) <= 60
