"""Workers that an operator drains: no new sessions, and after a while what is open there goes on elsewhere.

A drain is of a worker by name, through reloads that leave it where it is, through its restarts and through upgrades.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from bokeh_gateway.balance.board import TUNNELS, Board
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.control.pools import Pools
from bokeh_gateway.errors import Refused

log = logging.getLogger(__name__)


class Drains:
    """All drains that are under way or done.

    Args:
        tell: sends every gateway process what changed of a worker.
    """

    def __init__(self, pools: Pools, board: Board, tell: Callable[..., None]) -> None:
        self._pools = pools
        self._board = board
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Worker, asyncio.Task[None]] = {}
        self._deadlines: dict[Worker, float] = {}

    def drain(self, name: str, limit: float, setting: str) -> str:
        """Begins one; what to tell the operator.  `limit`: seconds that its sessions have, by `setting`.

        Raises:
            Refused: there is no such worker, or it goes already.
        """
        worker = self._worker(name)
        if worker in self._pools.held:
            return f"{name} drains already"
        if worker.draining:
            raise Refused(f"{name} goes already: others took its place")
        worker.draining = True
        self._pools.held.add(worker)
        self._tell(worker, draining=True)
        self._begin(worker, limit)
        open_now = self._board.total(TUNNELS, worker.index)
        told = f"no new sessions; {open_now} WebSockets are open and have {setting} = {limit:g} s"
        log.warning("worker %s drains: %s", name, told)
        pool = next(pool for pool in self._pools.pools.values() if worker in pool.workers)
        if not any(other.available for other in pool.workers):
            told += f"; pool {pool.name} has no other worker for new sessions"
        return f"{name} drains: {told}"

    def undrain(self, name: str) -> str:
        """Calls one off, also when it is over.

        Raises:
            Refused: there is no such worker, or nobody drained it.
        """
        worker = self._worker(name)
        group = self._pools.group_of(worker)
        if group is not None and group.leaving:
            raise Refused(f"{name} goes, as others took its place; that cannot be undone")
        if worker not in self._pools.held:
            raise Refused(f"{name} does not drain")
        self._pools.held.discard(worker)
        self._forget(worker)
        worker.draining = worker.closed = False
        self._tell(worker, draining=False, closed=False)
        log.warning("worker %s takes sessions again", name)
        return f"{name} takes sessions again"

    def left(self, worker: Worker) -> float | None:
        """Seconds that a draining worker still has; None: it does not drain."""
        deadline = self._deadlines.get(worker)
        return None if deadline is None else max(0.0, deadline - self._loop.time())

    def state(self) -> list[tuple[str, float]]:
        """What `restore` takes: names, and the seconds left."""
        return [(worker.name, self.left(worker) or 0.0) for worker in self._pools.held]

    def restore(self, listed: Sequence[Any]) -> None:
        """The drains of the program before this one; the workers are there already."""
        for name, left in listed:
            worker = self._pools.find(name)
            if worker is not None:
                self._pools.held.add(worker)
                self._begin(worker, left)

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _worker(self, name: str) -> Worker:
        worker = self._pools.find(name)
        if worker is None:
            known = ", ".join(worker.name for worker in self._pools.workers()) or "none"
            raise Refused(f"no worker is named {name!r}; there are: {known}")
        return worker

    def _begin(self, worker: Worker, limit: float) -> None:
        self._deadlines[worker] = self._loop.time() + limit
        self._tasks[worker] = self._loop.create_task(self._run(worker, limit), name=f"drain {worker.name}")

    def _forget(self, worker: Worker) -> None:
        self._deadlines.pop(worker, None)
        task = self._tasks.pop(worker, None)
        if task is not None:
            task.cancel()

    async def _run(self, worker: Worker, limit: float) -> None:
        await asyncio.sleep(limit)
        # Sessions may come back to it until then, so that nothing is open is no reason to end this early.
        await self._pools.close_worker(worker)
        log.warning("worker %s is drained: nothing is open there", worker.name)
