"""Tracks of things in a video: made, shown, converted, and named."""

from __future__ import annotations

from ...core.detectors.detect import DetectionOptions
from ...core.host.backend import MAX_RESOLUTION
from ...core.host.folders import save_animation
from ...core.tracks.association import Linking
from ...core.tracks.convert import FORMS, to_segs
from ...core.tracks.follow import ORDERS, Choosing, Following, follow
from ...core.tracks.given import Found, clip_and_finder
from ...core.tracks.occlusion import Occlusions
from ...core.tracks.preview import drawn_frames, drawn_preview, tracks_text
from ...core.tracks.track import SEGS_TRACKS
from ...core.tracks.windows import ASPECTS, Shaping
from ..widgets import described, grown, inputs
from .frames import VIDEO, given_frames, watch

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
        limit, position_smoothing, size_smoothing, min_size, max_size, frames=None, video=None,
        window_aspect=ASPECTS[0], measure_motion=True, cut_threshold=0.2, **sources,
    ):  # fmt: skip
        options = DetectionOptions(threshold, dilation, crop_factor, drop_size)
        shaping = Shaping(
            crop_factor, position_smoothing, size_smoothing, window_aspect, min_size, max_size,
            measure_motion,
        )  # fmt: skip
        found = Found(**sources)
        with given_frames(frames, video) as source:
            clip, finder = clip_and_finder(source, found, options)
            how = Following(
                Linking(max_gap), shaping, Choosing(min_frames, order, limit), labels,
                cut_threshold, found.may_miss,
            )  # fmt: skip
            return (follow(clip, finder, how, watch()),)


class PreviewTracks:
    DESCRIPTION = (
        "Shows tracks: the windows with their numbers and gaps in the frames, and as text how long "
        "each track is and why others were dropped."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("image", "text")
    OUTPUT_TOOLTIPS = (
        "The frames with the tracks drawn in.",
        "The tracks with their lengths, cuts, and the tracks that were dropped, a line each.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"tracks": described(SEGS_TRACKS, "From Track Segments.")},
            "optional": {
                "frames": described(
                    "IMAGE", "The frames of the video. Without them, tracks are drawn on black."
                ),
                "video": described("VIDEO", VIDEO),
                "longest_side": described(
                    "INT",
                    "The longer side of the pictures in pixels at most. 0 keeps the size of the "
                    "frames.",
                    default=768, min=0, max=MAX_RESOLUTION, step=8,
                ),
                "every": described(
                    "INT", "Draw only every so many frames: 1 is all of them.",
                    default=1, min=1, max=1000, step=1,
                ),
            },
        }  # fmt: skip

    def run(self, tracks, frames=None, video=None, longest_side=768, every=1):
        occlusions = Occlusions.of(tracks)
        with given_frames(frames, video) as source:
            pictures = drawn_frames(tracks, source, longest_side, every, watch(), occlusions)
        shown = save_animation(drawn_preview(pictures), "tracks")
        text = tracks_text(tracks, occlusions)
        return {
            "ui": {"images": shown, "animated": (True,), "text": [text]},
            "result": (pictures, text),
        }


class TracksToSEGS:
    DESCRIPTION = (
        "Converts tracks to segments, for nodes that know no tracks: one segment of a video for "
        "each track, or one segment for each frame of it. Track Segments turns them back to tracks."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS",)
    OUTPUT_TOOLTIPS = ("The segments, track by track or frame by frame.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "tracks": described(SEGS_TRACKS, "From Track Segments."),
                "form": described(
                    list(FORMS),
                    "video segments: a segment for each track, with one crop region around all its "
                    "windows and a mask for each frame, as the detailers for AnimateDiff take "
                    "them. segments of each frame: each has its own crop region and belongs to its "
                    "frame, as a detector gives them.",
                    default=FORMS[0],
                ),
                "gaps": described(
                    "BOOLEAN",
                    "Also take frames in which a thing was not found, and its place is "
                    "interpolated.",
                    default=True,
                ),
            }
        }  # fmt: skip

    def run(self, tracks, form=FORMS[0], gaps=True):
        return (to_segs(tracks, form, gaps),)


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
        "video": described("VIDEO", VIDEO),
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
            forceInput=True,  # the editor has a widget for one box
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
            default=0.2, min=0.0, max=1.0, step=0.01,
        ),
    }  # fmt: skip


NODES = {
    "TrackSegments": (TrackSegments, "Track Segments"),
    "PreviewTracks": (PreviewTracks, "Preview Tracks"),
    "TracksToSEGS": (TracksToSEGS, "Tracks to SEGS"),
}
