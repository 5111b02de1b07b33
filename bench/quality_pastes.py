"""Ways to paste: what shows at the rims of the masks, by VAE and by what is around."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from .quality_runs import CONTRAST, TINT, TINTING, Case, Part, Runs, pasting
from .scenes import Kind

HEADING = "## Ways to paste"
ALONE = Kind(heads_alone=True)
_ALL = {"color_match": 1.0, "restore_unmasked": True, "fade_at_border": True}
PASTES = (
    Case("plain feather"),
    Case("kept pixels restored", pasting(restore_unmasked=True)),
    Case("colour match", pasting(color_match=1.0)),
    Case("all, feather", pasting(**_ALL)),
    Case("all, multiband", pasting(**_ALL, blend="multiband")),
    Case("truth, plain feather", truth=True),
)
PARTS = (
    Part(
        "Where the heads alone were poor and the image around them is the truth: what shows at a "
        "rim is the paste's own.",
        "paste",
        tuple(replace(case, kind=ALONE) for case in PASTES),
    ),
    Part(
        "The same with a VAE that shifts colours: what it decodes has "
        f"{CONTRAST:g} of the contrast, and {TINT[0]:+g} of red and {TINT[2]:+g} of blue.",
        "paste",
        tuple(replace(case, kind=ALONE, vae=TINTING) for case in PASTES[:-1]),
    ),
    Part(
        "The same with the usual VAE where all of the image was poor: a rim then also parts a head "
        "that is sharp from surroundings that are not, as the last row shows.",
        "paste",
        PASTES,
    ),
)


def measure(runs: Runs, seeds: Sequence[int]) -> Iterator[str]:
    """The parts of the report."""
    yield from runs.tables(PARTS, seeds, once=True)


INTRODUCTION = """\
`python run.py bench quality --table pastes --write`

As under *Picture quality*, at the same feather. All ways get the same latents from the sampler, \
whose seconds are not counted."""
