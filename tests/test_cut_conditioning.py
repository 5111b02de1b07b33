"""The spatial entries of a conditioning are cut to a crop region."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.pixels.crop_view import Cut, Step
from detailers.core.prompts.cut_conditioning import cut_conditioning
from detailers.tests.fake_backend import FakeControl
from detailers.utils.notes import collected_notes

# 2:1 images everywhere, so that a ratio of the wrong axis shows.
# A region of 96x80 that is enlarged twofold; a latent pixel is 4 pixels of the image.
CUT = Cut(Size(400, 200), Box(100, 40, 196, 120), Size(192, 160), Size(192, 160), 8)
LATENT = Size(24, 20)
# The same with padding to a grid of 128: 64 columns and 96 rows more.
PADDED = Cut(Size(400, 200), Box(100, 40, 196, 120), Size(192, 160), Size(256, 256), 8)


def plane(height, width, *leading):
    """Every value says where it is: 1000 y + x."""
    y, x = torch.arange(height)[:, None] * 1000.0, torch.arange(width)
    return (y + x).expand(*leading, height, width)


def corners(part):
    return part[..., 0, 0].flatten()[0].item(), part[..., -1, -1].flatten()[0].item()


def one(cut=CUT, **options):
    """The options of a conditioning's only entry, cut."""
    ((_, result),) = cut_conditioning([[torch.ones(1, 2, 4), options]], cut)
    return result


# The cut


def test_the_latent_size_of_a_cut():
    assert CUT.latent == LATENT
    assert PADDED.latent == Size(32, 32)


# Masks and planes


def test_a_mask_of_the_images_size_is_cut_to_the_region():
    part = one(mask=plane(200, 400, 1))["mask"]
    assert part.shape == (1, 80, 96)
    assert corners(part) == (40100, 119195)


def test_a_mask_is_cut_in_its_own_resolution_x_by_width_and_y_by_height():
    part = one(mask=plane(100, 100, 1))["mask"]  # a quarter of the width, half of the height
    assert part.shape == (1, 40, 24)
    assert corners(part) == (20025, 59048)


def test_a_mask_whose_pixels_the_region_divides_is_sampled_where_the_canvas_is():
    part = one(mask=plane(100, 50, 1))["mask"]  # x from 12.5 to 24.5, y from 20 to 60
    assert part.shape == (1, 160, 192)
    # a canvas pixel is a sixteenth of one of its own along x, a quarter along y
    assert part[0, 2, 8].item() == pytest.approx(
        1000 * (20 + 2.5 / 4 - 0.5) + 12.5 + 8.5 / 16 - 0.5
    )
    assert part[0, -3, -9].item() == pytest.approx(
        1000 * (60 - 2.5 / 4 - 0.5) + 24.5 - 8.5 / 16 - 0.5
    )


def test_of_a_mask_for_each_image_the_rows_own_is_cut():
    masks = torch.stack([plane(200, 400), plane(200, 400) + 0.5])
    second = replace(CUT, row=1, rows=2)
    assert one(second, mask=masks)["mask"].shape == (1, 80, 96)
    assert corners(one(second, mask=masks)["mask"]) == (40100.5, 119195.5)
    assert one(mask=masks)["mask"].shape == (2, 80, 96)  # of a clip: all frames


def test_a_mask_is_padded_along_with_the_canvas():
    part = one(PADDED, mask=plane(200, 400, 1))["mask"]
    assert part.shape == (1, 128, 128)  # a third more columns, three fifths more rows
    assert torch.equal(part[:, :80, :96], plane(200, 400, 1)[:, 40:120, 100:196])
    assert (part[:, :80, 96:] == part[:, :80, 95:96]).all()
    assert (part[:, 80:] == part[:, 79:80]).all()


@pytest.mark.parametrize("leading", [(), (1,), (3,)])
def test_masks_of_any_rank(leading):
    mask = plane(200, 400, *leading)
    assert torch.equal(one(mask=mask)["mask"], mask[..., 40:120, 100:196])


def test_an_entry_whose_mask_does_not_reach_the_region_is_left_out():
    away, here = torch.zeros(1, 200, 400), torch.zeros(1, 200, 400)
    away[:, 120:] = 1
    here[:, 119:] = 1
    entries = [[torch.zeros(1), {"mask": away}], [torch.ones(1), {"mask": here}]]
    ((embedding, options),) = cut_conditioning(entries, CUT)
    assert embedding.item() == 1
    assert options["mask"].sum() == 96


@pytest.mark.parametrize("key", ["concat_latent_image", "concat_mask", "concat_image"])
def test_planes_that_cover_the_image_are_cut(key):
    part = one(**{key: plane(50, 100, 2, 4)})[key]  # a quarter
    assert part.shape == (2, 4, 20, 24)
    assert corners(part) == (10025, 29048)


@pytest.mark.parametrize("key", ["vace_frames", "vace_mask"])
def test_lists_of_planes_are_cut_by_their_middle(key):
    whole, square = plane(50, 100, 1, 4), plane(100, 100, 1, 4)
    first, second = one(**{key: [whole, square]})[key]
    assert corners(first) == (10025, 29048)
    assert corners(second) == (35025, 54048)  # 25 rows above are not shown


def test_a_latent_whose_pixels_the_region_divides_is_sampled_where_the_canvas_is():
    part = one(concat_latent_image=plane(25, 50, 1, 4))["concat_latent_image"]  # an eighth
    assert part.shape == (1, 4, 20, 24)
    # x from 12.5 to 24.5 and y from 5 to 15: half a pixel of it for each of the latent
    assert part[0, 0, 1, 0].item() == pytest.approx(1000 * (5 + 0.75 - 0.5) + 12.5 + 0.25 - 0.5)
    assert part[0, 0, -2, -1].item() == pytest.approx(1000 * (15 - 1.25) + 24.5 - 0.75)


def test_a_video_latent_is_cut_in_every_frame():
    part = one(concat_latent_image=plane(50, 100, 1, 4, 3))["concat_latent_image"]
    assert part.shape == (1, 4, 3, 20, 24)
    assert corners(part) == (10025, 29048)
    padded = one(PADDED, concat_latent_image=plane(50, 100, 1, 4, 3))["concat_latent_image"]
    assert padded.shape == (1, 4, 3, 32, 32)
    sampled = one(PADDED, concat_latent_image=plane(25, 50, 1, 4, 3))["concat_latent_image"]
    assert sampled.shape == (1, 4, 3, 32, 32)
    assert (sampled[..., 24:] == sampled[..., 23:24]).all()
    assert (sampled[..., 20:, :] == sampled[..., 19:20, :]).all()


@pytest.mark.parametrize(
    ("key", "times"),
    [("noise_concat", 1), ("time_dim_replace", 1), ("lq_latent", 1), ("condition", 1),
     ("control_video", 1), ("pose_video_latent", 0.5), ("driving_mask_28ch", 0.5),
     ("camera_conditions", 8)],
)  # fmt: skip
def test_what_must_go_with_the_latents_size_does(key, times):
    whole = plane(int(25 * times), int(50 * times), 1, 4, 3)
    part = one(**{key: whole})[key]
    assert part.shape == (1, 4, 3, int(20 * times), int(24 * times))
    share = part[0, 0, 0, :, 1].diff().mean() / 1000  # of its own pixels for each new one
    assert share.item() == pytest.approx(0.5, abs=0.07)


def test_masks_of_who_is_who_go_with_the_steps_of_a_part_of_a_clip():
    """They have the time before the channels: as many steps as the clip, and 28 channels."""
    steps = tuple(Step(CUT, index) for index in (2, 3))
    masks = torch.arange(5.0)[None, :, None, None, None].expand(1, 5, 28, 25, 50)
    clip = replace(CUT, steps=steps, of_steps=5)
    with collected_notes() as notes:
        part = one(clip, driving_mask_28ch=masks)["driving_mask_28ch"]
    assert part.shape == (1, 2, 28, 20, 24)
    assert part[0, :, 0, 0, 0].tolist() == [2, 3]
    assert not notes


def test_references_are_left_as_they_are():
    pictures = [plane(50, 100, 1, 4), plane(50, 50, 1, 4)]
    assert one(reference_latents=pictures)["reference_latents"] is pictures


def test_keyframes_on_the_canvas_are_cut():
    frames = [{"resolved_frame_index": 0, "latent": plane(25, 50, 1, 4, 1)}, {"audio": "kept"}]
    first, second = one(minimax_keyframes=frames)["minimax_keyframes"]
    assert (first["resolved_frame_index"], first["latent"].shape) == (0, (1, 4, 1, 20, 24))
    assert second == {"audio": "kept"}


def test_the_picture_to_be_edited_is_left_where_it_shows_the_image():
    edited, other = plane(50, 100, 1, 4), plane(50, 100, 1, 4)
    entries = [
        [torch.ones(1), {"concat_latent_image": edited}],
        [torch.ones(1), {"concat_latent_image": other}],
        [torch.ones(1), {"concat_latent_image": edited, "concat_mask": plane(50, 100, 1, 1)}],
    ]
    results = cut_conditioning(entries, CUT, shows=lambda picture: picture is edited)
    planes = [options["concat_latent_image"] for _, options in results]
    assert planes[0] is edited
    assert planes[1].shape == planes[2].shape == (1, 4, 20, 24)  # beside a mask parts are blank


def test_the_originals_stay_as_they_were():
    mask, latents = plane(200, 400, 1), [plane(25, 50, 1, 4)]
    options = {"mask": mask, "reference_latents": latents, "area": (8, 6, 6, 15), "strength": 0.7}
    before = dict(options)
    result = one(**options)
    assert options == before
    assert latents[0].shape == (1, 4, 25, 50)
    assert result["strength"] == 0.7


def test_entries_without_a_place_pass_through():
    pooled = torch.ones(1, 8)
    assert one(pooled_output=pooled, guidance=3.5) == {"pooled_output": pooled, "guidance": 3.5}
    assert cut_conditioning([], CUT) == []


# Areas: (height, width, y, x), a latent pixel being 8 of the image


@pytest.mark.parametrize(
    ("area", "expected"),
    [
        # y 48..112 and x 120..168 in the image, y 8..72 and x 20..68 in the region
        ((8, 6, 6, 15), (16, 12, 2, 5)),
        # y ..80 and x ..128: from the region's corner on
        ((10, 16, 0, 0), (10, 7, 0, 0)),
        # y 80.. and x 160..: up to the far corner
        ((20, 40, 10, 20), (10, 9, 10, 15)),
        # the whole image: the whole region
        ((25, 50, 0, 0), (20, 24, 0, 0)),
    ],
)
def test_an_area_is_moved_enlarged_and_clipped(area, expected):
    assert one(area=area)["area"] == expected


@pytest.mark.parametrize(
    ("area", "expected"),
    [((8, 6, 6, 15), (16, 12, 2, 5)), ((25, 50, 0, 0), (32, 32, 0, 0))],
)
def test_an_area_that_reaches_the_regions_edge_covers_the_padding(area, expected):
    assert one(PADDED, area=area)["area"] == expected


def test_an_area_in_percent_stays_in_percent():
    kind, *shares = one(area=("percentage", 0.32, 0.12, 0.24, 0.3))["area"]
    assert kind == "percentage"
    assert shares == pytest.approx([16 / 20, 12 / 24, 2 / 20, 5 / 24])


def test_an_area_of_a_video_keeps_its_frames():
    assert one(area=(4, 8, 6, 2, 6, 15))["area"] == (4, 16, 12, 2, 2, 5)
    kind, *shares = one(area=("percentage", 0.5, 0.32, 0.12, 0.25, 0.24, 0.3))["area"]
    assert kind == "percentage"
    assert shares == pytest.approx([0.5, 16 / 20, 12 / 24, 0.25, 2 / 20, 5 / 24])


def test_an_area_keeps_a_latent_pixel_where_the_region_shrinks():
    small = Cut(CUT.image, CUT.region, Size(24, 24), Size(24, 24), 8)
    assert one(small, area=(1, 1, 6, 15))["area"] == (1, 1, 0, 1)


@pytest.mark.parametrize(
    "area",
    [
        (5, 50, 0, 0),  # ends where the region begins
        (25, 12, 0, 0),
        (10, 50, 15, 0),  # begins where the region ends
        (25, 25, 0, 25),
        ("percentage", 0.2, 1.0, 0.0, 0.0),
        (4, 5, 50, 0, 0, 0),
    ],
)
def test_an_entry_whose_area_does_not_reach_the_region_is_left_out(area):
    entries = [[torch.zeros(1), {"area": area}], [torch.ones(1), {"area": (8, 6, 6, 15)}]]
    ((embedding, _),) = cut_conditioning(entries, CUT)
    assert embedding.item() == 1


def test_where_no_entry_reaches_the_region_all_hold_for_it():
    away = torch.zeros(1, 200, 400)
    entries = [
        [torch.zeros(1), {"area": (5, 50, 0, 0), "strength": 0.5}],
        [torch.ones(1), {"mask": away, "concat_mask": plane(50, 100, 1, 1)}],
    ]
    first, second = cut_conditioning(entries, CUT)
    assert (first[0].item(), first[1]) == (0, {"strength": 0.5})
    assert second[0].item() == 1
    assert "mask" not in second[1]
    assert second[1]["concat_mask"].shape == (1, 1, 20, 24)


# GLIGEN: boxes of (embedding, height, width, y, x) in latent pixels


def test_gligen_boxes_are_moved_and_those_outside_left_out():
    boxes = [("cat", 8, 6, 6, 15), ("dog", 5, 5, 0, 0), ("sky", 25, 50, 0, 0)]
    kind, model, moved = one(gligen=("position", "model", boxes))["gligen"]
    assert (kind, model) == ("position", "model")
    assert moved == [("cat", 16, 12, 2, 5), ("sky", 20, 24, 0, 0)]
    assert boxes[0] == ("cat", 8, 6, 6, 15)


def test_gligen_boxes_of_frames_are_moved_frame_by_frame():
    rows = [[("cat", 8, 6, 6, 15)], [("cat", 5, 5, 0, 0)]]
    _, _, moved = one(gligen=("position_batched", "model", rows))["gligen"]
    assert moved == [[("cat", 16, 12, 2, 5)], []]


# ControlNet


def test_a_controlnets_hint_is_cut_on_a_copy():
    hint, none = plane(200, 400, 1, 3), torch.ones(1, 1, 1, 1)
    control = FakeControl(hint, extra=[plane(200, 200, 1, 1), none])
    copy = one(control=control)["control"]
    assert copy is not control
    assert corners(copy.cond_hint_original) == (40100, 119195)
    assert corners(copy.extra_concat_orig[0]) == (70050, 109097)  # half as large, 50 rows above
    assert copy.extra_concat_orig[1] is none
    assert control.cond_hint_original is hint


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (200, 600, (40200, 119295)),  # 100 columns to either side are not shown
        (400, 400, (140100, 219195)),  # 100 rows above and below are not
        (100, 400, (20150, 59197)),  # half as large: 100 columns to either side are not
    ],
)
def test_a_hint_of_other_proportions_is_cut_from_its_middle(height, width, expected):
    """As ComfyUI shows it to the ControlNet with the whole picture."""
    copy = one(control=FakeControl(plane(height, width, 1, 3)))["control"]
    assert corners(copy.cond_hint_original) == expected


def test_a_hint_whose_pixels_the_region_divides_is_seen_as_the_whole_picture_sees_it():
    hint = plane(50, 100, 1, 3)
    cut = Cut(Size(400, 200), Box(101, 42, 197, 122), Size(192, 160), Size(192, 160), 8)
    seen = one(cut, control=FakeControl(hint))["control"].cond_hint_original
    # a canvas pixel is half a pixel of the image, and that a quarter of one of the hint
    y, x = (np.arange(160) + 0.5) / 2 + 42, (np.arange(192) + 0.5) / 2 + 101
    expected = np.floor(y / 4)[:, None] * 1000 + np.floor(x / 4)
    assert np.array_equal(seen[0, 0].numpy(), expected)


def test_of_a_hint_for_each_image_the_rows_own_is_cut():
    hints = torch.cat([plane(200, 400, 1, 3), plane(200, 400, 1, 3) + 0.5])
    copy = one(replace(CUT, row=1, rows=2), control=FakeControl(hints))["control"]
    assert copy.cond_hint_original.shape[0] == 1
    assert corners(copy.cond_hint_original) == (40100.5, 119195.5)


class Wrapped:
    """What other packs hand a ControlNet instead of a picture."""

    condhint = torch.zeros(1, 4, 25, 50)


def test_a_hint_that_is_no_picture_stays_and_is_told():
    control = FakeControl(Wrapped())
    with collected_notes() as notes:
        assert one(control=control)["control"] is control
    assert [note.kind for note in notes] == ["control"]
    assert "FakeControl" in notes[0].text


def test_masks_that_a_control_of_another_pack_holds_are_cut():
    control = FakeControl(Wrapped())
    control.mask_cond_hint_original = plane(200, 400, 1)
    control.timestep_keyframes = Keyframes([Keyframe(plane(100, 200, 1)), Keyframe(None)])
    control.attention_mask = torch.ones(1, 77, 77)
    copy = one(control=control)["control"]
    assert copy is not control
    assert corners(copy.mask_cond_hint_original) == (40100, 119195)
    assert corners(copy.timestep_keyframes.keyframes[0].mask_hint_orig) == (20050, 59097)
    assert copy.timestep_keyframes.keyframes[1] is control.timestep_keyframes.keyframes[1]
    assert copy.attention_mask is control.attention_mask
    assert control.mask_cond_hint_original.shape == (1, 200, 400)
    assert control.timestep_keyframes.keyframes[0].mask_hint_orig.shape == (1, 100, 200)


class Keyframe:
    def __init__(self, mask):
        self.mask_hint_orig = mask


class Keyframes:
    def __init__(self, keyframes):
        self.keyframes = keyframes


def test_a_control_that_cannot_be_copied_stays_and_is_told():
    class Bare:
        cond_hint_original, previous_controlnet = plane(200, 400, 1, 3), None

    control = Bare()
    with collected_notes() as notes:
        assert one(control=control)["control"] is control
    assert "Bare" in notes[0].text


def test_every_controlnet_of_a_chain_is_cut():
    last = FakeControl(plane(200, 400, 1, 3))
    bare = FakeControl(None, previous=last)  # one without a hint does not break the chain
    first = FakeControl(plane(200, 400, 1, 3), previous=bare)
    copy = one(control=first)["control"]
    assert copy.cond_hint_original.shape[-2:] == (80, 96)
    assert copy.previous_controlnet.cond_hint_original is None
    assert copy.previous_controlnet.previous_controlnet.cond_hint_original.shape[-2:] == (80, 96)
    assert first.previous_controlnet is bare
    assert bare.previous_controlnet is last
    assert last.cond_hint_original.shape[-2:] == (200, 400)


def test_a_chain_that_begins_without_a_hint_is_cut():
    first = FakeControl(None, previous=FakeControl(plane(200, 400, 1, 3)))
    hint = first.previous_controlnet.cond_hint_original
    copy = one(control=first)["control"]
    found = copy.previous_controlnet.cond_hint_original
    assert torch.allclose(found, hint[..., 40:120, 100:196], atol=1e-4)


def test_a_controlnet_without_a_hint_stays():
    control = FakeControl(None)
    assert one(control=control)["control"] is control


def test_positive_and_negative_share_the_same_cut_controlnet():
    control, other = FakeControl(plane(200, 400, 1, 3)), FakeControl(plane(200, 400, 1, 3))
    controls = {}
    positive = [[torch.ones(1), {"control": control}], [torch.ones(1), {"control": other}]]
    negative = [[torch.zeros(1), {"control": control}]]
    positive = cut_conditioning(positive, CUT, controls)
    negative = cut_conditioning(negative, CUT, controls)
    assert positive[0][1]["control"] is negative[0][1]["control"]
    assert positive[1][1]["control"] is not positive[0][1]["control"]
