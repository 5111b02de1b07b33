"""Reference pictures of edit models, fitted to the crop that is sampled.

A reference that shows the edited image has to show the crop while the crop is sampled, at the same
size. A reference that shows something else, such as a person or a style, stays whole. The content
of the reference decides which of the two it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import torch
import torch.nn.functional as F

from ...utils.notes import note
from ..backend import Backend
from ..geometry import Box, Size
from ..pixels.crop_view import CENTRED, COVERING, STRETCHED, Cut, of_row, sampled_plane
from ..pixels.image import to_rgb
from ..pixels.resample import resize
from ..prompts.cut_conditioning import edited_picture
from ..prompts.pictured import is_entry
from ..sampling.scheduler import Encode, Pipeline
from ..settings import REFERENCES_AUTO, REFERENCES_CROP, REFERENCES_WHOLE, Conditioning

_LISTS = ("reference_latents", "context_latents")
_SINGLE = ("ref_latent",)
_BLOCKS = ("minimax_refs",)  # lists of dicts with a "latent"
_OF_LATENTS_SIZE = "time_dim_concat"  # the model appends it to the latent's frames
# Who is who in references, [1,n+T,28,h,w]: a mask for each, that of the first one last, and then an
# empty one for each latent step.
_MASKS_OF_REFERENCES = "ref_mask_28ch"
_SAME_PROPORTIONS = 0.02  # proportions that differ by a smaller share count as equal

_CELLS = 32  # the longer side is reduced to this number of cells before pictures are compared
_THUMBNAIL = 256  # references larger than a square of this side, in pixels, are first reduced to it
# Bounds for the phase-only correlation of two pictures:
_UNLIKE = 0.15  # below it, they are different pictures, at any scale
_ALIKE = 0.87  # from it on, they are the same picture at the same scale
_SCALED = 0.5  # above it, they are the same picture at different scales
_EDITED = 0.25  # from it on, they are the same picture if half of the cells hardly differ
_NEAR = 0.3  # from it on, one may be the other after an edit; different photographs reach 0.16
_HARDLY = 0.02  # cells hardly differ if their difference over the spread of all cells is smaller
_FLAT = 1e-3  # a picture has one colour if its spread over its level is at most this
_BESIDE = 0.95  # a picture holds another one beside the image if the image takes less than this
_SHIFTED = 3  # cells by which the image may lie off there, because the whole was cropped later


@dataclass(frozen=True)
class Shown:
    """A crop in the form in which the model gets it."""

    cut: Cut
    latent: torch.Tensor  # [N,C,h,w] or [N,C,T,h,w], the canvas of the crop
    pixels: Callable[[], torch.Tensor] | None = None  # gives the canvas as pixels [N,H,W,3]
    # takes pixels [N,H,W,3] and whether they are a clip; gives the request to encode them
    encode: Callable[[torch.Tensor, bool], Encode] | None = None
    same_size: bool = False  # the model only takes references of the latent's size


class Match(IntEnum):
    """How much two pictures have in common."""

    OTHER = 0  # they show different things
    BESIDE = 1  # one shows the other beside something else
    NEAR = 2  # much is alike: one may be the other after an edit, or moved
    SAME = 3


_TOLD = {
    Match.NEAR: "A reference looks much like the image, but it is not the same picture, such as one"
    " before an edit that moved things. So it stays whole, and each segment is drawn with the whole"
    " of it in sight. If each segment is to see its own part, connect 'Crop Options' with"
    " references on crop.",
    Match.BESIDE: "A reference shows the image beside another picture, as Image Stitch joins them."
    " So it stays whole, and each segment is drawn with the whole image in sight. Give each picture"
    " a Reference Latent, or an image input, of its own: then the image becomes the crop, and the"
    " other picture stays whole.",
}


class References:
    """Tells which references in the conditionings of one run show the image, and replaces them."""

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
            image: [B,H,W,C] 0..1, the images of the node. Of a clip, the first frame is compared.
                None: no reference shows the image.
            tiled: whether the VAE encodes and decodes in tiles.
        """
        self.choice, self.vae, self.backend, self.tiled = choice, vae, backend, tiled
        self.image = None if image is None else to_rgb(image)[0]
        self.of_clip = False  # the images are the frames of one clip
        self._known: dict[tuple[int, int], tuple[torch.Tensor, bool]] = {}
        self._decoded: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        # Latents of parts of the image that was compared last, by the place and shape of the part.
        self._encoded: dict[tuple, torch.Tensor] = {}
        self._row: int | None = None  # of that image

    def shows(self, picture: torch.Tensor, cut: Cut) -> bool:
        """Whether a picture shows the whole image from which the crop was cut.

        Args:
            picture: a latent [N,C,h,w] or [N,C,T,h,w], or pixels [N,h,w,C] 0..1.
        """
        if self.choice == REFERENCES_WHOLE:
            return False
        key = id(picture), self._row_for(picture, cut)
        if key not in self._known:  # the picture is kept, so that no other one gets its id
            match = self._compared(of_row(picture, cut), key[1])
            if match in _TOLD and self.choice == REFERENCES_AUTO:
                note("references", _TOLD[match])
            self._known[key] = picture, match is Match.SAME
        return self._known[key][1]

    def _row_for(self, picture: torch.Tensor, cut: Cut) -> int:
        """Index of the image with which a picture is compared.

        It is the first frame of a clip. So a picture is the same to all frames, which move away
        from what it shows. Of pictures with one for each frame, each has its own.
        """
        return 0 if self.of_clip and of_row(picture, cut) is picture else cut.row

    def _compared(self, picture: torch.Tensor, row: int) -> Match:
        if self.image is None:
            return Match.OTHER
        image = self.image[row : row + 1]
        if row != self._row:
            self._encoded.clear()
            self._row = row
        if _is_pixels(picture):
            return self._match(_Pixels(), picture[0, ..., :3].movedim(-1, 0).float(), image)
        if picture.ndim not in (4, 5) or min(picture.shape[-2:]) < 2:
            return Match.OTHER
        planes = (picture[0] if picture.ndim == 4 else picture[0, :, 0]).float()
        return self._match(_Latents(self._latent, self.backend.ratio(self.vae)), planes, image)

    @staticmethod
    def _match(kind: _Pixels | _Latents, planes: torch.Tensor, image: torch.Tensor) -> Match:
        """What planes [C,h,w] of a picture have in common with an image [1,H,W,3]."""
        own = Size(planes.shape[-1] * kind.ratio, planes.shape[-2] * kind.ratio)
        best = Match.OTHER
        for part in _candidates(image, own, kind.ratio):
            best = max(best, _alike(kind, planes, part, own))
            if best is Match.SAME:
                return best
        if best is Match.OTHER and _is_beside(kind, planes, image):
            return Match.BESIDE
        return best

    def _latent(self, part: torch.Tensor, size: Size) -> torch.Tensor:
        """The latent [C,h,w] of a part [1,H,W,3] of the image `_row` at this size."""
        key = part.storage_offset(), part.shape, size
        if key not in self._encoded:
            latent = self.backend.encode(
                self.vae, resize(part, size), tiled=self.tiled, video=False
            )
            self._encoded[key] = (latent[0] if latent.ndim == 4 else latent[0, :, 0]).float()
        return self._encoded[key]

    def seen(
        self, picture: torch.Tensor, cut: Cut, drawn: Callable[[Size, int], torch.Tensor]
    ) -> torch.Tensor:
        """A picture that an encoder was shown, as it is shown for a crop.

        It has as many pixels as the picture had, because whoever resized that knew the encoder, and
        the proportions of the crop.

        Args:
            picture: [n,h,w,C] 0..1.
            cut: the crop; its canvas has no padding.
            drawn: gives the first pictures of the crop at a size, [count,H,W,3].

        Returns:
            [n,H,W,C]; the same object if the picture stays.
        """
        own = of_row(picture, cut)
        wanted = _of_area(own.shape[1] * own.shape[2], cut.working)
        if self.shows(picture, cut):
            return drawn(wanted, len(own)).to(own)
        if self.choice == REFERENCES_CROP:
            fitted = replace(cut, working=wanted, canvas=wanted, ratio=1)
            return _part_of(own, fitted)
        return own

    # Replacing ---------------------------------------------------------------------------------

    def any_shows(self, sides: Sequence[Conditioning | str], cut: Cut) -> bool:
        """Whether a reference in the conditionings shows the whole image."""
        return any(self.shows(picture, cut) for picture in _pictures(sides))

    def placed(
        self, sides: Sequence[Conditioning | str], shown: Shown
    ) -> Pipeline[list[Conditioning | str]]:
        """The conditionings with references that fit this crop.

        Args:
            sides: positive and negative; a text (no conditioning yet) stays as it is.
        """
        sides = [self._with_masks(side, shown) for side in sides]
        new: dict[int, torch.Tensor] = {}
        for picture in _pictures(sides):
            if id(picture) not in new:
                new[id(picture)] = yield from self._replacement(picture, shown)
        for picture in _edited_pictures(sides):
            known = self._known.get((id(picture), self._row_for(picture, shown.cut)))
            if known is not None and known[1]:
                new[id(picture)] = _as(shown.latent, picture)
            elif shown.same_size:  # it has been cut to the region already
                new[id(picture)] = filled(picture, shown.cut.latent)
        return [side if isinstance(side, str) else _replaced(side, new, shown) for side in sides]

    def _replacement(self, picture: torch.Tensor, shown: Shown) -> Pipeline[torch.Tensor]:
        if self.shows(picture, shown.cut):
            own = shown.pixels() if _is_pixels(picture) else shown.latent
            return _as(own, picture)
        whole = of_row(picture, shown.cut)
        if self.choice == REFERENCES_CROP:
            return _as((yield from self._region_of(picture, shown)), picture)
        if shown.same_size and not _is_pixels(whole):
            return filled(whole, shown.cut.latent)
        return whole

    def _region_of(self, picture: torch.Tensor, shown: Shown) -> Pipeline[torch.Tensor]:
        """The part of another picture that lies where the crop lies, at the size of the canvas."""
        whole = of_row(picture, shown.cut)
        if _is_pixels(whole):
            return _part_of(whole, shown.cut)
        if _is_blank(whole):
            return filled(whole, shown.cut.latent)
        part = _part_of(self._pixels(picture, shown.cut), shown.cut)
        return (yield shown.encode(part, whole.ndim == 5 and whole.shape[2] > 1))

    def _pixels(self, picture: torch.Tensor, cut: Cut) -> torch.Tensor:
        whole = of_row(picture, cut)
        key = id(picture), 0 if whole is picture else cut.row
        if key not in self._decoded:  # the picture is kept, so that no other one gets its id
            pixels = self.backend.decode(self.vae, whole, tiled=self.tiled)
            self._decoded[key] = picture, pixels
        return self._decoded[key][1]

    def _with_masks(self, side: Conditioning | str, shown: Shown) -> Conditioning | str:
        """A conditioning whose masks for its references are fitted as the references will be."""
        if isinstance(side, str):
            return side
        return [
            [entry[0], self._with_masks_in(entry[1], shown)] if is_entry(entry) else entry
            for entry in side
        ]

    def _with_masks_in(self, options: dict[str, Any], shown: Shown) -> dict[str, Any]:
        masks, pictures = options.get(_MASKS_OF_REFERENCES), options.get("reference_latents")
        if not (isinstance(masks, torch.Tensor) and masks.ndim == 5 and pictures):
            return options
        ordered = [*pictures[1:], pictures[0]]
        own = [
            self._mask(mask, picture, shown)
            for mask, picture in zip(masks.unbind(1), ordered, strict=False)  # then the empty ones
        ]
        steps = shown.latent.shape[2] if shown.latent.ndim == 5 else 1
        empty = torch.zeros_like(own[0])
        return {**options, _MASKS_OF_REFERENCES: torch.stack([*own, *[empty] * steps], dim=1)}

    def _mask(self, mask: torch.Tensor, picture: torch.Tensor, shown: Shown) -> torch.Tensor:
        """The mask [1,C,h,w] of what a reference shows, for what takes its place."""
        cut = shown.cut.frames[0] if shown.cut.frames else shown.cut  # a reference is one frame
        if self.choice == REFERENCES_CROP or self.shows(picture, shown.cut):
            own = Size(mask.shape[-1], mask.shape[-2])
            return sampled_plane(mask, cut, shown.cut.latent, _fit_of(own, cut), "nearest")
        return filled(mask, shown.cut.latent, "nearest")


class LatentReferences(References):
    """References for a sampler whose crops are parts of a latent instead of an image."""

    def __init__(self, latent: torch.Tensor | None, backend: Backend) -> None:
        """`latent`: the whole latent [N,C,h,w] or [N,C,T,h,w], as the VAE gave it. None: no
        reference shows it."""
        super().__init__(REFERENCES_AUTO, None, None, backend)
        self._whole = latent

    def _compared(self, picture: torch.Tensor, row: int) -> Match:
        return Match.SAME if self._is_whole(picture) else Match.OTHER

    def _is_whole(self, picture: torch.Tensor) -> bool:
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


def _candidates(image: torch.Tensor, own: Size, ratio: int) -> Iterator[torch.Tensor]:
    """The parts of an image [1,H,W,3] from which a picture of size `own` may have been made.

    ComfyUI either stretches an image to a size, or crops its centre to the proportions of that
    size. A VAE cuts off the pixels that do not fill a latent pixel of `ratio` x `ratio`.
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


def _part_of(pixels: torch.Tensor, cut: Cut) -> torch.Tensor:
    """The part of pixels [N,h,w,C] that lies where the crop lies, at the size of the canvas."""
    own = Size(pixels.shape[2], pixels.shape[1])
    part = sampled_plane(pixels.movedim(-1, 1), cut, cut.canvas, _fit_of(own, cut), "bicubic")
    return part.clamp(0, 1).movedim(1, -1)


def _fit_of(own: Size, cut: Cut) -> str:
    """How a picture of size `own` that was made from the whole image lies over it."""
    return STRETCHED if _off(own, cut.image) <= _SAME_PROPORTIONS else COVERING


def _of_area(area: int, shape: Size) -> Size:
    """The size with so many pixels and the proportions of `shape`."""
    scale = (area / (shape.width * shape.height)) ** 0.5
    return Size(*(max(1, round(side * scale)) for side in shape))


def _off(one: Size, other: Size) -> float:
    """The share by which the proportions of two sizes differ; 0 if they are equal."""
    return abs(one.width * other.height / (one.height * other.width) - 1)


def _is_pixels(picture: torch.Tensor) -> bool:
    """Whether a picture is pixels [N,h,w,C], which some models take, and no latent [N,C,h,w]."""
    return picture.ndim == 4 and picture.shape[-1] in (3, 4) and picture.shape[1] > 4


def _is_blank(latent: torch.Tensor) -> bool:
    """Whether a latent [...,h,w] shows nothing, as those that nodes put into a negative."""
    return torch.equal(latent, latent[..., :1, :1].expand_as(latent))


def _as(own: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """A latent, or pixels, with as many axes and frames as `picture` has."""
    if own.ndim == 5 and picture.ndim == 5:
        own = own[:, :, : picture.shape[2]]
    elif own.ndim == 5:
        own = own[:, :, 0]
    elif picture.ndim == 5:
        own = own[: max(1, picture.shape[2])].movedim(0, 1)[None]
    if own.ndim == 4 and len(picture) == 1:
        own = own[:1]
    return own.to(picture)


def filled(picture: torch.Tensor, size: Size, mode: str = "bilinear") -> torch.Tensor:
    """The centre of a latent [...,h,w], cropped to the proportions of a size and resized to it.

    Returns:
        [...,size.height,size.width].
    """
    height, width = picture.shape[-2:]
    if (width, height) == tuple(size):
        return picture
    return sampled_plane(picture, Cut(size, Box(0, 0, *size), size, size, 1), size, CENTRED, mode)


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
        yield from (entry[1] for entry in side if is_entry(entry))


def _replaced(side: Conditioning, new: dict[int, torch.Tensor], shown: Shown) -> Conditioning:
    return [
        [entry[0], _replaced_in(entry[1], new, shown)] if is_entry(entry) else entry
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
        if any(other(picture) is not picture for picture in pictures):  # else keep the same list
            result[key] = [other(picture) for picture in pictures]
    for key in _BLOCKS:
        if options.get(key):
            result[key] = [_replaced_block(block, other) for block in options[key]]
    behind = options.get(_OF_LATENTS_SIZE)
    if isinstance(behind, torch.Tensor):
        result[_OF_LATENTS_SIZE] = filled(other(behind), shown.cut.latent)
    return result


def _replaced_block(block: dict[str, Any], other: Callable[[Any], torch.Tensor]) -> dict[str, Any]:
    """A block with another latent and, where the block says how large that is, its size."""
    if "latent" not in block:
        return block
    latent = other(block["latent"])
    if latent is block["latent"]:
        return block
    sizes = dict(zip(("latent_t", "latent_h", "latent_w"), latent.shape[-3:], strict=True))
    return {**block, "latent": latent, **{key: sizes[key] for key in sizes if key in block}}


# Comparing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Latents:
    """How the image is compared with a latent."""

    encoded: Callable[[torch.Tensor, Size], torch.Tensor]  # a part [1,H,W,3] at a size: [C,h,w]
    ratio: int  # pixels to a side of a cell

    def planes(self, part: torch.Tensor, size: Size) -> torch.Tensor:
        return self.encoded(part, size)


class _Pixels:
    """How the image is compared with pixels."""

    ratio = 1

    def planes(self, part: torch.Tensor, size: Size) -> torch.Tensor:
        return resize(part, size)[0].movedim(-1, 0).float()


def _thumbnail(size: Size, ratio: int) -> Size:
    """The size in cells of a picture of `size` pixels, reduced to that of a thumbnail."""
    share = min(1.0, _THUMBNAIL / (size.width * size.height) ** 0.5)
    return Size(*(max(2, round(side * share / ratio)) for side in size))


def _small(
    kind: _Pixels | _Latents, planes: torch.Tensor, part: torch.Tensor, size: Size
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Planes [C,h,w] of `size` pixels and a part [1,H,W,3] of the image, as thumbnails.

    None: they have not the same channels.
    """
    cells = _thumbnail(size, kind.ratio)
    small = kind.planes(part, Size(cells.width * kind.ratio, cells.height * kind.ratio))
    if small.shape[0] != planes.shape[0]:
        return None
    fitted = F.adaptive_avg_pool2d(planes, small.shape[-2:])
    return _small_versions(fitted, small.to(fitted))


def _alike(kind: _Pixels | _Latents, planes: torch.Tensor, part: torch.Tensor, own: Size) -> Match:
    """What planes [C,h,w] of a picture of size `own` have in common with a part [1,H,W,3]."""
    if _THUMBNAIL / (own.width * own.height) ** 0.5 < 0.75:
        small = _small(kind, planes, part, own)
        if small is None or likeness(*small) < _UNLIKE:
            return Match.OTHER
    whole = kind.planes(part, own)
    return match_of(planes, whole.to(planes)) if whole.shape == planes.shape else Match.OTHER


def _is_beside(kind: _Pixels | _Latents, planes: torch.Tensor, image: torch.Tensor) -> bool:
    """Whether planes [C,h,w] show the whole image [1,H,W,3] at one of their ends only."""
    height, width = planes.shape[-2:]
    shape = image.shape[2] / image.shape[1]
    for axis, length in ((-1, round(height * shape)), (-2, round(width / shape))):
        if not 2 <= length < _BESIDE * planes.shape[axis]:
            continue
        for start in (0, planes.shape[axis] - length):
            end = planes.narrow(axis, start, length)
            size = Size(end.shape[-1] * kind.ratio, end.shape[-2] * kind.ratio)
            small = _small(kind, end, image, size)
            if small is not None and likeness(*small, within=_SHIFTED) >= _NEAR:
                return True
    return False


def match_of(one: torch.Tensor, other: torch.Tensor) -> Match:
    """What two latents, or images, [C,h,w] of one size have in common.

    The same picture may be a little sharper, softer, brighter or darker in one of them, or redrawn
    in parts. Pictures with similar colours and a similar layout are not the same picture.
    """
    level = (one.square().mean() + other.square().mean()).sqrt().item()
    spreads = [_centred(planes).square().mean().sqrt().item() for planes in (one, other)]
    if max(spreads) <= _FLAT * level:  # each of them has one colour only
        alike = (one - other).square().mean().sqrt().item() <= _HARDLY * level
        return Match.SAME if alike else Match.OTHER
    if min(spreads) <= _FLAT * level:
        return Match.OTHER
    spread = _centred(other).square().sum(0).mean().sqrt()
    typical = ((one - other).square().sum(0).sqrt() / spread).median().item()
    alike = likeness(*_small_versions(one, other))
    if typical < 1 and (alike >= _ALIKE or (alike >= _EDITED and typical <= _HARDLY)):
        return Match.SAME
    return Match.NEAR if alike >= _NEAR else Match.OTHER


def same_picture(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two latents, or images, [C,h,w] of one size show the same picture; see `match_of`."""
    return match_of(one, other) is Match.SAME


def _small_versions(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    share = min(1.0, _CELLS / max(one.shape[-2:]))
    size = [max(1, round(side * share)) for side in one.shape[-2:]]
    return F.adaptive_avg_pool2d(one, size), F.adaptive_avg_pool2d(other, size)


def likeness(one: torch.Tensor, other: torch.Tensor, within: int = 0) -> float:
    """Phase-only correlation (Kuglin and Hines, 1975) of two latents, or images, [C,h,w], -1..1.

    Every frequency has the same weight: details count as much as the layout, so that two different
    portraits with the same layout are near 0.

    Args:
        within: the best value for shifts of up to this many cells; 0 is the one for no shift.
    """
    first, second = (torch.fft.fft2(_centred(planes).cpu()) for planes in (one, other))
    product = first * second.conj()
    size = product.abs()
    weight = size + 1e-3 * size.mean() + 1e-20
    most = (size / weight).sum().clamp(min=1e-20)
    if not within:
        return ((product.real / weight).sum() / most).item()
    shifted = torch.fft.ifft2((product / weight).sum(0)).real * product[0].numel()
    height, width = (min(2 * within + 1, side) for side in shifted.shape)
    near = torch.roll(shifted, (within, within), (-2, -1))[:height, :width]
    return (near.max() / most).item()


def _centred(planes: torch.Tensor) -> torch.Tensor:
    return planes - planes.mean((-2, -1), keepdim=True)
