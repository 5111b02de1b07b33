"""What encoders made of pictures, made again of other pictures.

Some text encoders look at pictures while they read a text, such as those of Qwen-Image-Edit. Image
encoders (CLIP vision) give vectors that travel in a conditioning. A conditioning holds only what
came out, so the backend remembers what went in; see `Pictured`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ...utils.notes import note
from ..settings import Conditioning, Models

# Options of a conditioning that hold the output of an image encoder, alone or in a list.
_OUTPUTS = ("clip_vision_output", "clip_vision_output_ref")
_OUTPUT_LISTS = ("clip_vision_outputs",)
_BLOCKS = ("unclip_conditioning",)  # lists of dicts with a "clip_vision_output"

_WITHOUT_PICTURES = (
    "A segment's text is encoded without the pictures that the text encoder saw with the node's own"
    " text: 'clip' is not of the kind that encoded that text, or the node that did so puts texts"
    " and pictures together in a way that is not known here. Connect the same CLIP to both, or"
    " encode with ComfyUI's own node."
)

# The picture [n,h,w,C] that an encoder gets in the place of another one; the same object if it
# stays.
Fit = Callable[[torch.Tensor], torch.Tensor]


class EncoderCall(Protocol):
    """One call of an encoder that was shown pictures, or a text in a template.

    Attributes:
        pictures: each [n,h,w,C] 0..1, in the order in which the encoder was shown them.
    """

    pictures: tuple[torch.Tensor, ...]

    def again(self, pictures: Sequence[torch.Tensor]) -> Sequence[Any]:
        """What the encoder makes of other pictures, with everything else as it was.

        Args:
            pictures: as many as `self.pictures`, each [n,h,w,C] 0..1.

        Returns:
            The results of an image encoder, or pairs (embedding, options) of a text encoder.
        """

    def with_text(
        self, clip: Any, text: str, pictures: Sequence[torch.Tensor]
    ) -> Conditioning | None:
        """The conditioning of another text, which is put and encoded as the text of this call was.

        Args:
            pictures: as many as `self.pictures`, each [n,h,w,C] 0..1.

        Returns:
            None if this cannot be done with that text encoder.
        """


@dataclass(frozen=True)
class Pictured:
    """Where an embedding, or the output of an image encoder, comes from."""

    call: EncoderCall
    index: int = 0  # which of the call's results it is
    options: Mapping[str, Any] = field(default_factory=dict)  # what came together with an embedding


class RememberingBackend(Protocol):
    """The function of the host that `Showing` needs."""

    def pictured(self, result: Any) -> Pictured | None:
        """Where an embedding, or an output of an image encoder, comes from. None: of a plain text,
        or it is not known."""


class Showing:
    """Shows encoders again what they saw, with the pictures that belong to one crop."""

    def __init__(self, backend: RememberingBackend, fit: Fit) -> None:
        self.backend, self._fit = backend, fit
        self._fitted: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._results: dict[int, tuple[EncoderCall, Sequence[Any] | None]] = {}

    def models(self, models: Models, texts: tuple[bool, bool] = (True, True)) -> Models:
        """Models whose conditionings were made of the pictures of the crop.

        The same object if nothing changes.

        Args:
            texts: whether the texts of positive and negative are needed; if not, they are not
                encoded again.
        """
        positive, negative = texts
        sides = [
            self.conditioning(models.positive, positive),
            self.conditioning(models.negative, negative),
        ]
        if sides[0] is models.positive and sides[1] is models.negative:
            return models
        return models._replace(positive=sides[0], negative=sides[1])

    def conditioning(self, side: Conditioning | str, text: bool = True) -> Conditioning | str:
        """A conditioning that was made of the pictures of the crop.

        Only an embedding that is still what the encoder gave is made again. One that was averaged,
        set to zero or joined with another one stays as it is.

        Args:
            text: False leaves the embeddings as they are.

        Returns:
            The same object if nothing changes.
        """
        if isinstance(side, str):
            return side
        entries = [self._entry(entry, text) for entry in side]
        changed = any(new is not old for new, old in zip(entries, side, strict=True))
        return entries if changed else side

    def text(self, clip: Any, text: str, side: Conditioning | str) -> Conditioning | None:
        """The conditioning of a text that takes the place of a conditioning's text.

        None: it is not known how that text was encoded, or this one cannot be encoded in that way.
        The user is told if the encoder is not shown its pictures because of this.
        """
        for entry in () if isinstance(side, str) else side:
            origin = self.backend.pictured(entry[0]) if is_entry(entry) else None
            if origin is not None:
                made = origin.call.with_text(clip, text, self._of(origin.call))
                if made is None and origin.call.pictures:
                    note("text", _WITHOUT_PICTURES)
                return made
        return None

    def _entry(self, entry: Any, text: bool) -> Any:
        if not is_entry(entry):
            return entry
        embedding, options = entry
        origin = self.backend.pictured(embedding) if text else None
        result = None if origin is None else self._again(origin)
        if result is not None:
            embedding, fresh = result
            options = _merged(options, origin.options, fresh)
        options = self._with_outputs(options)
        return entry if options is entry[1] else [embedding, options]

    def _of(self, call: EncoderCall) -> tuple[torch.Tensor, ...]:
        for picture in call.pictures:
            if id(picture) not in self._fitted:  # it is kept, so that no other gets its id
                self._fitted[id(picture)] = picture, self._fit(picture)
        return tuple(self._fitted[id(picture)][1] for picture in call.pictures)

    def _again(self, origin: Pictured) -> Any:
        """The result for the pictures of the crop; None if they are the same pictures."""
        call = origin.call
        if id(call) not in self._results:
            pictures = self._of(call)
            same = all(new is old for new, old in zip(pictures, call.pictures, strict=True))
            self._results[id(call)] = call, None if same else call.again(pictures)
        results = self._results[id(call)][1]
        return None if results is None else results[origin.index]

    def _output(self, output: Any) -> Any:
        origin = self.backend.pictured(output)
        result = None if origin is None else self._again(origin)
        return output if result is None else result

    def _with_outputs(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options with the outputs of image encoders for the crop."""
        new: dict[str, Any] = {}
        for key in _OUTPUTS:
            if options.get(key) is not None:
                new[key] = self._output(options[key])
        for key in _OUTPUT_LISTS:
            if options.get(key):
                new[key] = _same_or(options[key], [self._output(each) for each in options[key]])
        for key in _BLOCKS:
            if options.get(key):
                new[key] = _same_or(options[key], [self._block(each) for each in options[key]])
        if all(value is options[key] for key, value in new.items()):
            return options
        return {**options, **new}

    def _block(self, block: dict[str, Any]) -> dict[str, Any]:
        output = block.get("clip_vision_output")
        fresh = self._output(output)
        return block if fresh is output else {**block, "clip_vision_output": fresh}


def is_entry(entry: Any) -> bool:
    """Whether it is an entry of a conditioning: an embedding and a dict of options."""
    return isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict)


def _same_or(old: Any, new: list[Any]) -> Any:
    return old if all(a is b for a, b in zip(old, new, strict=True)) else new


def _merged(
    options: dict[str, Any], before: Mapping[str, Any], fresh: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of an entry, with what came from the encoder made new.

    What later nodes set, or took away, stays so.

    Args:
        before: what the encoder gave with the old embedding.
        fresh: what it gave with the new one.
    """
    missing = object()
    own = {key: value for key, value in options.items() if before.get(key, missing) is not value}
    made = {key: value for key, value in fresh.items() if key in options or key not in before}
    return {**made, **own}
