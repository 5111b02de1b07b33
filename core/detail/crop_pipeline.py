"""The pipeline of one crop: it is enlarged, encoded, sampled, decoded and shrunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ...utils.notes import note
from .. import checked_calls, memory
from ..backend import Subject
from ..geometry import Size
from ..noise import seed_for
from ..pixels.batches import joined_rows
from ..pixels.crop_view import Cut
from ..pixels.image import is_black, usable
from ..pixels.mask import feather, for_latent, resize_mask
from ..pixels.registration import BORDER, moved_back, register
from ..pixels.vae_loss import compensated
from ..pixels.vae_shift import restore_kept
from ..prompts.control import SegmentControl, with_strength
from ..prompts.cut_conditioning import Shows, cut_conditioning
from ..prompts.pictured import Showing
from ..sampling.faults import fault_of
from ..sampling.scheduler import Decode, Encode, Pipeline, run_each
from ..settings import AUTO, OFF, Conditioning, Models, Refiner
from ..streams import is_nested, mask_for_streams, picture
from ..timing import ENCODE, PASTE, RESIZE, TEXT, stage
from .canvas import Canvas, lengthened, mask_over_time, row_slices, rows_of
from .crop import Crop, Enhanced
from .progress import Steps
from .references import Shown
from .run import Run, segment_name
from .sampler_pass import SamplerPass

# A mask counts as lost if less than this share of its peak is left at the latent's size.
LEAST_LEFT = 0.5


def enhance(run: Run, crops: Sequence[Crop]) -> list[Enhanced]:
    """Enlarge, sample and shrink crops; all of them are worked on side by side.

    A crop is sampled again with the next seed if the hook or the settings ask for it.

    Returns:
        The result of each crop.
    """
    results: dict[int, Enhanced] = {}
    enhance_each(run, crops, results.__setitem__)
    return [results[index] for index in range(len(crops))]


def enhance_each(
    run: Run, crops: Sequence[Crop], finished: Callable[[int, Enhanced], None]
) -> None:
    """As `enhance`, but each result is passed to `finished` as soon as it is there.

    Args:
        finished: takes the index of the crop in `crops` and its result.
    """
    run.begin_wave([(crop.worked, crop.pixels) for crop in crops])
    pipelines = [CropPipeline(run, crop).pipeline() for crop in crops]

    def spent(place: int, seconds: float) -> None:
        crops[place].record.spend(seconds)

    run_each(pipelines, run.backend, finished, run.budget, spent)


class CropPipeline:
    """The steps of one crop of a run: it is enlarged, encoded, sampled, decoded and shrunk."""

    def __init__(self, run: Run, crop: Crop) -> None:
        self.run, self.crop = run, crop
        self.detail, self.backend, self.hook = crop.job.detail, run.backend, run.hook
        self._elsewhere = ""  # why the last result cannot be brought onto the crop
        self._source: torch.Tensor | None = None  # the crop's own latent, where it is needed later
        self._showing = Showing(run.backend, self._seen)

    @property
    def _control_strength(self) -> float | None:
        """The strength that the segment plan gives all ControlNets of the segment, if it does."""
        return self.crop.job.chosen.overrides.control_strength

    def pipeline(self) -> Pipeline[Enhanced]:
        """All steps of the crop, as a generator that gives its result at the end."""
        with memory.naming(self.crop.name, "detailed"):
            try:
                return (yield from self._attempts())
            finally:
                del self._showing  # it refers to this pipeline; so the crop is freed at once

    def _attempts(self) -> Pipeline[Enhanced]:
        detail, job = self.detail, self.crop.job
        record = self.crop.record
        with stage(TEXT):
            models = self.run.texts.apply(
                job.text, job.seed, job.concat, job.added, record.expanded, self._showing
            )
        steps = Steps(self.run.advance)
        for attempt in range(1 + detail.retry.times):
            self.backend.check_interrupt()
            if self.hook.skip_sampling():
                enhanced = Enhanced(self._without_sampling())
            else:
                seed = seed_for(job.seed, attempt)
                record.begins(seed)
                enhanced = yield from self._attempt(models, seed, steps)
            fault, again = self._judge(enhanced.pixels)
            if fault:
                record.faults.append(fault)
            if not again:
                break
            if attempt < detail.retry.times:
                record.retries += 1
                name = job.name.capitalize()
                self.crop.tell("retry", f"{name} is made again with another seed: {fault}")
        steps.reach(job.steps, models.model)
        record.fault = fault
        return replace(enhanced, fault=fault)

    def _judge(self, pixels: torch.Tensor) -> tuple[str, bool]:
        """What is wrong with a result (empty if nothing is), and whether to sample it again."""
        retry = self.detail.retry
        fault = fault_of(pixels, self.crop.pixels) or self._elsewhere
        if fault:
            return fault, retry.when_broken or self.hook.should_retry(pixels)
        if retry.when_broken and any(is_black(row) for row in pixels.split(1)):
            return "the result is black.", True
        if self.hook.should_retry(pixels):
            return "the hook rejects the result.", True
        return "", False

    def _without_sampling(self) -> torch.Tensor:
        """The enlarged crop as the hook changes it, at the crop's own size."""
        rows = slice(None)
        pixels = self.hook.post_upscale(self.crop.enlarged(rows), self._hook_mask())
        return self.crop.shrunk(pixels, rows).clone()  # the result may be the crop itself

    def _hook_mask(self) -> torch.Tensor:
        soft = self.crop.soft_mask(self.detail.masking.noise_mask_feather)
        return resize_mask(soft, self.crop.job.size)

    def _attempt(self, models: Models, seed: int, steps: Steps) -> Pipeline[Enhanced]:
        """Encode, sample and decode the crop. If the VAE fails, its part is done again in float32.

        Returns:
            Pixels of the crop's own size. They may be non-finite where the model gave such values.
        """
        enhanced, latent = yield from self._encode_to_decode(models, seed, steps)
        broken = fault_of(enhanced.pixels, self.crop.pixels)
        if not broken:
            return replace(enhanced, pixels=self._restored(enhanced.pixels))
        precise = self.backend.in_float32(models.vae)
        if precise is None:
            return enhanced
        self.crop.tell(
            "fault",
            f"{self.crop.job.name.capitalize()} is made again with the VAE in float32: {broken}",
        )
        if usable(picture(latent["samples"])):
            canvas = Canvas.of(self.crop, self.backend.grid(models.model, precise))
            pixels = yield from self._decode(canvas, precise, latent)
            enhanced = replace(enhanced, pixels=pixels)
        else:
            enhanced, _ = yield from self._encode_to_decode(
                models._replace(vae=precise), seed, steps
            )
        if fault_of(enhanced.pixels, self.crop.pixels):
            return enhanced
        return replace(enhanced, pixels=self._restored(enhanced.pixels))

    def _encode_to_decode(
        self, models: Models, seed: int, steps: Steps
    ) -> Pipeline[tuple[Enhanced, dict]]:
        """Encode, sample and decode once: the result, and the latent that it was decoded from."""
        detail, hook, backend, job = self.detail, self.hook, self.backend, self.crop.job
        canvas = Canvas.of(self.crop, backend.grid(models.model, models.vae))
        self.crop.record.canvas = canvas.size
        noise_mask = self._noise_mask(canvas)
        ratio = backend.ratio(models.vae)
        subject = Subject(segment_name(job, canvas.size), "'vae'")
        cut = self.crop.cut(canvas.size, ratio, self.run.rows)
        models = self._localised(models, cut)
        refiner = detail.refiner
        if refiner is not None:
            with stage(TEXT):
                own = self._showing.models(refiner.models)
            own = self._with_control_strength(self._localised(own, cut))
            refiner = replace(refiner, models=own)
        models, latent, control_images = yield from self._encode(canvas, models, noise_mask, cut)
        # What a hook has changed before the encoder is no error of the VAE.
        compares = detail.pasting.vae_loss != OFF
        if compares and hook.has("post_upscale"):
            note(
                "hook",
                "'vae_loss' of Paste Options is not used: a hook changes the crops before they are"
                " encoded, so that what the VAE does to them cannot be told. Disconnect the hook,"
                " or set 'vae_loss' to off.",
            )
            compares = False
        self._source = picture(latent["samples"]) if compares else None
        models = self._with_control_strength(models)
        models, refiner = yield from self._with_references(canvas, models, refiner, latent, cut)
        latent = self._completed(models, hook.post_encode(latent))
        latent = yield from self._sample_cycles(models, refiner, latent, seed, steps, subject)
        pixels = yield from self._decode(canvas, models.vae, latent)
        return Enhanced(pixels, control_images), latent

    def _seen(self, picture: torch.Tensor) -> torch.Tensor:
        """A picture [n,h,w,C] that an encoder was shown, as it is shown for this crop."""
        crop = self.crop

        def drawn(size: Size, count: int) -> torch.Tensor:
            with stage(RESIZE):
                return crop.persist(lambda: crop.at(size, slice(0, count)), "resized")

        return self.run.references.seen(picture, crop.cut(crop.job.size, 1, self.run.rows), drawn)

    def _with_control_strength(self, models: Models) -> Models:
        """The models with that strength for all ControlNets in their conditionings."""
        strength = self._control_strength
        if strength is None:
            return models
        done: dict[int, Any] = {}
        return models._replace(
            positive=with_strength(models.positive, strength, done),
            negative=with_strength(models.negative, strength, done),
        )

    def _completed(self, models: Models, latent: dict) -> dict:
        """The latent with an empty stream for all that the model samples beside the picture."""
        samples = self.backend.completed(models.model, latent["samples"])
        if not is_nested(samples):
            return latent
        mask = mask_for_streams(latent.get("noise_mask"), samples, others=1.0)
        return {**latent, "samples": samples} | ({} if mask is None else {"noise_mask": mask})

    def _restored(self, pixels: torch.Tensor) -> torch.Tensor:
        """The result [N,h,w,3] without the changes that the VAE made to kept pixels, in place.

        If the settings do not ask for this, the result stays as it is.
        """
        masking = self.detail.masking
        if not (self.detail.pasting.restore_kept and masking.noise_mask):
            return pixels
        rotated, reach = self.crop.rotated, masking.noise_mask_feather
        if rotated is None:
            soft, inside = self.crop.soft_mask(reach), None
        else:  # pixels that were not redrawn say nothing about the VAE
            soft, inside = feather(self.crop.mask, reach), rotated.inside(self.crop.pixels)
            soft = torch.where(inside, soft, torch.ones_like(soft))
        for rows in row_slices(len(pixels), Size(pixels.shape[2], pixels.shape[1])):
            own = restore_kept(
                pixels[rows], self.crop.pixels[rows], rows_of(soft, rows), self._cell
            )
            pixels[rows] = (
                own if inside is None else torch.where(inside[..., None], own, pixels[rows])
            )
        return pixels

    def _localised(self, models: Models, cut: Cut) -> Models:
        """The models for one crop: the conditioning is cut to it, and the model is patched to
        understand a soft noise mask."""
        controls: dict[int, Any] = {}
        model, masking = models.model, self.detail.masking
        if masking.noise_mask and masking.noise_mask_feather > 0:
            model = self.backend.differential_diffusion(model)

        def shows(picture: torch.Tensor) -> bool:
            return self.run.references.shows(picture, cut)

        return models._replace(
            model=self.backend.cut_patches(model, cut),
            positive=_cut_side(models.positive, cut, controls, shows),
            negative=_cut_side(models.negative, cut, controls, shows),
        )

    def _with_references(
        self, canvas: Canvas, models: Models, refiner: Refiner | None, latent: dict,
        cut: Cut,
    ) -> Pipeline[tuple[Models, Refiner | None]]:  # fmt: skip
        """The models, and the refiner's, with references that show what the crop shows."""
        tiled = self.detail.tiling.encode

        def placed(own: Models) -> Pipeline[Models]:
            shown = Shown(
                cut,
                latent["samples"],
                lambda: canvas.pad(self.crop.enlarged(slice(None))),
                lambda pixels, video: Encode(models.vae, pixels, tiled, video, self.crop.name),
                self.backend.takes_references_of_one_size(own.model),
            )
            sides = own.positive, own.negative
            if self.run.references.any_shows(sides, cut):
                self._tell_small(own.model, cut)
            positive, negative = yield from self.run.references.placed(sides, shown)
            return own._replace(positive=positive, negative=negative)

        models = yield from placed(models)
        if refiner is not None:
            refiner = replace(refiner, models=(yield from placed(refiner.models)))
        return models, refiner

    def _tell_small(self, model: Any, cut: Cut) -> None:
        """Tell the user if an edit model draws far below the size for which it was trained."""
        native = self.backend.native_area(model)
        if 2 * cut.canvas.width * cut.canvas.height < native:
            side = round(native**0.5)
            note(
                "references",
                "A reference shows the image, so it becomes the crop of each segment. Edit models"
                f" draw and place such a crop best at their own size, which is about {side}x{side}"
                " pixels here, but crops are drawn with less than half as many pixels. Connect"
                " 'Crop Options' with size_policy on model, or raise 'guide_size' and 'max_size'.",
            )

    def _noise_mask(self, canvas: Canvas) -> torch.Tensor | None:
        soft = self._sampled_mask()
        if soft is None:
            return None
        # An image's mask is resized to the latent's size in one step. A clip's mask is resized to
        # the working size first. Shared workflows were made with these two rules.
        fitted = canvas.fit_mask(soft, enlarge=self.crop.video)
        if len(fitted) == 1:
            return fitted
        return lengthened(fitted, self.backend.clip_length(self.detail.models.vae, len(fitted)))

    def _sampled_mask(self) -> torch.Tensor | None:
        """What is sampled anew, [N or 1,h,w] at the size of the crop; None for all of it."""
        masking, part = self.detail.masking, self.crop.part
        soft = self.crop.soft_mask(masking.noise_mask_feather) if masking.noise_mask else None
        if part is None or not part.kept:
            return soft
        if soft is None:
            soft = torch.ones_like(self.crop.mask[:1])
        soft = soft.expand(len(self.crop.pixels), -1, -1).clone()
        soft[: part.kept] = 0
        return soft

    def _encode(
        self,
        canvas: Canvas,
        models: Models,
        noise_mask: torch.Tensor | None,
        cut: Cut,
    ) -> Pipeline[tuple[Models, dict, list[torch.Tensor]]]:
        """Encode the enlarged crop.

        Returns:
            The models with the conditioning of ControlNet and inpainting, the latent, and the
            pictures that ControlNets saw.
        """
        masking, tiled = self.detail.masking, self.detail.tiling.encode
        wrapper, strength = self.crop.job.seg.control_net_wrapper, self._control_strength
        if strength is not None and isinstance(wrapper, SegmentControl):
            wrapper = wrapper.with_strength(strength)
        inpaint = masking.inpaint_model and masking.noise_mask
        whole = (
            inpaint
            or wrapper is not None
            or self.hook.has("post_upscale")
            or self.backend.is_video_vae(models.vae)
        )
        encoded: list[torch.Tensor] = []
        control_images: list[torch.Tensor] = []
        latent: dict = {}
        for rows in row_slices(len(self.crop.pixels), canvas.size, whole):
            pixels = self.crop.enlarged(rows)
            if self.hook.has("post_upscale"):
                pixels = self.hook.post_upscale(pixels, self._hook_mask())
            pixels = canvas.pad(pixels)
            if self.crop.video:
                pixels = lengthened(pixels, self.backend.clip_length(models.vae, len(pixels)))
            if wrapper is not None:
                place = (
                    {"cut": cut, "row": self.crop.row}
                    if isinstance(wrapper, SegmentControl)
                    else {}
                )
                models, control_images = _apply_control(wrapper, models, pixels, noise_mask, place)
            if inpaint:
                with stage(ENCODE):
                    positive, negative, latent = self.backend.inpaint_conditioning(
                        models.positive, models.negative, pixels, models.vae, noise_mask
                    )
                models = models._replace(positive=positive, negative=negative)
            else:
                encoded.append(
                    (yield Encode(models.vae, pixels, tiled, self.crop.video, self.crop.name))
                )
        if encoded:
            latent["samples"] = joined_rows(encoded)
        if noise_mask is not None:
            samples = latent["samples"]
            if samples.ndim == 5:
                noise_mask = mask_over_time(
                    noise_mask, samples.shape[2], partial(self.backend.frames_of_steps, models.vae)
                )
            latent["noise_mask"] = noise_mask
            _tell_lost(self.crop, noise_mask, samples)
        return models, latent, control_images

    def _sample_cycles(
        self, models: Models, refiner: Refiner | None, latent: dict, seed: int,
        steps_done: Steps, subject: Subject,
    ) -> Pipeline[dict]:  # fmt: skip
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
            run = SamplerPass(
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
                self.run,
                steps_done.within(index * sampling.steps, sampling.steps, steps),
                subject,
                self.crop.record,
                self._places(models.vae, picture(touched["samples"])),
            )
            samples = yield from run.sample(touched)
            latent = {**touched, "samples": samples}
        return latent

    def _places(self, vae: Any, samples: torch.Tensor) -> tuple[int, ...] | None:
        """The place in its clip of each row, or latent step, of a latent; None if it is no part.

        A step of several frames has the place of the last one. So two parts that divide the frames
        which they share into the same steps give these steps the same places, although the first
        step of a part holds fewer frames.
        """
        part, rows = self.crop.part, len(self.crop.pixels)
        if part is None:
            return None
        if samples.ndim < 5:
            return tuple(range(part.first, part.first + len(samples)))
        length = self.backend.clip_length(vae, rows)
        steps = self.backend.frames_of_steps(vae, samples.shape[2], length)
        return tuple(part.first + frames.stop - 1 for frames in steps)

    def _registered(self, pixels: torch.Tensor, part: slice) -> torch.Tensor:
        """The result [n,H,W,3] of these rows, moved onto the crop by what lies around the mask.

        A result that shows something else is named in `_elsewhere`, and stays as it is.
        """
        if self.detail.pasting.register != AUTO or not usable(pixels):
            return pixels
        if self.crop.video:
            tell_not_registered()
            return pixels
        original = self.crop.enlarged(part)
        masks = rows_of(self.crop.soft_mask(self.detail.masking.noise_mask_feather), part)
        done = []
        for row, (own, before) in enumerate(zip(pixels.split(1), original.split(1), strict=True)):
            with stage(PASTE):
                found = register(own, before, masks[min(row, len(masks) - 1)][None])
            if found.unknown:
                note(
                    "registration",
                    "'register' of Paste Options cannot tell whether a result has moved, and leaves"
                    f" it as it is, {found.unknown}",
                )
            if found.refused:
                self._elsewhere = found.refused
            elif found.similarity is not None:
                note("registration", f"{self.crop.job.name.capitalize()} {found.similarity}")
                own = moved_back(own, before.to(own), found.similarity, BORDER)
            done.append(own)
        return joined_rows(done)

    @property
    def _cell(self) -> float:
        """Pixels of the crop that a side of a latent pixel covers."""
        return self.backend.ratio(self.detail.models.vae) * self.crop.cell

    def _pixels(
        self, canvas: Canvas, vae: Any, samples: torch.Tensor, rows: slice, part: slice
    ) -> Pipeline[tuple[torch.Tensor, torch.Tensor | None]]:
        """Decode rows of a latent and, where it is asked for, of the crop's own latent.

        Both are decoded in one request, unless they are clips.

        Returns:
            Pixels [n,H,W,3] of the working size, and those of the crop's own latent, or None.
        """
        count, own = part.stop - part.start, samples[rows]
        latents = [own]
        if self._source is not None and self._source.shape == samples.shape:
            latents.append(self._source[rows].to(own))
        counts = [count] * len(latents)
        is_clip = own.ndim == 5 and own.shape[2] > 1
        if len(latents) == 2 and len(own) == count and not is_clip:
            latents, counts = [torch.cat(latents)], [2 * count]
        decoded: list[torch.Tensor] = []
        for latent, wanted in zip(latents, counts, strict=True):
            pixels = yield Decode(vae, latent, self.detail.tiling.decode, self.crop.name)
            pixels = checked_calls.made_pixels(checked_calls.vae(vae, "decode"), pixels, wanted)
            # A VAE may give more frames than the clip has, and on another device than the image's.
            pixels = pixels[:wanted].to(self.crop.pixels.device)
            decoded += canvas.unpad(pixels).split(count)
        return decoded[0], decoded[1] if len(decoded) > 1 else None

    def _decode(self, canvas: Canvas, vae: Any, latent: dict) -> Pipeline[torch.Tensor]:
        """The pixels [N,h,w,3] of a latent, with the size and the rows of the crop."""
        self._elsewhere = ""
        latent = self.hook.pre_decode(latent)
        samples = picture(latent["samples"])
        rows = len(self.crop.pixels)
        whole = self.hook.has("post_decode") or samples.ndim > 4 or len(samples) != rows
        out = torch.empty_like(self.crop.pixels)
        for part in row_slices(rows, canvas.size, whole):
            rows_of_part = slice(None) if whole else part
            decoded, before = yield from self._pixels(canvas, vae, samples, rows_of_part, part)
            pixels = self.hook.post_decode(self._registered(decoded, part))
            out[part] = self.crop.shrunk(pixels, part)
            if before is not None and usable(before) and usable(out[part]):
                with stage(PASTE):
                    out[part] = self._compensated(out[part], self.crop.shrunk(before, part), part)
        return out

    def _compensated(
        self, result: torch.Tensor, decoded: torch.Tensor, rows: slice
    ) -> torch.Tensor:
        """These rows [n,h,w,3] without what the VAE did to them."""
        way = self.detail.pasting.vae_loss
        return compensated(result, self.crop.pixels[rows], decoded, way, self._cell)


def tell_not_registered() -> None:
    """Tell the user that the frames of a video are pasted where the model drew them."""
    note(
        "registration",
        "'register' of Paste Options is not used for the frames of a video: each would be moved by"
        " itself, so that the result would tremble.",
    )


def _tell_lost(crop: Crop, noise_mask: torch.Tensor, samples: torch.Tensor) -> None:
    """Tell the user if a mask is so small that almost nothing of it is left in the latent."""
    kept = 0 if crop.part is None or len(crop.mask) == 1 else crop.part.kept
    most = float(crop.mask[kept:].max())
    left = float(for_latent(noise_mask, samples).max())
    if left < LEAST_LEFT * most:
        size = crop.job.size
        crop.tell(
            "mask",
            f"The mask of {crop.job.name} is too small for the latent: at the latent's"
            f" size of {samples.shape[-1]}x{samples.shape[-2]} ({size.width}x{size.height} pixels)"
            f" only {left / most:.0%} of its strongest value is left, so the segment hardly"
            " changes. Grow the mask, lower 'noise_mask_feather', use a smaller crop_factor, or"
            " turn 'noise_mask' off.",
        )


def _cut_side(
    conditioning: Conditioning | str, cut: Cut, controls: dict[int, Any], shows: Shows
) -> Conditioning | str:
    if isinstance(conditioning, str):
        return conditioning
    source = checked_calls.Source(
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

    `place` tells the wrappers of this pack which crop of which image they are for.
    """
    source = checked_calls.Source.of("The control_net_wrapper", wrapper, "apply")
    positive, negative, images = checked_calls.parts(
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
        source = checked_calls.Source.of("The control_net_wrapper", wrapper, "doit_ipadapter")
        answer = source.call(wrapper.doit_ipadapter, models.model)
        model, more = checked_calls.parts(source, answer, 2, "a model and a list of pictures")
        models = models._replace(model=model)
        images += list(more or [])
    # The pictures are copied: they may be views of an image that is changed later, and a view would
    # keep the whole image in memory.
    return models, [checked_calls.shown_picture(source, image, pixels).clone() for image in images]
