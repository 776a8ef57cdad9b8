"""Every exchange and every WebSocket once: in the access log and the metrics, and each refusal in the own log."""

from __future__ import annotations

import logging
from time import monotonic, time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from bokeh_gateway.http.head import BadHead
    from bokeh_gateway.observe.access_log import AccessLog, Record
    from bokeh_gateway.observe.metrics import Metrics
    from bokeh_gateway.wire.downstream import Downstream
    from bokeh_gateway.wire.exchange import Exchange
    from bokeh_gateway.wire.tunnel import Tunnel

log = logging.getLogger(__name__)

GONE: Final = 499
"""nginx's status for a client that went away before the answer."""
MOST_AGENTS: Final = 1024
PATH_LENGTH: Final = 200
"""Characters of the path of a request that could not be read, in the own log."""
TOGETHER: Final = 64
"""Exchanges that are written at once."""


class Opening(NamedTuple):
    """A WebSocket's handshake, as the log tells of it at its end too."""

    started: float
    client: str
    user: str
    target: bytes
    minor: int
    referer: bytes
    user_agent: bytes
    worker: str
    host: bytes


class Recorder:
    """Told of each end; `access` is None where the access log is off."""

    def __init__(self, access: AccessLog | None, metrics: Metrics) -> None:
        self.access = access
        """Replaced when a reload names another log: connections that are open write there too."""
        self._metrics = metrics
        self._ended: list[Record] = []
        self._agents: dict[bytes, bytes] = {}
        """User agents and hosts of open WebSockets: thousands of them share a few."""

    def exchange(self, exchange: Exchange) -> None:
        """An exchange ended.  It is noted, and written with others: in a row they cost a half."""
        head = exchange.head
        ended = self._ended
        ended.append(
            (
                monotonic(),
                exchange.client,
                exchange.user,
                head.method,
                head.target,
                head.minor,
                exchange.status or GONE,
                exchange.sent,
                exchange.received,
                exchange.started,
                head.referer,
                head.user_agent,
                exchange.worker,
                exchange.reason,
                head.host,
                exchange.request_id,
            )
        )
        if exchange.refusal is not None:
            self._refusal(exchange)
        if len(ended) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Writes what was noted; to be called once a second, and before anybody looks at the metrics."""
        ended = self._ended
        if not ended:
            return
        self._ended = []
        self._metrics.exchanges(ended)
        if self.access is not None:
            self.access.exchanges(ended, time() - monotonic())

    def _refusal(self, exchange: Exchange) -> None:
        deny = exchange.refusal
        assert deny is not None
        self._metrics.refusals.add(deny.reason, exchange.route)
        log.warning(
            "refused %s %s %s: %d %s: %s%s",
            exchange.client,
            exchange.head.method.decode("latin-1"),
            exchange.head.path.decode("latin-1"),
            deny.status,
            deny.reason,
            deny.detail,
            f" Setting: {deny.setting}" if deny.setting else "",
        )

    def bad_head(self, connection: Downstream, bad: BadHead) -> None:
        """A request could not be read."""
        self.flush()  # lines stand in the order of the ends
        self._metrics.exchange(bad.status, 0, 0)
        self._metrics.refusals.add(bad.reason, "")
        client = connection.remote_ip
        method, target, minor = connection.first_line
        path = target.partition(b"?")[0]
        asked = f" {method.decode('latin-1')} {path[:PATH_LENGTH].decode('latin-1')}" if path else ""
        if len(path) > PATH_LENGTH:
            asked += "..."
        log.warning("refused %s%s: %d: %s", client, asked, bad.status, bad.detail)
        if self.access is not None:
            self.access.exchange(
                time(), client, "", method, target, minor, bad.status, 0, 0, 0.0, None, None, "", bad.reason, b""
            )

    def opened(self, exchange: Exchange) -> Opening:
        """A WebSocket opened; returns what `closed` wants to know of it."""
        self.flush()
        self._metrics.exchange(101, 0, 0)
        head = exchange.head
        agents = self._agents
        if len(agents) >= MOST_AGENTS:
            agents.clear()
        agent = agents.setdefault(head.user_agent, head.user_agent)
        opening = Opening(
            exchange.started, exchange.client, exchange.user, head.target, head.minor, head.referer, agent,
            exchange.worker, agents.setdefault(head.host, head.host),
        )  # fmt: skip
        if self.access is not None:
            self.access.websocket_open(time(), *opening[1:])
        return opening

    def closed(self, opening: Opening, tunnel: Tunnel) -> None:
        """A WebSocket ended."""
        self.flush()
        browser, worker = tunnel.browser, tunnel.worker
        self._metrics.received += browser.bytes
        self._metrics.sent += worker.bytes
        if tunnel.reason:
            log.warning("closed the WebSocket of %s at %s: %s", opening.client, opening.worker, tunnel.reason)
        if self.access is not None:
            self.access.websocket_close(
                time(),
                *opening[1:],
                monotonic() - opening.started,
                browser.bytes,
                worker.bytes,
                browser.scanner.messages,
                worker.scanner.messages,
                tunnel.close_code,
                tunnel.closed_by or "gateway",
                tunnel.reason.partition(":")[0],
            )
