"""The spatial entries of the host's CONDITIONING, cut to a crop.

A conditioning is a list of [embedding, options]. Some options say *where* something applies. They
refer to the whole image, and have to be cut to the crop region.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...utils.notes import note
from ..geometry import Size
from ..pixels.crop_view import CENTRED, Cut, cut_plane, power_of_two, sampled_plane
from ..settings import Conditioning
from .held_masks import cut_masks_of

# Pictures of the image in their own resolution, which ComfyUI itself crops to their middle and
# resizes to the latent: single ones, and lists of them.
_PLANES = ("concat_latent_image", "concat_mask", "concat_image")
_PLANE_LISTS = ("vace_frames", "vace_mask")
# The same, but their size has to be the latent's size times a power of two.
_FITTED = (
    "noise_concat", "time_dim_replace", "lq_latent", "condition", "pose_video_latent",
    "control_video", "camera_conditions", "driving_mask_28ch",
)  # fmt: skip
# Masks [N,T,C,h,w] of numbered things: values are not interpolated.
_NUMBERED = ("driving_mask_28ch",)

# Whether a picture in a conditioning shows the image, so that `References` replaces it later.
Shows = Callable[[torch.Tensor], bool]


def cut_conditioning(
    conditioning: Conditioning,
    cut: Cut,
    controls: dict[int, Any] | None = None,
    shows: Shows | None = None,
) -> Conditioning:
    """Cut every spatial entry to the crop region.

    References to other pictures, and to the image itself, are handled by `References`.

    An entry whose area or mask does not overlap the region is left out. If none overlaps it, all
    entries apply to the whole region, so that the sampler has a conditioning there.

    Args:
        controls: the ControlNets that were cut so far, by the id of the original. Pass the same
            dict for positive and negative, because the host runs both in one call only if they
            share the same ControlNet object.
        shows: says which pictures are references to the image itself. None: there are none.
    """
    controls = {} if controls is None else controls

    def of_region(options: dict[str, Any]) -> dict[str, Any] | None:
        return _cut_options(options, cut, controls, shows)

    cropped = [[embedding, of_region(options)] for embedding, options in conditioning]
    reaching = [entry for entry in cropped if entry[1] is not None]
    if reaching or not conditioning:
        return reaching
    everywhere = [
        [embedding, {k: v for k, v in options.items() if k not in ("area", "mask")}]
        for embedding, options in conditioning
    ]
    return [[embedding, of_region(options)] for embedding, options in everywhere]


def _cut_options(
    options: dict[str, Any], cut: Cut, controls: dict[int, Any], shows: Shows | None
) -> dict[str, Any] | None:
    """The options for the region; None if their area or mask lies outside it."""
    result = dict(options)
    if options.get("area") is not None:
        area = _cut_area(options["area"], cut)
        if area is None:
            return None
        result["area"] = area
    if options.get("mask") is not None:
        mask = cut_plane(options["mask"], cut, cut.canvas)
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
    shown = edited_picture(options) if shows is not None else None
    for key in _PLANES:
        plane = options.get(key)
        if isinstance(plane, torch.Tensor) and not (plane is shown and shows(plane)):
            result[key] = cut_plane(plane, cut, cut.latent, CENTRED)
    for key in _PLANE_LISTS:
        if isinstance(options.get(key), list | tuple):
            planes = options[key]
            result[key] = [cut_plane(plane, cut, cut.latent, CENTRED) for plane in planes]
    for key in _FITTED:
        if isinstance(options.get(key), torch.Tensor):
            result[key] = _fitted(options[key], cut, key in _NUMBERED)
    if isinstance(options.get("minimax_keyframes"), list):
        result["minimax_keyframes"] = [
            {**frame, "latent": _fitted(frame["latent"], cut)} if "latent" in frame else frame
            for frame in options["minimax_keyframes"]
        ]
    return result


def edited_picture(options: dict[str, Any]) -> torch.Tensor | None:
    """The latent [N,C,h,w] of a picture to edit, which models for instructions get; or None.

    Together with a mask, such a latent is not a picture to edit: parts of it may be blank.
    """
    plane = options.get("concat_latent_image")
    if isinstance(plane, torch.Tensor) and options.get("concat_mask") is None:
        return plane
    return None


def _fitted(plane: torch.Tensor, cut: Cut, numbered: bool = False) -> torch.Tensor:
    """A plane cut to the region, with the same ratio to the canvas's latent as to the image's."""
    times = power_of_two(plane.shape[-1], cut.image.width / cut.ratio)
    size = Size(*(max(1, round(side * times)) for side in cut.latent))
    if numbered:
        return sampled_plane(plane.movedim(1, 2), cut, size, mode="nearest").movedim(2, 1)
    return sampled_plane(plane, cut, size)


def _cut_area(area: tuple, cut: Cut) -> tuple | None:
    """Cut an area to the region, in latent pixels of the canvas.

    Args:
        area: (height, width, y, x) in latent pixels of the whole image; for video with frames
            before height and before y; or ("percentage", ...) with shares of the whole.
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
    if (
        area[0] == "percentage"
    ):  # shares stay shares, because the number of frames is not known here
        across, down = cut.latent
        return ("percentage", *frames_size, (bottom - top) / down, (right - left) / across,
                *frames_start, top / down, left / across)  # fmt: skip
    return (*frames_size, bottom - top, right - left, *frames_start, top, left)


def _halves(values: tuple) -> tuple[tuple, tuple]:
    middle = len(values) // 2
    return tuple(values[:middle]), tuple(values[middle:])


def _to_latent(box: tuple[float, ...], cut: Cut) -> tuple[int, int, int, int] | None:
    """A box in pixels of the whole image as one in latent pixels of the canvas; None if outside."""
    region = cut.region
    if cut.rotated is not None:
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
    """The box around a box that is turned with the rotated crop, as if that filled the region."""
    region = cut.region
    corners = [(x - region.x1, y - region.y1) for x in (box[0], box[2]) for y in (box[1], box[3])]
    across, down = zip(*cut.rotated.placed(corners), strict=True)
    return (
        region.x1 + min(across) * region.width, region.y1 + min(down) * region.height,
        region.x1 + max(across) * region.width, region.y1 + max(down) * region.height,
    )  # fmt: skip


def _cut_gligen(gligen: tuple, cut: Cut) -> tuple:
    """GLIGEN entries with their boxes moved; boxes outside the region are left out."""
    kind, model, boxes = gligen
    if kind == "position_batched":
        return (kind, model, [_cut_gligen_boxes(row, cut) for row in boxes])
    return (kind, model, _cut_gligen_boxes(boxes, cut))


def _cut_gligen_boxes(boxes: list[tuple], cut: Cut) -> list[tuple]:
    """Boxes (embedding, height, width, y, x) in latent pixels, moved into the region."""
    result = []
    for embedding, height, width, y, x in boxes:
        corners = (x, y, x + width, y + height)
        placed = _to_latent(tuple(v * cut.ratio for v in corners), cut)
        if placed is not None:
            left, top, right, bottom = placed
            result.append((embedding, bottom - top, right - left, top, left))
    return result


def _cut_control(control: Any, cut: Cut) -> Any:
    """A copy of a ControlNet chain with hints cut to the region, as far as they can be cut."""
    previous = getattr(control, "previous_controlnet", None)
    new_previous = previous if previous is None else _cut_control(previous, cut)
    changes = _cut_hints(control, cut)
    if not changes and new_previous is previous:
        return control
    if not callable(getattr(control, "copy", None)):
        note("control", f"{_name(control)} cannot be cut to a segment: it sees the whole picture.")
        return control
    copy = control.copy()
    for name, value in changes.items():
        setattr(copy, name, value)
    if previous is not None:
        copy.set_previous_controlnet(new_previous)
    return copy


def _cut_hints(control: Any, cut: Cut) -> dict[str, Any]:
    """New values for those attributes of a ControlNet that hold pictures or masks."""
    changes = {}
    hint = getattr(control, "cond_hint_original", None)
    mode = _sampling_mode(control)
    if _is_plane(hint):
        changes["cond_hint_original"] = cut_plane(hint, cut, cut.canvas, CENTRED, mode)
    elif hint is not None:
        note(
            "control",
            f"The hint of {_name(control)} is no picture that could be cut to a segment: it "
            "is used as a whole for each segment.",
        )
    extra = getattr(control, "extra_concat_orig", None)
    if extra and "cond_hint_original" in changes:
        changes["extra_concat_orig"] = [
            cut_plane(plane, cut, cut.canvas, CENTRED, mode) if _is_plane(plane) else plane
            for plane in extra
        ]
    return changes | cut_masks_of(control, cut)


def _is_plane(value: Any) -> bool:
    """Whether a value is a tensor with spatial axes."""
    return isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[-2:].numel() > 1


def _sampling_mode(control: Any) -> str:
    """How the host itself resizes the hint of a ControlNet."""
    method = str(getattr(control, "upscale_algorithm", "nearest-exact"))
    return "nearest" if method.startswith("nearest") else "bilinear"


def _name(control: Any) -> str:
    return f"The ControlNet ({type(control).__name__})"
