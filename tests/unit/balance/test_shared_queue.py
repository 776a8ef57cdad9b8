"""One queue for all processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bokeh_gateway.balance import shared_queue
from bokeh_gateway.balance.lock import Lock
from bokeh_gateway.balance.queue import SessionQueue, Ticket
from bokeh_gateway.balance.shared_queue import SharedQueues, queues_size
from bokeh_gateway.control.memory import shared_memory

A, B, C = (Ticket(float(n), f"{n:016x}") for n in (1, 2, 3))


def ask(
    queues: SharedQueues, ticket: Ticket, room: int = 0, now: float = 4.0, pool: str = "p", size: int = 9
) -> object:
    with queues.lock:
        queue = queues.take(pool, size, 300.0)
        place = queue.ask(ticket, room, now)
        queues.keep(pool, queue)
    return place


def test_who_joined_earlier_is_served_earlier_whichever_process_is_asked() -> None:
    fd = shared_memory(queues_size())
    first, second = (SharedQueues(Lock(fd), fd) for _ in range(2))
    assert ask(first, A) == 1
    assert ask(second, B) == 2
    assert ask(second, B, room=1) == 2, "the one place is A's, who asks another process"
    assert ask(second, A, room=1) == 0
    assert ask(first, B, room=1) == 0


def test_each_pool_has_its_own() -> None:
    queues = SharedQueues(Lock())
    assert ask(queues, A, pool="p") == 1
    assert ask(queues, B, pool="q") == 1
    assert ask(queues, C, pool="p") == 2
    assert ask(queues, B, pool="q", room=1) == 0
    assert ask(queues, C, pool="p") == 2


def test_all_pools_together_have_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the queue of one may be."""
    monkeypatch.setattr(shared_queue, "PLACES", 2)
    queues = SharedQueues(Lock())
    assert [ask(queues, A, pool="p"), ask(queues, B, pool="q"), ask(queues, C, pool="p")] == [1, 1, None]


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 15), st.integers(0, 1)), max_size=40)


@given(STEPS)
def test_it_is_the_queue_of_one_process(steps: list[tuple[int, int, int, int]]) -> None:
    """Whatever is asked, in whatever order, with two processes that take turns."""
    fd = shared_memory(queues_size())
    processes, model, now = [SharedQueues(Lock(fd), fd) for _ in range(2)], SessionQueue(4, 300.0), 10.0
    for number, room, later, process in steps:
        now += later
        ticket = Ticket(float(number), f"{number:016x}")
        assert ask(processes[process], ticket, room, now, size=4) == model.ask(ticket, room, now)
