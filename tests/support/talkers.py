"""WebSockets that talk without a pause: an echoing server, and clients that know which messages must come back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.waiting import GENEROUS, wait_until

T = TypeVar("T")


class LoopThread:
    """An event loop of its own in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], within: float = GENEROUS) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(within)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GENEROUS)
        self.loop.close()


class EchoServer:
    """Sends every message back."""

    def __init__(self) -> None:
        self.port = 0
        self._thread = LoopThread()

    def __enter__(self) -> Self:
        self._thread.start()
        self._thread.call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.call(self._close())
        self._thread.stop()

    async def _open(self) -> None:
        self._server = await serve(_echo, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


async def _echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


@dataclass
class Score:
    """What the talkers saw."""

    open: int = 0
    echoed: int = 0
    closed: int = 0
    """Ended by somebody else."""
    wrong: list[str] = field(default_factory=list)


class Talkers:
    """`count` clients of `url` that each keep sending numbers and read them back in order."""

    def __init__(self, url: str, count: int, pause: float = 0.05, at_once: int = 20) -> None:
        self.url = url
        self.count = count
        self.score = Score()
        self._pause = pause
        self._gate = at_once
        self._thread = LoopThread()
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._thread.call(self._begin())
        wait_until(lambda: self.score.open == self.count, f"{self.count} WebSockets are open", 3 * GENEROUS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.call(self._end(), 3 * GENEROUS)
        self._thread.stop()

    def wait_round(self) -> None:
        """Each client got some more of its messages back."""
        aim = self.score.echoed + 2 * self.count
        wait_until(lambda: self.score.echoed >= aim or self.score.closed, "messages go on", 2 * GENEROUS)

    async def _begin(self) -> None:
        gate = asyncio.Semaphore(self._gate)
        self._tasks = [asyncio.create_task(self._talk(number, gate)) for number in range(self.count)]

    async def _end(self) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)

    async def _talk(self, who: int, gate: asyncio.Semaphore) -> None:
        score = self.score
        async with gate:
            connection = await connect(
                self.url, compression=None, ping_interval=None, proxy=None, open_timeout=GENEROUS, close_timeout=2
            )
        score.open += 1
        number = 0
        try:
            while not self._ending:
                # Two on their way at a time, so that order is something that can be lost.
                for offset in (0, 1):
                    await connection.send(f"{who}/{number + offset}")
                for offset in (0, 1):
                    got = await asyncio.wait_for(connection.recv(), GENEROUS)
                    if got != f"{who}/{number + offset}":
                        score.wrong.append(f"{who}: expected {number + offset}, got {got!r}")
                number += 2
                score.echoed += 2
                await asyncio.sleep(self._pause)
        except (ConnectionClosed, TimeoutError) as lost:
            score.closed += 1
            score.wrong.append(f"{who} after {number}: {lost!r}")
            return
        await connection.close()
