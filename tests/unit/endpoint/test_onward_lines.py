"""What a connection keeps of one request for the next."""

from __future__ import annotations

import asyncio

import pytest
from tornado.httputil import HTTPServerConnectionDelegate

from bokeh_gateway.balance.pool import Pool
from bokeh_gateway.balance.shared import Shared
from bokeh_gateway.config.schema import Limits, Timeouts
from bokeh_gateway.endpoint.fleet import Fleet
from bokeh_gateway.endpoint.proxy import KEPT_LINES, Proxy
from bokeh_gateway.endpoint.router import Mount
from bokeh_gateway.http.forwarded import TrustedProxies
from bokeh_gateway.http.head import RequestHead
from bokeh_gateway.observe.metrics import Metrics
from bokeh_gateway.wire.downstream import Downstream
from bokeh_gateway.wire.edge import Edge
from bokeh_gateway.wire.exchange import Exchange
from bokeh_gateway.wire.sweep import Sweep


@pytest.mark.parametrize(("size", "kept"), [(100, True), (KEPT_LINES, False)])
def test_an_idle_connection_keeps_no_long_lines(size: int, kept: bool) -> None:
    """Thousands of connections whose one request had 16 KB of cookies would hold them all."""
    loop = asyncio.new_event_loop()
    try:
        sweep = Sweep(loop)
        edge = Edge(
            delegate=HTTPServerConnectionDelegate(),
            limits=Limits(),
            timeouts=Timeouts(),
            trusted=TrustedProxies(),
            sweep=sweep,
            on_done=lambda _exchange: None,
            explain=lambda _status, _detail, _setting, _accept: (b"", b""),
            on_bad_head=lambda _connection, _bad: None,
        )
        pool = Pool("site", "http", ())
        fleet = Fleet({"site": pool}, Shared(1), loop, sweep, Metrics(), 1.0)
        connection = Downstream(edge, secure=False, port=80)
        for cookie in (b"a" * size, b"b" * size):
            head = RequestHead(b"GET", b"/x", 1, [(b"Host", b"h"), (b"Cookie", cookie)])
            proxy = Proxy(Exchange(connection, head), fleet, pool, Mount("", b""))
            sent = b"".join(proxy._request_lines())
            assert sent.startswith(b"GET /x HTTP/1.1\r\nHost: h\r\n")
            assert sent.endswith(b"Cookie: " + cookie + b"\r\n\r\n")
            assert (cookie in connection.onward, connection.onward_of is head.plain) == (kept, kept)
    finally:
        loop.close()
