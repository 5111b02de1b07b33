"""Detectors in ComfyUI's folders and memory management."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch

from ...utils.notes import note
from ...utils.paths import expect_path
from ..detectors.base import BoxDetector
from ..detectors.clipseg import CLIPSegDetector, load_clipseg
from ..detectors.hub import HubName, network_folder
from ..detectors.lbp_faces import LBPFaceDetector
from ..detectors.mtcnn import SMALLEST, FaceFinder, MTCNNFaceDetector
from ..detectors.mtcnn_files import INSTALL, load_networks, weights_folder
from ..detectors.onnx import onnx_detector, onnx_detectors
from ..detectors.safe_weights import read_yolo
from ..detectors.sam.load import load_sam
from ..detectors.sam.model import Sam
from ..detectors.yolo import YoloDetector, ultralytics_detector
from .person_embedders import register_embedder_folders
from .user_folder import fetching, user_settings

SAM_MODES = ("AUTO", "Prefer GPU", "CPU")
AUTO, MTCNN, LBP = FACE_METHODS = ("auto", "MTCNN", "LBP")
CLIPSEG = "CIDAS/clipseg-rd64-refined"  # its name on Hugging Face, and of its folder

_PYTORCH = {".pt", ".pth", ".safetensors"}
_FOLDERS = {  # ComfyUI's name for a model folder: the folder, its kinds of files
    "ultralytics": ("ultralytics", {".pt", ".onnx"}),
    "ultralytics_bbox": ("ultralytics/bbox", {".pt", ".onnx"}),
    "ultralytics_segm": ("ultralytics/segm", {".pt", ".onnx"}),
    "onnx": ("onnx", {".onnx"}),
    "sams": ("sams", _PYTORCH),
    "clipseg": ("clipseg", set()),
}


def register_folders() -> None:
    """Register the detectors' model folders, so that `extra_model_paths.yaml` can add paths."""
    for name, (folder, extensions) in _FOLDERS.items():
        path = os.path.join(folder_paths.models_dir, *folder.split("/"))
        folder_paths.add_model_folder_path(name, path)
        folder_paths.folder_names_and_paths[name][1].update(extensions)
    register_embedder_folders()


class Detector(torch.nn.Sequential):
    """A wrapper for a network: ComfyUI sets attributes that some networks do not allow."""


class Resident:
    """A network in ComfyUI's memory management; see `detectors.network.Network`.

    Args:
        module: the network, on the CPU.
        mode: one of SAM_MODES. "AUTO": the network leaves the device after use. "Prefer GPU": it
            leaves it only when ComfyUI needs the memory. "CPU": it runs on the CPU.
    """

    def __init__(self, module: torch.nn.Module, mode: str = "AUTO") -> None:
        cpu = torch.device("cpu")
        device = cpu if mode == "CPU" else comfy.model_management.get_torch_device()
        self.module = module
        self.stays = mode != "AUTO"
        self._patcher = comfy.model_patcher.ModelPatcher(
            Detector(module), load_device=device, offload_device=cpu
        )
        self._users = 0

    @contextmanager
    def on_device(self) -> Iterator[torch.device]:
        """The device of the network, which is loaded there while the context is open."""
        self.check_interrupt()
        device = self._patcher.load_device
        if not self._users or self._was_unloaded(device):
            comfy.model_management.load_models_gpu([self._patcher], force_full_load=True)
            self.module.to(
                device
            )  # with --novram ComfyUI does not load layers that it cannot stream
        self._users += 1
        try:
            yield device
        finally:
            self._users -= 1
            if not (self._users or self.stays):
                self._leave(device)

    def _was_unloaded(self, device: torch.device) -> bool:
        """Whether the network was unloaded to free memory while it was in use."""
        first = next(self.module.parameters(), None)
        return first is not None and first.device.type != torch.device(device).type

    def _leave(self, device: torch.device) -> None:
        if device.type == "cpu":
            return
        loaded = comfy.model_management.current_loaded_models
        others = [model for model in loaded if model.model is not self._patcher]
        comfy.model_management.free_memory(1e30, device, keep_loaded=others)
        self.module.to(self._patcher.offload_device)

    def check_interrupt(self) -> None:
        """Raise ComfyUI's exception if the user has interrupted the run."""
        comfy.model_management.throw_exception_if_processing_interrupted()


# Files


def yolo_names() -> list[str]:
    """The files of models/ultralytics, as `bbox/<file>` and `segm/<file>`."""
    names = [
        f"{kind}/{name}"
        for kind in ("bbox", "segm")
        for name in folder_paths.get_filename_list(f"ultralytics_{kind}")
    ]
    return list(dict.fromkeys(name.replace("\\", "/") for name in names))


def onnx_names() -> list[str]:
    """The files of models/onnx."""
    return folder_paths.get_filename_list("onnx")


def sam_names() -> list[str]:
    """The files of models/sams."""
    return folder_paths.get_filename_list("sams")


def load_yolo(name: str) -> tuple[YoloDetector, YoloDetector | None]:
    """The detector of boxes of a file, and for a `segm/` file also its detector of outlines."""
    expect_path(name, "model_name")
    kind, _, own = name.partition("/")
    path = folder_paths.get_full_path(f"ultralytics_{kind}", own) if own else None
    path = path or _file("ultralytics", name)
    with_shapes = kind == "segm"
    if path.endswith(".onnx"):
        boxes, shapes = onnx_detectors(path)
        return boxes, shapes if with_shapes else None
    file = read_yolo(path)
    network = Resident(file.network)
    boxes = ultralytics_detector(file, network, False)
    return boxes, ultralytics_detector(file, network, True) if with_shapes else None


def load_onnx(name: str) -> YoloDetector:
    """The detector of an .onnx file."""
    return onnx_detector(_file("onnx", name))


def load_sam_model(name: str, mode: str) -> Sam:
    """Load the SAM of a file; `mode` is one of SAM_MODES."""
    return load_sam(_file("sams", name), lambda module: Resident(module, mode))


def load_clipseg_detector(options: Any, download: bool) -> CLIPSegDetector:
    """A detector that looks for the thing that a text names. Its network is loaded when first used.

    Args:
        options: a CLIPSegOptions.
        download: download the network from Hugging Face if it is not on this machine. The user's
            own settings have to allow it and to name the commit, see `hub`.
    """
    folders = folder_paths.get_folder_paths("clipseg")

    def load() -> tuple[Any, Resident]:
        wanted = HubName(CLIPSEG, user_settings().clipseg_revision or None)
        remedy = (
            f"Put the files of {CLIPSEG} from Hugging Face into ComfyUI's "
            f"models/clipseg/{CLIPSEG.split('/')[-1]}."
        )
        if not download:
            remedy += " Or turn 'download' on."
        elif not wanted.is_pinned:
            remedy += ' Write its commit into that file too, as "clipseg_revision".'
        folder = network_folder(wanted, folders, fetching(download), remedy, or_itself=True)
        processor, module = load_clipseg(folder)
        return processor, Resident(module)

    return CLIPSegDetector(options, load)


# Faces


def load_face_finder(smallest: int = 0) -> FaceFinder:
    """MTCNN, for faces of at least this number of pixels. 0 means `mtcnn.SMALLEST`.

    Raises:
        RuntimeError: the package with its weights is not installed.
        WeightsError: the file with the weights is damaged.
    """
    return FaceFinder(Resident(load_networks(), "Prefer GPU"), smallest or SMALLEST)


def load_face_detector(method: str, smallest: int = 0) -> BoxDetector:
    """The face detector of one of FACE_METHODS.

    AUTO is MTCNN if its weights are installed. Otherwise it is LBP, and the user is told so.

    Raises:
        ValueError: the method does not exist.
        RuntimeError: the package that the method needs is not installed.
    """
    if method not in FACE_METHODS:
        raise ValueError(
            f"'method' is {method!r}, which does not exist. Choose one of: "
            f"{', '.join(FACE_METHODS)}."
        )
    if method == MTCNN or (method == AUTO and weights_folder()):
        return MTCNNFaceDetector(load_face_finder(smallest))
    detector = LBPFaceDetector(smallest)
    if method == AUTO:
        note(
            "detector",
            "Faces are detected by the LBP cascade, which only finds upright faces seen from the "
            "front. MTCNN finds more: to use it, install its weights in ComfyUI's Python: "
            f"{INSTALL}. Choose the method LBP to use the cascade without this note.",
        )
    return detector


def _file(kind: str, name: str) -> str:
    expect_path(name, "model_name")
    path = folder_paths.get_full_path(kind, name)
    if path is None:
        raise ValueError(
            f"'model_name' is {name!r}, which is not in ComfyUI's models/{kind}. Put the file "
            "there, or choose another one."
        )
    return path
