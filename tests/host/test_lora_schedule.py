"""The LoRA whose strength changes while sampling, against the host's own loader."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from .graphs import Graph, box


@pytest.fixture(scope="module")
def lora(server):
    """Adds the red of what a network sees to its green."""
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    up, down = torch.zeros(3, 3), torch.zeros(3, 3)
    up[1, 0] = down[0, 0] = 1.0
    weights = {"diffusion_model.tint.lora_up.weight": up,
               "diffusion_model.tint.lora_down.weight": down}  # fmt: skip
    save_file(weights, folder / "scheduled.safetensors")
    return "scheduled.safetensors"


def _sampled(graph, model, clip, strengths=None):
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    red = graph.add("CLIPTextEncode", clip=clip, text="red")
    none = graph.add("CLIPTextEncode", clip=clip, text="")
    return graph.add(
        "KSampler", model=model, seed=1, steps=6, cfg=1.0, sampler_name="euler",
        scheduler="karras", positive=red[0], negative=none[0], latent_image=latent[0], denoise=1.0,
    )[0]  # fmt: skip


def _scheduled(graph, base, lora, start, end, first=0.0, last=0.6, name="linear"):
    loader = graph.add(
        "ScheduledLoRALoader", model=base[0], clip=base[1], lora_name=lora, strength_start=start,
        strength_end=end, interpolation=name, start_percent=first, end_percent=last,
        keyframes_count=4,
    )  # fmt: skip
    return _sampled(graph, loader[0], loader[1]), loader


def test_a_schedule_is_between_its_ends_and_flat_ones_are_the_hosts_own(results, lora):
    graph = Graph()
    base = graph.add("DetailersTestModel", family="flat8", prior_std=0.0)
    stock = graph.add(
        "LoraLoader", model=base[0], clip=base[1], lora_name=lora, strength_model=1.0,
        strength_clip=1.0,
    )  # fmt: skip
    plain = _sampled(graph, base[0], base[1])
    full = _sampled(graph, stock[0], stock[1])
    off, _ = _scheduled(graph, base, lora, 0.0, 0.0)
    on, loader = _scheduled(graph, base, lora, 1.0, 1.0)
    late, _ = _scheduled(graph, base, lora, 0.0, 1.0, first=0.0, last=0.3)
    early, _ = _scheduled(graph, base, lora, 1.0, 0.0, first=0.0, last=0.3)
    none, _ = _scheduled(graph, base, "None", 0.0, 1.0)
    out = results(
        graph, plain=plain, full=full, off=off, on=on, late=late, early=early, none=none,
        curve=loader[2],
    )  # fmt: skip
    pixels = {name: value.get("latent0_samples") for name, value in out.items()}
    np.testing.assert_allclose(pixels["off"], pixels["plain"], atol=1e-5)
    np.testing.assert_array_equal(pixels["none"], pixels["plain"])
    np.testing.assert_allclose(pixels["on"], pixels["full"], atol=1e-5)
    assert np.abs(pixels["full"] - pixels["plain"]).max() > 1  # the LoRA shows
    # with a prior without spread the last step decides
    np.testing.assert_allclose(pixels["late"], pixels["full"], atol=1e-4)
    np.testing.assert_allclose(pixels["early"], pixels["plain"], atol=1e-4)
    assert out["curve"]["t0"].shape == (1, 256, 512, 3)


@pytest.mark.parametrize("text", ["red", "[CONCAT] red"])
def test_a_segments_own_text_keeps_the_lora_of_the_positive(results, lora, text):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    hooks = graph.add("CreateHookLora", lora_name=lora, strength_model=1.0, strength_clip=0.0)[0]
    hooked = graph.add(
        "ConditioningSetProperties", cond_NEW=graph.text(model, "red"), strength=1.0,
        set_cond_area="default", hooks=hooks,
    )[0]  # fmt: skip
    image, segs = graph.plain(96, 80, 0x808080), graph.segs(96, 80, box(16, 8, 80, 72))

    def detailed(positive, wildcard=""):
        return graph.detail(
            "DetailerForEach", image, segs, model, positive, wildcard=wildcard, steps=2
        )[0]

    out = results(graph, plain=detailed("red"), hooked=detailed(hooked), own=detailed(hooked, text))
    pixels = {name: value["t0"] for name, value in out.items()}
    np.testing.assert_allclose(pixels["own"], pixels["hooked"], atol=1e-5)
    assert np.abs(pixels["hooked"] - pixels["plain"]).max() > 0.1  # the LoRA shows
