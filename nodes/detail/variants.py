"""Choosing among the variants that a detailer has drawn of each segment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from ...core.detectors.confidence import confidence_in
from ...core.geometry import Box, Size
from ...core.host.clip_text import ClipTexts
from ...core.host.clip_vision import ClipVisionEmbedder
from ...core.host.folders import save_previews, wildcard_library
from ...core.pixels.blend import Blending
from ...core.prompts.variant_texts import dealt_texts
from ...core.segs.likeness import Scores, likeness_to_persons, likeness_to_texts
from ...core.segs.people import Persons, read_names
from ...core.segs.pictures import NO_PICTURE, paste_segs
from ...core.segs.seg import SEG, normalise, own_picture
from ...core.segs.sharpness import sharpness
from ...core.segs.variant_grid import fitted, originals, shown, variant_grid
from ...core.segs.variants import Candidates, Chosen, candidates_of, choose, read_choices
from ...core.settings import Pasting
from ...utils.check import check_image
from ...utils.notes import note
from ..segs.pictures import given_segs
from ..widgets import described, inputs
from .images import CATEGORY
from .options import given

UI = "detailers_variants"  # where the editor finds what it shows, in the node's UI output
FIRST, SHARPNESS, CONFIDENCE = "first", "sharpness", "detector confidence"
REFERENCE, TEXT = "reference similarity", "text similarity"
SCORES = (FIRST, SHARPNESS, CONFIDENCE, REFERENCE, TEXT)
SIDE = 160  # of the small pictures that the node shows, in pixels


class ChooseVariants:
    DESCRIPTION = (
        "Pastes one variant of each segment: the one that you click on, or else the one with the "
        "best score. Choosing another one samples nothing."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "SEGS", "IMAGE", "STRING")
    RETURN_NAMES = ("image", "segs", "grid", "scores")
    OUTPUT_TOOLTIPS = (
        "The image with the chosen variant of each segment.",
        "The chosen variants.",
        "All variants, a row for each segment; those that are chosen have a frame.",
        "What was chosen, by what, and all scores, as JSON.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                **inputs("image", image="The image as it was before the detailer, or a batch."),
                "variants": described("SEGS", "The output 'variants' of a detailer."),
                "by": described(
                    list(SCORES),
                    "How segments without a choice of yours are decided. first: the one that the "
                    "detailer pastes. The others take the highest score. In tests no score chose "
                    "better than chance: where it matters, look and choose yourself. The help page "
                    "has figures.",
                    default=FIRST,
                ),
                "choices": described(
                    "STRING",
                    "Your choices, which go before any score; clicking in the node writes them. "
                    "0:2, 1:original takes variant 2 of segment 0 and leaves segment 1 as it was.",
                    default="",
                ),
                **inputs("feather"),
            },
            "optional": {
                **inputs("paste_options"),
                "bbox_detector": described(
                    "BBOX_DETECTOR",
                    "For detector confidence: how sure it is of what it finds in a variant.",
                ),
                "clip_vision": described(
                    "CLIP_VISION",
                    "From Load CLIP Vision, for text similarity, and for reference similarity "
                    "where no embedder is connected.",
                ),
                "embedder": described(
                    "PERSON_EMBEDDER",
                    "From Person Embedder Loader, for reference similarity: a network that was "
                    "trained to tell persons apart.",
                ),
                "references": described(
                    "IMAGE",
                    "For reference similarity: pictures of what the segments are to show, as a "
                    "batch; the most alike counts.",
                ),
                "names": described(
                    "STRING",
                    "Empty: every reference goes with every segment. Otherwise a name for each "
                    "reference, one on each line: it goes with the segments of that label.",
                    multiline=True, default="", dynamicPrompts=False,
                ),
                "clip": described(
                    "CLIP",
                    "For text similarity: the text encoder that belongs to clip_vision, with its "
                    "text projection. That of an SD 1.5 checkpoint has none.",
                ),
                "text": described(
                    "STRING",
                    "For text similarity: what the segments are to show. [SEP] and [LAB] give each "
                    "its own, and choices such as {a|b} come out as in the detailer.",
                    multiline=True, default="", dynamicPrompts=False,
                ),
            },
        }  # fmt: skip

    def run(self, image, variants, by, choices, feather, paste_options=None, **sources):
        check_image(image, "image")
        hand = read_choices(choices)
        blending = Blending(feather, given(paste_options, Pasting, "paste_options"))
        size = Size(image.shape[2], image.shape[1])
        header, items = normalise(given_segs(variants, "variants"), size, "variants")
        groups = candidates_of(_with_pictures(items))
        chosen = choose(groups, hand, scores_of(groups, by, **sources))
        taken = (header, [own.seg for own in chosen if own.seg is not None])
        before = originals(image, groups)
        return {
            "ui": {UI: [{"by": by, "segments": for_editor(before, chosen)}]},
            "result": (
                paste_segs(image, taken, blending), taken, variant_grid(before, chosen),
                as_text(by, chosen),
            ),
        }  # fmt: skip


def _with_pictures(items: Sequence[SEG]) -> list[SEG]:
    """The segments with a picture to paste; tells how many have none."""
    shown = [
        seg for seg in items if own_picture(seg) is not None and not Box.of(seg.crop_region).empty
    ]
    if len(shown) < len(items):
        note(
            NO_PICTURE,
            f"{len(items) - len(shown)} of {len(items)} segments have no picture, or lie outside of"
            " the image, so they are no variants. Connect the output 'variants' of a detailer.",
        )
    return shown


def scores_of(
    groups: Sequence[Candidates], by: str, **sources: Any
) -> list[list[float | None]] | None:
    """The scores of each segment's variants; None for FIRST.

    Args:
        by: one of SCORES.
        sources: the optional inputs of the node.

    Raises:
        ValueError: an input is missing that the score needs.
    """
    if by == FIRST:
        return None
    if by == SHARPNESS:
        return [[sharpness(seg) for seg in group.segs] for group in groups]
    if by == CONFIDENCE:
        detector = _needed(sources, "bbox_detector", by)
        return [[confidence_in(seg, detector) for seg in group.segs] for group in groups]
    if by == REFERENCE:
        return _by_references(groups, sources)
    return _by_texts(groups, sources)


def _needed(sources: dict[str, Any], name: str, by: str) -> Any:
    value = sources.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        what = "is empty" if name == "text" else "is not connected"
        raise ValueError(
            f"'{name}' {what}, which 'by' needs for '{by}'. {_REMEDIES[name]} Or choose another"
            " score in 'by'."
        )
    return value


_REMEDIES = {
    "bbox_detector": "Connect a detector, such as that of UltralyticsDetectorProvider.",
    "clip_vision": "Connect Load CLIP Vision.",
    "embedder": "Connect Person Embedder Loader, or Load CLIP Vision to 'clip_vision'.",
    "references": "Connect pictures of what the segments are to show.",
    "clip": "Connect the CLIP that belongs to 'clip_vision'.",
    "text": "Write what the segments are to show.",
}


def _by_references(groups: Sequence[Candidates], sources: dict[str, Any]) -> Scores:
    embedder = sources.get("embedder")
    if embedder is None and sources.get("clip_vision") is not None:
        embedder = ClipVisionEmbedder(sources["clip_vision"])
    if embedder is None:
        _needed(sources, "embedder", REFERENCE)
    pictures = _needed(sources, "references", REFERENCE)
    names = sources.get("names") or ""
    each = read_names(names, len(pictures)) if names.strip() else [""] * len(pictures)
    persons = Persons(pictures, each, [None] * len(pictures))
    return likeness_to_persons(groups, embedder, persons)


def _by_texts(groups: Sequence[Candidates], sources: dict[str, Any]) -> Scores:
    embedder = ClipVisionEmbedder(_needed(sources, "clip_vision", TEXT))
    encoder = ClipTexts(_needed(sources, "clip", TEXT))
    texts = dealt_texts(groups, _needed(sources, "text", TEXT), wildcard_library())

    def vector_for(group: Candidates, seg: SEG, length: int) -> torch.Tensor | None:
        text = texts(group, seg)
        return encoder.vector(text, length) if text else None

    return likeness_to_texts(groups, embedder, vector_for)


def for_editor(before: Sequence[torch.Tensor], chosen: Sequence[Chosen]) -> list[dict[str, Any]]:
    """What the node shows by itself: small pictures, numbers and scores.

    Args:
        before: [1,h,w,3] for each segment, what the image shows there.
    """
    pictures = [
        fitted(picture, SIDE)
        for first, own in zip(before, chosen, strict=True)
        for picture in (first, *(shown(own_picture(seg)) for seg in own.candidates.segs))
    ]
    files = iter(save_previews(pictures, "variants"))
    segments = []
    for own in chosen:
        entry = described_choice(own)
        entry["original"] = next(files)
        for variant in entry["variants"]:
            # Editors read numbers as floats, and a seed may have more digits than those.
            variant["seed"] = None if variant["seed"] is None else str(variant["seed"])
            variant["picture"] = next(files)
        segments.append(entry)
    return segments


def described_choice(own: Chosen) -> dict[str, Any]:
    """A choice as data."""
    group = own.candidates
    return {
        "segment": group.place.segment,
        "image": None if group.place.image < 0 else group.place.image,
        "label": group.label,
        "chosen": None if own.index is None else group.numbers[own.index],
        "chosen_by": own.by,
        "variants": [
            {
                "number": number,
                "seed": None if seg.variant is None else seg.variant.seed,
                "score": None if score is None else round(score, 6),
            }
            for seg, number, score in zip(group.segs, group.numbers, own.scores, strict=True)
        ],
    }


def as_text(by: str, chosen: Sequence[Chosen]) -> str:
    """What was chosen, as JSON."""
    content = {
        "schema": "detailers.variants",
        "version": 1,
        "by": by,
        "segments": [described_choice(own) for own in chosen],
    }
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


NODES = {"ChooseVariants": (ChooseVariants, "Choose Variants")}
