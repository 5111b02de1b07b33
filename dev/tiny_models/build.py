"""Makes the small models, and the sampler runs of two or three segments on them."""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from torch import nn

from ...core.backend import SamplerRun
from .specs import Shape, Tiny


def build(name: str, tiny: Tiny) -> Any:
    """A MODEL of the host of that class, with random weights."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        key: 0.1 * torch.randn(shape, generator=generator) for key, shape in tiny.weights.items()
    }

    def made(unet: Mapping[str, Any]) -> nn.Module:
        config = getattr(comfy.supported_models, name.split()[0])(dict(unet))
        config.unet_config.update(unet)  # over the sizes that belong to the class
        config.set_inference_dtype(torch.float32, None)
        with _marked_when_empty(), ExitStack() as stack:
            for path, sizes in tiny.smaller.items():
                part = pkgutil.resolve_name(path)
                stack.enter_context(mock.patch(path, partial(part, **sizes)))
            return config.get_model(weights)

    try:
        model = made({**tiny.unet, **tiny.newer})
    except TypeError:
        if not tiny.newer:
            raise
        model = made(tiny.unet)
    _fill(model, generator)
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval(), device, device)


@contextmanager
def _marked_when_empty() -> Iterator[None]:
    """Memory that is left as it is found holds NaN meanwhile, so that it can be told."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _fill(model: nn.Module, generator: torch.Generator) -> None:
    """Random weights that keep the size of what goes through.

    Those of norms are near one, those of layers fall with the root of the number of inputs.
    """

    def normal(shape: Sequence[int]) -> torch.Tensor:
        return torch.randn(tuple(shape), generator=generator)

    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            if not value.is_floating_point():
                continue
            if name == "weight" and value.ndim > 1:
                new = normal(value.shape) / math.sqrt(value[0].numel())
            elif name == "weight" or name in ("scale", "gamma"):
                new = 1 + 0.1 * normal(value.shape)
            else:
                new = 0.2 * normal(value.shape)
            value.data.copy_(new)
        for _, value in module.named_buffers(recurse=False):
            if value.is_floating_point() and value.isnan().any():
                value.copy_(0.2 * normal(value.shape))


# Sampler runs


@dataclass(frozen=True)
class Way:
    """How segments are sampled.

    Attributes:
        padded: texts end in tokens that the attention mask leaves out, each in another number.
        masked: each segment has a noise mask; the first one's is the same everywhere.
    """

    name: str
    cfg: float = 1.0
    sampler: str = "euler"
    padded: bool = False
    masked: bool = False


WAYS = (
    Way("plain"),
    Way("padded", padded=True),
    Way("guided", cfg=3.0, sampler="euler_ancestral"),
    Way("masked", cfg=3.0, sampler="euler_ancestral", padded=True, masked=True),
)


def runs(model: Any, tiny: Tiny, way: Way, backend: Any) -> list[SamplerRun]:
    """Runs of three segments: two with texts of equal length, then one with a longer text."""
    schedule = backend.sigmas(model, way.sampler, "simple", 6, None)
    negative = conditioning(tiny, 99, tiny.lengths[0])
    short, long = tiny.lengths
    made = []
    for index, tokens in enumerate((short, short, long)):
        generator = torch.Generator().manual_seed(index)
        shape = (1, *tiny.latent)
        mask = torch.rand((1, *shape[-2:]), generator=generator)
        made.append(
            SamplerRun(
                model=model,
                positive=conditioning(tiny, index, tokens, index if way.padded else 0),
                negative=negative,
                cfg=way.cfg,
                sampler_name=way.sampler,
                sigmas=schedule[-3:],
                schedule=schedule,
                seed=100 + 7 * index,
                noise=torch.randn(shape, generator=generator),
                latent=torch.randn(shape, generator=generator) * (not tiny.empty),
                noise_mask=(mask if index else torch.ones_like(mask)) if way.masked else None,
            )
        )
    return made


def conditioning(tiny: Tiny, text: int, tokens: int, padding: int = 0) -> list:
    """What the text encoder and nodes of a family would give for text number `text`.

    Args:
        tokens: how many, with those at the end that are `padding`.
    """
    generator = torch.Generator().manual_seed(1000 + text)

    def filled(name: str, shape: Shape) -> torch.Tensor:
        shape = tuple(tokens if side == -1 else side for side in shape)
        if "attention_mask" in name:
            mask = torch.ones((1, *shape), dtype=torch.long)
            mask[..., shape[-1] - padding :] = 0
            return mask
        if name == "concat_mask":
            return (torch.rand((1, *shape), generator=generator) > 0.5).float()
        if name.endswith("_ids"):
            return torch.randint(100, (1, *shape), generator=generator)
        return torch.randn((1, *shape), generator=generator)

    options = {name: filled(name, shape) for name, shape in tiny.options.items()}
    for name in ("t5xxl_ids", "t5xxl_weights"):
        if name in options:
            options[name] = options[name][0]  # the host gives them without a batch
    if tiny.references:
        options["reference_latents"] = [filled("", shape) for shape in tiny.references]
    if tiny.mask:
        options["attention_mask"] = filled("attention_mask", (tokens,))
    embedding = torch.randn((1, tokens, tiny.width), generator=generator)
    return [[embedding, {"pooled_output": None, **tiny.constants, **options}]]
