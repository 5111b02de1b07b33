"""One sampler run in which several models or texts each make a part of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.samplers
import torch

from ..backend import Backend, Layer, SamplerRun
from ..pixels.mask import shares_of
from ..prompts.join_conditioning import with_values
from ..settings import NEGATIVE_PLACEHOLDER, Conditioning

_POST_CFG = "sampler_post_cfg_function"
_CALC = "sampler_calc_cond_batch_function"
_GUIDED_ALWAYS = "disable_cfg1_optimization"
_ROUNDING = 1.0001  # a noise level may differ by this factor when it is computed again


@dataclass(frozen=True)
class _Denoised:
    """The denoised latent of one layer, and the two predictions from which it was guided."""

    result: torch.Tensor
    cond: torch.Tensor
    uncond: torch.Tensor


class _Denoisers(comfy.samplers.CFGGuider):
    """Denoises a latent with several texts for one model. Each text gives its own result."""

    def __init__(self, model: Any, layers: Sequence[Layer], share: bool) -> None:
        """`share`: whether the texts may be the rows of one call of the model."""
        super().__init__(model)
        self.own, self.share = layers, share
        self.guidance = [
            1.0 if layer.negative == NEGATIVE_PLACEHOLDER else layer.cfg for layer in layers
        ]
        self.names = [_sides(layer, number) for number, layer in enumerate(layers)]
        self.inner_set_conds({name: side for sides in self.names for name, side in sides.values()})

    def inner_sample(
        self, noise: Any, latent_image: Any, device: Any, sampler: Any, sigmas: Any,
        denoise_mask: Any, callback: Any, disable_pbar: Any, seed: Any, **options: Any,
    ) -> torch.Tensor:  # fmt: skip
        everything, picture = self.conds, latent_image
        if torch.count_nonzero(latent_image) > 0:  # an empty one is not scaled
            picture = self.inner_model.process_latent_in(latent_image)
        raw = [
            {side: everything[name] for side, (name, _) in sides.items()} for sides in self.names
        ]
        self.levels, self.picture, self.mask = sigmas, latent_image, denoise_mask
        self.sides = [
            comfy.samplers.process_conds(
                self.inner_model, noise, dict(sides), device, picture, denoise_mask, seed, **options
            )
            for sides in raw
        ]
        self.conds = raw[0]
        try:
            return super().inner_sample(
                noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar,
                seed, **options,
            )  # fmt: skip
        finally:
            self.conds = everything

    def denoise(
        self, x: torch.Tensor, timestep: torch.Tensor, options: dict, seed: Any, wanted: list[int]
    ) -> list[_Denoised]:
        """Denoise a latent with some of the layers.

        Args:
            x: [B,C,...] in the form in which the sampler sees it.
            wanted: the indices of the layers.
        """
        known: list[Any] = [None] * len(wanted)
        if self.share and len(wanted) > 1 and _CALC not in options:
            pairs = [self._pair(number, options) for number in wanted]
            flat = [side for pair in pairs for side in pair]
            made = comfy.samplers.calc_cond_batch(self.inner_model, flat, x, timestep, options)
            known = [list(made[i : i + 2]) for i in range(0, len(made), 2)]
        return [
            self._one(number, x, timestep, options, seed, made)
            for number, made in zip(wanted, known, strict=True)
        ]

    def _pair(self, number: int, options: dict) -> list[Any]:
        """The positive and the negative of a layer, in the form that ComfyUI's guidance needs."""
        sides = self.sides[number]
        guided = self.guidance[number] != 1 or options.get(_GUIDED_ALWAYS, False)
        return [sides["positive"], sides.get("negative") if guided else None]

    def _one(
        self, number: int, x: torch.Tensor, timestep: torch.Tensor, options: dict, seed: Any,
        made: list[torch.Tensor] | None,
    ) -> _Denoised:  # fmt: skip
        seen: dict[str, torch.Tensor] = {}

        def look(args: dict) -> torch.Tensor:
            seen.update(cond=args["cond_denoised"], uncond=args["uncond_denoised"])
            return args["denoised"]

        options = {**options, _POST_CFG: [look, *options.get(_POST_CFG, [])]}
        if made is not None:
            options[_CALC] = lambda args: made
        sides = self.sides[number]
        result = comfy.samplers.sampling_function(
            self.inner_model, x, timestep, sides.get("negative"), sides["positive"],
            self.guidance[number], model_options=options, seed=seed,
        )  # fmt: skip
        return _Denoised(result, **seen)


def _sides(layer: Layer, number: int) -> dict[str, tuple[str, Conditioning]]:
    """The conditionings of a layer by side, with names that are unique in the run."""
    if layer.negative == NEGATIVE_PLACEHOLDER:
        positive = with_values(layer.positive, guidance=layer.cfg)
        return {"positive": (f"positive{number}", positive)}
    return {
        "positive": (f"positive{number}", layer.positive),
        "negative": (f"negative{number}", layer.negative),
    }


class LayeredGuider(_Denoisers):
    """Denoises a latent with the model and text of the run, and with those of its layers.

    If all layers have one model, they are denoised in the guider's own run. If they have several
    models, each call of a model is a separate run, so that ComfyUI can load and unload the models.
    """

    def __init__(self, run: SamplerRun, backend: Backend) -> None:
        base = Layer(run.model, run.positive, run.negative, run.cfg, torch.ones(()))
        self.layers = [base, *run.layers]
        groups: dict[int, list[int]] = {}
        for number, layer in enumerate(self.layers):
            groups.setdefault(id(layer.model), []).append(number)
        self.groups = list(groups.values())

        def shared(numbers: list[int]) -> bool:
            runs = (_run_of(run, self.layers[number]) for number in numbers)
            return all(backend.why_alone(own) is None for own in runs)

        own = self.groups[0]
        super().__init__(run.model, [self.layers[i] for i in own], shared(own))
        self.others: list[_Denoisers] = []
        for numbers in self.groups if len(self.groups) > 1 else ():
            layers = [self.layers[i] for i in numbers]
            self.others.append(_Denoisers(layers[0].model, layers, shared(numbers)))
        self._shares: dict[tuple[int, ...], list[torch.Tensor]] = {}

    def set_conds(self, positive: Any, negative: Any) -> None:
        """Does nothing: the conditionings are those of the run."""

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        given = model_options or {}
        own = self.model_options.get(_POST_CFG, [])
        after = [function for function in given.get(_POST_CFG, []) if function not in own]
        options = {**given, _POST_CFG: own}
        level = float(timestep.max())
        begun = [i for i, layer in enumerate(self.layers) if level <= layer.begins * _ROUNDING]
        shares = self._shares_of(begun, x)
        wanted = [i for i, share in zip(begun, shares, strict=True) if share is not None]
        made = self._denoised(x, timestep, options, seed, wanted)
        shares = [share for share in shares if share is not None]
        result = _put_together([one.result for one in made], shares)
        if not after:
            return result
        # The sampler's own function looks at these predictions, so they are mixed as well.
        args = {
            "denoised": result, "cond": self.conds.get("positive"), "cond_scale": self.cfg,
            "uncond": self.conds.get("negative"), "model": self.inner_model, "sigma": timestep,
            "cond_denoised": _put_together([one.cond for one in made], shares),
            "uncond_denoised": _put_together([one.uncond for one in made], shares),
            "model_options": given, "input": x,
        }  # fmt: skip
        for function in after:
            args["denoised"] = function(args)
        return args["denoised"]

    def _shares_of(self, begun: list[int], x: torch.Tensor) -> list[torch.Tensor | None]:
        """The share of each of these layers in the result. None: other layers hide it."""
        key = tuple(begun)
        if key not in self._shares:
            shares = shares_of([self.layers[i].weight.to(x) for i in begun[1:]])
            self._shares[key] = [share.to(x) if share.any() else None for share in shares]
        return self._shares[key]

    def _denoised(
        self, x: torch.Tensor, timestep: torch.Tensor, options: dict, seed: Any, wanted: list[int]
    ) -> list[_Denoised]:
        if not self.others:
            return self.denoise(x, timestep, options, seed, wanted)
        made: dict[int, _Denoised] = {}
        for guider, numbers in zip(self.others, self.groups, strict=True):
            places = [place for place, number in enumerate(numbers) if number in wanted]
            if not places:
                continue
            probe = _Probe(x, timestep, places, options.get(_GUIDED_ALWAYS, False))
            guider.sample(
                torch.zeros_like(self.picture), self.picture, probe, self.levels, self.mask,
                disable_pbar=True, seed=seed,
            )  # fmt: skip
            made.update(zip([numbers[place] for place in places], probe.made, strict=True))
        return [made[number] for number in wanted]


class _Probe(comfy.samplers.Sampler):
    """A sampler that calls a guider once and keeps its result."""

    def __init__(
        self, x: torch.Tensor, timestep: torch.Tensor, places: list[int], guided: bool
    ) -> None:
        self.x, self.timestep, self.places, self.guided = x, timestep, places, guided
        self.made: list[_Denoised] = []

    def sample(
        self, model_wrap: Any, sigmas: Any, extra_args: dict, callback: Any, noise: Any,
        latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        options = extra_args["model_options"]
        if self.guided:
            options = {**options, _GUIDED_ALWAYS: True}
        self.made = model_wrap.denoise(
            self.x, self.timestep, options, extra_args["seed"], self.places
        )
        return latent_image


def _run_of(run: SamplerRun, layer: Layer) -> SamplerRun:
    """The run of a single layer, with a sampler that treats every row by itself."""
    return replace(
        run, model=layer.model, positive=layer.positive, negative=layer.negative, cfg=layer.cfg,
        sampler_name="euler", sampler=None, layers=(),
    )  # fmt: skip


def _put_together(pictures: Sequence[torch.Tensor], shares: Sequence[torch.Tensor]) -> torch.Tensor:
    """The weighted sum of latents; the weights are the shares."""
    if len(pictures) == 1:
        return pictures[0]
    result = torch.zeros_like(pictures[0])
    for picture, share in zip(pictures, shares, strict=True):
        result = result + picture * share.to(picture)
    return result
