"""A photograph in every detailer, with a model that keeps everything.

The model draws what its reference shows, which is the crop: see `test_references.py`.
"""

import json

import numpy as np
import pytest
from detailers.dev.metrics import psnr
from detailers.dev.photographs import PHOTOGRAPHS
from detailers.tests.host.graphs import DETAILERS, SAMPLING, Graph
from detailers.tests.host.test_face import WIDGETS as FACE_WIDGETS
from PIL import Image

KEPT = 50.0  # dB
SIZE = {"guide_size": 136, "guide_size_for": True, "max_size": 1024}
EVERY = {
    "blend": "feather", "color_match": 1.0, "restore_unmasked": True, "mask_grow": 0,
    "feather": -1, "fade_at_border": True,
}  # fmt: skip
PASTED = [
    {},
    {"blend": "multiband", "mask_grow": 8},
    {"color_match": 0.0, "restore_unmasked": False, "feather": 16, "register": "auto"},
    {"vae_loss": "residual"},
    {"vae_loss": "auto", "register": "auto", "blend": "multiband"},
]
pytestmark = pytest.mark.once
TURNED = {"native_size": 0, "upright": "angle", "angle": 20.0}


@pytest.fixture(scope="module")
def astronaut(server, tmp_path_factory):
    """LoadImage's name of the photograph without its lower half, and the face in it."""
    (own,) = [each for each in PHOTOGRAPHS if each.name == "astronaut"]
    if own.path is None:
        pytest.skip(f"{own.package} with {own.file} is not installed")
    file = tmp_path_factory.mktemp("photographs") / "astronaut_top.png"
    with Image.open(own.path) as picture:
        picture.convert("RGB").crop((0, 0, 448, 288)).save(file)
    return server.upload_image(file), own.faces[0]


class Scene(Graph):
    """The photograph, a model that keeps it, and the face as a segment and as a mask."""

    def __init__(self, astronaut, family="image8", frames=1):
        super().__init__()
        file, self.face = astronaut
        self.picture = self.add("LoadImage", image=file)[0]
        self.images = self.add("RepeatImageBatch", image=self.picture, amount=frames)[0]
        self.painter = self.model(family, prior_std=0.0, reference_share=1.0)
        latent = self.encode(self.painter, self.picture)
        self.positive = self.add(
            "ReferenceLatent", conditioning=self.text(self.painter, "red"), latent=latent
        )[0]
        self.oval = self.mask(448, 288, [*self.face, "e"])
        self.one = self.add(
            "MaskToSEGS", mask=self.oval, combined=False, crop_factor=2.0, bbox_fill=False,
            drop_size=1, contour_fill=False,
        )[0]  # fmt: skip

    def detailed(self, node, segs=None, **changed):
        segs = segs or (self.oval if node == "MaskDetailerPipe" else self.one)
        options = {**SIZE, **({"feather": 5} if "feather" in DETAILERS[node] else {}), **changed}
        return self.detail(node, self.images, segs, self.painter, self.positive, **options)[0]


def assert_kept(out, names, least=KEPT):
    before = out["before"]["t0"]
    for name in names:
        after = out[name]["t0"]
        assert after.shape == before.shape, name
        assert not np.array_equal(after, before), name  # something was pasted
        for own, one in zip(after, before, strict=True):
            assert psnr(own, one, np.ones(one.shape[:2])) >= least, name


@pytest.mark.parametrize("node", DETAILERS)
def test_every_detailer_gives_the_photograph_back(results, astronaut, node):
    is_clip = node.endswith("AnimateDiff")
    scene = Scene(astronaut, "video8" if is_clip else "image8", 5 if is_clip else 1)
    link = scene.detailed(node)
    if node.startswith("SEGSDetailer"):
        link = scene.add("SEGSPaste", image=scene.images, segs=link, feather=5, alpha=255)[0]
    assert_kept(results(scene, before=scene.images, after=link), ["after"])


def test_every_way_to_paste(results, astronaut):
    scene = Scene(astronaut)
    crops = {
        "upright": {},
        "turned": {
            "crop_options": scene.add("DetailersCropOptions", size_policy="guide_size", **TURNED)[0]
        },
    }
    links = {
        f"{place} {name}": scene.detailed(
            "DetailerForEach",
            paste_options=scene.add("DetailersPasteOptions", **{**EVERY, **options})[0], **crop,
        )
        for place, options in enumerate(PASTED)
        for name, crop in crops.items()
    }  # fmt: skip
    out = results(scene, before=scene.images, **links)
    assert_kept(out, links)
    assert_kept(out, [name for name in links if name[0] in "34"], least=80)


@pytest.fixture(scope="module")
def defaults(server):
    """defaults(node): its required widgets as the editor makes them."""

    def defaults(node):
        widgets = {}
        for name, (kind, *rest) in server.object_info(node)["input"]["required"].items():
            options = rest[0] if rest else {}
            choices = kind if isinstance(kind, list) else options.get("options")
            if "default" in options or choices:
                widgets[name] = options.get("default", choices and choices[0])
        return widgets

    return defaults


def test_faces_tiles_and_tracks(results, astronaut, defaults):
    """Detectors, pipes, tiles and the detailer of tracks."""
    scene = Scene(astronaut, frames=3)
    boxes = json.dumps([[*scene.face, "face", 0.9]])
    detector = scene.add("DetailersTestDetector", boxes=boxes)[0]
    parts = scene.parts(scene.painter, scene.positive)
    face = {**FACE_WIDGETS, **SIZE, "feather": 5, "bbox_crop_factor": 2.0}
    basic = scene.add("ToBasicPipe", **parts)[0]
    pipe = scene.add(
        "BasicPipeToDetailerPipe",
        **{**defaults("BasicPipeToDetailerPipe"), "basic_pipe": basic, "bbox_detector": detector},
    )[0]
    tiles = scene.add(
        "ImpactMakeTileSEGS",
        **{**defaults("ImpactMakeTileSEGS"), "images": scene.picture, "bbox_size": 256},
    )[0]
    residual = scene.add("DetailersPasteOptions", **EVERY, vae_loss="residual")[0]
    tracks = scene.add(
        "TrackSegments",
        **{**defaults("TrackSegments"), "frames": scene.images, "bbox_detector": detector,
           "crop_factor": 2.0, "min_frames": 1},
    )[0]  # fmt: skip
    links = {
        "face": scene.add("FaceDetailer", image=scene.picture, bbox_detector=detector,
                          **{**parts, **face, "wildcard": ""})[0],
        "pipe": scene.add("FaceDetailerPipe", image=scene.picture, detailer_pipe=pipe,
                          **{**face, "refiner_ratio": 0.2})[0],
        "tiles": scene.detailed("DetailerForEach", tiles, guide_size=256, feather=8),
        "larger tiles": scene.detailed(
            "DetailerForEach", tiles, guide_size=320, feather=8, paste_options=residual
        ),
        "tracks": scene.add("VideoDetailer", **{
            **defaults("VideoDetailer"), **SIZE, **SAMPLING, "frames": scene.images,
            "tracks": tracks, "basic_pipe": basic, "feather": 5, "wildcard": ""})[0],
    }  # fmt: skip
    before = {"picture": scene.picture, "frames": scene.images}
    out = results(scene, **before, **links)
    for name, own in (("face", "picture"), ("pipe", "picture"), ("tracks", "frames")):
        assert_kept({**out, "before": out[own]}, [name])
    assert_kept({**out, "before": out["frames"]}, ["tiles", "larger tiles"])
