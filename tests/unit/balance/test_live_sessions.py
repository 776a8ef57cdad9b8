"""Which sessions are known to live."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bokeh_gateway.balance.live_sessions import LiveSessions, margin, session_key
from bokeh_gateway.balance.pool import Pool, Worker
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.config.address import Address

KEY = session_key(b"/app/ws", "one")


@dataclass
class Socket:
    """A WebSocket whose worker has sent a message, or has not."""

    acknowledged: bool = True


class Processes:
    """Two of one gateway, before one worker."""

    def __init__(self, worker: Worker) -> None:
        self.shared = Shared(1, 2)
        self.pool = Pool("apps", "bokeh", [worker])
        self.both = [LiveSessions(self.shared.live, row, self.shared.restarts) for row in (0, 1)]

    def found(self, now: float, key: bytes = KEY) -> Worker | None:
        """By the first one."""
        return self.both[0].worker_of(key, self.pool, now)

    def found_by_other(self, now: float, key: bytes = KEY) -> Worker | None:
        return self.both[1].worker_of(key, self.pool, now)


@pytest.fixture
def worker() -> Worker:
    made = Worker("apps/1", Address("127.0.0.1", 5100), index=0)
    made.keeps = 60.0
    return made


@pytest.fixture
def processes(worker: Worker) -> Processes:
    return Processes(worker)


def test_an_open_session_lives_once_the_worker_has_sent_something(worker: Worker, processes: Processes) -> None:
    """A worker that answers 101 and closes has refused the token, and made no session.  The others hear of it soon."""
    live, socket = processes.both[0], Socket(acknowledged=False)
    live.opened(KEY, socket, worker)
    live.publish(0.5)
    assert processes.found(1.0) is processes.found_by_other(1.0) is None
    socket.acknowledged = True
    assert processes.found(1e9) is worker
    assert processes.found_by_other(1.0) is None
    live.publish(2.0)
    assert processes.found_by_other(1e9) is worker


@pytest.mark.parametrize(
    ("acknowledged", "vanished", "after", "alive"),
    [
        pytest.param(True, False, 0.0, True, id="just-ended"),
        pytest.param(True, False, 54.9, True, id="before-the-margin"),
        pytest.param(True, False, 55.0, False, id="a-busy-worker-may-discard-it-first"),
        pytest.param(True, True, 0.0, False, id="the-worker-died"),
        pytest.param(False, False, 0.0, False, id="was-never-acknowledged"),
    ],
)
@pytest.mark.parametrize("published", [True, False])
def test_an_ended_session_lives_for_as_long_as_the_worker_keeps_it(
    worker: Worker, processes: Processes, acknowledged: bool, vanished: bool, after: float, alive: bool, published: bool
) -> None:
    """Less a margin, and not when the worker went away; known to all processes at once."""
    live, socket = processes.both[0], Socket(acknowledged)
    live.opened(KEY, socket, worker)
    if published:
        live.publish(50.0)
    live.closed(KEY, socket, worker, 100.0, vanished=vanished)
    expected = worker if alive else None
    assert processes.found(100.0 + after) is processes.found_by_other(100.0 + after) is expected


def test_a_restarted_worker_has_none_of_its_sessions(worker: Worker, processes: Processes) -> None:
    """Neither the open ones, whose sockets are about to be lost, nor those that waited, whichever process finds out."""
    live, waiting, open_socket, elsewhere = processes.both[0], Socket(), Socket(), Socket()
    other, third, later = (session_key(b"/app/ws", name) for name in ("two", "three", "four"))
    live.opened(KEY, waiting, worker)
    live.closed(KEY, waiting, worker, 0.5, vanished=False)
    live.opened(other, open_socket, worker)
    processes.both[1].opened(third, elsewhere, worker)
    for process in processes.both:
        process.publish(0.5)
    live.forget(worker, 0.75)
    assert [processes.found(1.0, key) for key in (KEY, other, third)] == [None] * 3
    assert [processes.found_by_other(1.0, key) for key in (KEY, other)] == [None] * 2
    live.opened(later, waiting, worker)
    live.publish(1.0)
    assert processes.found_by_other(1.5, later) is worker


def test_a_worker_that_is_out_of_use_gets_nobody_back(worker: Worker, processes: Processes) -> None:
    """It is asked again when the browser tries again."""
    live, socket = processes.both[0], Socket()
    live.opened(KEY, socket, worker)
    live.publish(0.0)
    worker.up = False
    assert processes.found(0.0) is processes.found_by_other(0.0) is None


def test_a_worker_of_another_pool_is_none_of_ours(worker: Worker, processes: Processes) -> None:
    live, socket = processes.both[0], Socket()
    live.opened(KEY, socket, worker)
    live.publish(0.0)
    empty = Pool("other", "bokeh", [])
    assert [process.worker_of(KEY, empty, 1.0) for process in processes.both] == [None, None]


@pytest.mark.parametrize("newer", [0, 1], ids=["same-process", "other-process"])
def test_the_end_of_an_older_socket_of_the_session_leaves_the_newer(
    worker: Worker, processes: Processes, newer: int
) -> None:
    """A browser often reconnects before the gateway has noticed that the first connection is dead."""
    first, second = Socket(), Socket()
    processes.both[0].opened(KEY, first, worker)
    processes.both[0].publish(0.0)
    processes.both[newer].opened(KEY, second, worker)
    processes.both[newer].publish(1.0)
    processes.both[0].closed(KEY, first, worker, 2.0, vanished=False)
    assert processes.found(1e6) is processes.found_by_other(1e6) is worker
    processes.both[newer].closed(KEY, second, worker, 1e6, vanished=False)
    assert processes.found(1e6 + 54) is processes.found_by_other(1e6 + 54) is worker
    assert processes.found(1e6 + 56) is processes.found_by_other(1e6 + 56) is None


def test_what_a_killed_process_had_open_lives_for_as_long_as_the_worker_keeps_it(
    worker: Worker, processes: Processes
) -> None:
    """The browsers come back to another process, with tokens that may have expired."""
    processes.both[1].opened(KEY, Socket(), worker)
    processes.both[1].publish(0.0)
    processes.shared.clear_row(1, 1000.0)
    assert processes.found(1054.0) is worker
    assert processes.found(1056.0) is None


def test_an_id_names_one_session_in_each_app() -> None:
    """A token for one app is none for another, where the worker would make a new session."""
    assert session_key(b"/a/ws", "id") != session_key(b"/b/ws", "id")
    assert session_key(b"/a/ws", "id") != session_key(b"/a/ws", "id2")


@pytest.mark.parametrize(("keeps", "expected"), [(60.0, 5.0), (15.0, 3.75), (2.0, 0.5)])
def test_the_margin_is_a_quarter_of_what_is_short(keeps: float, expected: float) -> None:
    """Else Bokeh's own 15 s would leave BokehJS's first tries out."""
    assert margin(keeps) == expected


def test_pages_of_a_drained_worker_may_begin_anew_for_as_long_as_their_sessions_would_have_lived(
    worker: Worker, processes: Processes
) -> None:
    """In all processes that were told; not of one that was called off, nor of a session that was never there."""
    one, other = processes.both
    socket = Socket()
    one.opened(KEY, socket, worker)
    one.publish(1.0)
    assert not one.released(KEY, 1.0)
    for live in processes.both:
        live.release(worker, 2.0)
    one.closed(KEY, socket, worker, 2.5, vanished=False)
    assert one.released(KEY, 3.0)
    assert other.released(KEY, 3.0)
    assert not other.released(session_key(b"/app/ws", "another"), 3.0)
    assert not other.released(KEY, 2.5 + 60.0)
    other.keep(worker)
    assert not other.released(KEY, 3.0)
