"""A detailer's report read as a segment plan: what each segment was made with, as a rule for it.

The rules choose segments by their places, so the plan is for the same SEGS. They set what rules
can set: texts with their choices made, LoRAs, seeds and settings. The picture is the same where
the models, the image and all that no rule sets are the same.
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

LONGEST_REPORT = 50_000_000  # signs
_BEGINNING = 200  # signs in which a report says what it is


class ReportError(ValueError):
    """A text is no report that can be used as a plan; the message says why."""


def is_report(text: str) -> bool:
    """Whether a text says of itself that it is a report."""
    beginning = text.lstrip()[:_BEGINNING]
    return beginning.startswith("{") and f'"{SCHEMA}"' in beginning


def plan_of_report(text: str) -> SegmentPlan:
    """The plan that repeats the run of a report.

    Raises:
        ReportError: it is not whole, or of a version that is not known.
    """
    if len(text) > LONGEST_REPORT:
        raise ReportError(f"The report has {len(text)} signs; the most are {LONGEST_REPORT}.")
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"The report is not whole ({error}). Copy all of what the output 'report' gave."
        ) from None
    version = report.get("version") if isinstance(report, dict) else None
    if version != VERSION:
        raise ReportError(
            f"The report is of version {version!r}, but this pack reads version {VERSION}. Make it "
            "again with this version of the pack."
        )
    try:
        return _plan(report)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ReportError(
            f"The report cannot be read ({type(error).__name__}: {error}). Give it as the output "
            "'report' gave it."
        ) from None


def _plan(report: Mapping[str, Any]) -> SegmentPlan:
    images = int(report["images"]["count"])
    settings = report["settings"]
    pasted = [entry for entry in report["segments"] if not entry["variant"]]
    versions = {entry["version"] for entry in pasted}
    if len(versions) > 1:
        note(
            "plan",
            f"The report is of a run that made {len(versions)} versions with seeds of their own, so"
            " the plan sets no seeds. Give the node the seed of that run.",
        )
    first = [entry for entry in pasted if entry["version"] == min(versions)]
    rules: dict[tuple[int, int], Rule] = {}
    order: list[list[int]] = [[] for _ in range(images)]
    for entry in first:
        image, index = map(int, entry["place"])
        if (image, index) in rules:  # a picture of each image, by one rule
            continue
        overrides = _overrides(entry, settings, seeded=len(versions) == 1)
        rules[image, index] = Rule(_selector(image, index, images), overrides)
        order[image].append(index)
    return SegmentPlan(tuple(rules.values()), sequences=tuple(map(tuple, order)))


def _selector(image: int, index: int, images: int) -> Selector:
    own = Ordinal(INDEX, (Span(index, index),))
    return own if images == 1 else And((OfImage((Span(image, image),)), own))


def _overrides(entry: Mapping[str, Any], settings: Mapping[str, Any], seeded: bool) -> Overrides:
    """What a rule sets so that a segment is made as it was."""
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
    """The LoRAs that the texts of a segment do not load by themselves, or not as they were.

    One that a text names and that was not loaded has the strength 0.
    """
    texts = (entry["text_before"], entry["text"], entry["negative"])
    named = {lora.name: lora for text in texts if text for lora in parse_prompt(text).loras}
    loaded = {own["name"]: Lora(**own) for own in entry["loras"]}
    absent = [Lora(name, 0.0, 0.0) for name in named if name not in loaded]
    added = [lora for name, lora in loaded.items() if named.get(name) != lora]
    return (*added, *absent)
