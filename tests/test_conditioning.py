"""Spatial entries of a conditioning cut to a region, and texts put in."""

import pytest
import torch
from detailers.core.conditioning import (
    Cut,
    concat_text,
    cut_conditioning,
    encode_chunks,
    replace_text,
    with_values,
)
from detailers.core.geometry import Box, Size
from detailers.tests.fake_backend import FakeControl

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
    part = one(mask=plane(100, 50, 1))["mask"]  # an eighth of the width, half of the height
    assert part.shape == (1, 40, 12)
    assert corners(part) == (20012, 59023)


def test_a_mask_is_padded_along_with_the_canvas():
    part = one(PADDED, mask=plane(200, 400, 1))["mask"]
    assert part.shape == (1, 128, 128)  # a third more columns, three fifths more rows
    assert torch.equal(part[:, :80, :96], plane(200, 400, 1)[:, 40:120, 100:196])
    assert (part[:, :80, 96:] == part[:, :80, 95:96]).all()
    assert (part[:, 80:] == part[:, 79:80]).all()


@pytest.mark.parametrize("leading", [(), (1,), (3,)])
def test_masks_of_any_rank(leading):
    assert one(mask=plane(200, 400, *leading))["mask"].shape == (*leading, 80, 96)


def test_an_entry_whose_mask_does_not_reach_the_region_is_left_out():
    away, here = torch.zeros(1, 200, 400), torch.zeros(1, 200, 400)
    away[:, 120:] = 1
    here[:, 119:] = 1
    entries = [[torch.zeros(1), {"mask": away}], [torch.ones(1), {"mask": here}]]
    ((embedding, options),) = cut_conditioning(entries, CUT)
    assert embedding.item() == 1
    assert options["mask"].sum() == 96


@pytest.mark.parametrize(
    "key", ["concat_latent_image", "concat_mask", "concat_image", "noise_concat"]
)
def test_planes_that_cover_the_image_are_cut(key):
    part = one(**{key: plane(25, 50, 2, 4)})[key]  # an eighth
    assert part.shape == (2, 4, 10, 12)
    assert corners(part) == (5012, 14023)


def test_a_video_latent_is_cut_in_every_frame():
    part = one(concat_latent_image=plane(25, 50, 1, 4, 3))["concat_latent_image"]
    assert part.shape == (1, 4, 3, 10, 12)
    assert corners(part) == (5012, 14023)
    padded = one(PADDED, concat_latent_image=plane(25, 50, 1, 4, 3))["concat_latent_image"]
    assert padded.shape == (1, 4, 3, 16, 16)


@pytest.mark.parametrize("key", ["reference_latents", "vace_frames", "vace_mask"])
def test_references_are_cut_only_if_they_have_the_images_proportions(key):
    same, square, slightly = plane(25, 50, 1, 4), plane(50, 50, 1, 4), plane(50, 101, 1, 4)
    result = one(**{key: [same, square, slightly]})[key]
    assert result[0].shape == (1, 4, 10, 12)
    assert corners(result[0]) == (5012, 14023)
    assert result[1] is square
    assert result[2].shape == (1, 4, 20, 24)  # a pixel off, as VAEs round


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
        [torch.ones(1), {"mask": away, "concat_mask": plane(25, 50, 1, 1)}],
    ]
    first, second = cut_conditioning(entries, CUT)
    assert (first[0].item(), first[1]) == (0, {"strength": 0.5})
    assert second[0].item() == 1
    assert "mask" not in second[1]
    assert second[1]["concat_mask"].shape == (1, 1, 10, 12)


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
    hint = plane(100, 400, 1, 3)  # the image's width, half of its height
    control = FakeControl(hint, extra=[plane(200, 400, 1, 1), plane(64, 64, 1, 1)])
    copy = one(control=control)["control"]
    assert copy is not control
    assert copy.cond_hint_original.shape == (1, 3, 40, 96)
    assert corners(copy.cond_hint_original) == (20100, 59195)
    assert [part.shape[-2:] for part in copy.extra_concat_orig] == [(80, 96), (64, 64)]
    assert control.cond_hint_original is hint


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
    copy = one(control=first)["control"]
    assert copy.previous_controlnet.cond_hint_original.shape[-2:] == (80, 96)


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


# Text


def tokens(*values):
    """[1,tokens,2] of these values."""
    return torch.tensor([[[float(value)] * 2 for value in values]])


def test_a_new_text_takes_over_all_but_the_old_text_and_its_place():
    control = object()
    old = [
        [tokens(1), {"control": control, "guidance": 3.5, "pooled_output": tokens(9),
                     "mask": plane(4, 4), "area": (1, 1, 0, 0), "width": 512, "height": 768}],
        [tokens(2), {"guidance": 99.0}],
    ]  # fmt: skip
    ((embedding, options),) = replace_text(old, [[tokens(5), {"height": 64}]])
    assert embedding.tolist() == tokens(5).tolist()
    assert options == {"control": control, "guidance": 3.5, "width": 512, "height": 64}


def test_a_new_texts_pooled_vector_is_its_own():
    old = [[tokens(1), {"pooled_output": tokens(9)}]]
    ((_, options),) = replace_text(old, [[tokens(5), {"pooled_output": tokens(7)}]])
    assert options["pooled_output"].tolist() == tokens(7).tolist()
    assert replace_text([], old) == old


def test_concat_adds_tokens_to_every_entry():
    first = [[tokens(1, 2), {"strength": 1}], [tokens(3), {"attention_mask": tokens(1)}]]
    joined = concat_text(first, [[tokens(8, 9), {"ignored": 1}], [tokens(0), {}]])
    assert [embedding[0, :, 0].tolist() for embedding, _ in joined] == [[1, 2, 8, 9], [3, 8, 9]]
    assert [options for _, options in joined] == [{"strength": 1}, {}]
    assert concat_text(first, []) is first


def test_concat_repeats_a_lone_row_for_a_batch():
    batch = tokens(1, 2).repeat(3, 1, 1)
    ((embedding, _),) = concat_text([[batch, {}]], [[tokens(9), {}]])
    assert embedding[..., 0].tolist() == [[1, 2, 9]] * 3


def test_concat_of_encodings_of_other_width_is_an_error():
    with pytest.raises(ValueError, match=r"\[CONCAT\].*different widths"):
        concat_text([[torch.zeros(1, 2, 3), {}]], [[torch.zeros(1, 2, 4), {}]])


def test_chunks_are_encoded_one_after_another():
    asked = []

    def encode(text):
        asked.append(text)
        return [[tokens(len(text)), {"pooled_output": tokens(len(text))}]]

    ((embedding, options),) = encode_chunks(("a", "bbb", "cc"), encode)
    assert asked == ["a", "bbb", "cc"]
    assert embedding[0, :, 0].tolist() == [1, 3, 2]
    assert options["pooled_output"].tolist() == tokens(1).tolist()  # the first chunk's


def test_values_are_set_on_copies():
    old = [[tokens(1), {"guidance": 1.0}], [tokens(2), {}]]
    new = with_values(old, guidance=4.0)
    assert [options for _, options in new] == [{"guidance": 4.0}] * 2
    assert [options for _, options in old] == [{"guidance": 1.0}, {}]
