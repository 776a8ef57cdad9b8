"""Pages that were served and whose WebSocket has not come yet: each is a session that its worker already holds.  Pure.

Known to one gateway process.  Where another one gets the WebSocket, the page counts here until it expires, beside the
tunnel there: for 15 s that worker seems busier by one than it is.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from bokeh_gateway.balance.pool import Worker

LIFETIME: Final = 15.0
"""Seconds: after that a worker discards a session that nobody uses (`bokeh serve --unused-session-lifetime`)."""


class PendingPages:
    """Bookkeeping only: says whose count to take back, and the caller does it."""

    __slots__ = ("_lifetime", "_pages")

    def __init__(self, lifetime: float = LIFETIME) -> None:
        """`lifetime` in seconds."""
        self._lifetime = lifetime
        # All live equally long, so a dict's own order is the order of their ends.
        self._pages: dict[str, tuple[Worker, float]] = {}

    def __len__(self) -> int:
        return len(self._pages)

    def __contains__(self, session_id: object) -> bool:
        """Whether a page of the session waits for its WebSocket."""
        return session_id in self._pages

    def served(self, session_id: str, worker: Worker, now: float) -> Worker | None:
        """A page of the session went out: count it at `worker`.

        Returns the worker where an earlier page of the same session counts no longer, if there was one.
        """
        earlier = self._pages.pop(session_id, None)
        self._pages[session_id] = (worker, now + self._lifetime)
        return earlier[0] if earlier else None

    def connected(self, session_id: str) -> Worker | None:
        """The WebSocket came: the worker where its page counts no longer; None for a page that is not known here."""
        page = self._pages.pop(session_id, None)
        return page[0] if page else None

    def expire(self, now: float) -> list[Worker]:
        """The workers of the pages whose WebSocket is no longer to be expected, one item a page."""
        gone: list[Worker] = []
        for worker, deadline in self._pages.values():
            if deadline > now:
                break
            gone.append(worker)
        for session_id in list(islice(self._pages, len(gone))):
            del self._pages[session_id]
        return gone
