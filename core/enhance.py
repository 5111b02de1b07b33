"""The road of a crop: enlarge, encode, sample, decode, shrink.

The roads of several crops run side by side; see `core/waves.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from ..utils.notes import note
from . import called, memory
from .backend import Backend, SamplerRun, Subject
from .blend import Blending
from .conditioning import Shows, cut_conditioning
from .control import SegmentControl
from .faults import fault_of
from .geometry import NATIVE, Size, Sizing, padding
from .hooks import Hook
from .image import is_black, pad_edge, resize, unpad, usable
from .mask import feather, for_latent, is_hard, resize_mask
from .plan import Job, Plan, make_plan
from .planes import Cut
from .references import References, Shown
from .restore import restore_kept
from .schedule import (
    Window,
    denoise_window,
    seed_for,
    split_for_refiner,
    start_noise,
    window_sigmas,
)
from .segs import SEG
from .settings import Conditioning, Detail, Models, Refiner, Sampling
from .streams import is_nested, mask_for_streams, picture, with_picture
from .text import SegmentTexts
from .upright import turned
from .waves import Decode, Encode, Meet, Road, Room, Sample, walk, walk_each

Result = TypeVar("Result")

# Rows of a clip are enlarged, encoded, decoded and shrunk a slice at a time, so that memory does
# not grow with the clip: a slice holds about this many pixels of the working size.
SLICE_PIXELS = 2**22
LEAST_LEFT = 0.5  # of a mask's peak at the latent's size; with less it counts as lost
MOST_SIDE_BY_SIDE = 16  # crops that are under way at once


@dataclass(frozen=True)
class Crop:
    """The pixels of a job before sampling."""

    job: Job
    image: Size  # size of the image that the crop is from
    pixels: torch.Tensor  # [N,h,w,3], N > 1 for the frames of a clip
    mask: torch.Tensor  # [N or 1,h,w], 1 is to be redrawn
    row: int = 0  # which image of the node's batch the crop is from
    video: bool = False  # the rows are one clip and are sampled together

    @property
    def name(self) -> str:
        """The segment and its size, for messages."""
        return segment_name(self.job, self.job.size)

    def persist(self, work: Callable[[], Result], verb: str) -> Result:
        """Do work on the crop as `memory.persist` does."""
        return memory.persist(work, self.name, verb)

    def at_working_size(self, rows: slice) -> torch.Tensor:
        """These rows at the job's working size, upright: [n,H,W,3]."""
        turn, size = self.job.turn, self.job.size
        pixels = self.pixels[rows]
        return resize(pixels, size) if turn is None else turn.upright(pixels, size)

    def from_working_size(self, pixels: torch.Tensor, rows: slice) -> torch.Tensor:
        """The crop's rows with these pixels [n,H,W,3], of any size, in their place."""
        original = self.pixels[rows]
        if self.job.turn is not None:
            return self.job.turn.back(pixels, original)
        return resize(pixels.to(original), Size(original.shape[2], original.shape[1]))

    def enlarged(self, rows: slice) -> torch.Tensor:
        """As `at_working_size`, again where memory ran out."""
        return self.persist(lambda: self.at_working_size(rows), "enlarged")

    def shrunk(self, pixels: torch.Tensor, rows: slice) -> torch.Tensor:
        """As `from_working_size`, again where memory ran out."""
        return self.persist(
            lambda: self.from_working_size(pixels, rows), "brought back to its size"
        )

    def soft_mask(self, reach: int) -> torch.Tensor:
        """The mask with a softened edge, at its own size or, of a turned crop, at the job's."""
        soft, turn = feather(self.mask, reach), self.job.turn
        return soft if turn is None else turn.upright(soft[..., None], self.job.size)[..., 0]

    @property
    def cell(self) -> float:
        """Pixels of the crop that a side of a pixel of the working size covers."""
        turn, (height, width) = self.job.turn, self.pixels.shape[1:3]
        own = (width, height) if turn is None else turn.size
        return max(old / new for old, new in zip(own, self.job.size, strict=True))


@dataclass(frozen=True)
class Enhanced:
    """A job's result at the size of its crop."""

    pixels: torch.Tensor  # [N,h,w,3]
    control_images: list[torch.Tensor] = field(default_factory=list)
    fault: str = ""  # why the pixels must not be pasted


class Run:
    """One execution of a detailer node: what its segments share."""

    def __init__(self, detail: Detail, backend: Backend, image: torch.Tensor | None = None) -> None:
        """`image`: [B,H,W,C], the node's images or the frames of its clip, which references in the
        conditioning may show."""
        self.detail = detail
        self.backend = backend
        self.hook = Hook(detail.hook)
        self.blending = Blending(detail.masking.feather, detail.pasting)
        self.texts = SegmentTexts(backend, detail.models)
        self.references = References(
            detail.references, image, detail.models.vae, backend, detail.tiling.encode
        )
        self.rows = 1 if image is None else len(image)
        self.room = Room()
        self._bar: Callable = lambda done, model, latent: None
        self._steps = 0  # that all jobs have gone
        self._shown = 0  # on the bar

    @property
    def batch_limit(self) -> int:
        """How many crops may walk side by side; memory decides how many are sampled at once."""
        if not self.hook.shares_batches:
            return 1
        return self.detail.batch or MOST_SIDE_BY_SIDE

    @property
    def grid(self) -> int:
        """What crops are padded to multiples of."""
        models = self.detail.models
        return self.backend.grid(models.model, models.vae)

    def plan(self, segs: list[SEG], image: Size, row: int | None = 0, version: int = 0) -> Plan:
        """Decide the jobs for the segments of an image and log who is left out.

        Args:
            image: its size.
            row: which image of the node's batch it is; None: each segment says it, or it is the
                first.
            version: v has the node's seed + v.
        """
        detail = self.detail
        seed = seed_for(detail.sampling.seed, version)
        margin = self.blending.reach + max(0, detail.pasting.mask_grow) + 1
        plan = make_plan(
            segs, self._sizing(), seed, detail.text, self.hook.touch_scaled_size,
            lambda seg: turned(
                seg, detail.upright, image, _row(seg) if row is None else row, margin
            ),
        )  # fmt: skip
        plan.report()
        return plan

    def _sizing(self) -> Sizing:
        """The node's sizing, with the model's own area and grid where it asks for them."""
        sizing = self.detail.sizing
        if sizing.policy != NATIVE:
            return sizing
        area = sizing.area or self.backend.native_area(self.detail.models.model)
        return replace(sizing, area=area, grid=sizing.grid or self.grid)

    def start(self, jobs: int) -> None:
        """Open the node's one progress bar, for this many jobs in all."""
        sampling = self.detail.sampling
        self._bar = self.backend.progress(jobs * sampling.cycle * sampling.steps)
        self._steps, self._shown = 0, 0

    def advance(self, steps: int, model: Any, latent: torch.Tensor | None) -> None:
        """Count steps that a job has gone on, and show the bar at its furthest so far."""
        self._steps += steps
        if self._steps >= self._shown:  # less while a job that went wrong is made again
            self._shown = self._steps
            self._bar(self._shown, model, latent)

    def after_paste(self, image: torch.Tensor) -> None:
        """Let the hook change the image that a result was just pasted into, in place."""
        changed = self.hook.post_paste(image)
        if changed is not image:
            image.copy_(changed)

    # One crop ------------------------------------------------------------------------------

    def enhance(self, crops: Sequence[Crop]) -> list[Enhanced]:
        """Enlarge, sample and shrink crops, all side by side.

        Each is made again with the next seed where the hook or the settings ask for that.
        """
        return walk([self._road(crop) for crop in crops], self.backend, self.room)

    def enhance_each(
        self, crops: Sequence[Crop], finished: Callable[[int, Enhanced], None]
    ) -> None:
        """As `enhance`; each result is handed over, with its crop's place, once it is there."""
        roads = [self._road(crop) for crop in crops]
        walk_each(roads, self.backend, finished, self.room)

    def _road(self, crop: Crop) -> Road[Enhanced]:
        with memory.naming(crop.name, "detailed"):
            return (yield from self._to_the_end(crop))

    def _to_the_end(self, crop: Crop) -> Road[Enhanced]:
        detail, job = self.detail, crop.job
        models = self.texts.apply(job.text, job.seed, job.concat)
        steps = _Steps(self)
        for attempt in range(1 + detail.retry.times):
            self.backend.check_interrupt()
            if self.hook.skip_sampling():
                enhanced = Enhanced(self._without_sampling(crop))
            else:
                seed = seed_for(job.seed, attempt)
                enhanced = yield from self._attempt(crop, models, seed, steps)
            fault, again = self._judge(enhanced.pixels, crop)
            if not again:
                break
            if attempt < detail.retry.times:
                note("retry", f"Segment {job.position} is made again with another seed: {fault}")
        steps.reach(detail.sampling.cycle * detail.sampling.steps, models.model)
        return replace(enhanced, fault=fault)

    def _judge(self, pixels: torch.Tensor, crop: Crop) -> tuple[str, bool]:
        """What is wrong with a result, if anything, and whether to make it again."""
        retry = self.detail.retry
        broken = fault_of(pixels, crop.pixels)
        if broken:
            return broken, retry.when_broken or self.hook.should_retry(pixels)
        if retry.when_broken and any(is_black(row) for row in pixels.split(1)):
            return "the result is black.", True
        if self.hook.should_retry(pixels):
            return "the hook rejects the result.", True
        return "", False

    def _without_sampling(self, crop: Crop) -> torch.Tensor:
        """What the hook makes of the enlarged crop, at the crop's own size."""
        rows = slice(None)
        pixels = self.hook.post_upscale(crop.enlarged(rows), self._hook_mask(crop))
        return crop.shrunk(pixels, rows).clone()  # may be the crop itself

    def _hook_mask(self, crop: Crop) -> torch.Tensor:
        soft = crop.soft_mask(self.detail.masking.noise_mask_feather)
        return resize_mask(soft, crop.job.size)

    def _attempt(self, crop: Crop, models: Models, seed: int, steps: _Steps) -> Road[Enhanced]:
        """One way there and back, a part of it again where the VAE failed.

        Returns:
            Pixels of the crop's own size, which may hold non-finite values if the model gave such.
        """
        enhanced, latent = yield from self._way(crop, models, seed, steps)
        broken = fault_of(enhanced.pixels, crop.pixels)
        if not broken:
            return replace(enhanced, pixels=self._restored(crop, enhanced.pixels))
        precise = self.backend.in_float32(models.vae)
        if precise is None:
            return enhanced
        note(
            "fault",
            f"Segment {crop.job.position} is made again with the VAE in float32: {broken}",
        )
        if usable(picture(latent["samples"])):
            canvas = _Canvas.of(crop, self.backend.grid(models.model, precise))
            pixels = yield from self._decode(crop, canvas, precise, latent)
            enhanced = replace(enhanced, pixels=pixels)
        else:
            enhanced, _ = yield from self._way(crop, models._replace(vae=precise), seed, steps)
        if fault_of(enhanced.pixels, crop.pixels):
            return enhanced
        return replace(enhanced, pixels=self._restored(crop, enhanced.pixels))

    def _way(
        self, crop: Crop, models: Models, seed: int, steps: _Steps
    ) -> Road[tuple[Enhanced, dict]]:
        """There and back once: the result, and the latent that it was decoded from."""
        detail, hook, backend, job = self.detail, self.hook, self.backend, crop.job
        canvas = _Canvas.of(crop, backend.grid(models.model, models.vae))
        noise_mask = self._noise_mask(crop, canvas)
        ratio = backend.ratio(models.vae)
        subject = Subject(segment_name(job, canvas.size), "'vae'")
        batch = (0, 1) if crop.video else (min(crop.row, self.rows - 1), self.rows)
        cut = Cut(crop.image, job.region, job.size, canvas.size, ratio, job.turn, *batch)
        models = self._localised(models, cut)
        refiner = detail.refiner
        if refiner is not None:
            refiner = replace(refiner, models=self._localised(refiner.models, cut))
        models, latent, control_images = yield from self._encode(
            crop, canvas, models, noise_mask, cut
        )
        models, refiner = yield from self._referring(crop, canvas, models, refiner, latent, cut)
        latent = self._completed(models, hook.post_encode(latent))
        latent = yield from self._sample_cycles(models, refiner, latent, seed, steps, subject)
        pixels = yield from self._decode(crop, canvas, models.vae, latent)
        return Enhanced(pixels, control_images), latent

    def _completed(self, models: Models, latent: dict) -> dict:
        """The latent with empty streams of what the model samples along with a picture, if any."""
        samples = self.backend.completed(models.model, latent["samples"])
        if not is_nested(samples):
            return latent
        mask = mask_for_streams(latent.get("noise_mask"), samples, others=1.0)
        return {**latent, "samples": samples} | ({} if mask is None else {"noise_mask": mask})

    def _restored(self, crop: Crop, pixels: torch.Tensor) -> torch.Tensor:
        """The result without what the VAE did to kept pixels, if that is asked for; in place."""
        masking = self.detail.masking
        if not (self.detail.pasting.restore_kept and masking.noise_mask):
            return pixels
        soft = feather(crop.mask, masking.noise_mask_feather)
        inside = None if crop.job.turn is None else crop.job.turn.inside(crop.pixels)
        if inside is not None:  # what was never redrawn tells nothing about the VAE
            soft = torch.where(inside, soft, torch.ones_like(soft))
        cell = self.backend.ratio(self.detail.models.vae) * crop.cell
        for rows in row_slices(len(pixels), Size(pixels.shape[2], pixels.shape[1])):
            own = restore_kept(pixels[rows], crop.pixels[rows], rows_of(soft, rows), cell)
            pixels[rows] = (
                own if inside is None else torch.where(inside[..., None], own, pixels[rows])
            )
        return pixels

    def _localised(self, models: Models, cut: Cut) -> Models:
        """The models for one crop: conditioning cut to it, a soft noise mask understood."""
        controls: dict[int, Any] = {}
        model, masking = models.model, self.detail.masking
        if masking.noise_mask and masking.noise_mask_feather > 0:
            model = self.backend.differential_diffusion(model)

        def shows(picture: torch.Tensor) -> bool:
            return self.references.shows(picture, cut)

        return models._replace(
            model=self.backend.cut_patches(model, cut),
            positive=_cut(models.positive, cut, controls, shows),
            negative=_cut(models.negative, cut, controls, shows),
        )

    def _referring(
        self, crop: Crop, canvas: _Canvas, models: Models, refiner: Refiner | None, latent: dict,
        cut: Cut,
    ) -> Road[tuple[Models, Refiner | None]]:  # fmt: skip
        """The models, and the refiner's, with references that show what the crop shows."""
        tiled = self.detail.tiling.encode

        def placed(own: Models) -> Road[Models]:
            shown = Shown(
                cut,
                latent["samples"],
                lambda: canvas.pad(crop.enlarged(slice(None))),
                lambda pixels, video: Encode(models.vae, pixels, tiled, video, crop.name),
                self.backend.takes_references_of_one_size(own.model),
            )
            positive, negative = yield from self.references.placed(
                (own.positive, own.negative), shown
            )
            return own._replace(positive=positive, negative=negative)

        models = yield from placed(models)
        if refiner is not None:
            refiner = replace(refiner, models=(yield from placed(refiner.models)))
        return models, refiner

    def _noise_mask(self, crop: Crop, canvas: _Canvas) -> torch.Tensor | None:
        masking = self.detail.masking
        if not masking.noise_mask:
            return None
        soft = crop.soft_mask(masking.noise_mask_feather)
        # An image's mask goes straight to the latent's size, a clip's by way of the working size:
        # shared workflows were made with either.
        fitted = canvas.fit_mask(soft, enlarge=crop.video)
        if len(fitted) == 1:
            return fitted
        return _lengthened(fitted, self.backend.clip_length(self.detail.models.vae, len(fitted)))

    def _encode(
        self,
        crop: Crop,
        canvas: _Canvas,
        models: Models,
        noise_mask: torch.Tensor | None,
        cut: Cut,
    ) -> Road[tuple[Models, dict, list[torch.Tensor]]]:
        """Latent of the enlarged crop, and the models as ControlNet and inpainting want them."""
        masking, tiled = self.detail.masking, self.detail.tiling.encode
        wrapper = crop.job.seg.control_net_wrapper
        inpaint = masking.inpaint_model and noise_mask is not None
        whole = (
            inpaint
            or wrapper is not None
            or self.hook.has("post_upscale")
            or self.backend.is_video_vae(models.vae)
        )
        encoded: list[torch.Tensor] = []
        control_images: list[torch.Tensor] = []
        latent: dict = {}
        for rows in row_slices(len(crop.pixels), canvas.size, whole):
            pixels = crop.enlarged(rows)
            if self.hook.has("post_upscale"):
                pixels = self.hook.post_upscale(pixels, self._hook_mask(crop))
            pixels = canvas.pad(pixels)
            if crop.video:
                pixels = _lengthened(pixels, self.backend.clip_length(models.vae, len(pixels)))
            if wrapper is not None:
                place = {"cut": cut, "row": crop.row} if isinstance(wrapper, SegmentControl) else {}
                models, control_images = _apply_control(wrapper, models, pixels, noise_mask, place)
            if inpaint:
                positive, negative, latent = self.backend.inpaint_conditioning(
                    models.positive, models.negative, pixels, models.vae, noise_mask
                )
                models = models._replace(positive=positive, negative=negative)
            else:
                encoded.append((yield Encode(models.vae, pixels, tiled, crop.video, crop.name)))
        if encoded:
            latent["samples"] = encoded[0] if len(encoded) == 1 else torch.cat(encoded)
        if noise_mask is not None:
            samples = latent["samples"]
            if samples.ndim == 5:
                noise_mask = _mask_over_time(
                    noise_mask, samples.shape[2], partial(self.backend.frames_of_steps, models.vae)
                )
            latent["noise_mask"] = noise_mask
            _tell_lost(crop, noise_mask, samples)
        return models, latent, control_images

    def _sample_cycles(
        self, models: Models, refiner: Refiner | None, latent: dict, seed: int,
        steps_done: _Steps, subject: Subject,
    ) -> Road[dict]:  # fmt: skip
        hook, sampling = self.hook, self.detail.sampling
        for index in range(sampling.cycle):
            hook.set_steps(index, sampling.cycle)
            latent = hook.cycle_latent(latent)
            (
                model, run_seed, steps, cfg, sampler_name, scheduler, positive, negative,
                touched, denoise,
            ) = hook.pre_ksample(
                models.model, seed_for(seed, index), sampling.steps, sampling.cfg,
                sampling.sampler_name, sampling.scheduler, models.positive, models.negative,
                latent, sampling.denoise,
            )  # fmt: skip
            run = _Pass(
                models._replace(model=model, positive=positive, negative=negative),
                replace(
                    sampling,
                    seed=run_seed,
                    steps=steps,
                    cfg=cfg,
                    sampler_name=sampler_name,
                    scheduler=scheduler,
                    denoise=denoise,
                ),
                refiner,
                self,
                steps_done.within(index * sampling.steps, sampling.steps, steps),
                subject,
            )
            samples = yield from run.sample(touched)
            latent = {**touched, "samples": samples}
        return latent

    def _decode(self, crop: Crop, canvas: _Canvas, vae: Any, latent: dict) -> Road[torch.Tensor]:
        """Pixels of the crop's own size; as many rows as the crop has."""
        tiled = self.detail.tiling.decode
        latent = self.hook.pre_decode(latent)
        samples = picture(latent["samples"])
        rows = len(crop.pixels)
        whole = self.hook.has("post_decode") or samples.ndim > 4 or len(samples) != rows
        out = torch.empty_like(crop.pixels)
        for part in row_slices(rows, canvas.size, whole):
            count = part.stop - part.start
            pixels = yield Decode(vae, samples if whole else samples[part], tiled, crop.name)
            pixels = called.made_pixels(called.vae(vae, "decode"), pixels, count)
            pixels = canvas.unpad(pixels[:count])  # a clip may come back longer
            pixels = self.hook.post_decode(pixels)
            out[part] = crop.shrunk(pixels, part)
        return out


class _Steps:
    """How far one job has gone, for the node's bar."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.done = 0

    def reach(self, steps: int, model: Any, latent: torch.Tensor | None = None) -> None:
        gone, self.done = steps - self.done, steps
        self.run.advance(gone, model, latent)

    def within(self, base: int, shown: int, steps: int) -> _Span:
        """A cycle: it begins at `base` and counts as `shown` steps, whatever number it runs."""
        return _Span(self, base, shown / max(1, steps))


@dataclass(frozen=True)
class _Span:
    """A cycle's place on the bar."""

    steps: _Steps
    base: int
    scale: float

    def report(self, model: Any, window: Window, first: int) -> Callable:
        """What a sampler calls that runs a window of the schedule, which began at `first`."""

        def on_step(step: int, total: int, latent: torch.Tensor | None) -> None:
            done = window.start - first + window.steps * (step + 1) / max(1, total)
            self.steps.reach(self.base + int(done * self.scale), model, latent)

        return on_step


class _Pass:
    """One pass of the sampler, or of the base model's sampler and the refiner's."""

    def __init__(
        self, models: Models, sampling: Sampling, refiner: Refiner | None, run: Run, span: _Span,
        subject: Subject,
    ) -> None:  # fmt: skip
        self.models, self.sampling, self.refiner = models, sampling, refiner
        self.run, self.span, self.subject = run, span, subject

    def sample(self, latent: dict) -> Road[torch.Tensor]:
        sampling, samples = self.sampling, latent["samples"]
        window = denoise_window(sampling.steps, sampling.denoise)
        if window.steps < 1:
            return samples
        yield Meet()
        noise = start_noise(samples, sampling.seed)
        noise = with_picture(noise, self.run.hook.custom_noise(sampling.seed, picture(noise)))
        left = None
        for models, part in self._parts(window):
            request = self._request(models, window, part, latent, left)
            if request is not None:
                report = self.span.report(models.model, part, window.start)
                left = yield Sample(replace(request, noise=noise), report)
        return samples if left is None else left

    def _parts(self, window: Window) -> list[tuple[Models, Window]]:
        if self.refiner is None:
            return [(self.models, window)]
        first, last = split_for_refiner(window, self.refiner.ratio)
        return [(self.models, first), (self.refiner.models, last)]

    def _subject(self, models: Models) -> Subject:
        if self.refiner is None or models is not self.refiner.models:
            return self.subject
        return replace(self.subject, model="the refiner's model")

    def _request(
        self, models: Models, window: Window, part: Window, latent: dict, left: torch.Tensor | None
    ) -> SamplerRun | None:
        """The run of a part of the window, but for its noise; None where no step is to be run.

        Args:
            left: what the part before it left, with the noise that is still in it.
        """
        sampling, run = self.sampling, self.run
        schedule = run.backend.sigmas(
            models.model, sampling.sampler_name, sampling.scheduler, window.total,
            sampling.scheduler_func,
        )  # fmt: skip
        sigmas = window_sigmas(schedule, part)
        if part.steps < 1 or len(sigmas) < 2:
            return None
        return SamplerRun(
            model=models.model,
            positive=models.positive,
            negative=models.negative,
            cfg=sampling.cfg,
            sampler_name=sampling.sampler_name,
            sigmas=sigmas,
            schedule=schedule,
            seed=sampling.seed,
            noise=torch.zeros(()),
            latent=latent["samples"],
            noise_mask=latent.get("noise_mask"),
            is_hard=is_hard(latent.get("noise_mask")),
            sampler=run.hook.custom_sampler(),
            start=left,
            whole=None if part == window else window_sigmas(schedule, window),
            number=0 if left is None else part.start - window.start,
            subject=self._subject(models),
        )


@dataclass(frozen=True)
class _Canvas:
    """The working size of a crop and its padding to the grid of VAE and model."""

    working: Size
    margin: tuple[int, int, int, int]  # left, right, top, bottom

    @classmethod
    def of(cls, crop: Crop, grid: int) -> _Canvas:
        return cls(crop.job.size, padding(crop.job.size, grid))

    @property
    def size(self) -> Size:
        left, right, top, bottom = self.margin
        return Size(self.working.width + left + right, self.working.height + top + bottom)

    def pad(self, pixels: torch.Tensor) -> torch.Tensor:
        """A hook may have given other pixels: fit them first."""
        return pad_edge(resize(pixels, self.working), self.margin)

    def unpad(self, pixels: torch.Tensor) -> torch.Tensor:
        """A VAE may decode to another size than it encoded: fit first."""
        return unpad(resize(pixels, self.size), self.margin)

    def fit_mask(self, mask: torch.Tensor, *, enlarge: bool) -> torch.Tensor:
        """The crop's mask on the canvas.

        Without padding, and unless `enlarge` asks for the working size, it keeps its own
        resolution, which the sampler brings to the latent's in one step.
        """
        if not any(self.margin) and not enlarge:
            return mask
        width, height = self.working
        fitted = F.interpolate(mask[:, None].float(), size=(height, width), mode="bilinear")
        return F.pad(fitted, self.margin, mode="replicate")[:, 0]


def segment_name(job: Job, size: Size) -> str:
    """A segment as messages name it."""
    return f"segment {job.position} at {size.width} x {size.height} pixels"


def _row(seg: SEG) -> int:
    """Which image of the node's batch a segment belongs to."""
    image = seg.batch_image
    return 0 if image is None else image.index or 0


def rows_of(masks: torch.Tensor, rows: slice) -> torch.Tensor:
    """The masks of these rows, where there is not one for all."""
    return masks if len(masks) == 1 else masks[rows]


def row_slices(rows: int, size: Size, whole: bool = False) -> Iterator[slice]:
    """Slices of a clip that hold about SLICE_PIXELS pixels each; `whole` makes it one."""
    step = rows if whole else max(1, SLICE_PIXELS // (size.width * size.height))
    return (slice(i, min(i + step, rows)) for i in range(0, rows, max(1, step)))


def _tell_lost(crop: Crop, noise_mask: torch.Tensor, samples: torch.Tensor) -> None:
    """Tell of a mask that is too small for the latent, so that next to nothing is sampled."""
    most = float(crop.mask.max())
    left = float(for_latent(noise_mask, samples).max())
    if left < LEAST_LEFT * most:
        size = crop.job.size
        note(
            "mask",
            f"The mask of segment {crop.job.position} all but vanishes at the latent's size of"
            f" {samples.shape[-1]}x{samples.shape[-2]} ({size.width}x{size.height} pixels):"
            f" {left / most:.0%} of it is left where it is strongest, so the segment hardly"
            " changes. Grow the mask, lower 'noise_mask_feather', take a smaller crop_factor, or"
            " turn 'noise_mask' off.",
        )


def _cut(
    conditioning: Conditioning | str, cut: Cut, controls: dict[int, Any], shows: Shows
) -> Conditioning | str:
    if isinstance(conditioning, str):
        return conditioning
    source = called.Source(
        "Cutting the conditioning to the segment",
        "Check the areas, masks and ControlNets in 'positive' and 'negative'.",
    )
    return source.call(cut_conditioning, conditioning, cut, controls, shows)


def _apply_control(
    wrapper: Any,
    models: Models,
    pixels: torch.Tensor,
    noise_mask: torch.Tensor | None,
    place: dict[str, Any],
) -> tuple[Models, list[torch.Tensor]]:
    """Let a segment's ControlNet (or IPAdapter) wrapper add itself to the conditioning.

    `place` tells the wrappers of this pack where they are.
    """
    source = called.Source.of("The control_net_wrapper", wrapper, "apply")
    positive, negative, images = called.parts(
        source,
        source.call(
            source.method(wrapper, "apply"), models.positive, models.negative, pixels, noise_mask,
            **place,
        ),
        3, "positive, negative and a list of pictures",
    )  # fmt: skip
    models = models._replace(positive=positive, negative=negative)
    images = list(images or [])
    if callable(getattr(wrapper, "doit_ipadapter", None)):
        source = called.Source.of("The control_net_wrapper", wrapper, "doit_ipadapter")
        answer = source.call(wrapper.doit_ipadapter, models.model)
        model, more = called.parts(source, answer, 2, "a model and a list of pictures")
        models = models._replace(model=model)
        images += list(more or [])
    # Copies: what they show may be pasted into later, and be let go of before they are.
    return models, [called.shown_picture(source, image, pixels).clone() for image in images]


def _lengthened(frames: torch.Tensor, length: int) -> torch.Tensor:
    """The clip, or its masks, with the last frame repeated up to `length`."""
    missing = length - len(frames)
    if missing <= 0:
        return frames
    return torch.cat([frames, frames[-1:].expand(missing, *frames.shape[1:])])


def _mask_over_time(
    mask: torch.Tensor, steps: int, frames_of_steps: Callable[[int, int], list[slice]]
) -> torch.Tensor:
    """One mask for each latent step of a clip: the union of the masks of its frames.

    Args:
        mask: [F,h,w], or [1,h,w] for all frames.
        steps: latent steps of the clip.
        frames_of_steps: (steps, frames) -> the frames that each step may stand for.
    """
    if len(mask) == 1:
        return mask
    return torch.stack([mask[frames].amax(0) for frames in frames_of_steps(steps, len(mask))])
