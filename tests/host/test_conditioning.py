"""Conditionings that hold for a part of the image, cut to the crop; on images that are 2:1."""

import numpy as np
import pytest
from detailers.tests.host.by_hand import PIXELS
from detailers.tests.host.graphs import Graph, box

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
