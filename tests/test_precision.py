"""Half precision, which the host may give: it is computed in float32 and converted back."""

import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.pixels import colour, image, mask, resample, vae_shift
from detailers.core.pixels import mask as mask_math
from detailers.core.pixels import resample as resample_module
from detailers.core.pixels.blend import Blending, multiband
from detailers.core.pixels.precision import HALF, in_float32
from detailers.core.pixels.rotated_crop import RotatedCrop
from detailers.core.sampling import iterative_upscale
from detailers.core.settings import MULTIBAND, Pasting
from detailers.tests.fake_backend import noise_image
from detailers.utils.arrays import to_numpy
from detailers.utils.check import check_image, check_mask

IMAGE, OTHER = noise_image(2, 24, 30), noise_image(2, 24, 30, seed=1)
MASKS = (noise_image(2, 24, 30, seed=2)[..., 0] > 0.6).float()
ONE = MASKS[:1]
LATENT = noise_image(1, 6, 8, 4, seed=3).movedim(-1, 1)
KEPT = (torch.arange(30) < 5).float().expand(1, 24, 30)
BOX, WHOLE = Box(2, 2, 32, 26), Size(60, 60)
ROTATED = RotatedCrop(Size(30, 24), (15.0, 12.0), (20.0, 14.0), 0.3)
FADED = Blending(4, Pasting(fade=3, fade_inside=True, mask_grow=1))
LAB = colour.to_oklab(IMAGE)


def pasted(below, new, weight):
    below = below.clone()
    image.paste(below, new[:, :10, :12], weight[:, :10, :12], Box(2, 3, 14, 13))
    return below


def blended(below, new, weight):
    below = torch.cat([below] * 2, dim=1)
    options = Pasting(blend=MULTIBAND, colour_match=1.0)
    Blending(3, options).paste(below, new, torch.ones_like(weight), Box(0, 12, 30, 36))
    return below


FUNCTIONS = {
    "resize": (lambda x: resample_module.resize(x, Size(17, 40)), IMAGE),
    "pad_edge": (lambda x: image.pad_edge(x, (1, 2, 3, 4)), IMAGE),
    "paste": (pasted, IMAGE, OTHER, MASKS * 0.3),
    "blending": (blended, IMAGE, OTHER, MASKS),
    "weight": (lambda x: Blending(4).weight(x, BOX, WHOLE), MASKS),
    "faded weight": (lambda x: FADED.weight(x, BOX, WHOLE), MASKS),
    "multiband": (lambda x, y, m: multiband(x, y, m, 3), IMAGE, OTHER, ONE),
    "feather": (lambda m: mask.feather(m, 5), MASKS),
    "fade": (lambda m: mask.fade(m, 3), MASKS),
    "grow": (lambda m: mask.grow(m, 2), MASKS),
    "shrink": (lambda m: mask.grow(m, -2), MASKS),
    "dilate": (lambda m: mask.dilate(m, 4), MASKS),
    "blur": (lambda m: mask.blur(m, 4, 2.0), MASKS),
    "smaller mask": (lambda m: mask.resize_mask(m, Size(13, 11)), MASKS),
    "larger mask": (lambda m: mask.resize_mask(m, Size(60, 50)), MASKS),
    "for_latent": (mask.for_latent, ONE, LATENT),
    "for_latent with time": (lambda m, x: mask.for_latent(m, x[:, :, None]), MASKS, LATENT),
    "union": (mask.union, MASKS),
    "shares_of": (lambda m: mask.shares_of([m * 0.5, m * 0.3])[0], MASKS),
    "supersampling": (
        lambda x: resample.resample(x, Size(9, 9), "lanczos", supersample=True), IMAGE,
    ),
    "upright": (lambda x: ROTATED.extract(x, Size(20, 14)), IMAGE),
    "back": (ROTATED.put_back, OTHER, IMAGE),
    "to_oklab": (colour.to_oklab, IMAGE),
    "from_oklab": (colour.from_oklab, LAB),
    "colour change": (
        lambda x, y: colour.ColourChange.between(x, y, torch.ones(1, 24, 30) > 0).apply(x, 1.0),
        IMAGE, OTHER,
    ),
    "restore_kept": (lambda x, y: vae_shift.restore_kept(x, y, KEPT, 2), IMAGE, OTHER),
    "intersection": (mask_math.intersection, IMAGE[..., 0], OTHER[..., 0]),
    "difference": (lambda x, y: mask_math.difference(x, y[:, ::2]), IMAGE[..., 0], OTHER[..., 0]),
    "total": (mask_math.total, IMAGE[..., 0], OTHER[..., 0]),
    "tile_hint": (iterative_upscale.tile_hint, IMAGE),
    "check_mask": (lambda m: check_mask(m * 1.5, "mask"), MASKS),
}  # fmt: skip
FUNCTIONS |= {
    f"resample {name}": (lambda x, name=name: resample.resample(x, Size(17, 40), name), IMAGE)
    for name in resample.METHODS
}
FUNCTIONS |= {
    f"scale {name}": (lambda x, name=name: iterative_upscale.scale(x, Size(17, 40), name), IMAGE)
    for name in iterative_upscale.SCALE_METHODS
}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_half_precision_is_computed_in_float32(name, dtype):
    """The result is that of float32 on the same values, rounded once, or to the next value."""
    function, *tensors = FUNCTIONS[name]
    halves = [tensor.to(dtype) for tensor in tensors]
    expected = function(*(half.float() for half in halves)).to(dtype)
    found = function(*halves)
    assert found.dtype == dtype
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(found.float(), expected.float(), rtol=step, atol=step)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_is_looked_at(dtype):
    half = IMAGE.to(dtype)
    check_image(half, "image")
    assert image.usable(half)
    assert not image.usable(half * float("nan"))
    assert image.is_black(half * 0)
    assert image.collapsed(half * 0, half)
    assert mask.bbox(MASKS[0].to(dtype)) == mask.bbox(MASKS[0])
    assert torch.equal(torch.from_numpy(to_numpy(half)), half.float())


def test_what_is_no_half_stays_what_it_is():
    @in_float32
    def kinds(first, second, third=None):
        return [first, second.float(), third]

    half = torch.zeros(2, dtype=torch.bfloat16)
    first, second, third = kinds(half, half, third=torch.zeros(2, dtype=torch.int64))
    assert (first.dtype, second.dtype, third.dtype) == (half.dtype, half.dtype, torch.int64)
    first, second, _ = kinds(torch.zeros(2, dtype=torch.float64), torch.zeros(2))
    assert (first.dtype, second.dtype) == (torch.float64, torch.float32)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_what_a_mask_leaves_out_stays_to_the_bit(dtype):
    below = IMAGE.to(dtype)
    result = pasted(below, OTHER.to(dtype), MASKS.to(dtype) * 0.3)
    keep = torch.ones(2, 24, 30, dtype=torch.bool)
    keep[:, 3:13, 2:14] = MASKS[:, :10, :12] == 0
    assert torch.equal(result[keep], below[keep])
    assert not torch.equal(result, below)
