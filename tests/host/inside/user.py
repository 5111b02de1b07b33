"""What is the user's: settings and presets, in files that no request reaches."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import folder_paths
import torch
from detailers.core.host import user_folder
from detailers.core.host.backend import ComfyBackend
from detailers.core.prompts.lora_blocks import BlockWeights
from detailers.core.user_settings import read_settings
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.wildcards.grammar import parse_prompt
from safetensors.torch import save_file


@contextmanager
def base():
    """A folder of the user's, and one of packs, as ComfyUI's."""
    user, packs = folder_paths.get_user_directory(), folder_paths.folder_names_and_paths
    known = packs["custom_nodes"]
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.set_user_directory(f"{folder}/user")
        packs["custom_nodes"] = ([f"{folder}/packs"], set())
        read_settings.cache_clear()
        try:
            yield Path(folder)
        finally:
            folder_paths.set_user_directory(user)
            packs["custom_nodes"] = known
            read_settings.cache_clear()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def check_settings_are_in_a_private_folder():
    with base() as folder:
        assert user_folder.user_settings().compat
        read_settings.cache_clear()
        write(folder / "user" / "__detailers" / "settings.json", '{"compat": false}')
        assert not user_folder.user_settings().compat
        assert folder_paths.get_public_user_directory("__detailers") is None


def check_presets_of_packs_and_of_the_user():
    """The user's own file goes before that of a pack, and this before what comes with the pack."""
    lists = {word: ",".join([word] * 12) for word in ("0.1", "0.2", "0.3")}
    with base() as folder:
        resources = folder / "packs" / "some-pack" / "resources"
        write(resources / "lbw-preset.txt", "\n".join(f"{name}:{lists['0.1']}" for name in "XYZ"))
        write(resources / "lbw-preset.custom.txt", f"y:{lists['0.2']}\nZ:{lists['0.2']}")
        write(folder / "user" / "__detailers" / "lbw-preset.txt", f"Z:{lists['0.3']}")
        bases = [
            BlockWeights.parse(name, None, None, user_folder.lora_presets).base for name in "xyz"
        ]
        assert bases == [0.1, 0.2, 0.3], bases


def check_a_preset_changes_the_strength_with_which_a_lora_is_loaded():
    """Its first number is for what is outside of the blocks, as all of this network is."""
    model, clip, _ = DetailersTestModel().run("flat8", 0.6)
    weights = {"up": torch.tensor([[0.0], [1.0], [0.0]]), "down": torch.tensor([[1.0, 0.0, 0.0]])}
    known = folder_paths.folder_names_and_paths["loras"]
    with base() as folder:
        write(folder / "user" / "__detailers" / "lbw-preset.txt", "MINE:" + ",".join(["0.25"] * 12))
        folder_paths.folder_names_and_paths["loras"] = ([str(folder)], {".safetensors"})
        folder_paths.filename_list_cache.pop("loras", None)
        tensors = {
            f"diffusion_model.tint.lora_{side}.weight": each for side, each in weights.items()
        }
        save_file(tensors, folder / "tint.safetensors")
        try:
            for preset, strength in (
                ("SD-NONE", 0.0), ("SD-MIDD", 0.5), ("SDXL-OUTALL", 0.5), ("SD-ALL0.5", 0.25),
                ("mine", 0.125), ("SD-AB;A=0.4", 0.2),
            ):  # fmt: skip
                loras = parse_prompt(f"<lora:tint:0.5:LBW={preset}>").loras
                patched, _ = ComfyBackend().apply_loras(model, clip, loras)
                (patches,) = patched.patches.values()
                assert [round(patch[0], 6) for patch in patches] == [strength], (preset, patches)
        finally:
            folder_paths.folder_names_and_paths["loras"] = known
            folder_paths.filename_list_cache.pop("loras", None)
