"""First come, first served; who does not ask again has gone."""

from __future__ import annotations

from bokeh_gateway.balance.queue import LOST, SessionQueue, Ticket

A, B, C = Ticket(1.0, "a"), Ticket(2.0, "b"), Ticket(3.0, "c")


def test_the_first_to_come_is_the_first_to_be_served() -> None:
    queue = SessionQueue(size=10, timeout=300.0)
    assert [queue.ask(t, room=0, now=4.0) for t in (A, B, C)] == [1, 2, 3]
    assert queue.ask(B, room=1, now=5.0) == 2, "the one place is A's"
    assert queue.ask(A, room=1, now=6.0) == 0
    assert queue.ask(C, room=1, now=7.0) == 2
    assert queue.ask(B, room=1, now=8.0) == 0
    assert len(queue) == 1


def test_a_ticket_of_another_process_stands_where_its_time_says() -> None:
    queue = SessionQueue(size=10, timeout=300.0)
    assert queue.ask(B, room=0, now=4.0) == 1
    assert queue.ask(A, room=0, now=4.0) == 1
    assert queue.ask(B, room=0, now=4.0) == 2


def test_who_has_gone_keeps_no_place() -> None:
    queue = SessionQueue(size=10, timeout=300.0)
    queue.ask(A, room=0, now=4.0)
    assert queue.ask(B, room=0, now=4.0 + LOST) == 2
    assert queue.ask(B, room=0, now=4.1 + LOST) == 1


def test_a_full_queue_takes_nobody_but_those_it_has() -> None:
    queue = SessionQueue(size=1, timeout=300.0)
    assert queue.ask(A, room=0, now=4.0) == 1
    assert queue.ask(B, room=0, now=4.0) is None
    assert queue.ask(B, room=2, now=4.0) == 0
    assert queue.ask(A, room=0, now=4.0) == 1


def test_a_ticket_ends_with_its_time() -> None:
    queue = SessionQueue(size=1, timeout=10.0)
    assert not queue.expired(A, 10.9)
    assert queue.expired(A, 11.0)
    assert queue.expired(Ticket(99.0, "from the future"), 11.0)
