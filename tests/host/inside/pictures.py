"""Real encoders of the host, small and random, are shown other pictures than the first time."""

import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.text_encoders.llama as llama
import comfy.text_encoders.longcat_image as longcat_image
import comfy.text_encoders.qwen_image as qwen_image
import numpy as np
import torch
from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit, TextEncodeQwenImageEditPlus
from detailers.core.detail.images import detail_image
from detailers.core.geometry import Size, Sizing
from detailers.core.host.backend import ComfyBackend
from detailers.core.host.encoded_pictures import (
    in_place_of,
    pictured,
    pictures_in,
    watch_encoders,
    with_pictures,
)
from detailers.core.pixels.resample import resize
from detailers.core.prompts.pictured import Showing
from detailers.core.segs.seg import SEG
from detailers.core.settings import Detail, Masking, Models, Sampling
from detailers.dev.model_pack.clip_vision import DetailersTestClipVision
from detailers.dev.model_pack.model import DetailersTestModel

watch_encoders()

WIDTH = 32
TEXT = "make the hat red"


class TinyLanguage(llama.Qwen25_7BVLI):
    """Qwen2.5-VL with two thin layers of each kind."""

    def __init__(self, config_dict, dtype, device, operations):
        torch.nn.Module.__init__(self)
        config = llama.Qwen25_7BVLI_Config(
            hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1,
        )  # fmt: skip
        self.num_layers = config.num_hidden_layers
        parts = {"device": device, "dtype": dtype, "ops": operations}
        self.model = llama.Llama2_(config, **parts)
        self.visual = llama.qwen_vl.Qwen2VLVisionTransformer(
            hidden_size=WIDTH, output_hidden_size=WIDTH, intermediate_size=WIDTH, num_heads=2,
            num_layers=2, **parts,
        )  # fmt: skip
        self.dtype = dtype


class TinyEncoder(qwen_image.QwenImageTEModel):
    """The text encoder of Qwen-Image around it."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        def network(**parts):
            return comfy.sd1_clip.SDClipModel(
                textmodel_json_config={}, special_tokens={"pad": 151643}, model_class=TinyLanguage,
                layer_norm_hidden_state=False, return_attention_masks=True, **parts,
            )  # fmt: skip

        super(qwen_image.QwenImageTEModel, self).__init__(
            device=device, dtype=dtype, name="qwen25_7b", clip_model=network,
            model_options=model_options or {},
        )  # fmt: skip


_made = []


def tiny_clip():
    """Always the same CLIP."""
    if not _made:
        target = comfy.supported_models_base.ClipTarget(qwen_image.QwenImageTokenizer, TinyEncoder)
        clip = comfy.sd.CLIP(target, disable_dynamic=True)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, value in clip.cond_stage_model.named_parameters():
                scale = value[0].numel() ** -0.5 if value.ndim > 1 else 1.0
                one = float(value.ndim < 2 and "norm" in name)
                value.copy_(torch.randn(value.shape, generator=generator) * scale * 0.5 + one)
        _made.append(clip)
    return _made[0]


def image(seed, width=60, height=44):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def showing(old, new):
    """Shows `new` in the place of what is as large as `old`."""

    def fit(picture):
        return new if picture.shape == old.shape else picture

    return Showing(ComfyBackend(), fit)


def encoded(node, clip=None, text=TEXT, **images):
    return node.execute(clip or tiny_clip(), text, **images)[0]


def entries_are_equal(one, other):
    assert len(one) == len(other)
    for (embedding, options), (wanted, expected) in zip(one, other, strict=True):
        torch.testing.assert_close(embedding, wanted, rtol=0, atol=0)
        assert options.keys() == expected.keys(), (options.keys(), expected.keys())
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(options[key], value, rtol=0, atol=0)


def shown_pictures(conditioning):
    return pictured(conditioning[0][0]).call.pictures


def check_a_text_without_pictures_is_not_noted():
    assert pictured(encoded(TextEncodeQwenImageEdit)[0][0]) is None
    plain = tiny_clip().encode_from_tokens_scheduled(tiny_clip().tokenize(TEXT))
    assert pictured(plain[0][0]) is None
    assert showing(image(0), image(1)).conditioning(plain) is plain


def check_nothing_is_added_to_a_conditioning():
    with_picture = encoded(TextEncodeQwenImageEdit, image=image(0))
    assert with_picture[0][1].keys() == encoded(TextEncodeQwenImageEdit)[0][1].keys()


def check_the_same_text_with_another_picture():
    """Exactly as if the node had been given the other picture: of another shape, and by itself."""
    first, other = image(0), image(1, width=32, height=72)
    old = encoded(TextEncodeQwenImageEdit, image=first)
    new = encoded(TextEncodeQwenImageEdit, image=other)
    assert old[0][0].shape != new[0][0].shape
    shows = showing(shown_pictures(old)[0], shown_pictures(new)[0])
    again = shows.conditioning(old)
    entries_are_equal(again, new)
    assert shows.conditioning(old)[0][0] is again[0][0]  # it is encoded once


def check_identity_pictures_stay():
    first, person, other = image(0), image(2, 40, 40), image(1)
    old = encoded(TextEncodeQwenImageEditPlus, image1=first, image2=person)
    new = encoded(TextEncodeQwenImageEditPlus, image1=other, image2=person)
    again = showing(shown_pictures(old)[0], shown_pictures(new)[0]).conditioning(old)
    entries_are_equal(again, new)
    assert showing(image(5), other).conditioning(old) is old


def check_another_text_is_put_as_the_first_was():
    clip, first, other = tiny_clip(), image(0), image(1)
    for node, name in ((TextEncodeQwenImageEdit, "image"), (TextEncodeQwenImageEditPlus, "image1")):
        old = encoded(node, **{name: first})
        new = encoded(node, text="a cat", **{name: other})
        shows = showing(shown_pictures(old)[0], shown_pictures(new)[0])
        entries_are_equal(shows.text(clip, "a cat", old), new)
    assert shows.text(clip, "a cat", encoded(TextEncodeQwenImageEdit)) is None


def check_a_template_stays_around_another_text():
    """As that of TextEncodeZImageOmni, whose pictures go another way."""
    clip, template = tiny_clip(), "<|im_start|>user\nWhat the picture lacks: {}<|im_end|>\n"
    old, new, plain = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text, **options))
        for text, options in ((TEXT, {"llama_template": template}),
                              ("a cat", {"llama_template": template}), ("a cat", {}))
    )  # fmt: skip
    shows = showing(image(0), image(1))
    entries_are_equal(shows.text(clip, "a cat", old), new)
    assert new[0][0].shape != plain[0][0].shape
    assert shows.conditioning(old) is old
    assert shows.text(clip, "a cat", plain) is None


def check_what_later_nodes_set_stays_and_what_they_took_stays_away():
    first, other = image(0), image(1)
    ((embedding, options),) = encoded(TextEncodeQwenImageEdit, image=first)
    changed = {key: value for key, value in options.items() if key != "pooled_output"}
    old = [[embedding, {**changed, "strength": 0.5, "reference_latents": [first]}]]
    shows = showing(pictured(embedding).call.pictures[0], other)
    ((_, result),) = shows.conditioning(old)
    assert result["strength"] == 0.5 and result["reference_latents"] == [first]
    assert "pooled_output" not in result
    assert "pooled_output" in options


def check_other_ways_to_encode():
    clip, first, other = tiny_clip(), image(0), image(1)
    tokens = [clip.tokenize(TEXT, images=[each]) for each in (first, other)]
    wanted = clip.encode_from_tokens(tokens[1], return_dict=True)
    for options in ({"return_dict": True}, {"return_pooled": True}, {}):
        made = clip.encode_from_tokens(tokens[0], **options)
        embedding = made["cond"] if isinstance(made, dict) else made
        embedding = embedding[0] if isinstance(embedding, tuple) else embedding
        again = showing(first, other).conditioning([[embedding, {}]])
        torch.testing.assert_close(again[0][0], wanted["cond"], rtol=0, atol=0)


def check_a_note_ends_with_what_it_belongs_to():
    import gc
    import weakref

    old = encoded(TextEncodeQwenImageEdit, image=image(0))
    call = weakref.ref(pictured(old[0][0]).call)
    assert call() is not None
    del old
    gc.collect()
    assert call() is None


def check_the_size_at_which_each_segment_is_shown():
    """The encoder gets as many pixels as the host's nodes give it, in the crop's proportions."""
    picture = resize(image(3, 12, 8), Size(240, 160))
    model, clip, vae = DetailersTestModel().run("flat8", 0.5)
    boxes = (0, 0, 120, 160), (120, 40, 240, 100)
    segs = (160, 240), [
        SEG(None, np.ones((y2 - y1, x2 - x1), np.float32), 1.0, (x1, y1, x2, y2), (x1, y1, x2, y2),
            "") for x1, y1, x2, y2 in boxes
    ]  # fmt: skip
    encode, shown = clip.cond_stage_model.encode_token_weights, []

    def noting(tokens):
        shown.extend(picture.shape for picture in pictures_of(tokens))
        return encode(tokens)

    clip.cond_stage_model.encode_token_weights = noting
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    for node, area, name in ((TextEncodeQwenImageEdit, 1024**2, "image"),
                             (TextEncodeQwenImageEditPlus, 384**2, "image1")):  # fmt: skip
        positive = encoded(node, clip, **{name: picture})
        shown.clear()
        detail = Detail(
            Models(model, clip, vae, positive, negative), Sizing(64, False, 64, True),
            Sampling(1, 1, 1.0, "euler", "normal"), Masking(),
        )  # fmt: skip
        detail_image(picture, segs, detail, ComfyBackend())
        assert len(shown) == 2, shown
        for (_, height, width, _), (x1, y1, x2, y2) in zip(shown, boxes, strict=True):
            assert abs(height * width / area - 1) < 0.005, (height, width)
            assert abs((width / height) / ((x2 - x1) / (y2 - y1)) - 1) < 0.005, (height, width)


def check_outputs_of_image_encoders():
    (encoder,) = DetailersTestClipVision().run("siglip_vision_model")
    first, other, person = image(0), image(1), image(2, 40, 40)
    outputs = {seed: encoder.encode_image(each) for seed, each in
               enumerate((first, other, person))}  # fmt: skip
    conditioning = [[torch.zeros(1, 1, 4), {
        "clip_vision_outputs": [outputs[0], outputs[2]], "clip_vision_output": outputs[0],
        "unclip_conditioning": [{"clip_vision_output": outputs[0], "strength": 0.7}],
    }]]  # fmt: skip
    ((embedding, options),) = showing(first, other).conditioning(conditioning)
    assert embedding is conditioning[0][0]
    fresh = options["clip_vision_output"]
    torch.testing.assert_close(
        fresh.last_hidden_state, outputs[1].last_hidden_state, rtol=0, atol=0
    )
    assert options["clip_vision_outputs"] == [fresh, outputs[2]]
    assert options["unclip_conditioning"] == [{"clip_vision_output": fresh, "strength": 0.7}]
    assert showing(image(9, 10, 10), other).conditioning(conditioning) is conditioning


def check_marks_of_pictures_and_templates_stay_around_a_text():
    marks = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>"
    template = f"<|im_start|>user\n{marks}{{}}<|im_end|>\n<|im_start|>assistant\n"
    assert in_place_of("a hat", "a cat") == "a cat"
    assert in_place_of(marks * 2 + "a hat", "a cat") == marks * 2 + "a cat"
    assert in_place_of(template.format("a hat"), "a cat") == template.format("a cat")


def pictures_of(tokens):
    return [token["data"] for token in pictures_in(tokens)]


def check_pictures_are_found_where_a_tokenizer_builds_the_list_itself():
    tokenizer = longcat_image.LongCatImageTokenizer()
    first, other = image(0), image(1)
    tokens = tokenizer.tokenize_with_weights(TEXT, images=[first])
    if not pictures_of(tokens):
        return  # this version of it looks at no pictures
    assert [each is first for each in pictures_of(tokens)] == [True]
    new = with_pictures(tokens, [other])
    assert [each is other for each in pictures_of(new)] == [True]
    assert [each is first for each in pictures_of(tokens)] == [True]
    assert new["qwen25_7b"][0][0] == tokens["qwen25_7b"][0][0]
