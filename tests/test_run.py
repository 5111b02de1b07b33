"""run.py: folders that are reused or built anew, and downloads that are refused."""

import hashlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_run():
    spec = importlib.util.spec_from_file_location("project_run", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["project_run"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


run = load_run()


class Maker:
    """Stands for a slow download: fills a folder and counts how often."""

    def __init__(self, fail=False):
        self.calls = 0
        self.fail = fail

    def __call__(self, folder):
        self.calls += 1
        assert list(folder.iterdir()) == []
        (folder / "half").write_text("half")
        if self.fail:
            raise OSError("the network is gone")
        (folder / "rest").write_text("rest")


# What is in the cache


def test_a_complete_folder_is_reused(tmp_path):
    make = Maker()
    for _ in range(2):
        run.ensure(tmp_path / "a", {"torch": "1"}, make)
    assert make.calls == 1
    assert (tmp_path / "a" / "rest").read_text() == "rest"


def test_other_pins_build_it_anew(tmp_path):
    make = Maker()
    run.ensure(tmp_path / "a", {"torch": "1"}, make)
    (tmp_path / "a" / "left over").write_text("")
    run.ensure(tmp_path / "a", {"torch": "2"}, make)
    assert make.calls == 2
    assert not (tmp_path / "a" / "left over").exists()


def test_a_half_finished_folder_is_not_reused(tmp_path):
    with pytest.raises(OSError):
        run.ensure(tmp_path / "a", {"torch": "1"}, Maker(fail=True))
    assert (tmp_path / "a" / "half").exists()
    assert not run.is_complete(tmp_path / "a", {"torch": "1"})
    make = Maker()
    run.ensure(tmp_path / "a", {"torch": "1"}, make)
    assert make.calls == 1
    assert run.is_complete(tmp_path / "a", {"torch": "1"})


def test_a_complete_folder_that_no_longer_works_is_built_anew(tmp_path):
    make = Maker()
    run.ensure(tmp_path / "a", {}, make)
    run.ensure(tmp_path / "a", {}, make, works=lambda folder: False)
    assert make.calls == 2


def test_fingerprint_depends_on_content_alone():
    assert run.fingerprint({"a": 1, "b": 2}) == run.fingerprint({"b": 2, "a": 1})
    assert run.fingerprint({"a": 1}) != run.fingerprint({"a": 2})


def test_a_second_run_waits_for_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(run.time, "sleep", lambda seconds: None)
    order = []
    waiting = threading.Event()
    monkeypatch.setattr(run, "say", lambda text: waiting.set())

    def second():
        with run.locked(tmp_path / "lock"):
            order.append("second")

    thread = threading.Thread(target=second)
    with run.locked(tmp_path / "lock"):
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("argument", "variables", "expected"),
    [
        ("given", {"DETAILERS_CACHE": "variable"}, "given"),
        (None, {"DETAILERS_CACHE": "variable"}, "variable"),
    ],
)
def test_cache_folder_is_the_named_one(argument, variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run.cache_folder(argument) == Path(expected).resolve()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="they have habits of their own")
def test_cache_folder_without_a_name_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.delenv("DETAILERS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run.cache_folder(None) == tmp_path / "comfyui-detailers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run.cache_folder(None) == tmp_path / ".cache" / "comfyui-detailers"


# The archive


def write_archive(path, files):
    """A tar.gz with these {name: content or TarInfo}; its SHA-256."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_the_vendored_comfyui_is_unpacked(tmp_path):
    link = tarfile.TarInfo("top/vendor/ComfyUI/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive = tmp_path / "a.tar.gz"
    digest = write_archive(
        archive,
        {
            "top/setup.py": b"no",
            "top/vendor/other/main.py": b"no",
            "top/vendor/ComfyUI/main.py": b"main",
            "top/vendor/ComfyUI/comfy/ops.py": b"ops",
            "link": link,
        },
    )
    folder = tmp_path / "tree"
    run.unpack_tree(archive, digest, folder)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    assert files == {"main.py", os.path.join("comfy", "ops.py")}
    assert (folder / "comfy" / "ops.py").read_bytes() == b"ops"


def test_an_archive_with_another_hash_is_refused_before_it_is_unpacked(tmp_path):
    archive = tmp_path / "a.tar.gz"
    write_archive(archive, {"top/vendor/ComfyUI/main.py": b"altered"})
    with pytest.raises(run.Problem, match="SHA-256"):
        run.unpack_tree(archive, "0" * 64, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("name", ["../../evil.py", "custom_nodes/../../evil.py"])
def test_a_file_that_would_land_elsewhere_is_refused(name, tmp_path):
    archive = tmp_path / "a.tar.gz"
    digest = write_archive(archive, {f"top/vendor/ComfyUI/{name}": b"evil"})
    with pytest.raises(run.Problem, match="leaves its folder"):
        run.unpack_tree(archive, digest, tmp_path / "deep" / "tree")
    assert not list(tmp_path.rglob("evil.py"))


def test_an_archive_without_comfyui_is_refused(tmp_path):
    archive = tmp_path / "a.tar.gz"
    digest = write_archive(archive, {"top/setup.py": b""})
    with pytest.raises(run.Problem, match="holds no ComfyUI"):
        run.unpack_tree(archive, digest, tmp_path)


# The command line


def test_unknown_arguments_go_to_the_command_in_order():
    options, rest = run.read_arguments(
        ["test", "-k", "mask", "--cache", "there", "tests/test_run.py", "--maxfail=1", "-x"]
    )
    assert (options.command, options.cache) == ("test", "there")
    assert rest == ["-k", "mask", "tests/test_run.py", "--maxfail=1", "-x"]


def test_all_after_two_dashes_goes_to_the_command():
    options, rest = run.read_arguments(["demo", "--cache", "there", "-x", "--", "--help", "--"])
    assert (options.command, options.cache) == ("demo", "there")
    assert rest == ["-x", "--help", "--"]


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        (["test"], ["main", "oldest"]),
        (["test", "--hosts", "oldest"], ["oldest"]),
        (["demo"], ["main"]),
    ],
)
def test_only_tests_need_both_hosts(arguments, hosts):
    assert run.read_arguments(arguments)[0].hosts == hosts


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["test", "--hosts", "newest"],
        ["demo", "--python", "python3"],
        ["test", "--comfyui", "a", "--hosts", "oldest"],
    ],
)
def test_wrong_arguments_end_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        run.read_arguments(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_given_comfyui_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "lacking", lambda python, modules: [])
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("")
    arguments = ["--comfyui", str(tmp_path / "new"), "--python", sys.executable]
    oldest = ["--comfyui-oldest", str(tmp_path / "old")]
    new = {"tree": str(tmp_path / "new"), "python": sys.executable}
    assert run.given_hosts(run.read_arguments(["test", *arguments])[0]) == {"main": new}
    assert run.given_hosts(run.read_arguments(["test", *arguments, *oldest])[0]) == {
        "main": new,
        "oldest": {"tree": str(tmp_path / "old"), "python": sys.executable},
    }


def test_a_given_folder_without_comfyui_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "lacking", lambda python, modules: [])
    options, _ = run.read_arguments(["demo", "--comfyui", str(tmp_path)])
    with pytest.raises(run.Problem, match=r"no main\.py"):
        run.given_hosts(options)


def test_a_given_python_without_the_packages_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "lacking", lambda python, modules: ["torch"])
    options, _ = run.read_arguments(["demo", "--comfyui", str(tmp_path)])
    with pytest.raises(run.Problem, match="does not find torch"):
        run.given_hosts(options)


# Processes


def test_lacking_names_what_an_interpreter_does_not_find():
    assert run.lacking(sys.executable, ["json", "no_such_module"]) == ["no_such_module"]
    assert run.lacking("/no/such/python", ["json"]) == ["json"]


def test_call_hands_on_exit_status_folder_and_variables():
    code = "import os, sys; sys.exit(int(os.environ['STATUS']) if os.path.exists('run.py') else 9)"
    assert run.call(sys.executable, "-c", code, STATUS="3") == 3


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_call_tells_a_signal_as_shells_do():
    assert run.call(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") == 137


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_call_lets_its_command_end_in_order_when_terminated(tmp_path):
    code = f"""
import os, pathlib, signal, time
try:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)
except KeyboardInterrupt:
    pathlib.Path({str(tmp_path / "ended")!r}).write_text("in order")
"""
    before = signal.getsignal(signal.SIGTERM)
    run.call(sys.executable, "-c", code)
    assert (tmp_path / "ended").read_text() == "in order"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("ruff", "pytest_status", "expected"), [(0, 0, 0), (1, 0, 1), (0, 5, 5), (1, 1, 1)]
)
def test_tests_fail_with_pytest_or_with_the_code_style(ruff, pytest_status, expected, monkeypatch):
    hosts = {"main": {"tree": "/tree", "python": "/python"}}
    told = []

    def call(*command, **variables):
        told.append((command, variables))
        return ruff if "ruff" in command else pytest_status

    monkeypatch.setattr(run, "call", call)
    assert run.test("/python", hosts, []) == expected
    command, variables = told[-1]
    assert command[:3] == ("/python", "-m", "pytest")
    assert json.loads(variables["DETAILERS_HOSTS"]) == hosts
    assert not variables["PYTHONDONTWRITEBYTECODE"]


def test_chosen_tests_leave_the_code_style_out(monkeypatch):
    told = []
    monkeypatch.setattr(run, "call", lambda *command, **variables: told.append(command) or 0)
    assert run.test("/python", {}, ["tests/test_run.py"]) == 0
    assert [command[2] for command in told] == ["pytest"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], "python run.py demo"),
        (["serve", "--help"], "--miniature"),
        (["--cache", "there", "demo", "-h"], "--checkpoint FILE"),
        (["test", "--help"], "go to pytest"),
        (["bench", "--help"], "--repeats"),
        (["bench", "quality", "--help"], "--part-scenes"),
        (["bench", "people", "--help"], "--detailed"),
        (["bench", "variants", "--help"], "--variants"),
        (["bench", "video", "--help"], "--detailed"),
        (["bench", "fuzz", "--help"], "--examples"),
        (["bench", "wildcards", "--help"], "--megabytes"),
        (["bench", "odd", "--help"], "--some N"),
        (["install", "--help"], "--uninstall"),
    ],
)
def test_the_help_tells_all_options_with_the_standard_library_alone(arguments, told):
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "run.py"), *arguments],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
    assert ("--comfyui DIR" in done.stdout) and "SUPPRESS" not in done.stdout


def test_the_help_of_what_a_command_calls_is_asked_for_after_two_dashes():
    options, rest = run.read_arguments(["test", "--", "--help"])
    assert (options.command, rest) == ("test", ["--help"])


def test_all_tests_run_in_one_process_more_than_there_are_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(run, "lacking", lambda python, modules: [])
    both = {"main": {}, "oldest": {}}
    assert run.side_by_side("python", both, [])[:2] == ["--numprocesses", "3"]
    assert run.side_by_side("python", both, ["--everywhere"])[:2] == ["--numprocesses", "3"]
    assert run.side_by_side("python", both, ["-k", "mask"]) == []
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert run.side_by_side("python", {"main": {}}, [])[:2] == ["--numprocesses", "4"]
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert run.side_by_side("python", both, []) == []
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(run, "lacking", lambda python, modules: modules)
    assert run.side_by_side("python", both, []) == []
