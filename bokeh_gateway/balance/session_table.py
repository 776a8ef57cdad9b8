"""What all processes know of sessions: a table in shared memory from a key to a number, with who has it open.

An entry is remembered while a process has it open, and for `keeps` seconds after `stamp`.  Keys are 16 bytes of a good
hash; one may only stand in the `WINDOW` places from its own on, so nothing has to be cleaned up or moved: what is
remembered no longer is overwritten.  The places are in levels, each twice as large as the one before, and a level is
used when a window of those before it is full: memory that nobody has written to is none, and a few sessions stay on a
few pages of it.  Where all windows of a key are full, the entry that would end first makes room; one that is open never
does.

Calls want the lock held (`with table.lock:`).  A key is written last and taken away first, so that a process
killed in the middle leaves an entry that is whole, or none.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct
from typing import Final, NamedTuple

from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.places import find_entry

SLOTS: Final = 1 << 16
WINDOW: Final = 32
"""Places to look at in a level.  With three quarters of them taken, hardly any key finds its window full."""
FIRST_LEVEL: Final = 1 << 10

_ENTRY: Final = Struct("=16sQdd32s")
_VALUE: Final = Struct("=Qdd32s")
_KEY: Final = 16
_SIZE: Final = _ENTRY.size
_OPEN_AT: Final = _SIZE - 32
_LEVELS_IN_USE: Final = Struct("=Q")
"""Besides the first; at the very end."""
_NO_KEY: Final = bytes(_KEY)
_NOBODY: Final = bytes(32)


class Entry(NamedTuple):
    """What is known of a key."""

    value: int
    """Unsigned, 64 bits."""
    stamp: float
    """Seconds, the clock that all processes of a machine share."""
    keeps: float
    """Seconds after `stamp`."""
    open: bytes
    """One bit a process, by its row."""

    def lives(self, now: float) -> bool:
        """Whether it is remembered."""
        return self.open != _NOBODY or now < self.stamp + self.keeps


def table_size(slots: int = SLOTS) -> int:
    """Bytes of a table."""
    return (slots + WINDOW - 1) * _SIZE + _LEVELS_IN_USE.size


def levels_of(slots: int) -> list[tuple[int, int]]:
    """First place and number of places of each level."""
    levels, first, size = [], 0, FIRST_LEVEL
    while first < slots:
        size = min(size, slots - first)
        levels.append((first, size))
        first, size = first + size, size * 2
    return levels


class SessionTable:
    """`slots` places.  `fd` is memory of `table_size` bytes from `offset` on that others map too."""

    def __init__(self, lock: Lock, slots: int = SLOTS, fd: int = -1, offset: int = 0) -> None:
        self.lock = lock
        self._levels = levels_of(slots)
        self._in_use_at = table_size(slots) - _LEVELS_IN_USE.size
        self._file = fd, offset
        # The last windows of a level reach beyond its last place, so that none has to begin again at the first.
        self._memory = mmap.mmap(fd, table_size(slots), offset=offset)

    def get(self, key: bytes, now: float) -> Entry | None:
        """What is remembered of `key`."""
        at = self._find(key)
        if at < 0:
            return None
        entry = self._entry(at)
        return entry if entry.lives(now) else None

    def put(self, key: bytes, value: int, now: float, keeps: float) -> bool:
        """Remembers `value` from now on; who has it open stays, if it is the same value.

        False: the places of its window are all open, and nothing was remembered.
        """
        at = self._find(key)
        if at >= 0:
            before = self._entry(at)
            same = before.value == value and before.open != _NOBODY
            _VALUE.pack_into(self._memory, at + _KEY, value, now, keeps, before.open if same else _NOBODY)
            return True
        at = self._place(key, now)
        if at < 0:
            return False
        memory = self._memory
        memory[at : at + _KEY] = _NO_KEY
        _VALUE.pack_into(memory, at + _KEY, value, now, keeps, _NOBODY)
        memory[at : at + _KEY] = key
        return True

    def set_open(self, key: bytes, row: int, is_open: bool) -> None:
        """Process `row` has it open, or no longer; nothing where it is not known."""
        at = self._find(key)
        if at >= 0:
            bit = at + _OPEN_AT + (row >> 3)
            mask = 1 << (row & 7)
            self._memory[bit] = self._memory[bit] | mask if is_open else self._memory[bit] & ~mask

    def remove(self, key: bytes) -> None:
        """Forgets it at once."""
        at = self._find(key)
        if at >= 0:
            self._memory[at : at + _KEY] = _NO_KEY

    def leave(self, row: int, now: float, *, remove: bool = False) -> None:
        """Process `row` has ended.  What it alone had open is remembered from now on for `keeps`, or removed.

        Takes the lock by itself, for each entry: to look through the whole table takes longer than others may wait.
        """
        byte, mask = row >> 3, 1 << (row & 7)
        column = self._all()[_OPEN_AT + byte :: _SIZE]
        for number in [number for number, bits in enumerate(column) if bits & mask]:
            at = number * _SIZE
            with self.lock:
                entry = self._entry(at)
                if not entry.open[byte] & mask:
                    continue
                if remove:
                    self._memory[at : at + _KEY] = _NO_KEY
                self._memory[at + _OPEN_AT + byte] &= ~mask
                if self._entry(at).open == _NOBODY:
                    _VALUE.pack_into(self._memory, at + _KEY, entry.value, now, entry.keeps, _NOBODY)

    def values(self) -> list[int]:
        """Of all entries, remembered or not."""
        return [value for key, value, _, _, _ in _ENTRY.iter_unpack(self._all()) if key != _NO_KEY]

    def _all(self) -> bytes:
        fd, offset = self._file
        # Read and not mapped: to look at places that nobody ever used does not give them memory.
        return os.pread(fd, self._in_use_at, offset) if fd >= 0 else self._memory[: self._in_use_at]

    def _windows(self, key: bytes) -> list[int]:
        """Where the key's windows begin, in the levels that are in use."""
        home = int.from_bytes(key[:4], "little")
        (more,) = _LEVELS_IN_USE.unpack_from(self._memory, self._in_use_at)
        return [(first + home % size) * _SIZE for first, size in self._levels[: 1 + more]]

    def _find(self, key: bytes) -> int:
        """Where it stands; -1: nowhere."""
        for start in self._windows(key):
            at = find_entry(self._memory, key, start, start + WINDOW * _SIZE, _SIZE)
            if at >= 0:
                return at
        return -1

    def _place(self, key: bytes, now: float) -> int:
        """Where it can be put; -1: nowhere."""
        victim, first = -1, float("inf")
        windows = self._windows(key)
        for start in windows:
            for at in range(start, start + WINDOW * _SIZE, _SIZE):
                if self._memory[at : at + _KEY] == _NO_KEY:
                    return at
                entry = self._entry(at)
                if entry.open != _NOBODY:
                    continue
                ends = entry.stamp + entry.keeps
                if ends <= now:
                    return at
                if ends < first:
                    victim, first = at, ends
        if len(windows) < len(self._levels):
            _LEVELS_IN_USE.pack_into(self._memory, self._in_use_at, len(windows))
            return self._place(key, now)
        return victim

    def _entry(self, at: int) -> Entry:
        return Entry(*_VALUE.unpack_from(self._memory, at + _KEY))
