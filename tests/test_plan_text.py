"""Segment plans as text: YAML, its errors with line and column, and texts with [SEP] and [LAB]."""

import pytest
from detailers.core.detail.plan_words import NoWords, is_segment_text, plan_of_text, text_of_plan
from detailers.core.detail.segment_plan import (
    LIMITS,
    Curve,
    Overrides,
    Rule,
    SegmentPlan,
    fault_of_plan,
)
from detailers.core.detail.selectors import (
    ALL,
    ELSE,
    MEASURES,
    ORDERS,
    And,
    Label,
    Measure,
    Name,
    Not,
    OfImage,
    Or,
    Ordinal,
    Scene,
    Span,
    View,
    read_selector,
)
from detailers.core.geometry import Box, Size
from detailers.core.graph.plan_text import PlanError, read_plan, read_setting, write_plan
from detailers.utils.notes import collected_notes
from detailers.wildcards.deal import Segment, deal
from detailers.wildcards.grammar import Lora
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Drawing many plans takes long where other work goes on beside it.
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
CHOICES = {"sampler_name": lambda: ["euler", "heun"], "scheduler": lambda: ["normal"]}


def read(text):
    return read_plan(text, CHOICES)


def only(text):
    """What the only rule of a text sets."""
    (rule,) = read(text).rules
    return rule.overrides


# Reading


def test_a_whole_plan():
    plan = read("""
# a comment
order: Left to right
rules:
  - select: largest
    label: face, old man
    text: an old man   # with a comment
    text_after: smiling
    negative: "blur: strong"
    loras: {freckles: 0.8, a b: [1, .5], plain: }
    steps: 30
    cfg: 7
    denoise: {64: 0.6, 256: 0.35}
    refiner: off
    variants: 3
  - text: |
      two
      lines
    seed: +5
    skip: it is too small
  - select: not else
    seed: 42
    denoise: .25
    sampler_name: heun
    scheduler:
""")
    assert plan.order == "left to right"
    first, second, third = plan.rules
    assert first.selector == read_selector("largest of label face, old man")
    assert first.overrides == Overrides(
        text="an old man", text_after="smiling", negative="blur: strong", steps=30, cfg=7.0,
        loras=(Lora("freckles", 0.8, 0.8), Lora("a b", 1.0, 0.5), Lora("plain", 1.0, 1.0)),
        denoise=Curve(((64.0, 0.6), (256.0, 0.35))), refiner=False, variants=3,
    )  # fmt: skip
    assert second == Rule(
        ALL,
        Overrides(text="two\nlines\n", seed_offset=5, skip=True, reason="it is too small"),
    )
    assert third.overrides == Overrides(seed=42, denoise=0.25, sampler_name="heun")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[]", "rules:", "rules: []", "~"])
def test_nothing_is_an_empty_plan(text):
    assert read(text) == SegmentPlan()


def test_one_rule_alone_and_json_will_do():
    assert read("label: face\nsteps: 3") == read('[{"select": "label face", "steps": 3}]')


def test_labels_as_a_list_are_taken_as_they_are():
    (rule,) = read("- label: [face, 'a, b', 'x*']").rules
    names = tuple(Name(text, quoted=True) for text in ("face", "a, b", "x*"))
    assert rule.selector == Label(names)


WAYS = {
    "seed: -3": {"seed_offset": -3},
    "seed_offset: 4": {"seed_offset": 4},
    "denoise: '32: 0.5, 64 px: 0.25'": {"denoise": Curve(((32.0, 0.5), (64.0, 0.25)))},
    "denoise: {64: 0.25, 32: 0.5}": {"denoise": Curve(((32.0, 0.5), (64.0, 0.25)))},
    "loras: freckles": {"loras": (Lora("freckles", 1.0, 1.0),)},
    "loras: [a, b]": {"loras": (Lora("a", 1.0, 1.0), Lora("b", 1.0, 1.0))},
    "loras: |\n    a: 0.5\n    b: 1, 0.25": {"loras": (Lora("a", 0.5, 0.5), Lora("b", 1.0, 0.25))},
    "loras: <lora:a:0.5:LBW=SD-MIDD>": {"loras": (Lora("a", 0.5, 0.5, "SD-MIDD"),)},
    "loras: {a: 0}": {"loras": (Lora("a", 0.0, 0.0),)},
    "skip: yes": {"skip": True},
    "skip: no": {"skip": False},
    "skip: 0": {"skip": False},
    "inpaint_model: 1": {"inpaint_model": True},
    "steps: '20'": {"steps": 20},
    "text: 5": {"text": "5"},
    'text: ""': {"text": ""},
    "text:": {},
    "guide_size: 512": {"guide_size": 512.0},
}


@pytest.mark.parametrize("line", WAYS)
def test_ways_of_writing_a_value(line):
    assert only(f"- {line}") == Overrides(**WAYS[line])


def test_a_number_a_little_outside_becomes_the_nearest():
    with collected_notes() as notes:
        assert only("- denoise: 1.2") == Overrides(denoise=1.0)
    assert ["'denoise' is 1.2" in note.text for note in notes] == [True]


# Errors


FAULTY = {
    "- select: lable face": (1, 11, "'lable' selects nothing. Is 'label' meant?"),
    "- steps: 3\n- select: 'index x'": (2, 18, "a number is wanted"),
    "- label: face,": (1, 15, "in label, a label is wanted"),
    "- label: []": (1, 10, "a label is wanted"),
    "- select: [all]": (1, 11, "a text or a number is wanted here"),
    "- steps: 3\n  stps: 4": (2, 3, "'stps' is no key here. Is 'steps' meant?"),
    "order: left to right\nrule: []": (2, 1, "Is 'rules' meant?"),
    "order: sideways\nrules: []": (1, 8, "the order is one of left to right"),
    "- steps: 3\n  steps: 4": (2, 3, "'steps' stands here and in line 1"),
    "- steps: 0": (1, 10, "a whole number from 1 to 10000"),
    "- steps: 3.5": (1, 10, "a whole number from 1 to 10000"),
    "- steps: .nan": (1, 10, "'steps'"),
    "- cfg: lots": (1, 8, "'cfg' should be a number"),
    "- seed: 18446744073709551616": (1, 9, "'seed'"),
    "- sampler_name: eular": (1, 17, "Choose one of: euler, heun"),
    "- refiner: maybe": (1, 12, "true or false"),
    "- denoise: {64: 2}": (1, 12, "'denoise'"),
    "- denoise: {-4: 0.5}": (1, 12, "a size"),
    "- denoise: '64: 0.5, 64: 0.25'": (1, 12, "two values for the size 64"),
    "- denoise: '64: 0.5, 32'": (1, 12, "no 'size: denoise'"),
    "- loras: {a: strong}": (1, 10, "loras, a"),
    "- loras: {a: [1, 2, 3]}": (1, 10, "3 strengths"),
    "- loras: <lora:a> and more": (1, 10, "besides LoRAs"),
    "- skip: ''": (1, 9, "'skip'"),
    "- text: a: b": (1, 10, "Put a text that has a colon in quotes"),
    "- text: [a": (2, 1, "this is no YAML"),
    "- text: 'a": (1, 11, "this is no YAML"),
    "- steps: 3\n\tcfg: 2": (2, 1, "this is no YAML"),
    "- a\n- b": (1, 3, "a rule is wanted"),
    "face: smile": (1, 1, "'face' is no key here"),
    "just words": (1, 1, "a list of rules is wanted, not 'just words'"),
    "rules: 5": (1, 8, "a list is wanted"),
    "- steps: 1\n---\n- steps: 2": (2, 1, "this is no YAML"),
    "- steps: *nobody": (1, 10, "this is no YAML"),
    "- &a\n  steps: *a": (1, 3, "a text or a number is wanted"),
    "[" * 500: (1, 21, "more than 20 brackets"),
    "{a: " * 200: (1, 4 * 20 + 1, "more than 20 brackets"),
    "- text: !!python/object/apply:os.system [x]": (1, 9, "a text or a number is wanted"),
    "- text: \x07": (1, 9, "no YAML"),
}


@pytest.mark.parametrize("text", FAULTY)
def test_an_error_says_where_and_what(text):
    line, column, told = FAULTY[text]
    with pytest.raises(PlanError) as caught:
        read(text)
    message = str(caught.value)
    assert told in message
    assert f"line {line}, column {column}: " in message


def test_the_line_is_shown():
    with pytest.raises(PlanError, match=r"The line is: stps: 4$"):
        read("- steps: 3\n  stps: 4")


def test_a_text_that_is_too_long_is_refused_at_once():
    with pytest.raises(PlanError, match="the most are 1000000"):
        read("#" * 1_000_001)


def test_aliases_do_not_unfold():
    text = "- &a {steps: 3}\n" + "- *a\n" * 9000
    assert len(read(text).rules) == 9001
    with pytest.raises(PlanError, match="the most are 10000"):
        read(text + "- *a\n" * 1000)


def test_each_value_of_a_rule_alone():
    assert read_setting("steps", "7", CHOICES) == {"steps": 7}
    assert read_setting("scheduler", "normal", CHOICES) == {"scheduler": "normal"}
    with pytest.raises(ValueError, match="does not have"):
        read_setting("scheduler", "karras", CHOICES)


# Writing


def test_a_plan_is_written_for_people():
    text = """\
order: left to right
rules:
- select: largest first 1 of label face, old man
  text: |-
    an old man,
      smiling
  negative: 'a "blur": strong'
  loras: {freckles: 0.8, a b: [1, 0.5]}
  denoise: {64: 0.6, 256: 0.35}
  refiner: false
- select: else
  skip: true
  reason: too small
"""
    assert write_plan(read(text)) == text


spans = st.builds(
    Span, st.integers(-9, 9), st.none() | st.integers(-9, 9), st.integers(1, 4)
).filter(lambda span: span.step == 1 or span.last != span.first)
ranks = st.builds(
    Span,
    st.integers(1, 9) | st.integers(-9, -1),
    st.none() | st.integers(1, 9) | st.integers(-9, -1),
)
bare = st.from_regex(r"[a-zA-Z*?._][\w*?.-]{0,6}", fullmatch=True).filter(
    lambda word: word.casefold() not in ("and", "or", "of")
)
names = st.builds(Name, bare) | st.builds(Name, st.text(max_size=8), st.just(True))
some_spans = st.lists(spans, min_size=1, max_size=3).map(tuple)
some_ranks = st.lists(ranks, min_size=1, max_size=3).map(tuple)
measures = st.builds(
    Measure,
    st.sampled_from(sorted(MEASURES)),
    st.sampled_from(["<", "<=", ">", ">=", "=", "!="]),
    st.integers(0, 10**6).map(lambda number: number / 64),
    st.booleans(),
)
terms = (
    st.sampled_from([ALL, ELSE])
    | st.builds(Label, st.lists(names, min_size=1, max_size=3).map(tuple))
    | st.builds(Ordinal, st.just("index"), some_spans)
    | st.builds(Ordinal, st.sampled_from(sorted(ORDERS)), some_ranks)
    | st.builds(OfImage, some_spans)
    | measures
)
selectors = st.recursive(
    terms,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(Ordinal, st.sampled_from(sorted(ORDERS)), some_ranks, inner)
    ),
    max_leaves=5,
)
texts = st.text(max_size=12) | st.sampled_from(
    [
        "yes",
        "null",
        "a: b",
        "# no",
        "a\nb",
        "a\n\n  b\n",
        "\n",
        " x",
        "'\"",
        "\u2028",
        "1",
        "\x7f\x85",
    ]
)
strengths = st.floats(-100, 100)
loras = st.builds(
    Lora,
    st.text("abc def,{}", min_size=1, max_size=8).filter(lambda name: name.strip() == name),
    strengths,
    strengths,
) | st.builds(
    Lora,
    st.just("blocks"),
    st.integers(-3, 3).map(float),
    st.integers(-3, 3).map(float),
    st.sampled_from(["SD-MIDD", "1,0,0,A"]),
    st.none() | st.just(0.25),
)
sizes = st.lists(st.integers(1, 5000), min_size=1, max_size=4, unique=True)
curves = sizes.map(lambda own: Curve(tuple((float(size), 0.5) for size in sorted(own))))


def limited(name):
    kind, low, high = LIMITS[name]
    if kind is bool:
        return st.booleans()
    return st.integers(low, high) if kind is int else st.floats(low, high)


def fields():
    own = {name: limited(name) for name in LIMITS} | {
        "denoise": limited("denoise") | curves,
        "sampler_name": st.sampled_from(["euler", "heun"]),
        "scheduler": st.just("normal"),
        "loras": st.lists(loras, max_size=3, unique_by=lambda lora: lora.name).map(tuple),
        **dict.fromkeys(("text", "text_before", "text_after", "negative", "reason"), texts),
    }
    return st.fixed_dictionaries({}, optional=own)


settings_of_rules = fields().map(lambda own: Overrides(**own))
plans = st.builds(
    SegmentPlan,
    st.lists(
        st.builds(Rule, selectors, fields().map(lambda own: Overrides(**own))), max_size=4
    ).map(tuple),
    st.sampled_from(["", *ORDERS]),
)


@settings(SLOW, max_examples=60)
@given(plans)
def test_what_is_written_is_read_as_the_same(plan):
    assert fault_of_plan(plan) == ""
    assert read(write_plan(plan)) == plan


@settings(SLOW, max_examples=60)
@given(st.text(max_size=60) | st.text("-:{}[]&*!|>'\"#%@` \nselctaiondx0<", max_size=60))
def test_any_text_is_a_plan_or_an_error_with_a_line(text):
    try:
        read(text)
    except PlanError as error:
        assert "line " in str(error)


# Texts with [SEP] and [LAB]


SEGMENTS = [
    Segment((120, 16, 152, 48), "face"), Segment((8, 8, 56, 56), "hand"),
    Segment((72, 24, 88, 40), "face"), Segment((0, 40, 8, 60), "cat"),
    Segment((90, 0, 99, 9), "Hand"),
]  # fmt: skip
CONVERTED = [
    "", "blue", "# a comment\nblue", "green[SEP]blue", "a[SEP][SEP]c", "[SKIP][SEP]b",
    "[CONCAT]a[SEP]b[SEP:42]c", "[ASC]a[SEP]b[SEP]c", "[DSC]a[SEP]b", "[ASC-SIZE]a[SEP]b",
    "[DSC-SIZE][CONCAT]a[SEP:7][SKIP]", "a[SEP][STOP]", "[ASC]a[SEP]b[SEP][STOP][SEP]c", "[STOP]",
    "[LAB][face]green[hand]blue", "[LAB][ALL]a[face]b", "[LAB][ALL]a,[face]b[cat][SKIP]",
    "[LAB][ALL][SKIP][face]a", "[CONCAT][LAB][ALL]a[hand]b", "[LAB][HAND]a", "[LAB]",
    "{a|b} __list__ <lora:x:0.5>[SEP]c, d\ne",
]  # fmt: skip


def views(segments):
    return tuple(View(Box(*segment.bbox), segment.label) for segment in segments)


def said(plan, segments=SEGMENTS, seed=100):
    """What a plan says of each segment, as `deal` does: (text, added, seed) or None for skipped."""
    scene = Scene(views(segments), Size(160, 64))
    chosen = [own.overrides for own in plan.choose(scene)]
    result = {}
    for place, index in enumerate(plan.working_order(scene)):
        own = chosen[index]
        text = own.text or own.text_after or None
        if own.text and own.text_after:
            text = own.text + (" " if own.text.endswith(",") else ", ") + own.text_after
        added = own.text is None and bool(text)
        result[index] = None if own.skip else (text, added, own.seed_of(seed + place))
    return [result[index] for index in range(len(segments))]


def dealt(text, segments=SEGMENTS, seed=100):
    result = [None] * len(segments)
    for own in deal(text, segments, seed):
        if not own.skip:
            result[own.index] = (own.text, own.concat and own.text is not None, own.seed)
    return result


@pytest.mark.parametrize("text", CONVERTED)
def test_a_segment_text_says_the_same_as_a_plan(text):
    with collected_notes():
        converted = plan_of_text(text)
        assert converted.lost == ()
        assert said(converted.plan) == dealt(text)
        assert read(write_plan(converted.plan)) == converted.plan


@pytest.mark.parametrize("text", CONVERTED)
def test_a_plan_of_a_segment_text_is_that_text_again(text):
    with collected_notes():
        again = text_of_plan(plan_of_text(text).plan)
        assert dealt(again) == dealt(text)


parts = st.sampled_from(["", "a", "b, c", "{x|y}", "[SKIP]", "long text"])


@settings(SLOW, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["[SEP]", "[SEP:5]"]), parts), max_size=4),
    parts,
    st.sampled_from(["", "[ASC]", "[DSC]", "[ASC-SIZE]", "[DSC-SIZE]"]),
    st.booleans(),
)
def test_any_text_of_parts_goes_there_and_back(more, first, mode, concat):
    text = ("[CONCAT]" if concat else "") + mode + first + "".join(a + b for a, b in more)
    plan = plan_of_text(text).plan
    assert said(plan) == dealt(text)
    assert dealt(text_of_plan(plan)) == dealt(text)


@pytest.mark.parametrize(
    ("text", "lost"),
    [("[RND]a[SEP]b", "[RND]"), ("a[SEP:R]b", "[SEP:R]"), ("[LAB][face][STOP]", "[STOP]"),
     ("[LAB][face]a[Face]b", "upper and lower case")],
)  # fmt: skip
def test_what_a_plan_cannot_say_is_told(text, lost):
    (sentence,) = plan_of_text(text).lost
    assert lost in sentence


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- {steps: 3}", "rule 1 sets 'steps'"),
        ("- {text: a}\n- {select: width < 9, text: b}", "more than places"),
        ("- {select: index -1, text: a}", "counts from the end"),
        ("- {select: index 0, text: a}", "do not come again in turn"),
        ("- {select: left to right 1, text: a}", "not counted in its order"),
        ("- {select: index 0 of label face, text: a}", "not counted in its order"),
        ("- {seed: 4}", "the seed of the first"),
        ("- {text_before: a}", "before the positive"),
        ("- {select: 0- step 2, text: a}".replace("0-", "index 0-") + "\n- {select: else, "
         "text_after: b}", "adds some texts"),
        ("- {label: face, seed: 4}", "seeds by label"),
        ("- {label: 'f*', text: a}", "by a pattern"),
        ("- {text: a}\n- {label: face, text: b}", "does not begin with"),
        ("- {text: a}\n- {label: face, text: ''}", "no text where all others"),
        ("- {text: 'a [SEP] b'}", "take for marks"),
        ("- {text: '[SKIP] b'}", "take for marks"),
        ("- {label: '\"a/b\"', text: b}", "take for marks"),
        ("order: top to bottom\nrules: [{text: a}]", "its order is"),
        ("order: left to right\nrules: [{label: face, text: a}]", "by labels and has an order"),
        ("- {select: index 5000, text: a}", "too many"),
    ],
)  # fmt: skip
def test_what_a_segment_text_has_no_words_for(text, reason):
    with pytest.raises(NoWords, match=reason):
        text_of_plan(read(text))


def test_a_segment_text_is_known_by_its_marks():
    yes = ["[LAB] [face] a", "  [asc]a", "# c\n[SKIP]", "a [SEP] b", "a, b\n[SEP:3] c", "[STOP]"]
    no = ["", "- text: a [SEP] b", "- {text: '[SEP]'}", "[{text: a}]", "text: a [SEP] b", "a", "[]"]
    assert [is_segment_text(text) for text in yes] == [True] * len(yes)
    assert [is_segment_text(text) for text in no] == [False] * len(no)
