"""Conditionings for a part of the image are cut to the crop; on images that are 2:1."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import DETAILERS, Graph, box

RED, BLUE = np.array(PIXELS["red"]), np.array(PIXELS["blue"])
# Of an image of 256x128: red holds for the left and the lower part, blue for the rest.
BLUE_PART = [128, 0, 256, 64]
CROPS = {"all": [0, 0, 256, 128], "right": [64, 0, 192, 128], "corner": [96, 16, 160, 112]}


def by_mask(graph, model, mask_width, mask_height):
    """Red everywhere but in BLUE_PART, said by masks of another resolution."""

    def masked(text, value, around):
        x1, y1, x2, y2 = BLUE_PART
        scaled = [x1 * mask_width // 256, y1 * mask_height // 128]
        scaled += [x2 * mask_width // 256, y2 * mask_height // 128]
        mask = graph.mask(mask_width, mask_height, [*scaled, "r"])
        if around:
            mask = graph.add("InvertMask", mask=mask)[0]
        return graph.add(
            "ConditioningSetMask",
            conditioning=graph.text(model, text),
            mask=mask,
            strength=value,
            set_cond_area="default",
        )[0]

    return combined(graph, masked("red", 1.0, True), masked("blue", 1.0, False))


def by_area(graph, model, percentage):
    """Blue in BLUE_PART, red in the two areas that make up the rest."""
    x1, y1, x2, y2 = BLUE_PART
    parts = [("blue", x1, y1, x2, y2), ("red", 0, 0, x1, 128), ("red", x1, y2, 256, 128)]
    areas = []
    for text, left, top, right, bottom in parts:
        sides = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        if percentage:
            sides = {key: value / (256 if key in ("x", "width") else 128)
                     for key, value in sides.items()}  # fmt: skip
        node = "ConditioningSetAreaPercentage" if percentage else "ConditioningSetArea"
        areas.append(
            graph.add(node, conditioning=graph.text(model, text), **sides, strength=1.0)[0]
        )
    return combined(graph, *areas)


def combined(graph, first, *others):
    for other in others:
        inputs = {"conditioning_1": first, "conditioning_2": other}
        first = graph.add("ConditioningCombine", **inputs)[0]
    return first


@pytest.mark.parametrize("way", ["mask", "narrow mask", "area", "percentage"])
def test_each_part_of_the_image_gets_its_own_prompt(results, way):
    graph = Graph()
    model = graph.model("image8", prior_std=0.0)
    if way == "mask":
        positive = by_mask(graph, model, 256, 128)
    elif way == "narrow mask":
        positive = by_mask(graph, model, 64, 128)  # of other proportions than the image
    else:
        positive = by_area(graph, model, way == "percentage")
    image = graph.plain(256, 128, 0)
    links = {
        name: graph.detail(
            "DetailerForEach", image, graph.segs(256, 128, box(*crop)), model, positive,
            guide_size_for=False,
        )[0]
        for name, crop in CROPS.items()
    }  # fmt: skip
    out = results(graph, **links)
    for name, (left, top, right, bottom) in CROPS.items():
        found = out[name]["t0"][0]
        # away from the seam between the two, where the resize back blends
        for part, colour in (
            (found[top:bottom, left:120], RED),
            (found[top:56, 136:right], BLUE),
            (found[72:bottom, 136:right], RED),
        ):
            asked = np.broadcast_to(colour, part.shape)
            np.testing.assert_allclose(part, asked, atol=0.02, err_msg=name)


SHAPES = {"wide": (192, 64), "high": (128, 128), "small": (64, 32), "odd": (90, 60)}


class Hinted(Graph):
    """A picture of 128x64 and a model that draws its control alone: grey, and half of the hint."""

    def __init__(self, family="image8"):
        super().__init__()
        self.painter = self.model(family, prior_std=0.0)
        self.picture = self.image(128, 64)
        self.one = self.segs(128, 64, box(32, 8, 96, 40))  # 64x32 at its own size
        self.net = self.add("DetailersTestControl", family=family)[0]

    def guided(self, hint):
        positive = self.text(self.painter, "grey")
        return self.add(
            "ControlNetApplyAdvanced", positive=positive, negative=positive, control_net=self.net,
            image=hint, strength=0.5, start_percent=0.0, end_percent=1.0,
        )[0]  # fmt: skip

    def whole(self, positive, model=None):
        """The picture as one KSampler draws it."""
        painter = [model or self.painter[0], self.painter[1], self.painter[2]]
        latent = self.encode(self.painter, self.picture)
        return self.decode(self.painter, self.sample(painter, latent, positive))

    def crop(self, positive, model=None, **changed):
        painter = [model or self.painter[0], self.painter[1], self.painter[2]]
        options = {"guide_size": 64, "guide_size_for": False, "max_size": 64, **changed}
        return self.detail("DetailerForEach", self.picture, self.one, painter, positive, **options)[
            0
        ]


INSIDE = (slice(None), slice(8, 40), slice(32, 96))


def same_inside(found, whole, atol=1e-4):
    np.testing.assert_allclose(found["t0"][INSIDE], whole["t0"][INSIDE], atol=atol)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hint_of_other_proportions_is_seen_as_the_whole_picture_sees_it(results, shape):
    graph = Hinted()
    hint = graph.image(*SHAPES[shape], seed=5)
    out = results(graph, whole=graph.whole(graph.guided(hint)), crop=graph.crop(graph.guided(hint)))
    same_inside(out["crop"], out["whole"])
    assert out["whole"]["t0"][INSIDE].std() > 0.04


@pytest.mark.parametrize("shape", SHAPES)
def test_control_that_patches_the_model_is_cut_to_the_crop(results, shape):
    graph = Hinted()
    hint, grey = graph.image(*SHAPES[shape], seed=5), graph.text(graph.painter, "grey")
    model = graph.add(
        "DetailersTestModelPatch", model=graph.painter[0], vae=graph.painter[2], image=hint,
        strength=0.5,
    )[0]  # fmt: skip
    out = results(graph, whole=graph.whole(grey, model), crop=graph.crop(grey, model))
    # Of the odd one the host takes a pixel's mean, and the crop what is at its middle.
    same_inside(out["crop"], out["whole"], atol=0.05 if shape == "odd" else 1e-4)
    assert out["whole"]["t0"][INSIDE].std() > 0.04


def test_the_mask_of_another_packs_control_is_cut_to_the_crop(results):
    graph = Hinted()
    hint = graph.image(128, 64, seed=5)
    mask = graph.mask(128, 64, [0, 0, 64, 24, "r"])
    inputs = {"control_net": graph.net, "image": hint, "strength": 0.5}
    positive = graph.add(
        "DetailersTestMaskedControl", conditioning=graph.text(graph.painter, "grey"), mask=mask,
        wrapped=False, **inputs,
    )[0]  # fmt: skip
    out = results(graph, whole=graph.whole(positive), crop=graph.crop(positive))
    same_inside(out["crop"], out["whole"])
    np.testing.assert_allclose(out["whole"]["t0"][:, 24:, :], 0.5, atol=1e-4)


@pytest.mark.parametrize("node", DETAILERS)
def test_a_hint_that_is_no_picture_stops_no_detailer(run, node):
    graph = Hinted()
    positive = graph.add(
        "DetailersTestMaskedControl", conditioning=graph.text(graph.painter, "grey"),
        control_net=graph.net, image=graph.image(128, 64, seed=5), strength=0.5, wrapped=True,
    )[0]  # fmt: skip
    where = graph.mask(128, 64, [32, 8, 96, 40, "r"]) if node == "MaskDetailerPipe" else graph.one
    detailed = graph.detail(node, graph.picture, where, graph.painter, positive)
    graph.add("DetailersTestSink", value=detailed[0])
    run(graph)


def test_attention_masks_on_the_model_are_cut_to_the_crop(results, checkpoint):
    """A segment of the right half with a mask of the whole image, and with its own half of it."""
    graph = Graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
    picture, one = graph.image(128, 64), graph.segs(128, 64, box(64, 0, 128, 64))
    masks = {
        "whole": graph.mask(128, 64, [0, 0, 96, 64, "r"]),
        "own": graph.mask(128, 64, [32, 0, 96, 64, "r"]),
        "half": graph.mask(64, 64, [0, 0, 32, 64, "r"]),
    }
    links = {}
    for name, mask in masks.items():
        patched = graph.add("DetailersTestAttentionMask", model=model[0], mask=mask)[0]
        image, segs = picture, one
        if name == "half":  # the right half as a picture of its own
            image = graph.add("ImageCrop", image=picture, width=64, height=64, x=64, y=0)[0]
            segs = graph.segs(64, 64, box(0, 0, 64, 64))
        links[name] = graph.detail("DetailerForEach", image, segs, [patched, model[1], model[2]],
                                   steps=2)[0]  # fmt: skip
    out = {name: saved["t0"] for name, saved in results(graph, **links).items()}
    np.testing.assert_array_equal(out["whole"][:, :, 64:], out["own"][:, :, 64:])
    np.testing.assert_allclose(out["whole"][:, :, 64:], out["half"], atol=1e-5)


def test_a_control_hint_shows_the_crop_its_own_part(results):
    graph = Graph()
    model = graph.model("image1", prior_std=0.0)
    left, right = graph.plain(64, 64, 0x808080), graph.plain(64, 64, 0x8080FF)
    hint = graph.add("ImageStitch", image1=left, image2=right, direction="right",
                     match_image_size=False, spacing_width=0, spacing_color="white")[0]  # fmt: skip
    control = graph.add(
        "ControlNetApplyAdvanced",
        positive=graph.text(model, "black"),
        negative=graph.text(model, "black"),
        control_net=graph.add("DetailersTestControl", family="image1")[0],
        image=hint,
        strength=0.5,
        start_percent=0.0,
        end_percent=1.0,
    )
    image = graph.image(128, 64)
    segs = graph.segs(128, 64, box(0, 16, 40, 48), box(48, 8, 80, 40), box(96, 0, 128, 32))
    detailed = graph.detail("DetailerForEach", image, segs, model, control[0], control[1], cfg=3.0)
    found = results(graph, detailed=detailed[0])["detailed"]["t0"][0]
    grey, blue = (np.array(PIXELS["black"]) + (0.5 * (np.array(rgb) / 255 - 0.5)) for rgb in (
        (0x80, 0x80, 0x80), (0x80, 0x80, 0xFF)
    ))  # fmt: skip
    for part, colour in (
        (found[16:48, 0:40], grey),
        (found[8:40, 48:62], grey),
        (found[8:40, 66:80], blue),
        (found[0:32, 96:128], blue),
    ):
        np.testing.assert_allclose(part, np.broadcast_to(colour, part.shape), atol=0.02)
