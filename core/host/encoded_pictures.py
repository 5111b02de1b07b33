"""What ComfyUI's encoders were shown, remembered for as long as their results are in use.

A CONDITIONING holds what a text encoder made of a text and pictures, but neither of them. To show
the encoder a crop instead of the whole image, both are needed. So the functions of ComfyUI's CLIP
and CLIP_VISION that encode are wrapped: they do what they do, and the wrapper notes what went in.
The note belongs to the tensor that came out, and ends with it; nothing is added to the result.

So does a template of a node around a text: what stands in it belongs to the pictures beside the
text, such as those of *TextEncodeZImageOmni*. Nothing is noted of a text without either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import comfy.clip_vision
import comfy.sd
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ..memory import persist
from ..prompts.pictured import EncoderCall, Pictured
from ..settings import Conditioning

_AFTER_PICTURES = "<|vision_end|>"  # the mark after the last picture in a text
_AFTER_TEXT = "<|im_end|>"  # what follows the user's text in a template
_TEMPLATE = "llama_template"  # the option of a tokenizer with the text around the user's text
_WATCHED = "remembers_pictures"  # the attribute of a function that is wrapped already

_embeddings: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
_outputs: WeakKeyDictionary = WeakKeyDictionary()
_encoding: ContextVar[bool] = ContextVar("detailers_encoding", default=False)


class _Tokens(dict):
    """The tokens of a text with pictures, or in a template, which know how they were made."""

    text = ""
    options: dict[str, Any] | None = None


class TextCall(EncoderCall):
    """One call of a text encoder with pictures, or a template; see `EncoderCall`."""

    def __init__(self, clip: Any, tokens: dict, encode: Callable[[dict], Any]) -> None:
        """`encode`: tokens -> what the call gave."""
        self._clip, self._tokens, self._encode = clip, tokens, encode
        self.pictures = tuple(token["data"] for token in pictures_in(tokens))

    def again(self, pictures: Sequence[torch.Tensor]) -> Sequence[Any]:
        tokens = with_pictures(self._tokens, pictures)
        return results_of(persist(lambda: self._encode(tokens), "a text with pictures", "encoded"))

    def with_text(
        self, clip: Any, text: str, pictures: Sequence[torch.Tensor]
    ) -> Conditioning | None:
        options = getattr(self._tokens, "options", None)
        tokenizers = [type(getattr(own, "tokenizer", None)) for own in (clip, self._clip)]
        if options is None or tokenizers[0] is not tokenizers[1]:
            return None
        tokens = clip.tokenize(in_place_of(self._tokens.text, text), **options)
        if sum(1 for _ in pictures_in(tokens)) != len(pictures):
            return None
        tokens = with_pictures(tokens, pictures)
        return persist(
            lambda: clip.encode_from_tokens_scheduled(tokens), "a text with pictures", "encoded"
        )


class ImageCall(EncoderCall):
    """One call of an image encoder; see `EncoderCall`."""

    def __init__(self, image: torch.Tensor, encode: Callable[[torch.Tensor], Any]) -> None:
        """
        Args:
            image: [n,h,w,C] 0..1.
            encode: image -> the output of the encoder.
        """
        self._encode = encode
        self.pictures = (image,)

    def again(self, pictures: Sequence[torch.Tensor]) -> Sequence[Any]:
        (picture,) = pictures
        return [persist(lambda: self._encode(picture), "a picture", "encoded")]

    def with_text(self, *_: Any) -> None:
        return None  # an image encoder reads no text


def pictured(result: Any) -> Pictured | None:
    """See `Backend.pictured`."""
    if isinstance(result, torch.Tensor):
        return _embeddings.get(result)
    return _outputs.get(result) if isinstance(result, comfy.clip_vision.Output) else None


def watch_encoders() -> None:
    """Remember from now on what encoders are shown."""
    clip, vision = comfy.sd.CLIP, comfy.clip_vision.ClipVisionModel
    _watch(clip, "tokenize", _noting_texts)
    _watch(clip, "encode_from_tokens", _noting_tokens)
    _watch(clip, "encode_from_tokens_scheduled", _noting_tokens)
    _watch(vision, "encode_image", _noting_images)


def _watch(owner: type, name: str, noting: Callable[[Callable], Callable]) -> None:
    function = getattr(owner, name, None)
    if function is not None and not hasattr(function, _WATCHED):
        watched = wraps(function)(noting(function))
        setattr(watched, _WATCHED, True)
        setattr(owner, name, watched)


def _noting_texts(tokenize: Callable) -> Callable:
    def noting(clip: Any, text: str, *args: Any, **options: Any) -> Any:
        tokens = tokenize(clip, text, *args, **options)
        if type(tokens) is not dict or args:
            return tokens
        if next(pictures_in(tokens), None) is None and not options.get(_TEMPLATE):
            return tokens
        noted = _Tokens(tokens)
        noted.text, noted.options = text, options
        return noted

    return noting


def _noting_tokens(encode: Callable) -> Callable:
    def noting(clip: Any, tokens: Any, *args: Any, **options: Any) -> Any:
        plain = not isinstance(tokens, _Tokens) and next(pictures_in(tokens), None) is None
        if _encoding.get() or plain:
            return encode(clip, tokens, *args, **options)
        token = _encoding.set(True)
        try:
            made = encode(clip, tokens, *args, **options)
        finally:
            _encoding.reset(token)
        call = TextCall(clip, tokens, lambda other: encode(clip, other, *args, **options))
        for index, (embedding, others) in enumerate(results_of(made)):
            if isinstance(embedding, torch.Tensor):
                _embeddings[embedding] = Pictured(call, index, dict(others))
        return made

    return noting


def _noting_images(encode: Callable) -> Callable:
    def noting(encoder: Any, image: Any, *args: Any, **options: Any) -> Any:
        output = encode(encoder, image, *args, **options)
        if isinstance(output, comfy.clip_vision.Output) and isinstance(image, torch.Tensor):
            call = ImageCall(image, lambda other: encode(encoder, other, *args, **options))
            _outputs[output] = Pictured(call)
        return output

    return noting


def results_of(made: Any) -> list[tuple[Any, dict[str, Any]]]:
    """What a function of CLIP gave, as pairs (embedding, options that came with it).

    Args:
        made: a CONDITIONING, a dict with "cond", a tuple (embedding, pooled), or an embedding.
    """
    if isinstance(made, list):
        return [(entry[0], entry[1]) for entry in made]
    if isinstance(made, dict):
        return [(made.get("cond"), {key: made[key] for key in made if key != "cond"})]
    if isinstance(made, tuple):
        return [(made[0], {"pooled_output": made[1]} if len(made) > 1 else {})]
    return [(made, {})]


def in_place_of(old: str, text: str) -> str:
    """A text in the place of the user's text in another one.

    Marks of pictures before the user's text stay, and so does a template around it.
    """
    start = old.rfind(_AFTER_PICTURES)
    start = 0 if start < 0 else start + len(_AFTER_PICTURES)
    end = old.find(_AFTER_TEXT, start) if start else -1
    return old[:start] + text + (old[end:] if end >= 0 else "")


def pictures_in(tokens: Any) -> Iterator[dict[str, Any]]:
    """The tokens of a text that are single pictures, in order."""
    for chunks in tokens.values() if isinstance(tokens, dict) else ():
        for chunk in chunks if isinstance(chunks, list) else ():
            for token in chunk if isinstance(chunk, list | tuple) else ():
                if isinstance(token, list | tuple) and token and _is_picture(token[0]):
                    yield token[0]


def with_pictures(tokens: dict, pictures: Sequence[torch.Tensor]) -> dict:
    """A copy of the tokens of a text with other pictures, each [n,h,w,C] 0..1, in order."""
    left = iter(pictures)

    def placed(token: Any) -> Any:
        if not (isinstance(token, list | tuple) and token and _is_picture(token[0])):
            return token
        return ({**token[0], "data": next(left)}, *token[1:])

    def of(chunks: Any) -> Any:
        if not isinstance(chunks, list):
            return chunks
        return [
            [placed(token) for token in chunk] if isinstance(chunk, list | tuple) else chunk
            for chunk in chunks
        ]

    return {name: of(chunks) for name, chunks in tokens.items()}


def _is_picture(token: Any) -> bool:
    """Whether a token is a picture. Pieces of a video are none: each shows frames of its own."""
    return (
        isinstance(token, dict)
        and token.get("type") == "image"
        and isinstance(token.get("data"), torch.Tensor)
        and token["data"].ndim == 4
        and not any("video" in str(key) for key in token)
    )
