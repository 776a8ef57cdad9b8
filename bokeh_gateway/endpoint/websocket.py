"""A WebSocket upgrade: the worker answers first, and its 101 makes the tunnel; any other answer is an ordinary one.

Source: RFC 6455 section 4.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from time import monotonic
from typing import TYPE_CHECKING, Final

from bokeh_gateway.endpoint.proxy import Proxy
from bokeh_gateway.errors import WorkerBroken
from bokeh_gateway.wire.frames import reserved_bits
from bokeh_gateway.wire.tunnel import Tunnel, TunnelSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from bokeh_gateway.balance.pool import Pool, Worker
    from bokeh_gateway.endpoint.fleet import Fleet
    from bokeh_gateway.endpoint.reconnect import Way
    from bokeh_gateway.endpoint.record import Opening
    from bokeh_gateway.endpoint.router import Mount
    from bokeh_gateway.http.answer import AnswerHead
    from bokeh_gateway.wire.downstream import Downstream
    from bokeh_gateway.wire.exchange import Exchange, TunnelWatch

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


def accept_of(key: bytes) -> bytes:
    """The `Sec-WebSocket-Accept` that answers `key`."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


class WebSocketProxy(Proxy):
    """One WebSocket on its way to a worker."""

    _LAST_LINES = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def __init__(
        self,
        exchange: Exchange,
        fleet: Fleet,
        pool: Pool,
        mount: Mount,
        session_id: str | None,
        *,
        key: bytes,
        settings: TunnelSettings,
        on_open: Callable[[Exchange], Opening],
        on_close: Callable[[Opening, Tunnel], None],
        way: Way | None = None,
    ) -> None:
        """`way`: of a session that may be come back to later."""
        super().__init__(exchange, fleet, pool, mount, session_id)
        # A session whose page waits counts already: twice, the next pages would avoid its worker for no reason.
        self.counts = session_id is None or not fleet.page_waits(session_id)
        self._accept = accept_of(key)
        self._settings = settings
        self._on_open = on_open
        self._on_close = on_close
        self._way = way
        if way is not None and way.worker is not None:
            # Never again on a worker that may have been restarted in between: it would make an empty session.
            self._safe = False
        # The gateway has vouched for the origin: a Bokeh worker would compare it with a list of its own.
        self._keep_origin = pool.kind == "http"

    def _choose(self) -> Worker | None:
        way = self._way
        if way is None or way.worker is None:
            return super()._choose()
        if not way.worker.up:
            return None
        self._placed = self.fleet.placed(self.pool, way.session_id, way.worker)
        return way.worker

    def _add_origin(self, lines: list[bytes], origins: tuple[bytes, ...]) -> None:
        if self._keep_origin:
            super()._add_origin(lines, origins)

    def answer_upgraded(self, head: AnswerHead, early: bytes) -> None:
        upstream, worker = self._upstream, self.worker
        assert upstream is not None
        assert worker is not None
        fault = ""
        if head.upgrade != b"websocket" or head.accept != self._accept:
            fault = "its 101 does not answer this WebSocket's key"
        elif head.minor == 0 or head.chunked or head.length > 0:
            fault = "its 101 is HTTP/1.0, or announces a body"  # RFC 9110 sections 7.8 and 8.6
        if fault:
            upstream.abandon()
            self._upstream = None
            self._give_up(WorkerBroken(f"{worker.name}: {fault}"))
            return
        if worker.failures:
            self.fleet.outcomes.good(worker)
        exchange = self.exchange
        connection = exchange.connection
        if connection.transport.is_closing():
            # `connection` is about to hear of its end; over TLS nobody who has the transport later would.
            self._end()
            return
        connection.out += (_SWITCH, connection.answer_lines, exchange.more_lines, *head.plain, b"\r\n")
        exchange.status = 101
        exchange.opened = exchange.ended = True
        self._upstream = None
        self._end()
        from_browser = connection.detach()
        placed = self._placed
        key = self._way.key if self._way is not None else None
        opened = Opened(self.fleet, worker, connection, key, placed, exchange.watch, self._on_close)
        connection.edge.hand_over(connection, opened)
        tunnel = Tunnel(
            connection.transport,
            upstream.transport,
            self._settings,
            connection.edge.sweep,
            opened,
            reserved_bits(head.extensions),
            restarts=self.pool.kind == "bokeh",
        )
        self.fleet.tunnel_opened(worker, self.session_id, tunnel)
        if placed is not None:
            self.fleet.placement.opened(placed)
        if key is not None:
            self.fleet.live.opened(key, tunnel, worker)
        exchange.started = monotonic()
        opened.request = self._on_open(exchange)
        if exchange.watch is not None:
            exchange.watch.opened(tunnel)
        exchange.delegate = None  # each knows the other: cut, they are freed without the garbage collector
        tunnel.start(from_browser, early)


class Opened:
    """What is to be done when a WebSocket ends: it outlives the objects of its handshake by hours.

    Attributes:
        request: what the log says of the handshake.
    """

    __slots__ = (
        "_edge", "_fleet", "_key", "_on_close", "_placed", "_watch", "_worker", "remote_ip", "request", "transport",
    )  # fmt: skip

    request: Opening

    def __init__(
        self,
        fleet: Fleet,
        worker: Worker,
        connection: Downstream,
        key: bytes | None,
        placed: bytes | None,
        watch: TunnelWatch | None,
        on_close: Callable[[Opening, Tunnel], None],
    ) -> None:
        """`key`: of a session that may be come back to; `placed`: of one whose place was chosen here."""
        self._fleet = fleet
        self._worker = worker
        self._edge = connection.edge
        self.remote_ip = connection.remote_ip
        self.transport = connection.transport
        self._key = key
        self._placed = placed
        self._watch = watch
        self._on_close = on_close

    def finish_up(self) -> None:
        """A WebSocket goes on until the drain ends."""

    def cut(self) -> None:
        self.transport.abort()

    def __call__(self, tunnel: Tunnel) -> None:
        fleet = self._fleet
        now = self._edge.sweep.now
        if self._placed is not None:
            fleet.placement.closed(self._placed, now)
        if self._key is not None:
            fleet.live.closed(self._key, tunnel, self._worker, now, vanished=tunnel.worker_vanished)
        fleet.tunnel_closed(tunnel)
        self._edge.leave(self)
        if self._watch is not None:
            self._watch.closed(tunnel)
        self._on_close(self.request, tunnel)
