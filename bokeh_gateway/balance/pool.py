"""Workers, and the pools of those that serve the same apps.  Pure: whoever probes them sets their flags."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal

from bokeh_gateway.bokeh.session_id import worker_key

if TYPE_CHECKING:
    from bokeh_gateway.config.address import Address

Kind = Literal["bokeh", "http"]

UNUSED_LIFETIME: Final = 15.0
"""Seconds: `bokeh serve --unused-session-lifetime` where nobody sets it."""


class Worker:
    """One `bokeh serve` process, or one server of a plain pool."""

    __slots__ = ("address", "draining", "index", "keeps", "key", "name", "seed", "slow", "up", "weight")

    def __init__(self, name: str, address: Address, *, index: int, weight: float = 1.0, up: bool = True) -> None:
        """`name` lasts as long as the worker's sessions should find it; `index` is its column on the board.

        Raises:
            ValueError: the weight is not positive.
        """
        if not weight > 0:
            raise ValueError(f"{name}: weight = {weight}: expected more than 0")
        self.name = name
        self.key = worker_key(name)
        """Stands for `name` in session ids."""
        self.seed = int.from_bytes(blake2b(self.key.encode(), digest_size=8).digest(), "big")
        """64 bits that stand for `name` in rendezvous hashing."""
        self.address = address
        self.weight = weight
        self.index = index
        self.up = up
        """The last probe, or the last connection, found it."""
        self.draining = False
        """Gets no new sessions; those it has still reach it."""
        self.keeps = UNUSED_LIFETIME
        """Seconds that it keeps a session to which nobody is connected."""
        self.slow = False
        """Gets new sessions only when every other one is gone."""

    @property
    def available(self) -> bool:
        """May get new sessions."""
        return self.up and not self.draining

    def __repr__(self) -> str:
        return f"<Worker {self.name} at {self.address}>"


def available(worker: Worker) -> bool:
    """`worker.available`, for `filter`."""
    return worker.up and not worker.draining


class Pool:
    """Workers that serve the same apps: any of them can serve a new session."""

    __slots__ = ("by_key", "kind", "name", "workers")

    def __init__(self, name: str, kind: Kind, workers: Sequence[Worker]) -> None:
        """Raises:
        ValueError: two workers have one name, or names with one key: sessions of one would reach the other.
        """
        self.name = name
        self.kind = kind
        self.workers = tuple(workers)
        self.by_key: dict[str, Worker] = {}
        for worker in self.workers:
            other = self.by_key.setdefault(worker.key, worker)
            if other is not worker:
                raise ValueError(f"pool {name}: workers {other.name} and {worker.name} have the same key: rename one")

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self.workers)} workers>"
