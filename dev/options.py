"""The options of the commands of run.py. Needs only the standard library.

Each command reads its options with a parser from here; run.py shows them as help before anything is
fetched.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"run.py {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


AddPlace = Callable[[argparse.ArgumentParser], None]


def _handed_over(parser: argparse.ArgumentParser) -> None:
    """ComfyUI and its Python: run.py finds or makes them, and describes these options itself."""
    parser.add_argument("--comfyui", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", required=True, help=argparse.SUPPRESS)


def demo(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "demo",
        "Detail the faces of a picture with the first example workflow; with --video, those of a "
        "clip with the one that follows faces.",
    )
    add_place(parser)
    add = parser.add_argument
    add("--scene", metavar="SEED", type=int, default=2, help="which scene (default: %(default)s)")
    add("--image", metavar="FILE", help="photograph with upright, frontal faces")
    add(
        "--video",
        metavar="CLIP",
        nargs="?",
        const="walking",
        help="a clip instead: of the miniature world (walking, crossing, ...), or a video file",
    )
    add("--frames", type=int, default=32, metavar="N",
        help="of a clip of the miniature world (default: %(default)s)")  # fmt: skip
    add("--checkpoint", metavar="FILE", help="a Stable Diffusion checkpoint")
    add("--prompt", metavar="TEXT", help="what the faces should look like")
    add("--open", action="store_true", help="open the workflow in the editor")
    add(
        "--output",
        metavar="DIR",
        default="demo-output",
        help="where pictures go (default: %(default)s)",
    )
    return parser


def serve(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "serve", "Start ComfyUI with this pack in it. Further arguments go to ComfyUI."
    )
    add_place(parser)
    add = parser.add_argument
    add("--base", required=True, help=argparse.SUPPRESS)
    add("--port", type=int, default=8188, help="port on this machine (default: %(default)s)")
    add("--miniature", action="store_true", help="with the small trained model of the demo")
    add("--open", action="store_true", help="open the editor in the browser")
    return parser


def bench(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench",
        "Measure the pack against the least possible work for the same crops, in the real host.\n"
        "`run.py bench quality` measures the pictures; `run.py bench quality --help` says how.",
    )
    add_place(parser)
    add = parser.add_argument
    add("--repeats", type=int, default=5, help="timed runs of each (default: %(default)s)")
    add(
        "filter",
        nargs="*",
        help="only what is named like this; also import, levels, photographs",
    )
    return parser


QUALITY_TABLES = ("scenes", "pastes", "loss", "persons", "registration")


def bench_quality(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench quality",
        """How good the pictures are: heads of the miniature world, detailed, beside the truth.

    python run.py bench quality                     100 scenes, fewer for some tables
    python run.py bench quality --table loss        one of the tables
    python run.py bench quality --scenes 10 --variant 'wide={"feather": 20}'
    python run.py bench quality --variant 'x={"paste_options": {"node": ID, "inputs": {...}}}'

A variant is a JSON object of inputs of Detailer (SEGS) that differ from the usual ones; an input
that another node gives is written as in the last line.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--scenes", type=int, default=100, help="scenes of the main table (default: %(default)s)")
    add("--part-scenes", type=int, default=16, help="of the last tables (default: %(default)s)")
    add("--first", type=int, default=0, help="seed of the first scene (default: %(default)s)")
    add("--variant", metavar="NAME=JSON", type=read_variant, action="append", default=[],
        help="only compare this with the usual inputs; may be given several times")  # fmt: skip
    add("--jobs", type=int, help="scenes at a time, each in a process with one thread (default: "
        "one for each core, at most 4; 1 with a GPU)")  # fmt: skip
    add("--table", choices=QUALITY_TABLES, action="append",
        help="only these tables: heads in scenes, ways to paste, what a VAE loses, what a person "
        "would say, results that have slipped; may be given several times")  # fmt: skip
    add("--write", action="store_true", help="into bench/RESULTS.md")
    return parser


def bench_people(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench people",
        """How often segments get the right names, and what texts by person are worth.

    python run.py bench people                 200 scenes, 16 of them detailed too
    python run.py bench people --detailed 0    only the names

Scenes of the miniature world hold some of a cast of six, by chance, and strangers. They are named
with the network that comes with the miniature, by one reference picture of each person with another
expression and another shirt.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--scenes", type=int, default=200, help="that are named (default: %(default)s)")
    add("--detailed", type=int, default=16, help="of these (default: %(default)s)")
    add("--first", type=int, default=10_000, help="seed of the first (default: %(default)s)")
    add("--write", action="store_true", help="into bench/RESULTS.md")
    return parser


def bench_video(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench video",
        """How well tracks follow people, and what detailing by tracks is worth.

    python run.py bench video                  all figures beside their aims
    python run.py bench video --detailed 0     only the tracks, without a model

Clips of the miniature world, with known paths, masks and motion: people who walk, turn, cross,
leave and come back, a cut, a moving camera, heads of 20 to 300 pixels. Detected boxes are off by up
to 5% and 10% of them are missing.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--frames", type=int, default=48, help="of the clips for tracks (default: %(default)s)")
    add("--detailed", type=int, default=24, metavar="FRAMES",
        help="in the middle that are detailed; 0 details none (default: %(default)s)")  # fmt: skip
    add("--no-cost", dest="cost", action="store_false", help="without time and memory")
    add("--write", action="store_true", help="into bench/RESULTS.md, with the pictures")
    return parser


def bench_long(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench long",
        """What a long video file takes: time and memory for each frame, in slices.

    python run.py bench long                   a minute of 1080p
    python run.py bench long --seconds 600     ten minutes, as a whole""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--seconds", type=float, default=60, help="of the clip (default: %(default)s)")
    add("--size", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"),
        help="of a frame (default: 1920 1080)")  # fmt: skip
    add("--write", action="store_true", help="into bench/RESULTS.md")
    return parser


def bench_variants(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench variants",
        """Which score is worth choosing variants by.

    python run.py bench variants               20 scenes, four variants of each head

Heads of the miniature world are redrawn several times; each score of Choose Variants takes one, and
how near it comes to the truth is compared with the mean, with the first and with the best.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--scenes", type=int, default=20, help="that are redrawn (default: %(default)s)")
    add("--variants", type=int, default=4, help="of each head (default: %(default)s)")
    add("--first", type=int, default=20_000, help="seed of the first (default: %(default)s)")
    add("--write", action="store_true", help="into bench/RESULTS.md")
    return parser


def bench_odd(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench odd",
        """Some hundred odd values in every input of every node, in a process of the real host.

    python run.py bench odd                    all of them
    python run.py bench odd --some 500         so many of those that are let in, by a fixed seed
    python run.py bench odd DetailerForEach    of nodes whose id holds one of these words

Only a right result or an error of the pack's own may come of each, within ten seconds, and then the
node has to give what it always gives. Printed are the counts and what went wrong; raw errors are
those that the pack did not raise on purpose. It also prints what the checks cost a node.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--some", type=int, metavar="N", help="run N values through their nodes (default: all)")
    add("filter", nargs="*", metavar="WORD", help="only nodes whose id holds one of these words")
    return parser


def bench_fuzz(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench fuzz",
        """Random wildcard texts and YAML files, half each. What must hold is in tests/fuzz.py.

    python run.py bench fuzz                      a million
    python run.py bench fuzz --examples 20000 --first 7

Ends at the first that fails, with the shortest text that does.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--examples", type=int, default=1_000_000, help="(default: %(default)s)")
    add("--first", type=int, default=0, help="seed of the first round (default: %(default)s)")
    return parser


def bench_wildcards(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench wildcards",
        """What large and hostile wildcard files cost, in seconds and memory.

    python run.py bench wildcards

Printed are, for 5,000 files of 200 MB, the start, all names, the first and the next draw; and for
files and texts that were made to be slow, how long they are read and drawn from.""",
    )
    add_place(parser)
    parser.add_argument("--files", type=int, default=5000, help="(default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=200, help="(default: %(default)s)")
    return parser


def bench_soak(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench soak",
        """Thousands of mixed prompts in one server, interrupts, and two clients at once.

Printed are, after 100 prompts, 1000 and so on: the server's memory, its open files, files that no
prompt shows, models that still live, and the time of a prompt that is always the same. Then each
detailer is interrupted at random moments, after which the same prompt must give the same picture.
At the end two clients queue prompts while every route of the pack gets right and wrong bodies.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("--prompts", type=int, default=5000, help="mixed prompts (default: %(default)s)")
    add("--interrupts", type=int, default=100, help="of each detailer (default: %(default)s)")
    add("--rounds", type=int, default=100, help="prompts of each client (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all that is random (default: %(default)s)")
    return parser


def folder(add_place: AddPlace | None = None) -> argparse.ArgumentParser:
    from batch import cli

    parser = cli.parser("run.py folder", add_place)
    parser.add_argument(
        "--miniature", type=int, metavar="N",
        help="have N scenes of the demo's world in IN, and detail them with its model",
    )  # fmt: skip
    return parser


def bench_folder(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench folder",
        """Folder runs: what is lost when all is killed, what they cost, how they scale.

    python run.py bench folder kills        driver and children killed at random moments
    python run.py bench folder overhead     against the sum of the prompts alone
    python run.py bench folder unlike       workers of speeds 1, 1, 2 and 4
    python run.py bench folder ledger       scheduler and ledger alone, 100,000 units
    python run.py bench folder simulated    1,000 workers, 10,000,000 units, 1% of which fail
    python run.py bench folder ray          four workers of a Ray on this machine

Without a name all are run but the one that is simulated, which takes longest. Servers are stand-ins
that take the time they are told (dev/fake_comfyui); `kills` and `overhead` take --real for ComfyUI
with the miniature.""",
    )
    add_place(parser)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="which of them")
    add("--units", type=int, help="how many pictures or units (default: as named above)")
    add("--kills", type=int, default=100, help="for kills (default: %(default)s)")
    add("--seed", type=int, default=0, help="of all that is random (default: %(default)s)")
    add("--real", action="store_true", help="with ComfyUI in place of the stand-in")
    return parser


def bench_report(add_place: AddPlace = _handed_over) -> argparse.ArgumentParser:
    parser = _parser(
        "bench report",
        """What it costs to tell of a run: the report, and the pictures for the editor.

    python run.py bench report

Printed are, for pictures with 4 and 16 segments, with and without an editor that shows them, the
whole time of a run, the time that went into telling of it, and its share.""",
    )
    add_place(parser)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs (default: %(default)s)")
    return parser


def install() -> argparse.ArgumentParser:
    parser = _parser(
        "install",
        """Put this pack into a ComfyUI, so that it is there at ComfyUI's next start.

The pack is linked, so it follows what changes here, such as by `git pull`; with --copy it is
copied. What is missing of the packages it needs is told, or installed if you say so. Nothing else
is fetched.""",
    )
    add = parser.add_argument
    add("--comfyui", metavar="DIR", required=True,
        help="ComfyUI's folder, or its base directory that holds custom_nodes")  # fmt: skip
    add("--python", metavar="PY",
        help="ComfyUI's Python (default: that in or beside its folder, else this one)")  # fmt: skip
    add("--copy", action="store_true", help="copy the pack instead of linking it")
    add("--with-packages", action="store_true", help="install missing packages with its pip")
    add("--uninstall", action="store_true", help="take the pack out again; packages stay")
    return parser


def read_variant(text: str) -> tuple[str, dict[str, Any]]:
    """A variant's name and inputs from NAME=JSON."""
    name, equals, inputs = text.partition("=")
    try:
        inputs = json.loads(inputs) if equals else None
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}': the part after = is no JSON: {error}"
        ) from error
    if not isinstance(inputs, dict):
        raise argparse.ArgumentTypeError(f"'{text}' should read NAME={{\"input\": value, ...}}.")
    return name, inputs
