"""The miniature's diffusion model and text encoder, in the host's own classes.

Import this where the host's modules can be imported; see host_import.py.
"""

from __future__ import annotations

import comfy.ops
import comfy.sd1_clip
import torch
from comfy.clip_model import CLIPTextModel
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import nn

from .look import PHRASES

TEXT_CONFIG = {
    "hidden_size": 96,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
    "layer_norm_eps": 1e-5,
}
# Latents of 32 x 32 cells go down to 16 x 16 and 8 x 8, which attend to one another and the text.
# Beside the latent goes what is to be painted, 0 or 1, as in inpainting checkpoints.
UNET_CONFIG = {
    "image_size": 32,
    "in_channels": 5,
    "out_channels": 4,
    "model_channels": 64,
    "channel_mult": [1, 1, 2],
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_middle": -1,
    "transformer_depth_output": [0, 0, 0, 1, 0, 1],
    "context_dim": TEXT_CONFIG["hidden_size"],
    "num_heads": 2,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
    "use_checkpoint": False,
    "legacy": False,
    "adm_in_channels": None,
}
TOKEN_ROWS = "text_model.embeddings.token_embedding.weight"  # noqa: S105 - of words, no password


class Words:
    """The tokens of the world's captions, numbered from 0; one more number is for all others."""

    def __init__(self):
        self.tokenizer = comfy.sd1_clip.SDTokenizer(
            embedding_size=TEXT_CONFIG["hidden_size"], embedding_key="clip_l"
        )
        text = ", ".join(phrase for phrases in PHRASES.values() for phrase in phrases.values())
        special = {self.tokenizer.start_token, self.tokenizer.end_token}
        self.known = sorted(special | set(self.tokens(f"a person, {text}")))
        self.other = len(self.known)
        self.number = {token: number for number, token in enumerate(self.known)}

    def tokens(self, text: str) -> list[int]:
        """The host's tokens of a text, without start, end and padding."""
        return self.tokenizer.tokenizer(text)["input_ids"][1:-1]

    def numbers(self, texts: list[str]) -> torch.Tensor:
        """Rows [B,77] of numbers for short texts, as the host would lay out their tokens."""
        start, end = self.number[self.tokenizer.start_token], self.number[self.tokenizer.end_token]
        rows = torch.full((len(texts), TEXT_CONFIG["max_position_embeddings"]), end)
        for row, text in zip(rows, texts, strict=True):
            found = [self.number.get(token, self.other) for token in self.tokens(text)][:75]
            row[: len(found) + 1] = torch.tensor([start, *found])
        return rows

    def spread(self, rows: torch.Tensor, vocabulary: int = 49408) -> torch.Tensor:
        """The host's table [vocabulary,C] of token vectors, from the rows of the numbers."""
        table = rows[self.other].repeat(vocabulary, 1)
        table[self.known] = rows[: self.other]
        return table


class TrainedText(nn.Module):
    """The host's text encoder, with a table of the words in use alone and a backward pass."""

    def __init__(self, words: int):
        super().__init__()
        operations = comfy.ops.disable_weight_init
        self.model = CLIPTextModel(TEXT_CONFIG, torch.float32, "cpu", operations)
        initialise(self.model)
        table = nn.Embedding(words, TEXT_CONFIG["hidden_size"])
        nn.init.normal_(table.weight, std=0.3)
        self.model.text_model.embeddings.token_embedding = table
        nn.init.normal_(self.model.text_model.embeddings.position_embedding.weight, std=0.02)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Conditioning [B,77,C] of words by number; the host's own pass works in place."""
        parts = self.model.text_model
        length = numbers.shape[1]
        x = parts.embeddings.token_embedding(numbers) + parts.embeddings.position_embedding.weight
        for layer in parts.encoder.layers:
            x = x + self._attend(layer.self_attn, layer.layer_norm1(x), length)
            x = x + layer.mlp(layer.layer_norm2(x))
        return parts.final_layer_norm(x)

    @staticmethod
    def _attend(attention: nn.Module, x: torch.Tensor, length: int) -> torch.Tensor:
        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.view(len(x), length, attention.heads, -1).transpose(1, 2)

        q, k, v = heads(attention.q_proj(x)), heads(attention.k_proj(x)), heads(attention.v_proj(x))
        result = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return attention.out_proj(result.transpose(1, 2).flatten(2))


def trained_unet() -> UNetModel:
    """The host's UNet with fresh weights that let the signal through unchanged."""
    unet = UNetModel(**UNET_CONFIG, operations=comfy.ops.disable_weight_init)
    initialise(unet)
    for name, value in unet.named_parameters():
        if name.startswith("out.2") or ".out_layers.3." in name or ".proj_out." in name:
            nn.init.zeros_(value)
    return unet


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Weights that keep a signal's size; the host's classes leave them as memory happens to be."""
    for module in network.modules():
        for name, value in module.named_parameters(recurse=False):
            if value.ndim > 1:
                nn.init.normal_(value, std=value[0].numel() ** -0.5)
            else:
                value.fill_(float("Norm" in type(module).__name__ and name == "weight"))
