"""core/graph/painted_masks.py and core/files/latent_file.py: painted masks, latents in files."""

import base64
import io
import zipfile

import numpy as np
import pytest
import torch
from detailers.core.files.latent_file import picture_in, read_latent, write_latent_picture
from detailers.core.geometry import Size
from detailers.core.graph.painted_masks import (
    Painting,
    Paintings,
    Picture,
    Place,
    file_entry,
    file_value,
    fingerprint,
    keep_mask,
)
from detailers.utils.notes import collected_notes
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

# Names of files


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a.png [input]", ("a.png", "", "input")),
        ("clipspace/b c.png [temp]", ("b c.png", "clipspace", "temp")),
        ("d\\e/f.png", ("f.png", "d/e", "input")),
        ("絵.png [output]", ("絵.png", "", "output")),
        ({"filename": "g.png", "subfolder": "h", "type": "temp"}, ("g.png", "h", "temp")),
        (str({"filename": "g.png", "subfolder": "", "type": "input", "image_hash": 1}),
         ("g.png", "", "input")),
    ],
)  # fmt: skip
def test_names_of_files(value, expected):
    assert tuple(file_entry(value).values()) == expected


@pytest.mark.parametrize(
    "value", ["", "$13-0", "#placeholder", None, 5, "{", "{'filename': 1}", "{" * 10**6, "{(" * 900]
)
def test_what_names_no_file(value):
    assert file_entry(value) is None


@given(st.text(), st.sampled_from(["input", "output", "temp"]))
def test_every_name_is_read(name, folder):
    entry = file_entry(f"{name} [{folder}]")
    assert entry is None or entry["type"] == folder or name.startswith("{")


def test_a_file_has_one_name():
    entry = {"filename": "a.png", "subfolder": "b/c", "type": "temp"}
    assert file_value(entry) == "b/c/a.png [temp]"
    assert file_entry(file_value(entry)) == entry


# Which picture a mask belongs to


def test_fingerprints_tell_pictures_apart():
    picture = torch.rand(2, 5, 7, 3)
    assert fingerprint(picture) == fingerprint(picture.clone())
    assert fingerprint(picture) == fingerprint(picture.double())
    changed = picture.clone()
    changed[1, 4, 6, 2] = (changed[1, 4, 6, 2] + 0.5) % 1
    for other in (changed, picture[:1], picture.transpose(1, 2), picture * 0 + float("nan")):
        assert fingerprint(other) != fingerprint(picture)


MASK = torch.zeros(1, 5, 7)
MASK[0, 1:3, 2:6] = 1
SMALL, LARGE = Size(7, 5), Size(14, 10)


@pytest.fixture
def show():
    """show(picture, painting, ...): whether the mask is kept, and whether as its own."""
    paintings = Paintings()

    def show(
        picture, painting="", size=SMALL, restore="never", node="1", mask=MASK, workflow="w",
        kind="PreviewBridge", state="",
    ):  # fmt: skip
        painted = Painting(painting, mask if painting else None, state)
        place = Place(workflow, kind, node)
        kept = keep_mask(paintings, place, Picture(picture, size), painted, restore)
        if kept is None:
            return None
        assert tuple(kept.mask.shape) == (1, size.height, size.width)
        return "own" if kept.is_own else "restored"

    return show


def test_a_mask_stays_while_the_picture_does(show):
    assert show("A") is None
    assert [show("A", "p"), show("A", "p")] == ["own", "own"]


def test_a_mask_goes_with_its_picture_and_returns(show):
    show("A")
    show("A", "p")
    assert [show("B", "p"), show("B", "p"), show("A", "p")] == [None, None, "own"]


def test_a_mask_painted_on_the_last_picture_is_not_of_the_next(show):
    show("A")
    assert show("B", "p") is None  # a new picture came in the same run as the mask
    assert show("A", "p") == "own"


def test_a_mask_is_restored_where_asked(show):
    show("A")
    show("A", "p")
    assert show("B", "p", restore="if_same_size") == "restored"
    assert show("C", "p", size=LARGE, restore="if_same_size") is None
    assert show("C", "p", size=LARGE, restore="always") == "restored"


def test_after_a_restart_the_size_decides(show):
    assert show("A", "p") == "own"
    assert show("A", "q", size=LARGE, node="2") is None
    assert show("A", "q", size=SMALL, node="2") == "own"


def test_nodes_of_two_workflows_may_have_the_same_number(show):
    show("A")  # one workflow
    show("X")  # the other
    assert [show("A", "p"), show("X", "q")] == ["own", "own"]


def test_a_saved_painting_is_not_taken_for_one_of_another_workflows_node(show):
    """The first to run has the same number, and has shown another picture."""
    show("A", workflow="first")
    assert show("B", "p", workflow="second") == "own"
    show("C", node="2", kind="PreviewBridgeLatent")
    assert show("D", "q", node="2") == "own"
    assert show("E", "r", node="2") is None  # of the same workflow and kind


def test_what_is_painted_anew_under_the_same_name_is_another_painting(show):
    show("A")
    show("A", "p", state="1")
    show("B")
    assert show("B", "p", state="1") is None
    assert show("B", "p", state="2") == "own"


@pytest.mark.parametrize(
    ("size", "remedy"), [(SMALL, "to 'always' or 'if_same_size'."), (LARGE, "to 'always'.")]
)
def test_a_mask_that_is_not_used_is_told(show, size, remedy):
    show("A")
    with collected_notes() as notes:
        show("A", "p")
        assert not notes
        assert show("B", "p", size=size) is None
    assert [told.kind for told in notes] == ["mask"]
    assert "The mask 'p' is not used" in notes[0].text
    assert notes[0].text.endswith(remedy)


def test_an_empty_painting_is_none(show):
    assert show("A", "p", mask=torch.zeros(1, 5, 7)) is None


def test_memory_is_bounded():
    paintings = Paintings(limit=3)
    places = [Place("w", "PreviewBridge", str(number)) for number in range(100)]
    for number, place in enumerate(places):
        paintings.shown(place, "A")
        paintings.painted(str(number), "A")
    assert len(paintings._shown) == len(paintings._origins) == 3
    assert paintings.belongs(places[99], "99", "A", False)


# Latents in files


@pytest.fixture
def latent():
    return {"samples": torch.randn(2, 4, 5, 7), "noise_mask": torch.rand(1, 5, 7)}


def test_a_latent_comes_back(latent, tmp_path):
    file = tmp_path / "a.latent.png"
    write_latent_picture(file, latent, torch.full((1, 40, 56, 3), 0.5), {"workflow": "絵"})
    back = read_latent(file)
    assert back.keys() == latent.keys()
    assert all(torch.equal(back[key], latent[key]) for key in latent)
    with Image.open(file) as picture:
        assert picture.size == (56, 40)
        assert picture.text["workflow"] == "絵"
        assert (np.asarray(picture) == 128).all()


def test_early_latents_are_scaled(tmp_path):
    from safetensors.torch import save_file

    samples = torch.randn(1, 4, 5, 7)
    save_file({"latent_tensor": samples}, tmp_path / "a.latent")
    torch.testing.assert_close(read_latent(tmp_path / "a.latent")["samples"], samples / 0.18215)


def picture_with(comment, file):
    exif = Image.Exif()
    exif[0x8769] = {0x9286: comment}
    Image.new("RGB", (4, 4)).save(file, exif=exif)


def test_what_holds_no_latent_is_told(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.latent.png")
    picture_with(b"no archive", tmp_path / "text.latent.png")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("other", b"")
    picture_with(other.getvalue(), tmp_path / "other.latent.png")
    (tmp_path / "broken.latent").write_bytes(b"\xff" * 100)
    (tmp_path / "pickle.latent").write_bytes(b"\x80\x04K\x01.")
    for file in tmp_path.iterdir():
        with pytest.raises(ValueError, match="in which no latent is found"):
            read_latent(file)


def test_an_archive_that_unpacks_to_very_much_is_refused(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("latent", bytes(70 * 2**20))
    picture_with(packed.getvalue(), tmp_path / "huge.latent.png")
    with pytest.raises(ValueError, match=r"unpacks from \d+ to 73400320 bytes"):
        read_latent(tmp_path / "huge.latent.png")


# Pictures in texts


def test_a_picture_in_a_text():
    file = io.BytesIO()
    Image.fromarray(np.uint8([[[255, 0, 51, 0], [0, 0, 0, 255]]])).save(file, "png")
    data = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    image, mask = picture_in(data)
    torch.testing.assert_close(image, torch.tensor([[[[1, 0, 0.2], [0, 0, 0]]]]))
    assert mask.tolist() == [[[1, 0]]]


@pytest.mark.parametrize("data", ["", "[IMAGE DATA]", "data:image/png;base64,AAAA", "data:,%%"])
def test_a_text_without_a_picture_is_told(data):
    with pytest.raises(ValueError, match="'image_data' holds no picture"):
        picture_in(data)
