"""A lock for what several processes write: taken for microseconds, and let go by the kernel when its holder is killed.

A POSIX record lock, as it belongs to a process and not to a descriptor: descriptors that were handed on share an open
file, and `flock` would not keep their holders apart.
"""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from typing import Final

TRIES: Final = 20_000
"""Then it goes on without: tens of milliseconds, so its holder was stopped in the middle, and that shall stop no other
process.  What is written without the lock may lose a line, never more."""


class Lock:
    """Of the file `fd`, which stays the caller's; -1: of nobody, for memory that is not shared.

    Who has it may take it again.
    """

    __slots__ = ("_depth", "_fd", "forced")

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd
        self._depth = 0
        self.forced = 0
        """How often it went on without."""

    def __enter__(self) -> None:
        self._depth += 1
        fd = self._fd
        if fd < 0 or self._depth > 1:
            return
        for _ in range(TRIES):
            try:
                lockf(fd, LOCK_EX | LOCK_NB)
            except (BlockingIOError, PermissionError):
                os.sched_yield()
            else:
                return
        self.forced += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._fd >= 0 and not self._depth:
            lockf(self._fd, LOCK_UN)

    def release_file(self) -> None:
        """The descriptor is about to be of something else: from now on it is nobody's lock."""
        self._fd = -1
