"""Which sessions are known to live, and on which worker: those with an open WebSocket, and for a while after it. Pure.

The rule, from Bokeh's `_cleanup_sessions` and `create_session_if_needed` (bokeh/server/contexts.py, 3.9): a worker
discards a session only when nobody has been connected to it for `--unused-session-lifetime`.  So a session lives on the
worker where its WebSocket was acknowledged, until that time has passed since the WebSocket ended, unless the worker was
restarted.  `MARGIN` is taken off, for the worker's clock starts later than ours but a busy worker may be slow to open.
Only digests are kept, so that a dump of memory or a debugger shows nobody's session.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, Protocol

from bokeh_gateway.balance.pool import Worker

MARGIN: Final = 5.0
"""Seconds between the last moment that a session is called alive and the first one that a worker may discard it."""
REMEMBERED: Final = 20_000
"""Sessions whose WebSocket ended; the oldest are forgotten first, about 200 bytes each."""


class Connection(Protocol):
    """A WebSocket, as far as it shows whether its session lives."""

    @property
    def acknowledged(self) -> bool:
        """Whether the worker has sent a message: it does so once it has the session, and not before."""


def session_key(path: bytes, session_id: str) -> bytes:
    """Stands for a session: an id names one session in each app, so the path that the worker sees belongs to it."""
    return blake2b(session_id.encode("utf-8", "replace") + b"\0" + path, digest_size=16).digest()


class LiveSessions:
    """Of all pools, in one gateway process."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._open: dict[bytes, tuple[Connection, Worker]] = {}
        self._ended: dict[bytes, tuple[float, Worker]] = {}

    def __len__(self) -> int:
        return len(self._open) + len(self._ended)

    def opened(self, key: bytes, connection: Connection, worker: Worker) -> None:
        """A WebSocket of the session was answered with 101 by `worker`."""
        self._open[key] = (connection, worker)

    def closed(self, key: bytes, connection: Connection, worker: Worker, now: float, *, vanished: bool) -> None:
        """It ended.  `vanished`: the worker's side was cut without a close frame, as when a worker dies."""
        at = self._open.get(key)
        if at is not None and at[0] is connection:
            del self._open[key]
        if vanished or not connection.acknowledged:
            return
        ended = self._ended
        ended.pop(key, None)  # so that the order stays that of the ends
        if len(ended) >= self._remembered:
            del ended[next(iter(ended))]
        ended[key] = (now, worker)

    def worker_of(self, key: bytes, now: float) -> Worker | None:
        """The worker where the session lives; None when it is not known to live anywhere."""
        at = self._open.get(key)
        if at is not None and at[0].acknowledged:
            return at[1] if at[1].up else None
        left = self._ended.get(key)
        if left is None:
            return None
        ended, worker = left
        return worker if worker.up and now < ended + worker.keeps - margin(worker.keeps) else None

    def forget(self, worker: Worker) -> None:
        """The worker ended or could not be reached: it may have been restarted, and has none of its sessions then."""
        self._open = {key: at for key, at in self._open.items() if at[1] is not worker}
        self._ended = {key: at for key, at in self._ended.items() if at[1] is not worker}

    def expire(self, now: float) -> None:
        """Forgets what can no longer be alive; from the oldest on, as far as the longest-lived reach."""
        for key in list(self._stale(now)):
            del self._ended[key]

    def _stale(self, now: float) -> Iterator[bytes]:
        for key, (ended, worker) in self._ended.items():
            if now < ended + worker.keeps:
                return
            yield key


def margin(keeps: float) -> float:
    """What is taken off a worker's lifetime of unused sessions: a quarter where that is short."""
    return min(MARGIN, keeps / 4)
