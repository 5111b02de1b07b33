"""SAM, SAM 2 and CLIPSeg from files with random weights, against their packages' own answers."""

import numpy as np
import pytest
import torch
from detailers.core.detectors.clipseg import CLIPSegDetector, CLIPSegOptions, load_clipseg
from detailers.core.detectors.network import CpuNetwork
from detailers.core.detectors.safe_weights import WeightsError
from detailers.core.detectors.sam import v1, v2
from detailers.core.detectors.sam.load import load_sam
from detailers.core.detectors.sam.model import Sam, sam_masks
from detailers.core.detectors.sam.questions import Prompt, SamHints
from detailers.core.geometry import Box
from detailers.core.segs.seg import SEG
from detailers.tests import sam_models

pytest.importorskip("transformers", reason="needs transformers, as ComfyUI does")
from safetensors.torch import save_file

SIDE = 128
QUESTIONS = [
    ([(60, 40)], [1], [30, 10, 100, 70]),
    ([(20, 15), (90, 60)], [1, 0], None),
    ([], [], [5, 5, 60, 60]),
]


@pytest.fixture(scope="module")
def image():
    """120 wide, 80 high."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 80), torch.linspace(0, 1, 120), indexing="ij")
    return torch.stack([x, y, (x * 9).sin() ** 2], dim=-1)


@pytest.fixture(scope="module")
def sam_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sams")
    sam_models.sam().save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture
def model(sam_file):
    return load_sam(sam_file, CpuNetwork)


def low_masks(model, image, question):
    """A Sam's own masks of one question and their ratings, before they go to the image."""
    points, labels, box = question
    prompt = Prompt(tuple(points), tuple(labels), None if box is None else Box.of(box))
    answers = []
    ask = model._ask

    def listen(*arguments):
        answers.append(ask(*arguments))
        return answers[-1]

    model._ask = listen
    (mask,) = model.masks(image, [prompt], -1e9)
    model._ask = ask
    return answers[0][0][0], answers[0][1][0], mask


@pytest.mark.parametrize("question", QUESTIONS)
def test_sam_answers_like_transformers_with_its_own_processor(model, image, question):
    from transformers import SamImageProcessor, SamProcessor

    points, labels, box = question
    processor = SamProcessor(
        SamImageProcessor(
            size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE},
            mask_size={"longest_edge": 32}, mask_pad_size={"height": 32, "width": 32},
        )
    )  # fmt: skip
    pixels = (image * 255).round().byte().numpy()
    inputs = processor(
        pixels,
        input_points=[[points]] if points else None,
        input_labels=[[labels]] if labels else None,
        input_boxes=[[box]] if box else None,
        return_tensors="pt",
    )
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    inputs = {name: value.float() if value.is_floating_point() else value
              for name, value in inputs.items()}  # fmt: skip
    with torch.no_grad():
        expected = model.network.module(**inputs, multimask_output=True)
    masks, ratings, mask = low_masks(model, torch.from_numpy(pixels) / 255, question)
    scale = expected.pred_masks.abs().max()
    assert (masks - expected.pred_masks[0, 0]).abs().max() < 0.02 * scale  # 8 bits in theirs
    assert torch.allclose(ratings, expected.iou_scores[0, 0], atol=1e-3)
    (whole,) = processor.image_processor.post_process_masks(
        expected.pred_masks, *sizes, pad_size={"height": SIDE, "width": SIDE}
    )
    united = whole[0].any(dim=0).float()
    assert mask.shape == (80, 120)
    assert (mask - united).abs().mean() < 0.02
    assert 0.02 < united.mean() < 0.98


def test_sam_in_its_authors_file_is_the_same_network(tmp_path):
    package = pytest.importorskip(
        "segment_anything", reason="needs segment-anything: pip install segment-anything"
    )
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    torch.manual_seed(0)
    theirs = Sam(
        ImageEncoderViT(
            img_size=SIDE, embed_dim=32, depth=3, num_heads=2, out_chans=32, window_size=6,
            use_rel_pos=True, global_attn_indexes=(1,),
            norm_layer=lambda width: torch.nn.LayerNorm(width, eps=1e-6),
        ),
        PromptEncoder(32, (SIDE // 16,) * 2, (SIDE,) * 2, 16),
        MaskDecoder(
            transformer_dim=32, transformer=TwoWayTransformer(2, 32, 8, 64),
            iou_head_hidden_dim=24,
        ),
    ).eval()  # fmt: skip
    for name, parameter in theirs.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            parameter.data.normal_(0, 0.1)
    torch.save(theirs.state_dict(), tmp_path / "sam_vit_x.pth")
    ours = load_sam(tmp_path / "sam_vit_x.pth", CpuNetwork)
    pixels = (torch.rand(80, 120, 3) * 255).round().byte().numpy()
    predictor = package.SamPredictor(theirs)
    predictor.set_image(pixels)
    for points, labels, box in QUESTIONS:
        expected, ratings, low = predictor.predict(
            np.array(points) if points else None, np.array(labels) if labels else None,
            None if box is None else np.array(box),
        )  # fmt: skip
        question = points, labels, box
        masks, rated, _ = low_masks(ours, torch.from_numpy(pixels) / 255, question)
        assert np.abs(masks.numpy() - low).max() < 0.02 * np.abs(low).max()
        assert np.allclose(rated.numpy(), ratings, atol=1e-3)
        found = ours.predict(pixels, points, labels, box, -1e9)
        assert np.mean(np.stack(found) != expected) < 0.01


def test_many_questions_get_the_answers_that_each_gets_alone(model, image):
    boxes = [(x, y, x + 20, y + 15) for x in range(0, 90, 9) for y in range(0, 60, 15)]
    segs = [SEG(None, np.ones((15, 20), np.float32), 1.0, box, box, "A") for box in boxes]
    hints = SamHints(detection_hint="mask-area", threshold=0.0, mask_hint_use_negative="Outter")
    together = sam_masks(model, ((80, 120), segs), image[None], hints)
    assert len(together) == 40
    for seg, mask in list(zip(segs, together, strict=True))[::13]:
        (alone,) = sam_masks(model, ((80, 120), [seg]), image[None], hints)
        assert (alone - mask).abs().mean() < 1e-3


def test_masks_rated_too_low_count_only_where_none_is_rated_higher(model, image):
    _, ratings, _ = low_masks(model, image, QUESTIONS[0])
    prompt = Prompt(((60, 40),), (1,), Box(30, 10, 100, 70))
    best = model.predict(image.numpy() * 255, [(60, 40)], [1], [30, 10, 100, 70], 1e9)
    assert len(best) == 1
    all_three = model.predict(image.numpy() * 255, [(60, 40)], [1], [30, 10, 100, 70], -1e9)
    assert np.array_equal(best[0], all_three[int(ratings.argmax())])
    (mask,) = model.masks(image, [prompt], 1e9)
    assert np.mean(mask.numpy() != best[0]) < 1e-3


def test_a_sam_is_held_on_its_device_between_calls():
    log = []

    class Logged(CpuNetwork):
        def on_device(self):
            log.append("on")
            return super().on_device()

    model = Sam(Logged(sam_models.sam()), v1.embed, v1.ask)
    assert model.sam_wrapper is model
    model.prepare_device()
    pixels = np.zeros((40, 40, 3), np.uint8)
    model.predict(pixels, [(5, 5)], [1], None, 0.5)
    seen = model._seen
    model.predict(pixels, [(9, 9)], [1], None, 0.5)
    assert model._seen is seen  # the image went through the network once
    model.release_device()
    assert model._seen is None


def test_incomplete_and_unknown_weights_are_errors(sam_file, tmp_path):
    from safetensors.torch import load_file

    weights = load_file(sam_file)
    del weights["mask_decoder.iou_token.weight"]
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"'part.safetensors' lacks weights.*iou_token"):
        load_sam(tmp_path / "part.safetensors", CpuNetwork)
    save_file({"unet.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"no SAM of a known kind.*'unet.weight'"):
        load_sam(tmp_path / "other.safetensors", CpuNetwork)


# SAM 2


@pytest.fixture(scope="module", params=[True, False], ids=["SAM 2.1", "SAM 2"])
def second(request):
    """A network for video of 128 x 128, and a Sam with its weights."""
    network = sam_models.sam2(SIDE, newer=request.param)
    weights = network.state_dict()
    single = v2.build(dict(weights), video=False, side=SIDE)
    follower = v2.Follower(lambda: CpuNetwork(v2.build(dict(weights), video=True, side=SIDE)))
    return network, Sam(CpuNetwork(single), v2.embed, v2.ask, follower)


def test_sam2_is_known_by_its_weights_and_has_all_of_them(second):
    network, model = second
    assert v2.is_sam2(network.state_dict())
    assert not v1.is_sam(network.state_dict())
    assert not v2.is_sam2(sam_models.sam().state_dict())
    own = model.network.module.state_dict()
    whole = network.state_dict()
    assert all(torch.equal(whole[name], value) for name, value in own.items())


@pytest.mark.parametrize("question", QUESTIONS)
def test_sam2_marks_the_image_at_its_own_size(second, image, question):
    masks, ratings, mask = low_masks(second[1], image, question)
    assert masks.shape == (3, 32, 32)
    assert ratings.shape == (3,)
    expected = torch.nn.functional.interpolate(masks[None], (80, 120), mode="bilinear")[0] > 0
    assert torch.equal(mask, expected.any(dim=0).float())


def test_sam2_follows_boxes_like_transformers(second, image):
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    network, model = second
    count = v2._REMEMBERED + 4  # more than a session keeps
    frames = torch.stack([image.roll(5 * index, dims=1) for index in range(count)])
    boxes = [(30, 10, 100, 70), (5, 5, 40, 40)]
    session = Sam2VideoInferenceSession(
        torch.stack([v2._pixels(frame, SIDE)[0] for frame in frames]), 80, 120,
        dtype=torch.float32,
    )  # fmt: skip
    scale = torch.tensor([SIDE / 120, SIDE / 80])
    for number, box in enumerate(boxes):
        corners = torch.tensor(box).view(2, 2)
        points = torch.cat([corners, corners.float().mean(0, keepdim=True)]) * scale
        index = session.obj_id_to_idx(number)
        session.add_point_inputs(index, 0, {
            "point_coords": points[None, None],
            "point_labels": torch.tensor([2, 3, 1], dtype=torch.int32)[None, None],
        })  # fmt: skip
    session.obj_with_new_inputs = [0, 1]
    with torch.no_grad():
        expected = [network(session, frame_idx=index).pred_masks for index in range(count)]
    expected = [
        torch.nn.functional.interpolate(masks, (80, 120), mode="bilinear")[:, 0]
        for masks in expected
    ]
    found = model.follow(frames, boxes, 0.25)
    for number, masks in enumerate(found):
        theirs = torch.stack([(frame[number] >= 0.25).float() for frame in expected])
        assert masks.shape == (count, 80, 120)
        assert (masks - theirs).abs().mean() < 1e-3
        assert 0.01 < theirs.mean() < 0.99


def test_a_session_keeps_no_more_than_later_frames_ask_for(second, image, monkeypatch):
    sessions = []
    make = v2._session

    def watched(*arguments):
        sessions.append(make(*arguments))
        return sessions[-1]

    monkeypatch.setattr(v2, "_session", watched)
    count = v2._REMEMBERED + 4
    frames = torch.stack([image.roll(5 * index, dims=1) for index in range(count)])
    second[1].follow(frames, [(30, 10, 100, 70), (5, 5, 40, 40)], 0.25)
    (session,) = sessions
    assert sorted(session.output_dict_per_obj) == [0, 1]
    for outputs in session.output_dict_per_obj.values():
        assert sorted(outputs["cond_frame_outputs"]) == [0]
        assert sorted(outputs["non_cond_frame_outputs"]) == list(range(4, count))
        for group in outputs.values():
            assert not any("high_res_masks" in kept for kept in group.values())


def test_following_nothing_needs_no_network(image):
    def fail():
        raise AssertionError("loaded")

    assert v2.Follower(fail)(image[None], [], 0.0) == []


def test_sam2_in_its_authors_file_is_the_same_network(tmp_path, second):
    """Their names, made from transformers' by the rules backwards."""
    weights = second[0].state_dict()
    theirs = authors_names(weights)
    assert "sam_prompt_encoder.point_embeddings.3.weight" in theirs
    assert "memory_encoder.mask_downsampler.encoder.12.weight" in theirs
    torch.save({"model": theirs}, tmp_path / "sam2.pt")
    with torch.serialization.safe_globals([]):
        back = v2._translated(torch.load(tmp_path / "sam2.pt", weights_only=True)["model"])
    assert back.keys() | {"shared_image_embedding.positional_embedding"} == weights.keys()
    assert all(torch.equal(weights[name], value) for name, value in back.items())


def authors_names(weights):
    """SAM 2's weights by the names in the files of its authors."""
    plain = {
        "no_memory_embedding": "no_mem_embed",
        "no_memory_positional_encoding": "no_mem_pos_enc",
        "memory_temporal_positional_encoding": "maskmem_tpos_enc",
        "no_object_pointer": "no_obj_ptr",
        "occlusion_spatial_embedding_parameter": "no_obj_embed_spatial",
    }
    parts = [
        ("vision_encoder.backbone.", "image_encoder.trunk."),
        ("vision_encoder.neck.", "image_encoder.neck."),
        ("prompt_encoder.", "sam_prompt_encoder."),
        ("mask_decoder.", "sam_mask_decoder."),
        ("object_pointer_proj.", "obj_ptr_proj."),
        ("temporal_positional_encoding_projection_layer.", "obj_ptr_tpos_proj."),
    ]
    words = [
        ("memory_encoder.projection.", "memory_encoder.out_proj."),
        ("feature_projection.", "pix_feat_proj."),
        ("memory_fuser.", "fuser."),
        ("depthwise_conv.", "dwconv."),
        ("pointwise_conv", "pwconv"),
        ("patch_embed.projection.", "patch_embed.proj."),
        ("shared_embedding.positional_embedding",
         "pe_layer.positional_encoding_gaussian_matrix"),
        ("mask_embed.conv1.", "mask_downscaling.0."),
        ("mask_embed.layer_norm1.", "mask_downscaling.1."),
        ("mask_embed.conv2.", "mask_downscaling.3."),
        ("mask_embed.layer_norm2.", "mask_downscaling.4."),
        ("mask_embed.conv3.", "mask_downscaling.6."),
        ("upscale_conv1.", "output_upscaling.0."),
        ("upscale_layer_norm.", "output_upscaling.1."),
        ("upscale_conv2.", "output_upscaling.3."),
        ("layer_norm", "norm"),
        (".o_proj.", ".out_proj."),
    ]  # fmt: skip
    result = {}
    for name, value in weights.items():
        if name == "shared_image_embedding.positional_embedding":
            continue
        if name == "prompt_encoder.point_embed.weight":
            for index, row in enumerate(value.split(1)):
                result[f"sam_prompt_encoder.point_embeddings.{index}.weight"] = row
            continue
        new = plain.get(name, name)
        if "mask_downsampler" in name:
            *_, layer, part, kind = name.split(".")
            step = 12 if layer == "final_conv" or part == "final_conv" else 3 * int(layer)
            step += part == "layer_norm"
            result[f"memory_encoder.mask_downsampler.encoder.{step}.{kind}"] = value
            continue
        for old, other in parts:
            if new.startswith(old):
                new = other + new[len(old) :]
                break
        for old, other in words:
            new = new.replace(old, other)
        if ".mlp." in new:
            new = new.replace(".proj_in.", ".layers.0.").replace(".proj_out.", ".layers.1.")
        elif "hypernetworks" in new or "_head." in new or new.startswith("obj_ptr_proj."):
            new = new.replace(".layers.0.", ".layers.1.").replace(".proj_in.", ".layers.0.")
            new = new.replace(".proj_out.", ".layers.2.")
        if new.startswith("image_encoder.neck.convs."):
            new = new.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias")
        if "fuser" in new and new.endswith(".scale"):
            new = new.replace(".scale", ".gamma")
        result[new] = value
    return result


@pytest.mark.parametrize(
    ("width", "blocks", "heads", "windows", "whole"),
    [
        (96, [1, 2, 7, 2], 1, [8, 4, 14, 7], [5, 7, 9]),
        (96, [1, 2, 11, 2], 1, [8, 4, 14, 7], [7, 10, 13]),
        (112, [2, 3, 16, 3], 2, [8, 4, 14, 7], [12, 16, 20]),
        (144, [2, 6, 36, 4], 2, [8, 4, 16, 8], [23, 33, 43]),
    ],
)
def test_the_published_sizes_are_known(width, blocks, heads, windows, whole):
    """Values of the configurations that come with the sam2 package."""
    backbone = "vision_encoder.backbone."
    widths = [width * 2**stage for stage, count in enumerate(blocks) for _ in range(count)]
    weights = {
        f"{backbone}blocks.{index}.layer_norm2.weight": torch.empty(size)
        for index, size in enumerate(widths)
    }
    weights |= {
        f"{backbone}pos_embed": torch.empty(1, width, 7, 7),
        "vision_encoder.neck.convs.0.weight": torch.empty(256, 8, 1, 1),
        "mask_decoder.transformer.layers.0.mlp.proj_in.bias": torch.empty(2048),
        "mask_decoder.iou_prediction_head.proj_in.bias": torch.empty(256),
    }
    config = v2._image_config(weights, 1024)["vision_config"]
    hiera = config["backbone_config"]
    assert hiera["blocks_per_stage"] == blocks
    assert hiera["num_attention_heads_per_stage"] == [heads, 2 * heads, 4 * heads, 8 * heads]
    assert (hiera["window_size_per_stage"], hiera["global_attention_blocks"]) == (windows, whole)
    assert config["backbone_feature_sizes"] == [[256, 256], [128, 128], [64, 64]]


# CLIPSeg


@pytest.fixture
def clipseg(tmp_path):
    def make(bias=0.0, **options):
        folder = tmp_path / "clipseg-rd64-refined"
        folder.mkdir(exist_ok=True)
        sam_models.clipseg(folder, bias=bias)
        tokenizer, module = load_clipseg(folder)
        return CLIPSegDetector(
            CLIPSegOptions("a cup", **options), lambda: (tokenizer, CpuNetwork(module))
        )

    return make


def test_clipseg_finds_all_or_nothing(clipseg, image):
    assert clipseg(5.0).detect_combined(image[None], 0.9, 0).sum() == 80 * 120
    assert clipseg(-5.0).detect_combined(image[None], 0.1, 0).sum() == 0
    shape, (seg,) = clipseg(5.0).detect(image[None], 0.9, 0, 2.0)
    assert (shape, seg.bbox) == ((80, 120), (0, 0, 120, 80))


def test_clipseg_answers_like_transformers(clipseg, image):
    detector = clipseg(blur=0.0, threshold=0.5, dilation=0)
    mask = detector.detect_combined(image[None], 0.9, 9)
    tokenizer, network = detector._loaded
    pixels = torch.nn.functional.interpolate(
        image.movedim(-1, 0)[None], (352, 352), mode="bilinear", antialias=True
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    tokens = tokenizer(["a cup"], return_tensors="pt")
    with torch.no_grad():
        logits = network.module(pixel_values=pixels, **tokens).logits
    found = (logits.view(1, 1, 352, 352) > 0).float()
    assert 0.05 < found.mean() < 0.95
    whole = torch.nn.functional.interpolate(found, (80, 120), mode="bilinear", antialias=True)
    assert torch.equal(mask, (whole[0, 0] > 0.5).float())


def test_clipseg_grows_and_smooths(clipseg, image):
    plain = clipseg(blur=0.0, threshold=0.5, dilation=0)._sure(image[None], "a cup")
    grown = clipseg(blur=0.0, threshold=0.5, dilation=8).detect_combined(image[None], 0, 0)
    bare = clipseg(blur=0.0, threshold=0.5, dilation=0).detect_combined(image[None], 0, 0)
    assert plain.shape == (1, 352, 352)
    assert grown.sum() > bare.sum()
    assert (grown >= bare).all()


def test_clipseg_looks_for_what_it_is_told_where_it_has_no_text(image):
    asked = []

    class Listening(CLIPSegDetector):
        def _sure(self, image, text):
            asked.append(text)
            return torch.zeros(1, 352, 352)

    detector = Listening(CLIPSegOptions(" "), None)
    with pytest.raises(ValueError, match="'text' is empty"):
        detector.detect(image[None], 0.5, 0, 3.0)
    detector.setAux("face")
    assert detector.detect(image[None], 0.5, 0, 3.0) == ((80, 120), [])
    detector.setAux(None)
    assert asked == ["face"]


def test_what_is_no_clipseg_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RuntimeError, match=r"CLIPSeg cannot be loaded from .*"):
        load_clipseg(tmp_path)
