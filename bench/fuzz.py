"""Random wildcard texts and YAML files, any number of them."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from pathlib import Path

from dev import options

from .pack import load_pack

ROUND = 10_000  # texts that one run of hypothesis draws: it remembers them all


def main() -> int:
    args = options.bench_fuzz().parse_args()
    load_pack()
    from detailers.tests import fuzz

    logging.disable(logging.WARNING)
    start, done, number = time.monotonic(), 0, args.first
    with tempfile.TemporaryDirectory() as folder:
        library = fuzz.library_in(Path(folder))
        while done < args.examples:
            count = min(ROUND, args.examples - done)
            texts = (count + 1) // 2
            fuzz.fuzz(fuzz.TEXTS, lambda text: fuzz.check_text(text, library), texts, number)
            if count > texts:
                fuzz.fuzz(fuzz.YAML, fuzz.check_yaml, count - texts, number)
            done, number = done + count, number + 1
            each = (time.monotonic() - start) / done * 1e3
            print(f"{done} of {args.examples}, {each:.2f} ms each", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
