"""How many connections each client has open in each process: a table in shared memory.

One entry a client and process.  Only that process writes it, with what it has open now and not with what has changed,
so an update that got lost is made good by the next one, and what a killed process had open can be told from the rest.
All entries of a client stand in the `WINDOW` places from the key's own on, so they are found by one look.  Keys are
digests under a secret: nobody can choose addresses that share a window.

A key is written last and taken away first, so nobody sees half an entry.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct
from typing import Final

from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.places import find_entry

SLOTS: Final = 1 << 17
"""Six times the clients that the default `[limits] connections` lets in.  2 MiB; what was never used is no memory."""
WINDOW: Final = 32
KEY: Final = 10
"""Bytes."""

_MARK: Final = Struct("<H")
"""Behind the key: the row and 1."""
_COUNT_AT: Final = 12
_COUNT: Final = 4
_SIZE: Final = 16
_NO_KEY: Final = bytes(KEY)


def client_table_size(slots: int = SLOTS) -> int:
    """Bytes of a table."""
    # The last windows reach beyond the last place, so that none has to begin again at the first.
    return (slots + WINDOW - 1) * _SIZE


class ClientTable:
    """`fd` is memory of `client_table_size` bytes from `offset` on that others map too."""

    def __init__(self, lock: Lock, fd: int = -1, offset: int = 0, slots: int = SLOTS) -> None:
        self.lock = lock
        self._slots = slots
        self._file = fd, offset
        self._memory = mmap.mmap(fd, client_table_size(slots), offset=offset)
        # Written and read whole: sums are made without the lock.
        self._counts = memoryview(self._memory).cast("I")

    def put(self, key: bytes, row: int, count: int) -> bool:
        """Process `row` has `count` connections of `key` open.  Wants the lock held.

        False: the window is full of others, and nothing was written.
        """
        if self.update(key, row, count):
            return True
        start = self._window(key)
        at = find_entry(self._memory, _NO_KEY, start, start + WINDOW * _SIZE, _SIZE)
        if at < 0:
            return False
        self._counts[(at + _COUNT_AT) // _COUNT] = count
        self._memory[at + KEY : at + KEY + _MARK.size] = _MARK.pack(row + 1)
        self._memory[at : at + KEY] = key
        return True

    def update(self, key: bytes, row: int, count: int) -> bool:
        """`put` where there is an entry; False: there is none.  Needs no lock, as it takes no place of another's."""
        start = self._window(key)
        at = find_entry(self._memory, key + _MARK.pack(row + 1), start, start + WINDOW * _SIZE, _SIZE)
        if at < 0:
            return False
        if count:
            self._counts[(at + _COUNT_AT) // _COUNT] = count
        else:
            self._memory[at : at + KEY] = _NO_KEY
        return True

    def total(self, key: bytes) -> int:
        """Open connections of `key` in all processes."""
        at = self._window(key)
        end, total = at + WINDOW * _SIZE, 0
        while (at := find_entry(self._memory, key, at, end, _SIZE)) >= 0:
            total += self._counts[(at + _COUNT_AT) // _COUNT]
            at += _SIZE
        return total

    def leave(self, row: int) -> None:
        """Process `row` has ended.  Needs no lock either: nobody writes its entries any more."""
        mark = _MARK.pack(row + 1)
        places = self._all()
        column = places[KEY::_SIZE]
        number = column.find(mark[0])
        while number >= 0:
            at = number * _SIZE
            if places[at + KEY : at + _COUNT_AT] == mark:
                self._memory[at : at + KEY] = _NO_KEY
            number = column.find(mark[0], number + 1)

    def _all(self) -> bytes:
        fd, offset = self._file
        # Read and not mapped: to look at places that nobody ever used does not give them memory.
        return os.pread(fd, len(self._memory), offset) if fd >= 0 else self._memory[:]

    def _window(self, key: bytes) -> int:
        return int.from_bytes(key[:4], "little") % self._slots * _SIZE
