"""The text side of the analytic models: a CLIP of the host that understands colour words."""

import hashlib
import re

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch

from .counters import count
from .prior import identity_layer

# Pixel values -1..1. `warm` and `cool` are for a tint; `nan` makes the sampled picture not finite.
COLOURS = {
    "red": (0.6, -0.6, -0.6),
    "green": (-0.6, 0.6, -0.6),
    "blue": (-0.6, -0.6, 0.6),
    "yellow": (0.6, 0.6, -0.6),
    "cyan": (-0.6, 0.6, 0.6),
    "magenta": (0.6, -0.6, 0.6),
    "white": (0.6, 0.6, 0.6),
    "black": (-0.6, -0.6, -0.6),
    "grey": (0.0, 0.0, 0.0),
    "warm": (0.3, 0.05, -0.25),
    "cool": (-0.25, 0.0, 0.3),
    "nan": (float("nan"),) * 3,
}

_CHUNK_WORDS = 75
_CHUNK_TOKENS = 77
_WIDTH = 8  # colour, whether a colour was named, and four numbers that tell texts apart


class Tokenizer:
    """Splits a text into words with weights, in chunks of 75; pictures come before all words."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        del embedding_directory, tokenizer_data  # the host passes them to every tokenizer

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options):
        """{"words": chunks of (word, weight)}; "(word:0.5)" gives a weight as everywhere.

        Options: `images`, each [n,h,w,3], and `llama_template` with a place "{}" for the text, both
        as of the host's text encoders that look at pictures.
        """
        text = (options.get("llama_template") or "{}").format(text)
        parts = comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0)
        words = [
            (word, weight)
            for part, weight in parts
            for word in re.findall(r"\w+", comfy.sd1_clip.unescape_important(part).lower())
        ]
        starts = range(0, max(len(words), 1), _CHUNK_WORDS)
        chunks = [words[start : start + _CHUNK_WORDS] for start in starts]
        shown = options.get("images") or ()
        chunks[0] = [({"type": "image", "data": image}, 1.0) for image in shown] + chunks[0]
        return {"words": chunks}

    def state_dict(self) -> dict:
        return {}


class TextEncoder(torch.nn.Module):
    """Words to a conditioning of 77 tokens [1,77,8] for each chunk, all tokens alike.

    Channels 0..2 are the text's colour: the mean of its colour words' colours by weight, a sum of
    weights below 1 being filled up with grey. Channel 3 is 1 where the text names a colour.
    Channels 4..7 are a fingerprint of the words. The pooled output [1,8] is one such token. A
    picture counts as a word of its mean colour.
    """

    dtypes = {torch.float32}

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__()
        self.tint = identity_layer().to(device)

    def encode_token_weights(self, tokens: dict) -> tuple[torch.Tensor, torch.Tensor]:
        count(text_encodes=1)
        every = [word for chunk in tokens["words"] for word in chunk]
        shown = [word["data"] for word, _ in every if isinstance(word, dict)]
        words = [(word, weight) for word, weight in every if not isinstance(word, dict)]
        named = [(COLOURS[word], weight) for word, weight in words if word in COLOURS]
        named += [((picture[0, ..., :3].mean((0, 1)) * 2 - 1).tolist(), 1.0) for picture in shown]
        total = max(1.0, sum(weight for _, weight in named))
        colour = [sum(weight * rgb[i] for rgb, weight in named) / total for i in range(3)]
        colour = self.tint(torch.tensor([colour], device=self.tint.weight.device)).cpu()
        rest = torch.tensor([[float(bool(named)), *_fingerprint(words)]])
        token = torch.cat([colour, rest], 1)
        return token.repeat(1, _CHUNK_TOKENS * len(tokens["words"]), 1), token

    # The host sets these before each encode; there are no layers to choose from.
    def set_clip_options(self, options: dict) -> None:
        pass

    def reset_clip_options(self) -> None:
        pass


def prompt_colour(tokens: torch.Tensor) -> torch.Tensor:
    """The colour [B,3] that a conditioning [B,T,8] stands for.

    The mean over the tokens that name one, so that conditionings can be joined and repeated.
    """
    named = tokens[..., 3:4]
    return (tokens[..., :3] * named).sum(1) / named.sum(1).clamp(min=1e-6)


def build_clip() -> comfy.sd.CLIP:
    target = comfy.supported_models_base.ClipTarget(Tokenizer, TextEncoder)
    return comfy.sd.CLIP(target, disable_dynamic=True)


def _fingerprint(words: list[tuple[str, float]]) -> list[float]:
    digest = hashlib.sha256(" ".join(word for word, _ in words).encode()).digest()
    return [byte / 127.5 - 1 for byte in digest[: _WIDTH - 4]]
