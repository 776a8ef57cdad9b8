"""Requests that wait for a worker: in order, for a time, and only while there is hope."""

from __future__ import annotations

import pytest

from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.config.address import Address
from bokeh_gateway.endpoint.waiting import WaitingRoom


class Request:
    """A waiter that takes one of `places`."""

    def __init__(self, name: str, places: list[str], done: list[str]) -> None:
        self.name, self.places, self.done = name, places, done

    def try_again(self) -> bool:
        if not self.places:
            return False
        self.places.pop()
        self.done.append(self.name)
        return True

    def waited_in_vain(self, why: str) -> None:
        self.done.append(f"{self.name}: {why}")


def pool(hold: float = 15.0, coming: float = 100.0) -> Pool:
    worker = Worker("demo/1", Address(unix="/x"), index=0, up=False, coming=coming)
    return Pool("demo", "bokeh", [worker], hold=hold)


@pytest.mark.parametrize(
    ("hold", "coming", "now", "expected"),
    [
        pytest.param(15.0, 100.0, 0.0, True, id="a-worker-starts"),
        pytest.param(15.0, 0.0, 5.0, False, id="none-is-coming"),
        pytest.param(15.0, 100.0, 101.0, False, id="it-went-too-long-ago"),
        pytest.param(0.0, 100.0, 0.0, False, id="switched-off"),
    ],
)
def test_who_may_wait(hold: float, coming: float, now: float, expected: bool) -> None:
    assert WaitingRoom().enter(pool(hold, coming), Request("a", [], []), now) is expected


def test_those_who_wait_are_tried_in_the_order_they_came() -> None:
    room, place, done = WaitingRoom(), pool(), []
    places: list[str] = ["1", "2"]
    requests = [Request(name, places, done) for name in "abcd"]
    for request in requests:
        assert room.enter(place, request, 0.0)
    room.leave(place, requests[1])
    room.worker_came(place)
    assert done == ["a", "c"]
    places += ["3"]
    room.worker_came(place)
    assert done == ["a", "c", "d"]
    assert not len(room)


def test_waiting_ends_with_the_time_or_with_the_hope() -> None:
    room, place, done = WaitingRoom(), pool(), []
    room.enter(place, Request("a", [], done), 0.0)
    room.enter(place, Request("b", [], done), 10.0)
    room.expire(14.0)
    assert done == []
    room.expire(15.0)
    assert done == ["a: none came within [pool.demo] hold = 15 s"]
    place.workers[0].coming = 0.0
    room.expire(16.0)
    assert done[1:] == ["b: no worker is about to come"]
