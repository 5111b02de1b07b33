"""The pictures of the analytic models, computed independently of pack and host."""

import json
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

# Colours of the models' words, -1..1 as the models see them.
RED = [0.6, -0.6, -0.6]
BLUE = [-0.6, -0.6, 0.6]
GREEN = [-0.6, 0.6, -0.6]

# The same in pixels, 0..1. A model without spread (prior_std 0) gives exactly these.
PIXELS = {
    "red": (0.8, 0.2, 0.2),
    "green": (0.2, 0.8, 0.2),
    "blue": (0.2, 0.2, 0.8),
    "yellow": (0.8, 0.8, 0.2),
    "black": (0.2, 0.2, 0.2),
    "white": (0.8, 0.8, 0.8),
}


def karras(steps, denoise=1.0):
    """SD 1.5's noise levels for the karras schedule, the last `steps` of them and 0."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    levels = np.sqrt((1 - kept) / kept)
    low, high = levels[0] ** (1 / 7), levels[-1] ** (1 / 7)
    sigmas = (high + np.linspace(0, 1, int(steps / denoise)) * (low - high)) ** 7
    return [*sigmas[-steps:], 0.0]


def simple_flow(steps):
    """Levels of the simple schedule for a rectified flow with shift 3."""
    times = [1 - int(i * 1000 / steps) / 1000 for i in range(steps)]
    return [*(3 * time / (1 + 2 * time) for time in times), 0.0]


def euler(x, mean, variance, sigmas, flow=False):
    """What Euler's method makes of the exact denoiser of a Gaussian."""
    for sigma, following in pairwise(sigmas):
        signal = 1 - sigma if flow else 1.0
        gain = signal * variance / (signal**2 * variance + sigma**2)
        denoised = mean + gain * (x - signal * mean)
        x = denoised + (x - denoised) * (following / sigma)
    return x


def rising(sigmas, steps=4):
    """The way up to a noise level, in `steps` steps for each of the schedule's."""
    levels = [sigma + 1e-4 for sigma in reversed(sigmas)]
    between = [a + (b - a) * i / steps for a, b in pairwise(levels) for i in range(steps)]
    return [*between, levels[-1]]


def noise(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).numpy()


def blurred(mask, radius):
    """The feather: a Gaussian of sigma 10 with 2 * radius + 1 pixels, the border mirrored."""
    return gaussian_filter(mask, 10.0, mode="mirror", radius=radius)


def stats(saved):
    """The counters that DetailersTestSave stored beside a value."""
    return json.loads(str(saved["stats"]))
