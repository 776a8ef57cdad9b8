"""Which sessions are known to live."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bokeh_gateway.balance.live_sessions import LiveSessions, margin, session_key
from bokeh_gateway.balance.pool import Worker
from bokeh_gateway.config.address import Address

KEY = session_key(b"/app/ws", "one")


@dataclass
class Socket:
    """A WebSocket whose worker has sent a message, or has not."""

    acknowledged: bool = True


@pytest.fixture
def worker() -> Worker:
    made = Worker("apps/1", Address("127.0.0.1", 5100), index=0)
    made.keeps = 60.0
    return made


def test_an_open_session_lives_once_the_worker_has_sent_something(worker: Worker) -> None:
    """A worker that answers 101 and closes has refused the token, and made no session."""
    live, socket = LiveSessions(), Socket(acknowledged=False)
    live.opened(KEY, socket, worker)
    assert live.worker_of(KEY, 0.0) is None
    socket.acknowledged = True
    assert live.worker_of(KEY, 1e9) is worker


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
def test_an_ended_session_lives_for_as_long_as_the_worker_keeps_it(
    worker: Worker, acknowledged: bool, vanished: bool, after: float, alive: bool
) -> None:
    """Less a margin, and not when the worker went away."""
    live, socket = LiveSessions(), Socket(acknowledged)
    live.opened(KEY, socket, worker)
    live.closed(KEY, socket, worker, 100.0, vanished=vanished)
    assert live.worker_of(KEY, 100.0 + after) is (worker if alive else None)


def test_a_restarted_worker_has_none_of_its_sessions(worker: Worker) -> None:
    """Neither the open ones, whose sockets are about to be lost, nor those that waited."""
    live, waiting, open_socket = LiveSessions(), Socket(), Socket()
    other = session_key(b"/app/ws", "two")
    live.opened(KEY, waiting, worker)
    live.closed(KEY, waiting, worker, 0.0, vanished=False)
    live.opened(other, open_socket, worker)
    live.forget(worker)
    assert (live.worker_of(KEY, 1.0), live.worker_of(other, 1.0), len(live)) == (None, None, 0)


def test_a_worker_that_is_out_of_use_gets_nobody_back(worker: Worker) -> None:
    """It is asked again when the browser tries again."""
    live, socket = LiveSessions(), Socket()
    live.opened(KEY, socket, worker)
    worker.up = False
    assert live.worker_of(KEY, 0.0) is None


def test_the_end_of_an_older_socket_of_the_session_leaves_the_newer(worker: Worker) -> None:
    """A browser often reconnects before the gateway has noticed that the first connection is dead."""
    live, first, second = LiveSessions(), Socket(), Socket()
    live.opened(KEY, first, worker)
    live.opened(KEY, second, worker)
    live.closed(KEY, first, worker, 0.0, vanished=False)
    assert live.worker_of(KEY, 1e6) is worker


def test_an_id_names_one_session_in_each_app() -> None:
    """A token for one app is none for another, where the worker would make a new session."""
    assert session_key(b"/a/ws", "id") != session_key(b"/b/ws", "id")
    assert session_key(b"/a/ws", "id") != session_key(b"/a/ws", "id2")


def test_memory_is_bounded(worker: Worker) -> None:
    """By number, the oldest first, and by time."""
    live, socket = LiveSessions(remembered=3), Socket()
    keys = [session_key(b"/ws", str(number)) for number in range(5)]
    for number, key in enumerate(keys):
        live.opened(key, socket, worker)
        live.closed(key, socket, worker, float(number), vanished=False)
    assert [live.worker_of(key, 5.0) is worker for key in keys] == [False, False, True, True, True]
    live.expire(63.0)
    assert len(live) == 1
    live.expire(64.0)
    assert len(live) == 0


@pytest.mark.parametrize(("keeps", "expected"), [(60.0, 5.0), (15.0, 3.75), (2.0, 0.5)])
def test_the_margin_is_a_quarter_of_what_is_short(keeps: float, expected: float) -> None:
    """Else Bokeh's own 15 s would leave BokehJS's first tries out."""
    assert margin(keeps) == expected
