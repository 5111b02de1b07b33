"""The budget for drawing texts: files, comparisons and time.

The counts of files and comparisons do not depend on the machine or on what is in memory, so a text
that exceeds them is refused everywhere. Time is the last resort, for slow disks and for work that
is not counted. When the budget is used up, a text is refused; it is never drawn differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

MOST_BYTES = 512 * 2**20  # size of all files with lists that are used, each counted once
MOST_OPTIONS = 20_000_000  # options and names that are compared
MOST_SECONDS = 60.0
_STEP = 1000  # entries between two checks of the time

T = TypeVar("T")


class WildcardError(ValueError):
    """A text cannot be expanded: its lists contain themselves, or it exceeds the budget."""


class Budget:
    """The budget of one text, or of all texts of one prompt together.

    Time is counted from the first use. Once a part of the budget is used up, the budget has ended,
    and every later text that needs it is refused.
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
        self.ended = ""  # the reason, as a sentence; "" before the end

    def need_files(self, sizes: Mapping[Path, int]) -> None:
        """Count files that are about to be read, or were read before.

        Args:
            sizes: the size of each file in bytes.

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
        """Count options or names that are about to be compared.

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
        """Check the time.

        Raises:
            WildcardError: the work has taken too long, or the budget has ended.
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
        """The entries, with checks of the time in between.

        Raises:
            WildcardError: as of `need_time`.
        """
        for place, entry in enumerate(entries):
            if place % _STEP == 0:
                self.need_time()
            yield entry

    def _refuse(self, why: str) -> None:
        self.ended = self.ended or why
        raise WildcardError(self.ended)
