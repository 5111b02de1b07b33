"""Clips detailed in four ways with one model, for the video bench.

Frame by frame is Detailer (SEGS) on each frame by itself; one window is what the older video nodes
do, a crop through all frames; the others are tracks. The first two get a box for each head in each
frame. Tracks get only what the detector found, with gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dev.known_clip import LEAST_SEEN, KnownClip
from dev.miniature.clips import Box, Clip, Detection
from dev.miniature.detailing import CROP_FACTOR

from .in_host import part, part_of_nodes
from .quality_runs import BASE, Bench
from .scenes import GROWN
from .video_clips import box_mask, path_in_heads
from .video_tracks import LOST, person_of

SETTINGS = BASE | {"cfg": 1.0}  # as good as 2 for the miniature, at half the time
WINDOW, SINGLE = "one window", "frame by frame"  # names of ways
LONG_PATH = 1.0  # widths of a head from which on a path is long
Boxes = Sequence[Sequence[tuple[int, Box]]]  # for each frame, persons and boxes


@dataclass(frozen=True)
class Detailed:
    """A clip after detailing.

    Attributes:
        frames: [F,H,W,3] float32, 0..1.
        masks: [F,H,W], where it was pasted, without the soft edge.
    """

    name: str
    frames: np.ndarray
    masks: np.ndarray


class VideoBench(Bench):
    """The host, the pack and the miniature, and ways to detail a clip."""

    def __init__(self, tree: Path) -> None:
        super().__init__(tree)
        self.follow, self.clips = part("tracks.follow"), part("clips")
        self.geometry = part("geometry")
        self.tracks, self.settings = part("detail.tracks"), part("settings")
        self.host = part("host.backend")

    def followed(self, test: KnownClip, frames: slice = slice(None), grown: int = 0) -> Any:
        """The tracks of what was found in a clip, or in some of its frames.

        Args:
            grown: pixels by which the boxes are grown on each side.
        """
        source = self.clips.HeldFrames(torch.from_numpy(test.poor[frames]))
        found = test.found[frames]

        def finder(number: int, _: Any) -> list[Any]:
            return finds(number, found[number], grown)

        shaping = replace(self.follow.Following().shaping, crop_factor=CROP_FACTOR)
        how = replace(self.follow.Following(), shaping=shaping)
        return self.follow.follow(self.follow.Clip.of(source), finder, how)

    @torch.inference_mode()
    def by_tracks(self, test: KnownClip, tracks: Any, smoothing: float) -> Detailed:
        """What Video Detailer makes."""
        captions = [
            test.clip.captions[0 if (who := person_of(track, test.found)) == LOST else who]
            for track in tracks.tracks
        ]
        detail = self._detail("\n[SEP]\n".join(captions))
        poor = torch.from_numpy(test.poor)
        sink = self.clips.CollectedFrames(poor)
        self.tracks.detail_tracks(
            self.clips.HeldFrames(poor), tracks, detail,
            self.settings.Motion(smoothing=smoothing), self.host.ComfyBackend(), sink,
        )  # fmt: skip
        masks = np.zeros(test.truth.shape[:3], np.float32)
        for track in tracks.tracks:
            for own in track.sightings:
                box = own.box.sides
                wide = (np.floor(box[0]), np.floor(box[1]), np.ceil(box[2]), np.ceil(box[3]))
                np.maximum(masks[own.frame], box_mask([wide], test.clip.size), out=masks[own.frame])
        return Detailed(tracks_way(smoothing), sink.frames.numpy(), masks)

    def _detail(self, text: str) -> Any:
        models = self.settings.Models(self.model, self.clip, self.vae, self.empty, self.empty)
        make = part_of_nodes("detail.images").make_detail
        return make(models, **SETTINGS, wildcard=text)

    @torch.inference_mode()
    def one_by_one(self, test: KnownClip) -> Detailed:
        """What Detailer (SEGS) makes of each frame, from boxes that are off but never missing."""
        boxes = every_box(test)
        frames, masks = [], []
        for frame, own in enumerate(boxes):
            mask = box_mask([box for _, box in own], test.clip.size)
            masks.append(mask)
            if not own:
                frames.append(test.poor[frame])
                continue
            found = [self._segs(box_mask([box], test.clip.size)[None], False) for _, box in own]
            segs = found[0][0], [seg for _, some in found for seg in some]
            text = "\n[SEP]\n".join(test.clip.captions[person] for person, _ in own)
            links = self.links(test.poor[frame], segs)
            (result, *_) = self._plain("DetailerForEach", **links, wildcard=text, **SETTINGS)
            frames.append(result[0].numpy())
        return Detailed(SINGLE, np.stack(frames), np.stack(masks))

    @torch.inference_mode()
    def one_window(self, test: KnownClip) -> Detailed:
        """What the older video nodes make: a crop through all frames, for each shot and person."""
        frames, masks = test.poor.copy(), np.zeros(test.truth.shape[:3], np.float32)
        boxes = every_box(test)
        for first, last in shots(test):
            for person in test.clip.persons:
                own = np.stack([
                    box_mask([box for who, box in boxes[frame] if who == person], test.clip.size)
                    for frame in range(first, last)
                ])  # fmt: skip
                if not own.any():
                    continue
                pipe = (self.model, self.clip, self.vae, self._text(test.clip.captions[person]),
                        self.empty)  # fmt: skip
                (result, *_) = self._plain(
                    "DetailerForEachPipeForAnimateDiff",
                    image_frames=torch.from_numpy(frames[first:last]),
                    segs=self._segs(own, True), basic_pipe=pipe, refiner_ratio=0.0,
                    **{name: value for name, value in SETTINGS.items()
                       if name not in ("noise_mask", "force_inpaint", "cycle", "detail_batch")},
                )  # fmt: skip
                frames[first:last] = result.numpy()
                np.maximum(masks[first:last], own, out=masks[first:last])
        return Detailed(WINDOW, frames, masks)

    def _segs(self, masks: np.ndarray, video: bool) -> Any:
        node = "MaskToSEGS_for_AnimateDiff" if video else "MaskToSEGS"
        (segs, *_) = self._plain(
            node, mask=torch.from_numpy(masks), combined=True, crop_factor=CROP_FACTOR,
            bbox_fill=False, drop_size=1, contour_fill=True,
        )  # fmt: skip
        return segs

    def _text(self, text: str) -> Any:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def _plain(self, node: str, **inputs: Any) -> tuple:
        """A node's outputs, without what it shows."""
        result = self._run(node, **inputs)
        return result["result"] if isinstance(result, dict) else result


def tracks_way(smoothing: float) -> str:
    """The name of the way by tracks."""
    return f"tracks, smoothing {smoothing:g}"


def finds(frame: int, found: Sequence[Detection], grown: int = 0) -> list[Any]:
    """What was found in a frame as a detector for tracks gives it, with grown boxes."""
    find, of_box = part("tracks.finds").Find, part("geometry").Rect.of_box
    return [find(frame, of_box(larger(one.box, grown)), "face", one.confidence) for one in found]


def shots(test: KnownClip) -> list[tuple[int, int]]:
    """First and last frame, exclusive, of each part between cuts."""
    ends = [0, *test.clip.cuts, len(test)]
    return list(pairwise(ends))


def every_box(test: KnownClip) -> Boxes:
    """For each frame who is seen, and a grown box each: of the true head where none was found."""
    boxes = []
    for frame, found in enumerate(test.found):
        known = {one.person: one.box for one in found}
        here = []
        for person in test.clip.persons:
            if test.seen[person, frame] >= LEAST_SEEN:
                box = known.get(person) or test.clip.head(person, frame)
                here.append((person, larger(box, GROWN)))
        boxes.append(here)
    return boxes


def larger(box: Box, by: float) -> Box:
    """A box with so many pixels more on each side."""
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def divided(clip: Clip) -> tuple[list[int], list[int]]:
    """The persons whose paths are long, and those whose paths are short."""
    lengths = {person: path_in_heads(clip, person) for person in clip.persons}
    return (
        [person for person, length in lengths.items() if length > LONG_PATH],
        [person for person, length in lengths.items() if length <= LONG_PATH],
    )
