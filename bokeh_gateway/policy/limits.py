"""How often in a minute: new sessions of a client, each of which runs the app's script, and wrong passwords.

Pure: `now` is passed in, in seconds on the clock that all processes of a machine share.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import ceil
from typing import Final, NamedTuple, Protocol

from bokeh_gateway.http.forwarded import network
from bokeh_gateway.policy.verdict import ALLOW, Deny, Verdict

WINDOW: Final = 60.0
"""Seconds."""


class Counts(Protocol):
    """Where what was counted is kept, for all processes: by name, when it began, how many, how many are under way."""

    @property
    def lock(self) -> AbstractContextManager[None]:
        """Held from what is read until what follows from it is written."""

    def get(self, name: str) -> tuple[float, int, int] | None:
        """What is known, however old."""

    def put(self, name: str, counted: tuple[float, int, int], over: float) -> None:
        """What began at `over` or before may be forgotten."""


class Window(NamedTuple):
    """The minute of one name."""

    began: float
    counted: int
    running: int
    """Under way: to be counted or not when they have ended."""


class PerMinute:
    """At most `limit` of something in a minute for one name, such as a client's address or a user's."""

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int, counts: Counts) -> None:
        self._limit = limit
        self._counts = counts

    def take(self, name: str, now: float) -> bool:
        """Counts one more of `name`; False: it has had all, and nothing is counted."""
        with self._counts.lock:
            window = self._window(name, now)
            if window.counted >= self._limit:
                return False
            self._put(name, window._replace(counted=window.counted + 1), now)
            return True

    def wait(self, names: Sequence[str], now: float) -> int:
        """Whole seconds until all of `names` may try again; 0: now."""
        with self._counts.lock:
            windows = [self._window(name, now) for name in names]
        over = [window.began + WINDOW - now for window in windows if window.counted >= self._limit]
        return max(1, ceil(max(over))) if over else 0

    def begin(self, names: Sequence[str], now: float) -> list[float] | None:
        """One more of all `names` is under way, until `end` is told what this returned.

        None: with those under way one of the names may be at its limit, and nothing was begun.
        """
        with self._counts.lock:
            windows = [self._window(name, now) for name in names]
            if any(window.counted + window.running >= self._limit for window in windows):
                return None
            for name, window in zip(names, windows, strict=True):
                self._put(name, window._replace(running=window.running + 1), now)
            return [window.began for window in windows]

    def end(self, names: Sequence[str], begun: Sequence[float], counts: bool, now: float) -> None:
        """What `begin` began has ended; it counts, or not."""
        with self._counts.lock:
            for name, began in zip(names, begun, strict=True):
                window = self._window(name, now)
                # A later minute does not know of it.
                running = window.running - 1 if window.began == began and window.running else window.running
                self._put(name, Window(window.began, window.counted + counts, running), now)

    def _window(self, name: str, now: float) -> Window:
        known = self._counts.get(name)
        return Window(*known) if known is not None and now - known[0] < WINDOW else Window(now, 0, 0)

    def _put(self, name: str, window: Window, now: float) -> None:
        self._counts.put(name, window, now - WINDOW)


class SessionRate:
    """At most `limit` new sessions of one client in a minute: an IPv4 address, or an IPv6 network of /64."""

    __slots__ = ("_limit", "_sessions")

    def __init__(self, limit: int, counts: Counts) -> None:
        self._limit = limit
        self._sessions = PerMinute(limit, counts)

    def check(self, client: str, now: float) -> Verdict:
        """Counts one more session of `client`, an address as `http.forwarded.normalise` gives it."""
        client = network(client)
        if not self._sessions.take(client, now):
            return Deny(
                429,
                "too-many-sessions",
                f"More than {self._limit} new sessions in a minute from {client}.",
                f"[limits] sessions_per_client_per_minute = {self._limit}",
            )
        return ALLOW
