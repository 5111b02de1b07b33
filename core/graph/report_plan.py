"""Makes a segment plan of a detailer's report. The plan repeats the run.

There is one rule for each segment. It selects the segment by its index, so the plan is for the same
SEGS. It sets everything that a rule can set: the resolved texts, LoRAs, seed and settings. The
picture is the same if the models, the image and all other settings of the node are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...utils.notes import note
from ...wildcards.grammar import Lora, parse_prompt
from ..detail.report import SCHEMA, SKIPPED, VERSION
from ..detail.segment_plan import Overrides, Rule, SegmentPlan
from ..detail.selectors import INDEX, And, OfImage, Ordinal, Selector, Span

LONGEST_REPORT = 50_000_000  # characters
_BEGINNING = 200  # the schema is named within so many characters


class ReportError(ValueError):
    """The text is a report that cannot be made a plan. The message says why."""


def is_report(text: str) -> bool:
    """Whether a text claims to be a report."""
    beginning = text.lstrip()[:_BEGINNING]
    return beginning.startswith("{") and f'"{SCHEMA}"' in beginning


def plan_of_report(text: str) -> SegmentPlan:
    """The plan that repeats the run of a report.

    Raises:
        ReportError: the report is incomplete, or has an unknown version.
    """
    if len(text) > LONGEST_REPORT:
        raise ReportError(f"The report has {len(text)} characters; the limit is {LONGEST_REPORT}.")
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"The report is incomplete ({error}). Copy the whole text of the output 'report'."
        ) from None
    version = report.get("version") if isinstance(report, dict) else None
    if version != VERSION:
        raise ReportError(
            f"The report has version {version!r}, but this pack reads version {VERSION}. Run the "
            "detailer again with this version of the pack."
        )
    try:
        return _plan(report)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ReportError(
            f"The report cannot be read ({type(error).__name__}: {error}). Use the text of the "
            "output 'report' without changes."
        ) from None


def _plan(report: Mapping[str, Any]) -> SegmentPlan:
    images = int(report["images"]["count"])
    settings = report["settings"]
    pasted = [entry for entry in report["segments"] if not entry["variant"]]
    versions = {entry["version"] for entry in pasted}
    if len(versions) > 1:
        note(
            "plan",
            f"The report describes {len(versions)} versions with different seeds, so the plan sets"
            " no seeds. Set the node's seed to the seed of that run.",
        )
    first = [entry for entry in pasted if entry["version"] == min(versions)]
    rules: dict[tuple[int, int], Rule] = {}
    order: list[list[int]] = [[] for _ in range(images)]
    for entry in first:
        image, index = map(int, entry["place"])
        if (image, index) in rules:  # a segment that holds for several images has one rule
            continue
        overrides = _overrides(entry, settings, seeded=len(versions) == 1)
        rules[image, index] = Rule(_selector(image, index, images), overrides)
        order[image].append(index)
    return SegmentPlan(tuple(rules.values()), sequences=tuple(map(tuple, order)))


def _selector(image: int, index: int, images: int) -> Selector:
    own = Ordinal(INDEX, (Span(index, index),))
    return own if images == 1 else And((OfImage((Span(image, image),)), own))


def _overrides(entry: Mapping[str, Any], settings: Mapping[str, Any], seeded: bool) -> Overrides:
    """What the rule of a segment sets."""
    if entry["status"] == SKIPPED and not entry["by_size"]:
        return Overrides(skip=True, reason=str(entry["reason"]))
    if entry["status"] == SKIPPED:
        sizing = settings["sizing"]
        return Overrides(skip=False, guide_size=sizing["guide_size"], max_size=sizing["max_size"])
    sampling, sizing, masking = entry["sampling"], entry["sizing"], entry["masking"]
    text, before = entry["text"], entry["text_before"]
    return Overrides(
        text="" if text is None or entry["concat"] else text,
        text_before=before or "",
        text_after=text if text is not None and entry["concat"] else "",
        negative=entry["negative"],
        loras=_added_loras(entry),
        seed=int(entry["seed"]) if seeded else None,
        steps=int(sampling["steps"]),
        cfg=float(sampling["cfg"]),
        denoise=float(sampling["denoise"]),
        sampler_name=sampling["sampler_name"],
        scheduler=None if sampling["scheduler_func"] else sampling["scheduler"],
        guide_size=sizing["guide_size"],
        max_size=sizing["max_size"],
        feather=masking["feather"],
        noise_mask_feather=masking["noise_mask_feather"],
        crop_padding=entry["crop_padding"],
        inpaint_model=masking["inpaint_model"],
        control_strength=entry["control_strength"],
        refiner=False if entry["refiner"] is None else None,
        variants=int(entry["variants"]),
        skip=False,
    )


def _added_loras(entry: Mapping[str, Any]) -> tuple[Lora, ...]:
    """The LoRAs that a rule has to set, because the texts do not load them with this strength.

    A LoRA that a text names but that was not loaded gets the strength 0.
    """
    texts = (entry["text_before"], entry["text"], entry["negative"])
    named = {lora.name: lora for text in texts if text for lora in parse_prompt(text).loras}
    loaded = {own["name"]: Lora(**own) for own in entry["loras"]}
    absent = [Lora(name, 0.0, 0.0) for name in named if name not in loaded]
    added = [lora for name, lora in loaded.items() if named.get(name) != lora]
    return (*added, *absent)
