"""Masks of segments from a SAM: the SAM_MODEL that crosses links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from ....utils.arrays import to_numpy, to_tensor
from ....utils.check import described, is_array
from ... import checked_calls
from ...checked_calls import Source
from ...geometry import Box, Size
from ...memory import Trying, divided, free, persist
from ...pixels.image import image_name, to_rgb
from ...pixels.mask import dilate
from ...segs.image_batch import in_image, positions_by_image
from ...segs.seg import SEGS, normalise
from ..network import Network
from .questions import Prompt, SamHints, prompts

AT_ONCE = 16  # prompts that go through the network together
_SAM_VERB = "looked at by the SAM"
_WITH_THE_NETWORK = Trying(free=lambda unload=False: free())  # keeps the network on its device


class SamWrapper(Protocol):
    """The `sam_wrapper` of a SAM_MODEL, here and in ComfyUI-Impact-Pack."""

    def prepare_device(self) -> None:
        """Called before `predict`: move the network to its device."""

    def release_device(self) -> None:
        """Called after the last `predict`: the network may leave its device."""

    def predict(
        self,
        image: np.ndarray,
        points: Sequence[tuple[float, float]],
        plabs: Sequence[int],
        bbox: Sequence[float] | None,
        threshold: float,
    ) -> list[np.ndarray]:
        """Masks [H,W] of one thing in an image [H,W,3] of uint8.

        They are the masks with a score of at least `threshold`, or the best one.
        """


# Masks from any SAM


def sam_masks(model: Any, segs: SEGS, image: torch.Tensor, hints: SamHints) -> list[torch.Tensor]:
    """A mask from a SAM for each segment.

    Args:
        model: a SAM_MODEL of this pack or another.
        segs: SEGS of any pack; they are scaled to the image.
        image: [1,H,W,C] 0..1.
        hints: how prompts are made; with "mask-points" all segments give one mask together.

    Returns:
        A mask [H,W] float 0 or 1 on the CPU for each prompt.

    Raises:
        ValueError, RuntimeError: a hint is unknown, or `model` is no SAM_MODEL, raised an error, or
            returned no masks.
    """
    rgb, _ = to_rgb(image[:1])
    size = Size(rgb.shape[2], rgb.shape[1])
    _, items = normalise(segs, size, "segs")
    questions = prompts(items, size, hints)
    if not questions:
        return []
    wrapper = _wrapper(model)
    if isinstance(wrapper, Sam):
        masks = wrapper.masks(rgb[0], questions, hints.threshold)
    else:
        masks = _one_by_one(wrapper, questions, rgb[0], hints.threshold)
    return [dilate(mask[None], hints.dilation)[0] for mask in masks]


def sam_masks_of_batch(
    model: Any, segs: SEGS, images: torch.Tensor, hints: SamHints
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks from a SAM in each image of a batch, for the segments that belong to the image.

    Args:
        model, segs, hints: as in `sam_masks`.
        images: [B,H,W,C] 0..1.

    Returns:
        The union of the masks in each image, [B,H,W]; and the mask of each segment, [N,H,W]. These
        are in the order of the segments if each belongs to one image, and otherwise image by image.
        Both are 0 or 1, on the CPU.

    Raises:
        ValueError, RuntimeError: as of `sam_masks`.
    """
    count, size = len(images), Size(images.shape[2], images.shape[1])
    header, items = normalise(segs, size, "segs")
    united = torch.zeros(count, size.height, size.width)
    found: list[tuple[int, torch.Tensor]] = []
    own = positions_by_image(items, count)
    in_order = sum(map(len, own)) == len(items)
    for row, places in enumerate(own):
        asked = [in_image(items[place], row, count) for place in places]
        masks = sam_masks(model, (header, asked), images[row : row + 1], hints)
        for mask in masks:
            torch.maximum(united[row], mask, out=united[row])
        keys = places if in_order and len(masks) == len(places) else [row] * len(masks)
        found += zip(keys, masks, strict=True)
    each = [mask for _, mask in sorted(found, key=lambda entry: entry[0])]
    return united, torch.stack(each) if each else torch.zeros(0, *united.shape[1:])


def sam_mask(model: Any, segs: SEGS, image: torch.Tensor, hints: SamHints) -> torch.Tensor:
    """The union of the masks for all segments: [H,W] float 0 or 1; see `sam_masks`."""
    result = torch.zeros(image.shape[1:3])
    for mask in sam_masks(model, segs, image, hints):
        torch.maximum(result, mask, out=result)
    return result


def _one_by_one(
    wrapper: SamWrapper, questions: Sequence[Prompt], image: torch.Tensor, threshold: float
) -> list[torch.Tensor]:
    """Masks from another pack's SAM, which takes an image of uint8 and one prompt at a time."""
    pixels = (to_numpy(image) * 255).clip(0, 255).astype(np.uint8)
    size, result = Size(image.shape[1], image.shape[0]), []
    source = Source.of("'sam_model':", wrapper, "predict", "Connect another SAM.")
    source.call(wrapper.prepare_device)
    try:
        for question in questions:
            box = None if question.box is None else list(question.box.as_tuple())
            masks = persist(
                lambda question=question, box=box: source.call(
                    wrapper.predict, pixels, list(question.points), list(question.labels), box,
                    threshold,
                ),
                image_name(image), _SAM_VERB, _WITH_THE_NETWORK,
            )  # fmt: skip
            if not (masks is None or isinstance(masks, (list, tuple)) or is_array(masks)):
                raise source.wrong(described(masks), "a list of masks [H,W]")
            union = torch.zeros(image.shape[:2])
            for mask in [] if masks is None else masks:
                marked = checked_calls.mask(source, mask, size)[0]
                union = torch.maximum(union, (marked > 0).float().cpu())
            result.append(union)
    finally:
        source.call(wrapper.release_device)
    return result


def _wrapper(model: Any) -> SamWrapper:
    wrapper = getattr(model, "sam_wrapper", model)
    needed = ("prepare_device", "predict", "release_device")
    if all(callable(getattr(wrapper, name, None)) for name in needed):
        return wrapper
    raise ValueError(
        f"'sam_model' is a {type(model).__name__}, which cannot be asked for masks. Connect the "
        "output of 'SAMLoader (Impact)'; another pack's node of that name may give other objects."
    )


# Our own SAM


@dataclass(frozen=True)
class Embedded:
    """The embedding of an image."""

    features: Any
    scale: tuple[float, float]  # input pixels per image pixel, x and y
    covered: tuple[float, float] | None = None  # share of the input with the image; None: all


@dataclass(frozen=True)
class Questions:
    """Several prompts of one form, in pixels of the network's input."""

    points: torch.Tensor | None  # [1,N,points,2]
    labels: torch.Tensor | None  # [1,N,points]
    boxes: torch.Tensor | None  # [1,N,4]


Embed = Callable[[torch.nn.Module, torch.Tensor], Embedded]
Ask = Callable[[torch.nn.Module, Embedded, Questions], tuple[torch.Tensor, torch.Tensor]]
Follow = Callable[[torch.Tensor, Sequence[Sequence[int]], float], list[torch.Tensor]]


def answers(
    network: torch.nn.Module, features: Any, questions: Questions
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of a network of transformers for prompts about an embedded image.

    Returns:
        Three masks for each prompt, [N,3,h,w] logits, above 0 for the thing; and their scores
        [N,3].
    """
    answer = network(
        image_embeddings=features,
        input_points=questions.points,
        input_labels=questions.labels,
        input_boxes=questions.boxes,
        multimask_output=True,
    )
    return answer.pred_masks[0], answer.iou_scores[0]


class Sam:
    """A SAM_MODEL of this pack, which is also its own `sam_wrapper`.

    Args:
        network: the network and its device.
        embed: returns the embedding of an image [H,W,3] 0..1 on the device.
        ask: returns three masks for each prompt over the whole input, [N,3,h,w] logits, and their
            scores [N,3].
        follow: returns masks [F,H,W] of 0 and 1 for each box in the first of frames [F,H,W,3]; its
            last argument is the least logit of a thing's pixels. None: it cannot follow things.
    """

    def __init__(
        self, network: Network, embed: Embed, ask: Ask, follow: Follow | None = None
    ) -> None:
        self.network = network
        self.follow = follow
        self._embed = embed
        self._ask = ask
        self._held = ExitStack()  # keeps the network on its device between two calls
        self._seen: tuple[np.ndarray, Embedded] | None = None

    @property
    def sam_wrapper(self) -> Sam:
        """The object with the methods of `SamWrapper`: this one."""
        return self

    def masks(
        self, image: torch.Tensor, questions: Sequence[Prompt], threshold: float
    ) -> list[torch.Tensor]:
        """A mask for each prompt.

        Args:
            image: [H,W,3] 0..1.
            questions: the prompts.
            threshold: masks with at least this score, 0..1, are united; if there is none, the mask
                with the highest score is taken.

        Returns:
            A mask [H,W] float 0 or 1 on the CPU for each prompt.
        """
        return persist(
            lambda: self._masks(image, questions, threshold), image_name(image), _SAM_VERB
        )

    def _masks(
        self, image: torch.Tensor, questions: Sequence[Prompt], threshold: float
    ) -> list[torch.Tensor]:
        size = Size(image.shape[1], image.shape[0])
        result: list[torch.Tensor] = [torch.zeros(image.shape[:2])] * len(questions)
        with torch.inference_mode(), self.network.on_device() as device:
            seen = self._embed(self.network.module, image.to(device, torch.float32))

            def ask(group: Sequence[int]) -> None:
                self.network.check_interrupt()
                asked = _questions([questions[index] for index in group], seen.scale, device)
                masks, ratings = self._ask(self.network.module, seen, asked)
                for index, three, rated in zip(group, masks, ratings, strict=True):
                    chosen = three[_good(rated, threshold)]
                    result[index] = _to_image(chosen, seen, size).any(dim=0).float().cpu()

            for group in _alike(questions):
                for _ in divided(
                    len(group), lambda part, group=group: ask(group[part]),
                    lambda place: image_name(image), _SAM_VERB, _WITH_THE_NETWORK,
                ):  # fmt: skip
                    pass
        return [mask.clone() for mask in result]  # tensors outside inference mode

    def prepare_device(self) -> None:
        """See `SamWrapper`."""
        self._held.enter_context(self.network.on_device())

    def release_device(self) -> None:
        """See `SamWrapper`."""
        self._seen = None
        self._held.close()

    def predict(
        self,
        image: np.ndarray,
        points: Sequence[tuple[float, float]],
        plabs: Sequence[int],
        bbox: Sequence[float] | None,
        threshold: float,
    ) -> list[np.ndarray]:
        """Masks [H,W] of one thing in an image [H,W,3] of uint8; see `SamWrapper`."""
        return persist(
            lambda: self._predict(image, points, plabs, bbox, threshold), image_name(image),
            _SAM_VERB, _WITH_THE_NETWORK,
        )  # fmt: skip

    def _predict(
        self,
        image: np.ndarray,
        points: Sequence[tuple[float, float]],
        plabs: Sequence[int],
        bbox: Sequence[float] | None,
        threshold: float,
    ) -> list[np.ndarray]:
        size = Size(image.shape[1], image.shape[0])
        box = None if bbox is None else Box.of(bbox)
        prompt = Prompt(tuple(points or ()), tuple(plabs or ()), box)
        with torch.inference_mode(), self.network.on_device() as device:
            if self._seen is None or self._seen[0] is not image:
                pixels = to_tensor(image, device=device) / 255
                self._seen = image, self._embed(self.network.module, pixels)
            seen = self._seen[1]
            asked = _questions([prompt], seen.scale, device)
            masks, ratings = self._ask(self.network.module, seen, asked)
            chosen = _to_image(masks[0][_good(ratings[0], threshold)], seen, size)
        return list(chosen.cpu().numpy())


def _alike(questions: Sequence[Prompt]) -> Iterator[list[int]]:
    """Groups of indices of prompts with the same number of points, at most AT_ONCE each."""
    forms: dict[tuple[int, bool], list[int]] = {}
    for index, question in enumerate(questions):
        if not question.empty:
            forms.setdefault((len(question.points), question.box is None), []).append(index)
    for group in forms.values():
        for first in range(0, len(group), AT_ONCE):
            yield group[first : first + AT_ONCE]


def _questions(
    questions: Sequence[Prompt], scale: tuple[float, float], device: torch.device
) -> Questions:
    points = labels = boxes = None
    if questions[0].points:
        points = torch.tensor([[question.points for question in questions]], dtype=torch.float32)
        points = (points * torch.tensor(scale)).to(device)
        labels = torch.tensor([[question.labels for question in questions]], device=device)
    if questions[0].box is not None:
        boxes = torch.tensor([[question.box.as_tuple() for question in questions]]).float()
        boxes = (boxes * torch.tensor(scale * 2)).to(device)
    return Questions(points, labels, boxes)


def _good(ratings: torch.Tensor, threshold: float) -> torch.Tensor:
    good = ratings >= threshold
    if not good.any():
        good[ratings.argmax()] = True
    return good


def _to_image(masks: torch.Tensor, seen: Embedded, size: Size) -> torch.Tensor:
    """Masks [N,h,w] over the network's input as bool [N,H,W] over the image."""
    masks = masks[None].float()
    if seen.covered is not None:  # scaled to the input first, as the authors do
        height, width = (side * 4 for side in masks.shape[-2:])
        masks = torch.nn.functional.interpolate(masks, (height, width), mode="bilinear")
        width, height = round(width * seen.covered[0]), round(height * seen.covered[1])
        masks = masks[..., :height, :width]
    return torch.nn.functional.interpolate(masks, (size[1], size[0]), mode="bilinear")[0] > 0
