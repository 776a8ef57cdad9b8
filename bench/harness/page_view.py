"""One page view as a browser makes it: the page, the WebSocket with the page's token, the document pulled."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from typing import Any

from bench.harness import frames, workload
from bench.harness.ws_load import MASK, Socket, connect

_TOKEN = re.compile(r'"token":\s*"([^"]+)"')
PATIENCE_SECONDS = 30.0


class PageFailedError(RuntimeError):
    """No page, no token in it, or a WebSocket that ended early."""


async def fetch(port: int, path: str, headers: str = "") -> tuple[bytes, bytes]:
    """(head, body) of a GET on a connection of its own."""
    host = f"127.0.0.1:{port}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        request = workload.get(path, host).replace(b"gzip, deflate, br", b"identity")
        writer.write(request[:-2] + headers.encode() + b"\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        length = re.search(rb"(?i)\r\ncontent-length:\s*(\d+)", head)
        if length:
            return head, await asyncio.wait_for(reader.readexactly(int(length[1])), PATIENCE_SECONDS)
        if b"chunked" in head.lower():
            return head, await asyncio.wait_for(_chunks(reader), PATIENCE_SECONDS)
        return head, b""
    finally:
        writer.close()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


class BokehSocket(Socket):
    """Messages of the Bokeh protocol, whole."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self._parts: list[bytes] = []
        self._messages: deque[tuple[dict[str, Any], bytes]] = deque()
        self._came = asyncio.Event()

    def received(self, payload: bytes) -> None:
        self._parts.append(payload)
        header = json.loads(self._parts[0])
        if len(self._parts) == 3 + 2 * header.get("num_buffers", 0):
            self._messages.append((header, self._parts[2]))
            self._parts = []
            self._came.set()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._came.set()

    def send(self, kind: str, content: dict[str, Any]) -> None:
        """One message; its id is `bench`."""
        for part in ({"msgid": "bench", "msgtype": kind}, {}, content):
            self.transport.write(frames.encode(frames.TEXT, json.dumps(part).encode(), MASK))

    async def wait(self, kind: str) -> bytes:
        """Content of the next message of a type.

        Raises:
            PageFailedError: the connection ended first.
        """
        while True:
            while self._messages:
                header, content = self._messages.popleft()
                if header["msgtype"] == kind:
                    return content
            if self.lost:
                raise PageFailedError(f"the WebSocket ended before {kind}")
            self._came.clear()
            await asyncio.wait_for(self._came.wait(), PATIENCE_SECONDS)


async def document(port: int, path: str = workload.APP, headers: str = "") -> bytes:
    """The document as JSON, after page and WebSocket.

    Raises:
        PageFailedError, RefusedError, TimeoutError: where it went wrong.
    """
    head, body = await fetch(port, path, headers)
    found = _TOKEN.search(body.decode(errors="replace"))
    if not head.startswith(b"HTTP/1.1 200") or not found:
        raise PageFailedError(f"page: {head.splitlines()[0].decode()}, {'a' if found else 'no'} token")
    socket = await connect(BokehSocket, port, f"{workload.APP}/ws", token=found[1])
    try:
        await socket.wait("ACK")
        socket.send("PULL-DOC-REQ", {})
        return await socket.wait("PULL-DOC-REPLY")
    finally:
        socket.transport.write(frames.encode(frames.CLOSE, b"\x03\xe8", MASK))
        socket.transport.close()
