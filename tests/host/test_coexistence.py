"""With other packs that have some of our node ids, and under any folder name."""

import json

import numpy as np
import pytest
from detailers.dev.server import MODEL_PACK, ROOT, Server
from detailers.tests.host.graphs import SAMPLING, Graph
from detailers.tests.host.test_control import INSIDE, IPADAPTER, Scene, close
from detailers.tests.host.test_scheduler import ROW, SIZE

# Another pack that claims ids which are also ours.
PACK = """
class Claim:
    DESCRIPTION = "Not one of ours."
    CATEGORY = "other"
    RETURN_TYPES = ("SEGS",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{}}}}

    def run(self):
        return (((7, 7), []),)


NODE_CLASS_MAPPINGS = {{node_id: type(node_id, (Claim,), {{}}) for node_id in {ids}}}
NODE_DISPLAY_NAME_MAPPINGS = {{node_id: "Their " + node_id for node_id in {ids}}}
"""
BREAKS = "ImpactSleep"
BREAKING = f"""
import nodes

nodes.NODE_CLASS_MAPPINGS["{BREAKS}"].INPUT_TYPES = None
"""
# Samplers as other packs add and replace them.
SAMPLERS = """
import functools

import comfy.samplers
import torch
from comfy.k_diffusion import sampling


def sample_other_noisy(model, x, sigmas, extra_args=None, callback=None, disable=None):
    '''Ancestral steps with noise from torch's global generator.'''
    for now, then in zip(sigmas[:-1], sigmas[1:]):
        denoised = model(x, now * x.new_ones(len(x)), **extra_args)
        down = then * 0.6
        x = denoised + (x - denoised) / now * down + torch.randn_like(x) * then * 0.8
    return x


def sample_res_other_momentum(model, x, sigmas, extra_args=None, callback=None, disable=None):
    '''Keeps a momentum for one picture.'''
    momentum = torch.zeros(1, *x.shape[1:])
    for now, then in zip(sigmas[:-1], sigmas[1:]):
        denoised = model(x, now * x.new_ones(len(x)), **extra_args)
        momentum.copy_(0.5 * momentum + (denoised - x) / denoised.norm())
        x = denoised + (x - denoised) / now * then + momentum
    return x


HOSTS_OWN = sampling.sample_heun


@functools.wraps(HOSTS_OWN)
def sample_towards_the_mean(model, x, *args, **options):
    x = HOSTS_OWN(model, x, *args, **options)
    return torch.lerp(x, x.mean(0, keepdim=True), 0.5)


for function in (sample_other_noisy, sample_res_other_momentum):
    name = function.__name__.removeprefix("sample_")
    setattr(sampling, function.__name__, function)
    comfy.samplers.KSampler.SAMPLERS.append(name)
sampling.sample_heun = sample_towards_the_mean
"""
# A scheduler as another pack adds it, in new lists; and a node that chooses one.
SCHEDULERS = """
import comfy.samplers
import torch


def straight(sampling, steps):
    return torch.linspace(float(sampling.sigma_max) / 2, 0, steps + 1)


comfy.samplers.SCHEDULER_HANDLERS["other_straight"] = comfy.samplers.SchedulerHandler(straight)
comfy.samplers.SCHEDULER_NAMES = [*comfy.samplers.SCHEDULER_NAMES, "other_straight"]
comfy.samplers.KSampler.SCHEDULERS = comfy.samplers.SCHEDULER_NAMES


class OtherChoice:
    CATEGORY = "other"
    RETURN_TYPES = (comfy.samplers.KSampler.SCHEDULERS,)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"chosen": ("STRING", {})}}

    def run(self, chosen):
        return (chosen,)


NODE_CLASS_MAPPINGS["OtherChoice"] = OtherChoice
"""
# Stand-ins for nodes of ComfyUI_IPAdapter_plus and comfyui-lama-remover, with their arguments
OTHER_PACKS = """
import torch


class IPAdapterAdvanced:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "apply_ipadapter", "test"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

    def apply_ipadapter(self, model, ipadapter, start_at=0.0, end_at=1.0, weight=1.0,
                        weight_type="linear", combine_embeds="concat", weight_faceidv2=None,
                        image=None, image_negative=None, clip_vision=None, insightface=None):
        colour = image.mean((0, 1, 2)) * 2 - 1
        patched = model.clone()

        def paint(args):
            gain = patched.model.family.gain
            mean = patched.model.family.latent_colour(colour[None]) * gain
            return args["denoised"] + weight * mean[..., None, None]

        patched.set_model_sampler_post_cfg_function(paint)
        assert (ipadapter, clip_vision, insightface) == ("adapter", "vision", None)
        assert (start_at, end_at, weight_type) == (0.0, 0.9, "linear")
        return (patched,)


class LamaRemover:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "lama_remover", "test"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

    def lama_remover(self, images, masks, mask_threshold, gaussblur_radius, invert_mask):
        assert (mask_threshold, gaussblur_radius, invert_mask) == (200, 3, False)
        return (torch.where(masks[..., None] > 0.5, 1 - images, images),)


class Pipe:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IPADAPTER_PIPE",), "run", "test"
    INPUT_TYPES = classmethod(lambda cls: {"required": {}})

    def run(self):
        return (("adapter", None, "vision", None, lambda model: model),)


NODE_CLASS_MAPPINGS = {
    "IPAdapterAdvanced": IPAdapterAdvanced, "LamaRemover": LamaRemover, "TestPipe": Pipe,
}
"""
OTHER_SAMPLERS = ("other_noisy", "res_other_momentum", "heun")
EARLIER = ["EmptySegs", "MaskToSEGS"]
LATER = ["SEGSPaste", "ToBasicPipe"]
# Kinds of models by the names that shared installations use, and folders elsewhere.
MODEL_FOLDERS = {"ultralytics_bbox": "a", "ultralytics_segm": "b", "onnx": "c", "sams": "d"}
ODD_NAME = "my detailers-v1.0 (copy)"


def write_pack(folder, ids):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACK.format(ids=ids))
    return folder


@pytest.fixture(scope="module")
def between(host, tmp_path_factory):
    """A server with ours between two packs that claim two of its ids each.

    A third one has nodes that ours call, and models are in other folders too.
    """
    folder = tmp_path_factory.mktemp("packs")
    for name, ids in (("earlier", EARLIER), ("later", LATER)):
        pack = write_pack(folder / name / f"{name}-pack", ids)
        if name == "earlier":
            with (pack / "__init__.py").open("a") as file:
                file.write(SAMPLERS)
    with (pack / "__init__.py").open("a") as file:
        file.write(BREAKING + SCHEDULERS)
    # The host goes through its folders of packs in turn; a default one comes first.
    folders = {
        name: {"custom_nodes": str(folder / name), "is_default": name == "earlier"}
        for name in ("earlier", "later")
    }
    (folder / "later" / "others").mkdir()
    (folder / "later" / "others" / "__init__.py").write_text(OTHER_PACKS)
    models = folder / "models"
    folders["models"] = {kind: str(models / name) for kind, name in MODEL_FOLDERS.items()}
    for name in MODEL_FOLDERS.values():
        (models / name).mkdir(parents=True)
    for file in ("a/x.pt", "a/x.txt", "b/y.onnx", "c/z.onnx", "d/s.pth", "d/s.md"):
        (models / file).touch()
    (folder / "folders.yaml").write_text(json.dumps(folders))  # JSON is YAML too
    args = ["--extra-model-paths-config", str(folder / "folders.yaml")]
    packs = {ODD_NAME: ROOT, "detailers-models": MODEL_PACK}
    with Server(host.tree, host.python, packs, args=args) as server:
        yield server


def test_model_folders_may_be_elsewhere(between):
    """`extra_model_paths.yaml` adds folders."""

    def files(node):
        return between.object_info(node)["input"]["required"]["model_name"][0]

    assert files("UltralyticsDetectorProvider") == ["bbox/x.pt", "segm/y.onnx"]
    assert files("ONNXDetectorProvider") == ["z.onnx"]
    assert files("SAMLoader") == ["s.pth"]


def ids_of(server, folder):
    return {
        node_id
        for node_id, node in server.object_info().items()
        if node["python_module"] == f"custom_nodes.{folder}"
    }


def moved(ids):
    return {f"{node_id} //Detailers" for node_id in ids}


def test_a_node_that_another_pack_breaks_is_the_only_one_missing(between):
    registered = ids_of(between, ODD_NAME)
    assert BREAKS not in registered
    assert len(registered) > 200


def test_claimed_ids_are_left_to_the_other_packs(between):
    assert ids_of(between, "earlier-pack") == set(EARLIER)
    assert ids_of(between, "later-pack") == {*LATER, "OtherChoice"}
    ours = ids_of(between, ODD_NAME)
    assert {node_id for node_id in ours if "//" in node_id} == moved(EARLIER + LATER)
    assert {"DetailerForEach", "FromBasicPipe"} < ours
    nodes = between.object_info()
    assert nodes["MaskToSEGS //Detailers"]["display_name"] == "MASK to SEGS //Detailers"
    assert nodes["SEGSPaste //Detailers"]["display_name"] == "SEGSPaste //Detailers"
    assert nodes["SEGSPaste"]["display_name"] == "Their SEGSPaste"


def test_one_line_of_the_log_tells_of_each_pack(between):
    lines = [line for line in between.log().splitlines() if "//Detailers" in line]
    assert len(lines) == 2
    for line, ids, what in (
        (lines[0], EARLIER, "another pack has the same node ids"),
        (lines[1], LATER, "a pack loaded after Detailers has the same node ids"),
    ):
        assert what in line
        assert "ours are registered as '<id> //Detailers' (2: " in line
        assert all(node_id in line for node_id in ids)
        assert "Remove one of the two packs" in line


def test_each_pack_does_its_own(between):
    graph = Graph()
    ours = graph.add(
        "MaskToSEGS //Detailers",
        mask=graph.mask(64, 48, [8, 8, 40, 40, "r"]),
        combined=False,
        crop_factor=1.0,
        bbox_fill=False,
        drop_size=1,
        contour_fill=False,
    )[0]
    links = {"ours": ours, "earlier": graph.add("MaskToSEGS")[0]}
    links["later"] = graph.add("SEGSPaste")[0]
    for name, link in links.items():
        graph.add("DetailersTestSave", value=link, name=name)
    done = between.run(graph)
    assert done.ok, done.error
    assert between.result("ours")["segs0_0_crop"].tolist() == [8, 8, 40, 40]
    for name in ("earlier", "later"):
        assert between.result(name)["segs0_shape"].tolist() == [7, 7]


def sampled(server, batch, seed):
    """Three segments with every sampler of another pack, and euler; the generators afterwards."""
    graph = Graph()
    model, image = graph.model("flat8"), graph.image(*SIZE)
    segs = graph.segs(*SIZE, *ROW)
    settings = {"cfg": 2.0, "steps": 4, "denoise": 0.6, "detail_batch": batch, "seed": seed}
    pictures = {
        name: graph.detail(
            "DetailerForEach", image, segs, model, sampler_name=name, **settings
        )[0]
        for name in (*OTHER_SAMPLERS, "euler")
    }  # fmt: skip
    for name, picture in pictures.items():
        state = graph.add("DetailersTestRandomState", after=picture)[0]
        graph.add("DetailersTestSave", value=picture, name=name)
        graph.add("DetailersTestSave", value=state, name=f"state {name}")
    done = server.run(graph)
    assert done.ok, done.error
    return {name: server.result(name)["t0"] for name in pictures}, {
        str(server.result(f"state {name}")["s0"]) for name in pictures
    }


def test_samplers_of_other_packs_run_alone_and_are_repeatable(between):
    (alone, _), (other, state), (together, later), (again, last) = (
        sampled(between, batch, seed) for batch, seed in ((1, 3), (0, 4), (0, 3), (0, 4))
    )
    for name in OTHER_SAMPLERS:
        np.testing.assert_allclose(together[name], alone[name], rtol=0, atol=1e-5, err_msg=name)
        assert np.abs(other[name] - together[name]).max() > 0.01, name
        np.testing.assert_array_equal(again[name], other[name], err_msg=name)
    assert np.abs(together["heun"] - together["euler"]).max() > 1e-3
    assert len(state | later | last) == 1  # the process's generators went on from where they were


def test_what_one_ksampler_gives_with_another_packs_sampler(between):
    graph = Graph()
    model = graph.model("flat8")
    latent = graph.encode(model, graph.image(64, 64))
    pipe = graph.add("ToBasicPipe //Detailers", **graph.parts(model))[0]
    for name in OTHER_SAMPLERS:
        settings = SAMPLING | {"sampler_name": name, "seed": 11, "denoise": 0.8}
        ours = graph.add(
            "ImpactKSamplerBasicPipe", basic_pipe=pipe, latent_image=latent,
            **settings,
        )[1]  # fmt: skip
        stock = graph.sample(model, latent, **settings)
        for whose, link in (("ours", ours), ("stock", stock)):
            graph.add("DetailersTestSave", value=link, name=f"{name} {whose}")
    done = between.run(graph)
    assert done.ok, done.error
    for name in OTHER_SAMPLERS:
        ours, stock = (
            between.result(f"{name} {whose}")["latent0_samples"] for whose in ("ours", "stock")
        )
        np.testing.assert_allclose(ours, stock, rtol=0, atol=2e-5, err_msg=name)


def test_schedulers_of_a_pack_that_loads_later_are_taken(between):
    """In the lists, as a value and over a link; what no sampler knows is refused by name."""
    info = between.object_info()
    for node_id in ("DetailerForEach", "FaceDetailer", "ImpactKSamplerBasicPipe"):
        assert "other_straight" in info[node_id]["input"]["required"]["scheduler"][0], node_id
    graph = Graph()
    model = graph.model("flat8")
    latent = graph.encode(model, graph.image(64, 64))
    pipe = graph.add("ToBasicPipe //Detailers", **graph.parts(model))[0]
    settings = SAMPLING | {"sampler_name": "euler", "seed": 11, "denoise": 0.8}
    link = graph.add("OtherChoice", chosen="other_straight")[0]
    schedulers = {"value": "other_straight", "link": link, "usual": "karras"}
    for name, scheduler in schedulers.items():
        sampled = graph.add(
            "ImpactKSamplerBasicPipe", basic_pipe=pipe, latent_image=latent,
            **settings | {"scheduler": scheduler},
        )[1]  # fmt: skip
        graph.add("DetailersTestSave", value=sampled, name=name)
    stock = graph.sample(model, latent, **settings | {"scheduler": "other_straight"})
    graph.add("DetailersTestSave", value=stock, name="stock")
    done = between.run(graph)
    assert done.ok, done.error
    names = (*schedulers, "stock")
    latents = {name: between.result(name)["latent0_samples"] for name in names}
    np.testing.assert_array_equal(latents["link"], latents["value"])
    np.testing.assert_allclose(latents["value"], latents["stock"], rtol=0, atol=2e-5)
    assert np.abs(latents["usual"] - latents["value"]).max() > 0.01

    wrong = Graph()
    model = wrong.model("flat8")
    latent = wrong.encode(model, wrong.image(64, 64))
    pipe = wrong.add("ToBasicPipe //Detailers", **wrong.parts(model))[0]
    link = wrong.add("OtherChoice", chosen="nobody's")[0]
    sampled = wrong.add(
        "ImpactKSamplerBasicPipe", basic_pipe=pipe, latent_image=latent,
        **settings | {"scheduler": link},
    )[1]  # fmt: skip
    wrong.add("DetailersTestSave", value=sampled, name="wrong")
    failed = between.run(wrong)
    assert "scheduler" in str(failed.error)
    assert "nobody's" in str(failed.error)


def test_nodes_of_other_packs_do_their_part(between):
    scene = Scene()
    reference = scene.image(96, 64, seed=5)
    inputs = {"segs": scene.one, "ipadapter_pipe": scene.add("TestPipe")[0]}
    segs = scene.add(
        "ImpactIPAdapterApplySEGS", **inputs, reference_image=reference, **IPADAPTER
    )[0]  # fmt: skip
    detailed = scene.detailed(segs)
    lama = {"mask_threshold": 200, "gaussblur_radius": 3, "skip_sampling": True}
    hook = scene.add("LamaRemoverDetailerHookProvider", **lama)[0]
    saved = {
        "reference": reference,
        "picture": scene.picture,
        "image": detailed[0],
        "seen": detailed[4],
        "removed": scene.detailed(scene.one, detailer_hook=hook)[0],
    }
    for name, link in saved.items():
        scene.add("DetailersTestSave", value=link, name=name)
    done = between.run(scene)
    assert done.ok, done.error
    out = {name: between.result(name)["t0"] for name in saved}
    part = out["reference"][INSIDE]
    close(out["seen"], part, atol=1e-6)
    expected = 0.5 + 0.7 * (part.mean((1, 2), keepdims=True) - 0.5)
    close(out["image"][INSIDE], np.broadcast_to(expected, part.shape), atol=1e-3)
    close(out["removed"][INSIDE], 1 - out["picture"][INSIDE])
