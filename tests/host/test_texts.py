"""Segment texts in the real host: the text of each segment, and the effect of texts."""

import json

import numpy as np
import pytest
import torch
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import Graph, box

# In the order of detection: right and middling, left and large, in between and small.
SEGMENTS = [
    box(120, 16, 152, 48, label="face"),
    box(8, 8, 56, 56, label="hand"),
    box(72, 24, 88, 40, label="face"),
]


def colours(image, before, segments=SEGMENTS):
    """The name of the colour that each segment has, or "kept"; None for anything else."""
    return [_colour(*(part(pixels, entry) for pixels in (image, before))) for entry in segments]


def part(image, entry):
    x1, y1, x2, y2 = entry["bbox"]
    return image[0, y1:y2, x1:x2]


def _colour(pixels, before):
    if np.array_equal(pixels, before):
        return "kept"
    named = [name for name, rgb in PIXELS.items() if np.allclose(pixels, rgb, atol=1e-4)]
    return named[0] if named else None


@pytest.fixture
def painted(results):
    """painted({text: ...}) -> {text: image}, "" being the image before; the positive is red."""

    def painted(texts, segments=SEGMENTS, model=None, **settings):
        graph = Graph()
        model = graph.model("flat8", **{"prior_std": 0.0, **(model or {})})
        image = graph.image(160, 64)
        segs = graph.segs(160, 64, *segments)
        links = {"text0": image}
        for place, text in enumerate(texts, start=1):
            detailed = graph.detail(
                "DetailerForEach", image, segs, model, "red", wildcard=text, **settings
            )
            links[f"text{place}"] = detailed[0]
        out = results(graph, **links)
        return dict(zip(["", *texts], (out[name]["t0"] for name in links), strict=True))

    return painted


DEALT = {
    " ": ["red", "red", "red"],
    "blue": ["blue", "blue", "blue"],
    "green[SEP]blue": ["green", "blue", "green"],
    "[ASC]black[SEP]green[SEP]blue": ["blue", "black", "green"],
    "[DSC]black[SEP]green[SEP]blue": ["black", "blue", "green"],
    "[ASC-SIZE]black[SEP]green[SEP]blue": ["green", "blue", "black"],
    "[DSC-SIZE]black[SEP]green[SEP]blue": ["green", "black", "blue"],
    "[asc]blue[SEP][SEP]green": ["green", "blue", "red"],
    "[LAB][face]green[hand]blue": ["green", "blue", "green"],
    "[LAB][hand]blue": ["red", "blue", "red"],
    "[LAB][ALL]black, yellow[face](yellow:2)": ["yellow at 3/4", "yellow at 1/2", "yellow at 3/4"],
    "[LAB][face][SKIP][hand]green": ["kept", "green", "kept"],
    "[ASC][SKIP][SEP]green[SEP]blue": ["blue", "kept", "green"],
    "[ASC]green[SEP][STOP][SEP]blue": ["kept", "green", "kept"],
    "[STOP]": ["kept", "kept", "kept"],
    "# a comment\nblue": ["blue", "blue", "blue"],
}


def test_texts_colour_their_segments(painted):
    images = painted(DEALT)
    mixtures = {"yellow at 3/4": (0.65, 0.65, 0.2), "yellow at 1/2": (0.5, 0.5, 0.2)}
    for text, expected in DEALT.items():
        found = colours(images[text], images[""])
        for i, name in enumerate(expected):
            if name in mixtures:
                pixels = part(images[text], SEGMENTS[i])
                np.testing.assert_allclose(
                    pixels, np.broadcast_to(mixtures[name], pixels.shape), atol=1e-4
                )
                found[i] = name
        assert found == expected, text


def test_texts_are_added_joined_and_mixed(painted):
    texts = ["[CONCAT]blue", "red BREAK blue", "(red:3) blue", "red BREAK red BREAK blue"]
    images = painted(texts, SEGMENTS[:1])
    shares_of_blue = [1 / 2, 1 / 2, 1 / 4, 1 / 3]
    for text, share in zip(texts, shares_of_blue, strict=True):
        expected = (1 - share) * np.array(PIXELS["red"]) + share * np.array(PIXELS["blue"])
        pixels = part(images[text], SEGMENTS[0])
        np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-4)


def test_a_new_text_brings_its_own_pooled_vector(painted):
    images = painted(["blue", "[CONCAT]blue"], SEGMENTS[:1], model={"pooled_share": 1.0})
    assert colours(images["blue"], images[""], SEGMENTS[:1]) == ["blue"]
    assert colours(images["[CONCAT]blue"], images[""], SEGMENTS[:1]) == ["red"]


def test_choices_are_drawn_from_the_segments_seed(painted):
    four = [box(8 + 36 * i, 16, 40 + 36 * i, 48) for i in range(4)]
    texts = ["{red|green|blue|yellow|black|white}", "[RND]red[SEP]green[SEP]blue[SEP]yellow"]
    first = painted(texts, four, seed=3)
    again = painted(texts, four, seed=3, model={"oom_rows": 99})  # a new model: nothing is cached
    later = painted(texts, four, seed=4)
    other = painted(texts, four, seed=9)
    drawn = {
        key: [colours(images[text], images[""], four) for text in texts]
        for key, images in {"first": first, "again": again, "later": later, "other": other}.items()
    }
    assert not any(None in found for pair in drawn.values() for found in pair)
    assert drawn["again"] == drawn["first"]
    assert len(set(drawn["first"][0])) > 1
    assert drawn["first"][0][1:] == drawn["later"][0][:3]  # segment i has the node's seed + i
    assert drawn["other"] != drawn["first"]
    for order in (drawn["first"][1], drawn["other"][1]):
        assert sorted(order) == ["blue", "green", "red", "yellow"]


def test_texts_name_seeds(results, server):
    def seeds(text, **settings):
        graph = Graph()
        hook = graph.hook(name="")
        image = graph.image(160, 64)
        segs = graph.segs(160, 64, *SEGMENTS)
        model = graph.model("flat8")
        settings = {"detailer_hook": hook[0], "wildcard": text, **settings}
        detailed = graph.detail("DetailerForEach", image, segs, model, **settings)[0]
        graph.add("DetailersTestSave", value=hook[1], after=detailed, name="log")
        results(graph)
        log = json.loads(str(server.result("log")["s0"]))
        return [entry[1]["seed"] for entry in log if entry[0] == "pre_ksample"]

    assert seeds("[ASC]a[SEP:123]b[SEP]c") == [5, 123, 7]
    assert seeds("[ASC][SKIP][SEP]b[SEP]c") == [6, 7]
    assert seeds("a", seed=2**64 - 1) == [2**64 - 1, 0, 1]
    drawn = seeds("a[SEP:R]b[SEP:R]c")
    assert drawn[0] == 5
    assert len({5, 6, 7, *drawn}) == 5
    assert seeds("a[SEP:R]b[SEP:R]c") == drawn


def test_wildcard_lists_come_from_the_users_folder_and_the_samples(painted, server):
    folder = server.base / "models" / "wildcards" / "Paint"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one tone.txt").write_text("# only one\n\nblue\n")
    (folder / "tones.yaml").write_text("dark:\n  cold: [green]\n")
    expected = {
        "__paint/one-tone__": "blue",
        "__ONE TONE__": "blue",
        "__dark/cold__": "green",
        "__*/cold__": "green",
        "2#__one tone__": "blue",
    }
    images = painted([*expected, "__colour__"], SEGMENTS[:1])
    for text, colour in expected.items():
        assert colours(images[text], images[""], SEGMENTS[:1]) == [colour], text
    assert colours(images["__colour__"], images[""], SEGMENTS[:1]) != ["kept"]


@pytest.fixture
def greener(server):
    """A LoRA in the server's folder: the network's red is added to its green."""
    from safetensors.torch import save_file

    up, down = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    weights = {
        f"{network}.lora_{side}.weight": value.clone()
        for network in ("diffusion_model.tint", "text_encoders.tint")
        for side, value in (("up", up), ("down", down))
    }
    folder = server.base / "models" / "loras" / "tint"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "more green.safetensors")


def test_loras_of_a_text_hold_for_its_segments_alone(painted, greener):
    # Red is 0.6 -0.6 -0.6. The CLIP adds strength * 0.6 to its green, then the model does again.
    greens = {
        "<lora:tint/more green:0.5>red": -0.6 + 0.3 + 0.3,
        "<lora:more green.safetensors:0.5:0.25>red": -0.6 + 0.15 + 0.3,
        "<lora:More Green:0.5>": -0.6 + 0.3,  # no text: the node's positive, encoded before
        "<lora:more green:0.25><lora:more green:0.25>red": -0.6 + 0.15 + 0.15,  # loaded once
    }
    texts = [f"[ASC]{text}[SEP]red" for text in greens]
    images = painted(texts, SEGMENTS[:2])
    for text, green in zip(texts, greens.values(), strict=True):
        expected = (np.array([0.6, green, -0.6]) + 1) / 2
        pixels = part(images[text], SEGMENTS[1])
        np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-4)
        assert colours(images[text], images[""], SEGMENTS[:1]) == ["red"]


def test_nodes_of_other_packs_make_their_prompts_with_ours(results, server, greener):
    graph = Graph()
    model, image = graph.model("flat8", prior_std=0.0), graph.image(64, 64)
    text = "{red} BREAK red <lora:tint/more green:0.5>"
    called = graph.add(
        "DetailersTestCaller", basic_pipe=graph.pipe(model), mask=graph.mask(64, 64), text=text,
        seed=3,
    )  # fmt: skip
    segs = graph.segs(64, 64, box(8, 8, 56, 56))
    links = {
        name: graph.detail("DetailerForEach", image, segs, model, positive=called[output])[0]
        for output, name in enumerate(["by the node", "by another encoder"])
    }
    graph.add("DetailersTestSave", value=called[2], name="texts")
    graph.add("DetailersTestSink", value=called[3])
    out = results(graph, **links)
    drawn, again, plain, chunks = json.loads(str(server.result("texts")["s0"]))
    assert drawn == again == "red BREAK red <lora:tint/more green:0.5>"
    assert (plain, chunks) == ("red BREAK red", ["red", "red"])
    for name, blue, red in (("by the node", -0.6, 0.6), ("by another encoder", 0.6, -0.6)):
        expected = (np.array([red, -0.6 + 0.5 * red, blue]) + 1) / 2
        pixels = part(out[name]["t0"], box(8, 8, 56, 56))
        np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=1e-4)
