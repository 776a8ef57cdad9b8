"""One WebSocket between a raw client and a scripted worker, each byte of it in the test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from tests.support.frames import CLOSE, TEXT, frame, handshake, read_frame
from tests.support.gateway import GatewayProcess
from tests.support.raw import RawClient
from tests.support.recording import Connection, Recorded, RecordingWorker, Side, answer, switching
from tests.support.waiting import wait_until

CONFIG = """
[gateway]
listen = ["127.0.0.1:0"]

[pool.site]
kind = "http"
servers = ["{worker}"]

[limits]
max_message = "{limit}"

[timeouts]
websocket_ping = "{ping}"
websocket_idle = "{idle}"
send = "{send}"
drain = "1 s"
"""

GO = frame(TEXT, b"go")
"""What the client sends to make the worker say `Scripted.says`."""


class Scripted:
    """What the worker answers to an upgrade, and says after its 101; a test sets what it wants of it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.head: Callable[[Recorded], bytes] = switching
        self.early = b""
        """In one packet with the head."""
        self.says = b""
        self.then_close = False
        self.go_before_101: threading.Event | None = None
        self.before_101 = b""
        """What had come when it agreed."""

    async def __call__(self, request: Recorded, side: Side) -> None:
        if not request.is_upgrade:
            await side.body(request)
            await side.send(answer(b"plain " + request.target.encode()))
            return
        if self.go_before_101 is not None:
            while not self.go_before_101.is_set():
                await asyncio.sleep(0.01)
            self.before_101 = bytes(side.record.data)
        head = self.head(request)
        await side.send(head + self.early)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            await side.body(request)
            return
        side.reuse = False
        if self.says:
            await side.receive()
            await side.send(self.says)
        if self.then_close:
            side.close()
        while data := await side.receive():
            if any(reason in data for reason in (b"protocol error", b"message too big")):
                with contextlib.suppress(OSError):  # the gateway may have cut it meanwhile
                    side.writer.write_eof()
        side.close()


def config(
    worker: RecordingWorker, limit: str = "20 MiB", ping: str = "30 s", idle: str = "120 s", send: str = "60 s"
) -> str:
    return CONFIG.format(worker=worker.address, limit=limit, ping=ping, idle=idle, send=send)


def opened(gateway: GatewayProcess, *headers: str, path: str = "/ws", receive_buffer: int | None = None) -> RawClient:
    client = RawClient(gateway.port, receive_buffer=receive_buffer)
    client.send(handshake(path, *headers))
    assert client.answer().status == 101
    return client


def tunnel_at(worker: RecordingWorker, path: str = "/ws") -> Connection:
    return worker.connection_of(worker.wait_for(path)[-1])


def frames_at(worker: RecordingWorker) -> bytes:
    """What the worker got behind the head of the handshake."""
    return bytes(tunnel_at(worker).data).partition(b"\r\n\r\n")[2]


def wait_frames(worker: RecordingWorker, wanted: bytes) -> None:
    wait_until(lambda: len(frames_at(worker)) >= len(wanted), "the frames reach the worker")
    assert frames_at(worker) == wanted


def wait_ended(worker: RecordingWorker, within: float = 10.0) -> None:
    wait_until(lambda: tunnel_at(worker).ended, "the worker's side is closed", within)


def close_code(data: bytes) -> int:
    """Of the close frame that `data` is, and nothing else."""
    rest = bytearray(data)

    def take(count: int) -> bytes:
        assert len(rest) >= count, data
        taken = bytes(rest[:count])
        del rest[:count]
        return taken

    opcode, payload = read_frame(take)
    assert opcode == CLOSE, data
    assert not rest, data
    return int.from_bytes(payload[:2], "big")
