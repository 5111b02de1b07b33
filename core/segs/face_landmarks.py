"""FACE_LANDMARKS of ComfyUI's face nodes, and the points of each part of a face.

`core/detectors/host_data.py` describes the form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..bounds import check_pixels
from ..geometry import Box, Size

# Faces

FACE_PARTS = (
    "face", "mouth", "left_eyebrow", "left_eye", "left_pupil", "right_eyebrow", "right_eye",
    "right_pupil",
)  # fmt: skip

# The names of the parts in ComfyUI's connection sets; both pupils share one set.
_CONNECTIONS = {
    "face": "face_oval",
    "mouth": "lips",
    **{part: part for part in FACE_PARTS if part.endswith(("eye", "eyebrow"))},
}


def eyes_in(landmarks: Any, image: Size, row: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The eyes of each face in one image of FACE_LANDMARKS, in pixels of an image of this size.

    Args:
        row: index of the image; if there are fewer images, the last is taken.

    Returns:
        For each face the centres [2] (x, y) of two eyes: first the left one in the picture, once
        the face is turned upright.

    Raises:
        ValueError: `landmarks` are no FACE_LANDMARKS.
    """
    frames, connections, size = read_landmarks(landmarks)
    scale = np.array([image.width / size.width, image.height / size.height])
    found = []
    for face in frames[min(row, len(frames) - 1)] if frames else []:
        points = np.asarray(face["landmarks_xy"], dtype=float) * scale
        first, second, mouth = (
            points[points_of_part(part, face, connections)].mean(axis=0)
            for part in ("right_eye", "left_eye", "mouth")
        )
        across, down = second - first, mouth - (first + second) / 2
        mirrored = across[0] * down[1] - across[1] * down[0] < 0
        found.append((second, first) if mirrored else (first, second))
    return found


def eyes_in_box(
    landmarks: Any, image: Size, row: int, box: Box
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Those of `eyes_in` whose middle is in a box of the image: two centres [2] each."""

    def is_inside(x: float, y: float) -> bool:
        return box.x1 <= x < box.x2 and box.y1 <= y < box.y2

    pairs = eyes_in(landmarks, image, row)
    return [(left, right) for left, right in pairs if is_inside(*(left + right) / 2)]


def read_landmarks(landmarks: Any) -> tuple[list, dict, Size]:
    """Frames, connections and image size of FACE_LANDMARKS.

    Raises:
        ValueError: `landmarks` are no FACE_LANDMARKS, or their image is too large.
    """
    try:
        height, width = (int(side) for side in landmarks["image_size"])
        frames = [list(faces) for faces in landmarks["frames"]]
        connections = dict(landmarks["connection_sets"])
        last = max((end for lines in connections.values() for end in _ends(lines or ())), default=0)
        for face in (face for faces in frames for face in faces):
            points = np.asarray(face["landmarks_xy"], dtype=float)
            if points.ndim != 2 or points.shape[1] != 2 or len(points) <= last:
                raise ValueError("its points are no [points,2], or too few for its lines")
            float(face.get("score", 1.0))
        if min(width, height) < 1:
            raise ValueError("its image has no pixel")
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(
            "'face_landmarks' should come from ComfyUI's 'Detect Face Landmarks (MediaPipe)' or "
            f"from 'Face Landmarks (MTCNN)', but is a {type(landmarks).__name__} of another kind"
            f" ({error})."
        ) from error
    check_pixels(Size(width, height), "The image of 'face_landmarks'")
    return frames, connections, Size(width, height)


def has_part(connections: dict, part: str) -> bool:
    """Whether the connections have lines around a part of a face."""
    return bool(connections.get("irises" if part.endswith("pupil") else _CONNECTIONS[part]))


def points_of_part(part: str, face: dict, connections: dict) -> list[int]:
    """The indices of the points around a part of a face."""
    if not part.endswith("pupil"):
        return _ends(connections[_CONNECTIONS[part]])
    points = np.asarray(face["landmarks_xy"], dtype=float)
    eye = points[_ends(connections[part.replace("pupil", "eye")])].mean(axis=0)
    return min(
        _pieces(connections["irises"]),
        key=lambda ring: float(np.abs(points[ring].mean(axis=0) - eye).sum()),
    )


def _ends(lines: Iterable[tuple[int, int]]) -> list[int]:
    return sorted({int(end) for line in lines for end in line})


def _pieces(lines: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The points that lines connect: one list for each connected piece."""
    pieces: list[set[int]] = []
    for line in lines:
        ends = {int(end) for end in line}
        touching = [piece for piece in pieces if piece & ends]
        pieces = [piece for piece in pieces if not piece & ends]
        pieces.append(ends.union(*touching))
    return [sorted(piece) for piece in pieces]
