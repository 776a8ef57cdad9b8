"""WebSocket frame headers in a byte stream: counted, measured, never unmasked, copied or re-framed.

Source: RFC 6455 section 5.2.  Sees bytes and answers with offsets; no sockets, no clock.
"""

from __future__ import annotations

from typing import Final

CLOSE: Final = 0x8
_ALONE: Final = b"\x81\x82"
"""First bytes of a text and of a binary message in one frame."""
_FIN: Final = 0x80


class MessageTooBig(Exception):
    """A message grew over the limit.

    `offset` is where its offending frame begins in the bytes just given; -1 where it began in earlier ones.
    """

    def __init__(self, offset: int, size: int) -> None:
        super().__init__(offset, size)
        self.offset = offset
        self.size = size


class BrokenFrame(Exception):
    """A frame that no receiver may accept: it is not passed on.  `offset` as in `MessageTooBig`."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(offset, detail)
        self.offset = offset
        self.detail = detail


def _valid_first_bytes(reserved: int, opcodes: tuple[int, ...]) -> bytes:
    """1 for each first byte that may stand: one of `opcodes`, a control frame whole, RSV bits only of `reserved`.

    RSV1 alone is permessage-deflate's, which sets it on the first frame of a message and nowhere else (RFC 7692).
    """
    return bytes(
        (first & 0x0F) in opcodes
        and not (first & 0x70 & ~reserved)
        and (first & 0x88 != 0x08)
        and not (reserved == 0x40 and first & 0x40 and (first & 0x0F) not in (1, 2))
        for first in range(256)
    )


_BETWEEN: Final = {reserved: _valid_first_bytes(reserved, (1, 2, 8, 9, 10)) for reserved in (0, 0x40, 0x70)}
"""Between two messages: what could continue one has nothing to continue."""
_WITHIN: Final = {reserved: _valid_first_bytes(reserved, (0, 8, 9, 10)) for reserved in (0, 0x40, 0x70)}
"""Within a message in pieces: a new one may not begin before it has ended."""
_SHORTEST: Final = {2: 126, 8: 1 << 16}
"""What a length in 2 or 8 bytes must reach at least: it has to be told in as few as possible."""


def reserved_bits(extensions: bytes) -> int:
    """The RSV bits that a worker's `Sec-WebSocket-Extensions` gave a meaning; b"" where it agreed to none."""
    if not extensions.strip():
        return 0
    deflate = extensions.count(b",") == 0 and extensions.strip().lower().startswith(b"permessage-deflate")
    return 0x40 if deflate else 0x70


class FrameScanner:
    """One direction of a tunnel.

    Attributes:
        skip: payload bytes of the current frame still to come.
        messages: data messages that ended.
        close_code: of the close frame that passed; 1005 where it had none; None before.
        boundary: offset in the last bytes given just after the last frame that ended there; -1 where none did.
    """

    __slots__ = (
        "_alone",
        "_between",
        "_first",
        "_header",
        "_limit",
        "_mask",
        "_short",
        "_size",
        "_within",
        "boundary",
        "close_code",
        "messages",
        "skip",
    )

    def __init__(self, limit: int | None, *, masked: bool, reserved: int = 0) -> None:
        """`masked`: a browser's frames; `reserved`: the RSV bits that an extension uses, as `reserved_bits` tells."""
        self._mask = 0x80 if masked else 0
        self._short = 6 if masked else 2
        self._alone = _ALONE if limit is None or limit >= 125 else b""
        self._first = self._between = _BETWEEN[reserved]
        self._within = _WITHIN[reserved]
        self.skip = 0
        self.messages = 0
        self.close_code: int | None = None
        self.boundary = -1
        self._limit = limit
        self._size = 0
        self._header = b""

    @property
    def between_frames(self) -> bool:
        """Whether a frame of our own may be placed after what has passed."""
        return self.skip == 0 and not self._header

    def scan(self, data: bytes) -> None:
        """Reads the frame headers in `data`, which continues what was given before.

        Raises:
            MessageTooBig, BrokenFrame: before the frame at its offset may be passed on.
        """
        size = len(data)
        at = self.skip
        if not at and size > 1 and data[0] in self._alone and self._first is self._between and not self._header:
            # A short message that came alone, as nearly all do: what the loop below finds out, at a third of its price.
            length = data[1] ^ self._mask
            if length < 126 and size == length + self._short:
                self.messages += 1
                self.boundary = size
                return
        if at > size:
            self.skip = at - size
            self.boundary = -1
            return
        self.boundary = at if at else -1
        prefix = 0
        if self._header:
            prefix = len(self._header)
            data = self._header + data
            size += prefix
            self._header = b""
        limit = self._limit
        while at < size:
            # The shortest header is 2 bytes, the longest 14.
            left = size - at
            if left < 2:
                break
            first = data[at]
            second = data[at + 1]
            length = second & 0x7F
            if not self._first[first] or (second ^ self._mask) & 0x80 or (length > 125 and first & 8):
                raise BrokenFrame(at - prefix if at >= prefix else -1, self._fault(first, second))
            head = 6 if second & 0x80 else 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                if left < 2 + wide:
                    break
                length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
                if length < _SHORTEST[wide] or length >> 63:
                    raise BrokenFrame(at - prefix if at >= prefix else -1, "a length that is not told as it must be")
                head += wide
            if left < head:
                break
            opcode = first & 0x0F
            if opcode < 8:
                total = self._size + length
                if limit is not None and total > limit:
                    raise MessageTooBig(at - prefix if at >= prefix else -1, total)
                if not first & _FIN:
                    self._size = total
                    self._first = self._within
                else:
                    self.messages += 1
                    if not opcode:
                        self._size = 0
                        self._first = self._between
            end = at + head + length
            if opcode == CLOSE and self.close_code is None:
                if length >= 2 and left < head + 2:
                    break  # the code belongs to what is read before the frame counts
                self.close_code = _close_code(data[at : at + head + 2], head, length)
            if end > size:
                self.skip = end - size
                return
            at = end
            self.boundary = at - prefix
        if at < size:
            self._header = data[at:]
        self.skip = 0

    def _fault(self, first: int, second: int) -> str:
        if not self._first[first]:
            where = "within a message in pieces" if self._first is self._within else "between two messages"
            return f"a frame that begins with {first:#04x} {where}"
        if (second ^ self._mask) & 0x80:
            return "a frame without a mask" if self._mask else "a frame with a mask"
        return "a control frame over 125 bytes"


def _close_code(frame: bytes, head: int, length: int) -> int:
    if length < 2:
        return 1005
    mask = frame[head - 4 : head] if frame[1] & 0x80 else b"\0\0"
    return (frame[head] ^ mask[0]) << 8 | (frame[head + 1] ^ mask[1])


def close_frame(code: int, reason: str = "", *, masked: bool = False) -> bytes:
    """A close frame; `masked` (with a key of zeros: nothing here is secret) towards a server."""
    payload = code.to_bytes(2, "big") + reason.encode()[:120]
    if masked:
        return bytes((_FIN | CLOSE, 0x80 | len(payload))) + b"\0\0\0\0" + payload
    return bytes((_FIN | CLOSE, len(payload))) + payload


PING: Final = b"\x89\x00"
"""A ping with no payload, server to browser."""
