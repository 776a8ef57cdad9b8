"""A client's connection: requests are handed to the delegate one at a time, and answered in order.

What a client pipelines waits as bytes until the answer before it has ended.  Nothing that the reader refuses reaches a
delegate.  Sources: RFC 9112; `tornado.http1connection`, whose contracts this keeps.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from tornado.httputil import HTTPInputError
from tornado.iostream import StreamClosedError

from bokeh_gateway.http.forwarded import normalise
from bokeh_gateway.http.head import BadHead, RequestHead
from bokeh_gateway.policy.verdict import Deny
from bokeh_gateway.wire.exchange import SERVER, Exchange, LazyHeaders
from bokeh_gateway.wire.reader import RequestReader, too_big
from bokeh_gateway.wire.sweep import NEVER
from bokeh_gateway.wire.tunnel import HIGH_WATER, LOW_WATER, plain_transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from bokeh_gateway.wire.edge import Edge

log = logging.getLogger(__name__)

# What the bytes are that come in.
ARRIVING: Final = -1  # not ours yet: a TLS handshake, or a PROXY header
HEAD: Final = 0  # the next request, or nothing yet
BODY: Final = 1  # the body of the request under way
WAIT: Final = 2  # a later request: the answer to this one has not ended
UPGRADE: Final = 3  # frames for a worker that has not agreed to a tunnel yet
LINGER: Final = 4  # of no interest: the last answer is out, but the client may not have read it yet
GONE: Final = 5  # none: closed, or a tunnel's now

LINGER_TIME: Final = 5.0
"""Seconds for a client to read the last answer while it still sends; nginx's lingering_timeout."""
HELD_BODY: Final = 16 * 1024
"""Bytes of a chunked body that are checked before the request is handed on, so that bad framing reaches nobody."""
HELD_TIME: Final = 1.0
"""Seconds after which such a request is handed on with what has come."""
EARLY_FRAMES: Final = 64 * 1024
"""Bytes that may wait for a worker to agree to an upgrade."""
MIN_RATE: Final = 100
"""Bytes a second below which the taking of an answer counts as stalled."""


class Downstream(asyncio.Protocol):
    """One client's connection.

    Attributes:
        out: serialised pieces of the answer, written by `flush`; `big` when copying them together would cost.
        paused: whether the client has as much waiting for it as we keep.
        last: no further request is served on this connection.
        answer_lines: lines that every answer gets.
        due: when `expire` is to be called, on the loop's clock.
        over: the limit that it is over, with its setting; "" for one that is to be served.
        onward: the header lines for a worker of `onward_of`, the `plain` of the last head: clients repeat them.
    """

    __slots__ = (
        "_backlog",
        "_checked",
        "_credit",
        "_drain",
        "_held",
        "_mark",
        "_reader",
        "_receiving",
        "_waiting_for",
        "answer_lines",
        "big",
        "due",
        "edge",
        "exchange",
        "forward_lines",
        "last",
        "onward",
        "onward_of",
        "out",
        "over",
        "paused",
        "port",
        "remote_ip",
        "secure",
        "state",
        "transport",
        "trusted",
        "written",
    )

    transport: asyncio.Transport

    def __init__(self, edge: Edge, *, secure: bool, port: int) -> None:
        """`secure`: the listener speaks TLS; `port` is its port, 0 for a unix socket."""
        self.edge = edge
        self.secure = secure
        self.port = port
        self.state = HEAD
        self.exchange: Exchange | None = None
        self.out: list[bytes] = []
        self.big = False
        self.last = False
        self.answer_lines = SERVER + (edge.hsts if secure else b"")
        self.forward_lines = b""
        self.onward = b""
        self.onward_of: list[bytes] | None = None
        self.remote_ip = ""
        self.trusted = False
        self.over = ""
        self.due = NEVER
        self.written = 0
        self._reader = RequestReader(edge.limits)
        self._backlog = b""
        self._receiving = False
        self._held = False
        self.paused = False
        self._waiting_for: Awaitable[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._mark = 0
        self._checked = 0.0
        self._credit = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = plain_transport(transport)
        edge = self.edge
        if self.state == ARRIVING:
            self.state = HEAD
        else:
            peername = transport.get_extra_info("peername")
            edge.enter(self, normalise(str(peername[0]) if isinstance(peername, tuple) and peername else ""))
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        edge.sweep.watch(self)
        self.due = edge.sweep.now + edge.timeouts.keep_alive
        if self.over:
            self._too_many()

    def arrive(self, peer: str) -> bool:
        """Counts the connection before it has a transport; False: there is no room, and it is to be closed."""
        self.state = ARRIVING
        self.edge.enter(self, peer)
        return self._may_stay()

    def speaks_for(self, client: str, port: int) -> bool:
        """A trusted proxy told whose connection it is, and at which port; as `arrive`, for the client's own limits."""
        self.port = port or self.port
        self.edge.leave(self)
        self.edge.enter(self, client)
        return self._may_stay()

    def _may_stay(self) -> bool:
        if not self.over or not self.edge.crowded(self):
            return True
        self.edge.on_bad_head(self, too_many(self.over))
        self.released()
        return False

    @property
    def first_line(self) -> tuple[bytes, bytes, int]:
        """Of a request that could not be read: method, target and minor version, as far as they came."""
        return self._reader.first_line()

    @property
    def arriving(self) -> bool:
        """Whether it counts, and has no transport of its own yet."""
        return self.state == ARRIVING

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state <= BODY and not self._backlog:
            if state == HEAD and not self.paused:
                head = self._reader.repeated(data)
                if head is not None:
                    self._start_whole(head)
                    return
            self._receive(data)
        elif state <= UPGRADE:
            self._backlog += data
            self._set_reading()

    def eof_received(self) -> bool:
        # As nginx does: a client that half-closes has gone, and what is under way for it ends.
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.released()
        if self._drain is not None and not self._drain.done():
            self._drain.set_exception(StreamClosedError())
            self._drain.exception()  # marks it as seen: nobody needs to wait for it
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            if not exchange.ended:
                exchange.ended = True
                exchange.reason = exchange.reason or "client-closed"
                exchange.closed()
                self.edge.on_done(exchange)
        self.edge.delegate.on_close(self)

    def released(self) -> None:
        """The transport is closed, whoever had it last: stop counting this connection."""
        edge = self.edge
        self.state = GONE
        self.due = NEVER
        edge.sweep.forget(self)
        edge.leave(self)

    def pause_writing(self) -> None:
        self.paused = True
        self._mark = self._taken()
        self.due = self.edge.sweep.now + self.edge.timeouts.send
        exchange = self.exchange
        if exchange is not None and exchange.delegate is not None:
            hold = getattr(exchange.delegate, "hold", None)
            if hold is not None:
                hold()

    def resume_writing(self) -> None:
        self.paused = False
        if self._drain is not None:
            if not self._drain.done():
                self._drain.set_result(None)
            self._drain = None
        exchange = self.exchange
        if exchange is None:
            self.due = self.edge.sweep.now + self.edge.timeouts.keep_alive
            self._resume()
            return
        self.due = self.edge.sweep.now + self.edge.timeouts.response
        release = getattr(exchange.delegate, "release", None)
        if release is not None:
            release()

    # Requests.

    def _receive(self, data: bytes) -> None:
        """Reads requests from `data` until one waits for its answer; the rest is the backlog."""
        reader = self._reader
        self._receiving = True
        try:
            while data and self.state <= BODY and not self.paused:
                try:
                    data = reader.feed(data)
                except BadHead as bad:
                    self._refuse(bad)
                    return
                exchange = self.exchange
                if exchange is not None:
                    self._deliver(exchange)
                elif reader.head is None:
                    if reader.begun and self.due > (latest := self.edge.sweep.now + self.edge.timeouts.header):
                        self.due = latest
                    if reader.oversize is not None and self.due > (latest := self.edge.sweep.now + HELD_TIME):
                        self.due = latest
                elif self._may_start(reader.head):
                    self._start(reader.head)
        finally:
            self._receiving = False
        if data and self.state <= UPGRADE:
            self._backlog = data
            self._set_reading()

    def _may_start(self, head: RequestHead) -> bool:
        """Whether enough of the request has been checked to hand it on."""
        reader = self._reader
        if not head.chunked or reader.complete or head.expect or sum(map(len, reader.chunks)) >= HELD_BODY:
            return True
        self.due = self.edge.sweep.now + HELD_TIME
        return False

    def _start_whole(self, head: RequestHead) -> None:
        """`_start` for a GET that is nothing but its head."""
        edge = self.edge
        exchange = self.exchange = Exchange(self, head)
        exchange.finished = True
        self.state = WAIT
        self.due = edge.sweep.now + edge.timeouts.response
        try:
            delegate = exchange.delegate = edge.delegate.start_request(self, exchange)
            begin = getattr(delegate, "begin", None)
            if begin is not None:
                begin()
                return
            exchange.finished = False
            self._wait_for(delegate.headers_received(exchange.start_line(), LazyHeaders(head.pairs)))
        except Exception as error:  # noqa: BLE001  one request's bug must not take the connection's loop with it
            self._crashed(exchange, error)
        if self.exchange is exchange:
            self._deliver(exchange)

    def _start(self, head: RequestHead) -> None:
        edge = self.edge
        exchange = self.exchange = Exchange(self, head)
        if self._reader.complete:
            self.state = UPGRADE if head.upgrade == b"websocket" else WAIT
            self.due = edge.sweep.now + edge.timeouts.response
        else:
            self.state = BODY
            self._mark = 0
            self._expect_body()
        try:
            delegate = exchange.delegate = edge.delegate.start_request(self, exchange)
            begin = getattr(delegate, "begin", None)
            if begin is not None:
                # The gateway's own endpoints read `exchange.head`, and never need Tornado's form of it.
                if self.state >= WAIT and not self._reader.chunks:
                    exchange.finished = True
                    begin()
                    return
                begin()
            else:
                self._wait_for(delegate.headers_received(exchange.start_line(), LazyHeaders(head.pairs)))
        except Exception as error:  # noqa: BLE001  one request's bug must not take the connection's loop with it
            self._crashed(exchange, error)
        if self.exchange is exchange:
            self._deliver(exchange)

    def _deliver(self, exchange: Exchange) -> None:
        """Hands on what has come of the body, as far as the delegate is ready for it."""
        if self._waiting_for is not None:
            return
        reader = self._reader
        delegate = exchange.delegate
        if delegate is None:
            return
        try:
            chunks = reader.take()
            if len(chunks) > 1:
                chunks = [b"".join(chunks)]  # a byte at a time would cost as much for each
            for at, chunk in enumerate(chunks):
                exchange.received += len(chunk)
                limit = self.edge.limits.body_size
                if limit is not None and exchange.received > limit:
                    self._refuse(too_big(exchange.received, limit))
                    return
                self._wait_for(delegate.data_received(chunk))
                if self.exchange is not exchange:
                    return
                if self._waiting_for is not None:
                    reader.chunks = chunks[at + 1 :] + reader.chunks
                    return
            if reader.complete and exchange.delegate is not None and not exchange.finished:
                exchange.finished = True
                if self.state == BODY:
                    self.state = WAIT
                    self.due = self.edge.sweep.now + self.edge.timeouts.response
                delegate.finish()
        except Exception as error:  # noqa: BLE001  as above
            self._crashed(exchange, error)

    def _wait_for(self, answer: Awaitable[None] | None) -> None:
        """A delegate may answer with a future: the body waits for it."""
        if answer is None:
            return
        future: asyncio.Future[Any] = asyncio.ensure_future(answer)
        if future.done() and future.exception() is None:
            return
        self._waiting_for = future
        self.hold_body()
        future.add_done_callback(self._waited)

    def _waited(self, future: asyncio.Future[Any]) -> None:
        if self._waiting_for is not future:
            # What it was for has been answered, and the next request may be waiting already.
            if not future.cancelled() and future.exception() is not None:
                log.error("a request met an unexpected error after its answer", exc_info=future.exception())
            return
        self._waiting_for = None
        exchange = self.exchange
        if exchange is None or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._crashed(exchange, error)
            return
        self.release_body()
        self._deliver(exchange)

    def _crashed(self, exchange: Exchange, error: BaseException) -> None:
        if isinstance(error, HTTPInputError):
            self._refuse(BadHead(400, str(error)))
            return
        number = exchange.request_id = os.urandom(4).hex()
        method, path = exchange.head.method.decode("latin-1"), exchange.head.path.decode("latin-1")
        log.error("error %s: %s %s of %s failed unexpectedly", number, method, path, exchange.client, exc_info=error)
        self.edge.on_error("request")
        if exchange.ended:
            return
        exchange.reason = "internal-error"
        if exchange.opened:
            exchange.abort()
        else:
            exchange.keep = False
            detail = f"The gateway could not handle this request; its log says why, as error {number}."
            headers, body = self.edge.explain(500, detail, "", exchange.head.get(b"accept") or b"")
            exchange.respond(500, headers, body)

    def answered(self, exchange: Exchange) -> None:
        """The answer has been written to its end: the connection goes on, or closes."""
        edge = self.edge
        edge.on_done(exchange)
        if self.exchange is not exchange:
            return
        self.exchange = None
        exchange.delegate = None  # each knows the other: cut, they are freed without the garbage collector
        held = self._held
        if held or self._waiting_for is not None:
            self._held, self._waiting_for = False, None
        if self.state == GONE:
            return
        reader = self._reader
        if exchange.keep and reader.complete and not self.last:
            reader.next()
            self.state = HEAD
            if held:
                self._set_reading()
            if not self.paused:
                self.due = edge.sweep.now + edge.timeouts.keep_alive
                if self._backlog and not self._receiving:
                    self._resume()
        elif reader.complete and not self._backlog:
            self.state = GONE
            self.transport.close()
            self.due = edge.sweep.now + edge.timeouts.send
        else:
            self._linger()

    def _resume(self) -> None:
        """Goes on with what came while the last answer was under way."""
        if self.state <= BODY:
            data, self._backlog = self._backlog, b""
            self._set_reading()
            if data:
                self._receive(data)

    # Writing.

    def flush(self) -> None:
        """Writes what `out` holds."""
        out = self.out
        if not out:
            return
        self.out = []
        if self.big:
            self.big = False
            self.written += sum(map(len, out))
            self.transport.writelines(out)
        else:
            data = b"".join(out)
            self.written += len(data)
            self.transport.write(data)

    def send(self, pieces: Sequence[bytes], big: bool) -> None:
        """Writes `pieces` behind what `out` holds; `big`: copying them together would cost more than it saves."""
        if self.out:
            self.out += pieces
            self.big = self.big or big
            self.flush()
        elif big:
            self.written += sum(map(len, pieces))
            self.transport.writelines(pieces)
        else:
            data = b"".join(pieces)
            self.written += len(data)
            self.transport.write(data)

    def drained(self) -> asyncio.Future[None]:
        """A future that is done when the client has taken enough to be sent more."""
        if self.paused and self.state != GONE:
            if self._drain is None:
                self._drain = asyncio.get_running_loop().create_future()
            return self._drain
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def abort(self, exchange: Exchange) -> None:
        """Ends the connection with the answer unfinished, so that the client sees the cut."""
        self.flush()
        if self.exchange is exchange:
            self.exchange = None
            self.edge.on_done(exchange)
        self.state = GONE
        if exchange.ends_with_connection:
            self._reset()
        else:
            self.transport.close()
        self.due = self.edge.sweep.now + LINGER_TIME

    def _reset(self) -> None:
        """Ends with a reset: where the end of the connection is the end of the answer, nothing else tells of a cut."""
        bound = self.transport.get_extra_info("socket")
        if bound is not None:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def hold_body(self) -> None:
        """The endpoint takes no more of the body for now."""
        self._held = True
        self._set_reading()

    def release_body(self) -> None:
        self._held = False
        if self.state == BODY:
            self._mark = self.exchange.received if self.exchange else 0
            self._expect_body()
        self._set_reading()

    def detach(self) -> bytes:
        """Gives the transport to a tunnel: returns the frames that came early.  Whoever has it then is to `leave`."""
        early, self._backlog = self._backlog, b""
        self.exchange = None
        self.state = GONE
        self.due = NEVER
        self.edge.sweep.forget(self)
        self.flush()
        del self._reader, self.out
        self.onward = self.forward_lines = b""
        self.onward_of = None
        self.transport.resume_reading()
        return early

    def finish_up(self) -> None:
        """The gateway drains: this connection serves what it has begun, and no more."""
        self.last = True
        if self.state == HEAD and not self._reader.begun and self.exchange is None:
            self.state = GONE
            self.transport.close()

    def cut(self) -> None:
        """The drain is over: what is under way ends unfinished."""
        exchange = self.exchange
        if exchange is not None:
            exchange.reason = exchange.reason or "gateway-stops"
        self.transport.abort()

    def _set_reading(self) -> None:
        waiting = len(self._backlog)
        allowed = EARLY_FRAMES if self.state == UPGRADE else 0
        if self._held or waiting > allowed:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # Refusals and deadlines.

    def _refuse(self, bad: BadHead) -> None:
        """Answers what cannot be served, and closes."""
        exchange = self.exchange
        self.last = True
        if exchange is not None:
            delegate, exchange.delegate = exchange.delegate, None
            if delegate is not None:
                delegate.on_connection_close()
            exchange.reason = bad.reason
            exchange.refusal = Deny(bad.status, bad.reason, bad.detail)
            if exchange.opened:
                exchange.abort()
                return
            headers, body = self.edge.explain(bad.status, bad.detail, "", exchange.head.get(b"accept") or b"")
            exchange.keep = False
            exchange.respond(bad.status, bad.headers + headers, body)
            return
        self.edge.on_bad_head(self, bad)
        headers, body = self.edge.explain(bad.status, bad.detail, "", self._reader.accept)
        self.out += (
            b"HTTP/1.1 %d %b\r\n" % (bad.status, reason_phrase(bad.status)),
            self.answer_lines,
            bad.headers,
            headers,
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body),
            body,
        )
        self.flush()
        self._linger()

    def _linger(self) -> None:
        """Closes our half, and reads on for a while so that no reset overtakes the answer (RFC 9112 section 9.6)."""
        self.state = LINGER
        self._backlog = b""
        self.due = self.edge.sweep.now + LINGER_TIME
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _too_many(self) -> None:
        edge = self.edge
        bad = too_many(self.over)
        if not edge.crowded(self):
            self._refuse(bad)
            return
        edge.on_bad_head(self, bad)
        self.state = GONE
        self.transport.abort()

    def _taken(self) -> int:
        return self.written - self.transport.get_write_buffer_size()

    def expire(self, now: float) -> None:
        state = self.state
        timeouts = self.edge.timeouts
        if self.paused and state < LINGER:
            taken = self._taken()
            if taken - self._mark < MIN_RATE * timeouts.send and taken != self.written:
                self._cut("slow-reader", f"took {taken - self._mark} bytes in [timeouts] send = {timeouts.send:g} s")
            self._mark = taken
            self.due = now + timeouts.send
        elif state == HEAD:
            self._expire_head()
        elif state == BODY:
            self._expire_body(now)
        elif state <= UPGRADE:
            timed_out = getattr(self.exchange and self.exchange.delegate, "timed_out", None)
            self.due = NEVER if timed_out is None else now + timeouts.response
            if timed_out is not None:
                timed_out()
        else:
            self.due = NEVER
            self.transport.abort()

    def _expire_head(self) -> None:
        reader = self._reader
        if reader.head is not None:
            self._start(reader.head)
        elif reader.begun:
            self._refuse(
                reader.overdue()
                or BadHead(
                    408, f"The request's head did not come within [timeouts] header = {self.edge.timeouts.header:g} s."
                )
            )
        else:
            self.due = NEVER
            self.state = GONE
            self.transport.close()

    def _expect_body(self) -> None:
        """The client has its time from now on: `body_grace`, and what the bytes that come add to it."""
        timeouts = self.edge.timeouts
        self._checked = self.edge.sweep.now
        self._credit = timeouts.body if self.edge.limits.body_rate is None else min(timeouts.body_grace, timeouts.body)
        self.due = self._checked + self._credit

    def _expire_body(self, now: float) -> None:
        """Each byte that came buys time, never more than `body` ahead; who has none left is too slow."""
        exchange = self.exchange
        assert exchange is not None
        longest, rate = self.edge.timeouts.body, self.edge.limits.body_rate
        came = exchange.received - self._mark
        bought = longest * came if rate is None else came / rate
        spent = 0.0 if self._held else now - self._checked  # a worker that takes no more is no fault of the client's
        self._credit = min(self._credit - spent + bought, longest)
        self._mark, self._checked = exchange.received, now
        self.due = now + max(self._credit, 0.0)
        if self._credit <= 0:
            setting = f"[timeouts] body = {longest:g} s"
            if rate is not None:
                setting = f"[limits] body_rate = {rate} B, a second; [timeouts] body_grace and body"
            self._refuse(BadHead(408, f"The body comes too slowly: {setting}.", reason="slow-body"))

    def _cut(self, reason: str, detail: str) -> None:
        log.warning("%s: cut, %s: %s", self.remote_ip, reason, detail)
        exchange = self.exchange
        if exchange is not None:
            exchange.reason = reason
        self.transport.abort()


def too_many(setting: str) -> BadHead:
    return BadHead(503, f"Too many connections: {setting} is the most.", b"Retry-After: 5\r\n", "too-many-connections")


def reason_phrase(status: int) -> bytes:
    from http.client import responses

    return responses.get(status, "").encode()
