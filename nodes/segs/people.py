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
        "Loads a network that tells persons apart from an .onnx file, for Label SEGS by Person. "
        "Face recognition networks are the usual choice. It runs on the CPU, with onnxruntime or "
        "OpenCV. Nothing in the file is executed except the network."
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
                    "An .onnx file in models/person_embedders, models/insightface or models/onnx."
                    " The network must return one vector for each image.",
                ),
            },
            "optional": {
                "channels": described(
                    list(CHANNELS),
                    "The colour order that the network was trained with. auto: what the file "
                    "says, otherwise RGB.",
                    default=AUTO,
                ),
                "values": described(
                    list(VALUES),
                    "The range of pixel values that the network expects. ImageNet is 0 to 1, "
                    "minus the mean of ImageNet, divided by its standard deviation. auto: what "
                    "the file says; 0..255 if the first layer scales the pixels; otherwise -1..1.",
                    default=AUTO,
                ),
            },
        }

    def run(self, model_name, channels=AUTO, values=AUTO):
        return (load_embedder(model_name, PixelFormat(channels, values)),)


def reference_inputs():
    """The pictures of the persons, and their names."""
    return {
        "references": described(
            "IMAGE",
            "Pictures of the persons, as a batch. Each should show what the segments "
            "show, such as the face. With a bbox_detector the face is found in each "
            "picture.",
        ),
        "names": described(
            "STRING",
            "The name of the person in each reference picture, one on each line. If a "
            "name is on several lines, that person has several pictures, and the most "
            "similar one counts.",
            multiline=True, default="", dynamicPrompts=False,
        ),
    }  # fmt: skip


def network_inputs():
    """What compares, and what finds the face in the pictures of the persons."""
    return {
        "clip_vision": described(
            "CLIP_VISION",
            "From Load CLIP Vision. It compares everything that is visible, including "
            "clothes and light. Connect this or an embedder.",
        ),
        "embedder": described(
            "PERSON_EMBEDDER",
            "From Person Embedder Loader: a network that was trained to tell persons "
            "apart. Connect this or a clip_vision.",
        ),
        "bbox_detector": described(
            "BBOX_DETECTOR",
            "Finds the face in each reference picture, and the largest face is compared. "
            "Without a detector the whole picture is compared.",
        ),
    }  # fmt: skip


def comparison_inputs():
    """Rare settings of how pictures are compared."""
    return {
        "reference_landmarks": described(
            "FACE_LANDMARKS",
            "Landmarks of the faces in the reference pictures, used in the same way.",
        ),
        "margin": described(
            "FLOAT",
            "How much of the surroundings of a segment's box is compared, on each side, "
            "as a share of the box. Faces with landmarks have a fixed margin.",
            default=0.2, min=0.0, max=2.0, step=0.05,
        ),
    }  # fmt: skip


class LabelSEGSByPerson:
    DESCRIPTION = (
        "Labels each segment with the name of the person that it shows. The persons are known "
        "from reference pictures. With these labels you can give texts and rules by person. In "
        "one image each person is at most one segment, and the best combination over all segments"
        " is chosen."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGS", "IMAGE", "STRING")
    RETURN_NAMES = ("SEGS", "sheet", "table")
    OUTPUT_TOOLTIPS = (
        "The segments in the same order, with the names as labels.",
        "The preview of the node as one image: each segment beside the most similar person, with "
        "name and similarity.",
        "One line for each segment, separated by tabs: number, image, label, similarity, and the "
        "similarity to each person.",
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
                    image="The image that the segments belong to. In a batch each image is named "
                    "separately.",
                ),
                **reference_inputs(),
                "threshold": described(
                    "FLOAT",
                    "The least similarity (cosine) at which a segment gets a name. Usual values "
                    "are 0.3 to 0.5 for face recognition networks and 0.7 to 0.85 for CLIP "
                    "vision. The sheet shows the similarities that your network gives.",
                    default=0.4, min=-1.0, max=1.0, step=0.01,
                ),
            },
            "optional": {
                **network_inputs(),
                "face_landmarks": described(
                    "FACE_LANDMARKS",
                    "Landmarks of the faces in the image. The faces are rotated and scaled so "
                    "that the eyes are where face recognition networks expect them.",
                ),
                **comparison_inputs(),
                "unknown_label": described(
                    "STRING",
                    "The label of segments that match no person. If it is empty, these segments "
                    "keep their labels.",
                    default="unknown",
                ),
            },
        }  # fmt: skip

    def run(
        self, segs, image, references, names, threshold, clip_vision=None, embedder=None,
        bbox_detector=None, face_landmarks=None, reference_landmarks=None, margin=0.2,
        unknown_label="unknown",
    ):  # fmt: skip
        network = chosen_network(clip_vision, embedder)
        persons = persons_in(references, names, bbox_detector, reference_landmarks)
        how = Naming(threshold, unknown_label.strip(), margin, face_landmarks)
        result, named, faces = label_by_person(given_segs(segs), image, persons, network, how)
        tiles = people_tiles(named, persons.each, faces)
        table = people_table(named, persons.each)
        previews = save_previews(tiles, "people")
        return {
            "ui": {"images": previews, "text": [table]},
            "result": (result, people_sheet(tiles), table),
        }


def persons_in(references, names, bbox_detector, landmarks):
    """The persons who are known by the reference pictures."""
    boxes = [None] * len(references)
    if bbox_detector is not None:
        boxes = largest_finds(references, bbox_detector)
    return Persons(references, read_names(names, len(references)), boxes, landmarks)


def chosen_network(clip_vision, embedder):
    """What compares: one of the two, and not both.

    Raises:
        ValueError: neither is connected, or both are.
    """
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
