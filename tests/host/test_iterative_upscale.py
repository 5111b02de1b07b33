"""Upscaling in steps: sizes, pixels and noise, compared with results computed by hand."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import BLUE, PIXELS, karras, noise, rising
from detailers.tests.host.graphs import SAMPLING
from detailers.tests.host.test_samplers import Scene, close, pixels, sampled

HALF = {"denoise": 0.5}
TILED = {"tile_width": 320, "tile_height": 320, "tiling_strategy": "simple"}
STEPS = {"temp_prefix": "", "step_mode": "simple"}


class Upscaling(Scene):
    """A small picture of the image1 model."""

    def __init__(self, family="image1", size=(32, 24), prior_std=0.6):
        super().__init__(family, size, prior_std)

    def upscaler(self, colour="red", negative="", method="nearest-exact", **changed):
        inputs = SAMPLING | HALF | {"use_tiled_vae": False, "tile_size": 512} | changed
        pipe = self.asking(colour, negative)
        return self.add(
            "PixelKSampleUpscalerProviderPipe", basic_pipe=pipe, scale_method=method, **inputs
        )[0]

    def larger(self, upscaler, factor=2.0, steps=1, **changed):
        return self.add(
            "IterativeLatentUpscale", samples=self.latent, upscaler=upscaler, steps=steps,
            upscale_factor=factor, **STEPS | changed,
        )  # fmt: skip


def doubled(array):
    """Pixels, or a latent, [N,...,h,w] of twice the size."""
    return array.repeat(2, -1).repeat(2, -2)


def one_step(latent, colour="red", denoise=0.5, seed=5, steps=4):
    sigmas = karras(steps, denoise)
    drawn = noise(*latent.shape, seed=seed)
    return sampled(latent + sigmas[0] * drawn, colour, sigmas)


def shown(latent):
    """A latent as what is left of it once it has been pixels."""
    return latent.clip(-1, 1)


def test_a_step_enlarges_the_pixels_and_samples_them(results):
    scene = Upscaling()
    single = scene.larger(scene.upscaler())
    parts = scene.parts(scene.painter)
    del parts["clip"]
    provider = scene.add(
        "PixelKSampleUpscalerProvider", scale_method="nearest-exact", use_tiled_vae=True,
        tile_size=512, **parts, **SAMPLING | HALF,
    )[0]  # fmt: skip
    other = scene.larger(provider)
    image = scene.add(
        "IterativeImageUpscale", pixels=scene.picture, upscaler=scene.upscaler(),
        vae=scene.painter[2], upscale_factor=2.0, steps=1, **STEPS,
    )[0]  # fmt: skip
    decoded = scene.add("VAEDecode", samples=single[0], vae=single[1])[0]
    twice = scene.larger(scene.upscaler(), 4.0, 2, step_mode="geometric")
    out = results(
        scene, picture=scene.picture, single=single[0], other=other[0], image=image,
        decoded=decoded, twice=twice[0],
    )  # fmt: skip
    expected = one_step(doubled(pixels(out["picture"]["t0"])))
    close(out["single"]["latent0_samples"], expected, atol=2e-3)
    close(out["other"]["latent0_samples"], expected, atol=2e-3)
    close(out["image"]["t0"], out["decoded"]["t0"], atol=1e-5)
    assert out["image"]["t0"].shape == (1, 48, 64, 3)
    again = one_step(doubled(shown(expected)))
    close(out["twice"]["latent0_samples"], again, atol=2e-3)


def test_an_upscale_model_enlarges_the_pixels(results, brightening):
    """It doubles the size whatever is asked for; resampling brings that to the step's."""
    scene = Upscaling()
    model = {"upscale_model_opt": scene.add("UpscaleModelLoader", model_name=brightening)[0]}
    upscaler = scene.upscaler(**model)
    image = scene.add(
        "IterativeImageUpscale", pixels=scene.picture, upscaler=upscaler, vae=scene.painter[2],
        upscale_factor=2.0, steps=1, **STEPS,
    )[0]  # fmt: skip
    scaled = {
        name: scene.add(
            "LatentPixelScale", samples=scene.latent, scale_method="nearest-exact",
            scale_factor=factor, vae=scene.painter[2], use_tiled_vae=False, **model,
        )
        for name, factor in (("twice", 2.0), ("four", 4.0), ("once", 1.0))
    }  # fmt: skip
    out = results(
        scene, picture=scene.picture, latent=scene.larger(upscaler)[0], image=image,
        **{name: node[1] for name, node in scaled.items()},
    )  # fmt: skip
    brighter = (out["picture"]["t0"].repeat(2, 1).repeat(2, 2) + 0.1).clip(0, 1)
    expected = one_step(pixels(brighter))
    close(out["latent"]["latent0_samples"], expected, atol=2e-3)
    close(pixels(out["image"]["t0"]), shown(expected), atol=2e-3)
    close(out["twice"]["t0"], brighter, atol=1e-5)
    close(out["four"]["t0"], (brighter + 0.1).clip(0, 1).repeat(2, 1).repeat(2, 2), atol=1e-5)
    assert out["once"]["t0"].shape == out["picture"]["t0"].shape


def test_sizes_grow_evenly_to_whole_latent_pixels(results, server):
    scene = Upscaling("flat8", (64, 48), prior_std=0.0)
    wanted = {"simple": (2.0, 3), "geometric": (2.0, 3), "odd": (1.3, 1), "same": (1.0, 2)}
    links = {
        name: scene.larger(
            scene.upscaler(method="bilinear"), *size, temp_prefix=f"step_{name}",
            step_mode="geometric" if name == "geometric" else "simple",
        )[0]
        for name, size in wanted.items()
    }  # fmt: skip
    out = results(scene, **links)
    shapes = {name: out[name]["latent0_samples"].shape[-2:] for name in wanted}
    assert shapes == {"simple": (12, 16), "geometric": (12, 16), "odd": (7, 10), "same": (6, 8)}
    for name, (_, steps) in wanted.items():
        assert len(list((server.base / "temp").glob(f"step_{name}_*.png"))) >= steps, name
        close(
            out[name]["latent0_samples"][:, :3],
            np.reshape(PIXELS["red"], (1, 3, 1, 1)) * 2 * 5.489980 - 5.489980,
            atol=0.01,
        )


def test_an_image_of_any_size_is_enlarged_whole(results):
    scene = Upscaling("image8", (50, 41), prior_std=0.0)
    image = scene.add(
        "IterativeImageUpscale", pixels=scene.image(50, 41, channels=4, batch=2),
        upscaler=scene.upscaler("blue", denoise=1.0), vae=scene.painter[2], upscale_factor=2.0,
        steps=2, **STEPS,
    )[0]  # fmt: skip
    out = results(scene, image=image)["image"]["t0"]
    assert out.shape == (2, 82, 100, 4)
    close(out[..., :3], PIXELS["blue"], atol=1e-3)
    assert 0.24 <= out[..., 3].min() < out[..., 3].max() <= 1


def test_hooks_change_from_iteration_to_iteration(results):
    """Without spread the last iteration's cfg alone shows; the others show in what they change."""
    scene = Upscaling(prior_std=0.6)
    simple = {"schedule_for_iteration": "simple"}
    denoise = scene.add("DenoiseScheduleHookProvider", **simple, target_denoise=0.25)[0]
    steps = scene.add("StepsScheduleHookProvider", **simple, target_steps=6)[0]
    both = scene.add("PixelKSampleHookCombine", hook1=denoise, hook2=steps)[0]
    flat = Upscaling(prior_std=0.0)
    cfg = flat.add("CfgScheduleHookProvider", **simple, target_cfg=1.25)[0]
    out = results(
        scene,
        picture=scene.picture,
        scheduled=scene.larger(scene.upscaler(pk_hook_opt=both), 4.0, 2, step_mode="geometric")[0],
        alone=scene.larger(scene.upscaler(pk_hook_opt=both))[0],
    )
    latent = pixels(out["picture"]["t0"])
    first = one_step(doubled(latent))
    close(
        out["scheduled"]["latent0_samples"],
        one_step(doubled(shown(first)), denoise=0.25, steps=6),
        atol=2e-3,
    )
    close(
        out["alone"]["latent0_samples"], one_step(doubled(latent), denoise=0.25, steps=6), atol=2e-3
    )
    guided = flat.upscaler("red", "blue", pk_hook_opt=cfg, cfg=3.0)
    out = results(flat, guided=flat.larger(guided, 2.0, 3)[0])
    expected = np.reshape(BLUE, (1, 3, 1, 1)) + 1.25 * np.reshape([1.2, 0, -1.2], (1, 3, 1, 1))
    close(out["guided"]["latent0_samples"], expected, atol=1e-3)


def test_noise_is_injected_and_taken_back(results):
    scene = Upscaling()
    simple = {"schedule_for_iteration": "simple"}
    injected = scene.add(
        "NoiseInjectionHookProvider", **simple, source="CPU", seed=7, start_strength=0.3,
        end_strength=0.1,
    )[0]  # fmt: skip
    texts = scene.parts(scene.painter)
    unsampled = scene.add(
        "UnsamplerHookProvider", **simple, model=scene.painter[0], positive=texts["positive"],
        negative=texts["negative"], steps=10, start_end_at_step=4, end_end_at_step=9, cfg=1.0,
        sampler_name="euler", scheduler="karras", normalize="disable",
    )[0]  # fmt: skip
    out = results(
        scene,
        picture=scene.picture,
        injected=scene.larger(scene.upscaler(denoise=0.0, pk_hook_opt=injected))[0],
        unsampled=scene.larger(scene.upscaler(denoise=0.0, pk_hook_opt=unsampled))[0],
    )
    latent = doubled(pixels(out["picture"]["t0"]))
    close(out["injected"]["latent0_samples"], latent + 0.3 * noise(1, 3, 48, 64, seed=7), atol=1e-4)
    expected = sampled(latent, "red", rising(karras(10)[4:]))
    close(out["unsampled"]["latent0_samples"], expected, atol=1e-3)


def test_tiles_are_sampled_as_the_whole(results):
    scene = Upscaling("flat8", (200, 192))
    parts = scene.parts(scene.painter)
    del parts["clip"]
    control = scene.add("DetailersTestControl", family="flat8")[0]
    shared = {"scale_method": "nearest-exact", **SAMPLING | HALF}
    guided = {"tile_cnet_opt": control, "tile_cnet_strength": 0.5}
    links = {
        "whole": scene.upscaler(use_tiled_vae=True),
        "tiled": scene.add("PixelTiledKSampleUpscalerProvider", **parts, **shared, **TILED)[0],
        "whole_guided": scene.upscaler(use_tiled_vae=True, **guided),
        "tiled_guided": scene.add(
            "PixelTiledKSampleUpscalerProviderPipe", basic_pipe=scene.asking("red"), **shared,
            **TILED, **guided,
        )[0],
    }  # fmt: skip
    links = {name: scene.larger(upscaler)[0] for name, upscaler in links.items()}
    out = {name: saved["latent0_samples"] for name, saved in results(scene, **links).items()}
    assert out["whole"].shape == (1, 4, 48, 50)
    np.testing.assert_allclose(out["tiled"], out["whole"], atol=1e-4)
    np.testing.assert_allclose(out["tiled_guided"], out["whole_guided"], atol=1e-4)
    assert np.abs(out["whole_guided"] - out["whole"]).max() > 0.1


@pytest.mark.parametrize("node", ["", "Pipe"])
def test_two_samplers_take_turns_with_a_third_for_all(results, node):
    scene = Upscaling(prior_std=0.0)
    pipe = {"basic_pipe": scene.asking("red")} if node else {"vae": scene.painter[2]}
    mask = scene.mask(16, 12, [0, 0, 8, 12, "r"])

    def made(schedule, steps):
        upscaler = scene.add(
            f"TwoSamplersForMaskUpscalerProvider{node}", scale_method="bilinear",
            full_sample_schedule=schedule, use_tiled_vae=False, tile_size=512, mask=mask,
            base_sampler=scene.provider("red"), mask_sampler=scene.provider("blue"),
            full_sampler_opt=scene.provider("green"), **pipe,
        )[0]  # fmt: skip
        return scene.decode(scene.painter, scene.larger(upscaler, 2.0, steps)[0])

    out = results(
        scene, never=made("none", 2), last=made("last1", 2), between=made("interleave1", 3)
    )
    for name in ("never", "between"):
        picture = out[name]["t0"]
        assert picture.shape == (1, 48, 64, 3)
        close(picture[:, :, :28], PIXELS["blue"], atol=1e-3)
        close(picture[:, :, 36:], PIXELS["red"], atol=1e-3)
    close(out["last"]["t0"], PIXELS["green"], atol=1e-3)


# Latents by way of pixels


def test_latents_change_their_size_and_their_vae(results):
    scene = Upscaling()
    other = scene.model("flat8")
    nearest = scene.add(
        "LatentPixelScale", samples=scene.latent, scale_method="nearest-exact", scale_factor=2.0,
        vae=scene.painter[2], use_tiled_vae=False,
    )  # fmt: skip
    links = {"nearest": nearest[0], "pixels": nearest[1]}
    for method in ("bilinear", "lanczos", "area"):
        links[method] = scene.add(
            "LatentPixelScale", samples=scene.latent, scale_method=method, scale_factor=0.5,
            vae=scene.painter[2], use_tiled_vae=True,
        )[1]  # fmt: skip
    modes = ("None", "Both", "Decode(input) only", "Encode(output) only")
    for i, mode in enumerate(modes):
        links[f"mode{i}"] = scene.add(
            "ReencodeLatent", samples=scene.latent, tile_mode=mode, input_vae=scene.painter[2],
            output_vae=other[2], tile_size=512,
        )[0]  # fmt: skip
    links["pipe"] = scene.add(
        "ReencodeLatentPipe", samples=scene.latent, tile_mode="None",
        input_basic_pipe=scene.asking("red"), output_basic_pipe=scene.pipe(other),
    )[0]  # fmt: skip
    out = results(scene, picture=scene.picture, stock=scene.encode(other, scene.picture), **links)
    picture = out["picture"]["t0"]
    close(out["nearest"]["latent0_samples"], doubled(pixels(picture)), atol=1e-5)
    close(out["pixels"]["t0"], picture.repeat(2, 1).repeat(2, 2), atol=1e-5)
    halved = picture.reshape(1, 12, 2, 16, 2, 3).mean((2, 4))
    close(out["area"]["t0"], halved, atol=1e-5)
    close(out["bilinear"]["t0"], halved, atol=1e-5)
    assert np.abs(out["lanczos"]["t0"] - halved).mean() < 0.03
    for name in ("pipe", *(f"mode{i}" for i in range(4))):
        close(out[name]["latent0_samples"], out["stock"]["latent0_samples"], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [("eps", "normal"), ("eps", "karras"), ("v_prediction", "normal"), ("flow", "simple")],
)
def test_an_unsampled_latent_has_the_spread_of_its_level(results, kind, scheduler):
    """Of a flow the picture fades as the noise rises, to nothing at all at the highest level."""
    scene = Upscaling("image16" if kind == "flow" else "image1", (64, 64), prior_std=0.392)
    model = scene.painter[0]
    if kind == "v_prediction":
        model = scene.add("ModelSamplingDiscrete", model=model, sampling=kind, zsnr=False)[0]
    texts = scene.parts(scene.painter, "grey")
    still = {"factor": 1.0, "steps": 1}
    links, ends = {"start": scene.larger(scene.upscaler(denoise=0.0), **still)[0]}, (0, 1, 15, 21)
    for end in ends:
        hook = scene.add(
            "UnsamplerHookProvider", model=model, positive=texts["positive"],
            negative=texts["negative"], steps=25, start_end_at_step=end, end_end_at_step=end,
            cfg=1.0, sampler_name="euler", scheduler=scheduler, normalize="disable",
            schedule_for_iteration="simple",
        )[0]  # fmt: skip
        upscaler = scene.upscaler(denoise=0.0, pk_hook_opt=hook)
        links[f"at{end}"] = scene.larger(upscaler, **still)[0]
    sigmas = scene.add("BasicScheduler", model=model, scheduler=scheduler, steps=25, denoise=1.0)[0]
    out = results(scene, sigmas=sigmas, **links)
    spread = out["start"]["latent0_samples"].std()
    for end in ends:
        level = float(out["sigmas"]["t0"][end])
        wanted = np.hypot((1 - level if kind == "flow" else 1.0) * spread, level)
        found = out[f"at{end}"]["latent0_samples"].std()
        assert float(found) == pytest.approx(float(wanted), rel=0.05), end


def test_samplers_that_cannot_go_backwards_are_named(server):
    scene = Upscaling()
    texts = scene.parts(scene.painter, "grey")
    hook = scene.add(
        "UnsamplerHookProvider", model=scene.painter[0], positive=texts["positive"],
        negative=texts["negative"], steps=25, start_end_at_step=9, end_end_at_step=9, cfg=1.0,
        sampler_name="euler_ancestral", scheduler="normal", normalize="disable",
        schedule_for_iteration="simple",
    )[0]  # fmt: skip
    scene.add(
        "DetailersTestSave", value=scene.larger(scene.upscaler(pk_hook_opt=hook))[0], name="out"
    )
    done = server.run(scene)
    assert "'sampler_name' is 'euler_ancestral'" in done.error.message
    assert "backwards" in done.error.message


def test_what_is_not_finite_is_made_again_in_float32(results):
    scene = Upscaling("flat8", (64, 48), prior_std=0.0)
    half = scene.add("DetailersTestHalfVAE", vae=scene.painter[2])[0]

    def image(vae):
        pipe = scene.add("EditBasicPipe", basic_pipe=scene.asking("red", ""), vae=vae)[0]
        upscaler = scene.add(
            "PixelKSampleUpscalerProviderPipe", basic_pipe=pipe, scale_method="nearest-exact",
            **SAMPLING | HALF | {"use_tiled_vae": False, "tile_size": 512},
        )[0]  # fmt: skip
        return scene.add(
            "IterativeImageUpscale", pixels=scene.picture, upscaler=upscaler, vae=vae,
            upscale_factor=2.0, steps=2, **STEPS,
        )[0]  # fmt: skip

    out = results(scene, plain=image(scene.painter[2]), half=image(half))
    assert out["half"]["t0"].shape == (1, 96, 128, 3)
    close(out["half"]["t0"], out["plain"]["t0"], atol=0.02)


def test_an_upscale_beyond_the_bound_is_refused_at_once(server):
    scene = Upscaling("flat8", (64, 48), prior_std=0.0)
    scene.add("DetailersTestSink", value=scene.larger(scene.upscaler(), 10000.0)[0])
    failed = server.run(scene)
    assert not failed.ok
    assert "640000x480000 pixels" in failed.error.message
    assert "268435456 (16384x16384)" in failed.error.message
