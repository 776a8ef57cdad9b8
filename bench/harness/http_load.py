"""HTTP/1.1 load over kept-alive connections: closed loop (next request when the answer is whole) or at a fixed rate.

Every answer is checked for status 200 and its exact length; a connection that the proxy closes is opened anew.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bench.harness.budget import Budget
from bench.harness.load import Load
from bench.harness.ticker import Ticker

PATIENCE_SECONDS = 30.0


class _Head:
    """What an answer's head says; heads repeat, so each is read once."""

    __slots__ = ("closes", "length", "ok")

    def __init__(self, head: bytes) -> None:
        status, *lines = head.split(b"\r\n")
        fields = {name.lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)}
        self.ok = status.startswith(b"HTTP/1.1 200")
        self.length = int(fields.get(b"content-length", b"-1"))
        self.closes = fields.get(b"connection") == b"close"


class Client(asyncio.Protocol):
    """One connection; sends `request` when told, reports through `finished(client, problem)`."""

    _heads: dict[bytes, _Head] = {}  # noqa: RUF012 - shared on purpose: all connections see the same heads

    def __init__(self, request: bytes, expected: int, finished: Callable[[Client, str | None], None]) -> None:
        self._request, self._expected, self._finished = request, expected, finished
        self._buffer = b""
        self._good = b""
        self._missing = 0
        self._head: _Head | None = None
        self._waiting = False
        self.sent_ns = 0
        self.closed = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.closed = False

    def send(self, due_ns: int | None = None) -> None:
        """One request; its latency counts from `due_ns`, if that is given."""
        self.sent_ns = due_ns or time.perf_counter_ns()
        self._waiting = True
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if data == self._good and self._head is None and not self._buffer:  # the very same answer again
            self._waiting = False
            self._finished(self, None)
            return
        first = self._head is None and not self._buffer
        if self._head is None:
            if self._buffer:
                data = self._buffer + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            self._buffer = b""
            self._head = self._read_head(data[:end])
            self._missing = self._head.length - (len(data) - end - 4)
        else:
            self._missing -= len(data)
        if self._missing <= 0 or self._head.length < 0:
            self._end(data if first else b"")

    def _read_head(self, head: bytes) -> _Head:
        known = self._heads.get(head)
        if known is None:
            if len(self._heads) > 1000:
                self._heads.clear()
            known = self._heads[head] = _Head(head)
        return known

    def _end(self, alone: bytes) -> None:
        """An answer is whole; `alone` if it came in one piece."""
        head, self._head, self._waiting = self._head, None, False
        assert head is not None
        problem = None
        if not head.ok:
            problem = "status not 200"
        elif head.length != self._expected or self._missing:
            problem = "wrong length"
        if head.closes or problem:
            self.closed = True
            self.transport.close()
        else:
            self._good = alone
        self._finished(self, problem)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._waiting:
            self._waiting = False
            self._finished(self, "connection lost")


class Clients:
    """A number of connections to one address, all sending the same request."""

    def __init__(self, port: int, request: bytes, expected: int, context: ssl.SSLContext | None = None) -> None:
        self._port, self._request, self._expected, self._context = port, request, expected, context
        self._all: list[Client] = []
        self._idle: deque[Client] = deque()
        self._loop = asyncio.get_running_loop()
        self._reopening: set[asyncio.Task[None]] = set()
        self._rate = False

    async def open(self, count: int) -> None:
        """Connect `count` clients, one after another so that no backlog overflows."""
        for _ in range(count):
            self._all.append(await self._connect())

    async def _connect(self) -> Client:
        name = "localhost" if self._context else None
        _, client = await self._loop.create_connection(
            lambda: Client(self._request, self._expected, self._finished),
            "127.0.0.1", self._port, ssl=self._context, server_hostname=name,
        )  # fmt: skip
        return client

    def close(self) -> None:
        """Close all connections."""
        for client in self._all:
            client.transport.close()

    async def run(self, budget: Budget) -> Load:
        """Closed loop: every connection has one request in flight until the budget is used up."""
        self._begin(budget)
        started = time.perf_counter_ns()
        for client in list(self._all):
            self._next(client)
        return await self._result(started)

    async def run_at(self, rate: float, budget: Budget) -> Load:
        """Open loop: a request every 1 / rate seconds on the connection that rested longest.

        Latency counts from the moment it was due: a late sender is the proxy's queue, not an excuse.
        """
        self._begin(budget)
        self._rate = True
        self._idle = deque(self._all)
        started = time.perf_counter_ns()
        with Ticker(1 / rate) as ticker:
            while budget.take():
                due = await ticker.next()
                if not self._idle:
                    self._load.errors["no free connection"] += 1
                    continue
                self._in_flight += 1
                self._idle.popleft().send(due)
        self._stopping = True
        if not self._in_flight:
            self._done.set()
        return await self._result(started)

    def _begin(self, budget: Budget) -> None:
        self._budget = budget
        self._load = Load()
        self._in_flight = 0
        self._stopping = False
        self._rate = False
        self._done = asyncio.Event()

    def _next(self, client: Client) -> None:
        if self._budget.take():
            self._in_flight += 1
            client.send()
        elif not self._in_flight:
            self._done.set()

    def _finished(self, client: Client, problem: str | None) -> None:
        load = self._load
        self._in_flight -= 1
        if problem:
            load.errors[problem] += 1
        else:
            load.units += 1
            load.latencies_ns.append(time.perf_counter_ns() - client.sent_ns)
        if client.closed:
            self._in_flight += 1  # the run waits for the new connection too
            task = self._loop.create_task(self._reopen(client))
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)
        else:
            self._ready(client)

    async def _reopen(self, old: Client) -> None:
        client = await self._connect()
        self._all[self._all.index(old)] = client
        self._in_flight -= 1
        self._ready(client)

    def _ready(self, client: Client) -> None:
        if not self._rate:
            self._next(client)
            return
        self._idle.append(client)
        if self._stopping and not self._in_flight:
            self._done.set()

    async def _result(self, started: int) -> Load:
        try:
            await asyncio.wait_for(self._done.wait(), PATIENCE_SECONDS + 60)
        except TimeoutError:
            self._load.errors["no answer"] += self._in_flight
        self._load.seconds = (time.perf_counter_ns() - started) / 1e9
        return self._load


@asynccontextmanager
async def clients(
    port: int, request: bytes, expected: int, count: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[Clients]:
    """`count` open connections that have answered a few requests each already."""
    group = Clients(port, request, expected, context)
    await group.open(count)
    try:
        await group.run(Budget(seconds=5, count=4 * count))
        yield group
    finally:
        group.close()
        await asyncio.sleep(0.01)
