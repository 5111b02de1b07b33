"""Which finds of neighbouring frames are the same thing.

Each chain of finds has a Kalman filter with constant velocity for its centre, and one for the
logarithm of its size (R. Kalman, 1960; as in A. Bewley et al., "Simple online and realtime
tracking", 2016). In every frame, the finds are given to the chains one to one, so that the sum of
costs over all is least (H. Kuhn, "The Hungarian method", 1955). A cost is a negative logarithm of a
likelihood: of the place and size, and of the looks. A second round gives the rest to chains by
where these were last seen, for things that turned faster than predicted (as in J. Cao et al.,
"Observation-centric SORT", 2023).

Nothing here is random: the same finds give the same chains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..geometry import Rect
from .appearance import unlike
from .finds import Chain, Find, rect_iou

# Lengths are shares of a thing's size: the geometric mean of its width and height.
BOX_NOISE = 0.04  # spread of the centre of a detected box, and of the logarithm of its size
SWERVE = 0.02  # spread of the change of velocity from frame to frame
GROWTH = 0.02  # spread of the change of the logarithm of the size from frame to frame
FARTHEST = 5.0  # spreads from the prediction at which a find is still the same thing
OVERLAPS = 0.3  # a find whose overlap with the prediction (IoU) is this large always may be it
LOOKS = 30.0  # cost of looks that have nothing in common, in which 1 is one unit of log-likelihood
UNLIKE = 0.55  # looks that differ by more are another thing
START = 14.0  # what a new chain costs
LEAP = 1.0  # in the second round: how far a thing moves in a frame at most
SWELL = 1.6  # and by which factor its size changes at most
LEARNING = 0.2  # share of the newest looks in the looks of a chain
_NEVER = 1e6


@dataclass(frozen=True)
class Linking:
    """How finds are linked.

    Attributes:
        max_gap: frames in a row in which a thing may be missing.
    """

    max_gap: int = 12


class _Path:
    """A chain in the making, and what its filters know."""

    def __init__(self, find: Find) -> None:
        self.finds: Chain = [find]
        self.looks = find.looks
        spread = find.size * BOX_NOISE
        # rows: x, y, logarithm of the size; columns: value and velocity
        self.state = np.array([[find.box.x, 0.0], [find.box.y, 0.0], [np.log(find.size), 0.0]])
        start = np.diag([spread**2, (0.25 * find.size) ** 2])
        self.covariance = np.stack([start, start, np.diag([BOX_NOISE**2, 0.05**2])])
        self.frame = find.frame

    @property
    def last(self) -> Find:
        return self.finds[-1]

    @property
    def size(self) -> float:
        return float(np.exp(self.state[2, 0]))

    def predict(self, frame: int) -> None:
        """Bring the filters to a later frame."""
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        for _ in range(frame - self.frame):
            unrest = np.array([SWERVE * self.size, SWERVE * self.size, 0.25 * GROWTH])
            drift = np.array([0.0, 0.0, GROWTH])
            self.state = self.state @ step.T
            self.state[2, 1] *= 0.8  # a thing does not grow for ever
            self.covariance = step @ self.covariance @ step.T
            self.covariance[:, 0, 0] += unrest**2 / 4 + drift**2
            self.covariance[:, 0, 1] += unrest**2 / 2
            self.covariance[:, 1, 0] += unrest**2 / 2
            self.covariance[:, 1, 1] += unrest**2
        self.frame = frame

    def _noise(self) -> np.ndarray:
        return np.array([BOX_NOISE * self.size, BOX_NOISE * self.size, BOX_NOISE]) ** 2

    def surprise(self, find: Find) -> tuple[float, float]:
        """How far a find is from the prediction: in spreads, and as a negative log-likelihood."""
        variance = self.covariance[:, 0, 0] + self._noise()
        seen = np.array([find.box.x, find.box.y, np.log(max(find.size, 1e-3))])
        square = (seen - self.state[:, 0]) ** 2 / variance
        relative = variance / np.array([self.size**2, self.size**2, 1.0]) / BOX_NOISE**2
        return float(np.sqrt(square.max())), float((square + np.log(relative)).sum() / 2)

    def box_iou(self, find: Find) -> float:
        """Overlap of a find with the predicted box."""
        last = self.last.box
        scale = self.size / max(self.last.size, 1e-3)
        x, y = self.state[:2, 0]
        predicted = Rect(float(x), float(y), last.width * scale, last.height * scale)
        return rect_iou(predicted, find.box)

    def take(self, find: Find) -> None:
        """Add a find of the frame that was predicted."""
        variance = self.covariance[:, 0, 0] + self._noise()
        seen = np.array([find.box.x, find.box.y, np.log(max(find.size, 1e-3))])
        gain = self.covariance[:, :, 0] / variance[:, None]
        self.state = self.state + gain * (seen - self.state[:, 0])[:, None]
        self.covariance = self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :]
        self.finds.append(find)
        if self.looks is None or find.looks is None:
            self.looks = find.looks if self.looks is None else self.looks
        else:
            self.looks = (1 - LEARNING) * self.looks + LEARNING * find.looks


def linked(frames: Sequence[Sequence[Find]], how: Linking) -> list[Chain]:
    """Chains of the finds of consecutive frames that no cut divides.

    Finds with an object id are linked by it. Others are linked only within one label.

    Args:
        frames: the finds of each frame.

    Returns:
        Every find is in exactly one chain. Chains are in the order of their first finds.
    """
    open_paths: list[_Path] = []
    done: list[_Path] = []
    for finds in frames:
        if not finds:
            continue
        frame = finds[0].frame
        still = [path for path in open_paths if frame - path.last.frame <= how.max_gap + 1]
        done += [path for path in open_paths if path not in still]
        for path in still:
            path.predict(frame)
        taken = _by_id(still, finds)
        taken.update(_given(still, finds, taken, _cost))
        taken.update(_given(still, finds, taken, _leap_cost))
        for place, path in taken.items():
            path.take(finds[place])
        fresh = [_Path(find) for place, find in enumerate(finds) if place not in taken]
        open_paths = still + fresh
    done += open_paths
    first = {id(find): number for number, find in enumerate(f for own in frames for f in own)}
    return sorted((path.finds for path in done), key=lambda chain: first[id(chain[0])])


def without_long_gaps(chain: Chain, how: Linking) -> list[Chain]:
    """The parts of a chain, which is divided where a thing is missing for more than `max_gap`."""
    parts: list[Chain] = [chain[:1]]
    for find in chain[1:]:
        if find.frame - parts[-1][-1].frame > how.max_gap + 1:
            parts.append([])
        parts[-1].append(find)
    return parts


def _by_id(paths: Sequence[_Path], finds: Sequence[Find]) -> dict[int, _Path]:
    """The paths of the finds whose source knows which thing they are."""
    known = {path.last.object_id: path for path in paths if path.last.object_id is not None}
    return {
        place: known.pop(find.object_id)
        for place, find in enumerate(finds)
        if find.object_id is not None and find.object_id in known
    }


def _given(
    paths: Sequence[_Path], finds: Sequence[Find], taken: dict[int, _Path], cost
) -> dict[int, _Path]:
    """The best way to give the finds that are left to the paths that are left."""
    free_finds = [i for i, find in enumerate(finds) if i not in taken and find.object_id is None]
    busy = {id(path) for path in taken.values()}
    free = [path for path in paths if id(path) not in busy and path.last.object_id is None]
    if not free or not free_finds:
        return {}
    costs = np.array([[cost(path, finds[place]) for place in free_finds] for path in free])
    pairs = [pair for pair in assigned(costs, START) if pair[1] is not None]
    return {free_finds[column]: free[row] for row, column in pairs}


def assigned(costs: np.ndarray, alone: float) -> list[tuple[int, int | None]]:
    """The pairs with the least sum of costs, where a row without a partner costs `alone`.

    Args:
        costs: [rows,columns]; the one-to-one assignment is solved exactly.

    Returns:
        Each row with its column, or None.
    """
    rows, columns = costs.shape
    padded = np.hstack([np.minimum(costs, _NEVER), np.full((rows, rows), alone)])
    own, partners = linear_sum_assignment(padded)
    return [
        (int(row), int(column) if column < columns else None)
        for row, column in zip(own, partners, strict=True)
    ]


def _cost(path: _Path, find: Find) -> float:
    if find.label != path.last.label:
        return _NEVER
    looks = unlike(path.looks, find.looks)
    spreads, likelihood = path.surprise(find)
    near = spreads <= FARTHEST or path.box_iou(find) >= OVERLAPS
    if not near or (looks is not None and looks > UNLIKE):
        return _NEVER
    return min(likelihood, FARTHEST**2 / 2) + (LOOKS * looks**2 if looks is not None else 0.0)


def _leap_cost(path: _Path, find: Find) -> float:
    """The cost of a thing that moved otherwise than predicted."""
    last = path.last
    if find.label != last.label:
        return _NEVER
    looks = unlike(path.looks, find.looks)
    frames = find.frame - last.frame
    size = max(find.size, last.size)
    moved = float(np.hypot(find.box.x - last.box.x, find.box.y - last.box.y)) / size
    swollen = size / max(min(find.size, last.size), 1e-3)
    if moved > LEAP * frames**0.5 or swollen > SWELL or (looks is not None and looks > UNLIKE / 2):
        return _NEVER
    return START * 0.9 * moved / (LEAP * frames**0.5)
