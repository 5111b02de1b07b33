"""Trains the miniature's autoencoder; see train.py."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from torch.nn.functional import l1_loss, mse_loss

from .codec import Codec
from .crops import mixture
from .session import Session
from .weights import load_codec

SEED = 1_000_000  # of the first training scene; test scenes have seeds below
POOL = 3000  # crops kept in memory
FRESH = 1  # new crops per step
BATCH = 16
PATCH = 128  # pixels along each side of what one step sees of a crop
LATENT_NOISE = 0.05  # share of the latent's spread that the decoder has to tolerate


def train_codec(session: Session, decoder_only: bool = False) -> Codec:
    """Draw crops and reduce the error of the round trip until the session's time is over.

    Args:
        decoder_only: leave the encoder, and with it the meaning of a latent, as it is.
    """
    codec = load_codec() if decoder_only or session.goes_on else Codec()
    codec.to(session.device).train()
    session.start(codec)
    codec.encoder.requires_grad_(not decoder_only)
    codec.decoder.requires_grad_(True)
    source = mixture(SEED + session.step * BATCH)
    pool = np.stack(list(islice(source, POOL)))
    random = np.random.default_rng(session.step)
    oldest = 0
    for _ in session.steps():
        for crop in islice(source, FRESH):
            pool[oldest] = crop
            oldest = (oldest + 1) % POOL
        pixels = torch.from_numpy(_patches(pool, random)).to(session.device)
        with session.autocast():
            latent = codec.encode(pixels)
            spread = latent.detach().float().std()
            result = codec.decode(latent + LATENT_NOISE * spread * torch.randn_like(latent))
        loss, error = _loss(result.float(), pixels, latent.float())
        session.learn(loss)
        session.note(loss=loss, psnr=10 * torch.log10(4 / error), spread=spread)
    return codec


def _patches(pool: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A batch [B,3,PATCH,PATCH], -1..1, of random places in random crops."""
    patches = []
    for index in random.integers(len(pool), size=BATCH):
        y, x = random.integers(0, (pool.shape[1] - PATCH) // 4 + 1, 2) * 4
        patches.append(pool[index, y : y + PATCH, x : x + PATCH])
    return np.stack(patches).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1


def _loss(result: torch.Tensor, truth: torch.Tensor, latent: torch.Tensor):
    """What is minimised, and the mean squared error in it.

    Sharp edges count through the error of the gradients; the latent is kept near mean 0 and
    spread 1, where the UNet's noise schedule expects it.
    """
    error = mse_loss(result, truth)
    edges = sum(l1_loss(result.diff(dim=axis), truth.diff(dim=axis)) for axis in (-1, -2))
    drift = latent.mean((0, 2, 3)).square().mean() + (latent.std((0, 2, 3)) - 1).square().mean()
    return l1_loss(result, truth) + 2 * error + 0.5 * edges + 0.01 * drift, error.detach()
