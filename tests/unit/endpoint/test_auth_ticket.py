"""Tickets: who comes back from a session token that a worker made of the page request's headers."""

from __future__ import annotations

import pytest
from bokeh.util.token import generate_jwt_token

from bokeh_gateway.endpoint.auth_cookie import Seal
from bokeh_gateway.endpoint.auth_ticket import HEADER, LARGEST, Tickets
from bokeh_gateway.http.head import RequestHead
from bokeh_gateway.policy.identity import Identity
from bokeh_gateway.policy.verdict import Deny

HOST = (b"Host", b"dash.test")
ADA = Identity(
    "ada", "jwt", frozenset({"b", "a"}), frozenset({"read"}), 1000.0, "jwt sso ada", (("X-Mail", "ada@acme.test"),)
)


def tickets(secret: str = "s" * 32, purpose: str = "embedded jwt") -> Tickets:
    return Tickets(Seal(secret, purpose), "jwt", 30.0)


def websocket(path: str, headers: dict[str, str], **more: object) -> RequestHead:
    token = generate_jwt_token("session", signed=False, extra_payload={"headers": headers, **more})
    return RequestHead(b"GET", path.encode(), 1, [HOST, (b"Sec-WebSocket-Protocol", f"bokeh, {token}".encode())])


def ticket(made_by: Tickets, path: bytes = b"/deep/app/autoload.js", identity: Identity = ADA) -> dict[str, str]:
    name, _, value, _ = made_by.line(identity, path)
    return {name.decode(): value.decode()}


def test_a_ticket_says_who_the_page_was_made_for() -> None:
    assert tickets().read(websocket("/deep/app/ws", ticket(tickets()), cookies={"a": "b"}), 999.0) == ADA


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/deep/other/ws", ticket(tickets()), id="another-app"),
        pytest.param("/deep/app/ws", {}, id="none"),
        pytest.param("/deep/app/ws", {HEADER: "forged"}, id="no-seal"),
        pytest.param("/deep/app/ws", ticket(tickets("t" * 32)), id="another-secret"),
        pytest.param("/deep/app/ws", ticket(tickets(purpose="oidc session")), id="another-purpose"),
    ],
)
def test_what_is_no_ticket_for_this_app_says_nothing(path: str, headers: dict[str, str]) -> None:
    assert tickets().read(websocket(path, headers), 999.0) is None


@pytest.mark.parametrize(("now", "status"), [(1029.9, None), (1030.0, 401)])
def test_a_ticket_ends_with_the_sign_in(now: float, status: int | None) -> None:
    """Leeway included."""
    found = tickets().read(websocket("/deep/app/ws", ticket(tickets())), now)
    assert (found.status if isinstance(found, Deny) else None) == status


def test_a_ticket_that_is_too_big_is_not_made() -> None:
    large = Identity("ada", "jwt", frozenset({"g" * LARGEST}), expires=1.0)
    assert tickets().line(large, b"/app/autoload.js") == ()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="no-token"),
        pytest.param([(b"Sec-WebSocket-Protocol", b"bokeh, e30")], id="no-content"),
        pytest.param([(b"Sec-WebSocket-Protocol", b"bokeh, \xff\xfe")], id="no-text"),
    ],
)
def test_a_websocket_without_a_bokeh_token_has_none(lines: list[tuple[bytes, bytes]]) -> None:
    assert tickets().read(RequestHead(b"GET", b"/app/ws", 1, [HOST, *lines]), 0.0) is None


def test_a_token_that_inflates_without_end_is_no_ticket() -> None:
    headers = {HEADER: "x" * 10_000_000}
    assert tickets().read(websocket("/app/ws", headers), 0.0) is None
