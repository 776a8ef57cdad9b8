"""How often in a minute: new sessions of a client, each of which runs the app's script, and wrong passwords.

Pure: `now` is passed in, in seconds on any clock that does not go back.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from bokeh_gateway.http.forwarded import network
from bokeh_gateway.policy.verdict import ALLOW, Deny, Verdict

WINDOW: Final = 60.0
"""Seconds."""
_TRACKED: Final = 50_000
"""Names remembered; beyond that the oldest begin anew, which errs on the client's side."""


class PerMinute:
    """At most `limit` of something in a minute for one name, such as a client's address or a user's."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[str, tuple[float, int]] = {}

    def left(self, name: str, now: float) -> int:
        """How many more `name` may have."""
        began, count = self._seen.get(name, (now, 0))
        return self._limit if now - began >= WINDOW else max(self._limit - count, 0)

    def wait(self, name: str, now: float) -> int:
        """Whole seconds until `name` may try again; 0: now."""
        if self.left(name, now):
            return 0
        return max(1, ceil(self._seen[name][0] + WINDOW - now))

    def count(self, name: str, now: float) -> None:
        """One more of `name`."""
        began, count = self._seen.get(name, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        if name not in self._seen and len(self._seen) >= _TRACKED:
            self._seen = {key: seen for key, seen in self._seen.items() if now - seen[0] < WINDOW}
            while len(self._seen) >= _TRACKED:
                del self._seen[next(iter(self._seen))]
        self._seen[name] = (began, count + 1)


class SessionRate:
    """At most `limit` new sessions of one client in a minute: an IPv4 address, or an IPv6 network of /64."""

    __slots__ = ("_counts", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts = PerMinute(limit)

    def check(self, client: str, now: float) -> Verdict:
        """Counts one more session of `client`, an address as `http.forwarded.normalise` gives it.

        `now` in seconds on any clock that does not go back.
        """
        client = network(client)
        if not self._counts.left(client, now):
            return Deny(
                429,
                "too-many-sessions",
                f"More than {self._limit} new sessions in a minute from {client}.",
                f"[limits] sessions_per_client_per_minute = {self._limit}",
            )
        self._counts.count(client, now)
        return ALLOW
