"""A steady beat finer than the event loop's millisecond timers.  Source: timerfd_create(2), through libc."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from types import TracebackType

_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK = os.O_NONBLOCK
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Interval(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "first_s", "first_ns"))


class Ticker:
    """`next()` returns at each beat; beats that came while nobody waited are given one after another, none is lost."""

    def __init__(self, seconds: float) -> None:
        self._period_ns = max(1, int(seconds * 1e9))
        self._fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        whole, part = divmod(self._period_ns, 1_000_000_000)
        _LIBC.timerfd_settime(self._fd, 0, ctypes.byref(_Interval(whole, part, whole, part)), None)
        self._due_ns = time.perf_counter_ns()
        self._beats = 0
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._loop.add_reader(self._fd, self._beat)

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def next(self) -> int:
        """Waits for the next beat; returns when it was due, on the clock of `time.perf_counter_ns`."""
        while not self._beats:
            self._waiter = self._loop.create_future()
            await self._waiter
        self._beats -= 1
        self._due_ns += self._period_ns
        return self._due_ns

    def _beat(self) -> None:
        self._beats += int.from_bytes(os.read(self._fd, 8), "little")
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
