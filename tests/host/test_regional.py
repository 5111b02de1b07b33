"""Regional sampling: each place has the result that its own sampler gives for the whole latent."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS, karras, noise, stats
from detailers.tests.host.test_samplers import Scene, close, pixels, sampled

RECOVERY = {
    "additional_mode": "ratio between",
    "additional_sampler": "AUTO",
    "additional_sigma_ratio": 0.3,
}
PLAIN = {
    "seed": 5, "seed_2nd": 0, "seed_2nd_mode": "ignore", "steps": 4, "base_only_steps": 0,
    "denoise": 1.0, "overlap_factor": 0, "restore_latent": True, **RECOVERY,
}  # fmt: skip
SHAPES = {"green": [0, 0, 48, 64, "r"], "blue": [32, 0, 64, 64, "r"]}  # blue lies on green


class Regions(Scene):
    """A scene with two regions that overlap, in front of red."""

    def regions(self, variation=None, **changed):
        prompts = {}
        for number, (colour, shape) in enumerate(SHAPES.items()):
            more = variation if variation is not None and colour == "green" else {}
            prompts[f"regional_prompts{number + 1}"] = self.add(
                "RegionalPrompt", mask=self.mask(96, 64, shape),
                advanced_sampler=self.advanced(colour, **changed), **more,
            )[0]  # fmt: skip
        return self.add("CombineRegionalPrompts", **prompts)[0]

    def sampler(self, variation=None, sampler_name="euler", **changed):
        return self.add(
            "RegionalSampler", samples=self.latent,
            base_sampler=self.advanced("red", sampler_name=sampler_name),
            regional_prompts=self.regions(variation, sampler_name=sampler_name), **PLAIN | changed,
        )[0]  # fmt: skip


def put_together(start, sigmas):
    """Each region by itself from the same noisy latent."""
    result = sampled(start, "red", sigmas)
    result[..., :48] = sampled(start, "green", sigmas)[..., :48]
    result[..., 32:64] = sampled(start, "blue", sigmas)[..., 32:64]
    return result


def test_every_region_is_what_its_sampler_makes_of_it(results):
    scene = Regions()
    out = results(
        scene,
        picture=scene.picture,
        all=scene.sampler(denoise=0.5),
        late=scene.sampler(denoise=0.5, base_only_steps=2),
        never=scene.sampler(denoise=0.5, base_only_steps=9),
        none=scene.sampler(denoise=0.0),
    )
    latent, sigmas = pixels(out["picture"]["t0"]), karras(4, 0.5)
    start = latent + sigmas[0] * noise(1, 3, 64, 96)
    close(out["all"]["latent0_samples"], put_together(start, sigmas), atol=2e-3)
    late = put_together(sampled(start, "red", sigmas[:3]), sigmas[2:])
    close(out["late"]["latent0_samples"], late, atol=2e-3)
    close(out["never"]["latent0_samples"], sampled(start, "red", sigmas), atol=2e-3)
    close(out["none"]["latent0_samples"], latent, atol=1e-5)


def test_all_regions_are_one_call_of_the_model(results):
    scene = Regions()
    out = results(scene, first=scene.latent)
    scene = Regions()
    more = results(scene, all=scene.sampler())
    counted = [stats(saved) for saved in (out["first"], more["all"])]
    calls, rows = (counted[1][name] - counted[0][name] for name in ("model_calls", "model_rows"))
    assert (calls, rows) == (4, 12)


def test_a_second_seed_begins_the_regions_anew(results):
    scene = Regions()
    seeds = {"fixed": 11, "seed+seed_2nd": 6, "seed-seed_2nd": 2}
    out = results(
        scene,
        picture=scene.picture,
        **{
            f"seed{number}": scene.sampler(
                base_only_steps=2, seed_2nd_mode=mode, seed_2nd={11: 11, 6: 1, 2: 3}[number]
            )
            for mode, number in seeds.items()
        },
    )
    sigmas = karras(4)
    start = pixels(out["picture"]["t0"]) + sigmas[0] * noise(1, 3, 64, 96)
    base = sampled(start, "red", [*sigmas[:2], 0.0])
    for number in seeds.values():
        expected = put_together(base + sigmas[2] * noise(1, 3, 64, 96, seed=number), sigmas[2:])
        close(out[f"seed{number}"]["latent0_samples"], expected, atol=2e-3)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_the_noise_of_a_region_varies(results, method):
    scene = Regions()
    variation = {"variation_seed": 9, "variation_strength": 0.25, "variation_method": method}
    out = results(scene, picture=scene.picture, varied=scene.sampler(variation, denoise=0.5))
    drawn, other = noise(1, 3, 64, 96), noise(1, 3, 64, 96, seed=9)
    if method == "linear":
        mixed = (0.75 * drawn + 0.25 * other) / np.hypot(0.75, 0.25)
    else:
        lengths = np.linalg.norm(drawn) * np.linalg.norm(other)
        angle = np.arccos((drawn * other).sum() / lengths)
        mixed = (np.sin(0.75 * angle) * drawn + np.sin(0.25 * angle) * other) / np.sin(angle)
    drawn[..., :48] = mixed[..., :48]
    start = pixels(out["picture"]["t0"]) + karras(4, 0.5)[0] * drawn
    close(out["varied"]["latent0_samples"], put_together(start, karras(4, 0.5)), atol=2e-3)


def test_parts_of_the_schedule_follow_one_another(results):
    scene = Regions()
    shared = {
        "noise_seed": 5, "steps": 4, "overlap_factor": 0, "restore_latent": True,
        "base_sampler": scene.advanced("red"), "regional_prompts": scene.regions(), **RECOVERY,
    }  # fmt: skip

    def part(latent, start, end, add_noise, leftover):
        return scene.add(
            "RegionalSamplerAdvanced", latent_image=latent, start_at_step=start, end_at_step=end,
            add_noise=add_noise, return_with_leftover_noise=leftover, **shared,
        )[0]  # fmt: skip

    half = part(scene.latent, 0, 2, True, True)
    out = results(
        scene,
        picture=scene.picture,
        half=half,
        clean=part(scene.latent, 0, 2, True, False),
        whole=part(half, 2, 10000, False, False),
        outside=part(scene.latent, 4, 9, True, False),
    )
    latent, sigmas = pixels(out["picture"]["t0"]), karras(4)
    start = latent + sigmas[0] * noise(1, 3, 64, 96)
    close(out["half"]["latent0_samples"], put_together(start, sigmas[:3]), atol=2e-2)
    close(out["clean"]["latent0_samples"], put_together(start, [*sigmas[:2], 0.0]), atol=2e-3)
    close(out["whole"]["latent0_samples"], put_together(start, sigmas), atol=5e-3)
    close(out["outside"]["latent0_samples"], latent, atol=1e-5)


STEPPED = ("dpmpp_2m_sde", "dpmpp_sde", "euler_ancestral", "dpmpp_2m")
MODES = ("DISABLE", "ratio additional", "ratio between")


@pytest.mark.parametrize("together", [True, False])
def test_any_sampler_brings_every_region_its_colour(results, together):
    """A model without spread gives the prompt's colour whatever the steps before did."""
    scene = Regions("flat8", prior_std=0.0)
    links = {
        f"{name}{i}": scene.decode(
            scene.painter,
            scene.sampler(sampler_name=name, restore_latent=together, additional_mode=mode),
        )
        for name in STEPPED
        for i, mode in enumerate(MODES)
    }
    if together:
        links["uni_pc"] = scene.decode(scene.painter, scene.sampler(sampler_name="uni_pc"))
    out = results(scene, **links)
    for name in links:
        picture = out[name]["t0"]
        close(picture[:, :, :24], PIXELS["green"], atol=0.02)
        close(picture[:, :, 40:56], PIXELS["blue"], atol=0.02)
        close(picture[:, :, 72:], PIXELS["red"], atol=0.02)


# Against one KSampler

SAMPLERS = (
    "euler", "dpm_2", "dpmpp_2m", "uni_pc", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde",
    "euler_ancestral", "lcm", "seeds_2", "res_multistep_ancestral_cfg_pp",
)  # fmt: skip
ALONE = tuple(name for name in SAMPLERS if "cfg_pp" not in name)
SAME = {"cfg": 2.0, "scheduler": "simple"}


def with_one_prompt(family, name, node="RegionalSampler", base=None, **changed):
    """Latents of a scene whose regions all have the base's prompt, and of the KSampler for it."""
    scene = Scene(family, prior_std=0.1)
    inner = scene.advanced("red", "blue", sampler_name=name, **SAME)
    outer = scene.advanced("red", "blue", sampler_name=base or name, **SAME)
    mask = scene.mask(96, 64, [0, 0, 48, 64, "r"])
    shared = {"samples": scene.latent, "base_sampler": outer, "steps": 6, "seed": 5}
    if node == "RegionalSampler":
        top = scene.mask(96, 64, [24, 0, 64, 32, "r"])
        prompts = [
            scene.add("RegionalPrompt", mask=part, advanced_sampler=inner)[0]
            for part in (mask, top)
        ]  # fmt: skip
        regions = scene.add(
            "CombineRegionalPrompts", regional_prompts1=prompts[0], regional_prompts2=prompts[1]
        )[0]
        inputs = PLAIN | {"base_only_steps": 2, "regional_prompts": regions} | shared | changed
    else:
        own = {"mask": mask, "mask_sampler": inner, "denoise": 1.0, "overlap_factor": 0}
        inputs = own | shared | changed
    stock = scene.sample(
        scene.painter, scene.latent, "red", "blue", sampler_name=name, steps=6, **SAME
    )
    return scene, {"ours": scene.add(node, **inputs)[0], "stock": stock}


@pytest.mark.parametrize("node", ["RegionalSampler", "TwoAdvancedSamplersForMask"])
@pytest.mark.parametrize("family", ["flat8", "image16"])
def test_with_one_prompt_everywhere_it_is_one_ksampler(results, node, family):
    for name in SAMPLERS:
        scene, links = with_one_prompt(family, name, node)
        out = results(scene, **links)
        ours, stock = (out[kind]["latent0_samples"] for kind in ("ours", "stock"))
        np.testing.assert_allclose(ours, stock, atol=2e-4, err_msg=name)


@pytest.mark.once
@pytest.mark.parametrize("way", ["in turn", "another base"])
@pytest.mark.parametrize("family", ["flat8", "image16"])
def test_steps_that_are_runs_of_their_own_keep_the_spread(results, way, family):
    changed = {"restore_latent": False} if way == "in turn" else {"base": "heun"}
    for name in ALONE:
        scene, links = with_one_prompt(family, name, base_only_steps=0, **changed)
        out = results(scene, **links)
        ours, stock = (out[kind]["latent0_samples"] for kind in ("ours", "stock"))
        edge = 48 * ours.shape[-1] // 96
        ours, stock = ours[..., :edge], stock[..., :edge]
        assert ours.std() == pytest.approx(stock.std(), rel=0.05), name
        assert ours.mean() == pytest.approx(stock.mean(), abs=0.05 * float(stock.std())), name


def test_samplers_that_cannot_take_single_steps_are_named(server):
    scene, links = with_one_prompt("flat8", "dpmpp_2m_cfg_pp", restore_latent=False)
    scene.add("DetailersTestSave", value=links["ours"], name="ours")
    done = server.run(scene)
    assert "'sampler_name' is 'dpmpp_2m_cfg_pp'" in done.error.message
    assert "restore_latent" in done.error.message


def test_models_of_their_own_make_the_regions_of_one_run(results):
    """A prior of its own tells the models apart; each region has the spread of its model."""
    scene = Scene("image1", prior_std=0.1)
    wide = scene.model("image1", prior_std=0.6)
    other = scene.add(
        "KSamplerAdvancedProvider", basic_pipe=scene.pipe(wide, "green", ""), cfg=1.0,
        sampler_name="dpmpp_2m", scheduler="karras", sigma_factor=1.0,
    )[0]  # fmt: skip
    both = scene.add(
        "TwoAdvancedSamplersForMask", seed=5, steps=6, denoise=1.0, samples=scene.latent,
        base_sampler=scene.advanced("red", sampler_name="dpmpp_2m"), mask_sampler=other,
        mask=scene.mask(96, 64, [0, 0, 48, 64, "r"]), overlap_factor=0,
    )[0]  # fmt: skip
    changed = {"sampler_name": "dpmpp_2m", "steps": 6}
    out = results(
        scene,
        both=both,
        red=scene.sample(scene.painter, scene.latent, "red", **changed),
        green=scene.sample(wide, scene.latent, "green", **changed),
    )
    both, red, green = (out[name]["latent0_samples"] for name in ("both", "red", "green"))
    close(both[..., :48], green[..., :48], atol=2e-4)
    close(both[..., 48:], red[..., 48:], atol=2e-4)
