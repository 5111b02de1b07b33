"""The report of a run: a JSON text with a versioned schema.

Every crop has a `Record` for facts that are only known while it is sampled. At the end of the run,
`RunReport` combines the records with the plans, the settings and the costs.

Schema `detailers.report`, version 1. Sizes are [width, height] and boxes [x1, y1, x2, y2] in
pixels, times in seconds, memory in bytes. Unknown values are null.

    schema, version   "detailers.report", 1
    pack              {"version"} of this pack
    host              {"name", "version", "torch", "device"}
    images            {"count", "size"}: the node's images, or the frames of its clip
    settings          of the node: see `settings_of`; a segment's own stand with it
    segments          one entry for each segment and image (and version), in working order
    waves             segments worked on side by side: {"wave", "segments", "calls"}, each call
                      of a sampler {"segments", "model_calls"}; segments are places in `segments`
    times             {"total", "stages": {stage: seconds}}, the stages of `core/timing.py`, which
                      are together the whole
    counts            {"sampled", "skipped", "failed", "retries", "sampler_calls", "model_calls"}
    memory            {"device", "used", "reserved"}: the most at any time, see `MemoryUse`
    notes             [{"kind", "text"}]: all notes of the node

Of a segment:

    index             its number among the segments of its image, as texts and messages count
    variant           which of its variants; the first, 0, is the one that is pasted
    image, version    which image of the batch, and which run of all of them, from 0
    label, confidence, bbox, crop_region    as in the SEGS
    place             [image, number among its segments]: by it a rule of a segment plan finds it
    status            "done", "failed" or "skipped"
    reason            why it was skipped, or why its result was not used; else ""
    by_size           of a skipped segment: whether its size was the only reason
    working_size      at which it was sampled; `canvas` with the padding of the model's grid
    upright           whether the crop was rotated upright
    seed              the seed of the first try; `seed_used` is that of the last try
    text              expanded; null where the node's positive prompt was used as it is
    concat            whether the text was added to the prompt
    text_before       text that a segment plan put before the prompt, or null
    negative          text that replaced the node's negative prompt, or null
    loras             [{"name", "model_strength", "clip_strength", ...}] of texts and segment plan
    sampling          {"steps", "cfg", "sampler_name", "scheduler", "denoise", "cycle",
                      "scheduler_func": whether a function made the schedule instead}
    hooked            the same as a hook has changed it for the first cycle, or null
    sizing            {"guide_size", "guide_size_for_bbox", "max_size", "force_inpaint", ...}
    masking           {"feather", "noise_mask", "noise_mask_feather", "inpaint_model"}
    crop_padding      by which a segment plan has grown the crop region in pixels, or null
    control_strength  that a segment plan has set for ControlNets, or null
    variants          how often it was drawn
    refiner           the share of the steps that the refiner ran; null without one
    sigmas            {"from", "to"}: the noise levels at which sampling began and ended
    wave              the number of its wave
    seconds           work on it; the time of work for several segments is divided among them
    retries           how often it was sampled again
    faults            for each failed try, what was wrong; of a track at most 100
    frames            only of a track: {"first", "last", "detailed", "gaps", "failed": numbers of
                      frames}. The rest of its entry is that of its first detailed frame; seconds
                      and retries are of all
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ...utils.files import read_file
from ...utils.notes import Note
from ...wildcards.grammar import Lora
from ..backend import MemoryUse
from ..geometry import Size
from ..sampling.scheduler import SamplerCall
from ..settings import Detail, Sampling
from ..timing import REPORT, Stopwatch, stage
from .plan import Job, Plan, Skipped

SCHEMA, VERSION = "detailers.report", 1
DONE, FAILED, SKIPPED = "done", "failed", "skipped"
_PACK = Path(__file__).resolve().parents[2]
_MOST = 2**20  # bytes of pyproject.toml
_OF_FIRST = (
    "canvas", "text", "text_before", "negative", "loras", "sampling", "seed_used", "sigmas",
)  # fmt: skip
_RECENT = 16  # calls of a sampler in which other frames of a track may have a row, too
_MOST_FAULTS = 100  # that are kept of a track


@dataclass
class Record:
    """Facts about one crop that are recorded while it is sampled."""

    version: int = 0  # which run of all images
    wave: int = 0
    canvas: Size | None = None
    text: str | None = None  # expanded; None keeps the node's positive prompt
    text_before: str | None = None  # that a segment plan puts before the node's positive prompt
    negative: str | None = None  # that a segment plan puts in place of the node's
    loras: tuple[Lora, ...] = ()
    sampling: Sampling | None = None  # as the first cycle of the last try was sampled
    seed_used: int | None = None
    sigmas: tuple[float, float] | None = None
    calls: list[SamplerCall] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # one for each try that was bad
    retries: int = 0
    fault: str = ""  # why the pixels are not used
    seconds: float = 0.0
    frames: dict[str, Any] | None = None  # of a track: see the schema

    def expanded(
        self,
        text: str | None,
        loras: tuple[Lora, ...],
        before: str | None,
        negative: str | None,
    ) -> None:
        """Record the segment's expanded texts."""
        self.text, self.loras = text, loras
        self.text_before, self.negative = before, negative

    def begins(self, seed: int) -> None:
        """Record a try with this seed."""
        self.seed_used, self.sampling, self.sigmas = seed, None, None

    def samples(self, sampling: Sampling, first: float, last: float) -> None:
        """Record a sampler run over these noise levels."""
        self.sampling = self.sampling or sampling
        self.sigmas = (first if self.sigmas is None else self.sigmas[0], last)

    def spend(self, seconds: float) -> None:
        """Add to the time of the segment."""
        self.seconds += seconds

    def add(self, frame: Record) -> None:
        """Add the record of one frame to that of its track. Facts are those of the first frame."""
        if self.seed_used is None:
            for name in _OF_FIRST:
                setattr(self, name, getattr(frame, name))
        known = {id(call) for call in self.calls[-_RECENT:]}
        self.calls += [call for call in frame.calls if id(call) not in known]
        self.faults += frame.faults[: max(0, _MOST_FAULTS - len(self.faults))]
        self.retries += frame.retries
        self.seconds += frame.seconds


class Worked(NamedTuple):
    """The data of a crop that the report needs, without its pixels, to save memory."""

    job: Job
    row: int
    record: Record


Places = Mapping[int, tuple[int, int]]


class RunReport:
    """Collects all facts about a run, and makes the report."""

    def __init__(self, detail: Detail, images: int, size: Size) -> None:
        self.detail, self.images, self.size = detail, images, size
        self.plans: list[tuple[int | None, int, Plan]] = []  # image, version, plan
        self.places: dict[int | None, Places] = {}  # by image
        self.worked: list[Worked] = []
        self.waves = 0

    def planned(self, plan: Plan, image: int | None, version: int, places: Places) -> None:
        """Record a plan.

        Args:
            image: index of its image; None: each segment says its image.
            places: for each position the index of the image, and the number in that image.
        """
        self.plans.append((image, version, plan))
        self.places[image] = places

    def wave(self, worked: Sequence[Worked]) -> None:
        """Record a wave: crops that are worked on side by side."""
        for own in worked:
            own.record.wave = self.waves
        self.worked += worked
        self.waves += 1

    def as_text(
        self, watch: Stopwatch, memory: MemoryUse, about: Mapping[str, str], notes: Iterable[Note]
    ) -> str:
        """The report as JSON. Making it is part of the stage "report", but for the last step."""
        with stage(REPORT):
            content = _plain(self.content(memory, about, notes))
        seconds, stages = watch.read()
        content["times"] = {
            "total": round(seconds, 6),
            "stages": {name: round(part, 6) for name, part in stages.items()},
        }
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half signs, as escapes

    def content(
        self, memory: MemoryUse, about: Mapping[str, str], notes: Iterable[Note]
    ) -> dict[str, Any]:
        """The report as data, without the times; the docstring of the module describes it."""
        entries = self._entries()
        calls = {id(call): call for own in self.worked for call in own.record.calls}
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "pack": {"version": pack_version()},
            "host": dict(about),
            "images": {"count": self.images, "size": list(self.size)},
            "settings": settings_of(self.detail),
            "segments": [entry for entry, _ in entries],
            "waves": _waves([own for _, own in entries]),
            "times": None,
            "counts": {
                "sampled": len(self.worked),
                "skipped": sum(own is None for _, own in entries),
                "failed": sum(bool(own.record.fault) for own in self.worked),
                "retries": sum(own.record.retries for own in self.worked),
                "sampler_calls": len(calls),
                "model_calls": sum(call.model_calls for call in calls.values()),
            },
            "memory": asdict(memory),
            "notes": [asdict(note) for note in notes],
        }

    def _entries(self) -> list[tuple[dict[str, Any], Worked | None]]:
        """All segments in working order, image by image and version by version."""
        order: dict[tuple[int | None, int], dict[int, int]] = {}
        found: list[tuple[tuple[int, ...], dict[str, Any], Worked | None]] = []
        for image, version, plan in self.plans:
            places = {entry.position: place for place, entry in enumerate(plan.entries)}
            order[image, version] = places
            for entry in plan.skipped:
                described = _skipped(entry, image, version, self.places[image])
                key = version, described["image"], places[entry.position], 0
                found.append((key, described, None))
        for own in self.worked:
            version = own.record.version
            places = order.get((own.row, version)) or order.get((None, 0), {})
            key = version, own.row, places.get(own.job.position, 0), own.job.variant
            of_image = self.places.get(own.row) or self.places.get(None, {})
            place = of_image.get(own.job.position, (own.row, own.job.position))
            found.append((key, _sampled(own, place), own))
        found.sort(key=lambda entry: entry[0])
        return [(entry, own) for _, entry, own in found]


def settings_of(detail: Detail) -> dict[str, Any]:
    """The settings of a node, without models and links, grouped by the names of dataclasses."""
    return {
        "seed": detail.sampling.seed,
        "text": detail.text,
        "sampling": _sampling(detail.sampling),
        **_own_settings(detail),
        "pasting": asdict(detail.pasting),
        "upright": detail.upright.source,
        "tiling": asdict(detail.tiling),
        "references": detail.references,
        "retries": detail.retry.times,
        "detail_batch": detail.batch,
    }


def _own_settings(detail: Detail) -> dict[str, Any]:
    """The settings that a segment may have for itself."""
    return {
        "sizing": asdict(detail.sizing),
        "masking": asdict(detail.masking),
        "refiner": None if detail.refiner is None else detail.refiner.ratio,
    }


def _sampling(sampling: Sampling) -> dict[str, Any]:
    names = ("steps", "cfg", "sampler_name", "scheduler", "denoise", "cycle")
    own = {name: getattr(sampling, name) for name in names}
    return {**own, "scheduler_func": sampling.scheduler_func is not None}


def _hooked(own: Sampling, sampled: Sampling | None) -> dict[str, Any] | None:
    """Settings that a hook has changed; the seed is told by itself."""
    changed = _sampling(sampled or own)
    return None if changed == _sampling(own) else changed


def _of_seg(entry: Job | Skipped, image: int, version: int) -> dict[str, Any]:
    seg = entry.seg
    return {
        "index": entry.position,
        "variant": getattr(entry, "variant", 0),
        "image": image,
        "version": version,
        "label": str(seg.label),
        "confidence": seg.confidence,
        "bbox": list(seg.bbox),
        "crop_region": list(seg.crop_region),
    }


def _skipped(entry: Skipped, image: int | None, version: int, places: Places) -> dict[str, Any]:
    place = places[entry.position]
    return {
        **_of_seg(entry, place[0] if image is None else image, version),
        "place": list(place),
        "status": SKIPPED,
        "reason": entry.reason,
        "by_size": entry.by_size,
    }


def _sampled(own: Worked, place: tuple[int, int]) -> dict[str, Any]:
    job, record = own.job, own.record
    sigmas = record.sigmas
    return {
        **_of_seg(job, own.row, record.version),
        "place": list(place),
        "status": FAILED if record.fault else DONE,
        "reason": record.fault,
        "working_size": list(job.size),
        "canvas": None if record.canvas is None else list(record.canvas),
        "upright": job.rotated is not None,
        "seed": job.seed,
        "seed_used": record.seed_used,
        "text": record.text,
        "concat": job.concat,
        "text_before": record.text_before,
        "negative": record.negative,
        "loras": [asdict(lora) for lora in record.loras],
        "sampling": _sampling(job.detail.sampling),
        "hooked": _hooked(job.detail.sampling, record.sampling),
        "crop_padding": job.chosen.overrides.crop_padding,
        "control_strength": job.chosen.overrides.control_strength,
        "variants": job.detail.variants,
        **_own_settings(job.detail),
        "sigmas": None if sigmas is None else {"from": sigmas[0], "to": sigmas[1]},
        "wave": record.wave,
        "seconds": round(record.seconds, 6),
        "retries": record.retries,
        "faults": record.faults,
        **({} if record.frames is None else {"frames": record.frames}),
    }


def _waves(worked: Sequence[Worked | None]) -> list[dict[str, Any]]:
    """What went together; segments by their places."""
    waves: dict[int, dict[str, Any]] = {}
    calls: dict[int, dict[str, Any]] = {}
    for place, own in enumerate(worked):
        if own is None:
            continue
        number = own.record.wave
        wave = waves.setdefault(number, {"wave": number, "segments": [], "calls": []})
        wave["segments"].append(place)
        for call in own.record.calls:
            if id(call) not in calls:
                calls[id(call)] = {"segments": [], "model_calls": call.model_calls}
                wave["calls"].append(calls[id(call)])
            calls[id(call)]["segments"].append(place)
    return [waves[number] for number in sorted(waves)]


def _plain(value: Any) -> Any:
    """A value for JSON. Numbers of other libraries become numbers; unknown values become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    try:
        number = value.item() if hasattr(value, "item") else float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return number


@lru_cache(maxsize=1)
def pack_version() -> str | None:
    """The version of this pack, as its pyproject.toml says."""
    try:
        text = read_file(_PACK / "pyproject.toml", _MOST).decode("utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(r'^version\s*=\s*"([^"]+)"', text, re.MULTILINE)
    return found and found[1]
