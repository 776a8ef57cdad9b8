"""Who may pass to a route that wants a sign-in: methods are asked in order, the first that knows the client decides.

What can be decided at once is; for the rest the request waits, body and all.  The client hears no reason, the log does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Final, Protocol

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine

from bokeh_gateway.endpoint.failure import explain
from bokeh_gateway.policy.credentials import without_cookies
from bokeh_gateway.policy.expiries import Expiries
from bokeh_gateway.policy.identity import Identity, Requirement, without
from bokeh_gateway.policy.login import may_redirect
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.wire.exchange import LazyHeaders

if TYPE_CHECKING:
    from bokeh_gateway.endpoint.auth_signed_out import SignedOut
    from bokeh_gateway.endpoint.auth_together import Newest
    from bokeh_gateway.wire.exchange import Exchange
    from bokeh_gateway.wire.tunnel import Tunnel

log = logging.getLogger(__name__)

EXPIRED: Final = 4401
"""Close code of a WebSocket whose credential has ended: a private one (RFC 6455 section 7.4.2), after HTTP's 401."""
SHORTEST: Final = 10.0
"""Seconds that a WebSocket may at least last."""
_SAYS: Final = {
    400: "This sign-in was not begun in this browser, or took too long. Open the page again.",
    401: "Sign in to use this address.",
    403: "Your account may not use this address.",
    429: "Too many wrong passwords. Try again in a minute.",
    500: "The sign-in could not be checked; the gateway's log says why.",
    503: "The sign-in cannot be checked now. Try again in a moment.",
}
"""All that a client is told."""


@dataclass(frozen=True, slots=True)
class Refused(Deny):
    """A refusal that brings header lines for the client, such as those of the service that refused."""

    headers: bytes = b""


Known = Identity | Deny | None
"""Who it is; that what the request carries is no good; that it carries nothing for this method."""


class Method(Protocol):
    """One way to be known."""

    name: str
    challenge: bytes
    """The WWW-Authenticate line that asks for it, or b""."""

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Known | Coroutine[None, None, Known]:
        """Who sent the request; `now` in seconds of the epoch.  What takes I/O is answered with a coroutine."""

    def login(self, exchange: Exchange, wanted: Requirement, host: bytes) -> str | None:
        """Where a page is sent to sign in; None: this method has no such place."""

    def settle(self, exchange: Exchange, identity: Identity) -> HTTPMessageDelegate | None:
        """What is to be answered first to somebody whom this method knows; None: nothing, the request goes on."""

    def strip(self, exchange: Exchange) -> None:
        """Takes its credential out of the request, before a worker sees it."""


class Watch:
    """One WebSocket whose credential will end."""

    __slots__ = ("_expires", "_expiries", "_subject")

    def __init__(self, expiries: Expiries[Tunnel], subject: str, expires: float) -> None:
        self._expiries = expiries
        self._subject = subject
        self._expires = expires

    def opened(self, tunnel: Tunnel) -> None:
        self._expiries.opened(tunnel, self._subject, self._expires)

    def closed(self, tunnel: Tunnel) -> None:
        self._expiries.closed(tunnel, self._subject)


class Waiting(HTTPMessageDelegate):
    """A request whose sender is still being looked up; its body waits with the connection."""

    def __init__(self, exchange: Exchange, work: Awaitable[HTTPMessageDelegate]) -> None:
        self._exchange = exchange
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    async def _run(self) -> None:
        exchange = self._exchange
        delegate = await self._work
        if exchange.ended:
            return
        exchange.delegate = delegate
        begin = getattr(delegate, "begin", None)
        if begin is not None:
            begin()
            return
        answer = delegate.headers_received(exchange.start_line(), LazyHeaders(exchange.head.pairs))
        if answer is not None:
            await answer

    def on_connection_close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Answer(HTTPMessageDelegate):
    """Answers at once, whatever follows the head."""

    __slots__ = ("_exchange", "_headers", "_status")

    def __init__(self, exchange: Exchange, status: int, headers: bytes) -> None:
        self._exchange = exchange
        self._status = status
        self._headers = headers

    def begin(self) -> None:
        exchange = self._exchange
        if exchange.opened:
            return  # by a module that answered instead of telling who it is
        if exchange.head.has_body and not exchange.finished:
            exchange.keep = False
        lines, body = explain(self._status, _SAYS.get(self._status, ""), "", exchange.head.get(b"accept") or b"")
        exchange.respond(self._status, self._headers + lines, body)


class Gate:
    """Stands before every route; lets in who is known and allowed."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        expiries: Expiries[Tunnel],
        signed_out: SignedOut,
        newest: Newest,
        *,
        drop: frozenset[bytes] = frozenset(),
        own_cookies: tuple[bytes, ...] = (),
        forward_credentials: bool = False,
    ) -> None:
        """`drop`: lower-case names of headers that only the gateway may send; `own_cookies`: beginnings of names of
        cookies that are the gateway's alone."""
        self.methods = methods
        self.expiries = expiries
        self._elsewhere = signed_out
        self._newest = newest
        self._drop = drop
        self._own_cookies = own_cookies
        self._forward_credentials = forward_credentials

    def enter(
        self,
        exchange: Exchange,
        wanted: Requirement | None,
        host: bytes,
        onward: Callable[[], HTTPMessageDelegate],
    ) -> HTTPMessageDelegate:
        """`onward()` where the client may pass, else what answers him."""
        self._clean(exchange)
        if wanted is None:
            return onward()
        return self._ask(exchange, wanted, host, onward, iter(wanted.methods), None)

    def expire(self, now: float) -> None:
        """Ends the WebSockets whose credentials have ended at `now`, seconds of the epoch."""
        for tunnel in self.expiries.due(now, lambda subject: self._newest.of(subject, now)):
            tunnel.reason = "sign-in-ended: the token that opened it has expired, and no newer one was seen"
            tunnel.end(EXPIRED, "the sign-in has ended")
        if self._elsewhere.changed():
            for subject in self.expiries.subjects():
                if self._elsewhere.holds(subject, now):
                    self.signed_out(subject)

    def signed_out(self, subject: str) -> None:
        """Ends the WebSockets of somebody who signed out here; other processes look once a second."""
        for tunnel in self.expiries.signed_out(subject):
            tunnel.reason = "signed-out: the user signed out"
            tunnel.end(EXPIRED, "signed out")

    def _clean(self, exchange: Exchange) -> None:
        """What only the gateway may say is taken out of what a client says."""
        head = exchange.head
        drop = self._drop
        # Never in place: a connection's requests may share one list.
        if drop and any(head.plain[at].lower() in drop for at in range(0, len(head.plain), 4)):
            head.plain = without(head.plain, drop)
        if self._own_cookies:
            for name, value in head.pairs:
                if len(name) == 6 and name.lower() == b"cookie" and any(own in value for own in self._own_cookies):
                    head.plain = without_cookies(head.plain, (), self._own_cookies)
                    break

    def _ask(
        self,
        exchange: Exchange,
        wanted: Requirement,
        host: bytes,
        onward: Callable[[], HTTPMessageDelegate],
        names: Iterator[str],
        denied: Deny | None,
    ) -> HTTPMessageDelegate:
        for name in names:
            found = self.methods[name].look(exchange, wanted, time())
            if found is None:
                continue
            if not isinstance(found, (Identity, Deny)):
                return Waiting(exchange, self._await(found, exchange, wanted, host, onward, names, denied))
            passed, denied = self._judge(exchange, wanted, found, denied)
            if passed is not None:
                return self._admit(exchange, wanted, passed, onward)
            if denied is not None and denied.status >= 429:
                break  # nobody is let in, or turned away, by what is left of a check that failed
        return self._turn_away(exchange, wanted, host, denied)

    async def _await(
        self,
        work: Coroutine[None, None, Known],
        exchange: Exchange,
        wanted: Requirement,
        host: bytes,
        onward: Callable[[], HTTPMessageDelegate],
        names: Iterator[str],
        denied: Deny | None,
    ) -> HTTPMessageDelegate:
        found = await work
        if found is not None:
            passed, denied = self._judge(exchange, wanted, found, denied)
            if passed is not None:
                return self._admit(exchange, wanted, passed, onward)
            if denied is not None and denied.status >= 429:
                return self._turn_away(exchange, wanted, host, denied)
        return self._ask(exchange, wanted, host, onward, names, denied)

    @staticmethod
    def _judge(
        exchange: Exchange, wanted: Requirement, found: Identity | Deny, denied: Deny | None
    ) -> tuple[Identity | None, Deny | None]:
        """Who passes, or the refusal so far: that of somebody who is known, but not allowed, says most."""
        if isinstance(found, Deny):
            return None, denied if denied is not None and denied.status == 403 else found
        exchange.user = found.user
        refused = wanted.check(found)
        return (found, denied) if refused is None else (None, refused)

    def _admit(
        self, exchange: Exchange, wanted: Requirement, identity: Identity, onward: Callable[[], HTTPMessageDelegate]
    ) -> HTTPMessageDelegate:
        exchange.user = identity.user
        first = self.methods[identity.method].settle(exchange, identity)
        if first is not None:
            return first
        head = exchange.head
        if not self._forward_credentials:
            for name in wanted.methods:
                self.methods[name].strip(exchange)
        head.plain = [*head.plain, *identity.lines]
        if identity.expires is not None:
            self.expiries.seen(identity.subject, identity.expires)
            self._newest.seen(identity.subject, identity.expires, time())
            if head.upgrade:
                # One that is only let in by the leeway of clocks would end at once, and come again, and end.
                expires = max(identity.expires, time() + SHORTEST)
                exchange.watch = Watch(self.expiries, identity.subject, expires)
        return onward()

    def _turn_away(
        self, exchange: Exchange, wanted: Requirement, host: bytes, denied: Deny | None
    ) -> HTTPMessageDelegate:
        if denied is None or denied.status == 401:
            denied = denied or Deny(401, "auth-missing", f"no credential for {' or '.join(wanted.methods)}")
            exchange.reason = denied.reason
            if denied.reason != "auth-missing":
                exchange.refusal = denied
            if may_redirect(exchange.head):
                for name in wanted.methods:
                    where = self.methods[name].login(exchange, wanted, host)
                    if where is not None:
                        return Redirect(exchange, where, getattr(denied, "headers", b""))
        exchange.reason = denied.reason
        exchange.refusal = denied
        headers = getattr(denied, "headers", b"")
        if denied.status == 401 and b"www-authenticate:" not in headers.lower():
            headers += b"".join(self.methods[name].challenge for name in wanted.methods)
        return Answer(exchange, denied.status, headers)


class Redirect(HTTPMessageDelegate):
    """Sends a page elsewhere; never remembered, as it depends on who asks."""

    __slots__ = ("_exchange", "_headers", "_where")

    def __init__(self, exchange: Exchange, where: str, headers: bytes = b"") -> None:
        self._exchange = exchange
        self._where = where.encode("utf-8", "replace")
        self._headers = headers

    def begin(self) -> None:
        exchange = self._exchange
        where = self._where
        if exchange.opened:
            return
        if any(c < 0x21 or c == 0x7F for c in where):
            where = b"/"  # a module's own function may have made it of anything
        if exchange.head.has_body and not exchange.finished:
            exchange.keep = False
        exchange.respond(302, b"Location: " + where + b"\r\nCache-Control: no-store\r\n" + self._headers)
