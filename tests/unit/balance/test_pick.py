"""The worker for a new session."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.balance.pick import least_loaded
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.config.address import Address


def worker(index: int, weight: float = 1.0, state: str = "up") -> Worker:
    """`state` is a word out of: up, down, draining, slow."""
    made = Worker(f"w{index}", Address("127.0.0.1", 5100 + index), index=index, weight=weight, up=state != "down")
    made.draining = state == "draining"
    made.slow = state == "slow"
    return made


@pytest.mark.parametrize(
    ("workers", "loads", "expected"),
    [
        pytest.param([worker(0), worker(1), worker(2)], [3, 1, 2], 1, id="lowest"),
        pytest.param([worker(0), worker(1, weight=4)], [1, 3], 1, id="for-its-weight"),
        pytest.param([worker(0), worker(1, weight=0.5)], [1, 1], 0, id="a-small-weight"),
        pytest.param([worker(0), worker(1, state="down")], [9, 0], 0, id="down"),
        pytest.param([worker(0), worker(1, state="draining")], [9, 0], 0, id="draining"),
        pytest.param([worker(0), worker(1, state="slow")], [900, 0], 0, id="slow"),
        pytest.param([worker(0, state="down"), worker(1, state="slow")], [0, 5], 1, id="slow-is-better-than-none"),
        pytest.param([worker(0, state="slow"), worker(1, state="slow")], [6, 5], 1, id="all-slow"),
        pytest.param([worker(3), worker(1)], [0, 5, 0, 9], 1, id="loads-are-by-column"),
        pytest.param([worker(0)], [5], 0, id="only-one"),
        pytest.param([worker(0, state="down"), worker(1, state="draining")], [0, 0], None, id="none-available"),
        pytest.param([], [], None, id="no-worker"),
    ],
)
@pytest.mark.parametrize("turn", [0, 1, 2, 10**9])
def test_the_least_loaded_is_picked(workers: list[Worker], loads: list[int], expected: int | None, turn: int) -> None:
    """Whosever turn it is, for there are no equals here."""
    picked = least_loaded(workers, loads, turn)
    assert (picked.index if picked else None) == expected


def test_equals_are_dealt_out_in_turn() -> None:
    """Otherwise the first worker would get all of a quiet server's sessions."""
    workers = [worker(n) for n in range(4)]
    picked = [least_loaded(workers, [1, 0, 0, 0], turn) for turn in range(8)]
    assert [one.index if one else None for one in picked] == [1, 1, 2, 3, 1, 1, 2, 3]


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=8), st.integers(1, 200))
def test_sessions_spread_as_the_weights_say(weights: list[float], sessions: int) -> None:
    """AF-07: with each pick counted, no worker is a whole session above another one, for its weight."""
    workers = [worker(n, weight) for n, weight in enumerate(weights)]
    loads: Counter[int] = Counter()
    for turn in range(sessions):
        picked = least_loaded(workers, [loads[n] for n in range(len(workers))], turn)
        assert picked is not None
        loads[picked.index] += 1
    for one in workers:
        assert (loads[one.index] - 1) / one.weight <= min(loads[other.index] / other.weight for other in workers)
