"""The waiting page: what a browser gets while every worker has as many sessions as it may.

Its place is in a cookie, signed so that nobody can write himself an earlier one.  What is no browser's page request
gets a plain 503 with Retry-After.
"""

from __future__ import annotations

import hmac
import logging
from hashlib import sha256
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from bokeh_gateway.balance.queue import SessionQueue, Ticket
from bokeh_gateway.endpoint.failure import REFRESH
from bokeh_gateway.policy.verdict import Deny

if TYPE_CHECKING:
    from bokeh_gateway.balance.pool import Pool, Worker
    from bokeh_gateway.endpoint.fleet import Fleet
    from bokeh_gateway.http.head import RequestHead

log = logging.getLogger(__name__)

COOKIE: Final = b"bokeh-gateway-queue"
_MAX_COOKIE: Final = 200


class Queueing:
    """The queues of all pools: one queue for all processes of a gateway, in shared memory.

    Who is let in is counted at a worker before anybody else looks: `max_sessions` is exact, and who joined earlier is
    let in earlier, whichever processes the browsers ask.
    """

    __slots__ = ("_fleet",)

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def admit(self, pool: Pool, head: RequestHead, now: float) -> Worker | tuple[Deny, bytes] | None:
        """The worker where the page is counted now; None: there is none at all, so that it waits for one; else the
        refusal, and further header lines of it."""
        if not any(worker.available for worker in pool.workers):
            return None  # no matter of room
        fleet, queues = self._fleet, self._fleet.queues
        with fleet.lock:
            queue = queues.take(pool.name, pool.queue, pool.queue_timeout)
            found = self._ask(pool, queue, head, now)
            queues.keep(pool.name, queue)
            return fleet.reserve(pool) if found is None else found

    def _ask(self, pool: Pool, queue: SessionQueue, head: RequestHead, now: float) -> tuple[Deny, bytes] | None:
        """None: it is its turn."""
        most = pool.max_sessions
        assert most is not None
        room = self._fleet.room(pool, most)
        if b"text/html" not in (head.get(b"accept") or b""):
            queue.expire(now)
            return (
                None if room > len(queue) else (_busy(pool, "Try again in a while."), b"")
            )  # those who wait are first
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
        return hmac.digest(self._fleet.secret, value, sha256).hex()[:32].encode()


def _busy(pool: Pool, text: str) -> Deny:
    most = f"[pool.{pool.name}] max_sessions = {pool.max_sessions}"
    return Deny(503, "sessions-full", f"All places are taken. {text}", most)
