"""ControlNets and IPAdapters of single segments: the `control_net_wrapper` of a SEG.

A wrapper is called when its segment is sampled. `apply(positive, negative, image, mask)` returns
conditionings and the pictures to show, `doit_ipadapter(model)` a model and pictures. Wrappers form
a chain: each calls the wrapper that the segment had before it.
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
    strength: float  # 0 has no effect
    start: float = 0.0  # share of the steps, 0..1
    end: float = 1.0
    vae: Any = None  # for ControlNets that take latents


# (ControlNet, positive, negative, hint [N,h,w,3]) -> positive and negative with the ControlNet
AttachControlNet = Callable[
    [ControlNet, Conditioning, Conditioning | str, torch.Tensor],
    tuple[Conditioning, Conditioning | str],
]
# (model, reference [N,h,w,3]) -> model with the IPAdapter
AttachIPAdapter = Callable[[Any, torch.Tensor], Any]


class WholePicture:
    """A control picture of the whole image, from which the hints of segments are cropped."""

    def __init__(self, image: torch.Tensor) -> None:
        """
        Args:
            image: [N,H,W,C] 0..1, of any size.
        """
        self._image = to_rgb(image)[0]
        self._fitted = self._image

    def cut(self, size: Size, region: Box) -> torch.Tensor:
        """The part [N,h,w,3] 0..1 of the picture for a region of an image of this size.

        Of a picture of other proportions the middle is taken, as ComfyUI does.
        """
        if (self._fitted.shape[2], self._fitted.shape[1]) != tuple(size):
            own = Size(self._image.shape[2], self._image.shape[1])
            self._fitted = resize(crop(self._image, shown_part(own, size)), size)
        return crop(self._fitted, region.clipped(size))


class SegmentControl:
    """The `control_net_wrapper` of a SEG; this class only calls the wrapper before it."""

    control_image: torch.Tensor | None = None  # [N,h,w,3] 0..1, shown in previews of SEGS

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
        """Add the ControlNets of the chain to the conditionings of a segment.

        Args:
            image: [N,h,w,3] 0..1, the enlarged crop, padded to the canvas; N > 1 is a clip.
            mask: [N or 1,h,w] 0..1, the noise mask of the segment, or None.
            use_acn: has no effect here; detailers of other packs pass it for clips.
            cut: the crop and its place in the image. Detailers of other packs do not pass it; then
                the place is the one that the segment had when the wrapper was made.
            row: index of the image in the node's batch; None: the image of the segment.

        Returns:
            Positive, negative, and the hints [N,h,w,3] of the ControlNets at the working size.

        Raises:
            ValueError, RuntimeError: the wrapper of another pack raised an error, or returned
                something else.
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
        """Add the IPAdapters of the chain to the model of a segment; other packs call this method.

        Returns:
            The model, and the references [N,h,w,3] of the IPAdapters.
        """
        if not callable(getattr(self.previous, "doit_ipadapter", None)):
            return model, []
        model, images = self.previous.doit_ipadapter(model)
        return model, list(images or [])


class ControlNetOnSegment(SegmentControl):
    """A ControlNet whose hint is cropped from a control picture, or made from the crop."""

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
            size, region: the size of the image, and the crop region of the segment.
            picture: the control picture; if given, `preprocessor` is not used.
            preprocessor: a SEGS_PREPROCESSOR, `apply(image, mask)` -> image. Without a picture and
                a preprocessor the hint is the crop itself.
            previous: the wrapper that the segment had before.
            batch_image: the image of a batch that the segment belongs to.
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
        """The hint [N,h,w,3] 0..1 for previews; None without a control picture."""
        if self.picture is None or self.region.empty:
            return None
        pictures = self.picture.cut(self.size, self.region)
        return pictures if self.index is None else _pictures_for(pictures, 1, self.index)

    def apply(self, positive, negative, image, mask=None, use_acn=False, *, cut=None, row=None):
        """See `SegmentControl.apply`."""
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
    """An IPAdapter with a reference picture [N,h,w,3] 0..1."""

    def __init__(
        self, attach: AttachIPAdapter, reference: torch.Tensor, previous: Any = None
    ) -> None:
        super().__init__(previous)
        self.attach, self.reference = attach, reference

    def doit_ipadapter(self, model: Any) -> tuple[Any, Images]:
        """See `SegmentControl.doit_ipadapter`."""
        model, images = super().doit_ipadapter(model)
        return self.attach(model, self.reference), [self.reference, *images]


def control_segs(
    segs: SEGS,
    control: ControlNet,
    attach: AttachControlNet,
    image: torch.Tensor | None = None,
    preprocessor: Any = None,
) -> SEGS:
    """Give every segment a ControlNet, in addition to those that it has.

    Args:
        image: control pictures [N,H,W,C] 0..1 of the whole image. Frame i of a clip, and image i of
            a batch, get picture i, or the last one.
        preprocessor: makes the hint from each crop; used without `image`.
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
    """Give every segment an IPAdapter, in addition to those that it has.

    Args:
        reference: [N,H,W,C] 0..1 of the whole image. Each adapter gets the part around its segment.
            If there is a picture for each image of the batch, it gets the one of its image.
        context_factor: sides of that part over the sides of the crop region.
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
    """Control pictures [count,h,w,C], one for each frame of a crop; for a still that of its row."""
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
