"""What an earlier key signed, signed again: wherever the request names its session."""

from __future__ import annotations

import pytest

from bokeh_gateway.bokeh import session_id as ids
from bokeh_gateway.bokeh import token as tokens
from bokeh_gateway.bokeh.request import session_refs
from bokeh_gateway.endpoint.rotation import Rotation
from bokeh_gateway.http.head import RequestHead

NEW, OLD = b"the present key", b"the previous key"
GIVEN = ids.mint("abcdefgh", "r" * 20, OLD)
WANTED = ids.mint("abcdefgh", "r" * 20, NEW)
TOKEN = tokens.encode(GIVEN, 2_000_000_000, OLD)
SIGNED = tokens.encode(WANTED, 2_000_000_000, NEW)
rotation = Rotation(NEW)


def head(target: str, *pairs: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", target.encode(), 1, [(b"Host", b"h"), (b"X-A", b"b"), *pairs])


def test_old_is_what_another_key_signed() -> None:
    assert rotation.is_old(GIVEN)
    assert not rotation.is_old(WANTED)


@pytest.mark.parametrize(
    ("target", "becomes"),
    [
        (f"/app?bokeh-session-id={GIVEN}", f"/app?bokeh-session-id={WANTED}"),
        (f"/app?a=1&bokeh%2Dsession-id={GIVEN}&b=%20", f"/app?a=1&bokeh-session-id={WANTED}&b=%20"),
        (f"/app?bokeh-token={TOKEN}&x", f"/app?bokeh-token={SIGNED}&x"),
    ],
)
def test_arguments(target: str, becomes: str) -> None:
    """The others stay as they are written."""
    request = head(target)
    assert rotation.of_page(request, session_refs(request), GIVEN) == WANTED
    assert request.target.decode() == becomes
    assert request.query.decode() == becomes.partition("?")[2]


def test_header() -> None:
    request = head("/app?a=1", (b"bokeh-SESSION-id", GIVEN.encode()))
    assert rotation.of_page(request, session_refs(request), GIVEN) == WANTED
    assert request.target == b"/app?a=1"
    assert b"".join(request.plain) == f"X-A: b\r\nBokeh-Session-Id: {WANTED}\r\n".encode()


def test_subprotocol() -> None:
    request = head("/app/ws", (b"Sec-WebSocket-Protocol", b"bokeh, " + TOKEN.encode()))
    assert rotation.of_token(request, TOKEN) == (SIGNED, WANTED)
    assert b"".join(request.plain) == f"X-A: b\r\nSec-WebSocket-Protocol: bokeh, {SIGNED}\r\n".encode()
