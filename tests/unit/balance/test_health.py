"""Probes, bad answers and slow starts, as tables."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.health import TRIAL_AFTER, TRIAL_MOST, Breaker, Health, HealthSettings, Verdict
from bokeh_gateway.balance.health import slow_start_share as share

SETTINGS = HealthSettings(rise=2, fall=3, max_lag=2.0)


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        pytest.param("..", [], id="good"),
        pytest.param("xx", [], id="two-failures-are-none-yet"),
        pytest.param("xxx", ["down"], id="fall"),
        pytest.param("xx.xx", [], id="only-in-a-row"),
        pytest.param("xxxxx", ["down"], id="said-once"),
        pytest.param("xxx.", ["down"], id="one-good-one-is-not-enough"),
        pytest.param("xxx.x..", ["down", "up"], id="rise"),
        pytest.param("s", ["slow"], id="slow"),
        pytest.param("ss.s", ["slow", "quick", "slow"], id="slow-and-quick"),
        pytest.param("xxxs.", ["down", "slow", "up", "quick"], id="slow-answers-count-as-good"),
    ],
)
def test_probes_decide_by_thresholds(probes: str, expected: list[str]) -> None:
    """`x` failed, `.` good, `s` good after 3 s."""
    health = Health(SETTINGS)
    said = [verdict for probe in probes for verdict in health.probed(probe != "x", 3.0 if probe == "s" else 0.01)]
    assert said == expected


def test_a_probe_that_still_waits_shows_a_blocked_loop() -> None:
    """The answer need not be waited for."""
    health = Health(SETTINGS)
    assert health.waiting(1.0) == ()
    assert health.waiting(2.1) == (Verdict.SLOW,)
    assert health.waiting(5.0) == ()
    assert health.probed(True, 20.0) == ()
    assert health.lag == 20.0
    assert health.probed(True, 0.01) == (Verdict.QUICK,)


def test_trials_come_later_with_each_that_fails() -> None:
    breaker = Breaker()
    assert not breaker.trial_due(1e9)
    waits = [breaker.opened(now=100.0) for _ in range(6)]
    assert waits[:2] == [TRIAL_AFTER, 2 * TRIAL_AFTER]
    assert waits[-1] == TRIAL_MOST
    assert not breaker.trial_due(100.0 + TRIAL_MOST - 0.1)
    assert breaker.trial_due(100.0 + TRIAL_MOST)
    breaker.closed()
    assert not breaker.trial_due(1e9)
    assert breaker.opened(now=0.0) == TRIAL_AFTER


def test_a_slow_start_grows_to_the_weight() -> None:
    assert [share(4.0, since, 10.0) for since in (0.0, 0.5, 5.0, 10.0, 99.0)] == [0.4, 0.4, 2.0, 4.0, 4.0]
    assert share(4.0, 0.0, 0.0) == 4.0
