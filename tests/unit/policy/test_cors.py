"""Who may read autoload.js and static files across origins."""

from __future__ import annotations

import pytest

from bokeh_gateway.policy.cors import VARY, Cors
from bokeh_gateway.policy.verdict import Deny

CORS = Cors(["https://www.acme.com", "*.partner.example:8443"])


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        pytest.param((b"https://www.acme.com",), True, id="listed"),
        pytest.param((b"https://a.partner.example:8443",), True, id="wildcard"),
        pytest.param((b"http://www.acme.com",), False, id="other-scheme"),
        pytest.param((b"https://www.acme.com.evil.example",), False, id="suffix"),
        pytest.param((b"null",), False, id="opaque"),
        pytest.param((), False, id="none"),
        pytest.param((b"https://www.acme.com", b"https://www.acme.com"), False, id="twice"),
        pytest.param((b"https://www.acme.com/\xff",), False, id="no-origin-at-all"),
    ],
)
def test_a_listed_origin_is_answered_by_its_name(origins: tuple[bytes, ...], allowed: bool) -> None:
    """And caches learn that the answer depends on it, whoever asked."""
    lines = CORS.lines(origins)
    assert VARY in lines
    assert (b"Access-Control-Allow-Origin: " in lines) is allowed
    if allowed:
        assert b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n" % origins[0] in lines


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        pytest.param(b"bokeh-session-id", b"bokeh-session-id", id="server_session"),
        pytest.param(b"authorization, bokeh-session-id", b"authorization, bokeh-session-id", id="headers"),
        pytest.param(None, b"Bokeh-Session-Id", id="none-asked"),
        pytest.param(b"a b", b"Bokeh-Session-Id", id="no-list-of-names"),
        pytest.param(b"a\r\nSet-Cookie: x", b"Bokeh-Session-Id", id="a-line-break"),
        pytest.param(b"a" * 2000, b"Bokeh-Session-Id", id="endless"),
    ],
)
def test_a_preflight_is_allowed_the_headers_that_it_names(wanted: bytes | None, allowed: bytes) -> None:
    """`Bokeh-Session-Id` is what `server_session` sends."""
    lines = CORS.preflight((b"https://www.acme.com",), wanted)
    assert isinstance(lines, bytes)
    assert b"Access-Control-Allow-Headers: %b\r\n" % allowed in lines


def test_a_foreign_preflight_is_refused_with_the_setting() -> None:
    """A browser shows a failed preflight to nobody; the log does."""
    denied = CORS.preflight((b"https://evil.example",), b"bokeh-session-id")
    assert isinstance(denied, Deny)
    assert (denied.status, denied.reason) == (403, "embed-origin-not-listed")
    assert "[embed] origins" in denied.setting
