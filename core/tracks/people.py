"""Which person each track shows: its best frames vote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.optimize import LinearConstraint, milp

from ..clips import FrameSource, Watch
from ..geometry import Box, Size
from ..pixels.image import crop, to_rgb
from ..segs.people import (
    Asked,
    Known,
    Named,
    Naming,
    PersonEmbedder,
    Persons,
    check_unknown,
    tell_alike,
)
from ..segs.sharpness import sharpness_of
from ..segs.sights import sight_of
from .convert import outer_box
from .fitted import fitted_tracks
from .occlusion import Occlusions
from .track import Sighting, Track, Tracks

VOTES = 12  # frames of a track that vote
TRIED = 48  # frames of a track whose sharpness is looked at
UNSURE = 1e-3  # a lower confidence counts as it, so that such frames have a vote, too


_Entry = TypeVar("_Entry")


class _Vote(NamedTuple):
    """A frame of a track that is compared."""

    track: int
    frame: int
    box: Box
    weight: float


def label_by_person(
    tracks: Tracks,
    source: FrameSource,
    persons: Persons,
    embedder: PersonEmbedder,
    how: Naming,
    watch: Watch | None = None,
) -> tuple[Tracks, list[Named], list[torch.Tensor]]:
    """Label each track with the name of the person that it shows.

    The largest, surest and sharpest frames of a track, spread over it, are compared with the
    pictures of the persons. Each votes with its weight: the similarity of a track to a person is
    the weighted mean. Two tracks that share a frame are never one person; tracks one after another
    may be. Of all ways to give the names, the one with the largest sum of similarities above the
    threshold is taken, weighted by the lengths of the tracks.

    Args:
        source: the frames in which the tracks are; if they have another size, tracks are scaled to
            look at them.
        how: its landmarks are those of the frames.
        watch: counts the frames that are looked at, and may stop between them.

    Returns:
        The tracks, what came of each, and a picture [h,w,3] of each person.

    Raises:
        ValueError: the label of strangers is also the name of a person, or the source has another
            number of frames than the clip of the tracks.
        RuntimeError: the embedder raised.
    """
    each = persons.each
    check_unknown(how.unknown, each)
    asked = Asked(embedder)
    known = Known.of(persons, asked, how.margin)
    tell_alike(known.between, each, how.threshold)
    there = fitted_tracks(tracks, source.size, source.count)
    watch = watch or Watch()
    looked_at = _Read(source, watch)
    votes = _votes(there, looked_at)
    scores, shown = _scores(votes, there, looked_at, asked, known, how)
    watch.end()
    lengths = [track.seen for track in tracks.tracks]
    found = assign_tracks(scores, lengths, _together(tracks.tracks), how.threshold)
    named, labelled = [], []
    for number, (track, person) in enumerate(zip(tracks.tracks, found, strict=True)):
        label = each[person] if person is not None else how.unknown or track.label
        own = [] if number not in shown else [float(value) for value in scores[number]]
        named.append(Named(None, label, person, own, shown.get(number)))
        labelled.append(replace(track, label=label))
    return replace(tracks, tracks=tuple(labelled)), named, known.faces


def assign_tracks(
    scores: np.ndarray, lengths: Sequence[int], together: Sequence[Sequence[int]], threshold: float
) -> list[int | None]:
    """The person of each track, or None: the best way to give all names, found exactly.

    Args:
        scores: [T,P], how alike each track is to each person.
        lengths: how much each track counts.
        together: groups of tracks that are seen in one frame, of which each person is one at most.

    Returns:
        For equal values the same result, always.
    """
    count, persons = scores.shape
    gain = (scores - threshold) * np.sqrt(np.asarray(lengths, float))[:, None]
    if not count * persons or not (scores >= threshold).any():
        return [None] * count
    allowed = (scores >= threshold).astype(float)
    rows = []
    for track in range(count):
        rows.append(np.zeros((count, persons)))
        rows[-1][track] = 1
    for group in together:
        for person in range(persons):
            rows.append(np.zeros((count, persons)))
            rows[-1][list(group), person] = 1
    limits = LinearConstraint(np.array([row.ravel() for row in rows]), -np.inf, 1)
    # a likeness that just reaches the threshold is better than none
    result = milp(
        -(gain + 1e-6).ravel(), integrality=np.ones(count * persons), constraints=limits,
        bounds=(0, allowed.ravel()),
    )  # fmt: skip
    chosen = result.x.reshape(count, persons) > 0.5
    return [int(np.argmax(row)) if row.any() else None for row in chosen]


def _together(tracks: Sequence[Track]) -> list[list[int]]:
    """Groups of tracks that are in one frame: those at the first frame of each track."""
    groups = []
    for track in tracks:
        group = [i for i, other in enumerate(tracks) if other.first <= track.first <= other.last]
        if len(group) > 1 and group not in groups:
            groups.append(group)
    return groups


# The frames that vote


def _votes(tracks: Tracks, read: _Read) -> list[_Vote]:
    """The frames of all tracks that vote, in the order of the frames."""
    occlusions = Occlusions.of(tracks)
    tried = [
        (number, one, box)
        for number, track in enumerate(tracks.tracks)
        for one, box in _candidates(track, tracks.size, occlusions.partly_seen(number))
    ]
    tried.sort(key=lambda entry: (entry[1].frame, entry[0]))
    weighed: dict[int, list[_Vote]] = {}
    frames = [one.frame for _, one, _ in tried]
    read.watch.begin(2 * len(set(frames)))  # those that vote are looked at again
    for frame, places in read.by_frame(frames):
        for place in places:
            number, one, box = tried[place]
            sharp = sharpness_of(crop(frame, box))
            sure = max(one.confidence, UNSURE)
            weight = sure * np.sqrt(box.area) * np.sqrt(max(sharp, 1e-6))
            weighed.setdefault(number, []).append(_Vote(number, one.frame, box, float(weight)))
    votes = [vote for own in weighed.values() for vote in _best(own, VOTES, attrgetter("weight"))]
    return sorted(votes, key=lambda vote: (vote.frame, vote.track))


def _candidates(
    track: Track, size: Size, hidden: Mapping[int, float]
) -> list[tuple[Sighting, Box]]:
    """Sightings in which a track was found and is inside the frame: the best of each stretch.

    Args:
        hidden: frames in which a nearer track covers it, and would be seen in its place; they are
            left out if there are others.
    """
    seen = [(one, outer_box(one.box).clipped(size)) for one in track.sightings if not one.gap]
    seen = [(one, box) for one, box in seen if not box.empty]
    seen = [entry for entry in seen if entry[0].frame not in hidden] or seen
    return _best(seen, TRIED, lambda entry: entry[0].confidence * entry[1].area)


def _best(entries: Sequence[_Entry], most: int, value: Callable[[_Entry], float]) -> list[_Entry]:
    """The best of each of so many stretches of a track at most."""
    step = max(1.0, len(entries) / most)
    parts = [entries[int(i * step) : int((i + 1) * step)] for i in range(min(len(entries), most))]
    return [max(part, key=value) for part in parts]


class _Read(NamedTuple):
    """Frames that are looked at one by one, and the user who waits for them."""

    source: FrameSource
    watch: Watch

    def by_frame(self, frames: Sequence[int]) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """Each frame [1,H,W,3] that is asked for, and the places in `frames` that ask for it."""
        places: dict[int, list[int]] = {}
        for place, frame in enumerate(frames):
            places.setdefault(frame, []).append(place)
        for frame, own in places.items():
            self.watch.check()
            rgb, _ = to_rgb(self.source.read(frame, frame + 1))
            yield rgb, own
            self.watch.done()


def _scores(
    votes: Sequence[_Vote], tracks: Tracks, read: _Read, asked: Asked, known: Known, how: Naming,
) -> tuple[np.ndarray, dict[int, torch.Tensor]]:  # fmt: skip
    """How alike each track is to each person [T,P], and the picture of its best frame."""
    scores = np.zeros((len(tracks.tracks), len(known.faces)))
    weights = np.zeros(len(tracks.tracks))
    best: dict[int, tuple[float, torch.Tensor]] = {}
    for frame, places in read.by_frame([vote.frame for vote in votes]):
        own = [votes[place] for place in places]
        windows = [
            replace(
                sight_of(vote.frame, vote.box, asked.shape, tracks.size, how.margin, how.landmarks),
                row=0,
            )
            for vote in own
        ]
        vectors, crops = asked.embed(frame, windows)
        alike = known.likeness(vectors, list(range(len(own)))).numpy()
        for vote, row, picture in zip(own, alike, crops, strict=True):
            scores[vote.track] += vote.weight * row
            weights[vote.track] += vote.weight
            if vote.track not in best or vote.weight > best[vote.track][0]:
                best[vote.track] = vote.weight, picture
    scores /= np.maximum(weights, 1e-12)[:, None]
    scores[weights == 0] = -2.0  # shows nothing, is nobody
    return scores, {track: picture for track, (_, picture) in best.items()}
