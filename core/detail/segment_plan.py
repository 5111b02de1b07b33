"""A segment plan: rules that give single segments their own settings.

For each image the rules are applied in order. A setting that a rule does not set keeps the value of
an earlier rule, or that of the node. Added texts and seed offsets use these values, too. LoRAs are
combined by name. Nothing is sampled here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ...utils.check import described, quoted
from ...utils.indices import shown_indices
from ...utils.labels import listed
from ...utils.notes import note
from ...utils.seeds import MAX_SEED
from ...wildcards.grammar import Lora
from ..bounds import MOST_STEPS
from ..geometry import Box, Size
from ..noise import seed_for
from ..segs.seg import SEG, confidence
from ..settings import Detail
from .selectors import (
    ALL,
    ORDERS,
    All,
    Scene,
    Selector,
    View,
    in_order,
    is_counted_among_all,
)

NOTE = "plan"  # kind of the notes given here
MOST_RULES = 10_000
MOST_TOLD = 20  # segments or rules in one note


@dataclass(frozen=True)
class Curve:
    """Denoise by the size of a segment."""

    points: tuple[tuple[float, float], ...]  # (size in pixels, denoise 0..1), sizes rising

    def at(self, size: float) -> float:
        """The denoise for a size: linear between the points; beyond them that of the nearest one.

        Args:
            size: the shorter side of the segment's bounding box in image pixels.
        """
        before, after = self.points[0], self.points[-1]
        for point in self.points:
            if point[0] >= size:
                after = point
                break
            before = point
        if size <= before[0] or before[0] >= after[0]:
            return before[1]
        if size >= after[0]:
            return after[1]
        share = (size - before[0]) / (after[0] - before[0])
        return before[1] + share * (after[1] - before[1])


@dataclass(frozen=True)
class Overrides:
    """The settings of a rule; None and "" set nothing. The names are those of the widgets."""

    text: str | None = None  # replaces the segment's text; "" means the node's positive
    text_before: str = ""  # added to the segment's text
    text_after: str = ""
    negative: str | None = None  # replaces the node's negative
    loras: tuple[Lora, ...] = ()  # added to those of the texts; strength 0 removes one
    seed: int | None = None  # of the segment, at every position
    seed_offset: int = 0  # added to the seed that the segment has without it
    steps: int | None = None
    cfg: float | None = None
    denoise: float | Curve | None = None
    sampler_name: str | None = None
    scheduler: str | None = None
    guide_size: float | None = None
    max_size: float | None = None
    feather: int | None = None
    noise_mask_feather: int | None = None
    crop_padding: int | None = None  # image pixels that the crop region grows on every side
    inpaint_model: bool | None = None
    control_strength: float | None = None  # of all ControlNets that guide the segment
    refiner: bool | None = None  # False: none; True: the node's, if it has one
    variants: int | None = None  # of the segment, with a seed each
    skip: bool | None = None  # leave the segment as it is
    reason: str = ""  # why it is skipped

    def then(self, later: Overrides) -> Overrides:
        """These settings, replaced by those that a later rule sets."""
        if later is NOTHING:
            return self
        changed = {name: getattr(later, name) for name in PLAIN}
        changed = {name: value for name, value in changed.items() if value is not None}
        if later.text is None:
            changed["text_before"] = joined(later.text_before, self.text_before)
            changed["text_after"] = joined(self.text_after, later.text_after)
        else:
            for name in ("text", "text_before", "text_after"):
                changed[name] = getattr(later, name)
        if later.seed is None:
            changed["seed_offset"] = self.seed_offset + later.seed_offset
        else:
            changed["seed_offset"] = later.seed_offset
        loras = {lora.name: lora for lora in (*self.loras, *later.loras)}
        changed["loras"] = tuple(loras.values())
        if later.skip is not None or later.reason:
            changed["reason"] = later.reason
        return replace(self, **changed)

    def sets(self, *names: str) -> bool:
        """Whether any of these fields is set."""
        return any(getattr(self, name) is not None for name in names)

    def seed_of(self, seed: int) -> int:
        """The seed of a segment that has the seed `seed` without this rule."""
        return seed_for(seed if self.seed is None else self.seed, self.seed_offset)

    def applied(self, detail: Detail, size: int) -> Detail:
        """The settings of a segment: the node's settings, replaced by these.

        Args:
            size: the shorter side of its bounding box in image pixels.

        Returns:
            `detail` itself if nothing changes.
        """
        changed: dict[str, Any] = {}
        for part, names in _PARTS.items():
            own = {name: self._value(name, size) for name in names}
            own = {name: value for name, value in own.items() if value is not None}
            if "scheduler" in own:  # it replaces the node's scheduler function, too
                own["scheduler_func"] = None
            if own:
                changed[part] = replace(getattr(detail, part), **own)
        if self.refiner is False and detail.refiner is not None:
            changed["refiner"] = None
        if self.variants is not None:
            changed["variants"] = self.variants
        return replace(detail, **changed) if changed else detail

    def _value(self, name: str, size: int) -> Any:
        value = getattr(self, name)
        return value.at(size) if isinstance(value, Curve) else value


# Settings for which a later value replaces an earlier one.
_JOINED = ("text", "text_before", "text_after", "seed_offset", "loras", "reason")
PLAIN = tuple(item.name for item in fields(Overrides) if item.name not in _JOINED)
_PARTS = {  # of Detail
    "sizing": ("guide_size", "max_size"),
    "sampling": ("steps", "cfg", "denoise", "sampler_name", "scheduler"),
    "masking": ("feather", "noise_mask_feather", "inpaint_model"),
}
NOTHING = Overrides()
STRENGTH = ("denoise", "steps", "sampler_name", "scheduler")  # by which sampling starts
SETTINGS = tuple(item.name for item in fields(Overrides))

_LONGEST_SIDE = 16384  # pixels, as ComfyUI's widgets have it
# What a setting is and its least and greatest value: those of the nodes' widgets.
LIMITS: Mapping[str, tuple[type, float, float]] = {
    "seed": (int, 0, MAX_SEED),
    "seed_offset": (int, -MAX_SEED, MAX_SEED),
    "steps": (int, 1, MOST_STEPS),
    "cfg": (float, 0.0, 100.0),
    "denoise": (float, 0.0001, 1.0),
    "guide_size": (float, 64, _LONGEST_SIDE),
    "max_size": (float, 64, _LONGEST_SIDE),
    "feather": (int, 0, 100),
    "noise_mask_feather": (int, 0, 100),
    "crop_padding": (int, 0, _LONGEST_SIDE),
    "inpaint_model": (bool, False, True),
    "control_strength": (float, 0.0, 10.0),
    "refiner": (bool, False, True),
    "variants": (int, 1, 16),
    "skip": (bool, False, True),
}
LORA_STRENGTHS = (-100.0, 100.0)


def joined(first: str, second: str) -> str:
    """Two texts with a comma between them, unless there is one; a blank one adds nothing."""
    if not first.strip() or not second.strip():
        return second if second.strip() else first
    return first + (" " if first.rstrip().endswith(",") else ", ") + second


@dataclass(frozen=True)
class Rule:
    """Settings for the segments that a selector chooses."""

    selector: Selector = ALL
    overrides: Overrides = NOTHING

    def __str__(self) -> str:
        return str(self.selector)


@dataclass(frozen=True)
class SegmentPlan:
    """What travels over a SEGMENT_PLAN link."""

    rules: tuple[Rule, ...] = ()
    order: str = ""  # one of ORDERS, in which the segments are worked on and get their seeds
    # Instead of an order: the places of each image's segments, of as many images as it is known of.
    sequences: tuple[tuple[int, ...], ...] = ()

    def followed_by(self, later: SegmentPlan) -> SegmentPlan:
        """Both, the later one's rules last."""
        orders = later if later.order or later.sequences else self
        return SegmentPlan(self.rules + later.rules, orders.order, orders.sequences)

    def choose(self, scene: Scene) -> list[Chosen]:
        """What the rules set for each segment of an image."""
        chosen = [Chosen() for _ in scene.views]
        taken: frozenset[int] = frozenset()
        for number, rule in enumerate(self.rules):
            places = rule.selector.select(scene, taken)
            for place in places:
                before = chosen[place]
                overrides = before.overrides.then(rule.overrides)
                chosen[place] = Chosen(overrides, (*before.rules, number))
            if not isinstance(rule.selector, All):
                taken |= places
        return chosen

    def working_order(self, scene: Scene) -> list[int]:
        """Places of the segments in the order in which they are worked on."""
        if scene.image < len(self.sequences):
            return _in_sequence(self.sequences[scene.image], len(scene.views))
        return in_order(scene, self.order, scene.every) if self.order else sorted(scene.every)


def _in_sequence(sequence: Sequence[int], count: int) -> list[int]:
    """Places of `count` segments: those of a sequence, and then the others."""
    known = [place for place in dict.fromkeys(sequence) if 0 <= place < count]
    return [*known, *sorted(set(range(count)).difference(known))]


@dataclass(frozen=True)
class Chosen:
    """What a plan sets for one segment."""

    overrides: Overrides = NOTHING
    rules: tuple[int, ...] = ()  # that chose it, from 0


UNCHOSEN = Chosen()


@dataclass(frozen=True)
class Steering:
    """What a plan sets for the segments of an image, by their positions."""

    chosen: tuple[Chosen, ...] = ()  # empty: nothing for any
    order: tuple[int, ...] = ()  # in which they are worked on; empty: as they come

    def of(self, position: int) -> Chosen:
        """The settings for the segment at a position."""
        return self.chosen[position] if self.chosen else UNCHOSEN


UNSTEERED = Steering()


def scene_of(segs: Sequence[SEG], size: Size, image: int = 0, images: int = 1) -> Scene:
    """What selectors see of the segments of one image.

    Args:
        segs: all of that image.
        size: of the image.
        image: which one of the node's batch.
        images: in that batch.
    """
    views = (View(Box.of(seg.bbox), str(seg.label), confidence(seg)) for seg in segs)
    return Scene(tuple(views), size, image, images)


@dataclass
class Coverage:
    """Which segments the rules of a plan have chosen in a run, for the notes about it."""

    plan: SegmentPlan
    used: set[int] = field(default_factory=set)  # rules
    without: dict[int, set[int]] = field(default_factory=dict)  # image -> segments without a rule
    labels: set[str] = field(default_factory=set)
    segments: int = 0

    def add(self, scene: Scene, chosen: Sequence[Chosen], positions: Sequence[int]) -> None:
        """What was chosen in an image.

        Args:
            positions: what each of its segments is called in messages.
        """
        self.segments += len(chosen)
        self.labels |= {view.label for view in scene.views}
        for own, position in zip(chosen, positions, strict=True):
            self.used.update(own.rules)
            if not own.rules:
                self.without.setdefault(scene.image, set()).add(position)

    def tell(self) -> None:
        """Tell which rules chose nothing, and which segments have no rule."""
        if not self.segments:
            return
        idle = [number for number in range(len(self.plan.rules)) if number not in self.used]
        for number in idle[:MOST_TOLD]:
            note(NOTE, self._of_idle(number))
        if len(idle) > MOST_TOLD:
            note(NOTE, f"{len(idle) - MOST_TOLD} more rules of the segment plan fit no segment.")
        if self.without:
            note(
                NOTE,
                f"Without a rule of the segment plan, and so with the node's own settings:"
                f" {_places_told(self.without)}. A rule for else is for all that no rule before it"
                " is for.",
            )

    def _of_idle(self, number: int) -> str:
        selector = self.plan.rules[number].selector
        if is_counted_among_all(selector):
            remedy = "To count among some segments only, write for instance largest 1 of label face"
        else:
            remedy = f"There are the labels {listed(self.labels)}"
            remedy += f", and {self.segments} segments" if self.segments > 1 else ""
        return (
            f"Rule {number + 1} of the segment plan fits no segment ({selector!s:.200}). {remedy}."
        )


def _places_told(by_image: dict[int, set[int]]) -> str:
    """Segments of images in words, such as "segments 1, 3"."""
    parts = []
    for image, positions in sorted(by_image.items()):
        where = f" of image {image}" if len(by_image) > 1 or image else ""
        parts.append(segments_named(positions) + where)
    rest = len(parts) - MOST_TOLD
    return "; ".join(parts[:MOST_TOLD]) + (f"; and of {rest} more images" if rest > 0 else "")


def segments_named(positions: Collection[int]) -> str:
    """Segments in words, such as "segments 1, 3"."""
    return f"segment{'s' * (len(positions) != 1)} {shown_indices(sorted(positions), MOST_TOLD)}"


def fault_of_plan(plan: SegmentPlan) -> str:
    """What is wrong with a plan that did not come from this pack's nodes, "" if nothing is."""
    if not (isinstance(plan.order, str) and (plan.order in ORDERS or not plan.order)):
        return f"its order is {quoted(plan.order)}"
    if not isinstance(plan.rules, tuple) or len(plan.rules) > MOST_RULES:
        return f"its rules are {described(plan.rules)}"
    for number, rule in enumerate(plan.rules, 1):
        if not isinstance(rule, Rule) or not isinstance(rule.overrides, Overrides):
            return f"rule {number} is {described(rule)}"
        if not callable(getattr(rule.selector, "select", None)):
            return f"rule {number} selects by {described(rule.selector)}"
        for name in SETTINGS:
            if not _is_sound(name, getattr(rule.overrides, name)):
                return f"{name} of rule {number} is {quoted(getattr(rule.overrides, name))}"
    return ""


def _is_sound(name: str, value: Any) -> bool:
    """Whether a field of Overrides is of its type and inside of its limits."""
    if value is None:
        return getattr(Overrides, name) is None
    if isinstance(value, Curve) and name == "denoise":
        return all(_is_sound(name, point[1]) for point in value.points) and bool(value.points)
    if name == "loras":
        return isinstance(value, tuple) and all(isinstance(lora, Lora) for lora in value)
    if name not in LIMITS:
        return isinstance(value, str)
    kind, low, high = LIMITS[name]
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, (int, kind)) and low <= value <= high
