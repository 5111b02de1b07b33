"""References to pictures: which of them show the image, and what replaces them in a crop."""

from dataclasses import replace

import pytest
import torch
from detailers.core.detail.references import (
    LatentReferences,
    References,
    Shown,
    filled,
    same_picture,
)
from detailers.core.geometry import Box, Size
from detailers.core.pixels.crop_view import Cut
from detailers.core.pixels.resample import resize
from detailers.core.prompts.cut_conditioning import cut_conditioning
from detailers.core.sampling.scheduler import Encode
from detailers.tests.fake_backend import FakeBackend, FakeVAE, noise_image
from detailers.utils.notes import collected_notes

VAE = FakeVAE()  # 4 pixels to a cell; it loses nothing
CUT = Cut(Size(128, 64), Box(32, 16, 96, 48), Size(128, 64), Size(128, 64), 4)


def picture(seed=0, height=64, width=128):
    """Large and small things: what is alike in two of them is only how they are made."""
    coarse = noise_image(1, height // 16, width // 16, seed=seed)
    fine = noise_image(1, height, width, seed=seed + 100)
    return (0.7 * resize(coarse, Size(width, height)) + 0.3 * fine).clamp(0, 1)


def encoded(image, vae=VAE):
    return FakeBackend().encode(vae, image, tiled=False, video=False)


def references(image, choice="auto", backend=None):
    return References(choice, image, VAE, backend or FakeBackend())


def shows(image, reference, cut=CUT):
    return references(image).shows(reference, cut)


# What a reference shows


def test_the_image_itself_is_known_and_another_of_its_proportions_is_not():
    image = picture()
    assert shows(image, encoded(image))
    assert not shows(image, encoded(picture(1)))
    assert not shows(image, encoded(image.flip(2)))
    assert not shows(image, encoded(noise_image(1, 64, 128)))


@pytest.mark.parametrize("size", [(64, 32), (96, 48), (192, 96), (96, 64)])
def test_it_is_known_at_another_size(size):
    image = picture()
    assert shows(image, encoded(resize(image, Size(*size))))
    assert not shows(image, encoded(resize(picture(1), Size(*size))))


@pytest.mark.parametrize(("width", "height"), [(48, 64), (128, 40), (128, 60)])
def test_it_is_known_where_its_middle_was_taken(width, height):
    image = picture()
    x, y = (128 - width) // 2, (64 - height) // 2
    middle = image[:, y : y + height, x : x + width]
    assert shows(image, encoded(middle))
    assert shows(image, encoded(resize(middle, Size(2 * width, 2 * height))))


def test_pixels_that_a_vae_cannot_take_do_not_matter():
    image = picture(height=66, width=131)
    assert shows(image, encoded(image[:, 1:65, 1:129]), replace(CUT, image=Size(131, 66)))


def test_it_is_known_though_a_part_was_redrawn_or_it_was_made_darker():
    image = picture()
    redrawn = image.clone()
    redrawn[:, 8:40, 40:90] = picture(1)[:, 8:40, 40:90]  # a fifth of it
    assert shows(redrawn, encoded(image))
    assert shows(image * 0.9 + 0.03, encoded(image))
    assert shows((image + 0.01 * noise_image(1, 64, 128)).clamp(0, 1), encoded(image))


def test_plain_pictures_are_the_same_only_in_the_same_colour():
    grey, red = torch.full((1, 64, 128, 3), 0.5), torch.zeros(1, 64, 128, 3)
    red[..., 0] = 0.9
    assert shows(grey, encoded(grey))
    assert shows(grey, encoded(grey[:, :32, :32]))
    assert not shows(grey, encoded(red))
    assert not shows(grey, encoded(picture()))
    assert not shows(picture(), encoded(grey))


def test_a_large_reference_is_first_compared_as_a_thumbnail():
    image, backend = picture(height=512, width=1024), FakeBackend()
    both = references(image, backend=backend)
    cut = replace(CUT, image=Size(1024, 512))
    assert not both.shows(encoded(picture(1, 512, 1024)), cut)
    assert [tuple(pixels.shape[1:3]) for pixels in backend.encoded] == [(180, 364)]
    assert both.shows(encoded(image), cut)
    assert [tuple(pixels.shape[1:3]) for pixels in backend.encoded[1:]] == [(512, 1024)]


def test_an_image_is_compared_with_a_reference_once():
    image, backend = picture(), FakeBackend()
    both, reference = references(image, backend=backend), encoded(image)
    assert both.shows(reference, CUT)
    assert both.shows(reference, replace(CUT, region=Box(0, 0, 8, 8)))
    assert len(backend.encoded) == 1


def test_each_image_of_a_batch_has_its_own_references():
    images = torch.cat([picture(), picture(1)])
    first, second = (replace(CUT, row=row, rows=2) for row in (0, 1))
    both = references(images)
    assert both.shows(encoded(images[:1]), first)
    assert not both.shows(encoded(images[:1]), second)
    assert both.shows(encoded(images), second)  # a reference for each image


class ReadAgain:
    """Frames that are read into the same memory, as it happens to those of a file."""

    def __init__(self, frames):
        self.frames, self.memory, self.reads = frames, torch.empty_like(frames[:1]), []

    def __getitem__(self, rows):
        self.reads.append(rows.start)
        return self.memory.copy_(self.frames[rows])


def test_frames_that_are_read_when_they_are_needed_are_told_apart():
    frames = torch.cat([picture(seed) for seed in range(4)])
    each = encoded(frames)
    own = references(frames)
    own.image = ReadAgain(frames)
    cuts = [replace(CUT, row=row, rows=4) for row in range(4)]
    assert all(own.shows(each, cut) for cut in cuts)
    alone = each[:1].clone()
    assert [own.shows(alone, cut) for cut in cuts] == [True, False, False, False]
    assert len(own._encoded) <= 2  # of the last frame


def test_a_clips_first_frame_is_compared_and_not_those_to_which_it_moves():
    both = references(picture())
    frames = torch.cat([picture(seed) for seed in range(3)])
    both.image, both.of_clip = ReadAgain(frames), True
    own, each = encoded(picture()), encoded(torch.cat([picture(seed) for seed in (3, 1, 2)]))
    cuts = [replace(CUT, row=row, rows=3) for row in range(3)]
    assert [both.shows(own, cut) for cut in cuts] == [True] * 3
    assert both.image.reads == [0]
    assert [both.shows(each, cut) for cut in cuts] == [False, True, True]


def test_latents_of_another_vae_show_nothing():
    image = picture()
    assert not shows(image, encoded(image, FakeVAE(8)))
    assert not shows(image, torch.zeros(1, 48, 1, 1))
    assert not references(None).shows(encoded(image), CUT)


def test_latents_with_a_time_axis():
    image = picture()
    assert shows(image, encoded(image)[:, :, None])
    assert not shows(image, encoded(picture(1))[:, :, None])


def test_references_in_pixels():
    image = picture()
    assert shows(image, image)
    assert shows(image, resize(image, Size(96, 48)))
    assert not shows(image, picture(1))


def test_all_stay_whole_where_that_is_asked_for():
    image = picture()
    assert not references(image, "whole").shows(encoded(image), CUT)


@pytest.mark.parametrize("scale", [1, 0.5])
def test_a_latent_of_the_whole_image_tells_as_well(scale):
    image = picture()
    tiles = LatentReferences(encoded(image), FakeBackend())
    small = Size(int(128 * scale), int(64 * scale))
    assert tiles.shows(encoded(resize(image, small)), CUT)
    assert not tiles.shows(encoded(resize(picture(1), small)), CUT)
    assert not tiles.shows(encoded(image, FakeVAE(8)), CUT)


def test_pictures_that_only_share_their_layout_are_not_the_same():
    """A ramp that all have in common, and stripes and grain of their own."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 128), indexing="ij")

    def striped(phase):
        grain = torch.randn(64, 128, generator=torch.Generator().manual_seed(phase))
        plane = 0.6 * x + 0.2 + 0.1 * torch.sin(40 * (x + y / 2) + phase) + 0.05 * grain
        return encoded(torch.stack([plane, 1 - plane, y], dim=-1)[None].clamp(0, 1))[0]

    assert same_picture(striped(0), striped(0))
    for phase in (1, 2, 6, 7, 44):
        assert not same_picture(striped(0), striped(phase)), phase


def told(image, reference, choice="auto", vae=VAE):
    """The notes about a reference that is not the image."""
    with collected_notes() as notes:
        assert not References(choice, image, vae, FakeBackend()).shows(reference, CUT)
    return [own.text for own in notes]


@pytest.mark.parametrize("taken", [lambda image: image, encoded])
def test_a_picture_that_looks_much_like_the_image_is_told(taken):
    """As the source of an edit, after which things lie a little elsewhere."""
    image = resize(picture(), Size(512, 256))
    moved = taken(image.roll(8, 2))
    (text,) = told(image, moved)
    assert "looks much like the image" in text
    assert told(image, moved, "whole") == told(image, moved, "crop") == []
    assert told(image, taken(resize(picture(1), Size(512, 256)))) == []


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("taken", [lambda image: image, encoded])
def test_the_image_beside_another_picture_is_told(taken, axis, place):
    image, other, third = picture(), picture(1), picture(2)

    def joined(one):
        both = torch.cat([one, other] if place == 0 else [other, one], axis)
        return taken(resize(both, Size(both.shape[2] * 3 // 4, both.shape[1] * 3 // 4)))

    (text,) = told(image, joined(image))
    assert "beside another picture" in text
    assert told(image, joined(third)) == []


# In their places


def placed(
    entries, image, choice="auto", cut=CUT, latent=None, same_size=False, shows_edited=False
):
    """The options of the entries, and the pixels that were encoded on the way."""
    own = references(image, choice)
    if shows_edited:
        entries = cut_conditioning(entries, cut, shows=lambda plane: own.shows(plane, cut))
    latent = torch.full((1, 48, 16, 32), 0.5) if latent is None else latent
    shown = Shown(
        cut,
        latent,
        lambda: torch.full((1, 64, 128, 3), 0.25),
        lambda pixels, video: Encode(VAE, pixels, False, video),
        same_size,
    )
    pipeline, asked, answer = own.placed((entries, "placeholder"), shown), [], None
    while True:
        try:
            request = pipeline.send(answer)
        except StopIteration as end:
            side, negative = end.value
            assert negative == "placeholder"
            return [options for _, options in side], asked
        asked.append(request)
        answer = encoded(request.pixels)


def one(image, choice="auto", *, latent=None, cut=CUT, same_size=False, **options):
    (result,), asked = placed([[None, options]], image, choice, cut, latent, same_size)
    return result, asked


def test_the_image_becomes_the_crop_and_another_stays_whole():
    image, latent = picture(), torch.rand(1, 48, 16, 32)
    own, other = encoded(image), encoded(picture(1))
    options, asked = one(image, latent=latent, reference_latents=[other, own], guidance=3.5)
    assert options["reference_latents"][0] is other
    assert torch.equal(options["reference_latents"][1], latent)
    assert options["guidance"] == 3.5
    assert not asked


def test_where_nothing_changes_the_list_is_the_same_one():
    pictures = [encoded(picture(1))]
    options, _ = one(picture(), reference_latents=pictures)
    assert options["reference_latents"] is pictures


@pytest.mark.parametrize("key", ["ref_latent", "concat_latent_image"])
def test_single_pictures(key):
    image, latent = picture(), torch.rand(1, 48, 16, 32)
    entries = [[None, {key: encoded(image)}], [None, {key: encoded(picture(1))}]]
    (own, other), _ = placed(entries, image, latent=latent, shows_edited=True)
    assert torch.equal(own[key], latent)
    assert not torch.equal(other[key], latent)


def test_blocks_of_references():
    image, latent = picture(), torch.rand(1, 48, 16, 32)
    blocks = [{"latent": encoded(image), "kind": "image"}, {"audio_latent": 1}]
    options, _ = one(image, latent=latent, minimax_refs=blocks)
    assert torch.equal(options["minimax_refs"][0]["latent"], latent)
    assert options["minimax_refs"][0]["kind"] == "image"
    assert options["minimax_refs"][1] is blocks[1]


def test_a_block_says_how_large_its_new_latent_is():
    """The model lays out its tokens by these numbers."""
    image, clip = picture(), torch.rand(1, 48, 3, 16, 32)
    own = encoded(picture())[:, :, None]
    sizes = {"latent_t": 5, "latent_h": 8, "latent_w": 9}
    blocks = [
        {"latent": own, "kind": "image", "latent_h": 8, "latent_w": 9},
        {"latent": own.expand(-1, -1, 5, -1, -1), **sizes},
        {"latent": encoded(picture(1))[:, :, None], **sizes},
    ]
    options, _ = one(image, latent=clip, minimax_refs=blocks)
    still, video, other = options["minimax_refs"]
    assert still["latent"].shape[-3:] == (1, 16, 32)
    assert (still["latent_h"], still["latent_w"]) == (16, 32) and "latent_t" not in still
    assert video["latent"].shape[-3:] == (3, 16, 32)
    assert [video[name] for name in sizes] == [3, 16, 32]
    assert other is blocks[2]


def who_is_who(*columns, steps=4):
    """A mask of 28 channels for each reference, 1 from a column on, and empty ones for steps."""
    masks = [(torch.arange(32) >= column).float().expand(1, 28, 16, 32) for column in columns]
    return torch.stack([*masks, *[torch.zeros(1, 28, 16, 32)] * steps], dim=1)


def test_masks_of_references_go_with_them():
    """The mask of the first reference is the last one. The crop is the middle of the image."""
    image, clip = picture(), torch.rand(1, 48, 2, 16, 32)
    own, other = (encoded(picture(seed))[:, :, None] for seed in (0, 1))
    masks = who_is_who(8, 12)
    options, _ = one(
        image, latent=clip, same_size=True, reference_latents=[own, other], ref_mask_28ch=masks
    )
    new = options["ref_mask_28ch"]
    assert new.shape == (1, 4, 28, 16, 32)  # of two references, and of the crop's two steps
    assert new[0, 0, 0, 0].sum() == 24  # the other one stays whole
    assert new[0, 1, 0, 0].sum() == 24  # columns 8 to 24 become 0 to 32, so that 12 becomes 8
    assert not new[:, 2:].any()
    options, _ = one(
        image,
        "crop",
        latent=clip,
        reference_latents=[other[:, :, 0]],
        ref_mask_28ch=who_is_who(12),
    )
    assert options["ref_mask_28ch"][0, 0, 0, 0].sum() == 24


def test_a_mask_of_a_reference_of_another_size_gets_that_of_the_latent():
    masks = who_is_who(8)[..., ::2, ::2]
    options, _ = one(picture(), same_size=True, ref_mask_28ch=masks,
                     reference_latents=[torch.rand(1, 48, 1, 8, 16)])  # fmt: skip
    assert options["ref_mask_28ch"].shape == (1, 2, 28, 16, 32)
    assert set(options["ref_mask_28ch"].unique().tolist()) == {0.0, 1.0}


def test_a_reference_keeps_its_axes():
    image, latent = picture(), torch.rand(1, 48, 16, 32)
    own = encoded(image)
    options, _ = one(image, latent=latent, reference_latents=[own[:, :, None]])
    assert torch.equal(options["reference_latents"][0], latent[:, :, None])
    options, _ = one(image, latent=latent[:, :, None], reference_latents=[own])
    assert torch.equal(options["reference_latents"][0], latent)


def test_a_reference_to_a_clips_first_frame_becomes_the_crops():
    image, clip = picture(), torch.rand(1, 48, 3, 16, 32)
    own = encoded(image)[:, :, None]
    options, _ = one(image, latent=clip, reference_latents=[own, own.expand(-1, -1, 2, -1, -1)])
    assert torch.equal(options["reference_latents"][0], clip[:, :, :1])
    assert torch.equal(options["reference_latents"][1], clip[:, :, :2])
    frames = torch.rand(5, 48, 16, 32)  # of a VAE that knows no clips
    options, _ = one(image, latent=frames, reference_latents=[encoded(image)])
    assert torch.equal(options["reference_latents"][0], frames[:1])


def test_pixels_become_the_crops_pixels():
    options, _ = one(picture(), reference_latents=[picture(), picture(1)])
    own, other = options["reference_latents"]
    assert torch.equal(own, torch.full((1, 64, 128, 3), 0.25))
    assert torch.equal(other, picture(1))


def test_of_references_for_each_image_the_rows_own_counts():
    images = torch.cat([picture(), picture(1)])
    pictures = encoded(torch.cat([picture(2), picture(3)]))
    cut = replace(CUT, row=1, rows=2)
    options, _ = one(images, cut=cut, reference_latents=[pictures])
    assert torch.equal(options["reference_latents"][0], pictures[1:])


def test_another_picture_becomes_the_part_where_the_crop_lies_if_asked():
    image, other = picture(), picture(1)
    options, (request,) = one(image, "crop", reference_latents=[encoded(other)])
    assert not request.video
    assert request.pixels.shape == (1, 64, 128, 3)
    # the crop is enlarged by 2: its pixels lie between those of the picture
    small = resize(request.pixels, Size(64, 32))
    assert (small - other[:, 16:48, 32:96]).abs().mean() < 0.03
    assert torch.equal(options["reference_latents"][0], encoded(request.pixels))


def test_a_latent_that_shows_nothing_is_no_picture():
    """As that in the negative of HuMo: decoded and encoded again, it would be a grey picture."""
    blank = torch.arange(48.0).view(1, 48, 1, 1).expand(1, 48, 8, 8)
    options, asked = one(picture(), "crop", reference_latents=[blank])
    assert not asked
    expected = blank[..., :1, :1].expand(1, 48, 16, 32)
    torch.testing.assert_close(options["reference_latents"][0], expected)


def test_each_row_of_references_is_decoded_once_for_all_its_crops():
    images, others = (torch.cat([picture(seed), picture(seed + 1)]) for seed in (0, 2))
    backend, latents = FakeBackend(), encoded(others)
    own = references(images, "crop", backend)
    for _crop in range(3):
        for row in (0, 1):
            cut = replace(CUT, row=row, rows=2)
            latent = torch.zeros(1, 48, 16, 32)
            shown = Shown(
                cut, latent, None, lambda pixels, video: Encode(VAE, pixels, False, video)
            )
            request = next(own.placed([[[None, {"reference_latents": [latents]}]]], shown))
            small = resize(request.pixels, Size(64, 32))
            assert (small - others[row : row + 1, 16:48, 32:96]).abs().mean() < 0.03
    assert len(backend.decoded) == 2


def test_the_middle_of_the_image_lies_where_it_was_taken_from():
    """A square picture shows columns 32 to 96 of the image, which are the crop's."""
    other = picture(1)[:, :, 32:96]
    _, (request,) = one(picture(), "crop", reference_latents=[encoded(other)])
    small = resize(request.pixels, Size(64, 32))
    assert (small - other[:, 16:48]).abs().mean() < 0.03


def test_whole_references_of_models_that_take_one_size_alone():
    options, _ = one(picture(), same_size=True, reference_latents=[torch.rand(1, 48, 8, 8)])
    assert options["reference_latents"][0].shape == (1, 48, 16, 32)
    options, _ = one(picture(), time_dim_concat=torch.rand(1, 48, 2, 8, 8))
    assert options["time_dim_concat"].shape == (1, 48, 2, 16, 32)


def test_a_picture_to_edit_gets_the_latents_size_where_the_model_does_not_resize_it():
    """As HiDream E1, which puts it at the latent's side. It is cut to the crop, half as large."""
    other = [[None, {"concat_latent_image": encoded(picture(1))}]]
    for same_size, size in ((True, (16, 32)), (False, (8, 16))):
        (options,), _ = placed(other, picture(), same_size=same_size, shows_edited=True)
        assert options["concat_latent_image"].shape == (1, 48, *size)


def test_filled_takes_the_middle():
    values = torch.arange(16.0).view(1, 1, 4, 4)
    assert filled(values, Size(4, 2)).flatten().tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert filled(values, Size(4, 4)) is values
