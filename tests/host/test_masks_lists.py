"""Masks, batches and lists in the host, many nodes to a prompt."""

import json

import numpy as np
import pytest
from detailers.tests.host.graphs import Graph
from PIL import Image
from scipy.ndimage import gaussian_filter


def drawn(height, width, *boxes):
    mask = np.zeros((height, width), np.float32)
    for x1, y1, x2, y2, *value in boxes:
        mask[y1:y2, x1:x2] = value[0] if value else 1
    return mask


def test_masks_are_calculated_with(results):
    graph = Graph()
    two = graph.mask(40, 24, [4, 4, 20, 20, "r"], [10, 2, 30, 12, "r", 0.5], per_item=True)
    one = graph.mask(40, 24, [12, 6, 36, 22, "r", 0.25])
    first, second, other = (
        drawn(24, 40, [4, 4, 20, 20]),
        drawn(24, 40, [10, 2, 30, 12, 0.5]),
        drawn(24, 40, [12, 6, 36, 22, 0.25]),
    )
    pair = {"mask1": two, "mask2": one}
    both = np.stack([first, second])
    out = results(
        graph,
        both=graph.add("BitwiseAndMask", **pair)[0],
        less=graph.add("SubtractMask", **pair)[0],
        more=graph.add("AddMask", **pair)[0],
        grown=graph.add("ImpactDilateMask", mask=two, dilation=5)[0],
        shrunk=graph.add("ImpactDilateMask", mask=two, dilation=-5)[0],
        soft=graph.add("ImpactGaussianBlurMask", mask=two, kernel_size=4, sigma=2.5)[0],
        hard=graph.add("ToBinaryMask", mask=two, threshold=100)[0],
        harder=graph.add("ToBinaryMask", mask=two, threshold=128)[0],
        flat=graph.add("ImpactFlattenMask", masks=two)[0],
    )
    out = {name: saved["t0"] for name, saved in out.items()}
    np.testing.assert_allclose(out["both"], np.minimum(both, other))
    np.testing.assert_allclose(out["less"], np.clip(both - other, 0, 1))
    np.testing.assert_allclose(out["more"], np.clip(both + other, 0, 1))
    np.testing.assert_array_equal(out["grown"][0], drawn(24, 40, [2, 2, 22, 22]))
    np.testing.assert_array_equal(out["shrunk"][0], drawn(24, 40, [6, 6, 18, 18]))
    np.testing.assert_array_equal(out["grown"][1], drawn(24, 40, [8, 0, 32, 14, 0.5]))
    for row in range(2):
        expected = gaussian_filter(both[row], 2.5, mode="mirror", radius=4)
        np.testing.assert_allclose(out["soft"][row], expected, atol=1e-5)
    np.testing.assert_array_equal(out["hard"], both > 0)
    np.testing.assert_array_equal(out["harder"], both > 0.502)
    np.testing.assert_array_equal(out["flat"], np.maximum(first, second)[None])


def test_masks_of_different_sizes_take_the_first_ones(results, server):
    graph = Graph()
    large = graph.mask(40, 24, [0, 0, 40, 24, "r"])
    small = graph.mask(20, 12, [0, 0, 10, 12, "r"])
    both = graph.add("BitwiseAndMask", mask1=large, mask2=small)[0]
    both = results(graph, both=both)["both"]["t0"]
    np.testing.assert_array_equal(both > 0.5, drawn(24, 40, [0, 0, 20, 24])[None])
    graph = Graph()
    batches = [graph.value({"shape": [count, 8, 8], "fill": 1}) for count in (2, 3)]
    added = graph.add("AddMask", mask1=batches[0], mask2=batches[1])[0]
    graph.add("DetailersTestSink", value=added)
    assert "'mask1' holds 2 masks and 'mask2' 3" in server.run(graph).error.message


# Rectangles


def test_rectangles_are_drawn_by_inputs(results):
    graph = Graph()
    area = {"x": 25, "y": 50, "width": 50, "height": 75, "blur_radius": 0}
    exact = {"x": 4, "y": 2, "width": 10, "height": 6, "image_width": 40, "image_height": 20}
    out = results(
        graph,
        percent=graph.add("MaskRectArea", **area)[0],
        pixels=graph.add("MaskRectAreaAdvanced", **exact, blur_radius=0)[0],
        soft=graph.add("MaskRectAreaAdvanced", **exact, blur_radius=3)[0],
        first=graph.add("MaskRectArea")[0],
        first_exact=graph.add("MaskRectAreaAdvanced")[0],
    )
    out = {name: saved["t0"][0] for name, saved in out.items()}
    np.testing.assert_array_equal(out["percent"], drawn(512, 512, [128, 256, 384, 512]))
    sharp = drawn(20, 40, [4, 2, 14, 8])
    np.testing.assert_array_equal(out["pixels"], sharp)
    soft = gaussian_filter(sharp, 0.3 * 2 + 0.8, mode="mirror", radius=3)
    np.testing.assert_allclose(out["soft"], soft, atol=1e-5)
    for name in ("first", "first_exact"):
        np.testing.assert_array_equal(out[name], drawn(512, 512, [0, 0, 256, 256]))


def test_rectangles_of_old_files_are_drawn_by_the_nodes_properties(run, server):
    graph = Graph()
    percent, exact = graph.add("MaskRectArea"), graph.add("MaskRectAreaAdvanced")
    graph.add("DetailersTestSave", value=percent[0], name="percent")
    graph.add("DetailersTestSave", value=exact[0], name="exact")

    def masks(**properties):
        sizes = {"width": 40, "height": 20}
        nodes = [
            {"id": int(percent.key), "type": "MaskRectArea", "properties": properties},
            {
                "id": int(exact.key),
                "type": "MaskRectAreaAdvanced",
                "properties": properties | sizes,
            },
        ]
        run(graph, extra_data={"extra_pnginfo": {"workflow": {"nodes": nodes}}})
        return [server.result(name)["t0"][0] for name in ("percent", "exact")]

    percents, pixels = masks(x=50, y=0, w=25, h=100, blur_radius=0)
    np.testing.assert_array_equal(percents, drawn(512, 512, [256, 0, 384, 512]))
    np.testing.assert_array_equal(pixels, np.zeros((20, 40)))  # begins beyond the right edge
    _, pixels = masks(x=4, y=2, w=10, h=6, blur_radius=0)  # changed properties count at once
    np.testing.assert_array_equal(pixels, drawn(20, 40, [4, 2, 14, 8]))


def test_the_painter_of_old_files_gives_the_painted_mask(results, server):
    alpha = np.full((12, 20), 255, np.uint8)
    alpha[2:6, 4:9] = 0  # where it was painted
    picture = np.dstack([np.zeros((12, 20, 3), np.uint8), alpha])
    Image.fromarray(picture).save(server.input / "painted.png")
    entry = {"filename": "painted.png", "subfolder": "", "type": "input"}
    graph = Graph()
    image = graph.image(20, 12)

    def painted(**entry):
        return graph.add("MaskPainter", images=image, **entry)[0]

    out = results(
        graph,
        painted=painted(mask_image=entry),
        gone=painted(mask_image=entry | {"filename": "gone.png", "type": "temp"}),
        outside=painted(mask_image=entry | {"subfolder": ".."}),
        none=painted(),
    )
    np.testing.assert_array_equal(out["painted"]["t0"][0], drawn(12, 20, [4, 2, 9, 6]))
    for name in ("gone", "outside", "none"):
        np.testing.assert_array_equal(out[name]["t0"], np.zeros((1, 12, 20)))


# Lists and batches


def test_batches_become_lists_and_lists_batches(results):
    graph = Graph()
    images = graph.image(20, 12, batch=2)
    masks = graph.mask(20, 12, [0, 0, 5, 5, "r"], [5, 5, 9, 9, "r"], per_item=True)
    image_list = graph.add("ImpactImageBatchToImageList", image=images)[0]
    mask_list = graph.add("MasksToMaskList", masks=masks)[0]
    out = results(
        graph,
        images=images,
        image_list=image_list,
        mask_list=mask_list,
        image_batch=graph.add("ImageListToImageBatch", images=image_list)[0],
        mask_batch=graph.add("MaskListToMaskBatch", mask=mask_list)[0],
        bridged=graph.add("ImpactListBridge", list_input=image_list)[0],
        one=graph.add("ImageListToImageBatch", images=images)[0],
    )
    before = out["images"]["t0"]
    for name in ("image_list", "bridged"):
        assert [out[name][f"t{i}"].shape for i in range(2)] == [(1, 12, 20, 3)] * 2
        np.testing.assert_array_equal(out[name]["t1"][0], before[1])
    np.testing.assert_array_equal(out["image_batch"]["t0"], before)
    np.testing.assert_array_equal(out["one"]["t0"], before)
    assert out["mask_list"]["t1"].shape == (1, 12, 20)
    expected = [drawn(12, 20, [0, 0, 5, 5]), drawn(12, 20, [5, 5, 9, 9])]
    np.testing.assert_array_equal(out["mask_batch"]["t0"], expected)


def test_any_number_of_inputs_in_the_order_of_their_numbers(results):
    graph = Graph()
    colours = [graph.plain(8, 8, 0x11 * (number + 1)) for number in range(12)]
    images = {f"image{number}": colours[number - 1] for number in (1, 10, 2, 12)}
    masks = {"mask1": graph.mask(8, 8, [0, 0, 4, 4, "r"]), "mask3": graph.mask(8, 8)}
    values = {"value2": 5, "value1": "text", "value11": graph.value([1, 2])}
    out = results(
        graph,
        images=graph.add("ImpactMakeImageList", **images)[0],
        batch=graph.add("ImpactMakeImageBatch", **images)[0],
        masks=graph.add("ImpactMakeMaskList", **masks)[0],
        mask_batch=graph.add("ImpactMakeMaskBatch", **masks)[0],
        values=graph.add("ImpactMakeAnyList", **values)[0],
    )
    blue = np.array([0x11, 0x22, 0xAA, 0xCC]) / 255
    found = [out["images"][f"t{i}"][0, 0, 0, 2] for i in range(4)]
    np.testing.assert_allclose(found, blue, rtol=1e-5)
    np.testing.assert_allclose(out["batch"]["t0"][:, 0, 0, 2], blue, rtol=1e-5)
    assert [out["masks"][f"t{i}"].sum() for i in range(2)] == [16, 0]
    assert out["mask_batch"]["t0"].shape == (2, 8, 8)
    assert [json.loads(str(out["values"][f"s{i}"])) for i in range(3)] == ["text", 5, [1, 2]]


def test_sizes_of_a_batch_are_those_of_the_first(results):
    graph = Graph()
    small, wide = graph.image(8, 8), graph.image(48, 16)
    masks = {"mask1": graph.mask(8, 8), "mask2": graph.mask(24, 8, [8, 0, 16, 8, "r"])}
    out = results(
        graph,
        wide=wide,
        batch=graph.add("ImpactMakeImageBatch", image1=small, image2=wide)[0],
        masks=graph.add("ImpactMakeMaskBatch", **masks)[0],
    )
    assert out["batch"]["t0"].shape == (2, 8, 8, 3)
    middle = out["wide"]["t0"][0, :, 16:32]
    np.testing.assert_allclose(
        out["batch"]["t0"][1, 2:6, 2:6].mean((0, 1)), middle[4:12, 4:12].mean((0, 1)), atol=0.03
    )
    assert out["masks"]["t0"].sum((1, 2)).tolist() == [0, 64]


@pytest.mark.parametrize(("index", "expected"), [(0, "a"), (2, "c"), (7, "c")])
def test_an_entry_of_a_list(results, index, expected):
    graph = Graph()
    values = graph.add("ImpactMakeAnyList", value1="a", value2="b", value3="c")[0]
    entry = graph.add("ImpactSelectNthItemOfAnyList", any_list=values, index=index)[0]
    assert json.loads(str(results(graph, entry=entry)["entry"]["s0"])) == expected
