"""Want of memory: how it is recognised, and how work goes on with less of it.

Devices, allocators and libraries tell of it in many ways. `is_out_of_memory` knows them all and is
the only place that does. Work that is found too large is done in halves, then one item at a time,
then with every model unloaded; what still does not fit ends with an `OutOfMemory`.

CUDA may report an error later than it happens, in a call that has nothing to do with it. A failed
allocation leaves CUDA's context usable, so the work is tried again, once the report is taken out
(`free`). Any other late error, such as an illegal access, leaves the context dead: nothing that
runs afterwards can succeed, so such errors are never taken for want of memory and pass as they are.
"""

from __future__ import annotations

import errno
import gc
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Recognising it -------------------------------------------------------------------------------

_KINDS: tuple[type[BaseException], ...] = (MemoryError, torch.cuda.OutOfMemoryError)
_ALLOCATION_FAILED = 2  # CUDA's and HIP's number for it
_CV2_NO_MEMORY = -4

_TEXTS = re.compile(
    "|".join((
        r"out[ _]?of[ _]?((device|host|gpu|video|system)[ _]?)?memory",  # CUDA, HIP, MPS, XPU, ...
        r"(allocation|alloc)[ _]?failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_..., miopenStatus...
        r"rocblas_status_memory_error",
        r"(insufficient|not enough|no) workspace|workspace\w* (is )?too small",  # cuDNN, MIOpen
        r"unable to find an engine",  # cuDNN, where no way to compute fits
        r"nvml_success == r",  # PyTorch's allocator, where the driver does not tell what is left
        r"would exceed allowed memory",  # PyTorch's own limit, and ComfyUI's
        r"(can't|cannot|could not|couldn't|unable to|failed to) allocate",  # CPU, DirectML, ONNX
        r"not enough (gpu |video |system |host |device )*memory",  # CPU on Windows, DirectML
        r"insufficient (gpu |video |system |host |device )*memory",  # OpenCV
        r"bad[ _]alloc(ation)?\b",  # C++
        r"invalid buffer size",  # MPS
        r"0x8007000e",  # E_OUTOFMEMORY of DirectX
    )),
    re.IGNORECASE,
)  # fmt: skip


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, says that memory ran out.

    Known are the errors of torch (CUDA, HIP, MPS, XPU, DirectML and the CPU's allocator), of
    cuBLAS, cuDNN and their kin, of Python, NumPy, OpenCV and onnxruntime, and of the operating
    system.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _says_so(error):
            return True
        error = error.__cause__
    return False


def _says_so(error: BaseException) -> bool:
    if isinstance(error, _KINDS):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        accelerator = type(error).__name__ == "AcceleratorError"
        if accelerator and getattr(error, "error_code", None) == _ALLOCATION_FAILED:
            return True
        return bool(_TEXTS.search(str(error)))
    if type(error).__module__ == "builtins":  # a ValueError tells of values, whatever its words
        return False
    is_cv2 = type(error).__module__.partition(".")[0] == "cv2"
    if is_cv2 and getattr(error, "code", None) == _CV2_NO_MEMORY:
        return True
    own = type(error).__mro__[1:-1]
    if any(kind in own for kind in (ValueError, TypeError, LookupError, AttributeError)):
        return False
    return isinstance(error, Exception) and bool(_TEXTS.search(str(error)))


# The error ------------------------------------------------------------------------------------

REMEDY = (
    "Choose a smaller 'max_size', 'guide_size' or picture, use smaller models or ones of lower "
    "precision, or close what else uses memory."
)


class OutOfMemory(torch.cuda.OutOfMemoryError, MemoryError):
    """There is no memory for one thing alone, whatever was tried."""

    def __init__(self, subject: str, verb: str, reason: str, tried: Sequence[str]) -> None:
        """
        Args:
            subject: what was worked on, with its size: "segment 3 at 512 x 512 pixels".
            verb: what cannot be done with it, as a participle: "sampled".
            reason: the error that told of it, in a line.
            tried: each way in which it was tried, in order.
        """
        self.subject, self.verb, self.reason, self.tried = subject, verb, reason, tuple(tried)
        super().__init__(
            f"Out of memory: {subject} cannot be {verb} ({reason}). Tried: {', '.join(tried)}. "
            f"{REMEDY}"
        )

    def about(self, subject: str, before: Sequence[str] = ()) -> OutOfMemory:
        """The same of another subject, after other things that had been tried before."""
        return OutOfMemory(subject, self.verb, self.reason, (*before, *self.tried))


def reason_of(error: BaseException) -> str:
    """An error in a line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}".rstrip(": .")


# Trying ---------------------------------------------------------------------------------------

_of_host: list[Callable[[bool], None]] = []


def add_host(free_of_host: Callable[[bool], None]) -> None:
    """Have `free` also free what a host holds. The function is told whether to unload models."""
    if free_of_host not in _of_host:
        _of_host.append(free_of_host)


def free(unload: bool = False) -> None:
    """Give back the memory that caches hold.

    Args:
        unload: also that of all models that the host has loaded and nobody is using just now.
    """
    gc.collect(2 if unload else 1)  # tensors in circles of frames and errors, which are young
    for own in _of_host:
        own(unload)
    if _of_host:
        return
    for name in ("cuda", "xpu", "mps"):
        module = getattr(torch, name, None)
        started = getattr(module, "is_initialized", None) or getattr(module, "is_available", None)
        if started is not None and started() and hasattr(module, "empty_cache"):
            with suppress(RuntimeError):
                module.empty_cache()


@dataclass(frozen=True)
class Lack:
    """That memory ran out."""

    error: Exception  # holds no tensors any more


def attempt(
    work: Callable[[], Result], recognises: Callable[[BaseException], bool] = is_out_of_memory
) -> Result | Lack:
    """What work gives, or that memory ran out. By then all that the work held is let go.

    An `OutOfMemory` is final and passes.
    """
    try:
        return work()
    except OutOfMemory:
        raise
    except Exception as error:
        if not recognises(error):
            raise
        lack = Lack(error)
    release(lack.error)
    return lack


def release(error: BaseException | None) -> None:
    """Let go of what the frames hold that an error, and those before it, came through."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        left += [one.__cause__, one.__context__]


Free = Callable[..., None]


@dataclass(frozen=True)
class Trying:
    """How work is gone on with after memory ran out."""

    free: Free = free  # as `free` of this module
    recognises: Callable[[BaseException], bool] = is_out_of_memory


PLAINLY = Trying()
_ALONE = "alone", "with the caches freed", "with all models unloaded"  # how one thing is tried


def persist(
    work: Callable[[], Result], subject: str, verb: str, trying: Trying = PLAINLY
) -> Result:
    """Do work that cannot be divided, again with more memory freed where there is too little.

    Args:
        work: leaves nothing half done where it fails.
        subject, verb: see `OutOfMemory`.

    Raises:
        OutOfMemory: there is too little memory all the same.
    """
    ((_, result),) = divided(1, lambda part: work(), lambda part: subject, verb, trying)
    return result


def divided(
    count: int,
    work: Callable[[slice], Result],
    subject: Callable[[int], str],
    verb: str,
    trying: Trying = PLAINLY,
    at_once: int | None = None,
    fewer: Callable[[int, int], None] = lambda before, now: None,
) -> Iterator[tuple[slice, Result]]:
    """Do work on items, as many at once as memory holds; what is done stays done.

    Args:
        count: of the items.
        work: does the items of a slice; leaves nothing half done where it fails.
        subject: names an item by its place, for the error.
        verb: see `OutOfMemory`.
        at_once: how many to begin with; None for all.
        fewer: is told when so many were too many, and how many are tried instead.

    Yields:
        Each slice and what came of it, in order.

    Raises:
        OutOfMemory: there is too little memory for an item alone.
    """
    at_once = max(1, count if at_once is None else at_once)
    first, alone = 0, 0
    tried: list[str] = []
    while first < count:
        part = slice(first, min(first + at_once, count))
        several = part.stop - first
        try:
            result = attempt(lambda part=part: work(part), trying.recognises)
        except OutOfMemory as error:
            raise error.about(subject(first), tried) from error.__cause__
        if not isinstance(result, Lack):
            yield part, result
            del result
            first, alone, tried = part.stop, 0, []
            continue
        if several > 1:
            tried.append(f"{several} at once")
            at_once = (several + 1) // 2
            fewer(several, at_once)
            trying.free()
            continue
        tried.append(_ALONE[alone])
        alone += 1
        if alone == len(_ALONE):
            raise OutOfMemory(
                subject(first), verb, reason_of(result.error), tried
            ) from result.error
        del result
        trying.free(unload=alone == len(_ALONE) - 1)


@contextmanager
def naming(subject: str, verb: str) -> Iterator[None]:
    """Where memory runs out inside for good, the error names this subject.

    Raises:
        OutOfMemory: instead of any other form.
    """
    try:
        yield
        return
    except OutOfMemory as error:
        if error.subject == subject:
            raise
        told: Any = error.about(subject)
        told.__cause__ = error.__cause__
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        told = OutOfMemory(subject, verb, reason_of(error), _ALONE[:1])
        told.__cause__ = error
    release(told.__cause__)
    raise told
