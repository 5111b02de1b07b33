"""The command line of folder runs: `detailers-folder`, `python run.py folder`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import report
from .faults import Problem
from .settings import FORMATS, METADATA, SEEDS, Comfy, Folders, Limits, Making, Settings

DEFAULT_WORKFLOW = Path(__file__).with_name("face_detailer.json")
DESCRIPTION = """\
Run a workflow over every picture or clip of a folder.

    {prog} IN OUT --workflow FILE        children of this process, one for each GPU
    {prog} IN OUT --servers URL[,URL…]   ComfyUI servers that run already
    {prog} IN OUT --ray [ADDRESS]        actors of a Ray cluster, or of Ray on this machine
    {prog} --status OUT                  how far the run in OUT is
    {prog} --report OUT                  what became of each unit

Without --workflow the faces of each picture are detailed with --checkpoint FILE. A run that was
stopped, or killed, goes on with the same command. What is finished is not done again, unless an
input, the workflow, a setting or a model file has changed.

Beside an input, NAME.set.json may hold overrides for that file: {{"NODE.INPUT": value}}."""
EPILOG = """\
exit status: 0 all done; 3 some units were set aside; 1 the run could not go on; 130 interrupted.
Ctrl-C finishes what is at work; twice stops at once."""


def parser(
    prog: str = "detailers-folder",
    add_place: Callable[[argparse.ArgumentParser], None] | None = None,
) -> argparse.ArgumentParser:
    """The command's options.

    Args:
        add_place: adds the options that say which ComfyUI.
    """
    made = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} IN OUT [options]",
        description=DESCRIPTION.format(prog=prog),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("source", metavar="IN", nargs="?", help="folder of inputs; subfolders are gone through")
    add("out", metavar="OUT", nargs="?", help="folder for results and the ledger")
    if add_place is not None:
        add_place(made)
    else:
        _add_comfyui(made)
    _add_work(made)
    _add_workers(made)
    _add_telling(made)
    return made


def _add_comfyui(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("which ComfyUI, for children").add_argument
    add("--comfyui", metavar="DIR", help="its folder, the one with main.py")
    add(
        "--python",
        metavar="PY",
        default=sys.executable,
        help="its Python (default: the running one)",
    )


def _add_work(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("what is done").add_argument
    add("--workflow", metavar="FILE", help="as exported for the API, or as saved in the editor")
    add("--checkpoint", metavar="FILE", help="of the default workflow, or to be offered to yours")
    add(
        "--input-node",
        metavar="NODE",
        help="id, title or class of the node that takes the input, where several load",
    )
    add(
        "--set",
        metavar="NODE.INPUT=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override an input of a node; may be given several times",
    )
    add(
        "--seed",
        choices=SEEDS,
        default="fixed",
        help="as in the workflow, or another for each file, from its bytes (default: fixed)",
    )
    add(
        "--format",
        choices=FORMATS,
        default="same",
        help="of results; same is the input's where it can be written, else png",
    )
    add("--quality", type=int, default=95, help="of jpg and webp (default: %(default)s)")
    add(
        "--metadata",
        choices=METADATA,
        default="all",
        help="what results carry: source is the input's EXIF and XMP, workflow ComfyUI's (default: "
        "all). The colour profile stays in any case",
    )
    add(
        "--split-video",
        metavar="HOW",
        default="",
        help="cut clips into units and join the results: shots, or a number of frames",
    )
    add("--retry", action="store_true", help="try those again that were set aside")


def _add_workers(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("who does it").add_argument
    add("--servers", metavar="URL[,URL…]", help="ComfyUI servers that run already")
    add(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="local",
        help="a Ray cluster, such as auto or ray://host:10001; without ADDRESS, Ray here",
    )
    add("--workers", type=int, metavar="N", help="children or actors (default: one for each GPU)")
    add(
        "--cpus-per-worker",
        type=float,
        metavar="N",
        help="actors that take so many CPUs each and no GPU",
    )
    add(
        "--copy",
        action="store_true",
        help="send files through Ray, where the machines share no storage",
    )
    add(
        "--pack",
        metavar="DIR",
        action="append",
        default=[],
        dest="packs",
        help="load these custom nodes too; may be given several times",
    )
    add(
        "--models",
        metavar="DIR",
        action="append",
        default=[],
        help="look for model files here too; laid out as ComfyUI/models",
    )
    add(
        "--comfyui-arg",
        metavar="ARG",
        action="append",
        default=[],
        dest="comfyui_args",
        help="hand this on to ComfyUI, such as --comfyui-arg=--lowvram",
    )
    add(
        "--in-flight",
        type=int,
        choices=(1, 2),
        default=2,
        help="units that a worker has: one at work and one behind it (default: %(default)s)",
    )
    add(
        "--unit-timeout",
        type=float,
        default=Limits.unit,
        metavar="S",
        help="seconds until a unit counts as hung (default: %(default)g)",
    )
    add(
        "--answer-timeout",
        type=float,
        default=Limits.answer,
        metavar="S",
        help="seconds for an answer of a server (default: %(default)g)",
    )
    add(
        "--patience",
        type=float,
        default=Limits.patience,
        metavar="S",
        help="seconds until a server of --servers that is away is left (default: %(default)g)",
    )


def _add_telling(made: argparse.ArgumentParser) -> None:
    add = made.add_argument_group("what is told").add_argument
    add("--json", action="store_true", help="JSON lines, for programs")
    add("--status", metavar="OUT", help="tell how far the run in OUT is")
    add("--report", metavar="OUT", help="tell what became of each unit of the run in OUT")


def main(
    arguments: Sequence[str] | None = None, made: argparse.ArgumentParser | None = None
) -> int:
    """Run the command; its exit status."""
    made = made or parser()
    options = made.parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.status or options.report:
            return tell(options)
        check(made, options)
        return run(options)
    except Problem as problem:
        if options.json:
            print(json.dumps({"event": "problem", "text": str(problem)}))
        print(f"{made.prog}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who read along has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def tell(options: argparse.Namespace) -> int:
    out = _path(options.status or options.report)
    if options.json:
        found = [report.status(out)] if options.status else report.records(out)
        for entry in found:
            print(json.dumps(entry))
        return 0
    for line in report.status_lines(out) if options.status else report.report_lines(out):
        print(line)
    return 0


def check(made: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message where options do not fit together."""
    if not options.source or not options.out:
        made.error("name the folders IN and OUT")
    if options.servers and options.ray:
        made.error("--servers and --ray exclude each other")
    if not options.servers and not options.comfyui:
        made.error("say which ComfyUI: --comfyui DIR or --servers URL")
    if not options.workflow and not options.checkpoint:
        made.error("the default workflow needs --checkpoint FILE; or give a --workflow FILE")
    if options.split_video and not re.fullmatch(r"shots|[1-9]\d*", options.split_video):
        made.error("--split-video: write shots, or a number of frames")
    if not 1 <= options.quality <= 100:
        made.error("--quality: a number from 1 to 100")
    if options.workers is not None and options.workers < 1:
        made.error("--workers: a number from 1 up")
    for name in ("unit_timeout", "answer_timeout", "patience"):
        if not getattr(options, name) > 0:
            made.error(f"--{name.replace('_', '-')}: a number of seconds above 0")
    for name, paths in (("--pack", options.packs), ("--models", options.models)):
        for path in paths:
            if not _path(path).is_dir():
                made.error(f"{name}: there is no folder {path}")
    if options.checkpoint and not options.servers and not _path(options.checkpoint).is_file():
        made.error(f"--checkpoint: there is no file {options.checkpoint}")
    if options.comfyui and not (_path(options.comfyui) / "main.py").is_file():
        made.error(f"--comfyui: {options.comfyui} has no main.py")


def run(options: argparse.Namespace) -> int:
    from .driver import Driver, Wanted

    settings = Settings(
        folders=Folders(_path(options.source), _path(options.out)),
        making=Making(
            options.format, options.quality, options.metadata, options.seed, options.split_video
        ),
        limits=Limits(
            unit=options.unit_timeout, answer=options.answer_timeout, patience=options.patience
        ),
        lanes=options.in_flight,
        copy=options.copy,
        retry=options.retry,
    )
    checkpoint = _path(options.checkpoint) if options.checkpoint else None
    wanted = Wanted(
        _path(options.workflow) if options.workflow else DEFAULT_WORKFLOW,
        options.input_node,
        (*default_overrides(options), *options.overrides),
        checkpoint if checkpoint and checkpoint.is_file() else None,
        is_default=not options.workflow,
    )
    return Driver(settings, wanted, crew(options, settings), options.json).run()


def default_overrides(options: argparse.Namespace) -> list[str]:
    """The checkpoint of the default workflow, by its name."""
    if options.workflow:
        return []
    return [f"CheckpointLoaderSimple.ckpt_name={Path(options.checkpoint).name}"]


def crew(options: argparse.Namespace, settings: Settings):
    """The workers that the options ask for."""
    from .crew import foreign_crew, own_crew

    if options.servers:
        urls = [url.strip() for url in options.servers.split(",") if url.strip()]
        return foreign_crew(urls, settings.limits, settings.lanes)
    comfy = Comfy(
        tree=_path(options.comfyui),
        python=options.python,
        packs=tuple(_path(pack) for pack in options.packs),
        models=tuple(_path(models) for models in options.models),
        checkpoint=_path(options.checkpoint) if options.checkpoint else None,
        args=tuple(options.comfyui_args),
    )
    metadata = settings.making.keeps_workflow
    if options.ray:
        from .ray_places import ray_crew

        return ray_crew(
            comfy, settings, options.ray, options.workers, options.cpus_per_worker, metadata
        )
    return own_crew(comfy, settings.limits, settings.lanes, options.workers, metadata)


def _path(text: str) -> Path:
    """A path as seen from where the program was started."""
    here = Path(os.environ.get("DETAILERS_STARTED_IN", "."))
    return (here / Path(text).expanduser()).absolute()


if __name__ == "__main__":
    sys.exit(main())
