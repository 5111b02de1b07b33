"""Clips through models for pictures, motion and video of the host."""

from types import SimpleNamespace

import torch
from comfy.context_windows import (
    IndexListContextHandler,
    get_matching_context_schedule,
    get_matching_fuse_method,
)
from detailers.core.backend import IMAGES, MOTION, VIDEO
from detailers.core.clips import CollectedFrames, HeldFrames
from detailers.core.detail.tracks import detail_tracks
from detailers.core.geometry import Rect, Size, Sizing
from detailers.core.host.backend import ComfyBackend
from detailers.core.host.batching import drawn_noise
from detailers.core.noise import place_seeds
from detailers.core.settings import NO_CROPS, Detail, Masking, Models, Motion, Sampling
from detailers.core.tracks.track import Sighting, Track, Tracks
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.dev.tiny_models.build import build, conditioning
from detailers.dev.tiny_models.specs import TINY

FLAT, CLIP, FLAT_VAE = DetailersTestModel().run("flat8", 0.6)
VIDEO8, _, VIDEO_VAE = DetailersTestModel().run("video8", 0.6)
RED, NOTHING = (CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", ""))


WIDTH, HEIGHT, SIDE = 96, 64, 24


class LinearVAE:
    """A VAE of video models: 8 pixels and 4 frames for a cell, the first frame alone.

    What it encodes are mean colours, which it repeats in the channels.
    """

    latent_dim = 3
    vae_dtype = torch.float32

    def __init__(self, channels, every=4):
        self.channels, self.every = channels, every

    def spacial_compression_encode(self):
        return 8

    def temporal_compression_decode(self):
        return self.every

    def encode(self, pixels):
        steps = -(-(len(pixels) - 1) // self.every) + 1
        assert len(pixels) == (steps - 1) * self.every + 1, len(pixels)
        first = pixels[:1].repeat(self.every - 1, 1, 1, 1)
        groups = torch.cat([first, pixels]).unflatten(0, (steps, self.every)).mean(1)
        cells = torch.nn.functional.avg_pool2d(groups.movedim(-1, 1), 8) * 2 - 1
        return cells.repeat(1, -(-self.channels // 3), 1, 1)[:, : self.channels].movedim(0, 1)[None]

    def decode(self, latent):
        frames = latent[0, :3].movedim(0, 1).repeat_interleave(self.every, 0)[self.every - 1 :]
        large = torch.nn.functional.interpolate(frames, scale_factor=8, mode="nearest")
        return ((large + 1) / 2).clamp(0, 1).movedim(1, -1)[None]


def clip_of(frames):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(frames, HEIGHT, WIDTH, 3, generator=generator)


def track_of(frames):
    """A face that moves to the right by a fraction of a pixel each frame."""
    boxes = [Rect(30.2 + 0.3 * place, 32.0, SIDE, SIDE) for place in range(frames)]
    windows = [Rect(box.x, box.y, 2 * SIDE, 2 * SIDE) for box in boxes]
    sightings = [
        Sighting(place, box, window)
        for place, (box, window) in enumerate(zip(boxes, windows, strict=True))
    ]
    return Track(0, "face", tuple(sightings))


def detailed(models, frames, chunk=0, overlap=8, **sampling):
    """The frames before and after, and the backend."""
    clip, backend = clip_of(frames), Watched()
    settings = {"steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    detail = Detail(
        models,
        Sizing(guide_size=32, max_size=64, force_inpaint=True),
        Sampling(**{"seed": 5, "denoise": 0.5, **settings, **sampling}),
        Masking(feather=0),
        kept=NO_CROPS,
    )
    tracks = Tracks(Size(WIDTH, HEIGHT), frames, (track_of(frames),))
    sink, motion = CollectedFrames(clip), Motion(chunk=chunk, overlap=overlap)
    with torch.inference_mode():
        detail_tracks(HeldFrames(clip), tracks, detail, motion, backend, sink)
    assert_only_the_face_is_new(clip, sink.frames)
    return clip, sink.frames, backend


def assert_only_the_face_is_new(clip, out):
    assert torch.isfinite(out).all()
    for own in track_of(len(clip)).sightings:
        left, top, right, bottom = own.box.sides
        outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        outside[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = False
        assert torch.equal(out[own.frame][outside], clip[own.frame][outside]), own.frame
        assert not torch.equal(out[own.frame], clip[own.frame]), own.frame


def steps_of(clip, out):
    """How much the mean change of the face differs from frame to frame: [frames - 1]."""
    means = [
        (out[own.frame] - clip[own.frame])[26:38, int(own.box.x) - 6 : int(own.box.x) + 6].mean()
        for own in track_of(len(clip)).sightings
    ]
    return torch.stack(means).diff().abs()


class Watched(ComfyBackend):
    """A backend that knows the latents of the runs that it was asked for."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def sample(self, run, on_step):
        self.shapes.append(tuple(run.latent.shape))
        return super().sample(run, on_step)


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


def check_context_windows_of_other_packs_are_seen():
    backend, patched = ComfyBackend(), FLAT.clone()
    for length, expected in ((None, False), (16, True)):
        options = SimpleNamespace(context_length=length)
        patched.set_attachments("params", SimpleNamespace(context_options=options))
        assert backend.has_context_windows(patched) is expected, length


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


# Whole runs


def check_a_clip_in_chunks_is_the_clip_in_one_call():
    """The analytic model draws every latent step by itself, from noise that goes by its place."""
    models = Models(VIDEO8, CLIP, VIDEO_VAE, RED, NOTHING)
    for sampler in ("euler_ancestral", "dpmpp_2m_sde", "ddim"):
        _, whole, backend = detailed(models, 33, chunk=33, sampler_name=sampler)
        assert [shape[2] for shape in backend.shapes] == [9], backend.shapes
        _, parts, backend = detailed(models, 33, chunk=17, sampler_name=sampler)
        assert [shape[2] for shape in backend.shapes] == [5] * 3, backend.shapes
        assert (whole - parts).abs().max() < 2e-3, (sampler, (whole - parts).abs().max())


def check_a_motion_model_in_chunks_is_smooth_and_the_same_again():
    models = models_of("SD15", with_motion(build("SD15", TINY["SD15"])))
    module = models.model.model_options["transformer_options"]["patches"]["output_block_patch"][0]
    del module.rows[:]
    clip, out, _ = detailed(models, 20, chunk=8, overlap=4)
    assert set(module.rows) == {3, 8}, set(module.rows)  # tried with 3 rows
    _, again, _ = detailed(models, 20, chunk=8, overlap=4)
    assert torch.equal(out, again)
    found = steps_of(clip, out)  # chunks of 8 frames that begin at 0, 4, 8 and 12
    seams = torch.stack([found[at] for at in (4, 5, 8, 9, 12, 13)])
    assert seams.mean() < 1.5 * found.mean(), found


def check_video_models_of_the_host_take_clips_in_chunks():
    for name, channels, every, steps in (("WAN21_T2V", 16, 4, 5), ("LTXV", 128, 8, 3)):
        models = models_of(name, vae=LinearVAE(channels, every))
        clip, out, backend = detailed(models, 25, chunk=17, overlap=6)
        assert backend.shapes == 2 * [(1, channels, steps, 8, 8)], backend.shapes
        _, again, _ = detailed(models, 25, chunk=17, overlap=6)
        assert torch.equal(out, again), name
        found = steps_of(clip, out)  # the chunks share the frames 8 to 16
        assert found[8:17].mean() < 1.5 * found.mean(), (name, found)


def check_further_models_of_clips_are_sampled_in_chunks():
    """Also those whose conditioning holds planes for a clip of another length."""
    for name in ("WAN21_I2V", "WAN21_Vace", "HunyuanVideo15", "GenmoMochi", "Kandinsky5"):
        channels = TINY[name].latent[0]
        models = models_of(name, vae=LinearVAE(channels))
        _, _, backend = detailed(models, 25, chunk=17, steps=1, denoise=1.0)
        assert backend.shapes == 2 * [(1, channels, 5, 8, 8)], (name, backend.shapes)
    _, _, backend = detailed(models_of("SVD_img2vid"), 10, chunk=6, overlap=2)
    assert backend.shapes == 2 * [(6, 4, 8, 8)], backend.shapes
    for family, steps in (("sound8", 6), ("video17", 7)):  # sound, and a grid of 5, 22, 39 ...
        model, _, vae = DetailersTestModel().run(family, 0.6)
        models = Models(model, CLIP, vae, RED, NOTHING)
        _, parts, backend = detailed(models, 50, chunk=22, overlap=4)
        assert [shape[2] for shape in backend.shapes] == [steps] * 3, backend.shapes
        _, whole, _ = detailed(models, 50, chunk=60)
        assert (parts - whole).abs().max() < 2e-3, family


def check_context_windows_of_the_host_see_the_whole_range():
    motion = models_of("SD15", with_motion(build("SD15", TINY["SD15"])))
    module = motion.model.model_options["transformer_options"]["patches"]["output_block_patch"][0]
    del module.rows[:]
    windows = motion._replace(model=with_windows(motion.model, 0, 8, 4))
    _, _, backend = detailed(windows, 20)
    assert backend.shapes == [(20, 4, 8, 8)], backend.shapes
    assert max(module.rows) <= 9, set(module.rows)  # newer hosts add the first frame to a window
    video = models_of("WAN21_T2V", vae=LinearVAE(16))
    windows = video._replace(model=with_windows(video.model, 2, 3, 1))
    _, out, backend = detailed(windows, 25, chunk=9)
    assert backend.shapes == [(1, 16, 7, 8, 8)], backend.shapes
    _, plain, _ = detailed(video, 25)
    assert not torch.equal(out, plain)


def check_a_model_for_pictures_with_a_video_vae_draws_each_frame_by_itself():
    _, _, backend = detailed(models_of("QwenImage", vae=LinearVAE(16)), 3)
    assert {shape[1:] for shape in backend.shapes} == {(16, 1, 8, 8)}, backend.shapes
    assert sum(shape[0] for shape in backend.shapes) == 3, backend.shapes


def check_clips_of_one_frame():
    for models in (
        models_of("WAN21_T2V", vae=LinearVAE(16)),
        models_of("SD15", with_motion(build("SD15", TINY["SD15"]))),
    ):
        detailed(models, 1)


def check_noise_in_the_steps_of_a_sampler_goes_by_the_place():
    for shape, axis in (((6, 4, 3, 3), 0), ((1, 4, 6, 3, 3), 2)):
        x = torch.zeros(shape)
        first = drawn_noise(place_seeds(7, range(6)), x)
        second = drawn_noise(place_seeds(7, range(4, 10)), x)
        for _ in range(2):
            one, two = first(1.0, 0.5), second(1.0, 0.5)
            assert one.shape == x.shape
            assert torch.equal(one.narrow(axis, 4, 2), two.narrow(axis, 0, 2))


def check_a_frame_has_the_same_noise_in_a_clip_and_alone():
    """So has the sampler of a single picture: place 0 has the seed itself."""
    models = Models(VIDEO8, CLIP, VIDEO_VAE, RED, NOTHING)
    for sampler in ("euler", "euler_ancestral"):
        _, clip, _ = detailed(models, 5, sampler_name=sampler)
        _, alone, _ = detailed(models, 1, sampler_name=sampler)
        assert (clip[0] - alone[0]).abs().max() < 2e-3, sampler


def check_cycles_go_over_each_chunk():
    models = Models(VIDEO8, CLIP, VIDEO_VAE, RED, NOTHING)
    _, _, backend = detailed(models, 25, chunk=17, cycle=2)
    assert [shape[2] for shape in backend.shapes] == [5] * 4, backend.shapes
