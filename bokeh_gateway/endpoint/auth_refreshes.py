"""One question to the provider for a session, whichever processes its requests come to: refresh tokens often work once.

The process that takes the claim asks, and tells the others through the master what came of it; they wait for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bokeh_gateway.endpoint.auth_together import Claims


class Refreshes:
    """As one process sees it.

    Args:
        tell: tells all processes of a session: its name, and what it is now, sealed; None: nothing came of it.
    """

    def __init__(self, claims: Claims, tell: Callable[[str, bytes | None], None]) -> None:
        self.tell = tell
        self._claims = claims
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def take(self, sid: str, checked: float, now: float, keeps: float) -> bool:
        """Whether this process is to ask; a session that was refreshed has another `checked`, and so another claim."""
        return self._claims.take(f"{sid} {checked!r}", now, keeps)

    def failed(self, sid: str, checked: float) -> None:
        """Nothing came of it, for whoever waits; it may be tried again."""
        self._claims.give_back(f"{sid} {checked!r}")
        self.tell(sid, None)

    def told(self, sid: str) -> None:
        """What came of it is known."""
        waiting = self._waiting.pop(sid, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def wait(self, sid: str, timeout: float) -> None:
        """Until it is known, or for `timeout` seconds."""
        waiting = self._waiting.setdefault(sid, asyncio.get_running_loop().create_future())
        await asyncio.wait([waiting], timeout=timeout)
        if self._waiting.get(sid) is waiting:
            del self._waiting[sid]
