"""Segment plans on ComfyUI itself: files that are read, and how much noise a level is."""

import math
import tempfile
from pathlib import Path

import comfy.utils
import folder_paths
import torch
from comfy.model_sampling import CONST, EPS, ModelSamplingDiscrete, ModelSamplingDiscreteFlow
from detailers.core.detail.images import detail_image
from detailers.core.detail.segment_plan import Overrides, Rule, SegmentPlan
from detailers.core.detail.selectors import read_selector
from detailers.core.detail.strength import strength_of
from detailers.core.geometry import Sizing
from detailers.core.host.backend import ComfyBackend
from detailers.core.segs.seg import SEG
from detailers.core.settings import Detail, Masking, Models, Sampling
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.wildcards.grammar import Lora
from safetensors.torch import save_file

MODEL, CLIP, VAE = DetailersTestModel().run("flat8", 0.6)
TEXTS = [CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", "")]


def detail(plan):
    image = torch.rand(1, 64, 160, 3, generator=torch.Generator().manual_seed(0))
    boxes = [(8 + 50 * place, 8, 40 + 50 * place, 40) for place in range(3)]
    mask = torch.ones(32, 32).numpy()
    segs = (64, 160), [SEG(None, mask, 1.0, box, box, "A", None) for box in boxes]
    settings = Detail(
        Models(MODEL, CLIP, VAE, *TEXTS),
        Sizing(guide_size=64, max_size=128, force_inpaint=True),
        Sampling(5, 4, 1.0, "euler", "simple", 0.5),
        Masking(feather=0),
        segment_plan=plan,
    )
    with torch.inference_mode():
        return detail_image(image, segs, settings, ComfyBackend())


def check_each_lora_file_is_read_once():
    with tempfile.TemporaryDirectory() as folder:
        weights = {"diffusion_model.tint.lora_up.weight": torch.ones(3, 1),
                   "diffusion_model.tint.lora_down.weight": torch.ones(1, 3)}  # fmt: skip
        for name in ("one", "two"):
            save_file(weights, Path(folder, f"{name}.safetensors"))
        folder_paths.add_model_folder_path("loras", folder)
        read, load = [], comfy.utils.load_torch_file

        def counting(path, *args, **options):
            read.append(Path(path).stem)
            return load(path, *args, **options)

        comfy.utils.load_torch_file = counting
        try:
            one, weak, two = Lora("one"), Lora("one", 0.5, 0.5), Lora("two")
            detail(SegmentPlan((
                Rule(overrides=Overrides(loras=(one,))),
                Rule(read_selector("index 1"), Overrides(loras=(weak,), text="<lora:two:0.3>")),
                Rule(read_selector("index 2"), Overrides(loras=(two,))),
            )))  # fmt: skip
        finally:
            comfy.utils.load_torch_file = load
        assert sorted(read) == ["one", "two"], read


class Model:
    def __init__(self, *bases):
        self.sampling = type("Sampling", bases, {})()

    def get_model_object(self, name):
        assert name == "model_sampling"
        return self.sampling


def check_how_much_of_a_latent_is_noise_at_a_level():
    backend = ComfyBackend()
    added, mixed = Model(ModelSamplingDiscrete, EPS), Model(ModelSamplingDiscreteFlow, CONST)
    assert math.isclose(backend.noise_share(added, 1.0), 0.5, rel_tol=1e-5)
    assert math.isclose(backend.noise_share(added, 3.0), 0.9, rel_tol=1e-5)
    assert math.isclose(backend.noise_share(mixed, 0.5), 0.5, rel_tol=1e-5)
    assert math.isclose(backend.noise_share(mixed, 0.75), 0.9, rel_tol=1e-5)
    assert backend.noise_share(mixed, 1.0) == 1.0

    class Odd:
        def get_model_object(self, name):
            return object()

    assert backend.noise_share(Odd(), 1.0) is None


def check_one_denoise_is_more_noise_with_a_shifted_schedule():
    def starts(shift):
        model = Model(ModelSamplingDiscreteFlow, CONST)
        model.sampling.set_parameters(shift=shift)
        settings = Sampling(0, 10, 1.0, "euler", "simple", 0.5)
        return strength_of(ComfyBackend(), model, settings)

    plain, shifted = starts(1.0), starts(6.0)
    assert math.isclose(plain.sigma, 0.5, abs_tol=0.01), plain
    assert math.isclose(shifted.sigma, 6 * 0.5 / (1 + 5 * 0.5), abs_tol=0.01), shifted
    assert shifted.noise > 0.95 > 0.55 > plain.noise
    assert str(plain) == "sigma 0.5 (50% noise)"
