"""Nodes called as packs call those of ComfyUI-Impact-Pack: by position and by name, on the class
and on objects; and the functions by which they sample."""

import copy
import inspect
import math

import nodes as host_nodes
import torch
from detailers.compat.core import enhance_detail, enhance_detail_for_animatediff
from detailers.core.graph.calls import give_older_inputs
from detailers.core.host.detectors import register_folders
from detailers.core.host.prompts import LookUps, prepare
from detailers.core.segs.seg import SEG
from detailers.dev.model_pack.model import DetailersTestModel
from detailers.nodes import NODE_CLASSES
from detailers.nodes.sampling.samplers import ksampler_wrapper, separated_sample
from detailers.utils.notes import collected_notes
from detailers.wildcards.budget import Budget

register_folders()
MODEL, CLIP, VAE = DetailersTestModel().run("flat8", 0.6)
RED, NOTHING = (CLIP.encode_from_tokens_scheduled(CLIP.tokenize(text)) for text in ("red", ""))
PIPE = (MODEL, CLIP, VAE, RED, NOTHING)
IMAGE = torch.rand(1, 64, 96, 3, generator=torch.Generator().manual_seed(0))
BOX = (8, 8, 40, 40)
SEGS = (64, 96), [SEG(None, torch.ones(32, 32).numpy(), 1.0, BOX, BOX, "A", None)]
SIZE = {"guide_size": 64, "guide_size_for": True, "max_size": 128}
SAMPLING = {"seed": 5, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
PARTS = {"model": MODEL, "clip": CLIP, "vae": VAE}
PROMPTS = {"positive": RED, "negative": NOTHING}
PASTE = {"denoise": 0.5, "feather": 3, "noise_mask": True, "force_inpaint": True}
DETAIL = {"image": IMAGE, "segs": SEGS, **PARTS, **SIZE, **SAMPLING, **PROMPTS, **PASTE}
OF_PIPE = {"image": IMAGE, "segs": SEGS, **SIZE, **SAMPLING, **PASTE, "basic_pipe": PIPE}


class Detector:
    """Finds the box."""

    def setAux(self, text):
        pass

    def detect(self, image, *settings, detailer_hook=None):
        return SEGS


def node(name):
    return NODE_CLASSES[name]


def check_texts_beyond_the_budget_of_a_prompt_are_drawn_by_their_nodes():
    """And are the same as if they had been drawn before it was queued."""

    def prompt(*texts):
        inputs = {"populated_text": "", "mode": "populate", "seed": 4}
        return {
            str(number): {
                "class_type": "ImpactWildcardProcessor",
                "inputs": {"wildcard_text": text, **inputs},
            }
            for number, text in enumerate(texts)
        }

    ours = {"ImpactWildcardProcessor": node("ImpactWildcardProcessor")}
    registered = host_nodes.NODE_CLASS_MAPPINGS
    registered["ImpactWildcardProcessor"] = ours["ImpactWildcardProcessor"]
    try:
        texts = ("{2::a|b}", "{3$$a|b|2::c|d}", "{2$$4::a|b|c}")
        whole = prompt(*texts)
        assert len(prepare(whole, ours, LookUps())) == 3
        look_ups, part = LookUps(), prompt(*texts)
        look_ups.budget = Budget(options=5)
        with collected_notes() as notes:
            (drawn,) = prepare(part, ours, look_ups)
        assert drawn.node_id == "0"
        for name in ("populated_text", "mode"):
            assert part["0"]["inputs"][name] == whole["0"]["inputs"][name]
        assert [told.kind for told in notes] == ["wildcards"]
        assert "The nodes expand these texts when they run" in notes[0].text
        for key in ("1", "2"):
            inputs = part[key]["inputs"]
            assert inputs["mode"] == "populate"
            inputs = inputs | {"Select to add Wildcard": ""}
            (text,) = node("ImpactWildcardProcessor")().run(**inputs)
            assert text == whole[key]["inputs"]["populated_text"]
    finally:
        del registered["ImpactWildcardProcessor"]


def same(first, second):
    assert first.shape == second.shape, (first.shape, second.shape)
    assert torch.equal(first, second), (first - second).abs().max()


def quiet(check):
    def run():
        with torch.inference_mode():
            check()

    return run


@quiet
def check_every_class_can_be_called_by_the_older_name():
    for node_id, kind in NODE_CLASSES.items():
        assert callable(kind.doit), node_id
        assert callable(kind().doit), node_id
        assert callable(getattr(kind(), kind.FUNCTION)), node_id


@quiet
def check_a_detailer_by_position_by_name_and_on_the_class():
    kind = node("DetailerForEach")
    wanted = kind().run(**DETAIL, wildcard="")[0]
    assert (wanted - IMAGE).abs().max() > 0.01
    same(kind().doit(*DETAIL.values(), "")[0], wanted)
    same(kind().doit(**DETAIL, wildcard="", cycle=1)[0], wanted)
    same(kind.doit(*DETAIL.values(), "", 1)[0], wanted)
    same(kind.doit(kind(), *DETAIL.values(), "")[0], wanted)
    same(getattr(kind(), kind.FUNCTION)(**DETAIL, wildcard="")[0], wanted)
    twice = kind().run(**DETAIL, wildcard="", cycle=2)[0]
    same(kind().doit(*DETAIL.values(), "", 2)[0], twice)
    assert (twice - wanted).abs().max() > 1e-4


@quiet
def check_widgets_that_are_not_given_have_their_defaults():
    kind = node("DetailerForEach")
    given = {name: DETAIL[name] for name in ("image", "segs", *PARTS, *PROMPTS, "seed")}
    settings = {"steps": 4, "cfg": 1.0, "guide_size": 64}
    short = kind().doit(**given, **settings)[0]
    full = kind().run(
        **given, **settings, guide_size_for=True, max_size=1024, denoise=0.5, feather=5,
        noise_mask=True, force_inpaint=True, wildcard="", cycle=1, sampler_name="euler",
        scheduler=kind.INPUT_TYPES()["required"]["scheduler"][0][0],
    )[0]  # fmt: skip
    same(short, full)


@quiet
def check_orders_that_differ_from_the_widgets():
    """The hook comes before the cycle, or behind the refiner; and a list of pictures is a batch."""
    debug = node("DetailerForEachDebug")
    wanted = debug().run(**DETAIL, wildcard="", cycle=2)
    same(debug().doit(*DETAIL.values(), "", None, 2)[0], wanted[0])
    pipe = node("DetailerForEachPipe")
    wanted = pipe().run(**OF_PIPE, wildcard="", refiner_ratio=0.2, cycle=2)
    got = pipe().doit(*OF_PIPE.values(), "", 0.2, None, None, 2)
    same(got[0], wanted[0])
    assert got[2] is PIPE
    debug = node("DetailerForEachDebugPipe")
    same(debug().doit(*OF_PIPE.values(), "", 2, 0.2)[0], wanted[0])
    same(pipe().doit([IMAGE[0]], *list(OF_PIPE.values())[1:], "", 0.2, None, None, 2)[0], wanted[0])


@quiet
def check_the_functions_of_detailers():
    wanted = node("DetailerForEach")().run(**DETAIL, wildcard="")[0]
    do_detail = node("DetailerForEach").do_detail
    result = do_detail(*DETAIL.values(), "")
    same(result[0], wanted)
    assert [len(part) for part in result[1:5]] == [1, 1, 1, 0]
    assert result[5][1][0].cropped_image.shape == (1, 32, 32, 3)
    names = list(inspect.signature(do_detail).parameters)
    assert (names[6], names[20], len(names)) == ("guide_size_for_bbox", "detailer_hook", 32), names
    empty = do_detail(IMAGE, ((64, 96), []), *list(DETAIL.values())[2:])
    same(empty[0], IMAGE)
    assert [list(part) for part in empty[1:5]] == [[]] * 4
    retried = node("DetailerForEachAutoRetry").do_detail(*DETAIL.values(), "", max_retries=2)
    same(retried[0], wanted)
    face = node("FaceDetailer")
    found = (0.5, 0, 1.0, "center-1", 0, 0.93, 0, 0.7, "False", 10, Detector())
    settings = [DETAIL[name] for name in DETAIL if name != "segs"]
    image, refined, _, mask, seen = face.enhance_face(*settings, *found)
    same(image, wanted)
    assert (len(refined), mask.sum(), len(seen)) == (1, 32 * 32, 1)
    whole = face().doit(*settings, *found, "")
    same(whole[0], wanted)
    assert len(whole[4]) == 14
    segs, _ = node("SEGSDetailer").do_detail(
        IMAGE, SEGS, *SIZE.values(), *SAMPLING.values(), 0.5, True, True, PIPE
    )
    assert segs[1][0].cropped_image.shape == (1, 32, 32, 3)


@quiet
def check_one_crop_is_enhanced_as_a_detailer_does_it():
    settings = DETAIL | {"feather": 0}
    crop = IMAGE[:, 8:40, 8:40]
    order = [*PARTS.values(), *SIZE.values(), BOX, *SAMPLING.values(), *PROMPTS.values(), 0.5]
    got, seen = enhance_detail(crop, *order, torch.ones(32, 32).numpy(), True)
    wanted = node("DetailerForEach")().run(**settings, wildcard="")[0]
    same(got, wanted[:, 8:40, 8:40])
    assert seen is None
    skipped, _ = enhance_detail(crop, *PARTS.values(), 16, *order[4:], None, False)
    assert skipped is None


@quiet
def check_the_frames_of_a_video():
    frames = torch.cat([IMAGE, IMAGE.flip(2)])
    sampling = (*SAMPLING.values(), 0.5)
    video = node("SEGSDetailerForAnimateDiff")
    segs, _ = video.do_detail(frames, SEGS, *SIZE.values(), *sampling, PIPE, None)
    wanted = torch.as_tensor(segs[1][0].cropped_image)
    assert wanted.shape == (2, 32, 32, 3)
    crops = frames[:, 8:40, 8:40].numpy()
    order = [*PARTS.values(), *SIZE.values(), BOX, *SAMPLING.values(), *PROMPTS.values(), 0.5]
    got, seen = enhance_detail_for_animatediff(crops, *order, torch.ones(32, 32).numpy())
    same(got, wanted)
    assert seen is None


@quiet
def check_sampling_by_functions():
    """As KSampler samples, in one go and in two; with another pack's noise and callback."""
    import nodes

    latent = {"samples": VAE.encode(IMAGE[..., :3])}
    model = (MODEL, 5, 4, 1.0, "euler", "simple", RED, NOTHING, latent)
    wanted = nodes.KSampler().sample(*model, 0.5)[0]["samples"]
    same(ksampler_wrapper(*model, 0.5)["samples"], wanted)
    steps = []
    common = (1.0, "euler", "simple", RED, NOTHING)
    separated = node("RegionalSampler").separated_sample
    assert separated is separated_sample
    one = separated(
        MODEL, True, 5, 8, *common, latent, 4, 8, False,
        callback=lambda step, x0, x, total: steps.append((step, tuple(x.shape), total)),
    )  # fmt: skip
    same(one["samples"], wanted)
    assert [step[0] for step in steps] == [0, 1, 2, 3]
    assert steps[0][1:] == (tuple(wanted.shape), 4)
    first = separated(MODEL, "enable", 5, 8, *common, latent, 4, 6, "enable")
    second = separated(MODEL, False, 5, 8, *common, first, 6, None, False)
    assert torch.allclose(second["samples"], wanted, atol=1e-5)
    noise = torch.zeros_like(latent["samples"])
    silent = separated(MODEL, True, 5, 8, *common, latent, 4, 8, False, noise=noise)["samples"]
    assert (silent - wanted).abs().max() > 1e-3
    refined = ksampler_wrapper(*model, 0.5, 0.5, MODEL, CLIP, RED, NOTHING)["samples"]
    assert torch.allclose(refined, wanted, atol=1e-5)


@quiet
def check_a_face_mesh_by_position():
    """As detectors over MediaPipe call it, without a least size of the crop."""
    mesh = torch.zeros(1, 64, 64, 3)
    parts = (True, *[False] * 7)
    segs = node("MediaPipeFaceMeshToSEGS")().doit(mesh, 1.5, True, None, 1, 0, *parts)[0]
    assert segs == ((64, 64), [])


@quiet
def check_detectors_and_masks_by_position():
    find = node("BboxDetectorSEGS")
    segs = find().doit(Detector(), IMAGE, 0.5, 10, 3.0, 10, "all")[0]
    assert [seg.bbox for seg in segs[1]] == [BOX]
    assert find.doit(bbox_detector=Detector(), image=IMAGE, threshold=0.5)[0][1][0].bbox == BOX
    mask = node("SegsToCombinedMask")().doit(SEGS)[0]
    assert mask.sum() == 32 * 32
    again = node("MaskToSEGS").doit(mask, False, 1.0, False, 10)[0]
    assert again[1][0].bbox == BOX
    kept, rest = node("ImpactSEGSLabelFilter").filter(segs, ["A", "B"])
    assert ([seg.label for seg in kept[1]], rest[1]) == (["A"], [])
    paste = node("SEGSPaste").doit(IMAGE, segs, 5, alpha=255)[0]
    assert paste.shape == IMAGE.shape
    pipe = node("ToBasicPipe").doit(*PIPE)[0]
    assert pipe == PIPE
    assert node("FromBasicPipe")().doit(pipe) == PIPE


@quiet
def check_samplers_and_regions_can_be_taken_apart():
    """By position the pipe comes before the factor; what is in a region is made again."""
    sampler = node("KSamplerAdvancedProvider")().doit(7.0, "euler", "simple", PIPE)[0]
    model, cfg, name, scheduler, positive, negative = sampler.params
    assert (model, cfg, name, scheduler) == (MODEL, 7.0, "euler", "simple")
    assert (positive, negative) == (RED, NOTHING)
    (region,) = node("RegionalPrompt").doit(torch.ones(1, 8, 8), sampler)[0]
    other = region.clone_with_sampler(region.sampler.clone_with_conditionings(NOTHING, RED))
    assert other.sampler.params[4:] == (NOTHING, RED)
    (plain,) = node("KSamplerProvider")().doit(5, 4, 2.0, "euler", "simple", 0.5, PIPE)
    assert plain.params == (MODEL, 5, 4, 2.0, "euler", "simple", RED, NOTHING, 0.5)


@quiet
def check_texts():
    processor = node("ImpactWildcardProcessor")
    assert processor.process(text="{a|b}", seed=1) == processor.process("{a|b}", 1) in ("a", "b")
    assert processor().doit(wildcard_text="x", populated_text="y", mode=True, seed=3) == ("y",)
    encode = node("ImpactWildcardEncode")
    model, clip, conditioning, text = encode().doit(model=MODEL, clip=CLIP, populated_text="red")
    assert (model, clip, text) == (MODEL, CLIP, "red")
    same(conditioning[0][0], RED[0][0])

    class Encoder:
        def encode(self, clip, text):
            return (NOTHING, text)

    assert encode.process_with_loras(
        wildcard_opt="red", model=MODEL, clip=CLIP, clip_encoder=Encoder()
    ) == (MODEL, CLIP, NOTHING)
    assert isinstance(encode.get_wildcard_list(), list)


def check_what_is_ours_alone_is_not_inherited():
    kind = node("FaceDetailer")
    give_older_inputs(kind)
    ours = kind.INPUT_TYPES()["optional"]
    assert {"detail_batch", "paste_options"} < set(ours)
    older = [
        "sam_model_opt", "segm_detector_opt", "detailer_hook", "inpaint_model",
        "noise_mask_feather", "scheduler_func_opt", "tiled_encode", "tiled_decode",
    ]  # fmt: skip

    class Inherits(kind):
        pass

    class Extends(kind):
        @classmethod
        def INPUT_TYPES(cls):
            groups = super().INPUT_TYPES()
            groups["optional"]["theirs"] = ("INT", {})
            return groups

    class Asks:
        @classmethod
        def INPUT_TYPES(cls):
            return kind.INPUT_TYPES()

    class Takes:
        INPUT_TYPES = kind.INPUT_TYPES

    def borrowed():
        return copy.deepcopy(kind.INPUT_TYPES())

    class Helped:
        @classmethod
        def INPUT_TYPES(cls):
            return borrowed()

    for other in (Inherits, Asks, Takes, Helped):
        assert list(other.INPUT_TYPES()["optional"]) == older, other
        assert other.INPUT_TYPES()["required"] == kind.INPUT_TYPES()["required"]
    assert list(Extends.INPUT_TYPES()["optional"]) == [*older, "theirs"]
    assert list(kind.INPUT_TYPES()["optional"]) == list(ours)

    space = {"kind": kind, "__name__": "their_pack"}
    exec("taken = kind.INPUT_TYPES()", space)  # noqa: S102 - as their module is loaded
    assert list(space["taken"]["optional"]) == older

    class Fixed(node("ImpactRemoteInt")):
        def doit(self, **inputs):
            return inputs

    class Closed(node("ImpactRemoteInt")):
        def doit(self, link_id, value, unique_id):
            return unique_id

    give_older_inputs(node("ImpactRemoteInt"))
    assert set(Fixed.INPUT_TYPES()["hidden"]) == {"unique_id", "prompt"}
    assert set(Closed.INPUT_TYPES()["hidden"]) == {"unique_id"}


@quiet
def check_a_subclass_with_the_older_signature_is_run_by_the_host():
    """By the name that FUNCTION has; what it calls of ours gives the plain result."""
    kind = node("DetailerForEach")

    class Older(kind):
        def doit(self, image, segs, model, clip, vae, guide_size, guide_size_for, max_size, seed,
                 steps, cfg, sampler_name, scheduler, positive, negative, denoise, feather,
                 noise_mask, force_inpaint, wildcard, cycle=1, detailer_hook=None):  # fmt: skip
            result = super().doit(
                image, segs, model, clip, vae, guide_size, guide_size_for, max_size, seed, steps,
                cfg, sampler_name, scheduler, positive, negative, denoise, feather, noise_mask,
                force_inpaint, wildcard, cycle, detailer_hook,
            )  # fmt: skip
            assert isinstance(result, tuple)
            return (*result, "theirs")

    own = kind().run(**DETAIL, wildcard="")[0]
    image, word = getattr(Older(), Older.FUNCTION)(**DETAIL, wildcard="")
    same(image, own)
    assert word == "theirs"
    assert math.isfinite(image.sum())
