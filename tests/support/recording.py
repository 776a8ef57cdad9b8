"""A worker that records exactly what it got and answers by script; h11 reads the requests, as an independent parser.

A script is `async def script(request, side)`: it gets the request once its head is there and writes what it likes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import h11

from tests.support.waiting import GENEROUS, wait_until

HEAD_LIMIT = 4 * 1024 * 1024


@dataclass(eq=False)
class Recorded:
    """One request, as the worker saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    """Names in lower case, in the order of arrival."""
    connection: int
    """Which connection of this worker, from 0."""
    body: bytes = b""
    complete: bool = False
    """The whole body, as it was framed, has arrived."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def is_upgrade(self) -> bool:
        return self.get("upgrade") is not None


@dataclass(eq=False)
class Connection:
    """One connection from the gateway, every byte of it kept."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    """The gateway ended it, by FIN or RST."""
    requests: list[Recorded] = field(default_factory=list)


class Side:
    """What a script may do with its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: Connection) -> None:
        self.reader, self.writer, self.record = reader, writer, record
        self.parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.reuse = True
        self.reading = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self) -> bytes:
        """The next raw bytes; b"" when the gateway ended the connection."""
        try:
            data = await self.reader.read(65536)
        except ConnectionError:
            data = b""
        self.record.data += data
        self.record.ended = self.record.ended or not data
        return data

    def leftover(self) -> bytes:
        """Bytes after the request that h11 did not take for a part of it: early frames of an upgrade."""
        return bytes(self.parser.trailing_data[0])

    async def next_event(self) -> object:
        while True:
            event = self.parser.next_event()
            if event is not h11.NEED_DATA:
                return event
            self.parser.receive_data(await self.receive())

    async def body(self, request: Recorded) -> bytes:
        """Reads the body as it was framed."""
        while not request.complete:
            event = await self.next_event()
            if isinstance(event, h11.Data):
                request.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                request.complete = True
            else:
                raise h11.RemoteProtocolError(f"the request ended early: {event!r}")
        return request.body

    def close(self) -> None:
        self.reuse = False
        self.writer.close()

    def abort(self) -> None:
        """RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.reuse = False
        self.writer.transport.abort()

    async def wait_end(self) -> None:
        """Until the gateway ends the connection."""
        while await self.receive():
            pass


Script = Callable[[Recorded, Side], Awaitable[None]]


def answer(body: bytes = b"ok\n", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: text/plain", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def ok(request: Recorded, side: Side) -> None:
    """Reads the request whole and answers 200."""
    await side.body(request)
    await side.send(answer())


def accept_key(request: Recorded) -> str:
    key = (request.get("sec-websocket-key") or "").encode()
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def switching(request: Recorded, *headers: str) -> bytes:
    """The 101 that RFC 6455 wants, choosing the first subprotocol when one was offered."""
    offered = ", ".join(request.all("sec-websocket-protocol"))
    chosen = [f"Sec-WebSocket-Protocol: {offered.partition(',')[0].strip()}"] if offered else []
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(request)}",
        *chosen,
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def either(request: Recorded, side: Side) -> None:
    """200 for a request; 101 for an upgrade, and then nothing until the other side ends it."""
    if not request.is_upgrade:
        await ok(request, side)
        return
    await side.send(switching(request))
    await side.wait_end()
    side.close()


class RecordingWorker:
    """Listens on a TCP port of 127.0.0.1 or a unix socket, in a thread of its own, until its `with` block ends.

    `script` may be replaced between requests; `scripts` maps a path (without query) to a script of its own.
    """

    def __init__(
        self,
        script: Script = ok,
        *,
        unix: Path | None = None,
        scripts: dict[str, Script] | None = None,
        receive_buffer: int | None = None,
        limit: int = 65536,
    ) -> None:
        self.script, self.scripts, self.unix = script, scripts or {}, unix
        self.receive_buffer, self.limit = receive_buffer, limit
        self.connections: list[Connection] = []
        self.errors: list[str] = []
        """What the parser said of requests that it could not read."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recording-worker", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sides: dict[int, Side] = {}

    @property
    def address(self) -> str:
        """As it stands in gw.toml's `servers`."""
        return f"unix:{self.unix}" if self.unix else f"127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Recorded]:
        return [request for connection in self.connections for request in connection.requests]

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]

    def received(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(bytes(connection.data) for connection in self.connections)

    def to(self, path: str) -> list[Recorded]:
        """Requests whose target begins with `path`."""
        return [request for request in self.requests if request.target.startswith(path)]

    def wait_for(self, path: str, count: int = 1, within: float = GENEROUS) -> list[Recorded]:
        wait_until(lambda: len(self.to(path)) >= count, f"{count} requests to {path} at the worker", within)
        return self.to(path)

    def connection_of(self, request: Recorded) -> Connection:
        return self.connections[request.connection]

    def forget(self) -> None:
        """Requests and bytes so far; the connections stay open."""
        for connection in self.connections:
            connection.requests.clear()
            connection.data.clear()
        self.errors.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(GENEROUS), "the recording worker did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GENEROUS)
        if self.unix:
            self.unix.unlink(missing_ok=True)

    def run(self, work: Callable[[Side], None], connection: int = -1) -> None:
        """Calls `work` with the side of a connection (the last by default) on the worker's loop."""
        record = self.connections[connection]
        done = threading.Event()

        def call() -> None:
            try:
                work(self._sides[record.number])
            finally:
                done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(GENEROUS)

    def push(self, data: bytes, connection: int = -1) -> None:
        """Writes bytes on a connection from outside a script."""
        self.run(lambda side: side.writer.write(data), connection)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(self._listen())
        self._started.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            for side in self._sides.values():
                transport = side.writer.transport
                if not transport.is_closing() or transport.get_write_buffer_size():  # else it has ended already
                    transport.abort()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _listen(self) -> asyncio.Server:
        if self.unix:
            return await asyncio.start_unix_server(self._accepted, path=str(self.unix), limit=self.limit)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        sock.bind(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        return await asyncio.start_server(self._accepted, sock=sock, limit=self.limit)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record = Connection(len(self.connections))
        self.connections.append(record)
        side = self._sides[record.number] = Side(reader, writer, record)
        task = self._loop.create_task(self._converse(side, record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, side: Side, record: Connection) -> None:
        try:
            while side.reuse and await self._one_request(side, record):
                pass
        except h11.RemoteProtocolError as error:
            if not record.ended:
                self.errors.append(str(error))
        except ConnectionError:
            record.ended = True
        except asyncio.CancelledError:
            pass
        finally:
            side.writer.close()

    async def _one_request(self, side: Side, record: Connection) -> bool:
        event = await side.next_event()
        if not isinstance(event, h11.Request):
            return False
        request = Recorded(
            event.method.decode(),
            event.target.decode("latin-1"),
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers],
            record.number,
        )
        record.requests.append(request)
        script = self.scripts.get(request.target.partition("?")[0], self.script)
        await script(request, side)
        if not side.reuse:
            return False
        if not request.complete:
            await side.body(request)
        leftover, ended = side.parser.trailing_data
        side.parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        if leftover:
            side.parser.receive_data(leftover)
        return not ended
