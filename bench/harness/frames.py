"""WebSocket frames for the load and the origin, quick for the shapes the benches send.  Pure.

Source: RFC 6455 sections 5.2 and 5.3.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
FIN, MASKED = 0x80, 0x80
_SMALL = 1024
"""Below this many bytes a big integer xors faster than numpy starts."""


class Frame(NamedTuple):
    """One whole frame, its payload unmasked."""

    opcode: int
    payload: bytes


def header(opcode: int, size: int, mask: bytes = b"") -> bytes:
    """The bytes before a payload of `size` bytes; `mask` is 4 bytes for a client and none for a server."""
    bit = MASKED if mask else 0
    if size < 126:
        return bytes((FIN | opcode, bit | size)) + mask
    if size < 65_536:
        return struct.pack("!BBH", FIN | opcode, bit | 126, size) + mask
    return struct.pack("!BBQ", FIN | opcode, bit | 127, size) + mask


def encode(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A whole frame."""
    return header(opcode, len(payload), mask) + (xor(payload, mask) if mask else payload)


def extent(data: bytes | bytearray | memoryview, start: int = 0) -> tuple[int, int] | None:
    """(header bytes, payload bytes) of the frame that begins at `start`, or None when its header is not all there."""
    if len(data) < start + 2:
        return None
    size = data[start + 1] & 0x7F
    head = 2 + (4 if data[start + 1] & MASKED else 0)
    if size == 126:
        head += 2
        if len(data) < start + head:
            return None
        size = int.from_bytes(data[start + 2 : start + 4])
    elif size == 127:
        head += 8
        if len(data) < start + head:
            return None
        size = int.from_bytes(data[start + 2 : start + 10])
    return (head, size) if len(data) >= start + head else None


def xor(payload: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """Mask or unmask."""
    size = len(payload)
    if size <= _SMALL:
        repeated = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(size)
    words = np.frombuffer(payload, dtype=np.uint32, count=size // 4) ^ np.frombuffer(mask, dtype=np.uint32)[0]
    tail = size & ~3
    return words.tobytes() + bytes(byte ^ mask[i] for i, byte in enumerate(payload[tail:]))


class Reader:
    """Bytes in, whole frames out; for either side."""

    __slots__ = ("_buffer", "_need")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = 2

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._need:
            return []
        frames, start = [], 0
        while (found := extent(buffer, start)) is not None:
            head, size = found
            end = start + head + size
            if len(buffer) < end:
                self._need = end - start
                break
            body = bytes(memoryview(buffer)[start + head : end])
            if buffer[start + 1] & MASKED:
                body = xor(body, bytes(buffer[start + head - 4 : start + head]))
            frames.append(Frame(buffer[start] & 0x0F, body))
            start = end
            self._need = 2
        del buffer[:start]
        return frames
