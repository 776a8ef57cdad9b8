"""What load and origin agree on: the paths, the answers, the requests a browser would send.

Sizes are those of the claims: 200 B and 10 KB answers, 1,268,134 bytes (bokeh.min.js 3.9.2 as a worker sends it).
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import time

SMALL, MEDIUM, LARGE = 200, 10_240, 1_268_134
APP = "/app"
SMALL_PATH, MEDIUM_PATH, LARGE_PATH = f"{APP}/data/small", f"{APP}/data/medium", f"{APP}/data/large"
UPLOAD_PATH = f"{APP}/upload"
ECHO_PATH, PUSH_PATH = f"{APP}/ws", f"{APP}/push/ws"

SECRET = "a-secret-for-benchmarks-that-is-worth-nothing"
"""Signs what the gateway mints; its check of signatures is on in every bench."""

_BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9\r\n"
    "Cookie: theme=dark; _xsrf=2|6a1b5b6e|0d5f0d0a8c0c8a4d0f3b2a1c9e8d7f60|1700000000\r\n"
)


def fresh_token(name: str, now: float) -> str:
    """The signed token of a signed session, as a worker writes it into a page; 300 s of life.

    Source: bokeh.util.token.
    """
    return token_of(signed(name), now)


def token_of(session_id: str, now: float) -> str:
    """The signed token of a session that has its id already."""
    claims = {"session_id": session_id, "session_expiry": int(now) + 300}
    return signed(_base64(json.dumps(claims).encode()))


def signed(text: str) -> str:
    """`text`, a dot, and its HMAC."""
    return f"{text}.{_base64(hmac.digest(SECRET.encode(), text.encode(), 'sha256'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def page(token: str, size: int = MEDIUM) -> bytes:
    """An HTML page of `size` bytes that carries the session token as Bokeh's does."""
    start = b"%b%b%b" % (_PAGE_START, token.encode(), _PAGE_MIDDLE)
    return start + b" " * (size - len(start) - len(_PAGE_END)) + _PAGE_END


_PAGE_START = (
    b'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>bench</title></head><body>'
    b'<script type="application/json" id="p1">{}</script><script>const render_items = [{"token":"'
)
_PAGE_MIDDLE = b'","roots":{"p1":"p2"}}];</script>'
_PAGE_END = b"</body></html>"


def get(path: str, host: str, accept: str = "*/*") -> bytes:
    """A browser's GET, about 400 bytes."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\nAccept: {accept}\r\n"
    return f"{head}{_BROWSER}\r\n".encode()


def post(path: str, host: str, body: bytes) -> bytes:
    """A browser's POST with its body."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/octet-stream\r\n{_BROWSER}\r\n".encode() + body


def upgrade(path: str, host: str, key: str, *, secure: bool = False, token: str | None = None) -> bytes:
    """A browser's WebSocket handshake, carrying a token as BokehJS sends it; a fresh one of our own by default."""
    carried = token or fresh_token("bench-" + os.urandom(6).hex(), time.time())
    scheme = "https" if secure else "http"
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {scheme}://{host}\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: bokeh, {carried}\r\n{_BROWSER}\r\n"
    ).encode()
