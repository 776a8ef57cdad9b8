"""What the downstream connections of one gateway process share: limits, timeouts, and whom to hand requests to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.balance.tally import Tally, lone_tally
from bokeh_gateway.config.schema import Limits, Timeouts
from bokeh_gateway.http.forwarded import VIA, PublicUrl, TrustedProxies, constant_lines, network
from bokeh_gateway.http.head import BadHead
from bokeh_gateway.wire.sweep import Sweep

if TYPE_CHECKING:
    from asyncio import Transport

    from bokeh_gateway.wire.downstream import Downstream
    from bokeh_gateway.wire.exchange import Exchange

TURNED_AWAY: Final = 64
"""Connections over a limit that are still told so; any more are cut without a word."""


class Client(Protocol):
    """One that counts as a connection: a `Downstream`, or what became of it."""

    remote_ip: str
    transport: Transport

    def finish_up(self) -> None:
        """The gateway drains."""

    def cut(self) -> None:
        """The drain is over."""


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
    explain: Callable[[int, str, str, bytes], tuple[bytes, bytes]]
    """Status, detail, setting and the client's Accept become header lines and body of a refusal."""
    on_bad_head: Callable[[Downstream, BadHead], None]
    """Called for each request that could not be read."""
    on_error: Callable[[str], None] = lambda _kind: None
    """Called with the kind of each failure that nobody expected."""
    public: PublicUrl | None = None
    """Where browsers find the gateway, if that is set: what workers are told, whatever the request says."""
    hsts: bytes = b""
    """The Strict-Transport-Security line, or nothing."""
    connections: set[Client] = field(default_factory=set)
    """Open ones of this process."""
    tally: Tally = field(default_factory=lone_tally)
    """Open ones of all processes; clients are counted by `network` of their address."""

    def enter(self, connection: Downstream, peer: str) -> None:
        """Counts a new connection, and tells it who is there.

        `peer` as `normalise` gives it.
        """
        connection.remote_ip = peer
        connection.trusted = self.trusted.trusts(peer)
        public = self.public
        if public is not None:
            lines = constant_lines(peer, public.scheme, public.port)
        else:
            lines = constant_lines(peer, "https" if connection.secure else "http", connection.port)
        connection.forward_lines = lines + VIA
        self.connections.add(connection)
        limits = self.limits
        # A trusted proxy's connections are many clients'.
        count = self.tally.enter(network(peer), limited=not connection.trusted)
        if self.tally.total() > limits.connections:
            connection.over = f"[limits] connections = {limits.connections}"
        elif limits.connections_per_client is not None and count > limits.connections_per_client:
            connection.over = f"[limits] connections_per_client = {limits.connections_per_client}"
        else:
            connection.over = ""

    def hand_over(self, connection: Downstream, to: Client) -> None:
        """`to` counts in the place of `connection`, whose transport it has now."""
        self.connections.discard(connection)
        self.connections.add(to)

    def leave(self, connection: Client) -> None:
        """It counts no more."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self.tally.leave(network(connection.remote_ip))

    def crowded(self, connection: Downstream) -> bool:
        """Whether so many are over the limits that one more is not even told."""
        limits = self.limits
        most = limits.connections_per_client
        if self.tally.total() > limits.connections + TURNED_AWAY:
            return True
        if most is None or connection.trusted:
            return False
        return self.tally.of(network(connection.remote_ip)) > most + TURNED_AWAY
