"""Nodes of old workflows that have no direct replacement today."""

from __future__ import annotations

from pathlib import PurePosixPath

from ...core.host.detectors import yolo_names
from ...utils.check import described
from ..detect.models import UltralyticsDetectorProvider


class MMDetDetectorProvider(UltralyticsDetectorProvider):
    DESCRIPTION = (
        "For old workflows with detectors of MMDetection. A YOLO detector with the same file "
        "name, as .pt or .onnx in models/ultralytics, replaces such a detector. For another "
        "YOLO detector, use UltralyticsDetectorProvider."
    )
    DEPRECATED = True

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = "The file that was used. A file in models/ultralytics may have the same name."
        return {"required": {"model_name": (yolo_names(), {"tooltip": tooltip})}}

    @classmethod
    def VALIDATE_INPUTS(cls, model_name=None):
        return True  # files of MMDetection are in no list today

    def run(self, model_name):
        return super().run(namesake(model_name, yolo_names()))


class MMDetLoader(MMDetDetectorProvider):
    """As `MMDetDetectorProvider`, with the output names of older versions."""

    RETURN_NAMES = ("BBOX_MODEL", "SEGM_MODEL")


def namesake(model_name: str, files: list[str]) -> str:
    """The YOLO detector with the name of a detector of MMDetection, preferably of the same folder.

    Raises:
        ValueError: there is no such file.
    """
    if not isinstance(model_name, str) or not model_name.strip("/. "):
        raise ValueError(
            f"'model_name' should be the name of a detector's file but is {described(model_name)}. "
            "Replace this node with UltralyticsDetectorProvider and a YOLO detector."
        )
    wanted = PurePosixPath(model_name)
    same = [file for file in files if PurePosixPath(file).stem == wanted.stem]
    same.sort(key=lambda file: PurePosixPath(file).parent != wanted.parent)
    if not same:
        raise ValueError(
            f"'model_name' is {model_name!r}, a detector of MMDetection, which is no longer "
            "supported. Replace this node with UltralyticsDetectorProvider and a YOLO detector, or "
            f"put one with the name {wanted.stem}.pt or {wanted.stem}.onnx into models/ultralytics/"
            f"{'segm' if wanted.parts[0] == 'segm' else 'bbox'}."
        )
    return same[0]


NODES = {
    "MMDetLoader": (MMDetLoader, "MMDetLoader (old)"),
    "MMDetDetectorProvider": (MMDetDetectorProvider, "MMDetDetectorProvider (old)"),
}
