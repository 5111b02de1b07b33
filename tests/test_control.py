"""ControlNets and IPAdapters of segments: their hints, their places, and their order."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detailers.core.detail.images import detail_image
from detailers.core.detail.video import detail_frames
from detailers.core.geometry import Box, Size
from detailers.core.pixels.resample import resize
from detailers.core.prompts.control import (
    ControlNet,
    SegmentControl,
    adapt_segs,
    control_segs,
    with_strength,
)
from detailers.core.prompts.control import without_control as cleared
from detailers.core.prompts.cut_conditioning import Cut
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeControl,
    FakeModel,
    FakeVAE,
    fake_models,
    make_detail,
    make_seg,
    noise_image,
    ramp_image,
)
from detailers.utils.notes import collected_notes

IMAGE = ramp_image(1, 30, 60)
REGION = (10, 5, 30, 15)
SEGS = ((30, 60), [make_seg(REGION)])
NET = ControlNet("net", 0.5, 0.1, 0.9)


class Attached:
    """Stands in for the host: marks the conditionings and keeps the hints."""

    def __init__(self):
        self.hints = []

    def __call__(self, control, positive, negative, hint):
        self.hints.append(hint)
        return [*positive, control], negative


def run(segs, image=IMAGE, **options):
    backend = FakeBackend()
    return detail_image(image, segs, make_detail(**options), backend), backend


# What a ControlNet sees


def test_the_hint_is_the_control_image_cut_to_the_segment():
    attached, picture = Attached(), noise_image(1, 30, 60)
    result, backend = run(control_segs(SEGS, NET, attached, picture))
    (hint,) = attached.hints
    assert torch.equal(hint, resize(picture[:, 5:15, 10:30], Size(32, 16)))
    (shown,) = result.control_images
    assert torch.equal(shown, hint)
    assert backend.runs[0].positive[-1] is NET
    assert torch.equal(result.image, run(SEGS)[0].image)  # this sampler heeds no conditioning


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_control_image_of_another_size_is_brought_to_the_images(channels):
    attached, picture = Attached(), noise_image(1, 15, 90, channels)
    run(control_segs(SEGS, NET, attached, picture))
    middle = picture[:, :, 30:60, :3]  # of the image's proportions
    fitted = resize(middle, Size(60, 30))[:, 5:15, 10:30]
    expected = resize(fitted, Size(32, 16)).expand(-1, -1, -1, 3)
    assert torch.allclose(attached.hints[0], expected, atol=1e-6)


def test_a_padded_crop_gets_a_padded_hint_that_does_not_shift():
    attached, picture = Attached(), noise_image(1, 30, 60)
    segs = ((30, 60), [make_seg((10, 5, 33, 15))])  # 23x10 becomes 36x16: 40x16 on a grid of 8
    models = fake_models(vae=FakeVAE(ratio=8))
    result, _ = run(control_segs(segs, NET, attached, picture), models=models)
    (hint,) = attached.hints
    part = resize(picture[:, 5:15, 10:33], Size(36, 16))
    assert tuple(hint.shape) == (1, 16, 40, 3)
    assert torch.equal(hint[:, :, :36], part)
    assert torch.equal(hint[:, :, 36:], part[:, :, -1:].expand(-1, -1, 4, -1))
    assert torch.equal(result.control_images[0], part)


def test_segs_that_were_scaled_or_clipped_since_see_the_right_place():
    attached, picture = Attached(), noise_image(1, 30, 60)
    segs = ((15, 30), [make_seg((-5, 2, 15, 7))])  # of an image half as large, over its left border
    run(control_segs(segs, NET, attached, picture))
    part = picture[:, 4:14, 0:30]
    assert torch.allclose(attached.hints[0], resize(part, Size(48, 16)), atol=1e-6)


def test_a_preprocessor_sees_crop_and_mask():
    attached, seen = Attached(), []

    def apply(image, mask=None):
        seen.append((tuple(image.shape), tuple(mask.shape)))
        return 1 - resize(image, Size(8, 4))[..., :1]

    segs = control_segs(SEGS, NET, attached, preprocessor=SimpleNamespace(apply=apply))
    run(segs)
    assert seen == [((1, 16, 32, 3), (1, 10, 20))]
    crop = resize(IMAGE[:, 5:15, 10:30], Size(32, 16))
    made = 1 - resize(crop, Size(8, 4))[..., :1]  # grey, and of another size
    expected = resize(made.expand(-1, -1, -1, 3), Size(32, 16))
    assert torch.allclose(attached.hints[0], expected, atol=1e-6)


def test_a_control_image_wins_over_a_preprocessor():
    attached, picture = Attached(), noise_image(1, 30, 60)
    run(control_segs(SEGS, NET, attached, picture, preprocessor=object()))
    assert torch.equal(attached.hints[0], resize(picture[:, 5:15, 10:30], Size(32, 16)))


def test_without_either_the_crop_itself_is_the_hint():
    attached = Attached()
    run(control_segs(SEGS, NET, attached))
    assert torch.equal(attached.hints[0], resize(IMAGE[:, 5:15, 10:30], Size(32, 16)))


def test_each_image_of_a_batch_has_its_control_image():
    attached, pictures = Attached(), noise_image(2, 30, 60)
    run(control_segs(SEGS, NET, attached, pictures), image=ramp_image(3, 30, 60))
    for hint, row in zip(attached.hints, (0, 1, 1), strict=True):
        expected = resize(pictures[row : row + 1, 5:15, 10:30], Size(32, 16))
        assert torch.allclose(hint, expected, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_frame_of_a_clip_has_its_control_image(count):
    attached, pictures = Attached(), noise_image(count, 30, 60)
    frames = ramp_image(3, 30, 60)
    segs = control_segs(SEGS, NET, attached, pictures)
    detail_frames(frames, segs, make_detail(), FakeBackend(), pasted=True)
    (hint,) = attached.hints
    rows = [min(i, count - 1) for i in range(3)]
    assert torch.allclose(hint, resize(pictures[rows, 5:15, 10:30], Size(32, 16)), atol=1e-6)


def test_a_clip_that_is_lengthened_for_its_vae_has_as_many_hints():
    attached, pictures = Attached(), noise_image(3, 30, 60)
    segs = control_segs(SEGS, NET, attached, pictures)
    models = fake_models(vae=FakeVAE(every=4))
    detail_frames(ramp_image(3, 30, 60), segs, make_detail(models), FakeBackend(), pasted=True)
    (hint,) = attached.hints
    expected = resize(pictures[[0, 1, 2, 2, 2], 5:15, 10:30], Size(32, 16))
    assert torch.allclose(hint, expected, atol=1e-6)


# Chains


def test_two_control_nets_work_one_after_another():
    first, second = Attached(), Attached()
    other = ControlNet("other", 1.0)
    segs = control_segs(SEGS, NET, first, noise_image(1, 30, 60))
    segs = control_segs(segs, other, second, noise_image(1, 30, 60, seed=1))
    result, backend = run(segs)
    assert backend.runs[0].positive[-2:] == [NET, other]
    assert len(result.control_images) == 2
    assert torch.equal(result.control_images[0], first.hints[0])
    assert torch.equal(result.control_images[1], second.hints[0])


def test_wrappers_of_other_packs_are_part_of_the_chain():
    def apply(positive, negative, image, mask=None):
        return [*positive, "theirs"], negative, None

    segs = ((30, 60), [make_seg(REGION, control=SimpleNamespace(apply=apply))])
    result, backend = run(control_segs(segs, NET, Attached()))
    assert backend.runs[0].positive[-2:] == ["theirs", NET]
    (shown,) = result.control_images
    assert torch.equal(shown, resize(IMAGE[:, 5:15, 10:30], Size(32, 16)))


def test_other_packs_detailers_may_use_ours():
    """They say neither where the crop is now nor which image it is of."""
    attached, picture = Attached(), noise_image(1, 30, 60)
    _, (seg,) = control_segs(SEGS, NET, attached, picture)
    wrapper = seg.control_net_wrapper
    crop = torch.zeros(1, 24, 40, 3)
    positive, negative, shown = wrapper.apply(["text"], "NegativePlaceholder", crop, None)
    assert (positive, negative) == (["text", NET], "NegativePlaceholder")
    assert torch.equal(shown[0], resize(picture[:, 5:15, 10:30], Size(40, 24)))
    assert wrapper.doit_ipadapter("model") == ("model", [])
    assert torch.equal(wrapper.control_image, picture[:, 5:15, 10:30])


def test_all_that_segments_carry_is_taken_off():
    segs = control_segs(
        ((30, 60), [make_seg(REGION, label="b"), make_seg(REGION)]), NET, Attached()
    )
    assert all(isinstance(seg.control_net_wrapper, SegmentControl) for seg in segs[1])
    shape, items = cleared(segs)
    assert shape == (30, 60)
    assert [(seg.label, seg.control_net_wrapper) for seg in items] == [("b", None), ("A", None)]


def test_segs_of_another_class_are_taken():
    class Other(tuple):
        cropped_image = None
        cropped_mask = np.ones((10, 20), np.float32)
        confidence, crop_region, bbox, label = 0.5, REGION, REGION, "x"

    attached = Attached()
    result, backend = run(control_segs(((30, 60), [Other()]), NET, attached))
    (hint,) = attached.hints
    assert torch.equal(hint, resize(IMAGE[:, 5:15, 10:30], Size(32, 16)))
    assert [run.positive[-1] for run in backend.runs] == [NET]
    (seg,) = result.segs[1]
    assert (seg.crop_region, seg.bbox, seg.label, seg.confidence) == (REGION, REGION, "x", 0.5)


def test_empty_segs_stay_empty():
    assert control_segs(((0, 0), []), NET, Attached(), IMAGE) == ((0, 0), [])
    assert adapt_segs(((0, 0), []), lambda model, image: model, IMAGE, 1.2) == ((0, 0), [])


# IPAdapter


def adapted(segs, reference, factor):
    seen = []

    def attach(model, image):
        seen.append(image)
        return FakeModel(f"{model.name}+adapter")

    return adapt_segs(segs, attach, reference, factor), seen


def test_an_ip_adapter_sees_the_reference_around_the_segment():
    reference = noise_image(1, 30, 60)
    segs, seen = adapted(SEGS, reference, 1.5)
    result, backend = run(segs)
    assert torch.equal(seen[0], reference[:, 2:17, 5:35])
    assert torch.equal(result.control_images[0], seen[0])
    assert backend.runs[0].model.name == "base+adapter"
    assert backend.runs[0].positive[0][1]["text"] == "positive"


def test_ip_adapter_and_control_net_of_one_segment():
    attached = Attached()
    references = [noise_image(1, 30, 60, seed=seed) for seed in (0, 1)]
    segs = control_segs(SEGS, NET, attached)
    for reference in references:
        segs, _ = adapted(segs, reference, 1.0)
    result, backend = run(segs)
    assert backend.runs[0].model.name == "base+adapter+adapter"
    assert backend.runs[0].positive[-1] is NET
    hint, *shown = result.control_images
    assert torch.equal(hint, resize(IMAGE[:, 5:15, 10:30], Size(32, 16)))
    for picture, reference in zip(shown, reversed(references), strict=True):  # the last comes first
        assert torch.equal(picture, reference[:, 5:15, 10:30])


def test_a_segment_outside_the_image_is_left_as_it_is():
    segs = ((30, 60), [make_seg((70, 5, 90, 15))])
    (_, (seg,)), _ = adapted(segs, noise_image(1, 30, 60), 1.2)
    assert seg.control_net_wrapper is None
    _, (seg,) = control_segs(segs, NET, Attached(), noise_image(1, 30, 60))
    assert seg.control_net_wrapper.control_image is None


def test_a_cut_wins_over_the_place_that_a_wrapper_was_made_for():
    attached, picture = Attached(), noise_image(1, 30, 60)
    _, (seg,) = control_segs(SEGS, NET, attached, picture)
    cut = Cut(Size(60, 30), Box(0, 0, 20, 10), Size(30, 16), Size(32, 16), 4)
    seg.control_net_wrapper.apply([], [], torch.zeros(1, 16, 32, 3), None, cut=cut)
    assert torch.equal(attached.hints[0][:, :, :30], resize(picture[:, :10, :20], Size(30, 16)))


# The strength that a segment plan sets


def test_the_strength_of_all_controlnets_in_conditionings():
    first, second = FakeControl(), FakeControl()
    first.strength, second.strength = 0.9, 0.2
    second.set_previous_controlnet(first)
    sides = [[["a", {"control": second, "x": 1}], ["b", {}]], [["c", {"control": second}]]]
    done = {}
    positive, negative = (with_strength(side, 0.5, done) for side in sides)
    own = positive[0][1]["control"]
    assert (own.strength, own.previous_controlnet.strength) == (0.5, 0.5)
    assert negative[0][1]["control"] is own
    assert positive[0][1]["x"] == 1
    assert positive[1] == ["b", {}]
    assert (second.strength, second.previous_controlnet.strength) == (0.2, 0.9)
    assert with_strength(sides[0], 0.0, {})[0] == ["a", {"x": 1}]
    assert with_strength("placeholder", 0.5, {}) == "placeholder"


def test_a_controlnet_without_a_strength_keeps_its_own():
    control = FakeControl()
    with collected_notes() as notes:
        assert with_strength([["a", {"control": control}]], 0.5, {})[0][1]["control"] is control
    assert ["FakeControl" in note.text for note in notes] == [True]


def test_a_wrapper_gets_a_strength_where_it_had_none():
    attached = Attached()
    segs = control_segs(SEGS, ControlNet("net", 0.0), attached)
    segs, _ = adapted(segs, noise_image(1, 30, 60), 1.0)
    _, (seg,) = control_segs(segs, ControlNet("other", 0.3), attached)
    wrapper = seg.control_net_wrapper.with_strength(0.7)
    chain = [wrapper, wrapper.previous.previous]
    assert [own.control.strength for own in chain] == [0.7, 0.7]
    assert [own.control.net for own in chain] == ["other", "net"]
    assert seg.control_net_wrapper.control.strength == 0.3
