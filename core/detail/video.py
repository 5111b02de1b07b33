"""Detail clips: a segment has one crop region in all frames, which are sampled together."""

from __future__ import annotations

import numpy as np
import torch

from ...utils.arrays import to_numpy, to_tensor
from ..backend import Backend
from ..geometry import Size
from ..pixels.image import crop, merge_alpha, to_rgb
from ..pixels.precision import widened
from ..segs.image_batch import as_clip
from ..segs.seg import SEG, SEGS, normalise
from ..settings import Detail
from ..timing import PASTE, stage
from .canvas import row_slices, rows_of
from .crop import Crop
from .crop_pipeline import enhance
from .images import Detailed, as_variants, report_fault, still_mask
from .plan import Job, Skipped
from .run import Run, blending_of, reported


@reported
def detail_frames(
    frames: torch.Tensor, segs: SEGS, detail: Detail, backend: Backend, *, pasted: bool
) -> Detailed:
    """Detail every segment of a clip.

    Every segment is sampled with the node's own seed, because shared workflows were made so. All
    frames of a segment are one latent batch, or one latent with a time axis if the VAE has one.
    A motion model or video model thus sees them together.

    Args:
        frames: [F,H,W,C] 0..1.
        segs: a mask [F,h,w] with as many frames as the clip holds frame by frame. The frames of
            another mask are united. Segments of single images of a batch are joined to clips, see
            `as_clip`.
        pasted: True: each segment is pasted into the frames before the next one is cut out.
            False: the frames stay as they are, and only the segments are returned.

    Returns:
        The frames, and the segments in working order with `cropped_image` [F,h,w,3]. It is None
        for a segment that failed. A segment that was skipped comes back unchanged.
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
    run.start(each for job in plan.jobs for each in run.each(job))
    for entry in plan.entries:
        if isinstance(entry, Skipped):
            result.segs[1].append(entry.seg)
            continue
        job = entry.reseeded(detail.sampling.seed)
        seg = entry.seg._replace(cropped_image=None, control_net_wrapper=None)
        pictures: list[tuple[Job, np.ndarray | None]] = []
        for each in run.each(job):  # one after another: a clip is as large as many crops
            own = Crop(
                each,
                size,
                crop(working, each.region),
                clip_mask(each.seg, like=working),
                video=True,
            )
            (enhanced,) = enhance(run, [own])
            if enhanced.fault:
                report_fault(each, enhanced.fault)
            run.view.over(own.record, None if enhanced.fault else enhanced.pixels)
            pictures.append((each, None if enhanced.fault else to_numpy(enhanced.pixels)))
        result.control_images += enhanced.control_images  # of the one that is pasted: the last
        if not enhanced.fault:
            seg = seg._replace(cropped_image=pictures[-1][1])
            if pasted:
                with stage(PASTE):
                    _paste_frames(working, enhanced.pixels, own, run)
        if detail.kept.variants:
            result.variants += as_variants(seg, pictures)
        result.segs[1].append(seg)
    if pasted:
        result.image = merge_alpha(working.to(rgb), alpha).contiguous()  # grey is an expanded view
    result.report = run.ended(frames, result.image if pasted else None)
    return result


def clip_mask(seg: SEG, like: torch.Tensor) -> torch.Tensor:
    """A segment's mask for frames [F,H,W,C]: [F,h,w] if each frame has its own, else [1,h,w]."""
    mask = to_tensor(seg.cropped_mask, like=like)
    return mask if mask.ndim == 3 and len(mask) == len(like) else still_mask(seg, like)


def _paste_frames(frames: torch.Tensor, pixels: torch.Tensor, clip: Crop, run: Run) -> None:
    """Paste a clip into all frames, slice by slice. All frames get the same change of colours."""
    blending, region = blending_of(clip.job.detail), clip.job.region
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
