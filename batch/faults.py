"""What can go wrong, by who has to act."""

from __future__ import annotations

import errno

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
NO_ROOM_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")


class Problem(Exception):
    """Ends the run with this text: what is wrong, and how to mend it."""


class UnitFault(Exception):
    """A unit failed on a server that works; it may be tried again."""


class NotFinite(UnitFault):
    """A picture came back without one finite value: the server may be at fault."""


class SourceChanged(UnitFault):
    """The input file is not what it was when it was hashed."""


class ServerFault(Exception):
    """A server died, hangs or answers garbage; its units go back.

    Attributes:
        running: whether the unit was being run then, or only waited in the server's queue.
    """

    def __init__(self, text: str, running: bool = True):
        super().__init__(text)
        self.running = running


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk has no room, or takes nothing."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return any(words in str(error).lower() for words in NO_ROOM_WORDS)
