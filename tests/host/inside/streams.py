"""Latents of several streams, as the host's video models with sound have them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import comfy.model_base
import comfy.sample
import comfy.utils
import nodes as host_nodes
import torch
from comfy.nested_tensor import NestedTensor
from detailers.core.backend import SamplerRun
from detailers.core.detail.video import detail_frames
from detailers.core.files import latent_file
from detailers.core.geometry import Sizing
from detailers.core.hook_protocol import DetailerHook
from detailers.core.hooks.builtin import NoiseInjectionHook
from detailers.core.host import latent_previews
from detailers.core.host.backend import ComfyBackend
from detailers.core.noise import start_noise
from detailers.core.sampling import iterative_upscale, regional, sampler_objects
from detailers.core.sampling import latent as sampling
from detailers.core.sampling.sigmas import Window
from detailers.core.segs.seg import SEG
from detailers.core.settings import Detail, Masking, Models, Sampling, Tiles
from detailers.dev.model_pack.model import SOUND, DetailersTestModel
from detailers.utils.notes import collected_notes

STEPS, SEED = 4, 11
MODEL, CLIP, VAE = DetailersTestModel().run("sound8", 0.6)
RED, GREEN, NOTHING = (
    CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", "green", "")
)


def latent(value=0.3):
    """Two steps of 4x6 cells, and five of sound."""
    video = torch.full((1, MODEL.model.latent_format.latent_channels, 2, 4, 6), value)
    sound = torch.linspace(-1, 1, 2 * 5 * 3).view(1, 2, 5, 3)
    return {"samples": NestedTensor([video, sound])}


def sampler_setup(positive=RED, **changed):
    return sampling.SamplerSetup(MODEL, positive, NOTHING, 1.0, "euler", "simple", **changed)


def sampled(before, denoise=1.0, **changed):
    settings = sampling.Denoising(SEED, STEPS, denoise)
    own = sampler_setup()
    own = sampling.replace(own, **changed)
    return sampling.sample_latent(own, settings, before, ComfyBackend())["samples"].unbind()


def by_the_host(before, denoise=1.0, sampler_name="euler", noise_mask=None):
    noise = comfy.sample.prepare_noise(before["samples"], SEED)
    return comfy.sample.sample(
        MODEL, noise, STEPS, 1.0, sampler_name, "simple", RED, NOTHING, before["samples"],
        denoise=denoise, noise_mask=noise_mask, disable_pbar=True, seed=SEED,
    ).unbind()  # fmt: skip


def same(found, expected, atol=1e-5):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


def check_noise_is_the_hosts():
    samples = latent()["samples"]
    same(start_noise(samples, SEED).unbind(), comfy.sample.prepare_noise(samples, SEED).unbind())
    two = NestedTensor([torch.cat([stream] * 2) for stream in samples.unbind()])
    host = comfy.sample.prepare_noise(two, SEED, [1, 1]).unbind()
    same(start_noise(two, SEED, rows=[1, 1]).unbind(), host)


def check_all_streams_are_sampled_as_the_host_does():
    for name in ("euler", "dpmpp_2m_sde", "euler_ancestral"):
        found = sampled(latent(), 0.6, sampler_name=name)
        expected = by_the_host(latent(), 0.6, name)
        if name != "dpmpp_2m_sde":  # whose path spans the whole schedule here
            same(found, expected)
        assert (found[1] - latent()["samples"].unbind()[1]).abs().max() > 0.1


def left_half():
    mask = torch.zeros(1, 4, 6)
    mask[..., :3] = 1
    return mask


def check_a_mask_of_the_picture_leaves_the_sound_alone():
    before = latent()
    video, sound = sampled({**before, "noise_mask": left_half()})
    was_video, was_sound = before["samples"].unbind()
    assert torch.equal(sound, was_sound)
    torch.testing.assert_close(video[..., 3:], was_video[..., 3:], atol=1e-5, rtol=0)
    assert (video[..., :3] - was_video[..., :3]).abs().mean() > 0.1


def check_masks_of_all_streams_do_as_they_say():
    before = latent()
    video_mask = left_half()[:, None, None].expand(1, 1, 2, 4, 6).contiguous()
    sound_mask = torch.zeros(1, 1, 5, 3)
    sound_mask[:, :, :2] = 1
    mask = NestedTensor([video_mask, sound_mask])
    found = sampled({**before, "noise_mask": mask})
    same(found, by_the_host(before, noise_mask=NestedTensor([video_mask, sound_mask])))
    was = before["samples"].unbind()[1]
    torch.testing.assert_close(found[1][:, :, 2:], was[:, :, 2:], atol=1e-5, rtol=0)
    assert (found[1][:, :, :2] - was[:, :, :2]).abs().mean() > 0.05
    quiet = NestedTensor([video_mask, torch.zeros(1, 1, 5, 3)])
    assert torch.equal(sampled({**before, "noise_mask": quiet})[1], was)


def check_parts_of_a_schedule_make_up_a_whole():
    backend = ComfyBackend()
    advanced = sampler_objects.AdvancedKSampler(sampler_setup(), lambda: backend)
    before = latent()
    first = advanced.sample_advanced(True, SEED, STEPS, before, 0, 2, True)
    last = advanced.sample_advanced(False, SEED, STEPS, first, 2, STEPS, False)
    same(last["samples"].unbind(), sampled(before))


def check_no_tiles():
    with collected_notes() as notes:
        found = sampled(latent(), tiles=Tiles(16, 16, "simple"))
    same(found, sampled(latent()), 0)
    assert [note.kind for note in notes] == ["tiles"]


def check_regions_are_of_the_picture_and_the_sound_is_the_bases():
    backend, before = ComfyBackend(), latent()
    base = sampler_objects.AdvancedKSampler(sampler_setup(), lambda: backend)
    inner = sampler_objects.AdvancedKSampler(sampler_setup(GREEN), lambda: backend)
    window = Window(STEPS, 0, STEPS)
    found = regional.sample_two(base, inner, left_half(), before, window, SEED, 0, backend)
    video, sound = found["samples"].unbind()
    alone_video, alone_sound = sampled(before)
    torch.testing.assert_close(sound, alone_sound, atol=1e-4, rtol=0)
    torch.testing.assert_close(video[..., 3:], alone_video[..., 3:], atol=1e-4, rtol=0)
    assert (video[..., :3] - alone_video[..., :3]).abs().mean() > 0.1
    prompt = regional.RegionalPrompt(left_half(), inner, 5, 0.5)
    noise = regional.region_noise(before, SEED, [prompt]).unbind()
    plain = start_noise(before["samples"], SEED).unbind()
    assert torch.equal(noise[1], plain[1])
    assert torch.equal(noise[0][..., 3:], plain[0][..., 3:])
    assert not torch.equal(noise[0][..., :3], plain[0][..., :3])


def check_regions_in_turn():
    backend, before = ComfyBackend(), latent()
    base = sampler_objects.AdvancedKSampler(sampler_setup(), lambda: backend)
    inner = sampler_objects.AdvancedKSampler(sampler_setup(GREEN), lambda: backend)
    regions = [regional.Region(inner, left_half()[:, None, None].expand(1, 1, 2, 4, 6))]
    how = regional.Regional(base, regions, sampler_objects.Recovery("DISABLE"), together=False)
    noise = start_noise(before["samples"], SEED)
    part = sampling.SchedulePart(Window(STEPS, 0, STEPS), SEED, noise)
    found = regional.sample_regions(how, before, part, backend)
    sound = found["samples"].unbind()[1]
    torch.testing.assert_close(sound, sampled(before)[1], atol=1e-4, rtol=0)


def check_a_mask_between_two_samplers():
    backend = ComfyBackend()
    settings = sampling.Denoising(SEED, STEPS)
    base = sampler_objects.KSampler(sampler_setup(), settings, lambda: backend)
    inner = sampler_objects.KSampler(sampler_setup(GREEN), settings, lambda: backend)
    video, sound = sampler_objects.sample_in_mask(latent(), base, inner, left_half())[
        "samples"
    ].unbind()
    whole_video, whole_sound = sampled(latent())
    torch.testing.assert_close(sound, whole_sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(video[..., 3:], whole_video[..., 3:], atol=1e-5, rtol=0)


def check_enlarging_carries_the_sound_along():
    backend, before = ComfyBackend(), latent()
    scaling = iterative_upscale.Scaling(VAE, "bilinear")
    larger, pixels = iterative_upscale.enlarged(before, (96, 64), scaling, backend)
    video, sound = larger["samples"].unbind()
    assert video.shape[2:] == (2, 8, 12)
    assert sound is before["samples"].unbind()[1]
    assert pixels.shape == (5, 64, 96, 3)
    settings = sampling.Denoising(SEED, STEPS, 0.5)
    sampler = sampler_objects.KSampler(sampler_setup(), settings, lambda: backend)
    upscaler = iterative_upscale.SamplingUpscaler(
        sampler, scaling, lambda: backend, lambda *_: None
    )
    masked = {**before, "noise_mask": left_half()}
    done = iterative_upscale.upscale_latent(
        masked, iterative_upscale.Iterations(2.0, 2), upscaler, backend
    )
    assert done["samples"].unbind()[0].shape[2:] == (2, 8, 12)
    assert torch.equal(done["samples"].unbind()[1], before["samples"].unbind()[1])
    with collected_notes() as notes:
        alone = iterative_upscale.reencoded(before, scaling, scaling, backend)["samples"]
    assert not alone.is_nested
    assert [note.kind for note in notes] == ["streams"]


def check_previews_show_the_picture():
    seen = []
    request = sampling.make_run(
        sampler_setup(), latent(),
        sampling.SchedulePart(
            Window(STEPS, 0, STEPS), SEED, start_noise(latent()["samples"], SEED)
        ),
        ComfyBackend(),
    )  # fmt: skip
    ComfyBackend().sample(request, lambda step, total, shown: seen.append(shown.shape))
    assert seen == [latent()["samples"].unbind()[0].shape] * STEPS
    shown = latent_previews.decoded(latent(), "SDXL", VAE)
    torch.testing.assert_close(shown, torch.full((5, 32, 48, 3), 0.65), atol=1e-4, rtol=0)


def check_a_file_keeps_all_streams():
    masks = NestedTensor([torch.ones(1, 1, 2, 4, 6), torch.zeros(1, 1, 5, 3)])
    with TemporaryDirectory() as folder:
        file = Path(folder, "a.latent.png")
        written = {**latent(), "noise_mask": masks}
        latent_file.write_latent_picture(file, written, torch.zeros(1, 8, 8, 3), {})
        read = latent_file.read_latent(file, NestedTensor)
    same(read["samples"].unbind(), written["samples"].unbind(), 0)
    same(read["noise_mask"].unbind(), masks.unbind(), 0)


def check_hooks_work_on_the_picture():
    hook = NoiseInjectionHook(SimpleNamespace(place=lambda cycle: 0, at=lambda *_: 1.0), 3)
    hook.set_steps((0, 1))
    before = latent()
    video, sound = hook.cycle_latent({**before, "noise_mask": left_half()})["samples"].unbind()
    was_video, was_sound = before["samples"].unbind()
    assert sound is was_sound
    assert torch.equal(video[..., 3:], was_video[..., 3:])
    assert not torch.equal(video[..., :3], was_video[..., :3])


# Detailers


def clip_of(frames=5):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(frames, 32, 48, 3, generator=generator)


def detailed(backend, model=MODEL, frames=5, **changed):
    mask = torch.ones(16, 16).numpy()
    segs = (32, 48), [SEG(None, mask, 1.0, (8, 8, 24, 24), (8, 8, 24, 24), "A", None)]
    settings = {"masking": Masking(feather=0), **changed}
    detail = Detail(
        Models(model, CLIP, VAE, RED, NOTHING),
        Sizing(guide_size=32, max_size=64, force_inpaint=True),
        Sampling(SEED, STEPS, 1.0, "euler", "simple"),
        **settings,
    )
    with torch.inference_mode():
        return detail_frames(clip_of(frames), segs, detail, backend, pasted=True)


def check_a_video_detailer_takes_a_model_with_sound():
    image = detailed(ComfyBackend()).image
    assert torch.equal(image[:, :, 24:], clip_of()[:, :, 24:])
    assert (image - clip_of())[:, 8:24, 8:24].abs().mean() > 0.05


class Completing(ComfyBackend):
    """For a model that cannot do without sound."""

    def __init__(self):
        super().__init__()
        self.runs = []

    def completed(self, model, samples):
        if samples.is_nested:
            return samples
        return NestedTensor([samples, torch.zeros(len(samples), 2, 5, 3)])

    def sample(self, run, on_step):
        self.runs.append(run)
        return super().sample(run, on_step)


def check_a_detailer_gives_a_model_the_sound_that_it_needs():
    class Touching(DetailerHook):
        def get_custom_noise(self, seed, noise, is_touched):
            assert noise.ndim == 5  # the picture's
            return noise, True

    backend = Completing()
    with_sound = detailed(backend, hook=Touching()).image
    torch.testing.assert_close(with_sound, detailed(ComfyBackend()).image, atol=1e-4, rtol=0)
    (run,) = backend.runs
    assert isinstance(run, SamplerRun)
    assert run.latent.unbind()[1].shape == (1, 2, 5, 3)
    assert run.noise_mask.unbind()[1].min() == 1  # what is empty is sampled, as from nothing
    assert abs(SOUND - 0.5) < 1e-9


def check_models_of_the_host_that_need_sound_get_it():
    kind = getattr(comfy.model_base, "MiniMaxH3", None)
    backend = ComfyBackend()
    assert backend.completed(MODEL, torch.zeros(1, 24, 2, 4, 6)).shape == (1, 24, 2, 4, 6)
    if kind is None:
        return
    import asyncio

    if "EmptyMiniMaxH3LatentAV" not in host_nodes.NODE_CLASS_MAPPINGS:
        asyncio.run(host_nodes.init_builtin_extra_nodes())
    model = SimpleNamespace(model=object.__new__(kind))
    for steps, sounds in ((1, 8), (2, 8), (7, 37), (12, 65)):
        video = torch.full((1, 24, steps, 4, 6), 0.3)
        completed = backend.completed(model, video)
        assert torch.equal(completed.unbind()[0], video)
        assert completed.unbind()[1].shape == (1, 32, 2, sounds), completed.unbind()[1].shape
    assert backend.completed(model, completed) is completed
    still = backend.completed(model, torch.zeros(1, 24, 4, 6)).unbind()[0]
    assert still.shape == (1, 24, 1, 4, 6)
