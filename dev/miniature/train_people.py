"""Trains the network that tells people apart; see train.py.

It learns as networks of face recognition do: each person has a direction, and a picture's vector
has to be nearer to that of its person than to all others, by a margin (Wang et al. 2018, CosFace).
Beside that, each attribute has to be read from the vector, which teaches it what to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear, normalize

from .crops import head_window
from .look import PHRASES
from .people import LENGTH, PEOPLE, PERSON, SIZE, PersonNet, person_of, values_of
from .session import Session
from .world import Degradation, degrade, draw_scene

SEED = 3_000_000  # of the first training scene
STORED = 96  # pixels along each side of a picture in memory
POOL = 8_000  # pictures in memory
FRESH = 3  # new ones for each step
BATCH = 64
TIMES, OFF = (1.05, 1.75), 0.06  # of a window, as a detector's box with a margin has them
CLEAN = 0.2  # share of the rows that are not made poor
SCALE, MARGIN = 16.0, 0.2  # of the cosines, and by how much the right one has to lead


@dataclass(frozen=True)
class Picture:
    """A head.

    Attributes:
        pixels: [STORED,STORED,3] uint8.
        side: scene units that it shows along each side.
        values: of `values_of`.
    """

    pixels: np.ndarray
    side: float
    values: list[int]


class Taught(nn.Module):
    """The network with what only the training needs."""

    def __init__(self):
        super().__init__()
        self.network = PersonNet()
        self.leave_people = nn.Parameter(torch.randn(PEOPLE, LENGTH))
        self.leave_values = nn.ModuleList(nn.Linear(LENGTH, len(PHRASES[name])) for name in PERSON)


def train_people(session: Session) -> PersonNet:
    """Train until the session's time is over."""
    taught = Taught().to(session.device, memory_format=torch.channels_last).train()
    session.start(taught)
    source = pictures(SEED + session.step)
    pool = list(islice(source, POOL))
    random = np.random.default_rng(session.step)
    oldest = 0
    for _ in session.steps():
        for picture in islice(source, FRESH):
            pool[oldest] = picture
            oldest = (oldest + 1) % POOL
        rows = [pool[index] for index in random.integers(len(pool), size=BATCH)]
        pixels = np.stack([_seen(row, random) for row in rows]).transpose(0, 3, 1, 2)
        values = torch.tensor([row.values for row in rows], device=session.device)
        people = torch.tensor([person_of(row.values) for row in rows], device=session.device)
        with session.autocast():
            vectors = taught.network(torch.from_numpy(pixels).to(session.device)).float()
        cosines = linear(normalize(vectors), normalize(taught.leave_people))
        right = nn.functional.one_hot(people, PEOPLE)
        loss = cross_entropy(SCALE * (cosines - MARGIN * right), people)
        of_each = [
            cross_entropy(head(vectors), values[:, i]) for i, head in enumerate(taught.leave_values)
        ]
        session.learn(loss + sum(of_each))
        session.note(
            loss=loss,
            values=sum(of_each),
            right=(cosines.argmax(1) == people).float().mean(),
        )
    taught.load_state_dict(session.average)
    return taught.network.eval()


def pictures(first_seed: int, per_character: int = 4) -> Iterator[Picture]:
    """The heads of the scenes from `first_seed` on, without an end."""
    seed = first_seed
    while True:
        scene = draw_scene(seed)
        random = np.random.default_rng([seed, 4])
        for index, character in enumerate(scene.characters):
            for _ in range(per_character):
                window = head_window(scene, index, random, TIMES, OFF)
                pixels = np.round(scene.picture((STORED, STORED), window) * 255).astype(np.uint8)
                yield Picture(pixels, window[2] - window[0], values_of(character.look))
        seed += 1


def _seen(picture: Picture, random: np.random.Generator) -> np.ndarray:
    """[SIZE,SIZE,3] float32: the picture as it is, or made poor, and sometimes mirrored."""
    pixels = picture.pixels[:, ::-1] if random.random() < 0.5 else picture.pixels
    pixels = np.ascontiguousarray(pixels).astype(np.float32) / 255
    if random.random() >= CLEAN:
        share = picture.side * random.uniform(0.13, 0.26) / STORED
        how = Degradation(min(1.0, share), random.uniform(0.4, 1.0), random.uniform(0.01, 0.06))
        pixels = degrade(pixels, how, random)
    smaller = len(pixels) > SIZE
    kind = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.clip(cv2.resize(pixels, (SIZE, SIZE), interpolation=kind), 0, 1)
