"""wildcards/yaml_lists.py: lines of lists are read as the texts that people mean."""

import pytest
from detailers.wildcards.yaml_lists import MAX_RETRIES, read_yaml_lists
from hypothesis import given, settings
from hypothesis import strategies as st

yaml = pytest.importorskip("yaml")


def read(text):
    """The lists of a text by their keys; it must hold no fault."""
    content = read_yaml_lists(text)
    assert content.faults == []
    return {"/".join(keys): options for keys, options in content.lists}


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("{a|b} hair", "{a|b} hair"),
        ("{a|b}", "{a|b}"),
        ("{2$$, $$a|b}", "{2$$, $$a|b}"),
        ('"x", more', '"x", more'),
        ("'tis the season", "'tis the season"),
        ("'a' or 'b'", "'a' or 'b'"),
        ('"open', '"open'),
        ("[face] smile", "[face] smile"),
        ("[a, b]", "[a, b]"),
        ("(red:1.2), style: anime", "(red:1.2), style: anime"),
        ("ends with a colon:", "ends with a colon:"),
        ("*star*", "*star*"),
        ("&more", "&more"),
        ("!bang", "!bang"),
        ("@home", "@home"),
        ("%x", "%x"),
        ("`tick`", "`tick`"),
        ("- dash", "- dash"),
        ("? what", "? what"),
        (", comma", ", comma"),
        ("| bar", "| bar"),
        ("> arrow", "> arrow"),
        ("{a|b} # a comment", "{a|b}"),
        ("a#b", "a#b"),
        ("2::red", "2::red"),
        ("__colour__ eyes", "__colour__ eyes"),
        ("<lora:x:0.5> a", "<lora:x:0.5> a"),
        # what YAML reads as a text keeps its meaning
        ('"quoted: yes, {a}"', "quoted: yes, {a}"),
        ('"a \\"b\\""', 'a "b"'),
        ("'it''s'", "it's"),
        ("plain # a comment", "plain"),
        ("no", "no"),
        ("1.50", "1.50"),
        ("!!str text", "text"),
    ],
)
@pytest.mark.parametrize("indent", ["", "  "])
def test_an_option_is_the_text_of_its_line(line, option, indent):
    text = f"before: [x]\nlist:\n{indent}- first\n{indent}- {line}\n{indent}- last\nafter:\n- y\n"
    assert read(text) == {"before": ["x"], "list": ["first", option, "last"], "after": ["y"]}


@pytest.mark.parametrize(
    ("value", "options"),
    [
        ("{a|b}", ["{a|b}"]),
        ("{a|b} hair", ["{a|b} hair"]),
        ('"x", more', ['"x", more']),
        ("style: anime", ["style: anime"]),
        ("[face] and [hands]", ["[face] and [hands]"]),
        (
            "[a, {b|c} d, \"e, f\", 'g''h', (i, j:1.2)]",
            ["a", "{b|c} d", "e, f", "g'h", "(i, j:1.2)"],
        ),
        ("[a, [b, c], {d: e}]", ["a", "[b, c]", "{d: e}"]),
        ("[a, b] # comment", ["a", "b"]),
        ("[\n  a,\n  {b|c},  # comment\n]", ["a", "{b|c}"]),
        ("|\n  one: 1\n  {a|b}\n\n  # no\n  - two", ["one: 1", "{a|b}", "- two"]),
        (">-\n  one\n  line", ["one line"]),
        ('"over\n  lines"', ["over lines"]),
        ("plain\n  over lines", ["plain over lines"]),
        ("{a|b}\n  over lines", ["{a|b} over lines"]),
    ],
)
def test_a_key_may_hold_its_options_itself(value, options):
    assert read(f"list: {value}\nafter: [y]\n") == {"list": options, "after": ["y"]}


def test_mappings_with_values_are_keys():
    text = (
        "hair: {warm: [red], cold: {dark: [blue]}}\neyes:\n  - shape:\n      - round\n  - large\n"
    )
    assert read(text) == {
        "hair/warm": ["red"],
        "hair/cold/dark": ["blue"],
        "eyes": ["large"],
        "eyes/shape": ["round"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "k:\n\t- a\n\t- {b}\n",
        "k:\n  - a\n   - {b}\n",
        "k:\n   - a\n  - {b}\n",
        "k:\r\n  - a\r\n  - {b}\r\n",
        "k:\n\n  - a\n# note\n\n  - {b}",
        "---\nk:\n- a\n- {b}\n...\n",
        "? k\n: - a\n  - '{b}'\n",
    ],
)
def test_tabs_and_crooked_lines_cost_nothing(text):
    assert read(text) == {"k": ["a", "{b}"]}


def test_options_that_continue_on_the_next_line_are_one():
    text = "k:\n  - plain\n    more\n  - {a|b}\n    more # no\n  - end\n"
    assert read(text) == {"k": ["plain more", "{a|b} more", "end"]}


def test_anchors_that_are_referred_to_stay_anchors():
    text = "a: &list [x, y]\nb: *list\nc:\n  - &one x\n  - *one\n  - *other\n  - &alone\n"
    assert read(text) == {"a": ["x", "y"], "b": ["x", "y"], "c": ["x", "x", "*other", "&alone"]}


def test_equal_keys_are_both_read():
    content = read_yaml_lists("k: [a]\nk: [b]\n")
    assert content.lists == [(("k",), ["a"]), (("k",), ["b"])]


@pytest.mark.parametrize(
    ("text", "line", "kept"),
    [
        ("a: [1]\n? [\nb: [2]\n", 2, {"a": ["1"], "b": ["2"]}),
        ("a:\n  - 1\n  %\n  - 2\nb: [3]\n", 3, {"a": ["1", "2"], "b": ["3"]}),
        ("a: [1]\n}\nb: [2]\n", 2, {"a": ["1"], "b": ["2"]}),
        ("a: [1]\nwrong: [2\nb: [3]\n", 2, {"a": ["1"], "b": ["3"]}),
    ],
)
def test_only_what_cannot_be_read_is_left_out(text, line, kept):
    content = read_yaml_lists(text)
    lists = {"/".join(keys): options for keys, options in content.lists}
    assert {name: [o for o in options if o != "%"] for name, options in lists.items()} == kept
    if lists == kept and line != 3:
        assert content.faults[0].startswith(f"line {line} is no valid YAML")


def test_lines_that_are_left_out_are_bounded():
    content = read_yaml_lists("a: [1]\n" + "}\n" * 1000)
    assert content.lists[0] == (("a",), ["1"])
    assert len(content.faults) == MAX_RETRIES + 2
    assert content.faults[-1] == "the rest, as too many lines are no valid YAML"


ANY = st.characters(
    exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"
)
LINES = st.text(ANY, min_size=1, max_size=30)
SIGNS = [*"{}[]|,:#&*!>-?'\"%@` ab", ": ", " #", "- ", "__x__", "''", '"a"']
SYNTAX = st.lists(st.sampled_from(SIGNS), max_size=12).map("".join)


@settings(max_examples=500, deadline=None)
@given(st.one_of(LINES, SYNTAX))
def test_a_line_never_costs_its_neighbours(line):
    content = read_yaml_lists(f"before:\n  - x\n  - {line}\n  - y\nafter: [z]\n")
    lists = dict(content.lists)
    assert lists["after",] == ["z"]
    if not line.lstrip().startswith(("|", ">", "!!", "'", '"')):  # these may reach over lines
        assert lists["before",][0] == "x"
        assert lists["before",][-1] == "y"


@settings(max_examples=500, deadline=None)
@given(st.one_of(LINES, SYNTAX))
def test_an_option_is_what_yaml_reads_as_a_text_or_what_is_typed(line):
    try:
        (value,) = yaml.load(f"- {line}", Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError):
        value = None
    content = read_yaml_lists(f"- {line}")
    options = content.lists[0][1] if content.lists else []
    typed = line.strip()
    if typed[:1] in ("'", '"') and "#" in typed:  # a comment right after a quote
        return
    if isinstance(value, str) and typed[:1] not in ("!", "&", "*", "|", ">"):
        assert options == ([value.strip()] if value.strip() else [])
    elif options and typed[:1] not in ("!", "&", "*", "|", ">"):
        assert typed.startswith(options[0])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.lists(SYNTAX, max_size=8).map("\n".join))
def test_any_text_is_read_without_an_error(text):
    for keys, options in read_yaml_lists(text).lists:
        assert all(isinstance(key, str) for key in keys)
        assert all(isinstance(option, str) and option for option in options)
