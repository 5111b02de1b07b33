"""Conversions between SEGS and the results of ComfyUI's own detection nodes."""

from __future__ import annotations

from ...core.detectors.host_data import (
    SegmentOptions,
    box_video_to_segs,
    boxes_to_segs,
    landmarks_to_segs,
    masks_to_segs,
    mesh_to_segs,
    segs_to_boxes,
)
from ...core.host.backend import MAX_RESOLUTION
from ...core.segs.face_landmarks import FACE_PARTS
from ...core.segs.seg import filter_by_labels
from ..widgets import grown, inputs

CATEGORY = "Detailers/Bridge"

_DILATION = {
    "default": 0, "min": -512, "max": 512, "step": 1,
    "tooltip": grown("the masks"),
}  # fmt: skip


def _face_inputs() -> dict:
    """The widgets that say which face parts become segments, and how."""
    crop_min_size = {
        "min": 10, "max": MAX_RESOLUTION, "step": 1, "default": 50,
        "tooltip": "Shortest side of a crop, in pixels.",
    }  # fmt: skip
    result = {
        **inputs("crop_factor", "bbox_fill"),
        "crop_min_size": ("INT", crop_min_size),
        **inputs("drop_size", drop_size={"default": 1}),
        "dilation": ("INT", _DILATION),
    }
    for part in FACE_PARTS:
        options = {"default": part == "face", "label_on": "Enabled", "label_off": "Disabled"}
        tooltip = f"Segments of the {part.replace('_', ' ')}."
        result[part] = ("BOOLEAN", {**options, "tooltip": tooltip})
    return result


def _face_settings(crop_factor, bbox_fill, crop_min_size, drop_size, dilation, **parts):
    options = SegmentOptions(crop_factor, drop_size, dilation, bbox_fill, crop_min_size)
    return [part for part in FACE_PARTS if parts.get(part)], options


class MediaPipeFaceMeshToSEGS:
    DESCRIPTION = (
        "Makes segments for the parts of faces from a picture of the MediaPipe-FaceMesh "
        "preprocessor (comfyui_controlnet_aux)."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each part of each face, labelled with its name.",)
    FUNCTION = "run"
    TAKES_NONE = ("crop_min_size",)  # other packs call it with None

    @classmethod
    def INPUT_TYPES(cls):
        image = "The picture of the face mesh, or a batch of them."
        return {"required": {**inputs("image", image=image), **_face_inputs()}}

    def run(self, image, **settings):
        return (mesh_to_segs(image, *_face_settings(**settings)),)


class DetailersFaceLandmarksToSEGS:
    DESCRIPTION = (
        "Makes segments for the parts of faces that ComfyUI's 'Detect Face Landmarks "
        "(MediaPipe)' or 'Face Landmarks (MTCNN)' finds. For a video, the segments have a mask "
        "for each frame."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each part of each face, labelled with its name.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        landmarks = {"tooltip": "The output face_landmarks of one of the two nodes."}
        video = {
            "default": True, "label_on": "video", "label_off": "images",
            "tooltip": "For landmarks of several images. video: parts that touch each other, in "
            "one frame or in different frames, become one segment with a mask for "
            "each frame. images: each image gets its own segments.",
        }  # fmt: skip
        return {
            "required": {"face_landmarks": ("FACE_LANDMARKS", landmarks), **_face_inputs()},
            "optional": {"video": ("BOOLEAN", video)},
        }

    def run(self, face_landmarks, video=True, **settings):
        return (landmarks_to_segs(face_landmarks, *_face_settings(**settings), video),)


class DetailersBoundingBoxToSEGS:
    DESCRIPTION = (
        "Makes segments from the boxes of ComfyUI's own detection nodes, such as RT-DETR, "
        "SDPose, SAM3 and MediaPipe."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each box.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        threshold = {
            "default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "Boxes with a lower score are ignored. A box without a score counts as 1.",
        }  # fmt: skip
        labels = {
            "multiline": True, "default": "all",
            "tooltip": "Keep only boxes with these labels, separated by commas. 'all' keeps "
            "every box. Boxes without a label get the label A.",
        }  # fmt: skip
        video = {
            "default": False, "label_on": "video", "label_off": "image",
            "tooltip": "image: each box becomes a segment of its image. video: boxes with the "
            "same label that touch each other, in one frame or in different frames, "
            "become one segment with a mask for each frame.",
        }  # fmt: skip
        return {
            "required": {
                **inputs(
                    "image", image="The image, the images or the frames to which the boxes belong."
                ),
                "bboxes": ("BOUNDING_BOX", {"tooltip": "Boxes of ComfyUI's detection nodes."}),
                "threshold": ("FLOAT", threshold),
                "dilation": ("INT", _DILATION),
                **inputs("crop_factor", "drop_size"),
                "labels": ("STRING", labels),
                "video": ("BOOLEAN", video),
            },
            "optional": inputs("detailer_hook"),
        }

    def run(
        self, image, bboxes, threshold, dilation, crop_factor, drop_size, labels, video,
        detailer_hook=None,
    ):  # fmt: skip
        options = SegmentOptions(crop_factor, drop_size, dilation)
        if video:
            segs = box_video_to_segs(image, bboxes, threshold, options)
        else:
            segs = boxes_to_segs(image, bboxes, threshold, options, detailer_hook)
        return (filter_by_labels(segs, labels),)


class DetailersSEGSToBoundingBox:
    DESCRIPTION = (
        "Gives the boxes of segments for ComfyUI's own nodes, for instance as the boxes for "
        "SAM3, or to draw them."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BOUNDING_BOX",)
    RETURN_NAMES = ("bboxes",)
    OUTPUT_TOOLTIPS = (
        "A list of boxes for each image of the batch to which the segments belong. Each "
        "segment gives a box with its label, and with its confidence as score.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        box = {
            "default": True, "label_on": "bbox", "label_off": "crop_region",
            "tooltip": "The bounding box of the thing, or the crop region around it.",
        }  # fmt: skip
        return {"required": {**inputs("segs", segs="The segments."), "box": ("BOOLEAN", box)}}

    def run(self, segs, box):
        return (segs_to_boxes(segs, of_crop=not box),)


class DetailersMasksToSEGS:
    DESCRIPTION = (
        "Makes one segment from each mask of a batch, even if the mask has several separate "
        "parts. For the masks of ComfyUI's SAM3 (with individual_masks on) and similar nodes."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("A segment for each mask.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        label = {"default": "A", "tooltip": "Label of the segments."}
        boxes = {
            "forceInput": True,  # the editor has a widget for one box
            "tooltip": "The boxes of the same node, one for each mask. The segments get the "
            "scores and labels of the boxes.",
        }
        return {
            "required": {
                **inputs("mask", mask="A batch of masks, one for each thing."),
                **inputs("crop_factor", "bbox_fill", "drop_size"),
                "dilation": ("INT", _DILATION),
                "label": ("STRING", label),
            },
            "optional": {"bboxes": ("BOUNDING_BOX", boxes)},
        }

    def run(self, mask, crop_factor, bbox_fill, drop_size, dilation, label, bboxes=None):
        options = SegmentOptions(crop_factor, drop_size, dilation, bbox_fill)
        return (masks_to_segs(mask, options, label, bboxes),)


NODES = {
    "MediaPipeFaceMeshToSEGS": (MediaPipeFaceMeshToSEGS, "MediaPipe FaceMesh to SEGS"),
    "DetailersFaceLandmarksToSEGS": (DetailersFaceLandmarksToSEGS, "Face Landmarks to SEGS"),
    "DetailersBoundingBoxToSEGS": (DetailersBoundingBoxToSEGS, "Bounding Boxes to SEGS"),
    "DetailersSEGSToBoundingBox": (DetailersSEGSToBoundingBox, "SEGS to Bounding Boxes"),
    "DetailersMasksToSEGS": (DetailersMasksToSEGS, "Mask Batch to SEGS (one each)"),
}
