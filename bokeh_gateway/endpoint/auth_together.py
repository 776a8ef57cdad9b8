"""What the processes of a gateway know together of who is signed in; times are seconds of the epoch.

Only digests are in the shared memory, each for as long as it is of use.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from bokeh_gateway.balance.session_table import SessionTable

REMEMBERED: Final = 4096
"""Subjects of whom this process knows what it wrote; it only saves writing it again."""


class Newest:
    """When the newest credential of somebody ends that any process has seen."""

    def __init__(self, table: SessionTable) -> None:
        self._table = table
        self._written: dict[str, float] = {}

    def seen(self, subject: str, expires: float, now: float) -> None:
        """A request came with a credential of this subject."""
        if self._written.get(subject, 0.0) >= expires:
            return
        if len(self._written) >= REMEMBERED:
            self._written.clear()
        self._written[subject] = expires
        key, ends = _key(subject, b"newest"), int(expires * 1000)
        with self._table.lock:
            before = self._table.get(key, now)
            if before is None or before.value < ends:
                self._table.put(key, ends, now, expires - now)

    def of(self, subject: str, now: float) -> float:
        """0.0 where none is known that has not ended."""
        with self._table.lock:
            found = self._table.get(_key(subject, b"newest"), now)
        return found.value / 1000 if found is not None else 0.0


class Claims:
    """What one process does for all."""

    def __init__(self, table: SessionTable) -> None:
        self._table = table

    def take(self, name: str, now: float, keeps: float) -> bool:
        """Whether it is this process's to do: nobody took it in the last `keeps` seconds, or it was given back."""
        key = _key(name, b"claim")
        with self._table.lock:
            if self._table.get(key, now) is not None:
                return False
            self._table.put(key, 1, now, keeps)
            return True

    def give_back(self, name: str) -> None:
        """It was not done; whoever wants it next may try."""
        with self._table.lock:
            self._table.remove(_key(name, b"claim"))


def _key(name: str, purpose: bytes) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, person=purpose).digest()
