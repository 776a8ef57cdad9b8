"""Where a session goes whose id another program made: its worker is chosen at first sight, and then remembered.

Rendezvous hashing alone would spread such sessions evenly in the mean only.  So the hash decides among the least loaded
workers, and where none of them is its choice the least loaded one is taken.  All processes share the table, and look
and write under its lock, so two that see an id at once agree.  What the table does not hold goes by the hash.

With `Pool.spread` off, nothing is chosen: where other gateway hosts serve the same workers, they know no table of ours.
Ids that a worker gave by itself are remembered in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from bokeh_gateway.balance.affinity import Choice, rendezvous
from bokeh_gateway.balance.board import Board
from bokeh_gateway.balance.pick import least_loaded, load_of
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.balance.session_table import SessionTable

PATIENCE: Final = 300.0
"""Seconds that a page may take to come; set by `[timeouts] response`."""
UNTOLD: Final = 1000
"""Learned ids that are put into the table at once."""


def placement_key(pool: str, session_id: str) -> bytes:
    """Stands for a session in a pool."""
    text = f"{pool}\0{session_id}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16, person=b"placement").digest()


class Placement:
    """Of one gateway process: row `row`."""

    def __init__(self, table: SessionTable, board: Board, row: int) -> None:
        self._table = table
        self._board = board
        self._row = row
        self._open: dict[bytes, int] = {}
        """How many WebSockets of a session are open here."""
        self.untold: dict[str, tuple[Pool, Worker]] = {}
        """Learned, and not in the table yet: where nobody else looks into it, once a second is enough."""
        self.patience = PATIENCE

    def place(self, pool: Pool, session_id: str, turn: int, now: float) -> Choice | None:
        """The worker of a session whose id names none; None when no worker of the pool can be used."""
        if self.untold:
            self.tell(now)
        key = placement_key(pool.name, session_id)
        table = self._table
        with table.lock:
            entry = table.get(key, now)
            worker = pool.by_seed.get(entry.value) if entry is not None else None
            known = worker is not None and worker.up
            if not known:
                worker = rendezvous(pool.workers, session_id)
                if worker is not None and pool.spread:
                    worker = lightest(pool.workers, self._board.loads(), turn, worker)
            if worker is None:
                return None
            if not known and worker.trial:
                worker.tried()
            if known or pool.spread:
                table.put(key, worker.seed, now, self.patience + worker.keeps)
        return Choice(worker, entry is not None and not known, key)

    def known(self, pool: Pool, session_id: str, now: float) -> bool:
        """Whether the session has a worker."""
        if self.untold:
            self.tell(now)
        with self._table.lock:
            return self._table.get(placement_key(pool.name, session_id), now) is not None

    def learn(self, pool: Pool, session_id: str, worker: Worker, now: float) -> None:
        """A worker named a session by itself: whatever names it later belongs there."""
        self.untold[session_id] = (pool, worker)
        if self._board.several or len(self.untold) >= UNTOLD:
            self.tell(now)

    def confirm(self, pool: Pool, session_id: str, worker: Worker, now: float) -> bytes:
        """A session that may no longer be remembered lives on `worker`; its key."""
        key = placement_key(pool.name, session_id)
        with self._table.lock:
            self._table.put(key, worker.seed, now, self.patience + worker.keeps)
        return key

    def tell(self, now: float) -> None:
        """Puts into the table what was learned."""
        table, untold = self._table, self.untold
        with table.lock:
            for session_id, (pool, worker) in untold.items():
                table.put(placement_key(pool.name, session_id), worker.seed, now, self.patience + worker.keeps)
        untold.clear()

    def opened(self, key: bytes) -> None:
        """A WebSocket of the session is open."""
        count = self._open[key] = self._open.get(key, 0) + 1
        if count == 1:
            with self._table.lock:
                self._table.set_open(key, self._row, True)

    def closed(self, key: bytes, now: float) -> None:
        """It ended: the worker keeps the session for a while."""
        count = self._open.pop(key) - 1
        if count:
            self._open[key] = count
            return
        table = self._table
        with table.lock:
            entry = table.get(key, now)
            if entry is not None:
                table.put(key, entry.value, now, entry.keeps)
                table.set_open(key, self._row, False)


def lightest(workers: Sequence[Worker], loads: Sequence[float], turn: int, own: Worker) -> Worker:
    """`own`, which can be used, if none has less load for its share; else the one that has least."""
    least = least_loaded(workers, loads, turn)
    return own if least is None or load_of(own, loads) <= load_of(least, loads) else least
