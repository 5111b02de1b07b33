"""Memory that runs out in the host: in the model, in a VAE, and in a network of a detector."""

import gc
import types

import comfy.model_management
import comfy.model_patcher
import torch
from detailers.core import memory
from detailers.core.detail.images import detail_image
from detailers.core.geometry import Sizing
from detailers.core.host import memory as host_memory
from detailers.core.host import vae as host_vae
from detailers.core.host.backend import ComfyBackend
from detailers.core.host.detectors import Resident
from detailers.core.host.hooks import Unsampling, unsample
from detailers.core.sampling.iterative_upscale import Scaling, enlarged
from detailers.core.segs.seg import SEG
from detailers.core.settings import Detail, Models, Sampling
from detailers.dev.model_pack.families import FAMILIES, Codec
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.dev.model_pack.vae import AnalyticVAE
from detailers.nodes.upscale import by_segments

gc.collect = lambda *generation: 0  # it takes a second in here, and is not what is looked at
MODEL, CLIP, VAE = DetailersTestModel().run("flat8", 0.6)
RED, NOTHING = (CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", ""))
ACCELERATOR = getattr(torch, "AcceleratorError", None)


def of_code(number):
    error = ACCELERATOR("CUDA error: in words that nobody knows")
    error.error_code = number
    return error


KINDS = {
    "host": lambda: comfy.model_management.OOM_EXCEPTION("CUDA out of memory."),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublas"),
    "late": lambda: RuntimeError("CUDA error: out of memory"),
    "cpu": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
    "windows": lambda: RuntimeError(
        "DefaultCPUAllocator: not enough memory: you tried to allocate"
    ),
    "python": MemoryError,
    "mps": lambda: RuntimeError("MPS backend out of memory"),
}
if ACCELERATOR is not None:
    KINDS["accelerator"] = lambda: ACCELERATOR("CUDA error: out of memory")
    KINDS["code"] = lambda: of_code(2)


class Lacking:
    """Raises so many times, or always for None."""

    def __init__(self, kind, times):
        self.kind, self.left, self.raised = kind, times, 0

    def __call__(self):
        if self.left != 0:
            self.left = None if self.left is None else self.left - 1
            self.raised += 1
            raise KINDS[self.kind]()


class LackingCodec(Codec):
    def __init__(self, place, lack):
        super().__init__(FAMILIES["flat8"])
        self.place, self.lack = place, lack

    def encode(self, pixels):
        if self.place == "encode":
            self.lack()
        return super().encode(pixels)

    def decode(self, latent):
        if self.place == "decode":
            self.lack()
        return super().decode(latent)


def lacking_vae(place, lack):
    vae = AnalyticVAE(FAMILIES["flat8"])
    vae.first_stage_model = LackingCodec(place, lack).eval()
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, vae.patcher.load_device, vae.patcher.offload_device
    )
    return vae


def lacking_model(lack):
    model = MODEL.clone()

    def wrapper(apply, args):
        lack()
        return apply(args["input"], args["timestep"], **args["c"])

    wrapper.shares_batches = True
    model.set_model_unet_function_wrapper(wrapper)
    return model


def detail(place, lack):
    image = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(32, 32).numpy()
    boxes = [(0, 0, 32, 32), (40, 0, 72, 32), (0, 40, 32, 72), (40, 40, 72, 72)]
    segs = (96, 96), [SEG(None, mask, 1.0, box, box, "A", None) for box in boxes]
    model = lacking_model(lack if place == "sample" else (lambda: None))
    settings = Detail(
        Models(model, CLIP, lacking_vae(place, lack), RED, NOTHING),
        Sizing(guide_size=64, max_size=128, force_inpaint=True),
        Sampling(5, 2, 2.0, "euler", "simple", 0.5),
    )
    with torch.inference_mode():
        return detail_image(image, segs, settings, ComfyBackend()).image


def check_each_form_at_each_place():
    whole = detail("", None)
    for place in ("sample", "encode", "decode"):
        for kind in KINDS:
            for times in (1, 2, 5):
                lack = Lacking(kind, times)
                try:
                    found = detail(place, lack)
                except memory.OutOfMemory as error:
                    assert times == 5, (place, kind, times)
                    assert "segment 0 at 64 x 64 pixels" in str(error), error
                    continue
                assert lack.raised == times, (place, kind, times)
                torch.testing.assert_close(found, whole, atol=2e-5, rtol=0)


def check_always_ends_with_one_error():
    for place, verb in (("sample", "sampled"), ("encode", "encoded"), ("decode", "decoded")):
        for kind in KINDS:
            lack = Lacking(kind, None)
            try:
                detail(place, lack)
            except memory.OutOfMemory as error:
                text = str(error)
                assert f"segment 0 at 64 x 64 pixels cannot be {verb}" in text, text
                assert "with all models unloaded" in text, text
                if place != "sample":
                    assert "in tiles of 512 pixels, in tiles of 256 pixels" in text, text
                if place == "sample":
                    assert "Tried: 4 at once, 2 at once, alone" in text, text
                assert isinstance(error, comfy.model_management.OOM_EXCEPTION)
                assert lack.raised < 20, lack.raised
                continue
            raise AssertionError((place, kind))


def check_a_dead_context_is_not_taken_for_want_of_memory():
    for kind in ("an illegal memory access was encountered", "device-side assert triggered"):
        KINDS["dead"] = lambda kind=kind: RuntimeError(f"CUDA error: {kind}")
        lack = Lacking("dead", 1)
        try:
            detail("decode", lack)
        except RuntimeError as error:
            assert not isinstance(error, memory.OutOfMemory)
            assert kind in str(error)
        else:
            raise AssertionError(kind)
        finally:
            del KINDS["dead"]
        assert lack.raised == 1


def goes_on_or_tells(work, whole, subject, most=2):
    """`work(lack)` gives `whole` where memory runs out up to `most` times, and else one error."""
    for kind in ("cublas", "cpu"):
        for times in (1, 2, 5, None):
            lack = Lacking(kind, times)
            try:
                found = work(lack)
            except memory.OutOfMemory as error:
                assert times is None or times > most, (kind, times, error)
                assert subject in str(error), error
                assert "with all models unloaded" in str(error), error
                continue
            assert times is not None, kind
            assert lack.raised == times, (kind, lack.raised)
            torch.testing.assert_close(found, whole, atol=2e-5, rtol=0)


@torch.inference_mode()
def check_a_vae_in_tiles_goes_on_in_tiles_of_the_same_size():
    """Tiles of another size give another picture: they are for what does not fit otherwise."""
    seen = []
    own = host_vae._tiled

    def watched(kind, vae, rows, tile):
        seen.append(tile.side)
        return own(kind, vae, rows, tile)

    host_vae._tiled = watched
    try:
        pixels = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
        whole = ComfyBackend().encode(VAE, pixels, tiled=True, video=False)
        for kind in ("cublas", "cpu"):
            for times, sides in ((0, [512]), (1, [512] * 2), (2, [512] * 2 + [256])):
                seen.clear()
                vae = lacking_vae("encode", Lacking(kind, times))
                found = ComfyBackend().encode(vae, pixels, tiled=True, video=False)
                torch.testing.assert_close(found, whole, atol=2e-5, rtol=0)
                assert seen == sides, (kind, times, seen)
            try:
                vae = lacking_vae("encode", Lacking(kind, None))
                ComfyBackend().encode(vae, pixels, tiled=True, video=False)
            except memory.OutOfMemory as error:
                assert "64 x 64 pixels cannot be encoded" in str(error), error
                assert "in tiles of 512 pixels, in tiles of 256 pixels" in str(error), error
            else:
                raise AssertionError(kind)
    finally:
        host_vae._tiled = own


def check_a_text_is_encoded_again():
    class Text:
        def __init__(self, lack):
            self.lack = lack

        def tokenize(self, text):
            return CLIP.tokenize(text)

        def encode_from_tokens_scheduled(self, tokens):
            self.lack()
            return CLIP.encode_from_tokens_scheduled(tokens)

    def work(lack):
        return ComfyBackend().encode_text(Text(lack), "red")[0][0]

    goes_on_or_tells(work, RED[0][0], "a text cannot be encoded")


def check_an_upscale_model_goes_on():
    def work(lack):
        def call_node(name, upscale_model, image):
            lack()
            return (image.repeat_interleave(2, 1).repeat_interleave(2, 2),)

        own = by_segments.call_node
        by_segments.call_node = call_node
        try:
            enlarge = by_segments.model_upscaler(types.SimpleNamespace(scale=2))
            return enlarge(torch.rand(1, 6, 8, 3, generator=torch.Generator().manual_seed(4)))
        finally:
            by_segments.call_node = own

    goes_on_or_tells(
        work,
        work(lambda: None),
        "a picture of 8 x 6 pixels cannot be enlarged by the upscale model",
    )


def check_sampling_backwards_goes_on():
    latent = {"samples": torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))}

    def work(lack):
        how = Unsampling(lacking_model(lack), RED, NOTHING, 4, 1.0, "euler", "normal")
        with torch.inference_mode():
            return unsample(how, latent, 1)

    goes_on_or_tells(work, work(lambda: None), "of 1 x 8 x 8 cells cannot be sampled")


def check_a_wave_is_halved_down_to_one_and_goes_on():
    """Five failures in a row for sixteen crops at once: at last one alone, which fits."""
    boxes = [(x, y, x + 16, y + 16) for y in range(0, 96, 24) for x in range(0, 96, 24)]
    mask = torch.ones(16, 16).numpy()
    segs = (96, 96), [SEG(None, mask, 1.0, box, box, "A", None) for box in boxes]
    image = torch.rand(1, 96, 96, 3, generator=torch.Generator().manual_seed(0))

    def work(lack):
        settings = Detail(
            Models(lacking_model(lack), CLIP, VAE, RED, NOTHING),
            Sizing(guide_size=32, max_size=64, force_inpaint=True),
            Sampling(5, 1, 2.0, "euler", "simple", 0.5),
        )
        with torch.inference_mode():
            return detail_image(image, segs, settings, ComfyBackend()).image

    whole = work(lambda: None)
    goes_on_or_tells(work, whole, "Tried: 16 at once, 8 at once, 4 at once, 2 at once", most=6)


def check_iterative_upscaling_goes_on():
    latent = {"samples": torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))}
    with torch.inference_mode():
        whole, _ = enlarged(latent, (96, 96), Scaling(VAE, "bilinear"), ComfyBackend())
        for place in ("encode", "decode"):
            for kind in KINDS:
                scaling = Scaling(lacking_vae(place, Lacking(kind, 2)), "bilinear")
                found, _ = enlarged(latent, (96, 96), scaling, ComfyBackend())
                torch.testing.assert_close(found["samples"], whole["samples"], atol=1e-5, rtol=0)


def check_nothing_is_unloaded_while_a_sampler_runs():
    calls = []
    saved = comfy.model_management.unload_all_models
    comfy.model_management.unload_all_models = lambda: calls.append("unload")
    try:
        with host_memory.models_in_use():
            memory.free(unload=True)
        assert calls == []
        memory.free(unload=True)
        assert calls == ["unload"]
        memory.free()
        assert calls == ["unload"]
    finally:
        comfy.model_management.unload_all_models = saved


def check_freeing_that_fails_hides_nothing():
    saved = comfy.model_management.soft_empty_cache

    def broken(*args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    comfy.model_management.soft_empty_cache = broken
    try:
        memory.free()
    finally:
        comfy.model_management.soft_empty_cache = saved


def check_a_network_that_was_unloaded_while_in_use_comes_back():
    network = Resident(torch.nn.Linear(2, 2))
    loaded = []
    saved = comfy.model_management.load_models_gpu
    comfy.model_management.load_models_gpu = lambda models, **options: loaded.append(models)
    try:
        with network.on_device():
            with network.on_device():
                assert len(loaded) == 1
            network.module.to("meta")
            assert network._was_unloaded(torch.device("cpu"))
    finally:
        comfy.model_management.load_models_gpu = saved
