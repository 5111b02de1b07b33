"""Trains the miniature's diffusion model together with its text encoder; see train.py."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch
from torch import nn

from .codec import Codec
from .crops import Crop, portraits
from .networks import TrainedText, Words, trained_unet
from .noise import draw_times, left_to_go, signal_share
from .session import Session
from .weights import TEXT, UNET, load_weights, save_weights

SEED = 2_000_000  # of the first training scene; test scenes have seeds below
POOL = 24_000  # latents kept in memory
FIRST = 1600  # of them before the first step
FRESH = 2  # new ones per step
BATCH = 24
CUTS = (20, 24, 28)  # cells along each side of a part of a crop
EMPTY = 0.12  # share of rows without a text, for classifier-free guidance
GAMMA = 5.0  # signal-to-noise ratio above which a row's error in the latent weighs no more
_UNUSED = "text_projection.weight"  # of the pooled output, which no UNet of this kind looks at
_FILLERS = ("portrait", "of", "the", "detailed", "face", "picture", "best", "quality", "drawing")


class Pool:
    """Latents of crops, of the same crops degraded, and captions; the oldest give way to new ones.

    A row of `latents` is [2,4,32,32], the truth first.
    """

    def __init__(self, codec: Codec, first_seed: int, device: torch.device):
        self.codec = codec
        self.device = device
        self.source = portraits(first_seed)
        self.latents: list[torch.Tensor] = []
        self.texts: list[str] = []
        self.oldest = 0

    def add(self, count: int) -> None:
        crops = list(islice(self.source, count))
        for latent, crop in zip(self._encode(crops), crops, strict=True):
            if len(self.latents) < POOL:
                self.latents.append(latent)
                self.texts.append(crop.text)
            else:
                self.latents[self.oldest], self.texts[self.oldest] = latent, crop.text
                self.oldest = (self.oldest + 1) % POOL

    def draw(
        self, random: np.random.Generator, whole: bool
    ) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """A batch [B,4,h,w], the same degraded, and captions; whole crops, or a part of each."""
        chosen = random.integers(len(self.latents), size=BATCH)
        latents = torch.stack([self.latents[index] for index in chosen]).float()
        if not whole:
            height, width = random.choice(CUTS, 2)
            y = random.integers(0, latents.shape[3] - height + 1)
            x = random.integers(0, latents.shape[4] - width + 1)
            latents = latents[..., y : y + height, x : x + width]
        truth, degraded = latents.to(self.device).unbind(1)
        return truth, degraded, [self.texts[index] for index in chosen]

    @torch.no_grad()
    def _encode(self, crops: list[Crop]) -> torch.Tensor:
        pixels = np.stack([picture for crop in crops for picture in (crop.pixels, crop.degraded)])
        pixels = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        with torch.autocast(self.device.type, torch.bfloat16):
            latents = self.codec.encode(pixels.float() / 127.5 - 1)
        return latents.unflatten(0, (-1, 2)).half().cpu()


def train_unet(session: Session, codec: Codec) -> None:
    """Learn to tell latents from the noise in them, with Stable Diffusion's noise schedule.

    What the network says is the velocity (Salimans and Ho 2022), from which the latent follows at
    any noise level without enlarging the network's error.
    """
    words = Words()
    network = nn.ModuleDict({"unet": trained_unet(), "text": TrainedText(words.other + 1)})
    if session.goes_on:
        load(network)
    network.to(session.device)
    session.start(network)
    pool = Pool(codec, SEED + session.step * FRESH, session.device)
    for _ in range(FIRST // BATCH):
        pool.add(BATCH)
    session.say(f"{len(pool.latents)} latents, spread {torch.stack(pool.latents).std():.3f}")
    signal = signal_share().to(session.device)
    random = np.random.default_rng(session.step)
    for _ in session.steps():
        pool.add(FRESH)
        # Parts of crops take half the time: more of them at first, whole crops towards the end.
        whole = random.random() < 0.2 + 0.5 * session.progress
        latents, degraded, texts = pool.draw(random, whole)
        numbers = words.numbers([vary(text, random) for text in texts]).to(session.device)
        times = draw_times(random, BATCH).to(session.device)
        share = signal[times].view(-1, 1, 1, 1)
        way = left_to_go(times, signal, random).view(-1, 1, 1, 1)
        noisy = share.sqrt() * latents.lerp(degraded, way)
        noisy += (1 - share).sqrt() * torch.randn_like(latents)
        with session.autocast():
            found = network["unet"](noisy, times.float(), context=network["text"](numbers))
        velocity = (share.sqrt() * noisy - latents) / (1 - share).sqrt()
        error = (found.float() - velocity).square().mean((1, 2, 3))
        ratio = (share / (1 - share)).flatten()
        loss = (error * ((GAMMA + 1) / (ratio + 1)).clamp(max=1)).mean()
        session.learn(loss)
        session.note(loss=loss, error=error.mean())
        if session.step % 1000 == 999:
            save(session)
    save(session)


def load(network: nn.ModuleDict) -> None:
    """Put the project's weights into the network."""
    network["unet"].load_state_dict(load_weights(UNET))
    text = network["text"].model
    text.load_state_dict(load_weights(TEXT) | {_UNUSED: text.text_projection.weight})


def save(session: Session) -> None:
    """Write the averaged weights; the table of words stays as short as it is."""
    parts = {"unet": {}, "text": {}}
    for name, value in session.average.items():
        part, _, rest = name.partition(".")
        parts[part][rest.removeprefix("model.")] = value
    del parts["text"][_UNUSED]
    save_weights(UNET, parts["unet"])
    save_weights(TEXT, parts["text"])


def vary(text: str, random: np.random.Generator) -> str:
    """The caption as somebody else might put it: parts left out, moved, or other words between."""
    if random.random() < EMPTY:
        return ""
    parts = text.split(", ")
    if random.random() < 0.3:
        parts = [part for part in parts if random.random() < 0.75]
    if random.random() < 0.3:
        random.shuffle(parts)
    if random.random() < 0.25:
        for word in random.choice(_FILLERS, random.integers(1, 4)):
            parts.insert(random.integers(len(parts) + 1), str(word))
    return ", ".join(parts)
