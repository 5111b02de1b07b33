"""Call the BBOX_DETECTORs and SEGM_DETECTORs of any pack, and check what they return."""

from __future__ import annotations

from typing import Any

import torch

from .. import checked_calls
from ..checked_calls import Source
from ..geometry import Size
from ..hook_protocol import AskedOnce
from ..memory import persist
from ..pixels.image import image_name
from ..segs.seg import SEGS, normalise

_REMEDY = "Connect another detector, such as one of 'UltralyticsDetectorProvider'."


def _source(detector: Any, name: str, method: str) -> Source:
    return Source.of(f"'{name}':", detector, method, _REMEDY)


def found_by(
    detector: Any,
    name: str,
    image: torch.Tensor,
    threshold: float,
    dilation: int,
    crop_factor: float,
    drop_size: int,
    **hook: Any,
) -> SEGS:
    """The SEGS that a detector finds in one image [1,H,W,C] 0..1; None counts as nothing.

    Args:
        name: the input's name, for errors.
        threshold, dilation, crop_factor, drop_size: as in `base.BoxDetector.detect`.
        hook: `detailer_hook`, for detectors that take one. If the detector is called again after
            memory ran out, the hook is not called again.

    Returns:
        SEGS of the image's size, with regions within it and masks of their size.

    Raises:
        ValueError, RuntimeError: the detector returned no SEGS, or raised an error.
    """
    source = _source(detector, name, "detect")
    detect = source.method(detector, "detect")
    hooks = {key: None if own is None else AskedOnce(own) for key, own in hook.items()}

    def ask() -> Any:
        for own in filter(None, hooks.values()):
            own.begin()
        return source.call(detect, image, threshold, dilation, crop_factor, drop_size, **hooks)

    found = persist(ask, image_name(image), "searched")
    return normalise(found, Size(image.shape[2], image.shape[1]), f"the result of '{name}'")


def mask_by(
    detector: Any, name: str, image: torch.Tensor, threshold: float, dilation: int
) -> torch.Tensor:
    """One mask [1,H,W] 0..1 of everything that a detector finds in one image [1,H,W,C] 0..1.

    Raises:
        ValueError, RuntimeError: the detector returned no mask, or raised an error.
    """
    source = _source(detector, name, "detect_combined")
    detect = source.method(detector, "detect_combined")
    size = Size(image.shape[2], image.shape[1])
    found = persist(
        lambda: source.call(detect, image, threshold, dilation), image_name(image), "searched"
    )
    return checked_calls.mask(source, found, size)
