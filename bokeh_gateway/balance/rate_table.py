"""How often something was done under a name within a while: a table in shared memory, of bounded size.

An entry stands in one of the `WINDOW` places from its key's own on.  Where all are taken, the one with the lowest count
makes room, among those the oldest: many addresses that did something once push each other out, and not the one that
has used up what it may.  Keys are digests under a secret: nobody can choose names that share a window.

What counts, and for how long, is the caller's to say.  Calls want the lock held (`with rates.lock:`).
"""

from __future__ import annotations

import mmap
from hashlib import blake2b
from struct import Struct
from typing import Final

from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.places import find_entry

SLOTS: Final = 1 << 16
"""2 MiB; what was never used is no memory."""
WINDOW: Final = 32

_ENTRY: Final = Struct("=16sdII")
_VALUE: Final = Struct("=dII")
_KEY: Final = 16
_SIZE: Final = _ENTRY.size
_NO_KEY: Final = bytes(_KEY)

Counted = tuple[float, int, int]
"""When its first was counted, how many were, and how many are under way."""


def rate_table_size(slots: int = SLOTS) -> int:
    """Bytes of a table."""
    return (slots + WINDOW - 1) * _SIZE


class RateTable:
    """`fd` is memory of `rate_table_size` bytes from `offset` on that others map too."""

    def __init__(self, lock: Lock, fd: int = -1, offset: int = 0, slots: int = SLOTS) -> None:
        self.lock = lock
        self._slots = slots
        self._memory = mmap.mmap(fd, rate_table_size(slots), offset=offset)

    def get(self, key: bytes) -> Counted | None:
        """What is known of `key`, however old."""
        at = self._find(key)
        return _VALUE.unpack_from(self._memory, at + _KEY) if at >= 0 else None

    def put(self, key: bytes, counted: Counted, over: float) -> None:
        """Remembers it; what began at `over` or before is of no use to anybody."""
        at = self._find(key)
        if at < 0:
            at = self._place(key, over)
            self._memory[at : at + _KEY] = _NO_KEY
        _VALUE.pack_into(self._memory, at + _KEY, *counted)
        self._memory[at : at + _KEY] = key

    def _window(self, key: bytes) -> int:
        return int.from_bytes(key[:4], "little") % self._slots * _SIZE

    def _find(self, key: bytes) -> int:
        start = self._window(key)
        return find_entry(self._memory, key, start, start + WINDOW * _SIZE, _SIZE)

    def _place(self, key: bytes, over: float) -> int:
        start = self._window(key)
        victim, least = start, (1 << 33, 0.0)
        entries = _ENTRY.iter_unpack(self._memory[start : start + WINDOW * _SIZE])
        for number, (found, began, count, running) in enumerate(entries):
            if found == _NO_KEY or began <= over:
                return start + number * _SIZE
            if (count + running, began) < least:
                victim, least = start + number * _SIZE, (count + running, began)
        return victim


class Rates:
    """What the table holds of one kind of thing, by names as people write them."""

    __slots__ = ("_kind", "_secret", "_table", "lock")

    def __init__(self, table: RateTable, kind: bytes, secret: bytes) -> None:
        self.lock = table.lock
        self._table = table
        self._kind = kind
        self._secret = secret

    def get(self, name: str) -> Counted | None:
        """What is known of `name`, however old."""
        return self._table.get(self._key(name))

    def put(self, name: str, counted: Counted, over: float) -> None:
        """Remembers it; what began at `over` or before is of no use to anybody."""
        self._table.put(self._key(name), counted, over)

    def _key(self, name: str) -> bytes:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=_KEY, person=self._kind)
        return digest.digest()
