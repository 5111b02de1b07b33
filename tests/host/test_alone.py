"""Runs that share a call of the sampler in the real host, runs that must not, and the reasons."""

import re

import numpy as np
import pytest
from detailers.tests.host.graphs import Graph
from detailers.tests.host.test_scheduler import ROW, SIZE, Pairs, Patched, counted  # noqa: F401

SETTINGS = {"cfg": 3.0, "steps": 2, "scheduler": "simple", "denoise": 0.7}
SHARED = {  # patches of the host that treat rows one by one
    "RescaleCFG": {"multiplier": 0.7},
    "CFGNorm": {"strength": 0.9},
    "CFGZeroStar": {},
    "PerturbedAttentionGuidance": {"scale": 2.0},
    "Epsilon Scaling": {"scaling_factor": 1.1},
    "FreeU": {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "PatchModelAddDownscale": {
        "block_number": 1, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 1.0,
        "downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic",
    },
    "DifferentialDiffusion": {},
    "ModelSamplingDiscrete": {"sampling": "eps", "zsnr": False},
}  # fmt: skip
ALONE = {  # patches of other packs, and of the host that look at the whole batch or keep a state
    "first block cache": "model function wrapper: .*FirstBlockCache",
    "reference for each row": "patches: .*reference_for_each_row",
    "random attention": "patches: .*random_attention",
    "other random attention": "patches: .*other_random_attention",
    "replaced attention": "patches replace: .*random_attention",
    "guidance": "sampler post cfg function: .*mean_over_rows",
    "old guidance": "sampler cfg function: comfy.model_patcher.ModelPatcher.*lambda",
    "outer wrapper": "wrappers: .*plain_wrapper",
    "inner wrapper": "wrappers: .*plain_wrapper",
    "callback": "callbacks: .*lambda",
    "schedule": "part 'model_sampling' was replaced by a .*OtherSampling",
    "context": "options have 'context_handler'",
    "state": "transformer options have 'state'",
    "method": "diffusion_model.forward of its network was replaced",
    "class method": "diffusion_model.forward of its network was replaced",
    "hooked part": "diffusion_model.forward of its network was replaced or hooked",
    "injection": "patcher has injections",
    "additional model": "patcher has additional models",
    "network class": "network is a .*OtherNetwork",
    "model class": "model class .*OtherModel is not the host's own",
    "patcher class": "patcher is a .*OtherPatcher",
}


def patched(graph, model, name, **options):
    return Patched(model, graph.add(name, model=model[0], **options))


def foreign(graph, model, patch):
    return patched(graph, model, "DetailersTestForeign", patch=patch)


def miniature(graph):
    return graph.add("DetailersMiniatureLoader")


def test_patches_of_the_host_that_treat_rows_one_by_one_share(results):
    graph = Pairs()
    model = miniature(graph)
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    graph.pair("none", image, segs, model, **SETTINGS)
    for name, options in SHARED.items():
        graph.pair(name, image, segs, patched(graph, model, name, **options), **SETTINGS)
    out = graph.compare(results, atol=1e-4)
    without = {"DifferentialDiffusion", "PerturbedAttentionGuidance"}  # no soft mask or middle
    for name in SHARED.keys() - without:
        assert np.abs(out[name]["t0"] - out["none"]["t0"]).max() > 1e-3, name


@pytest.mark.parametrize("name", SHARED)
def test_they_share_calls(counted, name):  # noqa: F811
    graph = Graph()
    model = foreign(graph, miniature(graph), "counted")
    model = patched(graph, model, name, **SHARED[name])
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    detailed = graph.detail("DetailerForEach", image, segs, model, **SETTINGS | {"steps": 1})
    seen = counted(graph, detailed[0])
    calls = 2 if name == "PerturbedAttentionGuidance" else 1  # it calls the model once more
    assert seen["model_calls"] == calls
    assert seen["model_rows"] == (9 if calls == 2 else 6)


def test_what_is_not_known_runs_alone_and_the_reason_names_it(results):
    graph = Graph()
    model = miniature(graph)
    text, latent = graph.text(model, "red"), graph.empty_latent(64, 64)
    why = {"positive": text, "latent": latent, "sampler_name": "euler", "hook": "none"}
    links = {
        name: graph.add("DetailersTestWhyAlone", model=foreign(graph, model, name)[0], **why)[0]
        for name in ["counted", "compiled", *ALONE]
    }
    for name in ("euler", "dpm_adaptive", "res_2s"):
        links[name] = graph.add(
            "DetailersTestWhyAlone", model=model[0], **(why | {"sampler_name": name})
        )[0]
    for hook in ("weights", "options"):
        links[hook] = graph.add(
            "DetailersTestWhyAlone", model=model[0], **(why | {"hook": hook})
        )[0]  # fmt: skip
    tome = graph.add("TomePatchModel", model=model[0], ratio=0.5)[0]
    links["tome"] = graph.add("DetailersTestWhyAlone", model=tome, **why)[0]
    tile = graph.add("HyperTile", model=model[0], tile_size=32, swap_size=2, max_depth=0,
                     scale_depth=False)[0]  # fmt: skip
    links["hypertile"] = graph.add("DetailersTestWhyAlone", model=tile, **why)[0]
    out = {name: str(saved["s0"]).strip('"') for name, saved in results(graph, **links).items()}
    assert out["counted"] == out["compiled"] == out["euler"] == out["weights"] == ""
    assert out["options"].startswith("its conditioning has a hook of the kind comfy.hooks.Trans")
    for name, reason in ALONE.items():
        assert re.search(reason, out[name]), (name, out[name])
    for name in ("dpm_adaptive", "res_2s"):
        assert out[name] == f"the sampler '{name}' is not known to treat rows one by one"
    assert re.search("patches: .*tomesd_m", out["tome"])
    assert re.search("patches: .*hypertile_in", out["hypertile"])


STATEFUL = (
    "first block cache", "reference for each row", "random attention", "other random attention",
    "guidance", "outer wrapper",
)  # fmt: skip


def test_what_other_packs_put_into_a_model_changes_no_picture(results):
    graph = Pairs()
    model = miniature(graph)
    image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
    graph.pair("none", image, segs, model, **SETTINGS)
    for patch in STATEFUL:
        for batch in (1, 0):  # each with a model, and so a state, of its own
            detailed = graph.detail(
                "DetailerForEach", image, segs, foreign(graph, model, patch),
                detail_batch=batch, **SETTINGS | {"steps": 4},
            )  # fmt: skip
            graph.links[f"{patch}_{batch}"] = detailed[0]
    out = graph.compare(results, atol=1e-5)
    for patch in STATEFUL[:-1]:
        assert np.abs(out[patch]["t0"] - out["none"]["t0"]).max() > 1e-3, patch


def test_they_are_repeatable_and_leave_the_generators_as_they_were(results):
    def detailed(seed):
        graph = Graph()
        model = foreign(graph, miniature(graph), "random attention")
        model = foreign(graph, model, "other random attention")
        image, segs = graph.image(*SIZE), graph.segs(*SIZE, *ROW)
        picture = graph.detail("DetailerForEach", image, segs, model, **SETTINGS, seed=seed)[0]
        state = graph.add("DetailersTestRandomState", after=picture)[0]
        out = results(graph, picture=picture, state=state)  # all but the detailer is done once
        return out["picture"]["t0"], str(out["state"]["s0"])

    (first, state), (other, later), (again, last) = (detailed(seed) for seed in (3, 4, 3))
    np.testing.assert_array_equal(again, first)
    assert np.abs(other - first).max() > 1e-3
    assert state == later == last
