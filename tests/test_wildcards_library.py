"""wildcards/library.py: names, look-up, what is read when, broken files."""

import logging
import os
import sys

import pytest
from detailers.utils.notes import collected_notes
from detailers.wildcards import library
from detailers.wildcards.library import Library

yaml = pytest.importorskip("yaml")


@pytest.fixture
def folder(tmp_path):
    """Text lists in two sub-folders and a YAML file."""
    write(tmp_path / "colour.txt", "red\n\n  # not an option\n  blue  \r\n3::green\n")
    write(tmp_path / "Hair" / "My Style.TXT", "bob\nbraid\n")
    write(tmp_path / "person" / "face.txt", "round\n")
    write(tmp_path / "animal" / "face.txt", "furry\n")
    write(
        tmp_path / "any name.yaml",
        "Mood:\n  Very Happy: [smile, no, 1.50]\n  calm: |\n    serene\n    # no\n\n    quiet\n"
        "top: single\n",
    )
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def touch_later(path):
    """Give a changed file or folder another time than before, however coarse the clock is."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def reads(monkeypatch):
    """The names of the files read from now on."""
    names = []
    read = library._read_text
    monkeypatch.setattr(
        library, "_read_text", lambda path, *more: names.append(path.name) or read(path, *more)
    )
    return names


def test_names_are_sorted_lower_case_and_joined_by_slashes(folder):
    assert Library([folder]).names() == [
        "animal/face",
        "colour",
        "hair/my-style",
        "mood/calm",
        "mood/very-happy",
        "person/face",
        "top",
    ]


def test_text_options_leave_out_blanks_and_comments_and_keep_weights(folder):
    assert Library([str(folder)]).options("colour") == ["red", "blue", "3::green"]


@pytest.mark.parametrize(
    "name", ["hair/my-style", "HAIR/My Style", "hair\\my style", " hair/MY style "]
)
def test_names_ignore_case_and_spaces_count_as_dashes(folder, name):
    assert Library([folder]).options(name) == ["bob", "braid"]


def test_yaml_scalars_are_taken_as_written(folder):
    wildcards = Library([folder])
    assert list(wildcards.options("mood/very-happy")) == ["smile", "no", "1.50"]
    assert list(wildcards.options("mood/calm")) == ["serene", "quiet"]
    assert list(wildcards.options("top")) == ["single"]


def test_a_yaml_file_without_keys_is_named_by_the_file(tmp_path):
    write(tmp_path / "sub" / "plain.yml", "- a: b\n- one\n- [two]\n- three\n")
    assert list(Library([tmp_path]).options("sub/plain")) == ["a: b", "one", "[two]", "three"]


def test_a_star_unites_the_lists_that_match_in_the_order_of_their_names(folder):
    wildcards = Library([folder])
    assert list(wildcards.options("*/face")) == ["furry", "round"]
    assert list(wildcards.options("per*")) == ["round"]
    assert list(wildcards.options("mood/*")) == ["serene", "quiet", "smile", "no", "1.50"]
    assert list(wildcards.options("*/colour")) == ["red", "blue", "3::green"]
    assert list(wildcards.options("x*")) == []


def test_other_pattern_signs_are_literal(tmp_path):
    write(tmp_path / "a[b]1.txt", "brackets")
    write(tmp_path / "ab1.txt", "none")
    assert list(Library([tmp_path]).options("a[b]*")) == ["brackets"]
    assert list(Library([tmp_path]).options("a?1*")) == []


def test_many_stars_do_not_backtrack(tmp_path):
    write(tmp_path / ("a" * 100 + ".txt"), "x")
    assert Library([tmp_path]).options("*a" * 60 + "*b") == []


def test_a_bare_name_falls_back_to_any_folder(folder):
    wildcards = Library([folder])
    assert list(wildcards.options("face")) == ["furry", "round"]
    assert list(wildcards.options("Very Happy")) == ["smile", "no", "1.50"]
    assert list(wildcards.options("ace")) == []


def test_an_exact_name_goes_before_the_fallback(folder):
    write(folder / "face.txt", "own")
    assert list(Library([folder]).options("face")) == ["own"]


@pytest.mark.parametrize(
    "name", ["", "nothing", "../secret", "person/../../secret", "/", "\0", "\ud800"]
)
def test_unknown_names_and_names_outside_have_no_options(folder, name):
    write(folder.parent / "secret.txt", "hidden")
    assert Library([folder]).options(name) == []


def test_the_earlier_folder_and_the_text_file_win(tmp_path):
    write(tmp_path / "own" / "a.yaml", "colour: [yaml]\nsize: [own]")
    write(tmp_path / "own" / "shape.txt", "own")
    write(tmp_path / "shipped" / "colour.txt", "text")
    write(tmp_path / "shipped" / "shape.txt", "shipped")
    write(tmp_path / "shipped" / "b.yaml", "size: [shipped]")
    wildcards = Library([tmp_path / "own", tmp_path / "shipped"])
    assert list(wildcards.options("shape")) == ["own"]
    assert list(wildcards.options("colour")) == ["text"]
    assert list(wildcards.options("size")) == ["own"]


def test_missing_folders_count_as_empty_and_are_found_later(tmp_path, caplog):
    wildcards = Library([tmp_path / "later"])
    assert wildcards.names() == []
    assert list(wildcards.options("x")) == []
    write(tmp_path / "later" / "x.txt", "here")
    assert list(wildcards.options("x")) == ["here"]
    assert caplog.text == ""


def test_hidden_and_other_files_are_no_lists(tmp_path):
    for name in (".x.txt", ".git/y.txt", "z.json", "._w.yaml"):
        write(tmp_path / name, "a")
    assert Library([tmp_path]).names() == []


def test_links_out_of_the_folder_are_followed_and_circles_end(tmp_path):
    write(tmp_path / "elsewhere" / "deep.txt", "linked")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "lists", target_is_directory=True)
    assert Library([tmp_path / "lists"]).names() == ["out/deep"]


def test_names_in_any_script(tmp_path):
    write(tmp_path / "цвет" / "Красный.txt", "алый")
    write(tmp_path / "cafe\u0301.txt", "decomposed")
    assert list(Library([tmp_path]).options("ЦВЕТ/красный")) == ["алый"]
    assert list(Library([tmp_path]).options("caf\u00e9")) == ["decomposed"]


def test_nothing_is_read_before_its_use(folder, monkeypatch):
    names = reads(monkeypatch)
    monkeypatch.setattr(library, "_scan", lambda folders: pytest.fail("scanned too early"))
    wildcards = Library([folder])
    monkeypatch.undo()
    names = reads(monkeypatch)
    wildcards.options("colour")
    assert names == ["colour.txt"]
    wildcards.options("colour")
    assert names == ["colour.txt"]
    wildcards.options("mood/calm")
    assert names == ["colour.txt", "any name.yaml"]
    wildcards.names()
    assert names == ["colour.txt", "any name.yaml"]


def test_an_edited_list_is_read_again(folder):
    wildcards = Library([folder])
    assert wildcards.options("colour")[0] == "red"
    write(folder / "colour.txt", "black\nwhite\n")
    assert list(wildcards.options("colour")) == ["black", "white"]


def test_new_and_removed_files_and_keys_are_noticed(folder):
    wildcards = Library([folder])
    assert list(wildcards.options("later")) == []
    write(folder / "later.txt", "new")
    touch_later(folder)
    assert list(wildcards.options("later")) == ["new"]
    write(folder / "person" / "long.txt", "in a sub-folder")
    touch_later(folder / "person")
    assert list(wildcards.options("person/long")) == ["in a sub-folder"]
    (folder / "later.txt").unlink()
    touch_later(folder)
    assert list(wildcards.options("later")) == []
    assert "later" not in wildcards.names()
    write(folder / "any name.yaml", "fresh: [key]")
    assert list(wildcards.options("fresh")) == ["key"]
    assert list(wildcards.options("mood/calm")) == []


def test_refresh_reads_everything_anew(folder, monkeypatch):
    wildcards = Library([folder])
    wildcards.options("colour")
    names = reads(monkeypatch)
    wildcards.refresh()
    assert list(wildcards.options("colour")) == ["red", "blue", "3::green"]
    assert names == ["colour.txt"]


def test_the_caller_may_change_what_it_gets(folder):
    wildcards = Library([folder])
    wildcards.options("colour").clear()
    assert list(wildcards.options("colour")) == ["red", "blue", "3::green"]


def test_the_cache_drops_the_list_unused_longest(tmp_path, monkeypatch):
    for name in "abc":
        write(tmp_path / f"{name}.txt", name * 1000)
    one = sys.getsizeof("a" * 1000)
    wildcards = Library([tmp_path], cache_bytes=2 * one + 500)
    names = reads(monkeypatch)
    for name in "abacab":  # at the third miss `b` is the one to go
        assert wildcards.options(name) == [name * 1000]
    assert names == ["a.txt", "b.txt", "c.txt", "b.txt"]


def test_a_list_beyond_the_budget_is_not_kept_and_drops_no_other(tmp_path, monkeypatch):
    write(tmp_path / "small.txt", "a")
    write(tmp_path / "large.txt", "b" * 5000)
    wildcards = Library([tmp_path], cache_bytes=2000)
    names = reads(monkeypatch)
    for name in ("small", "large", "small", "large"):
        assert wildcards.options(name)
    assert names == ["small.txt", "large.txt", "large.txt"]


def test_a_yaml_file_beyond_the_budget_is_read_once_for_a_pattern(tmp_path, monkeypatch):
    write(tmp_path / "many.yaml", "".join(f"key/{i}: [v{i}]\n" for i in range(50)))
    wildcards = Library([tmp_path], cache_bytes=0)
    wildcards.names()
    names = reads(monkeypatch)
    assert len(list(wildcards.options("key/*"))) == 50
    assert names == ["many.yaml"]


def test_files_are_read_up_to_the_limit(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(library, "MAX_FILE_BYTES", 10)
    write(tmp_path / "long.txt", "one\ntwo\nthree\n")
    assert list(Library([tmp_path]).options("long")) == ["one", "two"]
    assert "long.txt' is read up to line 2" in caplog.text


def test_lists_are_united_without_being_held(tmp_path, monkeypatch):
    for name in "abc":
        write(tmp_path / f"{name}.txt", "".join(f"{name}{i}\n" for i in range(1000)))
    united = Library([tmp_path], cache_bytes=0).options("*")
    names = reads(monkeypatch)
    assert (len(united), united[0], united[1999], united[2000]) == (3000, "a0", "b999", "c0")
    assert names == ["a.txt", "b.txt", "c.txt"]
    with pytest.raises(IndexError):
        united[3000]


def test_a_share_of_united_lists_goes_by_weights(tmp_path):
    write(tmp_path / "a.txt", "3::x\ny\n")
    write(tmp_path / "b.txt", "4::z\n0::never\n2::last\n")
    united = Library([tmp_path]).options("*")
    assert united.is_weighted
    shares = {0.0: "x", 0.29: "x", 0.31: "y", 0.39: "y", 0.41: "z", 0.79: "z", 0.81: "last"}
    assert {share: united.at_share(share) for share in shares} == shares
    assert united.at_share(1 - 2**-53) == "last"


def test_a_file_that_shrinks_while_its_lists_are_united_gives_what_it_has(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.txt", "1\n2\n3\n")
    united = Library([tmp_path]).options("*")
    write(tmp_path / "b.txt", "only\n")
    assert (united[2], united[5], list(united)) == ("3", "only", ["1", "2", "3", *["only"] * 3])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_text(tmp_path, encoding, caplog):
    write(tmp_path / "x.txt", "é\nö\n".encode(encoding))
    assert list(Library([tmp_path]).options("x")) == ["é", "ö"]
    assert caplog.text == ""


def test_other_encodings_are_read_as_latin_1_with_file_and_line(tmp_path, caplog):
    write(tmp_path / "old.txt", b"plain\nsecond\nse\xf1\x85or\n")
    assert list(Library([tmp_path]).options("old")) == ["plain", "second", "señ\x85or"]
    assert "old.txt' is no valid UTF-8 in line 3" in caplog.text


def test_what_no_yaml_is_costs_only_itself_and_is_told_with_file_and_line(folder, caplog):
    write(folder / "tabs.yaml", "good: [a]\nbad:\n\t- tab\n\t- {x|y} z\n")
    write(folder / "control.yaml", "clean: [a]\nodd: b\x01c\n")
    write(folder / "broken.yaml", "first:\n  - 1\n  - 2\n? [\nlater: [3]\n")
    wildcards = Library([folder])
    assert {"colour", "good", "bad", "first", "later"} <= set(wildcards.names())
    assert list(wildcards.options("bad")) == ["tab", "{x|y} z"]
    assert list(wildcards.options("odd")) == ["bc"]
    assert list(wildcards.options("first")) == ["1", "2"]
    assert list(wildcards.options("later")) == ["3"]
    assert "control.yaml' is left out: control characters, the first of them in line 2" in (
        caplog.text
    )
    assert "broken.yaml' is left out: line 4 is no valid YAML" in caplog.text
    assert "tabs.yaml" not in caplog.text


def test_what_is_left_out_is_told_with_every_use_of_the_file_and_once_for_the_names(
    tmp_path, caplog
):
    write(tmp_path / "x.yaml", "list: [a]\n? [\n")
    wildcards = Library([tmp_path])
    for _ in range(2):
        with collected_notes() as notes:
            look = wildcards.look()
            assert [list(look.options("list")) for _ in range(2)] == [["a"], ["a"]]
        assert [note.kind for note in notes] == ["wildcards"]
        assert "x.yaml' is left out: line 2 is no valid YAML" in notes[0].text
    with collected_notes() as notes:  # the missing list may have been in what was left out
        assert list(wildcards.options("other")) == []
    assert len(notes) == 1
    caplog.clear()
    wildcards.names()
    wildcards.names()
    assert caplog.text.count("x.yaml") == 1


def test_a_list_of_the_users_goes_before_every_sample(tmp_path):
    write(tmp_path / "samples" / "colour.txt", "sample\n")
    write(tmp_path / "samples" / "eyes.txt", "sample\n")
    write(tmp_path / "samples" / "shape.txt", "sample\n")
    write(tmp_path / "own" / "clothes" / "colour.txt", "own\n")
    write(tmp_path / "own" / "eyes.txt", "# nothing yet\n")
    wildcards = Library([tmp_path / "own"], samples=Library([tmp_path / "samples"]))
    assert wildcards.names() == ["clothes/colour", "colour", "eyes", "shape"]
    assert list(wildcards.options("colour")) == ["own"]
    assert list(wildcards.options("eyes")) == []
    assert list(wildcards.options("shape")) == ["sample"]
    assert list(wildcards.options("*")) == ["own"]


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "~:\n", "a:\n", "[]", "{}", "--- \n...\n"]
)
def test_yaml_without_options_is_no_error(tmp_path, text):
    write(tmp_path / "x.yaml", text)
    wildcards = Library([tmp_path])
    assert list(wildcards.options("x")) == list(wildcards.options("*")) == []


def test_yaml_aliases_neither_loop_nor_unfold(tmp_path, caplog):
    bomb = "a0: &a0 {x: [end]}\n" + "".join(
        f"a{i}: &a{i} {{p: *a{i - 1}, q: *a{i - 1}}}\n" for i in range(1, 40)
    )
    write(tmp_path / "bomb.yaml", bomb)
    write(tmp_path / "loop.yaml", "loop: &l\n  again: *l\n")
    write(tmp_path / "twice.yaml", "group: &g\n  list: &v [a, b]\nother: *g\nsame: *v\n")
    wildcards = Library([tmp_path])
    assert wildcards.names() == ["a0/x", "group/list", "same"]
    assert list(wildcards.options("same")) == ["a", "b"]
    assert "loop.yaml' is left out: 1 repeats of mappings by alias" in caplog.text
    assert "twice.yaml' is left out: 1 repeats of mappings by alias" in caplog.text
    assert caplog.text.count("bomb.yaml") == 1


def test_a_list_under_many_aliases_is_held_once(tmp_path):
    aliases = "".join(f"alias{i}: *many\n" for i in range(2000))
    write(tmp_path / "x.yaml", "list: &many\n" + "  - text\n" * 5000 + aliases)
    wildcards = Library([tmp_path])
    united = wildcards.options("*")
    assert len(united) == 2001 * 5000
    ((source, (stamp, _)),) = wildcards._known.items()
    lists = wildcards._cache.get(source, stamp)
    assert len({id(options) for options in lists.values()}) == 1


def test_yaml_nested_without_end_is_refused(tmp_path, caplog):
    write(tmp_path / "deep.yaml", "[" * 200)
    assert Library([tmp_path]).names() == []
    assert "deep.yaml' is left out: the rest from line 1 on, nested too deeply" in caplog.text


def test_dashes_without_end_are_an_option(tmp_path):
    write(tmp_path / "dashes.yaml", "- " * 100_000 + "x")
    assert list(Library([tmp_path]).options("dashes")) == ["- " * 99_999 + "x"]


def test_yaml_tags_create_nothing_but_text(tmp_path):
    write(tmp_path / "x.yaml", f"evil: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert list(Library([tmp_path]).options("evil")) == [f"{tmp_path}/made"]
    assert not (tmp_path / "made").exists()


def test_without_pyyaml_text_lists_still_work(folder, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "yaml", None)
    wildcards = Library([folder])
    assert list(wildcards.options("face")) == ["furry", "round"]
    assert "pip install pyyaml" in caplog.text


def test_an_unreadable_file_is_left_out_with_its_name(folder, monkeypatch, caplog):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    wildcards = Library([folder])
    assert wildcards.options("face")
    monkeypatch.setattr(library, "open_file", refuse)
    with caplog.at_level(logging.WARNING):
        assert list(wildcards.options("colour")) == []
    assert "colour.txt' cannot be read: Permission denied" in caplog.text
