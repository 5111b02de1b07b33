"""Sample in tiles with ComfyUI's samplers: a guider calls the model for each tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch

from ...utils.notes import note
from ...utils.seeds import MAX_SEED
from ..backend import Backend, OnStep, SamplerRun
from ..detail.references import LatentReferences, Shown
from ..geometry import Box, Size
from ..pixels.crop_view import Cut
from ..prompts.cut_conditioning import cut_conditioning
from ..sampling.latent_tiles import Tile, cut, stitched
from ..sampling.scheduler import MemoryBudget, Pipeline, Sample, run_pipelines
from ..settings import Conditioning, Tiles
from ..streams import is_nested
from .layers import LayeredGuider


def guider_of(run: SamplerRun, backend: Backend) -> comfy.samplers.CFGGuider:
    """The guider for a run: ComfyUI's own, one with layers, or one that works in tiles."""
    if run.layers:
        return LayeredGuider(run, backend)
    if run.tiles is not None and is_nested(run.latent):
        note(
            "tiles",
            "A latent of several streams, such as video with sound, is sampled as a whole and not "
            "in tiles, because its other streams belong to the whole picture.",
        )
        return comfy.samplers.CFGGuider(run.model)
    if run.tiles is None or run.latent.ndim < 4:
        return comfy.samplers.CFGGuider(run.model)
    return TiledGuider(run, backend)


class TiledGuider(comfy.samplers.CFGGuider):
    """Denoises a latent in tiles, as many at once as fit into memory.

    The conditioning is cut to each tile.
    """

    def __init__(self, run: SamplerRun, backend: Backend) -> None:
        super().__init__(run.model)
        self.run, self.backend = run, backend
        self.budget = MemoryBudget()
        self.ratio = int(run.model.get_model_object("latent_format").spacial_downscale_ratio)
        self.tile = tile_in_latent(run.tiles, self.ratio)
        self.generator = torch.Generator().manual_seed(run.seed & MAX_SEED)
        # References are compared with the latent only if it is a picture when sampling begins and
        # when it ends.
        whole = bool(run.noise.any()) and run.sigmas[-1] == 0
        self.references = LatentReferences(run.latent if whole else None, backend)
        self.patched: dict[Box, Any] = {}  # the model for each tile

    def inner_set_conds(self, conds: dict[str, Conditioning]) -> None:
        self.whole = conds
        super().inner_set_conds(conds)

    def inner_sample(
        self, noise: Any, latent_image: Any, device: Any, sampler: Any, sigmas: Any,
        denoise_mask: Any, *args: Any, **options: Any,
    ) -> torch.Tensor:  # fmt: skip
        self.picture = latent_image
        if torch.count_nonzero(latent_image) > 0:  # an empty one is not scaled
            self.picture = self.inner_model.process_latent_in(latent_image)
        self.mask = denoise_mask
        return super().inner_sample(
            noise, latent_image, device, sampler, sigmas, denoise_mask, *args, **options
        )

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        size = Size(x.shape[-1], x.shape[-2])
        tiles = cut(size, self.tile, self.run.tiles.strategy, self.generator)
        if len(tiles) == 1:
            return super().predict_noise(x, timestep, model_options or {}, seed)
        denoiser = _Denoiser(self, tiles, timestep, model_options or {}, seed)
        return stitched(x, tiles, denoiser.denoise)


class _Denoiser:
    """A Backend whose `sample` calls the model once, so that tiles share calls as segments do."""

    def __init__(
        self, guider: TiledGuider, tiles: Sequence[Tile], timestep: torch.Tensor,
        model_options: dict, seed: int | None,
    ) -> None:  # fmt: skip
        self.guider, self.tiles = guider, tiles
        self.timestep, self.model_options, self.seed = timestep, model_options, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.guider.backend, name)

    def denoise(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Denoise the tiles, each [N,C,...,h,w]."""
        pipelines = [self._pipeline(index, part) for index, part in enumerate(parts)]
        return run_pipelines(pipelines, self, self.guider.budget)

    def _pipeline(self, index: int, part: torch.Tensor) -> Pipeline[torch.Tensor]:
        box = self.tiles[index].box
        cut = self._cut_to(box)
        guider = self.guider
        sides = yield from self._sides(cut, box)
        if box not in guider.patched:
            guider.patched[box] = guider.backend.cut_patches(guider.run.model, cut)
        run = replace(
            guider.run,
            model=guider.patched[box],
            **sides,
            latent=part,
            noise=self._part(guider.picture, box),
            noise_mask=None,
            sampler_name="euler",  # it is not used, but has to treat rows one by one
            sampler=None,
            tiles=None,
            seed=index,
        )
        return (yield Sample(run, lambda step, total, latent: None))

    def _cut_to(self, box: Box) -> Cut:
        guider = self.guider
        height, width = guider.picture.shape[-2:]
        whole = Size(width * guider.ratio, height * guider.ratio)
        region = box.scaled(Size(width, height), whole)
        return Cut(whole, region, region.size, region.size, guider.ratio)

    def _sides(self, cut: Cut, box: Box) -> Pipeline[dict[str, Conditioning]]:
        """The conditionings of a tile, by name."""
        guider = self.guider
        controls: dict[int, Any] = {}
        sides = [
            cut_conditioning(
                side, cut, controls, lambda picture: guider.references.shows(picture, cut)
            )
            for side in guider.whole.values()
        ]
        shown = Shown(
            cut,
            self._part(guider.run.latent, box),
            same_size=guider.backend.takes_references_of_one_size(guider.run.model),
        )
        placed = yield from guider.references.placed(sides, shown)
        return dict(zip(guider.whole, placed, strict=True))

    @staticmethod
    def _part(tensor: torch.Tensor, box: Box) -> torch.Tensor:
        return tensor[..., box.y1 : box.y2, box.x1 : box.x2]

    def sample(self, run: SamplerRun, on_step: OnStep) -> torch.Tensor:
        """Call the model once, for one tile or for several tiles as rows."""
        guider = self.guider
        boxes = [self.tiles[index].box for index in run.seeds or (run.seed,)]
        mask = guider.mask
        if mask is not None:
            mask = torch.cat([self._part(mask, box) for box in boxes])
        sides = {"positive": run.positive, "negative": run.negative}
        raw = {name: comfy.sampler_helpers.convert_cond(sides[name]) for name in guider.whole}
        comfy.samplers.preprocess_conds_hooks(raw)
        comfy.samplers.filter_registered_hooks_on_conds(raw, guider.model_options)
        x = run.latent
        conds = comfy.samplers.process_conds(
            guider.inner_model, x, raw, x.device, run.noise, mask, self.seed,
            latent_shapes=[x.shape],
        )  # fmt: skip
        options = self.model_options
        if run.model is not guider.run.model:  # then this is the only tile of the call
            own = run.model.model_options["transformer_options"]
            patches = {name: own[name] for name in ("patches", "patches_replace") if name in own}
            transformer = {**options.get("transformer_options", {}), **patches}
            options = {**options, "transformer_options": transformer}
        timestep = self.timestep if len(self.timestep) == len(x) else self.timestep[:1]
        return comfy.samplers.sampling_function(
            guider.inner_model, x, timestep.expand(len(x)), conds.get("negative"),
            conds["positive"], guider.cfg, model_options=options, seed=self.seed,
        )  # fmt: skip


def tile_in_latent(tiles: Tiles, ratio: int) -> Size:
    """The size of a tile in latent pixels. A latent pixel is `ratio` pixels wide and high."""
    return Size(max(1, tiles.width // ratio), max(1, tiles.height // ratio))
