"""What the downstream connections of one gateway process share: limits, timeouts, and whom to hand requests to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.config.schema import Limits, Timeouts
from bokeh_gateway.http.forwarded import VIA, PublicUrl, TrustedProxies, constant_lines, normalise
from bokeh_gateway.http.head import BadHead
from bokeh_gateway.wire.sweep import Sweep

if TYPE_CHECKING:
    from bokeh_gateway.wire.downstream import Downstream
    from bokeh_gateway.wire.exchange import Exchange


@dataclass(slots=True, kw_only=True)
class Edge:
    """A connection keeps the edge that it began with: a reload makes a new one."""

    delegate: HTTPServerConnectionDelegate
    limits: Limits
    timeouts: Timeouts
    trusted: TrustedProxies
    sweep: Sweep
    on_done: Callable[[Exchange], None]
    """Called once for each exchange when its answer has ended, well or not."""
    explain: Callable[[int, str, str], tuple[bytes, bytes]]
    """Status, detail and setting become header lines and body of a refusal."""
    on_bad_head: Callable[[Downstream, BadHead], None]
    """Called for each request that could not be read."""
    public: PublicUrl | None = None
    """Where browsers find the gateway, if that is set: what workers are told, whatever the request says."""
    hsts: bytes = b""
    """The Strict-Transport-Security line, or nothing."""
    connections: set[Downstream] = field(default_factory=set)
    clients: dict[str, int] = field(default_factory=dict)
    """Open connections a client address."""

    def greet(self, connection: Downstream, peername: object) -> None:
        """Tells a new connection who is there."""
        peer = normalise(str(peername[0]) if isinstance(peername, tuple) and peername else "")
        connection.remote_ip = peer
        connection.trusted = self.trusted.trusts(peer)
        public = self.public
        if public is not None:
            lines = constant_lines(peer, public.scheme, public.port)
        else:
            lines = constant_lines(peer, "https" if connection.secure else "http", connection.port)
        connection.forward_lines = lines + VIA
