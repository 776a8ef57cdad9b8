"""`bokeh-gateway check URL`: opens a page as a browser does, hop by hop, and says which one fails."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from bokeh_gateway.errors import GatewayError

TIMEOUT: Final = 30.0
"""Seconds for each hop: a page may take its app long to make."""
_TOKEN: Final = re.compile(rb'"token":\s*"([^"]+)"')
_SHOWN: Final = 300
_FAILURES: Final = (HTTPError, HTTPStreamClosedError, HTTPTimeoutError, WebSocketError, OSError, ssl.SSLError)


class HopFailed(GatewayError):
    """A hop of the way that a browser goes; the text says which and why."""


@contextmanager
def _hop(name: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        body = error.response.body if isinstance(error, HTTPError) and error.response is not None else b""
        said = f": {body[:_SHOWN].decode(errors='replace').strip()}" if body else ""
        raise HopFailed(f"{name} failed: {error or type(error).__name__}{said}") from error


async def check_url(url: str, *, ca_certs: str | None = None) -> list[str]:
    """One line for each hop that is good.

    Raises:
        HopFailed: of the first one that is not.
    """
    lines = []
    with _hop("GET"):
        answer = await AsyncHTTPClient().fetch(HTTPRequest(url, request_timeout=TIMEOUT, ca_certs=ca_certs))
    lines.append(f"GET {answer.code}, {len(answer.body)} bytes in {answer.request_time:.2f} s")
    found = _TOKEN.search(answer.body)
    if found is None:
        raise HopFailed(f"token failed: the page at {answer.effective_url} is no page of a Bokeh app")
    token = found[1].decode("latin-1")
    lines.append(f"token {len(token)} bytes")
    with _hop("WebSocket"):
        socket = await _open(answer.effective_url, token, ca_certs)
    lines.append("WebSocket 101")
    try:
        with _hop("PULL-DOC"):
            size = await _pull(socket)
    finally:
        socket.close()
    lines.append(f"PULL-DOC {size} bytes")
    return lines


async def _open(page: str, token: str, ca_certs: str | None) -> WebSocketClientConnection:
    parts = urlsplit(page)
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    request = HTTPRequest(
        urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/ws", "", "")),
        headers={"Origin": f"{parts.scheme}://{parts.netloc}"},
        connect_timeout=TIMEOUT,
        request_timeout=TIMEOUT,
        ca_certs=ca_certs,
    )
    return await websocket_connect(request, subprotocols=["bokeh", token])


async def _pull(socket: WebSocketClientConnection) -> int:
    """Bytes of the document."""
    await _receive(socket, "ACK")
    for part in ({"msgid": "check", "msgtype": "PULL-DOC-REQ"}, {}, {}):
        await socket.write_message(json.dumps(part))
    return await _receive(socket, "PULL-DOC-REPLY")


async def _receive(socket: WebSocketClientConnection, kind: str) -> int:
    """Reads messages up to one of `kind`; its content's size."""
    while True:
        parts = [await _part(socket) for _ in range(3)]
        try:
            header = json.loads(parts[0])
            got, buffers = header["msgtype"], int(header.get("num_buffers", 0))
        except (ValueError, KeyError, TypeError):
            raise HopFailed(f"PULL-DOC failed: expected {kind}, and what came is no message of Bokeh's") from None
        for _ in range(2 * buffers):
            await _part(socket)
        if got == kind:
            return len(parts[2])
        if got == "ERROR":
            raise HopFailed(f"PULL-DOC failed: the worker answered {parts[2][:_SHOWN]!r}")


async def _part(socket: WebSocketClientConnection) -> str | bytes:
    try:
        part = await asyncio.wait_for(socket.read_message(), TIMEOUT)
    except TimeoutError:
        raise HopFailed(f"PULL-DOC failed: nothing came within {TIMEOUT:g} s") from None
    if part is None:
        raise HopFailed(f"PULL-DOC failed: closed with {socket.close_code} {socket.close_reason or ''}".rstrip())
    return part
