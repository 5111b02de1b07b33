"""What drawing texts may cost: files, comparisons and time.

Files and comparisons are counted in a way that knows nothing of the machine or of what it has in
memory, so a text that is refused for them is refused everywhere. Time is the last resort, for slow
disks and what is not counted. Whatever ends the budget, a text is refused and never drawn
differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

MOST_BYTES = 512 * 2**20  # of the files that the names lead to, each file once
MOST_OPTIONS = 20_000_000  # options and names that are compared with one another
MOST_SECONDS = 60.0
_STEP = 1000  # entries between two looks at the clock

T = TypeVar("T")


class WildcardError(ValueError):
    """A text cannot be resolved: its lists lead back to themselves, or it costs too much."""


class Budget:
    """What one text, or the texts of one prompt, may cost all together.

    Time runs from the first use. Once something is spent, the budget has ended: from then on every
    text is refused that needs any of it.
    """

    def __init__(
        self,
        *,
        most_bytes: int = MOST_BYTES,
        options: int = MOST_OPTIONS,
        seconds: float = MOST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_bytes = most_bytes
        self._options = options
        self._seconds = seconds
        self._clock = clock
        self._end: float | None = None
        self._files: set[Path] = set()
        self._bytes = 0
        self._looked_at = 0
        self.ended = ""  # why, as a sentence; "" while it has not

    def need_files(self, sizes: Mapping[Path, int]) -> None:
        """Files are about to be read, or were before.

        Args:
            sizes: in bytes.

        Raises:
            WildcardError: all files together are too large.
        """
        new = sizes.keys() - self._files
        self._files |= new
        self._bytes += sum(max(sizes[path], 0) for path in new)
        if self._bytes > self._most_bytes:
            self._refuse(
                f"The wildcards lead to files of more than {self._most_bytes / 2**20:,.0f} MiB "
                "together. Draw from fewer or smaller lists: name them instead of using *."
            )
        self.need_time()

    def look_at(self, options: int) -> None:
        """So many options or names are about to be compared.

        Raises:
            WildcardError: all together are too many.
        """
        self._looked_at += options
        if self._looked_at > self._options:
            self._refuse(
                f"The wildcards look through more than {self._options:,} options and names. Draw "
                "from fewer or smaller lists: name them instead of using *."
            )

    def need_time(self) -> None:
        """Something goes on.

        Raises:
            WildcardError: it has taken too long.
        """
        if self.ended:
            raise WildcardError(self.ended)
        now = self._clock()
        if self._end is None:
            self._end = now + self._seconds
        elif now > self._end:
            self._refuse(
                f"To draw the wildcards takes more than {self._seconds:,.0f} seconds. What was "
                "read so far is kept, so it may do to queue the prompt again; or draw from fewer "
                "or smaller lists."
            )

    def timed(self, entries: Iterable[T]) -> Iterator[T]:
        """The entries, while there is time."""
        for place, entry in enumerate(entries):
            if place % _STEP == 0:
                self.need_time()
            yield entry

    def _refuse(self, why: str) -> None:
        self.ended = self.ended or why
        raise WildcardError(self.ended)
