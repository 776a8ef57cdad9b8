"""Where a request names a session: header, argument, token argument, subprotocol.  Finds, and judges nothing.  Pure.

Sources: `bokeh.server.views.session_handler` (header `Bokeh-Session-Id`, arguments `bokeh-session-id` and
`bokeh-token`), `bokeh.server.views.ws` (the second of two subprotocols is the token), Bokeh 1.x (`bokeh-session-id` on
the WebSocket's URL).  Arguments are read as Tornado reads them, so that we and the worker never see different ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote_to_bytes


class Head(Protocol):
    """What is needed of `http.head.RequestHead`."""

    @property
    def query(self) -> bytes: ...
    @property
    def pairs(self) -> Sequence[tuple[bytes, bytes]]: ...
    @property
    def protocols(self) -> Sequence[bytes]: ...


class SessionRefs(NamedTuple):
    """Every place where the request names a session, each value as the worker would read it."""

    header: tuple[str, ...] = ()
    """Values of `Bokeh-Session-Id` header lines."""
    argument: tuple[str, ...] = ()
    """Values of `bokeh-session-id` in the query."""
    token_argument: tuple[str, ...] = ()
    """Values of `bokeh-token` in the query."""
    subprotocol: str | None = None
    """The token of `Sec-WebSocket-Protocol: bokeh, TOKEN`; None unless there are exactly these two items."""


NOTHING: Final = SessionRefs()
"""What a request that names no session gets: by identity, so that it can be asked for with `is`."""

_PREFIX: Final = b"bokeh-"
_HEADER: Final = b"bokeh-session-id"
_HEADER_LENGTH: Final = len(_HEADER)


def session_refs(head: Head) -> SessionRefs:
    """Where `head` names a session; `NOTHING` when it does not.

    A form in the body can name one too, to Tornado.  It is not read: the worker then sees it beside our header, or in
    signed modes checks it by itself, and refuses.
    """
    query = head.query
    # A name may be spelled with percents as well, and the worker would read it.
    named = query and (_PREFIX in query or (b"%" in query and _PREFIX in unquote_to_bytes(query)))
    header = _from_header(head.pairs)
    if not named and not header and not head.protocols:
        return NOTHING
    argument, token_argument = _from_query(query) if named else ((), ())
    refs = SessionRefs(header, argument, token_argument, _token(head.protocols))
    return NOTHING if refs == NOTHING else refs


def _from_header(pairs: Sequence[tuple[bytes, bytes]]) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    for name, value in pairs:
        # The length decides for nearly all lines, at a third of the cost of lower-casing their names.
        if len(name) == _HEADER_LENGTH and name.lower() == _HEADER:
            found += (value.strip(b" \t").decode("latin-1"),)
    return found


def _from_query(query: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    argument = tuple(_text(value) for name, value in pairs if name == "bokeh-session-id")
    token_argument = tuple(_text(value) for name, value in pairs if name == "bokeh-token")
    return argument, token_argument


def _text(value: str) -> str:
    return value.encode("latin-1").decode("utf-8", "replace")


def _token(subprotocols: Sequence[bytes]) -> str | None:
    if not subprotocols:
        return None
    # Several lines are one list (RFC 9110 section 5.3), which is how workers read them.
    items = [item.strip() for item in b",".join(subprotocols).split(b",", 2)]
    if len(items) == 2 and items[0] == b"bokeh":
        return items[1].decode("latin-1")
    return None
