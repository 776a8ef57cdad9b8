"""One request and its answer on a downstream connection; a `tornado.httputil.HTTPConnection` for Tornado's endpoints.

Endpoints of the gateway's own use `open`, `body`, `end` and `flush`, or `respond` for an answer that is whole.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable
from http.client import responses
from time import gmtime, monotonic, time
from typing import TYPE_CHECKING, Final, Protocol

from tornado.httputil import HTTPConnection, HTTPHeaders, RequestStartLine, ResponseStartLine
from tornado.iostream import StreamClosedError

from bokeh_gateway.http.head import Pairs, RequestHead

if TYPE_CHECKING:
    from tornado.httputil import HTTPMessageDelegate

    from bokeh_gateway.policy.verdict import Deny
    from bokeh_gateway.wire.downstream import Downstream
    from bokeh_gateway.wire.tunnel import Tunnel

UNKNOWN_LENGTH: Final = -1
"""The body's length is not known: chunked, or until the connection closes for an HTTP/1.0 client."""

SERVER: Final = b"Server: bokeh-gateway\r\n"
_BIG: Final = 16384
"""From here on a chunk is handed over as it is; below, one joined write is cheaper."""

_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, reason.encode()) for status, reason in responses.items()
}
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class _Date:
    """The Date line, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        second = int(time())
        if second != self._second:
            self._second = second
            at = gmtime(second)
            self._line = (
                f"Date: {_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year} "
                f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} GMT\r\n"
            ).encode()
        return self._line


date: Final = _Date()


class LazyHeaders(HTTPHeaders):
    """The parser's raw pairs; Tornado's own form is built when someone looks."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs: Pairs | None = pairs

    def __getattr__(self, name: str) -> object:
        # Only reached while the two attributes of HTTPHeaders do not exist.
        pairs = self.__dict__.get("_pairs")
        if pairs is None or name not in ("_as_list", "_combined_cache"):
            raise AttributeError(name)
        self._pairs = None
        HTTPHeaders.__init__(self)
        for key, value in pairs:
            self.add(key.decode("latin-1"), value.decode("latin-1"))
        return self.__dict__[name]


class Context:
    """What Tornado asks a connection: who is there, and how he came."""

    __slots__ = ("protocol", "remote_ip")

    def __init__(self, remote_ip: str, protocol: str) -> None:
        self.remote_ip = remote_ip
        self.protocol = protocol


class TunnelWatch(Protocol):
    """Follows one WebSocket from its opening to its end."""

    def opened(self, tunnel: Tunnel) -> None: ...
    def closed(self, tunnel: Tunnel) -> None: ...


class Exchange(HTTPConnection):
    """One request and its answer.

    Attributes:
        head: the request's head.
        status: of the answer, 0 before it is chosen.
        sent, received: bytes of the two bodies.
        forward_lines: X-Forwarded-* for the worker where a trusted proxy had a word in it, else b"": the connection's.
        client: the client's address, and `secure` whether he came by TLS, as far as trusted proxies tell.
        more_lines: further header lines for the answer, such as Set-Cookie of the sign-in.
        watch: told of the tunnel that this becomes, or None.
        worker, reason, user: for the log.
        request_id: the number under which the own log tells of an unexpected error, "" where there was none.
        keep: whether the connection stays open after the answer.
        opened, ended: whether the answer's head, its end has been written; finished: whether the request has been read.
    """

    # What most exchanges never change stands here once, rather than being set for each of them.
    delegate: HTTPMessageDelegate | None = None
    status = 0
    sent = 0
    received = 0
    worker = ""
    reason = ""
    user = ""
    route = ""
    request_id = ""
    refusal: Deny | None = None
    opened = False
    ended = False
    finished = False
    forward_lines = b""
    more_lines = b""
    watch: TunnelWatch | None = None
    _chunking = False
    _no_body = False
    _owed = UNKNOWN_LENGTH
    _close_callback: Callable[[], None] | None = None

    def __init__(self, connection: Downstream, head: RequestHead) -> None:
        self.connection = connection
        self.head = head
        self.started = monotonic()
        self.client = connection.remote_ip
        self.secure = connection.secure
        self.keep = head.keep_alive

    # The gateway's own endpoints.

    def open(self, status: int, lines: Iterable[bytes], length: int, reason: bytes = b"") -> None:
        """Writes the answer's head.

        `lines` are serialised pieces without framing; `length` is Content-Length, or UNKNOWN_LENGTH.
        `reason` is only used for a status without a usual phrase.
        """
        self.status = status
        self.opened = True
        head = self.head
        connection = self.connection
        out = connection.out
        out.append(_STATUS_LINES.get(status) or b"HTTP/1.1 %d %b\r\n" % (status, reason))
        out += lines
        out.append(connection.answer_lines)
        if self.more_lines:
            out.append(self.more_lines)
        bodiless = status == 304 or status == 204
        self._no_body = bodiless or head.method == b"HEAD"
        if length >= 0:
            if status != 204:
                out.append(b"Content-Length: %d\r\n" % length)
            self._owed = 0 if self._no_body else length
        elif not self._no_body:
            if head.minor:
                self._chunking = True
                out.append(b"Transfer-Encoding: chunked\r\n")
            else:
                self.keep = False
        if not self.keep or connection.last:
            self.keep = False
            out.append(b"Connection: close\r\n\r\n")
        elif head.minor == 0:
            out.append(b"Connection: keep-alive\r\n\r\n")
        else:
            out.append(b"\r\n")

    def body(self, chunk: bytes) -> None:
        """Writes a piece of the answer's body."""
        if self._no_body or not chunk:
            return
        size = len(chunk)
        self.sent += size
        connection = self.connection
        if size > _BIG:
            connection.big = True
        if self._chunking:
            connection.out += (b"%x\r\n" % size, chunk, b"\r\n")
        else:
            self._owed -= size
            connection.out.append(chunk)

    def end(self) -> None:
        """The answer is whole: flushes, and lets the connection go on to the next request."""
        if self.ended:
            return
        self.ended = True
        if self._chunking:
            self.connection.out.append(b"0\r\n\r\n")
        elif self._owed > 0:
            self.abort()
            return
        self.connection.flush()
        self.connection.answered(self)

    def flush(self) -> None:
        self.connection.flush()

    def whole(self, status: int, lines: list[bytes], chunks: list[bytes]) -> None:
        """`open`, `body` for each chunk and `end` in one, for an answer that has a body; may add to `lines`."""
        connection = self.connection
        size = len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
        self.status = status
        self.opened = self.ended = True
        self.sent = size
        if self.more_lines:
            lines.append(self.more_lines)
        keep = self.keep = self.keep and not connection.last
        if keep and self.head.minor:
            framing = b"Content-Length: %d\r\n\r\n" % size
        else:
            how = b"keep-alive" if keep else b"close"
            framing = b"Content-Length: %d\r\nConnection: %b\r\n\r\n" % (size, how)
        pieces = (_STATUS_LINES[status], *lines, connection.answer_lines, framing, *chunks)
        if size > _BIG or connection.out:
            connection.send(pieces, size > _BIG)
        else:
            data = b"".join(pieces)
            connection.written += len(data)
            connection.transport.write(data)
        connection.answered(self)

    def respond(self, status: int, headers: bytes, body: bytes = b"") -> None:
        """A whole answer of the gateway's own; `headers` are `Name: value\\r\\n` lines without framing."""
        if body and self.head.method != b"HEAD" and status in _STATUS_LINES and not self.opened:
            self.whole(status, [headers, date.line()], [body])
            return
        self.open(status, (headers, date.line()), len(body))
        self.body(body)
        self.end()

    def interim(self, status: int, lines: Iterable[bytes]) -> None:
        """Passes on a 1xx answer, which HTTP/1.0 clients do not know."""
        if self.head.minor and not self.opened:
            self.connection.out += (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status, *lines, b"\r\n")
            self.connection.flush()

    @property
    def ends_with_connection(self) -> bool:
        """Whether the answer under way has no other end: HTTP/1.0, and nobody knows its length."""
        return self.opened and not self._chunking and not self._no_body and self._owed < 0

    def abort(self) -> None:
        """Cuts the connection, so that the client sees that the answer is not whole."""
        self.ended = True
        self.connection.abort(self)

    def closed(self) -> None:
        """The client went away before the answer was whole."""
        if self._close_callback is not None:
            callback, self._close_callback = self._close_callback, None
            callback()
        if self.delegate is not None:
            self.delegate.on_connection_close()

    # tornado.httputil.HTTPConnection

    @property
    def context(self) -> Context:
        return Context(self.client, "https" if self.secure else "http")

    @property
    def no_keep_alive(self) -> bool:
        return not self.keep

    def start_line(self) -> RequestStartLine:
        head = self.head
        return RequestStartLine(head.method.decode("latin-1"), head.target.decode("latin-1"), f"HTTP/1.{head.minor}")

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        self._close_callback = callback

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Future[None]:
        assert isinstance(start_line, ResponseStartLine)
        if self.ended:
            return _stream_closed()
        lines = [date.line()]
        length = UNKNOWN_LENGTH
        for name, value in headers.get_all():
            lower = name.lower()
            if lower == "content-length":
                length = int(value)
            elif lower not in ("transfer-encoding", "connection", "server", "date"):
                lines.append(f"{name}: {value}\r\n".encode("latin-1"))
        self.open(start_line.code, lines, length, start_line.reason.encode("latin-1"))
        return self.write(chunk or b"")

    def write(self, chunk: bytes) -> Future[None]:
        if self.ended:
            return _stream_closed()
        self.body(bytes(chunk))
        self.connection.flush()
        return self.connection.drained()

    def finish(self) -> None:
        self.end()


def _stream_closed() -> Future[None]:
    """What Tornado's own connection answers to who writes when the client has gone."""
    future: Future[None] = Future()
    future.set_exception(StreamClosedError())
    future.exception()  # marks it as seen: nobody needs to wait for it
    return future
