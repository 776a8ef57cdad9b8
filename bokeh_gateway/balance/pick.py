"""The worker for a new session: the least loaded one for its weight.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bokeh_gateway.balance.pool import Worker

_INFINITE: Final = float("inf")


def least_loaded(workers: Sequence[Worker], loads: Sequence[float], turn: int) -> Worker | None:
    """The available worker with the lowest load / share; None when none is available.

    `loads` by column, as `Board.loads` gives them.  Among equals it is the first one from place `turn` on, so a caller
    that counts its picks deals equals out in turn.
    """
    count = len(workers)
    if count > 1:
        start = turn % count
        if start:
            workers = (*workers[start:], *workers[:start])
    best, lowest = None, _INFINITE
    for worker in workers:
        if worker.up and not worker.draining:
            load = loads[worker.index] / worker.share + worker.penalty
            if load < lowest:
                if not load:
                    return worker  # none has less
                best, lowest = worker, load
    return best


def load_of(worker: Worker, loads: Sequence[float]) -> float:
    """What `least_loaded` compares."""
    return loads[worker.index] / worker.share + worker.penalty


def with_room(workers: Sequence[Worker], loads: Sequence[float], most: int) -> list[Worker]:
    """Those whose load is below `most`.

    A request in flight counts like a session, so that no worker ever has more than `most`.
    """
    return [worker for worker in workers if loads[worker.index] < most]


def room(workers: Sequence[Worker], loads: Sequence[float], most: int) -> int:
    """How many sessions the available workers can still take."""
    return int(sum(max(0, most - loads[worker.index]) for worker in workers if worker.up and not worker.draining))
