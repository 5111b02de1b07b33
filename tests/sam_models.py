"""SAMs and a CLIPSeg with random weights, small, in the formats of their files."""

import json

import torch


def _seeded(network, spread=0.1):
    """Weights from a fixed seed; transformers leaves some of them 0."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, spread, generator=generator)
        elif name.endswith("bias"):
            parameter.data.normal_(0, 0.02, generator=generator)
    for name, buffer in network.named_buffers():
        if name.endswith("positional_embedding"):
            buffer.data.normal_(0, 1, generator=generator)
    return network.eval()


def sam():
    """A transformers SamModel for inputs of 128 x 128."""
    from transformers import SamConfig, SamModel

    vision = {
        "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 3, "image_size": 128,
        "num_attention_heads": 2, "window_size": 6, "global_attn_indexes": [1], "num_pos_feats": 16,
    }  # fmt: skip
    decoder = {
        "hidden_size": 32, "mlp_dim": 64, "iou_head_hidden_dim": 24, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 128},
        mask_decoder_config=decoder,
    )
    network = _seeded(SamModel(config))
    shared = network.shared_image_embedding.positional_embedding
    network.prompt_encoder.shared_embedding.positional_embedding.data.copy_(shared)
    return network


def sam2(side=1024, *, newer=True):
    """A transformers Sam2VideoModel, which holds the weights for images too.

    Args:
        side: of its input.
        newer: SAM 2.1 instead of SAM 2.
    """
    from transformers import Sam2VideoConfig, Sam2VideoModel

    stages = [16, 32, 64, 128]
    config = Sam2VideoConfig(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 16,
                "num_attention_heads": 1, "image_size": [side, side],
                "window_positional_embedding_background_size": [7, 7],
                "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": stages,
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 14, 7], "global_attention_blocks": [],
            },
            "backbone_channel_list": stages[::-1],
            "backbone_feature_sizes": [[side // step] * 2 for step in (4, 8, 16)],
            "fpn_hidden_size": 128,
        },
        prompt_encoder_config={"hidden_size": 128, "image_size": side},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 96, "iou_head_hidden_dim": 24},
        image_size=side, enable_occlusion_spatial_embedding=newer,
        enable_temporal_pos_encoding_for_object_pointers=newer,
        memory_attention_hidden_size=128, memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=96,
        memory_attention_rope_feat_sizes=[side // 16] * 2, memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=48,
    )  # fmt: skip
    network = _seeded(Sam2VideoModel(config))
    network.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(5.0)  # it sees the thing
    shared = network.shared_image_embedding.positional_embedding
    network.prompt_encoder.shared_embedding.positional_embedding.data.copy_(shared)
    return network


def clipseg(folder, *, bias):
    """Write a CLIPSeg to a folder; `bias` is what it adds to its rating of every pixel."""
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    text = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 600,
        "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 513,
        "bos_token_id": 512, "pad_token_id": 513,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "image_size": 64,
        "num_attention_heads": 2, "patch_size": 32,
    }  # fmt: skip
    config = CLIPSegConfig(
        text_config=text, vision_config=vision, projection_dim=16, reduce_dim=16,
        extract_layers=[0, 1], decoder_num_attention_heads=2, decoder_intermediate_size=32,
    )  # fmt: skip
    network = _seeded(CLIPSegForImageSegmentation(config), 0.02)
    network.decoder.transposed_convolution.bias.data.fill_(bias)
    network.save_pretrained(folder)
    letters = _byte_letters()
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def _byte_letters():
    """The 256 letters by which CLIP's tokenizer writes bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(code) for code in [*shown, *range(256, 256 + 256 - len(shown))]]
