"""What packs import as ComfyUI-Impact-Pack's modules: the names, and what they do."""

import logging
import sys

import numpy as np
import torch
from detailers import compat
from detailers.core.host.detectors import register_folders
from detailers.core.user_settings import UserSettings
from PIL import Image

register_folders()
NAMES = {
    "core": "SEG enhance_detail segs_to_combined_mask segs_bitwise_and_mask segs_scale_match "
    "crop_condition_mask get_schedulers SCHEDULERS make_sam_mask mask_to_segs REGIONAL_PROMPT "
    "KSamplerAdvancedWrapper",
    "utils": "tensor_resize tensor_paste tensor_gaussian_blur_mask tensor_convert_rgb "
    "tensor_convert_rgba tensor_putalpha tensor_get_size to_tensor to_latent_image crop_image "
    "crop_ndarray4 empty_pil_tensor apply_differential_diffusion bitwise_and_masks add_masks",
    "impact_sampling": "ksampler_wrapper separated_sample",
    "wildcards": "process process_with_loras process_wildcard_for_segs get_wildcard_list",
    "hooks": "DetailerHook DetailerHookCombine PixelKSampleHook BlackPatchRetryHook",
    "impact_pack": "FaceDetailer DetailerForEach DetailerForEachTest MaskDetailerPipe SAMLoader",
    "segs_nodes": "SEGSPaste MaskToSEGS SEGSDetailer DefaultImageForSEGS",
    "detectors": "BboxDetectorForEach SimpleDetectorForEach",
}


def with_modules(check):
    """The check with the modules to be imported, as packs have them."""

    def run():
        finder = compat.stand_in(lambda: True)
        try:
            check()
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.split(".")[0] == "impact"]:
                del sys.modules[name]

    return run


@with_modules
def check_every_name_is_there():
    for module, names in NAMES.items():
        for name in names.split():
            space = {}
            code = f"from impact.{module} import {name} as got\nimport impact.{module} as whole"
            exec(code, space)  # noqa: S102
            assert space["got"] is not None, name
            assert name in dir(space["whole"])
    exec("from impact.utils import *", space)  # noqa: S102
    assert space["tensor_resize"] is sys.modules["impact.utils"].tensor_resize
    from impact import utils

    assert utils is sys.modules["impact.utils"]


@with_modules
def check_what_is_missing_is_named():
    import impact.core

    assert not hasattr(impact.core, "nothing_like_it")
    for code, kind, parts in (
        ("impact.core.no_such", AttributeError, ("impact.core.no_such", "Detailers", "Install")),
        ("import impact.none", ModuleNotFoundError, ("impact.none", "Detailers", "no such module")),
        ("from impact.core import no_such", ImportError, ("no_such", "impact.core")),
    ):
        try:
            exec(code, {"impact": impact})  # noqa: S102
        except kind as error:
            assert all(part in str(error) for part in parts), error
        else:
            raise AssertionError(code)


def check_nothing_is_given_where_it_is_not_allowed():
    finder = compat.stand_in(lambda: False)
    try:
        import impact.core  # noqa: F401
    except ModuleNotFoundError as error:
        assert error.name == "impact"
    else:
        raise AssertionError
    finally:
        sys.meta_path.remove(finder)


def check_a_setting_of_the_users_turns_it_off():
    from detailers.compat import neighbours

    before, own = list(sys.meta_path), neighbours.user_settings
    neighbours.user_settings = lambda: UserSettings(compat=False)
    try:
        neighbours.stand_in([])
    finally:
        neighbours.user_settings = own
    assert sys.meta_path == before


@with_modules
def check_pictures():
    from impact import utils

    ramp = torch.linspace(0, 1, 48).reshape(1, 4, 4, 3)
    assert utils.tensor_get_size(torch.zeros(2, 5, 7, 3)) == (7, 5)
    assert utils.tensor_resize(ramp, 8, 6).shape == (1, 6, 8, 3)
    assert utils.tensor_resize(ramp.numpy(), 4, 4).dtype == torch.float32
    assert utils.tensor_convert_rgb(torch.zeros(1, 2, 2, 4)).shape[-1] == 3
    rgba = utils.tensor_convert_rgba(ramp)
    assert torch.equal(rgba[..., :3], ramp)
    assert rgba[..., 3].eq(1).all()
    utils.tensor_putalpha(rgba, torch.full((1, 4, 4, 1), 0.25))
    assert rgba[..., 3].eq(0.25).all()
    assert torch.equal(utils.crop_image(ramp, (1, 0, 3, 2)), ramp[:, 0:2, 1:3])
    assert isinstance(utils.crop_ndarray4(ramp.numpy(), [0, 0, 2, 2]), np.ndarray)
    assert utils.empty_pil_tensor().tolist() == torch.zeros(1, 64, 64, 3).tolist()
    picture = Image.new("RGB", (3, 2), (255, 0, 51))
    assert utils.to_tensor(picture)[0, 0].tolist() == [1, 0, np.float32(0.2)]
    assert utils.pil2tensor(picture).shape == (1, 2, 3, 3)
    assert utils.to_pil(utils.pil2tensor(picture)).getpixel((2, 1)) == (255, 0, 51)


@with_modules
def check_pasting():
    """In place, by the mask, cut off at the border; a picture's own alpha counts."""
    from impact import utils

    image = torch.zeros(1, 4, 4, 3)
    mask = np.array([[0.0, 1.0], [0.5, 1.0]], dtype=np.float32)
    assert utils.tensor_paste(image, torch.ones(1, 2, 2, 3), (3, 1), mask[None, ..., None]) is None
    assert image[0, :, :, 0].tolist() == [[0] * 4, [0] * 4, [0, 0, 0, 0.5], [0] * 4]
    with_alpha = torch.ones(1, 2, 2, 4) * torch.tensor([1, 1, 1, 0.5])
    utils.tensor_paste(image, with_alpha, (0, 0), torch.ones(1, 2, 2, 1))
    assert image[0, :2, :2, 1].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    utils.tensor_paste(image, torch.ones(1, 4, 4, 3), (0, 0), torch.ones(1, 2, 2, 1))
    assert image.eq(1).all()


@with_modules
def check_masks():
    from impact import utils

    mask = np.zeros((9, 9), dtype=np.float32)
    mask[4, 4] = 1
    soft = utils.tensor_gaussian_blur_mask(mask, 1)
    assert soft.shape == (1, 9, 9, 1)
    assert 0 < soft[0, 3, 3, 0] < soft[0, 4, 4, 0] < 0.2
    assert soft[0, 2, 2, 0] == 0
    first, second = torch.full((1, 2, 2), 0.75), np.full((2, 2), 0.5, dtype=np.float32)
    assert utils.bitwise_and_masks(first, second).tolist() == [[[0.5, 0.5]] * 2]
    assert utils.add_masks(first, second).tolist() == [[[1, 1]] * 2]
    assert utils.subtract_masks(first, second).tolist() == [[[0.25, 0.25]] * 2]
    assert utils.make_crop_region(100, 80, (10, 10, 20, 20), 2.0) == [5, 5, 25, 25]


@with_modules
def check_segs():
    from impact import core

    mask = torch.zeros(1, 8, 8)
    mask[0, 2:6, 2:6] = 1
    segs = core.mask_to_segs(mask, False, 1.0, False)
    assert segs[1][0].bbox == (2, 2, 6, 6)
    assert torch.equal(core.segs_to_combined_mask(segs), mask)
    half = core.segs_bitwise_and_mask(segs, np.tile([1.0] * 4 + [0.0] * 4, (8, 1)))
    assert core.segs_to_combined_mask(half).sum() == 8
    assert core.segs_scale_match(segs, (1, 8, 8, 3)) is segs
    larger = core.segs_scale_match(segs, (1, 16, 16, 3))
    assert (larger[0], larger[1][0].bbox) == ((16, 16), (4, 4, 12, 12))
    part = core.crop_condition_mask(mask, torch.zeros(1, 16, 16, 3), (0, 0, 8, 16))
    assert torch.equal(part, mask[:, :, :4])
    assert {"karras", "AYS SDXL"} < set(core.get_schedulers())
    assert core.get_schedulers() == core.SCHEDULERS
    assert core.SEG(None, mask, 1.0, (0, 0, 8, 8), (2, 2, 6, 6), "A").control_net_wrapper is None


@with_modules
def check_texts():
    from impact import wildcards

    assert wildcards.process("{a|b|c}", 3) == wildcards.process(text="{a|b|c}", seed=3)
    assert {wildcards.process("{a|b|c}", seed) for seed in range(20)} == {"a", "b", "c"}
    mode, chooser = wildcards.process_wildcard_for_segs("[ASC] one [SEP:7] two")
    assert mode == "ASC"
    assert [chooser.get(None) for _ in range(3)] == [(None, "one"), (7, "two"), (None, "one")]

    class Face:
        label = "face"

    mode, chooser = wildcards.process_wildcard_for_segs("[LAB] [ALL] sharp [face] smile [hand] x")
    assert (mode, chooser.get(Face())) == ("LAB", "sharp, smile")
    mode, chooser = wildcards.process_wildcard_for_segs("plain")
    assert (mode, chooser.get(Face())) == (None, (None, "plain"))


@with_modules
def check_hooks():
    from impact.hooks import BlackPatchRetryHook, DetailerHook, DetailerHookCombine

    class Half(DetailerHook):
        def touch_scaled_size(self, w, h):
            return w // 2, h // 2

    both = DetailerHookCombine(Half(), Half())
    assert tuple(both.touch_scaled_size(64, 32)) == (16, 8)
    assert DetailerHook().get_skip_sampling() is False
    black, grey = torch.zeros(1, 4, 4, 3), torch.full((1, 4, 4, 3), 0.5)
    hook = BlackPatchRetryHook(10, 5)
    assert (hook.should_retry_patch(black), hook.should_retry_patch(grey)) == (True, False)


def check_what_a_broken_pack_left_gives_way(folder="/nowhere/ComfyUI-Impact-Pack"):
    """Modules of a pack that could not be imported, and its folder on the path."""
    import types

    left = types.ModuleType("impact")
    left.__path__ = [f"{folder}/modules/impact"]
    finder = compat.stand_in(lambda: True)
    sys.modules["impact"] = left
    sys.path.append(f"{folder}/modules")
    try:
        compat.take_over(finder, folder)
        import impact.core

        assert isinstance(sys.modules["impact"], compat.StandIn)
        assert impact.core.SEG
        assert sys.meta_path[0] is finder
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(f"{folder}/modules")
        for name in [name for name in sys.modules if name.split(".")[0] == "impact"]:
            del sys.modules[name]


logging.getLogger("detailers.compat").setLevel(logging.ERROR)
