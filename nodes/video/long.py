"""The detailer of clips that stay in files: they are decoded and encoded slice by slice."""

from __future__ import annotations

from typing import Any

from ...core.host.video import FORMATS, Encoding, opened, shown_file, video_of
from ..widgets import described
from .detailer import CATEGORY, REPORT, clip_inputs, detailed_clip

_DEFAULT = Encoding()


class VideoDetailerLong:
    DESCRIPTION = (
        "Redraws what tracks follow through a video file, such as each face, as Video Detailer "
        "does. The file is decoded, detailed and encoded in slices, so that a video of any length "
        "fits into memory. Sound, frame rate, time stamps and the coding of colours are kept."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "report")
    OUTPUT_TOOLTIPS = (
        "The video with every track redrawn, as a file in ComfyUI's temporary folder.",
        REPORT,
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        known = clip_inputs("video", "VIDEO", "From Load Video: the video, of any length.")
        known["optional"] |= {
            "format": described(
                list(FORMATS),
                "The kind of file. auto: WebM for VP8, VP9 and transparent frames in memory, "
                "ProRes for other files with alpha, else MP4. mp4: H.264. webm: VP9. mov: ProRes. "
                "mkv: FFV1, without any loss, which few players show.",
                default=_DEFAULT.format,
            ),
            "crf": described(
                "INT",
                "Quality of MP4 and WebM: smaller is better and gives larger files. About 16 looks "
                "like the input, 23 is usual.",
                default=_DEFAULT.crf, min=0, max=51, step=1,
            ),
        }  # fmt: skip
        return known

    def run(
        self, video, tracks, basic_pipe, format=_DEFAULT.format, crf=_DEFAULT.crf, **widgets: Any
    ):
        with (
            opened(video, "video") as clip,
            clip.writing(Encoding(format, crf)) as (sink, path),
        ):
            done = detailed_clip(clip.frames, sink, tracks, basic_pipe, **widgets)
        return {"ui": shown_file(path), "result": (video_of(path), done.report)}


NODES = {
    "VideoDetailerLong": (VideoDetailerLong, "Video Detailer (long clips)"),
}
