"""The ways to find faces, in the host's memory management."""

from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import torch
from detailers.core.detectors.lbp_faces import LBPFaceDetector
from detailers.core.detectors.mtcnn import FaceNetworks, MTCNNFaceDetector
from detailers.core.host import detectors
from detailers.core.host.detectors import load_face_detector, load_face_finder
from detailers.utils.notes import collected_notes


def made_up():
    torch.manual_seed(0)
    return FaceNetworks().eval().requires_grad_(False)


@contextmanager
def package(installed):
    """Whether the package with the weights is installed; they are made up."""
    before = detectors.weights_folder, detectors.load_networks
    detectors.weights_folder = lambda: Path("weights") if installed else None
    if installed:
        detectors.load_networks = made_up
    try:
        with collected_notes() as notes:
            yield notes
    finally:
        detectors.weights_folder, detectors.load_networks = before


def check_auto_is_mtcnn_where_its_weights_are():
    with package(installed=True) as notes:
        detector = load_face_detector("auto", 0)
        assert isinstance(detector, MTCNNFaceDetector)
        assert detector.finder.smallest == 20
        assert load_face_detector("MTCNN", 64).finder.smallest == 64
        assert isinstance(load_face_detector("LBP", 64), LBPFaceDetector)
    assert notes == []


def check_auto_is_the_cascade_elsewhere_and_says_so():
    with package(installed=False) as notes:
        detector = load_face_detector("auto", 48)
        assert isinstance(detector, LBPFaceDetector)
        assert detector.min_size == 48
        (told,) = notes
        assert "pip install --no-deps facenet-pytorch" in told.text
        load_face_detector("LBP", 0)
        assert len(notes) == 1


def check_a_method_that_does_not_exist_is_told():
    try:
        load_face_detector("YOLO", 0)
    except ValueError as error:
        assert "'method' is 'YOLO'" in str(error) and "auto, MTCNN, LBP" in str(error)
    else:
        raise AssertionError("nothing was raised")


def check_the_networks_are_among_the_hosts_loaded_models():
    with package(installed=True):
        finder = load_face_finder()
        image = torch.rand(60, 80, 3, generator=torch.Generator().manual_seed(0))
        first = finder.find(image, 0.0)
        loaded = comfy.model_management.current_loaded_models
        assert any(model.model is finder.network._patcher for model in loaded)
        assert torch.equal(finder.find(image, 0.0).boxes, first.boxes)
