"""Photographs through whole runs, with a sampler that keeps everything.

They are read from installed packages, and a test is skipped where its package is missing. Nothing
of them is kept here. Their licences: scikit-image's data folder names the licence of each picture
in its README (astronaut, camera, coffee, chelsea: public domain or CC0); grace_hopper, in
matplotlib, is a work of the US Navy, in the public domain; bus and zidane come with ultralytics
(AGPL-3.0).
"""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from detailers.core.detail.images import detail_image
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import GUIDE_SIZE, NATIVE, Size
from detailers.core.pixels.mask import blur_image, resize_mask
from detailers.core.pixels.registration import Similarity, register
from detailers.core.pixels.resample import resize
from detailers.core.settings import (
    ANGLE,
    AUTO,
    BLENDS,
    MASK,
    OFF,
    REGISTER_CHOICES,
    RESIDUAL,
    VAE_LOSS_CHOICES,
    Upright,
)
from detailers.dev.metrics import psnr, rim_colour, seam_energy
from detailers.dev.photographs import PHOTOGRAPHS
from detailers.tests.fake_backend import FakeBackend, FakeVAE, fake_models, make_detail, make_seg
from detailers.tests.test_registration import displaced, error_of
from detailers.utils.notes import collected_notes

KEPT = 50.0  # dB
WITH_FACES = [each.name for each in PHOTOGRAPHS if each.faces]
# Every option of Paste Options and Crop Options that has to do with pixels.
WAYS = {
    "blend": BLENDS,
    "colour_match": (0.0, 1.0),
    "restore_kept": (False, True),
    "mask_grow": (-4, 0, 9),
    "fade": (None, 0, 24),
    "fade_inside": (False, True),
    "register": REGISTER_CHOICES,
    "vae_loss": VAE_LOSS_CHOICES,
    "policy": (GUIDE_SIZE, NATIVE),
    "upright": (OFF, ANGLE, MASK),
    "noise_mask": (True, False),
    "feather": (0, 5, 20),
}


def photograph(name):
    (own,) = [each for each in PHOTOGRAPHS if each.name == name]
    if own.path is None:
        pytest.skip(f"needs {own.file} of the package {own.package}, which is not installed")
    return own.read(), own.faces


def segment(image, face, factor=2.0):
    """A face as an ellipse that leans by 30 degrees, and the crop around it."""
    x1, y1, x2, y2 = face
    height, width = image.shape[1:3]
    grown_x, grown_y = ((factor - 1) * (x2 - x1) / 2, (factor - 1) * (y2 - y1) / 2)
    left, top = max(0, round(x1 - grown_x)), max(0, round(y1 - grown_y))
    right, bottom = min(width, round(x2 + grown_x)), min(height, round(y2 + grown_y))
    y, x = np.mgrid[top:bottom, left:right] + 0.5
    x, y = x - (x1 + x2) / 2, y - (y1 + y2) / 2
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    across, down = (x * cosine + y * sine) / (x2 - x1), (y * cosine - x * sine) / (y2 - y1)
    inside = (across**2 + down**2 < 0.22).astype(np.float32)
    return make_seg((left, top, right, bottom), face, inside)


def size_of(image):
    return image.shape[1], image.shape[2]


def detailed(image, segs, backend=None, **options):
    """What a detailer makes of it at 1.4 times the face's size, and its notes."""
    x1, _, x2, _ = segs[0].bbox
    settings = {"guide_size": round(1.4 * (x2 - x1)), "max_size": 2048, "feather": 5, **options}
    if "policy" in options:
        settings["area"] = round(1.5 * segs[0].cropped_mask.size)
    if "upright" in options:
        settings["upright"] = Upright(options["upright"], 17.0)
    with collected_notes() as notes:
        result = detail_image(
            image.clone(), (size_of(image), segs), make_detail(**settings), backend or FakeBackend()
        )
    return result.image, notes


def kept(image, result):
    everywhere = np.ones(size_of(image))
    return min(psnr(one, own, everywhere) for one, own in zip(result.numpy(), image.numpy(),
                                                            strict=True))  # fmt: skip


def assert_untouched(image, result, segs):
    """Not one bit is changed outside the crop regions."""
    outside = torch.ones(size_of(image), dtype=torch.bool)
    for seg in segs:
        left, top, right, bottom = seg.crop_region
        outside[top:bottom, left:right] = False
    assert torch.equal(image[:, outside], result[:, outside])


def covering(axes):
    """Settings in which all values of any two axes meet; far fewer than all products."""
    names = list(axes)
    left = {
        tuple(zip(group, values, strict=True))
        for group in combinations(names, 2)
        for values in product(*(axes[name] for name in group))
    }
    while left:
        row = dict(min(left, key=str))
        for name in names:
            if name not in row:
                met = [
                    sum(all(({**row, name: value}).get(key) == own for key, own in group)
                        for group in left if name in dict(group))
                    for value in axes[name]
                ]  # fmt: skip
                row[name] = axes[name][met.index(max(met))]
        left -= {tuple((name, row[name]) for name in group) for group in combinations(names, 2)}
        yield row


def test_few_settings_cover_all_that_meet():
    axes = {"a": (1, 2), "b": (1, 2, 3), "c": (1, 2)}
    rows = list(covering(axes))
    assert len(rows) < 12
    for one, other in combinations(axes, 2):
        assert {(row[one], row[other]) for row in rows} == set(product(axes[one], axes[other]))


@pytest.mark.parametrize("name", WITH_FACES)
@pytest.mark.parametrize("upright", WAYS["upright"])
def test_a_sampler_that_keeps_everything_keeps_the_photograph(name, upright):
    image, faces = photograph(name)
    segs = [segment(image, face) for face in faces]
    for size in ({}, {"policy": NATIVE}, {"guide_size": 1.01 * (faces[0][2] - faces[0][0])}):
        result, notes = detailed(image, segs, upright=upright, **size)
        assert kept(image, result) >= KEPT, size
        assert not torch.equal(result, image)  # something was pasted
        assert notes == []
        if upright == OFF:  # a rotated crop has a larger region
            assert_untouched(image, result, segs)


@pytest.mark.parametrize("vae_loss", VAE_LOSS_CHOICES)
def test_every_way_to_paste(vae_loss):
    """All ways to blend, and then all pairs of settings of Paste Options and Crop Options."""
    image, faces = photograph("astronaut")
    segs = [segment(image, faces[0])]
    names = "blend", "colour_match", "restore_kept", "fade_inside"
    rows = [dict(zip(names, row, strict=True)) for row in product(*map(WAYS.get, names))]
    rows += [row for row in covering(WAYS) if row["vae_loss"] == vae_loss]
    for row in rows:
        result, notes = detailed(image, segs, **{**row, "vae_loss": vae_loss})
        assert kept(image, result) >= (KEPT if vae_loss == OFF else 80), row
        assert notes == [], row  # nothing has moved, so nothing is moved


def test_photographs_of_a_batch_and_small_sizes():
    """A crop that is drawn smaller than it is loses detail; the residual paste keeps it."""
    image, faces = photograph("astronaut")
    images = torch.cat([image, image.flip(1), image.roll(40, 2)])
    segs = [segment(image, faces[0])]
    result, _ = detailed(images, segs, batch=0)
    assert kept(images, result) >= KEPT
    small = {"max_size": 100}
    assert kept(image, detailed(image, segs, **small)[0]) < KEPT
    for vae_loss in (RESIDUAL, AUTO):
        assert kept(image, detailed(image, segs, vae_loss=vae_loss, **small)[0]) >= 80


@pytest.mark.parametrize("every", [None, 4])
def test_frames_of_a_clip(every):
    """A camera that pans over a photograph."""
    image, faces = photograph("astronaut")
    frames = torch.cat([image[:, :360, 40 + 8 * step : 400 + 8 * step] for step in range(5)])
    x1, y1, x2, y2 = faces[0]
    segs = [segment(frames, (x1 - 56, y1, x2 - 56, y2))]
    detail = make_detail(
        fake_models(vae=FakeVAE(every=every)), guide_size=130, max_size=2048, feather=5
    )
    result = detail_frames(
        frames.clone(), (size_of(frames), segs), detail, FakeBackend(), pasted=True
    ).image
    assert kept(frames, result) >= KEPT
    assert_untouched(frames, result, segs)


# A soft VAE


def softer(picture, softness):
    return blur_image(picture, round(4 * softness), softness) if softness else picture


class Soft(FakeBackend):
    """Its VAE gives pictures without their finest detail."""

    def __init__(self, softness):
        super().__init__()
        self.softness = softness  # sigma in pixels

    def decode(self, vae, latent, **how):
        return softer(super().decode(vae, latent, **how), self.softness)


SEAMS = ("blend", "colour_match", "restore_kept", "vae_loss", "register", "upright")
SEAMS = list(covering({name: WAYS[name] for name in SEAMS}))
SOME = [{}, {"vae_loss": RESIDUAL}, {"vae_loss": AUTO, "register": AUTO}]


@pytest.mark.parametrize(
    ("name", "softness", "ways"),
    [("astronaut", 0.7, SOME), ("astronaut", 1.5, SEAMS), ("grace_hopper", 1.0, SOME),
     ("zidane", 1.5, SOME)],
)  # fmt: skip
def test_a_soft_vae_leaves_no_seam(name, softness, ways):
    image, faces = photograph(name)
    seg = segment(image, faces[0])
    left, top, right, bottom = seg.crop_region
    part = np.s_[0, top:bottom, left:right]
    truth, mask = image[part].numpy(), seg.cropped_mask

    def crop(segs, **options):
        result, notes = detailed(image, segs, Soft(softness), **options)
        assert notes == []
        return result[part].numpy()

    everywhere = seg._replace(cropped_mask=np.ones_like(mask))
    of_vae = seam_energy(crop([everywhere], feather=0), truth, mask)
    assert of_vae > 0.008  # it is a loss that would show
    for row in ways:
        result = crop([seg], **row)
        assert rim_colour(result, truth, mask) < 1, row  # less than the eye can tell
        energy = seam_energy(result, truth, mask)
        if row.get("vae_loss", OFF) == OFF:  # no more than a picture that is soft all over has
            assert energy <= of_vae, row
        else:  # a tenth of a level of 8 bits
            assert energy <= 4e-4, row
            assert psnr(result, truth, np.ones_like(mask)) >= 60, row


# What an edit model has moved


@pytest.mark.parametrize("name", ["astronaut", "bus"])
def test_a_blur_is_no_movement_and_hides_none(name):
    image, faces = photograph(name)
    seg = segment(image, faces[0])
    left, top, right, bottom = seg.crop_region
    crop, mask = image[:, top:bottom, left:right], torch.from_numpy(seg.cropped_mask)[None]
    for softness in (1.5, 3.0):
        found = register(softer(crop, softness), crop, mask)
        assert (found.similarity, found.refused) == (None, ""), softness
    size = Size(320, round(320 * crop.shape[1] / crop.shape[2]))
    before, covered = resize(crop, size), (resize_mask(mask, size) > 0.3).float()
    drawn = torch.where(covered[..., None] > 0, before.flip(2), before)
    for softness in (0, 1.5):
        slip = Similarity(0.97, -1.0, (-9.0, 6.0))
        found = register(softer(displaced(drawn, slip), softness), before, covered)
        shift, scale, angle = error_of(found.similarity, slip)
        assert (shift < 0.1, scale < 0.001, angle < 0.1) == (True, True, True), softness
