"""One pass of the sampler over a latent. A refiner model, if there is one, does the last steps."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..backend import SamplerRun, Subject
from ..noise import noise_of_places, place_seeds, start_noise
from ..pixels.mask import is_hard
from ..sampling.scheduler import Meet, Pipeline, Sample
from ..sampling.sigmas import Window, denoise_window, split_for_refiner, window_sigmas
from ..settings import Models, Refiner, Sampling
from ..streams import Latent, is_nested, picture, with_picture
from .progress import Span
from .report import Record
from .run import Run


class SamplerPass:
    """One pass of the sampler over a latent. A refiner, if there is one, does the last steps."""

    def __init__(
        self, models: Models, sampling: Sampling, refiner: Refiner | None, run: Run, span: Span,
        subject: Subject, record: Record, places: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        """`places`: of each row, or latent step, in the clip that the latent is a part of."""
        self.places = places
        self.models, self.sampling, self.refiner = models, sampling, refiner
        self.run, self.span, self.subject, self.record = run, span, subject, record

    def sample(self, latent: dict) -> Pipeline[torch.Tensor]:
        """Sample a LATENT; its `samples` are [N,C,h,w] or [N,C,T,h,w], and so is the result.

        If the denoise strength leaves no step, the samples come back as they are.
        """
        sampling, samples = self.sampling, latent["samples"]
        window = denoise_window(sampling.steps, sampling.denoise)
        if window.steps < 1:
            return samples
        yield Meet()
        noise = self._noise(samples)
        noise = with_picture(noise, self.run.hook.custom_noise(sampling.seed, picture(noise)))
        left = None
        for models, part in self._parts(window):
            request = self._request(models, window, part, latent, left)
            if request is not None:
                sigmas = request.sigmas
                self.record.samples(sampling, float(sigmas[0]), float(sigmas[-1]))
                report = self.span.report(models.model, part, window.start)
                request = replace(request, noise=noise)
                left = yield Sample(request, report, self.record.calls.append)
        return samples if left is None else left

    def _noise(self, samples: Latent) -> Latent:
        if self.places is None:
            return start_noise(samples, self.sampling.seed)
        return noise_of_places(samples, self.sampling.seed, self.places)

    def _seeds(self, samples: Latent) -> tuple[int, ...]:
        """Of the noise that samplers draw while they run: one for each place."""
        if self.places is None or is_nested(samples):
            return ()
        return place_seeds(self.sampling.seed, self.places)

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
        """The sampler run of a part of the window, without its noise. None: it has no steps.

        Args:
            left: the latent after the part before it, which still holds noise.
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
            seeds=self._seeds(latent["samples"]),
            start=left,
            whole=None if part == window else window_sigmas(schedule, window),
            number=0 if left is None else part.start - window.start,
            subject=self._subject(models),
        )
