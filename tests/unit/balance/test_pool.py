"""Workers and pools."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance import pool as pools
from bokeh_gateway.balance.pool import Pool, Worker, available
from bokeh_gateway.config.address import Address

HERE = Address("127.0.0.1", 5100)


@pytest.mark.parametrize(
    ("up", "draining", "expected"),
    [
        pytest.param(True, False, True, id="up"),
        pytest.param(False, False, False, id="down"),
        pytest.param(True, True, False, id="draining"),
        pytest.param(False, True, False, id="both"),
    ],
)
def test_available_is_up_and_not_draining(up: bool, draining: bool, expected: bool) -> None:
    """Said once, for new sessions."""
    worker = Worker("a", HERE, index=0, up=up)
    worker.draining = draining
    assert worker.available is available(worker) is expected


def test_a_pool_finds_its_workers_by_key() -> None:
    """The key is of the name: neither the place in the list nor the address counts."""
    one, two = Worker("one", HERE, index=0), Worker("two", HERE, index=1)
    assert Pool("p", "bokeh", [one, two]).by_key == {one.key: one, two.key: two}
    assert Worker("one", Address(unix="/run/1.sock"), index=7).key == one.key


def test_equal_keys_in_a_pool_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of one would go to the other: equal names, or 40 equal bits of hash."""
    with pytest.raises(ValueError, match="workers a and a have the same key"):
        Pool("p", "bokeh", [Worker("a", HERE, index=0), Worker("a", HERE, index=1)])
    monkeypatch.setattr(pools, "worker_key", lambda name: "aaaaaaaa")
    with pytest.raises(ValueError, match="workers a and b have the same key"):
        Pool("p", "bokeh", [Worker("a", HERE, index=0), Worker("b", HERE, index=1)])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_positive(weight: float) -> None:
    """It divides."""
    with pytest.raises(ValueError, match="weight"):
        Worker("a", HERE, index=0, weight=weight)
