"""WebSocket frames as bytes, RFC 6455 section 5.2, for tests that look at single bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

HANDSHAKE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def frame(opcode: int, payload: bytes = b"", *, masked: bool = True, final: bool = True) -> bytes:
    """One frame; clients mask, servers do not."""
    first = (0x80 if final else 0) | opcode
    flag = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, flag | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, flag | 126, size)
    else:
        head = struct.pack("!BBQ", first, flag | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _unmasked(payload, mask)


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close(code: int | None, reason: bytes = b"", *, masked: bool = True) -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason, masked=masked)


def handshake(path: str, *headers: str, host: str = "localhost", version: str = "13", method: str = "GET") -> bytes:
    """The bytes of an upgrade request."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {HANDSHAKE_KEY}",
        f"Sec-WebSocket-Version: {version}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def read_frame(read_exactly: Callable[[int], bytes]) -> tuple[int, bytes]:
    """(opcode, payload) of the next frame, unmasked when it was masked."""
    first, second = read_exactly(2)
    size = second & 0x7F
    if size == 126:
        (size,) = struct.unpack("!H", read_exactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", read_exactly(8))
    mask = read_exactly(4) if second & 0x80 else b""
    payload = read_exactly(size)
    if mask:
        payload = _unmasked(payload, mask)
    return first & 0x0F, payload
