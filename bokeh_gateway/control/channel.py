"""What master and gateway process say to each other: framed messages over a unix socket pair, with descriptors.

A message is a kind and a dict.  Pickle is safe here: the other end is this program, started by it.  Messages for a
process that an upgrade left behind hold plain values only, as its code may be another version.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import struct
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

log = logging.getLogger(__name__)

Payload = dict[str, Any]
OnMessage = Callable[[str, Payload, list[int]], None]

_HEADER: Final = struct.Struct("!IH")
"""Bytes of the message, and how many descriptors belong to it."""
_READ: Final = 256 * 1024
_MAX_FDS: Final = 250
"""Descriptors that the kernel carries with one write (SCM_MAX_FD is 253)."""


class Channel:
    """One end.  Takes the socket over.

    Args:
        on_message: kind, payload and descriptors, which are the receiver's to close.
        on_close: the other end is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_message: OnMessage,
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop
        self._on_message = on_message
        self._on_close = on_close
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._waiting: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._open = True
        loop.add_reader(sock.fileno(), self._readable)

    def fileno(self) -> int:
        """The descriptor, for who hands it over to a successor."""
        return self._sock.fileno()

    def send(self, kind: str, payload: Payload, fds: Sequence[int] = ()) -> None:
        """Never waits; what goes to an end that is gone is lost, as it would be a moment later."""
        if not self._open:
            return
        if len(fds) > _MAX_FDS:
            raise ValueError(f"{len(fds)} descriptors in one message: expected at most {_MAX_FDS}")
        body = pickle.dumps((kind, payload))
        idle = not self._waiting
        # The descriptors may be closed by the caller before they are sent.
        self._waiting.append((memoryview(_HEADER.pack(len(body), len(fds)) + body), [os.dup(fd) for fd in fds]))
        if idle:
            self._writable()

    def close(self) -> None:
        """Closes this end."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        for _, fds in self._waiting:
            _close(fds)
        self._waiting.clear()

    def _writable(self) -> None:
        try:
            while self._waiting:
                data, fds = self._waiting[0]
                extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
                sent = self._sock.sendmsg([data], extra)
                _close(fds)
                if sent == len(data):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = (data[sent:], ())
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._writable)
            return
        except OSError:
            self._lost()
            return
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, ancillary, _flags, _ = self._sock.recvmsg(
                _READ, socket.CMSG_SPACE(_MAX_FDS * 4), getattr(socket, "MSG_CMSG_CLOEXEC", 0)
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._fds += found
        if not data:
            self._lost()
            return
        self._buffer += data
        while self._open and len(self._buffer) >= _HEADER.size:
            size, count = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            kind, payload = pickle.loads(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            fds, self._fds = self._fds[:count], self._fds[count:]
            self._on_message(kind, payload, fds)

    def _lost(self) -> None:
        if self._open:
            self.close()
            self._on_close()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
