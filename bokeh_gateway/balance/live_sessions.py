"""Which sessions are known to live, and on which worker: those with an open WebSocket, and for a while after it. Pure.

The rule, from Bokeh's `_cleanup_sessions` and `create_session_if_needed` (bokeh/server/contexts.py, 3.9): a worker
discards a session only when nobody has been connected to it for `--unused-session-lifetime`.  So a session lives on the
worker where its WebSocket was acknowledged, until that time has passed since the WebSocket ended, unless the worker was
restarted.  `MARGIN` is taken off, for the worker's clock starts later than ours but a busy worker may be slow to open.
Only digests are kept, so that a dump of memory or a debugger shows nobody's session.

All processes of the gateway know the same: a browser seldom comes back to the one that it was connected to.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Protocol

from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.balance.session_table import SessionTable

MARGIN: Final = 5.0
"""Seconds between the last moment that a session is called alive and the first one that a worker may discard it."""


class Connection(Protocol):
    """A WebSocket, as far as it shows whether its session lives."""

    @property
    def acknowledged(self) -> bool:
        """Whether the worker has sent a message: it does so once it has the session, and not before."""


def session_key(path: bytes, session_id: str) -> bytes:
    """Stands for a session: an id names one session in each app, so the path that the worker sees belongs to it."""
    return blake2b(session_id.encode("utf-8", "replace") + b"\0" + path, digest_size=16).digest()


class LiveSessions:
    """Of all pools, as one gateway process (row `row` of the board) sees them.

    `restarts` says by column when a worker was last found gone.
    """

    def __init__(self, table: SessionTable, row: int, restarts: memoryview[float]) -> None:
        self._table = table
        self._row = row
        self._restarts = restarts
        self._open: dict[bytes, tuple[Connection, Worker]] = {}
        self._fresh: dict[bytes, tuple[Connection, Worker]] = {}
        """Open, and not in the table yet: first the worker has to send something."""
        self._released: set[int] = set()
        """Workers, by seed, whose drain is over; no worker that comes later has one of these."""

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, key: bytes, connection: Connection, worker: Worker) -> None:
        """A WebSocket of the session was answered with 101 by `worker`."""
        self._open[key] = self._fresh[key] = (connection, worker)

    def closed(self, key: bytes, connection: Connection, worker: Worker, now: float, *, vanished: bool) -> None:
        """It ended.  `vanished`: the worker's side was cut without a close frame, as when a worker dies."""
        at = self._open.get(key)
        newest = at is not None and at[0] is connection
        if newest:
            del self._open[key]
            self._fresh.pop(key, None)
        elif at is not None and not vanished:
            return  # the newer one shows that the session lives
        table = self._table
        with table.lock:
            if vanished:
                entry = table.get(key, now)
                if entry is not None and entry.value == worker.seed:
                    table.remove(key)
            elif connection.acknowledged:
                table.put(key, worker.seed, now, worker.keeps - margin(worker.keeps))
            table.set_open(key, self._row, False)

    def worker_of(self, key: bytes, pool: Pool, now: float) -> Worker | None:
        """The worker of `pool` where the session lives; None when it is not known to live anywhere."""
        at = self._open.get(key)
        if at is not None and at[0].acknowledged:
            worker: Worker | None = at[1]
        else:
            with self._table.lock:
                entry = self._table.get(key, now)
            worker = pool.by_seed.get(entry.value) if entry is not None else None
            if entry is not None and worker is not None and entry.stamp <= self._restarts[worker.index]:
                return None
        return worker if worker is not None and worker.up and pool.by_seed.get(worker.seed) is worker else None

    def forget(self, worker: Worker, now: float) -> None:
        """The worker ended or could not be reached: it may have been restarted, and has none of its sessions then.

        `now`: the very moment, so that what is said to live later was on the worker that came after it.
        """
        self._restarts[worker.index] = now
        self._open = {key: at for key, at in self._open.items() if at[1] is not worker}
        self._fresh = {key: at for key, at in self._fresh.items() if at[1] is not worker}

    def release(self, worker: Worker, now: float) -> None:
        """The worker's drain is over: the sessions that live there end, and their pages may begin anew elsewhere."""
        self._released.add(worker.seed)
        self.forget(worker, now)

    def keep(self, worker: Worker) -> None:
        """The worker takes sessions again after all."""
        self._released.discard(worker.seed)

    def released(self, key: bytes, now: float) -> bool:
        """Whether the session has just ended with its worker's drain, by the gateway's doing."""
        if not self._released:
            return False
        with self._table.lock:
            entry = self._table.get(key, now)
        return entry is not None and entry.value in self._released

    def publish(self, now: float) -> None:
        """Tells the other processes what has begun to live here."""
        ready = [(key, worker) for key, (connection, worker) in self._fresh.items() if connection.acknowledged]
        if not ready:
            return
        table = self._table
        with table.lock:
            for key, worker in ready:
                del self._fresh[key]
                table.put(key, worker.seed, now, worker.keeps - margin(worker.keeps))
                table.set_open(key, self._row, True)


def margin(keeps: float) -> float:
    """What is taken off a worker's lifetime of unused sessions: a quarter where that is short."""
    return min(MARGIN, keeps / 4)
