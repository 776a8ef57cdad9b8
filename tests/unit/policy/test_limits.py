"""Tests of policy/limits.py."""

from __future__ import annotations

from bokeh_gateway.policy import limits
from bokeh_gateway.policy.limits import PerMinute, SessionRate


def test_sessions_over_the_limit_are_refused_until_the_minute_is_over() -> None:
    rate = SessionRate(2)
    assert [rate.check("a", now) is None for now in (0.0, 1.0, 59.9, 60.0)] == [True, True, False, True]
    assert rate.check("b", 59.9) is None, "another client has a minute of its own"


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    """As for connections: whoever has one of these addresses has 2^64."""
    rate = SessionRate(2)
    assert [rate.check(f"2001:db8::{host}", 0.0) is None for host in (1, 2, 3)] == [True, True, False]
    assert rate.check("2001:db8:0:1::1", 0.0) is None, "the network beside it"
    assert rate.check("unix", 0.0) is None


def test_failures_leave_fewer_tries_until_the_minute_is_over() -> None:
    failures = PerMinute(2)
    assert (failures.left("a", 0.0), failures.wait("a", 0.0)) == (2, 0)
    failures.count("a", 0.0)
    assert (failures.left("a", 30.0), failures.wait("a", 30.0)) == (1, 0)
    failures.count("a", 30.0)
    assert (failures.left("a", 30.5), failures.wait("a", 30.5)) == (0, 30)
    assert (failures.left("a", 59.9), failures.wait("a", 59.9)) == (0, 1)
    assert (failures.left("a", 60.0), failures.wait("a", 60.0)) == (2, 0)
    assert failures.wait("b", 30.5) == 0


def test_what_is_remembered_of_failures_is_bounded(monkeypatch) -> None:
    """The oldest go first, and before them those whose minute is over."""
    monkeypatch.setattr(limits, "_TRACKED", 3)
    failures = PerMinute(1)
    for at, name in enumerate("abc"):
        failures.count(name, float(at))
    failures.count("d", 3.0)
    assert [failures.left(name, 3.0) for name in "abcd"] == [1, 0, 0, 0]
    failures.count("e", 61.5)
    assert [failures.left(name, 61.5) for name in "bcde"] == [1, 0, 0, 0]
