"""Runs of the quality bench: all cases on all scenes, several scenes at a time.

Each process has the host, the pack and the miniature loaded, and works on one scene after another;
a scene is drawn once for all cases.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.ndimage import maximum_filter

from dev import metrics
from dev.miniature.detailing import SETTINGS

from .gpu import load
from .quality_tables import Head, Outcome
from .scenes import USUAL, Kind, TestScene, make_scene, right_attributes

BASE = SETTINGS | {
    "seed": 0, "feather": 5, "noise_mask": True, "force_inpaint": True, "cycle": 1,
    "detail_batch": 0,
}  # fmt: skip
CONTRAST, TINT = 0.92, (0.03, 0.0, -0.03)  # of a VAE that shifts colours
BLUR = 0.9  # pixels, standard deviation of what a blurring VAE takes off
USUAL_VAE, TINTING, BLURRING = "usual", "tinting", "blurring"


@dataclass(frozen=True)
class Case:
    """A row of a table.

    Attributes:
        widgets: inputs of Detailer (SEGS) that differ from BASE. An input from another node is
            {"node": ID, "inputs": {...}}; a known fact of the scene is {"known": "landmarks"}.
        truth: paste the truth itself instead of detailing.
        vae: USUAL_VAE. TINTING changes the colours of all decoded pixels by TINT, BLURRING blurs
            them by BLUR.
    """

    name: str
    widgets: dict[str, Any] = field(default_factory=dict)
    kind: Kind = USUAL
    truth: bool = False
    vae: str = USUAL_VAE

    @property
    def inputs(self) -> dict[str, Any]:
        return BASE | self.widgets

    @property
    def key(self) -> str:
        """A key that is equal for cases that do the same, even with different names."""
        return json.dumps((self.inputs, repr(self.kind), self.truth, self.vae))


@dataclass
class Measured:
    """A case on one scene."""

    heads: list[Head]
    outside: float  # largest change of a value outside the masks and their feather
    seconds: float  # of the processor, in the detailer


class Runs:
    """Processes that measure scenes; close it when done."""

    def __init__(self, tree: Path, jobs: int, threads: int):
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(jobs, context, _start, (tree, threads))

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: Any) -> None:
        self.pool.shutdown(cancel_futures=True)

    def measure(
        self, cases: Sequence[Case], seeds: Sequence[int], attributes: str = ""
    ) -> list[Outcome]:
        """An outcome for each case, over all scenes.

        Args:
            attributes: name of the case for which the attributes of heads are measured.
        """
        distinct = {case.key: case for case in reversed(cases)}
        wanted = [(case, case.name == attributes) for case in distinct.values()]
        scenes = list(self.pool.map(_measure_scene, seeds, [wanted] * len(seeds)))
        found = {}
        for index, key in enumerate(distinct):
            own = [scene[index] for scene in scenes]
            found[key] = (
                [head for measured in own for head in measured.heads],
                max(measured.outside for measured in own),
                sum(measured.seconds for measured in own),
            )
        return [Outcome(case.name, *found[case.key]) for case in cases]

    def one_by_one(self, seeds: Sequence[int]) -> float:
        """The largest difference of a value between results in waves and one by one."""
        return max(self.pool.map(_waves_against_alone, seeds))

    def detailed(self, seed: int) -> np.ndarray:
        """The scene's picture after detailing with BASE: [H,W,3]."""
        return self.pool.submit(_detailed, seed).result()


_bench: Bench


def _start(tree: Path, threads: int) -> None:
    global _bench
    torch.set_num_threads(threads)
    _bench = Bench(tree)


def _measure_scene(seed: int, cases: Sequence[tuple[Case, bool]]) -> list[Measured]:
    return [_bench.measure(case, seed, attributes) for case, attributes in cases]


def _waves_against_alone(seed: int) -> float:
    test = make_scene(seed)
    waves, alone = (_bench.detail(test, BASE | {"detail_batch": batch}) for batch in (0, 1))
    return float(np.abs(waves - alone).max())


def _detailed(seed: int) -> np.ndarray:
    return _bench.detail(make_scene(seed), BASE)


class Bench:
    """The host, the pack and the miniature, loaded once."""

    def __init__(self, tree: Path):
        self.nodes = load(tree, cpu=not torch.cuda.is_available()).NODE_CLASS_MAPPINGS
        from dev.miniature.nodes import DetailersMiniatureLoader

        self.model, self.clip, self.vae = DetailersMiniatureLoader().run()
        self.vaes = {
            USUAL_VAE: self.vae,
            TINTING: _changed(self.vae, _tinted),
            BLURRING: _changed(self.vae, _blurred),
        }
        self.empty = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))

    def measure(self, case: Case, seed: int, attributes: bool) -> Measured:
        test = make_scene(seed, case.kind)
        started = time.process_time()
        after = self.paste_truth(test) if case.truth else self.detail(test, case.inputs, case.vae)
        seconds = time.process_time() - started
        reach = 2 * case.inputs["feather"] + 1
        touched = maximum_filter(np.maximum.reduce(test.masks), reach) > 0
        heads = [_measure_head(test, index, after, attributes) for index in range(len(test.masks))]
        return Measured(heads, metrics.change_outside(test.before, after, touched), seconds)

    @torch.inference_mode()
    def detail(self, test: TestScene, widgets: dict[str, Any], vae: str = USUAL_VAE) -> np.ndarray:
        """The picture that Detailer (SEGS) makes: [H,W,3]."""
        inputs = {name: self._value(value, test) for name, value in widgets.items()}
        links = self.links(test, self.segs(test), vae)
        (result,) = self._run("DetailerForEach", **links, wildcard=test.text, **inputs)
        return result[0].numpy()

    def links(self, test: TestScene, segs: tuple, vae: str = USUAL_VAE) -> dict[str, Any]:
        """The inputs of Detailer (SEGS) from other nodes, for a scene's poor picture."""
        return {
            "image": torch.from_numpy(test.before)[None], "segs": segs, "model": self.model,
            "clip": self.clip, "vae": self.vaes[vae], "positive": self.empty,
            "negative": self.empty,
        }  # fmt: skip

    @torch.inference_mode()
    def paste_truth(self, test: TestScene) -> np.ndarray:
        """The result of a model that always draws the truth: [H,W,3]."""
        image, truth = (torch.from_numpy(picture)[None] for picture in (test.before, test.truth))
        (result,) = self._run(
            "SEGSPaste", image=image, segs=self.segs(test), feather=BASE["feather"],
            ref_image_opt=truth,
        )  # fmt: skip
        return result[0].numpy()

    def segs(self, test: TestScene) -> tuple:
        """A segment for each head, in the order of the captions."""
        found = [
            self._run(
                "MaskToSEGS", mask=torch.from_numpy(mask)[None], combined=False,
                crop_factor=test.kind.crop_factor, bbox_fill=False, drop_size=1, contour_fill=True,
            )[0]
            for mask in test.masks
        ]  # fmt: skip
        return found[0][0], [seg for _, segs in found for seg in segs]

    def _run(self, node: str, **inputs: Any) -> tuple:
        kind = self.nodes[node]
        return getattr(kind(), kind.FUNCTION)(**inputs)

    def _value(self, value: Any, test: TestScene) -> Any:
        """The value for an input; widgets of a node before it have their defaults unless given."""
        if isinstance(value, dict) and "known" in value:
            return getattr(test, value["known"])
        if isinstance(value, dict) and "node" in value:
            groups = self.nodes[value["node"]].INPUT_TYPES()
            declared = {
                name: given
                for group in groups.values()
                for name, given in group.items()
                if len(given) > 1 and "default" in given[1]
            }
            inputs = {name: options["default"] for name, (_, options) in declared.items()}
            inputs |= {
                name: self._value(given, test) for name, given in value.get("inputs", {}).items()
            }
            return self._run(value["node"], **inputs)[0]
        return value


def _changed(vae: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The VAE with a change of the pixels [N,H,W,3] that it decodes."""
    changed = copy.copy(vae)
    changed.decode = lambda *args, **kwargs: change(vae.decode(*args, **kwargs))
    return changed


def _tinted(pixels: torch.Tensor) -> torch.Tensor:
    return (0.5 + CONTRAST * (pixels - 0.5) + pixels.new_tensor(TINT)).clamp(0, 1)


def _blurred(pixels: torch.Tensor) -> torch.Tensor:
    rows = [cv2.GaussianBlur(row.numpy(), (0, 0), BLUR) for row in pixels.cpu()]
    return torch.from_numpy(np.stack(rows)).to(pixels)


MEASURES = (metrics.psnr, metrics.ssim, metrics.seam_energy, metrics.rim_colour)


def _measure_head(test: TestScene, index: int, after: np.ndarray, attributes: bool) -> Head:
    before, lanczos = _untouched(test.seed, test.kind, index)
    three = zip(before, lanczos, _measured(test, index, after), strict=True)
    right = None
    if attributes:
        right = right_attributes(test, index, (test.before, after, test.truth))
    return Head(test.seed, index, *three, right)


@lru_cache(maxsize=64)
def _untouched(seed: int, kind: Kind, index: int) -> tuple[list[float], list[float]]:
    """The measures of a head before detailing: as it is, and enlarged with Lanczos."""
    test = make_scene(seed, kind)
    return _measured(test, index, test.before), _measured(test, index, test.lanczos)


def _measured(test: TestScene, index: int, picture: np.ndarray) -> list[float]:
    return [test.measured(measure, index, picture) for measure in MEASURES]
