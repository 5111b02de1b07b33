"""Text encoders that look at pictures see the crop, where they were shown the whole image.

The test models' text encoder takes a picture for a word of its mean colour, and the models paint
the colour of the text. So what is painted tells what the encoder has seen.
"""

import numpy as np
import pytest
from detailers.tests.host.graphs import DETAILERS, Graph, box
from detailers.tests.host.test_scheduler import counted  # noqa: F401, a fixture

CROP = box(24, 8, 72, 40)
INSIDE = (slice(8, 40), slice(24, 72))
EDIT, PLUS = "TextEncodeQwenImageEdit", "TextEncodeQwenImageEditPlus"
# The other nodes of the host that show pictures to text encoders: inputs, and the picture's name.
OTHERS = {
    "TextEncodeBooguEdit": ({"negative_prompt": ""}, "images.image_1"),
    "TextEncodeMageFlowEdit": (
        {"negative_prompt": "", "width": 0, "height": 0, "batch_size": 1}, "images.image_1",
    ),
    "TextEncodeJoyImageEdit": ({}, "images.image0"),
}  # fmt: skip


class Scene(Graph):
    """A picture of 96x64 with an orange block, which fills the crop, and a text that shows it."""

    def __init__(self, family="flat8"):
        super().__init__()
        self.painter = self.model(family, prior_std=0.0)
        self.picture = self.marked(self.image(96, 64), 24, 8, 0xFF8000)
        self.one = self.segs(96, 64, CROP)
        self.size = {"size_policy": "guide_size", "native_size": 0, "upright": "off", "angle": 0.0}

    def marked(self, image, x, y, colour):
        """An image with a block of a colour that keeps a little of what it covers."""
        block, size = self.plain(48, 32, colour), {"width": 48, "height": 32}
        part = self.add("ImageCrop", image=image, x=x, y=y, **size)[0]
        blend = {"blend_factor": 0.1, "blend_mode": "normal"}
        block = self.add("ImageBlend", image1=block, image2=part, **blend)[0]
        place = {"x": x, "y": y, "resize_source": False}
        return self.add("ImageCompositeMasked", destination=image, source=block, **place)[0]

    def shown(self, *pictures, node=PLUS, text=""):
        """A positive whose text encoder was shown these pictures."""
        names = ["image"] if node == EDIT else ["image1", "image2", "image3"]
        links = dict(zip(names, pictures, strict=False))
        return self.add(node, clip=self.painter[1], prompt=text, **links)[0]

    def detailed(self, positive, node="DetailerForEach", image=None, segs=None, **changed):
        options = {"guide_size_for": False, "guide_size": 64, **changed}
        image, segs = image or self.picture, segs or self.one
        return self.detail(node, image, segs, self.painter, positive, **options)[0]

    def choice(self, references):
        return self.add("DetailersCropOptions", **self.size, references=references)[0]


def mean(picture, place=(slice(None), slice(None))):
    return picture[0][place].mean((0, 1))


def painted(saved, place=INSIDE):
    """The one colour of the crop."""
    picture = saved["t0"][0][place]
    assert np.ptp(picture, axis=(0, 1)).max() < 0.01
    return picture.mean((0, 1))


@pytest.mark.parametrize("node", [EDIT, PLUS])
def test_the_encoder_sees_the_crop(results, node):
    scene = Scene()
    out = results(scene, picture=scene.picture, found=scene.detailed(
        scene.shown(scene.picture, node=node)))  # fmt: skip
    picture = out["picture"]["t0"]
    assert np.abs(mean(picture, INSIDE) - mean(picture)).max() > 0.1
    np.testing.assert_allclose(painted(out["found"]), mean(picture, INSIDE), atol=0.01)


@pytest.mark.parametrize("node", OTHERS)
def test_the_hosts_other_nodes(results, server, node):
    if node not in server.object_info():
        pytest.skip(f"this ComfyUI has no {node}")
    scene = Scene()
    inputs, name = OTHERS[node]
    links = {**inputs, name: scene.picture, "clip": scene.painter[1], "prompt": ""}
    if node == "TextEncodeBooguEdit":
        links["vae"] = scene.painter[2]
    positive = scene.add(node, **links)[0]
    out = results(scene, picture=scene.picture, found=scene.detailed(positive))
    np.testing.assert_allclose(
        painted(out["found"]), mean(out["picture"]["t0"], INSIDE), atol=0.015
    )


@pytest.mark.parametrize("node", DETAILERS)
def test_in_every_detailer(results, node):
    scene = Scene("video8" if node.endswith("AnimateDiff") else "flat8")
    frames = 5 if node.endswith("AnimateDiff") else 1
    image = scene.add("RepeatImageBatch", image=scene.picture, amount=frames)[0]
    segs, changed = scene.one, {}
    if node == "MaskDetailerPipe":
        segs = scene.mask(96, 64, [24, 8, 72, 40, "r"])
        changed = {"crop_factor": 1.0}
    link = scene.detailed(scene.shown(scene.picture), node, image, segs, **changed)
    out = results(scene, found=link, picture=scene.picture)
    found = out["found"]
    if node.startswith("SEGSDetailer"):
        colour = found["segs0_0_image"][0].mean((0, 1))
    else:
        colour = painted(found)
    np.testing.assert_allclose(colour, mean(out["picture"]["t0"], INSIDE), atol=0.015)


def test_pictures_of_something_else_stay_whole(results):
    scene = Scene()
    person = scene.marked(scene.image(64, 96, seed=7), 8, 40, 0x0000FF)
    shown = scene.shown(scene.picture, person)
    links = {
        "both": scene.detailed(shown),
        "alone": scene.detailed(scene.shown(person)),
        "whole": scene.detailed(shown, crop_options=scene.choice("whole")),
        "parts": scene.detailed(scene.shown(scene.marked(scene.image(96, 64, seed=3), 24, 8, 255)),
                                crop_options=scene.choice("crop")),
    }  # fmt: skip
    out = results(scene, picture=scene.picture, person=person, **links)
    picture, own = out["picture"]["t0"], mean(out["person"]["t0"])
    expected = {
        "both": (mean(picture, INSIDE) + own) / 2, "alone": own,
        "whole": (mean(picture) + own) / 2, "parts": [0.05, 0.05, 0.95],
    }  # fmt: skip
    for name, colour in expected.items():
        np.testing.assert_allclose(painted(out[name]), colour, atol=0.03, err_msg=name)


def test_each_segment_is_encoded_once(counted):  # noqa: F811
    def encodes(person, segments, **changed):
        scene = Scene()
        boxes = [box(48 * (i % 2), 32 * (i // 2), 48 * (i % 2) + 48, 32 * (i // 2) + 32)
                 for i in range(segments)]  # fmt: skip
        pictures = [scene.picture, scene.image(64, 96, seed=7)][: 1 + person]
        segs, options = scene.segs(96, 64, *boxes), {"steps": 3 + person, **changed}
        return counted(scene, scene.detailed(scene.shown(*pictures), segs=segs, **options))[
            "text_encodes"
        ]

    nodes = 2  # texts of the node, positive and negative
    assert encodes(0, 3) == nodes + 3
    assert encodes(1, 2, cycle=2) == nodes + 2
    assert encodes(0, 2, wildcard="blue") == nodes + 2


def test_a_text_without_pictures_is_encoded_once(counted):  # noqa: F811
    scene = Scene()
    segs = scene.segs(96, 64, CROP, box(0, 40, 24, 64))
    positive = scene.text(scene.painter, "cyan")
    assert counted(scene, scene.detailed(positive, segs=segs, steps=6))["text_encodes"] == 2


def test_texts_of_segments(results):
    scene = Scene()
    shown = scene.shown(scene.picture)
    links = {
        "own": scene.detailed(shown, wildcard="blue"),
        "chunks": scene.detailed(shown, wildcard="blue BREAK nothing"),
        "edit": scene.detailed(scene.shown(scene.picture, node=EDIT, text="red"), wildcard="blue"),
        "plain": scene.detailed(scene.text(scene.painter, "red"), wildcard="blue"),
        "added": scene.detailed(shown, wildcard="[CONCAT]blue"),
    }
    out = results(scene, picture=scene.picture, **links)
    blue = np.array([0.2, 0.2, 0.8])
    both = (mean(out["picture"]["t0"], INSIDE) + blue) / 2
    for name, colour in {**dict.fromkeys(("own", "chunks", "edit", "added"), both),
                         "plain": blue}.items():  # fmt: skip
        np.testing.assert_allclose(painted(out[name]), colour, atol=0.01, err_msg=name)


def test_a_refiners_text(results):
    scene = Scene()
    refiner = scene.add("ToBasicPipe", **scene.parts(scene.painter, scene.shown(scene.picture)))
    link = scene.detailed(
        "red", node="DetailerForEachPipe", refiner_basic_pipe_opt=refiner[0], refiner_ratio=0.5
    )
    out = results(scene, picture=scene.picture, found=link)
    np.testing.assert_allclose(painted(out["found"]), mean(out["picture"]["t0"], INSIDE), atol=0.01)


def test_images_of_a_batch_and_segments_together(results):
    scene = Scene()
    second = scene.marked(scene.image(96, 64, seed=4), 24, 8, 0x00FF40)
    batch = scene.add("ImageBatch", image1=scene.picture, image2=second)[0]
    shown = scene.shown(scene.picture)
    segs = scene.segs(96, 64, CROP, box(0, 40, 24, 64), box(72, 0, 96, 24))
    out = results(
        scene, batch=batch,
        each=scene.detailed(scene.shown(batch), image=batch),
        first=scene.detailed(shown, image=batch),
        **{f"waves{n}": scene.detailed(shown, segs=segs, detail_batch=n) for n in (0, 1)},
    )  # fmt: skip
    batch, each, first = (out[name]["t0"] for name in ("batch", "each", "first"))
    for row in (0, 1):
        np.testing.assert_allclose(mean(each[row:], INSIDE), mean(batch[row:], INSIDE), atol=0.01)
    np.testing.assert_allclose(mean(first, INSIDE), mean(batch, INSIDE), atol=0.01)
    # The first image is another picture for the second.
    np.testing.assert_allclose(mean(first[1:], INSIDE), mean(batch), atol=0.03)
    assert np.abs(out["waves0"]["t0"] - out["waves1"]["t0"]).max() < 1e-5


def test_what_other_nodes_did_with_a_text_stays(results):
    """Options that were set stay; a text that was changed is no more what the encoder gave."""
    scene = Scene()
    shown = scene.shown(scene.picture)
    area = {"width": 0.25, "height": 1.0, "x": 0.25, "y": 0.0, "strength": 1.0}
    links = {
        "kept": scene.detailed(
            scene.add("ConditioningSetAreaPercentage", conditioning=shown, **area)[0]
        ),
        "zero": scene.detailed(scene.add("ConditioningZeroOut", conditioning=shown)[0]),
        "mixed": scene.detailed(
            scene.add("ConditioningAverage", conditioning_to=shown,
                      conditioning_from=scene.shown(scene.picture),
                      conditioning_to_strength=0.5)[0]
        ),
    }  # fmt: skip
    out = results(scene, picture=scene.picture, **links)
    picture = out["picture"]["t0"]
    left, right = (slice(10, 38), slice(26, 44)), (slice(10, 38), slice(54, 70))
    np.testing.assert_allclose(painted(out["kept"], left), mean(picture, INSIDE), atol=0.02)
    assert np.abs(mean(out["kept"]["t0"], right) - mean(picture, INSIDE)).max() > 0.1
    np.testing.assert_allclose(painted(out["zero"]), 0.5, atol=0.01)
    np.testing.assert_allclose(painted(out["mixed"]), mean(picture), atol=0.03)
