"""Face detectors for which the user needs no model file."""

from __future__ import annotations

from ...core.detectors.host_data import GivenBoxes
from ...core.detectors.mtcnn import as_finds
from ...core.detectors.mtcnn_landmarks import face_landmarks
from ...core.geometry import Size
from ...core.host.detectors import AUTO, FACE_METHODS, load_face_detector, load_face_finder
from ...core.segs.image_batch import in_each_image
from ..widgets import described, grown, inputs

CATEGORY = "Detailers/Detector"


class DetailersFaceDetectorProvider:
    DESCRIPTION = (
        "A face detector that needs no model file. MTCNN finds faces of any size, also tilted "
        "faces and faces seen half from the side. It uses the weights of the package "
        "facenet-pytorch. Without that package, the LBP cascade of scikit-image finds upright "
        "faces seen from the front."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("BBOX_DETECTOR",)
    OUTPUT_TOOLTIPS = ("The face detector.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "min_size": described(
                    "INT",
                    "Size of the smallest face to find, in pixels. 0 means 20 for MTCNN, and "
                    "1/14 of the image's shorter side for LBP. A higher value is faster and "
                    "gives fewer false detections.",
                    default=0, min=0, max=4096, step=1,
                )
            },
            "optional": {
                "method": described(
                    list(FACE_METHODS),
                    "MTCNN: three small networks of the package facenet-pytorch. LBP: the "
                    "cascade of scikit-image. auto: MTCNN if the package is installed, "
                    "otherwise LBP.",
                    default=AUTO,
                )
            },
        }  # fmt: skip

    def run(self, min_size, method=AUTO):
        return (load_face_detector(method, min_size),)


class DetailersFaceLandmarks:
    DESCRIPTION = (
        "Finds the faces in an image with MTCNN, with the eyes, the nose and the corners of "
        "the mouth of each face. Gives the landmarks with which Crop Options rotates tilted "
        "faces upright, and a segment for each face. Needs the package facenet-pytorch, but no "
        "model file."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("FACE_LANDMARKS", "SEGS")
    RETURN_NAMES = ("face_landmarks", "SEGS")
    OUTPUT_TOOLTIPS = (
        "Five points for each face in each image, and ovals around the face, the eyes and the "
        "mouth.",
        "A segment for each face, image by image.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs(
                    "image",
                    image=(
                        "The image to search, or a batch of images that are searched one by one."
                    ),
                ),
                "threshold": described(
                    "FLOAT", "Detections with a lower confidence are ignored.",
                    default=0.5, min=0.0, max=1.0, step=0.01,
                ),
                "min_size": described(
                    "INT",
                    "Size of the smallest face to find, in pixels. A higher value is faster "
                    "and gives fewer false detections.",
                    default=20, min=12, max=4096, step=1,
                ),
                "dilation": described(
                    "INT", grown("the masks"), default=10, min=-512, max=512, step=1
                ),
                **inputs("crop_factor", "drop_size"),
            }
        }  # fmt: skip

    def run(self, image, threshold, min_size, dilation, crop_factor, drop_size):
        finder = load_face_finder(min_size)
        frames = []

        def detect(single):
            faces = finder.find(single[0], threshold)
            frames.append(faces)
            given = GivenBoxes(as_finds(faces))
            return given.detect(single, threshold, dilation, crop_factor, drop_size)

        segs = in_each_image(image, detect)
        return face_landmarks(frames, Size(image.shape[2], image.shape[1])), segs


NODES = {
    "DetailersFaceDetectorProvider": (DetailersFaceDetectorProvider, "Face Detector Provider"),
    "DetailersFaceLandmarks": (DetailersFaceLandmarks, "Face Landmarks (MTCNN)"),
}
