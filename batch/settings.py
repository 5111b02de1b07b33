"""What a run is told, and what of it decides the results."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

FORMATS = ("same", "png", "jpg", "webp", "exr", "mp4")
METADATA = ("all", "source", "workflow", "none")
SEEDS = ("fixed", "by-file")


@dataclass(frozen=True)
class Making:
    """How results are made: all of it is part of a unit's key.

    Attributes:
        format: of the results; "same" is that of the input where it can be written, else png.
        quality: of jpg and webp, 1..100.
        metadata: what files carry on: "source" the input's (EXIF, XMP), "workflow" ComfyUI's.
            The colour profile goes on in any case, as it says what the pixels mean.
        seed: "fixed" as in the workflow, "by-file" another for each file, from its bytes.
        split: "" for clips as a whole, "shots", or a number of frames.
    """

    format: str = "same"
    quality: int = 95
    metadata: str = "all"
    seed: str = "fixed"
    split: str = ""

    @property
    def keeps_workflow(self) -> bool:
        return self.metadata in ("all", "workflow")

    def in_key(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """When to give up, in seconds or counts.

    Attributes:
        tries: failures after which a unit is set aside.
        deaths: servers that may die while they run a unit until that is set aside.
        unit: seconds for one unit on a server.
        answer: seconds for one answer of a server.
        start: seconds until a server of our own answers after its start.
        patience: seconds without an answer after which a foreign server is left.
        restarts: starts in a row that may fail until a place is left.
    """

    tries: int = 3
    deaths: int = 5
    unit: float = 1800.0
    answer: float = 60.0
    start: float = 300.0
    patience: float = 300.0
    restarts: int = 3


@dataclass(frozen=True)
class Comfy:
    """How ComfyUI is started as a child process.

    Attributes:
        tree: ComfyUI's folder, the one with main.py.
        python: the interpreter that has ComfyUI's requirements.
        packs: folders of custom nodes to load besides those in its custom_nodes.
        models: folders laid out as ComfyUI/models, besides its own.
        checkpoint: a checkpoint file to offer.
        args: further arguments of main.py.
    """

    tree: Path
    python: str
    packs: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    args: tuple[str, ...] = ()

    def on_cpu(self) -> Comfy:
        """The same without a GPU."""
        return self if "--cpu" in self.args else replace(self, args=("--cpu", *self.args))


@dataclass(frozen=True)
class Folders:
    """Where things are in OUT."""

    source: Path
    out: Path

    @property
    def ledger(self) -> Path:
        return self.out / "detailers-ledger.sqlite"

    @property
    def own(self) -> Path:
        """What the run needs besides results."""
        return self.out / ".detailers"

    @property
    def staging(self) -> Path:
        return self.own / "staging"

    @property
    def earlier(self) -> Path:
        """Results of other settings or inputs whose place a newer one took."""
        return self.own / "earlier"

    @property
    def parts(self) -> Path:
        return self.own / "parts"


@dataclass(frozen=True)
class Settings:
    """All that a run is told."""

    folders: Folders
    making: Making = field(default_factory=Making)
    limits: Limits = field(default_factory=Limits)
    lanes: int = 2  # units that a worker has at a time: one is run, one waits in its queue
    copy: bool = False  # send bytes to workers and back instead of paths
    retry: bool = False  # try those again that were set aside
