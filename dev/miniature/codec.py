"""The miniature's autoencoder: 8 x 8 pixels to one latent cell of four channels.

Convolutions on folded pixels: most of the work is done at an eighth and a quarter of the size,
which a CPU can train. There is no normalisation, so a cell depends on its neighbourhood alone.
Pixels are [B,3,H,W], -1..1, with sides that are multiples of 8; latents [B,4,H/8,W/8].
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

RATIO = 8
CHANNELS = 4
_FINE, _MIDDLE, _COARSE = 32, 64, 128  # widths at a half, a quarter and an eighth of the size


class Residual(nn.Module):
    """Two convolutions beside a way straight through, which is all there is at the start."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(silu(self.first(silu(x))))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(3 * 16, _MIDDLE, 3, padding=1)
        self.middle = Residual(_MIDDLE)
        self.down = nn.Conv2d(_MIDDLE, _COARSE, 4, stride=2, padding=1)
        self.coarse = Residual(_COARSE)
        self.leave = nn.Conv2d(_COARSE, CHANNELS, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.middle(self.enter(pixel_unshuffle(pixels, 4)))
        return self.leave(self.coarse(self.down(x)))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(CHANNELS, _COARSE, 3, padding=1)
        self.coarse = nn.Sequential(Residual(_COARSE), Residual(_COARSE))
        self.to_middle = nn.Conv2d(_COARSE, 4 * _MIDDLE, 3, padding=1)
        self.middle = nn.Sequential(Residual(_MIDDLE), Residual(_MIDDLE))
        self.to_fine = nn.Conv2d(_MIDDLE, 4 * _FINE, 3, padding=1)
        self.fine = Residual(_FINE)
        self.leave = nn.Conv2d(_FINE, 4 * 3, 3, padding=1)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        x = self.coarse(self.enter(latent))
        x = self.middle(pixel_shuffle(self.to_middle(x), 2))
        x = self.fine(pixel_shuffle(self.to_fine(x), 2))
        return pixel_shuffle(self.leave(silu(x)), 2)


class Codec(nn.Module):
    """Encoder and decoder with the two methods that the host's VAE calls."""

    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.encoder(pixels)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.decoder(latent)
