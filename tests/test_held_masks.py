"""Masks and pictures inside objects of other packs, and in patches of models."""

from functools import partial

import pytest
import torch
from detailers.core.geometry import Box, Size
from detailers.core.host.model_patches import cut_patches
from detailers.core.pixels.crop_view import Cut
from detailers.core.prompts.held_masks import Changed, cut_mask, cut_masks_of
from detailers.utils.notes import collected_notes

CUT = Cut(Size(400, 200), Box(100, 40, 196, 120), Size(192, 160), Size(192, 160), 8)


def plane(height, width, *leading):
    y, x = torch.arange(height)[:, None] * 1000.0, torch.arange(width)
    return (y + x).expand(*leading, height, width)


def corners(part):
    return part[..., 0, 0].flatten()[0].item(), part[..., -1, -1].flatten()[0].item()


def picture(height=200, width=400):
    """[1,H,W,3] that says where each pixel is."""
    return plane(height, width, 1, 3).movedim(1, -1)


class Holder:
    def __init__(self, **held):
        self.__dict__.update(held)

    def call(self):
        return self.mask

    def __call__(self, *args):
        return args


def changed(value, cut=CUT):
    return Changed(lambda name, tensor: cut_mask(name, tensor, cut))(value)


# Objects


@pytest.mark.parametrize("wrap", [list, tuple, lambda items: {"kwargs": items}])
def test_masks_are_found_in_containers_and_objects(wrap):
    mask, cond = plane(200, 400, 1), torch.zeros(1, 200, 400)
    held = wrap([{"mask": mask, "cond": cond, "weight": 0.5}])
    new = changed(Holder(held=held)).held
    entry = (new["kwargs"] if isinstance(new, dict) else new)[0]
    assert type(new) is type(held)
    assert corners(entry["mask"]) == (40100, 119195)
    assert entry["cond"] is cond
    assert entry["weight"] == 0.5


def test_what_holds_no_mask_is_the_same_object():
    held = Holder(items=[1, {"cond": torch.zeros(1, 200, 400)}], attention_mask=plane(77, 77))
    assert changed(held) is held
    held.itself = held
    assert changed(held) is held


def test_one_object_in_two_places_stays_one():
    shared = Holder(mask=plane(200, 400, 1))
    first, second = changed([shared, {"again": shared}])
    assert first is second["again"]
    assert first is not shared


def test_bound_methods_and_partials():
    holder = Holder(mask=plane(200, 400, 1))
    assert changed(holder.call)().shape == (1, 80, 96)
    assert changed(partial(dict, mask=holder.mask))()["mask"].shape == (1, 80, 96)
    assert holder.call() is holder.mask


def test_masks_with_the_channel_last_and_in_pieces():
    assert cut_mask("mask", plane(200, 400, 1)[..., None], CUT).shape == (1, 80, 96, 1)
    assert cut_mask("mask", plane(200, 400, 1, 1, 1), CUT).shape == (1, 1, 1, 80, 96)
    ones = torch.ones(1, 1, 1)
    assert cut_mask("mask", ones, CUT) is ones


def test_networks_and_controls_are_not_searched():
    network = torch.nn.Linear(2, 2)
    network.mask = plane(200, 400, 1)
    large = Holder(get_control=None, mask=plane(200, 400, 1))
    assert changed([network, large]) == [network, large]


def test_an_object_that_refuses_to_be_copied_stays():
    class Refusing(Holder):
        def __copy__(self):
            raise RuntimeError

    held = Refusing(mask=plane(200, 400, 1))
    assert changed(held) is held


def test_a_controls_own_masks():
    control = Holder(mask_cond_hint_original=plane(200, 400, 1), strength=1.0,
                     previous_controlnet=Holder(mask=plane(200, 400, 1)))  # fmt: skip
    assert list(cut_masks_of(control, CUT)) == ["mask_cond_hint_original"]


# Patches


class Model:
    """What ComfyUI's patchers have: options, and clones that share what is in them."""

    def __init__(self, **options):
        self.model_options = {"transformer_options": {}, **options}

    def clone(self):
        return Model(**self.model_options)


class Control(Holder):
    """A control patch that encodes its picture where that is of another size than it was."""

    def to(self, device):
        self.encoded_image = self.encoded_image.to(device)
        return self


def control(**held):
    return Control(**{"model_patch": "network", "vae": "vae", "strength": 0.7, **held})


def patched(*patches, name="double_block"):
    return Model(transformer_options={"patches": {name: list(patches)}, "other": 1})


def test_the_control_picture_of_a_patch_is_cut():
    whole = torch.zeros(1, 8, 64)
    patch = control(image=picture(), mask=plane(200, 400, 1, 1, 1), encoded_image=whole,
                    encoded_image_size=(200, 400))  # fmt: skip
    model = patched(patch)
    own = cut_patches(model, CUT)
    assert own is not model
    new = own.model_options["transformer_options"]["patches"]["double_block"][0]
    assert corners(new.image.movedim(-1, 1)) == (40100, 119195)
    assert corners(new.mask) == (40100, 119195)
    assert (new.encoded_image_size, new.strength, new.model_patch) == (None, 0.7, "network")
    new.to("cpu")  # ComfyUI moves what was encoded, whatever it is
    assert own.model_options["transformer_options"]["other"] == 1
    assert model.model_options["transformer_options"]["patches"]["double_block"] == [patch]
    assert patch.image.shape == (1, 200, 400, 3)


def test_a_control_picture_of_other_proportions_is_cut_from_its_middle():
    own = cut_patches(
        patched(control(image=picture(200, 600), inpaint_image=picture(400, 400))), CUT
    )
    new = own.model_options["transformer_options"]["patches"]["double_block"][0]
    assert corners(new.image.movedim(-1, 1)) == (40200, 119295)
    assert corners(new.inpaint_image.movedim(-1, 1)) == (140100, 219195)


def test_patches_that_belong_together_stay_together():
    patch = control(image=picture(), mask=None)
    around = Holder(patch=patch, targets={"q": "self_attn"})
    patches = {"post_input": [patch], "attn1": [around]}
    replacements = {"dit": {("block", 0): patch}}
    model = Model(transformer_options={"patches": patches, "patches_replace": replacements})
    options = cut_patches(model, CUT).model_options["transformer_options"]
    new = options["patches"]["post_input"][0]
    assert new is not patch
    assert options["patches"]["attn1"][0].patch is new
    assert options["patches_replace"]["dit"]["block", 0] is new


def test_attention_masks_are_cut():
    mask, cond = plane(200, 400, 1), torch.zeros(1, 4, 768)
    replacement = Holder(callback=[max], kwargs=[{"mask": mask, "cond": cond}])
    model = Model(transformer_options={"patches_replace": {"attn2": {("input", 1): replacement}}})
    own = cut_patches(model, CUT)
    new = own.model_options["transformer_options"]["patches_replace"]["attn2"]["input", 1]
    assert corners(new.kwargs[0]["mask"]) == (40100, 119195)
    assert new.kwargs[0]["cond"] is cond
    assert replacement.kwargs[0]["mask"] is mask


def test_a_model_without_pictures_is_the_same_one():
    model = patched(Holder(weight=1.0), max)
    model.model_options["sampler_cfg_function"] = min
    with collected_notes() as notes:
        assert cut_patches(model, CUT) is model
    assert not notes
    assert cut_patches(Model(), CUT)


@pytest.mark.parametrize("shape", [(1, 16, 25, 50), (1, 4, 3, 25, 50), (1, 200, 400, 3)])
def test_what_cannot_be_cut_is_told(shape):
    held = torch.zeros(shape)

    def guided(args):
        return args - held

    model = Model(sampler_post_cfg_function=[guided])
    with collected_notes() as notes:
        assert cut_patches(model, CUT) is model
    assert [note.kind for note in notes] == ["patch"]
    assert "guided" in notes[0].text
    with collected_notes() as notes:
        cut_patches(patched(Holder(hint_latent=held)), CUT)
    assert "Holder" in notes[0].text
