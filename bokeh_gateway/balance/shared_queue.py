"""The queues of all pools in shared memory, so that a browser keeps its place whichever process it asks.

Few wait and they ask every few seconds, so a queue is read and written whole.  Every call wants the lock held, from
`take` to `keep`.
"""

from __future__ import annotations

import mmap
from hashlib import blake2b
from struct import Struct
from typing import Final

from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.queue import SessionQueue, Ticket

PLACES: Final = 4096
"""Browsers that may wait at once, for all pools; `[pool] queue` says how many for one."""

_COUNT: Final = Struct("=Q")
_PLACE: Final = Struct("=8sd8sd")
_POOL: Final = 8


def queues_size() -> int:
    """Bytes of all queues."""
    return _COUNT.size + PLACES * _PLACE.size


class SharedQueues:
    """`fd` is memory of `queues_size` bytes from `offset` on that others map too."""

    def __init__(self, lock: Lock, fd: int = -1, offset: int = 0) -> None:
        self.lock = lock
        self._memory = mmap.mmap(fd, queues_size(), offset=offset)

    def take(self, pool: str, size: int, timeout: float) -> SessionQueue:
        """The queue of a pool: at most `size` may wait, each for `timeout` seconds."""
        name = _name(pool)
        places = self._read()
        mine = {Ticket(joined, random.hex()): seen for key, joined, random, seen in places if key == name}
        others = len(places) - len(mine)
        return SessionQueue(min(size, PLACES - others), timeout, mine)

    def keep(self, pool: str, queue: SessionQueue) -> None:
        """What became of it."""
        name = _name(pool)
        places = [place for place in self._read() if place[0] != name]
        places += [(name, t.joined, bytes.fromhex(t.name), seen) for t, seen in queue.seen.items()]
        places = places[:PLACES]
        packed = b"".join([_PLACE.pack(*place) for place in places])
        self._memory[_COUNT.size : _COUNT.size + len(packed)] = packed
        _COUNT.pack_into(self._memory, 0, len(places))

    def _read(self) -> list[tuple[bytes, float, bytes, float]]:
        (count,) = _COUNT.unpack_from(self._memory)
        return list(_PLACE.iter_unpack(self._memory[_COUNT.size : _COUNT.size + count * _PLACE.size]))


def _name(pool: str) -> bytes:
    return blake2b(pool.encode(), digest_size=_POOL).digest()
