"""Find faces, or other things that a detector finds, and detail them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..backend import Backend
from ..detectors.detect import DetectionOptions, detect_segs
from ..segs.seg import SEGS, combined_mask
from ..settings import Detail
from ..timing import DETECT, measured_once, stage
from .images import Detailed, detail_each

SUBJECT = "face"  # the text for detectors that search by a text


@dataclass(frozen=True)
class Finder:
    """The detectors of a node, and their settings."""

    bbox_detector: Any  # BBOX_DETECTOR
    settings: DetectionOptions
    sam_model: Any = None  # SAM_MODEL
    segm_detector: Any = None  # SEGM_DETECTOR

    def find(self, image: torch.Tensor, hook: Any = None) -> SEGS:
        """Find the segments of one image [1,H,W,C]."""
        tell = getattr(self.bbox_detector, "setAux", lambda text: None)
        tell(SUBJECT)
        try:
            with stage(DETECT):
                return detect_segs(
                    image, self.bbox_detector, self.settings, self.sam_model, self.segm_detector,
                    hook,
                )  # fmt: skip
        finally:
            tell(None)


def detail_faces(
    image: torch.Tensor, finder: Finder, detail: Detail, backend: Backend
) -> tuple[Detailed, torch.Tensor]:
    """Detail the things that are found in each image of a batch.

    All images are searched before the first one is detailed, so that the detectors and the
    diffusion model do not need the device at the same time. Each image gets the segments, seeds
    and texts that it would get if it were the only one.

    Args:
        image: [B,H,W,C] 0..1; C is 1, 3 or 4.

    Returns:
        The result of `detail_each`, and a mask [B,H,W] of everything that was found.
    """
    with measured_once():  # finding belongs to the run
        found = []
        for single in image.split(1):
            backend.check_interrupt()
            found.append(finder.find(single, detail.hook))
        masks = torch.cat([combined_mask(segs) for segs in found])
        return detail_each(image, found, detail, backend), masks
