"""Every image and video model class of the host, small and random: waves equal one by one.

The models are built from the host's own classes in one process for each ComfyUI
(`dev/tiny_models`). Each class samples three segments, two with texts of equal length and one with
a longer text, alone and in a wave; without guidance, and with guidance, noise masks and texts
padded to another length each.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
from detailers.core.host.row_by_row import MODELS, MODELS_ALONE
from detailers.dev.server import ROOT
from detailers.dev.tiny_models.specs import ALIKE, NOT_BUILT, TINY

# What a wave may differ from each run alone, as a share of the spread of the latents: float32 sums
# of other batch sizes round otherwise, which these networks bring to 2e-5 at most. A wrong row
# differs by the whole spread, and another text by 5e-3 at least, which is asserted too.
TOLERANCE = 1e-4
LEAST_EFFECT = 5e-3
VERSIONS = ("0.16.3", "0.30.0")  # whose classes are all known here; others are only reported

UNETS = {  # may repeat texts to a common length, so that all three runs are one
    "LotusD", "Stable_Zero123", "SD15_instructpix2pix", "SD15", "SD20", "SD21UnclipL",
    "SD21UnclipH", "SDXL_instructpix2pix", "SDXLRefiner", "SDXL", "SD_X4Upscaler",
}  # fmt: skip
FIXED_LENGTH = {"HunyuanDiT", "HunyuanDiT1"}  # all texts have one length
ALONE = {  # and the reason that is logged
    "SV3D_u": "for the frames of a clip",
    "SV3D_p": "for the frames of a clip",
    "SVD_img2vid": "for the frames of a clip",
    "GenmoMochi": "adds up the attention masks of all rows",
    "Omnigen2": "adds up the attention masks of all rows",
    "Omnigen2 with references": "adds up the attention masks of all rows",
    "HiDreamO1 with references": "the first row's for all",
    "Boogu": "adds up the attention masks of all rows",
    "HunyuanVideo with padded texts": "one attention mask for all rows",
    "LTXAV": "its latents are a list of streams",
    "Anima": "its conditioning has 't5xxl_ids'",
    "PiD": "a latent that belongs to the whole picture",
    "SeedVR2": "packs the pictures of a batch into one sequence",
}
AREAS = {  # where it is not a square of 1024
    "LotusD": (768, 576),
    "Stable_Zero123": (256, 256),
    "SD15": (512, 512),
    "SD15_instructpix2pix": (512, 512),
    "SD20": (512, 512),
    "SD21UnclipL": (768, 768),
    "SD21UnclipH": (768, 768),
    "SD_X4Upscaler": (512, 512),
    "SV3D_u": (576, 576),
    "SV3D_p": (576, 576),
    "SVD_img2vid": (1024, 576),
    "PixArtAlpha": (64, 64),  # as the small one's positions say
    "PixArtSigma": (64, 64),
    "GenmoMochi": (848, 480),
    "LTXV": (768, 512),
    "LTXAV": (768, 512),
    "HunyuanVideo": (960, 544),
    "HunyuanVideoI2V": (960, 544),
    "HunyuanVideoSkyreelsI2V": (960, 544),
    "HunyuanImage21": (2048, 2048),
    "HunyuanImage21Refiner": (2048, 2048),
    "HunyuanVideo15": (848, 480),
    "HunyuanVideo15_SR_Distilled": (1280, 720),
    "CosmosT2V": (1280, 704),
    "CosmosI2V": (1280, 704),
    "CosmosT2IPredict2": (1280, 704),
    "CosmosI2VPredict2": (1280, 704),
    "WAN21_T2V": (832, 480),
    "WAN21_CausalAR_T2V": (832, 480),
    "WAN21_I2V": (832, 480),
    "WAN21_FunControl2V": (832, 480),
    "WAN21_Vace": (832, 480),
    "WAN21_Camera": (832, 480),
    "WAN22_Camera": (832, 480),
    "WAN22_S2V": (832, 480),
    "WAN21_HuMo": (832, 480),
    "WAN22_Animate": (832, 480),
    "WAN21_FlowRVS": (832, 480),
    "WAN22_WanDancer": (832, 480),
    "WAN22_T2V": (1280, 704),
    "WAN21_SCAIL": (896, 512),
    "WAN21_SCAIL2": (896, 512),
    "HiDreamO1": (2048, 2048),
    "SeedVR2": (1280, 720),
    "QwenImage": (1328, 1328),
    "Lens": (1440, 1440),
    "Kandinsky5": (768, 512),
    "CogVideoX_T2V": (64, 64),  # as the small one's settings say
    "CogVideoX_I2V": (64, 64),
    "CogVideoX_Inpaint": (64, 64),
}


@pytest.fixture(scope="module")
def report(host):
    """What `dev/tiny_models/compare.py` finds out."""
    script = ROOT / "dev" / "tiny_models" / "compare.py"
    done = subprocess.run([host.python, script, host.tree], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture
def ways(report):
    """Of all models: label, name of the way, what was found."""
    return [
        (label, name, found)
        for label, model in report["models"].items()
        for name, found in model["ways"].items()
    ]


def test_every_class_of_the_host_is_built_or_listed(report, host, tell):
    known = {label.split()[0] for label in TINY} | ALIKE.keys() | NOT_BUILT.keys()
    unlisted = [name for name in report["classes"] if name not in known]
    listed = MODELS.keys() | MODELS_ALONE.keys()
    unknown = [name for name in report["bases"] if name not in listed]
    made = {model["class"] for model in report["models"].values()}
    unmade = {name for name in report["bases"] if name not in made}
    if _version(host) in VERSIONS:
        assert not unlisted
        assert not unknown
        assert unmade <= MODELS_ALONE.keys()
    tell(_table(report, _version(host), unlisted + unknown))


def test_a_wave_gives_what_each_run_gives_alone(ways):
    errors = {f"{label}, {way}": f["error"] for label, way, f in ways if "error" in f}
    assert not errors, "\n\n".join(f"{what}: {error}" for what, error in errors.items())
    different = [(label, way, f) for label, way, f in ways if not f["difference"] < TOLERANCE]
    assert not different
    unmoved = [(label, way, f) for label, way, f in ways if not f["text"] > LEAST_EFFECT]
    assert not unmoved, "the text does nothing there, so that a wrong one would not be seen"


def test_equal_lengths_share_a_call_where_the_table_says_so(ways):
    wrong = []
    for label, way, found in ways:
        expected = [1, 1, 1] if label in ALONE else [2, 1]
        if label in UNETS | FIXED_LENGTH:
            expected = [3]
        if found["rows"] != expected or ALONE.get(label, "") not in found.get("why", ""):
            wrong.append((label, way, found))
    assert not wrong


def test_what_runs_alone_would_come_out_wrong_together(ways):
    differs: dict[str, bool] = {}
    for label, _, found in ways:
        if label in ALONE:
            joined = found["joined"]
            differs[label] = differs.get(label, False) or isinstance(joined, str) or joined > 0.01
    assert all(differs.values()), differs


def test_native_areas(report):
    found = {label: model["area"] for label, model in report["models"].items()}
    expected = {label: AREAS.get(label.partition(" with")[0], (1024, 1024)) for label in found}
    assert found == {label: width * height for label, (width, height) in expected.items()}


def _version(host) -> str:
    text = Path(host.tree, "comfyui_version.py").read_text()
    return re.search(r'__version__ = "(.+)"', text).group(1)


def _table(report, version, unknown) -> str:
    """The classes by what becomes of them."""
    shares, alone = [], []
    for label, model in report["models"].items():
        found = next(iter(model["ways"].values()))
        if "why" in found:
            joined = [way["joined"] for way in model["ways"].values()]
            numbers = [value for value in joined if not isinstance(value, str)]
            worst = f"{max(numbers):.1e} off" if numbers else "an error"
            alone.append(f"    {label}: {found['why']}; together {worst}")
        elif "error" not in found:
            worst = max(way["difference"] for way in model["ways"].values())
            shares.append(f"{label} {worst:.0e}")
    not_built = [f"    {name}: {why}" for name, why in NOT_BUILT.items()]
    not_built += [f"    {name}: as {other}" for name, other in ALIKE.items()]
    lines = [
        f"Model classes of ComfyUI {version}, sampled together (difference from one by one):",
        f"  share: {', '.join(shares)}",
        "  alone:",
        *alone,
        "  not built:",
        *not_built,
    ]
    return "\n".join(lines + [f"  not known: {', '.join(unknown)}"] * bool(unknown))
