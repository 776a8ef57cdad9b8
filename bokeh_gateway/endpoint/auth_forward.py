"""[auth.forward]: another service is asked about each request, as nginx's auth_request does; no answer lets nobody in.

It gets the request's headers and never its body.  2xx lets in, 401 and 403 go back to the client, all else is an error.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.config.address import Address
from bokeh_gateway.endpoint.auth_gate import Known, Refused
from bokeh_gateway.errors import GatewayError, WorkerClosed, WorkerRefused
from bokeh_gateway.http.forwarded import host_line
from bokeh_gateway.policy.identity import Identity, Requirement, group_names, plain, valid_user
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.wire.upstream import Link, Upstream

if TYPE_CHECKING:
    from bokeh_gateway.config.auth import Forward
    from bokeh_gateway.http.answer import AnswerHead
    from bokeh_gateway.wire.exchange import Exchange
    from bokeh_gateway.wire.sweep import Sweep

_SAID: Final = (b"x-original-method", b"x-original-uri", b"x-forwarded-method", b"x-forwarded-uri")
_NOT_SENT: Final = frozenset(
    {
        # Of a body that is not sent; conditions and ranges, which would make another answer of a 200.
        b"content-type",
        b"content-encoding",
        b"accept-encoding",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"if-range",
        b"range",
        # What is said of the request is the gateway's word alone.
        *_SAID,
    }
)
_PASSED_BACK: Final = frozenset({b"www-authenticate", b"set-cookie"})


class TlsLink(Link):
    """Connections to a service that speaks TLS; its certificate must be good for its name."""

    __slots__ = ("_context", "_loop_")

    def __init__(self, name: str, address: Address, loop: asyncio.AbstractEventLoop, sweep: Sweep) -> None:
        super().__init__(name, address, loop, sweep)
        self._loop_ = loop
        self._context = ssl.create_default_context()

    async def connect(self, timeout: float) -> Upstream:
        try:
            async with asyncio.timeout(timeout):
                _, upstream = await self._loop_.create_connection(
                    lambda: Upstream(self),
                    self.address.host,
                    self.address.port,
                    ssl=self._context,
                    server_hostname=self.address.host,
                )
        except TimeoutError:
            raise WorkerRefused(f"{self.name}: no connection within {timeout:g} s") from None
        except OSError as error:
            raise WorkerRefused(f"{self.name}: {error}") from error
        return upstream


class Question:
    """One request to the service; takes its answer's head, and reads the body away."""

    __slots__ = ("_head", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[AnswerHead] = loop.create_future()
        self._head: AnswerHead | None = None

    def answer_interim(self, head: AnswerHead) -> None:
        pass

    def answer_head(self, head: AnswerHead) -> None:
        self._head = head

    def answer_body(self, chunk: bytes) -> None:
        pass

    def answer_flush(self) -> None:
        pass

    def answer_whole(self, head: AnswerHead, chunks: list[bytes]) -> None:
        self._head = head
        self.answer_end()

    def answer_end(self) -> None:
        if not self.done.done() and self._head is not None:
            self.done.set_result(self._head)

    def answer_upgraded(self, head: AnswerHead, early: bytes) -> None:
        self.answer_failed(WorkerClosed("it switched protocols without being asked to"))

    def answer_failed(self, error: GatewayError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def hold_request(self) -> None:
        pass

    def release_request(self) -> None:
        pass


class ForwardMethod:
    """Asks somebody else who sent a request."""

    name = "forward"
    challenge = b""

    def __init__(self, settings: Forward, loop: asyncio.AbstractEventLoop, sweep: Sweep) -> None:
        parts = urlsplit(settings.url)
        secure = parts.scheme == "https"
        address = Address(parts.hostname or "", parts.port or (443 if secure else 80))
        self._settings = settings
        self._loop = loop
        self._link = (TlsLink if secure else Link)("auth.forward", address, loop, sweep)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._start = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n".encode()
        self._user = settings.user.lower().encode() if settings.user else b""
        self._groups = settings.groups.lower().encode() if settings.groups else b""
        self._wanted = {name.lower().encode(): name for name in settings.headers}

    def look(self, exchange: Exchange, wanted: Requirement, now: float) -> Coroutine[None, None, Known]:
        return self._ask(exchange)

    def login(self, exchange: Exchange, wanted: Requirement, host: bytes) -> str | None:
        url = self._settings.login_url
        if url is None:
            return None
        back = exchange.head.target.decode("latin-1")
        if not url.startswith("/"):
            back = f"{'https' if exchange.secure else 'http'}://{host.decode('latin-1')}{back}"
        return f"{url}{'&' if '?' in url else '?'}next={quote(back, safe='')}"

    def settle(self, exchange: Exchange, identity: Identity) -> HTTPMessageDelegate | None:
        return None

    def strip(self, exchange: Exchange) -> None:
        """What the service reads is its own affair: cookies and headers go on as with nginx."""

    def close(self) -> None:
        self._link.close()

    async def _ask(self, exchange: Exchange) -> Known:
        request = self._request(exchange)
        try:
            async with asyncio.timeout(self._settings.timeout):
                head = await self._exchange(request)
        except TimeoutError:
            problem = f"no answer within [auth.forward] timeout = {self._settings.timeout:g} s"
            return Deny(503, "auth-forward-down", f"{self._settings.url}: {problem}")
        except GatewayError as error:
            return Deny(503, "auth-forward-down", str(error))
        return self._judge(head)

    async def _exchange(self, request: bytes) -> AnswerHead:
        kept = self._link.take()
        if kept is not None:
            try:
                return await self._one(kept, request)
            except WorkerClosed:
                pass  # the service closed a connection that lay idle: that is no answer
        return await self._one(await self._link.connect(self._settings.timeout), request)

    async def _one(self, upstream: Upstream, request: bytes) -> AnswerHead:
        question = Question(self._loop)
        upstream.ask(question, request, head_only=False, whole=True)
        upstream.sent()
        try:
            return await question.done
        except asyncio.CancelledError:
            upstream.abandon()
            raise

    def _request(self, exchange: Exchange) -> bytes:
        head = exchange.head
        connection = exchange.connection
        lines = [self._start]
        public = connection.edge.public
        host = public.line if public is not None else host_line(head.host)
        lines.append(exchange.forward_lines or connection.forward_lines + host)
        for at in range(0, len(head.plain), 4):
            name = head.plain[at].lower()
            if name not in _NOT_SENT and not name.startswith(b"sec-websocket-"):
                lines += head.plain[at : at + 4]
        for origin in head.origins:
            lines += (b"Origin: ", origin, b"\r\n")
        for prefix in (b"X-Original-", b"X-Forwarded-"):
            lines += (prefix, b"Method: ", head.method, b"\r\n", prefix, b"URI: ", head.target, b"\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _judge(self, head: AnswerHead) -> Known:
        values = _collect(head.plain)
        if 200 <= head.status < 300:
            return self._identity(values)
        if head.status in (401, 403):
            back = b"".join(
                b"".join(head.plain[at : at + 4])
                for at in range(0, len(head.plain), 4)
                if head.plain[at].lower() in _PASSED_BACK
            )
            return Refused(head.status, "auth-forward", f"{self._settings.url} answered {head.status}", "", back)
        return Deny(500, "auth-forward-broken", f"{self._settings.url} answered {head.status}, not 2xx, 401 or 403")

    def _identity(self, values: dict[bytes, str]) -> Known:
        user = values.get(self._user, "") if self._user else ""
        if user and valid_user(user) is None:
            return Deny(500, "auth-forward-broken", "the user's name in the service's answer is not printable")
        listed = [name.strip() for name in values.get(self._groups, "").split(",")] if self._groups else []
        further = tuple((name, values[lower]) for lower, name in self._wanted.items() if plain(values.get(lower, "\n")))
        return Identity(user, self.name, group_names(listed), headers=further)


def _collect(lines: list[bytes]) -> dict[bytes, str]:
    """Header values by lower-case name; UTF-8 where it is that."""
    return {lines[at].lower(): lines[at + 2].decode("utf-8", "replace").strip() for at in range(0, len(lines), 4)}
