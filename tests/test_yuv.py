"""Planes of coded frames and RGB."""

import pytest
import torch
from detailers.core.geometry import Box
from detailers.core.pixels.yuv import (
    BT601,
    BT709,
    Layout,
    from_rgb,
    part_to_rgb,
    to_rgb,
    with_part,
)

LAYOUTS = [
    Layout(),
    Layout(across=2, down=2),
    Layout(across=2, down=2, centred=True),
    Layout(10, BT709, across=2, down=2),
    Layout(8, BT709, full=True, across=2, down=1),
    Layout(8, across=4, down=1),
    Layout(8, across=4, down=4),
    Layout(12, alpha=True),
    Layout(grey=True),
    Layout(8, None, True),
    Layout(16, None, True, alpha=True),
]
SIZES = [(6, 8), (7, 5), (1, 1), (9, 2)]


def coded(layout, height, width, seed=0):
    """Random planes, of all samples that there are."""
    made = torch.Generator().manual_seed(seed)
    planes = []
    for number in range(layout.colours + layout.alpha):
        chroma = 0 < number < layout.colours and layout.matrix is not None
        shape = (height, width)
        if chroma:
            shape = (-(-height // layout.down), -(-width // layout.across))
        dtype = torch.uint8 if layout.bits == 8 else torch.int32
        planes.append(torch.randint(0, 2**layout.bits, shape, generator=made).to(dtype))
    return planes


def one_colour(values, layout):
    dtype = torch.uint8 if layout.bits == 8 else torch.int32
    return [torch.full((4, 4), value, dtype=dtype) for value in values]


@pytest.mark.parametrize(
    ("layout", "samples", "rgb"),
    [
        (Layout(), (16, 128, 128), (0, 0, 0)),
        (Layout(), (235, 128, 128), (1, 1, 1)),
        (Layout(full=True), (255, 128, 128), (1, 1, 1)),
        (Layout(10), (940, 512, 512), (1, 1, 1)),
        (Layout(), (81, 90, 240), (1, 0, 0)),  # red of BT.601, as its tables give it
        (Layout(matrix=BT709), (63, 102, 240), (1, 0, 0)),  # and of BT.709
        (Layout(matrix=BT709), (173, 42, 26), (0, 1, 0)),
        (Layout(matrix=BT601, full=True), (29, 255, 107), (0, 0, 1)),
        (Layout(matrix=None, full=True), (255, 0, 51), (1, 0, 0.2)),
        (Layout(grey=True), (235,), (1, 1, 1)),
    ],
)
def test_known_colours(layout, samples, rgb):
    found = to_rgb(one_colour(samples, layout), layout)
    assert found.shape == (4, 4, 3)
    torch.testing.assert_close(
        found[1, 1], torch.tensor(rgb, dtype=torch.float32), atol=0.006, rtol=0
    )
    back = from_rgb(torch.tensor(rgb).float().expand(4, 4, 3), layout)
    assert [int(plane[2, 2]) for plane in back] == list(samples)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_frame_that_nobody_changed_gives_back_its_samples(layout, size):
    planes = coded(layout, *size)  # with samples outside the range, which RGB cannot show
    frame = to_rgb(planes, layout)
    assert frame.shape == (*size, 4 if layout.alpha else 3)
    assert frame.min() >= 0 and frame.max() <= 1
    back = from_rgb(frame.clone(), layout, (planes, layout))
    assert all(torch.equal(a, b) for a, b in zip(back, planes, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixels_that_nobody_changed_keep_their_samples(layout):
    planes = coded(layout, 32, 48)
    frame = to_rgb(planes, layout)
    frame[8:24, 8:40, :3] = torch.tensor([0.9, 0.3, 0.5])
    back = from_rgb(frame, layout, (planes, layout))
    for number, (new, old) in enumerate(zip(back, planes, strict=True)):
        rows, columns = 32 // new.shape[0], 48 // new.shape[1]
        far = torch.ones(32, 48, dtype=torch.bool)
        far[8 - rows : 24 + rows, 8 - columns : 40 + columns] = False
        far = far[::rows, ::columns]
        assert torch.equal(new[far], old[far]), number
    # And those that were changed show the new colour, or its luma.
    shown = to_rgb(back, layout)[15:17, 20:28, :3]
    wanted = torch.tensor([0.9, 0.3, 0.5]) if not layout.grey else torch.tensor(0.5021)
    assert (shown - wanted).abs().max() < 0.01


@pytest.mark.parametrize("siting", [False, True])
def test_chroma_is_where_it_belongs(siting):
    """A ramp of colours is not moved: MPEG has chroma at the first pixel of two, JPEG between."""
    layout = Layout(8, BT601, full=True, across=2, down=2, centred=siting)
    x = torch.linspace(0.25, 0.75, 64)
    frame = torch.stack([x, 1 - x, torch.full_like(x, 0.5)], -1).expand(16, 64, 3).contiguous()
    again = to_rgb(from_rgb(frame, layout), layout)
    assert (again - frame)[:, 2:-2].abs().max() < 0.006


def test_other_layouts_keep_what_they_can():
    given, wanted = Layout(8, across=2, down=2), Layout(10, across=2, down=1)
    planes = coded(given, 16, 16)
    frame = to_rgb(planes, given)
    back = from_rgb(frame, wanted, (planes, given))
    assert back[1].shape == (16, 8)
    # Luma outside of 16..235 stays, though RGB cannot show it.
    assert torch.equal(back[0], planes[0].int() * 4)


def test_alpha_stays_where_a_frame_has_none():
    layout = Layout(alpha=True)
    planes = coded(layout, 8, 8)
    frame = to_rgb(planes, layout)[..., :3].clone()
    frame[0, 0] = 1 - frame[0, 0].round()
    back = from_rgb(frame, layout, (planes, layout))
    assert torch.equal(back[3], planes[3])
    assert torch.equal(from_rgb(frame, layout)[3], torch.full((8, 8), 255, dtype=torch.uint8))


def test_a_change_of_alpha_alone_is_kept():
    layout = Layout(alpha=True)
    planes = coded(layout, 8, 8)
    frame = to_rgb(planes, layout)
    frame[2, 3, 3] = 0
    back = from_rgb(frame, layout, (planes, layout))
    assert int(back[3][2, 3]) == 0
    assert torch.equal(back[0], planes[0])


# Parts of frames

BOXES = [Box(0, 0, 40, 30), Box(7, 9, 22, 20), Box(33, 0, 40, 3), Box(0, 21, 1, 30)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("box", BOXES)
def test_a_part_has_the_pixels_of_the_whole(layout, box):
    planes = coded(layout, 30, 40)
    whole = to_rgb(planes, layout)
    assert torch.equal(part_to_rgb(planes, layout, box), whole[box.y1 : box.y2, box.x1 : box.x2])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("box", BOXES)
def test_a_changed_part_gives_the_planes_of_the_changed_whole(layout, box):
    planes = coded(layout, 30, 40)
    kept = [plane.clone() for plane in planes]
    whole = to_rgb(planes, layout)
    part = whole[box.y1 : box.y2, box.x1 : box.x2].clone()
    part[part.shape[0] // 2 :] *= 0.5  # the upper half stays
    whole[box.y1 : box.y2, box.x1 : box.x2] = part
    wanted = from_rgb(whole, layout, (planes, layout))
    made = with_part(planes, layout, box, part)
    assert all(map(torch.equal, made, wanted))
    assert all(map(torch.equal, planes, kept))


def test_a_part_that_is_the_same_leaves_the_planes():
    planes, layout, box = coded(LAYOUTS[1], 30, 40), LAYOUTS[1], Box(7, 9, 22, 20)
    assert with_part(planes, layout, box, part_to_rgb(planes, layout, box)) is planes
