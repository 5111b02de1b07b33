"""Things that move on known paths before a background, and what a poor detector finds of them."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from detailers.core.geometry import Rect, Size
from detailers.core.tracks.finds import Find

JITTER = 0.05  # by which share of its size each side of a box is off at most
FRAMES = 40  # of most clips
DROPPED = 0.1  # share of the frames in which a thing is not found


@lru_cache(maxsize=256)
def _texture(seed, side):
    """[1,4,side,side]: a round thing with details of several sizes, and its alpha."""
    sharp = _sharp_texture(seed)
    if side >= sharp.shape[-1]:
        return sharp
    return F.interpolate(sharp, (side, side), mode="bilinear", antialias=True)


@lru_cache(maxsize=16)
def _sharp_texture(seed, side=128):
    random = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, side, side)
    for cells in (3, 6, 12, 24):
        layer = torch.rand(1, 3, cells, cells, generator=random)
        picture += F.interpolate(layer, (side, side), mode="bicubic") / cells**0.5
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    axis = torch.linspace(-1, 1, side)
    distance = (axis[:, None] ** 2 + axis[None] ** 2).sqrt()
    alpha = ((1 - distance) * side / 4).clamp(0, 1)[None, None]
    return torch.cat([picture * alpha, alpha], 1)


@lru_cache(maxsize=8)
def background(size, seed=99):
    """[H,W,3]: soft colours."""
    random = torch.Generator().manual_seed(seed)
    cells = torch.rand(1, 3, 6, 10, generator=random)
    soft = F.interpolate(cells, (size.height, size.width), mode="bicubic").clamp(0, 1)
    return soft[0].movedim(0, -1) * 0.6 + 0.2


def drawn(paths, size, seeds=None, behind=99):
    """Frames [F,H,W,3] with things on paths; the last thing is nearest.

    Args:
        paths: for each thing [F,3], x and y of its centre and its size; NaN where it is not.
        seeds: of the textures; by default all differ.
        behind: the seed of the background.
    """
    seeds = seeds or range(len(paths))
    frames = torch.empty(len(paths[0]), size.height, size.width, 3)
    for frame, picture in enumerate(frames):
        picture.copy_(background(size, behind))
        for path, seed in zip(paths, seeds, strict=True):
            if not np.isnan(path[frame, 0]):
                _draw(picture, path[frame], seed)
    return frames


def _draw(picture, place, seed):
    """Draw a thing into a picture [H,W,3] in place."""
    x, y, side = place
    height, width, _ = picture.shape
    left, top = max(0, int(x - side)), max(0, int(y - side))
    right, bottom = min(width, int(x + side) + 1), min(height, int(y + side) + 1)
    if right <= left or bottom <= top:
        return
    own_y, own_x = torch.meshgrid(
        torch.arange(top, bottom) + 0.5, torch.arange(left, right) + 0.5, indexing="ij"
    )
    grid = torch.stack([(own_x - x) / (side / 2), (own_y - y) / (side / 2)], -1)[None].float()
    thing = F.grid_sample(
        _texture(seed, max(8, round(float(side)))), grid, mode="bicubic", align_corners=False
    )[0].clamp(0, 1).movedim(0, -1)  # fmt: skip
    part = picture[top:bottom, left:right]
    part.copy_((thing[..., :3] + part * (1 - thing[..., 3:])).clamp(0, 1))


def along(x, y, size):
    """A path [F,3] from its parts; each a number, for FRAMES frames, or [F]."""
    parts = [np.asarray(part, float) for part in (x, y, size)]
    if not any(part.ndim for part in parts):
        parts[0] = np.full(FRAMES, parts[0])
    return np.stack(np.broadcast_arrays(*parts), axis=1)


def jittered(paths, seed=0, jitter=JITTER, dropped=DROPPED, label="face"):
    """The finds of each frame, in an order that tells nothing, and whose each is: {id: thing}."""
    random = np.random.default_rng(seed)
    frames, owners = [], {}
    for frame in range(len(paths[0])):
        finds = []
        for thing, path in enumerate(paths):
            x, y, side = path[frame]
            shifts = random.uniform(-jitter, jitter, 4) * np.nan_to_num(side)
            chance = random.random()
            if np.isnan(x) or chance < dropped:
                continue
            corners = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2]) + shifts
            find = Find(frame, Rect.of_box(tuple(corners.tolist())), label)
            finds.append((thing, find))
        order = random.permutation(len(finds))
        frames.append([finds[place][1] for place in order])
        owners.update({id(find): thing for thing, find in finds})
    return frames, owners


def finder(frames):
    """A finder of finds that are known."""
    return lambda number, _picture: list(frames[number])


def window_jitter(track, path):
    """The distance of the windows' centres from a path [F,3] without its mean: root mean square."""
    frames = [one.frame for one in track.sightings]
    centres = np.array([(one.window.x, one.window.y) for one in track.sightings])
    error = centres - np.asarray(path)[frames, :2]
    error -= error.mean(0)
    return float(np.sqrt((error**2).sum(1).mean()))


FRAME = Size(320, 192)
