"""MTCNN: its networks and stages with made-up weights, its files, and photographs with the real
ones."""

import math
import sys

import numpy as np
import pytest
import torch
from detailers.core.detectors import mtcnn, mtcnn_files
from detailers.core.detectors.host_data import SegmentOptions, landmarks_to_segs
from detailers.core.detectors.mtcnn import FaceFinder, FaceNetworks, Faces, MTCNNFaceDetector
from detailers.core.detectors.mtcnn_landmarks import face_landmarks
from detailers.core.detectors.network import CpuNetwork
from detailers.core.detectors.safe_weights import WeightsError
from detailers.core.geometry import Size
from detailers.core.segs.face_landmarks import eyes_in
from detailers.core.segs.tilt import rotation_of
from detailers.core.settings import LANDMARKS, Upright
from detailers.dev.photographs import PHOTOGRAPHS, Photograph, compared
from detailers.utils.notes import collected_notes
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode


def random_networks(seed=0):
    torch.manual_seed(seed)
    return FaceNetworks().eval().requires_grad_(False)


def faces_of(*rows, points=None):
    """Faces from rows of left, top, right, bottom and score."""
    values = torch.tensor(rows, dtype=torch.float32).view(-1, 5)
    points = torch.zeros(len(values), 5, 2) if points is None else points
    return Faces(values[:, :4], values[:, 4], points)


# Networks


def test_the_networks_answer_in_the_shapes_of_the_paper():
    networks = random_networks()
    for (height, width), (rows, columns) in {
        (12, 12): (1, 1), (13, 14): (2, 2), (14, 25): (2, 8), (40, 31): (15, 11),
    }.items():  # fmt: skip
        scores, moves = networks.pnet(torch.rand(1, 3, height, width))
        assert scores.shape == (1, 2, rows, columns)
        assert moves.shape == (1, 4, rows, columns)
    assert [tuple(t.shape) for t in networks.rnet(torch.rand(7, 3, 24, 24))] == [(7, 2), (7, 4)]
    shapes = [tuple(t.shape) for t in networks.onet(torch.rand(7, 3, 48, 48))]
    assert shapes == [(7, 2), (7, 4), (7, 10)]
    counts = [sum(t.numel() for t in part.parameters()) for part in networks.children()]
    assert counts == [6632, 100178, 389040]


def test_maps_are_flattened_column_by_column():
    maps = torch.arange(12).view(1, 2, 2, 3)  # 2 channels of 2 rows and 3 columns
    assert mtcnn.Flat()(maps).tolist() == [[0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11]]


# Stages


def test_scales_go_from_the_smallest_face_to_the_whole_image():
    assert mtcnn.scales(200, 100, 20) == pytest.approx(
        [0.6, 0.4254, 0.3016086, 0.2138405, 0.1516129]
    )
    assert mtcnn.scales(12, 12, 12) == [1.0]
    assert mtcnn.scales(300, 19, 20) == []


@pytest.mark.parametrize(("height", "width"), [(64, 50), (65, 50), (31, 20), (12, 12), (13, 40)])
def test_bands_answer_as_the_whole_image_does(monkeypatch, height, width):
    network, image = random_networks().pnet, torch.rand(1, 3, height, width)
    whole = network(image)
    monkeypatch.setattr(mtcnn, "BAND", 5 * width)  # two rows of the answer at a time
    parts = list(mtcnn.bands(image))
    assert len(parts) == math.ceil(whole[0].shape[2] / 2)
    assert [first for first, _ in parts] == list(range(0, whole[0].shape[2], 2))
    for number, expected in enumerate(whole):
        joined = torch.cat([network(part)[number] for _, part in parts], dim=2)
        torch.testing.assert_close(joined, expected)


def test_proposals_are_squares_of_the_image_where_the_network_answers():
    scores = torch.full((1, 2, 2, 3), 0.0)
    scores[0, 1, 1, 2] = 5.0
    moves = torch.zeros(1, 4, 2, 3)
    moves[0, :, 1, 2] = torch.tensor([0.5, 0.25, 0.0, -0.25])
    found = mtcnn._proposed((scores, moves), 10, (2.0, 3.0))
    # column 2 and row 11 of the answer: pixels 4 to 16 and 22 to 34 of the scale
    assert found.boxes.tolist() == [[8 + 12, 66 + 9, 32, 102 - 9]]
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-5))])


def test_boxes_become_squares_around_the_same_middle():
    squares = mtcnn.squares(torch.tensor([[0.0, 10.0, 20.0, 20.0], [5.0, 5.0, 5.0, 5.0]]))
    assert squares.tolist() == [[0.0, 5.0, 20.0, 25.0], [4.5, 4.5, 5.5, 5.5]]


def test_points_lie_where_they_are_in_a_square_also_a_turned_one():
    box = torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    places = torch.tensor([[0.25, 1.0, 0.5, 0.0]])  # x, x, y, y
    assert mtcnn.placed(box, places).tolist() == [[[15.0, 30.0], [30.0, 20.0]]]
    turned = mtcnn.placed(box, places, torch.tensor([math.pi / 2]))[0]
    torch.testing.assert_close(turned, torch.tensor([[20.0, 25.0], [30.0, 40.0]]))


def test_of_boxes_that_overlap_the_surest_stays():
    found = faces_of(
        (0, 0, 10, 10, 0.6), (1, 0, 11, 10, 0.9), (30, 0, 40, 10, 0.7), (4, 0, 14, 10, 0.8)
    )
    # 0 and 1 share 9/11, 1 and 3 share 7/13
    assert mtcnn.surest(found, 0.7).scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert mtcnn.surest(found, 0.5).scores.tolist() == pytest.approx([0.9, 0.7])


def test_a_box_in_another_goes_however_much_larger_that_is():
    found = faces_of((10, 10, 14, 14, 0.8), (0, 0, 100, 100, 0.9), (95, 0, 105, 10, 0.95))
    assert mtcnn.without_nested(found, 0.7).scores.tolist() == pytest.approx([0.95, 0.9])
    assert len(mtcnn.surest(found, 0.7).scores) == 3


def ramp(height, width):
    """[1,3,H,W]: x, y and 1, in thousandths."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, 1000.0)])[None] / 1000


@pytest.mark.parametrize("edge", [8, 20, 64, 200])
def test_crops_show_what_is_in_the_square(edge):
    levels = mtcnn.halved(ramp(256, 320), 8)
    box = torch.tensor([[50.0, 40.0, 50.0 + edge, 40.0 + edge]])
    crop = mtcnn.crops(levels, box, 8)[0] * 1000
    steps = (torch.arange(8) + 0.5) * edge / 8
    torch.testing.assert_close(crop[0], (50 + steps).expand(8, 8), atol=0.01, rtol=0)
    torch.testing.assert_close(crop[1], (40 + steps)[:, None].expand(8, 8), atol=0.01, rtol=0)


def test_crops_are_turned_and_black_outside_of_the_image():
    levels = mtcnn.halved(ramp(100, 100), 8)
    boxes = torch.tensor([[40.0, 40.0, 56.0, 56.0], [-16.0, 10.0, 16.0, 42.0]])
    turned, cut = mtcnn.crops(levels, boxes, 16, torch.tensor([math.pi / 2, 0.0])) * 1000
    # turned clockwise by a quarter, the crop's left is above, so that x falls from row to row
    torch.testing.assert_close(turned[0, :, 3], 55.5 - torch.arange(16.0), atol=0.01, rtol=0)
    torch.testing.assert_close(turned[1, 3], 40.5 + torch.arange(16.0), atol=0.01, rtol=0)
    assert cut[2, :, :7].abs().max() == 0
    torch.testing.assert_close(cut[2, :, 9:], torch.full((16, 7), 1000.0))


class White(torch.nn.Module):
    """Takes for a face what is white; the crop's box stays, the points are where they should be."""

    PLACES = (0.3, 0.7, 0.5, 0.35, 0.65, 0.4, 0.4, 0.6, 0.8, 0.8)

    def __init__(self, window=None):
        super().__init__()
        self.window = window

    def forward(self, pixels):
        assert -1 <= pixels.min() <= pixels.max() <= 1
        bright = (pixels.mean(1, keepdim=True) + 1) / 2
        if self.window:  # the first network: every 12x12 square, two pixels apart
            bright = torch.nn.functional.avg_pool2d(bright, self.window, 2)
            logits = (bright - 0.95) * 1000
            return torch.cat([-logits, logits], dim=1), logits.new_zeros(1, 4, *logits.shape[2:])
        logits = (bright.mean(dim=(1, 2, 3)) - 0.9)[:, None] * 100
        moves = logits.new_zeros(len(logits), 4)
        return (
            torch.cat([-logits, logits], dim=1),
            moves,
            moves.new_tensor(self.PLACES).expand(len(logits), 10),
        )


class Interrupted(CpuNetwork):
    def check_interrupt(self):
        raise KeyboardInterrupt


def white_networks():
    networks = torch.nn.Module()
    networks.pnet, networks.rnet, networks.onet = White(12), White(), White()
    return networks


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_stages_together_find_what_the_networks_look_for(channels):
    image = torch.zeros(150, 200, channels)
    image[40:100, 60:120] = 1
    found = FaceFinder(CpuNetwork(white_networks()), 40).find(image, 0.5)
    assert len(found.scores) >= 1
    for box, points in zip(found.boxes.tolist(), found.points, strict=True):
        assert box[0] >= 57 and box[1] >= 37 and box[2] <= 123 and box[3] <= 103
        side = box[2] - box[0]
        assert side >= 38
        expected = torch.tensor(White.PLACES).view(2, 5).T * side + torch.tensor(box[:2])
        torch.testing.assert_close(points, expected)


class NoAdaptivePools(TorchDispatchMode):
    """A device that pools by whole factors alone, as Apple's GPUs do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "adaptive" in str(func):
            raise RuntimeError(f"{func} is not implemented on this device")
        return func(*args, **(kwargs or {}))


def test_no_operation_is_used_that_apples_gpus_do_not_have():
    with NoAdaptivePools():
        FaceFinder(CpuNetwork(white_networks()), 40).find(torch.rand(121, 167, 3), 0.5)


def test_nothing_is_found_where_nothing_is_and_in_images_smaller_than_a_face():
    finder = FaceFinder(CpuNetwork(white_networks()), 20)
    assert finder.find(torch.zeros(50, 60, 3), 0.0).scores.shape == (0,)
    small = finder.find(torch.ones(19, 60, 3), 0.0)
    assert [tuple(t.shape) for t in (small.boxes, small.scores)] == [(0, 4), (0,)]
    assert MTCNNFaceDetector(finder).detect(torch.zeros(1, 50, 60, 3), 0.5, 0, 2.0)[1] == []


def test_it_can_be_stopped():
    with pytest.raises(KeyboardInterrupt):
        FaceFinder(Interrupted(white_networks())).find(torch.zeros(50, 60, 3), 0.5)


# Files


def package(folder, networks, old=True):
    """A package with the weights of networks, which must not be imported."""
    data = folder / "facenet_pytorch" / "data"
    data.mkdir(parents=True)
    (folder / "facenet_pytorch" / "__init__.py").write_text("raise ImportError('was imported')")
    for name in ("pnet", "rnet", "onet"):
        state = getattr(networks, name).state_dict()
        torch.save(state, data / f"{name}.pt", _use_new_zipfile_serialization=not old)
    return data


@pytest.fixture
def only(monkeypatch, tmp_path):
    """Packages are found in one folder alone, which it gives."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "facenet_pytorch", raising=False)
    return tmp_path


@pytest.mark.parametrize("old", [True, False])
def test_weights_are_read_from_the_package_without_importing_it(only, old):
    networks = random_networks(3)
    data = package(only, networks, old)
    assert mtcnn_files.weights_folder() == data
    loaded = mtcnn_files.load_networks()
    for name, tensor in networks.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert not loaded.training
    assert "facenet_pytorch" not in sys.modules


def test_without_the_package_the_error_says_how_to_get_it(only):
    assert mtcnn_files.weights_folder() is None
    with pytest.raises(RuntimeError, match="pip install --no-deps facenet-pytorch"):
        mtcnn_files.load_networks()


def test_damaged_and_foreign_files_are_errors_that_name_them(only):
    data = package(only, random_networks())
    (data / "rnet.pt").write_bytes((data / "pnet.pt").read_bytes())
    with pytest.raises(WeightsError, match=r"rnet.pt' holds the weights of another network"):
        mtcnn_files.load_networks()
    (data / "rnet.pt").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=r"'rnet.pt'"):
        mtcnn_files.load_networks()
    (data / "rnet.pt").unlink()
    with pytest.raises(WeightsError, match=r"'rnet.pt'"):
        mtcnn_files.load_networks()


# Landmarks


def upright_face(angle=0.0):
    """A face of 100 pixels around (200, 150) that leans clockwise by so many degrees."""
    points = np.array([[-20, -15], [20, -15], [0, 5], [-15, 25], [15, 25]], dtype=float)
    a = math.radians(angle)
    points = points @ np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
    points = torch.tensor(points + np.array([200, 150]), dtype=torch.float32)[None]
    return faces_of((155, 95, 245, 205, 0.9), points=points)


@pytest.mark.parametrize("angle", [0, 30, -75])
def test_landmarks_have_the_eyes_and_tell_how_a_face_leans(angle):
    image = Size(400, 300)
    landmarks = face_landmarks([faces_of(), upright_face(angle)], image)
    assert landmarks["image_size"] == (300, 400)
    assert landmarks["frames"][0] == []
    assert eyes_in(landmarks, image, 0) == []
    ((right, left),) = eyes_in(landmarks, image, 1)
    expected = upright_face(angle).points[0, :2].numpy()
    np.testing.assert_allclose([right, left], expected, atol=1e-3)
    (face,) = landmarks["frames"][1]
    np.testing.assert_array_equal(face["landmarks_xy"][:5], upright_face(angle).points[0].numpy())
    np.testing.assert_array_equal(face["bbox_xyxy"], [155, 95, 245, 205])
    assert face["score"] == pytest.approx(0.9)


def test_landmarks_have_the_lines_that_the_hosts_nodes_ask_for():
    sets = face_landmarks([upright_face()], Size(400, 300))["connection_sets"]
    parts = {"face_oval", "lips", "left_eye", "right_eye", "left_eyebrow", "right_eyebrow",
             "irises", "nose", "tesselation", "contours", "all"}  # fmt: skip
    assert sets.keys() == parts
    for part in ("face_oval", "lips", "left_eye", "right_eye"):
        ends = [end for line in sets[part] for end in line]
        assert all(ends.count(end) == 2 for end in ends)  # a closed line


def test_parts_of_a_face_become_segments_and_those_without_lines_are_told():
    landmarks = face_landmarks([upright_face()], Size(400, 300))
    making = SegmentOptions(crop_factor=1.0, drop_size=1, crop_min_size=10)
    wanted = ("face", "mouth", "left_eye", "right_eye", "left_eyebrow", "right_pupil")
    with collected_notes() as notes:
        _, segs = landmarks_to_segs(landmarks, wanted, making)
    boxes = {seg.label: seg.bbox for seg in segs}
    assert boxes == {
        "face": (157, 92, 244, 209),
        "mouth": (185, 167, 216, 184),
        "left_eye": (210, 129, 231, 142),
        "right_eye": (170, 129, 191, 142),
    }
    (told,) = notes
    assert "no lines around: left eyebrow, right pupil" in told.text


# Photographs


@pytest.fixture(scope="module")
def finder():
    if mtcnn_files.weights_folder() is None:
        pytest.skip(f"needs the weights of MTCNN: {mtcnn_files.INSTALL}")
    return FaceFinder(CpuNetwork(mtcnn_files.load_networks()))


def read(photograph):
    if photograph.path is None:
        pytest.skip(f"{photograph.package} with {photograph.file} is not installed")
    return photograph.read()


def by_name(name) -> Photograph:
    (photograph,) = [each for each in PHOTOGRAPHS if each.name == name]
    return photograph


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda photograph: photograph.name)
def test_every_face_of_a_photograph_is_found_and_nothing_else(finder, photograph):
    image = read(photograph)
    _, segs = MTCNNFaceDetector(finder).detect(image, 0.5, 0, 2.0, drop_size=10)
    missed, false = compared([seg.bbox for seg in segs], photograph.faces)
    assert (missed, false) == ([], [])
    assert all(seg.label == "face" and 0.9 < seg.confidence <= 1 for seg in segs)
    eyes = eyes_in(face_landmarks([finder.find(image[0], 0.5)], Size(*image.shape[2:0:-1])),
                   Size(*image.shape[2:0:-1]), 0)  # fmt: skip
    for pair in photograph.eyes:
        reach = max(4, 0.1 * (pair[1][0] - pair[0][0]))
        assert any(np.abs(np.subtract(own, pair)).max() <= reach for own in eyes)


def test_the_same_photograph_gives_the_same_faces_bit_for_bit(finder):
    image = read(by_name("astronaut"))[0]
    first, second = finder.find(image, 0.5), finder.find(image, 0.5)
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.points, second.points)


def test_a_larger_least_size_leaves_small_faces_out(finder):
    image = read(by_name("bus"))[0]
    large = FaceFinder(finder.network, 80)
    assert len(finder.find(image, 0.5).scores) == 2
    assert len(large.find(image, 0.5).scores) == 0


@pytest.mark.parametrize("angle", [-40, -20, 20, 40])
def test_landmarks_tell_how_a_photographed_face_leans(finder, angle):
    picture = Image.fromarray((read(by_name("astronaut"))[0].numpy() * 255).astype(np.uint8))
    leaning = picture.rotate(-angle, Image.Resampling.BICUBIC)  # PIL turns to the other side
    image = torch.from_numpy(np.array(leaning))[None].float() / 255
    size = Size(image.shape[2], image.shape[1])
    landmarks = face_landmarks([finder.find(image[0], 0.5)], size)
    _, (seg,) = MTCNNFaceDetector(finder).detect(image, 0.5, 0, 2.0)
    found = math.degrees(rotation_of(seg, Upright(LANDMARKS, landmarks=landmarks), size))
    assert found == pytest.approx(angle + 3, abs=3)  # the head itself leans by 3 degrees
