"""Tries at passwords, where another process verifies some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.endpoint import auth_guard
from bokeh_gateway.endpoint.auth_guard import Guard, Try
from bokeh_gateway.wire.sweep import Sweep

NAMES = ["203.0.113.1", "user ada"]


async def verified(right: bool) -> bool:
    return right


@pytest.mark.parametrize("right", [True, False])
def test_who_waits_for_another_process_gets_its_try_or_not(right: bool) -> None:
    async def both() -> None:
        shared, sweep = Shared(1), Sweep(asyncio.get_running_loop())
        here, there = (Guard(1, shared.rates(b"wrong")) for _ in range(2))
        taken = await there.admit(NAMES, sweep)
        assert isinstance(taken, Try)
        waiting = asyncio.ensure_future(here.admit(NAMES[1:], sweep))
        await asyncio.sleep(0)
        assert not waiting.done()
        there.follow(taken, asyncio.ensure_future(verified(right)), True, sweep)
        found = await asyncio.wait_for(waiting, 10)
        assert isinstance(found, Try) == right

    asyncio.run(both())


def test_what_a_killed_process_verified_keeps_nobody_waiting_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_guard, "PATIENCE", 0.2)

    async def both() -> None:
        shared, sweep = Shared(1), Sweep(asyncio.get_running_loop())
        here, gone = (Guard(1, shared.rates(b"wrong")) for _ in range(2))
        await gone.admit(NAMES, sweep)
        found = await asyncio.wait_for(here.admit(NAMES, sweep), 10)
        assert not isinstance(found, Try)
        assert found.status == 429

    asyncio.run(both())


async def not_used(guard: Guard, admitted: Try, sweep: Sweep) -> None:
    guard.unused(admitted, sweep)


async def ended_by_a_reload(guard: Guard, admitted: Try, sweep: Sweep) -> None:
    task = asyncio.ensure_future(verified(True))
    guard.follow(admitted, task, True, sweep)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("ends", [not_used, ended_by_a_reload])
def test_a_try_that_told_nobody_anything_is_left_to_others(
    ends: Callable[[Guard, Try, Sweep], Awaitable[None]],
) -> None:
    async def one() -> None:
        shared, sweep = Shared(1), Sweep(asyncio.get_running_loop())
        guard = Guard(1, shared.rates(b"wrong"))
        for _ in range(3):
            admitted = await guard.admit(NAMES, sweep)
            assert isinstance(admitted, Try)
            await ends(guard, admitted, sweep)

    asyncio.run(one())
