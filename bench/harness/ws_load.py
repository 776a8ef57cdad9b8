"""WebSocket load: connections that echo in a closed loop, that listen to pushes fast or slowly, or only stay open."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from bench.harness import frames, workload
from bench.harness.budget import Budget
from bench.harness.load import Load

MASK = b"\x37\xfa\x21\x3d"
PATIENCE_SECONDS = 30.0
OPENING_AT_ONCE = 32


SocketT = TypeVar("SocketT", bound="Socket")


class RefusedError(RuntimeError):
    """The handshake was answered with something else than 101."""


class Socket(asyncio.Protocol):
    """One client WebSocket; answers pings, hands whole messages to `received`."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self._reader = frames.Reader()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            data = self._handshake(data)
        if data:
            self.bytes_received(data)

    def _handshake(self, data: bytes) -> bytes:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return b""
        if head.startswith(b"HTTP/1.1 101"):
            self.opened.set_result(None)
            return rest
        self.opened.set_exception(RefusedError(self._head[:300].decode(errors="replace")))
        return b""

    def bytes_received(self, data: bytes) -> None:
        """Bytes after the handshake, as they come."""
        for opcode, payload in self._reader.feed(data):
            if opcode == frames.PING:
                self.transport.write(frames.encode(frames.PONG, payload, MASK))
            elif opcode in (frames.TEXT, frames.BINARY):
                self.received(payload)

    def received(self, payload: bytes) -> None:
        """One whole message; nobody listens here."""

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.opened.done():
            self.opened.set_exception(RefusedError(f"closed during the handshake: {error}"))


class EchoSocket(Socket):
    """Sends one message, waits for the same bytes, reports through `finished(socket, problem)`."""

    def __init__(self, request: bytes, payload: bytes, finished: Callable[[EchoSocket, str | None], None]) -> None:
        super().__init__(request)
        self._message = frames.encode(frames.BINARY, payload, MASK)
        self._echo = frames.header(frames.BINARY, len(payload)) + payload
        self._payload, self._finished = payload, finished
        self._waiting = False
        self._same = 0
        """How many bytes of `_echo` have come; -1 while the reader has to find out."""
        self.sent_ns = 0

    def send(self) -> None:
        """One message on its way."""
        self.sent_ns = time.perf_counter_ns()
        self._waiting = True
        self.transport.write(self._message)

    def bytes_received(self, data: bytes) -> None:
        if self._same >= 0:  # compared as it comes: large echoes are not put together
            end = self._same + len(data)
            if data == self._echo[self._same : end]:
                self._same = end
                if end == len(self._echo):
                    self._same = 0
                    self._end(None)
                return
            data = self._echo[: self._same] + data
            self._same = -1
        super().bytes_received(data)

    def received(self, payload: bytes) -> None:
        self._same = 0
        self._end(None if payload == self._payload else "echo differs")

    def _end(self, problem: str | None) -> None:
        self._waiting = False
        self._finished(self, problem)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._waiting:
            self._end("connection lost")


class PushSocket(Socket):
    """Notes how old each pushed message is; a slow one takes `bytes_per_second` in the mean, by not reading."""

    def __init__(self, request: bytes, bytes_per_second: float | None = None) -> None:
        super().__init__(request)
        self.ages_ns: list[int] = []
        self.messages = 0
        self._pace = bytes_per_second

    def received(self, payload: bytes) -> None:
        self.messages += 1
        self.ages_ns.append(time.monotonic_ns() - int.from_bytes(payload[:8]))

    def bytes_received(self, data: bytes) -> None:
        super().bytes_received(data)
        if self._pace:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(len(data) / self._pace, self._resume)

    def _resume(self) -> None:
        if not self.lost and not self.transport.is_closing():
            self.transport.resume_reading()


async def connect(
    make: Callable[[bytes], SocketT],
    port: int,
    path: str = workload.ECHO_PATH,
    context: ssl.SSLContext | None = None,
    turn: int = 0,
    token: str | None = None,
) -> SocketT:
    """One open WebSocket, with a token of our own unless one is given.

    `turn` spreads many over 127.0.0.2 and on, since one address has about 28,000 ports.

    Raises:
        RefusedError: anything but a 101 came back.
        TimeoutError: nothing came back.
    """
    key = base64.b64encode(os.urandom(16)).decode()
    request = workload.upgrade(path, f"127.0.0.1:{port}", key, secure=context is not None, token=token)
    _, made = await asyncio.get_running_loop().create_connection(
        lambda: make(request),
        "127.0.0.1",
        port,
        ssl=context,
        server_hostname="localhost" if context else None,
        local_addr=(f"127.0.0.{2 + turn // 5000}", 0) if turn else None,
    )
    await asyncio.wait_for(made.opened, PATIENCE_SECONDS)
    return made


async def connect_many(
    make: Callable[[bytes], SocketT],
    count: int,
    port: int,
    path: str = workload.ECHO_PATH,
    context: ssl.SSLContext | None = None,
    after: int = 0,
) -> list[SocketT]:
    """`count` open WebSockets, a few at a time; `after` are open already."""
    opened: list[SocketT] = []
    while len(opened) < count:
        part = min(OPENING_AT_ONCE, count - len(opened))
        first = after + len(opened) + 1
        opened += await asyncio.gather(*(connect(make, port, path, context, first + i) for i in range(part)))
    return opened


def close(sockets: Sequence[Socket]) -> None:
    """A close frame and the end, for each."""
    for socket in sockets:
        if not socket.lost:
            socket.transport.write(frames.encode(frames.CLOSE, b"\x03\xe8", MASK))
            socket.transport.close()


class Echoes:
    """Open WebSockets; a limited number of them wait for an echo at any moment, taking turns."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.sockets: list[EchoSocket] = []
        self._idle: deque[EchoSocket] = deque()

    async def open(self, count: int, port: int, context: ssl.SSLContext | None = None) -> None:
        """Connect `count` more."""
        opened = await connect_many(self._make, count, port, context=context)
        self.sockets += opened
        self._idle += opened

    def _make(self, request: bytes) -> EchoSocket:
        return EchoSocket(request, self._payload, self._finished)

    async def run(self, budget: Budget, at_once: int | None = None) -> Load:
        """Closed loop with `at_once` messages in flight (default: one a connection), over all connections in turn."""
        self._budget = budget
        self._load = Load()
        self._done = asyncio.Event()
        self._in_flight = 0
        started = time.perf_counter_ns()
        for _ in range(at_once or len(self.sockets)):
            self._next()
        try:
            await asyncio.wait_for(self._done.wait(), PATIENCE_SECONDS + 60)
        except TimeoutError:
            self._load.errors["no echo"] += self._in_flight
        self._load.seconds = (time.perf_counter_ns() - started) / 1e9
        return self._load

    def _next(self) -> None:
        if self._idle and self._budget.take():
            self._in_flight += 1
            self._idle.popleft().send()  # the one that rested longest: all of them take turns
        elif not self._in_flight:
            self._done.set()

    def _finished(self, socket: EchoSocket, problem: str | None) -> None:
        self._in_flight -= 1
        if problem:
            self._load.errors[problem] += 1
        else:
            self._load.units += 1
            self._load.latencies_ns.append(time.perf_counter_ns() - socket.sent_ns)
        if not socket.lost:
            self._idle.append(socket)
        self._next()


@asynccontextmanager
async def echoes(count: int, payload: bytes, port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Echoes]:
    """`count` open echo connections that have echoed a few times already."""
    group = Echoes(payload)
    await group.open(count, port, context)
    try:
        await group.run(Budget(seconds=5, count=4 * count), min(count, 64))
        yield group
    finally:
        close(group.sockets)
        await asyncio.sleep(0.01)
