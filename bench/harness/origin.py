"""The worker's stand-in: fixed answers from bytes made beforehand, and WebSockets that echo or push.

Run: python -m bench.harness.origin PORT [PORT ...]   (one process answers on all; ended by a signal)
It is cheap so that the proxy is what the bench sees, and correct so that a proxy cannot gain by being wrong:
bodies are read to their end, frames are unmasked, an echo goes out when its message is whole, a push waits for room.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import sys
import time
from urllib.parse import parse_qsl

import httptools
import uvloop

from bench.harness import frames, workload

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BACKLOG = 4096


def answer(body: bytes, kind: str) -> bytes:
    """A whole 200 as a Tornado worker would write it."""
    head = f"HTTP/1.1 200 OK\r\nServer: TornadoServer/6.5\r\nContent-Type: {kind}\r\n"
    return f"{head}Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


_HTML = "text/html; charset=UTF-8"
_PAGE = answer(workload.page(workload.fresh_token("bench", time.time())), _HTML)
_NAMES_SESSION = b"\r\nBokeh-Session-Id: "
_SMALL = answer(b"x" * workload.SMALL, "application/json")
_RECEIVED = answer(b"ok", "text/plain")
_ANSWERS = {
    workload.APP.encode(): _PAGE,
    f"{workload.APP}/".encode(): _PAGE,  # what Apache's balancer makes of it
    workload.SMALL_PATH.encode(): _SMALL,
    workload.MEDIUM_PATH.encode(): answer(b"x" * workload.MEDIUM, "application/octet-stream"),
    workload.LARGE_PATH.encode(): answer(b"x" * workload.LARGE, "application/octet-stream"),
}


def page_for(head: bytes) -> bytes:
    """The page of the session that the request names, as a worker makes it."""
    session_id = head.partition(_NAMES_SESSION)[2].partition(b"\r\n")[0].decode()
    return answer(workload.page(workload.token_of(session_id, time.time())), _HTML)


class Http(asyncio.Protocol):
    """One connection until it upgrades."""

    def __init__(self) -> None:
        self._buffer = b""
        self._body: _Body | None = None
        self._known = self._known_answer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data == self._known and not self._buffer and self._body is None:  # the very same request again
            self._transport.write(self._known_answer)
            return
        if self._body is not None:
            self._read_body(data)
            return
        if self._buffer:
            data = self._buffer + data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            if not data.startswith(b"GET "):
                self._buffer = b""
                self._body = _Body()
                self._read_body(data)
                return
            whole, head, data = data, data[:end], data[end + 4 :]
            if b"websocket" in head and self._upgrade(head, data):
                return
            answered = _ANSWERS.get(head[4 : head.index(b" ", 4)], _SMALL)
            if answered is _PAGE and _NAMES_SESSION in head:
                answered = page_for(head)
            self._transport.write(answered)
            if b"onnection: close" in head or b" HTTP/1.0" in head:
                self._transport.close()
            elif not data and not self._buffer:
                self._known, self._known_answer = whole, answered
        self._buffer = data

    def _read_body(self, data: bytes) -> None:
        """Anything but a GET: read to the end of its body, then say so."""
        assert self._body is not None
        self._body.feed(data)
        if self._body.complete:
            self._body = None
            self._transport.write(_RECEIVED)

    def _upgrade(self, head: bytes, rest: bytes) -> bool:
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        lower = {name.lower(): value for name, value in fields.items()}
        if lower.get(b"upgrade", b"").lower() != b"websocket":
            return False
        digest = base64.b64encode(hashlib.sha1(lower[b"sec-websocket-key"] + _GUID).digest())
        chosen = b"Sec-WebSocket-Protocol: bokeh\r\n" if b"sec-websocket-protocol" in lower else b""
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + digest + b"\r\n" + chosen + b"\r\n"
        )
        target = head[4 : head.index(b" ", 4)].decode()
        path, _, query = target.partition("?")
        tunnel: Echo = Push(dict(parse_qsl(query))) if path == workload.PUSH_PATH else Echo()
        self._transport.set_protocol(tunnel)
        tunnel.connection_made(self._transport)
        if rest:
            tunnel.data_received(rest)
        return True


class _Body:
    """Waits for the end of one request with a body, whatever its framing."""

    def __init__(self) -> None:
        self.complete = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.complete = True


class Echo(asyncio.Protocol):
    """Sends every message back, unmasked; answers pings and closes.

    The load repeats its message, so the bytes of the last one are compared as they come: nothing is unmasked twice.
    """

    def __init__(self) -> None:
        self._reader = frames.Reader()
        self._known = self._answer = b""
        self._seen = bytearray()
        self._same = 0
        """How many bytes of `_known` have come again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._known:
            end = self._same + len(data)
            if data == self._known[self._same : end]:
                self._same = end
                if end == len(self._known):
                    self._same = 0
                    self._transport.write(self._answer)
                return
            data = self._known[: self._same] + data
            self._known, self._same = b"", 0
        self._seen += data
        self._read(data)

    def _read(self, data: bytes) -> None:
        found = self._reader.feed(data)
        alone = len(found) == 1 and sum(frames.extent(self._seen) or ()) == len(self._seen)
        if alone and self._echoes and found[0].opcode == frames.BINARY:
            self._known = bytes(self._seen)
            self._answer = frames.encode(frames.BINARY, found[0].payload)
        if found:
            self._seen.clear()
        for opcode, payload in found:
            if opcode in (frames.TEXT, frames.BINARY):
                self.message(opcode, payload)
            elif opcode == frames.PING:
                self._transport.write(frames.encode(frames.PONG, payload))
            elif opcode == frames.CLOSE:
                self._transport.write(frames.encode(frames.CLOSE, payload))
                self._transport.close()

    _echoes = True

    def message(self, opcode: int, payload: bytes) -> None:
        """One whole message came."""
        self._transport.write(frames.header(opcode, len(payload)) + payload)


class Push(Echo):
    """Sends `count` messages of `size` bytes, `rate` a second, each beginning with the monotonic clock in ns.

    A connection without room skips its turn, as an app does that watches its socket.
    """

    _echoes = False

    def __init__(self, query: dict[str, str]) -> None:
        super().__init__()
        self._interval = 1 / float(query.get("rate", "10"))
        self._left = int(query.get("count", "100"))
        size = int(query.get("size", "4096"))
        self._head = frames.header(frames.BINARY, size)
        self._filler = b"x" * (size - 8)
        self._room = True

    def message(self, opcode: int, payload: bytes) -> None:
        """The reader is ready; its message holds the seconds to wait, so that readers do not beat in step."""
        loop = asyncio.get_running_loop()
        self._due = loop.time() + float(payload)
        loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        if self._transport.is_closing() or self._left <= 0:
            return
        if self._room:
            self._transport.write(self._head + time.monotonic_ns().to_bytes(8) + self._filler)
        self._left -= 1
        self._due += self._interval
        asyncio.get_running_loop().call_at(self._due, self._tick)

    def pause_writing(self) -> None:
        self._room = False

    def resume_writing(self) -> None:
        self._room = True


async def serve(ports: list[int]) -> None:
    """Answer on every port until a signal ends the process."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(Http, "127.0.0.1", port, backlog=_BACKLOG)
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)  # rare pauses that no proxy caused; without any, connections would leak
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve([int(port) for port in sys.argv[1:]]))
