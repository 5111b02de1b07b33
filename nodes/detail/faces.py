"""Detection and detailing in one node."""

from __future__ import annotations

from ...core.detail.faces import Finder, detail_faces
from ...core.detectors.detect import DetectionOptions
from ...core.detectors.sam.questions import DETECTION_HINTS, NEGATIVE_HINTS
from ...core.graph.calls import called_as
from ...core.host.backend import ComfyBackend
from ...core.settings import KeptCrops
from ...utils.check import check_image
from ..widgets import grown, inputs
from .images import (
    CATEGORY,
    OPTIONS,
    REPORT,
    SAMPLING,
    SIZE,
    VARIANTS,
    VARIANTS_TOOLTIP,
    WAVES,
    image_list,
    keeping,
    make_detail,
    optional_refiner,
    told_links,
)
from .pipes import DetailerPipe, pipe_models, read_detailer_pipe

_DETECTION = {
    "bbox_threshold": (
        "FLOAT",
        {
            "default": 0.5, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "Detections with a lower confidence are ignored.",
        },
    ),
    "bbox_dilation": (
        "INT",
        {
            "default": 10, "min": -512, "max": 512, "step": 1,
            "tooltip": grown("the masks of what is found"),
        },
    ),
    "bbox_crop_factor": (
        "FLOAT",
        {
            "default": 3.0, "min": 1.0, "max": 10, "step": 0.1,
            "tooltip": "Size of the crop relative to the bounding box. A higher value shows the "
            "model more of the surroundings.",
        },
    ),
    "sam_detection_hint": (
        list(DETECTION_HINTS),
        {"tooltip": "The points and boxes that are given to SAM."},
    ),
    "sam_dilation": (
        "INT",
        {
            "default": 0, "min": -512, "max": 512, "step": 1,
            "tooltip": grown("SAM's masks"),
        },
    ),
    "sam_threshold": (
        "FLOAT",
        {
            "default": 0.93, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "Masks with a lower score from SAM are ignored, unless there is none "
            "with a higher score.",
        },
    ),
    "sam_bbox_expansion": (
        "INT",
        {
            "default": 0, "min": 0, "max": 1000, "step": 1,
            "tooltip": "Enlarge the boxes for SAM by this many pixels on every side.",
        },
    ),
    "sam_mask_hint_threshold": (
        "FLOAT",
        {
            "default": 0.7, "min": 0.0, "max": 1.0, "step": 0.01,
            "tooltip": "For the hint mask-area: points are set where the mask has at least this "
            "value.",
        },
    ),
    "sam_mask_hint_use_negative": (
        list(NEGATIVE_HINTS),
        {
            "tooltip": "Points that show SAM what is not part of the thing: none, the points of "
            "small detections, or points outside of the detection.",
        },
    ),
}  # fmt: skip
_KEPT = KeptCrops(segs=False, cropped=False)
_PASTE = ("denoise", "feather", "noise_mask", "force_inpaint")
_ENDING = (
    "inpaint_model", "noise_mask_feather", "scheduler_func_opt", "tiled_encode", "tiled_decode",
    *WAVES, *OPTIONS,
)  # fmt: skip
_DETECTORS = {
    "sam_model_opt": (
        "SAM_MODEL",
        {
            "tooltip": "Limits the masks to the shapes that SAM finds. If it is connected, "
            "segm_detector_opt is not used."
        },
    ),
    "segm_detector_opt": (
        "SEGM_DETECTOR",
        {"tooltip": "Limits the masks to the outlines that this detector finds."},
    ),
}


class FaceDetailer:
    DESCRIPTION = (
        "Finds faces, or other things that the detector finds, and redraws each of them: crops "
        "it, enlarges the crop, samples it with the model and pastes it back with a soft edge. "
        "Each image of a batch is searched by itself."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "IMAGE", "IMAGE", "MASK", "DETAILER_PIPE", "IMAGE", "STRING", "SEGS")
    RETURN_NAMES = (
        "image", "cropped_refined", "cropped_enhanced_alpha", "mask", "detailer_pipe",
        "cnet_images", "report", VARIANTS,
    )  # fmt: skip
    OUTPUT_IS_LIST = (False, True, True, False, False, True, False, False)
    OUTPUT_TOOLTIPS = (
        "The image in which everything that was found is redrawn.",
        "Each crop after it is redrawn.",
        "Each crop after it is redrawn, with the soft mask as its alpha channel.",
        "One mask for each image, which covers everything that was found.",
        "Models, detectors and segment text in one link, for a further detailer.",
        "The pictures that the ControlNets of the segments got.",
        REPORT,
        VARIANTS_TOOLTIP,
    )
    FUNCTION = "run"
    IS_CHANGED = classmethod(told_links)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs(
                    "image", "model", "clip", "vae", *SIZE, *SAMPLING, "positive", "negative",
                    *_PASTE,
                ),
                **_DETECTION,
                **inputs("drop_size"),
                "bbox_detector": ("BBOX_DETECTOR", {"tooltip":
                    "The detector that finds the things."}),
                **inputs("wildcard", "cycle"),
            },
            "optional": {**_DETECTORS, **inputs("detailer_hook", *_ENDING)},
        }  # fmt: skip

    def run(
        self, image, model, clip, vae, positive, negative, bbox_detector, wildcard="",
        sam_model_opt=None, segm_detector_opt=None, detailer_hook=None, **widgets,
    ):  # fmt: skip
        pipe = DetailerPipe(
            model, clip, vae, positive, negative, wildcard, bbox_detector, segm_detector_opt,
            sam_model_opt, detailer_hook,
        )  # fmt: skip
        return run_face_detailer(image, pipe, kept=keeping(self, _KEPT), **widgets)

    # Other packs call it by this name.

    @staticmethod
    @called_as(
        "image, model, clip, vae, guide_size, guide_size_for_bbox, max_size, seed, steps, cfg,"
        "sampler_name, scheduler, positive, negative, denoise, feather, noise_mask, force_inpaint,"
        "bbox_threshold, bbox_dilation, bbox_crop_factor, sam_detection_hint, sam_dilation,"
        "sam_threshold, sam_bbox_expansion, sam_mask_hint_threshold, sam_mask_hint_use_negative,"
        "drop_size, bbox_detector, segm_detector=None, sam_model_opt=None, wildcard_opt=None,"
        "detailer_hook=None, refiner_ratio=None, refiner_model=None, refiner_clip=None,"
        "refiner_positive=None, refiner_negative=None, cycle=1, inpaint_model=False,"
        "noise_mask_feather=0, scheduler_func_opt=None, tiled_encode=False, tiled_decode=False"
    )
    def enhance_face(
        image, model, clip, vae, positive, negative, guide_size_for_bbox, wildcard_opt,
        bbox_detector, segm_detector, sam_model_opt, detailer_hook, refiner_model, refiner_clip,
        refiner_positive, refiner_negative, **given,
    ):  # fmt: skip
        """Find faces and detail them.

        Returns:
            The image, the crops after, the crops after with their masks as alpha, the mask, and
            the pictures that ControlNets saw.
        """
        refined = given["refiner_ratio"] is not None
        pipe = DetailerPipe(
            model, clip, vae, positive, negative, wildcard_opt or "", bbox_detector, segm_detector,
            sam_model_opt, detailer_hook, refiner_model if refined else None, refiner_clip,
            refiner_positive, refiner_negative,
        )  # fmt: skip
        result = run_face_detailer(image, pipe, guide_size_for=guide_size_for_bbox, **given)
        return (*result[:4], result[5])


class FaceDetailerPipe(FaceDetailer):
    DESCRIPTION = (
        FaceDetailer.DESCRIPTION + " Takes models and detectors over one link, and a refiner."
    )
    OUTPUT_TOOLTIPS = tuple(
        "The same pipe that is connected to the input." if kind == "DETAILER_PIPE" else tooltip
        for kind, tooltip in zip(
            FaceDetailer.RETURN_TYPES, FaceDetailer.OUTPUT_TOOLTIPS, strict=True
        )
    )

    @classmethod
    def INPUT_TYPES(cls):
        pipe = {"tooltip": "Models, detectors and segment text in one link (ToDetailerPipe)."}
        return {
            "required": {
                **inputs("image"),
                "detailer_pipe": ("DETAILER_PIPE", pipe),
                **inputs(*SIZE, *SAMPLING, *_PASTE),
                **_DETECTION,
                **inputs("drop_size", "refiner_ratio", "cycle"),
            },
            "optional": inputs(*_ENDING),
        }

    def run(self, image, detailer_pipe, **widgets):
        result = run_face_detailer(
            image, read_detailer_pipe(detailer_pipe), kept=keeping(self, _KEPT), **widgets
        )
        return (*result[:4], detailer_pipe, *result[5:])


def run_face_detailer(image, pipe: DetailerPipe, kept: KeptCrops = _KEPT, **widgets) -> tuple:
    """The outputs of the face detailers.

    Args:
        image: [B,H,W,C] 0..1.

    Raises:
        ValueError: the pipe has no detector, or the image is no image.
    """
    check_image(image, "image")
    if pipe.bbox_detector is None:
        raise ValueError(
            "'bbox_detector' is missing (None), so nothing can be found. Connect a detector, for "
            "instance UltralyticsDetectorProvider, or check where the detailer pipe is made."
        )
    settings = DetectionOptions(
        crop_factor=widgets["bbox_crop_factor"],
        drop_size=widgets["drop_size"],
        **{name: widgets[name] for name in _DETECTION if name != "bbox_crop_factor"},
    )
    finder = Finder(pipe.bbox_detector, settings, pipe.sam_model, pipe.segm_detector)
    detail = make_detail(
        pipe_models(tuple(pipe.basic), "detailer_pipe"),
        optional_refiner(tuple(pipe.refiner), "detailer_pipe, its refiner"),
        wildcard=pipe.wildcard,
        detailer_hook=pipe.detailer_hook,
        kept=kept,
        **widgets,
    )
    result, mask = detail_faces(image, finder, detail, ComfyBackend())
    return (
        result.image, image_list(result.refined), image_list(result.refined_alpha), mask,
        tuple(pipe), image_list(result.control_images), result.report, result.variant_segs,
    )  # fmt: skip


NODES = {
    "FaceDetailer": (FaceDetailer, "FaceDetailer"),
    "FaceDetailerPipe": (FaceDetailerPipe, "FaceDetailer (pipe)"),
}
