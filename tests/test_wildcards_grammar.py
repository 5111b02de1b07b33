"""wildcards/grammar.py: expansion, LoRAs, chunks."""

import os
import random
from collections import Counter
from itertools import permutations

import pytest
from detailers.utils.notes import collected_notes
from detailers.wildcards import grammar
from detailers.wildcards.budget import Budget
from detailers.wildcards.grammar import (
    Lora,
    Prompt,
    WildcardError,
    expand,
    parse_prompt,
    tell_untaken,
)
from detailers.wildcards.library import Library
from detailers.wildcards.names import pattern_name
from hypothesis import given, settings
from hypothesis import strategies as st

SEEDS = range(200)


class Lists(Library):
    """A library whose lists are given."""

    def __init__(self, **lists):
        super().__init__([])
        self._lists = lists

    @property
    def size(self):
        return len(self._lists)

    def look(self, _budget=None):
        return self

    def options(self, name):
        return list(self._lists.get(pattern_name(name), []))


LISTS = Lists(
    one=["red"],
    two=["a", "b"],
    many=list("abcdefgh"),
    nested=["{x|y} __one__"],
    heavy=["99::often", "1::seldom"],
    never=["0::never", "always"],
    loop=["__loop__"],
    ping=["__pong__"],
    pong=["__ping__"],
    double=["__double__ __double__"],
    grow=["x", "__grow__ __grow__"],
    braces=["{", "}", "a|b", "\\{"],
    pick=["{2$$, $$__many__}"],
    empty=[],
)


def outcomes(text, library=LISTS):
    """All that a text becomes."""
    return {expand(text, seed, library) for seed in SEEDS}


# The draws are part of shared workflows: the same seed has to give the same text tomorrow.
@pytest.mark.parametrize(
    ("text", "seed", "result"),
    [
        ("{a|b|c}", 0, "c"),
        ("{a|b|c}", 1, "a"),
        ("{a|b|c}", 2**64 - 1, "a"),
        ("{2$$, $$a|b|c}", 1, "c, b"),
        ("{1-3$$a|b|c}", 0, "c b a"),
        ("{3::a|b} __many__, __nested__", 5, "a g, y red"),
        ("3#__many__", 7, "c, b, f"),
        ("{3$$/$$__many__}", 7, "h/f/c"),
    ],
)
def test_a_seed_always_gives_the_same_text(text, seed, result):
    assert expand(text, seed, LISTS) == result


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text, (weighted:1.2) \\(escaped\\)",
        "[red:blue:0.5]",
        "{a",
        "a}",
        "}{",
        "a|b",
        "{a|b",
        "\\{a|b\\}",
        "\\{a|b}",
        "{a|b\\}",
        "a\\|b",
        "<lora:x:1> BREAK",
        "$$ :: 2$$ 3::",
        "__",
        "____",
        "______insert prompt here______",
        "__ spaced __",
        "snake__case and dunder__",
        "3#",
        "line\r\nnext\n",
    ],
)
def test_what_is_no_syntax_stays_as_typed(text):
    assert expand(text, 0, LISTS) == text


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("# gone\nkept # kept\n  # gone too\nlast", "kept # kept\nlast"),
        ("{a\n# |b {\n|a\n}", "a\n"),
        ("# all", ""),
        ("{}", ""),
        ("{|}", ""),
        ("{red}", "red"),
        ("{{masterpiece}}", "masterpiece"),
        ("{{{|}}|}", ""),
        ("{a {b} c", "{a b c"),
        ("a} {b} {c|d", "a} b {c|d"),
        ("{a\\|b}", "a\\|b"),
        ("{a\\}b}", "a\\}b"),
        ('{"key": {"a": [1, 2]}}', '"key": "a": [1, 2]'),
        ("__one__", "red"),
        ("__one____one__", "redred"),
        ("x__one__y", "xredy"),
        ("(__one__:1.2), [__one__]", "(red:1.2), [red]"),
        ("a__ b __one__", "a__ b red"),
        ("__none__one__", "__nonered"),
        ("a__one __one__", "a__one red"),
        ("__{one|one}__", "red"),
        ("__o{n}e__", "red"),
        ("2#__one__", "red, red"),
        ("0#__one__!", "!"),
        ("1 2#__one__", "1 red, red"),
        ("1234567890#__one__", "1234567890#red"),
        ("{2$$a}", "a"),
        ("{5$$, $$a}", "a"),
        ("{0$$a|b}", ""),
        ("{2-2$$, $$a|a}", "a, a"),
        ("{2$$|$$a|a}", "a|a"),
        ("{2$$$$a|a}", "aa"),
        ("{2$$ a | a }", "a a"),
        ("{0::a|b|0::c}", "b"),
        ("{0::a|0::a}", "a"),
        ("{1.5::a}", "a"),
        ("{.5::a}", "a"),
        ("{ 2 :: a}", " a"),
        ("{-1::a}", "-1::a"),
        ("{a::b}", "a::b"),
        ("{2$$, $$3#__one__}", "red, red"),
        ("{9$$, $$3#__one__ hat}", "red hat, red hat, red hat"),
        ("{2$$, $$2::2#__one__}", "red, red"),
        ("{2$$0#__one__}", ""),
        ("{3$$, $$__one__}", "red"),
        ("{2$$, $$__none__}", "__none__"),
        ("__never__", "always"),
        ("3#__none__", "3#__none__"),
    ],
)
def test_results_that_no_seed_changes(text, result):
    assert outcomes(text) == {result}


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("{a|b|c}", {"a", "b", "c"}),
        ("{ a|b }", {" a", "b "}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{a|}x", {"ax", "x"}),
        ("{2$$a|b|c}", {" ".join(p) for p in permutations("abc", 2)}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-1$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-2$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{1-$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-9$$, $$a|b}", {"a, b", "b, a"}),
        ("{0-1$$, $$a|b}", {"", "a", "b"}),
        ("{2$$, $$0::a|b|c}", {"b, c", "c, b"}),
        ("{{1|2}$$, $$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2$$, $$__two__}", {"a, b", "b, a"}),
        ("{2$$, $$__two__|__one__}", {"a, red", "b, red", "red, a", "red, b"}),
        ("2#__two__", {"a, a", "a, b", "b, a", "b, b"}),
        ("__nested__", {"x red", "y red"}),
        ("__{one|two}__", {"red", "a", "b"}),
        ("{0::__one__|__two__}", {"a", "b"}),
    ],
)
def test_choices_reach_every_result_and_no_other(text, results):
    assert outcomes(text) == results


def test_syntax_in_an_option_stays_within_it():
    assert outcomes("{x|__braces__}") == {"x", "{", "}", "a|b", "\\{"}
    assert outcomes("{__braces__|__braces__} {a}") == {"{ a", "} a", "a|b a", "\\{ a"}


def test_several_of_a_list_are_resolved_too():
    lists = Lists(x=["{a|b} __one__", "c"], one=["1"])
    assert outcomes("{2$$, $$__x__}", lists) == {"a 1, c", "b 1, c", "c, a 1", "c, b 1"}


@pytest.mark.parametrize("text", ["{9::a|b}", "__nine__"])
def test_weights_set_the_odds(text):
    lists = Lists(nine=["9::a", "b"])
    counts = Counter(expand(text, seed, lists) for seed in range(2000))
    assert 1740 < counts["a"] < 1860  # 1800 expected, standard deviation 13


def test_without_weights_all_options_are_equally_likely():
    counts = Counter(expand("{a|b|c|d}", seed) for seed in range(4000))
    assert all(880 < counts[option] < 1120 for option in "abcd")  # 1000 expected, deviation 27


def test_weights_hold_for_the_first_and_the_next_of_several():
    counts = Counter(expand("{2$$8::a|1::b|1::c}", seed) for seed in range(4000))
    # P(a first) = 0.8, then b or c are equally likely; P(b first, then a) = 0.1 * 8/9.
    assert 1500 < counts["a b"] < 1700
    assert 300 < counts["b a"] < 412


def told(text, **options):
    """What is told of a resolved text."""
    with collected_notes() as notes:
        tell_untaken(text, **options)
    return [note.text for note in notes]


def test_an_unknown_list_is_told_once():
    text = "__none__ __none__ __empty__"
    assert expand(text, 0, LISTS) == text
    none, empty = told(text)
    assert none.startswith("'__none__' stays in the text: no wildcard list has that name")
    assert empty.startswith("'__empty__'")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a {b", "'{'"),
        ("b} c}", "'}'"),
        ("<lora:x", "'<lora:x'"),
        ("<lora:>", "'<lora:>'"),
        ("< lora:x:1>", "'< lora:x:1>'"),
        ("<lyco:x:1>", "'<lyco:x:1>'"),
    ],
)
def test_text_that_looks_like_syntax_and_is_not_taken_is_told(text, named):
    (only,) = told(text)
    assert named in only


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a (b:1.2) [c]",
        "\\{a\\}",
        "<lora:x:1>",
        "1 < 2 > 0",
        "snake__ case",
        "[x:y:0.5]",
        "a__(b)__",
    ],
)
def test_other_text_is_not_told(text):
    assert told(text) == told(text, markers=True) == []


def test_markers_in_the_middle_of_a_segments_text_are_told():
    assert told("a [SKIP] b") == []
    (only,) = told("a [SKIP] b", markers=True)
    assert "'[SKIP]' stays in the text" in only


@pytest.mark.parametrize("sign", list("()[],;:\"#$<>'&%!~ "))
def test_names_may_hold_signs_that_stand_between_names(sign, tmp_path):
    if sign in '<>:"' and os.name == "nt":
        pytest.skip("no file has such a name here")
    (tmp_path / f"hair {sign}long{sign}.txt").write_text("bob")
    (name,) = Library([tmp_path]).names()
    assert expand(f"a __{name}__, 2#__{name}__", 0, Library([tmp_path])) == "a bob, bob, bob"
    assert expand("__none__(__one__)__", 0, LISTS) == "__none__(red)__"


def test_a_long_united_list_with_weights_is_drawn_by_its_weights(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("8::often\nseldom\n")
    (tmp_path / "b.txt").write_text("0::never\nrare\n")
    monkeypatch.setattr(grammar, "LONG", 2)
    drawn = Counter(expand("__*__", seed, Library([tmp_path])) for seed in range(400))
    assert set(drawn) == {"often", "seldom", "rare"}
    assert 290 <= drawn["often"] <= 350


def test_the_work_of_one_text_is_bounded():
    weighted = Lists(w=[f"2::{i}" for i in range(40)])
    assert expand("__w__ __w__", 0, weighted, Budget(options=100))
    with pytest.raises(WildcardError, match="look through more than 100 options"):
        expand("__w__ __w__ __w__", 0, weighted, Budget(options=100))


def test_lists_of_files_are_found(tmp_path):
    (tmp_path / "hair").mkdir()
    (tmp_path / "hair" / "my style.txt").write_text("bob")
    (tmp_path / "x.yaml").write_text("mood:\n  calm: [serene]\n")
    library = Library([tmp_path])
    for name in (
        "Hair/My Style",
        "hair/my-style",
        "my style",
        "*/my-style",
        "HAIR/*",
        "hair\\my style",
    ):
        assert expand(f"a __{name}__ b", 0, library) == "a bob b"
    assert expand("__mood/calm__, __calm__", 0, library) == "serene, serene"


@pytest.mark.parametrize(
    "text", ["__loop__", "__ping__", "__double__", "{2$$__loop__}", "2#__ping__"]
)
def test_lists_that_contain_themselves_end_with_an_error(text):
    with pytest.raises(WildcardError, match=r"lead to one another more than 100 times.*Take the"):
        expand(text, 0, LISTS)


def test_a_list_may_contain_itself_among_others():
    lists = Lists(grow=["3::x", "1::(__grow__)"])
    assert {"x", "(x)", "((x))"} <= outcomes("__grow__", lists)


@pytest.mark.parametrize(
    "text",
    [
        "999999999#__one__",
        "999999999#__blank__",
        "{2$$999999999#__one__}",
        "1000#__long__",
        "{1000$$" + 2000 * "-" + "$$1000#__blank__}",
        "{2$$, $$1000#__long__}" * 1000,
        "100#__a0__",
    ],
)
def test_growth_is_bounded(text):
    lists = Lists(
        one=["red"],
        blank=[""],
        long=["x" * 2000],
        **{f"a{i}": [f"__a{i + 1}__ __a{i + 1}__"] for i in range(60)},
        a60=[""],
    )
    with pytest.raises(WildcardError, match=r"more than 1,000,000 characters.*Lower the counts"):
        expand(text, 0, lists)


def test_expanding_leaves_the_global_generator_alone():
    random.seed(5)
    state = random.getstate()
    expand("{a|b} {2$$a|b|c} __many__ {9::a|b}", 3, LISTS)
    assert random.getstate() == state


def test_braces_without_a_partner_cost_no_more_than_their_length():
    assert expand("{" * 100_000, 0) == "{" * 100_000
    assert expand("{" * 100_000 + "x" + "}" * 100_000, 0) == "x"


# --- LoRAs and chunks


@pytest.mark.parametrize(
    ("tag", "lora"),
    [
        ("<lora:x>", Lora("x")),
        ("<lora:x:0.5>", Lora("x", 0.5, 0.5)),
        ("<lora:x:0.5:-.25>", Lora("x", 0.5, -0.25)),
        ("<LORA: my file v1.5.safetensors : 1 : 2 >", Lora("my file v1.5.safetensors", 1.0, 2.0)),
        ("<lora:sub\\dir/имя 目:0>", Lora("sub\\dir/имя 目", 0.0, 0.0)),
        ("<lora:x::0.5>", Lora("x", 1.0, 0.5)),
        ("<lora:x:0.5:>", Lora("x", 0.5, 0.5)),
        ("<lora:x:LBW=SD-MIDD;>", Lora("x", lbw="SD-MIDD")),
        ("<lora:x:0.7:LBW=SD-MIDD>", Lora("x", 0.7, 0.7, "SD-MIDD")),
        (
            "<lora:x:1.0:0.5:LBW=B11:0,0,A,0;A=0.;>",
            Lora("x", 1.0, 0.5, "B11:0,0,A,0", 0.0),
        ),
        (
            "<lora:x:1:1:lbw= 0,A,B ; b=0.2 ; a=0.5>",
            Lora("x", 1.0, 1.0, "0,A,B", 0.5, 0.2),
        ),
    ],
)
def test_lora_tags(tag, lora, caplog):
    assert parse_prompt(f"a {tag}b") == Prompt(("a b",), (lora,))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("tag", "lora"),
    [
        ("<lora:x:strong>", Lora("x")),
        ("<lora:x:0.5:much>", Lora("x", 0.5, 1.0)),
        ("<lora:x:nan:inf>", Lora("x")),
        ("<lora:x:1e999>", Lora("x")),
        ("<lora:x:0,8,1:0.5>", Lora("x", 1.0, 0.5)),
        ("<lora:x:1:LBW=P;A=?>", Lora("x", lbw="P", lbw_a=1.0)),
        ("<lora:x:1:2:3>", Lora("x", 1.0, 2.0)),
        ("<lora:x:1:LBW=P;C=2>", Lora("x", lbw="P")),
    ],
)
def test_malformed_strengths_count_as_one_with_a_warning(tag, lora, caplog):
    assert parse_prompt(tag) == Prompt(("",), (lora,))
    assert "LoRA 'x'" in caplog.text


def test_a_decimal_comma_is_read(caplog):
    tag = "<lora:x:0,8:0,25:LBW=1,0,R;A=0,5>"
    assert parse_prompt(tag).loras == (Lora("x", 0.8, 0.25, lbw="1,0,R", lbw_a=0.5),)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text", ["<lora:>", "<lora: :1>", "<lora>", "<b>", "1 < 2 > 0", "<lora:x", "<embedding:x>"]
)
def test_other_angle_brackets_stay_text(text):
    assert parse_prompt(text) == Prompt((text,), ())


def test_a_lora_is_loaded_once_with_its_first_strength():
    text = "<lora:x:0.5> a <lora:y> <lora:x:0.9>"
    assert parse_prompt(text).loras == (Lora("x", 0.5, 0.5), Lora("y"))


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("", ("",)),
        (" BREAK ", ("",)),
        ("a BREAK b", ("a", "b")),
        ("a,BREAK\nb\nBREAK", ("a,", "b")),
        ("BREAKFAST daBREAK break BREAK_", ("BREAKFAST daBREAK break BREAK_",)),
        ("<lora:a BREAK b> c", ("c",)),
    ],
)
def test_break_splits_into_chunks(text, chunks):
    assert parse_prompt(text).chunks == chunks


# --- properties

TOKENS = [
    *["{", "}", "|", "$$", "1", "2$$", "1-3$$", "-$$", "2::", "0::", ",", "\\", "\\{", "#", "\n"],
    *["__", "_", "*", "/", "__one__", "__two__", "__nested__", "__pick__", "__braces__", "a", " "],
    *["3#__two__", "__grow__", "__loop__", "__none__"],
    *["<lora:", ">", ":", "LBW=", "A=", ";", "BREAK"],
]
TEXTS = st.one_of(st.lists(st.sampled_from(TOKENS)).map("".join), st.text(max_size=80))
ANY_SEED = st.integers(0, 2**64 - 1)


@settings(deadline=None)
@given(TEXTS, ANY_SEED)
def test_any_text_expands_to_the_same_or_ends_with_the_documented_error(text, seed):
    state = random.getstate()
    results = []
    for _ in range(2):
        try:
            results.append(expand(text, seed, LISTS))
        except WildcardError as error:
            results.append(str(error))
    assert results[0] == results[1]
    assert random.getstate() == state
    parse_prompt(results[0])


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="{}|_#"), max_size=80), ANY_SEED)
def test_text_without_syntax_stays(text, seed):
    assert expand(text, seed, LISTS) == text


@settings(deadline=None)
@given(TEXTS)
def test_any_text_has_chunks_and_distinct_loras(text):
    prompt = parse_prompt(text)
    assert prompt.chunks == ("",) or all(chunk == chunk.strip() != "" for chunk in prompt.chunks)
    names = [lora.name for lora in prompt.loras]
    assert len(set(names)) == len(names)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 15), st.integers(0, 15), st.booleans(), ANY_SEED)
def test_several_picks_are_different_and_as_many_as_asked(available, low, high, weighed, seed):
    options = [f"{index + 1}::o{index}" if weighed else f"o{index}" for index in range(available)]
    text = f"{{{low}-{high}$$, $$" + "|".join(options) + "}"
    picked = [option for option in expand(text, seed).split(", ") if option]
    assert len(set(picked)) == len(picked)
    assert set(picked) <= {f"o{index}" for index in range(available)}
    low, high = sorted((min(low, available), min(high, available)))
    assert low <= len(picked) <= high


@settings(deadline=None)
@given(st.integers(1, 8), ANY_SEED)
def test_several_lines_of_one_list_are_different(number, seed):
    picked = expand(f"{{{number}$$ $$__many__}}", seed, LISTS).split(" ")
    assert len(picked) == len(set(picked)) == number


def test_the_limits_are_those_of_the_error_messages():
    assert (grammar.MAX_DEPTH, grammar.MAX_CHARACTERS) == (100, 1_000_000)
