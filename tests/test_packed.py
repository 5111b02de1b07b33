"""The published files: everything that users need, and nothing that the registry rejects."""

import re
import subprocess

import pytest
from detailers.dev.packed import FORBIDDEN, FORBIDDEN_WORDS, ROOT, forbidden_in, packed_files
from PIL import Image


def test_users_get_what_the_pack_needs_and_no_more():
    files = packed_files()
    assert {name.partition("/")[0] for name in files} == {
        "LICENSE", "README.md", "__init__.py", "compat", "core", "example_workflows", "locales",
        "nodes", "pyproject.toml", "requirements.txt", "subgraphs", "utils", "web", "wildcards",
    }  # fmt: skip
    assert {"core/detectors/yolo.py", "web/docs/FaceDetailer.md", "web/legacy.json",
            "wildcards/samples/colour.txt"} <= set(files)  # fmt: skip


def test_the_registry_finds_nothing_to_stop_at():
    found = {name: list(forbidden_in(ROOT / name)) for name in packed_files()}
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


# pyproject.toml


def test_addresses_are_in_one_place_and_of_one_repository():
    text = (ROOT / "pyproject.toml").read_text()
    (owner,) = set(re.findall(r"https://(?:raw\.githubusercontent|github)\.com/([^/]+)/", text))
    names = ("Repository", "Documentation", '"Bug Tracker"', "Icon", "Banner")
    for name in names:
        (address,) = re.findall(rf'^{name} = "(.*)"$', text, re.MULTILINE)
        assert f"/{owner}/comfyui-detailers" in address
    for name in packed_files():
        if name != "pyproject.toml" and name.endswith((".md", ".py", ".js", ".json")):
            assert "/comfyui-detailers/" not in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(("name", "largest", "shape"), [("Icon", 400, 1), ("Banner", 1680, 21 / 9)])
def test_the_registry_gets_pictures_of_the_size_it_asks_for(name, largest, shape):
    text = (ROOT / "pyproject.toml").read_text()
    (place,) = re.findall(rf'^{name} = ".*/main/(.*)"$', text, re.MULTILINE)
    width, height = Image.open(ROOT / place).size
    assert width <= largest
    assert width == pytest.approx(height * shape, abs=1)


def test_what_pip_installs_is_folder_runs_alone():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'packages = ["detailers_batch"]' in text
    assert 'detailers_batch = "batch"' in text
    assert 'detailers-folder = "detailers_batch.cli:main"' in text
    (data,) = re.findall(r'^detailers_batch = \["(.*)"\]$', text, re.MULTILINE)
    assert [file.name for file in (ROOT / "batch").glob(data)] == ["face_detailer.json"]
    imports = re.compile(r"^\s*from (?:\.\.\S*|batch|core|dev|utils)\b", re.MULTILINE)
    for file in (ROOT / "batch").glob("*.py"):
        assert not imports.search(file.read_text(encoding="utf-8")), file  # nothing else is there


def test_what_is_needed_is_said_alike_for_pip_and_for_the_registry():
    text = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*)\]$", text, re.MULTILINE)
    assert re.findall(r'"(.*?)"', listed) == (ROOT / "requirements.txt").read_text().split()
