"""How many new sessions a client may begin: each one runs the app's script on a worker.  Pure: `now` is passed in."""

from __future__ import annotations

from typing import Final

from bokeh_gateway.policy.verdict import ALLOW, Deny, Verdict

WINDOW: Final = 60.0
"""Seconds."""
_TRACKED: Final = 50_000
"""Client addresses remembered; beyond that all begin anew, which errs on the client's side."""


class SessionRate:
    """At most `limit` new sessions of one client address in a minute."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: dict[str, tuple[float, int]] = {}

    def check(self, client: str, now: float) -> Verdict:
        """Counts one more session of `client`; `now` in seconds on any clock that does not go back."""
        began, count = self._seen.get(client, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        if count >= self._limit:
            return Deny(
                429,
                "too-many-sessions",
                f"More than {self._limit} new sessions in a minute from {client}.",
                f"[limits] sessions_per_client_per_minute = {self._limit}",
            )
        if client not in self._seen and len(self._seen) >= _TRACKED:
            self._seen.clear()
        self._seen[client] = (began, count + 1)
        return ALLOW
