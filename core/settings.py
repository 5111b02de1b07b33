"""Settings that travel together from a node to the core.

All are frozen: a step that needs other values makes its own copy with `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .geometry import GUIDE_SIZE, Sizing

NEGATIVE_PLACEHOLDER = "NegativePlaceholder"

Conditioning = list  # the host's CONDITIONING: a list of [embedding, options] pairs


class Models(NamedTuple):
    """The parts of a BASIC_PIPE, in the order in which it travels over a link."""

    model: Any
    clip: Any
    vae: Any
    positive: Conditioning
    negative: Conditioning | str  # NEGATIVE_PLACEHOLDER: guidance without a negative


@dataclass(frozen=True)
class Sampling:
    """How a crop is sampled; the first fields are those of the KSampler node."""

    seed: int  # 0..MAX_SEED
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0  # 0 keeps the latent, 1 replaces it
    cycle: int = 1  # the result is sampled again this many times in all
    scheduler_func: Callable | None = None  # (model, sampler_name, steps) -> sigmas [steps+1]


@dataclass(frozen=True)
class Refiner:
    """A second model that runs the last part of the steps."""

    models: Models
    ratio: float  # share of the steps that the refiner runs, 0..1


@dataclass(frozen=True)
class Masking:
    """What the sampler may change, and how the result is blended in; lengths in image pixels."""

    noise_mask: bool = True  # off: the whole crop is sampled anew
    noise_mask_feather: int = 0  # > 0 blurs the noise mask and turns on differential diffusion
    feather: int = 5  # blur of the mask used for pasting
    inpaint_model: bool = False  # condition an inpainting model on the masked crop


FEATHER, MULTIBAND = "feather", "multiband"
BLENDS = (FEATHER, MULTIBAND)
# Switches of Pasting: AUTO goes by the pictures.
OFF, AUTO, RESIDUAL = "off", "auto", "residual"
REGISTER_CHOICES = (OFF, AUTO)
VAE_LOSS_CHOICES = (OFF, RESIDUAL, AUTO)


@dataclass(frozen=True)
class Pasting:
    """How a result is blended in, beyond Masking.feather; lengths in image pixels."""

    blend: str = FEATHER  # MULTIBAND: coarse colours fade over a wider band than fine detail
    colour_match: float = 0.0  # 0..1, how far colours at the mask's rim are brought to the image's
    restore_kept: bool = False  # undo the VAE's changes to pixels; see `core/pixels/vae_shift.py`
    mask_grow: int = 0  # the mask is grown by this many pixels before pasting; below 0 it shrinks
    fade: int | None = None  # reach of the edge to either side; None is Masking.feather
    fade_inside: bool = False  # fade towards the crop's border where the mask would be cut there
    register: str = OFF  # one of REGISTER_CHOICES, see `core/pixels/registration.py`
    vae_loss: str = OFF  # one of VAE_LOSS_CHOICES, see `core/pixels/vae_loss.py`


MASK, LANDMARKS, ANGLE = "mask", "landmarks", "angle"


@dataclass(frozen=True)
class Upright:
    """Where the angle of a rotated crop comes from: how far the segment leans."""

    source: str = OFF  # or MASK, LANDMARKS, ANGLE
    angle: float = 0.0  # degrees clockwise, with ANGLE
    landmarks: Any = None  # FACE_LANDMARKS of the image or batch, with LANDMARKS


# What happens to references in the conditioning. AUTO: those that show the image are replaced by
# the crop, and others stay. WHOLE: all stay. CROP: each is cut to the part where the crop lies.
REFERENCES_AUTO, REFERENCES_WHOLE, REFERENCES_CROP = "auto", "whole", "crop"
REFERENCE_CHOICES = (REFERENCES_AUTO, REFERENCES_WHOLE, REFERENCES_CROP)


@dataclass(frozen=True)
class CropOptions:
    """How crops are taken, beyond the widgets of the node itself."""

    policy: str = GUIDE_SIZE  # see Sizing
    area: int = 0
    upright: Upright = field(default_factory=Upright)
    references: str = REFERENCES_AUTO


@dataclass(frozen=True)
class Tiling:
    """Whether the VAE works in tiles, which takes less memory and more time."""

    encode: bool = False
    decode: bool = False


@dataclass(frozen=True)
class VaeTile:
    """A tile of a VAE that works in tiles; in pixels."""

    side: int = 512
    overlap: int = 64


VAE_TILE = VaeTile()


@dataclass(frozen=True)
class Retry:
    """What happens to a result that a hook, or the pack itself, rejects.

    It is made again with the next seed. If the last result is rejected too, it is not pasted.
    """

    times: int = 1  # how often a segment is made again
    when_broken: bool = False  # also reject black pixels and values that are not finite


@dataclass(frozen=True)
class KeptCrops:
    """Which crops a detailer run returns. Each takes memory until the run ends.

    The names are those of `core/detail/images.Detailed`.
    """

    segs: bool = True  # as the pictures of the segments
    cropped: bool = True
    refined: bool = True
    refined_alpha: bool = True
    control_images: bool = True
    variants: bool = False  # of every variant; where they are not kept, only the first is drawn


NO_CROPS = KeptCrops(False, False, False, False, False)


@dataclass(frozen=True)
class Detail:
    """All that one detailer run needs besides the image and its SEGS."""

    models: Models
    sizing: Sizing
    sampling: Sampling
    masking: Masking = field(default_factory=Masking)
    pasting: Pasting = field(default_factory=Pasting)
    upright: Upright = field(default_factory=Upright)
    tiling: Tiling = field(default_factory=Tiling)
    refiner: Refiner | None = None
    text: str = ""  # segment text (wildcard language)
    hook: Any = None  # a DETAILER_HOOK
    retry: Retry = field(default_factory=Retry)
    references: str = REFERENCES_AUTO  # one of REFERENCE_CHOICES
    batch: int = 0  # crops sampled together: 0 means as many as memory holds, 1 one by one
    variants: int = 1  # how often each segment is drawn, each time from other noise
    kept: KeptCrops = field(default_factory=KeptCrops)
    segment_plan: Any = None  # a SegmentPlan of core/detail/segment_plan.py, or None


GAPS_DETAILED, GAPS_FADED = "detail", "fade"
GAP_CHOICES = (GAPS_DETAILED, GAPS_FADED)


@dataclass(frozen=True)
class Motion:
    """How the frames of a track are detailed as one clip; lengths in frames."""

    # 0..1, how far coarse colours of the change are averaged over time; for image models alone
    smoothing: float = 1.0
    smoothing_frames: int = 6  # frames to either side over which they are averaged
    gaps: str = GAPS_DETAILED  # one of GAP_CHOICES: what happens in the gaps of a track
    fade: int = 4  # over which detailing fades out and in, at gaps and at limits of size
    denoise_by_size: Any = None  # a Curve of core/detail/segment_plan.py; None: the node's denoise
    chunk: int = 0  # that a video or motion model gets at once; 0: as many as suit the model
    overlap: int = 8  # that two chunks share, over which one fades into the other


@dataclass(frozen=True)
class Tiles:
    """How a latent is cut into tiles; the fields are those of the tiled sampler nodes."""

    width: int  # in pixels
    height: int
    strategy: str  # one of STRATEGIES
