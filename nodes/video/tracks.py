"""Tracks of things in a video: made, shown, converted, and named."""

from __future__ import annotations

from ...core.clips import HeldFrames
from ...core.detectors.detect import DetectionOptions
from ...core.host.backend import MAX_RESOLUTION, ComfyBackend
from ...core.tracks.association import Linking
from ...core.tracks.follow import ORDERS, Choosing, Following, follow
from ...core.tracks.given import Found, clip_and_finder
from ...core.tracks.track import SEGS_TRACKS
from ...core.tracks.windows import ASPECTS, Shaping
from ..widgets import described, grown, inputs

CATEGORY = "Detailers/Video"


class TrackSegments:
    DESCRIPTION = (
        "Follows people and things through the frames of a video. Every frame gets a window around "
        "each of them, which moves smoothly. What is followed comes from a detector, or from "
        "segments, masks, boxes, or objects of SAM 3."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = (SEGS_TRACKS,)
    RETURN_NAMES = ("tracks",)
    OUTPUT_TOOLTIPS = (
        "The tracks, for Video Detailer, Preview Tracks and the other nodes of tracks.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {**_found_inputs(), **_track_inputs(), **_window_inputs()},
            "optional": {**_source_inputs(), **_rare_inputs()},
        }

    def run(
        self, threshold, dilation, crop_factor, drop_size, labels, max_gap, min_frames, order,
        limit, position_smoothing, size_smoothing, min_size, max_size, frames=None,
        window_aspect=ASPECTS[0], measure_motion=True, cut_threshold=0.35, **sources,
    ):  # fmt: skip
        options = DetectionOptions(threshold, dilation, crop_factor, drop_size)
        source = None if frames is None else HeldFrames(frames)
        clip, finder = clip_and_finder(source, Found(**sources), options)
        shaping = Shaping(
            crop_factor, position_smoothing, size_smoothing, window_aspect, min_size, max_size,
            measure_motion,
        )  # fmt: skip
        how = Following(
            Linking(max_gap), shaping, Choosing(min_frames, order, limit), labels, cut_threshold
        )
        return (follow(clip, finder, how, ComfyBackend().check_interrupt),)


def _found_inputs():
    return {
        "threshold": described(
            "FLOAT", "Detections and boxes with a lower confidence are ignored.",
            default=0.5, min=0.0, max=1.0, step=0.01,
        ),
        "dilation": described(
            "INT", grown("the masks of what a detector finds"),
            default=0, min=-512, max=512, step=1,
        ),
        **inputs(
            "crop_factor", "drop_size",
            crop_factor="Sides of the window relative to the bounding box. A higher value shows "
            "the model more of the surroundings.",
        ),
        "labels": described(
            "STRING",
            "Follow only things with these labels, separated by commas. 'all' follows everything.",
            default="all", placeholder="face, hand",
        ),
    }  # fmt: skip


def _track_inputs():
    return {
        "max_gap": described(
            "INT",
            "For how many frames in a row a thing may be missed. Its windows there are "
            "interpolated. After a longer gap, a new track begins.",
            default=12, min=0, max=1000, step=1,
        ),
        "min_frames": described(
            "INT",
            "Tracks of things that were found in fewer frames are dropped. Where a shot is "
            "shorter, all of its frames are enough.",
            default=5, min=1, max=1000, step=1,
        ),
        "order": described(
            list(ORDERS), "The order of the tracks, and so their numbers.",
            default=next(iter(ORDERS)),
        ),
        "limit": described(
            "INT", "How many tracks are kept at most, the first in the order. 0 keeps all.",
            default=0, min=0, max=1000, step=1,
        ),
    }  # fmt: skip


def _window_inputs():
    return {
        "position_smoothing": described(
            "INT",
            "Over how many frames the position of a window is smoothed. Where a thing moves too "
            "fast for that, the length becomes shorter. 1 is off.",
            default=25, min=1, max=1000, step=1,
        ),
        "size_smoothing": described(
            "INT", "The same for the size of a window.", default=51, min=1, max=1000, step=1
        ),
        "min_size": described(
            "INT",
            "Frames in which the shorter side of the bounding box has fewer pixels are left as "
            "they are. 0 is off.",
            default=0, min=0, max=MAX_RESOLUTION, step=1,
        ),
        "max_size": described(
            "INT",
            "Frames in which the shorter side of the bounding box has more pixels are left as "
            "they are. 0 is off.",
            default=0, min=0, max=MAX_RESOLUTION, step=1,
        ),
    }  # fmt: skip


def _source_inputs():
    return {
        "frames": described(
            "IMAGE",
            "The frames of the video, in order. A detector needs them. With the other sources "
            "they are optional: cuts, looks and motion are then seen in them.",
        ),
        "bbox_detector": described("BBOX_DETECTOR", "Finds the things in every frame."),
        "segm_detector": described(
            "SEGM_DETECTOR",
            "Finds the things with their shapes. With a bbox_detector, it limits the masks to the "
            "shapes that it finds.",
        ),
        "segs": described(
            "SEGS",
            "In place of a detector: segments of every frame, which are linked; or segments of a "
            "video with a mask for each frame, each of which is one track.",
        ),
        "masks": described(
            "MASK",
            "In place of a detector: a mask for each frame. Every separate shape is a thing.",
        ),
        "sam_tracks": described(
            "SAM3_TRACK_DATA",
            "In place of a detector: the track_data of Run SAM3 Video Track. Every object is a "
            "track and keeps its number.",
        ),
        "boxes": described(
            "BOUNDING_BOX",
            "In place of a detector: boxes of every frame, from ComfyUI's detection nodes.",
        ),
    }


def _rare_inputs():
    return {
        "window_aspect": described(
            list(ASPECTS),
            "Width over height of the windows, the same for all frames of a track. auto: the "
            "nearest of 1:1, 3:4, 2:3, 1:2 and the same lying, so that several tracks have "
            "windows of one kind and are sampled together.",
            default=ASPECTS[0],
        ),
        "measure_motion": described(
            "BOOLEAN",
            "Measure in the pixels how each thing moves from frame to frame. Windows then follow "
            "to a fraction of a pixel, whatever the detector's jitter is. Needs the frames.",
            default=True,
        ),
        "cut_threshold": described(
            "FLOAT",
            "How much the whole frame has to change for a cut, at which every track ends. Lower "
            "values find more cuts; 1 finds none.",
            default=0.35, min=0.0, max=1.0, step=0.01,
        ),
    }  # fmt: skip


NODES = {
    "TrackSegments": (TrackSegments, "Track Segments"),
}
