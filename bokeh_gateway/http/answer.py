"""A worker's answer head, read once: framing, and the header lines that may go on to the client.  Pure.

Sources: RFC 9112 section 6.3 (body length), RFC 9110 section 7.6.1 (hop-by-hop).
"""

from __future__ import annotations

from typing import Final

from bokeh_gateway.http.head import Pairs

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


class BadAnswer(ValueError):
    """The worker's head breaks HTTP: 502, and nothing of it is passed on."""


class AnswerHead:
    """A worker's answer head.

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
            BadAnswer: repeated or contradicting framing.
        """
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
        extend = plain.extend
        special = _SPECIAL.get
        for name, value in pairs:
            kind = special(name.lower())
            if kind is None:
                extend((name, b": ", value, b"\r\n"))
            elif kind == _TYPE:
                self.content_type = value
                extend((name, b": ", value, b"\r\n"))
            elif kind == _LENGTH:
                if self.length >= 0:
                    raise BadAnswer("more than one Content-Length")
                self.length = int(value)
            elif kind == _CACHE:
                self.cache_control = True
                extend((name, b": ", value, b"\r\n"))
            elif kind == _CONNECTION:
                self._set_connection(value)
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
                extend((name, b": ", value, b"\r\n"))
            elif kind == _EXTENSIONS:
                self.extensions = self.extensions + b"," + value if self.extensions else value
                extend((name, b": ", value, b"\r\n"))
        if self.chunked and self.length >= 0:
            raise BadAnswer("both Content-Length and Transfer-Encoding")
        if self.chunked and minor == 0:
            raise BadAnswer("Transfer-Encoding in HTTP/1.0")
        self.plain = plain

    def _set_connection(self, value: bytes) -> None:
        tokens = {token.strip(b" \t").lower() for token in value.split(b",")}
        if b"close" in tokens:
            self.keep_alive = False
        elif b"keep-alive" in tokens:
            self.keep_alive = True
