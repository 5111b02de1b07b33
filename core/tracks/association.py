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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment

from .finds import Chain, Find

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
_OF_SIZE, _OF_LOG = np.array([BOX_NOISE, BOX_NOISE, 0.0]), np.array([0.0, 0.0, BOX_NOISE])


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

    def take(self, find: Find) -> None:
        """Add a find of the frame that was predicted."""
        size = self.size
        variance = self.covariance[:, 0, 0] + _noise(size)
        seen = np.array([find.box.x, find.box.y, np.log(max(find.size, 1e-3))])
        gain = self.covariance[:, :, 0] / variance[:, None]
        self.state = self.state + gain * (seen - self.state[:, 0])[:, None]
        self.covariance = self.covariance - gain[:, :, None] * self.covariance[:, None, 0, :]
        self.finds.append(find)
        if self.looks is None or find.looks is None:
            self.looks = find.looks if self.looks is None else self.looks
        else:
            self.looks = (1 - LEARNING) * self.looks + LEARNING * find.looks


def _noise(size: float | np.ndarray) -> np.ndarray:
    """Variances [...,3] of what the box of a thing of this size tells: x, y, and log of size."""
    return (np.multiply.outer(size, _OF_SIZE) + _OF_LOG) ** 2


@dataclass(frozen=True)
class _Side:
    """Finds side by side, in arrays.

    Attributes:
        places: [n,2], x and y of the middles.
        sides: [n,2], width and height.
        size: [n].
        labels: [n].
        looks: [n,D].
        known: [n], whether the looks are.
        frames: [n].
    """

    places: np.ndarray
    sides: np.ndarray
    size: np.ndarray
    labels: np.ndarray
    looks: np.ndarray
    known: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, finds: Sequence[Find], looks: Sequence[np.ndarray | None]) -> _Side:
        boxes = np.array([(f.box.x, f.box.y, f.box.width, f.box.height) for f in finds], float)
        some = next((own for own in looks if own is not None), np.zeros(1, np.float32))
        return cls(
            boxes[:, :2], boxes[:, 2:], np.sqrt(boxes[:, 2] * boxes[:, 3]),
            np.array([find.label for find in finds], object),
            np.stack([np.zeros_like(some) if own is None else own for own in looks]),
            np.array([own is not None for own in looks]),
            np.array([find.frame for find in finds]),
        )  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """All pairs of paths and finds: what the paths predict and saw last, and the finds."""

    paths: Sequence[_Path]
    last: _Side  # with the looks of the paths
    finds: _Side

    @classmethod
    def of(cls, paths: Sequence[_Path], finds: Sequence[Find]) -> _Pairs:
        last = _Side.of([path.last for path in paths], [path.looks for path in paths])
        return cls(paths, last, _Side.of(finds, [find.looks for find in finds]))

    @cached_property
    def alike(self) -> np.ndarray:
        """[paths,finds]: whether they have one label."""
        return self.last.labels[:, None] == self.finds.labels[None]

    @cached_property
    def unlike(self) -> np.ndarray:
        """[paths,finds]: how far their looks differ.

        0 for equal ones and where they are not known, about 1 for those with nothing in common.
        """
        both = self.last.known[:, None] & self.finds.known[None]
        if not both.any():
            return np.zeros(both.shape)
        off = self.last.looks[:, None] - self.finds.looks[None]
        return np.where(both, np.sqrt(np.einsum("pfd,pfd->pf", off, off)), 0.0)

    def costs(self) -> np.ndarray:
        """[paths,finds]: what speaks against a find being what a path predicts."""
        state = np.stack([path.state[:, 0] for path in self.paths])
        size = np.exp(state[:, 2])
        variance = np.stack([path.covariance[:, 0, 0] for path in self.paths]) + _noise(size)
        sized = np.log(np.maximum(self.finds.size, 1e-3))
        seen = np.concatenate([self.finds.places, sized[:, None]], 1)
        square = (seen[None] - state[:, None]) ** 2 / variance[:, None]
        relative = variance / np.stack([size**2, size**2, np.ones_like(size)], 1) / BOX_NOISE**2
        likelihood = (square + np.log(relative)[:, None]).sum(-1) / 2
        sides = self.last.sides * (size / np.maximum(self.last.size, 1e-3))[:, None]
        near = np.sqrt(square.max(-1)) <= FARTHEST
        near |= _overlaps(state[:, :2], sides, self.finds) >= OVERLAPS
        costs = np.minimum(likelihood, FARTHEST**2 / 2) + LOOKS * self.unlike**2
        return np.where(self.alike & near & (self.unlike <= UNLIKE), costs, _NEVER)

    def leap_costs(self) -> np.ndarray:
        """[paths,finds]: the same for things that moved otherwise than predicted."""
        frames = self.finds.frames[None] - self.last.frames[:, None]
        sizes = self.finds.size[None], self.last.size[:, None]
        size = np.maximum(np.maximum(*sizes), 1e-3)
        moved = np.hypot(*(self.finds.places[None] - self.last.places[:, None]).transpose(2, 0, 1))
        leap = moved / size / (LEAP * frames**0.5)
        swollen = size / np.maximum(np.minimum(*sizes), 1e-3)
        able = self.alike & (leap <= 1) & (swollen <= SWELL) & (self.unlike <= UNLIKE / 2)
        return np.where(able, START * 0.9 * leap, _NEVER)


def _overlaps(places: np.ndarray, sides: np.ndarray, finds: _Side) -> np.ndarray:
    """[paths,finds]: overlap (IoU) of predicted boxes with the finds."""
    low = np.maximum((places - sides / 2)[:, None], (finds.places - finds.sides / 2)[None])
    high = np.minimum((places + sides / 2)[:, None], (finds.places + finds.sides / 2)[None])
    common = np.maximum(high - low, 0).prod(-1)
    areas = sides.prod(1)[:, None] + finds.sides.prod(1)[None] - common
    return np.divide(common, areas, out=np.zeros_like(common), where=areas > 0)


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
        taken.update(_given(still, finds, taken, _Pairs.costs))
        taken.update(_given(still, finds, taken, _Pairs.leap_costs))
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
    paths: Sequence[_Path],
    finds: Sequence[Find],
    taken: dict[int, _Path],
    costs_of: Callable[[_Pairs], np.ndarray],
) -> dict[int, _Path]:
    """The best way to give the finds that are left to the paths that are left."""
    free_finds = [i for i, find in enumerate(finds) if i not in taken and find.object_id is None]
    busy = {id(path) for path in taken.values()}
    free = [path for path in paths if id(path) not in busy and path.last.object_id is None]
    if not free or not free_finds:
        return {}
    costs = costs_of(_Pairs.of(free, [finds[place] for place in free_finds]))
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
