"""Gateway processes that end and are wanted at the same time: one for each slot, each with a row of its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.control.channel import OnMessage, Payload
from bokeh_gateway.control.processes import ROWS, SILENCE, STEADY, Processes, Shape

TURNS = 100
"""Turns of the loop, more than a start takes here."""


class Child:
    """A process that gets ready as soon as it is told its configuration."""

    def __init__(self, on_message: OnMessage, pid: int) -> None:
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._on_message = on_message

    def send(self, kind: str, _payload: Payload, _fds: Sequence[int] = ()) -> None:
        if kind == "configure":
            asyncio.get_running_loop().call_soon(self._on_message, "ready", {}, [])
        elif kind == "stop":
            self.kill()

    def kill(self) -> None:
        if not self.exited.done():
            self.exited.set_result(-9)


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


def run(scenario: Callable[[Processes], Awaitable[None]], count: int = 2) -> None:
    """Runs `scenario` with `count` steady processes; one takes a few turns of the loop to start."""

    async def body() -> None:
        pids = iter(range(1000, 2000))

        async def spawn(on_message: OnMessage) -> Child:
            for _ in range(5):
                await asyncio.sleep(0)
            return Child(on_message, next(pids))

        shared = Shared(4, ROWS)
        shape = Shape(count, lambda _member, _first: ({}, []), lambda _name, _up: None, lambda _url: None)
        processes = Processes(spawn, shared, shape)
        await processes.start()
        for member in processes.members:
            member.began -= 2 * STEADY
        try:
            await scenario(processes)
        finally:
            await processes.stop()
            shared.close()

    asyncio.run(body())


def test_two_that_end_together_get_rows_of_their_own() -> None:
    """Two that write the same row would make every count wrong, for ever."""

    async def scenario(processes: Processes) -> None:
        for member in processes.active:
            member.handle.kill()
        await turns()
        assert [count for _, count in Counter(m.row for m in processes.members).items()] == [1, 1]
        assert {member.slot for member in processes.members} == {0, 1}

    run(scenario)


def test_a_reload_while_one_is_replaced_makes_no_second_one() -> None:
    async def scenario(processes: Processes) -> None:
        processes.active[0].handle.kill()
        await asyncio.sleep(0)
        await processes.reconfigure()
        await turns()
        assert sorted(member.slot for member in processes.members) == [0, 1]

    run(scenario)


def test_fewer_wanted_while_one_is_replaced() -> None:
    async def scenario(processes: Processes) -> None:
        (second,) = (member for member in processes.active if member.slot == 1)
        second.handle.kill()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        processes.shape.count = 1
        await turns()
        assert [member.slot for member in processes.members] == [0]

    run(scenario)


def test_no_more_than_the_board_has_rows_for() -> None:
    async def scenario(processes: Processes) -> None:
        assert processes.shortage(ROWS - 2) is None
        for member in processes.members:
            member.slot = -1
        shortage = processes.shortage(ROWS - 1)
        assert shortage is not None
        assert shortage.startswith("2 gateway processes")
        assert "[timeouts] reload_linger" in shortage

    run(scenario)


def test_one_that_gives_no_sign_of_life_is_said_once_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(processes: Processes) -> None:
        for _ in range(SILENCE):
            processes.look()
        assert not caplog.records
        for _ in range(5):
            processes.look()
        (record,) = caplog.records
        assert "kill -9 1000" in record.message
        processes._received(processes.members[0], "pong", {})
        assert caplog.records[-1].message == "gateway process 1000 answers again"
        for _ in range(SILENCE):
            processes.look()
        assert len(caplog.records) == 2

    run(scenario, count=1)
