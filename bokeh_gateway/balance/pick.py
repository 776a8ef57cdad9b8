"""The worker for a new session: the least loaded one for its weight.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bokeh_gateway.balance.pool import Worker

_SLOW: Final = 1e9
"""Load that a slow worker counts for besides its own: more than any real load, less than none at all."""


def least_loaded(workers: Sequence[Worker], loads: Sequence[float], turn: int) -> Worker | None:
    """The available worker with the lowest load / weight; None when none is available.

    `loads` by column, as `Board.loads` gives them.  Among equals it is the first one from place `turn` on, so a caller
    that counts its picks deals equals out in turn.
    """
    count = len(workers)
    if count > 1:
        start = turn % count
        workers = (*workers[start:], *workers[:start])
    best, lowest = None, float("inf")
    for worker in workers:
        if not worker.up or worker.draining:
            continue
        load = loads[worker.index] / worker.weight
        if worker.slow:
            load += _SLOW
        if load < lowest:
            best, lowest = worker, load
    return best
