"""Segment plans in the real host: which segment gets what, and that it is what widgets give."""

import json
import re

import numpy as np
import pytest
from detailers.core.detail.segment_plan import LIMITS
from detailers.tests.host.graphs import DETAILERS, Graph, box
from detailers.tests.host.test_control import Scene
from detailers.tests.host.test_face import WIDGETS as FACE
from detailers.tests.host.test_scheduler import counted
from detailers.tests.host.test_texts import DEALT, SEGMENTS, colours, greener

__all__ = ["counted", "greener"]  # fixtures

SIZE = (160, 64)


def plan(graph, text, **links):
    return graph.add("SegmentPlan", plan=text, **links)


@pytest.fixture
def painted(results):
    """painted({plan: ...}) -> {plan: image}, "" being the image before; the positive is red."""

    def painted(plans, segments=SEGMENTS, **settings):
        graph = Graph()
        model = graph.model("flat8", prior_std=0.0)
        image, segs = graph.image(*SIZE), graph.segs(*SIZE, *segments)
        links = {"plan0": image}
        for place, text in enumerate(plans, start=1):
            own = {"segment_plan": plan(graph, text)[0], **settings}
            links[f"plan{place}"] = graph.detail("DetailerForEach", image, segs, model, **own)[0]
        out = results(graph, **links)
        return dict(zip(["", *plans], (out[name]["t0"] for name in links), strict=True))

    return painted


CHOSEN = {
    "# no rule": ["red", "red", "red"],
    "- text: blue": ["blue", "blue", "blue"],
    "- {label: hand, text: blue}": ["red", "blue", "red"],
    "- {select: left to right 2, text: blue}": ["red", "red", "blue"],
    "- {select: largest of label face, text: blue}": ["blue", "red", "red"],
    "- {select: index -1, text: blue}\n- {select: else, skip: true}": ["kept", "kept", "blue"],
    "- {select: width < 20, text: blue}\n- {select: 'x < 30%', text: green}": [
        "red", "green", "blue",
    ],
    "- text: blue\n- {label: face, text: green}\n- {select: size = 16, skip: too small}": [
        "green", "blue", "kept",
    ],
}  # fmt: skip


def test_rules_choose_their_segments(painted):
    images = painted(CHOSEN)
    for text, expected in CHOSEN.items():
        assert colours(images[text], images[""]) == expected, text


# Each setting


@pytest.mark.once
@pytest.mark.parametrize("node", [node for node in DETAILERS if node != "MaskDetailerPipe"])
def test_a_rule_sets_what_the_nodes_widget_sets(results, node):
    shown = box(40, 12, 88, 52, mask="e", crop=[24, 4, 104, 60])
    widgets = {
        "steps": 3, "cfg": 3.5, "denoise": 0.55, "sampler_name": "heun", "scheduler": "simple",
        "guide_size": 96, "max_size": 104, "seed": 77, "feather": 7, "noise_mask_feather": 5,
    }  # fmt: skip
    graph = Graph()
    model, image, segs = graph.model("image8"), graph.image(128, 64), graph.segs(128, 64, shown)
    takes = [name for name in widgets if name in DETAILERS[node] or name == "noise_mask_feather"]
    links = {"plain": graph.detail(node, image, segs, model, "red", "blue")[0]}
    for name in takes:
        setting = {name: widgets[name]}
        links[name] = graph.detail(node, image, segs, model, "red", "blue", **setting)[0]
        rule = plan(graph, f"- {{{name}: {widgets[name]}}}")
        ruled = graph.detail(node, image, segs, model, "red", "blue", segment_plan=rule[0])
        links[f"{name}_rule"] = ruled[0]
    out = results(graph, **links)
    assert len(takes) >= 9
    for name in takes:
        for key in out["plain"].keys() - {"stats"}:
            wanted, found = out[name][key], out[f"{name}_rule"][key]
            if name == "seed" and node.startswith("SEGSDetailer") and "Animate" not in node:
                continue  # of that node each segment has the seed + 1
            if wanted.dtype.kind == "U":
                assert found == wanted
                continue
            np.testing.assert_array_equal(found, wanted, err_msg=f"{name} {key}")
        pixels = [key for key in out["plain"] if out["plain"][key].ndim == 4]
        changed = [not np.array_equal(out[name][key], out["plain"][key]) for key in pixels]
        assert any(changed), name


PLACED = box(40, 16, 88, 48, mask="e", crop=[24, 4, 104, 60])
RULES = {  # what a rule sets, and what the node's inputs are instead
    "negative: blue": {"negative": "blue"},
    "text: green": {"wildcard": "green"},
    "text_after: blue": {"wildcard": "[CONCAT]blue"},
    "loras: {tint/more green: 0.5}": {"wildcard": "<lora:tint/more green:0.5>"},
    "seed: +3": {"seed": 8},
    "denoise: {16: 0.8, 48: 0.4}": {"denoise": 0.6},  # the shorter side is 32
    "skip: yes": {"wildcard": "[SKIP]"},
    "{}": {},
}


def test_a_rule_gives_what_other_inputs_give(results, greener):
    graph = Graph()
    model, image = graph.model("image8"), graph.image(128, 64)
    segs = graph.segs(128, 64, PLACED)
    links = {}
    for place, (rule, inputs) in enumerate(RULES.items()):
        inputs = {"positive": "red", "negative": "", **inputs}
        own = {**inputs, "cfg": 3.0}
        links[f"wanted{place}"] = graph.detail("DetailerForEach", image, segs, model, **own)[0]
        ruled = {"cfg": 3.0, "segment_plan": plan(graph, f"- {rule}")[0]}
        links[f"found{place}"] = graph.detail("DetailerForEach", image, segs, model, **ruled)[0]
    out = results(graph, **links)
    pictures = {out[f"found{place}"]["t0"].tobytes() for place in range(len(RULES))}
    assert len(pictures) == len(RULES)
    for place, rule in enumerate(RULES):
        found, wanted = out[f"found{place}"]["t0"], out[f"wanted{place}"]["t0"]
        np.testing.assert_array_equal(found, wanted, err_msg=rule)


def test_padding_is_a_wider_crop(results):
    graph = Graph()
    model, image = graph.model("image8"), graph.image(128, 64)
    narrow = graph.segs(128, 64, {**PLACED, "crop": [32, 12, 96, 52]})
    wide = graph.segs(128, 64, PLACED)
    padded = {"segment_plan": plan(graph, "- crop_padding: 8")[0]}
    out = results(
        graph,
        narrow=graph.detail("DetailerForEach", image, narrow, model)[0],
        wide=graph.detail("DetailerForEach", image, wide, model)[0],
        padded=graph.detail("DetailerForEach", image, narrow, model, **padded)[0],
        segs=graph.detail("SEGSDetailer", image, narrow, model, **padded)[0],
    )
    np.testing.assert_array_equal(out["padded"]["t0"], out["wide"]["t0"])
    assert not np.array_equal(out["narrow"]["t0"], out["wide"]["t0"])
    assert out["segs"]["segs0_0_crop"].tolist() == [24, 4, 104, 60]


def test_a_rule_sets_the_strength_of_controlnets(results):
    scene = Scene()
    control = scene.image(96, 64, seed=5)
    links = {}
    for name, own in (("half", 0.5), ("none", 0.0), ("full", 1.0)):
        segs = scene.controlled(scene.one, own, control_image=control)
        links[name] = scene.detailed(segs)[0]
        for strength in (0.5, 0.0):
            rule = {"segment_plan": plan(scene, f"- control_strength: {strength}")[0]}
            links[f"{name}_{strength}"] = scene.detailed(segs, **rule)[0]
    prompt = scene.add(
        "ControlNetApplyAdvanced", positive=scene.text(scene.painter, "grey"),
        negative=scene.text(scene.painter, ""), control_net=scene.net, image=control,
        strength=1.0, start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    guided = {"positive": prompt[0], "negative": prompt[1]}
    rule = {"segment_plan": plan(scene, "- control_strength: 0.5")[0]}
    links["prompt"] = scene.detailed(scene.one, **guided)[0]
    links["prompt_0.5"] = scene.detailed(scene.one, **guided, **rule)[0]
    out = {name: saved["t0"] for name, saved in results(scene, **links).items()}
    for name in ("half", "none", "full"):
        np.testing.assert_array_equal(out[f"{name}_0.5"], out["half"], err_msg=name)
        np.testing.assert_array_equal(out[f"{name}_0.0"], out["none"], err_msg=name)
    assert not np.array_equal(out["half"], out["full"])
    np.testing.assert_array_equal(out["prompt_0.5"], out["half"])
    np.testing.assert_array_equal(out["prompt"], out["full"])


def test_a_rule_turns_the_refiner_and_inpainting_on_and_off(results):
    graph = Graph()
    model, painter = graph.model("image8"), graph.model("inpaint8")
    image, segs = graph.image(128, 64), graph.segs(128, 64, PLACED)
    refiner = {"refiner_basic_pipe_opt": graph.pipe(model, "blue"), "refiner_ratio": 0.5}

    def refined(text="", **inputs):
        rule = {"segment_plan": plan(graph, text)[0]} if text else {}
        return graph.detail("DetailerForEachPipe", image, segs, model, **inputs, **rule)[0]

    def painted(text="", **inputs):
        rule = {"segment_plan": plan(graph, text)[0]} if text else {}
        return graph.detail("DetailerForEach", image, segs, painter, **inputs, **rule)[0]

    out = results(
        graph,
        with_one=refined(**refiner),
        without=refined(),
        on=refined("- refiner: on", **refiner),
        off=refined("- refiner: off", **refiner),
        plain=painted(),
        inpaint=painted(inpaint_model=True),
        set_on=painted("- inpaint_model: on"),
        set_off=painted("- inpaint_model: off", inpaint_model=True),
    )
    out = {name: saved["t0"] for name, saved in out.items()}
    pairs = {"on": "with_one", "off": "without", "set_on": "inpaint", "set_off": "plain"}
    for name, wanted in pairs.items():
        np.testing.assert_array_equal(out[name], out[wanted], err_msg=name)
    assert not np.array_equal(out["with_one"], out["without"])
    assert not np.array_equal(out["inpaint"], out["plain"])


# Texts


@pytest.mark.once
def test_segment_texts_and_the_plans_of_them_give_the_same_pictures(results):
    graph = Graph()
    model, image, segs = graph.model("image8"), graph.image(*SIZE), graph.segs(*SIZE, *SEGMENTS)
    texts = [text for text in DEALT if "[" in text]
    texts += ["[CONCAT]blue[SEP:42]{green|white}", "[LAB][ALL]{red|green}[hand]<lora:none:0.5>"]
    links = {}
    for place, text in enumerate(texts):
        made = plan(graph, text)
        ways = {
            "text": {"wildcard": text},
            "plan": {"segment_plan": made[0]},
            "yaml": {"segment_plan": plan(graph, made[1])[0]},
            "back": {"wildcard": made[2]},
        }
        for way, own in ways.items():
            own = {"guide_size": 64, **own}
            links[f"{way}{place}"] = graph.detail("DetailerForEach", image, segs, model, **own)[0]
    out = {name: saved["t0"] for name, saved in results(graph, **links).items()}
    for place, text in enumerate(texts):
        for way in ("plan", "yaml", "back"):
            found, wanted = out[f"{way}{place}"], out[f"text{place}"]
            np.testing.assert_array_equal(found, wanted, err_msg=f"{way} {text}")
    assert len({out[f"text{place}"].tobytes() for place in range(len(texts))}) > len(texts) / 2


# Calls


def test_equal_settings_share_calls_and_texts_are_encoded_once(counted, greener):
    def detailed(text, **settings):
        graph = Graph()
        four = [box(48 * i, 0, 48 * i + 40, 40, label="abab"[i]) for i in range(4)]
        segs, image = graph.segs(192, 40, *four), graph.image(192, 40)
        model = graph.model("flat8", prior_std=0.5 + 0.001 * len(text))  # nothing is cached
        settings = {"guide_size": 64, "steps": 3, "segment_plan": plan(graph, text)[0], **settings}
        return counted(graph, graph.detail("DetailerForEach", image, segs, model, **settings)[0])

    nodes = 2  # texts of the node, positive and negative
    plain = detailed("# none")
    assert (plain["model_calls"], plain["text_encodes"]) == (3, nodes)
    same = detailed("- {text: blue, negative: green, cfg: 2}")
    assert (same["model_calls"], same["text_encodes"]) == (3, nodes + 2)
    by_label = detailed("- {label: a, text: blue}\n- {label: b, text: white, steps: 2}")
    assert (by_label["model_calls"], by_label["text_encodes"]) == (3 + 2, nodes + 2)
    loras = detailed(
        "- loras: {tint/more green: 0.5}\n- {label: b, text: blue}\n- {label: a, text: blue}"
    )
    assert (loras["model_calls"], loras["text_encodes"]) == (3, nodes + 1)


# Other forms, batches and nodes


TWO = [{"bbox": [8, 8, 40, 56]}, {"bbox": [56, 8, 88, 56]}]
MIDDLES = [{"bbox": [20, 28, 28, 36]}, {"bbox": [68, 28, 76, 36]}]
FOUND = json.dumps([[*own["bbox"], "face", 0.9] for own in TWO])


def test_masks_and_faces_take_plans(results):
    graph = Graph()
    model = graph.model("flat8", prior_std=0.0)
    image = graph.image(96, 64)
    mask = graph.mask(96, 64, [8, 8, 40, 56, "r"], [56, 8, 88, 56, "r"])
    detector = graph.add("DetailersTestDetector", boxes=FOUND)[0]
    rule = plan(graph, "- {select: rightmost, text: blue}\n- {select: else, text: green}")[0]
    face = graph.add(
        "FaceDetailer", image=image, **graph.parts(model), **FACE, bbox_detector=detector,
        segment_plan=rule,
    )  # fmt: skip
    masked = graph.detail("MaskDetailerPipe", image, mask, model, segment_plan=rule)
    out = results(graph, image=image, face=face[0], mask=masked[0])
    for name in ("face", "mask"):
        shown = colours(out[name]["t0"], out["image"]["t0"], MIDDLES)
        assert shown == ["green", "blue"], name


def test_a_plan_goes_through_each_image_by_itself(results):
    rule = "- {select: index 1, text: blue}\n- {select: image 1 and index 0, text: green}"
    graph = Graph()
    model, images = graph.model("flat8", prior_std=0.0), graph.image(96, 64, 2)
    detector = graph.add("DetailersTestDetector", boxes=FOUND)[0]
    look = {"threshold": 0.5, "dilation": 0, "crop_factor": 1.0, "drop_size": 1, "labels": "all"}
    segs = graph.add("BboxDetectorSEGS", bbox_detector=detector, image=images, **look)[0]
    own = {"segment_plan": plan(graph, rule)[0]}
    apart = graph.detail("SEGSDetailer", images, segs, model, **own)[0]
    out = results(
        graph,
        image=images,
        together=graph.detail("DetailerForEach", images, segs, model, **own)[0],
        apart=graph.add("SEGSPaste", image=images, segs=apart, feather=0, alpha=255)[0],
    )
    for name in ("together", "apart"):
        for image, wanted in enumerate((["red", "blue"], ["green", "blue"])):
            pictures = (out[part]["t0"][image : image + 1] for part in (name, "image"))
            assert colours(*pictures, TWO) == wanted, (name, image)


WIDGETS = {
    "label": "", "select": "all", "which": "", "text": "", "text_mode": "replace", "negative": "",
    "denoise": -1, "skip": "node's own",
}  # fmt: skip
AS_TEXT = {
    "- {select: largest 1 of label face, text: blue, denoise: 0.7}": {
        "label": "face", "select": "largest first", "which": "1", "text": "blue", "denoise": 0.7,
    },
    "- {label: face, text_after: blue}\n- {select: else, text_before: green}": [
        {"label": "face", "text": "blue", "text_mode": "add after"},
        {"select": "else", "text": "green", "text_mode": "add before"},
    ],
    "- {select: x > 50% and width > 10, seed: +3, steps: 3, cfg: 2, sampler_name: heun}": {
        "select": "expression", "which": "x > 50% and width > 10", "seed_or_offset": "+3",
        "steps": 3,
        "cfg": 2.0, "sampler_name": "heun",
    },
    "- {select: index -1, denoise: {16: 0.5, 32: 0.9}, feather: 4, skip: off, guide_size: 64}": {
        "select": "index", "which": "-1", "denoise_by_size": "16: 0.5, 32: 0.9", "feather": 4,
        "skip": "off", "guide_size": 64.0,
    },
    "- {loras: {tint/more green: 0.5}, max_size: 200, crop_padding: 4, refiner: off}": {
        "loras": "tint/more green: 0.5", "max_size": 200.0, "crop_padding": 4, "refiner": "off",
    },
    "- {label: hand, skip: yes, reason: no hands}": {
        "label": "hand", "skip": "on", "reason": "no hands",
    },
}  # fmt: skip


def test_rules_of_widgets_are_the_rules_of_a_text(results):
    graph = Graph()
    links = {}
    for place, (text, rules) in enumerate(AS_TEXT.items()):
        made = None
        for rule in rules if isinstance(rules, list) else [rules]:
            before = {} if made is None else {"rules": made[0]}
            made = graph.add("SegmentRule", **WIDGETS | rule, **before)
        links[f"widgets{place}"] = plan(graph, "", rules=made[0])[1]
        links[f"text{place}"] = plan(graph, text)[1]
    out = {name: str(saved["s0"]) for name, saved in results(graph, **links).items()}
    for place in range(len(AS_TEXT)):
        assert out[f"widgets{place}"] == out[f"text{place}"] != "[]\n"


# What is told


def test_what_the_node_tells(run):
    graph = Graph()
    model, image, segs = graph.model("flat8"), graph.image(*SIZE), graph.segs(*SIZE, *SEGMENTS)
    text = (
        "- {label: face, denoise: 0.5}\n- {label: foot, steps: 3}\n- {select: index 2, skip: dull}"
    )
    ruled = graph.detail("DetailerForEach", image, segs, model, segment_plan=plan(graph, text)[0])
    graph.add("DetailersTestSink", value=ruled[0])
    notes = [note["text"] for note in run(graph).outputs[ruled.key]["detailers_notes"]]
    skipped, idle, without, level = notes
    assert skipped == "segment 2 skipped: dull"
    assert "Rule 2" in idle
    assert "(label foot)" in idle
    assert "'face', 'hand'" in idle
    assert "segment 1." in without
    assert re.search(
        r"denoise 0.5 with 4 steps at sigma [0-9.]+ \([0-9]+% noise\) \(segment 0\)", level
    )
    assert re.search(
        r"denoise 1 with 4 steps at sigma [0-9.]+ \((99|100)% noise\) \(segment 1\)", level
    )


@pytest.mark.parametrize(
    ("node", "inputs", "told"),
    [
        ("SegmentPlan", {"plan": "- steps: 3\n- setps: 4"}, r"line 2, column 3: 'setps' is no key"),
        ("SegmentPlan", {"plan": "- sampler_name: eular"}, "does not have"),
        ("SegmentRule", {"select": "index"}, "In 'which' at sign 1, a number is wanted"),
        ("SegmentRule", {"select": "expression", "which": "width <"}, "'which' at sign 8"),
        ("SegmentRule", {"label": ","}, "In 'label'"),
        ("SegmentRule", {"seed_or_offset": "x"}, "'seed' should be a whole number"),
        ("SegmentRule", {"steps": 0}, "'steps' should be a whole number from 1"),
        ("SegmentRule", {"denoise_by_size": "a: 1"}, "a size"),
    ],
)  # fmt: skip
def test_errors_say_what_and_where(server, node, inputs, told):
    graph = Graph()
    own = WIDGETS | inputs if node == "SegmentRule" else inputs
    graph.add("DetailersTestSink", value=graph.add(node, **own)[0])
    done = server.run(graph)
    assert not done.ok
    assert re.search(told, done.error.message), done.error.message


@pytest.mark.parametrize("value", [5, "text", ["a"], {"rules": []}])
def test_what_is_no_plan_is_refused(server, value):
    graph = Graph()
    model, image, segs = graph.model("flat8"), graph.image(*SIZE), graph.segs(*SIZE, *SEGMENTS)
    wrong = {"segment_plan": graph.value(value)}
    graph.add(
        "DetailersTestSink", value=graph.detail("DetailerForEach", image, segs, model, **wrong)[0]
    )
    done = server.run(graph)
    assert not done.ok
    assert "'segment_plan' should be a segment plan" in done.error.message
    assert "Segment Rule" in done.error.message


def test_rules_take_what_the_widgets_take(server):
    node = server.object_info("DetailerForEach")["input"]
    widgets = {**node["required"], **node["optional"]}
    control = server.object_info("ImpactControlNetApplyAdvancedSEGS")["input"]["required"]
    widgets["control_strength"] = control["strength"]
    bounds = {
        name: (options["min"], options["max"])
        for name, (kind, options, *_) in widgets.items()
        if kind in ("INT", "FLOAT") and name in LIMITS
    }
    assert bounds == {name: LIMITS[name][1:] for name in bounds}
    numbers = {name for name, (kind, _, _) in LIMITS.items() if kind is not bool}
    assert numbers - bounds.keys() == {"seed_offset", "crop_padding"}
