"""References of edit models: those that show the image become the crop, and others stay whole.

The models draw what their references show, brought to the latent's size, and nothing else.
"""

import numpy as np
import pytest
from detailers.tests.host.graphs import DETAILERS, SAMPLING, Graph, box

SIZE = {"size_policy": "guide_size", "native_size": 0, "upright": "off", "angle": 0.0}
INSIDE = (slice(None), slice(8, 40), slice(24, 72))  # the crop of a picture of 96x64
CROP = box(24, 8, 72, 40)


class Scene(Graph):
    def __init__(self, family="image8"):
        super().__init__()
        self.painter = self.model(family, prior_std=0.0, reference_share=1.0)
        self.picture = self.image(96, 64)
        self.one = self.segs(96, 64, CROP)

    def scaled(self, picture, width, height, method="area", crop="disabled"):
        size = {"width": width, "height": height}
        return self.add("ImageScale", image=picture, upscale_method=method, crop=crop, **size)[0]

    def referring(self, *pictures):
        """A positive that refers to these pictures."""
        positive = self.text(self.painter, "red")
        for picture in pictures:
            latent = self.encode(self.painter, picture)
            positive = self.add("ReferenceLatent", conditioning=positive, latent=latent)[0]
        return positive

    def detailed(self, *pictures, node="DetailerForEach", image=None, segs=None, **changed):
        options = {"guide_size_for": False, "guide_size": 64, **changed}
        image, segs = image or self.picture, segs or self.one
        positive = self.referring(*pictures)
        return self.detail(node, image, segs, self.painter, positive, **options)[0]

    def choice(self, references):
        return self.add("DetailersCropOptions", **SIZE, references=references)[0]


def off(found, expected):
    """The mean difference: enlarged and shrunk again, the grain of these pictures loses 0.012."""
    return np.abs(found - expected).mean()


def squeezed(picture):
    """A picture of 96x64 in the crop of 48x32: every second pixel's mean with its neighbours."""
    batch, height, width, _ = picture.shape
    return picture.reshape(batch, height // 2, 2, width // 2, 2, 3).mean((2, 4))


def test_a_reference_to_the_image_becomes_the_crop(results):
    scene = Scene()
    references = {
        "own": scene.picture,
        "small": scene.scaled(scene.picture, 48, 32),
        "middle": scene.scaled(scene.picture, 128, 64, "lanczos", "center"),
    }
    links = {name: scene.detailed(reference) for name, reference in references.items()}
    out = results(scene, picture=scene.picture, **links)
    picture = out["picture"]["t0"]
    for name in references:
        assert off(out[name]["t0"][INSIDE], picture[INSIDE]) < 0.016, name
    assert np.array_equal(out["own"]["t0"][:, :8], picture[:, :8])


def test_another_picture_of_the_same_proportions_stays_whole(results):
    scene = Scene()
    other = scene.image(96, 64, seed=5)
    mirrored = scene.add("ImageFlip", image=scene.picture, flip_method="y-axis: horizontally")[0]
    out = results(
        scene,
        other=other,
        mirrored=mirrored,
        of_other=scene.detailed(other),
        of_mirrored=scene.detailed(mirrored),
        together=scene.detailed(scene.picture, other),  # the model draws the last of them
        chosen=scene.detailed(scene.picture, crop_options=scene.choice("whole")),
        picture=scene.picture,
    )
    for name, whole in (("of_other", "other"), ("of_mirrored", "mirrored"), ("together", "other"),
                        ("chosen", "picture")):  # fmt: skip
        assert off(out[name]["t0"][INSIDE], squeezed(out[whole]["t0"])) < 0.03, name
        assert off(out[name]["t0"][INSIDE], out[whole]["t0"][INSIDE]) > 0.05, name


def test_each_becomes_its_own_part_if_that_is_asked_for(results):
    scene = Scene()
    other = scene.image(96, 64, seed=5)
    options = {"crop_options": scene.choice("crop")}
    out = results(
        scene, other=other, picture=scene.picture, own=scene.detailed(scene.picture, **options),
        part=scene.detailed(other, **options),
        auto=scene.detailed(other, crop_options=scene.choice("auto")),
        plain=scene.detailed(other),
    )  # fmt: skip
    assert off(out["own"]["t0"][INSIDE], out["picture"]["t0"][INSIDE]) < 0.016
    assert off(out["part"]["t0"][INSIDE], out["other"]["t0"][INSIDE]) < 0.02
    assert np.array_equal(out["auto"]["t0"], out["plain"]["t0"])


@pytest.mark.parametrize("node", DETAILERS)
def test_on_every_detailer(results, node):
    scene = Scene("video8" if node.endswith("AnimateDiff") else "image8")
    frames = 5 if node.endswith("AnimateDiff") else 1
    image = scene.image(96, 64)
    image = scene.add("RepeatImageBatch", image=image, amount=frames)[0]
    segs = scene.one
    if node == "MaskDetailerPipe":
        segs = scene.mask(96, 64, [24, 8, 72, 40, "r"])
    changed = {"crop_factor": 1.0} if node == "MaskDetailerPipe" else {}
    link = scene.detailed(scene.picture, node=node, image=image, segs=segs, **changed)
    out = results(scene, found=link, picture=image)
    expected = out["picture"]["t0"][INSIDE]
    if node.startswith("SEGSDetailer"):
        found = out["found"]["segs0_0_image"]
    else:
        found = out["found"]["t0"][INSIDE]
    assert found.shape == expected.shape
    assert off(found, expected) < 0.016


def test_each_image_of_a_batch_is_told_apart(results):
    scene = Scene()
    images = scene.image(96, 64, batch=2)
    out = results(scene, images=images, own=scene.detailed(scene.picture, image=images),
                  both=scene.detailed(images, image=images))  # fmt: skip
    images, own, both = (out[name]["t0"] for name in ("images", "own", "both"))
    assert off(own[INSIDE][0], images[INSIDE][0]) < 0.016
    assert off(own[INSIDE][1], squeezed(images[:1])[0]) < 0.03
    assert off(both[INSIDE], images[INSIDE]) < 0.016


def test_segments_together_are_as_one_by_one(results):
    scene = Scene()
    segs = scene.segs(96, 64, box(0, 0, 48, 32), box(48, 32, 96, 64), box(48, 0, 96, 32))
    other = scene.image(96, 64, seed=5)
    links = {}
    for name, pictures in (("own", [scene.picture]), ("both", [other, scene.picture]),
                           ("other", [other])):  # fmt: skip
        for batch in (0, 1):
            links[f"{name}{batch}"] = scene.detailed(*pictures, segs=segs, detail_batch=batch)
    out = results(scene, **links)
    for name in ("own", "both", "other"):
        difference = out[f"{name}0"]["t0"] - out[f"{name}1"]["t0"]
        assert np.abs(difference).max() < 1e-5, name


def test_a_refiners_references_and_its_texts(results):
    scene = Scene()
    refiner = scene.add("ToBasicPipe", **scene.parts(scene.painter, scene.referring(scene.picture)))
    link = scene.detailed(
        scene.picture, node="DetailerForEachPipe", refiner_basic_pipe_opt=refiner[0],
        refiner_ratio=0.5,
    )  # fmt: skip
    out = results(scene, picture=scene.picture, found=link)
    assert off(out["found"]["t0"][INSIDE], out["picture"]["t0"][INSIDE]) < 0.016


def test_a_tile_sees_its_part_of_the_image(results):
    """A sampler that works in tiles draws each from the reference's own part."""
    scene = Scene()
    large, other = scene.image(640, 320), scene.image(640, 320, seed=5)
    latent = scene.encode(scene.painter, large)
    tile = {"tile_width": 320, "tile_height": 320, "tiling_strategy": "simple"}

    def upscaled(reference):
        parts = scene.parts(scene.painter, scene.referring(reference))
        del parts["clip"]
        upscaler = scene.add(
            "PixelTiledKSampleUpscalerProvider", **parts, **SAMPLING, **tile,
            scale_method="nearest-exact",
        )[0]  # fmt: skip
        larger = scene.add(
            "IterativeLatentUpscale", samples=latent, upscaler=upscaler, steps=1, temp_prefix="",
            upscale_factor=1.0, step_mode="simple",
        )[0]  # fmt: skip
        return scene.decode(scene.painter, larger)

    out = results(scene, large=large, own=upscaled(large), other=upscaled(other))
    assert off(out["own"]["t0"], out["large"]["t0"]) < 1e-3
    assert off(out["other"]["t0"], out["large"]["t0"]) > 0.05


def test_a_size_far_below_the_models_own_is_told(run):
    scene = Scene()
    other = scene.image(96, 64, seed=5)
    nodes = {
        "small": scene.detailed(scene.picture),
        "whole": scene.detailed(other),
        "large": scene.detailed(scene.picture, guide_size=800, max_size=2048),
    }
    for link in nodes.values():
        scene.add("DetailersTestSink", value=link)
    outputs = run(scene).outputs
    told = {
        name: [n["kind"] for n in outputs.get(link[0], {}).get("detailers_notes", [])]
        for name, link in nodes.items()
    }
    assert told == {"small": ["references"], "whole": [], "large": []}
