"""SEGS_TRACKS: things followed through the frames of a clip, in the form that crosses links.

The value of a SEGS_TRACKS link is one `Tracks`. It holds numbers and packed masks but no pixels, so
that the tracks of a long clip stay small. Every class here is frozen; a changed value is a new one.
Lengths and places are in pixels of a frame, x to the right and y down; pixel (i, j) covers
i..i+1 and j..j+1. Frames are counted from 0.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np

from ..geometry import Box, Rect, Size

SEGS_TRACKS = "SEGS_TRACKS"  # the link type


@dataclass(frozen=True, slots=True)
class PackedMask:
    """A mask [h,w] 0..1 in a box of whole pixels of the frame, losslessly compressed."""

    box: Box  # where the mask lies; it may reach beyond the frame
    dtype: str  # of the values, as NumPy names it
    data: bytes

    @classmethod
    def of(cls, mask: np.ndarray, box: Box) -> PackedMask:
        """The packed form of a mask [h,w] of the box's size.

        Raises:
            ValueError: the mask has another size than the box.
        """
        height, width = box.height, box.width
        if mask.shape != (height, width):
            raise ValueError(f"The mask is {mask.shape}, but its box is {height} x {width}.")
        values = np.ascontiguousarray(mask)
        return cls(box, values.dtype.str, zlib.compress(values.tobytes(), 1))

    def unpacked(self) -> np.ndarray:
        """The mask [h,w], exactly as it was packed."""
        values = np.frombuffer(zlib.decompress(self.data), dtype=np.dtype(self.dtype))
        return values.reshape(self.box.height, self.box.width).copy()


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of a track in one frame."""

    frame: int
    box: Rect  # the bounding box on the smoothed course of the track, in gaps too
    window: Rect  # the smoothed window that is cropped, resized and put back
    confidence: float = 1.0
    mask: PackedMask | None = None  # None: the whole bounding box
    gap: bool = False  # nothing was detected: box and mask come from the frames around
    used: bool = True  # False: too small or too large here, to be left as it is
    found: Rect | None = None  # the bounding box as it was detected; None in a gap
    unlike: float | None = None  # how unlike the track's other frames it looks; None: not known


@dataclass(frozen=True)
class Track:
    """One thing, followed through consecutive frames that no cut divides."""

    number: int  # from 0, in the order of the tracks
    label: str
    sightings: tuple[Sighting, ...]  # one for each frame from `first` to `last`, gaps included
    object_id: int | None = None  # as the source of the tracks counts things, where it does

    @property
    def first(self) -> int:
        """The first frame."""
        return self.sightings[0].frame

    @property
    def last(self) -> int:
        """The last frame."""
        return self.sightings[-1].frame

    def at(self, frame: int) -> Sighting | None:
        """What is known in a frame; None where the track is not."""
        place = frame - self.first
        return self.sightings[place] if 0 <= place < len(self.sightings) else None

    @property
    def frames(self) -> range:
        """The frames from the first to the last."""
        return range(self.first, self.last + 1)

    @property
    def seen(self) -> int:
        """In how many frames it was detected."""
        return sum(not one.gap for one in self.sightings)


@dataclass(frozen=True)
class Dropped:
    """A track that was found and not kept."""

    label: str
    first: int
    last: int
    reason: str  # a clause, such as "seen in 2 frames, fewer than min_frames 8"


@dataclass(frozen=True)
class Tracks:
    """The value of a SEGS_TRACKS link: the tracks of one clip."""

    size: Size  # of a frame
    frames: int  # of the clip
    tracks: tuple[Track, ...] = ()
    cuts: tuple[int, ...] = ()  # the first frame after each cut
    dropped: tuple[Dropped, ...] = field(default=())
