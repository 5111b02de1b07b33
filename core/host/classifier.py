"""Image classifiers of the transformers package, in ComfyUI's folders and memory management."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ..detectors.hub import HubName, network_folder
from .detectors import Resident
from .user_folder import fetching

FOLDER = "classifiers"  # one of ComfyUI's model folders
BATCH = 16  # pictures that are classified at a time


class TransformersClassifier:
    """An image classifier. It is moved to its device for the time in which it works.

    Args:
        model, processor: of the transformers package, on the CPU.
        device_mode: one of SAM_MODES, see `Resident`.
    """

    def __init__(self, model: Any, processor: Any, device_mode: str) -> None:
        # ComfyUI sets the attribute `device` of a module, which models of transformers forbid
        self.network = Resident(torch.nn.Sequential(model), device_mode)
        self.processor = processor
        self.labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        self.several = model.config.problem_type == "multi_label_classification"

    def classify(self, pictures: Sequence[torch.Tensor]) -> list[dict[str, float]]:
        """The confidence 0..1 of each label, for each picture [h,w,3] 0..1."""
        result = []
        with torch.inference_mode(), self.network.on_device() as device:
            for first in range(0, len(pictures), BATCH):
                self.network.check_interrupt()
                images = [
                    picture.movedim(-1, 0).float().cpu()
                    for picture in pictures[first : first + BATCH]
                ]
                inputs = self.processor(images=images, do_rescale=False, return_tensors="pt")
                logits = self.network.module(inputs["pixel_values"].to(device)).logits
                result += [dict(zip(self.labels, row, strict=True)) for row in self._scores(logits)]
        return result

    def _scores(self, logits: torch.Tensor) -> list[list[float]]:
        logits = logits.float().cpu()
        # a single label, or labels that may hold at the same time, get independent confidences
        alone = self.several or logits.shape[1] == 1
        return (logits.sigmoid() if alone else logits.softmax(dim=1)).tolist()


def load_classifier(name: str, device_mode: str, *, download: bool) -> TransformersClassifier:
    """Load a classifier by its Hugging Face name.

    It is first looked for in the `classifiers` folders of ComfyUI, as owner/name or name, and then
    in the local cache of Hugging Face. It is downloaded only if `download` is set, the user's own
    settings allow it, and the name ends in @COMMIT; see `hub`. Weights are read from safetensors,
    or from a PyTorch file that holds only tensors. Code that comes with a model is never run.

    Raises:
        ValueError: `name` is no valid name.
        WeightsError: one of its files holds more than weights.
        RuntimeError: transformers is missing, or the classifier is not found or cannot be read.
    """
    wanted = HubName.parse(name)
    if wanted is None:
        raise ValueError(
            f"'manual_repo_id' is {name[:100]!r}. Write owner/name or owner/name@commit of an image"
            f" classifier on Hugging Face, or the name of a folder in ComfyUI's models/{FOLDER}."
        )
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise RuntimeError(
            "The classifier needs the transformers package, which ComfyUI's Python does not have. "
            "Install it there with: pip install transformers"
        ) from error
    remedy = f"Put its files into ComfyUI's models/{FOLDER}/{wanted.name}."
    if not download:
        remedy += " Or turn 'download' on."
    folder = network_folder(wanted, _folders(), fetching(download), remedy)
    options = {"local_files_only": True, "trust_remote_code": False}  # so there is nothing to pin
    try:
        processor = AutoImageProcessor.from_pretrained(str(folder), **options)  # nosec B615
        model = AutoModelForImageClassification.from_pretrained(  # nosec B615
            str(folder), weights_only=True, **options
        )
    except Exception as error:  # whatever transformers and the readers of files raise
        raise RuntimeError(
            f"The classifier {wanted.name!r} cannot be loaded from {folder}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return TransformersClassifier(model.train(False).float(), processor, device_mode)


def _folders() -> list[str]:
    """The folders of ComfyUI that hold classifiers."""
    known = folder_paths.folder_names_and_paths.get(FOLDER)
    return list(known[0]) if known else [str(Path(folder_paths.models_dir) / FOLDER)]
