"""Tests of policy/limits.py."""

from __future__ import annotations

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.policy.limits import PerMinute, SessionRate


def tries(limit: int, shared: Shared | None = None) -> PerMinute:
    return PerMinute(limit, (shared or Shared(1)).rates(b"tries"))


def rate(limit: int, shared: Shared | None = None) -> SessionRate:
    return SessionRate(limit, (shared or Shared(1)).rates(b"sessions"))


def fail(failures: PerMinute, name: str, now: float) -> None:
    begun = failures.begin([name], now)
    assert begun is not None
    failures.end([name], begun, True, now)


def test_sessions_over_the_limit_are_refused_until_the_minute_is_over() -> None:
    sessions = rate(2)
    assert [sessions.check("a", now) is None for now in (0.0, 1.0, 59.9, 60.0)] == [True, True, False, True]
    assert sessions.check("b", 59.9) is None, "another client has a minute of its own"


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    """As for connections: whoever has one of these addresses has 2^64."""
    sessions = rate(2)
    assert [sessions.check(f"2001:db8::{host}", 0.0) is None for host in (1, 2, 3)] == [True, True, False]
    assert sessions.check("2001:db8:0:1::1", 0.0) is None, "the network beside it"
    assert sessions.check("unix", 0.0) is None


def test_a_minute_is_one_of_all_processes_and_outlives_a_reload() -> None:
    """A reload makes a new one of these upon the same memory; the new limit counts at once."""
    shared = Shared(1)
    one, two = rate(3, shared), rate(3, shared)
    assert [one.check("a", 0.0), two.check("a", 0.5), one.check("a", 1.0)] == [None, None, None]
    assert two.check("a", 1.5) is not None
    assert rate(3, shared).check("a", 2.0) is not None
    assert rate(4, shared).check("a", 2.0) is None


def test_failures_leave_fewer_tries_until_the_minute_is_over() -> None:
    failures = tries(2)
    assert failures.wait(["a"], 0.0) == 0
    fail(failures, "a", 0.0)
    assert failures.wait(["a"], 30.0) == 0
    fail(failures, "a", 30.0)
    assert failures.begin(["a"], 30.5) is None
    assert failures.wait(["a"], 30.5) == 30
    assert failures.wait(["a"], 59.9) == 1
    assert failures.wait(["a"], 60.0) == 0
    assert failures.wait(["b"], 30.5) == 0


def test_who_waits_waits_for_the_latest_of_his_names() -> None:
    failures = tries(1)
    fail(failures, "a", 0.0)
    fail(failures, "b", 20.0)
    assert failures.wait(["a", "b"], 30.0) == 50
    assert failures.begin(["a", "c"], 30.0) is None
    assert failures.begin(["c"], 30.0) is not None, "nothing was begun under one name alone"


def test_tries_under_way_in_one_process_count_in_the_other() -> None:
    shared = Shared(1)
    one, two = tries(2, shared), tries(2, shared)
    first, second = one.begin(["a"], 0.0), two.begin(["a"], 0.0)
    assert first is not None
    assert second is not None
    assert one.begin(["a"], 0.5) is None
    assert two.wait(["a"], 0.5) == 0, "they may be right yet"
    one.end(["a"], first, False, 1.0)
    assert two.begin(["a"], 1.0) is not None
    two.end(["a"], second, True, 1.5)
    assert one.begin(["a"], 1.5) is None


def test_a_try_that_ends_in_a_later_minute_counts_there_and_frees_no_other() -> None:
    failures = tries(2)
    late = failures.begin(["a"], 0.0)
    assert late is not None
    assert failures.begin(["a"], 61.0) is not None
    failures.end(["a"], late, True, 62.0)
    assert failures.begin(["a"], 62.0) is None
    assert failures.wait(["a"], 62.0) == 0
