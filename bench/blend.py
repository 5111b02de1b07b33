"""Compares methods of pasting: how well they hide the edge, with equal feather.

The results that are pasted are not sampled but made, so that their faults are known: true heads of
the miniature world with a shift of colours, a gradient of light and the grain of a VAE, in an image
that is blurred and grainy. In each column the plain paste is 1:

- seam: energy of the steps from pixel to pixel, around the rim of the mask, that a plain paste of a
  result without faults of colour does not have;
- colour: OKLab distance to that paste around the rim;
- inside: mean squared error to the truth inside the mask, away from its rim;
- time: the time of the paste alone.

    python -m bench.blend
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dev.miniature.world import Degradation, degrade, draw_scene, enlarge

ROOT = Path(__file__).resolve().parent.parent
PACK = "detailers_core"
SIDE = 768  # of the pictures
FEATHER = 5
HOW = Degradation(scale=0.25, blur=0.6, noise=0.02)
RIM = 12  # pixels to either side of the mask's edge that are looked at
KINDS = ("seam", "colour", "inside", "time")


def core(name: str) -> Any:
    """A module of the pack's core, without ComfyUI."""
    if PACK not in sys.modules:
        package = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(PACK, loader=None, is_package=True)
        )
        package.__path__ = [str(ROOT)]
        sys.modules[PACK] = package
    return importlib.import_module(f"{PACK}.core.{name}")


def ways() -> dict[str, Any]:
    """The options that are compared, first the plain paste."""
    settings = core("settings")
    plain = settings.Pasting()
    bands = replace(plain, blend=settings.MULTIBAND)
    matched = replace(plain, colour_match=1.0)
    return {
        "plain feather": plain,
        "kept pixels restored": replace(plain, restore_kept=True),
        "colour match 0.5": replace(plain, colour_match=0.5),
        "colour match 1": matched,
        "multiband": bands,
        "multiband, kept pixels restored": replace(bands, restore_kept=True),
        "multiband, colour match 1": replace(matched, blend=settings.MULTIBAND),
        "all, colour match 0.5": settings.Pasting(settings.MULTIBAND, 0.5, True),
        "all, colour match 1": settings.Pasting(settings.MULTIBAND, 1.0, True),
    }


@dataclass(frozen=True)
class Case:
    """One head: truth, image and result as [1,h,w,3] of the crop, and the mask [1,h,w]."""

    truth: torch.Tensor
    original: torch.Tensor
    result: torch.Tensor
    mask: torch.Tensor
    faultless: torch.Tensor  # the result without what is wrong with its colours


def cases(seed: int) -> list[Case]:
    """The heads of a scene, with made-up results."""
    scene, random = draw_scene(seed), np.random.default_rng(seed)
    truth = scene.picture((SIDE, SIDE))
    image = enlarge(degrade(truth, HOW, random), (SIDE, SIDE))
    made = []
    for index in range(len(scene.characters)):
        x1, y1, x2, y2 = scene.box(index, (SIDE, SIDE))
        half_width, half_height = x2 - x1, y2 - y1  # crop_factor 2
        x, y = (x1 + x2) // 2, (y1 + y2) // 2
        left, top = max(0, x - half_width), max(0, y - half_height)
        part = np.s_[top : y + half_height, left : x + half_width]
        tensors = (
            torch.from_numpy(np.ascontiguousarray(array[part], dtype=np.float32))[None]
            for array in (truth, image, scene.mask(index, (SIDE, SIDE)))
        )
        made.append(_case(*tensors, random))
    return made


def _case(
    truth: torch.Tensor, original: torch.Tensor, mask: torch.Tensor, random: np.random.Generator
) -> Case:
    """A result: the truth in the mask and the image around it, after a VAE.

    In the mask colours are shifted, with a gradient, as by a model that paints another light.
    """
    colour = core("pixels.colour")
    height, width = mask.shape[1:]
    across = torch.linspace(-1, 1, width)[None, None, :, None]
    down = torch.linspace(-1, 1, height)[None, :, None, None]

    def draw(spread: float) -> torch.Tensor:
        return torch.from_numpy(random.normal(0, spread, 3).astype(np.float32))

    light = draw(0.02) + across * draw(0.015) + down * draw(0.015)
    soft = core("pixels.mask").fade(mask, 2)[..., None]
    own = colour.from_oklab(colour.to_oklab(truth) + light).clamp(0, 1)
    seen = torch.lerp(original, own, soft)
    grain = torch.from_numpy(random.normal(0, 0.01, seen.shape).astype(np.float32))
    faultless = (torch.lerp(original, truth, soft) + grain).clamp(0, 1)
    return Case(truth, original, (seen + draw(0.008) + grain).clamp(0, 1), mask, faultless)


def measured(case: Case, options: Any) -> np.ndarray:
    """The KINDS for one case and way of pasting."""
    start = time.perf_counter()
    found = pasted(case, case.result, options)
    seconds = time.perf_counter() - start
    best = pasted(case, case.faultless, core("settings").Pasting())
    return np.array([*_faults(case, found, best), seconds])


def pasted(case: Case, result: torch.Tensor, options: Any) -> torch.Tensor:
    """The crop of an image after pasting a result into it."""
    blend, restore, geometry = core("pixels.blend"), core("pixels.vae_shift"), core("geometry")
    height, width = case.mask.shape[1:]
    box, image = geometry.Box(8, 8, width + 8, height + 8), geometry.Size(width + 16, height + 16)
    canvas = torch.zeros(1, image.height, image.width, 3)
    part = canvas[:, 8:-8, 8:-8]
    part.copy_(case.original)
    blending = blend.Blending(FEATHER, options)
    if options.restore_kept:
        result = restore.restore_kept(result, case.original, case.mask, cell=2)
    blending.paste(canvas, result, blending.weight(case.mask, box, image), box)
    return part


def _faults(case: Case, found: torch.Tensor, best: torch.Tensor) -> tuple[float, float, float]:
    """Seam, colour and inside of a pasted crop, compared with the best possible one."""
    colour, masks = core("pixels.colour"), core("pixels.mask")
    covered = (case.mask >= 0.5).float()
    inner = masks.grow(covered, -RIM)
    rim = (masks.grow(covered, RIM) - inner)[..., None]
    steps = sum(
        (((found - best).diff(dim=axis) ** 2) * rim.narrow(axis, 1, rim.shape[axis] - 1)).sum()
        for axis in (1, 2)
    )
    distance = (colour.to_oklab(found) - colour.to_oklab(best)).norm(dim=-1, keepdim=True)
    error = ((found - case.truth) ** 2 * inner[..., None]).sum() / (3 * inner.sum()).clamp(min=1)
    return float(steps / rim.sum()), float((distance * rim).sum() / rim.sum()), float(error)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.blend", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--scenes", type=int, default=25, help="how many (25)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = [case for seed in range(options.scenes) for case in cases(seed)]
    compared = ways()
    sums = {name: sum(measured(case, own) for case in made) for name, own in compared.items()}
    plain = next(iter(sums.values()))
    milliseconds = 1000 * plain[-1] / len(made)
    print(
        f"{len(made)} heads, feather {FEATHER}; plain feather = 1 ({milliseconds:.1f} ms a head)\n"
    )
    print(f"| way | {' | '.join(KINDS)} |\n| --- |{' ---: |' * len(KINDS)}")
    for name, own in sums.items():
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in own / plain)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
