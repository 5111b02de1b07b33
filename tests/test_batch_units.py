"""batch/units.py: the files of IN, and what makes a unit another one."""

import json
import os

import pytest
from detailers.batch.files import Stamp, fitting, named_candidates, stable_hash, write_durably
from detailers.batch.ledger import ASIDE, NEW, Ledger, from_text
from detailers.batch.models import ModelHashes, names_in
from detailers.batch.settings import Making
from detailers.batch.units import Rules, Scan, result_suffix, walk
from detailers.batch.workflow import prepare
from detailers.tests.folder_runs import INFO, Folder
from detailers.tests.test_batch_workflow import graph

USUAL = Making()


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


def scan(folder, ledger, prompt=None, making=USUAL, models=()):
    """{input: (key, state, what is wrong, number of its name)} of a scan."""
    ledger.begin({}, "", 0.0)
    workflow = prepare(prompt or graph(), INFO, making)
    rules = Rules(workflow, making, ModelHashes(ledger, models), lambda file, split: [])
    found = {}

    def report(units, states):
        for unit, state in zip(units, states, strict=True):
            found[unit.input] = (unit.key, state, unit.fault, unit.name)

    own = Scan(folder.source, folder.out, rules, ledger)
    own.run(report)
    return found, own.found


def test_pictures_of_all_subfolders_are_found_and_other_files_left_alone(folder, ledger):
    folder.add("b.png", "a.PNG", "deep/er/c.png")
    (folder.source / "notes.txt").write_text("x")
    (folder.source / "clip.mp4").write_text("x")
    found, told = scan(folder, ledger)
    assert list(found) == ["a.PNG", "b.png", "deep/er/c.png"]
    assert told.left_alone == {"files that are no pictures": 2}


ODD_NAMES = [
    "with spaces.png", " .png", "ünïcödé 画像 🖼.png", "-rf.png", "a'b\"c;$(x)&.png",
    "new\nline.png", "%s%d.png", "a" * 251 + ".png", "é" * 125 + ".png", "[1].png", "a.b.c.png",
]  # fmt: skip


def test_odd_names_are_names(folder, ledger):
    folder.add(*ODD_NAMES)
    bytes_alone = os.fsdecode(b"\xff\xfe.png")
    folder.add(bytes_alone)
    found, _ = scan(folder, ledger)
    assert set(found) == {*ODD_NAMES, bytes_alone}
    assert {state for _, state, _, _ in found.values()} == {NEW}
    known = {from_text(row[0]) for row in ledger._read("SELECT input FROM units")}
    assert known == set(found)


def test_links_out_of_in_and_to_folders_are_not_followed(folder, ledger, tmp_path):
    folder.add("a.png", "inside/b.png")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes((folder.source / "a.png").read_bytes())
    links = {
        "out.png": outside / "secret.png", "folder": outside, "loop": folder.source,
        "nowhere.png": tmp_path / "missing.png", "self.png": folder.source / "self.png",
        "same.png": folder.source / "a.png",
    }  # fmt: skip
    for name, target in links.items():
        (folder.source / name).symlink_to(target)
    found, told = scan(folder, ledger)
    assert set(found) == {"a.png", "inside/b.png", "same.png"}
    assert told.left_alone == {"links out of IN or to folders": 5}


def test_results_inside_of_in_are_no_inputs(folder, ledger):
    folder.add("a.png", "out/b.png")
    folder.out = folder.source / "out"
    assert set(scan(folder, ledger)[0]) == {"a.png"}


def test_an_empty_file_is_set_aside_without_a_try(folder, ledger):
    (folder.source / "a.png").write_bytes(b"")
    found, _ = scan(folder, ledger)
    assert found["a.png"][1:3] == (ASIDE, "The file is empty.")
    assert scan(folder, ledger)[0]["a.png"][1] == ASIDE


def test_a_file_that_cannot_be_read_is_set_aside(folder, ledger, monkeypatch):
    folder.add("a.png", "b.png")
    read = stable_hash

    def no_right(path):
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr("detailers.batch.units.stable_hash", no_right)
    found, _ = scan(folder, ledger)
    assert found["a.png"][1:3] == (ASIDE, "The file cannot be read: Permission denied.")
    assert found["b.png"][1] == NEW


def test_changed_bytes_settings_models_and_overrides_make_new_units(folder, ledger, tmp_path):
    folder.add("a.png")
    models = tmp_path / "models"
    models.mkdir()
    (models / "m.safetensors").write_bytes(b"one")
    prompt = graph()
    prompt["2"]["inputs"]["text"] = "m.safetensors"
    keys = []

    def key(**options):
        found, _ = scan(folder, ledger, **{"prompt": prompt, "models": [models], **options})
        keys.append(found["a.png"][0])

    key()
    key(making=Making(format="jpg"))
    key(making=Making(seed="by-file"))
    (models / "m.safetensors").write_bytes(b"two")
    key()
    folder.overrides("a.png")
    folder.source.joinpath("a.png.set.json").write_text(json.dumps({"2.steps": 5}))
    key()
    folder.add("a.png", first=9)
    key()
    assert len(set(keys)) == 6
    folder.source.joinpath("a.png.set.json").unlink()
    folder.add("a.png", first=0)
    (models / "m.safetensors").write_bytes(b"one")
    key()
    assert keys[6] == keys[0]


def test_overrides_that_fit_nowhere_set_the_file_aside(folder, ledger):
    folder.add("a.png")
    folder.overrides("a.png", nothing=1)
    found, _ = scan(folder, ledger)
    assert found["a.png"][1] == ASIDE
    assert "a.png.set.json" in found["a.png"][2]


def test_a_file_that_has_not_changed_is_not_read_again(folder, ledger, monkeypatch):
    folder.add("a.png")
    os.utime(folder.source / "a.png", (1000, 1000))
    status = (folder.source / "a.png").stat()
    later = status.st_ctime_ns + 10**10  # the hash is kept by when it was read
    found = stable_hash(folder.source / "a.png", lambda: later)
    ledger.keep_hashes([(str((folder.source / "a.png").resolve()), found[1], found[2], found[0])])
    monkeypatch.setattr("detailers.batch.units.stable_hash", None)
    assert scan(folder, ledger)[0]["a.png"][1] == NEW


def test_inputs_that_would_give_results_of_one_name_take_turns(folder, ledger):
    folder.add("a.jpg", "a.png", "a.webp", "a.png.png")
    found, _ = scan(folder, ledger, making=Making(format="png"))
    names = {name: named_candidates(name, ".png")[number] for name, (*_, number) in found.items()}
    assert names == {
        "a.jpg": "a.png",
        "a.png": "a.png.png",
        "a.png.png": "a.png.png.png",
        "a.webp": "a.webp.png",
    }


@pytest.mark.parametrize(
    ("name", "format", "suffix"),
    [
        ("a.png", "same", ".png"), ("a.JPG", "same", ".JPG"), ("a.jpeg", "same", ".jpeg"),
        ("a.webp", "same", ".webp"), ("a.bmp", "same", ".png"), ("a.tiff", "same", ".png"),
        ("a.png", "jpg", ".jpg"), ("a.png", "exr", ".exr"),
    ],
)  # fmt: skip
def test_formats(name, format, suffix):
    assert result_suffix(name, Making(format=format), False) == suffix


def test_names_that_get_too_long_are_cut_between_signs_and_told_apart():
    first, second = fitting("é" * 120 + "a" * 20, "-0001.webp"), fitting("é" * 125, "-0001.webp")
    for name in (first, second):
        assert len(name.encode()) <= 255
        assert name.endswith("-0001.webp")
    assert first != second
    assert fitting("a" * 251, ".png") == "a" * 251 + ".png"


def test_folders_are_walked_one_at_a_time(folder):
    folder.add("a.png", "b/c.png")
    assert [[name for name, _ in files] for files in walk(folder.source, None)] == [
        ["a.png"],
        ["b/c.png"],
    ]


def test_a_file_that_goes_on_changing_has_no_hash(folder, monkeypatch):
    folder.add("a.png")
    stamps = iter(range(99))
    monkeypatch.setattr(Stamp, "of", classmethod(lambda cls, status: cls(1, next(stamps), 0, 0)))
    with pytest.raises(OSError, match="changes while it is read"):
        stable_hash(folder.source / "a.png")


def test_texts_that_name_model_files():
    prompt = {"a": ["bbox/face.pt", 5, {"b": "v1.safetensors"}], "c": "a <lora:hair:0.5> b",
              "d": "no model", "e": "two\nlines.pt"}  # fmt: skip
    assert set(names_in(prompt)) == {
        "bbox/face.pt", "v1.safetensors", "hair", "hair.safetensors", "hair.sft", "hair.ckpt",
    }  # fmt: skip


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a"
    write_durably(file, b"one")

    def torn(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", torn)
    with pytest.raises(OSError, match="No space"):
        write_durably(file, b"two")
    assert file.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]
