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
_BACKUP: Final = 1e9
"""Load that a backup counts for besides its own: more than any real load."""
_SLOW: Final = 1e12
"""The same for a worker that does not answer: even a backup is better, and it is better than none."""


class Worker:
    """One `bokeh serve` process, or one server of a plain pool."""

    __slots__ = (
        "_slow",
        "address",
        "answered",
        "backup",
        "closed",
        "coming",
        "draining",
        "failures",
        "index",
        "keeps",
        "key",
        "name",
        "penalty",
        "seed",
        "share",
        "slow_start",
        "trial",
        "up",
        "weight",
    )

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        index: int,
        weight: float = 1.0,
        up: bool = True,
        backup: bool = False,
        coming: float = 0.0,
    ) -> None:
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
        """64 bits that stand for `name` in rendezvous hashing, and in tables of sessions."""
        self.address = address
        self.weight = weight
        self.share = weight
        """Of new sessions now: `weight`, but less while a slow start lasts."""
        self.slow_start = 0.0
        """Seconds in which its share grows after it came up; 0: at once."""
        self.backup = backup
        """Gets sessions only while no other worker can."""
        self.index = index
        self.up = up
        """The last probe, or the last connection, found it."""
        self.draining = False
        """Gets no new sessions; those it has still reach it."""
        self.closed = False
        """Its drain is over: what names a session of it goes to another worker."""
        self.keeps = UNUSED_LIFETIME
        """Seconds that it keeps a session to which nobody is connected."""
        self.coming = coming
        """Until then (seconds, the loop's clock) it is worth waiting for: it starts, or was up a moment ago."""
        self.answered = False
        """It took a connection once: when it goes, it may come back."""
        self.failures = 0
        """Bad answers in a row, as `balance.health` counts them."""
        self.trial = False
        """Gets one new session, whose answer decides."""
        self._slow = False
        self.penalty = _BACKUP if backup else 0.0
        """Load that it counts for besides its own."""

    @property
    def slow(self) -> bool:
        """Its loop is blocked: it gets new sessions only when every other one is gone."""
        return self._slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._slow = slow
        self.penalty = (_BACKUP if self.backup else 0.0) + (_SLOW if slow else 0.0)

    def tried(self) -> None:
        """It got the one request of its trial: the answer decides whether it gets more."""
        self.trial = self.up = False

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

    __slots__ = (
        "by_key",
        "by_seed",
        "hold",
        "kind",
        "max_sessions",
        "name",
        "queue",
        "queue_timeout",
        "spread",
        "workers",
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        workers: Sequence[Worker],
        *,
        hold: float = 0.0,
        max_sessions: int | None = None,
        queue: int = 100,
        queue_timeout: float = 300.0,
    ) -> None:
        """Raises:
        ValueError: two workers have one name, or names with one key: sessions of one would reach the other.
        """
        self.name = name
        self.kind = kind
        self.hold = hold
        """Seconds that a request waits for a worker that is coming."""
        self.max_sessions = max_sessions
        """Of one worker; None: no limit."""
        self.queue = queue
        """Browsers that may wait for one."""
        self.queue_timeout = queue_timeout
        """Seconds for which they may."""
        self.spread = True
        """Sessions whose ids other programs made are placed by load; off: by the hash of the id alone."""
        self.workers: tuple[Worker, ...] = ()
        self.by_key: dict[str, Worker] = {}
        self.by_seed: dict[int, Worker] = {}
        self.replace(workers)

    def replace(self, workers: Sequence[Worker]) -> None:
        """These are the workers from now on.

        Raises:
            ValueError: as the constructor does.
        """
        self.workers = tuple(workers)
        self.by_key = {}
        self.by_seed = {worker.seed: worker for worker in self.workers if not worker.closed}
        for worker in self.workers:
            other = self.by_key.setdefault(worker.key, worker)
            if other is not worker:
                both = f"{other.name} and {worker.name}"
                raise ValueError(f"pool {self.name}: workers {both} have the same key: rename one")
        for worker in self.workers:
            if worker.closed:
                del self.by_key[worker.key]

    def worth_waiting(self, now: float) -> bool:
        """Whether a worker starts, or was up a moment ago."""
        return any(worker.coming > now for worker in self.workers)

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self.workers)} workers>"
