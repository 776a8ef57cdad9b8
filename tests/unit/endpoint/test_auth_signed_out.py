"""Who signed out, in one process, is out in all."""

from __future__ import annotations

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.endpoint.auth_signed_out import SignedOut


def test_all_processes_know_it_until_the_session_would_have_ended() -> None:
    shared = Shared(1, 2)
    first, second = (SignedOut(shared.sign_outs, shared.sign_out_count) for _ in range(2))
    assert not second.holds("ada", 1000.0)
    assert not second.changed()
    first.add("ada", 1000.0, 1500.0)
    assert second.holds("ada", 1000.0)
    assert not second.holds("grace", 1000.0)
    assert first.holds("ada", 1499.0)
    assert not first.holds("ada", 1500.0)
    assert second.changed()
    assert not second.changed(), "only what is new"


def test_a_process_that_begins_later_knows_it_too() -> None:
    """As after an upgrade or a reload of [auth]."""
    shared = Shared(1)
    SignedOut(shared.sign_outs, shared.sign_out_count).add("ada", 1000.0, 1500.0)
    later = SignedOut(shared.sign_outs, shared.sign_out_count)
    assert later.holds("ada", 1001.0)
    assert not later.changed()
