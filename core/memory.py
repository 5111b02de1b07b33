"""Out of memory: how the error is recognised, and how work continues with less memory.

Devices, allocators and libraries report it in many ways. `is_out_of_memory` knows them all, and no
other place does. Work that needs too much memory is done in halves, then one item at a time, then
with all models unloaded. What still does not fit ends with an `OutOfMemory` error.

CUDA may report an error later than it happens, in a call that has nothing to do with it. After a
failed allocation CUDA's context is still usable. So `free` clears the report, and the work is tried
again. After any other late error, such as an illegal access, the context is lost and no later call
can succeed. Such errors never count as out of memory, and are passed on unchanged.
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
_ALLOCATION_FAILED = 2  # the error number of CUDA and HIP
_CV2_NO_MEMORY = -4

_TEXTS = re.compile(
    "|".join((
        r"out[ _]?of[ _]?((device|host|gpu|video|system)[ _]?)?memory",  # CUDA, HIP, MPS, XPU, ...
        r"(allocation|alloc)[ _]?failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_..., miopenStatus...
        r"rocblas_status_memory_error",
        r"(insufficient|not enough|no) workspace|workspace\w* (is )?too small",  # cuDNN, MIOpen
        r"unable to find an engine",  # cuDNN, where no algorithm fits into memory
        r"nvml_success == r",  # PyTorch's allocator, where the driver does not report free memory
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

    It knows the errors of torch (CUDA, HIP, MPS, XPU, DirectML and the CPU's allocator), of
    cuBLAS, cuDNN and similar libraries, of Python, NumPy, OpenCV and onnxruntime, and of the
    operating system.
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
    if type(error).__module__ == "builtins":  # a ValueError is about values, whatever its text says
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
    """Memory does not hold one item alone, after everything was tried."""

    def __init__(self, subject: str, verb: str, reason: str, tried: Sequence[str]) -> None:
        """
        Args:
            subject: the item and its size, such as "segment 3 at 512 x 512 pixels".
            verb: what cannot be done with it, as a participle, such as "sampled".
            reason: the original error, in one line.
            tried: the ways in which it was tried, in order.
        """
        self.subject, self.verb, self.reason, self.tried = subject, verb, reason, tuple(tried)
        super().__init__(
            f"Out of memory: {subject} cannot be {verb} ({reason}). Tried: {', '.join(tried)}. "
            f"{REMEDY}"
        )

    def about(self, subject: str, before: Sequence[str] = ()) -> OutOfMemory:
        """The same error for another subject; `before` lists what had been tried earlier."""
        return OutOfMemory(subject, self.verb, self.reason, (*before, *self.tried))


def reason_of(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}".rstrip(": .")


# Trying ---------------------------------------------------------------------------------------

_of_host: list[Callable[[bool], None]] = []


def add_host(free_of_host: Callable[[bool], None]) -> None:
    """Register a function that frees what the host holds; it is told whether to unload models."""
    if free_of_host not in _of_host:
        _of_host.append(free_of_host)


def free(unload: bool = False) -> None:
    """Give back the memory that caches hold.

    Args:
        unload: also the memory of all models that the host has loaded and that are not in use.
    """
    gc.collect(2 if unload else 1)  # tensors in young reference cycles of frames and errors
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
    """Says that memory ran out."""

    error: Exception  # its frames hold no tensors any more


def attempt(
    work: Callable[[], Result], recognises: Callable[[BaseException], bool] = is_out_of_memory
) -> Result | Lack:
    """The result of the work, or a `Lack` if memory ran out; then all that it held is released.

    Raises:
        OutOfMemory: the work raised it; that error is final.
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
    """Release what is held by the frames of an error, and of the errors that led to it."""
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
    """How work continues after memory ran out."""

    free: Free = free  # a function like `free` of this module
    recognises: Callable[[BaseException], bool] = is_out_of_memory


PLAINLY = Trying()
# The ways in which one item is tried.
_ALONE = "alone", "with the caches freed", "with all models unloaded"


def persist(
    work: Callable[[], Result], subject: str, verb: str, trying: Trying = PLAINLY
) -> Result:
    """Do work that cannot be divided; where memory runs out, free more and do it again.

    Args:
        work: has to leave nothing half done when it fails.
        subject, verb: see `OutOfMemory`.

    Raises:
        OutOfMemory: there is still too little memory.
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
    """Do work on items, as many at once as memory holds. No item that is done is done again.

    Args:
        count: number of items.
        work: does the items of a slice; has to leave nothing half done when it fails.
        subject: names an item by its index, for the error.
        verb: see `OutOfMemory`.
        at_once: how many to begin with; None for all.
        fewer: called with the number of items that was too high, and the number tried next.

    Yields:
        Each slice and the result of its work, in order.

    Raises:
        OutOfMemory: there is too little memory for one item alone.
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
    """A context in which an out-of-memory error names this subject.

    Raises:
        OutOfMemory: memory ran out, in whatever form that was reported.
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
