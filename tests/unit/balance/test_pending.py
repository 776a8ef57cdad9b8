"""Pages whose WebSocket has not come."""

from __future__ import annotations

from bokeh_gateway.balance.pending import LIFETIME, PendingPages
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.config.address import Address

A = Worker("a", Address("127.0.0.1", 5100), index=0)
B = Worker("b", Address("127.0.0.1", 5101), index=1)


def test_a_page_counts_until_its_websocket_comes() -> None:
    """Once: a second WebSocket of the session takes nothing back."""
    pages = PendingPages()
    assert pages.served("s", A, 0.0) is None
    assert len(pages) == 1
    assert pages.connected("s") is A
    assert pages.connected("s") is None
    assert pages.expire(1e9) == []


def test_a_page_counts_for_15_seconds_at_most() -> None:
    """Then the worker has discarded its session too; the border itself is over."""
    pages = PendingPages()
    pages.served("s", A, 100.0)
    pages.served("t", B, 101.0)
    pages.served("u", A, 102.0)
    assert pages.expire(100.0 + LIFETIME - 0.001) == []
    assert pages.expire(101.0 + LIFETIME) == [A, B]
    assert pages.connected("s") is None
    assert pages.connected("u") is A
    assert len(pages) == 0


def test_a_page_served_again_counts_once_and_from_then_on() -> None:
    """A reload of a page with its id in the URL; the earlier count is to be taken back where it was."""
    pages = PendingPages()
    pages.served("s", A, 0.0)
    pages.served("t", A, 5.0)
    assert pages.served("s", B, 10.0) is A
    assert pages.expire(LIFETIME + 6.0) == [A]
    assert pages.expire(LIFETIME + 10.0) == [B]


def test_an_unknown_session_is_nobody_s() -> None:
    """Its page was served by another gateway process, or long ago."""
    assert PendingPages().connected("s") is None


def test_the_lifetime_can_be_the_workers() -> None:
    """`--unused-session-lifetime`, where it is known."""
    pages = PendingPages(lifetime=2.0)
    pages.served("s", A, 0.0)
    assert pages.expire(2.0) == [A]
