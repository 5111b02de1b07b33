"""The miniature world: the same at every size, and told by its captions."""

from dataclasses import astuple, replace
from itertools import islice, product

import cv2
import numpy as np
import pytest
from detailers.dev.miniature.crops import (
    BOXES,
    CELL,
    PARTS,
    SHAPES,
    detailer_window,
    draw_shape,
    head_window,
    mixture,
    painted,
    portraits,
)
from detailers.dev.miniature.look import PHRASES, Look, caption, draw_look, read_caption
from detailers.dev.miniature.render import Shape, coverage, ellipse, polygon, render, stroke
from detailers.dev.miniature.world import (
    SIDE,
    Degradation,
    degrade,
    draw_scene,
    enlarge,
    portrait,
)

LOOK = Look("pale", "curly", "red", "green", "smile", "none", "purple")


def test_a_caption_says_every_attribute():
    assert caption(LOOK) == (
        "a person, pale skin, curly red hair, green eyes, smiling, no glasses, purple shirt"
    )


def test_every_look_can_be_read_back_from_its_caption():
    looks = [Look(*values) for values in product(*PHRASES.values())]
    assert len({caption(look) for look in looks}) == len(looks) == 5760
    assert [read_caption(caption(look)) for look in looks] == looks


@pytest.mark.parametrize("text", ["", "a person", caption(LOOK).replace("pale", "golden")])
def test_other_texts_are_no_captions(text):
    with pytest.raises(ValueError, match="of this world"):
        read_caption(text)


def test_looks_use_every_value():
    random = np.random.default_rng(0)
    drawn = [astuple(draw_look(random)) for _ in range(200)]
    assert [set(values) for values in zip(*drawn, strict=True)] == [
        set(phrases) for phrases in PHRASES.values()
    ]


def test_a_square_covers_its_pixels_and_half_of_those_on_its_edge():
    square = polygon([(2, 2), (6, 2), (6, 6), (2, 6)], (255, 0, 0))
    covered = coverage([square], (0, 0, 8, 8), (8, 8))
    assert covered[3:5, 3:5].min() == 1
    assert covered.sum() == pytest.approx(16, abs=3.5)
    assert covered[0].max() == covered[:, 0].max() == 0
    coarse = coverage([square], (0, 0, 8, 8), (4, 4))
    assert coarse[1:3, 1:3].min() > 0.9


def test_shapes_turn_clockwise_about_the_origin():
    moved = Shape(np.array([[1.0, 0.0]]), (0, 0, 0)).moved(10, 20, 2, 90)
    assert np.allclose(moved.points, [[10, 22]])


def test_a_stroke_is_as_wide_as_asked():
    line = stroke([(10, 40), (90, 40)], 6, (255, 255, 255))
    covered = coverage([line], (0, 0, 100, 80), (200, 160))
    assert covered[:, 100].sum() == pytest.approx(12, abs=0.7)


def test_what_lies_outside_the_window_is_left_out():
    shapes = [ellipse(500, 500, 20, 20, (255, 255, 255))]
    assert render(shapes, (0, 0, 100, 100), (50, 50), (51, 0, 0)).sum() == pytest.approx(500)


def test_a_scene_follows_from_its_seed():
    one, again, other = draw_scene(4), draw_scene(4), draw_scene(5)
    assert one.characters == again.characters
    assert np.array_equal(one.picture((64, 64)), again.picture((64, 64)))
    assert not np.array_equal(one.picture((64, 64)), other.picture((64, 64)))


def test_the_picture_is_the_same_at_every_size():
    scene = draw_scene(2)
    large, small = scene.picture((1024, 1024)), scene.picture((256, 256))
    shrunk = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - small).mean() < 0.006
    window = (256.0, 128.0, 512.0, 384.0)
    enlarged = scene.picture((512, 512), window)
    part = cv2.resize(enlarged, (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(part - large[128:384, 256:512]).mean() < 0.006


@pytest.mark.parametrize("size", [(1024, 1024), (512, 384), (300, 600)])
def test_boxes_hold_the_masks_and_no_more(size):
    scene = draw_scene(3)
    for index in range(len(scene.characters)):
        mask = scene.mask(index, size)
        rows, columns = np.nonzero(mask > 0.02)
        left, top, right, bottom = scene.box(index, size)
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.subtract(found, (left, top, right, bottom))).max() <= 1


def test_heads_keep_apart_and_have_the_sizes_promised():
    for seed in range(30):
        scene = draw_scene(seed)
        assert 1 <= len(scene.characters) <= 5
        covered = sum(scene.mask(i, (256, 256)) > 0.5 for i in range(len(scene.characters)))
        assert covered.max() == 1
        for character in scene.characters:
            left, _, right, _ = character.head_box()
            assert 58 < right - left < 160  # a tilted head is wider


def test_an_attribute_changes_the_head_alone():
    scene, window = portrait(LOOK)
    truth = scene.picture((128, 128), window)
    for attribute, phrases in PHRASES.items():
        for value in phrases:
            other, _ = portrait(replace(LOOK, **{attribute: value}))
            same = np.array_equal(other.picture((128, 128), window), truth)
            assert same == (value == getattr(LOOK, attribute))


def test_degradation_is_seeded_and_costs_detail():
    truth = draw_scene(1).picture((256, 256))
    how = Degradation(0.25, 0.6, 0.03)
    small = degrade(truth, how, np.random.default_rng(1))
    assert small.shape == (64, 64, 3)
    assert small.dtype == np.float32
    assert np.array_equal(small, degrade(truth, how, np.random.default_rng(1)))
    clean = degrade(truth, Degradation(0.25, 0.0, 0.0), np.random.default_rng(1))
    assert np.allclose(clean, cv2.resize(truth, (64, 64), interpolation=cv2.INTER_AREA))
    errors = [np.abs(enlarge(p, (256, 256)) - truth).mean() for p in (clean, small)]
    assert 0 < errors[0] < errors[1]


def test_training_crops_show_heads_and_say_whose():
    for crop in islice(portraits(7), 4):
        height, width = crop.mask.shape
        assert (height, width) in SHAPES
        assert crop.pixels.shape == (height * CELL, width * CELL, 3)
        assert crop.pixels.std() > 10
        assert crop.degraded.shape == crop.pixels.shape
        assert 1 < np.abs(crop.degraded.astype(int) - crop.pixels).mean() < 40
        read_caption(crop.text)
    assert all(pixels.shape == (256, 256, 3) for pixels in islice(mixture(7), 3))
    again = [next(portraits(7)).pixels for _ in range(2)]
    assert np.array_equal(*again)


def head_inside(scene, index, window):
    """The box of a head, after a look that its middle is in a window, which is in the scene."""
    x1, y1, x2, y2 = window
    assert 0 <= x1 < x2 <= SIDE + 1e-6
    assert 0 <= y1 < y2 <= SIDE + 1e-6
    left, top, right, bottom = scene.characters[index].head_box()
    assert x1 < (left + right) / 2 < x2
    assert y1 < (top + bottom) / 2 < y2
    return left, top, right, bottom


def test_training_crops_are_those_of_a_detailer():
    random = np.random.default_rng(0)
    shapes, heads = set(), []
    for seed in range(20):
        scene = draw_scene(seed)
        for index in range(len(scene.characters)):
            height, width = shape = draw_shape(scene, index, random)
            shapes.add(shape)
            x1, y1, x2, y2 = detailer_window(scene, index, shape, random)
            assert (x2 - x1) / width == pytest.approx((y2 - y1) / height)
            left, top, right, bottom = head_inside(scene, index, (x1, y1, x2, y2))
            heads.append(max((right - left) / (x2 - x1), (bottom - top) / (y2 - y1)))
    assert shapes == set(SHAPES)
    assert 1 / 3 - 1e-6 <= min(heads) < max(heads) <= 1 / 1.4 + 1e-6
    assert np.mean([1 / 2.2 <= head <= 1 / 1.8 for head in heads]) > 0.5


def test_masks_of_training_crops_are_heads_boxes_and_parts_of_several_sizes():
    scene, shape = draw_scene(7), (36, 32)
    window = detailer_window(scene, 0, shape, np.random.default_rng(0))
    head = scene.mask(0, shape[::-1], window)
    box = np.zeros_like(head)
    rows, columns = head.nonzero()
    box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    whole = [
        {cv2.dilate(kind, np.ones((side, side))).tobytes() for side in (1, 3, 5, 7)}
        for kind in (head, box)
    ]
    masks = [painted(scene, 0, window, shape, np.random.default_rng(seed)) for seed in range(200)]
    heads, boxes = ([mask for mask in masks if mask.tobytes() in kinds] for kinds in whole)
    assert len({mask.tobytes() for mask in heads}) == len({mask.tobytes() for mask in boxes}) == 4
    assert len(boxes) / 200 == pytest.approx(BOXES, abs=0.08)
    parts = 200 - len(heads) - len(boxes)
    assert parts / (200 - len(boxes)) == pytest.approx(PARTS, abs=0.08)
    largest = cv2.dilate(head, np.ones((7, 7)))
    for mask in masks:
        assert mask.shape == shape
        assert mask.max() > 0
        if mask.tobytes() not in whole[1]:
            assert (mask <= largest).all()


def test_windows_hold_the_middle_of_the_head_and_stay_inside():
    random = np.random.default_rng(0)
    for seed in range(20):
        scene = draw_scene(seed)
        for index in range(len(scene.characters)):
            head_inside(scene, index, head_window(scene, index, random))
