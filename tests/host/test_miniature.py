"""The trained miniature in a real host: its parts are the host's, and detailing with it helps."""

from itertools import pairwise

import numpy as np
import pytest
from detailers.dev.metrics import change_outside, psnr
from detailers.dev.miniature.look import Look, caption
from detailers.dev.miniature.world import Degradation, degrade, enlarge, portrait
from PIL import Image

from .graphs import Graph

LOOK = Look("pale", "short", "red", "green", "smile", "none", "purple")
SIDE = 192
FEATHER = 4


@pytest.fixture
def graph():
    graph = Graph()
    graph.miniature = graph.add("DetailersMiniatureLoader")
    return graph


def drawn(graph, text, model=None, **changed):
    """A picture of 256 x 256 from noise."""
    model = model or graph.miniature
    settings = {"steps": 10, "cfg": 3.0, "scheduler": "normal"} | changed
    latent = graph.sample(model, graph.empty_latent(256, 256), text, **settings)
    return graph.decode(graph.miniature, latent)


def test_the_codec_keeps_a_picture(graph, results, server):
    truth, window = portrait(LOOK)
    picture = truth.picture((256, 256), window)
    save(server, picture, "truth.png")
    image = graph.add("LoadImage", image="truth.png")[0]
    latent = graph.encode(graph.miniature, image)
    found = results(graph, latent=latent, pixels=graph.decode(graph.miniature, latent))
    assert found["latent"]["latent0_samples"].shape == (1, 4, 32, 32)
    assert 0.6 < found["latent"]["latent0_samples"].std() < 1.5  # as its noise schedule expects
    assert psnr(found["pixels"]["t0"][0], picture, np.ones((256, 256))) > 24


def test_detailing_comes_nearer_to_the_truth_and_stays_inside(graph, results, server):
    scene, window = portrait(LOOK)
    truth = scene.picture((SIDE, SIDE), window)
    mask = scene.mask(0, (SIDE, SIDE), window)
    small = degrade(truth, Degradation(), np.random.default_rng(0))
    save(server, enlarge(small, (SIDE, SIDE)), "before.png")
    save(server, np.repeat(mask[..., None], 3, 2), "mask.png")
    before = graph.add("LoadImage", image="before.png")[0]
    masks = graph.add("LoadImageMask", image="mask.png", channel="red")[0]
    segs = graph.add(
        "MaskToSEGS", mask=masks, combined=False, crop_factor=2.0, bbox_fill=False,
        drop_size=10, contour_fill=True,
    )[0]  # fmt: skip
    after = graph.detail(
        "DetailerForEach", before, segs, graph.miniature, "", guide_size=256, guide_size_for=False,
        max_size=384, steps=10, cfg=2.0, scheduler="normal", denoise=0.3, feather=FEATHER,
        wildcard=caption(LOOK),
    )[0]  # fmt: skip
    found = {name: arrays["t0"][0] for name, arrays in results(graph, b=before, a=after).items()}
    gain = psnr(found["a"], truth, mask) - psnr(found["b"], truth, mask)
    assert gain > 1.0, f"{gain:.2f} dB"
    from scipy.ndimage import maximum_filter

    touched = maximum_filter(mask, 2 * FEATHER + 1) > 0
    assert change_outside(found["b"], found["a"], touched) == 0


def test_a_caption_decides_what_is_drawn_from_noise(graph, results):
    def text(colour):
        return (
            f"a person, pale skin, curly {colour} hair, blue eyes, smiling, no glasses, red shirt"
        )

    pictures = {colour: drawn(graph, text(colour)) for colour in ("blue", "red")}
    found = {name: arrays["t0"][0] for name, arrays in results(graph, **pictures).items()}

    def share_of_hair(picture):
        red, _, blue = picture.transpose(2, 0, 1)
        return ((blue > red + 0.2) & (blue > 0.35)).mean()

    assert share_of_hair(found["blue"]) > share_of_hair(found["red"]) + 0.03


def test_loras_patch_it(graph, results, server):
    import torch
    from safetensors.torch import save_file

    layer = "diffusion_model.output_blocks.5.0.out_layers.3"
    down, up = torch.ones(1, 64, 3, 3), torch.full((64, 1, 1, 1), 0.08)
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
    save_file(weights, folder / "miniature.safetensors")
    pictures = {"plain": drawn(graph, "a person", steps=3)}
    for name, strength in (("off", 0.0), ("on", 1.0)):
        loaded = graph.add(
            "LoraLoader", model=graph.miniature[0], clip=graph.miniature[1],
            lora_name="miniature.safetensors", strength_model=strength, strength_clip=0.0,
        )  # fmt: skip
        model = [loaded[0], loaded[1], graph.miniature[2]]
        pictures[name] = drawn(graph, "a person", model, steps=3)
    found = {name: arrays["t0"] for name, arrays in results(graph, **pictures).items()}
    assert np.array_equal(found["off"], found["plain"])
    assert np.abs(found["on"] - found["plain"]).mean() > 0.01


def test_a_controlnet_steers_it(graph, results, server):
    """In the host's own loader: a copy of the UNet's first half that sees a hint, but no mask."""
    from safetensors.torch import save_file

    folder = server.base / "models" / "controlnet"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(control_weights(), folder / "miniature.safetensors")
    loaded = graph.add("ControlNetLoader", control_net_name="miniature.safetensors")[0]
    texts = [graph.text(graph.miniature, text) for text in ("a person", "")]

    def steered(hint, strength):
        applied = graph.add(
            "ControlNetApplyAdvanced", positive=texts[0], negative=texts[1], control_net=loaded,
            image=graph.plain(256, 256, hint), strength=strength, start_percent=0.0,
            end_percent=1.0,
        )  # fmt: skip
        return drawn(graph, applied[0], negative=applied[1], steps=3)

    pictures = {
        "plain": drawn(graph, texts[0], negative=texts[1], steps=3),
        "off": steered(0xFFFFFF, 0.0),
        "white": steered(0xFFFFFF, 1.0),
        "red": steered(0xFF0000, 1.0),
    }
    found = {name: arrays["t0"] for name, arrays in results(graph, **pictures).items()}
    assert np.array_equal(found["off"], found["plain"])
    for one, other in (("white", "plain"), ("red", "plain"), ("white", "red")):
        assert np.abs(found[one] - found[other]).mean() > 0.01, (one, other)


def control_weights():
    """A ControlNet for the miniature, of its own weights and random ones for what comes in anew."""
    import torch
    from detailers.dev.miniature.weights import UNET, load_weights

    generator = torch.Generator().manual_seed(0)

    def layer(name, inside, outside, side=3, spread=1.0):
        scale = spread * (inside * side**2) ** -0.5
        weight = scale * torch.randn(outside, inside, side, side, generator=generator)
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(outside)}

    first_half = ("time_embed.", "input_blocks.", "middle_block.")
    weights = {
        name: value for name, value in load_weights(UNET).items() if name.startswith(first_half)
    }
    enter = "input_blocks.0.0.weight"
    weights[enter] = weights[enter][:, :4].contiguous()  # a ControlNet sees the latent alone
    widths = (3, 16, 16, 32, 32, 96, 96, 256, 64)
    for number, (inside, outside) in enumerate(pairwise(widths)):
        weights |= layer(f"input_hint_block.{2 * number}", inside, outside, spread=1.5)
    for number, width in enumerate((64, 64, 64, 64, 64, 128)):
        weights |= layer(f"zero_convs.{number}.0", width, width, 1, 0.3)
    return weights | layer("middle_block_out.0", 128, 128, 1, 0.3)


def save(server, picture, name):
    pixels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(server.input / name)
