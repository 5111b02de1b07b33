"""ControlNets and IPAdapters of segments, in the real host."""

import numpy as np
from detailers.tests.host.graphs import Graph, box

BOX = box(16, 0, 80, 64)  # as large as guide_size: sampled at its own size
INSIDE = (slice(None), slice(0, 64), slice(16, 80))


def close(actual, expected, atol=1e-4):
    np.testing.assert_allclose(actual, expected, atol=atol)


class Scene(Graph):
    """A picture of 96x64, one segment of 64x64, and an analytic model and ControlNet.

    The ControlNet adds strength times its hint's colour, averaged over cells of 8x8 pixels, to the
    prompt's grey: the result is 0.5 + strength * (hint - 0.5).
    """

    def __init__(self, prior_std=0.0):
        super().__init__()
        self.painter = self.model("image8", prior_std=prior_std)
        self.net = self.add("DetailersTestControl", family="image8")[0]
        self.picture = self.image(96, 64)
        self.one = self.segs(96, 64, BOX)

    def controlled(self, segs, strength=0.5, node="ImpactControlNetApplyAdvancedSEGS", **inputs):
        if node == "ImpactControlNetApplyAdvancedSEGS":
            inputs = {"start_percent": 0.0, "end_percent": 1.0, **inputs}
        return self.add(node, segs=segs, control_net=self.net, strength=strength, **inputs)[0]

    def detailed(self, segs, image=None, **changed):
        """A debug detailer: [0] the image, [4] what the ControlNets saw."""
        changed = {"positive": "grey", **changed}
        image = image or self.picture
        return self.detail("DetailerForEachDebug", image, segs, self.painter, **changed)


def cells(picture):
    """Each pixel's mean over its cell of 8x8."""
    batch, height, width, _ = picture.shape
    mean = picture.reshape(batch, height // 8, 8, width // 8, 8, 3).mean((2, 4))
    return mean.repeat(8, 1).repeat(8, 2)


def test_the_control_image_is_cut_to_the_segment(results):
    scene = Scene()
    control = scene.image(96, 64, seed=5)
    segs = scene.controlled(scene.one, control_image=control)
    old = scene.controlled(scene.one, node="ImpactControlNetApplySEGS", control_image=control)
    detailed = scene.detailed(segs)
    out = results(
        scene,
        control=control,
        picture=scene.picture,
        image=detailed[0],
        seen=detailed[4],
        old=scene.detailed(old)[0],
    )
    hint = out["control"]["t0"][INSIDE]
    close(out["image"]["t0"][INSIDE], 0.5 + 0.5 * (cells(hint) - 0.5))
    close(out["seen"]["t0"], hint, atol=1e-6)
    assert np.array_equal(out["image"]["t0"][:, :, :16], out["picture"]["t0"][:, :, :16])
    assert np.array_equal(out["old"]["t0"], out["image"]["t0"])


def test_two_in_a_chain_add_up(results):
    scene = Scene()
    first, second = scene.image(96, 64, seed=5), scene.image(96, 64, seed=6)
    segs = scene.controlled(scene.one, 0.3, control_image=first)
    segs = scene.controlled(segs, 0.4, control_image=second)
    detailed = scene.detailed(segs)
    out = results(scene, first=first, second=second, image=detailed[0], seen=detailed[4])
    one, two = (out[name]["t0"][INSIDE] for name in ("first", "second"))
    close(out["image"]["t0"][INSIDE], 0.5 + 0.3 * (cells(one) - 0.5) + 0.4 * (cells(two) - 0.5))
    close(out["seen"]["t0"], one, atol=1e-6)
    close(out["seen"]["t1"], two, atol=1e-6)


def test_strength_0_and_cleared_segments_change_nothing(results):
    scene = Scene(prior_std=0.6)
    control = scene.image(96, 64, seed=5)
    at_full = scene.controlled(scene.one, 1.0, control_image=control)
    out = results(
        scene,
        plain=scene.detailed(scene.one)[0],
        nothing=scene.detailed(scene.controlled(scene.one, 0.0, control_image=control))[0],
        cleared=scene.detailed(scene.add("ImpactControlNetClearSEGS", segs=at_full)[0])[0],
        full=scene.detailed(at_full)[0],
    )
    assert np.array_equal(out["nothing"]["t0"], out["plain"]["t0"])
    assert np.array_equal(out["cleared"]["t0"], out["plain"]["t0"])
    assert np.abs(out["full"]["t0"] - out["plain"]["t0"]).max() > 0.1


def test_steps_without_a_control_net(results):
    """The model gives exactly what its last step asks for, so only that one counts."""
    scene = Scene()
    control = scene.image(96, 64, seed=5)
    early = scene.controlled(scene.one, control_image=control, end_percent=0.5)
    late = scene.controlled(scene.one, control_image=control, start_percent=0.5)
    out = results(
        scene, control=control, early=scene.detailed(early)[0], late=scene.detailed(late)[0]
    )
    close(out["early"]["t0"][INSIDE], np.full((1, 64, 64, 3), 0.5))
    hint = cells(out["control"]["t0"][INSIDE])
    close(out["late"]["t0"][INSIDE], 0.5 + 0.5 * (hint - 0.5))


def test_a_preprocessor_or_the_crop_itself_makes_the_hint(results):
    scene = Scene()
    preprocessor = scene.add("DetailersTestPreprocessor")[0]
    made = scene.detailed(scene.controlled(scene.one, segs_preprocessor=preprocessor))
    itself = scene.detailed(scene.controlled(scene.one))
    out = results(
        scene, picture=scene.picture, made=made[4], itself=itself[4], image=itself[0],
        inverted=made[0],
    )  # fmt: skip
    crop = out["picture"]["t0"][INSIDE]
    close(out["itself"]["t0"], crop, atol=1e-6)
    close(out["image"]["t0"][INSIDE], 0.5 + 0.5 * (cells(crop) - 0.5))
    assert out["made"]["t0"].shape == (1, 64, 64, 3)
    close(out["inverted"]["t0"][INSIDE], 0.5 + 0.5 * (cells(out["made"]["t0"]) - 0.5))
    assert np.abs(out["made"]["t0"] - (1 - crop)).mean() < 0.06


def test_an_enlarged_crop_off_the_grid(results):
    """A crop of 33x40 is enlarged to 64x77 and padded to 64x80; what is seen has no padding."""
    scene = Scene()
    scene.one = scene.segs(96, 64, box(20, 10, 53, 50))
    plain = scene.plain(96, 64, 0xC0C0C0)
    detailed = scene.detailed(scene.controlled(scene.one, control_image=plain))
    out = results(scene, image=detailed[0], seen=detailed[4])
    close(out["seen"]["t0"], np.full((1, 77, 64, 3), 0xC0 / 255), atol=1e-6)
    expected = 0.5 + 0.5 * (0xC0 / 255 - 0.5)
    close(out["image"]["t0"][:, 10:50, 20:53], np.full((1, 40, 33, 3), expected))


def test_each_image_and_each_frame_has_its_own_control_image(results):
    scene = Scene()
    control = scene.image(96, 64, batch=2, seed=5)
    segs = scene.controlled(scene.one, control_image=control)
    batch = scene.image(96, 64, batch=2)
    video = scene.detail(
        "DetailerForEachPipeForAnimateDiff", batch, segs, scene.painter, positive="grey"
    )
    out = results(scene, control=control, batch=scene.detailed(segs, batch)[0], video=video[0])
    expected = 0.5 + 0.5 * (cells(out["control"]["t0"][INSIDE]) - 0.5)
    close(out["batch"]["t0"][INSIDE], expected)
    close(out["video"]["t0"][INSIDE], expected)


def test_a_control_image_of_other_proportions_counts_by_its_middle(results):
    scene = Scene()
    control = scene.image(160, 64, seed=5)
    segs = scene.controlled(scene.one, control_image=control)
    out = results(scene, control=control, image=scene.detailed(segs)[0])
    middle = out["control"]["t0"][:, :, 32:128]  # as large as the picture
    close(out["image"]["t0"][INSIDE], 0.5 + 0.5 * (cells(middle[INSIDE]) - 0.5))


def test_empty_segs_pass_through(results):
    scene = Scene()
    none = scene.segs(96, 64)
    out = results(
        scene,
        segs=scene.controlled(none, control_image=scene.picture),
        cleared=scene.add("ImpactControlNetClearSEGS", segs=none)[0],
    )
    for name in ("segs", "cleared"):
        assert out[name]["segs0_shape"].tolist() == [64, 96]
        assert "segs0_0_bbox" not in out[name]


def test_a_real_control_net_guides_by_its_segments_part_of_the_picture(results, checkpoint):
    """A ControlNet of SD 1.5's architecture with random weights, through the host's loader."""
    graph = Graph()
    model = graph.add("CheckpointLoaderSimple", ckpt_name=checkpoint("sd15"))
    name = checkpoint("controlnet", "controlnet")
    net = graph.add("ControlNetLoader", control_net_name=name)[0]
    picture, one = graph.image(96, 64), graph.segs(96, 64, BOX)
    control = graph.image(96, 64, seed=5)
    outside = graph.segs(96, 64, box(0, 0, 16, 64))
    repainted = graph.add("SEGSPaste", image=control, segs=outside, feather=0, alpha=255,
                          ref_image_opt=graph.plain(96, 64, 0x00FF00))[0]  # fmt: skip

    def detailed(strength, control):
        segs = graph.add(
            "ImpactControlNetApplyAdvancedSEGS", segs=one, control_net=net, strength=strength,
            start_percent=0.0, end_percent=1.0, control_image=control,
        )[0]  # fmt: skip
        return graph.detail("DetailerForEach", picture, segs, model, steps=2)[0]

    out = results(
        graph,
        plain=graph.detail("DetailerForEach", picture, one, model, steps=2)[0],
        nothing=detailed(0.0, control),
        guided=detailed(1.0, control),
        same=detailed(1.0, repainted),
        other=detailed(1.0, graph.plain(96, 64, 0xFFFFFF)),
    )
    images = {name: saved["t0"][INSIDE] for name, saved in out.items()}
    assert np.isfinite(images["guided"]).all()
    assert np.array_equal(images["nothing"], images["plain"])
    assert np.array_equal(images["same"], images["guided"])
    assert np.abs(images["guided"] - images["plain"]).max() > 0.01
    assert np.abs(images["other"] - images["guided"]).max() > 0.001


# With packs that people have, or have not


IPADAPTER = {
    "weight": 0.7, "noise": 0.4, "weight_type": "channel penalty", "start_at": 0.0, "end_at": 0.9,
    "unfold_batch": False, "faceid_v2": False, "weight_v2": 1.0, "context_crop_factor": 1.0,
}  # fmt: skip


def test_without_its_pack_an_ip_adapter_says_what_is_missing(server):
    scene = Scene()
    pipe = scene.value(["adapter", 1, 2, 3, 4])
    inputs = {"segs": scene.one, "ipadapter_pipe": pipe, "reference_image": scene.picture}
    segs = scene.add("ImpactIPAdapterApplySEGS", **inputs, **IPADAPTER)[0]
    scene.add("DetailersTestSink", value=segs)
    done = server.run(scene)
    assert done.error.node_type == "ImpactIPAdapterApplySEGS"
    assert "ComfyUI_IPAdapter_plus, which is not installed" in done.error.message
