"""The host's CONDITIONING: cutting its spatial entries to a crop, and putting texts into it.

A conditioning is a list of [embedding, options]. Some options say *where* something holds; they
refer to the whole image and have to be cut to the region that is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from .geometry import Box, Size
from .settings import Conditioning
from .turn import Turn

# Pictures, latents or masks whose last two axes are the height and width of the whole image.
_PLANES = ("concat_latent_image", "concat_mask", "concat_image", "noise_concat")
# Lists of such, that hold for the whole image only if they have its proportions.
_PLANE_LISTS = ("reference_latents", "vace_frames", "vace_mask")
# What a segment's own text takes over from the conditioning that it replaces: all that is not text
# and not tied to a part of the picture.
_KEPT_WITH_NEW_TEXT = (
    "control", "control_apply_to_uncond", "guidance", "reference_latents",
    "reference_latents_method", "concat_latent_image", "concat_mask", "concat_image",
    "noise_concat", "width", "height", "crop_w", "crop_h", "target_width", "target_height",
    "aesthetic_score", "unclip_conditioning", "clip_vision_output", "frame_rate",
)  # fmt: skip
_PROPORTION_TOLERANCE = 0.02


@dataclass(frozen=True)
class Cut:
    """From the whole image to the canvas that is sampled.

    `region` of an image of size `image` is enlarged to `working` and padded at the right and
    bottom to `canvas`; a latent pixel covers `ratio` canvas pixels. With a `turn`, the leaning
    rectangle in it is turned upright instead of enlarging all of the region.
    """

    image: Size
    region: Box
    working: Size
    canvas: Size
    ratio: int
    turn: Turn | None = None

    @property
    def latent(self) -> Size:
        return Size(self.canvas.width // self.ratio, self.canvas.height // self.ratio)


def cut_conditioning(
    conditioning: Conditioning, cut: Cut, controls: dict[int, Any] | None = None
) -> Conditioning:
    """Restrict every spatial entry to the region of the cut.

    An entry whose area or mask does not reach the region is left out. Where none reaches it,
    all hold for the whole region, so that something guides the sampler there.

    Args:
        controls: the ControlNets that were cut so far, by identity of the original. Hand the same
            dict to positive and negative: the host runs both in one call only where they share
            the very same ControlNet object.
    """
    controls = {} if controls is None else controls
    cropped = [
        [embedding, _cut_options(options, cut, controls)] for embedding, options in conditioning
    ]
    reaching = [entry for entry in cropped if entry[1] is not None]
    if reaching or not conditioning:
        return reaching
    everywhere = [
        [embedding, {k: v for k, v in options.items() if k not in ("area", "mask")}]
        for embedding, options in conditioning
    ]
    return [[embedding, _cut_options(options, cut, controls)] for embedding, options in everywhere]


def _cut_options(
    options: dict[str, Any], cut: Cut, controls: dict[int, Any]
) -> dict[str, Any] | None:
    """The options for the region, or None if their area or mask lies outside of it."""
    result = dict(options)
    if options.get("area") is not None:
        area = _cut_area(options["area"], cut)
        if area is None:
            return None
        result["area"] = area
    if options.get("mask") is not None:
        mask = _cut_plane(options["mask"], cut)
        if not torch.count_nonzero(mask):
            return None
        result["mask"] = mask
    if options.get("gligen") is not None:
        result["gligen"] = _cut_gligen(options["gligen"], cut)
    if options.get("control") is not None:
        control = options["control"]
        if id(control) not in controls:
            controls[id(control)] = _cut_control(control, cut)
        result["control"] = controls[id(control)]
    for key in _PLANES:
        if isinstance(options.get(key), torch.Tensor):
            result[key] = _cut_plane(options[key], cut)
    for key in _PLANE_LISTS:
        if isinstance(options.get(key), list | tuple):
            result[key] = [
                _cut_plane(plane, cut) if _covers_image(plane, cut.image) else plane
                for plane in options[key]
            ]
    return result


def _cut_plane(plane: torch.Tensor, cut: Cut) -> torch.Tensor:
    """Cut the last two axes, in the plane's own resolution: x by its width, y by its height."""
    height, width = plane.shape[-2:]
    box = cut.region.scaled(cut.image, Size(width, height)).clipped(Size(width, height))
    part = plane[..., box.y1 : box.y2, box.x1 : box.x2]
    if cut.turn is not None:
        part = _upright_plane(part, cut)
    right = round(part.shape[-1] * (cut.canvas.width / cut.working.width - 1))
    bottom = round(part.shape[-2] * (cut.canvas.height / cut.working.height - 1))
    if right == 0 and bottom == 0:
        return part
    flat = part.reshape(-1, 1, *part.shape[-2:])
    flat = F.pad(flat, (0, right, 0, bottom), mode="replicate")
    return flat.reshape(*part.shape[:-2], *flat.shape[-2:])


def _upright_plane(part: torch.Tensor, cut: Cut) -> torch.Tensor:
    """What the leaning rectangle shows of a region's plane [...,h,w], about as fine as it is."""
    height, width = part.shape[-2:]
    frame = cut.turn.frame.size
    size = Size(
        max(1, round(width * frame.width / cut.region.width)),
        max(1, round(height * frame.height / cut.region.height)),
    )
    flat = part.reshape(-1, height, width)[..., None]
    upright = cut.turn.sampled(flat, size, "bilinear")[..., 0]
    return upright.reshape(*part.shape[:-2], size.height, size.width)


def _covers_image(plane: Any, image: Size) -> bool:
    """Whether a picture has the image's proportions; others, such as a style reference, stay."""
    if not isinstance(plane, torch.Tensor) or plane.ndim < 3:
        return False
    height, width = plane.shape[-2:]
    off = abs(height - image.height * width / image.width)  # rows beyond the image's proportions
    return off <= max(1, _PROPORTION_TOLERANCE * height)


def _cut_area(area: tuple, cut: Cut) -> tuple | None:
    """Cut an area to the region, in latent pixels of the canvas.

    Args:
        area: (height, width, y, x) in latent pixels of the whole image, with the frames before
            height and y for video, or ("percentage", ...) with shares of the whole.
    """
    if area[0] == "percentage":
        sizes, starts = _halves(area[1:])
        scale = (cut.image.height, cut.image.width)
    else:
        sizes, starts = _halves(area)
        scale = (cut.ratio, cut.ratio)
    (height, width), (y, x) = sizes[-2:], starts[-2:]
    wanted = (x * scale[1], y * scale[0], (x + width) * scale[1], (y + height) * scale[0])
    placed = _to_latent(wanted, cut)
    if placed is None:
        return None
    left, top, right, bottom = placed
    frames_size, frames_start = sizes[:-2], starts[:-2]
    if area[0] == "percentage":  # shares stay shares: the length in frames is not known here
        across, down = cut.latent
        return ("percentage", *frames_size, (bottom - top) / down, (right - left) / across,
                *frames_start, top / down, left / across)  # fmt: skip
    return (*frames_size, bottom - top, right - left, *frames_start, top, left)


def _halves(values: tuple) -> tuple[tuple, tuple]:
    middle = len(values) // 2
    return tuple(values[:middle]), tuple(values[middle:])


def _to_latent(box: tuple[float, ...], cut: Cut) -> tuple[int, int, int, int] | None:
    """A box in pixels of the whole image, in latent pixels of the canvas; None if outside."""
    region = cut.region
    if cut.turn is not None:
        box = _upright_box(box, cut)
    left, right = max(box[0], region.x1), min(box[2], region.x2)
    top, bottom = max(box[1], region.y1), min(box[3], region.y2)
    if left >= right or top >= bottom:
        return None
    across = cut.working.width / region.width / cut.ratio
    down = cut.working.height / region.height / cut.ratio
    x1, y1 = round((left - region.x1) * across), round((top - region.y1) * down)
    x2, y2 = round((right - region.x1) * across), round((bottom - region.y1) * down)
    latent = cut.latent
    if right == region.x2:
        x2 = latent.width  # reaches over the padding
    if bottom == region.y2:
        y2 = latent.height
    x1, y1 = min(x1, latent.width - 1), min(y1, latent.height - 1)
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def _upright_box(box: tuple[float, ...], cut: Cut) -> tuple[float, ...]:
    """The box around what a box becomes with the crop upright, as if that filled the region."""
    region = cut.region
    corners = [(x - region.x1, y - region.y1) for x in (box[0], box[2]) for y in (box[1], box[3])]
    across, down = zip(*cut.turn.placed(corners), strict=True)
    return (
        region.x1 + min(across) * region.width, region.y1 + min(down) * region.height,
        region.x1 + max(across) * region.width, region.y1 + max(down) * region.height,
    )  # fmt: skip


def _cut_gligen(gligen: tuple, cut: Cut) -> tuple:
    """Move GLIGEN's boxes; those outside of the region are left out."""
    kind, model, boxes = gligen
    if kind == "position_batched":
        return (kind, model, [_cut_gligen_boxes(row, cut) for row in boxes])
    return (kind, model, _cut_gligen_boxes(boxes, cut))


def _cut_gligen_boxes(boxes: list[tuple], cut: Cut) -> list[tuple]:
    """Boxes are (embedding, height, width, y, x) in latent pixels."""
    result = []
    for embedding, height, width, y, x in boxes:
        corners = (x, y, x + width, y + height)
        placed = _to_latent(tuple(v * cut.ratio for v in corners), cut)
        if placed is not None:
            left, top, right, bottom = placed
            result.append((embedding, bottom - top, right - left, top, left))
    return result


def _cut_control(control: Any, cut: Cut) -> Any:
    """A copy of a ControlNet chain whose hints show the region only."""
    hint = getattr(control, "cond_hint_original", None)
    previous = getattr(control, "previous_controlnet", None)
    if hint is None and previous is None:
        return control
    copy = control.copy()
    if hint is not None:
        copy.cond_hint_original = _cut_plane(hint, cut)
        copy.extra_concat_orig = [
            _cut_plane(plane, cut) if _covers_image(plane, cut.image) else plane
            for plane in getattr(control, "extra_concat_orig", None) or []
        ]
    if previous is not None:
        copy.set_previous_controlnet(_cut_control(previous, cut))
    return copy


def replace_text(old: Conditioning, new: Conditioning) -> Conditioning:
    """`new` in place of `old`, which passes on what is not text (guidance, control, references).

    The pooled vector is always that of the new text: none is left over from the old one.
    """
    if not old:
        return new
    kept = {key: old[0][1][key] for key in _KEPT_WITH_NEW_TEXT if key in old[0][1]}
    return [[embedding, {**kept, **options}] for embedding, options in new]


def concat_text(first: Conditioning, second: Conditioning) -> Conditioning:
    """`second`'s tokens after those of every entry of `first`."""
    if not second:
        return first
    tail = second[0][0]
    result = []
    for embedding, options in first:
        if embedding is None or tail is None or embedding.shape[-1] != tail.shape[-1]:
            raise ValueError(
                "[CONCAT] cannot join the segment's text to the positive conditioning: their "
                "embeddings have different widths. Encode both with the same CLIP, or leave "
                "[CONCAT] out so that the segment's text replaces the positive."
            )
        rows = max(embedding.shape[0], tail.shape[0])
        joined = torch.cat([_rows(embedding, rows), _rows(tail, rows)], dim=1)
        result.append([joined, _without_mask_of_tokens(options)])
    return result


def _rows(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    return tensor if tensor.shape[0] == rows else tensor.expand(rows, *tensor.shape[1:])


def _without_mask_of_tokens(options: dict[str, Any]) -> dict[str, Any]:
    """An attention mask fits the old number of tokens only."""
    return {key: value for key, value in options.items() if key != "attention_mask"}


def with_values(conditioning: Conditioning, **values: Any) -> Conditioning:
    """A copy in which every entry has these options."""
    return [[embedding, {**options, **values}] for embedding, options in conditioning]


def encode_chunks(chunks: tuple[str, ...], encode: Callable[[str], Conditioning]) -> Conditioning:
    """Encode the parts of a text that BREAK separates and put their tokens one after another."""
    first, *rest = (encode(chunk) for chunk in chunks)
    for conditioning in rest:
        first = concat_text(first, conditioning)
    return first
