"""Every input of which a text becomes a path: whatever it says, nothing outside is read or written.

Files and folders that the process opens or makes are heard of by an audit hook of Python's. Those
of the tests have `canary` in their names where they may not be touched, and `good` where they may.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import folder_paths
import torch
from detailers.core.host.detectors import register_folders
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.nodes import NODE_CLASSES
from PIL import Image

register_folders()
MODEL, CLIP, VAE = DetailersTestModel().run("flat8", 0.6)
LATENT = {"samples": torch.zeros(1, 4, 4, 4)}
PICTURE = torch.zeros(1, 8, 8, 3)
RAMP = {
    "strength_start": 0.0, "strength_end": 1.0, "interpolation": "linear", "start_percent": 0.0,
    "end_percent": 0.6, "keyframes_count": 2,
}  # fmt: skip


class Upscaler:
    """Shows what it is given, once, as an upscaler of ours does."""

    vae = VAE

    def upscale_shape(self, step_info, samples, w, h, save_temp_prefix=None, **_more):
        from detailers.core.host.folders import save_previews

        save_previews([PICTURE], save_temp_prefix)
        return samples

    upscale = upscale_shape


# Inputs whose text becomes a path: the folder that it leads into, what its files end in, and the
# other inputs of the node. "{}" in `text` is where the path goes.
GROWTH = {"upscale_factor": 1.5, "steps": 1, "step_mode": "simple", "upscaler": Upscaler()}
TEXT = {"mode": "fixed", "seed": 0}
WIDGETS = {"link_id": 0, "trigger_always": False}
PATHS = {
    ("ImageSender", "filename_prefix"): ("temp", "", {"images": PICTURE, "link_id": 0}),
    ("LatentSender", "filename_prefix"): (
        "output", "", {"samples": LATENT, "link_id": 0, "preview_method": "Latent2RGB-SD15"},
    ),
    ("IterativeLatentUpscale", "temp_prefix"): ("temp", "", {"samples": LATENT, **GROWTH}),
    ("IterativeImageUpscale", "temp_prefix"): (
        "temp", "", {"pixels": PICTURE, "vae": VAE, **GROWTH},
    ),
    ("PreviewBridge", "image"): ("input", ".png", {"images": PICTURE}),
    ("PreviewBridgeLatent", "image"): (
        "input", ".png", {"latent": LATENT, "preview_method": "Latent2RGB-SD15"},
    ),
    ("ImageReceiver", "image"): (
        "input", ".png", {"save_to_workflow": False, "image_data": "", **WIDGETS},
    ),
    ("ImageReceiver", "image_data"): (
        "input", ".png", {"save_to_workflow": True, "image": "no.png", **WIDGETS},
    ),
    ("LatentReceiver", "latent"): ("input", ".latent", WIDGETS),
    ("ScheduledLoRALoader", "lora_name"): (
        "models/loras", ".safetensors", {"model": MODEL, "clip": CLIP, **RAMP},
    ),
    ("UltralyticsDetectorProvider", "model_name"): ("models/ultralytics", ".pt", {}),
    ("MMDetDetectorProvider", "model_name"): ("models/ultralytics", ".pt", {}),
    ("MMDetLoader", "model_name"): ("models/ultralytics", ".pt", {}),
    ("ONNXDetectorProvider", "model_name"): ("models/onnx", ".onnx", {}),
    ("PersonEmbedderLoader", "model_name"): ("models/person_embedders", ".onnx", {}),
    ("SAMLoader", "model_name"): ("models/sams", ".pth", {"device_mode": "CPU"}),
    ("ImpactHFTransformersClassifierProvider", "manual_repo_id"): (
        "models/classifiers", "", {"preset_repo_id": "Manual repo id", "device_mode": "CPU"},
    ),
    ("ImpactWildcardProcessor", "populated_text"): (
        "models/wildcards", "", {"wildcard_text": "", "text": "__{}__", **TEXT},
    ),
    ("ImpactWildcardEncode", "populated_text"): (
        "models/loras", ".safetensors",
        {"wildcard_text": "", "text": "<lora:{}>", "model": MODEL, "clip": CLIP, **TEXT},
    ),
}  # fmt: skip
# Other inputs with a text, and with a choice that sounds like a file: none of them is a path. Those
# of wildcard texts go the way of `populated_text`, and so do the LoRAs of a segment rule.
NO_PATHS = {
    "choices", "delimiter", "denoise_by_size", "exclude_tags", "join_with", "label",
    "label_opt", "labels", "loras", "manual_expr", "names", "negative", "off", "picks", "plan",
    "postfix_all", "prefix_all", "preset_repo_id", "reason", "restrict_to_tags",
    "sampler_name", "seed_or_offset", "string", "string_list", "string_value", "strings",
    "text", "unknown_label", "value", "which", "widget_name", "wildcard", "wildcard_text",
}  # fmt: skip
SOUNDS_LIKE_A_FILE = (
    "file",
    "folder",
    "path",
    "prefix",
    "_name",
    "repo",
    "image",
    "latent",
    "lora",
)


def ways(outside, suffix):
    """Texts that would lead from a folder of the host's to files of the name canary."""
    name = f"canary{suffix}"
    plain = [
        f"../{name}", f"../../{name}", f"../../outside/{name}", f"..\\{name}", f"a/../../{name}",
        f"./../{name}", f"good/../../{name}", f"{outside}/{name}", f"/../{outside}/{name}",
        f"file://{outside}/{name}", f"~/{name}", f"$HOME/{name}", f"..%2f{name}",
        f"C:\\{name}", f"C:{name}", f"//host/canary/{name}", f"\\\\host\\canary\\{name}",
        f"\\\\?\\C:\\{name}", f"../{name}\0", f"\0../{name}", f"../{name}.", f"../{name} ",
        f"../{name}...", "../" * 1500 + name, "canary" * 900, "../NUL/canary", "\ud800../canary",
    ]  # fmt: skip
    folders = [f"../{name} [{folder}]" for folder in ("input", "output", "temp", "models", "..")]
    entry = f"{{'filename': '{name}', 'subfolder': '../../outside', 'type': 'temp'}}"
    return [*plain, *folders, entry]


class Heard:
    """Paths that were opened or made, as long as it listens."""

    def __init__(self):
        self.paths = None
        sys.addaudithook(self.hear)

    def hear(self, event, arguments):
        if self.paths is not None and event in ("open", "os.mkdir", "os.listdir", "os.rename"):
            path = arguments[0]
            if isinstance(path, bytes | str | os.PathLike):
                self.paths.append(os.fsdecode(path))

    def during(self, work):
        """What `work` opens, and the error that it raises or None."""
        self.paths, fault = [], None
        try:
            work()
        except Exception as error:
            fault = error
        finally:
            paths, self.paths = self.paths, None
        return [path for path in paths if "\0" not in path], fault


def laid_out():
    """The host's folders, each with good files, and canaries beside and around them."""
    root = Path(os.path.realpath(tempfile.mkdtemp()))
    host, outside = root / "host", root / "outside"
    folders = {name for name, _, _ in PATHS.values()} | {"user"}
    for folder in folders:
        (host / folder).mkdir(parents=True, exist_ok=True)
    outside.mkdir()
    suffixes = ("", ".png", ".latent", ".safetensors", ".pt", ".onnx", ".pth", ".txt")
    for folder in (root, host, host / "models", outside):
        for suffix in suffixes:
            filled(folder / f"canary{suffix}")
    for folder in (host / name for name in folders):
        for suffix in suffixes[1:]:
            filled(folder / f"good{suffix}")
        if folder.name != "user":
            (folder / "linked").symlink_to(outside)
    for suffix in (".png", ".latent"):
        (host / "input" / f"link{suffix}").symlink_to(outside / f"canary{suffix}")
    (host / "models/ultralytics/bbox").mkdir()
    filled(host / "models/ultralytics/bbox/good.pt")
    (host / "models/classifiers/good").mkdir()
    (host / "models/classifiers/good/config.json").write_text("{}")
    for name in ("input", "output", "temp", "user"):
        getattr(folder_paths, f"set_{name}_directory")(str(host / name))
    known = folder_paths.folder_names_and_paths
    for kind in (
        "loras",
        "person_embedders",
        "ultralytics",
        "onnx",
        "sams",
        "classifiers",
        "wildcards",
    ):
        suffixes = known[kind][1] if kind in known else set()
        known[kind] = [str(host / "models" / kind)], suffixes
    known["ultralytics_bbox"] = [str(host / "models/ultralytics/bbox")], known["ultralytics"][1]
    folder_paths.filename_list_cache.clear()
    return root


def filled(path):
    if path.suffix == ".png":
        Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(path)
    else:
        path.write_bytes(b"canary\n")


def called(node_id, name, value):
    """The node with a path in one of its inputs."""
    node, inputs = NODE_CLASSES[node_id], dict(PATHS[node_id, name][2])
    text = inputs.pop("text", "{}").replace("{}", value)
    getattr(node(), node.FUNCTION)(**inputs, **{name: text})


HEARD = Heard()


def check_every_input_that_may_be_a_path_is_known():
    """A new one has to be put into one of the tables."""
    found = set()
    for node_id, node in NODE_CLASSES.items():
        groups = node.INPUT_TYPES()
        for group in ("required", "optional"):
            for name, entry in groups.get(group, {}).items():
                sounds = any(part in name for part in SOUNDS_LIKE_A_FILE)
                if entry[0] == "STRING" or (isinstance(entry[0], list) and sounds):
                    found.add((node_id, name))
    known = {key for key in found if key[1] in NO_PATHS} | PATHS.keys()
    assert found - known == set(), found - known
    assert PATHS.keys() <= found, PATHS.keys() - found
    assert {name for _, name in found} - {name for _, name in PATHS} == NO_PATHS


def check_no_text_leads_outside():
    root = laid_out()
    try:
        before = {path: path.read_bytes() for path in root.rglob("*canary*") if path.is_file()}
        assert len(before) == 4 * 8
        for (node_id, name), (folder, suffix, _) in PATHS.items():
            through_links = [f"linked/canary{suffix}"] if "." in suffix else []
            for value in [*ways(root / "outside", suffix), f"link{suffix}", *through_links]:
                if folder.startswith("models") and "link" in value:
                    continue  # there the user's own links may lead anywhere
                paths, fault = HEARD.during(lambda at=(node_id, name, value): called(*at))
                touched = [path for path in paths if is_outside(path, root / "host")]
                assert not touched, (node_id, name, value, touched)
                assert fault is None or isinstance(fault, ValueError | RuntimeError), (
                    node_id, name, value, fault,
                )  # fmt: skip
        after = {path: path.read_bytes() for path in root.rglob("*canary*") if path.is_file()}
        made = {path for path in after if path not in before}
        assert all(path.is_relative_to(root / "host") for path in made), made
        assert {path: after[path] for path in before} == before
    finally:
        shutil.rmtree(root)


def is_outside(path, host):
    real = os.path.realpath(path)
    inside = [f"{host}/{name}/" for name in ("input", "output", "temp", "models/")]
    return "canary" in real and not any(real.startswith(folder) for folder in inside)


def check_good_names_lead_inside():
    """What the check above would hear of."""
    root = laid_out()
    try:
        for (node_id, name), (folder, suffix, _) in PATHS.items():
            if name == "image_data":  # holds the picture itself
                continue
            value = f"bbox/good{suffix}" if folder.endswith("ultralytics") else f"good{suffix}"
            paths, fault = HEARD.during(lambda at=(node_id, name, value): called(*at))
            place = str(root / "host" / folder)
            mine = [path for path in paths if path.startswith(place) and "good" in path]
            assert mine, (node_id, name, paths, fault)
        paths, _ = HEARD.during((root / "host/input/link.png").read_bytes)
        assert [path for path in paths if is_outside(path, root / "host")]
    finally:
        shutil.rmtree(root)
