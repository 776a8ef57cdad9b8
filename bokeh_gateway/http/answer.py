"""A worker's answer head, read once: framing, and the header lines that may go on to the client.  Pure.

Workers repeat most of their lines, and within a second whole heads, so that what a line or a head means is remembered
by its bytes: `read_answer` reads the usual head at a quarter of the price of a parser that hands over each line, one
that came before at a twentieth, and leaves every other head to that parser.

Sources: RFC 9112 section 6.3 (body length), RFC 9110 section 7.6.1 (hop-by-hop).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from bokeh_gateway.http.head import KEPT_WHEN_NOMINATED, Kinds, Pairs, without_nominated

_LENGTH: Final = 1
_CODING: Final = 2
_CONNECTION: Final = 3
_TYPE: Final = 4
_CACHE: Final = 5
_LOCATION: Final = 6
_DROP: Final = 7
_UPGRADE: Final = 8
_ACCEPT: Final = 9
_EXTENSIONS: Final = 10
_PLAIN: Final = 11

_SPECIAL: Final[dict[bytes, int]] = {
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"server": _DROP,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"content-type": _TYPE,
    b"cache-control": _CACHE,
    b"location": _LOCATION,
    b"upgrade": _UPGRADE,
    b"sec-websocket-accept": _ACCEPT,
    b"sec-websocket-extensions": _EXTENSIONS,
}
_KINDS: Final = Kinds(_SPECIAL, lambda _name: _PLAIN)


_REASON: Final = bytes(c for c in range(256) if c == 9 or (c >= 0x20 and c != 0x7F))
"""What may stand behind a status."""


class BadAnswer(ValueError):
    """The worker's head breaks HTTP: 502, and nothing of it is passed on."""


class AnswerHead:
    """A worker's answer head.  Not to be changed: an equal head may be the same object.

    Attributes:
        status, reason: of the status line.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        length: Content-Length, or -1; chunked: whether the body is chunked.  Neither: it ends with the connection.
        keep_alive: whether the worker lets its connection stay open.
        plain: `name, b": ", value, b"\\r\\n", ...`: lines that go on unchanged.
        content_type, location, upgrade, accept, extensions: those headers' values, b"" where there is none.
        cache_control: whether the worker said anything about caching.
    """

    __slots__ = (
        "accept",
        "cache_control",
        "chunked",
        "content_type",
        "extensions",
        "keep_alive",
        "length",
        "location",
        "minor",
        "plain",
        "reason",
        "status",
        "upgrade",
    )

    def __init__(self, status: int, reason: bytes, minor: int, pairs: Pairs) -> None:
        """Reads `pairs` once.

        Raises:
            BadAnswer: no status, or repeated or contradicting framing.
        """
        if status < 100:
            raise BadAnswer("a status below 100")
        if reason.translate(None, _REASON):
            raise BadAnswer("a control character in its first line")
        self.status = status
        self.reason = reason
        self.minor = minor
        self.length = -1
        self.chunked = False
        self.keep_alive = minor == 1
        self.content_type = b""
        self.cache_control = False
        self.location = b""
        self.upgrade = b""
        self.accept = b""
        self.extensions = b""
        plain: list[bytes] = []
        nominated: set[bytes] = set()
        kinds = _KINDS
        for name, value in pairs:
            kind = kinds[name]
            if kind == _PLAIN:
                plain += (name, b": ", value, b"\r\n")
            elif kind == _TYPE:
                self.content_type = value
                plain += (name, b": ", value, b"\r\n")
            elif kind == _LENGTH:
                if self.length >= 0:
                    raise BadAnswer("more than one Content-Length")
                self.length = int(value)
            elif kind == _CACHE:
                self.cache_control = True
                plain += (name, b": ", value, b"\r\n")
            elif kind == _CONNECTION:
                nominated |= self._set_connection(value)
            elif kind == _CODING:
                if self.chunked or value.strip(b" \t").lower() != b"chunked":
                    raise BadAnswer("a transfer coding other than chunked, alone")
                self.chunked = True
            elif kind == _LOCATION:
                self.location = value
            elif kind == _UPGRADE:
                self.upgrade = value.strip(b" \t").lower()
            elif kind == _ACCEPT:
                self.accept = value.strip(b" \t")
                plain += (name, b": ", value, b"\r\n")
            elif kind == _EXTENSIONS:
                self.extensions = self.extensions + b"," + value if self.extensions else value
                plain += (name, b": ", value, b"\r\n")
        if self.chunked and self.length >= 0:
            raise BadAnswer("both Content-Length and Transfer-Encoding")
        if self.chunked and minor == 0:
            raise BadAnswer("Transfer-Encoding in HTTP/1.0")
        self.plain = plain if nominated <= KEPT_WHEN_NOMINATED else without_nominated(plain, nominated)

    def _set_connection(self, value: bytes) -> set[bytes]:
        tokens = {token.strip(b" \t").lower() for token in value.split(b",")}
        if b"close" in tokens:
            self.keep_alive = False
        elif b"keep-alive" in tokens:
            self.keep_alive = True
        return tokens


class _Line(NamedTuple):
    """What a header line means; `kind` is 0 for one that only a parser should judge."""

    kind: int
    value: bytes
    pieces: tuple[bytes, bytes, bytes, bytes]
    """As in `AnswerHead.plain`."""


_REMEMBERED: Final = 2048
_USUAL_LINES: Final = 200
_LONGEST_REMEMBERED: Final = 512
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([\t !-~]*)")
_HEADER_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_NO_PIECES: Final = (b"", b"", b"", b"")
_MOST_HEADS: Final = 256
_LONGEST_HEAD: Final = 1024
_lines: dict[bytes, _Line] = {}
_heads: dict[bytes, AnswerHead] = {}
_statuses: dict[bytes, tuple[int, bytes] | None] = {}
_new: Final = AnswerHead.__new__


def read_answer(data: bytes, end: int) -> AnswerHead | None:
    """The head in `data[:end]`, without the blank line behind it; None where it is for a full parser to read.

    That is: HTTP/1.0, interim answers, chunked bodies and bodies without a length, and whatever is odd or wrong.
    """
    raw = data[:end]
    known = _heads.get(raw)
    if known is not None:
        return known
    head = _read_lines(raw)
    if head is not None and end <= _LONGEST_HEAD:
        if len(_heads) >= _MOST_HEADS:
            _heads.clear()
        _heads[raw] = head
    return head


def _read_lines(raw: bytes) -> AnswerHead | None:
    lines = raw.split(b"\r\n")
    first = lines[0]
    status = _statuses[first] if first in _statuses else _learn_status(first)
    if status is None or len(lines) > _USUAL_LINES:
        return None
    head = _new(AnswerHead)
    head.status, head.reason = status
    head.minor = 1
    head.length = -1
    head.chunked = head.cache_control = False
    head.keep_alive = True
    head.content_type = head.location = head.upgrade = head.accept = head.extensions = b""
    plain: list[bytes] = []
    del lines[0]
    for line in lines:
        meaning = _lines.get(line) or _learn_line(line)
        kind = meaning[0]
        if kind == _PLAIN:
            plain += meaning[2]
        elif kind == _LENGTH:
            if head.length >= 0:
                return None
            head.length = int(meaning[1])
        elif kind == _TYPE:
            head.content_type = meaning[1]
            plain += meaning[2]
        elif kind == _CACHE:
            head.cache_control = True
            plain += meaning[2]
        elif kind == _LOCATION:
            head.location = meaning[1]
        elif kind != _DROP:
            return None
    if head.length < 0 and head.status not in (204, 304):
        return None
    head.plain = plain
    return head


def _learn_status(line: bytes) -> tuple[int, bytes] | None:
    found = _STATUS_LINE.fullmatch(line)
    status = (int(found[1]), found[2]) if found else None
    if len(_statuses) < _REMEMBERED and len(line) <= _LONGEST_REMEMBERED:
        _statuses[line] = status
    return status


def _learn_line(line: bytes) -> _Line:
    found = _HEADER_LINE.fullmatch(line)
    if found is None:
        return _Line(0, b"", _NO_PIECES)
    kind, value = _KINDS[found[1]], found[2].rstrip(b" \t")
    if kind == _CONNECTION:
        kind = _DROP if value.lower() == b"keep-alive" else 0
    elif kind == _LENGTH and not (value.isdigit() and len(value) < 16):
        kind = 0
    meaning = _Line(kind, value, (found[1], b": ", value, b"\r\n"))
    if kind and len(line) <= _LONGEST_REMEMBERED:
        if len(_lines) >= _REMEMBERED:
            _lines.clear()
        _lines[line] = meaning
    return meaning
