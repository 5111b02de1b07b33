"""Naming segments by the persons that they show."""

from __future__ import annotations

from ...core.detectors.embedder import AUTO, CHANNELS, VALUES, PixelFormat, largest_finds
from ...core.host.clip_vision import ClipVisionEmbedder
from ...core.host.folders import save_previews
from ...core.host.person_embedders import embedder_names, load_embedder
from ...core.segs.people import Naming, Persons, label_by_person, read_names
from ...core.segs.people_sheet import people_sheet, people_table, people_tiles
from ..widgets import described, inputs
from .pictures import given_segs

CATEGORY = "Detailers/SEGS/People"


class PersonEmbedderLoader:
    DESCRIPTION = (
        "Loads a network that tells persons apart from an .onnx file, such as those of face "
        "recognition, for Label SEGS by Person. Runs on the CPU, by onnxruntime or else by OpenCV. "
        "Nothing in a file is run but its network."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("PERSON_EMBEDDER",)
    OUTPUT_TOOLTIPS = ("The network, for Label SEGS by Person.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model_name": described(
                    embedder_names(),
                    "An .onnx file of models/person_embedders, models/insightface or models/onnx "
                    "that gives one vector for a picture.",
                ),
            },
            "optional": {
                "channels": described(
                    list(CHANNELS),
                    "The order of the colours that the network was trained on. auto: what the file "
                    "says, else RGB.",
                    default=AUTO,
                ),
                "values": described(
                    list(VALUES),
                    "The range of the pixels that the network takes; ImageNet is 0 to 1 less the "
                    "mean of that set, in its deviations. auto: what the file says, or 0..255 "
                    "where its first layer scales them, else -1..1.",
                    default=AUTO,
                ),
            },
        }

    def run(self, model_name, channels=AUTO, values=AUTO):
        return (load_embedder(model_name, PixelFormat(channels, values)),)


class LabelSEGSByPerson:
    DESCRIPTION = (
        "Labels segments with the names of the persons that they show, going by pictures of these, "
        "so that texts and rules can be given by person. Each person is one segment of an image at "
        "most, the best for all together."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "IMAGE", "STRING")
    RETURN_NAMES = ("SEGS", "sheet", "table")
    OUTPUT_TOOLTIPS = (
        "The segments in the same order, with the names as labels.",
        "What is shown under the node in one picture: each segment beside the person whom it is "
        "most alike to, with name and similarity.",
        "A line for each segment, with tabs: number, image, label, similarity, and the similarity "
        "to each person.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs(
                    "segs", "image",
                    segs="The segments, such as faces from a detector.",
                    image="The image that the segments are of; in a batch each image is named by "
                    "itself.",
                ),
                "references": described(
                    "IMAGE",
                    "Pictures of the persons, as a batch: cut to what the segments show, such as "
                    "the face, or with a bbox_detector that finds it.",
                ),
                "names": described(
                    "STRING",
                    "The name of the person in each reference picture, one on each line. A name "
                    "on several lines is one person with several pictures, of which the most alike "
                    "counts.",
                    multiline=True, default="", dynamicPrompts=False,
                ),
                "threshold": described(
                    "FLOAT",
                    "The least similarity (cosine) at which a segment gets a name. About 0.3 to "
                    "0.5 for networks of face recognition, 0.7 to 0.85 for CLIP vision: the sheet "
                    "shows what yours gives.",
                    default=0.4, min=-1.0, max=1.0, step=0.01,
                ),
            },
            "optional": {
                "clip_vision": described(
                    "CLIP_VISION",
                    "From Load CLIP Vision: compares all of what is seen, clothes and light "
                    "included. Connect this or an embedder.",
                ),
                "embedder": described(
                    "PERSON_EMBEDDER",
                    "From Person Embedder Loader: a network that was trained to tell persons "
                    "apart. Connect this or a clip_vision.",
                ),
                "bbox_detector": described(
                    "BBOX_DETECTOR",
                    "Finds the face in each reference picture; the largest find is what is "
                    "compared. Without it all of the picture is.",
                ),
                "face_landmarks": described(
                    "FACE_LANDMARKS",
                    "Landmarks in the image, by which faces are turned and scaled so that the eyes "
                    "are where networks of face recognition expect them.",
                ),
                "reference_landmarks": described(
                    "FACE_LANDMARKS", "The same for the reference pictures.",
                ),
                "margin": described(
                    "FLOAT",
                    "How much around a segment's box is looked at, on each side, as a share of the "
                    "box. Faces with landmarks have a margin of their own.",
                    default=0.2, min=0.0, max=2.0, step=0.05,
                ),
                "unknown_label": described(
                    "STRING",
                    "The label of segments that are like nobody. Empty: they keep theirs.",
                    default="unknown",
                ),
            },
        }  # fmt: skip

    def run(
        self, segs, image, references, names, threshold, clip_vision=None, embedder=None,
        bbox_detector=None, face_landmarks=None, reference_landmarks=None, margin=0.2,
        unknown_label="unknown",
    ):  # fmt: skip
        network = _network(clip_vision, embedder)
        boxes = [None] * len(references)
        if bbox_detector is not None:
            boxes = largest_finds(references, bbox_detector)
        persons = Persons(
            references, read_names(names, len(references)), boxes, reference_landmarks
        )
        how = Naming(threshold, unknown_label.strip(), margin, face_landmarks)
        result, named, faces = label_by_person(given_segs(segs), image, persons, network, how)
        tiles = people_tiles(named, persons.each, faces)
        table = people_table(named, persons.each)
        previews = save_previews(tiles, "people")
        return {
            "ui": {"images": previews, "text": [table]},
            "result": (result, people_sheet(tiles), table),
        }


def _network(clip_vision, embedder):
    """What compares: one of the two, and not both."""
    if (clip_vision is None) == (embedder is None):
        given = "Neither is connected" if embedder is None else "Both are connected"
        raise ValueError(
            f"Pictures are compared by 'clip_vision' or by 'embedder'. {given}: connect one of "
            "'Load CLIP Vision' and 'Person Embedder Loader'."
        )
    return embedder if clip_vision is None else ClipVisionEmbedder(clip_vision)


NODES = {
    "LabelSEGSByPerson": (LabelSEGSByPerson, "Label SEGS by Person"),
    "PersonEmbedderLoader": (PersonEmbedderLoader, "Person Embedder Loader"),
}
