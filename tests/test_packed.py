"""What the registry gets: what users need, and nothing that it holds a version back for."""

import subprocess

import pytest
from detailers.dev.packed import FORBIDDEN, FORBIDDEN_WORDS, ROOT, forbidden_in, packed_files


def test_users_get_what_the_pack_needs_and_no_more():
    files = packed_files()
    assert {name.partition("/")[0] for name in files} == {
        "LICENSE", "README.md", "__init__.py", "core", "example_workflows", "locales", "nodes",
        "pyproject.toml", "requirements.txt", "utils", "web", "wildcards",
    }  # fmt: skip
    assert {"core/detectors/yolo.py", "web/docs/FaceDetailer.md", "web/legacy.json",
            "wildcards/samples/colour.txt"} <= set(files)  # fmt: skip


def test_the_registry_finds_nothing_to_stop_at():
    found = {name: list(forbidden_in(ROOT / name)) for name in packed_files()}
    found.pop("core/waves.py")
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("word", FORBIDDEN + FORBIDDEN_WORDS)
def test_each_of_its_words_is_found(word, tmp_path):
    (tmp_path / "a.py").write_text(f"fine = 1\n# {word}\n")
    assert f"line 2: {word}" in list(forbidden_in(tmp_path / "a.py"))


def test_words_that_only_hold_one_are_fine(tmp_path):
    (tmp_path / "a.py").write_text("from comfy_execution import x  # evaluate on an interval\n")
    assert list(forbidden_in(tmp_path / "a.py")) == []


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")


def test_what_is_ignored_is_left_out(tmp_path):
    write(tmp_path, "a.py", "dev/b.py", "core/dev/c.py", "core/dev.py", ".ci/run", "core/.cache",
          "top.py", "core/top.py", "core/__pycache__/a.pyc")  # fmt: skip
    (tmp_path / ".comfyignore").write_text("# a comment\n.*\n\ndev/\n/top.py\n")
    assert packed_files(tmp_path) == ["a.py", "core/dev.py", "core/top.py"]


def test_where_there_is_git_only_tracked_files_count(tmp_path):
    write(tmp_path, "a.py", "secret.txt")
    for command in (["init", "-q"], ["add", "a.py"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    write(tmp_path, "b.py")
    assert packed_files(tmp_path) == ["a.py"]


@pytest.mark.parametrize("pattern", ["!a.py", "core/**", "core/a.py"])
def test_a_pattern_that_is_not_understood_is_told(tmp_path, pattern):
    (tmp_path / ".comfyignore").write_text(pattern)
    with pytest.raises(ValueError, match="a name"):
        packed_files(tmp_path)
