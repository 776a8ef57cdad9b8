"""Connections to one worker: kept alive, one request at a time, not reused when anything about the last answer was odd.

Source: RFC 9112 sections 6.3 (where an answer ends) and 9.3 (persistence).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bokeh_gateway.errors import GatewayError, WorkerBroken, WorkerClosed, WorkerRefused
from bokeh_gateway.http.answer import AnswerHead, BadAnswer, read_answer
from bokeh_gateway.http.head import MINOR, Pairs
from bokeh_gateway.wire.sweep import NEVER, Sweep
from bokeh_gateway.wire.tunnel import HIGH_WATER, LOW_WATER, plain_transport

if TYPE_CHECKING:
    from bokeh_gateway.config.address import Address

MAX_IDLE: Final = 64
"""Idle connections kept for one worker."""
IDLE_TIME: Final = 60.0
"""Seconds that an idle connection is kept; a Tornado worker keeps its end for an hour."""
HEAD_LIMIT: Final = 64 * 1024
"""Bytes of an answer's head, as Tornado's own client allows; nginx gives 4 to 8 KB."""
MAX_HEADERS: Final = 1000
"""Header lines of an answer."""
PASSED_BY: Final = 64 * 1024
"""Bytes still to come of a body of known length from which on it passes by the parser."""
MAX_INTERIM: Final = 16
"""Interim (1xx) answers before the final one."""


class Consumer(Protocol):
    """Who asked, and takes the answer."""

    def answer_interim(self, head: AnswerHead) -> None: ...
    def answer_head(self, head: AnswerHead) -> None: ...
    def answer_body(self, chunk: bytes) -> None: ...
    def answer_flush(self) -> None: ...
    def answer_end(self) -> None: ...
    def answer_whole(self, head: AnswerHead, chunks: list[bytes]) -> None:
        """Head, body and end in one."""

    def answer_upgraded(self, head: AnswerHead, early: bytes) -> None: ...
    def answer_failed(self, error: GatewayError) -> None: ...
    def hold_request(self) -> None: ...
    def release_request(self) -> None: ...


class Upstream(asyncio.Protocol):
    """One connection to a worker."""

    __slots__ = (
        "_chunks",
        "_complete",
        "_consumer",
        "_extra",
        "_fed",
        "_head",
        "_head_only",
        "_interim",
        "_left",
        "_pairs",
        "_parsed",
        "_parser",
        "_passed",
        "_read",
        "_reason",
        "_sent_whole",
        "due",
        "link",
        "paused",
        "reused",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, link: Link) -> None:
        self.link = link
        self.reused = False
        self.due = NEVER
        self.paused = False
        self._consumer: Consumer | None = None
        self._parser = HttpResponseParser(self)
        self._parsed = True
        self._head_only = False
        self._sent_whole = False
        self._extra = False
        self._left = 0
        self._reset_parsed()

    def _reset_parsed(self) -> None:
        self._parsed = False
        self._pairs: Pairs = []
        self._reason = b""
        self._head: AnswerHead | None = None
        self._passed = False
        self._chunks: list[bytes] = []
        self._complete = False
        self._read = 0
        self._interim = 0
        self._fed = 0

    # Asking.

    def ask(self, consumer: Consumer, data: bytes, head_only: bool, whole: bool) -> None:
        """Sends a request's head; the answer goes to `consumer`.

        `head_only`: the answer to a HEAD has no body.  `whole`: the request has no body to come.
        """
        if self._parsed:
            self._reset_parsed()
        self._head_only = head_only
        self._sent_whole = whole
        self._consumer = consumer
        self.due = NEVER
        self.transport.write(data)

    def write(self, data: bytes) -> None:
        """Sends a piece of the request's body, framed already."""
        self.transport.write(data)

    def sent(self) -> None:
        """The request has been sent to its end: only then can the connection be used again."""
        self._sent_whole = True

    def abandon(self) -> None:
        """Nobody wants the answer any more: the connection closes at once, so that the worker sees it."""
        self._consumer = None
        self.transport.abort()

    def pause(self) -> None:
        """Reads nothing for now."""
        self.paused = True
        self.transport.pause_reading()

    def resume(self) -> None:
        self.paused = False
        self.transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = plain_transport(transport)
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        self.link.opened(self)

    def data_received(self, data: bytes) -> None:
        consumer = self._consumer
        if consumer is None:
            # Nothing was asked: whatever this is, it must not become the answer to the next request.
            self.link.forget(self)
            self.transport.abort()
            return
        if self._left:
            self._pass_body(consumer, data)
            return
        if not self._parsed:
            end = data.find(b"\r\n\r\n", 0, HEAD_LIMIT)
            head = read_answer(data, end) if end > 0 else None
            if head is not None:
                self._take_answer(consumer, head, data, end + 4)
                return
            if data[:1] != b"H":  # llhttp would overlook blank lines, and knows the answers of other protocols
                self._broken(consumer, "the answer does not begin with HTTP/")
                return
        self._parsed = True
        upgraded: int | None = None
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            upgraded = upgrade.args[0]
        except HttpParserError as error:
            if not self._complete:
                self._broken(consumer, f"the answer breaks HTTP: {error.__context__ or error}")
                return
            self._extra = True
        head = self._head
        if head is None:
            self._fed += len(data)
            if self._fed > HEAD_LIMIT or len(self._pairs) > MAX_HEADERS:
                self._broken(consumer, f"the answer's head is over {HEAD_LIMIT} bytes or {MAX_HEADERS} lines")
            return
        if not self._passed:
            if (head.status == 101 or self._fed + len(data) > HEAD_LIMIT) and not self._may_pass(
                consumer, head, data, upgraded
            ):
                return
            if self._complete:
                chunks, self._chunks = self._chunks, []
                self._let_go(head)
                consumer.answer_whole(head, chunks)
                return
            self._passed = True
            consumer.answer_head(head)
            if self._consumer is not consumer:
                return
        if self._chunks:
            came = 0
            for chunk in self._chunks:
                came += len(chunk)
                consumer.answer_body(chunk)
            self._chunks = []
            self._read += came
        if self._complete:
            self._let_go(head)
            consumer.answer_end()
            return
        if head.length - self._read >= PASSED_BY:
            self._left = head.length - self._read
        consumer.answer_flush()

    def _take_answer(self, consumer: Consumer, head: AnswerHead, data: bytes, start: int) -> None:
        """A head that was read at once, with what came of its body from `start` on."""
        status = head.status
        wanted = 0 if self._head_only or status == 204 or status == 304 else head.length
        came = len(data) - start
        if came == wanted and self._sent_whole:
            # `_let_go`, for what is known of such a head: the usual end of nearly every request.
            self._consumer = None
            self.link.release(self)
            consumer.answer_whole(head, [data[start:]] if wanted else [])
            return
        if came >= wanted:
            self._extra = came > wanted
            body = data[start : start + wanted]
            self._let_go(head)
            consumer.answer_whole(head, [body] if wanted else [])
            return
        self._parsed = self._passed = True
        self._head = head
        self._left = wanted - came
        consumer.answer_head(head)
        if self._consumer is consumer:
            if came:
                consumer.answer_body(data[start:])
            consumer.answer_flush()

    def _pass_body(self, consumer: Consumer, data: bytes) -> None:
        """The middle of a long body of known length: llhttp would only copy it."""
        left = self._left - len(data)
        if left < 0:
            self._extra = True
            data = data[:left]
            left = 0
        self._left = left
        consumer.answer_body(data)
        if left:
            consumer.answer_flush()
            return
        if self._pairs:  # the parser read the head, and still waits for the body
            self._parser = HttpResponseParser(self)
        assert self._head is not None
        self._let_go(self._head)
        consumer.answer_end()

    def _may_pass(self, consumer: Consumer, head: AnswerHead, data: bytes, upgraded: int | None) -> bool:
        if len(head.reason) + sum(len(n) + len(v) + 4 for n, v in self._pairs) > HEAD_LIMIT:
            self._broken(consumer, f"the answer's head is over {HEAD_LIMIT} bytes")
            return False
        if head.status == 101:
            if upgraded is None:
                self._broken(consumer, "101 without an Upgrade")
            else:
                self._consumer = None
                self.link.opened_elsewhere(self)
                consumer.answer_upgraded(head, data[upgraded:])
            return False
        return True

    def _let_go(self, head: AnswerHead) -> None:
        """The answer has been read: the connection waits for the next request, or closes."""
        self._consumer = None
        if (
            head.keep_alive
            and self._sent_whole
            and not self._extra
            and not self._left
            and (head.chunked or head.length >= 0 or self._bodiless(head))
        ):
            if self._head_only and self._parsed and head.length:
                # llhttp waits for the body that the head announced, and HEAD does not send.
                self._parser = HttpResponseParser(self)
            self.link.release(self)
        else:
            self.link.forget(self)
            self.transport.abort()

    def _bodiless(self, head: AnswerHead) -> bool:
        return self._head_only or head.status in (204, 304)

    def _broken(self, consumer: Consumer, detail: str) -> None:
        self._consumer = None
        self.link.forget(self)
        self.transport.abort()
        consumer.answer_failed(WorkerBroken(f"{self.link.name}: {detail}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.forget(self)
        consumer = self._consumer
        if consumer is None:
            return
        self._consumer = None
        head = self._head
        if head is not None and self._passed and head.length < 0 and not head.chunked and exc is None:
            consumer.answer_end()  # a body without a length ends with its connection
        else:
            consumer.answer_failed(WorkerClosed(f"{self.link.name}: closed before its answer was whole"))

    def pause_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.hold_request()

    def resume_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.release_request()

    def expire(self, now: float) -> None:
        """Idle for too long."""
        self.due = NEVER
        self.link.forget(self)
        self.transport.close()

    # httptools

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:
            self._pairs.append((name, value.rstrip(b" \t")))  # RFC 9112 section 5.1; llhttp only does so in front

    def on_headers_complete(self) -> None:
        if self._complete:
            self._extra = True  # a second answer, to a question that nobody asked
            return
        if len(self._pairs) > MAX_HEADERS:
            raise BadAnswer(f"more than {MAX_HEADERS} header lines")
        parser = self._parser
        minor = MINOR.get(parser.get_http_version())
        if minor is None:
            raise BadAnswer("a version that is neither HTTP/1.1 nor HTTP/1.0")
        head = AnswerHead(parser.get_status_code(), self._reason, minor, self._pairs)
        if head.status < 200 and head.status != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadAnswer("too many interim answers")
            if head.chunked or head.length > 0:
                raise BadAnswer("an interim answer with a body")
            if self._consumer is not None:
                self._consumer.answer_interim(head)
            self._pairs = []
            self._reason = b""
            return
        self._head = head
        if self._head_only:
            self._complete = True

    def on_body(self, chunk: bytes) -> None:
        if self._complete:
            self._extra = True
        else:
            self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._complete = True


class Link:
    """All connections to one worker."""

    __slots__ = ("_idle", "_loop", "_open", "_sweep", "address", "name")

    def __init__(self, name: str, address: Address, loop: asyncio.AbstractEventLoop, sweep: Sweep) -> None:
        self.name = name
        self.address = address
        self._loop = loop
        self._sweep = sweep
        self._idle: list[Upstream] = []
        self._open: set[Upstream] = set()

    def take(self) -> Upstream | None:
        """An idle connection, the one used last; None where there is none."""
        idle = self._idle
        while idle:
            upstream = idle.pop()
            if not upstream.transport.is_closing():
                upstream.reused = True
                return upstream
        return None

    async def connect(self, timeout: float) -> Upstream:
        """A new connection.

        Raises:
            WorkerRefused: it did not come about within `timeout` seconds.
        """
        address = self.address
        try:
            async with asyncio.timeout(timeout):
                if address.unix:
                    _, upstream = await self._loop.create_unix_connection(lambda: Upstream(self), address.unix)
                else:
                    _, upstream = await self._loop.create_connection(lambda: Upstream(self), address.host, address.port)
        except TimeoutError:
            raise WorkerRefused(
                f"{self.name} at {address}: no connection within [timeouts] connect = {timeout:g} s"
            ) from None
        except OSError as error:
            raise WorkerRefused(f"{self.name} at {address}: {error.strerror or error}") from error
        return upstream

    def opened(self, upstream: Upstream) -> None:
        self._open.add(upstream)
        self._sweep.watch(upstream)

    def opened_elsewhere(self, upstream: Upstream) -> None:
        """A tunnel has it now."""
        self._open.discard(upstream)
        self._sweep.forget(upstream)

    def release(self, upstream: Upstream) -> None:
        """The answer has been read to its end: the connection may be used again, unless `take` finds it closing."""
        idle = self._idle
        if len(idle) >= MAX_IDLE:
            self.forget(upstream)
            upstream.transport.close()
            return
        upstream.due = self._sweep.now + IDLE_TIME
        if upstream.paused:
            upstream.resume()
        idle.append(upstream)

    def forget(self, upstream: Upstream) -> None:
        self._open.discard(upstream)
        self._sweep.forget(upstream)
        if upstream in self._idle:
            self._idle.remove(upstream)

    def close(self) -> None:
        """Ends every connection that no tunnel has."""
        for upstream in list(self._open):
            upstream.transport.abort()
