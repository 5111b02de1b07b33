"""Tracks for frames of another size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...utils.notes import note
from ..geometry import Rect, Size
from ..pixels.mask import resize_mask
from .track import PackedMask, Sighting, Track, Tracks


def fitted_tracks(tracks: Tracks, size: Size, frames: int) -> Tracks:
    """The tracks for a clip; those of frames of another size are scaled, and the user is told.

    Args:
        size: of a frame of the clip.
        frames: of the clip.

    Raises:
        ValueError: the tracks are of a clip with another number of frames.
    """
    if tracks.frames != frames:
        raise ValueError(
            f"'tracks' were made for a clip of {tracks.frames} frames, but the clip has {frames}, "
            "so that it is not clear which frames belong together. Connect the clip that the node "
            "got which made the tracks."
        )
    if tuple(tracks.size) == tuple(size) or not tracks.tracks:
        return replace(tracks, size=size)
    note(
        "size",
        f"The tracks were made for frames of {tracks.size[0]}x{tracks.size[1]} pixels and are "
        f"scaled to {size[0]}x{size[1]}.",
    )
    scaled = tuple(_scaled_track(track, tracks.size, size) for track in tracks.tracks)
    return replace(tracks, size=size, tracks=scaled)


def _scaled_track(track: Track, old: Size, new: Size) -> Track:
    sightings = tuple(_scaled_sighting(sighting, old, new) for sighting in track.sightings)
    return replace(track, sightings=sightings)


def _scaled_sighting(sighting: Sighting, old: Size, new: Size) -> Sighting:
    mask = sighting.mask
    return replace(
        sighting,
        box=_scaled(sighting.box, old, new),
        window=_scaled(sighting.window, old, new),
        mask=None if mask is None else _scaled_mask(mask, old, new),
        found=None if sighting.found is None else _scaled(sighting.found, old, new),
    )


def _scaled(rect: Rect, old: Size, new: Size) -> Rect:
    across, down = new[0] / old[0], new[1] / old[1]
    return Rect(rect.x * across, rect.y * down, rect.width * across, rect.height * down)


def _scaled_mask(mask: PackedMask, old: Size, new: Size) -> PackedMask:
    box = mask.box.scaled(old, new)
    if box.empty:
        return PackedMask.of(np.zeros((box.height, box.width), np.float32), box)
    values = torch.from_numpy(mask.unpacked().astype(np.float32))
    return PackedMask.of(resize_mask(values[None], box.size)[0].numpy(), box)
