"""Whole folder runs, with a stand-in for ComfyUI: children, foreign servers, faults and kills."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from detailers.batch import cli
from detailers.batch.client import free_port
from detailers.batch.ledger import DriverLock
from detailers.batch.settings import Folders
from detailers.dev.stand_in import FAKE, prompt, stand_in
from detailers.tests.folder_runs import Folder, events, picture, pixels
from PIL import Image

needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    own = Folder(tmp_path)
    monkeypatch.setenv("FAKE_STATE", str(own.state))
    monkeypatch.setenv("DETAILERS_STARTED_IN", ".")
    return own


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A stand-in that runs already, for the tests that do it no harm."""
    with stand_in(tmp_path_factory.mktemp("server")) as (url, _):
        yield url


def negative(seed):
    return picture(seed).point(lambda value: 255 - value).tobytes()


NAMES = ["a.png", "deep/b c.png", "deep/ü画.png", "x" * 251 + ".png"]


def test_a_folder_is_done_once_and_names_are_kept(folder, capsys, tmp_path):
    folder.add(*NAMES)
    status, told = folder.run(capsys, "--workers", "2")
    assert status == 0
    assert (told["summary"][0]["done"], told["summary"][0]["left"]) == (4, 0)
    results = folder.results()
    assert sorted(results) == sorted(NAMES)
    for seed, name in enumerate(NAMES):
        assert pixels(results[name], tmp_path) == negative(seed)
    assert "FakeDetailer" in results["a.png"][:2000].decode("latin-1")  # the prompt is kept
    status, told = folder.run(capsys)
    assert (status, told["summary"][0]["done_before"]) == (0, 4)
    assert "done" not in told
    folder.add("new.png", first=9)
    folder.add("a.png", first=10)  # changed
    status, told = folder.run(capsys)
    assert (status, {line["input"] for line in told["done"]}) == (0, {"new.png", "a.png"})
    assert pixels(folder.results()["a.png"], tmp_path) == negative(10)
    assert not list((folder.out / ".detailers").rglob("*.part"))


def test_a_running_server_gives_the_same_bytes_as_a_child(folder, capsys, server):
    folder.add("a.png", "b.png")
    assert folder.run(capsys, servers=server)[0] == 0
    first = folder.results()
    folder.out = folder.out.with_name("other")
    assert folder.run(capsys)[0] == 0
    assert folder.results() == first


def test_overrides_of_the_run_and_of_a_file(folder, capsys, server):
    folder.add("a.png", "b.png")
    folder.overrides("b.png", seed=77)
    assert folder.run(capsys, "--set", "Detail.seed=6", servers=server)[0] == 0
    texts = {name: content.decode("latin-1") for name, content in folder.results().items()}
    assert '"seed": 6,' in texts["a.png"]
    assert '"seed": 77,' in texts["b.png"]


def test_seeds_by_file_are_the_same_again(folder, capsys, server):
    folder.add("a.png", "b.png")
    seeds = []
    for out in ("one", "two"):
        folder.out = folder.out.with_name(out)
        assert folder.run(capsys, "--seed", "by-file", servers=server)[0] == 0
        texts = [content.decode("latin-1") for content in folder.results().values()]
        seeds.append([text.partition('"seed": ')[2].partition(",")[0] for text in texts])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2


def test_what_the_detailers_tell_is_in_the_report(folder, capsys, server):
    folder.add("a.png")
    folder.overrides("a.png", mode="note", seed=3)
    folder.run(capsys, servers=server)
    (unit,) = folder.records(capsys)
    assert unit["report"] == {"2": {"detailers_notes": [{"kind": "skipped", "text": "Seed 3."}]}}
    assert (unit["state"], unit["tries"], unit["outputs"][0]["path"]) == ("done", 0, "a.png")
    assert cli.main(["--report", str(folder.out)]) == 0
    assert "1 x Seed 3." in capsys.readouterr().out


# Units that fail


def test_a_unit_that_fails_three_times_is_set_aside_and_the_run_goes_on(folder, capsys, server):
    folder.add("a.png", "b.png", "c.png", "d.png")
    folder.overrides("b.png", mode="fail")
    (folder.source / "c.png").write_bytes(b"")
    (folder.source / "d.png").write_bytes(b"no picture at all")
    status, told = folder.run(capsys, servers=server)
    assert status == 3
    assert set(folder.results()) == {"a.png"}
    units = {unit["input"]: unit for unit in folder.records(capsys)}
    assert {name: (unit["state"], unit["tries"]) for name, unit in units.items()} == {
        "a.png": ("done", 0), "b.png": ("failed", 3), "c.png": ("failed", 0),
        "d.png": ("failed", 3),
    }  # fmt: skip
    assert units["b.png"]["fault"] == "node 2 FakeDetailer: Failure: this one does not work"
    assert units["c.png"]["fault"] == "The file is empty."
    assert "cannot identify image" in units["d.png"]["fault"]
    status, told = folder.run(capsys, servers=server)
    assert (status, told.get("done"), told.get("again")) == (3, None, None)
    folder.overrides("b.png", mode="")
    picture(3).save(folder.source / "d.png")
    (folder.source / "c.png").unlink()
    status, told = folder.run(capsys, servers=server)
    assert (status, sorted(folder.results())) == (0, ["a.png", "b.png", "d.png"])


def test_those_set_aside_are_tried_again_when_asked_for(folder, capsys, server):
    folder.add("a.png")
    folder.overrides("a.png", mode="fail")
    assert folder.run(capsys, servers=server)[0] == 3
    status, told = folder.run(capsys, "--retry", servers=server)
    assert (status, len(told["again"]), len(told["failed"])) == (3, 2, 1)


def test_nothing_saved_is_a_failure(folder, capsys, server):
    folder.add("a.png")
    folder.overrides("a.png", mode="nothing")
    status, told = folder.run(capsys, servers=server)
    assert (status, told["failed"][0]["fault"]) == (3, "the workflow ran and saved nothing")


def test_a_workflow_that_the_host_refuses_ends_the_run_at_once(folder, capsys, server):
    folder.add(*(f"{number}.png" for number in range(9)))
    folder.write(prompt(model="missing"))
    status, told = folder.run(capsys, servers=server)
    assert status == 1
    assert "refuses the workflow" in told["problem"][0]["text"]
    assert "model: missing" in told["problem"][0]["text"]
    folder.write(prompt())
    assert folder.run(capsys, servers=server)[0] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda nodes: nodes.pop("1"), "no LoadImage or LoadVideo"),
        (lambda nodes: nodes.update({"9": nodes["1"]}), "loads in several nodes"),
        (lambda nodes: nodes["2"].update(class_type="Unknown"), "does not know the node Unknown"),
        (lambda nodes: nodes.pop("3"), "saves nothing"),
    ],
)
def test_bad_workflows_are_told_before_anything_is_run(folder, capsys, server, change, told):
    folder.add("a.png")
    nodes = prompt()
    change(nodes)
    folder.write(nodes)
    status, lines = folder.run(capsys, servers=server)
    assert status == 1
    assert told in lines["problem"][0]["text"]
    assert folder.results() == {}


# Servers that fail


@pytest.mark.parametrize(
    "mode", ["die-once", "hang-once", "mute-once", "garbage-once", "garbage-file-once"]
)
def test_a_child_that_dies_or_hangs_is_started_anew_and_its_unit_goes_back(folder, capsys, mode):
    folder.add("a.png", "b.png", "c.png")
    folder.overrides("b.png", mode=mode)
    limits = ["--unit-timeout", "1.5", "--answer-timeout", "1.5"]
    status, told = folder.run(capsys, *limits)
    assert status == 0
    assert len(folder.results()) == 3
    assert "b.png" in {line["input"] for line in told["again"]}
    units = {unit["input"]: unit for unit in folder.records(capsys)}
    assert {unit["tries"] for unit in units.values()} == {0}


def test_a_unit_that_kills_every_child_is_set_aside(folder, capsys):
    folder.add("a.png", "b.png")
    folder.overrides("a.png", mode="die")
    status, told = folder.run(capsys)
    assert (status, list(folder.results())) == (3, ["b.png"]), told
    assert [line["input"] for line in told["failed"]] == ["a.png"]


def test_a_child_is_started_anew_once_after_a_picture_of_nan(folder, capsys):
    folder.add("a.png", "b.png", "c.png")
    folder.overrides("a.png", mode="nan-once")
    folder.overrides("b.png", mode="black")  # black, and no NaN: that is what it looks like
    status, told = folder.run(capsys)
    assert status == 0
    assert len(folder.results()) == 3
    (again,) = [line for line in told["again"] if line["input"] == "a.png"]
    assert "without one finite value" in again["fault"]
    # The black one may come first, and the server is not started anew twice in a row.
    assert any("started anew" in line["fault"] for line in told["again"])


@pytest.mark.parametrize("mode", ["nan", "not-finite"])
def test_nan_that_comes_back_is_set_aside_with_one_start(folder, capsys, mode):
    folder.add("a.png")
    folder.overrides("a.png", mode=mode)
    status, told = folder.run(capsys)
    assert (status, folder.results()) == (3, {})
    assert "finite" in told["failed"][0]["fault"]
    assert sum("started anew" in line["fault"] for line in told["again"]) == 1


def test_a_foreign_server_that_is_away_is_left_and_the_others_go_on(folder, capsys, tmp_path):
    folder.add(*(f"{number}.png" for number in range(6)))
    folder.write(prompt(seconds=0.1))
    away = f"http://127.0.0.1:{free_port()}"
    with stand_in(tmp_path / "server") as (url, _):
        status, told = folder.run(capsys, "--patience", "0.5", servers=f"{away},{url}")
    assert (status, len(folder.results())) == (0, 6)
    assert any("gives no answer of a ComfyUI" in line["text"] for line in told["told"])


@pytest.mark.parametrize("answer", [b"<html>", b'{"system": 5}', None], ids=range(3))
def test_a_foreign_server_that_answers_garbage_or_never_is_told(folder, capsys, answer):
    folder.add("a.png")

    def answering(own):
        with contextlib.suppress(OSError):  # it ends when the test does
            while True:
                connection, _ = own.accept()
                if answer is None:
                    continue  # and never answers
                with connection:
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n"
                    connection.sendall(head.encode() + answer)

    with socket.create_server(("127.0.0.1", 0)) as own:
        threading.Thread(target=answering, args=[own], daemon=True).start()
        url = f"http://127.0.0.1:{own.getsockname()[1]}"
        limits = ["--patience", "0.5", "--answer-timeout", "0.5"]
        status, lines = folder.run(capsys, *limits, servers=url)
    assert status == 1
    assert f"{url} gives no answer of a ComfyUI in 0.5 s" in lines["problem"][0]["text"]


def test_a_scan_that_is_far_ahead_of_the_loop_loses_nothing(folder, capsys, server, monkeypatch):
    folder.add(*(f"{number}.png" for number in range(30)))
    monkeypatch.setattr("detailers.batch.units.BATCH", 1)
    monkeypatch.setattr("detailers.batch.driver.MOST_SCANNED", 2)
    for _ in range(2):
        status, told = folder.run(capsys, servers=server)
        assert (status, told["summary"][0]["done"]) == (0, 30)
    assert told["summary"][0]["done_before"] == 30


def test_where_no_server_is_left_the_run_ends_and_goes_on_later(folder, capsys, tmp_path):
    folder.add("a.png", "b.png")
    with stand_in(tmp_path / "server", FAKE_STATE=str(folder.state)) as (url, _):
        folder.overrides("b.png", mode="die-once")
        status, told = folder.run(capsys, "--patience", "0.5", servers=url)
        assert status == 1
        assert "No worker is left" in told["problem"][0]["text"]
    assert folder.run(capsys)[0] == 0
    assert sorted(folder.results()) == ["a.png", "b.png"]


def test_a_child_that_does_not_start_says_why(folder, capsys, tmp_path):
    folder.add("a.png")
    tree = tmp_path / "broken"
    tree.mkdir()
    (tree / "main.py").write_text("raise SystemExit('no torch here')")
    status = cli.main([*folder.arguments(), "--comfyui", str(tree)])
    assert status == 1
    assert "no torch here" in capsys.readouterr().err


def test_a_server_whose_disk_is_full_stops_the_run(folder, capsys, server):
    folder.add("a.png")
    folder.write(prompt(mode="full"))
    status, told = folder.run(capsys, servers=server)
    assert status == 1
    assert "is full" in told["problem"][0]["text"]


# OUT


def test_places_that_do_not_fit_are_refused(folder, capsys):
    folder.add("a.png")
    for source, out, told in (
        (folder.source / "none", folder.out, "IN: there is no folder"),
        (folder.source, folder.source, "the same folder"),
        (folder.source, folder.source.parent, "IN lies in OUT"),
    ):
        folder.source, folder.out = source, out
        status, lines = folder.run(capsys)
        assert status == 1
        assert told in lines["problem"][0]["text"]


def test_an_out_that_cannot_be_written_is_told(folder, capsys, tmp_path):
    folder.add("a.png")
    folder.out = tmp_path / "file"
    folder.out.write_text("in the way")
    status, lines = folder.run(capsys)
    assert status == 1
    assert "cannot be written" in lines["problem"][0]["text"]


@pytest.mark.skipif(IS_ROOT or os.name != "posix", reason="root may write everywhere")
def test_an_out_without_rights_is_told(folder, capsys):
    folder.add("a.png")
    folder.out.mkdir()
    folder.out.chmod(0o500)
    status, lines = folder.run(capsys)
    assert status == 1
    assert "cannot be written" in lines["problem"][0]["text"]


def mounted(path, *options):
    """Mount a small disk in memory; skip the test where that is not allowed."""
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", path], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")


def unmounted(path):
    subprocess.run(["umount", "-l", path], check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_full_disk_stops_the_run_and_it_goes_on_where_there_is_room(
    folder, capsys, tmp_path, server
):
    for seed in range(6):
        noise = random.Random(seed).randbytes(300 * 300 * 3)  # which no PNG makes smaller
        Image.frombytes("RGB", (300, 300), noise).save(folder.source / f"{seed}.bmp")
    small = tmp_path / "small"
    mounted(small, "-o", "size=1m")
    try:
        folder.out = small
        status, lines = folder.run(capsys, servers=server)
        assert status == 1
        assert "Make room" in lines["problem"][0]["text"]
        done = folder.results()
        assert len(done) < 6
        for seed, name in enumerate(sorted(done)):
            assert len(pixels(done[name], tmp_path)) == 300 * 300 * 3, seed  # whole
        subprocess.run(["mount", "-o", "remount,size=16m", small], check=True)
        assert folder.run(capsys, servers=server)[0] == 0
        assert len(folder.results()) == 6
        assert done.items() <= folder.results().items()
    finally:
        unmounted(small)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_disk_that_is_read_only_is_told(folder, capsys, tmp_path):
    folder.add("a.png")
    disk = tmp_path / "disk"
    mounted(disk, "-o", "ro")
    try:
        folder.out = disk
        status, lines = folder.run(capsys)
        assert status == 1
        assert "cannot be written: Read-only file system" in lines["problem"][0]["text"]
    finally:
        unmounted(disk)


def test_a_second_driver_is_refused(folder, capsys):
    folder.add("a.png")
    own = Folders(folder.source, folder.out).own
    own.mkdir(parents=True)
    with DriverLock(own):
        status, lines = folder.run(capsys)
        assert status == 1
        assert "Another run is at work" in lines["problem"][0]["text"]
    assert folder.run(capsys)[0] == 0


# Kills and interrupts


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid):
    """Processes of this machine by their parent, from /proc."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat") as file:
                if entry.isdigit() and int(file.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry))
        except OSError:
            continue
    return found


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_killed_and_started_again_it_gives_the_bytes_of_an_undisturbed_run(folder, capsys):
    folder.add(*(f"{number}.png" for number in range(12)))
    folder.write(prompt(seconds=0.1))
    assert folder.run(capsys)[0] == 0
    expected = folder.results()
    folder.out = folder.out.with_name("killed")
    driver = folder.start()
    wait_for(lambda: len(folder.results()) >= 2)
    (guard,) = children_of(driver.pid)
    (child,) = children_of(guard)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: len(folder.results()) >= 5)
    (guard,) = children_of(driver.pid)
    (child,) = children_of(guard)
    driver.kill()
    driver.communicate()
    before = folder.results()
    assert before.items() <= expected.items()
    assert len(before) < 12
    wait_for(lambda: is_gone(child) and is_gone(guard))  # nothing is left behind
    status, told = folder.run(capsys)
    assert status == 0
    assert folder.results() == expected
    assert not {line["input"] for line in told["done"]} & set(before)


@needs_posix
def test_ctrl_c_finishes_what_is_at_work_and_no_more(folder, capsys):
    folder.add(*(f"{number}.png" for number in range(8)))
    folder.write(prompt(seconds=0.3))
    driver = folder.start()
    wait_for(lambda: folder.results())
    driver.send_signal(signal.SIGINT)
    out, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130
    told = events(out)
    assert told["summary"][0]["status"] == "interrupted"
    done = len(folder.results())
    assert told["summary"][0]["done"] == done
    assert 1 < done < 8
    assert cli.main(["--status", str(folder.out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "interrupted"
    assert folder.run(capsys)[0] == 0
    assert len(folder.results()) == 8


@needs_posix
def test_ctrl_c_twice_stops_at_once(folder):
    folder.add("a.png", "b.png")
    folder.overrides("b.png", seconds=600)
    driver = folder.start()
    wait_for(lambda: folder.results())
    began = time.monotonic()
    driver.send_signal(signal.SIGINT)
    assert json.loads(next(line for line in driver.stdout if "Finishing" in line))
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert time.monotonic() - began < 60
    assert list(folder.results()) == ["a.png"]


def test_status_of_a_run_that_goes_on_and_of_one_that_was_killed(folder, capsys):
    folder.add(*(f"{number}.png" for number in range(4)))
    folder.write(prompt(seconds=0.5))
    driver = folder.start()
    wait_for(lambda: folder.results())
    assert cli.main(["--status", str(folder.out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "running"
    assert sum(told["units"].values()) == 4
    driver.kill()
    driver.communicate()
    cli.main(["--status", str(folder.out)])
    assert "is killed" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--status", "--report"])
def test_where_there_is_no_ledger_that_is_told(tmp_path, capsys, option):
    assert cli.main([option, str(tmp_path)]) == 1
    assert "has no ledger" in capsys.readouterr().err


def test_a_clock_that_jumps_does_no_harm(folder, capsys, server, monkeypatch):
    folder.add(*(f"{number}.png" for number in range(5)))
    jumps = iter([10**9, 5.0, 2 * 10**9, 0.0] * 500)
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(jumps) * 1e9))
    status, told = folder.run(capsys, servers=server)
    assert (status, len(folder.results())) == (0, 5)
    assert all(line["units_per_minute"] >= 0 for line in told["progress"])
    assert cli.main(["--report", str(folder.out)]) == 0


def test_options_that_do_not_fit_together_are_told(folder, capsys):
    for more in (["--ray", "--servers", "a"], ["--quality", "0"], ["--split-video", "0"],
                 ["--workers", "0"], ["--pack", "nowhere"], ["--unit-timeout", "0"]):  # fmt: skip
        with pytest.raises(SystemExit) as caught:
            cli.main([*folder.arguments(), *more])
        assert caught.value.code == 2
    with pytest.raises(SystemExit):
        cli.main([str(folder.source), str(folder.out), "--comfyui", str(FAKE)])
    assert "needs --checkpoint FILE" in capsys.readouterr().err
