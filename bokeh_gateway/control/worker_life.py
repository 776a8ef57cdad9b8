"""What a supervised worker has used up so far: memory, age, pages.

The clock is the monotonic one, which goes on through an upgrade and does not jump with the time of day.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bokeh_gateway.balance.board import Board
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.balance.recycle import Life, RecycleSettings, share_of, worn_out
from bokeh_gateway.config.schema import Pool
from bokeh_gateway.control.workers import Slot


def why_worn_out(pool: Pool, worker: Worker, slot: Slot, board: Board) -> str | None:
    """Why a worker is to be replaced, naming the setting; None: it is not, or has no process now."""
    settings = RecycleSettings(max_rss=pool.max_rss, max_age=pool.max_age, max_served=pool.max_served)
    if slot.pid is None or settings == RecycleSettings():
        return None
    life = Life(
        rss=memory(slot.pid) if settings.max_rss is not None else 0,
        age=time.monotonic() - slot.began,
        served=board.served(worker.index),
    )
    return worn_out(life, settings, share_of(worker.seed))


def memory(pid: int) -> int:
    """Resident bytes of a process and of its children; 0 when it has just ended."""
    return sum(_resident(member) for member in (pid, *descendants(pid)))


def descendants(pid: int) -> Iterator[int]:
    """Its children, and theirs."""
    for child in _children(pid):
        yield child
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    """Linux tells those of each thread; elsewhere every process on the machine has to be asked for its parent."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        texts = [(task / "children").read_text() for task in tasks.iterdir()]
    except ProcessLookupError:
        return []
    except OSError:
        return _children_by_parent(pid)
    return [int(word) for text in texts for word in text.split()]


def _children_by_parent(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
