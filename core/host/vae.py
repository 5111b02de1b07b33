"""Encode and decode with ComfyUI's VAEs: limits of memory, clips, tiles, and float32."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from comfy.ldm.modules.temporal_ae import VideoDecoder

from ...utils.notes import note
from .. import memory
from ..pixels.batches import joined_rows
from ..sampling.clip_frames import Count, causal, frames_of_steps, whole_length
from ..settings import VAE_TILE, VaeTile
from .call_node import call_node

log = logging.getLogger(__name__)

_TILED = ("encode_tiled", "decode_tiled", "_encode_tiled", "_decode_tiled")
_VERBS = {"encode": "encoded", "decode": "decoded"}  # of a VAE's two methods
# The most pixels that are encoded or decoded together. On a CPU a single crop of 512x512 fills the
# cache, so that more crops at once only take more memory and time.
_PIXELS_OF_CPU, _PIXELS_OF_OTHERS = 2**18, 2**22
_LEAST_TILE = 128  # side, in pixels, of the smallest tiles that are tried when memory runs out


class HostVae:
    """The part of the ComfyUI backend that works with VAEs.

    If memory runs out, ComfyUI's VAEs use tiles for all rows of a batch. Tiles change the picture.
    So here a batch is divided into fewer rows first, and only a single row that does not fit is
    done in tiles. This class also uses tiles of its own if ComfyUI does not recognise the lack of
    memory, or if its tiles are too large.
    """

    def __init__(self) -> None:
        super().__init__()
        self._precise: dict[int, tuple[Any, Any]] = {}
        self._held: dict[tuple[int, str], tuple[Any, int]] = {}

    # Properties of a VAE

    def ratio(self, vae: Any) -> int:
        """See `Backend.ratio`."""
        return int(vae.spacial_compression_encode())

    def is_video_vae(self, vae: Any) -> bool:
        """See `Backend.is_video_vae`."""
        return getattr(vae, "latent_dim", 2) == 3 and not getattr(vae, "not_video", False)

    def mixes_rows(self, vae: Any) -> bool:
        """See `Backend.mixes_rows`.

        It is True for decoders that take a batch for a clip, and for VAEs whose methods are those
        of another pack, since nothing is known about them.
        """
        known, own = comfy.sd.VAE, type(vae)
        if not isinstance(vae, known):
            return True
        if own.encode is not known.encode or own.decode is not known.decode:
            return True
        return isinstance(getattr(vae.first_stage_model, "decoder", None), VideoDecoder)

    def pixels_at_once(self, vae: Any) -> int:
        """See `Backend.pixels_at_once`."""
        device = getattr(vae, "device", None)
        is_cpu = device is not None and torch.device(device).type == "cpu"
        return _PIXELS_OF_CPU if is_cpu else _PIXELS_OF_OTHERS

    def clip_length(self, vae: Any, frames: int) -> int:
        """See `Backend.clip_length`."""
        if not self.is_video_vae(vae):
            return frames
        steps_of, frames_of = _time(vae)
        return frames if frames_of is None else whole_length(frames, steps_of, frames_of)

    def latent_steps(self, vae: Any, frames: int) -> int:
        """See `Backend.latent_steps`."""
        steps_of = _time(vae)[0] if self.is_video_vae(vae) else None
        return frames if steps_of is None else max(1, int(steps_of(frames)))

    def frames_of_steps(self, vae: Any, steps: int, frames: int) -> list[slice]:
        """See `Backend.frames_of_steps`."""
        frames_of = _time(vae)[1] if self.is_video_vae(vae) else None
        return frames_of_steps(steps, frames, frames_of or causal(frames, steps))

    # Encoding and decoding

    def encode(
        self,
        vae: Any,
        pixels: torch.Tensor,
        *,
        tiled: bool,
        video: bool,
        tile: VaeTile = VAE_TILE,
    ) -> torch.Tensor:
        """See `Backend.encode`: pixels [N,H,W,3] to a latent [N,C,h,w] or [N,C,T,h,w]."""
        if self.is_video_vae(vae) and not video and len(pixels) > 1:
            rows = [
                self.encode(vae, row, tiled=tiled, video=True, tile=tile) for row in pixels.split(1)
            ]
            return torch.cat(rows)
        if tiled:
            return self._in_tiles("encode", vae, pixels, tile)
        if self.is_video_vae(vae):
            return self._whole("encode", vae, pixels)
        return self._by_rows("encode", vae, pixels)

    def decode(
        self,
        vae: Any,
        latent: torch.Tensor,
        *,
        tiled: bool,
        tile: VaeTile = VAE_TILE,
    ) -> torch.Tensor:
        """See `Backend.decode`: a latent [N,C,h,w] or [N,C,T,h,w] to pixels [N,H,W,3].

        Raises:
            ValueError: the latent is a clip, but the VAE is one for pictures.
        """
        if latent.ndim == 5 and latent.shape[2] > 1 and getattr(vae, "latent_dim", 3) == 2:
            raise ValueError(
                f"'vae' is a VAE for pictures, but the latent is a clip of {latent.shape[2]} steps "
                f"({list(latent.shape)}). The VAE would decode only the first step. Connect the "
                "VAE of the video model that made the latent."
            )
        if tiled:
            pixels = self._in_tiles("decode", vae, latent, tile)
        else:
            pixels = self._by_rows("decode", vae, latent)
        return pixels.reshape(-1, *pixels.shape[-3:])  # the frames of a clip become rows

    def encoding_by_rows(self, vae: Any, *, video: bool) -> Any:
        """A VAE for functions of ComfyUI that encode several pictures in one call.

        Args:
            video: whether the pictures are the frames of one clip, if the VAE has a time axis.
        """
        careful = copy.copy(vae)
        careful.encode = lambda pixels: self.encode(vae, pixels, tiled=False, video=video)
        return careful

    # Memory

    def _by_rows(self, kind: str, vae: Any, rows: torch.Tensor) -> torch.Tensor:
        """Do as many rows at once as fit into memory, and fewer if memory runs out.

        A number of rows that did not fit is not tried again by this backend.
        """
        if len(rows) < 2 or self.mixes_rows(vae):
            return self._whole(kind, vae, rows)

        def part_of(part: slice) -> torch.Tensor:
            own = rows[part]
            return getattr(vae if len(own) == 1 else _untiled(vae), kind)(own)

        def fewer(before: int, now: int) -> None:
            self._held[id(vae), kind] = vae, now * rows[0].numel()

        done: list[torch.Tensor] = []
        parts = memory.divided(
            len(rows), part_of, lambda place: self._subject(kind, vae, rows), _VERBS[kind],
            self._trying, self._limit(kind, vae, rows), fewer,
        )  # fmt: skip
        try:
            done.extend(result for _, result in parts)
        except memory.OutOfMemory as error:
            left = rows[sum(map(len, done)) :]
            done += [self._smaller(kind, vae, row, error) for row in left.split(1)]
        return joined_rows(done)

    def _whole(self, kind: str, vae: Any, rows: torch.Tensor) -> torch.Tensor:
        """Do rows that have to stay together. If memory runs out, they are done in tiles."""
        subject = self._subject(kind, vae, rows)
        try:
            return memory.persist(
                lambda: getattr(vae, kind)(rows), subject, _VERBS[kind], self._trying
            )
        except memory.OutOfMemory as error:
            return self._smaller(kind, vae, rows, error)

    def _smaller(
        self, kind: str, vae: Any, rows: torch.Tensor, lack: memory.OutOfMemory
    ) -> torch.Tensor:
        """Do rows in tiles because memory has run out.

        Raises:
            memory.OutOfMemory: there is not even memory for tiles. The error is `lack`, with the
                tiles that were tried.
        """
        if not hasattr(vae, f"{kind}_tiled"):
            raise lack
        note("memory", f"Out of memory: {lack.subject} is now {lack.verb} in tiles.")
        try:
            return self._in_tiles(kind, vae, rows, VAE_TILE)
        except memory.OutOfMemory as error:
            raise error.about(lack.subject, lack.tried) from error.__cause__

    def _in_tiles(self, kind: str, vae: Any, rows: torch.Tensor, tile: VaeTile) -> torch.Tensor:
        """Do rows in tiles. If memory runs out, the tiles get smaller."""
        subject = self._subject(kind, vae, rows)
        tried: list[str] = []
        while True:
            for unload in (False, True):  # smaller tiles give another picture, so they come last
                result = memory.attempt(
                    lambda tile=tile: _tiled(kind, vae, rows, tile), self.is_out_of_memory
                )
                if not isinstance(result, memory.Lack):
                    return result
                self.free_memory(unload)
            tried.append(f"in tiles of {tile.side} pixels")
            side = tile.side // 2
            if side < _LEAST_TILE:
                raise memory.OutOfMemory(
                    subject, _VERBS[kind], memory.reason_of(result.error), tried
                ) from result.error
            tile = VaeTile(side, min(tile.overlap, side // 4))

    def _subject(self, kind: str, vae: Any, rows: torch.Tensor) -> str:
        if kind == "encode":
            height, width = rows.shape[-3:-1]
        else:
            height, width = (side * self.ratio(vae) for side in rows.shape[-2:])
        return f"a picture of {width} x {height} pixels"

    @property
    def _trying(self) -> memory.Trying:
        return memory.Trying(self.free_memory, self.is_out_of_memory)

    def _limit(self, kind: str, vae: Any, rows: torch.Tensor) -> int:
        """How many rows to try at once, from the VAE's own estimate and from earlier attempts."""
        limit = _rows_by_estimate(kind, vae, rows)
        if (id(vae), kind) in self._held:  # it is kept, so that no other gets its id
            limit = min(limit, self._held[id(vae), kind][1] // rows[0].numel())
        return max(1, limit)

    # Precision

    def in_float32(self, vae: Any) -> Any:
        """See `Backend.in_float32`."""
        if getattr(vae, "vae_dtype", torch.float32) == torch.float32:
            return None
        if id(vae) not in self._precise:
            self._precise[id(vae)] = vae, _vae_in_float32(vae)
        return self._precise[id(vae)][1]


def _time(vae: Any) -> tuple[Count | None, Count | None]:
    """Two functions of a VAE: frames -> latent steps, and latent steps -> frames. None: unknown."""
    steps_of, frames_of = (
        ratio[0] if isinstance(ratio, tuple | list) else None
        for ratio in (getattr(vae, "downscale_ratio", None), getattr(vae, "upscale_ratio", None))
    )
    if callable(steps_of) and callable(frames_of):
        return steps_of, frames_of
    every = vae.temporal_compression_decode()
    if not every:
        return None, None
    return (lambda frames: -(-(frames - 1) // every) + 1), (lambda steps: (steps - 1) * every + 1)


def _tiled(kind: str, vae: Any, rows: torch.Tensor, tile: VaeTile) -> torch.Tensor:
    """Encode pixels, or decode latents, in tiles."""
    options = {
        "vae": vae, "tile_size": tile.side, "overlap": tile.overlap, "temporal_size": 64,
        "temporal_overlap": 8,
    }  # fmt: skip
    if kind == "encode":
        return call_node("VAEEncodeTiled", pixels=rows, **options)[0]["samples"]
    return call_node("VAEDecodeTiled", samples={"samples": rows}, **options)[0]


def _untiled(vae: Any) -> Any:
    """A VAE that raises a MemoryError instead of using tiles when memory runs out."""

    def refuse(*args: Any, **options: Any) -> None:
        raise MemoryError("there is no memory for so many rows at once")

    guarded = copy.copy(vae)
    for name in dir(type(vae)):
        if name.startswith(_TILED):
            setattr(guarded, name, refuse)
    return guarded


def _rows_by_estimate(kind: str, vae: Any, rows: torch.Tensor) -> int:
    """How many of these rows fit into memory, by the estimate that ComfyUI itself uses.

    For a VAE of another pack that gives no estimate, all of them.
    """
    if not (hasattr(vae, f"memory_used_{kind}") and hasattr(vae, "patcher")):
        return len(rows)
    if kind == "decode":
        need = vae.memory_used_decode(rows[:1].shape, vae.vae_dtype)
    else:
        height, width, channels = rows.shape[1:]
        time = [1] if getattr(vae, "latent_dim", 2) == 3 else []
        need = vae.memory_used_encode(
            torch.Size([1, channels, *time, height, width]), vae.vae_dtype
        )
    patcher = vae.patcher
    comfy.model_management.load_models_gpu(
        [patcher], memory_required=need, force_full_load=getattr(vae, "disable_offload", False)
    )
    return int(min(len(rows), patcher.get_free_memory(vae.device) / max(1, need)))


# The VAE in float32 -------------------------------------------------------------------------


def _vae_in_float32(vae: Any) -> Any:
    """A copy of a VAE whose network computes in float32. None: it cannot be made."""
    try:
        patcher = _another_patcher(vae)
        network = patcher.model.to(torch.float32)
    except Exception as error:  # too little memory, or any error of networks and loaders
        note("precision", f"The VAE cannot be run in float32: {error}")
        return None
    precise = copy.copy(vae)
    precise.patcher, precise.first_stage_model = patcher, network
    precise.vae_dtype = torch.float32
    if hasattr(comfy.model_management, "archive_model_dtypes"):  # loading casts weights to these
        comfy.model_management.archive_model_dtypes(network)
    patcher.size = 0
    precise.size = None
    precise.model_size()
    return precise


def _another_patcher(vae: Any) -> Any:
    """A patcher with a new network that is equal to the VAE's.

    Raises:
        Exception: any error of networks and ComfyUI's loaders.
    """
    if not _is_paged(vae):
        try:
            return _copied(vae)
        except Exception as error:
            log.debug("the VAE's network cannot be copied: %s", error)
    return _made_anew(vae)


def _copied(vae: Any) -> Any:
    """A patcher with a copy of the VAE's network. The copy is not loaded on the device.

    Raises:
        Exception: any error of copying: memory runs out, or the network does not allow it.
    """
    network = copy.deepcopy(vae.first_stage_model)
    offload_device = comfy.model_management.vae_offload_device()
    patcher = comfy.model_patcher.ModelPatcher(network, vae.device, offload_device)
    patcher.detach()  # the copy has marks of a loaded network, which are removed here
    return patcher


def _is_paged(vae: Any) -> bool:
    """Whether ComfyUI pages the network's weights in and out while it computes."""
    dynamic = getattr(vae.patcher, "is_dynamic", None)
    return (dynamic is not None and dynamic()) or hasattr(vae.first_stage_model, "dynamic_vbars")


def _made_anew(vae: Any) -> Any:
    """A patcher with a network that is equal to the VAE's and shares nothing with it.

    A network with paged weights holds memory outside of torch, which a copy would free a second
    time. So the network is made by the loader of its file, if ComfyUI has kept that loader, and
    otherwise from its weights.

    Raises:
        RuntimeError: the network cannot be made from its weights.
        Exception: any error of ComfyUI's loaders.
    """
    factory = getattr(vae.patcher, "cached_patcher_init", None)
    patcher = _made_of_weights(vae) if factory is None else _made_by(factory)
    weights = _own_weights(vae, torch.float32)
    patcher.model.load_state_dict(weights, assign=True)  # weights of a file may be read-only
    device = vae.patcher.load_device
    if patcher.load_device != device:
        patcher.load_device = device
        if hasattr(patcher, "register_load_device"):
            patcher.register_load_device(device)
    return patcher


def _made_by(factory: Sequence[Any]) -> Any:
    """The patcher from a loader. `factory`: (loader, arguments[, index of the patcher])."""
    made = factory[0](*factory[1])
    return made[factory[2]] if len(factory) > 2 else made


def _made_of_weights(vae: Any) -> Any:
    network = vae.first_stage_model
    made = comfy.sd.VAE(sd=_own_weights(vae), device=vae.device, dtype=torch.float32)
    if not isinstance(network, type(made.first_stage_model)):  # ComfyUI recognised another class
        raise RuntimeError(f"ComfyUI cannot make a {type(network).__name__} from its weights.")
    return made.patcher


def _own_weights(vae: Any, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """Copies of the VAE's weights on the CPU. Floating ones get `dtype`; None keeps their own."""
    return {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else None, copy=True)
        for name, value in vae.first_stage_model.state_dict().items()
    }
