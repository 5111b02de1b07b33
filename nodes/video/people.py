"""Naming tracks by the persons that they show."""

from __future__ import annotations

from ...core.host.folders import save_previews
from ...core.segs.people import Naming
from ...core.segs.people_sheet import people_sheet, people_table, people_tiles
from ...core.tracks.people import label_by_person
from ...core.tracks.track import SEGS_TRACKS
from ..segs.people import (
    chosen_network,
    comparison_inputs,
    network_inputs,
    persons_in,
    reference_inputs,
)
from ..widgets import described
from .frames import VIDEO, given_frames, watch


class LabelTracksByPerson:
    DESCRIPTION = (
        "Labels each track with the name of the person that it shows. The persons are known from "
        "reference pictures. The best frames of a track vote. Tracks that share a frame are "
        "different persons; tracks one after another may be the same person."
    )
    CATEGORY = "Detailers/Video"
    RETURN_TYPES = (SEGS_TRACKS, "IMAGE", "STRING")
    RETURN_NAMES = ("tracks", "sheet", "table")
    OUTPUT_TOOLTIPS = (
        "The tracks in the same order, with the names as labels.",
        "The preview of the node as one image: the best frame of each track beside the most "
        "similar person, with name and similarity.",
        "One line for each track, separated by tabs: number, image, label, similarity, and the "
        "similarity to each person.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "tracks": described(SEGS_TRACKS, "From Track Segments."),
                **reference_inputs(),
                "threshold": described(
                    "FLOAT",
                    "The least similarity (cosine) at which a track gets a name. Usual values are "
                    "0.3 to 0.5 for face recognition networks and 0.7 to 0.85 for CLIP vision. The "
                    "sheet shows the similarities that your network gives.",
                    default=0.4, min=-1.0, max=1.0, step=0.01,
                ),
            },
            "optional": {
                "frames": described("IMAGE", "The frames of the video, or connect the video."),
                "video": described("VIDEO", VIDEO),
                **network_inputs(),
                "face_landmarks": described(
                    "FACE_LANDMARKS",
                    "Landmarks of the faces in the frames. The faces are rotated and scaled so "
                    "that the eyes are where face recognition networks expect them.",
                ),
                **comparison_inputs(),
                "unknown_label": described(
                    "STRING",
                    "The label of tracks that match no person. If it is empty, these tracks keep "
                    "their labels.",
                    default="unknown",
                ),
            },
        }  # fmt: skip

    def run(
        self, tracks, references, names, threshold, frames=None, video=None, clip_vision=None,
        embedder=None, bbox_detector=None, face_landmarks=None, reference_landmarks=None,
        margin=0.2, unknown_label="unknown",
    ):  # fmt: skip
        network = chosen_network(clip_vision, embedder)
        persons = persons_in(references, names, bbox_detector, reference_landmarks)
        how = Naming(threshold, unknown_label.strip(), margin, face_landmarks)
        with given_frames(frames, video) as source:
            if source is None:
                raise ValueError(
                    "Persons are compared in the frames, but neither 'frames' nor 'video' is "
                    "connected. Connect one of them."
                )
            result, named, faces = label_by_person(tracks, source, persons, network, how, watch())
        tiles = people_tiles(named, persons.each, faces)
        table = people_table(named, persons.each)
        return {
            "ui": {"images": save_previews(tiles, "people"), "text": [table]},
            "result": (result, people_sheet(tiles), table),
        }


NODES = {
    "LabelTracksByPerson": (LabelTracksByPerson, "Label Tracks by Person"),
}
