"""Who waits for another process's answer."""

from __future__ import annotations

import asyncio

from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.endpoint.auth_refreshes import Refreshes
from bokeh_gateway.endpoint.auth_together import Claims


def test_others_wait_until_they_are_told_or_for_a_while() -> None:
    async def run() -> list[tuple[str, bytes | None]]:
        told: list[tuple[str, bytes | None]] = []
        shared = Shared(1, 2)
        first = Refreshes(Claims(shared.sign_ins), lambda sid, sealed: told.append((sid, sealed)))
        second = Refreshes(Claims(shared.sign_ins), lambda sid, sealed: None)
        assert first.take("s", 1.0, 1000.0, 30.0)
        assert not second.take("s", 1.0, 1000.0, 30.0)
        waiting = [asyncio.create_task(second.wait("s", 600.0)) for _ in range(2)]
        await asyncio.sleep(0)
        second.told("other")
        assert not any(task.done() for task in waiting)
        second.told("s")
        await asyncio.gather(*waiting)
        await second.wait("s", 0.01)
        assert second.take("s", 2.0, 1000.0, 30.0), "what was refreshed is another thing to do"
        first.failed("s", 1.0)
        assert second.take("s", 1.0, 1000.0, 30.0)
        return told

    assert asyncio.run(run()) == [("s", None)]
