"""Trains the miniature's diffusion model together with its text encoder; see train.py."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from .codec import Codec
from .crops import SHAPES, Crop, portraits
from .networks import TrainedText, Words, trained_unet
from .noise import as_in_a_detailer, draw_times, left_to_go, signal_share
from .precision import autocast
from .session import Session
from .weights import TEXT, UNET, load_weights, save_weights

SEED = 2_000_000  # of the first training scene; test scenes have seeds below
APART = 500_000  # seeds between those of processes that train together
POOL = 24_000  # latents kept in memory
FIRST = 960  # of them before the first step
FRESH = 2  # new ones per step
BATCH = 32  # of all processes together
CUTS = (20, 24, 28)  # cells along each side of a part of a crop
WHOLE = 0.85  # share of the steps on whole crops
EMPTY = 0.12  # share of rows without a text, for classifier-free guidance
GAMMA = 5.0  # signal-to-noise ratio above which a row's error in the latent weighs no more
_UNUSED = "text_projection.weight"  # of the pooled output, which no UNet of this kind looks at
_FILLERS = ("portrait", "of", "the", "detailed", "face", "picture", "best", "quality", "drawing")


@dataclass(frozen=True)
class Batch:
    """Rows of a training step.

    Attributes:
        truth: latents [B,4,h,w].
        degraded: the same, degraded.
        mask: [B,1,h,w], 0..1, what a detailer would paint anew.
        texts: B captions.
    """

    truth: torch.Tensor
    degraded: torch.Tensor
    mask: torch.Tensor
    texts: list[str]


class Pool:
    """Latents of crops, of the same crops degraded, their masks and captions, by shape.

    A row is [9,h,w]: the truth, the degraded and the mask. The oldest of a shape give way to new
    ones.
    """

    def __init__(self, codec: Codec, first_seed: int, device: torch.device):
        self.codec = codec
        self.device = device
        self.source = portraits(first_seed)
        most = POOL // len(SHAPES)
        self.rows = {shape: deque(maxlen=most) for shape in SHAPES}

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))

    def add(self, count: int) -> None:
        crops = defaultdict(list)
        for crop in islice(self.source, count):
            crops[crop.mask.shape].append(crop)
        for shape, alike in crops.items():
            texts = [crop.text for crop in alike]
            self.rows[shape].extend(zip(self._encode(alike), texts, strict=True))

    def draw(self, random: np.random.Generator, size: int, whole: bool) -> Batch:
        """A batch of crops of one shape; whole ones, or a part of each."""
        counts = np.array([len(rows) for rows in self.rows.values()])
        rows = self.rows[SHAPES[random.choice(len(SHAPES), p=counts / counts.sum())]]
        chosen = [rows[index] for index in random.integers(len(rows), size=size)]
        values = torch.stack([row for row, _ in chosen]).float()
        if not whole:
            height, width = random.choice(CUTS, 2)
            y = random.integers(0, values.shape[2] - height + 1)
            x = random.integers(0, values.shape[3] - width + 1)
            values = values[..., y : y + height, x : x + width]
        truth, degraded, mask = values.to(self.device).split((4, 4, 1), 1)
        return Batch(truth, degraded, mask, [text for _, text in chosen])

    @torch.no_grad()
    def _encode(self, crops: list[Crop]) -> torch.Tensor:
        pixels = np.stack([picture for crop in crops for picture in (crop.pixels, crop.degraded)])
        pixels = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        with autocast(self.device):
            latents = self.codec.encode(pixels.float() / 127.5 - 1)
        masks = torch.from_numpy(np.stack([crop.mask for crop in crops])).half()[:, None]
        latents = latents.unflatten(0, (-1, 2)).flatten(1, 2).half().cpu()
        return torch.cat([latents, masks], 1)


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
    pool = Pool(codec, SEED + session.team.part * APART + session.step * FRESH, session.device)
    for _ in range(FIRST // BATCH):
        pool.add(BATCH)
    session.say(f"{len(pool)} latents")
    signal = signal_share().to(session.device)
    size = BATCH // session.team.parts
    random = np.random.default_rng(session.seed)
    for _ in session.steps():
        pool.add(FRESH)
        batch = pool.draw(random, size, whole=random.random() < WHOLE)
        numbers = words.numbers([vary(text, random) for text in batch.texts]).to(session.device)
        times = draw_times(random, size).to(session.device)
        share = signal[times].view(-1, 1, 1, 1)
        way = left_to_go(times, signal, random).view(-1, 1, 1, 1)
        painted, way = as_in_a_detailer(batch.mask, way, random)
        noisy = share.sqrt() * batch.truth.lerp(batch.degraded, way)
        noisy += (1 - share).sqrt() * torch.randn_like(noisy)
        seen = torch.cat([noisy, painted.round()], 1)
        with session.autocast():
            found = network["unet"](seen, times.float(), context=network["text"](numbers))
        velocity = (share.sqrt() * noisy - batch.truth) / (1 - share).sqrt()
        error = ((found.float() - velocity).square() * painted).mean((1, 2, 3))
        error = error / painted.mean((1, 2, 3)).clamp(min=0.05)
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
    if not session.team.leads:
        return
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
