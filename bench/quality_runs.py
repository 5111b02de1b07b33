"""Runs of the quality bench: all cases on all scenes, several scenes at a time.

Each process has the host, the pack and the miniature loaded, and works on one scene after another;
a scene is drawn once for all cases.
"""

from __future__ import annotations

import copy
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from scipy.ndimage import maximum_filter

from dev import metrics
from dev.miniature.cast import another_day, reference_picture
from dev.miniature.detailing import SETTINGS
from dev.miniature.look import Look
from dev.miniature.people import EMBEDDER

from .in_host import load, part
from .quality_tables import Head, Measures, Outcome, table
from .scenes import USUAL, Kind, TestScene, make_scene

BASE = SETTINGS | {
    "seed": 0, "feather": 5, "noise_mask": True, "force_inpaint": True, "cycle": 1,
    "detail_batch": 0,
}  # fmt: skip
CONTRAST, TINT = 0.92, (0.03, 0.0, -0.03)  # of a VAE that shifts colours
BLUR = 0.9  # pixels, standard deviation of what a blurring VAE takes off
MARGIN = 0.2  # around a head, as Label SEGS by Person has it at first
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
        recognised: also tell likeness and attributes, which takes longer than all other measures.
        drawn: also tell what becomes of the VAE's loss alone; see `levels_to_drawn`.
    """

    name: str
    widgets: dict[str, Any] = field(default_factory=dict)
    kind: Kind = USUAL
    truth: bool = False
    vae: str = USUAL_VAE
    recognised: bool = True
    drawn: bool = False

    @property
    def inputs(self) -> dict[str, Any]:
        return BASE | self.widgets

    @property
    def key(self) -> str:
        """A key that is equal for cases that do the same, even with different names."""
        return json.dumps(
            (self.inputs, repr(self.kind), self.truth, self.vae, self.recognised, self.drawn)
        )


def pasting(**changed: Any) -> dict[str, Any]:
    """The widgets of a case: Paste Options with these changes only."""
    plain = {"color_match": 0.0, "restore_unmasked": False, "fade_at_border": False}
    return {"paste_options": {"node": "DetailersPasteOptions", "inputs": plain | changed}}


@dataclass(frozen=True)
class Part:
    """A table and the text above it."""

    text: str
    first: str  # heading of the first column
    cases: tuple[Case, ...]


@dataclass
class Measured:
    """A case on one scene."""

    heads: list[Head]
    outside: float  # largest change of a value outside the masks and their feather
    seconds: float  # of the processor, in the detailer
    drawn: list[float] = field(default_factory=list)  # PSNR of each crop to what was drawn, in dB


class Runs:
    """Processes that measure scenes; close it when done."""

    def __init__(self, tree: Path, jobs: int):
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(jobs, context, _start, (tree,))

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: Any) -> None:
        self.pool.shutdown(cancel_futures=True)

    def measure(
        self, cases: Sequence[Case], seeds: Sequence[int], once: bool = False
    ) -> list[Outcome]:
        """An outcome for each case, over all scenes.

        Args:
            once: cases that differ only in what comes after the sampler share its results, and
                their seconds are without it. Needed where a case asks for what was drawn.
        """
        distinct = {case.key: case for case in reversed(cases)}
        wanted = list(distinct.values())
        many = len(seeds)
        scenes = list(self.pool.map(_measure_scene, seeds, [wanted] * many, [once] * many))
        found = {}
        for index, key in enumerate(distinct):
            own = [scene[index] for scene in scenes]
            found[key] = (
                [head for measured in own for head in measured.heads],
                max(measured.outside for measured in own),
                sum(measured.seconds for measured in own),
                [level for measured in own for level in measured.drawn],
            )
        return [Outcome(case.name, *found[case.key]) for case in cases]

    def tables(
        self, parts: Sequence[Part], seeds: Sequence[int], once: bool = False
    ) -> Iterator[str]:
        """The text and the table of each part; see `measure`."""
        found = iter(self.measure([case for own in parts for case in own.cases], seeds, once))
        for own in parts:
            yield own.text
            yield table([next(found) for _ in own.cases], own.first)

    def each(self, function: Callable[[Bench, int], Any], seeds: Sequence[int]) -> Iterable[Any]:
        """What a function of a module gives for each scene."""
        return self.pool.map(_on_the_bench, [function] * len(seeds), seeds)

    def one_by_one(self, seeds: Sequence[int]) -> float:
        """The largest difference of a value between results in waves and one by one."""
        return max(self.pool.map(_waves_against_alone, seeds))

    def detailed(self, seed: int) -> np.ndarray:
        """The scene's picture after detailing with BASE: [H,W,3]."""
        return self.pool.submit(_detailed, seed).result()


_bench: Bench


def _start(tree: Path) -> None:
    global _bench
    _bench = Bench(tree)


def _measure_scene(seed: int, cases: Sequence[Case], once: bool) -> list[Measured]:
    if not once:
        return [_bench.measure(case, seed) for case in cases]
    samples = Samples()
    return [samples.measure(_bench, case, seed) for case in cases]


class Samples:
    """Results of the sampler for a scene, which cases share that differ only in what follows.

    Where segments overlap, crops of later ones hold what was pasted before, and differ a little
    from case to case. They too get the results of the first case.
    """

    def __init__(self):
        self._backend = part("host.backend").ComfyBackend
        self._sample = self._backend.sample
        self._kept: dict[tuple, torch.Tensor] = {}
        self._drawn: dict[tuple, list[dict[str, float]]] = {}
        self._seconds = 0.0

    def measure(self, bench: Bench, case: Case, seed: int) -> Measured:
        """Measure a case of the scene; its seconds are without the sampler."""
        before = {name: own for name, own in case.inputs.items() if name != "paste_options"}
        key = json.dumps(before), case.kind
        self._seconds = 0.0
        with self._sharing(key):
            measured = bench.measure(case, seed)
        seconds = measured.seconds - self._seconds
        drawn = self._to_drawn(key, bench, case, seed) if case.drawn else []
        return replace(measured, seconds=seconds, drawn=drawn)

    @contextmanager
    def _sharing(self, key: tuple) -> Iterator[None]:
        with patch.object(self._backend, "sample", lambda *args: self._once(key, *args)):
            yield

    def _once(self, key: tuple, backend: Any, run: Any, on_step: Any) -> torch.Tensor:
        started = time.process_time()
        noise = run.noise.cpu().contiguous().numpy().tobytes()  # every segment has its own
        key = (*key, run.number, sha256(noise).hexdigest())
        if key not in self._kept:
            self._kept[key] = self._sample(backend, run, on_step)
        self._seconds += time.process_time() - started
        return self._kept[key].clone()

    def _to_drawn(self, key: tuple, bench: Bench, case: Case, seed: int) -> list[float]:
        """The PSNR of each crop to what was drawn, in dB."""
        own = (*key, case.vae)
        if own not in self._drawn:
            with self._sharing(key):
                self._drawn[own] = levels_to_drawn(bench, case, make_scene(seed, case.kind))
        way = case.widgets["paste_options"]["inputs"]["vae_loss"]
        return [levels[way] for levels in self._drawn[own]]


def levels_to_drawn(bench: Bench, case: Case, test: TestScene) -> list[dict[str, float]]:
    """What becomes of the loss of a case's VAE alone, whomever the model draws.

    The picture that the usual VAE decodes is taken as drawn, the crop as it comes back from that
    VAE as the original, and the case's VAE works on both.

    Returns:
        For each crop, before it is pasted, the PSNR inside its mask by each way of Paste Options'
        `vae_loss`, in dB.
    """
    pipeline, names = part("detail.crop_pipeline"), part("settings")
    inputs = case.inputs | pasting(vae_loss=names.AUTO)
    known: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}
    levels = []

    def drawn(own: Any, result: torch.Tensor, decoded: torch.Tensor, _: slice) -> torch.Tensor:
        known[own.crop.job.region] = result.clone(), decoded
        return result

    def compared(own: Any, result: torch.Tensor, decoded: torch.Tensor, _: slice) -> torch.Tensor:
        wanted, original = known[own.crop.job.region]
        found = {names.OFF: result} | {
            way: pipeline.compensated(result, original, decoded, way, own._cell)
            for way in (names.RESIDUAL, names.AUTO)
        }
        true, mask = wanted[0].numpy(), own.crop.mask[0].numpy()
        levels.append({way: metrics.psnr(own[0].numpy(), true, mask) for way, own in found.items()})
        return wanted  # so that later crops over this one are the same with both VAEs

    for vae, seen in ((USUAL_VAE, drawn), (case.vae, compared)):
        with patch.object(pipeline.CropPipeline, "_compensated", seen):
            bench.detail(test, inputs, vae)
    return levels


def _on_the_bench(function: Callable[[Bench, int], Any], seed: int) -> Any:
    return function(_bench, seed)


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
        self.embedder = part("detectors.embedder").OnnxEmbedder(EMBEDDER)
        self.people = part("segs.people")
        self._untouched = lru_cache(maxsize=16)(self._measured_untouched)
        self._known = lru_cache(maxsize=16)(self._persons_of_a_scene)

    def measure(self, case: Case, seed: int) -> Measured:
        test = make_scene(seed, case.kind)
        started = time.process_time()
        after = self.paste_truth(test) if case.truth else self.detail(test, case.inputs, case.vae)
        seconds = time.process_time() - started
        reach = 2 * case.inputs["feather"] + 1
        touched = maximum_filter(np.maximum.reduce(test.masks), reach) > 0
        before, lanczos, truth = self._untouched(seed, case.kind, case.recognised)
        seen = zip(before, lanczos, self.seen(test, after, case.recognised), truth, strict=True)
        heads = [Head(seed, index, four) for index, four in enumerate(seen)]
        return Measured(heads, metrics.change_outside(test.before, after, touched), seconds)

    def _measured_untouched(
        self, seed: int, kind: Kind, recognised: bool
    ) -> tuple[list[Measures], ...]:
        """The heads of a scene before detailing, enlarged with Lanczos, and in truth."""
        test = make_scene(seed, kind)
        pictures = (test.before, test.lanczos, test.truth)
        return tuple(self.seen(test, own, recognised) for own in pictures)

    def seen(self, test: TestScene, picture: np.ndarray, recognised: bool = True) -> list[Measures]:
        """The measures of each head in a picture [H,W,3]; see `Case` for `recognised`."""
        likeness = self._likeness(test, picture) if recognised else [math.nan] * len(test.masks)
        return [
            Measures(
                *(test.measured(measure, index, picture) for measure in MEASURES),
                own, test.looks_like(index, picture) if recognised else {},
            )
            for index, own in enumerate(likeness)
        ]  # fmt: skip

    @torch.inference_mode()
    def _likeness(self, test: TestScene, picture: np.ndarray) -> list[float]:
        """How alike each head is to a sharp picture of its person on another day."""
        persons = self._known(test.seed, tuple(own.look for own in test.scene.characters))
        _, found, _ = self.people.label_by_person(
            self.segs(test), torch.from_numpy(picture)[None], persons, self.embedder,
            self.people.Naming(0.0, "", MARGIN),
        )  # fmt: skip
        return [one.scores[number] for number, one in enumerate(found)]

    def _persons_of_a_scene(self, seed: int, looks: Sequence[Look]) -> Any:
        names = [str(number) for number in range(len(looks))]
        return self.persons(looks, names, np.random.default_rng([seed, 10]))

    def persons(
        self, looks: Sequence[Look], names: Sequence[str], random: np.random.Generator
    ) -> Any:
        """Persons by a sharp picture of each, with another expression and another shirt."""
        references = np.stack([reference_picture(another_day(look, random)) for look in looks])
        return self.people.Persons(torch.from_numpy(references), names, [None] * len(names))

    @torch.inference_mode()
    def detail(self, test: TestScene, widgets: dict[str, Any], vae: str = USUAL_VAE) -> np.ndarray:
        """The picture that Detailer (SEGS) makes: [H,W,3]."""
        return self.detailed(test, self.segs(test), widgets, test.text, vae)

    @torch.inference_mode()
    def detailed(
        self, test: TestScene, segs: tuple, widgets: dict[str, Any], text: str,
        vae: str = USUAL_VAE,
    ) -> np.ndarray:  # fmt: skip
        """The picture that Detailer (SEGS) makes with these segments and their text: [H,W,3]."""
        inputs = {name: self._value(value, test) for name, value in widgets.items()}
        links = self.links(test.before, segs, vae)
        (result,) = self._run("DetailerForEach", **links, wildcard=text, **inputs)
        return result[0].numpy()

    def links(self, picture: np.ndarray, segs: tuple, vae: str = USUAL_VAE) -> dict[str, Any]:
        """The inputs of Detailer (SEGS) from other nodes, for a picture [H,W,3]."""
        return {
            "image": torch.from_numpy(picture)[None], "segs": segs, "model": self.model,
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
        return self.segs_of(test.masks, test.kind.crop_factor)

    def segs_of(self, masks: Sequence[np.ndarray], crop_factor: float) -> tuple:
        """A segment for each mask [H,W]."""
        found = [
            self._run(
                "MaskToSEGS", mask=torch.from_numpy(mask)[None], combined=False,
                crop_factor=crop_factor, bbox_fill=False, drop_size=1, contour_fill=True,
            )[0]
            for mask in masks
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
