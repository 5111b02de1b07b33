"""The report of a run: what it says, that its times are right, and that it costs nothing else."""

import json
import time

import pytest
import torch
from detailers.core import timing
from detailers.core.detail.faces import Finder, detail_faces
from detailers.core.detail.images import detail_image, detail_segs, detail_versions
from detailers.core.detail.report import pack_version
from detailers.core.detail.video import detail_frames
from detailers.core.graph.calls import older_result
from detailers.core.hook_protocol import DetailerHook
from detailers.core.settings import NO_CROPS, Refiner, Retry
from detailers.core.timing import STAGES, measured, stage
from detailers.tests.fake_backend import (
    FakeBackend,
    fake_models,
    fill,
    grain,
    make_detail,
    make_seg,
    noise_image,
)
from detailers.utils.notes import collected_notes, note

THREE = [(0, 0, 16, 16), (20, 0, 36, 16), (40, 0, 56, 16)]  # separate, each of 16x16
SEGMENT = {  # what is told of a segment that was sampled
    "index", "variant", "image", "version", "label", "confidence", "bbox", "crop_region", "place",
    "status", "reason",
    "working_size", "canvas", "upright", "seed", "seed_used",
    "text", "concat", "text_before", "negative", "loras",
    "sampling", "hooked", "crop_padding", "control_strength", "variants",
    "sizing", "masking", "refiner", "sigmas", "wave", "seconds", "retries", "faults",
}  # fmt: skip
SLEEP = 0.03  # seconds of each stage that sleeps
FLOOR = 0.25  # seconds by which times of a busy machine may be off


def report_of(result):
    return json.loads(result.report)


def run(segs, backend=None, image=None, **options):
    image = noise_image(1, 40, 60) if image is None else image
    backend = backend or FakeBackend(grain)
    detail = make_detail(**{"batch": 0, **options})
    return report_of(detail_image(image, (image.shape[1:3], segs), detail, backend))


def test_all_that_is_told_of_a_run():
    segs = [make_seg(region, label=label) for region, label in zip(THREE, "ABC", strict=True)]
    text = "a {cat|cat} <lora:soft:0.5>[SEP][SKIP][SEP:77]a dog"
    report = run(segs, text=text, denoise=0.5)
    assert (report["schema"], report["version"]) == ("detailers.report", 1)
    assert report["pack"] == {"version": pack_version()}
    assert report["host"] == {"name": "a few lines of torch", "version": "1"}
    assert report["images"] == {"count": 1, "size": [60, 40]}
    first, second, third = report["segments"]
    assert first.keys() == third.keys() == SEGMENT
    assert [first[name] for name in ("index", "label", "bbox", "crop_region", "status")] == [
        0, "A", [0, 0, 16, 16], [0, 0, 16, 16], "done",
    ]  # fmt: skip
    assert first["text"] == "a cat <lora:soft:0.5>"
    assert [(lora["name"], lora["model_strength"]) for lora in first["loras"]] == [("soft", 0.5)]
    assert [first["seed"], third["seed"], third["text"]] == [5, 77, "a dog"]
    assert (second["status"], second["reason"]) == ("skipped", "its text is [SKIP]")
    assert first["working_size"] == first["canvas"] == [16, 16]
    assert first["sampling"] == {
        "steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
        "cycle": 1, "scheduler_func": False,
    }  # fmt: skip
    assert first["sigmas"] == {"from": 4.0, "to": 0.0}  # a sigma is the number of steps to go
    assert report["settings"]["sizing"]["guide_size"] == first["sizing"]["guide_size"] == 16
    assert report["settings"]["text"] == text
    assert report["notes"] == [
        {"kind": "skipped", "text": "segment 1 skipped: its text is [SKIP]"},
    ]
    assert report["memory"] == {"device": "cpu", "used": 1000, "reserved": 2000}
    counts = report["counts"]
    assert [counts[name] for name in ("sampled", "skipped", "failed", "retries")] == [2, 1, 0, 0]
    # Texts of other lengths and other LoRAs are sampled apart.
    assert [counts[name] for name in ("sampler_calls", "model_calls")] == [2, 8]


def test_who_went_together():
    chain = [(0, 20, 16, 36), (8, 20, 24, 36)]  # the second one sees the first one's result
    report = run([make_seg(region) for region in [*THREE, *chain]])
    assert [entry["wave"] for entry in report["segments"]] == [0, 0, 0, 0, 1]
    assert report["waves"] == [
        {"wave": 0, "segments": [0, 1, 2, 3],
         "calls": [{"segments": [0, 1, 2, 3], "model_calls": 4}]},
        {"wave": 1, "segments": [4], "calls": [{"segments": [4], "model_calls": 4}]},
    ]  # fmt: skip
    assert report["counts"]["sampler_calls"] == 2
    alone = run([make_seg(region) for region in THREE], batch=1)
    assert [len(wave["segments"]) for wave in alone["waves"]] == [1, 1, 1]
    assert alone["counts"]["model_calls"] == 12


def test_cycles_and_refiners():
    refiner = Refiner(fake_models(), 0.5)
    report = run([make_seg(THREE[0])], cycle=2, refiner=refiner)
    (segment,) = report["segments"]
    assert segment["refiner"] == 0.5
    assert segment["sigmas"] == {"from": 4.0, "to": 0.0}
    assert report["counts"] == {
        "sampled": 1, "skipped": 0, "failed": 0, "retries": 0, "sampler_calls": 4,
        "model_calls": 8,
    }  # fmt: skip


def test_what_a_hook_changes_is_what_is_told():
    class Own(DetailerHook):
        def pre_ksample(self, model, seed, steps, *rest):
            return (model, seed, steps + 1, *rest)

    (segment,) = run([make_seg(THREE[0])], hook=Own())["segments"]
    assert (segment["sampling"]["steps"], segment["hooked"]["steps"]) == (4, 5)
    assert segment["sigmas"]["from"] == 5.0


def test_faults_and_retries():
    backend = FakeBackend(fill(float("nan")))
    retry = Retry(times=2, when_broken=True)
    report = run([make_seg(THREE[0])], backend, retry=retry)
    (segment,) = report["segments"]
    assert (segment["status"], segment["retries"], segment["seed"]) == ("failed", 2, 5)
    assert segment["seed_used"] != 5
    assert len(segment["faults"]) == 3
    assert segment["reason"] == segment["faults"][-1] != ""
    assert (report["counts"]["failed"], report["counts"]["retries"]) == (1, 2)
    assert [entry["kind"] for entry in report["notes"]] == ["retry", "fault"]


def test_images_and_versions():
    image = noise_image(2, 40, 60)
    segs = [(image.shape[1:3], [make_seg(region) for region in THREE[:2]])] * 2
    detail = make_detail(batch=0, kept=NO_CROPS)
    found = report_of(detail_versions(image, segs, detail, FakeBackend(), 2))
    keys = [[entry[name] for name in ("version", "image", "index", "seed")]
            for entry in found["segments"]]  # fmt: skip
    assert keys == [
        [0, 0, 0, 5], [0, 0, 1, 6], [0, 1, 0, 5], [0, 1, 1, 6],
        [1, 0, 0, 6], [1, 0, 1, 7], [1, 1, 0, 6], [1, 1, 1, 7],
    ]  # fmt: skip
    assert found["images"]["count"] == 2
    kept = report_of(detail_segs(image, segs[0], detail, FakeBackend(), 2))
    keys = {(entry["version"], entry["seed"]) for entry in kept["segments"]}
    assert keys == {(0, 6), (1, 7)}
    clip = report_of(detail_frames(image, segs[0], make_detail(), FakeBackend(), pasted=True))
    assert [entry["seed"] for entry in clip["segments"]] == [5, 5]


def test_segments_stand_in_working_order():
    segs = [make_seg(region) for region in THREE]
    report = run(segs, text="[DSC]a[SEP]b[SEP]c")
    assert [(entry["index"], entry["text"]) for entry in report["segments"]] == [
        (2, "a"), (1, "b"), (0, "c"),
    ]  # fmt: skip


def test_odd_values_become_json():
    seg = make_seg(THREE[0], label="\ud800 é")
    seg = seg._replace(confidence=torch.tensor([0.25]))
    text = detail_image(
        noise_image(1, 40, 60), ((40, 60), [seg]), make_detail(), FakeBackend()
    ).report
    text.encode()  # a client takes it
    assert "é" in text
    (segment,) = json.loads(text)["segments"]
    assert (segment["confidence"], segment["label"]) == (0.25, "\ud800 é")


# Times ------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test moves on."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_every_moment_belongs_to_one_stage():
    clock = Clock()
    with measured(clock) as watch:
        clock.now += 1
        with stage(timing.SAMPLE):
            clock.now += 2
            with stage(timing.RESIZE):
                clock.now += 4
            clock.now += 8
        with pytest.raises(KeyError), stage(timing.DECODE):
            clock.now += 16
            raise KeyError
        clock.now += 32
        total, stages = watch.read()
    assert total == 63
    assert stages == {
        **dict.fromkeys(STAGES, 0),
        "other": 33,
        "sample": 10,
        "resize": 4,
        "decode": 16,
    }


class Sleeping(FakeBackend):
    """Every heavy step takes a time of its own."""

    def encode(self, *args, **options):
        time.sleep(SLEEP)
        return super().encode(*args, **options)

    def sample(self, run, on_step):
        time.sleep(4 * SLEEP)
        return super().sample(run, on_step)

    def decode(self, *args, **options):
        time.sleep(2 * SLEEP)
        return super().decode(*args, **options)

    def encode_text(self, clip, text):
        time.sleep(SLEEP)
        return super().encode_text(clip, text)


def test_the_stages_are_the_wall_time():
    """Each where it was spent, and all of them the time that the run took for who waits for it."""
    begun = time.perf_counter()
    report = run([make_seg(region) for region in THREE], Sleeping(grain), text="a", batch=1)
    wall = time.perf_counter() - begun
    times = report["times"]
    wanted = {"text": SLEEP, "encode": 3 * SLEEP, "sample": 12 * SLEEP, "decode": 6 * SLEEP}
    for name, seconds in wanted.items():  # with the sum below: no stage has the time of another
        assert seconds <= times["stages"][name] + 1e-6, name
    assert tuple(times["stages"]) == STAGES
    assert sum(times["stages"].values()) == pytest.approx(times["total"], rel=0.02, abs=1e-4)
    assert times["total"] == pytest.approx(wall, rel=0.02, abs=FLOOR)
    seconds = [entry["seconds"] for entry in report["segments"]]
    assert min(seconds) >= 7 * SLEEP
    assert seconds[0] >= 8 * SLEEP  # it was the first with the text
    assert sum(seconds) <= times["total"]


def test_a_wave_shares_its_time_among_its_segments():
    report = run([make_seg(region) for region in THREE], Sleeping(grain))
    assert report["times"]["stages"]["sample"] < 12 * SLEEP
    for entry in report["segments"]:
        assert entry["seconds"] >= 7 * SLEEP / 3
    assert sum(entry["seconds"] for entry in report["segments"]) <= report["times"]["total"]


def test_finding_is_part_of_a_run():
    class Slow(Finder):
        def find(self, image, hook=None):
            with stage(timing.DETECT):
                time.sleep(SLEEP)
            return image.shape[1:3], [make_seg(THREE[0])]

    finder = Slow(None, None)
    image = noise_image(1, 40, 60)
    result, _ = detail_faces(image, finder, make_detail(), FakeBackend())
    assert report_of(result)["times"]["stages"]["detect"] >= SLEEP


def test_a_run_in_a_run_keeps_its_own_account():
    inner = []

    class Nesting(DetailerHook):
        def post_decode(self, pixels):
            note("inner", f"told inside {len(inner)}")
            with stage(timing.DETECT):
                inner.append(run([make_seg(THREE[0])], Sleeping(grain)))
            return pixels

    with collected_notes() as notes:
        outer = run([make_seg(THREE[0])], hook=Nesting())
    assert len(inner) == 1
    assert inner[0]["times"]["stages"]["sample"] >= 4 * SLEEP
    assert outer["times"]["stages"]["sample"] < 4 * SLEEP
    assert outer["times"]["stages"]["detect"] >= 7 * SLEEP
    assert [own.kind for own in notes] == ["inner"]
    assert [own["kind"] for own in outer["notes"]] == ["inner"]


def test_what_was_told_before_is_in_the_report_again():
    segs = [make_seg(THREE[0], mask=torch.zeros(16, 16).numpy())]
    known = set()
    told = []
    for _ in range(2):
        with collected_notes(known) as notes:
            in_report = len(run(segs)["notes"])
        told.append((len(notes), in_report))
    assert told == [(1, 1), (0, 1)]


# Nodes ------------------------------------------------------------------------------------------


class Node:
    RETURN_NAMES = ("report", "image", "report")


@pytest.mark.parametrize(
    ("result", "older"),
    [
        ((0, 1, 2), (0, 1)),
        ({"ui": {}, "result": (0, 1, 2)}, {"ui": {}, "result": (0, 1)}),
        (None, None),
    ],
)
def test_who_calls_a_node_as_the_older_one_gets_the_older_outputs(result, older):
    assert older_result(Node, result) == older


def test_a_node_without_outputs_of_ours_gives_all_it_gives():
    class Other:
        RETURN_NAMES = ("report", "image")

    assert older_result(Other, ("a", "b")) == ("a", "b")
    assert older_result(object, ("a", "b")) == ("a", "b")
