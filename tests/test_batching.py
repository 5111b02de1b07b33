"""The sampler runs that become rows of one run, and that run."""

import logging

import pytest
import torch
from detailers.core.backend import SamplerRun
from detailers.core.sampling.batching import joined, mergeable_groups
from detailers.tests.fake_backend import FakeBackend, FakeControl, FakeModel

MODEL = FakeModel()
SIGMAS = torch.tensor([3.0, 2.0, 1.0, 0.0])


class Backend(FakeBackend):
    """With ControlNets that can be joined by their strength, and limits for a test to set."""

    def __init__(self, repeats=True, fitting=99):
        super().__init__()
        self.repeats, self.fitting = repeats, fitting

    def repeats_texts(self, model):
        return self.repeats

    def rows_that_fit(self, run, rows):
        return min(rows, self.fitting)

    def control_signature(self, control):
        return getattr(control, "strength", None)

    def join_controls(self, controls, latent):
        return FakeControl(torch.cat([control.cond_hint_original for control in controls]))


def text(tokens=2, value=1.0, **options):
    """A conditioning of one entry with so many tokens [1,tokens,3], which count up from `value`."""
    embedding = value + torch.arange(tokens).view(1, -1, 1).expand(1, -1, 3)
    return [[embedding, options]]


def run(positive=None, negative=None, seed=5, size=(4, 6), **options):
    """A run on a latent [1,2,*size] that is full of its seed."""
    latent = torch.full((1, 2, *size), float(seed))
    values = {
        "model": MODEL, "cfg": 2.0, "sampler_name": "euler", "sigmas": SIGMAS, "schedule": SIGMAS,
        "noise": torch.zeros_like(options.get("latent", latent)), "latent": latent, **options,
    }  # fmt: skip
    return SamplerRun(
        positive=text() if positive is None else positive,
        negative=text() if negative is None else negative,
        seed=seed,
        **values,
    )


def together(*runs, backend=None):
    return mergeable_groups(runs, backend or Backend()) == [list(range(len(runs)))]


# Runs that may become rows


def test_equal_runs_are_one_group_whatever_their_seeds_and_texts():
    assert together(run(text(2, 1.0)), run(text(2, 7.0), seed=9), run(text(4)))


def test_one_run_is_a_group():
    assert mergeable_groups([run()], Backend()) == [[0]]
    assert mergeable_groups([], Backend()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"model": FakeModel("other")},
        {"cfg": 3.0},
        {"sampler_name": "heun"},
        {"sampler": object()},
        {"sigmas": SIGMAS[1:]},
        {"schedule": torch.tensor([9.0, 3.0, 2.0, 1.0, 0.0])},
        {"size": (6, 4)},
        {"noise_mask": torch.ones(1, 4, 6)},
        {"latent": torch.zeros(2, 2, 4, 6)},
        {"latent": torch.zeros(1, 2, 4, 6, dtype=torch.float64)},
        {"latent": torch.zeros(1, 2, 1, 4, 6)},
        {"negative": "NegativePlaceholder"},
        {"positive": text() + text()},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_differs_for_the_sampler_is_another_group(other):
    assert mergeable_groups([run(), run(**other), run()], Backend()) == [[0, 2], [1]]


def test_what_the_backend_wants_alone_is_alone():
    runs = [run(sampler_name="whole batch"), run(), run(sampler_name="whole batch"), run()]
    assert mergeable_groups(runs, Backend()) == [[0], [1, 3], [2]]


def test_no_group_is_larger_than_memory_holds():
    groups = mergeable_groups([run() for _ in range(7)], Backend(fitting=3))
    assert groups == [[0, 1, 2], [3, 4, 5], [6]]


def test_without_a_negative():
    assert together(run(negative="NegativePlaceholder"), run(negative="NegativePlaceholder"))


OPTIONS = [
    ({"guidance": 3.5}, {"guidance": 3.5}, True),
    ({"guidance": 3.5}, {"guidance": 4.0}, False),
    ({"guidance": 3.5}, {}, False),
    ({"area": (4, 4, 0, 0)}, {"area": (4, 4, 0, 0)}, True),
    ({"area": (4, 4, 0, 0)}, {"area": (4, 4, 0, 2)}, False),
    ({"start_percent": 0.0, "end_percent": 0.5}, {"start_percent": 0.0, "end_percent": 1.0}, False),
    ({"pooled_output": torch.zeros(1, 5)}, {"pooled_output": torch.ones(1, 5)}, True),
    ({"pooled_output": torch.zeros(1, 5)}, {"pooled_output": torch.ones(1, 6)}, False),
    ({"pooled_output": torch.zeros(1, 5)}, {"pooled_output": None}, False),
    ({"pooled_output": torch.zeros(2, 5)}, {"pooled_output": torch.ones(2, 5)}, False),
    ({"mask": torch.ones(1, 8, 9)}, {"mask": torch.ones(1, 5, 7)}, True),
    ({"mask": torch.ones(2, 8, 9)}, {"mask": torch.ones(2, 8, 9)}, False),
    ({"mask": torch.ones(1, 8, 9), "mask_strength": 1.0},
     {"mask": torch.ones(1, 8, 9), "mask_strength": 0.5}, False),
    ({"mask": torch.ones(1, 8, 9), "set_area_to_bounds": True},
     {"mask": torch.ones(1, 8, 9), "set_area_to_bounds": True}, False),
    ({"concat_latent_image": torch.zeros(1, 2, 4, 6)},
     {"concat_latent_image": torch.ones(1, 2, 4, 6)}, True),
    ({"reference_latents": [torch.zeros(1, 2), torch.zeros(1, 3)]},
     {"reference_latents": [torch.ones(1, 2), torch.ones(1, 3)]}, True),
    ({"reference_latents": [torch.zeros(1, 2), torch.zeros(1, 3)]},
     {"reference_latents": [torch.ones(1, 2)]}, False),
    ({"reference_latents": [torch.zeros(1, 2)]}, {"reference_latents": [torch.ones(1, 3)]}, False),
    ({"reference_latents": [torch.zeros(2, 2)]}, {"reference_latents": [torch.ones(2, 2)]}, False),
    ({"reference_latents": [object()]}, {"reference_latents": [object()]}, False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "share"), OPTIONS)
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_options_of_a_conditioning(first, second, share, side):
    runs = run(**{side: text(**first)}), run(**{side: text(**second)})
    assert together(*runs) is share
    assert together(*runs[::-1]) is share


def test_an_object_that_both_have_may_stay_where_it_is_known_to_hold_for_all():
    thing = object()
    assert together(run(text(hooks=thing)), run(text(hooks=thing)))
    assert not together(run(text(hooks=thing)), run(text(hooks=object())))
    assert not together(run(text(gligen=thing)), run(text(gligen=thing)))


@pytest.mark.parametrize("value", [1, "text", (1, 2), torch.ones(1, 3), None])
def test_an_entry_that_is_not_known_is_alone_unless_it_is_empty(value):
    assert together(run(text(new=value)), run(text(new=value))) is (value is None)


def test_rows_have_one_kind_of_numbers():
    half = [[text()[0][0].half(), {}]]
    assert mergeable_groups([run(), run(half), run(), run(half)], Backend()) == [[0, 2], [1, 3]]
    pooled = [
        text(pooled_output=torch.ones(1, 5, dtype=kind)) for kind in (torch.half, torch.float)
    ]
    assert not together(run(pooled[0]), run(pooled[1]))
    meta = [[text()[0][0].to("meta"), {}]]
    assert not together(run(meta), run())
    masks = [torch.ones(1, 4, 6, dtype=kind) for kind in (torch.half, torch.float)]
    assert not together(run(noise_mask=masks[0]), run(noise_mask=masks[1]))


def test_the_log_says_why_a_run_is_alone(caplog):
    caplog.set_level(logging.DEBUG, "detailers.core.sampling.batching")
    mergeable_groups(
        [run(), run(sampler_name="whole batch"), run(text(new=1)), run([[None, {}]])], Backend()
    )
    assert [record.getMessage() for record in caplog.records] == [
        "segment 2 of 4 is sampled alone: it looks at the whole batch",
        "segment 3 of 4 is sampled alone: its conditioning has 'new', which cannot be a row",
        "segment 4 of 4 is sampled alone: its conditioning has an embedding that is not one row",
    ]
    caplog.clear()
    mergeable_groups([run(text(new=1))], Backend())  # nothing to share with
    assert not caplog.records


def test_embeddings_that_are_rows_already_or_none_stay_alone():
    assert not together(run([[torch.zeros(2, 3, 4), {}]]), run([[torch.zeros(2, 3, 4), {}]]))
    assert not together(run([[None, {}]]), run([[None, {}]]))


# Lengths of texts


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ((77, 154, 77), [[0, 1, 2]]),
        ((2, 3, 4), [[0, 1, 2]]),  # 12 tokens: three times the longest
        ((5, 7, 5), [[0, 2], [1]]),  # 35 would be five times the longest
        ((5, 7, 10, 14), [[0, 2], [1, 3]]),
        ((77, 77 * 2, 77 * 3, 77 * 4), [[0, 1, 2, 3]]),
    ],
)
def test_lengths_that_have_a_common_multiple_in_reach_share(lengths, groups):
    assert mergeable_groups([run(text(length)) for length in lengths], Backend()) == groups
    assert mergeable_groups([run(None, text(length)) for length in lengths], Backend()) == groups


def test_only_equal_lengths_share_where_repeating_would_change_the_result():
    runs = [run(text(length)) for length in (77, 154, 77)]
    assert mergeable_groups(runs, Backend(repeats=False)) == [[0, 2], [1]]
    masked = [run(text(length, attention_mask=torch.ones(1, length))) for length in (3, 6, 3)]
    assert mergeable_groups(masked, Backend()) == [[0, 2], [1]]


def test_texts_are_repeated_whole_to_their_common_length():
    rows = joined([run(text(2)), run(text(3, 5.0))], Backend()).positive[0][0]
    assert rows[..., 0].tolist() == [[1, 2, 1, 2, 1, 2], [5, 6, 7, 5, 6, 7]]
    assert rows.shape == (2, 6, 3)


# The one run


def test_every_row_has_its_own_seed_latent_noise_and_text():
    runs = [run(text(2, seed), seed=seed, noise=torch.full((1, 2, 4, 6), seed)) for seed in (5, 9)]
    one = joined(runs, Backend())
    assert one.seeds == (5, 9)
    assert one.latent[:, 0, 0, 0].tolist() == [5, 9]
    assert one.noise[:, 0, 0, 0].tolist() == [5, 9]
    assert one.positive[0][0][:, 0, 0].tolist() == [5, 9]
    assert one.negative[0][0].shape == (2, 2, 3)
    assert (one.model, one.cfg, one.sampler_name) == (MODEL, 2.0, "euler")
    assert len(runs[0].latent) == 1  # what came in stays as it was


def test_parts_of_whole_runs_share_where_they_are_the_same_part():
    def part(seed, **changed):
        start = torch.full((1, 2, 4, 6), seed + 0.5)
        values = {"sigmas": SIGMAS[1:], "start": start, "whole": SIGMAS, "number": 1}
        return run(seed=seed, **values | changed)

    assert together(part(5), part(9))
    others = [{"start": None}, {"whole": SIGMAS[1:]}, {"whole": None}, {"number": 2}]
    for other in [*others, {"is_hard": True}]:
        assert not together(part(5), part(9, **other))
    one = joined([part(5), part(9)], Backend())
    assert one.start[:, 0, 0, 0].tolist() == [5.5, 9.5]
    assert one.latent[:, 0, 0, 0].tolist() == [5, 9]


def test_entries_stay_in_order_and_their_options_become_rows():
    def two(value):
        pooled = torch.full((1, 4), value)
        return text(2, value, pooled_output=pooled, guidance=2.5) + text(
            3, value + 10, strength=0.5
        )

    first, second = joined([run(two(1.0)), run(two(3.0))], Backend()).positive
    assert first[1]["pooled_output"][:, 0].tolist() == [1, 3]
    assert first[1]["guidance"] == 2.5
    assert (second[0][:, 0, 0].tolist(), second[1]) == ([11, 13], {"strength": 0.5})


def test_lists_of_an_entry_become_rows_place_by_place():
    def two(value):
        return text(reference_latents=[torch.full((1, 2), value), torch.full((1, 3), -value)])

    one = joined([run(two(1.0)), run(two(4.0))], Backend()).positive[0][1]["reference_latents"]
    assert [reference.tolist() for reference in one] == [
        [[1, 1], [4, 4]],
        [[-1, -1, -1], [-4, -4, -4]],
    ]


def test_noise_masks_of_any_size_are_rows_in_the_latents_size():
    small, large = torch.ones(1, 2, 3), torch.zeros(1, 64, 96)
    one = joined([run(noise_mask=small), run(noise_mask=large)], Backend())
    assert one.noise_mask.shape == (2, 4, 6)
    assert one.noise_mask.mean((1, 2)).tolist() == [1, 0]


def test_noise_masks_of_latents_with_time():
    latent = torch.zeros(1, 2, 1, 4, 6)
    runs = [run(latent=latent, noise_mask=torch.full((1, 8, 12), value)) for value in (0.0, 1.0)]
    assert together(*runs)
    assert joined(runs, Backend()).noise_mask.shape == (2, 1, 1, 4, 6)


def test_masks_of_a_conditioning_are_resized_as_the_host_does_it():
    left = torch.tensor([[[1.0, 0.0]]])
    own = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(0))
    mask = joined([run(text(mask=left)), run(text(mask=own))], Backend()).positive[0][1]["mask"]
    assert torch.equal(mask[1:], own)
    # Two pixels over six: between their centres the value falls by a third a pixel.
    assert mask[0, 0].tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3, 0, 0])


# ControlNets


def control(strength, value):
    made = FakeControl(torch.full((1, 3, 8, 8), value))
    made.strength = strength
    return made


def guided(control):
    return run(text(control=control), text(control=control))


def test_positive_and_negative_of_a_batch_share_the_joined_control_net():
    runs = [guided(control(0.5, 0.25)), guided(control(0.5, 0.75))]
    assert together(*runs)
    one = joined(runs, Backend())
    shared = one.positive[0][1]["control"]
    assert one.negative[0][1]["control"] is shared
    assert shared.cond_hint_original[:, 0, 0, 0].tolist() == [0.25, 0.75]


def test_control_nets_that_differ_or_cannot_be_joined_stay_apart():
    runs = [guided(control(0.5, 0)), guided(control(0.7, 0)), guided(control(0.5, 1))]
    assert mergeable_groups(runs, Backend()) == [[0, 2], [1]]
    unknown = [guided(FakeControl(torch.zeros(1, 3, 8, 8))) for _ in range(2)]
    assert mergeable_groups(unknown, Backend()) == [[0], [1]]
    assert not together(guided(control(0.5, 0)), run())
