"""When a worker is replaced, and how many there should be."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.recycle import SPREAD, Life, RecycleSettings, share_of, workers_wanted, worn_out

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("life", "settings", "share", "expected"),
    [
        pytest.param(Life(rss=10**12, age=1e9, served=10**6), RecycleSettings(), 1.0, None, id="no-limits"),
        pytest.param(Life(rss=300 * MIB), RecycleSettings(max_rss=300 * MIB), 1.0, None, id="just-at-it"),
        pytest.param(Life(rss=301 * MIB), RecycleSettings(max_rss=300 * MIB), 1.0, "max_rss", id="memory"),
        pytest.param(Life(age=3601.0), RecycleSettings(max_age=3600.0), 1.0, "max_age", id="age"),
        pytest.param(Life(age=3301.0), RecycleSettings(max_age=3600.0), 0.9, "max_age", id="age-spread"),
        pytest.param(Life(served=99), RecycleSettings(max_served=100), 1.0, None, id="served-fewer"),
        pytest.param(Life(served=100), RecycleSettings(max_served=100), 1.0, "max_served", id="served"),
    ],
)
def test_the_reason_names_the_setting(life: Life, settings: RecycleSettings, share: float, expected: str) -> None:
    why = worn_out(life, settings, share)
    assert (why is None) if expected is None else (why is not None and expected in why)


@pytest.mark.parametrize(
    ("sessions", "workers", "expected"),
    [
        pytest.param(0, 1, 1, id="never-below-the-least"),
        pytest.param(10, 1, 1, id="just-enough"),
        pytest.param(11, 1, 2, id="one-more"),
        pytest.param(45, 2, 4, id="never-above-the-most"),
        pytest.param(11, 2, 2, id="no-flapping"),
        pytest.param(4, 2, 1, id="one-fewer"),
        pytest.param(0, 4, 3, id="one-at-a-time"),
        pytest.param(14, 4, 3, id="three-would-be-half-empty"),
        pytest.param(15, 4, 4, id="three-would-not"),
    ],
)
def test_the_number_of_workers_follows_the_sessions(sessions: int, workers: int, expected: int) -> None:
    """At 10 sessions a worker, from 1 to 4 workers."""
    assert workers_wanted(sessions, workers, load_factor=10.0, least=1, most=4) == expected


def test_workers_that_came_together_go_apart() -> None:
    shares = {share_of(seed) for seed in range(0, 2048, 64)}
    assert len(shares) == 16
    assert all(1.0 - SPREAD < share <= 1.0 for share in shares)
