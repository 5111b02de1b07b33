"""API-format prompts over the analytic models, built node by node."""

import json

SIZING = {"guide_size": 64, "guide_size_for": True, "max_size": 256}
SAMPLING = {
    "seed": 5,
    "steps": 4,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "karras",
    "denoise": 1.0,
}
_BOTH = {**SIZING, **SAMPLING}
_EACH = {
    **_BOTH,
    "feather": 0,
    "noise_mask": True,
    "force_inpaint": True,
    "wildcard": "",
    "cycle": 1,
}
_REFINED = {"refiner_ratio": 0.2}
DETAILERS = {  # every detailer's widgets
    "DetailerForEach": _EACH,
    "DetailerForEachAutoRetry": _EACH | {"max_retries": 1},
    "DetailerForEachDebug": _EACH,
    "DetailerForEachPipe": _EACH | _REFINED,
    "DetailerForEachDebugPipe": _EACH | _REFINED,
    "SEGSDetailer": {
        **_BOTH,
        **_REFINED,
        "noise_mask": True,
        "force_inpaint": True,
        "batch_size": 1,
        "cycle": 1,
    },
    "MaskDetailerPipe": {
        **_BOTH,
        **_REFINED,
        "mask_mode": True,
        "feather": 0,
        "crop_factor": 2.0,
        "drop_size": 1,
        "batch_size": 1,
        "cycle": 1,
    },
    "SEGSDetailerForAnimateDiff": _BOTH | _REFINED,
    "DetailerForEachPipeForAnimateDiff": _BOTH | _REFINED | {"feather": 0},
}
WITHOUT_PIPE = ("DetailerForEach", "DetailerForEachAutoRetry", "DetailerForEachDebug")


def box(x1, y1, x2, y2, **more):
    """An entry for `Graph.segs`: a box that its mask and its crop fill, unless `more` says so."""
    return {"bbox": [x1, y1, x2, y2], "mask": "full", **more}


def read_json(saved):
    """What a text of JSON holds that a node gave and DetailersTestSave saved."""
    return json.loads(json.loads(str(saved["s0"])))  # it saves a text as JSON


class Node:
    """A node of a graph; node[i] is the link to its output i."""

    def __init__(self, key):
        self.key = key

    def __getitem__(self, output):
        return [self.key, output]


class Graph(dict):
    """A prompt for the server."""

    def add(self, class_type, **inputs):
        return self.add_as(str(len(self) + 1), class_type, **inputs)

    def add_as(self, key, class_type, **inputs):
        """A node of an id of its own, for nodes that remember by their id what they have shown."""
        self[key] = {"class_type": class_type, "inputs": inputs}
        return Node(key)

    # Inputs

    def image(self, width, height, batch=1, seed=0, channels=3):
        size = {"width": width, "height": height}
        return self.add("DetailersTestImage", **size, batch=batch, seed=seed, channels=channels)[0]

    def plain(self, width, height, color, batch=1):
        """An image of one colour, 0xRRGGBB."""
        size = {"width": width, "height": height}
        return self.add("EmptyImage", **size, batch_size=batch, color=color)[0]

    def mask(self, width, height, *shapes, per_item=False):
        inputs = {"width": width, "height": height, "shapes": json.dumps(shapes)}
        return self.add("DetailersTestMask", **inputs, per_item=per_item)[0]

    def segs(self, width, height, *entries, **links):
        inputs = {"width": width, "height": height, "segs": json.dumps(entries)}
        return self.add("DetailersTestSegs", **inputs, **links)[0]

    def value(self, value):
        """Any JSON value, or a tensor {"shape": ..., "fill": ...}, for a link of any type."""
        return self.add("DetailersTestValue", value=json.dumps(value))[0]

    def hook(self, omit=(), name="", **changes):
        """A recording hook: [0] the hook, [1] its log."""
        texts = {"changes": json.dumps(changes), "omit": json.dumps(omit)}
        return self.add("DetailersTestHook", **texts, name=name)

    # Models

    def model(self, family, **options):
        return self.add("DetailersTestModel", family=family, **{"prior_std": 0.6, **options})

    def text(self, model, text):
        return self.add("CLIPTextEncode", clip=model[1], text=text)[0]

    def _texts(self, model, **texts):
        """Conditionings by name; texts are encoded, links stay."""
        return {
            name: self.text(model, text) if isinstance(text, str) else text
            for name, text in texts.items()
        }

    def parts(self, model, positive="red", negative=""):
        """The five inputs of ToBasicPipe."""
        texts = self._texts(model, positive=positive, negative=negative)
        return {"model": model[0], "clip": model[1], "vae": model[2], **texts}

    def pipe(self, model, positive="red", negative=""):
        return self.add("ToBasicPipe", **self.parts(model, positive, negative))[0]

    def detail(self, node, image, segs, model, positive="red", negative="", **changed):
        """A detailer node; `segs` is a mask for MaskDetailerPipe."""
        inputs = DETAILERS[node] | changed
        inputs["image_frames" if node.endswith("AnimateDiff") else "image"] = image
        inputs["mask" if node == "MaskDetailerPipe" else "segs"] = segs
        if node in WITHOUT_PIPE:
            inputs = self.parts(model, positive, negative) | inputs
        else:
            inputs = {"basic_pipe": self.pipe(model, positive, negative)} | inputs
        return self.add(node, **inputs)

    # The host's own nodes

    def sample(self, model, latent, positive="red", negative="", **changed):
        """A KSampler's latent."""
        texts = self._texts(model, positive=positive, negative=negative)
        inputs = {"model": model[0], "latent_image": latent, **texts, **SAMPLING, **changed}
        return self.add("KSampler", **inputs)[0]

    def empty_latent(self, width, height, batch=1):
        return self.add("EmptyLatentImage", width=width, height=height, batch_size=batch)[0]

    def encode(self, model, image):
        return self.add("VAEEncode", vae=model[2], pixels=image)[0]

    def decode(self, model, latent):
        return self.add("VAEDecode", vae=model[2], samples=latent)[0]
