"""Images, masks and latents in half precision, as the host may give them, in nodes."""

import numpy as np
import pytest
from detailers.tests.host.graphs import Graph, box

# float16 and bfloat16 of values up to 1, and what a few operations make of their rounding.
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2}


class Halves(Graph):
    """The same graph on values of some precision, all of which hold what a half can hold."""

    def __init__(self, dtype, wide):
        super().__init__()
        self.dtype, self.wide = dtype, wide

    def cast(self, link):
        half = self.add("DetailersTestCast", value=link, dtype=self.dtype)[0]
        return self.add("DetailersTestCast", value=half, dtype="float32")[0] if self.wide else half


def links(dtype, wide):
    graph = Halves(dtype, wide)
    model = graph.model("image1", prior_std=0.0)
    image = graph.cast(graph.image(109, 83, batch=2))
    mask = graph.cast(graph.mask(109, 83, [21, 13, 80, 60, "e"]))
    small = graph.cast(graph.mask(55, 42, [5, 5, 30, 30, "r"]))
    latent = graph.add("DetailersTestCast", value=graph.encode(model, graph.image(64, 64)),
                       dtype="float32" if wide else dtype)[0]  # fmt: skip
    segs = graph.segs(109, 83, box(31, 23, 68, 50, mask="e"))
    found = graph.add(
        "MaskToSEGS", mask=mask, combined=False, crop_factor=1.5, bbox_fill=False, drop_size=4,
        contour_fill=False,
    )[0]  # fmt: skip
    soft = {"noise_mask_feather": 8, "feather": 5, "scheduler": "simple"}
    paste = graph.add(
        "DetailersPasteOptions", blend="multiband", color_match=1.0, restore_unmasked=True,
        mask_grow=0, feather=4, fade_at_border=True,
    )[0]  # fmt: skip
    refined = graph.detail("SEGSDetailer", image, found, model)[0]
    made = {
        "detailed": graph.detail("DetailerForEach", image, segs, model, **soft)[0],
        "fitted": graph.detail("DetailerForEach", image, found, model, paste_options=paste)[0],
        "masked": graph.detail("MaskDetailerPipe", image, mask, model)[0],
        "video": graph.detail("DetailerForEachPipeForAnimateDiff", image, found, model, **soft)[0],
        "pasted": graph.add("SEGSPaste", image=image, segs=refined, feather=5, alpha=255)[0],
        "combined": graph.add("SegsToCombinedMask", segs=found)[0],
        "sum": graph.add("AddMask", mask1=mask, mask2=small)[0],
        "rest": graph.add("SubtractMask", mask1=mask, mask2=small)[0],
        "both": graph.add("BitwiseAndMask", mask1=mask, mask2=small)[0],
        "dilated": graph.add("ImpactDilateMask", mask=mask, dilation=7)[0],
        "blurred": graph.add(
            "ImpactGaussianBlurMask", mask=mask, kernel_size=5, sigma=2.0
        )[0],
        "sampled": graph.add(
            "ImpactKSamplerBasicPipe", basic_pipe=graph.pipe(model), latent_image=latent, seed=5,
            steps=4, cfg=1.0, sampler_name="euler", scheduler="normal", denoise=0.5,
        )[1],
    }  # fmt: skip
    return graph, made


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_half_precision_gives_what_float32_gives(results, dtype):
    halves, wide = (
        results(graph, **made) for graph, made in (links(dtype, False), links(dtype, True))
    )
    for name in wide:
        kind = "latent0_samples" if name == "sampled" else "t0"
        np.testing.assert_allclose(
            halves[name][kind], wide[name][kind], atol=TOLERANCE[dtype], err_msg=name
        )
