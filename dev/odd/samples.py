"""Good values for every input, small enough that each node runs in a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import comfy.samplers
import numpy as np
import torch
from comfy_execution.graph import DynamicPrompt

from ...core.geometry import Rect, Size
from ...core.segs.seg import SEG
from ...core.tracks.track import Sighting, Track, Tracks
from ..model_pack.clip_vision import DetailersTestClipVision
from ..model_pack.links import DetailersTestPreprocessor, DetailersTestScheduler
from ..model_pack.model import DetailersTestControl, DetailersTestModel
from ..model_pack.sources import BoxDetector

SIDE = 64
BOX = (8, 8, 40, 40)

# Settings that are not the default: what makes a run short, or lets it do something.
_SETTINGS = {
    "guide_size": 64.0, "max_size": 128.0, "steps": 2, "seed": 5, "cfg": 1.0, "denoise": 0.5,
    "seconds": 0.0, "bbox_size": 64, "upscale_factor": 1.5, "rescale_factor": 1.5,
    "scale_factor": 1.5, "tile_size": 320, "sampler_name": "euler", "scheduler": "normal",
    "crop_factor": 2.0, "rounding_modulus": 8, "total": 3, "picks": "1",
    "strings": "a\nb", "string": "a\nb", "populated_text": "red", "preset_expr": "Manual expr",
    "manual_expr": "a > 0.1", "base_only_steps": 1, "target_steps": 2, "end_at_step": 2,
    "names": "A", "end_end_at_step": 2, "temp_prefix": "", "image_width": 64, "image_height": 64,
}  # fmt: skip
# Settings whose larger values take long by themselves: above these they are right, but not run.
WORK = {
    "steps": 20, "guide_size": 128, "max_size": 256, "batch_size": 4, "cycle": 3, "seconds": 0,
    "rescale_factor": 4, "upscale_factor": 4, "scale_factor": 4, "target_steps": 20,
    "tile_size": 1024, "tile_width": 1024, "tile_height": 1024, "image_width": 1024, "scale_by": 8,
    "image_height": 1024, "max_retries": 3, "size_grid": 64, "native_size": 256, "overlap": 512,
    "rounding_modulus": 128, "start_at_step": 40, "end_at_step": 40,
}  # fmt: skip


class Upscaler(torch.nn.Module):
    """An UPSCALE_MODEL that doubles the size, pixel by pixel."""

    scale = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.model = SimpleNamespace(parameters=lambda: [self.weight])

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(planes, scale_factor=2)


class Sam:
    """A SAM_MODEL of another pack, which marks all of an image."""

    def prepare_device(self) -> None:
        pass

    def release_device(self) -> None:
        pass

    def predict(self, image: np.ndarray, *question: Any) -> list[np.ndarray]:
        return [np.ones((1, *image.shape[:2]), np.float32)]


class Classifier:
    """A TRANSFORMERS_CLASSIFIER."""

    labels = ("a", "b")

    def classify(self, pictures: Any) -> list[dict[str, float]]:
        return [{"a": 0.9, "b": 0.1} for _ in pictures]


class Embedder:
    """A PERSON_EMBEDDER that goes by the mean colour."""

    size = (8, 8)

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=(1, 2))


# Links that are optional by themselves, of which a node needs one.
_NEEDED = {"LabelSEGSByPerson": ("embedder",)}


@dataclass
class Samples:
    """Good values by type.

    Attributes:
        nodes: the pack's classes by id, of which some make the values for others.
    """

    nodes: Mapping[str, type]
    _made: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def image(self) -> torch.Tensor:
        return torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))

    @cached_property
    def mask(self) -> torch.Tensor:
        mask = torch.zeros(1, SIDE, SIDE)
        mask[:, 8:40, 8:40] = 1
        return mask

    @cached_property
    def segs(self) -> tuple:
        def seg(box: tuple, label: str) -> SEG:
            mask = np.ones((box[3] - box[1], box[2] - box[0]), np.float32)
            return SEG(None, mask, 0.9, box, box, label, None)

        return (SIDE, SIDE), [seg(BOX, "A"), seg((36, 36, 60, 60), "B")]

    @cached_property
    def tracks(self) -> Tracks:
        box = Rect.of_box(BOX)
        window = Rect(box.x, box.y, 2 * box.width, 2 * box.height)
        seen = tuple(Sighting(frame, box, window) for frame in range(len(self.image)))
        return Tracks(Size(SIDE, SIDE), len(seen), (Track(0, "A", seen),))

    @cached_property
    def video(self) -> Any:
        from comfy_api.latest import InputImpl, Types

        parts = Types.VideoComponents(images=self.image, frame_rate=Fraction(25))
        return InputImpl.VideoFromComponents(parts)

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any]:
        return DetailersTestModel().run("flat8", 0.0)

    @property
    def model(self) -> Any:
        return self._parts[0]

    @property
    def clip(self) -> Any:
        return self._parts[1]

    @property
    def vae(self) -> Any:
        return self._parts[2]

    @cached_property
    def conditioning(self) -> list:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize("red"))

    @cached_property
    def latent(self) -> dict:
        return {"samples": self.vae.encode(self.image)}

    @cached_property
    def basic_pipe(self) -> tuple:
        return (*self._parts, self.conditioning, self.conditioning)

    @cached_property
    def detector(self) -> BoxDetector:
        return BoxDetector([[*BOX, "A", 0.9]])

    @cached_property
    def landmarks(self) -> dict:
        ring = [(i, (i + 1) % 8) for i in range(8)]
        angles = torch.arange(8) * torch.pi / 4
        points = torch.stack([angles.cos() * 10 + 24, angles.sin() * 10 + 24], 1).tolist()
        names = ("face_oval", "lips", "left_eye", "right_eye", "left_eyebrow", "right_eyebrow",
                 "irises")  # fmt: skip
        face = {"landmarks_xy": points, "bbox_xyxy": (14, 14, 34, 34), "score": 0.9}
        return {
            "frames": [[face]],
            "connection_sets": dict.fromkeys(names, ring),
            "image_size": (SIDE, SIDE),
        }

    def made_by(self, node_id: str) -> Any:
        """The first output of a node with good inputs."""
        if node_id not in self._made:
            self._made[node_id] = call(self.nodes[node_id], self.inputs(node_id))[0]
        return self._made[node_id]

    def objects(self) -> dict[str, Any]:
        return {kind: self.of_type(kind) for kind in self._by_type()}

    def of_type(self, kind: str) -> Any:
        make = self._by_type().get(kind)
        return 3 if make is None else make()

    def _by_type(self) -> dict[str, Callable[[], Any]]:
        seg = self.segs[1][0]
        pipe = (*self.basic_pipe, "", self.detector, None, None, None)
        return {
            "IMAGE": lambda: self.image,
            "MASK": lambda: self.mask,
            "LATENT": lambda: self.latent,
            "SEGS": lambda: self.segs,
            "SEGS_TRACKS": lambda: self.tracks,
            "VIDEO": lambda: self.video,
            "SEG_ELT": lambda: seg,
            "SEGS_HEADER": lambda: (SIDE, SIDE),
            "SEG_ELT_bbox": lambda: BOX,
            "SEG_ELT_crop_region": lambda: BOX,
            "SEG_ELT_control_net_wrapper": lambda: None,
            "MODEL": lambda: self.model,
            "CLIP": lambda: self.clip,
            "VAE": lambda: self.vae,
            "CONDITIONING": lambda: self.conditioning,
            "BASIC_PIPE": lambda: self.basic_pipe,
            "DETAILER_PIPE": lambda: (*pipe, None, None, None, None),
            "BBOX_DETECTOR": lambda: self.detector,
            "SEGM_DETECTOR": lambda: self.detector,
            "SAM_MODEL": Sam,
            "CONTROL_NET": lambda: DetailersTestControl().run("flat8")[0],
            "UPSCALE_MODEL": Upscaler,
            "SAMPLER": lambda: comfy.samplers.sampler_object("euler"),
            "SCHEDULER_FUNC": lambda: DetailersTestScheduler().run("karras")[0],
            "SEGS_PREPROCESSOR": lambda: DetailersTestPreprocessor().run()[0],
            "TRANSFORMERS_CLASSIFIER": Classifier,
            "CLIP_VISION": lambda: DetailersTestClipVision().run()[0],
            "PERSON_EMBEDDER": Embedder,
            "FACE_LANDMARKS": lambda: self.landmarks,
            "BOUNDING_BOX": lambda: [{"x": 8, "y": 8, "width": 32, "height": 32, "score": 0.9}],
            "KSAMPLER": lambda: self.made_by("KSamplerProvider"),
            "KSAMPLER_ADVANCED": lambda: self.made_by("KSamplerAdvancedProvider"),
            "REGIONAL_PROMPTS": lambda: self.made_by("RegionalPrompt"),
            "UPSCALER": lambda: self.made_by("PixelKSampleUpscalerProvider"),
            "DETAILER_HOOK": lambda: self.made_by("DenoiseSchedulerDetailerHookProvider"),
            "PK_HOOK": lambda: self.made_by("DenoiseScheduleHookProvider"),
            "UPSCALER_HOOK": lambda: None,
            "PASTE_OPTIONS": lambda: self.made_by("DetailersPasteOptions"),
            "CROP_OPTIONS": lambda: self.made_by("DetailersCropOptions"),
            "SEGMENT_PLAN": lambda: self.made_by("SegmentPlan"),
            "IMAGE_PATH": lambda: "",
        }

    def inputs(self, node_id: str) -> dict[str, Any]:
        """Good inputs for a node: all required ones, and optional settings."""
        node = self.nodes[node_id]
        groups = node.INPUT_TYPES()
        values = {}
        for group in ("required", "optional"):
            for name, (kind, *options) in groups.get(group, {}).items():
                is_link = kind not in ("INT", "FLOAT", "BOOLEAN", "STRING")
                if group == "optional" and is_link and name not in _NEEDED.get(node_id, ()):
                    continue
                values[name] = self._value(name, kind, *options)
        if getattr(node, "INPUT_IS_LIST", False):
            values = {name: [value] for name, value in values.items()}
        for name in groups.get("hidden", {}):
            values[name] = {"unique_id": "1", "dynprompt": DynamicPrompt({})}.get(name)
        return values

    def _value(self, name: str, kind: Any, options: Mapping[str, Any] | None = None) -> Any:
        options = options or {}
        if isinstance(kind, list):
            if _SETTINGS.get(name) in kind:
                return _SETTINGS[name]
            return options.get("default", kind[0] if kind else "none")
        if name in _SETTINGS and kind in ("INT", "FLOAT", "STRING"):
            return _SETTINGS[name]
        plain = {"INT": options.get("min", 0), "FLOAT": options.get("min", 0.0), "STRING": "",
                 "BOOLEAN": False}  # fmt: skip
        if kind in plain:
            return options.get("default", plain[kind])
        return self.of_type(kind)


def call(node: type, inputs: Mapping[str, Any]) -> tuple:
    """What a node gives when the host runs it."""
    with torch.inference_mode():
        result = getattr(node(), node.FUNCTION)(**inputs)
    return result.get("result", ()) if isinstance(result, dict) else result
