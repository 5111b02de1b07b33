"""Image classifiers of the transformers package, in ComfyUI's folders and memory management."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import folder_paths
import torch

from .host_detectors import Resident

FOLDER = "classifiers"  # one of ComfyUI's model folders
BATCH = 16  # pictures that are classified at a time
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w.-]+)?")  # name, owner/name, @revision


class TransformersClassifier:
    """A classifier that is on its device while it works.

    Args:
        model, processor: of the transformers package, on the CPU.
        device_mode: one of SAM_MODES, see `Resident`.
    """

    def __init__(self, model: Any, processor: Any, device_mode: str) -> None:
        # ComfyUI notes a module's device on it, which models of transformers do not let it do
        self.network = Resident(torch.nn.Sequential(model), device_mode)
        self.processor = processor
        self.labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        self.several = model.config.problem_type == "multi_label_classification"

    def classify(self, pictures: Sequence[torch.Tensor]) -> list[dict[str, float]]:
        """How sure it is of each label, 0..1, for each picture [h,w,3]."""
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
        # a single label, or several that may hold at once, are not weighed against each other
        alone = self.several or logits.shape[1] == 1
        return (logits.sigmoid() if alone else logits.softmax(dim=1)).tolist()


def load_classifier(name: str, device_mode: str, *, download: bool) -> TransformersClassifier:
    """Load a classifier by its Hugging Face name, from this machine unless `download` is set.

    It is looked for in the `classifiers` folders of ComfyUI, as owner/name or name, and then among
    what the transformers package has fetched before. Weights are read from safetensors, or from
    a PyTorch file that holds nothing but tensors; code that comes with a model is never run. A name
    that ends in @REVISION, such as a commit, takes that version from Hugging Face, else the newest.

    Raises:
        ValueError: `name` is no such name.
        RuntimeError: transformers is missing, or the classifier is not there or cannot be read.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"'manual_repo_id' is {name!r}. Write owner/name of an image classifier on Hugging "
            f"Face, or the name of a folder in ComfyUI's models/{FOLDER}."
        )
    try:
        from transformers import AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise RuntimeError(
            "The classifier needs the transformers package, which ComfyUI's Python does not have. "
            "Install it there with: pip install transformers"
        ) from error
    name, _, revision = name.partition("@")
    revision = revision or "main"
    folder = _local_folder(name)
    source = name if folder is None else str(folder)
    options = {
        "local_files_only": folder is not None or not download,
        "trust_remote_code": False,
    }
    try:
        processor = AutoImageProcessor.from_pretrained(source, revision=revision, **options)
        model = AutoModelForImageClassification.from_pretrained(
            source, revision=revision, weights_only=True, **options
        )
    except Exception as error:  # whatever transformers and the readers of files raise
        if folder is None and not download:
            raise RuntimeError(
                f"The classifier {name!r} is not on this machine. Put its files into ComfyUI's "
                f"models/{FOLDER}/{name}, or turn 'download' on."
            ) from error
        raise RuntimeError(
            f"The classifier {name!r} cannot be loaded from "
            f"{folder or 'Hugging Face'}: {type(error).__name__}: {error} If its weights are a "
            "PyTorch file that is refused, convert them to model.safetensors."
        ) from error
    return TransformersClassifier(model.train(False).float(), processor, device_mode)


def _local_folder(name: str) -> Path | None:
    """The folder of ComfyUI that holds a classifier, or None."""
    known = folder_paths.folder_names_and_paths.get(FOLDER)
    bases = known[0] if known else [str(Path(folder_paths.models_dir) / FOLDER)]
    for base in bases:
        for inner in (name, name.rpartition("/")[2]):
            folder = Path(base) / inner
            if (folder / "config.json").is_file():
                return folder
    return None
