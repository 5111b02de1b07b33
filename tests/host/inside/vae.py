"""VAEs of the host: too large for the memory, paged, and in half precision."""

import contextlib

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from comfy.taesd.taesd import TAESD
from detailers.core.detail.images import detail_image
from detailers.core.geometry import Sizing
from detailers.core.host.backend import ComfyBackend
from detailers.core.segs.seg import SEG
from detailers.core.settings import Detail, Masking, Models, Sampling
from detailers.dev.model_pack.families import FAMILIES, Codec
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.dev.model_pack.vae import AnalyticVAE
from detailers.utils.notes import collected_notes

SIDE = 640  # larger than the host's tiles of 512
PICTURES = 6


class Overseeing(Codec):
    """A codec whose every pixel depends on the whole picture, so that tiles show.

    It has memory for so many rows.
    """

    def __init__(self, rows):
        super().__init__(FAMILIES["flat8"])
        self.rows = rows
        self.seen = []

    def _hold(self, values):
        self.seen.append(tuple(values.shape))
        whole = values.shape[-1] * values.shape[-2] in (SIDE**2, (SIDE // 8) ** 2)
        if whole and len(values) > self.rows:
            raise comfy.model_management.OOM_EXCEPTION(f"{len(values)} rows, not {self.rows}")
        return values.mean(dim=(1, 2, 3), keepdim=True)

    def encode(self, pixels):
        return super().encode(pixels) + self._hold(pixels)

    def decode(self, latent):
        return super().decode(latent) * 0.5 + self._hold(latent) * 0.1


def overseeing_vae(rows, family="flat8"):
    vae = AnalyticVAE(FAMILIES[family])
    vae.first_stage_model = Overseeing(rows).eval()
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, vae.patcher.load_device, vae.patcher.offload_device
    )
    return vae


def pictures(count=PICTURES, side=SIDE):
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 5, 5, 3, generator=generator).movedim(-1, 1)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").movedim(1, -1)


def there_and_back(rows, count):
    vae, backend = overseeing_vae(rows), ComfyBackend()
    latent = backend.encode(vae, pictures(count), tiled=False, video=False)
    return latent, backend.decode(vae, latent, tiled=False), vae.first_stage_model.seen


def check_fewer_rows_give_the_same_picture():
    count = 4
    latent, decoded, _ = there_and_back(99, count)
    for rows in (1, 3):
        own_latent, own_decoded, seen = there_and_back(rows, count)
        torch.testing.assert_close(own_latent, latent, atol=1e-5, rtol=0)
        torch.testing.assert_close(own_decoded, decoded, atol=1e-5, rtol=0)
        sizes = {shape[-2:] for shape in seen}
        assert sizes == {(SIDE, SIDE), (SIDE // 8, SIDE // 8)}, sizes  # no tile of either


def check_what_was_too_much_is_not_tried_again():
    vae, backend = overseeing_vae(2), ComfyBackend()
    latent = torch.zeros(PICTURES, 4, SIDE // 8, SIDE // 8)
    backend.decode(vae, latent, tiled=False)
    assert [shape[0] for shape in vae.first_stage_model.seen] == [6, 3, 2, 2, 2]
    vae.first_stage_model.seen.clear()
    backend.decode(vae, latent, tiled=False)
    assert [shape[0] for shape in vae.first_stage_model.seen] == [2, 2, 2]


def check_a_single_row_without_memory_goes_in_tiles():
    vae, backend = overseeing_vae(0), ComfyBackend()
    decoded = backend.decode(vae, torch.zeros(2, 4, SIDE // 8, SIDE // 8), tiled=False)
    assert decoded.shape == (2, SIDE, SIDE, 3)
    assert any(shape[-1] < SIDE // 8 for shape in vae.first_stage_model.seen)


def check_the_estimate_decides_before_memory_runs_out():
    vae, backend = overseeing_vae(99), ComfyBackend()
    vae.memory_used_decode = vae.memory_used_encode = lambda shape, dtype: shape[0] * 1000
    vae.patcher.get_free_memory = lambda device: 2500
    counts = []

    def work(rows):
        counts.append(len(rows))
        return rows

    vae.encode = vae.decode = work
    rows = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 8, 8, 3)
    for kind in ("encode", "decode"):
        assert torch.equal(backend._by_rows(kind, vae, rows), rows)
    assert counts == [2, 2, 1] * 2


def check_an_inpaint_model_encodes_no_batch_in_tiles():
    image, mask = pictures(), torch.ones(PICTURES, SIDE, SIDE)
    found = []
    for rows in (99, 2):
        vae = overseeing_vae(rows)
        found.append(ComfyBackend().inpaint_conditioning([], [], image, vae, mask)[2]["samples"])
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)


def check_hints_of_several_controls_are_encoded_as_pictures():
    class Control:
        compression_ratio, upscale_algorithm, previous_controlnet = 8, "nearest", None

        def __init__(self, hint, vae):
            self.cond_hint_original, self.vae = hint, vae

        def copy(self):
            return Control(self.cond_hint_original, self.vae)

    hints = pictures(3, 64).movedim(-1, 1)
    for family, latent in (("flat8", (3, 4, 8, 8)), ("video8", (3, 768, 1, 8, 8))):
        vae = AnalyticVAE(FAMILIES[family])
        controls = [Control(hint, vae) for hint in hints.split(1)]
        joined = ComfyBackend().join_controls(controls, torch.zeros(1, 4, 8, 8))
        encoded = joined.vae.encode(joined.cond_hint_original.movedim(1, -1))
        assert encoded.shape == latent, encoded.shape
        alone = [vae.encode(hint.movedim(1, -1)) for hint in hints.split(1)]
        torch.testing.assert_close(encoded, torch.cat(alone), atol=1e-5, rtol=0)


def check_rows_of_a_vae_that_takes_them_for_a_clip_stay_together():
    from comfy.ldm.modules.temporal_ae import VideoDecoder

    vae, backend = overseeing_vae(99), ComfyBackend()
    assert not backend.mixes_rows(vae)
    assert backend.mixes_rows(object())  # of another pack

    class Own(AnalyticVAE):
        def decode(self, samples_in, vae_options=None):
            return super().decode(samples_in)

    assert backend.mixes_rows(Own(FAMILIES["flat8"]))
    vae.first_stage_model.decoder = VideoDecoder.__new__(VideoDecoder)
    assert backend.mixes_rows(vae)


def check_segments_come_out_the_same_whatever_the_vae_holds():
    model, clip, _ = DetailersTestModel().run("flat8", 0.6)
    texts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("red", "")]
    image = pictures(1, 2 * SIDE)
    mask = torch.ones(SIDE, SIDE).numpy()
    boxes = [(x, y, x + SIDE, y + SIDE) for y in (0, SIDE) for x in (0, SIDE)]
    segs = (2 * SIDE, 2 * SIDE), [SEG(None, mask, 1.0, box, box, "A", None) for box in boxes]
    found = []
    for rows in (99, 3, 1):
        detail = Detail(
            Models(model, clip, overseeing_vae(rows), *texts),
            Sizing(guide_size=SIDE, max_size=SIDE, force_inpaint=True),
            Sampling(5, 2, 1.0, "euler", "karras", 0.5),
            Masking(feather=0),
        )
        with torch.inference_mode():
            found.append(detail_image(image, segs, detail, ComfyBackend()).image)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


# Full precision


class Paged(TAESD):
    """A network that must not be copied; in half precision it gives nothing that is a number."""

    def __deepcopy__(self, memo):
        raise ValueError("this network holds memory outside of torch")

    def decode(self, latent):
        pixels = super().decode(latent)
        return pixels if latent.dtype == torch.float32 else pixels * torch.nan


def weights():
    """Random ones: the host's layers are made without any."""
    torch.manual_seed(0)
    return {k: torch.randn(v.shape) * 0.05 for k, v in TAESD().state_dict().items()}


def half_vae(dynamic, network=Paged):
    vae = comfy.sd.VAE(sd=weights(), dtype=torch.bfloat16)
    paged = network().to(torch.bfloat16)
    paged.load_state_dict(vae.first_stage_model.state_dict())
    vae.first_stage_model = paged
    vae.patcher = comfy.model_patcher.ModelPatcher(
        paged, vae.patcher.load_device, vae.patcher.offload_device
    )
    vae.patcher.is_dynamic = lambda: dynamic
    return vae


def same_picture_in_float32(vae):
    """The VAE in float32, which must decode to what its weights give in float32."""
    latent = torch.linspace(-1, 1, 4 * 8 * 8).view(1, 4, 8, 8)
    assert not torch.isfinite(vae.decode(latent)).any()
    precise = ComfyBackend().in_float32(vae)
    by_hand = TAESD()
    by_hand.load_state_dict({k: v.float() for k, v in vae.first_stage_model.state_dict().items()})
    expected = (by_hand.decode(latent) / 2 + 0.5).clamp(0, 1).movedim(1, -1).detach()
    assert torch.isfinite(expected).all()
    assert expected.std() > 0.01
    torch.testing.assert_close(precise.decode(latent), expected, atol=1e-5, rtol=0)
    assert vae.vae_dtype == torch.bfloat16
    assert {value.dtype for value in vae.first_stage_model.parameters()} == {torch.bfloat16}
    own = {value.data_ptr() for value in vae.first_stage_model.parameters()}
    assert not own & {value.data_ptr() for value in precise.first_stage_model.parameters()}
    return precise


def check_a_paged_network_is_made_anew_and_not_copied():
    same_picture_in_float32(half_vae(dynamic=True))


def check_a_network_that_does_not_let_itself_be_copied_is_made_anew():
    same_picture_in_float32(half_vae(dynamic=False))


def check_a_paged_network_is_made_by_the_loader_of_its_file():
    vae, asked = half_vae(dynamic=True), []

    def load(*args):
        asked.append(args)
        patcher = comfy.sd.VAE(sd=weights(), dtype=torch.bfloat16).patcher
        return [None, patcher]

    vae.patcher.cached_patcher_init = load, ("a file",), 1
    precise = same_picture_in_float32(vae)
    assert asked == [("a file",)]
    assert precise.patcher.load_device == vae.patcher.load_device


def check_a_paged_network_that_cannot_be_made_is_told():
    class Own(Codec):
        def __deepcopy__(self, memo):
            raise ValueError("this network holds memory outside of torch")

    vae = AnalyticVAE(FAMILIES["flat8"])
    vae.first_stage_model = Own(FAMILIES["flat8"]).bfloat16()
    vae.vae_dtype = torch.bfloat16
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, vae.patcher.load_device, vae.patcher.offload_device
    )
    vae.patcher.is_dynamic = lambda: True
    with collected_notes() as notes:
        assert ComfyBackend().in_float32(vae) is None
    assert [note.kind for note in notes] == ["precision"], notes
    assert "float32" in notes[0].text


def check_the_copy_of_a_loaded_network_is_not_loaded():
    class Plain(Paged):
        def __deepcopy__(self, memo):
            memo[id(self)] = self
            plain = Plain()
            plain.load_state_dict(self.state_dict())
            plain.model_loaded_weight_memory = self.model_loaded_weight_memory
            plain.model_lowvram = False
            return plain

    vae = half_vae(False, Plain)
    with contextlib.suppress(Exception):
        vae.decode(torch.zeros(1, 4, 8, 8))
    vae.first_stage_model.model_loaded_weight_memory = 12345
    precise = ComfyBackend().in_float32(vae)
    assert precise.first_stage_model.model_loaded_weight_memory == 0


# Previews


def check_previews_go_where_the_model_is():
    import latent_preview
    from detailers.core.host import backend as host

    class Previewer:
        def __init__(self, device):
            self.device, self.seen = device, []

        def decode_latent_to_preview_image(self, kind, latent):
            self.seen.append(latent.device)
            return "JPEG", None, 64

    made = []

    def get_previewer(device, form):
        made.append((device, form, Previewer(device)))
        return made[-1][2]

    before = latent_preview.get_previewer
    latent_preview.get_previewer = get_previewer
    try:
        base, _, _ = DetailersTestModel().run("flat8", 0.6)
        other, _, _ = DetailersTestModel().run("image16", 0.6)
        elsewhere = base.clone()
        elsewhere.load_device = torch.device("meta")
        previewers = {}
        for model in (base, other, elsewhere, base, elsewhere):
            host._preview(model, torch.zeros(1, 4, 8, 8), previewers)
    finally:
        latent_preview.get_previewer = before
    devices = [device for device, _, _ in made]
    assert devices == [base.load_device, other.load_device, torch.device("meta")]
    assert made[0][1] is not made[1][1]  # of one class, and yet not the same format
    for device, _, previewer in made:
        assert {seen.type for seen in previewer.seen} == {torch.device(device).type}


def check_the_tiny_decoder_of_a_latent_goes_to_the_computing_device():
    from detailers.core.host import latent_previews

    class Tiny(torch.nn.Module):
        moved = []

        def to(self, device):
            self.moved.append(device)
            return self

        def decode(self, values):
            self.seen = values.device
            return torch.zeros(1, 3, 16, 16)

    tiny = Tiny()
    here = torch.device("cpu", 0)
    saved = latent_previews._tiny_decoder, comfy.model_management.get_torch_device
    latent_previews._tiny_decoder = lambda form: tiny
    comfy.model_management.get_torch_device = lambda: here
    try:
        picture = latent_previews.decoded({"samples": torch.zeros(1, 4, 2, 2)}, "TAESD15", None)
    finally:
        latent_previews._tiny_decoder, comfy.model_management.get_torch_device = saved
    assert tiny.moved == [here]
    assert tiny.seen.type == here.type
    assert picture.shape == (1, 16, 16, 3)
