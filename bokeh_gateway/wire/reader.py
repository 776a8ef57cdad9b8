"""Bytes of a client's connection read into requests, one at a time; no socket, no clock.

llhttp (by httptools, in its strict default) refuses what is malformed.  `feed` never lets it read on into the next
request, so that what a client pipelines stays bytes until the answer to the present request has ended.
Source: RFC 9112.
"""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from bokeh_gateway.config.schema import Limits
from bokeh_gateway.http.head import ABSURD_LENGTH, MINOR, BadHead, Pairs, RequestHead

OVERHEAD: Final = 16 * 1024
"""Bytes of chunk extensions and trailers, beyond what is usual beside the data, that are still read."""
CHUNK_COST: Final = 12
"""Bytes around a chunk's data that are usual: a size of up to eight digits, and two line ends."""
OVERSIZE_READ: Final = 1 << 20
"""How far a header that is refused anyway is read on, to be able to say its size."""
BLANK_LINES: Final = 4
"""Empty lines before a request that are overlooked; RFC 9112 section 2.2 asks for one."""
END: Final = b"\r\n\r\n"
_REPEATED: Final = 4096
"""Bytes of header lines that a connection keeps, in case that the next request repeats them."""
_TARGET: Final = bytes(range(0x21, 0x7F)).translate(None, b'#"<>\\^`{|}')
"""Characters of a target that need no closer look."""


class RequestReader:
    """Reads one request after another.

    Attributes:
        head: of the present request, None until it is whole.
        chunks: pieces of its body that nobody has taken yet.
        complete: whether it has been read to its end.
        begun: whether any byte of it has come.
        oversize: name and size so far of a header that is refused when it ends; None while there is none.
    """

    __slots__ = (
        "_blank",
        "_body_left",
        "_chunk_left",
        "_has_head",
        "_last",
        "_last_lines",
        "_last_pairs",
        "_last_plain",
        "_limits",
        "_longest",
        "_overhead",
        "_pairs",
        "_parser",
        "_raw",
        "_size_line",
        "_tail",
        "_upgraded",
        "_url",
        "begun",
        "chunks",
        "complete",
        "head",
        "oversize",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._longest = limits.request_line
        self._parser = HttpRequestParser(self)
        self._raw: bytearray | None = None
        self.oversize: tuple[str, int] | None = None
        self._blank = 0
        self._url = b""
        self._pairs: Pairs = []
        self._has_head = False
        self._body_left = 0
        self._overhead = 0
        self._chunk_left = 0
        self._size_line: bytes | None = None
        self._tail = b""
        self._upgraded = False
        self._last: RequestHead | None = None
        self._last_lines = b""
        self._last_plain: list[bytes] = []
        self._last_pairs: Pairs = []
        self.head: RequestHead | None = None
        self.chunks: list[bytes] = []
        self.complete = False
        self.begun = False

    def next(self) -> None:
        """Makes ready for the next request."""
        self.head = None
        self.complete = self.begun = False
        if self._has_head:  # not one that `repeated` found
            self._forget()

    def _forget(self) -> None:
        if self._upgraded:
            self._upgraded = False
            self._parser = HttpRequestParser(self)
        self._url = b""
        self._pairs = []
        self._has_head = False
        self.chunks = []
        self._tail = b""

    def take(self) -> list[bytes]:
        """The pieces of the body that came since it was asked last."""
        chunks = self.chunks
        if chunks:
            self.chunks = []
        return chunks

    def feed(self, data: bytes) -> bytes:
        """Reads `data` up to the end of the present request, and returns the bytes behind it.

        Raises:
            BadHead: the request is to be answered with its status, and nothing more is to be read.
        """
        while data and not self.complete:
            if self.oversize is not None:
                self._measure(data)
                return b""
            cut = self._cut(data)
            whole = cut >= len(data)
            piece = data if whole else data[:cut]
            try:
                self._parser.feed_data(piece)
            except HttpParserUpgrade:
                # llhttp stops behind the head of any upgrade; which ones are tunnels is the dispatcher's to say.
                self._upgraded = True
            except HttpParserError as error:
                raise BadHead(400, f"The request breaks HTTP: {error}.") from error
            data = b"" if whole else data[cut:]
            head = self.head
            if head is None:
                if self._has_head:
                    self._read_head(piece)
                else:
                    self._await_head(piece)
            elif head.chunked:
                self._check_overhead(piece)
            else:
                self._body_left -= len(piece)
        return data

    def repeated(self, data: bytes) -> RequestHead | None:
        """The head of a request that is `data` and nothing else, if it has the lines of the request before; else None.

        Clients repeat their header lines.  The same bytes mean the same, so that llhttp, which found them good behind
        the first line of a GET, need not read them again.  It is the last head with another target, until the next one.
        """
        head = self._last
        lines = self._last_lines
        if head is None or self.begun or not data.endswith(lines) or not data.startswith(b"GET /"):
            return None
        target = data[4 : -len(lines)]
        if target != head.target and (target.translate(None, _TARGET) or len(target) > self._longest):
            return None
        self.begun = self.complete = True
        self.head = head
        if head.plain is not self._last_plain or head.pairs is not self._last_pairs:
            head.replace(self._last_plain, self._last_pairs)  # an endpoint had put others there
        if target != head.target:
            head.target = target
            head.path, _, head.query = target.partition(b"?")
        return head

    # httptools calls these while it reads; what they find is acted on when the piece at hand has been read.

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too, behind the head; they are dropped.
        if not self._has_head:
            self._pairs.append((name, value.rstrip(b" \t")))  # RFC 9112 section 5.1; llhttp only does so in front

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self._overhead -= len(chunk) + CHUNK_COST

    def on_message_complete(self) -> None:
        self.complete = True

    def on_message_begin(self) -> None:
        if self.complete:
            raise ValueError("another request where none should begin")

    def _cut(self, data: bytes) -> int:
        """How many bytes may be read without reading on into the next request."""
        head = self.head
        if head is not None and not head.chunked:
            return self._body_left
        start, tail = 0, self._tail
        if head is not None and self._size_line is not None:
            start, tail = self._skip_chunks(data), b"\r\n"
            if self._size_line is not None:
                return len(data)
        if tail:
            at = (tail + data[start : start + 3]).find(END)
            if at >= 0:
                return start + at + 4 - len(tail)
        end = data.find(END, start)
        return end + 4 if end >= 0 else len(data)

    def _skip_chunks(self, data: bytes) -> int:
        """Where in `data` the trailers of a chunked body begin; if they do, `_size_line` is None.

        To search the chunks themselves for the end would find it, as the client likes, at every fourth byte.  Only as
        far as is needed for that: what is malformed is llhttp's to refuse, and it stops where a further request begins.
        """
        at, size = 0, len(data)
        line: bytes | None = self._size_line
        while line is not None:
            at += self._chunk_left
            if at >= size:
                self._chunk_left = at - size
                break
            self._chunk_left = 0
            end = data.find(b"\n", at)
            if end < 0:
                line += data[at:]
                at = size
                break
            length = _chunk_size(line + data[at:end])
            at = end + 1
            line = b""
            if not length:
                line = None
            elif length >= ABSURD_LENGTH:
                raise BadHead(413, f"A chunk of {length} bytes was announced; 1 TiB is refused.")
            else:
                self._chunk_left = length + 2
        self._size_line = line
        return at

    def _read_head(self, piece: bytes) -> None:
        limits = self._limits
        raw = piece if self._raw is None else bytes(self._raw) + piece
        size = len(raw)
        self.begun = True
        self._raw = None
        self._blank = 0
        self._tail = b""
        if size > min(limits.header_size, limits.request_line):
            self._check_size()
        parser = self._parser
        minor = MINOR.get(parser.get_http_version())
        if minor is None:
            raise BadHead(505, "The only versions of HTTP that are spoken are 1.1 and 1.0.")
        # llhttp knows RTSP too, and overlooks a second space.
        line = b"%b %b HTTP/1.%d\r\n" % (parser.get_method(), self._url, minor)
        if not raw.startswith(line) and not raw.lstrip(b"\r\n").startswith(line):
            raise BadHead(400, "The first line is not method, target and version of HTTP with one space between each.")
        if len(self._pairs) > limits.header_count:
            raise BadHead(
                431,
                f"The request has {len(self._pairs)} headers; "
                f"[limits] header_count = {limits.header_count} is the most.",
            )
        head = RequestHead(parser.get_method(), self._url, minor, self._pairs)
        self.head = head
        if self._upgraded and head.has_body:
            self._read_body_too(head)
        if head.repeatable and not self._upgraded and size == len(piece) <= _REPEATED and piece.startswith(b"GET /"):
            self._last, self._last_plain, self._last_pairs = head, head.plain, head.pairs
            self._last_lines = piece[piece.find(b" HTTP/1.1\r\n") :]
        limit = limits.body_size
        if limit is not None and head.length > limit:
            raise too_big(head.length, limit)
        self._body_left = head.length
        self._overhead = 0
        if head.chunked:
            self._tail = piece[-3:] if not self.complete else b""
            self._chunk_left = 0
            self._size_line = b""

    def _read_body_too(self, head: RequestHead) -> None:
        """httptools ends the message behind the head of any upgrade, and would take its body for the next request."""
        self._upgraded = self.complete = False
        self._parser = HttpRequestParser(self)
        framing = b"Transfer-Encoding: chunked" if head.chunked else b"Content-Length: %d" % head.length
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")

    def _check_size(self) -> None:
        limits = self._limits
        if len(self._url) > limits.request_line:
            raise _long_line(len(self._url), limits)
        total = 0
        for name, value in self._pairs:
            if len(value) > limits.header_size or len(name) > limits.header_size:
                raise _long_header(name.decode("latin-1"), f"{max(len(value), len(name))}", limits)
            total += len(name) + len(value) + 4
        if total > 2 * limits.header_size:
            raise _long_head(total, limits)

    def _await_head(self, piece: bytes) -> None:
        """The head is not whole: keeps what is needed to find its end, and to name what is too big in it."""
        if not self._url and self._raw is None and not piece.strip(b"\r\n"):
            self._blank += piece.count(b"\n")
            self._last = None  # the next head is for the parser, which has seen these
            if self._blank > BLANK_LINES:
                raise BadHead(400, "Blank lines where a request should be.")
            return
        self.begun = True
        if self._raw is None:
            self._raw = bytearray()
        raw = self._raw
        raw += piece
        self._tail = bytes(raw[-3:])
        limits = self._limits
        if not self._has_line(raw):
            if len(raw) > limits.request_line + 64:
                raise _long_line(len(raw), limits)
        elif len(raw) > 2 * limits.header_size + limits.request_line:
            name, _, value = raw[raw.rfind(b"\r\n") + 2 :].partition(b":")
            if len(value) <= limits.header_size:
                raise _long_head(len(raw), limits)
            self.oversize = (name.decode("latin-1"), len(value) - 1)
            self._raw = None

    def first_line(self) -> tuple[bytes, bytes, int]:
        """Method, target and minor version of the present request, as far as they have been read, for the log."""
        if not self._url:
            return b"", b"", 1
        return self._parser.get_method(), self._url, MINOR.get(self._parser.get_http_version(), 1)

    @property
    def accept(self) -> bytes:
        """What the client says it takes, as far as that has been read."""
        return next((value for name, value in self._pairs if name.lower() == b"accept"), b"")

    def overdue(self) -> BadHead | None:
        """The refusal of a header that is too big and has not come to its end; None where there is none."""
        if self.oversize is None:
            return None
        name, size = self.oversize
        return _long_header(name, f"more than {size}", self._limits)

    @staticmethod
    def _has_line(raw: bytearray) -> bool:
        return b"\n" in raw[:65536]

    def _measure(self, data: bytes) -> None:
        """Reads on in a header that is too big, only to say how big."""
        assert self.oversize is not None
        name, size = self.oversize
        end = data.find(b"\r")
        size += len(data) if end < 0 else end
        if end >= 0 or size > OVERSIZE_READ:
            raise _long_header(name, f"{size}" if end >= 0 else f"more than {size}", self._limits)
        self.oversize = (name, size)

    def _check_overhead(self, piece: bytes) -> None:
        self._tail = (self._tail + piece)[-3:] if len(piece) < 3 else piece[-3:]
        overhead = self._overhead + len(piece)
        if overhead > OVERHEAD:
            raise BadHead(413, f"More than {OVERHEAD} bytes of chunk extensions or trailers.")
        self._overhead = overhead if overhead > 0 else 0


def _chunk_size(line: bytes) -> int:
    """What a chunk's first line says; 1 for what says nothing, which llhttp refuses."""
    try:
        return max(int(line.partition(b";")[0], 16), 0) if b"-" not in line else 1
    except ValueError:
        return 1


def too_big(size: int, limit: int) -> BadHead:
    """A body over the limit."""
    return BadHead(413, f"The body is {size} bytes or more; [limits] body_size = {limit} is the most.")


def _long_line(size: int, limits: Limits) -> BadHead:
    return BadHead(
        414, f"The request target is {size} bytes or more; [limits] request_line = {limits.request_line} is the most."
    )


def _long_header(name: str, size: str, limits: Limits) -> BadHead:
    return BadHead(
        431, f"The header {name[:100]} is {size} bytes; [limits] header_size = {limits.header_size} is the most."
    )


def _long_head(size: int, limits: Limits) -> BadHead:
    return BadHead(
        431,
        f"The headers are {size} bytes or more; [limits] header_size = {limits.header_size} allows twice that in all.",
    )
