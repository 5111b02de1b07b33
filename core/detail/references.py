"""Pictures that an edit model looks at beside what it draws.

One that shows the edited image itself has to show the crop while a crop is drawn, at the size at
which it is drawn; one that shows something else, such as a person or a style, stays whole. Which it
is, is told by the content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..backend import Backend
from ..geometry import Box, Size
from ..pixels.crop_view import CENTRED, COVERING, STRETCHED, Cut, of_row, sampled_plane
from ..pixels.image import to_rgb
from ..pixels.resample import resize
from ..prompts.cut_conditioning import edited_picture
from ..sampling.scheduler import Encode, Pipeline
from ..settings import REFERENCES_AUTO, REFERENCES_CROP, REFERENCES_WHOLE, Conditioning

_LISTS = ("reference_latents", "context_latents")
_SINGLE = ("ref_latent",)
_BLOCKS = ("minimax_refs",)  # lists of dicts with a "latent"
_OF_LATENTS_SIZE = "time_dim_concat"  # goes on behind the latent's frames
_SAME_PROPORTIONS = 0.02

_CELLS = 32  # of the longer side that are compared
_THUMBNAIL = 256  # pixels of the side of a square: references above are first compared as such
_UNLIKE = 0.15  # a correlation of phases below is that of another picture, at any scale
_ALIKE = 0.87  # one above is that of the same picture, at its own scale
_SCALED = 0.5  # one above that of the same picture at another scale
_EDITED = 0.25  # or, where half of the cells hardly differ, one above this
_HARDLY = 0.02  # a cell's difference over the spread of all cells
_FLAT = 1e-3  # spread over the level of what is one colour


@dataclass(frozen=True)
class Shown:
    """A crop as the model gets it."""

    cut: Cut
    latent: torch.Tensor  # of the crop on its canvas
    pixels: Callable[[], torch.Tensor] | None = None  # the same as [N,H,W,3]
    # (pixels [N,H,W,3], whether they are a clip) -> what asks for their latent
    encode: Callable[[torch.Tensor, bool], Encode] | None = None
    same_size: bool = False  # the model takes references of the latent's size alone


class References:
    """What the references in the conditionings of one run show, and what takes their place."""

    def __init__(
        self,
        choice: str,
        image: torch.Tensor | None,
        vae: Any,
        backend: Backend,
        tiled: bool = False,
    ) -> None:
        """
        Args:
            choice: one of REFERENCE_CHOICES.
            image: [B,H,W,C], the node's own. Of a clip the first frame counts. None: no reference
                shows it.
            tiled: whether the VAE encodes and decodes in tiles.
        """
        self.choice, self.vae, self.backend, self.tiled = choice, vae, backend, tiled
        self.image = None if image is None else to_rgb(image)[0]
        self._known: dict[tuple[int, int], tuple[torch.Tensor, bool]] = {}
        self._decoded: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._encoded: dict[tuple, torch.Tensor] = {}

    def shows(self, picture: torch.Tensor, cut: Cut) -> bool:
        """Whether a picture shows the whole of the cut's image.

        Args:
            picture: a latent [N,C,h,w] or [N,C,T,h,w], or pixels [N,h,w,C].
        """
        if self.choice == REFERENCES_WHOLE:
            return False
        key = id(picture), cut.row
        if key not in self._known:  # the picture is kept too, so that its id stays its own
            self._known[key] = picture, self._compared(of_row(picture, cut), cut.row)
        return self._known[key][1]

    def _compared(self, picture: torch.Tensor, row: int) -> bool:
        if self.image is None:
            return False
        image = self.image[row : row + 1]
        if _is_pixels(picture):
            own = Size(picture.shape[2], picture.shape[1])
            planes = picture[0, ..., :3].movedim(-1, 0).float()
            return any(
                same_picture(planes, resize(part, own)[0].movedim(-1, 0).to(planes))
                for part in _ways(image, own, 1)
            )
        if picture.ndim not in (4, 5) or min(picture.shape[-2:]) < 2:
            return False
        planes = (picture[0] if picture.ndim == 4 else picture[0, :, 0]).float()
        ratio = self.backend.ratio(self.vae)
        own = Size(planes.shape[-1] * ratio, planes.shape[-2] * ratio)
        return any(self._alike(planes, part, own, ratio) for part in _ways(image, own, ratio))

    def _alike(self, planes: torch.Tensor, part: torch.Tensor, own: Size, ratio: int) -> bool:
        """Whether a latent [C,h,w] is that of a part of the image."""
        share = _THUMBNAIL / (own.width * own.height) ** 0.5
        if share < 0.75:
            cells = Size(*(max(2, round(side * share / ratio)) for side in own))
            small = self._latent(part, Size(cells.width * ratio, cells.height * ratio))
            if small.shape[0] != planes.shape[0]:
                return False
            fitted = F.adaptive_avg_pool2d(planes, small.shape[-2:])
            if likeness(*_small_versions(fitted, small.to(fitted))) < _UNLIKE:
                return False
        whole = self._latent(part, own)
        return whole.shape == planes.shape and same_picture(planes, whole.to(planes))

    def _latent(self, part: torch.Tensor, size: Size) -> torch.Tensor:
        """The latent [C,h,w] of a part of an image [1,H,W,3] at this size."""
        key = part.data_ptr(), part.shape, size
        if key not in self._encoded:
            latent = self.backend.encode(
                self.vae, resize(part, size), tiled=self.tiled, video=False
            )
            self._encoded[key] = (latent[0] if latent.ndim == 4 else latent[0, :, 0]).float()
        return self._encoded[key]

    # In their places ---------------------------------------------------------------------------

    def placed(
        self, sides: Sequence[Conditioning | str], shown: Shown
    ) -> Pipeline[list[Conditioning | str]]:
        """The conditionings with what their references show while this crop is drawn."""
        new: dict[int, torch.Tensor] = {}
        for picture in _pictures(sides):
            if id(picture) not in new:
                new[id(picture)] = yield from self._in_place_of(picture, shown)
        for picture in _edited_pictures(sides):
            known = self._known.get((id(picture), shown.cut.row))
            if known is not None and known[1]:  # only then it was not cut to the region
                new[id(picture)] = _as(shown.latent, picture)
        return [side if isinstance(side, str) else _replaced(side, new, shown) for side in sides]

    def _in_place_of(self, picture: torch.Tensor, shown: Shown) -> Pipeline[torch.Tensor]:
        if self.shows(picture, shown.cut):
            own = shown.pixels() if _is_pixels(picture) else shown.latent
            return _as(own, picture)
        whole = of_row(picture, shown.cut)
        if self.choice == REFERENCES_CROP:
            return _as((yield from self._region_of(whole, shown)), picture)
        if shown.same_size and not _is_pixels(whole):
            return filled(whole, shown.cut.latent)
        return whole

    def _region_of(self, picture: torch.Tensor, shown: Shown) -> Pipeline[torch.Tensor]:
        """The part of another picture that lies where the crop does, drawn as large."""
        pixels = picture if _is_pixels(picture) else self._pixels(picture)
        planes, image = pixels.movedim(-1, 1), shown.cut.image
        own = Size(pixels.shape[2], pixels.shape[1])
        stretched = _off(own, image) <= _SAME_PROPORTIONS
        part = sampled_plane(
            planes, shown.cut, shown.cut.canvas, STRETCHED if stretched else COVERING, "bicubic"
        )
        part = part.clamp(0, 1).movedim(1, -1)
        if _is_pixels(picture):
            return part
        return (yield shown.encode(part, picture.ndim == 5 and picture.shape[2] > 1))

    def _pixels(self, picture: torch.Tensor) -> torch.Tensor:
        if id(picture) not in self._decoded:
            pixels = self.backend.decode(self.vae, picture, tiled=self.tiled)
            self._decoded[id(picture)] = picture, pixels
        return self._decoded[id(picture)][1]


class LatentReferences(References):
    """As `References`, where the whole image is there as a latent and the crops are parts of it."""

    def __init__(self, latent: torch.Tensor | None, backend: Backend) -> None:
        """`latent`: [N,C,h,w] or [N,C,T,h,w], as the VAE gave it. None: no reference shows it."""
        super().__init__(REFERENCES_AUTO, None, None, backend)
        self._whole = latent

    def _compared(self, picture: torch.Tensor, row: int) -> bool:
        if self._whole is None or not {picture.ndim, self._whole.ndim} <= {4, 5}:
            return False
        one, other = (
            (planes[0] if planes.ndim == 4 else planes[0, :, 0]).float().cpu()
            for planes in (picture, self._whole)
        )
        if one.shape == other.shape:
            return same_picture(one, other)
        sizes = [Size(planes.shape[-1], planes.shape[-2]) for planes in (one, other)]
        if one.shape[0] != other.shape[0] or _off(*sizes) > _SAME_PROPORTIONS:
            return False
        least = min(one.shape[-2:], other.shape[-2:], key=torch.Size.numel)
        one, other = (F.adaptive_avg_pool2d(planes, least) for planes in (one, other))
        return likeness(*_small_versions(one, other)) > _SCALED


def _ways(image: torch.Tensor, own: Size, ratio: int) -> Iterator[torch.Tensor]:
    """The parts of an image [1,H,W,3] that a picture of this size may have been made from.

    Hosts stretch an image to a size, or take its middle of that size's proportions; a VAE leaves
    out what is less than a latent pixel.
    """
    height, width = image.shape[1:3]
    x, y = width - own.width, height - own.height
    if 0 <= x < ratio and 0 <= y < ratio and (x or y):
        yield image[:, y // 2 : y // 2 + own.height, x // 2 : x // 2 + own.width]
    yield image
    if _off(own, Size(width, height)) > _SAME_PROPORTIONS / 2:
        scale = max(own.width / width, own.height / height)
        wide, high = min(width, round(own.width / scale)), min(height, round(own.height / scale))
        x, y = (width - wide) // 2, (height - high) // 2
        if wide > 0 and high > 0:
            yield image[:, y : y + high, x : x + wide]


def _off(one: Size, other: Size) -> float:
    """By what share the proportions of two sizes differ."""
    return abs(one.width * other.height / (one.height * other.width) - 1)


def _is_pixels(picture: torch.Tensor) -> bool:
    """Pixels [N,h,w,C], as some models take them, and not a latent [N,C,h,w]."""
    return picture.ndim == 4 and picture.shape[-1] in (3, 4) and picture.shape[1] > 4


def _as(own: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """A latent, or pixels, with the axes and the frames of another."""
    if own.ndim == 5 and picture.ndim == 5:
        own = own[:, :, : picture.shape[2]]
    elif own.ndim == 5:
        own = own[:, :, 0]
    elif picture.ndim == 5:
        own = own[: max(1, picture.shape[2])].movedim(0, 1)[None]
    if own.ndim == 4 and len(picture) == 1:
        own = own[:1]
    return own.to(picture)


def filled(picture: torch.Tensor, size: Size) -> torch.Tensor:
    """The middle of a latent [...,h,w] that has the proportions of a size, at that size."""
    height, width = picture.shape[-2:]
    if (width, height) == tuple(size):
        return picture
    return sampled_plane(picture, Cut(size, Box(0, 0, *size), size, size, 1), size, CENTRED)


def _pictures(sides: Sequence[Conditioning | str]) -> Iterator[torch.Tensor]:
    for options in _options(sides):
        values = [options.get(key) for key in (*_SINGLE, _OF_LATENTS_SIZE)]
        values += [each for key in _LISTS for each in options.get(key) or ()]
        values += [each.get("latent") for key in _BLOCKS for each in options.get(key) or ()]
        yield from (value for value in values if isinstance(value, torch.Tensor))


def _edited_pictures(sides: Sequence[Conditioning | str]) -> Iterator[torch.Tensor]:
    found = (edited_picture(options) for options in _options(sides))
    return (picture for picture in found if picture is not None)


def _options(sides: Sequence[Conditioning | str]) -> Iterator[dict[str, Any]]:
    for side in sides:
        yield from (entry[1] for entry in side if _is_entry(entry))


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[1], dict)


def _replaced(side: Conditioning, new: dict[int, torch.Tensor], shown: Shown) -> Conditioning:
    return [
        [entry[0], _replaced_in(entry[1], new, shown)] if _is_entry(entry) else entry
        for entry in side
    ]


def _replaced_in(
    options: dict[str, Any], new: dict[int, torch.Tensor], shown: Shown
) -> dict[str, Any]:
    def other(value: Any) -> Any:
        return new.get(id(value), value) if isinstance(value, torch.Tensor) else value

    result = dict(options)
    for key in (*_SINGLE, "concat_latent_image"):
        if key in options:
            result[key] = other(options[key])
    for key in _LISTS:
        pictures = options.get(key) or ()
        if any(other(picture) is not picture for picture in pictures):  # else it stays the same one
            result[key] = [other(picture) for picture in pictures]
    for key in _BLOCKS:
        if options.get(key):
            result[key] = [
                {**block, "latent": other(block["latent"])} if "latent" in block else block
                for block in options[key]
            ]
    behind = options.get(_OF_LATENTS_SIZE)
    if isinstance(behind, torch.Tensor):
        result[_OF_LATENTS_SIZE] = filled(other(behind), shown.cut.latent)
    return result


# Comparing -----------------------------------------------------------------------------------


def same_picture(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two sets of planes [C,h,w] of one size, such as latents, show the same picture.

    It may be a little sharper or softer, brighter or darker, or redrawn in parts. Pictures that
    are only alike in their colours and their layout are not the same.
    """
    level = (one.square().mean() + other.square().mean()).sqrt().item()
    spreads = [_centred(planes).square().mean().sqrt().item() for planes in (one, other)]
    if max(spreads) <= _FLAT * level:  # one colour each
        return (one - other).square().mean().sqrt().item() <= _HARDLY * level
    if min(spreads) <= _FLAT * level:
        return False
    spread = _centred(other).square().sum(0).mean().sqrt()
    typical = ((one - other).square().sum(0).sqrt() / spread).median().item()
    alike = likeness(*_small_versions(one, other))
    return typical < 1 and (alike >= _ALIKE or (alike >= _EDITED and typical <= _HARDLY))


def _small_versions(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    share = min(1.0, _CELLS / max(one.shape[-2:]))
    size = [max(1, round(side * share)) for side in one.shape[-2:]]
    return F.adaptive_avg_pool2d(one, size), F.adaptive_avg_pool2d(other, size)


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    """Correlation of the phases of two sets of planes [C,h,w], -1..1.

    Phase-only correlation (Kuglin and Hines, 1975) where nothing is shifted: every detail counts
    as much as the layout, so that two portraits of the same kind are near 0.
    """
    first, second = (torch.fft.fft2(_centred(planes).cpu()) for planes in (one, other))
    product = first * second.conj()
    size = product.abs()
    weight = size + 1e-3 * size.mean() + 1e-20
    return ((product.real / weight).sum() / (size / weight).sum().clamp(min=1e-20)).item()


def _centred(planes: torch.Tensor) -> torch.Tensor:
    return planes - planes.mean((-2, -1), keepdim=True)
