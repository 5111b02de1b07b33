"""Faces without a model file: scikit-image's cascade of local binary patterns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ..geometry import Box, Size
from ..pixels.image import to_rgb
from ..pixels.resample import resize
from .base import BoxDetector, Detection
from .mtcnn_files import INSTALL

# The cascade reports many windows around a face. Windows that share half of their area are one
# face. A face with n windows has the confidence n / (n + HALF_SURE). On photographs, real faces
# have 15 windows or more, and false ones up to 7, so a threshold of 0.5 separates them.
HALF_SURE = 8
_WINDOW = 24  # pixels, the window that the cascade was trained on
_FACES_PER_SIDE = 14
_SAME = 0.5  # least intersection over union of windows of one face
_SCALE_STEP = 1.1  # growth of the window from pass to pass


@lru_cache(maxsize=1)
def _cascade() -> Any:
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise RuntimeError(
            "The method LBP of 'Face Detector Provider' needs scikit-image, which ComfyUI's Python "
            "does not have. Install it there with: pip install scikit-image. Or install the weights"
            f" of the better method MTCNN: {INSTALL}"
        ) from error
    return Cascade(lbp_frontal_face_cascade_filename())


class LBPFaceDetector(BoxDetector):
    """Finds upright frontal faces.

    Source: Zhang et al., "Face Detection Based on Multi-Block LBP Representation" (2007); trained
    cascade and implementation of scikit-image.

    Args:
        min_size: side in pixels of the smallest face that is looked for; 0 takes a fourteenth of
            the image's shorter side.

    Raises:
        RuntimeError: scikit-image is not installed.
    """

    def __init__(self, min_size: int = 0) -> None:
        self.min_size = min_size
        _cascade()

    def find(self, image: torch.Tensor, threshold: float) -> Sequence[Detection]:
        """See `BoxDetector.find`; takes an image [H,W,C] 0..1."""
        height, width = image.shape[:2]
        smallest = max(_WINDOW, self.min_size or min(height, width) / _FACES_PER_SIDE)
        scale = _WINDOW / smallest  # the smallest face then fills the cascade's window
        size = Size(round(width * scale), round(height * scale))
        if min(size) < _WINDOW:
            return []
        rgb, _ = to_rgb(image[None])
        windows = _cascade().detect_multi_scale(
            img=np.ascontiguousarray(to_numpy(resize(rgb, size)[0])),
            scale_factor=_SCALE_STEP,
            step_ratio=1,
            min_size=(_WINDOW, _WINDOW),
            max_size=(min(size), min(size)),
            min_neighbor_number=1,
            intersection_score_threshold=1.0,
        )
        boxes = [Box(w["c"], w["r"], w["c"] + w["width"], w["r"] + w["height"]) for w in windows]
        finds = []
        for group in _groups(boxes):
            confidence = len(group) / (len(group) + HALF_SURE)
            if confidence >= threshold:
                finds.append(Detection(_mean(group, 1 / scale), confidence, "face"))
        return sorted(finds, key=lambda found: -found.confidence)


def _groups(boxes: Sequence[Box]) -> list[list[Box]]:
    """Groups of windows of one face: windows that overlap enough, directly or through others."""
    groups: list[list[Box]] = []
    for box in boxes:
        near = [group for group in groups if any(box.iou(other) >= _SAME for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([box, *(other for group in near for other in group)])
    return groups


def _mean(boxes: Sequence[Box], scale: float) -> Box:
    corners = np.array([box.as_tuple() for box in boxes], dtype=float)
    return Box.of((corners.mean(axis=0) * scale).round())
