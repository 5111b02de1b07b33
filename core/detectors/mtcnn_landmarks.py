"""FACE_LANDMARKS, in the form of ComfyUI's own face nodes, from the five points of MTCNN.

Those nodes draw and fill closed lines around the parts of a face. The five points have no lines, so
ovals of usual proportions are used for the outlines of the face, the eyes and the mouth. Brows,
irises and the mesh between the parts are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..geometry import Size
from .mtcnn import POINTS, Faces

_RIM = 24  # points of an oval
_OVALS = ("face_oval", "right_eye", "left_eye", "lips")  # their points come after the five
_EMPTY = ("left_eyebrow", "right_eyebrow", "irises", "tesselation")
_NOSE = 2  # index of its point

# Half the width and height of the ovals. The unit for the face is the side of a square with the
# area of its box; for the others it is the distance between the eyes of a face in front view.
_FACE = (0.43, 0.58)
_EYE = (0.26, 0.14)
_MOUTH = 0.2  # half its height; the width is known from its corners
_DOWN = 1.1  # how far the mouth is below the eyes, in distances between the eyes


def face_landmarks(frames: Sequence[Faces], size: Size) -> dict[str, Any]:
    """The faces in each image of a batch, as FACE_LANDMARKS.

    Args:
        frames: the faces in each image; all images have one size.
        size: size of the images.

    Returns:
        The mapping that `host_data` describes. The points of a face begin with the five of
        `mtcnn.POINTS`.
    """
    return {
        "frames": [_faces(found) for found in frames],
        "image_size": (size.height, size.width),
        "connection_sets": _connections(),
    }


def _faces(found: Faces) -> list[dict[str, Any]]:
    rows = zip(found.boxes.numpy(), found.scores.tolist(), found.points.numpy(), strict=True)
    return [
        {
            "bbox_xyxy": box.astype(np.float32),
            "landmarks_xy": np.concatenate([points, _rims(box, points)]).astype(np.float32),
            "score": score,
            "presence": score,
        }
        for box, score, points in rows
    ]


def _rims(box: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The points [N,2] of all ovals of a face with a box [4] and five points [5,2]."""
    right, left, _, right_corner, left_corner = points.astype(float)
    between = np.linalg.norm(left - right)
    across = (left - right) / between if between else np.array([1.0, 0.0])
    mouth = (right_corner + left_corner) / 2
    apart = max(between, np.linalg.norm(mouth - (left + right) / 2) / _DOWN)  # seen from the front
    side = np.sqrt(np.prod(box[2:] - box[:2]))
    width = max(np.linalg.norm(left_corner - right_corner) / 2, _MOUTH * apart)
    ovals = (
        ((box[:2] + box[2:]) / 2, np.array(_FACE) * side),
        (right, np.array(_EYE) * apart),
        (left, np.array(_EYE) * apart),
        (mouth, np.array([width, _MOUTH * apart])),
    )
    turns = np.arange(_RIM) / _RIM * 2 * np.pi
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    frame = np.array([across, [-across[1], across[0]]])  # to the left of the face, and down
    return np.concatenate([middle + (circle * half) @ frame for middle, half in ovals])


def _connections() -> dict[str, frozenset[tuple[int, int]]]:
    """The lines of each part, as pairs of indices of points."""
    sets: dict[str, frozenset[tuple[int, int]]] = dict.fromkeys(_EMPTY, frozenset())
    for place, part in enumerate(_OVALS):
        first = len(POINTS) + place * _RIM
        sets[part] = frozenset((first + i, first + (i + 1) % _RIM) for i in range(_RIM))
    sets["nose"] = frozenset({(_NOSE, _NOSE)})
    sets["contours"] = frozenset().union(*(sets[part] for part in _OVALS))
    sets["all"] = sets["contours"] | sets["nose"]
    return sets
