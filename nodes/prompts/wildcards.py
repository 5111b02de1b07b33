"""Nodes for prompts with wildcards."""

from __future__ import annotations

from typing import Any

from ...core.host.backend import ComfyBackend
from ...core.host.folders import file_names, wildcard_library
from ...core.host.messages import tell_editor
from ...core.host.prompts import wildcard_names
from ...core.prompts.segment_text import SegmentTexts
from ...core.prompts.text_lists import labelled_prompts
from ...core.prompts.wildcard_nodes import FIXED, MODES, POPULATE, Populated, record
from ...core.settings import Models
from ...utils.seeds import MAX_SEED
from ...wildcards.grammar import expand, parse_prompt, tell_untaken

CATEGORY = "Detailers/Prompt"

_WILDCARD_TEXT = {
    "multiline": True,
    "dynamicPrompts": False,
    "tooltip": "The prompt, with wildcards: __name__ is replaced by a random line of that list, "
    "{a|b|c} by one of the choices.",
}
_POPULATED_TEXT = {
    "multiline": True,
    "dynamicPrompts": False,
    "tooltip": "The prompt that is used. In mode 'populate' it is made again each time the "
    "workflow is queued. In the other modes you write it.",
}
_MODE_TOOLTIP = (
    "populate: make the prompt from wildcard_text. fixed: use populated_text as it is. "
    "reproduce: use populated_text one more time, and then go back to populate."
)
_SEED = {
    "default": 0,
    "min": 0,
    "max": MAX_SEED,
    "tooltip": "Decides every random choice: the same seed gives the same text.",
}
ADD_LORA = "Select the LoRA to add to the text"
ADD_WILDCARD = "Select the Wildcard to add to the text"


def lora_choices() -> list[str]:
    """The entries of the widget that adds a LoRA to the text."""
    return [ADD_LORA, *file_names("loras")]


def wildcard_choices() -> list[str]:
    """The entries of the widget that adds a wildcard to the text."""
    return [ADD_WILDCARD, *(f"__{name}__" for name in wildcard_names())]


_HIDDEN = {"unique_id": "UNIQUE_ID", "extra_pnginfo": "EXTRA_PNGINFO"}


def populated(
    wildcard_text: str, populated_text: str, mode: str, seed: int, unique_id: Any, info: Any
) -> str:
    """The expanded text of a wildcard node.

    Texts are normally expanded when a prompt arrives. This function does it for texts and seeds
    that come over links, and for wildcards that were typed into `populated_text`. In the mode
    'populate' the expanded text is shown in the node and saved with pictures.

    Args:
        unique_id, info: the id of the node, and the data that is saved with pictures. None: ComfyUI
            does not run the node.
    """
    text = wildcard_text if mode == POPULATE else populated_text
    drawn = _drawn(text, seed)
    if mode == POPULATE and unique_id is not None:
        tell_editor("populated", node=str(unique_id), text=drawn)
        record((info or {}).get("workflow"), [Populated(str(unique_id), drawn)])
    return drawn


def _drawn(text: str, seed: int) -> str:
    resolved = expand(text, seed, wildcard_library())
    tell_untaken(resolved)
    return resolved


class ImpactWildcardProcessor:
    DESCRIPTION = "Makes a prompt from a text with wildcards and choices."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("processed text",)
    OUTPUT_TOOLTIPS = ("The finished prompt.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        add = {"tooltip": "Choosing a list adds it to wildcard_text."}
        return {
            "required": {
                "wildcard_text": ("STRING", _WILDCARD_TEXT),
                "populated_text": ("STRING", _POPULATED_TEXT),
                "mode": (list(MODES), {"default": POPULATE, "tooltip": _MODE_TOOLTIP}),
                "seed": ("INT", _SEED),
                "Select to add Wildcard": (wildcard_choices(), add),
            },
            "hidden": _HIDDEN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, **chosen):
        return True  # the choices only help to write the text

    def run(
        self, wildcard_text, populated_text, mode, seed, unique_id=None, extra_pnginfo=None,
        **_chosen,
    ):  # fmt: skip
        return (populated(wildcard_text, populated_text, mode, seed, unique_id, extra_pnginfo),)

    # Nodes of other packs call these two methods, with keywords.

    def doit(self, *, populated_text, seed=None, **_more):
        """As `run` for a finished text. Wildcards that it holds are expanded with the seed."""
        return self.run("", populated_text, FIXED, seed or 0)

    @staticmethod
    def process(text, seed=None):
        """The text, expanded with the seed, or with the seed 0 if there is none."""
        return _drawn(text, seed or 0)


class ImpactWildcardEncode:
    DESCRIPTION = (
        "Makes a prompt from a text with wildcards and choices, loads the LoRAs that it names, "
        "and encodes it."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("MODEL", "CLIP", "CONDITIONING", "STRING")
    RETURN_NAMES = ("model", "clip", "conditioning", "populated_text")
    OUTPUT_TOOLTIPS = (
        "The model with the text's LoRAs.",
        "The CLIP with the text's LoRAs.",
        "The encoded prompt.",
        "The finished prompt.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        add_lora = {"tooltip": "Choosing a LoRA adds it to wildcard_text."}
        add_list = {"tooltip": "Choosing a list adds it to wildcard_text."}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "The model that the text's LoRAs change."}),
                "clip": ("CLIP", {"tooltip": "Encodes the prompt."}),
                "wildcard_text": ("STRING", _WILDCARD_TEXT),
                "populated_text": ("STRING", _POPULATED_TEXT),
                "mode": (list(MODES), {"tooltip": _MODE_TOOLTIP}),
                "Select to add LoRA": (lora_choices(), add_lora),
                "Select to add Wildcard": (wildcard_choices(), add_list),
                "seed": ("INT", _SEED),
            },
            "hidden": _HIDDEN,
        }

    @classmethod
    def VALIDATE_INPUTS(cls, **chosen):
        return True  # the choices only help to write the text

    def run(
        self, model, clip, wildcard_text, populated_text, mode, seed, unique_id=None,
        extra_pnginfo=None, **_chosen,
    ):  # fmt: skip
        text = populated(wildcard_text, populated_text, mode, seed, unique_id, extra_pnginfo)
        return (*_encoded(ComfyBackend(), model, clip, parse_prompt(text)), text)

    # Nodes of other packs call these methods, with keywords, to make prompts.

    def doit(self, *, model, clip, populated_text, seed=None, **_more):
        """As `run` for a finished text. Wildcards that it holds are expanded with the seed."""
        return self.run(model, clip, "", populated_text, FIXED, seed or 0)

    @staticmethod
    def get_wildcard_list():
        """The names of all wildcard lists, in the form in which a text uses them."""
        return [f"__{name}__" for name in wildcard_names()]

    @staticmethod
    def process_with_loras(
        wildcard_opt, model, clip, clip_encoder=None, seed=None, processed=None
    ):  # fmt: skip
        """Expand a text, load its LoRAs and encode it.

        Args:
            clip_encoder: an object with `encode(clip, text)`, which returns a tuple with the
                conditioning.
            processed: a list to which are added: the expanded text, the text without its LoRAs,
                and the text in chunks.

        Returns:
            (model, clip, conditioning)
        """
        text = _drawn(wildcard_opt, seed or 0)
        prompt = parse_prompt(text)
        if processed is not None:
            processed += [text, " BREAK ".join(prompt.chunks), list(prompt.chunks)]
        backend = ComfyBackend() if clip_encoder is None else _OtherEncoder(clip_encoder)
        return _encoded(backend, model, clip, prompt)


class _OtherEncoder(ComfyBackend):
    """The ComfyUI backend, with texts encoded by an object of another pack."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def encode_text(self, clip, text):
        return self.encoder.encode(clip, text)[0]


def _encoded(backend, model, clip, prompt):
    """Model, CLIP and conditioning of a prompt, with its LoRAs."""
    texts = SegmentTexts(backend, Models(model, clip, None, [], []))
    encoded = texts.encode(prompt)
    return encoded.model, encoded.clip, encoded.positive


class WildcardPromptFromString:
    DESCRIPTION = (
        "Makes one text for each segment from a list of prompts, such as the output of a "
        "tagger: a [LAB] text for a detailer, and the labels for 'SEGS Assign (label)'."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("wildcard", "segs_labels")
    OUTPUT_TOOLTIPS = (
        "The text for a detailer's 'wildcard' input.",
        "The labels, in the order of the prompts, for ImpactSEGSLabelAssign.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        def line(tooltip, **options):
            return ("STRING", {"multiline": False, **options, "tooltip": tooltip})

        prompts = {"forceInput": True, "tooltip": "The prompts, one after another."}
        return {
            "required": {
                "string": ("STRING", prompts),
                "delimiter": line("The text between two prompts. \\n is a line break.",
                                  default="\\n"),
                "prefix_all": line("Text that is added before every prompt."),
                "postfix_all": line("Text that is added after every prompt."),
                "restrict_to_tags": line("Keep only these tags, separated by commas. If it is "
                "empty, all are kept."),
                "exclude_tags": line("Leave out these tags, separated by commas."),
            }
        }  # fmt: skip

    def run(self, string, delimiter, prefix_all, postfix_all, restrict_to_tags, exclude_tags):
        return labelled_prompts(
            string, delimiter, prefix_all, postfix_all, restrict_to_tags, exclude_tags
        )


NODES = {
    "ImpactWildcardProcessor": (ImpactWildcardProcessor, "ImpactWildcardProcessor"),
    "ImpactWildcardEncode": (ImpactWildcardEncode, "ImpactWildcardEncode"),
    "WildcardPromptFromString": (WildcardPromptFromString, "Wildcard Prompt from String"),
}
