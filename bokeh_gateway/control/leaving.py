"""Workers that drain alone: each is ended when its sessions are gone, or when its time is over.

A session lives on for a while when its WebSocket has ended, for a browser that was cut off and comes back.  What is
open at the end of its worker's time is cut: the browser gets the close frame 1012, and comes back too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from bokeh_gateway.balance.board import TUNNELS, Board
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.control.pools import Group, Pools

log = logging.getLogger(__name__)

QUIET: Final = 1.0
"""Seconds without anything open before a worker is ended, whatever it keeps."""


class Leaving:
    """All of them; which they are is in the groups, so that an upgrade does not forget it."""

    def __init__(self, pools: Pools, board: Board) -> None:
        self._pools = pools
        self._board = board
        self._quiet_since: dict[str, float] = {}
        """Nothing has been open there."""
        self._ending: dict[str, asyncio.Task[None]] = {}

    def begin(self, group: Group, worker: Worker, linger: float) -> None:
        """From now on it gets no new sessions, and has `linger` seconds for those that it has."""
        self._pools.drain(group, worker, time.monotonic() + linger)

    def recall(self, group: Group, worker: Worker) -> bool:
        """It serves on; False: too late, it is being ended."""
        if worker.name in self._ending:
            return False
        self._pools.undrain(group, worker)
        return True

    def look(self) -> None:
        """Once a second."""
        for group in self._pools.all_groups():
            for worker in [worker for worker in group.workers if worker.name in group.departing]:
                if not worker.draining:  # somebody took it back
                    del group.departing[worker.name]
                elif worker.name not in self._ending and self._is_over(group, worker):
                    self._end(group, worker)

    def _is_over(self, group: Group, worker: Worker) -> bool:
        now = time.monotonic()
        if worker not in self._pools.ready:  # it died, or never got ready: nobody needs it back
            return True
        if not self._board.load(worker.index):
            since = self._quiet_since.setdefault(worker.name, now)
            # Never at once: a process may only now hear that the worker drains.
            return now - since >= max(worker.keeps, QUIET) or now >= group.departing[worker.name]
        self._quiet_since.pop(worker.name, None)
        if now < group.departing[worker.name]:
            return False
        log.warning(
            "worker %s: [timeouts] reload_linger has passed; it ends, and its %d WebSockets are told to come back",
            worker.name,
            self._board.total(TUNNELS, worker.index),
        )
        return True

    def _end(self, group: Group, worker: Worker) -> None:
        task = asyncio.get_running_loop().create_task(self._pools.end(group, worker), name=f"end {worker.name}")
        self._ending[worker.name] = task
        task.add_done_callback(lambda done: self._ended(worker.name, done))

    def _ended(self, worker: str, task: asyncio.Task[None]) -> None:
        del self._ending[worker]
        self._quiet_since.pop(worker, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("worker %s could not be ended: a bug in the gateway", worker, exc_info=error)

    def close(self) -> None:
        for task in self._ending.values():
            task.cancel()
