"""Detections with boxes, and the segments that are made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...utils.arrays import to_numpy
from ..geometry import Box, Size, crop_region
from ..hook_protocol import Hook
from ..memory import persist
from ..pixels.image import crop, image_name
from ..pixels.mask import dilate
from ..segs.seg import SEG, SEGS


@dataclass(frozen=True)
class Detection:
    """One thing that a detector found."""

    bbox: Box
    confidence: float  # 0..1
    label: str
    mask: torch.Tensor | None = None  # [h,w] 0..1 of the box's size; None: the whole box


class BoxDetector:
    """A BBOX_DETECTOR or SEGM_DETECTOR, as it crosses links; subclasses implement `find`."""

    def find(self, image: torch.Tensor, threshold: float) -> Sequence[Detection]:
        """The things in one image [H,W,C] 0..1 with at least this confidence, 0..1.

        Raises:
            NotImplementedError: a subclass does not implement it.
        """
        raise NotImplementedError

    def found(self, image: torch.Tensor, threshold: float) -> Sequence[Detection]:
        """The result of `find` for an image [H,W,C]; if memory runs out, it is called again."""
        return persist(lambda: self.find(image, threshold), image_name(image), "searched")

    def setAux(self, text: str) -> None:
        """Set the text that some detectors look for; other detectors ignore it."""

    def detect(
        self,
        image: torch.Tensor,
        threshold: float,
        dilation: int,
        crop_factor: float,
        drop_size: int = 1,
        detailer_hook: Any = None,
    ) -> SEGS:
        """Segments of everything found in the first image of a batch [B,H,W,C] 0..1.

        Args:
            threshold: the least confidence, 0..1.
            dilation: width in pixels of the window that dilates the masks; negative shrinks them.
            crop_factor: sides of the crop region over the sides of the box.
            drop_size: detections that are not wider and taller than this are dropped.
            detailer_hook: may change crop regions, and finally the segments.
        """
        hook = Hook(detailer_hook)
        size = Size(image.shape[2], image.shape[1])
        segs = []
        for found in self.found(image[0], threshold):
            bbox = found.bbox.clipped(size)
            if bbox.width <= drop_size or bbox.height <= drop_size:
                continue
            region = crop_region(bbox, size, crop_factor)
            region = hook.post_crop_region(size, bbox, region)
            if region.empty:
                continue
            segs.append(_seg(image[:1], found, bbox, region, dilation))
        return hook.post_detection(((size.height, size.width), segs))

    def detect_combined(self, image: torch.Tensor, threshold: float, dilation: int) -> torch.Tensor:
        """One mask [H,W] 0..1 of everything found in the first image of a batch [B,H,W,C] 0..1."""
        size = Size(image.shape[2], image.shape[1])
        whole = Box(0, 0, *size)
        result = torch.zeros(size.height, size.width)
        for found in self.found(image[0], threshold):
            bbox = found.bbox.clipped(size)
            mask = persist(
                lambda found=found, bbox=bbox: found_mask(found, bbox, size, whole, dilation),
                image_name(image), "searched",
            )  # fmt: skip
            torch.maximum(result, mask, out=result)
        return result


def _seg(image: torch.Tensor, found: Detection, bbox: Box, region: Box, dilation: int) -> SEG:
    """The segment of a detection in an image [1,H,W,C]."""
    size = Size(image.shape[2], image.shape[1])

    def arrays() -> tuple[np.ndarray, np.ndarray]:
        mask = found_mask(found, bbox, size, region, dilation)
        return to_numpy(crop(image, region).clone()), to_numpy(mask)

    picture, mask = persist(arrays, image_name(image), "searched")
    return SEG(
        cropped_image=picture,
        cropped_mask=mask,
        confidence=found.confidence,
        crop_region=region.as_tuple(),
        bbox=bbox.as_tuple(),
        label=found.label,
    )


def found_mask(
    found: Detection, bbox: Box, image: Size, region: Box, dilation: int
) -> torch.Tensor:
    """The dilated mask of a detection within a region: [h,w] 0..1 on the CPU.

    Args:
        bbox: the box of the detection, clipped to the image.
        dilation: as in `BoxDetector.detect`.
    """
    around = region.grown(abs(dilation)).clipped(image)  # the pixels that can change the result
    mask = torch.zeros(around.height, around.width)
    inner = bbox.shifted(-around.x1, -around.y1).clipped(around.size)
    part = inner.shifted(around.x1 - found.bbox.x1, around.y1 - found.bbox.y1)
    mask[inner.y1 : inner.y2, inner.x1 : inner.x2] = (
        1 if found.mask is None else found.mask[part.y1 : part.y2, part.x1 : part.x2]
    )
    mask = dilate(mask[None], dilation)[0]
    inner = region.shifted(-around.x1, -around.y1)
    return mask[inner.y1 : inner.y2, inner.x1 : inner.x2]
