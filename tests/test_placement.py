"""The devices of core's tensors: tensors on the GPU stay there. The test needs no GPU."""

import pytest
import torch
from detailers.core.detail import crop as crop_module
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import Box, Size
from detailers.core.hook_protocol import DetailerHook
from detailers.core.hooks.builtin import CombinedHook
from detailers.core.pixels.blend import Blending
from detailers.core.pixels.colour import ColourChange, rim
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
from detailers.core.pixels.resample import resample, resize
from detailers.core.pixels.rotated_crop import RotatedCrop
from detailers.core.pixels.vae_shift import restore_kept
from detailers.core.prompts.control import WholePicture
from detailers.core.prompts.cut_conditioning import Cut, cut_conditioning
from detailers.core.sampling.iterative_upscale import SCALE_METHODS, scale, tile_hint
from detailers.core.settings import ANGLE, MULTIBAND, Pasting, Refiner, Upright
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeVAE,
    fake_models,
    fill,
    make_detail,
    make_seg,
    masked,
    noise_image,
)
from detailers.tests.on_device import GPU, Gpu, off_gpu, on_gpu

# Places where values leave the device on purpose. Weights of kernels are made once, on the CPU, and
# kept; SEGS contain arrays.
KERNELS = {"pixels/resample:_on"}
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
