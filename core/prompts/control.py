"""ControlNet and IPAdapter of single segments: what a SEG carries as `control_net_wrapper`.

A wrapper is asked while its segment is worked on: `apply(positive, negative, image, mask)` gives
conditionings and the pictures to show, `doit_ipadapter(model)` a model and pictures. Wrappers make
a chain: each asks the one that was there before it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...utils.notes import note
from .. import checked_calls
from ..checked_calls import Source
from ..geometry import Box, Size, crop_region
from ..pixels.crop_view import Cut, shown_part
from ..pixels.image import crop, pad_edge, to_rgb
from ..pixels.resample import resize
from ..segs.seg import SEG, SEGS, BatchImage, edited, image_size
from ..settings import Conditioning

Images = list[torch.Tensor]


@dataclass(frozen=True)
class ControlNet:
    """A ControlNet and how it is applied."""

    net: Any
    strength: float  # 0 applies nothing
    start: float = 0.0  # share of the steps, 0..1
    end: float = 1.0
    vae: Any = None  # for ControlNets that see latents


# (ControlNet, positive, negative, hint [N,h,w,3]) -> positive and negative that it guides
AttachControlNet = Callable[
    [ControlNet, Conditioning, Conditioning | str, torch.Tensor],
    tuple[Conditioning, Conditioning | str],
]
# (model, reference [N,h,w,3]) -> model that it guides
AttachIPAdapter = Callable[[Any, torch.Tensor], Any]


class WholePicture:
    """A control picture of the whole image, shared by the segments that are cut out of it."""

    def __init__(self, image: torch.Tensor) -> None:
        """`image`: [N,H,W,C] of any size."""
        self._image = to_rgb(image)[0]
        self._fitted = self._image

    def cut(self, size: Size, region: Box) -> torch.Tensor:
        """The part [N,h,w,3] that a region of an image of this size shows.

        A picture of other proportions counts by its middle, as ComfyUI takes it for an image.
        """
        if (self._fitted.shape[2], self._fitted.shape[1]) != tuple(size):
            own = Size(self._image.shape[2], self._image.shape[1])
            self._fitted = resize(crop(self._image, shown_part(own, size)), size)
        return crop(self._fitted, region.clipped(size))


class SegmentControl:
    """The `control_net_wrapper` of a SEG; by itself it only passes on to the one before."""

    control_image: torch.Tensor | None = None  # [N,h,w,3] that previews of SEGS show

    def __init__(self, previous: Any = None) -> None:
        self.previous = previous

    def apply(
        self,
        positive: Conditioning,
        negative: Conditioning | str,
        image: torch.Tensor,
        mask: torch.Tensor | None = None,
        use_acn: bool = False,
        *,
        cut: Cut | None = None,
        row: int | None = None,
    ) -> tuple[Conditioning, Conditioning | str, Images]:
        """Guide the conditionings of a segment.

        Args:
            image: [N,h,w,3], the enlarged crop, padded to the model's grid; N > 1 is a clip.
            mask: the segment's noise mask, if it has one.
            use_acn: of no effect here; detailers of other packs pass it for clips.
            cut: where in which image the crop is now. Without it, as from other packs' detailers,
                the place that the segment had when the wrapper was made.
            row: which image of the node's batch it is; None: the one that the segment belongs to.

        Returns:
            Positive, negative, and what the ControlNets see, at the working size.
        """
        if self.previous is None:
            return positive, negative, []
        place = {"cut": cut, "row": row} if isinstance(self.previous, SegmentControl) else {}
        source = Source.of("The control_net_wrapper", self.previous, "apply")
        apply = source.method(self.previous, "apply")
        positive, negative, images = checked_calls.parts(
            source, source.call(apply, positive, negative, image, mask, **place),
            3, "positive, negative and a list of pictures",
        )  # fmt: skip
        return positive, negative, list(images or [])

    def with_strength(self, strength: float) -> SegmentControl:
        """The same with this strength for all ControlNets of the chain that are of this class."""
        own = copy(self)
        if isinstance(self.previous, SegmentControl):
            own.previous = self.previous.with_strength(strength)
        return own

    def doit_ipadapter(self, model: Any) -> tuple[Any, Images]:
        """Guide the model of a segment; the name is the one that crosses packs."""
        if not callable(getattr(self.previous, "doit_ipadapter", None)):
            return model, []
        model, images = self.previous.doit_ipadapter(model)
        return model, list(images or [])


class ControlNetOnSegment(SegmentControl):
    """A ControlNet that sees a picture cut to the segment, or made from the segment's crop."""

    def __init__(
        self,
        control: ControlNet,
        attach: AttachControlNet,
        size: Size,
        region: Box,
        picture: WholePicture | None = None,
        preprocessor: Any = None,
        previous: Any = None,
        batch_image: BatchImage | None = None,
    ) -> None:
        """
        Args:
            attach: applies a ControlNet.
            size, region: the image's size and the segment's place in it.
            picture: what the ControlNet sees; wins over `preprocessor`.
            preprocessor: a SEGS_PREPROCESSOR, `apply(image, mask)` -> image. Without either the
                ControlNet sees the crop itself.
            previous: the wrapper that the segment had.
            batch_image: the image that the segment belongs to.
        """
        super().__init__(previous)
        self.control, self.attach = control, attach
        self.index = None if batch_image is None else batch_image.index
        self.size, self.region = size, region.clipped(size)
        self.picture, self.preprocessor = picture, preprocessor

    def with_strength(self, strength: float) -> ControlNetOnSegment:
        own = super().with_strength(strength)
        own.control = replace(self.control, strength=strength)
        return own

    @property
    def control_image(self) -> torch.Tensor | None:
        if self.picture is None or self.region.empty:
            return None
        pictures = self.picture.cut(self.size, self.region)
        return pictures if self.index is None else _pictures_for(pictures, 1, self.index)

    def apply(self, positive, negative, image, mask=None, use_acn=False, *, cut=None, row=None):
        row = (self.index or 0) if row is None else row
        positive, negative, images = super().apply(
            positive, negative, image, mask, use_acn, cut=cut, row=row
        )
        canvas = Size(image.shape[2], image.shape[1])
        working = canvas if cut is None else cut.working
        if self.picture is not None:
            size, region = (self.size, self.region) if cut is None else (cut.image, cut.region)
            part = _pictures_for(self.picture.cut(size, region), len(image), row).to(image)
            rotated = None if cut is None else cut.rotated
            shown = resize(part, working) if rotated is None else rotated.extract(part, working)
            margin = (0, canvas.width - working.width, 0, canvas.height - working.height)
            hint = pad_edge(shown, margin)
        else:
            hint = image if self.preprocessor is None else self._preprocessed(image, mask)
            shown = hint[:, : working.height, : working.width]
        positive, negative = self.attach(self.control, positive, negative, hint)
        return positive, negative, [*images, shown]

    def _preprocessed(self, image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        source = Source.of("The SEGS_PREPROCESSOR", self.preprocessor, "apply")
        made = source.call(source.method(self.preprocessor, "apply"), image, mask)
        made = checked_calls.shown_picture(source, made, image)
        return resize(made, Size(image.shape[2], image.shape[1]))


class IPAdapterOnSegment(SegmentControl):
    """An IPAdapter that sees a reference picture."""

    def __init__(
        self, attach: AttachIPAdapter, reference: torch.Tensor, previous: Any = None
    ) -> None:
        super().__init__(previous)
        self.attach, self.reference = attach, reference

    def doit_ipadapter(self, model: Any) -> tuple[Any, Images]:
        model, images = super().doit_ipadapter(model)
        return self.attach(model, self.reference), [self.reference, *images]


def control_segs(
    segs: SEGS,
    control: ControlNet,
    attach: AttachControlNet,
    image: torch.Tensor | None = None,
    preprocessor: Any = None,
) -> SEGS:
    """Give every segment a ControlNet, besides those that it has.

    Args:
        image: control picture [N,H,W,C] of the whole image. Frame i of a clip, and image i of a
            batch, get its picture i, or the last.
        preprocessor: makes the control picture from each crop where there is no `image`.
    """
    picture = None if image is None else WholePicture(image)

    def wrapper(seg: SEG, size: Size) -> SegmentControl:
        region = Box.of(seg.crop_region)
        return ControlNetOnSegment(
            control, attach, size, region, picture, preprocessor, seg.control_net_wrapper,
            seg.batch_image,
        )  # fmt: skip

    return _with_wrappers(segs, wrapper)


def adapt_segs(
    segs: SEGS, attach: AttachIPAdapter, reference: torch.Tensor, context_factor: float
) -> SEGS:
    """Give every segment an IPAdapter, besides what it has.

    Args:
        reference: [N,H,W,C] of the whole image; each adapter sees the part around its segment, of
            as many pictures as the batch has images that of its own image.
        context_factor: sides of that part over those of the crop region.
    """
    picture = WholePicture(reference)

    def wrapper(seg: SEG, size: Size) -> SegmentControl | None:
        region = Box.of(seg.crop_region).clipped(size)
        if region.empty:
            return seg.control_net_wrapper
        part = picture.cut(size, crop_region(region, size, context_factor))
        image = seg.batch_image
        if image is not None and image.index is not None and image.count == len(part):
            part = _pictures_for(part, 1, image.index)
        return IPAdapterOnSegment(attach, part, seg.control_net_wrapper)

    return _with_wrappers(segs, wrapper)


def without_control(segs: SEGS) -> SEGS:
    """The segments without ControlNets and IPAdapters."""
    return _with_wrappers(segs, lambda seg, size: None)


def _with_wrappers(segs: SEGS, wrapper: Callable[[SEG, Size], Any]) -> SEGS:
    header, items = segs
    size = image_size(segs)
    own = [edited(seg) for seg in items]
    return header, [seg._replace(control_net_wrapper=wrapper(seg, size)) for seg in own]


def _pictures_for(pictures: torch.Tensor, count: int, row: int) -> torch.Tensor:
    """As many control pictures as the crop has frames; for a still, that of its row."""
    last = len(pictures) - 1
    if count == 1:
        return pictures[min(row, last)][None]
    return pictures[[min(index, last) for index in range(count)]]


def with_strength(
    conditioning: Conditioning | str, strength: float, done: dict[int, Any]
) -> Conditioning | str:
    """A conditioning whose ControlNets all have this strength; without them where it is 0.

    Args:
        done: what became of ControlNets so far, by identity of the original. Hand the same dict to
            positive and negative, which have to share the very same objects.
    """
    if isinstance(conditioning, str):
        return conditioning
    result = []
    for embedding, options in conditioning:
        control = options.get("control")
        if control is not None:
            if id(control) not in done:
                done[id(control)] = _of_strength(control, strength)
            options = {**options, "control": done[id(control)]}
            if strength == 0:
                del options["control"]
        result.append([embedding, options])
    return result


def _of_strength(control: Any, strength: float) -> Any:
    """A copy of a chain of ControlNets that all have this strength."""
    previous = getattr(control, "previous_controlnet", None)
    if not (hasattr(control, "strength") and callable(getattr(control, "copy", None))):
        note(
            "control",
            f"The strength of a ControlNet ({type(control).__name__}) cannot be set for a segment:"
            " it keeps its own.",
        )
        return control
    own = control.copy()
    own.strength = strength
    if previous is not None:
        own.set_previous_controlnet(_of_strength(previous, strength))
    return own
