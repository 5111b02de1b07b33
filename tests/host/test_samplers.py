"""The sampler nodes in a run, compared with the host's own and with results computed by hand."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import BLUE, GREEN, PIXELS, RED, euler, karras, noise, stats
from detailers.tests.host.graphs import SAMPLING, Graph

COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}


class Scene(Graph):
    """A latent of 96x64 pixels and pipes by the colour that they ask for."""

    def __init__(self, family="image1", size=(96, 64), prior_std=0.6, batch=1):
        super().__init__()
        self.painter = self.model(family, prior_std=prior_std)
        self.picture = self.image(*size, batch=batch)
        self.latent = self.encode(self.painter, self.picture)

    def asking(self, colour, negative=""):
        return self.pipe(self.painter, colour, negative)

    def provider(self, colour, **changed):
        """A KSAMPLER."""
        return self.add("KSamplerProvider", basic_pipe=self.asking(colour), **SAMPLING | changed)[0]

    def advanced(self, colour, negative="", **changed):
        """A KSAMPLER_ADVANCED."""
        keep = ("cfg", "sampler_name", "scheduler")
        inputs = {name: SAMPLING[name] for name in keep} | {"sigma_factor": 1.0} | changed
        pipe = self.asking(colour, negative)
        return self.add("KSamplerAdvancedProvider", basic_pipe=pipe, **inputs)[0]


def pixels(picture):
    """Pixels [N,H,W,3] as the latent of the image1 model."""
    return picture.transpose(0, 3, 1, 2) * 2 - 1


def sampled(latent, colour, sigmas):
    """A latent with its noise, as the image1 model with prior_std 0.6 samples it."""
    return euler(latent, np.reshape(COLOURS[colour], (1, 3, 1, 1)), 0.36, sigmas)


def close(actual, expected, atol=1e-4):
    np.testing.assert_allclose(actual, np.broadcast_to(expected, actual.shape), atol=atol)


# KSampler over a pipe


SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpm_2", "uni_pc", "ddim", "dpmpp_2m_sde")


@pytest.mark.parametrize("denoise", [1.0, 0.4, 0.0])
def test_over_a_pipe_it_is_the_hosts_ksampler(results, denoise):
    scene = Scene("flat8", batch=2)
    mask = scene.mask(96, 64, [0, 0, 48, 64, "r"])
    masked = scene.add("SetLatentNoiseMask", samples=scene.latent, mask=mask)[0]
    links = {}
    for name in SAMPLERS:
        if denoise == 0.4 and "sde" in name:
            continue  # its noise is that of the whole schedule here
        changed = {"cfg": 3.0, "sampler_name": name, "denoise": denoise}
        links[f"{name}_ours"] = scene.add(
            "ImpactKSamplerBasicPipe", basic_pipe=scene.asking("red", "blue"), latent_image=masked,
            **SAMPLING | changed,
        )[1]  # fmt: skip
        links[f"{name}_stock"] = scene.sample(scene.painter, masked, "red", "blue", **changed)
    out = results(scene, **links)
    for name in (name for name in SAMPLERS if f"{name}_ours" in links):
        ours, stock = out[f"{name}_ours"], out[f"{name}_stock"]
        close(ours["latent0_samples"], stock["latent0_samples"], atol=2e-5)
        close(ours["latent0_noise_mask"], stock["latent0_noise_mask"])


def test_empty_latents_fit_every_model(results):
    graph = Graph()
    links = {}
    for family in ("flat8", "image16", "video8"):
        model = graph.model(family)
        empty = graph.empty_latent(64, 64, batch=2)
        one = graph.add("LatentFromBatch", samples=empty, batch_index=1, length=1)[0]
        for name, latent in (("all", empty), ("one", one)):
            pipe = graph.pipe(model)
            ours = {"basic_pipe": pipe, "latent_image": latent, **SAMPLING}
            links[f"{family}_{name}_ours"] = graph.add("ImpactKSamplerBasicPipe", **ours)[1]
            links[f"{family}_{name}_stock"] = graph.sample(model, latent)
    out = results(graph, **links)
    for name in (name for name in links if name.endswith("ours")):
        stock = out[name.replace("ours", "stock")]["latent0_samples"]
        assert stock.std() > 0
        np.testing.assert_allclose(out[name]["latent0_samples"], stock, atol=2e-5, err_msg=name)


def test_a_part_of_the_schedule_is_the_hosts_advanced_ksampler(results):
    scene = Scene("flat8")
    texts = {name: scene.text(scene.painter, text) for name, text in
             (("positive", "red"), ("negative", "blue"))}  # fmt: skip
    shared = {
        "noise_seed": 5, "steps": 6, "cfg": 3.0, "sampler_name": "dpmpp_2m", "scheduler": "karras",
    }  # fmt: skip
    links = {}
    for i, (noised, leftover, start, end) in enumerate(
        [(1, 0, 0, 10000), (1, 1, 0, 3), (1, 0, 2, 4), (0, 0, 3, 6), (1, 1, 6, 8)]
    ):
        part = {"start_at_step": start, "end_at_step": end}
        links[f"ours{i}"] = scene.add(
            "ImpactKSamplerAdvancedBasicPipe", basic_pipe=scene.asking("red", "blue"),
            latent_image=scene.latent, add_noise=bool(noised),
            return_with_leftover_noise=bool(leftover), **shared, **part,
        )[1]  # fmt: skip
        links[f"stock{i}"] = scene.add(
            "KSamplerAdvanced", model=scene.painter[0], **texts, latent_image=scene.latent,
            add_noise=("disable", "enable")[noised],
            return_with_leftover_noise=("disable", "enable")[leftover], **shared, **part,
        )[0]  # fmt: skip
    out = results(scene, **links)
    for i in range(5):
        stock = out[f"stock{i}"]["latent0_samples"]
        np.testing.assert_allclose(out[f"ours{i}"]["latent0_samples"], stock, atol=2e-5)


def test_the_pipes_samplers_know_all_schedulers_and_pass_the_pipe_on(results):
    scene = Scene("flat8", prior_std=0.0)
    pipe = scene.asking("red")
    node = scene.add(
        "ImpactKSamplerBasicPipe", basic_pipe=pipe, latent_image=scene.latent,
        **SAMPLING | {"scheduler": "AYS SD1"},
    )  # fmt: skip
    function = scene.add("DetailersTestScheduler", scheduler="exponential")[0]
    given = scene.add(
        "ImpactKSamplerBasicPipe", basic_pipe=node[0], latent_image=scene.latent,
        scheduler_func_opt=function, **SAMPLING,
    )  # fmt: skip
    decoded = scene.add("VAEDecode", samples=node[1], vae=node[2])[0]
    out = results(
        scene, ays=decoded, given=scene.add("VAEDecode", samples=given[1], vae=given[2])[0]
    )
    close(out["ays"]["t0"], PIXELS["red"])
    close(out["given"]["t0"], PIXELS["red"])


# Two samplers


def test_two_samplers_share_the_picture_by_a_mask(results):
    scene = Scene(prior_std=0.6)
    mask = scene.mask(96, 64, [0, 0, 48, 64, "r"])
    node = scene.add(
        "TwoSamplersForMask", latent_image=scene.latent, base_sampler=scene.provider("red"),
        mask_sampler=scene.provider("blue", seed=9, denoise=0.5), mask=mask,
    )  # fmt: skip
    out = results(scene, picture=scene.picture, both=node[0])
    latent = pixels(out["picture"]["t0"])
    expected = sampled(latent + karras(4)[0] * noise(1, 3, 64, 96), "red", karras(4))
    inner = sampled(
        latent + karras(4, 0.5)[0] * noise(1, 3, 64, 96, seed=9), "blue", karras(4, 0.5)
    )
    expected[..., :48] = inner[..., :48]
    close(out["both"]["latent0_samples"], expected, atol=5e-3)
    assert "latent0_noise_mask" not in out["both"]


def test_two_samplers_work_side_by_side_at_every_step(results):
    scene = Scene()
    mask = scene.mask(96, 64, [0, 0, 40, 64, "r"])
    shared = {
        "seed": 5, "steps": 4, "samples": scene.latent, "mask": mask,
        "base_sampler": scene.advanced("red"), "mask_sampler": scene.advanced("green"),
    }  # fmt: skip
    links = {
        f"by{overlap}": scene.add(
            "TwoAdvancedSamplersForMask", denoise=0.5, overlap_factor=overlap, **shared
        )[0]
        for overlap in (0, 9)
    }
    links["nothing"] = scene.add(
        "TwoAdvancedSamplersForMask", denoise=0.0, overlap_factor=0, **shared
    )[0]
    out = results(scene, picture=scene.picture, **links)
    latent = pixels(out["picture"]["t0"])
    start = latent + karras(4, 0.5)[0] * noise(1, 3, 64, 96)
    for overlap, edge in ((0, 40), (9, 44)):
        expected = sampled(start, "red", karras(4, 0.5))
        expected[..., :edge] = sampled(start, "green", karras(4, 0.5))[..., :edge]
        close(out[f"by{overlap}"]["latent0_samples"], expected, atol=2e-3)
    close(out["nothing"]["latent0_samples"], latent, atol=1e-5)
    before, after = sorted(stats(out[f"by{overlap}"])["model_calls"] for overlap in (0, 9))
    assert after - before == 4  # one call a step for both samplers


# Tiles


@pytest.mark.parametrize("strategy", ["random", "padded", "simple"])
def test_tiles_give_the_picture_that_the_whole_gives(results, strategy):
    """The model sees each latent pixel by itself, so that tiles must change nothing at all."""
    scene = Scene("flat8", size=(808, 640))
    left = scene.mask(808, 640, [0, 0, 400, 640, "r"])
    right = scene.mask(808, 640, [400, 0, 808, 640, "r"])
    halves = [
        scene.add("ConditioningSetMask", conditioning=scene.text(scene.painter, text), mask=mask,
                  strength=1.0, set_cond_area="default")[0]
        for text, mask in (("red", left), ("blue", right))
    ]  # fmt: skip
    both = scene.add("ConditioningCombine", conditioning_1=halves[0], conditioning_2=halves[1])[0]
    control = scene.add("DetailersTestControl", family="flat8")[0]
    guided = scene.add(
        "ControlNetApplyAdvanced", positive=both, negative=scene.text(scene.painter, "grey"),
        control_net=control, image=scene.image(808, 640, seed=3), strength=0.5, start_percent=0.0,
        end_percent=1.0, vae=scene.painter[2],
    )  # fmt: skip
    changed = {"cfg": 2.0, "sampler_name": "dpmpp_2m", "denoise": 0.6}
    stock = scene.sample(scene.painter, scene.latent, guided[0], guided[1], **changed)
    pipe = scene.pipe(scene.painter, guided[0], guided[1])
    tile = {"tile_width": 320, "tile_height": 320, "tiling_strategy": strategy}
    tiled = scene.add("TiledKSamplerProvider", basic_pipe=pipe, **SAMPLING | changed, **tile)[0]
    whole = scene.mask(808, 640, [0, 0, 808, 640, "r"])
    node = scene.add(
        "TwoSamplersForMask", latent_image=scene.latent, base_sampler=scene.provider("red"),
        mask_sampler=tiled, mask=whole,
    )  # fmt: skip
    out = results(scene, stock=stock, tiled=node[0])
    np.testing.assert_allclose(
        out["tiled"]["latent0_samples"], out["stock"]["latent0_samples"], atol=1e-4
    )


def test_a_batch_and_a_video_go_through_tiles(results):
    graph = Graph()
    links = {}
    for family, frames in (("flat8", 2), ("video8", 5)):
        model = graph.model(family)
        latent = graph.encode(model, graph.image(384, 320, batch=frames))
        tile = {"tile_width": 320, "tile_height": 320, "tiling_strategy": "padded"}
        tiled = graph.add(
            "TiledKSamplerProvider", basic_pipe=graph.pipe(model), **SAMPLING, **tile
        )[0]
        links[f"{family}_ours"] = graph.add(
            "TwoSamplersForMask", latent_image=latent, base_sampler=tiled, mask_sampler=tiled,
            mask=graph.mask(384, 320),
        )[0]  # fmt: skip
        links[f"{family}_stock"] = graph.sample(model, latent)
    out = results(graph, **links)
    for family in ("flat8", "video8"):
        ours, stock = (out[f"{family}_{name}"]["latent0_samples"] for name in ("ours", "stock"))
        np.testing.assert_allclose(ours, stock, atol=1e-4)


@pytest.mark.once
def test_a_network_sees_a_tile_at_a_time(results, checkpoint):
    """Only the tile's surroundings can be told from the result: it is close to the whole's."""
    graph = Graph()
    loader = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
    latent = graph.encode(loader, graph.image(384, 320))
    settings = SAMPLING | {"steps": 1, "denoise": 0.5}
    pipe = graph.pipe(loader, "a red house", "")
    tile = {"tile_width": 320, "tile_height": 320, "tiling_strategy": "simple"}
    tiled = graph.add("TiledKSamplerProvider", basic_pipe=pipe, **settings, **tile)[0]
    node = graph.add(
        "TwoSamplersForMask", latent_image=latent, base_sampler=tiled, mask_sampler=tiled,
        mask=graph.mask(384, 320),
    )  # fmt: skip
    whole = graph.add(
        "ImpactKSamplerBasicPipe", basic_pipe=pipe, latent_image=latent, **settings
    )[1]  # fmt: skip
    out = results(graph, tiled=node[0], whole=whole)
    tiled, whole = (out[name]["latent0_samples"] for name in ("tiled", "whole"))
    assert tiled.shape == whole.shape == (1, 4, 40, 48)
    assert 0 < np.abs(tiled - whole).mean() < 0.1 * whole.std()
