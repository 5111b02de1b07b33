"""The cost of large and hostile wildcard files, in seconds and memory."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from dev import options

from .pack import load_pack


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Do something, and print its time and the growth of the process."""
    process = psutil.Process()
    before, start = process.memory_info().rss, time.monotonic()
    result = work()
    seconds = time.monotonic() - start
    grown = (process.memory_info().rss - before) / 2**20
    print(f"{what:<64}{seconds:9.3f} s {grown:+9.1f} MB", flush=True)
    return result


def write_many(folder: Path, files: int, megabytes: int) -> None:
    """Write `files` text files into a hundred folders, with this size together."""
    lines = max(1, megabytes * 2**20 // files // 50)
    for number in range(files):
        path = folder / f"folder{number % 100}" / f"list{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"option {number:>6} of line {i:>8} {'x' * 18}\n"
                                for i in range(lines)))  # fmt: skip


def main() -> int:
    args = options.bench_wildcards().parse_args()
    load_pack()
    from detailers.core.graph import legacy
    from detailers.wildcards.grammar import WildcardError, expand
    from detailers.wildcards.library import Library

    logging.disable(logging.WARNING)

    def draw(text: str, library: Library) -> str:
        try:
            return expand(text, 1, library)
        except WildcardError as error:
            return str(error)

    with tempfile.TemporaryDirectory() as base:
        many = Path(base, "many")
        many.mkdir()
        write_many(many, args.files, args.megabytes)
        library = timed("start", lambda: Library([many]))
        timed(f"all names of {args.files} files", library.names)
        timed("all names again", library.names)
        timed("first draw", lambda: draw("__folder7/list7__", library))
        timed("next draw", lambda: draw("__folder7/list7__", library))
        timed("first __*__", lambda: draw("__*__", library))
        timed("sixteen __*__", lambda: draw("__*__ " * 16, library))
        timed("12,000 unknown names",
              lambda: draw(" ".join(f"__no{i}__" for i in range(12_000)), library))  # fmt: skip
        hostile = Path(base, "hostile")
        hostile.mkdir()
        options_of_one = "".join(f"  - option {i}\n" for i in range(4000))
        aliases = "".join(f"k{i}: *many\n" for i in range(2000))
        (hostile / "a.yaml").write_text(f"many: &many\n{options_of_one}{aliases}")
        library = Library([hostile])
        timed("names of a YAML list under 2,000 aliases", library.names)
        timed("first draw of all of them", lambda: draw("__*__", library))
        timed("next draw", lambda: draw("__*__", library))
    prompt = {
        str(i): {"class_type": "DetailerForEach", "inputs": {"image": [str(i - 1), 0]}}
        for i in range(4000)
    }
    nothing = legacy.Interfaces(lambda *_: None, lambda *_: (), lambda *_: [])
    timed("upgrade of a prompt of 4,000 nodes",
          lambda: legacy.upgrade(prompt, {"DetailerForEach": {"image": "IMAGE"}},
                                 {"DetailerForEach": object}, nothing))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
