"""The detailers of tracks: each thing is redrawn in a window that follows it through the frames."""

from __future__ import annotations

from typing import Any

from ...core.clips import CollectedFrames, FrameSink, FrameSource, HeldFrames
from ...core.detail.segment_plan import Curve
from ...core.detail.tracks import DetailedTracks, detail_tracks
from ...core.graph.plan_text import read_setting
from ...core.host.backend import ComfyBackend
from ...core.settings import GAP_CHOICES, GAPS_DETAILED, NO_CROPS, Motion
from ...core.tracks.track import SEGS_TRACKS, Tracks
from ...utils.check import check_image
from ..detail.images import SAMPLING, SIZE, WAVES, make_detail, optional_refiner
from ..detail.pipes import pipe_models
from ..widgets import described, inputs

CATEGORY = "Detailers/Video"
REPORT = "A report of the run as JSON: sizes, seeds, texts, times and messages of every track."
_DEFAULT = Motion()


def clip_inputs(name: str, kind: str, tooltip: str) -> dict[str, dict[str, tuple]]:
    """The inputs of a detailer of tracks.

    Args:
        name, kind, tooltip: of the input that the clip comes from.
    """
    return {
        "required": {
            name: described(kind, tooltip),
            "tracks": described(
                SEGS_TRACKS, "From Track Segments: what is followed, and its window in each frame."
            ),
            **inputs(
                "basic_pipe", *SIZE, *SAMPLING, "denoise", "feather", "noise_mask",
                "force_inpaint", "wildcard", "cycle",
                seed="Seed of the first track. Each further track uses the next seed. All frames "
                "of a track start from the same noise, if the model draws each by itself.",
                force_inpaint="On: tracks that are already larger than guide_size are redrawn "
                "too, at their own size. Off: they are skipped.",
                wildcard="Text for the tracks instead of the positive prompt: wildcards, LoRAs, "
                "[SEP] between texts for different tracks, [LAB] for texts by label. Empty: the "
                "positive prompt is used.",
            ),
            "smoothing": described(
                "FLOAT",
                "For image models: how much of what they draw is averaged over time, so that "
                "colours and detail do not flicker. It is averaged along the motion in the frames, "
                "and not where the frames change. 0 is off.",
                default=_DEFAULT.smoothing, min=0.0, max=1.0, step=0.05,
            ),
            "gaps": described(
                list(GAP_CHOICES),
                "The frames in which a track was not detected, between frames in which it was. "
                "detail: redraw them where the track must have been. fade: fade out over the "
                "first of them, and in again over the last.",
                default=GAPS_DETAILED,
            ),
            "fade": described(
                "INT",
                "Frames over which the result fades: into gaps, if gaps is set to fade, and "
                "towards frames in which the thing is too small or too large.",
                default=_DEFAULT.fade, min=0, max=240, step=1,
            ),
        },
        "optional": {
            **inputs(
                "detailer_hook", "refiner_basic_pipe_opt", "refiner_ratio", "inpaint_model",
                "noise_mask_feather", "scheduler_func_opt", "tiled_encode", "tiled_decode",
                *WAVES, "paste_options", "crop_options", "segment_plan",
                detail_batch="How many frames and tracks of equal size are sampled together: 0 as "
                "many as fit into memory, 1 one by one. The picture is the same. A motion or "
                "video model takes the frames of a track together in any case.",
                segment_plan="From Segment Rule or Segment Plan: texts and settings for single "
                "tracks. A track counts as one segment, as it is in its middle frame. What the "
                "plan leaves open is as this node has it.",
                crop_options="From Crop Options: another size for drawing.",
            ),
            "smoothing_frames": described(
                "INT",
                "Over how many frames before and after smoothing averages.",
                default=_DEFAULT.smoothing_frames, min=1, max=120, step=1,
            ),
            "denoise_by_size": described(
                "STRING",
                "A denoise for each size of the thing, such as 32: 0.6, 256: 0.35, and in between "
                "what lies in between. The size is the shorter side of its box in image pixels, "
                "smoothed over time. Empty: denoise is used.",
                default="",
            ),
            "chunk_frames": described(
                "INT",
                "For motion and video models: the most frames that are sampled together. 0 takes "
                "what suits the model.",
                default=_DEFAULT.chunk, min=0, max=4096, step=1,
            ),
            "chunk_overlap": described(
                "INT",
                "For motion and video models: how many frames two chunks share. One fades into "
                "the other over them.",
                default=_DEFAULT.overlap, min=0, max=1024, step=1,
            ),
        },
    }  # fmt: skip


def make_motion(widgets: dict[str, Any]) -> Motion:
    """The settings for time from a node's widgets, which are removed there, in place."""
    curve = widgets.pop("denoise_by_size", "") or ""
    return Motion(
        smoothing=widgets.pop("smoothing"),
        smoothing_frames=widgets.pop("smoothing_frames", _DEFAULT.smoothing_frames),
        gaps=widgets.pop("gaps"),
        fade=widgets.pop("fade"),
        denoise_by_size=_curve(curve) if curve.strip() else None,
        chunk=widgets.pop("chunk_frames", _DEFAULT.chunk),
        overlap=widgets.pop("chunk_overlap", _DEFAULT.overlap),
    )


def _curve(text: str) -> Curve:
    try:
        denoise = read_setting("denoise", text, {})["denoise"]
    except ValueError as error:
        raise ValueError(f"In 'denoise_by_size', {error}") from None
    return denoise if isinstance(denoise, Curve) else Curve(((1.0, denoise),))


def detailed_clip(
    source: FrameSource, sink: FrameSink, tracks: Any, basic_pipe: Any,
    refiner_basic_pipe_opt: Any = None, **widgets: Any,
) -> DetailedTracks:  # fmt: skip
    """Check the inputs of a detailer of tracks, and detail a clip.

    Raises:
        ValueError: `tracks` are no tracks, or of a clip with another number of frames.
    """
    if not isinstance(tracks, Tracks):
        raise ValueError(
            f"'tracks' should come from 'Track Segments', but is a {type(tracks).__name__}. Check "
            "the node that is connected to it."
        )
    motion = make_motion(widgets)
    refiner = optional_refiner(refiner_basic_pipe_opt)
    detail = make_detail(pipe_models(basic_pipe), refiner, kept=NO_CROPS, **widgets)
    return detail_tracks(source, tracks, detail, motion, ComfyBackend(), sink)


class VideoDetailer:
    DESCRIPTION = (
        "Redraws what tracks follow through a video, such as each face. In every frame a window "
        "around it is enlarged, sampled with the model and put back with a soft edge. Works with "
        "image, motion and video models. Frames and pixels outside of the soft masks stay as they "
        "are."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("frames", "report")
    OUTPUT_TOOLTIPS = ("The frames with every track redrawn.", REPORT)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return clip_inputs("frames", "IMAGE", "The frames of a video, in order.")

    def run(self, frames, tracks, basic_pipe, **widgets):
        check_image(frames, "frames")
        sink = CollectedFrames(frames)
        done = detailed_clip(HeldFrames(frames), sink, tracks, basic_pipe, **widgets)
        return (sink.frames, done.report)


NODES = {
    "VideoDetailer": (VideoDetailer, "Video Detailer"),
}
