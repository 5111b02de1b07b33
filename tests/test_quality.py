"""The measures of the quality bench on cases with known answers, and its tables."""

import argparse
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detailers.core.geometry import Size
from detailers.core.segs.face_landmarks import eyes_in
from detailers.dev.metrics import (
    brought_back,
    change_outside,
    nearest,
    psnr,
    rim,
    rim_colour,
    seam_energy,
    ssim,
)
from detailers.dev.options import read_variant


def disc(size=64, radius=20):
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    return (np.hypot(x, y) < radius).astype(np.float32)


def pattern(seed=0, size=64):
    return np.random.default_rng(seed).uniform(0.2, 0.8, (size, size, 3)).astype(np.float32)


def test_psnr_counts_the_masks_pixels_alone():
    truth, mask = pattern(), disc()
    picture = truth.copy()
    picture[mask < 0.5] = 0
    assert psnr(picture, truth, mask) == 100  # the cap
    picture[mask >= 0.5] += 0.1
    assert psnr(picture, truth, mask) == pytest.approx(20, abs=1e-3)


def test_ssim_is_one_for_the_truth_and_falls_with_noise():
    truth, mask = pattern(), disc()
    assert ssim(truth, truth, mask) == pytest.approx(1)
    noise = np.random.default_rng(1).normal(0, 1, truth.shape).astype(np.float32)
    a_little, much = (ssim(truth + std * noise, truth, mask) for std in (0.02, 0.2))
    assert 0.9 < a_little < 1
    assert much < 0.7


def test_the_rim_lies_on_both_sides_of_the_masks_edge():
    mask = np.zeros((20, 20), np.float32)
    mask[:, 10:] = 1
    band = rim(mask, 3)
    assert band[10].nonzero()[0].tolist() == [7, 8, 9, 10, 11, 12]


def test_a_paste_of_another_brightness_has_a_seam_in_proportion():
    truth, mask = pattern(), disc()
    assert seam_energy(truth, truth, mask) == 0
    shifted = [truth + shift * mask[..., None] for shift in (0.1, 0.2)]
    one, two = (seam_energy(picture, truth, mask) for picture in shifted)
    assert two == pytest.approx(2 * one, rel=1e-5)
    evenly = truth + 0.1  # everywhere the same: no seam
    assert seam_energy(evenly, truth, mask) == pytest.approx(0, abs=1e-7)


def test_a_soft_edge_has_less_of_a_seam():
    from scipy.ndimage import gaussian_filter

    truth, mask = np.full((64, 64, 3), 0.5, np.float32), disc()
    hard, soft = mask, gaussian_filter(mask, 6)
    seams = [seam_energy(truth + 0.2 * edge[..., None], truth, mask) for edge in (hard, soft)]
    assert seams[1] < 0.5 * seams[0]


def test_rim_colour_is_a_distance_in_cielab_just_inside():
    mask = disc()
    truth = np.full((64, 64, 3), 0.5, np.float32)
    picture = truth.copy()
    picture[disc(radius=10) > 0] = 0  # the middle does not count
    assert rim_colour(picture, truth, mask) == 0
    # Grey of 0.5 and 0.6 in sRGB have L* 53.39 and 63.22.
    assert rim_colour(truth + 0.1, truth, mask) == pytest.approx(9.83, abs=0.05)


def test_change_outside_is_the_largest_anywhere_untouched():
    before = pattern()
    after = before.copy()
    touched = disc() > 0
    after[touched] = 0
    assert change_outside(before, after, touched) == 0
    after[0, 63, 2] += 0.25
    assert change_outside(before, after, touched) == pytest.approx(0.25)


def test_nearest_looks_inside_the_mask():
    mask = disc()
    known = {"a": pattern(1), "b": pattern(2)}
    picture = np.where(mask[..., None] > 0, known["b"] + 0.05, known["a"])
    assert nearest(picture, known, mask) == "b"


def squares(colour, side=20, left=22, top=22):
    picture = np.full((64, 64, 3), 0.5, np.float32)
    picture[top : top + side, left : left + side] = colour
    return picture


RED, BLUE = (0.9, 0.2, 0.2), (0.2, 0.2, 0.9)


def test_nearest_finds_what_is_drawn_a_little_elsewhere():
    known, everywhere = {"red": squares(RED), "blue": squares(BLUE)}, np.ones((64, 64))
    drawn = squares(BLUE, left=12, top=30)
    drawn[22:30, 22:42] = RED  # a strip of the other where it belongs
    assert nearest(drawn, known, everywhere, reach=10) == "blue"
    assert nearest(drawn, known, everywhere) == "red"


@pytest.mark.parametrize(("side", "left", "top"), [(20, 22, 22), (17, 14, 29), (24, 28, 16)])
def test_what_was_drawn_elsewhere_and_larger_or_smaller_is_brought_back(side, left, top):
    rendering, mask = squares(RED), np.zeros((64, 64), np.float32)
    mask[18:46, 18:46] = 1
    back = brought_back(squares(RED, side, left, top), rendering, mask, reach=10)
    assert np.abs(back - rendering)[24:40, 24:40].max() < 1e-3
    assert np.abs(back - rendering).mean() < 0.01


def test_nearest_of_renderings_that_are_the_same_is_the_first():
    same = np.zeros((8, 8, 3), np.float32)
    assert nearest(same + 1, {"a": same, "b": same}, np.ones((8, 8))) == "a"


KINDS = {bool: ("BOOLEAN",), float: ("FLOAT",), int: ("INT", "FLOAT"), dict: ("FACE_LANDMARKS",)}

# The bench's own parts need torch and the miniature's world, but no host.


@pytest.fixture(scope="module")
def quality(bench_module):
    return bench_module("quality")


def test_a_variant_is_a_name_and_inputs(quality):
    assert read_variant('wide={"feather": 20}') == ("wide", {"feather": 20})
    for text in ("wide", "wide=", "wide=[1]", "wide={"):
        with pytest.raises(argparse.ArgumentTypeError):
            read_variant(text)


def head(tables, seed, psnr, right, seam=3.0):
    """A head before, by Lanczos, after and in truth."""
    levels, others = (*psnr, 100.0), (1.0, 2.0, seam, 0.0)
    hits = (False, False, right, True)
    return tables.Head(
        seed, 0,
        tuple(
            tables.Measures(level, own, own, own, own / 4, {"eyes": hit, "hair": True})
            for level, own, hit in zip(levels, others, hits, strict=True)
        ),
    )  # fmt: skip


def test_tables_hold_means_over_the_heads(quality, monkeypatch):
    from bench import quality_tables as tables

    monkeypatch.setattr("bench.quality_tables.ON_HEAD", ("eyes", "hair"))
    outcome = tables.Outcome("base", [], 0.0, 3.0)
    outcome.heads = [
        head(tables, 0, (18.0, 19.0, 22.0), True),
        head(tables, 1, (20.0, 20.0, 21.0), False),
    ]
    lines = tables.table([outcome], "picture").splitlines()
    before = "| as it came | 2 | 19.00 | +0.00 | 1.000 | 50.0% | 0.0% | 0.250 | 1000.0 | 1.00 |"
    assert lines[2].startswith(before)
    after = "| base | 2 | 21.50 | +2.50 | 3.000 | 75.0% | 50.0% | 0.750 | 3000.0 | 3.00 |"
    assert lines[4] == f"{after} 0 | 1.50 |"
    assert "rises by 2.50 dB (median 2.50, worst 1.00, best 4.00)" in tables.summary(outcome)
    assert tables.attribute_table(outcome).splitlines()[2] == "| eyes | 0.0% | 50.0% | 100.0% |"


def test_the_report_replaces_its_own_part_alone(quality, monkeypatch, tmp_path):
    file = tmp_path / "RESULTS.md"
    monkeypatch.setattr(quality, "RESULTS", file)
    for start in (
        "# All\n\n## Speed\n\nfast\n",
        f"# All\n\n{quality.HEADING}\n\nold\n\n## Speed\n\nfast\n",
    ):
        file.write_text(start)
        report = quality.Report()
        report.parts.append("new")
        report.write("picture")
        text = file.read_text()
        assert "old" not in text
        assert text.count(quality.HEADING) == 1
        assert "\n\nnew\n\npicture\n" in text
        assert "## Speed\n\nfast\n" in text


def test_the_table_of_losses_tells_how_auto_does(quality):
    from bench import quality_loss as loss
    from bench import quality_tables as tables

    def outcome(way, psnr, seam, drawn=()):
        heads = [head(tables, 0, (18.0, 19.0, psnr + apart), True, seam) for apart in (-1.0, 1.0)]
        return tables.Outcome(way, heads, 0.0, 2.0, list(drawn))

    rows = (
        loss.Row("small, poor", 0.2, "usual"),
        loss.Row("large, sharp", 0.7, "blurring"),
        loss.Row("large, sharp", 1.0, "blurring"),
    )
    outcomes = [
        [outcome("off", 20.0, 0.01), outcome("residual", 21.0, 0.02), outcome("auto", 21.5, 0.03)],
        [
            outcome("off", 22.0, 0.01, (30.0, 31.0)),
            outcome("residual", 21.0, 0.02, (33.0, 34.0)),
            outcome("auto", 21.9, 0.03, (34.0, 37.0)),
        ],
        [
            outcome("off", 10.0, 0.01, (30.0, 31.0)),
            outcome("residual", 11.0, 0.02, (29.0, 30.0)),
            outcome("auto", 10.5, 0.03, (30.0, 31.0)),
        ],
    ]
    lines = loss.table(rows, outcomes).splitlines()
    levels = "18.00 | 20.00 / 21.00 / 21.50 | +0.50 ± 0.00 |"
    others = "10.0 / 20.0 / 30.0 | 0.01 / 0.02 / 0.03 |  |  | 2.0 / 2.0 / 2.0 |"
    assert lines[2] == f"| small, poor | 0.2 | usual | 2 | {levels} {others}"
    assert "| the truth | 22.00 / 21.00 / 21.90 | -0.10 ± 0.00 |" in lines[3]
    assert "| 30.50 / 33.50 / 35.50 | +2.00 ± 1.00 | 2.0 / 2.0 / 2.0 |" in lines[3]
    said = loss.verdict(rows, outcomes)
    assert "Up to a denoise of 0.7, to the truth, auto is at its worst -0.10 ± 0.00 dB" in said
    assert (
        "from the better single way (large, sharp, denoise 0.7, blurring VAE), not within" in said
    )
    assert "At a denoise of 1, to the truth, auto is at its worst -0.50 ± 0.00 dB" in said
    assert "Up to a denoise of 0.7, to what was drawn, auto is at its worst +2.00 ± 1.00" in said
    assert "At a denoise of 1, to what was drawn, auto is at its worst +0.00 ± 0.00 dB" in said
    assert loss.verdict(rows[:1], outcomes[:1]) == (
        "Up to a denoise of 0.7, to the truth, auto is at its worst +0.50 ± 0.00 dB from the "
        "better single way (small, poor, denoise 0.2, usual VAE), within the 0.05 dB that it is "
        "meant to keep."
    )


def test_what_was_drawn_is_compared_crop_by_crop(quality, monkeypatch):
    """A VAE that tints a flat crop: residual and auto take the tint off, and off leaves it."""
    import torch
    from detailers.core import settings
    from detailers.core.pixels.vae_loss import compensated

    from bench import quality_runs as runs

    class Pipeline:
        _cell = 4.0

        def __init__(self, region):
            mask = torch.zeros(1, 16, 16)
            mask[:, 4:12] = 1
            job = SimpleNamespace(region=region)
            self.crop = SimpleNamespace(job=job, mask=mask, pixels=torch.zeros(1, 16, 16, 3))

        def _compensated(self, result, decoded, rows):
            raise AssertionError("it is not replaced")

    pasted = []

    class Bench:
        def detail(self, test, inputs, vae="usual"):
            tint = 0.1 if vae == runs.TINTING else 0.0
            for region, level in (("one", 0.5), ("two", 0.7)):
                result = torch.full((1, 16, 16, 3), level + tint)
                decoded = torch.full((1, 16, 16, 3), 0.4 + tint)
                own = Pipeline(region)
                pasted.append(float(own._compensated(result, decoded, slice(0, 1)).mean()))

    parts = {
        "detail.crop_pipeline": SimpleNamespace(CropPipeline=Pipeline, compensated=compensated),
        "settings": settings,
    }
    monkeypatch.setattr(runs, "part", parts.__getitem__)
    case = runs.Case("any", runs.pasting(vae_loss="off"), vae=runs.TINTING, drawn=True)
    levels = runs.levels_to_drawn(Bench(), case, None)
    assert [own["off"] for own in levels] == pytest.approx([20.0, 20.0], abs=1e-3)
    assert all(own["residual"] > 90 and own["auto"] > 90 for own in levels)
    assert pasted == pytest.approx([0.5, 0.7, 0.5, 0.7])  # what is under later crops is the same


def test_every_row_of_losses_measures_each_way(quality):
    from bench import quality_loss as loss

    assert len(loss.ROWS) == len(loss.HEADS) * len(loss.DENOISES) * len(loss.VAES)
    cases = loss.ROWS[0].cases
    given = [case.widgets["paste_options"]["inputs"]["vae_loss"] for case in cases]
    assert given == ["off", "residual", "auto"]
    assert len({case.key for row in loss.ROWS for case in row.cases}) == 3 * len(loss.ROWS)
    assert {row.vae for row in loss.ROWS for case in row.cases if case.drawn} == {
        "tinting", "blurring",
    }  # fmt: skip


def test_cases_that_differ_after_the_sampler_alone_share_its_results(quality, monkeypatch):
    import torch

    from bench import quality_runs as runs

    class Backend:
        calls = 0

        def sample(self, run, on_step):
            Backend.calls += 1
            return run.latent + Backend.calls

    class Bench:
        given: list = []

        def measure(self, case, seed):
            latent = torch.full((1, 2), float(seed))
            run = SimpleNamespace(latent=latent, noise=latent, number=0)
            self.given.append(float(Backend().sample(run, None)[0, 0]))
            return runs.Measured([], 0.0, 5.0)

    monkeypatch.setattr(runs, "part", lambda name: SimpleNamespace(ComfyBackend=Backend))
    original = Backend.sample
    samples, bench = runs.Samples(), Bench()
    for case in (
        runs.Case("off", runs.pasting(vae_loss="off")),
        runs.Case("auto", runs.pasting(vae_loss="auto"), vae=runs.TINTING),
        runs.Case("more", {"denoise": 0.5}),
        runs.Case("sharp", kind=runs.Kind(sharp=True)),
    ):
        measured = samples.measure(bench, case, 7)
        assert 4.9 < measured.seconds <= 5.0  # without the sampler's, which are next to none
    assert bench.given == [8.0, 8.0, 9.0, 10.0]
    assert Backend.sample is original


def test_registration_finds_a_slip_within_what_is_meant(quality, monkeypatch):
    """The table's own way to let results slip, on a scene that the model has not touched."""
    import torch
    from detailers.core.pixels import registration

    from bench import quality_registration as slips
    from bench.scenes import Kind, make_scene

    monkeypatch.setattr("bench.quality_registration.part", lambda name: registration)
    test = make_scene(4, Kind(heads_alone=True))
    top, left = slips._place(test)
    length = slips.SIDE + 2 * slips.PAD
    assert 0 <= top <= 1024 - length
    before = torch.from_numpy(test.before[top : top + length, left : left + length])[None]
    mask = slips._middle(slips.SIDE)
    assert float(mask.mean()) == pytest.approx(slips.CHANGED, abs=0.01)
    random = np.random.default_rng(0)
    own = slips._own_place(before, before)
    still = slips._found((slips.KEPT, slips.SLIPS[0]), before, before, own, random)
    assert (still.moved, still.refused, still.errors) == (False, False, (0, 0, 0))
    found = slips._found((slips.KEPT, slips.SLIPS[-1]), before, before, own, random)
    assert found.moved
    for shift, scale, angle in (found.errors, found.apart):
        assert (shift < 0.1, scale < 0.001, angle < 0.1) == (True, True, True), found
    line = slips.table([still, found]).splitlines()[-1]
    assert line.startswith("| kept | all three, and a tint | 1 | 1 | 0 |")
    beside = registration.Similarity(1.01, 1.0, (0.3, -0.2))  # where a model may have drawn it
    turned = registration.Similarity(2.0, 90.0, (5.0, 6.0))
    assert slips._between(slips._then(beside, turned), turned) == pytest.approx(
        (math.hypot(0.4, 0.6), 0.01, 1.0)  # twice as large: (0.3, -0.2) turns to (0.4, 0.6)
    )


def test_attributes_may_come_in_with_another_value(quality):
    from bench.scenes import Kind, make_scene

    test = make_scene(4, Kind(sharp=True, other=("mouth", "glasses")))
    truth, before = (test.looks_like(0, picture) for picture in (test.truth, test.before))
    assert all(truth.values())
    wrong = [name for name, right in before.items() if not right]
    assert wrong == ["mouth", "glasses"]
    outside = np.maximum.reduce(test.masks) == 0
    assert np.abs(test.before - test.truth)[outside].max() < 1e-6


def test_scenes_come_with_truth_masks_and_texts(quality):
    from bench.scenes import make_scene, right_attributes

    test = make_scene(4)
    assert test.truth.shape == test.before.shape == test.lanczos.shape == (1024, 1024, 3)
    assert test.text.count("[SEP]") == len(test.masks) - 1
    for index, mask in enumerate(test.masks):
        left, _, _, bottom = test.scene.box(index)
        rows, columns = mask.nonzero()
        assert 4 <= left - columns.min() <= 8
        assert 4 <= rows.max() - bottom + 1 <= 8
    (right,) = right_attributes(test, 0, [test.truth])
    assert len(right) == 6
    assert all(right.values())


def test_the_heads_alone_may_be_poor(quality):
    from bench.scenes import Kind, make_scene

    test = make_scene(4, Kind(heads_alone=True))
    every = np.maximum.reduce(test.masks)
    assert np.abs(test.before - test.truth)[every == 0].max() < 0.01
    for mask in test.masks:
        assert psnr(test.before, test.truth, mask) < 25


def test_masks_may_be_boxes(quality):
    from bench.scenes import Kind, make_scene

    shapes = make_scene(4)
    boxes = make_scene(4, Kind(boxes=True, crop_factor=1.0))
    assert (shapes.kind.crop_factor, boxes.kind.crop_factor) == (2.0, 1.0)
    for shape, box in zip(shapes.masks, boxes.masks, strict=True):
        rows, columns = box.nonzero()
        assert box.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert (box >= shape).all()


def test_scenes_know_where_eyes_are(quality):
    from bench.scenes import Kind, make_scene

    test = make_scene(2, Kind(tilt=60))
    found = eyes_in(test.landmarks, Size(1024, 1024), 0)
    characters = test.scene.characters
    assert len(found) == len(characters) >= 3
    assert max(abs(character.tilt) for character in characters) > 20
    for (left, right), character in zip(found, characters, strict=True):
        across, down = right - left
        assert np.degrees(np.arctan2(down, across)) == pytest.approx(character.tilt, abs=0.01)
        for x, y in (left, right):  # the pupil
            assert test.truth[int(y), int(x)].max() < 0.2


def test_every_case_gives_nodes_what_they_take(quality):
    declared = json.loads((Path(__file__).parent / "interfaces" / "own.json").read_text())
    parts = [*quality.PARTS, *quality.quality_pastes.PARTS, *quality.quality_persons.PARTS]
    cases = [case for part in parts for case in part.cases]
    widgets = [widget for case in cases for widget in case.widgets.items()]
    assert {name for name, value in widgets if not isinstance(value, dict)} <= quality.BASE.keys()
    given = [(name, value) for name, value in widgets if isinstance(value, dict)]
    assert len(given) >= 9
    for name, value in given:
        assert name in ("paste_options", "crop_options")
        node = declared[value["node"]]
        inputs = node["required"] | node.get("optional", {})
        for widget, setting in value["inputs"].items():
            kind = inputs[widget][0]
            assert setting in kind if isinstance(kind, list) else kind in KINDS[type(setting)]
