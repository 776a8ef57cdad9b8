"""When a worker is started again, and how its end is told."""

from __future__ import annotations

from collections import deque

import pytest

from bokeh_gateway.control.restart import (
    RestartRecord,
    RestartSettings,
    describe_exit,
    restart_delay,
    signal_name,
    wait_for_turn,
)
from bokeh_gateway.errors import ConfigError

SETTINGS = RestartSettings()


@pytest.mark.parametrize(
    ("failures", "jitter", "expected"),
    [
        pytest.param(0, 0.0, 0.0, id="never-failed"),
        pytest.param(1, 0.0, 0.5, id="first"),
        pytest.param(2, 0.0, 1.0, id="doubles"),
        pytest.param(5, 0.0, 8.0, id="doubles-on"),
        pytest.param(7, 0.0, 30.0, id="capped"),
        pytest.param(10**9, 0.0, 30.0, id="capped-for-ever"),
        pytest.param(1, 1.0, 0.375, id="chance-takes-a-quarter-off"),
        pytest.param(10**9, 1.0, 22.5, id="chance-never-adds"),
    ],
)
def test_restart_delay(failures, jitter, expected):
    assert restart_delay(failures, SETTINGS, jitter) == expected


@pytest.mark.parametrize(
    ("starts", "now", "expected"),
    [
        pytest.param([], 5.0, 0.0, id="none-yet"),
        pytest.param([0.0, 1.0], 5.0, 0.0, id="below"),
        pytest.param([0.0, 1.0, 2.0], 5.0, 55.0, id="full"),
        pytest.param([0.0, 1.0, 2.0], 61.0, 0.0, id="the-oldest-is-a-minute-ago"),
    ],
)
def test_starts_a_minute_are_bounded(starts, now, expected):
    assert wait_for_turn(deque(starts), now, RestartSettings(starts_per_minute=3)) == expected


def test_a_worker_that_dies_at_once_is_a_crash_loop_after_five():
    """Its delays double meanwhile."""
    record, now, delays = RestartRecord(SETTINGS), 0.0, []
    for _ in range(5):
        assert not record.crash_loop
        record.started(now)
        delays.append(record.ended(now, 0.0))
        now += delays[-1]
    assert record.crash_loop
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_readiness_for_a_while_forgives():
    record = RestartRecord(SETTINGS, failures=9)
    record.started(0.0)
    record.ready(1.0)
    assert record.ended(11.0, 0.0) == 0.5
    assert record.failures == 1


def test_readiness_for_a_moment_does_not():
    record = RestartRecord(SETTINGS, failures=1)
    record.started(0.0)
    record.ready(1.0)
    assert record.ended(10.9, 0.0) == 1.0


def test_even_a_healthy_worker_is_not_restarted_more_often_than_allowed():
    record = RestartRecord(RestartSettings(starts_per_minute=2, healthy_after=1.0))
    for start in (0.0, 5.0):
        record.started(start)
        record.ready(start)
        wait = record.ended(start + 4.0, 0.0)
    assert wait == 51.0


@pytest.mark.parametrize(
    ("code", "start", "name"),
    [
        pytest.param(-9, "killed by SIGKILL (if nobody did that by hand: out of memory", "SIGKILL", id="kill"),
        pytest.param(-11, "killed by SIGSEGV (a crash in compiled code", "SIGSEGV", id="segv"),
        pytest.param(-10, "killed by SIGUSR1", "SIGUSR1", id="other-signal"),
        pytest.param(-200, "killed by signal 200", "signal 200", id="no-such-signal"),
        pytest.param(0, "exit status 0 (it stopped by itself)", None, id="success"),
        pytest.param(127, "exit status 127 (its command was not found)", None, id="not-found"),
        pytest.param(42, "exit status 42", None, id="its-own"),
    ],
)
def test_an_exit_in_words(code, start, name):
    assert describe_exit(code).startswith(start)
    assert signal_name(code) == name


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"first_delay": 0.0}, id="no-delay"),
        pytest.param({"first_delay": 31.0}, id="first-above-max"),
        pytest.param({"jitter": 1.0}, id="all-chance"),
        pytest.param({"starts_per_minute": 0}, id="never"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        RestartSettings(**wrong)
