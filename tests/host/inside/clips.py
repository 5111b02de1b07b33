"""Clips through models for pictures, motion and video of the host."""

from types import SimpleNamespace

import torch
from comfy.context_windows import (
    IndexListContextHandler,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from detailers.core.backend import IMAGES, MOTION, VIDEO
from detailers.core.host.backend import ComfyBackend
from detailers.core.settings import Models
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.dev.tiny_models.build import build, conditioning
from detailers.dev.tiny_models.specs import TINY

FLAT, CLIP, FLAT_VAE = DetailersTestModel().run("flat8", 0.6)
VIDEO8, _, VIDEO_VAE = DetailersTestModel().run("video8", 0.6)
RED, NOTHING = (CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", ""))


class Neighbours:
    """A motion module: in a block of a UNet every row is drawn towards those beside it."""

    def __init__(self, share):
        self.share = share
        self.rows = []  # frames of each call

    def __call__(self, h, skip, options):
        clips = h.unflatten(0, (len(options["cond_or_uncond"]), -1))
        self.rows.append(clips.shape[1])
        mean = (clips.roll(1, 1) + clips.roll(-1, 1)) / 2
        return torch.lerp(clips, mean, self.share).flatten(0, 1), skip


def with_motion(model, share=0.5):
    patched = model.clone()
    patched.set_model_output_block_patch(Neighbours(share))
    return patched


def with_windows(model, dim, length, overlap):
    """As ComfyUI's nodes for context windows do it."""
    patched = model.clone()
    patched.model_options["context_handler"] = IndexListContextHandler(
        context_schedule=get_matching_context_schedule("standard_static"),
        fuse_method=get_matching_fuse_method("pyramid"),
        context_length=length,
        context_overlap=overlap,
        dim=dim,
    )
    return patched


def models_of(name, model=None, vae=FLAT_VAE):
    tiny = TINY[name]
    sides = [conditioning(tiny, text, tiny.lengths[0]) for text in (0, 1)]
    return Models(model or build(name, tiny), CLIP, vae, *sides)


def kind_of(models):
    with torch.inference_mode():
        return ComfyBackend().clip_kind(models)


def check_known_models_are_told_by_their_class():
    assert kind_of(Models(FLAT, CLIP, FLAT_VAE, RED, NOTHING)) == IMAGES
    assert kind_of(Models(VIDEO8, CLIP, VIDEO_VAE, RED, NOTHING)) == VIDEO
    expected = {
        "SD15": IMAGES, "SVD_img2vid": MOTION, "WAN21_T2V": VIDEO, "LTXV": VIDEO,
        "QwenImage": IMAGES, "Anima": IMAGES, "CosmosT2IPredict2": IMAGES,
        "CosmosI2VPredict2": VIDEO, "HunyuanVideo": VIDEO,
    }  # fmt: skip
    found = {}
    for name in expected:
        timed = name not in ("SD15", "SVD_img2vid")
        found[name] = kind_of(models_of(name, vae=VIDEO_VAE if timed else FLAT_VAE))
    assert found == expected, found


def check_motion_modules_that_nobody_knows_are_tried_out():
    plain = build("SD15", TINY["SD15"])
    assert kind_of(models_of("SD15", with_motion(plain))) == MOTION
    assert kind_of(models_of("SD15", with_motion(plain, share=0.0))) == IMAGES


def check_trying_a_model_is_not_counted_and_happens_once():
    backend = ComfyBackend()
    patched = with_motion(build("SD15", TINY["SD15"]))
    models = models_of("SD15", patched)
    (module,) = patched.model_options["transformer_options"]["patches"]["output_block_patch"]
    with torch.inference_mode():
        assert [backend.clip_kind(models) for _ in range(3)] == [MOTION] * 3
    blocks = len(set(module.rows)), len(module.rows)
    backend.clip_kind(models)
    assert (len(set(module.rows)), len(module.rows)) == blocks == (1, blocks[1])
    assert module.rows[0] == 3 and backend.model_calls == 0


def check_a_model_that_cannot_be_tried_counts_as_one_for_pictures():
    def broken(apply, options):
        raise RuntimeError("only at full size")

    patched = FLAT.clone()
    patched.set_model_unet_function_wrapper(broken)
    assert kind_of(Models(patched, CLIP, FLAT_VAE, RED, NOTHING)) == IMAGES


def check_context_windows_over_rows_are_a_sign_of_motion():
    backend = ComfyBackend()
    windows = with_windows(FLAT, 0, 8, 2)
    assert backend.has_context_windows(windows) and not backend.has_context_windows(FLAT)
    assert kind_of(Models(windows, CLIP, FLAT_VAE, RED, NOTHING)) == MOTION


def check_the_length_of_clips_that_models_know():
    backend = ComfyBackend()
    expected = {"SD15": 1, "SVD_img2vid": 25, "WAN21_T2V": 81, "WAN22_T2V": 121, "LTXV": 97}
    found = {}
    for name in expected:
        timed = name not in ("SD15", "SVD_img2vid")
        models = models_of(name, vae=VIDEO_VAE if timed else FLAT_VAE)
        found[name] = backend.native_frames(models)
    assert found == expected, found
    motion = models_of("SD15", with_motion(build("SD15", TINY["SD15"])))
    with torch.inference_mode():
        assert backend.native_frames(motion) == 16
    other = SimpleNamespace(model=SimpleNamespace(), model_options={})
    assert backend.native_frames(Models(other, None, VIDEO_VAE, [], [])) == 81
