"""Bringing a redrawn crop back onto the crop that it was made from.

Edit models repaint the whole picture that they are given, and often shift, scale or turn it by a
little. What lies around the redrawn part shows by how much. A similarity (shift, scale, rotation)
is found in two steps: the best of a grid of scales and rotations by phase correlation (C. Kuglin &
D. Hines, "The phase correlation image alignment method", 1975), then a refinement by least squares
from coarse to fine (B. Lucas & T. Kanade, 1981; S. Baker & I. Matthews, "Lucas-Kanade 20 years on",
2004) in which pixels that do not fit count less and less (J. Tukey's biweight). Each channel's
brightness and contrast are fitted along, so that a tint does not matter. What seems to have moved
is looked at again with the sharper picture as soft as the other, so that a blur does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F

from ..geometry import Size
from .colour import MAD_TO_SPREAD
from .mask import blur, dilate, fade, grow
from .precision import in_double, in_float32
from .resample import resize

COARSE_SIDE = 128  # the longer side at which scales and rotations are tried
FINE_SIDE = 640  # the longer side at most at which the fit is refined
SCALES = tuple(1 + step / 50 for step in range(-3, 4))
ANGLES = tuple(range(-3, 4))  # degrees
WIDEST_SHIFT = 0.15  # of the longer side: a shift beyond it is no slip of an edit model
ROUNDS = 30  # of the refinement at one size; it usually ends after five to ten
SETTLED = 0.003  # pixels that no corner moves by any more
TUKEY = 4.685  # J. Tukey's constant: 95% efficiency on normally distributed errors
FEWEST = 256  # pixels around the redrawn part that a fit needs
LEAST_AROUND = 0.05  # share of a crop that has to lie around the redrawn part
THINNEST = 16  # pixels of the shorter side that a fit needs
FLAT = 0.004  # a spread of the surroundings below it shows nothing to go by, in 0..1
# The same of detail that is coarser than grain. A picture with less may show grain and nothing
# else, which a model never draws again as it was: that tells no other picture.
PLAIN = 0.04
# The spread of what shows a slip, as a share of half the diagonal, that tells scale and rotation: a
# thing in one place shows the shift alone, as an error of its size would grow with the distance.
SPREAD = 0.2
EDGES = 3.0  # how much steeper an edge is than the surroundings usually are
SOFTNESS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)  # pixels of the blurs that are tried
STILL = 0.12  # pixels: a fit that moves no corner by more leaves the result as it is
CLEARLY_BETTER = 0.96  # the error left over must be below this share of the error before
ALIKE = 0.5  # correlation with the surroundings from which on a result shows the same picture
BORDER = 6  # pixels, see `reach` of `moved_back`: what it does not reach must not end in an edge
CELLS = 4  # pixels of the error's blur: registration is judged by things, not by grain


@dataclass(frozen=True)
class Similarity:
    """Where the pixels of a result lie in the crop: turned, scaled and shifted about the centre.

    A point p of the crop, from its centre, lies in the result at `scale * R(angle) * p + shift`.
    """

    scale: float = 1.0
    angle: float = 0.0  # degrees clockwise
    shift: tuple[float, float] = (0.0, 0.0)  # x, y in pixels of the size it is for

    def __str__(self) -> str:
        """How a result is moved, as messages name it."""
        return (
            f"is moved back onto its crop: by {-self.shift[0]:+.1f}, {-self.shift[1]:+.1f} pixels,"
            f" {-self.angle:+.2f} degrees and {100 / self.scale - 100:+.2f}% in size."
        )

    @property
    def matrix(self) -> tuple[float, float]:
        """scale * cos and scale * sin of the angle."""
        turn = math.radians(self.angle)
        return self.scale * math.cos(turn), self.scale * math.sin(turn)

    def farthest(self, size: Size) -> float:
        """How far the corner that moves most is moved, in pixels."""
        a, b = self.matrix
        corners = product((-size.width / 2, size.width / 2), (-size.height / 2, size.height / 2))
        return max(
            math.hypot((a - 1) * x - b * y + self.shift[0], b * x + (a - 1) * y + self.shift[1])
            for x, y in corners
        )

    def at(self, share: float) -> Similarity:
        """The same for a picture `share` times as large."""
        return Similarity(self.scale, self.angle, (self.shift[0] * share, self.shift[1] * share))


@dataclass(frozen=True)
class Registration:
    """What a comparison of a result with its crop gave.

    Attributes:
        similarity: how the result has to be moved; None leaves it where it is.
        refused: why the result must not be pasted; empty where it may.
        unknown: where nothing can be told, as a whole clause that begins with "where"; empty where
            it can.
    """

    similarity: Similarity | None = None
    refused: str = ""
    unknown: str = ""


TOO_LITTLE = Registration(
    unknown=f"where less than {LEAST_AROUND:.0%} of a crop, or next to nothing, lies around the"
    " mask. Give the segments a larger crop_factor where they are made."
)
TOO_PLAIN = Registration(unknown="where what lies around the mask is plain or nothing but grain.")


@in_float32
def register(result: torch.Tensor, original: torch.Tensor, mask: torch.Tensor) -> Registration:
    """Find how a result lies on the crop that it was made from.

    Args:
        result: [1,h,w,3] 0..1, a redrawn crop.
        original: [1,h,w,3] 0..1, the crop before.
        mask: [1,h,w] 0..1; where it is above 0 the result may show something else.

    Returns:
        The similarity for pictures of this size, found to about 0.1 pixels where the surroundings
        have texture. A result is refused if its surroundings do not show the crop's, and one of
        both shows more there than grain.
    """
    compared = _compared(result, original, mask)
    if isinstance(compared, Registration):
        return compared
    pictures, around, found = compared
    fine = Size(around.shape[1], around.shape[0])
    before, unmoved = _misfit(*pictures, around, Similarity())
    after, likeness = _misfit(*pictures, around, found)
    moved = found.farthest(fine)
    is_sane = moved <= 2 * WIDEST_SHIFT * max(fine) and after <= before
    is_sane = is_sane and likeness >= min(unmoved, ALIKE)
    if not is_sane:
        likeness = unmoved
    if likeness < ALIKE:
        if all(_strength(picture, around) < PLAIN for picture in pictures):
            return TOO_PLAIN
        return Registration(
            refused="what lies around its mask does not show the same picture any more"
            f" (likeness {likeness:.2f}, {ALIKE} is needed). Try another seed or a lower denoise,"
            " or set 'register' of Paste Options to off."
        )
    if not is_sane or moved <= STILL or after > CLEARLY_BETTER * before:
        return Registration()
    return Registration(found.at(result.shape[2] / fine.width))


@in_float32
def best_fit(result: torch.Tensor, original: torch.Tensor, mask: torch.Tensor) -> Similarity | None:
    """The similarity that `register` compares with leaving the result as it is.

    Args:
        result: [1,h,w,3] 0..1, a redrawn crop.
        original: [1,h,w,3] 0..1, the crop before.
        mask: [1,h,w] 0..1; where it is above 0 the result may show something else.

    Returns:
        None if too little lies around the mask, or nothing but flat colours.
    """
    compared = _compared(result, original, mask)
    if isinstance(compared, Registration):
        return None
    return compared[2].at(result.shape[2] / compared[1].shape[1])


def _compared(
    result: torch.Tensor, original: torch.Tensor, mask: torch.Tensor
) -> tuple[list[torch.Tensor], torch.Tensor, Similarity] | Registration:
    """Both pictures [3,H,W] at the size of the fit, what counts in them [H,W], and the best fit.

    A Registration says why they cannot be compared.
    """
    share = min(1.0, FINE_SIDE / max(result.shape[1:3]))
    if share * min(result.shape[1:3]) < THINNEST:
        return TOO_LITTLE
    fine = _scaled(Size(result.shape[2], result.shape[1]), share, THINNEST)
    pictures = [resize(picture, fine)[0].movedim(-1, 0) for picture in (result, original)]
    around = (_fitted(mask, fine) <= 0).float()
    around = 1 - dilate(1 - around[None], 3)[0]
    enough = max(FEWEST, LEAST_AROUND * around.numel())
    if float(around.sum()) < enough:
        return TOO_LITTLE
    if not _has_texture(pictures[1], around):
        return TOO_PLAIN
    turns = _spread(pictures[1], around) >= SPREAD
    found = _refined(*pictures, around, _coarse(*pictures, around, turns), turns)
    if found.farthest(fine) > STILL:
        found = _refined(*_as_soft(*pictures, around, found), around, found, turns)
    return pictures, around, found


@in_float32
def moved_back(
    result: torch.Tensor, original: torch.Tensor, similarity: Similarity, reach: int = 0
) -> torch.Tensor:
    """The result moved onto the crop, in one bicubic resampling.

    Args:
        result, original: [N,h,w,3].
        similarity: as `register` found it for this size.
        reach: pixels over which the result fades into the original, to either side of a line that
            runs so far inside of what the moved result reaches.

    Returns:
        [N,h,w,3] 0..1; what the moved result does not reach is the original.
    """
    grid = _grid(similarity, Size(result.shape[2], result.shape[1]), result)
    planes = F.grid_sample(
        result.movedim(-1, 1), grid.expand(len(result), -1, -1, -1), "bicubic", "border", False
    )
    moved, inside = planes.movedim(1, -1).clamp_(0, 1), (grid.abs() <= 1).all(dim=-1)
    if reach and not inside.all():
        weight = fade(grow(inside.to(moved), -reach), reach)[..., None]
        moved = torch.lerp(original.to(moved), moved, weight)
    return torch.where(inside[..., None], moved, original)


def _scaled(size: Size, share: float, least: int) -> Size:
    """A size times `share`, its sides at least `least` pixels."""
    return Size(*(max(least, round(side * share)) for side in size))


def _fitted(mask: torch.Tensor, size: Size) -> torch.Tensor:
    """The mask [1,h,w] at another size, [H,W]: above 0 wherever a covered pixel is."""
    return F.adaptive_max_pool2d(mask[:, None].float(), (size.height, size.width))[0, 0]


def _has_texture(original: torch.Tensor, around: torch.Tensor) -> bool:
    grey = _detail(original.mean(dim=0), counted=around)
    return float(((grey**2) * around).sum() / around.sum()) ** 0.5 >= FLAT


def _spread(original: torch.Tensor, around: torch.Tensor) -> float:
    """How far the edges around the mask lie from their centre, see SPREAD.

    Edges are what is much steeper than most of it is. Where other detail outweighs them, all of it
    counts.
    """
    size = Size(original.shape[2], original.shape[1])
    steepness = _steepness(*_slopes(_softened(original)))
    beside = dilate(1 - around[None], 7)[0] <= 0  # where no edge of the mask is mixed in
    if not beside.any():
        return 0.0
    edges = beside & (steepness > max(EDGES * float(steepness[beside].median()), FLAT))
    outweigh = 2 * steepness[edges].square().sum() > steepness[beside].square().sum()
    weight = (edges if outweigh else beside).to(original)
    places = [place.expand_as(weight) for place in _from_centre(size, original)]
    off = [place - (weight * place).sum() / weight.sum() for place in places]
    square = sum((weight * own.square()).sum() / weight.sum() for own in off)
    return float(square) ** 0.5 / (math.hypot(size.width, size.height) / 2)


def _strength(picture: torch.Tensor, around: torch.Tensor) -> float:
    """The spread of a picture's detail [3,h,w] that is coarser than grain, around the mask."""
    detail = _structure(picture, around).square().mean(dim=0)
    return float((detail * around).sum() / around.sum()) ** 0.5


def _detail(
    planes: torch.Tensor, reach: int = 8, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """Planes [...,h,w] without their coarse brightness.

    Args:
        counted: [h,w] 0..1, the pixels that may be looked at; None for all. What was redrawn is
            another thing, whose brightness says nothing about its surroundings.
    """
    reach = min(reach, min(planes.shape[-2:]) // 2 - 1)
    return planes - _mean_around(planes, reach, counted)


def _mean_around(
    planes: torch.Tensor, reach: int, counted: torch.Tensor | None = None
) -> torch.Tensor:
    """The mean of the pixels up to `reach` away that are counted: [...,h,w], as of `_detail`."""
    if counted is not None:
        share = _mean_around(counted, reach).clamp(min=1e-6)
        return _mean_around(planes * counted, reach) / share
    flat = planes.reshape(1, -1, *planes.shape[-2:])
    for kernel, padding in (((1, 2 * reach + 1), (0, reach)), ((2 * reach + 1, 1), (reach, 0))):
        flat = F.avg_pool2d(flat, kernel, 1, padding, count_include_pad=False)
    return flat.view(planes.shape)


def _grid(similarity: Similarity, size: Size, like: torch.Tensor) -> torch.Tensor:
    """Where each pixel is found, for `grid_sample` without aligned corners: [1,h,w,2]."""
    a, b = similarity.matrix
    x, y = _from_centre(size, like)
    across = (a * x - b * y + similarity.shift[0]) * (2 / size.width)
    down = (b * x + a * y + similarity.shift[1]) * (2 / size.height)
    return torch.stack((across, down), dim=-1)[None]


def _from_centre(size: Size, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [1,w] and y [h,1] of each pixel's middle, from the centre of the picture."""
    x, y = (
        torch.arange(side, device=like.device, dtype=torch.float32) - (side - 1) / 2
        for side in size
    )
    return x[None, :], y[:, None]


def _coarse(
    result: torch.Tensor, original: torch.Tensor, around: torch.Tensor, turns: bool
) -> Similarity:
    """The best of a grid of scales and angles, with its shift in whole coarse pixels.

    Args:
        result, original: [3,h,w].
        around: [h,w], 1 where both should show the same.
        turns: whether scales and angles are tried at all.
    """
    own = Size(result.shape[2], result.shape[1])
    share = min(1.0, COARSE_SIDE / max(own))
    small = _scaled(own, share, 8)
    grey = [
        _detail(F.adaptive_avg_pool2d(picture[None], (small.height, small.width))[0].mean(dim=0), 4)
        for picture in (result, original)
    ]
    weight = F.adaptive_avg_pool2d(around[None, None], (small.height, small.width))[0, 0]
    tried = [Similarity()]
    if turns:
        tried = [Similarity(scale, angle) for scale in SCALES for angle in ANGLES]
    grids = torch.cat([_grid(one, small, result) for one in tried])
    turned = F.grid_sample(
        grey[0].expand(len(tried), 1, -1, -1), grids, "bilinear", "zeros", False
    )[:, 0]
    peaks, shifts = _correlation(turned, grey[1] * weight)
    best = int(peaks.argmax())
    x, y = shifts[best]
    a, b = tried[best].matrix
    shift = (a * x - b * y) / share, (b * x + a * y) / share
    return Similarity(tried[best].scale, tried[best].angle, shift)


def _correlation(
    turned: torch.Tensor, original: torch.Tensor
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """The peak of the phase correlation of each picture [n,h,w] with one [h,w], and its shift."""
    height, width = original.shape
    shape = (2 * height, 2 * width)
    spectrum = torch.fft.rfft2(turned, shape) * torch.fft.rfft2(original, shape).conj()
    surface = torch.fft.irfft2(spectrum / spectrum.abs().clamp(min=1e-9).sqrt(), shape)
    reach = max(2, round(WIDEST_SHIFT * max(height, width)))
    down, across = (min(reach, side // 2) for side in (height, width))  # both still overlap
    y, x = (torch.arange(-own, own + 1, device=original.device) for own in (down, across))
    near = surface[:, y % shape[0]][:, :, x % shape[1]].flatten(1)
    peaks, places = near.max(dim=1)
    side = 2 * across + 1
    return peaks, [(place % side - across, place // side - down) for place in places.tolist()]


def _refined(
    result: torch.Tensor,
    original: torch.Tensor,
    around: torch.Tensor,
    start: Similarity,
    turns: bool,
) -> Similarity:
    """A similarity refined by least squares, from coarse to fine.

    Args:
        result, original: [3,h,w].
        around: [h,w].
        turns: False: only the shift changes.
    """
    own = Size(result.shape[2], result.shape[1])
    shares = [1.0]
    while min(own) * shares[-1] / 2 >= 48:
        shares.append(shares[-1] / 2)
    found = start
    for share in reversed(shares):
        size = _scaled(own, share, 16)
        planes = [
            F.interpolate(picture[None], (size.height, size.width), mode="area")[0]
            if size != own
            else picture
            for picture in (result, original)
        ]
        weight = -F.adaptive_max_pool2d(-around[None, None], (size.height, size.width))[0, 0]
        ratio = size.width / own.width
        found = _least_squares(*planes, weight, found.at(ratio), turns).at(1 / ratio)
    return found


def _least_squares(
    result: torch.Tensor,
    original: torch.Tensor,
    around: torch.Tensor,
    start: Similarity,
    turns: bool,
) -> Similarity:
    """Gauss-Newton steps at one size until no corner moves any more.

    Each channel's contrast and brightness are fitted to the crop's before each step.
    """
    size = Size(result.shape[2], result.shape[1])
    x, y = _from_centre(size, result)
    found = start
    result, original = (_softened(picture) for picture in (result, original))
    for _ in range(ROUNDS):
        seen, known = _seen(result, around, found)
        if float(known.sum()) < FEWEST:
            return start
        seen = _with_contrast_of(seen, original, known)
        error = original - seen
        across, down = _slopes(seen)
        weight = known * _biweight(error, _steepness(across, down), known)
        columns = [across, down]
        if turns:
            columns += [across * x + down * y, down * x - across * y]
        rows = torch.stack(columns).flatten(2)  # [2 or 4,3,h*w]
        weighted = rows * weight.flatten()
        normal = in_double(torch.einsum("ikp,jkp->ij", weighted, rows))
        wanted = in_double(torch.einsum("ikp,kp->i", weighted, error.flatten(1)))
        try:
            step = torch.linalg.solve(
                normal + 1e-9 * normal.trace() * torch.eye(len(normal)).to(normal), wanted
            )
        except torch.linalg.LinAlgError:
            return found
        before, found = found, _composed(found, *step.tolist())
        if not all(map(math.isfinite, (found.scale, found.angle, *found.shift))):
            return start
        if _difference(before, found, size) < SETTLED:
            break
    return found


def _as_soft(
    result: torch.Tensor, original: torch.Tensor, around: torch.Tensor, found: Similarity
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two pictures [3,h,w], of which the sharper one is blurred until it is as soft.

    A soft picture of a bright thing is larger than a sharp one, so that it would seem scaled.
    """
    seen, known = _seen(result, around, found)

    def misfit(first: torch.Tensor, second: torch.Tensor) -> float:
        second = _with_contrast_of(second, first, known)
        return float(((first - second).abs().mean(dim=0) * known).sum())

    best, pictures = misfit(original, seen), (result, original)
    for sigma in SOFTNESS:
        ours, theirs = (blur(picture, math.ceil(3 * sigma), sigma) for picture in (seen, original))
        if (error := misfit(theirs, seen)) < best:
            best, pictures = error, (result, theirs)
        if (error := misfit(original, ours)) < best:
            best, pictures = error, (blur(result, math.ceil(3 * sigma), sigma), original)
    return pictures


def _composed(
    found: Similarity, dx: float, dy: float, grow: float = 0.0, turn: float = 0.0
) -> Similarity:
    """The similarity after a small one: p is looked up at `found` of `p + step`."""
    a, b = found.matrix
    c, d = 1 + grow, turn
    scale_cos, scale_sin = a * c - b * d, b * c + a * d
    shift = found.shift[0] + a * dx - b * dy, found.shift[1] + b * dx + a * dy
    angle = math.degrees(math.atan2(scale_sin, scale_cos))
    return Similarity(math.hypot(scale_cos, scale_sin), angle, shift)


def _difference(one: Similarity, other: Similarity, size: Size) -> float:
    (a, b), (c, d) = one.matrix, other.matrix
    reach = math.hypot(size.width, size.height) / 2
    apart = (shift - own for shift, own in zip(one.shift, other.shift, strict=True))
    return math.hypot(a - c, b - d) * reach + math.hypot(*apart)


def _softened(picture: torch.Tensor) -> torch.Tensor:
    """A picture [3,h,w] without the finest grain, whose slopes say little."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=picture.device) / 16
    planes = F.pad(picture[:, None], (2, 2, 2, 2), mode="replicate")
    planes = F.conv2d(planes, kernel.view(1, 1, 1, 5))
    return F.conv2d(planes, kernel.view(1, 1, 5, 1))[:, 0]


def _slopes(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes of a picture [3,h,w] across and down, by central differences."""
    wide = F.pad(picture[None], (1, 1, 1, 1), mode="replicate")[0]
    return (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2, (
        wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]
    ) / 2


def _seen(
    result: torch.Tensor, around: torch.Tensor, similarity: Similarity
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result [3,h,w] as a similarity shows it, and where it counts: [h,w] 0..1."""
    grid = _grid(similarity, Size(result.shape[2], result.shape[1]), result)
    seen = F.grid_sample(result[None], grid, "bicubic", "border", False)[0]
    return seen, around * (grid[0].abs() < 1).all(dim=-1)


def _with_contrast_of(
    seen: torch.Tensor, original: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    """A picture [3,h,w] with the mean and spread of another where both are known [h,w]."""
    total = known.sum()
    means = [
        (picture * known).sum(dim=(1, 2), keepdim=True) / total for picture in (seen, original)
    ]
    spreads = [
        (((picture - mean) ** 2) * known).sum(dim=(1, 2), keepdim=True).div(total).sqrt()
        for picture, mean in zip((seen, original), means, strict=True)
    ]
    ratio = (spreads[1] / spreads[0].clamp(min=1e-4)).clamp(0.5, 2)
    return (seen - means[0]) * ratio + means[1]


def _steepness(across: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """How steep a picture is: [h,w], from its slopes [3,h,w]."""
    return (across**2 + down**2).mean(dim=0).sqrt()


def _usual(error: torch.Tensor, steepness: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """The median error of the pixels that show a slip, which are steeper than the mean: [].

    Flat pixels fit wherever they are moved. In a picture that is mostly flat, their median would
    make outliers of all edges.

    Args:
        error, steepness: [h,w].
        known: [h,w], above 0 where pixels count.
    """
    counted = known > 0
    return error[counted & (steepness >= steepness[counted].mean())].median()


def _biweight(error: torch.Tensor, steepness: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """J. Tukey's weights [h,w] 0..1 of errors [3,h,w]: pixels that do not fit count nothing."""
    size = error.abs().mean(dim=0)
    spread = MAD_TO_SPREAD * _usual(size, steepness, known)
    return (1 - (size / (TUKEY * spread).clamp(min=1e-4)) ** 2).clamp(min=0) ** 2


def _misfit(
    result: torch.Tensor, original: torch.Tensor, around: torch.Tensor, similarity: Similarity
) -> tuple[float, float]:
    """The error around the redrawn part, and the likeness -1..1, with a similarity put on."""
    seen, known = _seen(result, around, similarity)
    total = known.sum().clamp(min=1)
    seen = _with_contrast_of(seen, original, known)
    ours, theirs = (_structure(picture, known) for picture in (seen, original))
    error = (ours - theirs).abs().mean(dim=0)
    steepness = _steepness(*_slopes(theirs))
    kept = torch.minimum(error, 3 * _usual(error, steepness, known)) if known.any() else error
    products = [
        ((one * other) * known).sum()
        for one, other in ((ours, theirs), (ours, ours), (theirs, theirs))
    ]
    likeness = products[0] / (products[1] * products[2]).sqrt().clamp(min=1e-9)
    return float((kept * known).sum() / total), float(likeness)


def _structure(planes: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Planes [3,h,w] without coarse brightness and without grain; `counted` as of `_detail`."""
    return _mean_around(_detail(planes, 16, counted), CELLS // 2, counted)
