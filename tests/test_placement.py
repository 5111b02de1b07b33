"""The devices of core's tensors: tensors on the GPU stay there. The test needs no GPU."""

import pytest
import torch
import torch.nn.functional as F
from detailers.core.clips import CollectedFrames, HeldFrame, HeldFrames
from detailers.core.detail import crop as crop_module
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.detail.tracks import detail_tracks
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import Box, Rect, Size
from detailers.core.hook_protocol import DetailerHook
from detailers.core.hooks.builtin import CombinedHook, CycleRange, NoiseInjectionHook, RemoverHook
from detailers.core.pixels.blend import Blending
from detailers.core.pixels.colour import ColourChange, rim
from detailers.core.pixels.flow import motion_between
from detailers.core.pixels.image import (
    collapsed,
    crop,
    is_black,
    merge_alpha,
    pad_edge,
    to_rgb,
    unpad,
    usable,
)
from detailers.core.pixels.mask import (
    bbox,
    binary,
    difference,
    dilate,
    fade,
    feather,
    for_latent,
    grow,
    intersection,
    resize_mask,
    total,
    union,
)
from detailers.core.pixels.registration import Similarity, moved_back, register
from detailers.core.pixels.resample import resample, resize
from detailers.core.pixels.rotated_crop import RotatedCrop
from detailers.core.pixels.vae_loss import compensated
from detailers.core.pixels.vae_shift import restore_kept
from detailers.core.pixels.window import Window
from detailers.core.prompts.control import WholePicture
from detailers.core.prompts.cut_conditioning import Cut, cut_conditioning
from detailers.core.prompts.join_conditioning import concat_text
from detailers.core.sampling.iterative_upscale import (
    SCALE_METHODS,
    Iterations,
    SamplingUpscaler,
    Scaling,
    scale,
    tile_hint,
    upscale_pixels,
)
from detailers.core.sampling.latent import Denoising, SamplerSetup
from detailers.core.sampling.sampler_objects import KSampler
from detailers.core.segs.who import similarities
from detailers.core.settings import (
    ANGLE,
    AUTO,
    MULTIBAND,
    NO_CROPS,
    RESIDUAL,
    Motion,
    Pasting,
    Refiner,
    Upright,
)
from detailers.core.tracks.motion import Pair, expected, motions, patch_of
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeModel,
    FakeVAE,
    fake_models,
    fill,
    grain,
    make_detail,
    make_seg,
    masked,
    noise_image,
)
from detailers.tests.on_device import GPU, Gpu, off_gpu, on_gpu
from detailers.tests.test_detail_tracks import moving, tracks_of
from detailers.tests.test_registration import middle, repainted, scene
from detailers.utils.notes import collected_notes

# Places where values leave the device on purpose. Weights of kernels are made once, on the CPU, and
# kept, and so are places of samples, in float64; SEGS contain arrays.
KERNELS = {"pixels/resample:_on", "pixels/crop_view:_shares"}
OUT_OF_SEGS = {"detail/images:still_mask", "detail/video:clip_mask", "detail/images:_own_crop"}
INTO_SEGS = {"detail/images:of"}  # of what became of a segment


@pytest.fixture
def gpu():
    with torch.no_grad(), Gpu() as gpu:
        yield gpu


def drawn(run):
    """A sampler that works where the latent is."""
    return masked(run, run.latent * 0.5 + 0.25)


def picture(batch=1, height=40, width=56, channels=3, seed=0):
    return on_gpu(noise_image(batch, height, width, channels, seed))


def mask(batch=1, height=24, width=32, seed=1):
    return on_gpu(noise_image(batch, height, width, 1, seed)[..., 0])


# The tool itself


def test_an_operation_on_two_devices_is_refused(gpu):
    with pytest.raises(RuntimeError, match="two devices"):
        picture() * torch.ones(3)
    assert (picture() * torch.tensor(2.0)).device == GPU  # a number may come from anywhere


def test_crossing_over_is_written_down(gpu):
    picture().cpu()
    assert gpu.to_host == {"elsewhere"}
    torch.ones(99).to(picture())
    assert gpu.to_device == {"elsewhere"}
    torch.ones(99).copy_(picture().flatten()[:99])
    with pytest.raises(RuntimeError, match="numpy"):
        picture().numpy()


def test_float64_is_refused(gpu):
    with pytest.raises(RuntimeError, match="float64"):
        picture().double()
    with pytest.raises(RuntimeError, match="float64"):
        torch.arange(4, device=GPU, dtype=torch.float64)
    assert picture().cpu().double().device.type == "cpu"
    assert on_gpu(torch.arange(4.0)).tolist() == [0, 1, 2, 3]


def test_values_are_those_of_the_cpu(gpu):
    plain = noise_image(1, 9, 7)
    own = on_gpu(plain)
    own[:, :2].mul_(0.5)
    plain[:, :2].mul_(0.5)
    assert torch.equal(off_gpu(own), plain)
    assert float(own.amax()) == pytest.approx(float(plain.amax()))
    assert gpu.to_host == gpu.to_device == set()


# Every part of core that works on pixels and masks


BOX = Box(8, 4, 40, 28)
ROTATED = RotatedCrop(Size(56, 40), (28.0, 20.0), (26.0, 18.0), 0.4)
PARTS = {
    "crop": lambda: crop(picture(), BOX),
    "enlarge": lambda: resize(picture(), Size(90, 61)),
    "shrink": lambda: resize(picture(), Size(21, 13)),
    "pad": lambda: pad_edge(picture(), (1, 2, 3, 4)),
    "unpad": lambda: unpad(picture(), (1, 2, 3, 4)),
    "grey": lambda: to_rgb(picture(channels=1))[0],
    "alpha": lambda: merge_alpha(*to_rgb(picture(channels=4))),
    "feather": lambda: feather(mask(), 5),
    "fade": lambda: fade(mask(), 4),
    "dilate": lambda: dilate(mask(), 5),
    "erode": lambda: dilate(mask(), -4),
    "grow": lambda: grow(mask(), 2),
    "resize_mask": lambda: resize_mask(mask(), Size(17, 50)),
    "for_latent": lambda: for_latent(mask(), on_gpu(torch.zeros(1, 4, 5, 6))),
    "for_a_clip": lambda: for_latent(mask(5), on_gpu(torch.zeros(1, 4, 2, 5, 6))),
    "union": lambda: union(mask(3)),
    "binary": lambda: binary(mask(), 0.5),
    "intersection": lambda: intersection(mask(), mask(seed=2)),
    "difference": lambda: difference(mask(), mask(seed=2)),
    "total": lambda: total(mask(), mask(seed=2)),
    "hint": lambda: tile_hint(picture()),
    "turned": lambda: ROTATED.extract(picture(), Size(40, 30)),
    "turned_back": lambda: ROTATED.put_back(picture(height=30, width=40), picture()),
    "inside": lambda: ROTATED.inside(picture()),
    "restored": lambda: restore_kept(
        picture(height=24, width=32), picture(height=24, width=32, seed=3), mask(), 4.0
    ),
    "control": lambda: WholePicture(picture()).cut(Size(80, 60), Box(3, 4, 33, 44)),
    **{method: lambda method=method: scale(picture(), Size(70, 30), method)
       for method in SCALE_METHODS},
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_a_part_stays_where_its_pixels_are(gpu, name):
    on_the_gpu = off_gpu(PARTS[name]())
    assert gpu.to_host == set()
    assert gpu.to_device <= KERNELS
    if name != "restored":
        assert on_the_gpu.numel() > 16


def test_what_decides_reads_numbers_and_no_pixels(gpu):
    image = picture()
    assert usable(image)
    assert not collapsed(image, image)
    assert not is_black(image)
    assert bbox(mask()[0]) == Box(0, 0, 32, 24)
    assert gpu.to_host == gpu.to_device == set()


@pytest.mark.parametrize(
    "pasting",
    [
        Pasting(),
        Pasting(blend=MULTIBAND, colour_match=0.7),
        Pasting(mask_grow=2, fade=3, fade_inside=True),
    ],
)
def test_pasting(gpu, pasting):
    image, blending = picture(), Blending(4, pasting)
    weight = blending.weight(mask(height=24, width=32), BOX, Size(56, 40))
    blending.paste(image, picture(height=24, width=32, seed=5), weight, BOX)
    assert off_gpu(image).shape == (1, 40, 56, 3)
    change = ColourChange.between(crop(picture(seed=7), BOX), crop(image, BOX), rim(weight, 8))
    assert change is None or off_gpu(change.apply(crop(image, BOX), 0.5)).shape[1:3] == (24, 32)
    assert gpu.to_host == set()
    assert gpu.to_device <= KERNELS


def test_resampling_like_pillow_is_the_one_detour(gpu):
    assert off_gpu(resample(picture(), Size(30, 20), "lanczos")).shape == (1, 20, 30, 3)


def test_a_result_is_registered(gpu):
    original = scene()
    result = repainted(original, Similarity(1.01, 0.5, (2.0, -1.0)))
    there = register(result, original, middle()).similarity
    found = register(on_gpu(result), on_gpu(original), on_gpu(middle())).similarity
    assert [found.scale, found.angle, *found.shift] == pytest.approx(
        [there.scale, there.angle, *there.shift], abs=1e-3
    )
    assert off_gpu(moved_back(on_gpu(result), on_gpu(original), found)).shape == result.shape
    assert gpu.to_host <= {"pixels/registration:_correlation"}  # a place for each turn and scale
    assert gpu.to_device <= KERNELS


def test_motion_is_measured(gpu):
    before = scene()
    box = Rect(96.0, 96.0, 60.0, 60.0)
    patches = [
        patch_of(HeldFrame(on_gpu(own)), box) for own in (before, torch.roll(before, 2, dims=2))
    ]
    (found,) = motions([Pair(*patches, expected(box, box))])
    assert found.measured
    assert abs(found.at(96 + 96j) - (98 + 96j)) < 0.3
    assert gpu.to_host == {"pixels/precision:in_double"}


def test_motion_of_every_pixel(gpu):
    before, after = (
        on_gpu(own).mean(dim=-1, keepdim=True)
        for own in (scene(64, 64), torch.roll(scene(64, 64), 1, dims=2))
    )
    flow = off_gpu(motion_between(before, after, on_gpu(torch.ones(1, 64, 64, 1))))
    assert float(flow[..., 0].median()) == pytest.approx(1.0, abs=0.3)


def test_vectors_are_compared(gpu):
    seen, known = torch.eye(3), torch.eye(3)[:2]
    found = similarities(on_gpu(seen), [0, 1, 2], on_gpu(known), [0, 1])
    assert torch.equal(found, torch.eye(3, 2, dtype=torch.float64))


@pytest.mark.parametrize("way", [AUTO, RESIDUAL])
def test_what_a_vae_loses(gpu, way):
    pictures = [picture(1, 24, 32, seed=seed) for seed in range(3)]
    assert off_gpu(compensated(*pictures, way, 4.0)).shape == (1, 24, 32, 3)
    assert gpu.to_host == set()


def test_a_window_is_put_back(gpu):
    window = Window(Size(56, 40), (28.3, 20.4), (26.5, 18.2))
    drawn = window.extract(picture(), Size(40, 30))
    assert off_gpu(window.put_back(drawn, picture(seed=1))).shape == (1, 40, 56, 3)
    assert gpu.to_host == set()


@pytest.mark.parametrize(
    "rotated", [None, RotatedCrop(Size(32, 24), (16.0, 12.0), (20.0, 14.0), 0.3)]
)
def test_conditioning_is_cut_where_it_is(gpu, rotated):
    text = [
        [
            on_gpu(torch.ones(1, 4, 8)),
            {
                "mask": mask(1, 40, 56),
                "concat_latent_image": on_gpu(torch.rand(1, 4, 10, 14)),
                "concat_mask": on_gpu(torch.rand(1, 1, 40, 56)),
                "reference_latents": [on_gpu(torch.rand(1, 4, 10, 14))],
                "area": (5, 6, 1, 2),
            },
        ]
    ]
    cut = Cut(Size(56, 40), BOX, Size(64, 48), Size(64, 48), 4, rotated)
    options = cut_conditioning(text, cut, {})[0][1]
    found = [options["mask"], options["concat_latent_image"], options["concat_mask"]]
    assert all(off_gpu(own).numel() > 16 for own in found)
    assert gpu.to_host == set()
    assert gpu.to_device <= KERNELS


def test_texts_of_two_devices_are_joined(gpu):
    there, here = [[on_gpu(torch.ones(1, 2, 8)), {}]], [[torch.zeros(1, 3, 8), {}]]
    assert off_gpu(concat_text(there, here)[0][0]).shape == (1, 5, 8)
    assert concat_text(here, there)[0][0].device.type == "cpu"


# Whole runs


class Watching(DetailerHook):
    """Sees that everything it is shown is on the GPU."""

    def __init__(self):
        self.seen = set()

    def _look(self, name, tensor):
        assert tensor.device == GPU, name
        self.seen.add(name)
        return tensor

    def post_upscale(self, pixels, mask=None):
        self._look("mask", mask)
        return self._look("post_upscale", pixels)

    def post_encode(self, latent):
        self._look("post_encode", latent["samples"])
        return latent

    def post_decode(self, pixels):
        return self._look("post_decode", pixels)

    def post_paste(self, image):
        return self._look("post_paste", image)


WATCHING = (Watching(), Watching())
ROADS = {
    "plain": {},
    "soft": {"noise_mask_feather": 4, "feather": 3},
    "whole": {"noise_mask": False},
    "inpaint": {"inpaint_model": True, "batch": 1},
    "pasting": {
        "feather": 3, "blend": MULTIBAND, "colour_match": 0.5, "restore_kept": True, "mask_grow": 1,
    },
    "turned": {"upright": Upright(ANGLE, 20.0)},
    "refined": {"refiner": Refiner(fake_models(), 0.5), "cycle": 2},
    "hooked": {"hook": CombinedHook(*WATCHING)},
}  # fmt: skip


@pytest.mark.parametrize("name", ROADS)
@pytest.mark.parametrize("batch", [0, 1])
def test_a_detailer_works_on_the_gpu(gpu, name, batch):
    image = picture(2, 48, 64)
    segs = [make_seg((2, 2, 20, 18)), make_seg((30, 8, 60, 40))]
    detail = make_detail(**{"batch": batch, **ROADS[name]})
    result = detail_image(image, ((48, 64), segs), detail, FakeBackend(drawn))
    assert not torch.equal(off_gpu(result.image), off_gpu(image))
    shown = [*result.cropped, *result.refined, *result.refined_alpha]
    assert len(shown) == 12
    assert all(own.device == GPU for own in shown)
    assert gpu.to_host <= INTO_SEGS
    assert gpu.to_device <= KERNELS | OUT_OF_SEGS
    if name == "hooked":
        names = {"mask", "post_upscale", "post_encode", "post_decode", "post_paste"}
        assert all(hook.seen == names for hook in WATCHING)


@pytest.mark.parametrize("pasted", [True, False])
def test_a_clip_is_worked_on_on_the_gpu(gpu, pasted):
    image, vae = picture(5, 32, 48), FakeVAE(every=4)
    detail = make_detail(fake_models(vae), feather=3)
    segs = (32, 48), [make_seg((4, 4, 28, 28))]
    result = detail_frames(image, segs, detail, FakeBackend(fill(0.5)), pasted=pasted)
    assert result.image.device == GPU
    assert gpu.to_host <= INTO_SEGS | {"detail/video:detail_frames"}
    assert gpu.to_device <= KERNELS | OUT_OF_SEGS


def test_segs_are_detailed_on_the_gpu_and_end_as_arrays(gpu):
    segs = (40, 56), [make_seg((4, 4, 28, 28))]
    result = detail_segs(picture(), segs, make_detail(), FakeBackend(drawn))
    assert result.segs[1][0].cropped_image.shape == (1, 24, 24, 3)
    assert gpu.to_host <= INTO_SEGS | {"detail/images:detail_segs"}
    assert gpu.to_host
    assert gpu.to_device <= KERNELS | OUT_OF_SEGS


# Models and images on two devices: a host may keep on the GPU what VAEs and samplers give, and
# images of files or of other nodes may be elsewhere.


class Apart(FakeBackend):
    """A host that gives all tensors on one device."""

    def __init__(self, draw, device):
        super().__init__(draw)
        self.device = device

    def encode(self, vae, pixels, **how):
        return super().encode(vae, pixels.to(self.device), **how)

    def decode(self, vae, latent, **how):
        return super().decode(vae, latent.to(self.device), **how)

    def sample(self, run, on_step):
        return super().sample(run, on_step).to(self.device)


def placed(tensor, device):
    return on_gpu(tensor) if device == GPU else tensor


APART = pytest.mark.parametrize(
    ("image_on", "models_on"), [("cpu", GPU), (GPU, "cpu")], ids=["models", "image"]
)
MORE_ROADS = {
    **{name: road for name, road in ROADS.items() if name != "hooked"},
    "loss": {"vae_loss": AUTO, "upright": Upright(ANGLE, 20.0), "restore_kept": True},
    "remover": {"hook": RemoverHook(10, 2, False)},
    "injection": {"hook": NoiseInjectionHook(CycleRange(1.0, 0.5, True), 4), "cycle": 2},
    "float32": {"models": fake_models(FakeVAE(half=True))},
}


@APART
@pytest.mark.parametrize("name", MORE_ROADS)
def test_images_and_models_apart(gpu, name, image_on, models_on):
    image = noise_image(2, 48, 64)
    segs = [make_seg((2, 2, 20, 18)), make_seg((30, 8, 60, 40))]
    detail = make_detail(**{"batch": 0, **MORE_ROADS[name]})
    backend = Apart(drawn, models_on)
    result = detail_image(placed(image, image_on), ((48, 64), segs), detail, backend).image
    assert result.device == torch.device(image_on)
    assert not torch.equal(result.cpu(), image)


@APART
def test_a_result_is_registered_apart(gpu, image_on, models_on):
    image, mask = scene(), middle()[0].numpy()
    shifted = torch.roll(image, 2, dims=2)

    def moved(run):
        return F.pixel_unshuffle(shifted.movedim(-1, 1), 4).to(run.latent)

    detail = make_detail(register=AUTO, guide_size=192, max_size=192)
    segs = (192, 192), [make_seg((0, 0, 192, 192), mask=mask)]
    with collected_notes() as notes:
        detail_image(placed(image, image_on), segs, detail, Apart(moved, models_on))
    assert any("is moved back onto its crop" in note.text for note in notes)


@APART
@pytest.mark.parametrize("every", [None, 4])
def test_clips_and_models_apart(gpu, every, image_on, models_on):
    frames = placed(noise_image(5, 32, 48), image_on)
    detail = make_detail(fake_models(FakeVAE(every=every)), feather=3, colour_match=0.5)
    segs = (32, 48), [make_seg((4, 4, 28, 28))]
    result = detail_frames(frames, segs, detail, Apart(fill(0.5), models_on), pasted=True)
    assert result.image.device == torch.device(image_on)


@APART
@pytest.mark.parametrize("kind", ["pictures", "motion", "video"])
def test_tracks_and_models_apart(gpu, kind, image_on, models_on):
    clip = noise_image(4, 48, 64)
    models = fake_models(
        FakeVAE(every=4 if kind == "video" else None), FakeModel(motion=kind == "motion")
    )
    detail = make_detail(models, batch=0, kept=NO_CROPS, colour_match=0.5, vae_loss=AUTO)
    frames = placed(clip, image_on)
    sink = CollectedFrames(frames)
    tracks = tracks_of(moving(4), frames=4)
    detail_tracks(
        HeldFrames(frames), tracks, detail, Motion(), Apart(grain, models_on), sink
    )  # fmt: skip
    assert sink.frames.device == torch.device(image_on)
    assert not torch.equal(sink.frames.cpu(), clip)


@APART
def test_pixels_are_enlarged_apart(gpu, image_on, models_on):
    backend = Apart(drawn, models_on)
    models = fake_models()
    setup = SamplerSetup(models.model, models.positive, models.negative, 2.0, "euler", "normal")
    sampler = KSampler(setup, Denoising(5, 2, 0.5), lambda: backend)
    upscaler = SamplingUpscaler(
        sampler, Scaling(models.vae, "lanczos"), lambda: backend, lambda prefix, pixels: None
    )
    pixels = placed(noise_image(1, 20, 24), image_on)
    result = upscale_pixels(pixels, Iterations(2.0, 2), upscaler, models.vae, backend)
    assert result.shape == (1, 40, 48, 3)


# The checks fail where they should


def test_a_detour_over_main_memory_is_seen(gpu, monkeypatch):
    plain = crop_module.resize
    monkeypatch.setattr(
        crop_module, "resize", lambda image, size: plain(image.cpu(), size).to(image)
    )
    segs = (40, 56), [make_seg((4, 4, 28, 28))]
    detail_image(picture(), segs, make_detail(), FakeBackend(drawn))
    assert "detail/crop:at" in gpu.to_host


def test_a_tensor_on_the_default_device_is_seen(gpu, monkeypatch):
    monkeypatch.setattr(crop_module, "feather", lambda mask, radius: mask * torch.ones(mask.shape))
    segs = (40, 56), [make_seg((4, 4, 28, 28))]
    with pytest.raises(RuntimeError, match="two devices"):
        detail_image(picture(), segs, make_detail(), FakeBackend(drawn))
