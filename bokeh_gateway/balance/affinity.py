"""The worker that a session belongs to: a pure function of its id, the same in every gateway process and host.

An id that a gateway minted names its worker.  Any other goes where it was placed (`balance.placement`), and where
nothing is remembered of it by rendezvous hashing (Thaler and Ravishankar 1998, with
weights as in Schindelhauer and Schomaker 2005): when a worker comes or goes, only sessions of that worker move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from math import log
from typing import Final, NamedTuple

from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.bokeh.session_id import hint

_BITS: Final = 52
"""Of the hash: as many as a float holds with half a step added, so that the logarithm is of neither 0 nor 1."""

_LAST: Final = 1e6
"""Puts a backup behind every worker that is none: the logarithm is below 40."""
_STEPS: Final = 1 << _BITS
_MASK: Final = (1 << 64) - 1


class Choice(NamedTuple):
    """Where a session goes."""

    worker: Worker
    moved: bool
    """The id names a worker that is gone: whatever the session was, it starts anew here."""
    placed: bytes | None = None
    """The session's key in the table of placements, where its id names no worker."""


def choose(pool: Pool, session_id: str, place: Callable[[Pool, str], Choice | None] | None = None) -> Choice | None:
    """The worker of `session_id`; None when no worker of the pool can be used.

    A draining worker keeps the sessions that name it: their pages wait for nothing but a WebSocket there.
    `place` is asked where the id names no worker; without it the hash decides.
    """
    key = hint(session_id)
    if key is not None:
        named = pool.by_key.get(key)
        if named is not None and named.up:
            return Choice(named, False)
    elif place is not None:
        return place(pool, session_id)
    worker = rendezvous(pool.workers, session_id)
    return None if worker is None else Choice(worker, key is not None)


def rendezvous(workers: Iterable[Worker], session_id: str) -> Worker | None:
    """The available worker whose hash with `session_id` is best; chosen as often as its weight says."""
    digest = blake2b(session_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    hashed = int.from_bytes(digest, "big")
    best, lowest = None, float("inf")
    for worker in workers:
        if not worker.up or worker.draining:
            continue
        # The smallest -ln(u) / w is the first arrival of Poisson processes with rates w.
        rank = -log((_mixed(hashed ^ worker.seed) + 0.5) / _STEPS) / worker.weight
        if worker.backup:
            rank += _LAST
        if rank < lowest:
            best, lowest = worker, rank
    return best


def _mixed(number: int) -> int:
    """`_BITS` bits that depend on all 64 of `number`, which is random already: two thirds of splitmix64's finaliser.

    Half the price of a proper hash for each worker.
    """
    number = number * 0xBF58476D1CE4E5B9 & _MASK
    return ((number ^ number >> 27) * 0x94D049BB133111EB & _MASK) >> (64 - _BITS)
