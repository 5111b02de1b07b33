"""Nodes that load detectors and SAMs from model files."""

from __future__ import annotations

from typing import Any

from ...core.detectors.clipseg import CLIPSegOptions
from ...core.host.detectors import (
    SAM_MODES,
    load_clipseg_detector,
    load_onnx,
    load_sam_model,
    load_yolo,
    onnx_names,
    sam_names,
    yolo_names,
)

CATEGORY = "Detailers/Detector"


class NoSegmDetector:
    """The SEGM_DETECTOR of a model that finds only boxes. It raises an error when it is used."""

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def _refuse(self, *_arguments: Any, **_options: Any) -> None:
        raise ValueError(
            f"The model {self.model_name!r} finds only boxes. To find shapes, choose a file of "
            "models/ultralytics/segm in UltralyticsDetectorProvider, or do not connect the segm "
            "detector."
        )

    detect = detect_combined = setAux = _refuse


class UltralyticsDetectorProvider:
    DESCRIPTION = (
        "Loads a YOLO detector from models/ultralytics/bbox or segm. A .pt file needs the "
        "package ultralytics in ComfyUI's Python; an .onnx file does not. No code in a file is "
        "run: a file that holds more than a network is refused."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BBOX_DETECTOR", "SEGM_DETECTOR")
    OUTPUT_TOOLTIPS = (
        "Finds boxes.",
        "Finds shapes. Only for files of the folder segm.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        tooltip = (
            "A file in models/ultralytics/bbox or segm, or in the folders ultralytics_bbox and "
            "ultralytics_segm of extra_model_paths.yaml."
        )
        return {"required": {"model_name": (yolo_names(), {"tooltip": tooltip})}}

    def run(self, model_name):
        boxes, shapes = load_yolo(model_name)
        return boxes, shapes or NoSegmDetector(model_name)


class ONNXDetectorProvider:
    DESCRIPTION = (
        "Loads a detector from an .onnx file: YOLO from version 5 on and similar networks, or "
        "a model that gives boxes, scores and labels. It runs on the CPU, with onnxruntime or, "
        "if that is missing, with OpenCV."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BBOX_DETECTOR",)
    OUTPUT_TOOLTIPS = ("Finds boxes.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model_name": (onnx_names(), {"tooltip": "A file of models/onnx."})}}

    def run(self, model_name):
        return (load_onnx(model_name),)


class CLIPSegDetectorProvider:
    DESCRIPTION = (
        "A detector that uses CLIPSeg to find the thing that a text names. The network is "
        "loaded from models/clipseg, or from the local cache of Hugging Face."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BBOX_DETECTOR",)
    OUTPUT_TOOLTIPS = ("The detector that finds the thing that the text names.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        text = {
            "multiline": False,
            "tooltip": "The thing to look for. If it is empty in a face detailer, faces are found.",
        }
        blur = {
            "min": 0, "max": 15, "step": 0.1, "default": 7,
            "tooltip": "Smooths the result of the network, which is 352 pixels wide.",
        }  # fmt: skip
        threshold = {
            "min": 0, "max": 1, "step": 0.05, "default": 0.4,
            "tooltip": "Pixels with a lower value of the network are ignored. It is used "
            "instead of the detector node's threshold.",
        }  # fmt: skip
        dilation = {
            "min": 0, "max": 10, "step": 1, "default": 4,
            "tooltip": "Grow the masks by half this many of the network's 352 pixels on each "
            "side. It is used instead of the detector node's dilation.",
        }  # fmt: skip
        download = {
            "default": False,
            "tooltip": "Download CLIPSeg (600 MB) from Hugging Face if it is not on this "
            "machine. Works only if your own settings allow it and name the commit.",
        }
        return {
            "required": {
                "text": ("STRING", text),
                "blur": ("FLOAT", blur),
                "threshold": ("FLOAT", threshold),
                "dilation_factor": ("INT", dilation),
            },
            "optional": {"download": ("BOOLEAN", download)},
        }

    def run(self, text, blur, threshold, dilation_factor, download=False):
        options = CLIPSegOptions(text, blur, threshold, dilation_factor)
        return (load_clipseg_detector(options, download),)


class SAMLoader:
    DESCRIPTION = (
        "Loads a SAM (ViT-B, -L, -H), SAM 2 or SAM 2.1, from files of the authors or of "
        "Hugging Face. No code in a file is run: a file that holds more than weights is "
        "refused."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SAM_MODEL",)
    OUTPUT_TOOLTIPS = ("Finds the shape of the thing at a point or in a box.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        mode = (
            "AUTO: on the GPU only while it is used. Prefer GPU: stays on the GPU until "
            "ComfyUI needs the memory. CPU: never on the GPU."
        )
        return {
            "required": {
                "model_name": (sam_names(), {"tooltip": "A file of models/sams."}),
                "device_mode": (list(SAM_MODES), {"tooltip": mode}),
            }
        }

    def run(self, model_name, device_mode="AUTO"):
        return (load_sam_model(model_name, device_mode),)


NODES = {
    "UltralyticsDetectorProvider": (UltralyticsDetectorProvider, "UltralyticsDetectorProvider"),
    "ONNXDetectorProvider": (ONNXDetectorProvider, "ONNXDetectorProvider"),
    "CLIPSegDetectorProvider": (CLIPSegDetectorProvider, "CLIPSegDetectorProvider"),
    "SAMLoader": (SAMLoader, "SAMLoader (Impact)"),
}
