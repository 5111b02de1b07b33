"""Models, VAEs and latents that do not fit one another say so, and say where."""

import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import comfy.latent_formats
import comfy.model_management
import torch
from detailers.core.detail.images import detail_image
from detailers.core.detail.references import References, Shown
from detailers.core.geometry import Box, Size, Sizing
from detailers.core.host import model_fit
from detailers.core.host.backend import ComfyBackend
from detailers.core.pixels.crop_view import Cut
from detailers.core.prompts.cut_conditioning import cut_conditioning
from detailers.core.sampling import latent as sampling
from detailers.core.sampling.scheduler import run_pipelines
from detailers.core.segs.seg import SEG
from detailers.core.settings import Detail, Masking, Models, Refiner, Sampling
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.dev.tiny_models.build import WAYS, build, runs
from detailers.dev.tiny_models.specs import TINY

FLAT, CLIP, FLAT_VAE = DetailersTestModel().run("flat8", 0.6)
LARGE, _, LARGE_VAE = DetailersTestModel().run("image16", 0.6)
RED, NOTHING = (CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", ""))


def told(work, kind):
    try:
        work()
    except kind as error:
        assert type(error) is kind, type(error)
        return str(error)
    raise AssertionError("nothing was raised")


def detail(model, vae, refiner=None, boxes=((8, 8, 40, 40),)):
    image = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(32, 32).numpy()
    segs = (64, 96), [SEG(None, mask, 1.0, box, box, "A", None) for box in boxes]
    settings = Detail(
        Models(model, CLIP, vae, RED, NOTHING),
        Sizing(guide_size=64, max_size=128, force_inpaint=True),
        Sampling(5, 4, 1.0, "euler", "simple", 0.5),
        Masking(feather=0),
        refiner=refiner,
    )
    with torch.inference_mode():
        return detail_image(image, segs, settings, ComfyBackend())


def check_a_vae_of_another_model_is_told():
    text = told(lambda: detail(FLAT, LARGE_VAE), ValueError)
    for part in ("Segment 0 at 64 x 64 pixels", "'vae'", "768 channels", "4 channels",
                 "[1, 768, 4, 4]", "the model"):  # fmt: skip
        assert part in text, (part, text)


def check_a_refiner_of_another_model_is_told():
    refiner = Refiner(Models(LARGE, CLIP, LARGE_VAE, RED, NOTHING), 0.5)
    text = told(lambda: detail(FLAT, FLAT_VAE, refiner), ValueError)
    assert "the refiner's model takes latents of 768 channels" in text, text
    assert "Segment 0" in text, text


def check_a_picture_at_the_latents_side_has_its_size():
    """HiDream E1 does not resize the picture that it edits."""
    tiny, backend = TINY["HiDream"], ComfyBackend()
    model = build("HiDream", tiny)
    assert backend.takes_references_of_one_size(model)
    assert not backend.takes_references_of_one_size(FLAT)
    run, *_ = runs(model, tiny, WAYS[0], backend)
    height, width = tiny.latent[-2:]
    canvas = Size(8 * width, 8 * height)
    whole = Size(2 * canvas.width, 2 * canvas.height)
    cut = Cut(whole, Box(0, 0, *canvas), canvas, canvas, 8)
    small = torch.randn(1, *tiny.latent)  # half as large as the latent of the whole image
    positive = [[run.positive[0][0], {**run.positive[0][1], "concat_latent_image": small}]]
    positive = cut_conditioning(positive, cut, shows=lambda picture: False)

    def sample(positive):
        return backend.sample(replace(run, positive=positive), lambda *_: None)

    assert "Sizes of tensors must match" in told(lambda: sample(positive), RuntimeError)
    placed = References("auto", None, None, backend).placed(
        (positive,), Shown(cut, run.latent, same_size=True)
    )
    ((positive,),) = run_pipelines([placed], backend)
    assert sample(positive).shape == run.latent.shape


def check_a_latent_of_another_model_is_told_by_the_samplers():
    settings = sampling.Denoising(5, 4, 0.5)
    sampler_setup = sampling.SamplerSetup(FLAT, RED, NOTHING, 1.0, "euler", "simple")
    latent = {"samples": torch.ones(1, 768, 4, 4)}
    text = told(
        lambda: sampling.sample_latent(sampler_setup, settings, latent, ComfyBackend()), ValueError
    )
    assert "the LATENT input has 768 channels" in text, text
    empty = {"samples": torch.zeros(1, 16, 4, 4)}  # fits any model
    done = sampling.sample_latent(sampler_setup, settings, empty, ComfyBackend())
    assert done["samples"].shape == (1, 4, 4, 4)


def patched():
    """A model that adds a latent of the whole picture, 8x12 cells, to what it sees."""
    model = FLAT.clone()
    whole = torch.zeros(1, 4, 9, 12)
    model.set_model_unet_function_wrapper(
        lambda apply, args: apply(args["input"] + whole, args["timestep"], **args["c"])
    )
    return model


def check_a_patch_for_the_whole_picture_is_told():
    text = told(lambda: detail(patched(), FLAT_VAE), RuntimeError)
    for part in ("Segment 0 at 64 x 64 pixels", "[1, 4, 8, 8]", "'vae'", "a patch of the model",
                 "The size of tensor a"):  # fmt: skip
        assert part in text, (part, text)


def check_each_segment_of_a_batch_is_named():
    boxes = ((0, 0, 32, 32), (40, 0, 72, 32))

    class Broken(ComfyBackend):
        def why_alone(self, run):
            return None

    model = patched()
    image = torch.rand(1, 64, 96, 3)
    mask = torch.ones(32, 32).numpy()
    segs = (64, 96), [SEG(None, mask, 1.0, box, box, "A", None) for box in boxes]
    settings = Detail(
        Models(model, CLIP, FLAT_VAE, RED, NOTHING),
        Sizing(guide_size=64, max_size=128, force_inpaint=True),
        Sampling(5, 4, 1.0, "euler", "simple", 0.5),
    )
    with torch.inference_mode():
        text = told(lambda: detail_image(image, segs, settings, Broken()), RuntimeError)
    assert re.search(r"[Ss]egment 0 .*segment 1 ", text), text


def check_a_clip_is_no_picture():
    backend = ComfyBackend()
    text = told(
        lambda: backend.decode(FLAT_VAE, torch.zeros(1, 4, 3, 4, 4), tiled=False), ValueError
    )
    assert "'vae'" in text and "3 steps" in text, text
    still = backend.decode(FLAT_VAE, torch.zeros(1, 4, 1, 4, 4), tiled=False)
    assert still.shape == (1, 32, 32, 3)


def check_want_of_memory_is_told_as_such():
    def out_of_memory(apply, args):
        raise comfy.model_management.OOM_EXCEPTION("no memory")

    model = FLAT.clone()
    model.set_model_unet_function_wrapper(out_of_memory)
    try:
        detail(model, FLAT_VAE)
    except comfy.model_management.OOM_EXCEPTION as error:
        assert "segment 0 at 64 x 64 pixels cannot be sampled" in str(error), error
        assert "a patch of the model" not in str(error), error
        return
    raise AssertionError("nothing was raised")


def check_formats_that_pack_their_channels_are_not_judged():
    formats = comfy.latent_formats
    assert model_fit._channels(formats.SD15()) == 4
    assert model_fit._channels(formats.Flux()) == 16
    assert model_fit._channels(formats.Wan21()) == 16
    if hasattr(formats, "HunyuanImage21Refiner"):
        assert model_fit._channels(formats.HunyuanImage21Refiner()) is None
    assert model_fit._channels(formats.LatentFormat()) is None  # it does not tell
    assert model_fit._channels(SimpleNamespace()) is None

    class OfAnotherPack(formats.LatentFormat):
        scale_factor = 2.0

    assert model_fit._channels(OfAnotherPack()) is None
    every = [
        kind for kind in vars(formats).values()
        if isinstance(kind, type) and issubclass(kind, formats.LatentFormat)
    ]  # fmt: skip
    known = [model_fit._channels(kind()) for kind in every]
    assert sum(count is not None for count in known) > 10


# What callables of other packs give back


def sampled(**changed):
    settings = sampling.Denoising(5, 4, 0.5)
    sampler_setup = sampling.SamplerSetup(FLAT, RED, NOTHING, 1.0, "euler", "simple", **changed)
    latent = {"samples": torch.ones(1, 4, 4, 4)}
    return sampling.sample_latent(sampler_setup, settings, latent, ComfyBackend())


def giving(answer):
    def give(*_given, **_named):
        return answer

    return give


def check_a_scheduler_function_that_gives_no_levels_is_named():
    steps = 8  # all those of which half are run
    for given, words in (
        (None, "None"),
        ("karras", "'karras'"),
        (torch.ones(2, 3), "[2, 3]"),
        (torch.tensor([1.0, torch.nan, 0.0]), "nan"),
        (torch.arange(9.0), "0, 1, 2"),
    ):
        text = told(partial(sampled, scheduler_func=giving(given)), ValueError)
        assert text.startswith("The scheduler function give gave"), text
        assert words in text and f"{steps + 1} noise levels" in text, text

    def fails(model, sampler_name, steps):
        raise KeyError("lost")

    text = told(lambda: sampled(scheduler_func=fails), RuntimeError)
    assert text.startswith("The scheduler function fails failed with KeyError: 'lost'."), text
    assert sampled(scheduler_func=giving([4, 3, 2, 1, 0.5, 0.25, 0.1, 0.05, 0]))


def check_a_sampler_object_that_gives_no_latent_is_named():
    def by_one_giving(answer):
        sampler = SimpleNamespace(sample=giving(answer), max_denoise=giving(True))
        return partial(sampled, sampler=sampler)

    text = told(by_one_giving(torch.ones(1, 4, 2, 2)), ValueError)
    assert text.startswith("The SAMPLER SimpleNamespace (sample) gave"), text
    assert "[1, 4, 2, 2]" in text and "[1, 4, 4, 4]" in text, text
    text = told(by_one_giving(None), RuntimeError)
    assert "The latent cannot be sampled: " in text, text
    text = told(by_one_giving(torch.full((1, 4, 4, 4), torch.nan)), ValueError)
    assert "The sampled latent holds values that are not finite" in text, text
    text = told(lambda: sampled(sampler="euler"), ValueError)
    assert "The SAMPLER str has no sample()" in text, text


def check_a_vae_that_is_none_is_named():
    class Odd:
        def __init__(self, answer):
            self.answer = answer

        def encode(self, pixels):
            return self.answer

        decode = encode

        def spacial_compression_encode(self):
            return 8

    pixels, latent, backend = torch.zeros(1, 8, 8, 3), torch.zeros(1, 4, 1, 1), ComfyBackend()
    for answer in (None, "latent", torch.zeros(3), torch.zeros(1, 4, 1, 1).long()):
        encode = partial(backend.encode, Odd(answer), pixels, tiled=False, video=False)
        text = told(encode, ValueError)
        assert text.startswith("'vae': Odd (encode) gave"), text
    for answer in (torch.zeros(1, 8, 8, 5), torch.zeros(0, 8, 8, 3)):
        text = told(partial(backend.decode, Odd(answer), latent, tiled=False), ValueError)
        assert text.startswith("'vae': Odd (decode) gave"), text
    text = told(lambda: backend.ratio("vae"), RuntimeError)
    assert text.startswith("'vae': str (spacial_compression_encode) failed with"), text
    Odd.spacial_compression_encode = lambda self: 0
    text = told(lambda: backend.ratio(Odd(None)), ValueError)
    assert "gave 0, but should give a number of pixels, 1 or more" in text, text
