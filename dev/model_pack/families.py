"""The kinds of model on offer: how each lays a picture out as a latent, and what it samples with.

Every latent here is linear in the pixels, so what a latent holds can be said in pixel colours.
Pixels are -1..1 with the channels first.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from .counters import count


@dataclass(frozen=True)
class Family:
    """One kind of model.

    Attributes:
        ratio: pixels per latent cell along width and height.
        frames: frames per latent step after the first of a video; 0 for an image model.
        chunk: frames of the clips that a video is cut into, each with a first frame of its own; 0
            takes it as one. Of the last one only the first two latent steps are kept.
        lossless: the latent holds every pixel value (space to depth); otherwise four channels, the
            mean red, green and blue of the cell and the mean of these.
        stored: pixel value 1 as the VAE stores it in the latent.
        gain: pixel value 1 as the model sees it, after the latent format's scaling; the noise has
            the model's unit, so a larger gain leaves more of the picture at the same sigma.
        smooth: the prior knows that neighbouring pixels are alike; otherwise each is independent.
        flow: samples as a rectified flow (shift 3); otherwise with SD 1.5's noise schedule.
        sound: channels of a second stream that is sampled along with the picture's; 0 has none.
        inpaint: an inpaint model, which is shown the mask and the latent to be completed.
    """

    ratio: int
    frames: int = 0
    chunk: int = 0
    lossless: bool = True
    stored: float = 1.0
    gain: float = 1.0
    smooth: bool = False
    flow: bool = False
    sound: int = 0
    inpaint: bool = False

    @property
    def channels(self) -> int:
        return 3 * self.ratio**2 * max(self.frames, 1) if self.lossless else 4

    def steps_of(self, length: int) -> int:
        """Latent steps of so many frames."""
        if self.chunk and length > 1:
            return max(1, (length - 5) // self.chunk * self.chunk_steps + 2)
        return (length + self.frames - 1) // self.frames

    def length_of(self, steps: int) -> int:
        """Frames of so many latent steps."""
        if self.chunk:
            return max(1, (steps - 2) // self.chunk_steps * self.chunk + 5)
        return max(0, (steps - 1) * self.frames + 1)

    @property
    def chunk_steps(self) -> int:
        return (self.chunk - 1) // self.frames + 1

    @property
    def scale(self) -> float:
        """The latent format's scale factor."""
        return self.gain / self.stored

    def latent_colour(self, colour: torch.Tensor) -> torch.Tensor:
        """Latent channels [N,C] of cells all of one colour [N,3], in the unit of `colour`."""
        if self.lossless:
            return colour.repeat_interleave(self.channels // 3, dim=1)
        return torch.cat([colour, colour.mean(1, keepdim=True)], 1)

    def rgb_factors(self) -> list[list[float]]:
        """Weights [C][3] that turn a latent cell, as the model sees it, into its mean colour."""
        per_colour = self.channels // 3
        factors = torch.eye(3).repeat_interleave(per_colour, dim=0) / per_colour / self.gain
        return torch.cat([factors, torch.zeros(self.channels - len(factors), 3)]).tolist()


# SD 1.5's latents are stored at 1 / 0.18215 of the size that the model sees.
_POOLED = {"ratio": 8, "lossless": False, "stored": 1 / 0.18215}

FAMILIES = {
    "flat8": Family(**_POOLED),
    "inpaint8": Family(**_POOLED, inpaint=True),
    "image8": Family(ratio=8, gain=16.0, smooth=True),
    "image16": Family(ratio=16, flow=True),
    "image1": Family(ratio=1),
    "video8": Family(ratio=8, frames=4, flow=True),
    "sound8": Family(ratio=8, frames=4, flow=True, sound=2),
    "video17": Family(ratio=8, frames=4, chunk=17, flow=True),
}


class Codec(torch.nn.Module):
    """The network of a VAE: pixels to latent and back, exactly where the family is lossless.

    Images are [B,3,H,W] and [B,C,h,w]. Videos are [B,3,F,H,W] and [B,C,T,h,w], causal as the
    host's video models have them: latent step 0 holds frame 0 alone, step t the `frames` frames up
    to frame t * frames; frames that do not fill a step are dropped.
    """

    def __init__(self, family: Family):
        super().__init__()
        self.family = family
        self.register_buffer("size", torch.zeros(1))  # the host asks a model for its size

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        count(encode_calls=1, encode_rows=pixels.shape[0])
        family = self.family
        if family.chunk and pixels.shape[2] > 1:
            latent = _fold_chunks(pixels, family)
        elif family.frames:
            latent = _fold_frames(pixels, family.ratio, family.frames)
        elif family.lossless:
            latent = pixel_unshuffle(pixels, family.ratio)
        else:
            latent = avg_pool2d(pixels, family.ratio)
            latent = torch.cat([latent, latent.mean(1, keepdim=True)], 1)
        return latent * family.stored

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        count(decode_calls=1, decode_rows=latent.shape[0])
        family = self.family
        latent = latent / family.stored
        if family.chunk and latent.shape[2] > 1:
            return _unfold_chunks(latent, family)
        if family.frames:
            return _unfold_frames(latent, family.ratio, family.frames)
        if family.lossless:
            return pixel_shuffle(latent, family.ratio)
        return interpolate(latent[:, :3], scale_factor=family.ratio, mode="bilinear")


def _fold_frames(pixels: torch.Tensor, ratio: int, frames: int) -> torch.Tensor:
    steps = (pixels.shape[2] - 1) // frames
    first = pixels[:, :, :1].expand(-1, -1, frames, -1, -1)  # fills its step with itself
    pixels = torch.cat([first, pixels[:, :, 1 : 1 + steps * frames]], 2)
    b, c, _, h, w = pixels.shape
    cells = pixels.reshape(b, c, steps + 1, frames, h // ratio, ratio, w // ratio, ratio)
    return cells.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def _unfold_frames(latent: torch.Tensor, ratio: int, frames: int) -> torch.Tensor:
    b, _, t, h, w = latent.shape
    cells = latent.reshape(b, 3, frames, ratio, ratio, t, h, w)
    pixels = cells.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, 3, t * frames, h * ratio, w * ratio)
    return pixels[:, :, frames - 1 :]


def _fold_chunks(pixels: torch.Tensor, family: Family) -> torch.Tensor:
    missing = -pixels.shape[2] % family.chunk
    pixels = torch.cat([pixels, pixels[:, :, -1:].expand(-1, -1, missing, -1, -1)], 2)
    chunks = pixels.split(family.chunk, 2)
    latent = torch.cat([_fold_frames(chunk, family.ratio, family.frames) for chunk in chunks], 2)
    return latent[:, :, : latent.shape[2] - family.chunk_steps + 2]


def _unfold_chunks(latent: torch.Tensor, family: Family) -> torch.Tensor:
    length = family.length_of(latent.shape[2])
    chunks = latent.split(family.chunk_steps, 2)
    pixels = [_unfold_frames(chunk, family.ratio, family.frames) for chunk in chunks]
    return torch.cat(pixels, 2)[:, :, :length]
