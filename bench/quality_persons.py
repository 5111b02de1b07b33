"""What a person would say of detailed heads, beside how near they are to the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .quality_runs import Case, Part, Runs

HEADING = "## What a person would say"
DENOISES = (0.2, 0.3, 0.5, 0.7, 1.0)
LONGER = {"steps": 20, "sampler_name": "euler_ancestral"}  # as people sample from noise
CASES = (
    *(Case(f"{own:g}", {"denoise": own}) for own in DENOISES),
    Case("1, 20 steps of euler_ancestral", {"denoise": 1.0, **LONGER}),
)
PARTS = (Part("By denoise:", "denoise", CASES),)


def measure(runs: Runs, seeds: Sequence[int]) -> Iterator[str]:
    """The parts of the report."""
    yield from runs.tables(PARTS, seeds)


INTRODUCTION = """\
`python run.py bench quality --table persons --write`

As under *Picture quality*. PSNR asks for the same lines in the same places; above a denoise of \
0.5 the model draws the person that its text describes anew, a little elsewhere. *Attributes \
right* is the share of the six attributes of a head that are drawn as asked for, be it a little \
elsewhere, *all of a head* that of heads with all six. *Likeness* is the cosine between a head and \
a sharp picture of its person with another expression and another shirt, by the network of *Label \
SEGS by Person*, which takes 0.5 for the same person at first."""
