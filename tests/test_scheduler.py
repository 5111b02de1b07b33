"""Segments side by side: which share a call of the sampler, and that the picture stays the same."""

import logging
import weakref

import pytest
import torch
from detailers.core.detail import images as detail_module
from detailers.core.detail.crop_pipeline import CropPipeline
from detailers.core.detail.images import detail_each, detail_image, detail_segs, detail_versions
from detailers.core.hook_protocol import DetailerHook
from detailers.core.sampling.scheduler import Encode, MemoryBudget, run_pipelines
from detailers.core.settings import NO_CROPS, Refiner, Retry
from detailers.tests.fake_backend import (
    FakeBackend,
    FakeModel,
    FakeVAE,
    Interrupted,
    fake_models,
    grain,
    make_detail,
    make_seg,
    noise_image,
)
from hypothesis import given, settings
from hypothesis import strategies as st

THREE = [(0, 0, 16, 16), (20, 0, 36, 16), (40, 0, 56, 16)]  # separate, each of 16x16
CHAIN = [(0, 20, 16, 36), (8, 20, 24, 36), (16, 20, 32, 36)]  # each overlaps the next


def detailed(regions, backend=None, image=None, **options):
    """Detail segments with these regions, in waves unless `batch` says so."""
    backend = backend or FakeBackend(grain)
    image = noise_image(1, 40, 60) if image is None else image
    segs = [make_seg(region) for region in regions]
    detail = make_detail(**{"batch": 0, **options})
    return detail_image(image, (image.shape[1:3], segs), detail, backend), backend


def same_as_alone(regions, image=None, backend=None, **options):
    """Detail in waves, after a check that the picture is the same as one by one."""
    alone, _ = detailed(regions, image=image, batch=1, **options)
    together, backend = detailed(regions, backend, image, **options)
    assert torch.allclose(together.image, alone.image, atol=1e-5)
    for name in ("cropped", "refined", "refined_alpha", "control_images"):
        pairs = zip(getattr(together, name), getattr(alone, name), strict=True)
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs)
    return backend


def rows(backend):
    """The number of rows of each call of the sampler."""
    return [len(run.latent) for run in backend.runs]


def seeds(backend):
    """The seeds of the rows of each call."""
    return [run.seeds or (run.seed,) for run in backend.runs]


# Who shares a call


def test_separate_segments_of_one_size_are_one_call():
    backend = same_as_alone(THREE)
    assert seeds(backend) == [(5, 6, 7)]
    assert [len(pixels) for pixels in backend.encoded] == [3]
    assert [shape[0] for shape in backend.decoded] == [3]


def test_a_vae_that_mixes_rows_works_on_each_crop_alone():
    class Mixing(FakeBackend):
        def mixes_rows(self, vae):
            return True

    backend = same_as_alone(THREE, backend=Mixing(grain))
    assert seeds(backend) == [(5, 6, 7)]
    assert [len(pixels) for pixels in backend.encoded] == [1, 1, 1]
    assert [shape[0] for shape in backend.decoded] == [1, 1, 1]


@pytest.mark.parametrize(("batch", "expected"), [(0, [5]), (1, [1] * 5), (2, [2, 2, 1])])
def test_the_widget_limits_the_rows(batch, expected):
    regions = [(12 * i, 0, 12 * i + 10, 10) for i in range(5)]
    _, backend = detailed(regions, batch=batch)
    assert rows(backend) == expected


def test_sixteen_are_held_at_once_unless_more_are_asked_for():
    regions = [(x, y, x + 5, y + 5) for y in range(0, 40, 10) for x in range(0, 50, 10)]
    assert rows(detailed(regions)[1]) == [16, 4]
    assert rows(detailed(regions, batch=20)[1]) == [20]


def test_overlapping_chains_make_as_many_calls_as_they_are_long():
    other = [(x1 + 34, y1, x2 + 34, y2) for x1, y1, x2, y2 in CHAIN[:2]]
    backend = same_as_alone([*THREE, *CHAIN, *other])
    assert rows(backend) == [5, 2, 1]
    assert seeds(backend) == [(5, 6, 7, 8, 11), (9, 12), (10,)]


def test_a_later_segment_sees_what_an_earlier_one_pasted():
    backend = same_as_alone(CHAIN)
    first, second = backend.encoded[0], backend.encoded[1]
    image = noise_image(1, 40, 60)
    assert not torch.allclose(second[:, :, :4], first[:, :, -4:])
    assert not torch.allclose(second, image[:, 20:36, 8:24])


def test_two_sizes_are_two_calls():
    mixed = [(0, 0, 16, 16), (20, 0, 36, 24), (40, 0, 56, 16), (20, 26, 36, 40)]
    backend = same_as_alone(mixed)
    assert seeds(backend) == [(5, 7), (6,), (8,)]


def test_sizes_that_are_padded_to_one_share_a_call():
    uneven = [(0, 0, 16, 17), (20, 0, 36, 20), (40, 0, 53, 18), (0, 20, 16, 36)]
    backend = same_as_alone(uneven, guide_size=1)  # each keeps its size
    assert seeds(backend) == [(5, 6, 7), (8,)]
    assert backend.encoded[0].shape == (3, 20, 16, 3)


def test_what_must_be_alone_is_alone():
    assert rows(same_as_alone(THREE, sampler_name="whole batch")) == [1, 1, 1]


squares = st.tuples(st.integers(0, 44), st.integers(0, 24), st.sampled_from([8, 12, 16]))


@given(st.lists(squares, min_size=1, max_size=7))
@settings(max_examples=25, deadline=None)
def test_any_segments_give_the_picture_of_one_by_one(places):
    same_as_alone([(x, y, x + side, y + side) for x, y, side in places], feather=2)


@pytest.mark.parametrize("every", [None, 4])
def test_latents_with_and_without_a_time_axis(every):
    backend = same_as_alone(THREE, models=fake_models(FakeVAE(4, every)))
    assert rows(backend) == [3]
    assert backend.runs[0].latent.ndim == (4 if every is None else 5)


def test_tiled_coding_stays_tiled():
    backend = same_as_alone(THREE, encode=True, decode=True)
    assert backend.tiled == [("encode", True), ("decode", True)]


# Images and versions


def test_segments_of_all_images_of_a_batch_meet():
    image = noise_image(8, 40, 60)
    backend = same_as_alone(THREE, image=image)
    assert rows(backend) == [16, 8]
    assert seeds(backend)[0][:6] == (5, 6, 7, 5, 6, 7)


def test_each_image_of_a_batch_gets_what_it_gets_alone():
    image = noise_image(3, 40, 60)
    batch, _ = detailed([*THREE, *CHAIN], image=image)
    for index in range(3):
        single, _ = detailed([*THREE, *CHAIN], image=image[index : index + 1])
        assert torch.allclose(batch.image[index], single.image[0], atol=1e-5)


def segs_detailed(batch, regions, **options):
    backend, image = FakeBackend(grain), noise_image(1, 40, 60)
    segs = [make_seg(region) for region in regions]
    detail = make_detail(batch=batch)
    result = detail_segs(image, ((40, 60), segs), detail, backend, **options)
    return [torch.as_tensor(seg.cropped_image) for seg in result.segs[1]], backend


def test_a_segs_detailer_samples_all_versions_together():
    alone, single = segs_detailed(1, THREE, batch_size=2)
    together, backend = segs_detailed(0, THREE, batch_size=2)
    assert rows(single) == [1] * 6
    assert seeds(backend) == [(6, 6, 6, 7, 7, 7)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(together, alone, strict=True))


def test_versions_of_a_batch_meet_and_follow_one_another():
    """Version v is the picture of the seed + v, and its images keep their own places."""
    image = noise_image(2, 40, 60)
    segs = [((40, 60), [make_seg(THREE[0])]), ((40, 60), [make_seg(region) for region in CHAIN])]
    backend = FakeBackend(grain)
    together = detail_versions(image, segs, make_detail(batch=0), backend, 2)
    assert rows(backend) == [4, 2, 2]
    single = [
        detail_each(image, segs, make_detail(batch=1, seed=5 + version), FakeBackend(grain))
        for version in range(2)
    ]
    expected = torch.cat([version.image for version in single])
    assert torch.allclose(together.image, expected, atol=1e-5)
    refined = [pixels for version in single for pixels in version.refined]
    assert all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(together.refined, refined, strict=True)
    )
    assert len(together.segs[1]) == len(together.cropped) == 8


def test_a_version_has_the_row_of_its_image(monkeypatch):
    seen = []
    pipeline = CropPipeline.pipeline
    monkeypatch.setattr(
        CropPipeline, "pipeline", lambda own: seen.append(own.crop.row) or pipeline(own)
    )
    segs = ((40, 60), [make_seg(THREE[0])])
    image = noise_image(2, 40, 60)
    detail_versions(image, [segs, segs], make_detail(batch=0), FakeBackend(grain), 2)
    assert seen == [0, 1, 0, 1]


def test_a_segs_detailer_gathers_sizes_and_keeps_the_order_of_the_segments():
    mixed = [(0, 0, 16, 16), (20, 0, 36, 24), *CHAIN]  # overlapping or not: nothing is pasted
    alone, _ = segs_detailed(1, mixed)
    together, backend = segs_detailed(0, mixed)
    assert rows(backend) == [4, 1]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(together, alone, strict=True))


# Hooks, retries, cycles, refiner


class Notes(DetailerHook):
    """Writes down the size of what it sees."""

    def __init__(self):
        self.seen = []

    def post_encode(self, latent):
        self.seen.append(("encoded", tuple(latent["samples"].shape)))
        return {**latent, "samples": latent["samples"] + 0.01 * len(latent["samples"])}

    def post_decode(self, pixels):
        self.seen.append(("decoded", tuple(pixels.shape)))
        return pixels


def test_hooks_see_one_segment_at_a_time_as_ever():
    hook = Notes()
    assert rows(detailed(THREE, hook=hook)[1]) == [3]
    assert hook.seen == [("encoded", (1, 48, 4, 4))] * 3 + [("decoded", (1, 16, 16, 3))] * 3
    same_as_alone(THREE, hook=Notes())


class Foreign:
    """A hook of another pack, which knows nothing of batches."""

    def post_encode(self, latent):
        return latent


class Remembers(Notes):
    shares_batches = False


@pytest.mark.parametrize("hook", [Foreign, Remembers])
def test_hooks_that_do_not_share_get_one_segment_after_the_other(hook):
    hook = hook()
    _, backend = detailed(THREE, hook=hook)
    assert rows(backend) == [1, 1, 1]
    if isinstance(hook, Notes):
        assert [kind for kind, _ in hook.seen] == ["encoded", "decoded"] * 3


class Rejects(DetailerHook):
    """A hook that rejects the results of some seeds; it sees the seed in the noise."""

    def __init__(self, *seeds):
        self.bad, self.seed = seeds, {}

    def get_custom_noise(self, seed, noise, is_touched):
        return torch.full_like(noise, seed), True

    def should_retry_patch(self, patch):
        return round(patch.mean().item() * 50) in self.bad


def seed_as_colour(run):
    """A picture of one colour: the noise over 50."""
    return run.noise.to(run.latent) / 50


def test_only_what_went_wrong_is_made_again():
    pictures = []
    for batch in (1, 0):
        backend = FakeBackend(seed_as_colour)
        hook = Rejects(6)
        result, _ = detailed(THREE, backend, hook=hook, batch=batch)
        pictures.append(result.image)
    assert torch.equal(*pictures)
    assert seeds(backend) == [(5, 6, 7), (7,)]
    assert backend.bars[0].done == sorted(backend.bars[0].done)


def test_what_stays_bad_keeps_its_pixels():
    image = noise_image(1, 40, 60)
    backend = FakeBackend(seed_as_colour)
    options = {"hook": Rejects(6, 7, 8), "retry": Retry(times=2)}
    result, _ = detailed(THREE, backend, image, **options)
    assert seeds(backend) == [(5, 6, 7), (7, 8), (8, 9)]
    # Segment 1 was tried with 6, 7 and 8, segment 2 came out well with 9.
    assert torch.equal(result.image[:, :16, 20:36], image[:, :16, 20:36])
    assert torch.allclose(result.image[:, :16, 40:56], torch.tensor(9 / 50))
    assert len(result.refined) == 2


def test_cycles_of_all_segments_meet():
    backend = same_as_alone(THREE, cycle=3)
    assert seeds(backend) == [(5, 6, 7), (6, 7, 8), (7, 8, 9)]


def test_refiners_meet_too():
    refiner = Refiner(fake_models(model=FakeModel("refiner")), 0.5)
    backend = same_as_alone(THREE, refiner=refiner)
    assert [(run.model.name, len(run.latent)) for run in backend.runs] == [
        ("base", 3), ("refiner", 3),
    ]  # fmt: skip


# Texts


def test_a_text_is_encoded_once_and_a_lora_read_once():
    regions = [(12 * i, 0, 12 * i + 10, 10) for i in range(4)]
    text = "red <lora:ink> [SEP] blue sky"
    backend = same_as_alone(regions, text=text, image=noise_image(2, 40, 60))
    assert sorted(text for _, text in backend.texts) == ["blue sky", "red"]
    assert backend.loras == [("ink",)]
    assert [(run.model.loras, len(run.latent)) for run in backend.runs] == [
        (("ink",), 4), ((), 4),
    ]  # fmt: skip


class PlainTexts(FakeBackend):
    """Encodes texts without keeping them."""

    def encode_text(self, clip, text):
        return [[super().encode_text(clip, text)[0][0], {}]]


def test_texts_of_several_lengths_share_a_call():
    texts = "red [SEP] a blue sky [SEP] two words"
    _, backend = detailed(THREE, PlainTexts(grain), text=texts)
    (run,) = backend.runs
    assert run.positive[0][0].shape == (3, 6, 2)
    assert run.positive[0][0][1, :, 0].tolist() == [1, 4, 3] * 2


# Memory


FIVE = [(12 * i, 0, 12 * i + 10, 10) for i in range(5)]
UNDER = [(12 * i, 8, 12 * i + 10, 18) for i in range(5)]  # each overlaps the one above


@pytest.mark.parametrize(
    ("held", "expected", "freed"), [(5, [5], 0), (2, [2, 2, 1], 2), (1, [1] * 5, 3)]
)
def test_memory_that_runs_out_changes_no_picture(held, expected, freed):
    whole, _ = detailed(FIVE, batch=1)
    result, backend = detailed(FIVE, FakeBackend(grain, rows=held))
    assert torch.allclose(result.image, whole.image, atol=1e-5)
    assert rows(backend) == expected
    assert backend.freed == freed
    assert backend.bars[0].done == sorted(backend.bars[0].done)
    assert backend.bars[0].done[-1] == backend.bars[0].total == 5 * 4


def test_the_smaller_number_is_kept_through_the_run(caplog):
    with caplog.at_level(logging.WARNING):
        _, backend = detailed([*FIVE, *UNDER], FakeBackend(grain, rows=2), cycle=2)
    assert rows(backend) == [2, 2, 1] * 4
    assert caplog.messages == [
        "Out of memory: 5 crops cannot be sampled at once. They are now sampled 3 at a time.",
        "Out of memory: 3 crops cannot be sampled at once. They are now sampled 2 at a time.",
    ]


def test_what_was_kept_for_a_size_tells_how_many_of_another_to_try():
    small = [(10 * i, 24, 10 * i + 8, 32) for i in range(6)]  # a quarter of the area
    _, backend = detailed([*FIVE[:4], *small], FakeBackend(grain, rows=2), guide_size=1)
    assert rows(backend) == [2, 2, 2, 2, 2]
    assert backend.freed == 2


class Tightens(FakeBackend):
    """Memory shrinks after the first call."""

    def sample(self, run, on_step):
        samples = super().sample(run, on_step)
        self.rows = 1
        return samples


def test_what_is_done_stays_done():
    whole, _ = detailed(FIVE, batch=1)
    result, backend = detailed(FIVE, Tightens(grain, rows=3))
    assert seeds(backend) == [(5, 6, 7), (8,), (9,)]
    assert torch.allclose(result.image, whole.image, atol=1e-5)


class SmallVAE(FakeBackend):
    """Encodes and decodes two at a time."""

    def encode(self, vae, pixels, *, tiled, video):
        if len(pixels) > 2:
            raise MemoryError
        return super().encode(vae, pixels, tiled=tiled, video=video)

    def decode(self, vae, latent, *, tiled):
        if len(latent) > 2:
            raise MemoryError
        return super().decode(vae, latent, tiled=tiled)


def test_a_vae_that_runs_out_of_memory_gets_fewer(caplog):
    whole, _ = detailed(FIVE, batch=1)
    result, backend = detailed([*FIVE, *UNDER], SmallVAE(grain))
    assert rows(backend) == [5, 5]
    assert [len(pixels) for pixels in backend.encoded] == [2, 2, 1] * 2
    assert [shape[0] for shape in backend.decoded] == [2, 2, 1] * 2
    told = "Out of memory: 5 crops cannot be decoded at once. They are now decoded 3 at a time."
    assert told in caplog.messages
    assert torch.allclose(result.image[:, :8], whole.image[:, :8], atol=1e-5)


class Forgetful(MemoryBudget):
    """A memory budget that always allows everything at once."""

    def keep_to(self, kind, values):
        pass


def test_less_is_tried_each_time_whatever_is_remembered():
    vae = FakeVAE(4)

    def pipeline():
        return (yield Encode(vae, torch.zeros(1, 4, 4, 3), False, False))

    backend = SmallVAE()
    assert len(run_pipelines([pipeline() for _ in range(9)], backend, Forgetful())) == 9
    assert [len(pixels) for pixels in backend.encoded] == [2, 2, 2, 2, 1]
    assert backend.freed == 3  # nine, five and three at once


def test_one_segment_that_does_not_fit_is_an_error():
    with pytest.raises(MemoryError):
        detailed(FIVE, FakeBackend(grain, rows=0))


def test_other_errors_are_not_taken_for_memory():
    def broken(run):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        detailed(FIVE, FakeBackend(broken))


def test_room_counts_values():
    budget = MemoryBudget()
    assert budget.holds(Encode, 100, 8) == 8
    budget.keep_to(Encode, 400)
    assert [budget.holds(Encode, values, 8) for values in (100, 40, 150, 4000)] == [4, 8, 2, 1]


# A few pixels at a time


class Narrow(FakeBackend):
    """Records the order of calls, and which pixels are still in memory."""

    def __init__(self, pixels, draw=grain):
        super().__init__(draw, pixels=pixels)
        self.calls, self.alive = [], []
        self._given = []

    def encode(self, vae, pixels, **options):
        self._given.append(weakref.ref(pixels))
        latent = super().encode(vae, pixels, **options)
        self.encoded.clear()
        self.calls.append(f"encode {len(pixels)}")
        return latent

    def sample(self, run, on_step):
        self.calls.append(f"sample {len(run.latent)}")
        self.alive = [ref() is not None for ref in self._given]
        return super().sample(run, on_step)

    def decode(self, vae, latent, **options):
        self.calls.append(f"decode {len(latent)}")
        return super().decode(vae, latent, **options)


@pytest.mark.parametrize(
    ("pixels", "few"), [(1, [1] * 5), (24 * 24, [1] * 5), (2 * 24 * 24, [2, 2, 1]), (2**20, [5])]
)
def test_all_meet_at_the_sampler_and_pixels_go_a_few_at_a_time(pixels, few):
    expected, _ = detailed(FIVE, batch=1, guide_size=24)
    backend = Narrow(pixels)
    found, _ = detailed(FIVE, backend, guide_size=24)
    assert backend.calls == [
        *(f"encode {count}" for count in few), "sample 5", *(f"decode {count}" for count in few)
    ]  # fmt: skip
    assert not any(backend.alive)  # no enlarged crop waits for the sampler
    assert torch.allclose(found.image, expected.image, atol=1e-5)


def test_each_is_pasted_once_it_is_decoded(monkeypatch):
    backend = Narrow(1)
    paste = detail_module._paste_in_place
    monkeypatch.setattr(
        detail_module, "_paste_in_place",
        lambda *args: backend.calls.append("paste") or paste(*args),
    )  # fmt: skip
    detailed(THREE, backend)
    assert backend.calls[3:] == ["sample 3", *["decode 1", "paste"] * 3]


def test_a_hook_that_changes_the_image_sees_all_results_made_before():
    class Hook(DetailerHook):
        shares_batches = True

        def post_paste(self, image):
            backend.calls.append("paste")
            return image

    backend = Narrow(1)
    detailed(THREE, backend, hook=Hook())
    assert backend.calls[3:] == ["sample 3", *["decode 1"] * 3, *["paste"] * 3]


def test_a_hook_that_changes_its_pixels_in_place_changes_no_others():
    class Hook(DetailerHook):
        shares_batches = True

        def post_upscale(self, pixels, mask):
            return pixels.fill_(0.25)

    image = noise_image(1, 40, 60)
    masks = [torch.zeros(16, 16).numpy() for _ in THREE]
    for mask in masks:
        mask[4:12, 4:12] = 1
    segs = [make_seg(box, mask=mask) for box, mask in zip(THREE, masks, strict=True)]
    detail = make_detail(batch=0, guide_size=16, hook=Hook())
    found = detail_image(image, ((40, 60), segs), detail, FakeBackend()).image
    assert torch.equal(found[:, :4], image[:, :4])
    assert torch.allclose(found[:, 5:11, 5:11], torch.tensor(0.25))


def test_a_crop_is_no_copy_unless_it_is_given_back(monkeypatch):
    crops = []
    pipeline = CropPipeline.pipeline
    monkeypatch.setattr(
        CropPipeline, "pipeline", lambda own: crops.append(own.crop) or pipeline(own)
    )
    detailed(THREE, kept=NO_CROPS)
    first = crops[0].pixels.untyped_storage().data_ptr()
    assert all(own.pixels.untyped_storage().data_ptr() == first for own in crops)
    crops.clear()
    detailed(THREE)
    assert len({own.pixels.untyped_storage().data_ptr() for own in crops}) == 3


# Bar, previews, interrupt


def test_the_bar_never_goes_back_and_ends_full():
    _, backend = detailed([*THREE, *CHAIN], cycle=2)
    (bar,) = backend.bars
    assert bar.done == sorted(bar.done)
    assert bar.done[-1] == bar.total == 6 * 2 * 4


def test_one_row_of_a_batch_is_shown():
    shown = []

    class Shows(FakeBackend):
        def progress(self, total):
            return lambda done, model, latent: shown.append(None if latent is None else len(latent))

    detailed(THREE, Shows(grain), steps=2)
    assert shown[:6] == [None, None, 1] * 2


def test_an_interrupt_pastes_nothing_of_the_batch():
    backend = FakeBackend(grain, stop_after=2)
    image = noise_image(1, 40, 60)
    before = image.clone()
    with pytest.raises(Interrupted):
        detailed(THREE, backend, image)
    assert torch.equal(image, before)
    assert backend.decoded == []


# Pipelines


def test_roads_may_ask_for_nothing_and_end_in_their_own_time():
    vae = FakeVAE()

    def pipeline(requests, result):
        for _ in range(requests):
            latent = yield Encode(vae, torch.zeros(1, 4, 4, 3), False, False)
            assert latent.shape == (1, 48, 1, 1)
        return result

    backend = FakeBackend()
    assert run_pipelines([pipeline(2, "a"), pipeline(0, "b"), pipeline(3, "c")], backend) == [
        "a",
        "b",
        "c",
    ]
    assert [len(pixels) for pixels in backend.encoded] == [2, 2, 1]
    assert run_pipelines([], backend) == []


def test_all_roads_are_closed_when_one_fails():
    closed = []

    def pipeline(name, fails):
        try:
            yield Encode(FakeVAE(), torch.zeros(1, 4, 4, 3), False, False)
            if fails:
                raise ValueError(name)
            yield Encode(FakeVAE(), torch.zeros(1, 4, 4, 3), False, False)
        finally:
            closed.append(name)

    with pytest.raises(ValueError, match="b"):
        run_pipelines(
            [pipeline("a", False), pipeline("b", True), pipeline("c", False)], FakeBackend()
        )
    assert sorted(closed) == ["a", "b", "c"]


def test_clips_are_never_put_together():
    vae = FakeVAE(4, 4)

    def pipeline():
        return (yield Encode(vae, torch.zeros(5, 4, 4, 3), False, True))

    backend = FakeBackend()
    assert [len(latent) for latent in run_pipelines([pipeline(), pipeline()], backend)] == [1, 1]
    assert [len(pixels) for pixels in backend.encoded] == [5, 5]


# The grid of sizes


def test_a_size_grid_brings_more_segments_into_one_call():
    uneven = [(0, 0, 16, 16), (20, 0, 36, 17), (40, 0, 56, 22)]
    assert rows(detailed(uneven)[1]) == [1, 1, 1]
    backend = same_as_alone(uneven, grid=8, max_size=64)
    assert rows(backend) == [1, 2]
    assert [tuple(pixels.shape[1:3]) for pixels in backend.encoded] == [(16, 16), (24, 16)]
