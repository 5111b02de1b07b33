"""Detailing clips: one crop window through all frames, sampled together."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...utils.arrays import to_numpy, to_tensor
from ..backend import Backend
from ..geometry import Size
from ..pixels.image import crop, merge_alpha, to_rgb
from ..pixels.precision import widened
from ..segs.image_batch import as_clip
from ..segs.seg import SEG, SEGS, normalise
from ..settings import Detail
from .canvas import row_slices, rows_of
from .crop import Crop
from .crop_pipeline import enhance
from .images import Detailed, report_fault, still_mask
from .plan import Skipped
from .run import Run


def detail_frames(
    frames: torch.Tensor, segs: SEGS, detail: Detail, backend: Backend, *, pasted: bool
) -> Detailed:
    """Detail every segment of a clip.

    Every segment is sampled with the node's seed, which is what shared workflows were made with.
    All frames of a segment are one latent batch (one latent with a time axis for VAEs that have
    one), so that a motion or video model sees them together.

    Args:
        frames: [F,H,W,C].
        segs: masks [F,h,w] go frame by frame if F matches; otherwise their frames are united.
            Segments of single images of a batch are put together as clips, see `as_clip`.
        pasted: paste each segment into the frames, so that the next one sees it; otherwise the
            frames stay as they are and only the segments are returned.

    Returns:
        Frames, and the segments in working order with `cropped_image` [F,h,w,3] (None for one
        that failed; a segment that was left out stays as it came).
    """
    rgb, alpha = to_rgb(frames)
    size = Size(rgb.shape[2], rgb.shape[1])
    header, items = normalise(segs, size, "segs")
    items = as_clip(items, len(rgb))
    run = Run(detail, backend, rgb)
    plan = run.plan(items, size)
    working = widened(rgb)
    if working is rgb and pasted and plan.jobs:
        working = rgb.clone()
    result = Detailed(frames, (header, []))
    run.start(len(plan.jobs))
    for entry in plan.entries:
        if isinstance(entry, Skipped):
            result.segs[1].append(entry.seg)
            continue
        entry = replace(entry, seed=detail.sampling.seed)
        mask = clip_mask(entry.seg, like=working)
        pixels = crop(working, entry.region)
        own = Crop(entry, size, pixels, mask, video=True)
        (enhanced,) = enhance(run, [own])
        result.control_images += enhanced.control_images
        seg = entry.seg._replace(cropped_image=None, control_net_wrapper=None)
        if enhanced.fault:
            report_fault(entry, enhanced.fault)
        else:
            seg = seg._replace(cropped_image=to_numpy(enhanced.pixels))
            if pasted:
                _paste_frames(working, enhanced.pixels, own, run)
        result.segs[1].append(seg)
    if pasted:
        result.image = merge_alpha(working.to(rgb), alpha).contiguous()  # grey in memory of its own
    return result


def clip_mask(seg: SEG, like: torch.Tensor) -> torch.Tensor:
    """A segment's mask for frames [F,H,W,C]: [F,h,w] if it has one for each, else [1,h,w]."""
    mask = to_tensor(seg.cropped_mask, like=like)
    return mask if mask.ndim == 3 and len(mask) == len(like) else still_mask(seg, like)


def _paste_frames(frames: torch.Tensor, pixels: torch.Tensor, clip: Crop, run: Run) -> None:
    """Paste into all frames, a slice of them at a time; their colours change as one."""
    blending, region = run.blending, clip.job.region
    size = Size(frames.shape[2], frames.shape[1])
    weight = clip.persist(lambda: blending.weight(clip.mask, region, size), "pasted")
    slices = [(rows, rows_of(weight, rows)) for rows in row_slices(len(frames), region.size)]
    change = clip.persist(
        lambda: blending.change_of_clip(
            (pixels[rows], crop(frames[rows], region), own) for rows, own in slices
        ),
        "pasted",
    )
    for rows, own in slices:
        clip.persist(
            lambda rows=rows, own=own: blending.paste(
                frames[rows], pixels[rows], own, region, change
            ),
            "pasted",
        )
    run.after_paste(frames)
