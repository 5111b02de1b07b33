"""Both face detectors on photographs: the faces that they find, and their processor time.

python -m bench.faces
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from dev.photographs import PHOTOGRAPHS, Photograph, compared

from .plan import core

THRESHOLD = 0.5  # of the detector nodes
HEAD = ("photograph", "faces", "MTCNN: found", "false", "s", "LBP: found", "false", "s")


def measure_faces(repeats: int = 3) -> Iterator[str]:
    """The lines of a table; the times are the best of some runs, at the detectors' own settings."""
    mtcnn, files = core("detectors.mtcnn"), core("detectors.mtcnn_files")
    if files.weights_folder() is None:
        yield f"faces are not measured: {files.INSTALL}"
        return
    networks = core("detectors.network").CpuNetwork(files.load_networks())
    detectors = (
        mtcnn.MTCNNFaceDetector(mtcnn.FaceFinder(networks)),
        core("detectors.lbp_faces").LBPFaceDetector(),
    )
    yield f"| {' | '.join(HEAD)} |"
    yield f"| --- |{' ---: |' * (len(HEAD) - 1)}"
    for photograph in PHOTOGRAPHS:
        if photograph.path is None:
            continue
        height, width = photograph.read().shape[1:3]
        cells = [f"{photograph.name}, {width}x{height}", str(len(photograph.faces))]
        for detector in detectors:
            cells += _measured(detector.find, photograph, repeats)
        yield f"| {' | '.join(cells)} |"


def _measured(find: Callable, photograph: Photograph, repeats: int) -> list[str]:
    """Faces found, false ones, and seconds."""
    image = photograph.read()[0]
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        found = find(image, THRESHOLD)
        best = min(best, time.process_time() - start)
    missed, false = compared([one.bbox.as_tuple() for one in found], photograph.faces)
    return [str(len(photograph.faces) - len(missed)), str(len(false)), f"{best:.2f}"]


if __name__ == "__main__":
    for line in measure_faces():
        print(line, flush=True)
