"""Segment plans: which segment a rule is for, what rules set together, and what is told of them."""

from dataclasses import replace

import numpy as np
import pytest
from detailers.core.detail.plan import make_plan
from detailers.core.detail.segment_plan import (
    LIMITS,
    NOTHING,
    SETTINGS,
    Coverage,
    Curve,
    Overrides,
    Rule,
    SegmentPlan,
    Steering,
    fault_of_plan,
    joined,
    scene_of,
)
from detailers.core.detail.selectors import (
    ALL,
    ELSE,
    Scene,
    SelectorError,
    View,
    read_selector,
    with_label,
)
from detailers.core.geometry import Box, Size
from detailers.core.settings import Refiner
from detailers.tests.fake_backend import fake_models, make_detail, make_seg
from detailers.utils.notes import collected_notes
from detailers.wildcards.grammar import Lora

# In the order of the SEGS: right and middling, left and large, in between and small.
SCENE = Scene(
    (
        View(Box(120, 16, 152, 56), "face", 0.9),
        View(Box(8, 8, 56, 56), "hand", 0.5),
        View(Box(72, 24, 88, 40), "Face", 0.7),
        View(Box(0, 0, 10, 60), "old man", 0.7),
    ),
    Size(160, 64),
    image=1,
    images=3,
)


def chosen(text, taken=()):
    return sorted(read_selector(text).select(SCENE, frozenset(taken)))


SELECTED = {
    "all": [0, 1, 2, 3],
    "ALL": [0, 1, 2, 3],
    "else": [1, 3],  # 0 and 2 are taken
    "not else": [0, 2],
    "label face": [0],
    "label FACE": [0, 2],  # there is none in that spelling
    "label fac?": [0, 2],
    'label "fac?"': [],
    "label hand, old man": [1, 3],
    "label 'hand', \"old man\"": [1, 3],
    "label old   man or index 0": [0, 3],
    "label *": [0, 1, 2, 3],
    "label nobody": [],
    "index 0": [0],
    "index 9": [],
    "index 1-2": [1, 2],
    "index 1..2": [1, 2],
    "index 1 to 2": [1, 2],
    "index 2-": [2, 3],
    "index -1": [3],
    "index -2..-1": [2, 3],
    "index -9..0": [0],
    "index 0.. step 2": [0, 2],
    "index 1- step 2": [1, 3],
    "index -3.. step 2": [1, 3],
    "index 0, 3": [0, 3],
    "left to right 1": [3],
    "left to right": [3],
    "leftmost": [3],
    "left to right -1": [0],
    "left to right 2-3": [1, 2],
    "right to left 1": [0],
    "top to bottom 1": [3],
    "bottom to top": [2],
    "largest": [1],
    "largest first 1, 2": [0, 1],
    "smallest first 1": [2],
    "most confident": [0],
    "least confident first 1": [1],
    "most confident first 2": [2],  # of equals the first in the SEGS comes first
    "nearest to centre": [2],
    "farthest from center 1": [3],
    "left to right 1 of label FACE": [2],
    "index 0 of label hand, old man": [1],
    "largest of (label FACE and x > 50%)": [0],
    "width < 32": [2, 3],
    "width<=32": [0, 2, 3],
    "height = 40": [0],
    "height == 40": [0],
    "height != 40": [1, 2, 3],
    "size >= 32": [0, 1],
    "size < 20 px": [2, 3],
    "area > 15%": [1],  # 1536 of 10240 pixels
    "area > 1279": [0, 1],
    "width >= 20%": [0, 1],
    "x > 50%": [0],  # 80 is not more than that
    "y >= 50%": [0, 1, 2],
    "confidence >= 0.7": [0, 2, 3],
    "confidence < 70%": [1],
    "image 1": [0, 1, 2, 3],
    "image -2": [0, 1, 2, 3],
    "image 0, 2": [],
    "label face or label hand and width > 99": [0],
    "(label face or label hand) and width > 40": [1],
    "not label face and not index -1": [1, 2],
    "not (label FACE or label hand)": [3],
}


@pytest.mark.parametrize("text", SELECTED)
def test_a_selector_chooses(text):
    assert chosen(text, taken=[0, 2]) == SELECTED[text]


@pytest.mark.parametrize("text", SELECTED)
def test_a_selector_writes_itself(text):
    selector = read_selector(text)
    assert read_selector(str(selector)) == selector


@pytest.mark.parametrize(
    ("text", "offset", "told"),
    [
        ("", 0, "nothing is selected"),
        ("lable face", 0, "Is 'label' meant?"),
        ("face", 0, "for a label write label"),
        ("label", 5, "a label is wanted, not the end"),
        ("index", 5, "a number is wanted"),
        ("index x", 6, "not 'x'"),
        ("left to right 0", 14, "the first is 1"),
        ("index 0 step 0", 6, "a step is 1 or more"),
        ("width 5", 6, "one of < <= > >= = != is wanted"),
        ("width < big", 8, "not 'big'"),
        ("(label a", 8, "a closing bracket is missing"),
        ("label a)", 7, "not expected here"),
        ("width < 3 height > 4", 10, "Join conditions with and, or"),
        ("not " * 60 + "all", 199, "more than 50"),
        ("(" * 999 + "all", 50, "more than 50"),
        ("index " + "0, " * 4000 + "1", 0, "10000 are the most"),
        ("width < 3 and", 13, "the end"),
    ],
)  # fmt: skip
def test_what_is_no_selector_is_told_with_its_place(text, offset, told):
    with pytest.raises(SelectorError, match="(?s)" + told.replace("?", r"\?")) as caught:
        read_selector(text)
    assert caught.value.offset == offset


def test_a_label_narrows_what_is_counted():
    faces = read_selector("label FACE")
    for text, places in {"all": [0, 2], "left to right 1": [2], "size < 20": [2]}.items():
        selector = with_label(read_selector(text), faces)
        assert sorted(selector.select(SCENE, frozenset())) == places


# Rules together


def overrides(**own):
    return Overrides(**own)


def plan_of(*rules, order=""):
    return SegmentPlan(
        tuple(Rule(read_selector(select), Overrides(**own)) for select, own in rules), order
    )


def of_all(plan):
    return [own.overrides for own in plan.choose(SCENE)]


def test_later_rules_win_and_what_is_unset_stays():
    plan = plan_of(
        ("all", {"steps": 30, "cfg": 4.0, "skip": True, "reason": "none"}),
        ("label FACE", {"steps": 12, "skip": False}),
        ("index 2", {"cfg": 1.0}),
    )
    face, hand, other, _ = of_all(plan)
    assert (face.steps, face.cfg, face.skip, face.reason) == (12, 4.0, False, "")
    assert (hand.steps, hand.cfg, hand.skip, hand.reason) == (30, 4.0, True, "none")
    assert (other.steps, other.cfg) == (12, 1.0)
    assert [own.rules for own in plan.choose(SCENE)] == [(0, 1), (0,), (0, 1, 2), (0,)]


def test_else_is_what_no_narrower_rule_before_it_has():
    plan = plan_of(("all", {"steps": 9}), ("label face", {}), ("else", {"cfg": 1.0}), ("else", {}))
    assert [own.rules for own in plan.choose(SCENE)] == [(0, 1), (0, 2), (0, 2), (0, 2)]


def test_texts_seeds_and_loras_add_to_what_is_there():
    ink, oil = Lora("ink", 0.5, 0.5), Lora("oil", 1.0, 1.0)
    first = overrides(text_after="grain", text_before="photo", seed_offset=3, loras=(ink,))
    second = overrides(text_after="freckles", text_before="a", seed_offset=-1, loras=(oil,))
    both = first.then(second)
    assert (both.text_before, both.text_after) == ("a, photo", "grain, freckles")
    assert both.seed_of(100) == 102
    assert both.loras == (ink, oil)
    stronger = both.then(overrides(loras=(Lora("ink", 0.9, 0.9),), seed=7, text="new"))
    assert [(lora.name, lora.model_strength) for lora in stronger.loras] == [
        ("ink", 0.9), ("oil", 1.0),
    ]  # fmt: skip
    assert (stronger.text, stronger.text_before, stronger.text_after) == ("new", "", "")
    assert stronger.seed_of(100) == 7
    assert stronger.then(overrides(seed_offset=2)).seed_of(100) == 9


def test_seeds_wrap():
    assert overrides(seed_offset=-1).seed_of(0) == 2**64 - 1


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [("a", "b", "a, b"), ("a,", "b", "a, b"), ("a, ", "b", "a,  b"), ("", "b", "b"),
     ("a", " ", "a")],
)  # fmt: skip
def test_texts_are_joined_by_a_comma(first, second, both):
    assert joined(first, second) == both


def test_a_curve_is_straight_between_its_points():
    curve = Curve(((32.0, 0.6), (64.0, 0.4), (256.0, 0.1)))
    sizes = {1: 0.6, 32: 0.6, 40: 0.55, 64: 0.4, 160: 0.25, 256: 0.1, 999: 0.1}
    for size, denoise in sizes.items():
        assert curve.at(size) == pytest.approx(denoise)
    assert Curve(((64.0, 0.3),)).at(5) == 0.3


# What it does to the settings


WIDGETS = {
    "sizing": {"guide_size": 99.0, "max_size": 222.0},
    "sampling": {
        "steps": 9, "cfg": 3.5, "denoise": 0.7, "sampler_name": "heun", "scheduler": "simple",
    },
    "masking": {"feather": 9, "noise_mask_feather": 8, "inpaint_model": True},
}  # fmt: skip


@pytest.mark.parametrize("part", WIDGETS)
def test_each_setting_takes_the_place_of_the_nodes(part):
    detail = make_detail()
    for name, value in WIDGETS[part].items():
        changed = overrides(**{name: value}).applied(detail, 40)
        wanted = replace(detail, **{part: replace(getattr(detail, part), **{name: value})})
        assert changed == wanted, name


def test_what_changes_nothing_keeps_the_nodes_own_object():
    detail = make_detail()
    words = overrides(text="a", negative="b", seed=4, crop_padding=3, refiner=True, skip=False)
    assert NOTHING.applied(detail, 40) is detail
    assert words.applied(detail, 40) is detail


def test_a_scheduler_goes_before_the_nodes_schedule():
    own = make_detail()
    detail = replace(own, sampling=replace(own.sampling, scheduler_func=len))
    assert overrides(steps=3).applied(detail, 40).sampling.scheduler_func is len
    assert overrides(scheduler="simple").applied(detail, 40).sampling.scheduler_func is None


def test_refiner_and_variants():
    detail = replace(make_detail(), refiner=Refiner(fake_models(), 0.2))
    assert overrides(refiner=False).applied(detail, 40).refiner is None
    assert overrides(refiner=True).applied(detail, 40).refiner is detail.refiner
    assert overrides(variants=4).applied(detail, 40).variants == 4


IMAGE = Size(100, 100)
THREE = [
    make_seg((10, 10, 30, 30), label="A"), make_seg((40, 10, 60, 26), label="B"),
    make_seg((70, 10, 90, 30), label="C"),
]  # fmt: skip


def jobs_of(plan, text="", seed=100, segs=THREE, **options):
    detail = make_detail(text=text, **options)
    scene = scene_of(segs, IMAGE)
    steering = Steering(tuple(plan.choose(scene)), tuple(plan.working_order(scene)))
    return make_plan(segs, IMAGE, detail, seed, steering=steering)


def test_jobs_carry_their_own_settings():
    plan = plan_of(
        ("label A", {"denoise": Curve(((16.0, 0.8), (20.0, 0.4)))}),
        ("label B", {"denoise": Curve(((16.0, 0.8), (20.0, 0.4))), "guide_size": 48.0, "seed": 7}),
    )
    first, second, third = jobs_of(plan, max_size=256, guide_size=40).jobs
    assert (first.detail.sampling.denoise, second.detail.sampling.denoise) == (0.4, 0.8)
    assert (first.seed, second.seed, third.seed) == (100, 7, 102)
    assert (first.size, second.size) == (Size(40, 40), Size(60, 48))
    assert third.detail.sampling.denoise == 1.0
    assert second.reseeded(55).seed == 7
    assert third.reseeded(55).seed == 55
    assert second.chosen.rules == (1,)


def test_jobs_without_a_plan_have_the_nodes_own_object():
    detail = make_detail()
    assert all(job.detail is detail for job in make_plan(THREE, IMAGE, detail, 0).jobs)


def words_of(plan, text=""):
    return [(job.text, job.concat, job.added.before) for job in jobs_of(plan, text).jobs]


def test_texts_take_the_place_of_what_is_dealt_or_are_added_to_it():
    added = {"text_before": "x", "text_after": "y"}
    plan = plan_of(("label A", {"text": "new"}), ("label B, C", added))
    assert words_of(plan, "a[SEP]b[SEP]") == [
        ("new", False, ""), ("x, b, y", False, ""), ("y", True, "x"),
    ]  # fmt: skip
    assert words_of(plan, "[CONCAT]a") == [
        ("new", False, ""),
        ("a, y", True, "x"),
        ("a, y", True, "x"),
    ]
    assert words_of(plan_of(("all", {"text": ""})), "a") == [("", False, "")] * 3


def test_what_a_rule_skips_and_what_it_draws_all_the_same():
    plan = plan_of(("label A", {"skip": True}), ("label B", {"skip": True, "reason": "too dull"}))
    reasons = [entry.reason for entry in jobs_of(plan).skipped]
    assert reasons == ["a rule of the segment plan skips it", "too dull"]
    drawn = jobs_of(plan_of(("label A", {"skip": False})), "[SKIP]")
    assert [job.position for job in drawn.jobs] == [0]
    assert drawn.jobs[0].text is None


def test_the_order_of_work_decides_the_seeds():
    plan = plan_of(("label A", {"steps": 2}), order="right to left")
    jobs = jobs_of(plan, "a[SEP]b").jobs
    assert [(job.position, job.seed, job.text) for job in jobs] == [
        (2, 100, "a"), (1, 101, "b"), (0, 102, "a"),
    ]  # fmt: skip
    assert jobs[2].detail.sampling.steps == 2


def test_padding_widens_the_crop_as_far_as_the_image_goes():
    mask = np.zeros((20, 20), np.float32)
    mask[:10] = 1
    seg = make_seg((4, 40, 24, 60), bbox=(8, 44, 20, 56), mask=mask)
    (job,) = jobs_of(plan_of(("all", {"crop_padding": 6})), segs=[seg], max_size=256).jobs
    assert job.region == Box(0, 34, 30, 66)
    assert job.seg.crop_region == (0, 34, 30, 66)
    wanted = np.zeros((32, 30), np.float32)
    wanted[6:16, 4:24] = 1
    np.testing.assert_array_equal(job.seg.cropped_mask, wanted)
    assert job.bbox == Box(8, 44, 20, 56)


def test_a_segment_with_a_picture_of_its_own_gets_no_padding():
    seg = make_seg((4, 40, 24, 60), image=np.zeros((1, 20, 20, 3), np.float32))
    with collected_notes() as notes:
        (job,) = jobs_of(plan_of(("all", {"crop_padding": 6})), segs=[seg]).jobs
    assert job.region == Box(4, 40, 24, 60)
    assert [note.kind for note in notes] == ["padding"]


# What is told


def told(plan, *scenes):
    coverage = Coverage(plan)
    for scene in scenes:
        coverage.add(scene, plan.choose(scene), range(len(scene.views)))
    with collected_notes() as notes:
        coverage.tell()
    assert {note.kind for note in notes} <= {"plan"}
    return [note.text for note in notes]


def test_rules_for_nobody_and_segments_without_a_rule_are_told():
    plan = plan_of(("label hand", {}), ("label foot", {}), ("label face and largest 1", {}))
    idle, counted, without = told(plan, SCENE)
    assert idle == (
        "Rule 2 of the segment plan fits no segment (label foot). There are the labels 'Face', "
        "'face', 'hand', 'old man', and 4 segments."
    )
    assert "Rule 3" in counted
    assert "largest 1 of label face" in counted
    assert "segments 0, 2, 3 of image 1" in without


def test_a_rule_that_fits_in_one_image_is_not_told_for_the_others():
    other = Scene((View(Box(0, 0, 9, 9), "foot"),), Size(160, 64), image=2, images=3)
    assert told(plan_of(("label foot", {}), ("label *", {})), SCENE, other) == []


def test_nothing_is_told_where_there_are_no_segments_or_all_have_a_rule():
    assert told(plan_of(("label foot", {})), replace(SCENE, views=())) == []
    assert told(plan_of(("label face", {}), ("else", {})), SCENE) == []


# What comes over a link


def test_a_sound_plan_has_no_fault():
    own = {name: low for name, (_, low, _) in LIMITS.items()}
    own |= {"text": "a", "loras": (Lora("x"),), "denoise": Curve(((9.0, 0.5),))}
    assert fault_of_plan(plan_of(("all", own), ("else", {}), order="left to right")) == ""


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"steps": 0}, "steps of rule 1 is 0"),
        ({"steps": "9"}, "steps of rule 1 is '9'"),
        ({"steps": True}, "steps of rule 1"),
        ({"cfg": float("nan")}, "cfg of rule 1"),
        ({"denoise": Curve(())}, "denoise of rule 1"),
        ({"denoise": Curve(((9.0, 7.0),))}, "denoise of rule 1"),
        ({"refiner": 1}, "refiner of rule 1"),
        ({"text": 5}, "text of rule 1"),
        ({"text_after": None}, "text_after of rule 1"),
        ({"loras": ("x",)}, "loras of rule 1"),
    ],
)  # fmt: skip
def test_a_damaged_plan_has(own, told):
    assert told in fault_of_plan(plan_of(("all", own)))


def test_a_plan_of_wrong_parts_has():
    assert "rule 1" in fault_of_plan(SegmentPlan(("x",)))
    assert "its rules" in fault_of_plan(SegmentPlan([Rule()]))
    assert "its order" in fault_of_plan(SegmentPlan((), "x"))
    assert "selects by" in fault_of_plan(SegmentPlan((Rule("all"),)))


def test_every_setting_is_known():
    assert set(LIMITS) < set(SETTINGS)
    assert {ALL, ELSE} == {read_selector("all"), read_selector("else")}
