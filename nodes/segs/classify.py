"""Nodes that separate segments by the scores of an image classifier."""

from __future__ import annotations

from ...core.host.classifier import load_classifier
from ...core.host.detectors import SAM_MODES
from ...core.segs.classify import Condition, split_by_class
from ..widgets import inputs
from .pictures import given_segs

CATEGORY = "Detailers/SEGS/Classify"
_MANUAL_REPO = "Manual repo id"
_MANUAL_EXPRESSION = "Manual expr"
_REPOS = (
    "rizvandwiki/gender-classification-2", "NTQAI/pedestrian_gender_recognition",
    "Leilab/gender_class", "ProjectPersonal/GenderClassifier", "crangana/trained-gender",
    "cledoux42/GenderNew_v002", "ivensamdh/genderage2",
)  # fmt: skip
_EXPRESSIONS = (
    "#Female > #Male", "#Female < #Male", "female > 0.5", "male > 0.5", "Age16to25 > 0.1",
    "Age50to69 > 0.1",
)  # fmt: skip


class ImpactHFTransformersClassifierProvider:
    DESCRIPTION = (
        "Loads an image classifier in the format of the transformers package, from ComfyUI's "
        "models/classifiers/<owner>/<name> or from the local cache of Hugging Face."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("TRANSFORMERS_CLASSIFIER",)
    OUTPUT_TOOLTIPS = ("The classifier, for SEGS Classify.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        preset = {"tooltip": f"The classifier. '{_MANUAL_REPO}' uses the one that is named below."}
        manual = {
            "multiline": False,
            "tooltip": "owner/name on Hugging Face, or the name of a folder. To download a "
            "classifier, add its commit; the help page says how.",
        }
        device = {
            "tooltip": "AUTO: on the GPU only while it is used. Prefer GPU: stays on the GPU "
            "until ComfyUI needs the memory. CPU: never on the GPU."
        }
        download = {
            "default": False,
            "tooltip": "Download the classifier from Hugging Face if it is not on this machine. "
            "Works only if your own settings allow it and the name has its commit.",
        }
        return {
            "required": {
                "preset_repo_id": ([*_REPOS, _MANUAL_REPO], preset),
                "manual_repo_id": ("STRING", manual),
                "device_mode": (list(SAM_MODES), device),
            },
            "optional": {"download": ("BOOLEAN", download)},
        }

    def run(self, preset_repo_id, manual_repo_id, device_mode, download=False):
        name = manual_repo_id if preset_repo_id == _MANUAL_REPO else preset_repo_id
        return (load_classifier(name, device_mode, download=download),)


class ImpactSEGSClassify:
    DESCRIPTION = (
        "Classifies the pictures of the segments, and separates those that meet a condition on "
        "the scores from the others."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "SEGS", "STRING")
    RETURN_NAMES = ("filtered_SEGS", "remained_SEGS", "detected_labels")
    OUTPUT_IS_LIST = (False, False, True)
    OUTPUT_TOOLTIPS = (
        "Segments that meet the condition.",
        "All others.",
        "The labels that the classifier knows.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        classifier = {"tooltip": "From HF Transformers Classifier Provider."}
        preset = {
            "tooltip": "The condition: the score of a label, compared with the score of another "
            "label or with a number from 0 to 1. #Female and #Male stand for the labels that "
            f"classifiers use. '{_MANUAL_EXPRESSION}' uses the condition below."
        }
        manual = {"multiline": False, "tooltip": "A condition, such as: smiling >= 0.8"}
        reference = {"tooltip": "Segments without a picture of their own are cut from this image."}
        return {
            "required": {
                "classifier": ("TRANSFORMERS_CLASSIFIER", classifier),
                **inputs("segs"),
                "preset_expr": ([*_EXPRESSIONS, _MANUAL_EXPRESSION], preset),
                "manual_expr": ("STRING", manual),
            },
            "optional": {"ref_image_opt": ("IMAGE", reference)},
        }

    def run(self, classifier, segs, preset_expr, manual_expr, ref_image_opt=None):
        text = manual_expr if preset_expr == _MANUAL_EXPRESSION else preset_expr
        condition = Condition.parse(text)
        chosen, others = split_by_class(given_segs(segs), classifier, condition, ref_image_opt)
        return (chosen, others, list(classifier.labels))


NODES = {
    "ImpactHFTransformersClassifierProvider": (
        ImpactHFTransformersClassifierProvider,
        "HF Transformers Classifier Provider",
    ),
    "ImpactSEGSClassify": (ImpactSEGSClassify, "SEGS Classify"),
}
