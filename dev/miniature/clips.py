"""Clips of the miniature world: people who move before a camera, with everything about them known.

A clip is a row of scenes. For every frame there are the truth at full quality, what a poor camera
would have made of it, and for every person the head's box, its visible part as a mask, and the
motion from frame to frame as a matrix. So a tracker and a video detailer can be compared with the
truth. `detections` gives boxes as a detector would: inexact, and missing in some frames.

Lengths and places are in pixels of a frame, x to the right and y down; pixel (i, j) covers i..i+1
and j..j+1. Frames and persons are counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .character import Character
from .look import Look, caption, draw_look
from .people import same_person
from .render import Shape, render
from .world import Degradation, Scene, Window, degrade, draw_scene, enlarge

SIZE = (768, 432)  # width and height of a frame in pixels
LENGTH = 48  # frames
POOR = Degradation(scale=1 / 4, blur=0.8, noise=0.02)
VIEW_WIDTH = 1024.0  # scene units that the camera shows, unless it moves
VIEW_TOP = 150.0

Box = tuple[float, float, float, float]  # left, top, right and bottom
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_SAMPLES = (48, 48)  # points by which it is told how much of a head is seen


@dataclass(frozen=True)
class Still:
    """A frame of a clip.

    Attributes:
        scene: whose characters stand from back to front.
        who: the number of the person that each character is.
        view: the part of the scene that the camera shows.
    """

    scene: Scene
    who: tuple[int, ...]
    view: Window


@dataclass(frozen=True)
class Clip:
    """A row of frames, and the truth about them.

    Attributes:
        looks: of each person.
        size: width and height of a frame.
        cuts: the first frame after each cut.
        seed: of the grain of the poor frames.
    """

    name: str
    looks: tuple[Look, ...]
    stills: tuple[Still, ...]
    cuts: tuple[int, ...] = ()
    size: tuple[int, int] = SIZE
    seed: int = 0

    def __len__(self) -> int:
        return len(self.stills)

    @property
    def persons(self) -> range:
        """The numbers of the persons."""
        return range(len(self.looks))

    @property
    def captions(self) -> list[str]:
        """What a text encoder of this world knows each person by."""
        return [caption(look) for look in self.looks]

    def truth(self, frame: int) -> np.ndarray:
        """A frame as it should be: [H,W,3] float32, 0..1."""
        still = self.stills[frame]
        return still.scene.picture(self.size, still.view)

    def poor(
        self, frame: int, how: Degradation = POOR, truth: np.ndarray | None = None
    ) -> np.ndarray:
        """The frame as a poor camera gives it: [H,W,3] float32, 0..1; each has its own grain.

        Args:
            truth: what `truth` gives for the frame, if it is there already.
        """
        random = np.random.default_rng([self.seed, frame, 11])
        whole = self.truth(frame) if truth is None else truth
        return enlarge(degrade(whole, how, random), self.size)

    def head(self, person: int, frame: int) -> Box | None:
        """The box of the whole head, which may leave the frame; None where the person is not."""
        character = self._character(person, frame)
        if character is None:
            return None
        left, top, right, bottom = character.head_box()
        corners = self._to_pixels(frame) @ np.array([[left, right], [top, bottom], [1, 1]])
        (x1, x2), (y1, y2) = corners.tolist()
        return x1, y1, x2, y2

    def middle(self, person: int, frame: int) -> tuple[float, float] | None:
        """The middle of the head, as it moves with the head; None where the person is not.

        It is that of the upright head. The middle of `head` is another one: when a head leans or
        turns, its bounds move over it.
        """
        placement = self._placement(person, frame)
        if placement is None:
            return None
        look = self.looks[person]
        left, top, right, bottom = Character(look, 0, 0, 1, 0).head_box()
        x, y, _ = placement @ ((left + right) / 2, (top + bottom) / 2, 1)
        return float(x), float(y)

    def mask(self, person: int, frame: int) -> np.ndarray:
        """The part of the head that is seen: [H,W] float32, 0..1; zeros where there is none."""
        still = self.stills[frame]
        if person not in still.who:
            return np.zeros(self.size[::-1], np.float32)
        white, black = self._head_and_nearer(person, frame)
        return render(white + black, still.view, self.size)[..., 0]

    def seen(self, person: int, frame: int) -> float:
        """The share of the head that is neither hidden nor outside the frame, 0..1."""
        character = self._character(person, frame)
        if character is None:
            return 0.0
        box = character.head_box()
        white, black = self._head_and_nearer(person, frame)
        whole, left = (render(shapes, box, _SAMPLES)[..., 0] for shapes in (white, white + black))
        inside = _inside(box, self.stills[frame].view)
        return float((left * inside).sum() / whole.sum())

    def motion(self, person: int, frame: int) -> np.ndarray | None:
        """The matrix [2,3] from places on the head in a frame to the same places in the next one.

        None where the person is not in both, or where a cut lies between them.
        """
        after = frame + 1
        if after >= len(self) or after in self.cuts:
            return None
        places = [self._placement(person, one) for one in (frame, after)]
        if any(place is None for place in places):
            return None
        return (places[1] @ np.linalg.inv(places[0]))[:2]

    def _head_and_nearer(self, person: int, frame: int) -> tuple[list[Shape], list[Shape]]:
        """The person's head in white, and in black all that may hide it; in scene units."""
        still = self.stills[frame]
        character, *nearer = still.scene.characters[still.who.index(person) :]
        white = [Shape(shape.points, _WHITE) for shape in character.head_shapes()]
        black = [Shape(shape.points, _BLACK) for other in nearer for shape in other.shapes()]
        return white, black

    def _character(self, person: int, frame: int) -> Character | None:
        still = self.stills[frame]
        if person not in still.who:
            return None
        return still.scene.characters[still.who.index(person)]

    def _placement(self, person: int, frame: int) -> np.ndarray | None:
        """The matrix [3,3] from a face's own units to pixels."""
        character = self._character(person, frame)
        if character is None:
            return None
        whole = np.vstack([self._to_pixels(frame), (0, 0, 1)])
        return whole @ np.vstack([character.placement(), (0, 0, 1)])

    def _to_pixels(self, frame: int) -> np.ndarray:
        """The matrix [2,3] from scene units to pixels."""
        left, top, right, bottom = self.stills[frame].view
        x, y = self.size[0] / (right - left), self.size[1] / (bottom - top)
        return np.array([[x, 0, -left * x], [0, y, -top * y]])


def _inside(box: Box, view: Window) -> np.ndarray:
    """Which of the samples of a box lie in what the camera shows: [h,w] bool."""
    x, y = (
        low + (np.arange(count) + 0.5) * (high - low) / count
        for low, high, count in zip(box[:2], box[2:], _SAMPLES, strict=True)
    )
    return ((y > view[1]) & (y < view[3]))[:, None] & ((x > view[0]) & (x < view[2]))


# Detections


@dataclass(frozen=True)
class Detection:
    """A box as a detector gives it; `person` is for counting alone."""

    person: int
    box: Box
    confidence: float


def detections(
    clip: Clip, jitter: float = 0.05, dropped: float = 0.1, least: float = 0.5, seed: int = 0
) -> list[list[Detection]]:
    """What a detector finds in each frame, in any order.

    Args:
        jitter: how far each side of a box is off at most, as a share of the box's own side.
        dropped: how likely a head is not found.
        least: a head is found only where at least this share of it is seen.
    """
    random = np.random.default_rng([clip.seed, seed, 13])
    found = []
    for frame in range(len(clip)):
        heads = []
        for person in clip.persons:
            shifts, chance, confidence = random.uniform(-1, 1, 4), random.random(), random.random()
            box = clip.head(person, frame)
            if box is None or chance < dropped or clip.seen(person, frame) < least:
                continue
            heads.append(
                Detection(person, _shifted(clip, box, jitter * shifts), 0.6 + 0.4 * confidence)
            )
        found.append([heads[place] for place in random.permutation(len(heads))])
    return found


def _shifted(clip: Clip, box: Box, shares: np.ndarray) -> Box:
    """The box with its sides moved by these shares of its size, inside the frame."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    limits = np.array(clip.size * 2)
    return tuple((np.array(box) + shares * sides).clip(0, limits).tolist())


# Paths: how people and the camera move


@dataclass(frozen=True)
class Pose:
    """Where a person's head is in one frame.

    Attributes:
        x, y: its middle, in scene units.
        width: of the head, in scene units, before it is tilted or turned.
        tilt, turn: degrees, as a `Character` has them.
    """

    x: float
    y: float
    width: float
    tilt: float = 0.0
    turn: float = 0.0


Path = Callable[[int], Pose | None]  # of a frame; None where the person is not there
View = Callable[[int], Window]


def _character(look: Look, pose: Pose) -> Character:
    """The character whose head has its middle and its width where the pose has them."""
    left, top, right, bottom = Character(look, 0, 0, 1, 0).head_box()
    radius = pose.width / (right - left)
    one = Character(look, 0, 0, radius, pose.tilt, pose.turn)
    middle = one.placement()[:, :2] @ ((left + right) / 2, (top + bottom) / 2)
    return replace(one, x=pose.x - float(middle[0]), y=pose.y - float(middle[1]))


def _shot(
    looks: Sequence[Look], paths: dict[int, Path], frames: range, background: int, view: View
) -> list[Still]:
    """Frames of one camera.

    Args:
        paths: of each person that is there, from back to front.
        background: seed of the scene behind them.
    """
    behind = draw_scene(background, (0, 0))
    stills = []
    for frame in frames:
        poses = {person: path(frame) for person, path in paths.items()}
        there = {person: pose for person, pose in poses.items() if pose is not None}
        characters = tuple(_character(looks[person], pose) for person, pose in there.items())
        scene = replace(behind, characters=characters)
        stills.append(Still(scene, tuple(there), view(frame)))
    return stills


def _still_camera(size: tuple[int, int]) -> View:
    height = VIEW_WIDTH * size[1] / size[0]
    return lambda frame: (0.0, VIEW_TOP, VIEW_WIDTH, VIEW_TOP + height)


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _wave(frame: int, period: float, phase: float = 0.0) -> float:
    return float(np.sin(2 * np.pi * (frame / period + phase)))


def _walk(start: float, end: float, y: float, width: float, length: int, step: float) -> Path:
    """A walk at an even pace; the head goes up and down and leans a little with each step.

    Args:
        step: frames that a step takes.
    """

    def pose(frame: int) -> Pose:
        x = _between(start, end, frame / max(1, length - 1))
        return Pose(x, y + 0.04 * width * _wave(frame, step), width, 2 * _wave(frame, 2 * step))

    return pose


def _stand(x: float, y: float, width: float, phase: float = 0.0) -> Path:
    """Somebody who stands and sways a little."""
    return lambda frame: Pose(
        x + 0.06 * width * _wave(frame, 50, phase), y, width, 3 * _wave(frame, 60, phase)
    )


# The clips


def _distinct_looks(seed: int, count: int) -> list[Look]:
    random = np.random.default_rng([seed, 17])
    looks: list[Look] = []
    while len(looks) < count:
        look = draw_look(random)
        if not any(same_person(look, other) or look.skin == other.skin for other in looks):
            looks.append(look)
    return looks


def _walking(size, length, seed):
    """One walks across the picture, one stands."""
    looks = _distinct_looks(seed, 2)
    paths = {
        1: _stand(820, 330, 76),
        0: _walk(110, 690, 420, 88, length, 14),
    }
    return looks, _shot(looks, paths, range(length), seed, _still_camera(size)), ()


def _turning(size, length, seed):
    """A large head that turns to both sides and leans."""
    looks = _distinct_looks(seed, 1)

    def pose(frame: int) -> Pose:
        return Pose(
            512 + 40 * _wave(frame, 64), 430, 150, 18 * _wave(frame, 40), 40 * _wave(frame, 32, 0.2)
        )

    return looks, _shot(looks, {0: pose}, range(length), seed, _still_camera(size)), ()


def _crossing(size, length, seed, alike=False):
    """Two walk past each other, one before the other; a third stands at the side."""
    looks = _distinct_looks(seed, 3)
    if alike:
        looks[1] = replace(looks[0], mouth=looks[1].mouth, shirt=looks[1].shirt)
    paths = {
        2: _stand(930, 300, 70, 0.3),
        0: _walk(180, 780, 420, 88, length, 14),
        1: _walk(760, 160, 436, 96, length, 12),
    }
    return looks, _shot(looks, paths, range(length), seed, _still_camera(size)), ()


def _crossing_alike(size, length, seed):
    """The same with two of the same hair, skin and eyes, so that only the way they go differs."""
    return _crossing(size, length, seed, alike=True)


def _leaving(size, length, seed):
    """Somebody leaves the picture, and comes back after a quarter of the clip."""
    looks = _distinct_looks(seed, 1)
    out, back = length * 3 // 8, length * 5 // 8

    def pose(frame: int) -> Pose | None:
        if frame < out:
            return _walk(600, 1110, 420, 92, out, 13)(frame)
        if frame >= back:
            return _walk(1110, 560, 430, 92, length - back, 13)(frame - back)
        return None

    return looks, _shot(looks, {0: pose}, range(length), seed, _still_camera(size)), ()


def _cut(size, length, seed):
    """A cut in the middle; somebody else then stands almost where somebody stood."""
    looks = _distinct_looks(seed, 3)
    half = length // 2
    view = _still_camera(size)
    first = {
        1: _stand(760, 340, 78),
        0: _walk(230, 400, 420, 92, half, 14),
    }
    walk = _walk(430, 250, 410, 100, length - half, 14)
    second = {2: lambda frame: walk(frame - half)}
    stills = _shot(looks, first, range(half), seed, view)
    stills += _shot(looks, second, range(half, length), seed + 1, view)
    return looks, stills, (half,)


def _camera(size, length, seed):
    """A camera in the hand that pans and comes nearer; one stands and one walks."""
    looks = _distinct_looks(seed, 2)
    paths = {
        1: _stand(330, 400, 76, 0.2),
        0: _walk(470, 740, 440, 84, length, 14),
    }

    def view(frame: int) -> Window:
        share = frame / max(1, length - 1)
        width = _between(760, 620, share)
        x = _between(60, 260, share) + 5 * _wave(frame, 9.7) + 3 * _wave(frame, 23.1, 0.4)
        y = 260 + 4 * _wave(frame, 11.3, 0.1) + 3 * _wave(frame, 29.9)
        return x, y, x + width, y + width * size[1] / size[0]

    return looks, _shot(looks, paths, range(length), seed, view), ()


def _approaching(size, length, seed):
    """Somebody comes from far away until the head almost fills the picture: 20 to 300 pixels."""
    looks = _distinct_looks(seed, 1)
    unit = size[0] / VIEW_WIDTH
    small, large = (pixels * size[0] / SIZE[0] / unit for pixels in HEADS)

    def pose(frame: int) -> Pose:
        share = frame / max(1, length - 1)
        width = small * (large / small) ** share  # an even pace towards the camera looks like this
        y = _between(300, VIEW_TOP + 290, share) + 0.03 * width * _wave(frame, 14)
        return Pose(_between(560, 500, share), y, width, 2 * _wave(frame, 28))

    return looks, _shot(looks, {0: pose}, range(length), seed, _still_camera(size)), ()


HEADS = (20, 300)  # pixels that a head is wide in frames of SIZE, at least and at most
CLIPS = {
    "walking": (_walking, 31),
    "turning": (_turning, 32),
    "crossing": (_crossing, 33),
    "crossing alike": (_crossing_alike, 34),
    "leaving and coming back": (_leaving, 35),
    "cut": (_cut, 36),
    "moving camera": (_camera, 37),
    "approaching": (_approaching, 38),
}


def draw_clip(name: str, length: int = LENGTH, size: tuple[int, int] = SIZE) -> Clip:
    """The clip of this name.

    Args:
        name: one of CLIPS.
        length: in frames; the same happens, in as many frames.
        size: width and height of a frame in pixels.

    Raises:
        ValueError: there is no clip of this name.
    """
    if name not in CLIPS:
        raise ValueError(f"There is no clip '{name}'; there are {', '.join(CLIPS)}.")
    draw, seed = CLIPS[name]
    looks, stills, cuts = draw(size, length, seed)
    return Clip(name, tuple(looks), tuple(stills), cuts, size, seed)
