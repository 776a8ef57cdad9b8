"""Tests of observe/redact.py."""

from __future__ import annotations

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id

from bokeh_gateway.observe.redact import redact, redact_bytes, redact_message

TOKEN = generate_jwt_token(generate_session_id(), extra_payload={"cookies": {"a": "b"}})
SIGNED = generate_jwt_token(generate_session_id(b"k", signed=True), b"k", signed=True)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/app", "/app", id="no-query"),
        pytest.param("/app?theme=dark", "/app?theme=dark", id="harmless"),
        pytest.param("/static/x.js?v=abc", "/static/x.js?v=abc", id="version-stays"),
        pytest.param("/app?monkey=1&statement=2&barcode=3", "/app?monkey=1&statement=2&barcode=3", id="lookalikes"),
        pytest.param("/app?bokeh-session-id=abc", "/app?bokeh-session-id=***", id="TK16-session-id"),
        pytest.param("/app?a=1&bokeh-token=x&b=2", "/app?a=1&bokeh-token=***&b=2", id="TK16-in-the-middle"),
        pytest.param("/app?BOKEH-SESSION-ID=abc", "/app?BOKEH-SESSION-ID=***", id="upper-case"),
        pytest.param("/app?%62okeh-session-id=abc&x=1", "/app?%62okeh-session-id=***&x=1", id="encoded-name"),
        pytest.param("/app?bokeh%2Dsession%2Did=abc", "/app?bokeh%2Dsession%2Did=***", id="encoded-dashes"),
        pytest.param("/app?bokeh-session-id=a;b=c&d=e", "/app?bokeh-session-id=***&d=e", id="semicolon-in-value"),
        pytest.param("/login?code=SECRET&state=S2", "/login?code=***&state=***", id="sign-in-answer"),
        pytest.param("/a?access_token=1&id_token=2&token=3", "/a?access_token=***&id_token=***&token=***", id="oauth"),
        pytest.param(
            "/login?next=%2Fapp%3Fbokeh-session-id%3Dabc%26x%3D1",
            "/login?next=%2Fapp%3Fbokeh-session-id%3D***%26x%3D1",
            id="nested-url",
        ),
        pytest.param(
            "/l?next=%252Fa%253Fbokeh-session-id%253Dabc",
            "/l?next=%252Fa%253Fbokeh-session-id%253D***",
            id="nested-twice",
        ),
        pytest.param("/app/#access_token=abc", "/app/#access_token=***", id="fragment-alone"),
        pytest.param("https://h/?a#access_token=abc", "https://h/?a#access_token=***", id="fragment-of-referer"),
        pytest.param("http://u:p@host/x", "http://***@host/x", id="user-in-url"),
        pytest.param("/users/@me", "/users/@me", id="at-sign-in-path"),
        pytest.param(f"/path/{TOKEN}/x", "/path/***/x", id="AU-04-token-in-path"),
        pytest.param(f"/path/{SIGNED}", "/path/***", id="AU-04-signed-token-in-path"),
        pytest.param(f"/a?other={SIGNED}&b=1", "/a?other=***&b=1", id="AU-04-token-in-other-argument"),
        pytest.param("/eyJshort", "/eyJshort", id="too-short-for-a-token"),
        pytest.param("", "", id="empty"),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(target: str, expected: str) -> None:
    """The same for text and for bytes."""
    assert redact(target) == expected
    assert redact_bytes(target.encode()) == expected.encode()


def test_bytes_that_are_no_text_survive() -> None:
    """A target may hold any byte."""
    assert redact_bytes(b"/\xff\xe9?token=a\xff&b=\xe9") == b"/\xff\xe9?token=***&b=\xe9"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param("Cookie: a=b; c=d", "Cookie: ***", id="cookie"),
        pytest.param("Authorization: Bearer abc", "Authorization: ***", id="authorization"),
        pytest.param("'Sec-Websocket-Protocol': 'bokeh, x'", "'Sec-Websocket-Protocol': ***", id="subprotocol"),
        pytest.param("GET /app?bokeh-session-id=abc failed", "GET /app?bokeh-session-id=*** failed", id="url"),
        pytest.param("worker apps/1 exited, code=1", "worker apps/1 exited, code=1", id="our-own-fields-stay"),
        pytest.param("nothing to hide", "nothing to hide", id="plain"),
    ],
)
def test_messages_lose_headers_too(message: str, expected: str) -> None:
    """Libraries like to log whole headers."""
    assert redact_message(message) == expected
