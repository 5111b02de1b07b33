"""Variants of segments in the real host: how often models are called, and what is kept."""

import json

import numpy as np
import pytest
from detailers.tests.host.graphs import DETAILERS, Graph, read_json
from detailers.tests.host.test_scheduler import ROW, SIZE, counted

__all__ = ["counted"]  # a fixture

STEP = 1_000_000  # between the seeds of two variants


class Scene(Graph):
    """Three segments of one size."""

    def __init__(self, family="flat8", batch=1, **options):
        super().__init__()
        self.test_model = self.model(family, **options)
        self.picture = self.image(*SIZE, batch=batch)
        self.found = self.segs(*SIZE, *ROW)
        self.masked = self.mask(*SIZE, *([x, 0, x + 64, 64, "e"] for x in (0, 80, 160)))

    def drawn(self, node="DetailerForEach", **settings):
        found = self.masked if node == "MaskDetailerPipe" else self.found
        return self.detail(node, self.picture, found, self.test_model, **settings)


def output_of(server, node, name):
    return server.object_info(node)["output_name"].index(name)


@pytest.mark.parametrize("node", DETAILERS)
def test_every_detailer_pastes_the_first_and_gives_all_variants(results, server, node):
    place = output_of(server, node, "variants")
    scene = Scene("video8" if node.endswith("AnimateDiff") else "flat8", batch=1)
    alone, several = (scene.drawn(node, variants=count, seed=5) for count in (1, 3))
    out = results(
        scene, plain=scene.drawn(node, seed=5)[0], alone=alone[0], several=several[0],
        variants=several[place], one=alone[place],
    )  # fmt: skip
    for key in out["plain"].keys() - {"stats"}:
        for other in ("alone", "several"):
            if out["plain"][key].dtype.kind == "U":
                assert out[other][key] == out["plain"][key]
            else:
                np.testing.assert_array_equal(out[other][key], out["plain"][key], err_msg=key)
    images = [key for key in out["variants"] if key.endswith("_image")]
    assert len(images) == 9
    assert len([key for key in out["one"] if key.endswith("_image")]) == 3
    first, second = (out["variants"][f"segs0_{place}_image"] for place in (0, 1))
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(first, out["one"]["segs0_0_image"])


def test_variants_make_no_more_calls_of_the_model_than_one(counted, server):
    place = output_of(server, "DetailerForEach", "variants")
    seen = {}
    for count in (1, 4):
        scene = Scene()
        drawn = scene.drawn(variants=count, steps=5, seed=11 + count)
        seen[count] = counted(scene, drawn[0], drawn[place])
    assert seen[1]["model_calls"] == seen[4]["model_calls"] == 5
    assert (seen[1]["model_rows"], seen[4]["model_rows"]) == (15, 60)
    assert (seen[1]["decode_rows"], seen[4]["decode_rows"]) == (3, 12)


def test_where_nothing_takes_them_they_are_not_drawn_and_that_is_told(run, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    drawn = scene.drawn(variants=4, steps=3, seed=31)

    def ran(name, link):
        """Notes of the detailer, and how often the model was called until then."""
        scene.add_as(name, "DetailersTestSave", value=link, name=name)
        notes = run(scene).outputs.get(drawn.key, {}).get("detailers_notes", [])
        stats = json.loads(str(server.result(name)["stats"]))
        return [note["kind"] for note in notes], stats["model_calls"], stats["model_rows"]

    _, calls, rows = ran("before", scene.picture)
    assert ran("picture", drawn[0]) == (["variants"], calls + 3, rows + 9)
    # What is in the cache has no variants, so it is not taken once something takes them.
    assert ran("all", drawn[place]) == ([], calls + 6, rows + 9 + 36)
    assert ran("again", drawn[place]) == ([], calls + 6, rows + 9 + 36)


def test_a_variant_is_what_its_seed_draws(results, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    several = scene.drawn(variants=3)
    alone = scene.drawn(seed=5 + 2 * STEP)
    out = results(scene, several=several[place], alone=alone[place])
    for index in range(3):
        np.testing.assert_allclose(
            out["several"][f"segs0_{3 * index + 2}_image"], out["alone"][f"segs0_{index}_image"],
            atol=1e-5,
        )  # fmt: skip


# Choosing


def chosen(scene, drawn, place, **settings):
    """The outputs of Choose Variants: image, segments, grid, scores."""
    settings = {"by": "first", "choices": "", "feather": 0} | settings
    variants = drawn[place] if isinstance(place, int) else place
    return scene.add("ChooseVariants", image=scene.picture, variants=variants, **settings)


def picture_of(out, name):
    return out[name]["t0"]


def test_what_is_chosen_is_pasted(results, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    drawn = scene.drawn(variants=3, feather=3)
    first, hand, left = (
        chosen(scene, drawn, place, choices=choices, feather=3)
        for choices in ("", "1:2", "0:original, 1:original, 2:original")
    )
    other = scene.drawn(seed=5 + 2 * STEP, feather=3)
    out = results(
        scene, before=scene.picture, drawn=drawn[0], other=other[0], first=first[0], hand=hand[0],
        left=left[0], segs=hand[1], grid=hand[2], scores=hand[3],
    )  # fmt: skip
    np.testing.assert_array_equal(picture_of(out, "first"), picture_of(out, "drawn"))
    np.testing.assert_array_equal(picture_of(out, "left"), picture_of(out, "before"))
    expected = picture_of(out, "drawn").copy()
    expected[:, :, 80:144] = picture_of(out, "other")[:, :, 80:144]
    np.testing.assert_allclose(picture_of(out, "hand"), expected, atol=1e-5)
    variants = [out["segs"][f"segs0_{index}_variant"].tolist() for index in range(3)]
    assert variants == [[0, 0, 5], [1, 2, 6 + 2 * STEP], [2, 0, 7]]
    assert picture_of(out, "grid").shape == (1, 3 * 204, 4 * 204, 3)
    told = read_json(out["scores"])
    assert (told["schema"], told["version"], told["by"]) == ("detailers.variants", 1, "first")
    assert [(own["segment"], own["chosen"], own["chosen_by"]) for own in told["segments"]] == [
        (0, 0, "first"), (1, 2, "hand"), (2, 0, "first"),
    ]  # fmt: skip


def test_choosing_another_one_samples_nothing(run, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    drawn = scene.drawn(variants=3, steps=3, seed=53)

    shown, calls, pictures = [], [], []
    for choices in ("", "0:1", "0:2, 2:original"):
        choice = scene.add_as(
            "choice", "ChooseVariants", image=scene.picture, variants=drawn[place], by="first",
            feather=0, choices=choices,
        )  # fmt: skip
        scene.add_as("saved", "DetailersTestSave", value=choice[0], name="chosen")
        shown += run(scene).outputs["choice"]["detailers_variants"]
        saved = server.result("chosen")
        calls.append(json.loads(str(saved["stats"]))["model_calls"])
        pictures.append(saved["t0"])
    assert calls[1:] == [calls[0]] * 2
    assert np.abs(pictures[0] - pictures[1]).max() > 0.01
    assert np.abs(pictures[1] - pictures[2]).max() > 0.01
    assert [[own["chosen"] for own in one["segments"]] for one in shown] == [
        [0, 0, 0], [1, 0, 0], [2, 0, None],
    ]  # fmt: skip
    entry = shown[0]["segments"][1]
    assert [variant["number"] for variant in entry["variants"]] == [0, 1, 2]
    assert entry["variants"][1]["seed"] == str(54 + STEP)
    for picture in (entry["original"], entry["variants"][2]["picture"]):
        assert server.view(**picture)[:4] == b"\x89PNG"


def test_sharpness_chooses_the_sharpest(results, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    drawn = scene.drawn(variants=4)
    out = results(scene, all=drawn[place], scores=chosen(scene, drawn, place, by="sharpness")[3])
    told = read_json(out["scores"])
    for own in told["segments"]:
        scores = [variant["score"] for variant in own["variants"]]
        assert len(set(scores)) == 4
        assert own["chosen_by"] == "score"
        assert own["chosen"] == int(np.argmax(scores))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"choices": "0:2, best"}, "'choices', entry 2: 'best' is no choice"),
        ({"by": "detector confidence"}, "'bbox_detector' is not connected"),
        ({"by": "reference similarity"}, "'embedder' is not connected"),
        ({"by": "text similarity"}, "'clip_vision' is not connected"),
    ],
)
def test_what_cannot_be_chosen_by_is_told(server, settings, told):
    scene = Scene()
    chosen(scene, None, scene.segs(*SIZE, *ROW, image=scene.picture), **settings)
    done = server.run(scene)
    assert not done.ok
    assert told in f"{done.error} {done.messages}"


def test_without_variants_the_image_stays(results):
    scene = Scene()
    none, bare = (
        chosen(scene, None, segs) for segs in (scene.segs(*SIZE), scene.segs(*SIZE, *ROW))
    )
    out = results(scene, before=scene.picture, none=none[0], bare=bare[0], grid=none[2])
    np.testing.assert_array_equal(picture_of(out, "none"), picture_of(out, "before"))
    np.testing.assert_array_equal(picture_of(out, "bare"), picture_of(out, "before"))
    assert picture_of(out, "grid").shape == (1, 64, 64, 3)


def test_images_of_a_batch_are_chosen_for_one_by_one(results, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene(batch=2)
    drawn = scene.drawn(variants=2)
    first, hand = (chosen(scene, drawn, place, choices=own) for own in ("", "0@1:1"))
    out = results(scene, drawn=drawn[0], first=first[0], hand=hand[0])
    np.testing.assert_array_equal(picture_of(out, "first"), picture_of(out, "drawn"))
    changed = np.abs(picture_of(out, "hand") - picture_of(out, "drawn")).max(-1) > 0.001
    assert not changed[0].any()
    assert changed[1, :, :64].mean() > 0.5
    assert not changed[1, :, 64:].any()


def test_the_report_names_every_variant_and_its_seed(results, server):
    scene = Scene()
    drawn = scene.drawn(variants=2)
    place = output_of(server, "DetailerForEach", "variants")
    out = results(
        scene, all=drawn[place], told=drawn[output_of(server, "DetailerForEach", "report")]
    )
    told = read_json(out["told"])
    seeds = {(own["index"], own["variant"]): own["seed"] for own in told["segments"]}
    assert seeds == {
        (0, 0): 5, (0, 1): 5 + STEP, (1, 0): 6, (1, 1): 6 + STEP, (2, 0): 7, (2, 1): 7 + STEP,
    }  # fmt: skip


def test_a_rule_gives_single_segments_variants(results, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    rules = scene.add("SegmentPlan", plan="- {select: index 1, variants: 3}")[0]
    drawn = scene.drawn(segment_plan=rules)
    pasted = chosen(scene, drawn, place, choices="1:2")
    out = results(scene, all=drawn[place], drawn=drawn[0], plain=scene.drawn()[0], chosen=pasted[0])
    names = sorted(key for key in out["all"] if key.endswith("_variant"))
    found = [out["all"][key].tolist() for key in names]
    assert found == [[0, 0, 5], [1, 0, 6], [1, 1, 6 + STEP], [1, 2, 6 + 2 * STEP], [2, 0, 7]]
    np.testing.assert_array_equal(picture_of(out, "drawn"), picture_of(out, "plain"))
    changed = np.abs(picture_of(out, "chosen") - picture_of(out, "plain")).max(-1)[0] > 0.001
    assert changed[:, 80:144].mean() > 0.5
    assert not changed[:, :80].any()
    assert not changed[:, 144:].any()


# Scores by networks


def scores_in(out, name="scores"):
    told = read_json(out[name])
    return [[variant["score"] for variant in own["variants"]] for own in told["segments"]]


def test_the_variant_wins_that_is_most_like_its_reference(results, server):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    drawn = scene.drawn(variants=3)
    vision = scene.add("DetailersTestClipVision", kind="clip_vision_model")[0]
    wanted = scene.add("ImageCrop", image=scene.drawn(seed=5 + 2 * STEP)[0], width=64, height=64,
                       x=0, y=0)[0]  # fmt: skip
    settings = {"by": "reference similarity", "clip_vision": vision, "references": wanted}
    out = results(
        scene, scores=chosen(scene, drawn, place, **settings)[3],
        named=chosen(scene, drawn, place, names="nobody", **settings)[3],
    )  # fmt: skip
    first, *_ = scores_in(out)
    assert int(np.argmax(first)) == 2
    assert first[2] > max(first[:2])
    assert scores_in(out, "named") == [[None] * 3] * 3


def test_texts_are_compared_by_a_clip_that_leads_to_the_same_space(
    results, run, server, checkpoint
):
    place = output_of(server, "DetailerForEach", "variants")
    scene = Scene()
    drawn = scene.drawn(variants=2)
    clip = scene.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))[1]
    vision, other = (
        scene.add("DetailersTestClipVision", kind="clip_vision_model", projection=width)[0]
        for width in (768, 16)
    )
    settings = {"by": "text similarity", "clip": clip, "text": "a face"}
    out = results(scene, scores=chosen(scene, drawn, place, clip_vision=vision, **settings)[3])
    found = scores_in(out)
    assert all(-1 <= score <= 1 for own in found for score in own)
    assert len({score for own in found for score in own}) == 6
    chosen(scene, drawn, place, clip_vision=other, **settings)
    done = server.run(scene)
    assert not done.ok
    assert "should give a vector of 16 numbers for a text" in f"{done.error} {done.messages}"
