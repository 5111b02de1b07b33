"""Writes checkpoint files with random weights that a stock ComfyUI loads as known models.

    python dev/checkpoint.py sd15 COMFYUI OUT.safetensors

COMFYUI is the host's folder; the interpreter must have the host's requirements. The samples look
like noise, but are finite, and every part of the host runs as with a real model.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

# The smallest UNet that the host takes for SD 1.5: it looks for 320 channels and a context of 768.
SD15_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "num_heads": 8,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "legacy": False,
}


# The host reads an SD 3's size from the weights: 64 channels for each block.
SD3_TRANSFORMER = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "depth": 2,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 128},
    },
    "pos_embed_max_size": 64,
    "num_patches": 64 * 64,
    "qk_norm": "rms",
}


def write_sd15(path: Path, tree: Path, seed: int = 0) -> None:
    """Write a checkpoint of SD 1.5's architecture, 340 MB, for CheckpointLoaderSimple.

    The UNet is small, the VAE is the host's TAESD, the text encoder is CLIP-L whole, as the host
    takes no shorter one.

    Args:
        path: the .safetensors file to write.
        tree: the host's folder; its classes make the networks.
        seed: of the weights; equal seeds give equal files.
    """
    _import_host(tree)
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    unet = UNetModel(**SD15_UNET, operations=comfy.ops.disable_weight_init)
    _write(path, tree, seed, unet, clip_prefix="cond_stage_model.", latent_channels=4)


def write_sd3(path: Path, tree: Path, seed: int = 0) -> None:
    """Write a checkpoint of SD 3's architecture, 250 MB; arguments as of `write_sd15`.

    A flow model of 16 latent channels in which text and image tokens share one attention. CLIP-L
    is its only text encoder.
    """
    _import_host(tree)
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.mmdit import MMDiT

    transformer = MMDiT(**SD3_TRANSFORMER, operations=comfy.ops.disable_weight_init)
    _write(path, tree, seed, transformer, clip_prefix="text_encoders.clip_l.", latent_channels=16)


def write_controlnet(path: Path, tree: Path, seed: int = 0) -> None:
    """Write a ControlNet for the checkpoint of `write_sd15`, 42 MB; arguments as there.

    ControlNetLoader loads it. Its zero convolutions are not zero, so it does guide.
    """
    _import_host(tree)
    from comfy.cldm.cldm import ControlNet

    of_a_unet_alone = ("out_channels", "transformer_depth_output")
    config = {key: value for key, value in SD15_UNET.items() if key not in of_a_unet_alone}
    network = ControlNet(**config, hint_channels=3)
    _fill(network, torch.Generator().manual_seed(seed))
    _save({name: value.half() for name, value in network.state_dict().items()}, path)


def _write(
    path: Path,
    tree: Path,
    seed: int,
    denoiser: torch.nn.Module,
    clip_prefix: str,
    latent_channels: int,
) -> None:
    import comfy.clip_model
    import comfy.ops
    import comfy.taesd.taesd

    clip_config = json.loads((tree / "comfy" / "sd1_clip_config.json").read_text())
    operations = comfy.ops.disable_weight_init
    clip = comfy.clip_model.CLIPTextModel(clip_config, torch.float32, "cpu", operations)
    taesd = comfy.taesd.taesd.TAESD(latent_channels=latent_channels)
    generator = torch.Generator().manual_seed(seed)
    for network in (denoiser, taesd, clip):
        _fill(network, generator)
    _tune_taesd(taesd, latent_channels, generator)
    parts = {
        "model.diffusion_model.": denoiser,
        "first_stage_model.": taesd,
        clip_prefix + "transformer.": clip,
    }
    weights = {
        prefix + name: value.half()
        for prefix, network in parts.items()
        for name, value in network.state_dict().items()
        if name != "text_projection.weight"  # the checkpoints of these models have none
    }
    _save(weights, path)


def _save(weights: dict[str, torch.Tensor], path: Path) -> None:
    import safetensors.torch

    part = path.with_name(path.name + ".part")
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()}, part)
    part.replace(path)  # so that a file with the final name is always whole


def _import_host(tree: Path) -> None:
    sys.path.insert(0, str(tree))
    import comfy.cli_args

    comfy.cli_args.args.cpu = True  # else the host asks for a GPU while it is imported


@torch.no_grad()
def _fill(network: torch.nn.Module, generator: torch.Generator) -> None:
    """Random matrices and kernels that keep a signal's size; norms and biases that do nothing."""
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            table = name.endswith(("embedding.weight", "pos_embed"))
            std = 0.02 if table else value[0].numel() ** -0.5
            value.normal_(0, std, generator=generator)
        elif value.ndim == 1:
            value.fill_(float(name.endswith("weight")))


@torch.no_grad()
def _tune_taesd(taesd: torch.nn.Module, channels: int, generator: torch.Generator) -> None:
    """Scale the last layers: latents of unit variance, pictures around grey that do not clip."""
    picture = torch.rand(1, 3, 64, 64, generator=generator)
    latent = torch.randn(1, channels, 32, 32, generator=generator)
    for network, sample, mean, std in (
        (taesd.taesd_encoder, picture, 0.0, 1.0),
        (taesd.taesd_decoder, latent, 0.5, 0.15),
    ):
        last = network[-1]
        last.weight *= std / network(sample).std()
        last.bias += mean - network(sample).mean((0, 2, 3))


def main() -> None:
    writers = {"sd15": write_sd15, "sd3": write_sd3, "controlnet": write_controlnet}
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("kind", choices=writers, help="architecture")
    parser.add_argument("tree", type=Path, help="ComfyUI's folder")
    parser.add_argument("out", type=Path, help=".safetensors file to write")
    arguments = parser.parse_args()
    writers[arguments.kind](arguments.out, arguments.tree.resolve())


if __name__ == "__main__":
    main()
