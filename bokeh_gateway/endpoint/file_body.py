"""A large file as an answer's body: sent in pieces, as fast as the client takes them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tornado.httputil import HTTPMessageDelegate

from bokeh_gateway.endpoint.file_slice import FileChanged, FileSlice
from bokeh_gateway.wire.exchange import date

if TYPE_CHECKING:
    from bokeh_gateway.wire.exchange import Exchange

log = logging.getLogger(__name__)

PIECE: Final = 64 * 1024
"""Bytes read at a time: from the page cache in some 10 us."""


class FileBody(HTTPMessageDelegate):
    """Sends `part` behind the given head."""

    __slots__ = ("_done", "_exchange", "_headers", "_part", "_status")

    def __init__(self, exchange: Exchange, status: int, headers: bytes, part: FileSlice) -> None:
        self._exchange = exchange
        self._status = status
        self._headers = headers
        self._part = part
        self._done = False

    def begin(self) -> None:
        exchange = self._exchange
        exchange.open(self._status, (self._headers, date.line()), len(self._part))
        if exchange.head.method == b"HEAD":
            self._finish()
        else:
            self._pump()

    def release(self) -> None:
        self._pump()

    def on_connection_close(self) -> None:
        self._done = True
        self._part.close()

    def _pump(self) -> None:
        exchange = self._exchange
        while not self._done and not exchange.connection.paused:
            try:
                chunk = self._part.read(PIECE)
            except (FileChanged, OSError) as error:
                log.warning("a static file changed while it was sent, the connection is cut: %s", error)
                self.on_connection_close()
                exchange.reason = "file-changed"
                exchange.abort()
                return
            if not chunk:
                self._finish()
                return
            exchange.body(chunk)
            exchange.flush()

    def _finish(self) -> None:
        self._done = True
        self._part.close()
        self._exchange.end()
