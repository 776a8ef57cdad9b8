"""The waiting page: what a browser gets while every worker has as many sessions as it may.

Its place is in a cookie, signed so that nobody can write himself an earlier one.  What is no browser's page request
gets a plain 503 with Retry-After.
"""

from __future__ import annotations

import hmac
import logging
from hashlib import sha256
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING, Final

from bokeh_gateway.balance.queue import SessionQueue, Ticket
from bokeh_gateway.endpoint.failure import REFRESH
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.balance.pool import Pool
    from bokeh_gateway.endpoint.fleet import Fleet
    from bokeh_gateway.http.head import RequestHead

log = logging.getLogger(__name__)

COOKIE: Final = b"bokeh-gateway-queue"
_MAX_COOKIE: Final = 200


class Queueing:
    """The queues of all pools, of one gateway process.

    Args:
        secret: signs the tickets; the same in all processes of a gateway.
    """

    __slots__ = ("_fleet", "_queues", "_secret")

    def __init__(self, fleet: Fleet, secret: bytes | None = None) -> None:
        self._fleet = fleet
        self._secret = secret or token_bytes(32)
        self._queues: dict[str, SessionQueue] = {}

    def admit(self, pool: Pool, head: RequestHead, now: float) -> tuple[Deny, bytes] | None:
        """None: the page may be asked of a worker; else the refusal, and further header lines of it."""
        most = pool.max_sessions
        assert most is not None
        queue = self._queues.get(pool.name)
        if queue is None:
            queue = self._queues[pool.name] = SessionQueue(pool.queue, pool.queue_timeout)
        room = self._fleet.room(pool, most)
        if b"text/html" not in (head.get(b"accept") or b"") or not any(worker.available for worker in pool.workers):
            queue.expire(now)
            # Those who wait come first; without any worker it is no matter of room.
            free = room > len(queue) or not any(worker.available for worker in pool.workers)
            return None if free else (_busy(pool, "Try again in a while."), b"")
        ticket = self._ticket(head, queue, now) or Ticket(round(now, 3), token_hex(8))
        place = queue.ask(ticket, room, now)
        if place == 0:
            return None
        if place is None:
            text = f"{pool.queue} others are waiting already. This page asks again by itself."
            log.warning("pool %s: the queue is full: [pool.%s] queue = %d", pool.name, pool.name, pool.queue)
            return _busy(pool, text), b""
        text = f"Your place in the queue: {place}. This page asks again by itself and goes on when it is your turn."
        return _busy(pool, text), self._cookie(ticket)

    def _cookie(self, ticket: Ticket) -> bytes:
        value = f"{ticket.joined:.3f}-{ticket.name}".encode()
        lines = b"Set-Cookie: %b=%b-%b; Path=/; HttpOnly; SameSite=Lax; Max-Age=%d\r\nRefresh: %d\r\n"
        return lines % (COOKIE, value, self._sign(value), 4 * REFRESH, REFRESH)

    def _ticket(self, head: RequestHead, queue: SessionQueue, now: float) -> Ticket | None:
        """The one that the browser shows, if it is ours and still good."""
        for line in head.get_all(b"cookie"):
            for part in line.split(b";"):
                name, _, value = part.strip().partition(b"=")
                if name == COOKIE and len(value) < _MAX_COOKIE:
                    return self._read(value, queue, now)
        return None

    def _read(self, value: bytes, queue: SessionQueue, now: float) -> Ticket | None:
        signed, _, signature = value.rpartition(b"-")
        if not hmac.compare_digest(signature, self._sign(signed)):
            return None
        joined, _, name = signed.decode("ascii").partition("-")
        ticket = Ticket(float(joined), name)
        return None if queue.expired(ticket, now) else ticket

    def _sign(self, value: bytes) -> bytes:
        return hmac.digest(self._secret, value, sha256).hex()[:32].encode()


def _busy(pool: Pool, text: str) -> Deny:
    most = f"[pool.{pool.name}] max_sessions = {pool.max_sessions}"
    return Deny(503, "sessions-full", f"All places are taken. {text}", most)
