"""Where a request names a session, read as Tornado and Bokeh read it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.escape import parse_qs_bytes

from bokeh_gateway.bokeh.request import NOTHING, SessionRefs, session_refs
from bokeh_gateway.http.head import RequestHead

Pairs = list[tuple[bytes, bytes]]


def head(query: bytes = b"", *lines: tuple[bytes, bytes]) -> RequestHead:
    """A GET of `/app` with these further header lines."""
    return RequestHead(b"GET", b"/app" + (b"?" + query if query else b""), 1, [(b"Host", b"h"), *lines])


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"x=1&y=2", id="others"),
        pytest.param(b"bokeh-autoload-element=e1&bokeh-app-path=/app", id="autoload"),
        pytest.param(b"x=bokeh-session-id", id="as-a-value"),
        pytest.param(b"Bokeh-Session-Id=x", id="names-have-a-case"),
        pytest.param(b"xbokeh-session-id=1", id="longer-name"),
        pytest.param(b"q=%ff%zz%", id="broken-percents"),
    ],
)
def test_most_requests_name_nothing(query: bytes) -> None:
    """By identity, so that nothing more is looked at."""
    assert session_refs(head(query, (b"Accept", b"*/*"), (b"Sixteen-Letters-", b"x"))) is NOTHING


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param(b"bokeh-session-id=a", SessionRefs(argument=("a",)), id="argument"),
        pytest.param(b"x=1&bokeh-session-id=a&y=2", SessionRefs(argument=("a",)), id="among-others"),
        pytest.param(b"bokeh-session-id=a&bokeh-session-id=b", SessionRefs(argument=("a", "b")), id="twice"),
        pytest.param(b"bokeh-session-id=", SessionRefs(argument=("",)), id="empty"),
        pytest.param(b"bokeh-session-id", SessionRefs(argument=("",)), id="no-value"),
        pytest.param(b"bokeh%2Dsession%2did=a", SessionRefs(argument=("a",)), id="name-in-percents"),
        pytest.param(b"%62okeh-session-id=a", SessionRefs(argument=("a",)), id="first-letter-in-percents"),
        pytest.param(b"bokeh-session-id=%61%2e", SessionRefs(argument=("a.",)), id="value-in-percents"),
        pytest.param(b"bokeh-session-id=a+b", SessionRefs(argument=("a b",)), id="plus-is-a-space"),
        pytest.param(b"bokeh-session-id=%C3%A4", SessionRefs(argument=("ä",)), id="utf-8"),
        pytest.param(b"bokeh-session-id=%ff", SessionRefs(argument=("\ufffd",)), id="not-utf-8"),
        pytest.param(b"bokeh-token=t", SessionRefs(token_argument=("t",)), id="token"),
        pytest.param(
            b"bokeh-token=t&bokeh-session-id=a", SessionRefs(argument=("a",), token_argument=("t",)), id="both"
        ),
        pytest.param(
            b"bokeh-protocol-version=1.0&bokeh-session-id=a", SessionRefs(argument=("a",)), id="bokeh-1-websocket"
        ),
    ],
)
def test_arguments_are_found(query: bytes, expected: SessionRefs) -> None:
    """Each occurrence, decoded."""
    assert session_refs(head(query)) == expected


@given(st.lists(st.sampled_from(["bokeh-", "session-id", "%2d", "=", "&", ";", "a", "+", "%", "%ff", "bokeh-token"])))
def test_arguments_are_those_that_tornado_reads(pieces: list[str]) -> None:
    """Otherwise a spelling that only the worker understands would name a session behind our back."""
    query = "".join(pieces).encode()
    refs = session_refs(head(query))
    seen = parse_qs_bytes(query, keep_blank_values=True)
    assert [value.encode("utf-8") for value in refs.argument] == [
        value.decode("utf-8", "replace").encode() for value in seen.get("bokeh-session-id", [])
    ]
    assert len(refs.token_argument) == len(seen.get("bokeh-token", []))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([(b"Bokeh-Session-Id", b"a")], SessionRefs(header=("a",)), id="header"),
        pytest.param([(b"BOKEH-SESSION-ID", b" a\t")], SessionRefs(header=("a",)), id="any-case-and-space"),
        pytest.param(
            [(b"bokeh-session-id", b"a"), (b"Bokeh-Session-Id", b"b")], SessionRefs(header=("a", "b")), id="two-headers"
        ),
        pytest.param([(b"Sec-WebSocket-Protocol", b"bokeh, T")], SessionRefs(subprotocol="T"), id="token"),
        pytest.param([(b"sec-websocket-protocol", b"bokeh,T")], SessionRefs(subprotocol="T"), id="no-space"),
        pytest.param(
            [(b"Sec-WebSocket-Protocol", b"bokeh"), (b"Sec-WebSocket-Protocol", b"T")],
            SessionRefs(subprotocol="T"),
            id="two-lines",
        ),
        pytest.param([(b"Sec-WebSocket-Protocol", b"bokeh, ")], SessionRefs(subprotocol=""), id="empty-token"),
    ],
)
def test_headers_are_found(lines: Pairs, expected: SessionRefs) -> None:
    """The token is the second of two subprotocols, the first being `bokeh`."""
    assert session_refs(head(b"", *lines)) == expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"bokeh", id="bokeh-alone"),
        pytest.param(b"bokeh, T, x", id="three"),
        pytest.param(b"mqtt, T", id="another-protocol"),
        pytest.param(b"Bokeh, T", id="case-counts"),
        pytest.param(b"", id="empty"),
    ],
)
def test_other_subprotocols_bring_no_token(value: bytes) -> None:
    """A worker would not find one either."""
    assert session_refs(head(b"", (b"Sec-WebSocket-Protocol", value))) is NOTHING
