"""A report read as a segment plan repeats its run, whatever the node itself is set to."""

import json

import numpy as np
import pytest
import torch
from detailers.core.detail.images import detail_image, detail_segs
from detailers.core.graph.plan_text import PlanError, read_plan
from detailers.core.graph.report_plan import ReportError, is_report, plan_of_report
from detailers.core.settings import KeptCrops
from detailers.tests.fake_backend import (
    FakeBackend,
    grain,
    make_detail,
    make_seg,
    masked,
    noise_image,
)
from detailers.utils.notes import collected_notes

REGIONS = [(0, 0, 16, 16), (8, 4, 30, 20), (40, 0, 56, 16), (40, 20, 56, 36), (4, 22, 14, 30)]
TEXT = (
    "[DSC]a {cat|dog|bird} <lora:soft:0.5>[SEP:77][CONCAT]b {c|d}[SEP][SKIP][SEP]<lora:alone>[SEP]e"
)
OTHER = {
    "seed": 999, "steps": 2, "cfg": 7.0, "sampler_name": "heun", "scheduler": "other",
    "denoise": 0.9, "guide_size": 40, "max_size": 48, "feather": 7,
}  # fmt: skip


def drawn(run):
    """Shows everything that a run is made of: noise, levels, cfg, sampler, text and LoRAs."""
    words = float(sum(len(entry[1].get("text", "")) for entry in run.positive))
    words += 10 * float(sum(entry[0].sum() for entry in run.positive))
    told = words + len(run.model.loras) + run.cfg + len(run.sampler_name) + float(run.sigmas.sum())
    return masked(run, run.latent * 0.5 + 0.25 + run.noise.to(run.latent) * 0.02 + told * 1e-4)


def run(text, plan=None, count=1, work=detail_image, **options):
    image = noise_image(count, 40, 60)
    segs = [make_seg(region, label="AB"[place % 2]) for place, region in enumerate(REGIONS)]
    detail = make_detail(text=text, segment_plan=plan, **options)
    return work(image, ((40, 60), segs), detail, FakeBackend(drawn))


def same(one, other):
    """Whether two segments have the same picture, or none."""
    return np.array_equal(one.cropped_image, other.cropped_image)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("batch", [0, 1])
def test_the_same_picture_comes_of_other_settings(count, batch):
    first = run(TEXT, count=count, denoise=0.5, batch=batch)
    plan = read_plan(first.report, {})
    again = run("", plan, count, batch=batch, **OTHER)
    assert torch.equal(again.image, first.image)
    without = run("", None, count, batch=batch, **OTHER)
    assert not torch.equal(without.image, first.image)
    once_more = run("no", read_plan(again.report, {}), count, batch=batch, **OTHER | {"seed": 3})
    assert torch.equal(once_more.image, first.image)


def test_segments_that_are_not_pasted():
    first = run(TEXT, work=detail_segs, count=2)
    again = run("", read_plan(first.report, {}), 2, detail_segs, **OTHER)
    pictures = zip(first.segs[1], again.segs[1], strict=True)
    assert all(same(one, other) for one, other in pictures)


def test_what_a_plan_has_set_comes_back():
    rules = (
        "- select: index 0\n  crop_padding: 6\n  negative: x {y|z}\n  loras: {soft: 0, hard: 0.7}\n"
        "- select: index 2\n  text_before: first\n  text_after: last\n  seed: +40\n"
        "- select: index 3\n  skip: no need\n- select: else\n  denoise: {8: 0.9, 20: 0.2}\n"
    )
    first = run("[ASC]a <lora:soft:0.5>", read_plan(rules, {}))
    again = run("", read_plan(first.report, {}), **OTHER)
    assert torch.equal(again.image, first.image)
    (skipped,) = [
        entry for entry in json.loads(again.report)["segments"] if entry["status"] == "skipped"
    ]
    assert skipped["reason"] == "no need"


def test_a_segment_that_is_large_enough_is_left_out_again():
    first = run("", force_inpaint=False, guide_size=12)
    told = json.loads(first.report)["segments"]
    assert [entry["by_size"] for entry in told if entry["status"] == "skipped"] == [True] * 4
    again = run("", read_plan(first.report, {}), force_inpaint=False, guide_size=40)
    assert torch.equal(again.image, first.image)


def test_versions_keep_the_nodes_seeds_and_that_is_told():
    def work(*args):
        return detail_segs(*args, 2)

    first = run("", work=work)
    with collected_notes() as notes:
        plan = read_plan(first.report, {})
    assert all(rule.overrides.seed is None for rule in plan.rules)
    assert "2 versions" in notes[0].text


def test_variants_come_back():
    first = run("", variants=3, kept=KeptCrops(variants=True))
    plan = read_plan(first.report, {})
    assert {rule.overrides.variants for rule in plan.rules} == {3}
    assert len(plan.rules) == len(REGIONS)
    again = run("", plan, kept=KeptCrops(variants=True))
    assert torch.equal(again.image, first.image)
    for one, other in zip(first.variants, again.variants, strict=True):
        assert same(one, other)


def test_what_is_no_report():
    report = run("").report
    assert is_report(report)
    assert not is_report("- select: all")
    assert not is_report('{"rules": []}')
    content = json.loads(report)
    broken = [
        report[:-20],
        json.dumps(content | {"version": 2}),
        json.dumps(content | {"segments": [{}]}),
        json.dumps(content | {"segments": 3}),
        json.dumps({"schema": "detailers.report"}),
    ]
    for text in broken:
        with pytest.raises(ReportError, match="report"):
            plan_of_report(text)
        with pytest.raises(PlanError, match="report"):
            read_plan(text, {})


def test_a_report_without_segments_is_an_empty_plan():
    image = noise_image(1, 8, 8)
    report = detail_image(image, ((8, 8), []), make_detail(), FakeBackend(grain)).report
    assert read_plan(report, {}).rules == ()
