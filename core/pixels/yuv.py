"""Between the planes of coded frames and RGB, in floats.

Coded frames are luma and chroma at some number of bits, with less chroma than luma, in the full or
in the limited range. Frames are written so that a pixel that nobody changed gives back the very
samples that it was read from: only the change is converted.

Sources: ITU-R BT.601, BT.709 and BT.2020 (matrices and ranges), ITU-T H.273 (numbers of matrices).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..geometry import Box, Size

BT601 = (0.299, 0.114)
BT709 = (0.2126, 0.0722)
# H.273's numbers of matrices: (share of red, share of blue) of luma.
MATRICES = {
    1: BT709,
    4: (0.30, 0.11),
    5: BT601,
    6: BT601,
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}

_ALL = 1 - 1e-4  # a share, up to rounding
_MARGIN = 4  # samples of chroma around a change that are looked at to compute it
_BESIDE = 2  # samples of chroma beside a part from which its pixels are interpolated

Planes = Sequence[torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """What the planes of a coded frame mean.

    The planes [h,w] of integers are luma, blue and red chroma; or luma alone; or red, green and
    blue. Alpha, if there is any, comes last and has the full range.

    Attributes:
        bits: of a sample, 8 to 16.
        matrix: (share of red, share of blue) of luma; None if the planes are red, green and blue.
        full: whether luma reaches from 0 to the largest number, and not from 16 to 235 of 255.
        across, down: how many pixels share a chroma sample, in x and in y.
        centred: whether a chroma sample lies in the middle of its pixels in x, as in JPEG, and not
            at the first one, as in MPEG. In y it always lies in the middle.
        grey: whether there is no chroma.
    """

    bits: int = 8
    matrix: tuple[float, float] | None = BT601
    full: bool = False
    across: int = 1
    down: int = 1
    centred: bool = False
    grey: bool = False
    alpha: bool = False

    @property
    def colours(self) -> int:
        """The number of planes without alpha."""
        return 1 if self.grey else 3

    @property
    def largest(self) -> int:
        """The largest sample."""
        return 2**self.bits - 1

    def scale(self, plane: int) -> tuple[float, float]:
        """(sample that means 0, samples that mean 1) of a plane."""
        if plane >= self.colours or self.matrix is None or (plane == 0 and self.full):
            return 0.0, float(self.largest)
        unit = 2 ** (self.bits - 8)
        if plane == 0:
            return 16.0 * unit, 219.0 * unit
        return 128.0 * unit, float(self.largest if self.full else 224 * unit)


def to_rgb(planes: Planes, layout: Layout) -> torch.Tensor:
    """The frame [H,W,C] 0..1 of coded planes; C is 4 with alpha and else 3."""
    height, width = planes[0].shape
    luma = _values(planes, layout, 0)
    frame = luma.new_empty(height, width, 4 if layout.alpha else 3)
    for channel, part in enumerate(_offsets(planes, layout)):
        if part is None:
            frame[..., channel] = luma
        else:
            torch.add(luma, _widened(part, (height, width), layout), out=frame[..., channel])
    if layout.matrix is None:
        frame[..., 1], frame[..., 2] = _values(planes, layout, 1), _values(planes, layout, 2)
    if layout.alpha:
        frame[..., 3] = _values(planes, layout, layout.colours)
    return frame.clamp_(0, 1)


def _offsets(planes: Planes, layout: Layout) -> Sequence[torch.Tensor | None]:
    """What chroma, at its own size, adds to luma for red, green and blue; None: nothing."""
    if layout.matrix is None or layout.grey:
        return None, None, None
    red_share, blue_share = layout.matrix
    blue = _values(planes, layout, 1) * (2 * (1 - blue_share))
    red = _values(planes, layout, 2) * (2 * (1 - red_share))
    green = (red * red_share + blue * blue_share) / (red_share + blue_share - 1)
    return red, green, blue


def part_to_rgb(planes: Planes, layout: Layout, box: Box) -> torch.Tensor:
    """As `to_rgb`, the pixels [h,w,C] in a box that lies inside, and no others."""
    around = _aligned(box, layout, planes[0].shape, _BESIDE)
    frame = to_rgb(_cut(planes, layout, around), layout)
    inside = box.shifted(-around.x1, -around.y1)
    return frame[inside.y1 : inside.y2, inside.x1 : inside.x2]


def with_part(planes: Planes, layout: Layout, box: Box, pixels: torch.Tensor) -> Planes:
    """The planes with other pixels in a box; as of `from_rgb`, those that are the same stay.

    Args:
        box: lies inside.
        pixels: [h,w,C] 0..1, C as `to_rgb` gives it.
    """
    around = _aligned(box, layout, planes[0].shape, _MARGIN + _BESIDE)
    cut = _cut(planes, layout, around)
    old = to_rgb(cut, layout)
    frame = old.clone()
    inside = box.shifted(-around.x1, -around.y1)
    frame[inside.y1 : inside.y2, inside.x1 : inside.x2] = pixels
    if torch.equal(frame, old):
        return planes
    changed = [plane.clone() for plane in planes]
    patched = _patched(cut, frame, old, layout)
    for place, new in zip(_cut(changed, layout, around), patched, strict=True):
        place.copy_(new)
    return changed


def _aligned(box: Box, layout: Layout, shape: Sequence[int], margin: int) -> Box:
    """A box in whole samples of chroma, with so many more around it; shape: (height, width)."""
    across, down = layout.across, layout.down
    whole = Box(
        (box.x1 // across - margin) * across, (box.y1 // down - margin) * down,
        (-(-box.x2 // across) + margin) * across, (-(-box.y2 // down) + margin) * down,
    )  # fmt: skip
    return whole.clipped(Size(shape[1], shape[0]))


def _cut(planes: Planes, layout: Layout, box: Box) -> list[torch.Tensor]:
    """Views of the part of planes in a box of whole samples of chroma."""
    parts = []
    for number, plane in enumerate(planes):
        down, across = (layout.down, layout.across) if _is_chroma(number, layout) else (1, 1)
        rows = slice(box.y1 // down, -(-box.y2 // down))
        parts.append(plane[rows, box.x1 // across : -(-box.x2 // across)])
    return parts


def from_rgb(
    frame: torch.Tensor, layout: Layout, coded: tuple[Planes, Layout] | None = None
) -> list[torch.Tensor]:
    """The planes of a frame.

    Args:
        frame: [H,W,C] 0..1; C is 1, 3 or 4. One without alpha keeps that of `coded`, or is opaque.
        layout: of the planes that are wanted.
        coded: planes from which `to_rgb` made the frame before it was changed, and their layout.
            Pixels that are still the same keep their samples. If the two layouts are equal, they
            keep them bit for bit.

    Returns:
        Integers [h,w], one for each plane.
    """
    frame = frame.float()
    frame = frame.expand(-1, -1, 3) if frame.shape[-1] == 1 else frame
    if coded is None:
        return _folded(_components(frame, layout), layout)
    planes, given = coded
    old = to_rgb(planes, given)
    if given.alpha and frame.shape[-1] == 3:
        frame = torch.cat([frame, old[..., 3:]], -1)
    if given != layout:
        changed = _changed(frame, old, layout)
        kept = _recoded(planes, old, given, layout)
        return _folded(torch.where(changed, _components(frame, layout), kept), layout)
    if torch.equal(frame, old):
        return list(planes)
    return _patched(planes, frame, old, layout)


def _changed(frame: torch.Tensor, old: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Which components [n,H,W] of a frame are to be made anew."""
    colours = (frame[..., :3] != old[..., :3]).any(-1).expand(layout.colours, -1, -1)
    if not layout.alpha:
        return colours
    return torch.cat([colours, (_alpha(frame) != _alpha(old))[None]])


def _alpha(frame: torch.Tensor) -> torch.Tensor:
    return frame[..., 3] if frame.shape[-1] == 4 else torch.ones_like(frame[..., 0])


def _recoded(planes: Planes, rgb: torch.Tensor, given: Layout, layout: Layout) -> torch.Tensor:
    """The components [n,H,W] of a frame in another layout; not clamped if matrices are equal."""
    if given.matrix != layout.matrix or given.grey != layout.grey:
        return _components(rgb, layout)
    kept = _unfolded(planes, given)[: given.colours]
    return torch.cat([kept, _alpha(rgb)[None]]) if layout.alpha else kept


def _patched(
    planes: Planes, frame: torch.Tensor, old: torch.Tensor, layout: Layout
) -> list[torch.Tensor]:
    """The planes with what is new in the frame. Only the part around it is computed."""
    different = (frame != old).any(-1)
    rows = _span(different.any(1), layout.down)
    columns = _span(different.any(0), layout.across)
    patched = [plane.clone() for plane in planes]
    places = _cut(patched, layout, Box(columns.start, rows.start, columns.stop, rows.stop))
    new = _moved(places, frame[rows, columns], old[rows, columns], layout)
    for place, values in zip(places, new, strict=True):
        place.copy_(values)
    return patched


def _span(different: torch.Tensor, factor: int) -> slice:
    """The part of an axis in which something differs, in whole samples of chroma, and a margin."""
    at = different.nonzero()
    margin = _MARGIN * factor
    first = max(0, int(at[0]) - margin) // factor * factor
    return slice(first, min(len(different), -(-(int(at[-1]) + 1 + margin) // factor) * factor))


def _moved(
    planes: Planes, frame: torch.Tensor, old: torch.Tensor, layout: Layout
) -> list[torch.Tensor]:
    """The planes of a frame [H,W,C] in which some pixels are not as in the old one.

    A sample of chroma that belongs to changed pixels alone is made anew. One that belongs to some
    changed pixels gets their change.
    """
    changed = _changed(frame, old, layout)
    wanted = _components(frame, layout)
    change = torch.where(changed, wanted - _unfolded(planes, layout), 0.0)
    moved = []
    for number, new in enumerate(_folded(wanted, layout)):
        step, share = change[number], changed[number].float()
        if _is_chroma(number, layout):
            step, share = _narrowed(step, layout), _narrowed(share, layout)
        part = _samples(planes[number].float() + step * layout.scale(number)[1], layout)
        moved.append(torch.where(share > _ALL, new, part))
    return moved


def _folded(components: torch.Tensor, layout: Layout) -> list[torch.Tensor]:
    """The planes of components [n,H,W], see `_unfolded`."""
    planes = []
    for number, values in enumerate(components):
        if _is_chroma(number, layout):
            shared = _narrowed(values, layout)
            # What is lost by this comes back blurred, so a second step gives back most of it.
            left = values - _widened(shared, values.shape, layout)
            values = shared + _narrowed(left, layout)
        zero, one = layout.scale(number)
        planes.append(_samples(values * one + zero, layout))
    return planes


def _unfolded(planes: Planes, layout: Layout) -> torch.Tensor:
    """The planes as floats [n,H,W]: luma, colours and alpha 0..1, chroma -0.5..0.5."""
    shape = planes[0].shape
    return torch.stack(
        [
            _widened(values, shape, layout) if _is_chroma(number, layout) else values
            for number, values in enumerate(_values(planes, layout, n) for n in range(len(planes)))
        ]
    )


def _values(planes: Planes, layout: Layout, number: int) -> torch.Tensor:
    zero, one = layout.scale(number)
    return planes[number].float().sub_(zero).div_(one)


def _samples(values: torch.Tensor, layout: Layout) -> torch.Tensor:
    dtype = torch.uint8 if layout.bits == 8 else torch.int32
    return values.round().clamp_(0, layout.largest).to(dtype)


def _is_chroma(number: int, layout: Layout) -> bool:
    return 0 < number < layout.colours and layout.matrix is not None


def _components(frame: torch.Tensor, layout: Layout) -> torch.Tensor:
    """[H,W,C] -> [n,H,W], see `_unfolded`."""
    red, green, blue = frame[..., :3].unbind(-1)
    if layout.matrix is None:
        parts = [red, green, blue]
    else:
        red_share, blue_share = layout.matrix
        luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
        parts = [luma]
        if not layout.grey:
            parts.append((blue - luma) / (2 * (1 - blue_share)))
            parts.append((red - luma) / (2 * (1 - red_share)))
    if layout.alpha:
        parts.append(_alpha(frame))
    return torch.stack(parts)


# Chroma, which several pixels share


def _widened(plane: torch.Tensor, shape: Sequence[int], layout: Layout) -> torch.Tensor:
    """A plane of chroma at the size (height, width) of the frame."""
    plane = _stretched(plane, 0, layout.down, True, shape[0])
    return _stretched(plane, 1, layout.across, layout.centred, shape[1])


def _narrowed(plane: torch.Tensor, layout: Layout) -> torch.Tensor:
    """A plane of the frame at the size of chroma."""
    return _shrunk(_shrunk(plane, 0, layout.down, True), 1, layout.across, layout.centred)


def _stretched(
    plane: torch.Tensor, axis: int, factor: int, centred: bool, length: int
) -> torch.Tensor:
    """Linear interpolation along an axis to `length` samples, `factor` for each one."""
    if factor == 1:
        return plane
    count = plane.shape[axis]
    padding = (1, 1, 0, 0) if axis == 1 else (0, 0, 1, 1)
    padded = F.pad(plane[None, None], padding, mode="replicate")[0, 0]
    shape = [size * factor if way == axis else size for way, size in enumerate(plane.shape)]
    wide = plane.new_empty(shape)
    for phase in range(factor):
        place = (phase + 0.5) / factor + 0.5 if centred else phase / factor + 1
        first = int(place)
        torch.lerp(
            padded.narrow(axis, first, count),
            padded.narrow(axis, first + 1, count),
            place - first,
            out=wide[:, phase::factor] if axis == 1 else wide[phase::factor],
        )
    return wide.narrow(axis, 0, length)


def _shrunk(plane: torch.Tensor, axis: int, factor: int, centred: bool) -> torch.Tensor:
    """One sample for each `factor` along an axis: the mean if it is centred, else a triangle."""
    if factor == 1:
        return plane
    count = -(-plane.shape[axis] // factor)
    if centred:
        weights, before = torch.ones(factor), 0
    else:
        weights, before = factor - torch.arange(1 - factor, factor).abs().float(), factor - 1
    after = (count - 1) * factor + len(weights) - before - plane.shape[axis]
    padding = (before, after, 0, 0) if axis == 1 else (0, 0, before, after)
    padded = F.pad(plane[None, None], padding, mode="replicate")[0, 0]
    weights /= weights.sum()
    parts = [padded.narrow(axis, place, (count - 1) * factor + 1) for place in range(len(weights))]
    parts = [part[:, ::factor] if axis == 1 else part[::factor] for part in parts]
    return sum(part * weight for part, weight in zip(parts, weights.tolist(), strict=True))
