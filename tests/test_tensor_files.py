"""Files of tensors: our reader, which runs nothing, gives PyTorch's and safetensors' results."""

import contextlib
import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from detailers.core.detectors import safe_weights
from detailers.core.detectors.isolated_import import import_ultralytics
from detailers.core.detectors.safe_weights import (
    WeightsError,
    expect_plain,
    read_tensors,
    read_yolo,
)
from detailers.core.files.tensor_files import FAULTS, read_safetensors, read_torch
from hypothesis import given, settings
from hypothesis import strategies as st

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
    torch.bfloat16, torch.float32, torch.float64, torch.uint16, torch.float8_e4m3fn,
    torch.complex64,
]  # fmt: skip


def varied():
    """Tensors of every type and of odd forms, two of which share their values."""
    base = torch.arange(24.0)
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    return tensors | {
        "whole": base, "part": base[4:16].view(3, 4), "turned": base.view(4, 6).T,
        "empty": torch.zeros(0, 3), "single": torch.tensor(2.5),
        "weight": torch.nn.Parameter(torch.rand(3)), "repeated": torch.ones(1).expand(5),
    }  # fmt: skip


def same(one, other):
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize("archive", [True, False])
def test_tensors_of_pytorch_are_read_to_the_bit(tmp_path, archive):
    tensors = OrderedDict(varied())
    if not archive:
        del tensors["torch.uint16"], tensors["torch.float8_e4m3fn"]  # of later versions
    torch.save(tensors, tmp_path / "a.pt", _use_new_zipfile_serialization=archive)
    found = read_tensors(tmp_path / "a.pt")
    assert list(found) == list(tensors)
    for name in tensors:
        same(found[name], tensors[name])
    found["whole"][5] = 100
    assert found["part"][0, 1] == 100  # still one and the same memory
    assert isinstance(found["weight"], torch.nn.Parameter)
    expect_plain(tmp_path / "a.pt")


def test_safetensors_are_read_to_the_bit(tmp_path):
    tensors = {name: value.detach().clone().contiguous() for name, value in varied().items()}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"note": "of no matter"})
    found = read_tensors(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    for name in tensors:
        same(found[name], tensors[name])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_of_every_protocol_are_read(protocol):
    value = {"a": [1, -5, 300, 2**40, 0.5, None, True, False], "b": ("x" * 300, "ü", b"\x00" * 300),
             3: {"deep": [[], {}, ()]}, "same": None}  # fmt: skip
    value["same"] = value["a"]
    file = io.BytesIO()
    torch.save(value, file, pickle_protocol=protocol)
    found = read_torch(file)
    assert found.value == value
    assert found.value["same"] is found.value["a"]
    assert found.unknown == ()


@pytest.fixture(scope="module")
def network():
    try:
        tasks = import_ultralytics().nn.tasks
    except ImportError:
        pytest.skip("needs ultralytics: pip install ultralytics")
    return tasks.DetectionModel("yolov8n.yaml", ch=3, nc=2, verbose=False).eval()


# A hostile file in every form, and a process in which every reader is replaced


class Hostile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def hostile_files(folder, target):
    """A file of each kind and name that would make `target`."""
    content = {"model": {"a": torch.ones(1), "b": Hostile(target)}}
    for suffix in ("pt", "pth", "bin", "ckpt", "safetensors", "sft", "onnx"):
        for form in ("archive", "old", "plain"):
            path = folder / f"{form}.{suffix}"
            if form == "plain":
                path.write_bytes(pickle.dumps(content))
            else:
                torch.save(content, path, _use_new_zipfile_serialization=form == "archive")
            yield path


def replace_everything(monkeypatch):
    """As by a pack that wants PyTorch to load everything, and more thoroughly."""
    load = torch.load

    def load_all(*arguments, **options):
        return load(*arguments, **{**options, "weights_only": False})

    def never(*_arguments, **_options):
        raise AssertionError("a reader of the process is used")

    monkeypatch.setattr(torch, "load", load_all)
    monkeypatch.setattr(torch.serialization, "load", load_all)
    monkeypatch.setattr(torch.serialization, "_load", never)
    monkeypatch.setattr(torch.serialization, "_legacy_load", never)
    monkeypatch.setattr(torch.serialization, "_weights_only_unpickler", None)
    monkeypatch.setattr(torch.serialization, "get_unsafe_globals_in_checkpoint", lambda _path: [])
    for owner in (pickle, safetensors.torch):
        for name in ("load", "loads", "Unpickler", "load_file"):
            monkeypatch.setattr(owner, name, never, raising=False)
    monkeypatch.setattr(pickle, "_Unpickler", never)
    monkeypatch.setattr(safetensors, "safe_open", never)
    monkeypatch.setattr(torch.utils, "_rebuild_tensor_v2", never, raising=False)
    monkeypatch.setattr(torch._utils, "_rebuild_tensor_v2", never)
    monkeypatch.setattr(torch._utils, "_rebuild_parameter", never)


def test_hostile_files_of_every_kind_and_name_do_nothing(tmp_path, monkeypatch):
    target = tmp_path / "made"
    paths = list(hostile_files(tmp_path, target))
    replace_everything(monkeypatch)
    assert len(paths) == 21
    for path in paths:
        for read in (read_tensors, read_yolo, expect_plain):
            with pytest.raises(WeightsError, match=f"'{path.name}'"):
                read(path)
    assert not target.exists()


def test_the_patch_would_let_them_through(tmp_path, monkeypatch):
    """What the test above stands against."""
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **o: load(*a, **{**o, "weights_only": False}))
    path = next(hostile_files(tmp_path, tmp_path / "made"))
    torch.load(path, weights_only=True)
    assert (tmp_path / "made").exists()


def test_files_are_read_though_every_reader_is_replaced(tmp_path, monkeypatch):
    tensors = {"a": torch.rand(2, 3), "b": torch.nn.Parameter(torch.rand(2))}
    for archive in (True, False):
        path = tmp_path / f"{archive}.pt"
        torch.save(tensors, path, _use_new_zipfile_serialization=archive)
    safetensors.torch.save_file({"a": tensors["a"]}, tmp_path / "b.safetensors")
    replace_everything(monkeypatch)
    for archive in (True, False):
        assert read_tensors(tmp_path / f"{archive}.pt")["a"].equal(tensors["a"])
    assert read_tensors(tmp_path / "b.safetensors")["a"].equal(tensors["a"])


def test_a_yolo_file_is_read_though_every_reader_is_replaced(network, tmp_path, monkeypatch):
    torch.save({"model": network}, tmp_path / "a.pt")
    replace_everything(monkeypatch)
    found = read_yolo(tmp_path / "a.pt").network.state_dict()
    assert all(found[name].equal(value) for name, value in network.float().state_dict().items())


def test_numbers_of_numpy_beside_the_weights_are_no_harm(tmp_path):
    torch.save(
        {"a": torch.ones(1), "loss": np.float64(0.5), "all": np.ones(2)}, tmp_path / "a.ckpt"
    )
    expect_plain(tmp_path / "a.ckpt")


def test_names_that_are_allowed_in_the_process_stay_so(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    with torch.serialization.safe_globals([Hostile]):
        read_tensors(tmp_path / "a.pt")
        assert Hostile in torch.serialization.get_safe_globals()


# What a file claims


def program(*steps):
    """An archive as of torch.save with this program, and one storage of four numbers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"".join(steps) + b".")
        archive.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return file


def number(value):
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape, strides, offset=0, count=4, key=b"0"):
    storage = b"((U\x07storagectorch\nFloatStorage\nU" + bytes([len(key)]) + key + b"U\x03cpu"
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage[1:] + number(count) + b"tQ"
            + number(offset) + numbers(*shape) + numbers(*strides) + b"\x89NtR")  # fmt: skip


def test_the_program_of_these_tests_is_right():
    assert read_torch(program(tensor((2, 2), (2, 1)))).value.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (tensor((2**20, 2**20), (0, 0)), "repeat a few values to a huge size"),
        (tensor((2**40,), (1,)), "is more than its data"),
        (tensor((2, 2), (2, 1), offset=1), "is more than its data"),
        (tensor((4,), (1,), count=2**40), "claims more data than there is"),
        (tensor((4,), (1,), count=2**80), "wrong count of elements"),
        (tensor((-1,), (1,)), "not made of whole numbers"),
        (tensor((1,) * 20, (1,) * 20), "no list of up to 16 sides"),
        (tensor((1,), (1,), key=b"../0"), "claims more data than there is"),
        (b"K\x01K\x02\x86}K\x01s", "adds entries to something that is no mapping"),
        (b"}((((ttttK\x01s", "has a tuple for a key"),
        (b"(" * 1000, "it ends too early|a mark is where a value"),
        (b"ctorch\nfloat32\n)R", "it calls a dtype"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n}b", "it changes a Known"),
        (b"\x8c\xff", "it ends too early"),
        (b"I1\n", "unusual instruction 0x49"),
        (b"h\x07", "it is damaged"),
        (b"X\xff\xff\xff\xff", "it ends too early"),
    ],
)
def test_what_a_program_claims_is_not_believed(steps, reason):
    with pytest.raises(ValueError, match=reason):
        read_torch(program(steps))


def test_a_long_program_is_not_run():
    with pytest.raises(ValueError, match=r"in more than 16777216 bytes"):
        read_torch(program(b"]" * (2**24)))


def test_many_storages_of_an_old_file_take_no_time_that_grows_with_their_square():
    known = b"U\x07storageq\x00ctorch\nFloatStorage\nq\x01U\x03cpuq\x02000"
    one = b"(h\x00h\x01U\x05%05dh\x02K\x00tQ0"
    storages = b"".join(one % key for key in range(20_000))
    start = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
    parts = (number(1001), b"}", known + storages + b"U\x04done", b"]")
    file = io.BytesIO(start + b"".join(b"\x80\x02" + own + b"." for own in parts))
    begun = time.process_time()
    assert read_torch(file).value == "done"
    assert time.process_time() - begun < 4


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"cbuiltins\nlist\nq\x01", b"h\x01h\x00\x85R"),
        (b"cbuiltins\nset\nq\x01", b"h\x01h\x00\x85R0"),
        (b"ca\nThing\n)R", b"h\x00b"),
        (b"ca\nThing\n)R", b"h\x02b"),
    ],
)
def test_what_a_program_goes_through_again_and_again_is_bounded(first, again):
    entries = b"".join(b"U\x05%05dN" % key for key in range(10_000))
    many = b"](" + b"N" * 100_000 + b"eq\x000}(" + entries + b"uq\x020"
    with pytest.raises(ValueError, match="the same values again and again"):
        read_torch(program(many + first + again * 60_000))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_that_unpacks_to_gigabytes_is_refused_at_once(tmp_path, packing):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", packing) as archive:
        with archive.open("a/data/0", "w") as part:
            for _ in range(200):
                part.write(bytes(2**20))
        archive.writestr("a/data.pkl", b"\x80\x02N.")
    with pytest.raises(WeightsError, match=r"unpacks from \d+ to \d+ bytes|packed in an unusual"):
        read_tensors(tmp_path / "a.pt")


def test_an_archive_with_two_programs_or_hidden_in_a_comment_is_refused(tmp_path):
    for names, comment in ((("a/data.pkl", "b/data.pkl"), b""), (("a/data.pkl",), b"PK\x05\x06")):
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            for name in names:
                archive.writestr(name, b"\x80\x02}.")
            archive.comment = comment
        with pytest.raises(WeightsError, match=r"not one part 'data.pkl'|has a comment|damaged"):
            expect_plain(tmp_path / "a.pt")


def safe(table, data=b"", length=None):
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return io.BytesIO(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(shape, offsets, dtype="F32"):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (safe({}, length=2**63), "ends too early"),
        (safe(b"{" * 100), "no JSON"),
        (safe(b"[" * 100_000), "no JSON"),
        (safe(b"[]"), "no JSON object"),
        (safe(entry([1], [0, 4])), "outside the file"),
        (safe(entry([2**30, 2**30], [0, 4]), bytes(4)), "claims the shape"),
        (safe(entry([-1], [0, 4]), bytes(4)), "whole numbers from 0 up"),
        (safe(entry([1], [4, 0]), bytes(4)), "outside the file"),
        (safe(entry([1.0], [0, 4]), bytes(4)), "whole numbers from 0 up"),
        (safe(entry([1], [0, 4], "F99"), bytes(4)), "a type that is not known"),
        (safe({"a": 5}), "is not described"),
        (safe(entry([1], [0, 4]) | {"b": entry([1], [0, 4])["a"]}, bytes(4)), "overlap"),
        (io.BytesIO(b"\x01"), "ends too early"),
    ],
)
def test_what_a_safetensors_file_claims_is_not_believed(file, reason):
    with pytest.raises(ValueError, match=reason):
        read_safetensors(file)


def test_a_large_table_is_not_read(tmp_path):
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 2**30) + b"{")
        file.truncate(2**31)
    with pytest.raises(WeightsError, match=r"its table has 1073741824 bytes"):
        read_tensors(tmp_path / "a.safetensors")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_no_program_does_anything_but_fail_or_describe(data):
    with contextlib.suppress(FAULTS):
        read_torch(program(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_a_real_file_does_harm(data):
    for archive in (True, False):
        file = io.BytesIO()
        torch.save({"a": torch.rand(3), "b": [1, "x"]}, file,
                   _use_new_zipfile_serialization=archive)  # fmt: skip
        content = bytearray(file.getvalue())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        with contextlib.suppress(FAULTS):
            read_torch(io.BytesIO(content))


# What a YOLO file claims


def part(network, name, value):
    owner = network
    *way, last = name.split(".")
    for step in way:
        owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
    before = getattr(owner, last)
    owner.__dict__[last] = value
    return lambda: owner.__dict__.__setitem__(last, before)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("stride", torch.tensor([10.0**9]), r"multiples of 1000000000 pixels, beyond the 1024"),
        ("model.10.scale_factor", 1e6, r"scale_factor = 1000000.0, beyond the 16"),
        ("model.0.conv.padding", (10**400, 1), r"padding = 1000.*beyond the 64"),
        ("model.22.nc", 10**9, "does not find boxes"),
        ("model.22.nc", -1, "does not find boxes"),
    ],
)
def test_what_a_yolo_file_claims_is_bounded(network, name, value, reason, tmp_path):
    back = part(network, name, value)
    try:
        torch.save({"model": network}, tmp_path / "a.pt")
    finally:
        back()
    with pytest.raises(WeightsError, match=reason):
        read_yolo(tmp_path / "a.pt")


def test_the_size_of_a_yolo_files_input_is_bounded(network, tmp_path):
    torch.save({"model": network, "train_args": {"imgsz": 20000}}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"an input of 20000 pixels, beyond the 4096"):
        read_yolo(tmp_path / "a.pt")


def test_labels_are_cut_and_what_is_none_is_left_out():
    names = {0: "x" * 100_000, "1": "fine", 2: ["no"], "three": "no", -4: "no", 10**30: "no"}
    assert safe_weights.class_names(names) == {0: "x" * 200, 1: "fine"}
    assert len(safe_weights.class_names(["a"] * 300_000)) == 100_000


def test_layers_that_lie_in_themselves_or_run_for_ever_are_refused(tmp_path):
    ring = torch.nn.Sequential(torch.nn.Identity())
    ring._modules["0"] = ring
    torch.save({"model": ring}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="one of its layers contains itself"):
        read_yolo(tmp_path / "a.pt")
    layer = torch.nn.Identity()
    for _ in range(60):
        layer = torch.nn.Sequential(layer, layer)
    torch.save({"model": layer}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="so often that it would run"):
        read_yolo(tmp_path / "a.pt")


def test_the_modules_of_the_reader_use_no_reader_of_the_process():
    """Neither Python's reader of objects nor those of PyTorch and safetensors are named."""
    core = Path(sys.modules["detailers.core.files.tensor_files"].__file__).parents[1]
    for name in ("files/objects.py", "files/tensor_files.py", "detectors/safe_weights.py"):
        text = (core / name).read_text()
        for word in ("torch.load", "import pickle", "safetensors.torch", "torch.serialization."):
            assert f"{word}(" not in text and f"{word}\n" not in text, (name, word)
