"""A TCP relay between browser and gateway, which a test cuts as a failing network would."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Passes on what comes to `port`; `cut` ends everything with a reset, `refuse` lets nothing new through."""

    def __init__(self, to_port: int) -> None:
        self.refuse = False
        self.refused = 0
        self._to = ("127.0.0.1", to_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Every connection is reset, towards both sides."""
        with self._lock:
            ended, self._open = self._open, set()
        for end in ended:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                self.refused += 1
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                browser.close()
                continue
            try:
                gateway = socket.create_connection(self._to)
            except OSError:
                browser.close()
                continue
            with self._lock:
                self._open |= {browser, gateway}
            for source, sink in ((browser, gateway), (gateway, browser)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            with self._lock:
                self._open -= {source, sink}
            source.close()
            sink.close()
