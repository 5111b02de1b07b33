"""Segment plans: settings for single segments, as widgets of a rule or as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.detail.plan_words import NoWords, is_segment_text, plan_of_text, text_of_plan
from ...core.detail.segment_plan import LIMITS, NOTE, Overrides, Rule, SegmentPlan
from ...core.detail.selectors import (
    ALL,
    ELSE,
    INDEX,
    ORDERS,
    Selector,
    SelectorError,
    read_selector,
    with_label,
)
from ...core.graph.plan_text import label_selector, read_plan, read_setting, write_plan
from ...utils.notes import note
from ..widgets import described, inputs
from .images import CATEGORY

OWN = "node's own"
UNSET = -1
_OPEN = " -1: as it is without this rule."  # the end of the tooltips of numbers
_EXPRESSION = "expression"
_ON, _OFF = "on", "off"
_TEXT_MODES = {
    "replace": "text", "add before": "text_before", "add after": "text_after",
}  # fmt: skip
_SAME = {"denoise_by_size": "denoise", "seed_or_offset": "seed"}  # widgets of one setting
_MULTILINE = {"multiline": True, "dynamicPrompts": False, "default": ""}
_EXAMPLE = """\
# - select: left to right 1 of label face
#   text: an old man, {smiling|serious}
# - select: label face and width < 128
#   denoise: 0.6
# - select: else
#   skip: not a face
"""


class SegmentRule:
    DESCRIPTION = (
        "Gives some segments of a detailer texts and settings of their own. Join several: of two "
        "rules for one segment the later one wins, and what all leave open is as the detailer has "
        "it."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGMENT_PLAN",)
    RETURN_NAMES = ("rules",)
    OUTPUT_TOOLTIPS = ("For segment_plan of a detailer, or for rules of a further Segment Rule.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "label": described(
                    "STRING",
                    "Only segments with this label, such as face; several with commas, * for any "
                    "signs. Empty: whatever the label.",
                    default="",
                ),
                "select": described(
                    ["all", INDEX, *ORDERS, "else", _EXPRESSION],
                    "Which of these: all; by index in the SEGS, from 0; the first, second ... in "
                    "an order; else: those that no rule before this one is for; or an expression.",
                    default="all",
                ),
                "which": described(
                    "STRING",
                    "With index and the orders: which ones, such as 1, 2-4 or -1 for the last. "
                    "With expression: for instance width < 128 and confidence >= 0.6.",
                    default="",
                ),
                "text": described(
                    "STRING",
                    "What these segments should show: wildcards and LoRAs as in a detailer's text "
                    "for the segments. Empty: as it is without this rule.",
                    **_MULTILINE,
                ),
                "text_mode": described(
                    list(_TEXT_MODES),
                    "replace: the text is in place of the segment's. add: it is put before or "
                    "after that, or the positive prompt where the segment has none.",
                    default="replace",
                ),
                "negative": described(
                    "STRING",
                    "What these segments should not show, in place of the negative prompt. Empty: "
                    "as it is without this rule.",
                    **_MULTILINE,
                ),
                "denoise": _number("denoise"),
                "skip": _switch("on: these segments stay as they are."),
            },
            "optional": {
                "rules": described("SEGMENT_PLAN", "Rules that come before this one."),
                "seed_or_offset": described(
                    "STRING",
                    "The seed of these segments; with a sign, such as +5, what is added to the "
                    "seed that each has otherwise. Empty: as it is without this rule.",
                    default="",
                ),
                "steps": _number("steps"),
                "cfg": _number("cfg"),
                "sampler_name": _choice("sampler_name"),
                "scheduler": _choice("scheduler"),
                "guide_size": _number("guide_size"),
                "max_size": _number("max_size"),
                "feather": _number("feather"),
                "loras": described(
                    "STRING",
                    "LoRAs for these segments, one a line: name: 0.8, or name: 0.8, 0.5 for model "
                    "and CLIP.",
                    **_MULTILINE,
                ),
                "denoise_by_size": described(
                    "STRING",
                    "A denoise for each size, such as 64: 0.6, 256: 0.35, and in between what lies "
                    "in between. The size is the shorter side of the box, in image pixels.",
                    default="",
                ),
                "noise_mask_feather": _number("noise_mask_feather"),
                "crop_padding": _limited(
                    "crop_padding",
                    "The crop grows by this many image pixels on every side, so that the model "
                    "sees more of the surroundings.",
                    step=1,
                ),
                "inpaint_model": _switch("on: the model is an inpainting model."),
                "control_strength": _limited(
                    "control_strength",
                    "The strength of the ControlNets of these segments; 0 is without them.",
                    step=0.01,
                ),
                "refiner": _switch("off: these segments are sampled without the refiner."),
                "variants": _limited(
                    "variants", "How many variants of each of these segments are made.", step=1,
                ),
                "reason": described(
                    "STRING", "Why they are skipped, for the list of notes.", default="",
                ),
            },
        }  # fmt: skip

    def run(self, label, select, which, rules=None, **widgets):
        selector = _selected(label, select, which)
        rule = Rule(selector, _overrides(widgets))
        return ((rules or SegmentPlan()).followed_by(SegmentPlan((rule,))),)


class DetailersSegmentPlan:
    DESCRIPTION = (
        "Texts and settings for single segments of a detailer, written as text: the rules of "
        "Segment Rule in YAML."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("SEGMENT_PLAN", "STRING", "STRING")
    RETURN_NAMES = ("segment_plan", "plan", "segment_text")
    OUTPUT_TOOLTIPS = (
        "For segment_plan of a detailer, or for rules of a Segment Rule.",
        "All rules as text, those of the input first.",
        "All rules as a detailer's text for the segments, with [SEP] or [LAB], where that can say "
        "them.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "plan": described(
                    "STRING",
                    "A list of rules, each with select: and what it sets; the help page has the "
                    "words and examples. A detailer's text for the segments, with [SEP] or [LAB], "
                    "is taken as well.",
                    **{**_MULTILINE, "default": _EXAMPLE},
                ),
            },
            "optional": {
                "rules": described("SEGMENT_PLAN", "Rules that come before those of the text."),
            },
        }

    def run(self, plan, rules=None):
        whole = (rules or SegmentPlan()).followed_by(_plan_of(plan))
        return whole, write_plan(whole), _segment_text(whole)


def _plan_of(text: str) -> SegmentPlan:
    """The plan that is written in a text, in YAML or as a segment text."""
    if not is_segment_text(text):
        return read_plan(text, choices())
    converted = plan_of_text(text)
    for sentence in converted.lost:
        note(NOTE, f"The segment text is not all in the plan: {sentence}")
    return converted.plan


def _segment_text(plan: SegmentPlan) -> str:
    """The plan as a segment text, or else a comment that says why it has none."""
    try:
        return text_of_plan(plan)
    except NoWords as reason:
        return f"# This plan has no segment text: {reason}."


def choices():
    """The lists that settings of a plan are chosen from, as they are now."""
    return {
        name: (lambda name=name: inputs(name)[name][0]) for name in ("sampler_name", "scheduler")
    }


def _number(name: str) -> tuple[str, dict[str, Any]]:
    """A widget of the detailers that may also be left open."""
    kind, options = inputs(name)[name]
    changed = {"default": UNSET, "min": UNSET, "tooltip": options["tooltip"] + _OPEN}
    if options.get("step", 0) > 1:  # steps would be counted from -1
        changed["step"] = 1
    return kind, {**options, **changed}


def _limited(name: str, tooltip: str, step: float) -> tuple[str, dict[str, Any]]:
    """A widget of another kind than the detailers', up to the most that a rule may set."""
    kind, _, most = LIMITS[name]
    return described(
        "INT" if kind is int else "FLOAT", tooltip + _OPEN,
        default=UNSET, min=UNSET, max=most, step=step,
    )  # fmt: skip


def _choice(name: str) -> tuple[list[str], dict[str, Any]]:
    entries, options = inputs(name)[name]
    return [OWN, *entries], {**options, "default": OWN}


def _switch(tooltip: str) -> tuple[list[str], dict[str, Any]]:
    return described([OWN, _ON, _OFF], tooltip, default=OWN)


def _selected(label: str, select: str, which: str) -> Selector:
    """The selector that the widgets say."""
    try:
        labels = label_selector(label) if label.strip() else None
    except SelectorError as error:
        raise ValueError(f"In 'label', {error}. Write labels with commas between them.") from None
    if select in ("all", "else"):
        selector = ALL if select == "all" else ELSE
    else:
        head = "" if select == _EXPRESSION else f"{select} "
        try:
            selector = read_selector(head + which)
        except SelectorError as error:
            at = max(0, error.offset - len(head)) + 1
            raise ValueError(f"In 'which' at sign {at}, {error}.") from None
    return selector if labels is None else with_label(selector, labels)


def _overrides(widgets: Mapping[str, Any]) -> Overrides:
    """The settings of the widgets; a widget that is open sets nothing."""
    given = {name: value for name, value in widgets.items() if not _is_open(value)}
    names = {**_SAME, "text": _TEXT_MODES[given.pop("text_mode", "replace")]}
    own: dict[str, Any] = {}
    for widget, value in given.items():
        name = names.get(widget, widget)
        try:
            own |= read_setting(name, value, choices())
        except ValueError as error:
            raise ValueError(f"In '{widget}', {error}" if widget in _SAME else str(error)) from None
    return Overrides(**own)


def _is_open(value: Any) -> bool:
    if isinstance(value, str):
        return value == OWN or not value.strip()
    return value is None or value == UNSET


NODES = {
    "SegmentRule": (SegmentRule, "Segment Rule"),
    "SegmentPlan": (DetailersSegmentPlan, "Segment Plan"),
}
