"""Do segments together give the same as alone, with every model class of the host?

    python compare.py COMFYUI [LABEL ...]

Runs inside a ComfyUI's Python, without a server, and prints one line of JSON:

    classes   the host's list of model families
    bases     its model classes
    models    by label: the class, its native area, and what came out of each way of sampling
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACK = "detailers"


def main(tree: str, labels: list[str]) -> None:
    _import_pack(Path(tree))
    import logging

    import comfy.utils
    import torch

    logging.getLogger().setLevel(logging.CRITICAL)
    comfy.utils.PROGRESS_BAR_ENABLED = False
    torch.set_num_threads(1)
    with torch.inference_mode():
        print(json.dumps(_report(labels)))


def _import_pack(tree: Path) -> None:
    """Make the host's modules importable, and this project under a name of its own."""
    spec = importlib.util.spec_from_loader(PACK, loader=None, is_package=True)
    package = importlib.util.module_from_spec(spec)
    package.__path__ = [str(ROOT)]
    sys.modules[PACK] = package
    from detailers.dev.miniature.host_import import use_host

    use_host(tree, cpu=True)


def _report(labels: list[str]) -> dict[str, Any]:
    import comfy.model_base
    import comfy.supported_models
    from detailers.dev.tiny_models.specs import TINY

    classes = [kind.__name__ for kind in comfy.supported_models.models]
    return {
        "classes": classes,
        "bases": [
            name
            for name, kind in vars(comfy.model_base).items()
            if isinstance(kind, type) and issubclass(kind, comfy.model_base.BaseModel)
        ],
        "models": {
            label: _model(label, tiny)
            for label, tiny in TINY.items()
            if label.split()[0] in classes and (not labels or label in labels)
        },
    }


def _model(label: str, tiny: Any) -> dict[str, Any]:
    from detailers.core.host.backend import ComfyBackend
    from detailers.dev.tiny_models.build import WAYS, build

    class Counting(ComfyBackend):
        """Notes how many rows each call of the sampler has."""

        def __init__(self):
            super().__init__()
            self.rows: list[int] = []

        def sample(self, run, on_step):
            self.rows.append(len(run.latent))
            return super().sample(run, on_step)

    started = time.monotonic()
    model = build(label, tiny)
    backend = Counting()
    ways = {way.name: _way(model, tiny, way, backend) for way in WAYS if way.name in tiny.ways}
    return {
        "class": type(model.model).__name__,
        "area": backend.native_area(model),
        "ways": ways,
        "seconds": round(time.monotonic() - started, 2),
    }


def _way(model: Any, tiny: Any, way: Any, backend: Any) -> dict[str, Any]:
    """One way of sampling: each run alone, all in a wave, and joined although that may be wrong.

    Returns:
        difference: of the wave from alone, as a share of the spread of what comes out.
        text: how much another text changes, in the same unit.
        rows: of each call of the sampler in the wave.
        why, joined: where the first run was sampled alone, the reason, and the difference of two
            runs with texts of equal length that are joined in any case, or what this raises.
        error: instead of all that, where there is no result.
    """
    from detailers.core.sampling.batching import joined
    from detailers.core.sampling.scheduler import Sample, run_pipelines
    from detailers.dev.tiny_models.build import runs

    def nothing(*_: Any) -> None:
        pass

    def pipeline(run: Any):
        return (yield Sample(run, nothing))

    def far(results: Any) -> float:
        pairs = zip(results, alone, strict=False)
        return max((one - other).abs().max().item() for one, other in pairs) / spread

    made = runs(model, tiny, way, backend)
    try:
        alone = [backend.sample(run, nothing) for run in made]
        spread = alone[0].std().item()
        text = far([backend.sample(replace(made[0], positive=made[1].positive), nothing)])
        backend.rows.clear()
        with _reasons() as reasons:
            together = run_pipelines([pipeline(run) for run in made], backend)
    except Exception:
        return {"error": traceback.format_exc()}
    found = {"difference": far(together), "text": text, "rows": list(backend.rows)}
    if found["rows"][0] > 1:
        return found
    try:
        forced: float | str = far(backend.sample(joined(made[:2], backend), nothing).split(1))
    except Exception as error:  # whatever the host says to rows that it does not take
        forced = f"{type(error).__name__}: {error}"
    return {**found, "why": reasons[0] if reasons else "", "joined": forced}


@contextlib.contextmanager
def _reasons() -> Iterator[list[str]]:
    """Collects why runs are sampled alone, which is only said in the log."""
    import logging

    reasons: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reasons.append(record.getMessage().partition("alone: ")[2])

    logger = logging.getLogger("detailers.core.sampling.batching")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler := Handler())
    try:
        yield reasons
    finally:
        logger.removeHandler(handler)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
