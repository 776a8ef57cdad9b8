"""One request head, read once: framing, host, upgrade, and the header lines that may go on to a worker.  Pure.

llhttp has refused what is malformed before this is built; here is what it leaves to meaning.
Sources: RFC 9112 sections 3.2 (target, Host), 6 (framing); RFC 9110 section 7.6.1 (Connection); RFC 6455 section 4.1.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Final

from bokeh_gateway.http.forwarded import MAX_HOPS, STRIPPED, valid_host

Pairs = list[tuple[bytes, bytes]]
"""Header lines as received: name, value."""

MINOR: Final = {"1.1": 1, "1.0": 0}
"""The versions of HTTP that are spoken."""

ABSURD_LENGTH: Final = 1 << 40
"""A declared body of 1 TiB or more is refused even where `[limits] body_size` is "none"."""

_HOST: Final = 1
_CONNECTION: Final = 2
_LENGTH: Final = 3
_CODING: Final = 4
_UPGRADE: Final = 5
_EXPECT: Final = 6
_ORIGIN: Final = 7
_PROTOCOL: Final = 8
_DROP: Final = 9
_VIA: Final = 10
_PLAIN: Final = 11
_HIDDEN: Final = 12
_REFERER: Final = 13
_USER_AGENT: Final = 14
_SESSION: Final = 15

_SPECIAL: Final[dict[bytes, int]] = {
    **dict.fromkeys(STRIPPED, _DROP),
    # Hop-by-hop (RFC 9110 section 7.6.1); HTTP2-Settings would smuggle an h2c upgrade.
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authenticate": _DROP,
    b"proxy-authorization": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"http2-settings": _DROP,
    b"host": _HOST,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"upgrade": _UPGRADE,
    b"expect": _EXPECT,
    b"origin": _ORIGIN,
    b"via": _VIA,
    b"sec-websocket-protocol": _PROTOCOL,
    b"referer": _REFERER,
    b"user-agent": _USER_AGENT,
    b"bokeh-session-id": _SESSION,
}


class Kinds(dict[bytes, int]):
    """What kind of header a name is, for names as they are spelled: lower-casing each would cost more than the rest."""

    _MOST: Final = 1024

    def __init__(self, special: Mapping[bytes, int], kind_of_others: Callable[[bytes], int]) -> None:
        super().__init__(special)
        self._special = special
        self._kind_of_others = kind_of_others

    def __missing__(self, name: bytes) -> int:
        kind = self._special.get(name.lower()) or self._kind_of_others(name)
        if len(self) >= self._MOST:  # names that clients make up must not fill the memory
            self.clear()
        if len(name) <= 64:
            self[name] = kind
        return kind


# nginx's rule: names that differ only by `_` and `-` are one name to CGI-like code behind us.
_KINDS: Final = Kinds(_SPECIAL, lambda name: _HIDDEN if b"_" in name else _PLAIN)

_USUAL_CONNECTION: Final = frozenset(
    {
        b"keep-alive",
        b"Keep-Alive",
        b"close",
        b"Close",
        b"upgrade",
        b"Upgrade",
        b"keep-alive, Upgrade",
        b"Upgrade, keep-alive",
    }
)
KEPT_WHEN_NOMINATED: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"close", b"keep-alive", b"upgrade"}
    | {b"sec-websocket-" + name for name in (b"key", b"version", b"protocol", b"extensions", b"accept")}
)
"""What a Connection header cannot take away: the gateway reads it itself, and so has the next one to."""


_REASONS: Final = {408: "too-slow", 413: "body-too-large", 414: "target-too-long", 431: "header-too-large"}
"""What log and metrics call a refusal; any other is "malformed"."""


class BadHead(ValueError):
    """The head cannot be served.

    Carries the status that answers it (400, 405, 413, 417, 426, 501, 508) and one sentence for the body and the log.
    """

    def __init__(self, status: int, detail: str, headers: bytes = b"", reason: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.reason = reason or _REASONS.get(status, "malformed")


class RequestHead:
    """A request's head.

    Attributes:
        method, target: as received; `target` is origin-form, absolute-form was rewritten.
        path, query: the two parts of `target`, undecoded; `query` is b"" where there is none.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        pairs: every header line as received.
        host: the Host value, lower case; b"" only in HTTP/1.0.
        length: Content-Length, or 0; chunked: whether the body is chunked.
        keep_alive: whether the client lets the connection stay open.
        upgrade: the lower-cased Upgrade value, b"" where Connection does not name it.
        plain: `name, b": ", value, b"\\r\\n", ...`: the lines that go on to a worker unchanged.
        origins, protocols: the values of all Origin and Sec-WebSocket-Protocol lines.
        session_ids: the values of all Bokeh-Session-Id lines.
        referer, user_agent: for the log; b"" where there is none.
    """

    __slots__ = (
        "_index",
        "chunked",
        "expect",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor",
        "origins",
        "pairs",
        "path",
        "plain",
        "protocols",
        "query",
        "referer",
        "session_ids",
        "target",
        "upgrade",
        "user_agent",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, pairs: Pairs) -> None:
        """Reads `pairs` once.

        Raises:
            BadHead: the request must be answered with its status, and the connection closed.
        """
        self.method = method
        self.minor = minor
        self.pairs = pairs
        self.length = 0
        self.chunked = False
        self.expect = False
        self.keep_alive = minor == 1
        self.upgrade = b""
        self.origins: tuple[bytes, ...] = ()
        self.protocols: tuple[bytes, ...] = ()
        self.session_ids: tuple[bytes, ...] = ()
        self.referer = self.user_agent = b""
        self._index: dict[bytes, list[bytes]] | None = None
        host: bytes | None = None
        connection: bytes | None = None
        coding: bytes | None = None
        upgrade = b""
        hops = 0
        plain: list[bytes] = []
        kinds = _KINDS
        for name, value in pairs:
            kind = kinds[name]
            if kind >= _PLAIN:
                if kind == _HIDDEN:
                    continue
                plain += (name, b": ", value, b"\r\n")
                if kind == _REFERER:
                    self.referer = value
                elif kind == _USER_AGENT:
                    self.user_agent = value
                elif kind == _SESSION:
                    self.session_ids += (value,)
            elif kind == _HOST:
                if host is not None:
                    raise BadHead(400, "More than one Host header.")
                host = value.strip(b" \t").lower()
            elif kind == _CONNECTION:
                connection = value if connection is None else connection + b"," + value
            elif kind == _PROTOCOL:
                self.protocols += (value,)
                plain += (name, b": ", value, b"\r\n")
            elif kind == _ORIGIN:
                self.origins += (value,)
            elif kind == _LENGTH:
                self.length = int(value)
            elif kind == _CODING:
                if coding is not None:
                    raise BadHead(400, "More than one Transfer-Encoding header.")
                coding = value
            elif kind == _UPGRADE:
                upgrade = upgrade + b"," + value if upgrade else value
            elif kind == _EXPECT:
                if value.strip().lower() != b"100-continue":
                    raise BadHead(417, "The only expectation that can be met is 100-continue.")
                self.expect = minor == 1
            elif kind == _VIA:
                hops += value.count(b"bokeh-gateway")
                if hops >= MAX_HOPS:
                    raise BadHead(
                        508,
                        f"The request came through {hops} gateways: one of them is its own upstream.",
                        reason="loop",
                    )
                plain += (name, b": ", value, b"\r\n")
        self.plain = plain
        self._set_host(host)
        self._set_target(target)
        if coding is not None:
            self._set_coding(coding)
        if self.length >= ABSURD_LENGTH:
            raise BadHead(
                413, f"A body of {self.length} bytes was announced; 1 TiB is refused whatever [limits] body_size says."
            )
        if connection is not None:
            self._set_connection(connection, upgrade)

    @property
    def repeatable(self) -> bool:
        """Whether a later request with the same lines means the same: a GET that ends with its head, and no more."""
        return (
            self.method == b"GET"
            and self.minor == 1
            and self.keep_alive
            and not self.length
            and not self.chunked
            and not self.upgrade
            and not self.expect
        )

    def replace(self, plain: list[bytes], pairs: Pairs) -> None:
        """Other lines in the place of those that were received."""
        self.plain = plain
        self.pairs = pairs
        self._index = None

    def _set_host(self, host: bytes | None) -> None:
        if host is None:
            if self.minor:
                raise BadHead(400, "HTTP/1.1 needs a Host header.")
            host = b""
        elif not valid_host(host):
            raise BadHead(400, "The Host header is not a host name with an optional port.")
        self.host = host

    def _set_target(self, target: bytes) -> None:
        if target[:1] != b"/":
            target = self._origin_form(target)
        if not target.isascii() or b"#" in target:
            raise BadHead(400, "The request target holds a character that must be percent-encoded.")
        self.target = target
        self.path, _, self.query = target.partition(b"?")

    def _origin_form(self, target: bytes) -> bytes:
        """RFC 9112 section 3.2.2: the authority of an absolute-form target is the host; ours must agree with Host."""
        if target == b"*" and self.method == b"OPTIONS":
            return target
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            raise BadHead(400, "The request target is neither a path nor an http URL.")
        cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        authority, path = rest[:cut].lower(), rest[cut:]
        if not valid_host(authority):
            raise BadHead(400, "The host in the request target is not a host name with an optional port.")
        if self.host and _without_default_port(authority, scheme) != _without_default_port(self.host, scheme):
            raise BadHead(400, "The host in the request target is another than the Host header's.")
        self.host = authority
        return path if path[:1] == b"/" else b"/" + path

    def _set_coding(self, coding: bytes) -> None:
        if self.minor == 0:
            raise BadHead(400, "HTTP/1.0 has no Transfer-Encoding.")
        if coding.strip(b" \t").lower() != b"chunked":
            raise BadHead(501, "The only transfer coding that is understood is chunked, alone.")
        self.chunked = True

    def _set_connection(self, connection: bytes, upgrade: bytes) -> None:
        tokens = {token.strip(b" \t").lower() for token in connection.split(b",")}
        if b"close" in tokens:
            self.keep_alive = False
        elif b"keep-alive" in tokens:
            self.keep_alive = True
        if b"upgrade" in tokens and upgrade:
            self.upgrade = upgrade.strip(b" \t").lower()
        if connection not in _USUAL_CONNECTION and not tokens <= KEPT_WHEN_NOMINATED:
            self.plain = without_nominated(self.plain, tokens)

    def get(self, name: bytes) -> bytes | None:
        """The first value of the header with this lower-case name."""
        values = self._lookup().get(name)
        return values[0] if values else None

    def get_all(self, name: bytes) -> list[bytes]:
        """Every value of the header with this lower-case name, in order."""
        return self._lookup().get(name, [])

    def _lookup(self) -> dict[bytes, list[bytes]]:
        index = self._index
        if index is None:
            index = self._index = {}
            for name, value in self.pairs:
                index.setdefault(name.lower(), []).append(value)
        return index

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


def check_websocket(head: RequestHead) -> bytes:
    """The `Sec-WebSocket-Key` of a well-formed WebSocket handshake (RFC 6455 section 4.2.1).

    Raises:
        BadHead: 405, 400 or 426 as the RFC says.
    """
    if head.method != b"GET":
        raise BadHead(405, "A WebSocket is opened with GET.", b"Allow: GET\r\n")
    if head.minor == 0:
        raise BadHead(400, "A WebSocket needs HTTP/1.1.")
    if head.has_body:
        raise BadHead(400, "A WebSocket handshake has no body.")
    versions = head.get_all(b"sec-websocket-version")
    if [version.strip() for version in versions] != [b"13"]:
        raise BadHead(426, "The only WebSocket version that is spoken is 13.", b"Sec-WebSocket-Version: 13\r\n")
    keys = head.get_all(b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0].strip()):
        raise BadHead(400, "Sec-WebSocket-Key must be 16 bytes in base64, once.")
    return keys[0].strip()


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == 24 and len(a2b_base64(key, strict_mode=True)) == 16
    except Base64Error:
        return False


def without_nominated(plain: list[bytes], tokens: set[bytes]) -> list[bytes]:
    """The lines that a Connection header with these lower-case tokens lets go on."""
    names = tokens - KEPT_WHEN_NOMINATED
    return [piece for at in range(0, len(plain), 4) if plain[at].lower() not in names for piece in plain[at : at + 4]]


def _without_default_port(authority: bytes, scheme: bytes) -> bytes:
    default = b":443" if scheme.lower() == b"https" else b":80"
    return authority.removesuffix(default)
