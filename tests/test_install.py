"""dev/install.py: the pack in a ComfyUI, as a link or a copy, and out again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from detailers.dev import install
from detailers.dev.install import Problem, Python
from detailers.dev.packed import packed_files

ROOT = Path(__file__).resolve().parent.parent
ALL = frozenset(install.MODULES.values())


@pytest.fixture
def comfyui(tmp_path, monkeypatch):
    """A folder that looks like a ComfyUI, whose Python has everything."""
    folder = tmp_path / "ComfyUI"
    folder.mkdir()
    (folder / "main.py").write_text("")
    monkeypatch.setattr(install, "look_into", lambda python: Python(ALL, {}))
    monkeypatch.setenv("DETAILERS_STARTED_IN", str(tmp_path))
    return folder


def call(*arguments):
    install.main(["--comfyui", "ComfyUI", *arguments])


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_is_linked_under_its_registered_name_and_out_again(comfyui, capsys):
    (comfyui / "custom_nodes" / "other").mkdir(parents=True)
    call()
    target = comfyui / "custom_nodes" / "detailers"
    assert target.resolve() == ROOT
    call()  # a second time changes nothing
    assert "in ComfyUI already" in capsys.readouterr().out
    call("--uninstall")
    assert not os.path.lexists(target)
    assert (ROOT / "__init__.py").is_file()
    assert (comfyui / "custom_nodes" / "other").is_dir()


def test_a_copy_has_the_files_of_a_published_pack(comfyui):
    call("--copy")
    target = comfyui / "custom_nodes" / "detailers"
    assert files_in(target) == {*packed_files(), install.RECORD}
    assert (target / "core/pixels/mask.py").read_bytes() == (
        ROOT / "core/pixels/mask.py"
    ).read_bytes()
    (target / "core" / "__pycache__").mkdir()
    (target / "core" / "__pycache__" / "mask.pyc").write_text("")
    call("--uninstall")
    assert not target.exists()


def test_what_the_user_has_put_into_a_copy_is_kept(comfyui, capsys):
    call("--copy")
    target = comfyui / "custom_nodes" / "detailers"
    (target / "wildcards" / "samples" / "colour.txt").write_text("mine")
    (target / "wildcards" / "own.txt").write_text("own")
    call("--copy")  # an update
    assert (target / "wildcards" / "samples" / "colour.txt.yours").read_text() == "mine"
    assert (target / "wildcards" / "own.txt").read_text() == "own"
    assert (target / "wildcards" / "samples" / "colour.txt").read_bytes() == (
        ROOT / "wildcards" / "samples" / "colour.txt"
    ).read_bytes()
    (target / "README.md").write_text("notes")
    call("--uninstall")
    assert files_in(target) == {
        "README.md", "wildcards/own.txt", "wildcards/samples/colour.txt.yours",
    }  # fmt: skip
    assert "own.txt" in capsys.readouterr().out


def test_an_update_takes_away_files_that_the_pack_no_longer_has(comfyui):
    call("--copy")
    target = comfyui / "custom_nodes" / "detailers"
    record = json.loads((target / install.RECORD).read_text())
    (target / "core" / "gone.py").write_text("old")
    record["core/gone.py"] = install.fingerprint(target / "core" / "gone.py")
    (target / install.RECORD).write_text(json.dumps(record))
    call("--copy")
    assert not (target / "core" / "gone.py").exists()


def test_a_link_becomes_a_copy_and_a_copy_a_link(comfyui):
    target = comfyui / "custom_nodes" / "detailers"
    call()
    call("--copy")
    assert not target.is_symlink()
    assert (target / "__init__.py").is_file()
    call()
    assert target.resolve() == ROOT


def test_a_broken_link_is_made_anew(comfyui, tmp_path):
    (comfyui / "custom_nodes").mkdir()
    target = comfyui / "custom_nodes" / "detailers"
    target.symlink_to(tmp_path / "moved away", target_is_directory=True)
    call()
    assert target.resolve() == ROOT


@pytest.mark.parametrize("arguments", [(), ("--copy",), ("--uninstall",)])
def test_a_folder_of_somebody_else_is_left_alone(comfyui, arguments):
    target = comfyui / "custom_nodes" / "detailers"
    target.mkdir(parents=True)
    (target / "precious.py").write_text("")
    with pytest.raises(Problem, match="not put there by this command"):
        call(*arguments)
    assert files_in(target) == {"precious.py"}


def test_a_link_to_another_pack_is_left_alone(comfyui, tmp_path):
    (tmp_path / "other").mkdir()
    (comfyui / "custom_nodes").mkdir()
    target = comfyui / "custom_nodes" / "detailers"
    target.symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(Problem, match="another pack"):
        call()
    assert target.resolve() == tmp_path / "other"


def test_the_pack_under_another_name_is_told(comfyui):
    clone = comfyui / "custom_nodes" / "my-clone"
    clone.mkdir(parents=True)
    (clone / "pyproject.toml").write_text('[project]\nname = "detailers"\n')
    with pytest.raises(Problem, match=r"my-clone holds this pack already"):
        call()


def test_where_links_need_more_rights_it_is_a_junction(comfyui, monkeypatch):
    """As on Windows, whose junctions Python makes by a module of its own."""
    made = []
    windows = type(sys)("_winapi")
    windows.CreateJunction = lambda source, target: made.append((source, target))
    monkeypatch.setitem(sys.modules, "_winapi", windows)

    def refuse(*arguments, **options):
        raise OSError("a required privilege is not held")

    target = comfyui / "custom_nodes" / "detailers"
    monkeypatch.setattr(type(target), "symlink_to", refuse)
    with pytest.raises(Problem, match="--copy"):
        install.link(target)
    monkeypatch.setattr(install.os, "name", "nt")
    install.link(target)
    assert made == [(str(ROOT), str(target))]


@pytest.mark.parametrize("name", ["nowhere", "plain"])
def test_a_folder_that_is_no_comfyui_is_told(comfyui, tmp_path, name):
    (tmp_path / "plain").mkdir()
    with pytest.raises(Problem, match=r"neither main\.py nor custom_nodes"):
        install.main(["--comfyui", name])


def test_an_older_comfyui_is_told(comfyui, capsys):
    (comfyui / "comfyui_version.py").write_text('__version__ = "0.3.60"\n')
    call()
    assert "is 0.3.60; the pack needs 0.16.3" in capsys.readouterr().out


# Packages


def lacking(monkeypatch, modules, opencv=(), status=0):
    """Have ComfyUI's Python lack modules; the commands that install something."""
    has = Python(ALL - set(modules), dict.fromkeys(opencv, "4.11"))
    monkeypatch.setattr(install, "look_into", lambda python: has)
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install.shutil, "which", lambda name: None if name == "uv" else name)
    return commands


def test_missing_packages_are_told_with_the_command(comfyui, monkeypatch, capsys):
    commands = lacking(monkeypatch, ["scipy", "cv2", "facenet_pytorch"])
    call("--python", "/py")
    out = capsys.readouterr().out
    assert "/py -m pip install opencv-python-headless scipy\n" in out
    assert "/py -m pip install --no-deps facenet-pytorch\n" in out
    assert commands == []


def test_missing_packages_are_installed_if_told(comfyui, monkeypatch):
    commands = lacking(monkeypatch, ["scipy", "facenet_pytorch"])
    call("--python", "/py", "--with-packages")
    assert commands == [
        ["/py", "-m", "pip", "install", "scipy"],
        ["/py", "-m", "pip", "install", "--no-deps", "facenet-pytorch"],
    ]


@pytest.mark.parametrize("name", install.OPENCV)
def test_no_second_opencv_is_installed(comfyui, monkeypatch, capsys, name):
    commands = lacking(monkeypatch, ["cv2"], opencv=[name])
    call("--python", "/py", "--with-packages")
    assert commands == []
    assert f"Install {name} anew" in capsys.readouterr().out


def test_two_opencvs_are_told(comfyui, monkeypatch, capsys):
    lacking(monkeypatch, [], opencv=["opencv-python", "opencv-python-headless"])
    call("--python", "/py")
    assert "write into one folder" in capsys.readouterr().out


def test_a_failed_install_is_told(comfyui, monkeypatch):
    lacking(monkeypatch, ["scipy"], status=1)
    with pytest.raises(Problem, match="Installing scipy failed"):
        call("--python", "/py", "--with-packages")


def test_a_real_python_is_looked_into():
    has = install.look_into(sys.executable)
    assert {"numpy", "PIL", "scipy", "cv2"} <= has.found
    assert has.missing() == []
    with pytest.raises(Problem, match="does not work as a Python"):
        install.look_into(str(ROOT / "no-python"))


def test_the_python_in_or_beside_comfyui_is_found(comfyui, tmp_path, monkeypatch):
    beside = tmp_path / "python_embeded" / "python.exe"
    inside = comfyui / ".venv" / "bin" / "python"
    for file in (beside, inside):
        file.parent.mkdir(parents=True)
        file.write_text("")
    assert install.find_python(comfyui, None) == str(inside)
    inside.unlink()
    assert install.find_python(comfyui, None) == str(beside)
    beside.unlink()
    assert install.find_python(comfyui, None) == sys.executable


def test_the_command_says_what_is_wrong(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "install", "--comfyui", "here"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"run.py install: {tmp_path / 'here'} is no ComfyUI")
